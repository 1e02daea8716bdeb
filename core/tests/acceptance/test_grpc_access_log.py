"""Access logs that a gRPC service gets: what is in the entries, and what becomes of them when the
service is slow, gone, or back again. Most of it is compared with what Envoy 1.40 sends.

What it leaves to others: logs that are lines (`access_log.rs`, `test_tcp_proxy.py`).
"""
import importlib.util
import os
import socket
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc
from envoy.service.accesslog.v3 import als_pb2, als_pb2_grpc
from google.protobuf import json_format

from rig import Client, bootstrap, cluster, http2_fields, listener, once
from rig.config import tcp_listener
from rig.proxy import wait_until

GRPC = "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3."


class Service(als_pb2_grpc.AccessLogServiceServicer):
    """An access log service that keeps what it gets."""

    def __init__(self, port=0, credentials=None):
        self.messages, self.lock = [], threading.Lock()
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
        als_pb2_grpc.add_AccessLogServiceServicer_to_server(self, self.server)
        address = f"127.0.0.1:{port}"
        self.port = self.server.add_secure_port(address, credentials) if credentials \
            else self.server.add_insecure_port(address)
        self.server.start()

    def StreamAccessLogs(self, request_iterator, context):  # pylint: disable=invalid-name
        """The call; it lasts as long as the client's."""
        for message in request_iterator:
            with self.lock:
                self.messages.append(message)
        return als_pb2.StreamAccessLogsResponse()

    def entries(self, kind="http_logs"):
        """All entries so far."""
        with self.lock:
            return [entry for it in self.messages for entry in getattr(it, kind).log_entry]

    def wait(self, count, kind="http_logs"):
        """Waits for so many entries."""
        wait_until(lambda: len(self.entries(kind)) >= count, 15,
                   lambda: f"{len(self.entries(kind))} entries of {count} have come")
        return self.entries(kind)

    def close(self):
        """Ends the calls, too."""
        self.server.stop(0).wait()


def log(kind="Http", additional=(), **common):
    """The configuration of a log."""
    typed = {"@type": f"{GRPC}{kind}GrpcAccessLogConfig", **dict(additional), "common_config": {
        "log_name": "acceptance", "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": "logs"}},
        "buffer_flush_interval": "0.1s", **common}}
    return [{"name": f"{kind.lower()}_grpc", "typed_config": typed}]


def config(rig, origin_port, service_port, fields=(), tls=None, **common):
    """A bootstrap with HTTP and TCP, both logged: (it, its ports)."""
    ports = [rig.port(), rig.port()]
    additional = {"additional_request_headers_to_log": ["X-Asked", "x-absent"],
                  "additional_response_headers_to_log": ["x-answered"]}
    routes = [{"match": {"prefix": "/direct"}, "name": "direct",
               "direct_response": {"status": 418, "body": {"inline_string": "teapot"}}},
              {"match": {"prefix": "/"}, "name": "all", "route": {"cluster": "origin"}}]
    manager = {"access_log": log(additional=additional, **common), "generate_request_id": True,
               "server_name": "proxy"}
    logs = cluster(service_port, "logs", **http2_fields(), **dict(fields))
    if tls:
        logs["transport_socket"] = tls
    listeners = [listener(ports[0], routes, **manager),
                 tcp_listener(ports[1], access_log=log("Tcp", **common))]
    return bootstrap(listeners, [cluster(origin_port), logs], rig.port()), ports


def some_traffic(ports):
    """Three requests and one connection."""
    with Client(ports[0]) as client:
        headers = [("x-asked", "a value"), ("user-agent", "acceptance"),
                   ("x-request-id", "11111111-2222-3333-4444-555555555555")]
        assert client.ask("/path?query", headers).status == 200
        assert client.ask("/path", headers, method="POST", body=b"0123456789").status == 200
        assert client.ask("/direct", headers).status == 418
    with Client(ports[1]) as client:
        assert client.ask("/tcp").status == 200


def comparable(entry):
    """An entry without what differs from run to run, or is known to differ."""
    fields = json_format.MessageToDict(entry, preserving_proto_field_name=True)
    common = fields["common_properties"]
    for name in ("downstream_remote_address", "downstream_direct_remote_address",
                 "upstream_local_address", "downstream_local_address", "upstream_remote_address"):
        if name in common:
            common[name] = common[name]["socket_address"]["address"]
    for name in list(common):
        if name.startswith("time_to") or name in ("start_time", "duration"):
            common[name] = "a time"
    # Envoy writes the entry before the end of a body is counted, and gives a connection of
    # `tcp_proxy` a random id.
    common.pop("downstream_wire_bytes_sent", None)
    if "request" not in fields:
        common.pop("stream_id", None)
    return fields


