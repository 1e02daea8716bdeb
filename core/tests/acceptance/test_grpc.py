"""gRPC through the proxy with other people's clients and servers: the interop suite of grpc-go,
grpcurl, tonic; deadlines, cancellation, and what a client makes of the proxy's own replies.

Envoy 1.40 passes all of this. What it leaves to others: the bytes (`core/tests/parity`, grpc.yaml).
"""
import json
import subprocess
import threading
import time

from rig import Client, alone, bootstrap, cluster, http2_fields, limit, listener, only, route
from rig.origin import wait_for_port
from rig.proxy import wait_until
from rig.tls import Authority, downstream_tls, secured, upstream_tls
from rig.tools import run, tool

# All cases of the client, without those that need credentials and those that this server does not
# serve directly either (pick_first_unary, orca_per_rpc, orca_oob).
CASES = [
    "empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong",
    "empty_stream", "timeout_on_sleeping_server", "cancel_after_begin",
    "cancel_after_first_response", "status_code_and_message", "special_status_message",
    "custom_metadata", "unimplemented_method", "unimplemented_service",
]
PROTO = """
syntax = "proto3";
package grpc.testing;
message Payload { int32 type = 1; bytes body = 2; }
message EchoStatus { int32 code = 1; string message = 2; }
message SimpleRequest { int32 response_size = 2; Payload payload = 3;
  EchoStatus response_status = 7; }
message SimpleResponse { Payload payload = 1; }
message Empty {}
message ResponseParameters { int32 size = 1; int32 interval_us = 2; }
message StreamingOutputCallRequest { repeated ResponseParameters response_parameters = 2;
  Payload payload = 3; }
message StreamingOutputCallResponse { Payload payload = 1; }
service TestService {
  rpc EmptyCall(Empty) returns (Empty);
  rpc UnaryCall(SimpleRequest) returns (SimpleResponse);
  rpc StreamingOutputCall(StreamingOutputCallRequest) returns (stream StreamingOutputCallResponse);
  rpc FullDuplexCall(stream StreamingOutputCallRequest)
      returns (stream StreamingOutputCallResponse);
}
service Elsewhere { rpc EmptyCall(Empty) returns (Empty); }
"""
EMPTY = "grpc.testing.TestService/EmptyCall"
STREAM = "grpc.testing.TestService/StreamingOutputCall"


