"""`loadtest xds`: our own management server, which makes configurations and changes up and counts
what the proxy does with them, in both protocols.

What it leaves to others: what is served meanwhile (`test_xds_churn`).
"""
import json
import subprocess
import threading

import grpc
import yaml
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3 import discovery_pb2 as discovery
from google.rpc.status_pb2 import Status

from rig import limit, once
from rig.client import Client
from rig.tools import tool

CLUSTERS, ENDPOINTS, ROUTES, LISTENERS = 60, 5, 4, 2
CHURN = "endpoints=40,clusters=10,routes=5,listeners=2"
SECONDS = 2
CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


class Server:
    """The command, with two listeners from a port on."""

    def __init__(self, rig, listener_port, *options):
        self.bootstrap, self.report = rig.tmp / "bootstrap.yaml", rig.tmp / "report.json"
        self.port = rig.port()
        command = [tool("loadtest"), "xds", "--listen", f"127.0.0.1:{self.port}",
                   "--clusters", CLUSTERS, "--endpoints", ENDPOINTS, "--routes", ROUTES,
                   "--listeners", LISTENERS, "--listener-port", listener_port,
                   "--admin-port", rig.port(), "-z", f"{SECONDS}s",
                   "--bootstrap", self.bootstrap, "--json", self.report, *options]
        self.process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        rig.keep(self)
        assert b"management server on" in self.process.stdout.readline()

    def close(self):
        """Ends it."""
        self.process.kill()
        self.process.wait()

    def result(self):
        """Its exit status, report and text, at its end."""
        text = self.process.communicate(timeout=60)[0].decode()
        return self.process.returncode, json.loads(self.report.read_text()), text


def check(rig, *options):
    """Everything is loaded, every change is acknowledged, and what is served is what was sent."""
    port = rig.ports_in_a_row(LISTENERS)
    server = Server(rig, port, "--churn", CHURN, *options)
    rig.proxy(yaml.safe_load(server.bootstrap.read_text()))
    status, report, text = server.result()
    assert status == 0 and report["loaded"] and not report["nacks"], text
    assert report["loadSeconds"] > 0 and "first request to the last ACK" in text, text
    for part in CHURN.split(","):
        kind, rate = part.split("=")
        made = report["kinds"][kind]
        assert made["changes"] == int(rate) * SECONDS, (kind, made)
        assert made["changeAckMicroseconds"]["count"] == made["changes"], (kind, made)
        assert made["acks"] == made["responses"], (kind, made)
    assert report["unanswered"] == 0
    return port


@once
@limit(90)
def test_incremental(rig):
    """The incremental protocol; a request gets as far as to endpoints that are not there."""
    port = check(rig)
    for host, status in (("host-0", 503), ("host-1", 404)):
        with Client(port) as client:
            answer = client.ask("/path-1/", [("Host", f"{host}.example.com")])
            assert answer.status == status, (host, answer.status)


@once
@limit(90)
def test_whole_state(rig):
    """The protocol of the whole state."""
    check(rig, "--sotw")


@once
def test_what_is_refused_is_reported(rig):
    """A client that refuses its clusters: a NACK, its text, exit status 1."""
    server = Server(rig, 1, "--timeout", "1s")
    answered = threading.Event()

    def requests():
        yield discovery.DeltaDiscoveryRequest(type_url=CLUSTER)
        answered.wait(20)
        error = Status(code=13, message="not these")
        yield discovery.DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce=nonce[0],
                                              error_detail=error)
        ended.wait(20)

    nonce, ended = [], threading.Event()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        response = next(responses := stub.DeltaAggregatedResources(requests()))
        assert len(response.resources) == CLUSTERS
        nonce.append(response.nonce)
        answered.set()
        status, report, text = server.result()
        ended.set()
        responses.cancel()
    assert status == 1 and not report["loaded"] and "NOT LOADED" in text, text
    assert report["kinds"]["clusters"]["nacks"] == 1, report
    assert "NACK of clusters: not these" in text, text