def answer(_request):
    """An origin's answer."""
    return 200, [("x-answered", "yes")], b"hello\n"


@once
def test_entries_are_those_of_envoy(rig):
    """The same traffic through both: the entries are equal, field by field."""
    seen = []
    for is_envoy in (False, True):
        if is_envoy:
            found = importlib.util.find_spec("envoy").origin
            binary = str(Path(found).parent / "_bin" / "envoy")
            os.environ.update(PROXY_KIND="envoy", PROXY_BINARY=binary)
        origin = rig.origin(answer)
        service = rig.keep(Service())
        made, ports = config(rig, origin.port, service.port)
        proxy = rig.proxy(made, name=f"proxy{is_envoy}")
        some_traffic(ports)
        http, tcp = service.wait(3), service.wait(1, "tcp_logs")
        seen.append([comparable(entry) for entry in http + tcp])
        first = service.messages[0].identifier
        assert (first.log_name, first.node.id) == ("acceptance", "acceptance")
        with rig.case("counted"):
            # Envoy counts none of connections.
            proxy.wait_stat("access_logs.grpc_access_log.logs_written", 3 if is_envoy else 4)
    for place, name in enumerate(["GET", "POST", "direct response", "TCP"]):
        with rig.case(name):
            ours, envoys = seen[0][place], seen[1][place]
            for section in sorted({*ours, *envoys}):
                mine, theirs = ours.get(section), envoys.get(section)
                if not isinstance(mine, dict) or not isinstance(theirs, dict):
                    assert mine == theirs, (section, mine, theirs)
                    continue
                differ = {field: (mine.get(field), theirs.get(field))
                          for field in {*mine, *theirs} if mine.get(field) != theirs.get(field)}
                assert not differ, (section, differ)


def test_a_service_that_is_gone_costs_no_request(rig):
    """Nobody listens: requests are served, entries kept as far as there is room, and sent when the
    service is there."""
    origin = rig.origin(answer)
    port = rig.port()
    made, ports = config(rig, origin.port, port)
    proxy = rig.proxy(made)
    with Client(ports[0]) as client:
        for _ in range(20):
            assert client.ask("/").status == 200
    time.sleep(0.5)
    service = rig.keep(Service(port))
    assert len(service.wait(20)) == 20
    proxy.wait_stat("access_logs.grpc_access_log.logs_written", 20)
    assert proxy.stat("access_logs.grpc_access_log.logs_dropped") == 0
    # It goes away, and comes back: what it was sent in between may be lost, but not more.
    service.close()
    with Client(ports[0]) as client:
        assert client.ask("/").status == 200
    again = rig.keep(Service(port))
    with Client(ports[0]) as client:
        for _ in range(10):
            assert client.ask("/").status == 200
            time.sleep(0.05)
    wait_until(lambda: again.entries(), 15, lambda: "nothing has come")
    assert again.messages[0].identifier.log_name == "acceptance"


def test_a_service_that_reads_nothing_is_not_waited_for(rig):
    """It takes the connection and says nothing: entries are dropped and counted, and memory is
    bounded."""
    silent = socket.create_server(("127.0.0.1", 0))
    rig.keep(silent)
    origin = rig.nginx()
    made, ports = config(rig, origin.port, silent.getsockname()[1], buffer_size_bytes=1024)
    proxy = rig.proxy(made, concurrency=1)
    before = proxy.rss_kb()
    with Client(ports[0]) as client:
        for _ in range(5000):
            assert client.ask("/").status == 200
    wait_until(lambda: proxy.stat("access_logs.grpc_access_log.logs_dropped") > 0, 10,
               lambda: "nothing was dropped")
    assert proxy.rss_kb() - before < 16_000, f"{proxy.rss_kb() - before} KiB more"


def test_entries_go_out_before_the_end(rig):
    """What is logged before the process ends arrives."""
    origin = rig.origin(answer)
    service = rig.keep(Service())
    made, ports = config(rig, origin.port, service.port, buffer_flush_interval="60s")
    proxy = rig.proxy(made)
    with Client(ports[0]) as client:
        for _ in range(5):
            assert client.ask("/").status == 200
    proxy.process.terminate()
    proxy.wait_exit(10)
    assert len(service.wait(5)) == 5