class Server:
    """The interop server."""

    def __init__(self, port, *options):
        self.port = port
        self.process = subprocess.Popen([tool("server"), f"--port={port}", *options],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(port, self.process)

    def close(self):
        """Stops it."""
        self.process.kill()
        self.process.wait()


def front(rig, **fields):
    """A proxy before an interop server: (proxy, port). `fields` go into the calls' route."""
    server = rig.keep(Server(rig.port()))
    port, nobody = rig.port(), rig.port()
    routes = [route("/grpc.testing.Elsewhere/", "nobody"),
              # Calls may stream for as long as they like; their deadline is their client's.
              route("/grpc.testing.", "origin", timeout="0s",
                    max_stream_duration={"grpc_timeout_header_max": "0s"}) | fields]
    clusters = [cluster(server.port, **http2_fields()), cluster(nobody, "nobody", **http2_fields())]
    proxy = rig.proxy(bootstrap([listener(port, routes)], clusters, rig.port()))
    return proxy, port


@limit(120)
def test_interop(rig):
    """Every case of the interop suite."""
    proxy, port = front(rig)
    for name in CASES:
        with rig.case(name):
            run(tool("client"), "--server_host=127.0.0.1", f"--server_port={port}",
                f"--test_case={name}", seconds=15)
    with rig.case("nothing is left"):
        wait_until(lambda: proxy.stat("http.main.downstream_cx_active") == 0, 5,
                   lambda: "connections are left")
        stats = proxy.stats()
        assert stats["http.main.downstream_rq_active"] == 0
        assert stats["cluster.origin.upstream_rq_active"] == 0
        assert stats["http.main.downstream_rq_5xx"] == 0
        assert stats["cluster.origin.upstream_rq_total"] >= len(CASES)


@limit(120)
def test_interop_over_tls(rig):
    """The same over TLS on both sides."""
    root = Authority(rig.tmp)
    certificate = root.issue(sans=[("dns", "a.example.com")])
    server = rig.keep(Server(rig.port(), "--use_tls", f"--tls_cert_file={certificate.cert_path}",
                             f"--tls_key_file={certificate.key_path}"))
    port = rig.port()
    calls = route("/", "origin", timeout="0s", max_stream_duration={
        "grpc_timeout_header_max": "0s"})
    made = secured(listener(port, [calls]),
                   downstream_tls([certificate], common={"alpn_protocols": ["h2"]}))
    upstream = upstream_tls({"trusted_ca": {"filename": str(root.path)}}, sni="a.example.com",
                            auto_sni_san_validation=True)
    rig.proxy(bootstrap([made], [cluster(server.port, transport_socket=upstream, **http2_fields())],
                        rig.port()))
    for name in CASES:
        with rig.case(name):
            run(tool("client"), "--server_host=127.0.0.1", f"--server_port={port}", "--use_tls",
                "--use_test_ca", f"--ca_file={root.path}", "--server_host_override=a.example.com",
                f"--test_case={name}", seconds=15)


@alone
@limit(120)
def test_interop_under_load(rig):
    """The interop cases that stream, while eight clients run all the time."""
    _, port = front(rig)
    client = [tool("client"), "--server_host=127.0.0.1", f"--server_port={port}"]
    stop, failures = threading.Event(), []

    def loop():
        while not stop.is_set():
            try:
                run(*client, "--test_case=large_unary", seconds=20)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                failures.append(error)

    threads = [threading.Thread(target=loop) for _ in range(8)]
    for thread in threads:
        thread.start()
    for name in ("client_streaming", "server_streaming", "ping_pong", "cancel_after_begin",
                 "cancel_after_first_response", "timeout_on_sleeping_server"):
        with rig.case(name):
            run(*client, f"--test_case={name}", seconds=30)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert not failures, f"{len(failures)} failed: {failures[0]}"


def call(rig, port, method, data="{}", options=(), fails=False, seconds=20):
    """grpcurl's output."""
    path = rig.tmp / "test.proto"
    path.write_text(PROTO)
    return run(tool("grpcurl"), "-plaintext", "-import-path", rig.tmp, "-proto", path.name,
               *options, "-d", data, f"127.0.0.1:{port}", method, fails=fails, seconds=seconds)


@limit(90)
def test_grpcurl(rig):
    """Calls, streams, status, a deadline, a cancelled stream, and the proxy's own replies."""
    # An origin that knows the deadline gives a call up just when the client does, and may be heard
    # before: `tonic` has such calls.
    proxy, port = front(rig, request_headers_to_remove=["grpc-timeout"])
    with rig.case("a call"):
        assert json.loads(call(rig, port, EMPTY)) == {}
    with rig.case("a stream of answers"):
        asked = {"responseParameters": [{"size": size} for size in (1, 100_000, 1_000_000)]}
        said = call(rig, port, STREAM, json.dumps(asked), ["-max-msg-sz", "2000000"])
        assert said.count('"payload"') == 3
    with rig.case("both ways"):
        asks = "".join(json.dumps({"responseParameters": [{"size": 10}]}) for _ in range(50))
        said = call(rig, port, "grpc.testing.TestService/FullDuplexCall", asks)
        assert said.count('"payload"') == 50
    with rig.case("a status of the server"):
        asked = {"responseStatus": {"code": 5, "message": "not \u2603 here"}}
        said = call(rig, port, "grpc.testing.TestService/UnaryCall", json.dumps(asked), fails=True)
        assert "Code: NotFound" in said and "not \u2603 here" in said, said
    with rig.case("a deadline"):
        asked = {"responseParameters": [{"size": 1, "intervalUs": 30_000_000}]}
        began = time.monotonic()
        said = call(rig, port, STREAM, json.dumps(asked), ["-max-time", "1"], fails=True)
        assert "Code: DeadlineExceeded" in said, said
        assert time.monotonic() - began < 4
        wait_until(lambda: proxy.stat("cluster.origin.upstream_rq_active") == 0, 5,
                   lambda: "the call goes on upstream")
    with rig.case("another authority"):
        assert json.loads(call(rig, port, EMPTY, options=["-authority", "a"])) == {}
    with rig.case("nobody listens"):
        said = call(rig, port, "grpc.testing.Elsewhere/EmptyCall", fails=True)
        assert "Code: Unavailable" in said and "connection failure" in said, said


def test_no_route(rig):
    """What has no route is unimplemented to a client of gRPC."""
    port = rig.port()
    rig.proxy(bootstrap([listener(port, [route("/never", "origin")])],
                        [cluster(rig.port(), **http2_fields())], rig.port()))
    said = call(rig, port, EMPTY, fails=True)
    assert "Code: Unimplemented" in said, said


@limit(60)
def test_a_client_that_goes(rig):
    """A client that is killed in the middle of a stream: the call is reset upstream at once."""
    proxy, port = front(rig)
    asked = {"responseParameters": [{"size": 1, "intervalUs": 30_000_000}]}
    path = rig.tmp / "test.proto"
    path.write_text(PROTO)
    client = subprocess.Popen(
        [tool("grpcurl"), "-plaintext", "-import-path", str(rig.tmp), "-proto", path.name, "-d",
         json.dumps(asked), f"127.0.0.1:{port}", STREAM],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: proxy.stat("cluster.origin.upstream_rq_active") == 1, 10,
               lambda: "the call did not arrive")
    client.kill()
    client.wait()
    wait_until(lambda: proxy.stat("cluster.origin.upstream_rq_active") == 0, 5,
               lambda: "the call goes on upstream")
    assert proxy.stat("cluster.origin.upstream_rq_tx_reset") == 1
    assert proxy.stat("cluster.origin.upstream_cx_active") == 1, "the connection is kept"


@limit(90)
def test_tonic(rig):
    """Streams both ways, calls that are given up, of which the origin hears, and deadlines: a
    client and an origin of tonic's (`core/tests/tonic_calls`)."""
    origin, port = rig.port(), rig.port()
    early = {"grpc_timeout_header_max": "0s", "grpc_timeout_header_offset": "0.5s"}
    # An origin of tonic's has a clock of its own, which is not to be the first.
    routes = [{**route("/early/", "origin", timeout="0s", max_stream_duration=early),
               "request_headers_to_remove": ["grpc-timeout"]},
              route("/calls/", "origin", timeout="0s")]
    proxy = rig.proxy(bootstrap([listener(port, routes)], [cluster(origin, **http2_fields())],
                                rig.port()))
    said = run(tool("tonic-calls"), f"127.0.0.1:{origin}", f"http://127.0.0.1:{port}", seconds=60)
    assert said.splitlines()[-1] == "ok nothing is left", said
    wait_until(lambda: proxy.stat("cluster.origin.upstream_rq_active") == 0, 5,
               lambda: "calls are left upstream")
    assert proxy.stat("http.main.downstream_rq_active") == 0


@limit(60)
def test_preconnect(rig):
    """Connections are made for more calls than there are, where each takes one stream."""
    server, port = rig.keep(Server(rig.port())), rig.port()
    fields = {**http2_fields(max_concurrent_streams=1),
              "preconnect_policy": {"per_upstream_preconnect_ratio": 2.0}}
    proxy = rig.proxy(bootstrap([listener(port, [route("/", "origin", timeout="0s")])],
                                [cluster(server.port, **fields)], rig.port()), concurrency=1)
    asked = {"responseParameters": [{"size": 1, "intervalUs": 30_000_000}]}
    path = rig.tmp / "test.proto"
    path.write_text(PROTO)
    for calls in (1, 2):
        rig.keep(Hanging([tool("grpcurl"), "-plaintext", "-import-path", str(rig.tmp), "-proto",
                          path.name, "-d", json.dumps(asked), f"127.0.0.1:{port}", STREAM]))
        proxy.wait_stat("cluster.origin.upstream_rq_active", calls)
        proxy.wait_stat("cluster.origin.upstream_cx_total", 2 * calls)
        assert proxy.stat("cluster.origin.upstream_cx_active") == 2 * calls


class Hanging:
    """A client whose call does not end by itself."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)

    def close(self):
        """Stops it."""
        self.process.kill()
        self.process.wait()


@only("tidegate")
@limit(60)
def test_invented_methods(rig):
    """A client that invents methods makes no more names of stats than there may be."""
    origin = rig.origin(lambda _: (200, [("content-type", "application/grpc"),
                                         ("grpc-status", "0")], b""), keep=False)
    stats = {"name": "stats", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
        "stats_for_all_methods": True}}
    port = rig.port()
    front = listener(port)
    manager = front["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"].insert(0, stats)
    proxy = rig.proxy(bootstrap([front], [cluster(origin.port)], rig.port()), concurrency=1)
    fields = [("content-type", "application/grpc")]
    with Client(port) as client:
        for number in range(1_100):
            client.ask(f"/a.S/M{number}", fields, method="POST", body=b"")
        for odd in ("/a.S/\"", "/a.S/" + 300 * "m"):
            client.ask(odd, fields, method="POST", body=b"")
    counted = proxy.stats()
    named = [name for name in counted if name.startswith("cluster.origin.grpc.a.S.M")]
    assert len([name for name in named if name.endswith(".success")]) == 1_000
    assert counted["cluster.origin.grpc.success"] == 102
    assert counted["server.grpc_methods_refused"] == 100
