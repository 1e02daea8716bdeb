"""Management servers that are named by a target URI (`google_grpc`): over TLS, with tokens.

What it leaves to others: forms of target URIs (unit tests of `config/google_grpc.rs`).
"""
import os
import subprocess

import grpc

from rig import bootstrap
from rig.config import to_yaml
from rig.proxy import binary, wait_until
from rig.tls import Authority, pem
from rig.xds import XdsServer
from test_xds import (ADS, APIS, answer, assignment, eds_cluster, port_answers, rds_listener,
                      route_config)

CONFIG = "type.googleapis.com/envoy.config.grpc_credential.v3.FileBasedMetadataConfig"


def resources(rig, server):
    """What the server has: a listener to one origin. Its port."""
    port, origin = rig.port(), rig.origin(lambda request: (200, [], b"one"))
    server.set("eds", assignment("one", origin.port))
    server.set("cds", eds_cluster("one"))
    server.set("rds", route_config("one"))
    server.set("lds", rds_listener(port))
    return port


def google(uri, **more):
    """A service by target URI."""
    return {"google_grpc": {"target_uri": uri, "stat_prefix": "google", **more}}


def following(rig, api, service):
    """A bootstrap without any cluster."""
    made = bootstrap([], [], rig.port())
    made["node"] = {"id": "test-id", "cluster": "test-cluster"}
    made["dynamic_resources"] = {
        "ads_config": {"api_type": api, "transport_api_version": "V3", "grpc_services": [service]},
        "cds_config": ADS, "lds_config": ADS}
    return made


def secure(rig, root):
    """A server with a certificate for `localhost`: credentials of grpcio."""
    issued = root.issue("localhost", sans=[("dns", "localhost")])
    return grpc.ssl_server_credentials([(pem(issued.key), pem(issued.certificate))])


def test_a_target_without_tls(rig):
    """By address, and by name."""
    for name, api in APIS.items():
        for host in ("127.0.0.1:{}", "dns:///localhost:{}"):
            with rig.case(f"{name} {host}"):
                server = rig.keep(XdsServer())
                port = resources(rig, server)
                proxy = rig.proxy(following(rig, api, google(host.format(server.port))))
                wait_until(lambda port=port: port_answers(port), 10, proxy.log)
                assert answer(port) == (200, b"one")


def test_tls_with_a_token_from_a_file(rig):
    """The server's certificate is judged by its name, and a rotated token is sent with the next
    stream."""
    root = Authority(rig.tmp)
    token = rig.tmp / "token"
    token.write_text("first\n")
    roots = rig.tmp / "roots.pem"
    roots.write_bytes(root.path.read_bytes())
    for name, api in APIS.items():
        with rig.case(name):
            server = rig.keep(XdsServer(credentials=secure(rig, root)))
            port = resources(rig, server)
            plugin = {"name": "file", "typed_config": {
                "@type": CONFIG, "secret_data": {"filename": str(token)},
                "header_prefix": "Bearer "}}
            service = google(
                f"localhost:{server.port}",
                channel_credentials={"ssl_credentials": {"root_certs": {"filename": str(roots)}}},
                credentials_factory_name="envoy.grpc_credentials.file_based_metadata",
                call_credentials=[{"from_plugin": plugin}])
            service["initial_metadata"] = [{"key": "x-mesh", "value": "one"}]
            proxy = rig.proxy(following(rig, api, service))
            wait_until(lambda port=port: port_answers(port), 10, proxy.log)
            assert ("authorization", "Bearer first") in server.metadata[-1], server.metadata
            assert ("x-mesh", "one") in server.metadata[-1], server.metadata
            second = rig.tmp / "second"
            second.write_text("second")
            second.rename(token)
            server.end_streams()
            wait_until(lambda server=server: ("authorization", "Bearer second")
                       in server.metadata[-1], 10, proxy.log)
            token.write_text("first\n")


def test_a_server_with_another_name_is_not_trusted(rig):
    """Nothing is asked of it, and the log says why."""
    root = Authority(rig.tmp)
    roots = rig.tmp / "roots.pem"
    roots.write_bytes(root.path.read_bytes())
    server = rig.keep(XdsServer(credentials=secure(rig, root)))
    resources(rig, server)
    service = google(f"127.0.0.1:{server.port}", channel_credentials={
        "ssl_credentials": {"root_certs": {"filename": str(roots)}}})
    proxy = rig.proxy(following(rig, "GRPC", service), ready=None,
                      args=["--component-log-level", "config:debug"])
    wait_until(lambda: "config stream to" in proxy.log(), 10, proxy.log)
    assert "certificate" in proxy.log() and not server.requests, proxy.log()


def test_what_cannot_be_done_is_refused_by_name(rig):
    """Credentials of Google's own machines, and tokens that anybody could read on the way."""
    refused = {
        "google_compute_engine": google("a.example", call_credentials=[
            {"google_compute_engine": {}}]),
        "google_default": google("a.example", channel_credentials={"google_default": {}}),
        "not encrypted": google("a.example", call_credentials=[{"access_token": "secret"}]),
        "grpc.max_send": google("a.example", channel_args={
            "args": {"grpc.max_send_message_length": {"int_value": 1}}}),
        "xds:///a": google("xds:///a"),
    }
    for text, service in refused.items():
        with rig.case(text):
            path = rig.tmp / "bad.yaml"
            path.write_text(to_yaml(following(rig, "GRPC", service)))
            done = subprocess.run([binary(), "-c", str(path), "--mode", "validate"],
                                  capture_output=True, timeout=20)
            assert done.returncode == 2, (done.returncode, done.stderr)
            assert text in done.stderr.decode(), done.stderr.decode()
            os.remove(path)
