"""go-control-plane's own integration programme, with the proxy in Envoy's place: each of its ways
to speak xDS, with HTTP by RDS, scoped routes, virtual hosts by VHDS, TCP, runtime layers, access
logs over gRPC and, with -tls, secrets.

Its snapshots change all clusters and routes at once, three times; a way has passed when requests
through every listener succeed after each change. The real Envoy 1.40 passes all of it. What it
leaves to others: what a server does wrong (`test_xds`).
"""
import json
import subprocess

from rig import Client, alone, limit
from rig.origin import wait_for_port
from rig.tools import tool

MESSAGE = "Hi, there!\n"
LISTENERS = 12
# Where the listener of the example server is.
EXAMPLE_PORT = 10000
# By name: the way, how many runtime layers there are, and what else the programme is told.
WAYS = {
    "ads": ("ads", 2, []),
    "xds": ("xds", 1, []),
    "rest": ("rest", 1, []),
    "xds with a muxed cache": ("xds", 1, ["-mux"]),
    "delta": ("delta", 1, []),
    "delta-ads": ("delta-ads", 1, []),
    "ads with TLS": ("ads", 2, ["-tls"]),
    "delta-ads with TLS": ("delta-ads", 1, ["-tls"]),
}
GRPC = {"grpc_services": [{"envoy_grpc": {"cluster_name": "xds_cluster"}}],
        "transport_api_version": "V3"}


def source(way):
    """The `ConfigSource` of a way."""
    if way in ("ads", "delta-ads"):
        return {"resource_api_version": "V3", "ads": {}}
    if way == "rest":
        api = {"api_type": "REST", "transport_api_version": "V3",
               "cluster_names": ["xds_cluster"], "refresh_delay": "0.5s"}
    else:
        api = {"api_type": {"xds": "GRPC", "delta": "DELTA_GRPC"}[way], **GRPC,
               "set_node_on_first_message_only": True}
    return {"resource_api_version": "V3", "api_config_source": api}


def cluster(name, port):
    """A static cluster as the samples of go-control-plane have it."""
    return {"name": name, "connect_timeout": "1s", "http2_protocol_options": {},
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{
                "endpoint": {"address": {"socket_address": {
                    "address": "127.0.0.1", "port_value": port}}}}]}]}}


def bootstrap(way, layers, admin, ports):
    """What the samples of go-control-plane say, with other ports."""
    made = {
        "node": {"id": "test-id", "cluster": "test-cluster"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "dynamic_resources": {"cds_config": source(way), "lds_config": source(way)},
        "static_resources": {"clusters": [
            cluster("xds_cluster", ports["gateway" if way == "rest" else "port"]),
            cluster("als_cluster", ports["als"])]},
        "layered_runtime": {"layers": [
            {"name": f"runtime-{number}", "rtds_layer": {
                "name": f"runtime-{number}", "rtds_config": source(way)}}
            for number in range(layers)]},
    }
    if way in ("ads", "delta-ads"):
        api = "GRPC" if way == "ads" else "DELTA_GRPC"
        made["dynamic_resources"]["ads_config"] = {
            "api_type": api, **GRPC, "set_node_on_first_message_only": True}
    if way == "rest":
        del made["static_resources"]["clusters"][0]["http2_protocol_options"]
    return made


@limit(240)
def test_integration(rig):
    """Each way, one after the other."""
    for name, (way, layers, options) in WAYS.items():
        with rig.case(name):
            origin = rig.origin(lambda request: (200, [], MESSAGE.encode()))
            ports = {what: rig.port() for what in ("port", "gateway", "als")}
            first = rig.ports_in_a_row(LISTENERS)
            given = [f"-{what}={port}" for what, port in ports.items()]
            command = [tool("go-control-plane-test"), f"-xds={way}", f"-runtimes={layers}",
                       f"-message={MESSAGE}", f"-upstream={origin.port}", f"-base={first}",
                       *given, *options]
            if way != "delta":
                command.append("-vhdshttp=0")
            with subprocess.Popen(command, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT) as programme:
                try:
                    proxy = rig.proxy(bootstrap(way, layers, rig.port(), ports), ready=None)
                    said, _ = programme.communicate(timeout=60)
                finally:
                    programme.kill()
            text = said.decode(errors="replace")
            assert programme.returncode == 0, f"{text[-3000:]}\n{proxy.log()[-5000:]}"
            proxy.stop()


@alone
@limit(60)
def test_example_server(rig):
    """The example of go-control-plane's pages, of which one listener on port 10000 comes: all that
    it gives is taken. No request goes to its cluster, which is a server on the Internet."""
    port = rig.port()
    with subprocess.Popen([tool("go-control-plane-example"), f"-port={port}"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for_port(port, server)
            made = bootstrap("ads", 0, rig.port(), {"port": port, "als": rig.port()})
            proxy = rig.proxy(made, ready=None)
            wait_for_port(EXAMPLE_PORT, proxy.process, 20)
            assert example_answers()
            stats = proxy.stats()
            kinds = ("cluster_manager.cds", "listener_manager.lds", "http.http.rds.local_route")
            for kind in kinds:
                assert stats[f"{kind}.update_success"] == 1, (kind, stats)
                assert stats[f"{kind}.update_rejected"] == 0, (kind, stats)
            dump = json.loads(proxy.fetch("/config_dump")[1])["configs"]
            active = [part["dynamic_active_clusters"] for part in dump
                      if "dynamic_active_clusters" in part][0]
            assert [one["cluster"]["name"] for one in active] == ["example_proxy_cluster"], active
            server.kill()
            proxy.wait_stat("control_plane.connected_state", 0)
            assert example_answers()
        finally:
            server.kill()


def example_answers():
    """Whether the listener has its routes: one for all paths, which `*` is none of."""
    with Client(EXAMPLE_PORT) as client:
        return client.ask("*", method="OPTIONS").status == 404
