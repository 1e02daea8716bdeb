"""Updates under load: endpoints, clusters, routes, listeners and secrets change many times a
second, and no request fails, no connection of an untouched listener is closed.

What it leaves to others: each update by itself (`test_xds`).
"""
import random
import re
import subprocess
import threading
import time

from rig import alone, limit, once
from rig.proxy import wait_until
from rig.tls import Authority, TlsClient, client_context, downstream_tls, secured
from rig.tools import run
from rig.xds import XdsServer
from test_xds import (ADS, answer, assignment, eds_cluster, follower, port_answers, rds_listener,
                      route_config, secret)

NAMES = ["a", "b", "c", "d"]
PER_SECOND = 100


class World:
    """A server, what it has, and the origins."""

    def __init__(self, rig, api):
        self.random = random.Random(7)
        self.server = rig.keep(XdsServer())
        self.origins = [rig.nginx() for _ in range(2)]
        self.port, self.tls, self.extra = rig.port(), rig.port(), rig.port()
        root = Authority(rig.tmp)
        self.trusted = root.path
        self.certificates = [root.issue() for _ in range(4)]
        self.timeouts = {name: 1 for name in NAMES}
        for kind in ("eds", "cds", "sds", "rds"):
            getattr(self, kind)()
        self.lds()
        self.proxy = follower(rig, self.server, api)
        wait_until(lambda: port_answers(self.port), 10, self.proxy.log)

    def eds(self):
        """Each cluster has one of the origins, or both."""
        def ports():
            return [origin.port for origin in
                    self.random.sample(self.origins, self.random.choice([1, 2]))]
        self.server.set("eds", *[assignment(name, *ports()) for name in NAMES])

    def cds(self):
        """One of the clusters is another one than before."""
        self.timeouts[self.random.choice(NAMES)] += 1
        self.server.set("cds", *[{**eds_cluster(name), "connect_timeout": f"{count}s"}
                                 for name, count in self.timeouts.items()])

    def rds(self):
        """Requests go to another cluster."""
        self.server.set("rds", route_config(self.random.choice(NAMES)))

    def lds(self):
        """A third listener comes or goes; the other two stay."""
        common = {"tls_certificates": [], "alpn_protocols": ["h2", "http/1.1"],
                  "tls_certificate_sds_secret_configs": [{"name": "server", "sds_config": ADS}]}
        tls = secured(rds_listener(self.tls, name="tls"), downstream_tls([], common=common))
        both = [rds_listener(self.port, name="plain"), tls]
        extra = [rds_listener(self.extra, name="extra")]
        self.server.set("lds", *both, *self.random.choice([[], extra]))

    def sds(self):
        """Another certificate."""
        self.server.set("sds", secret(self.random.choice(self.certificates)))


def churn(world, updates, kinds):
    """So many updates of these kinds, at an even rate; answers how long the last took."""
    began = time.monotonic()
    for number in range(updates):
        world.random.choice(kinds)()
        time.sleep(max(0, began + (number + 1) / PER_SECOND - time.monotonic()))
    last = time.monotonic()
    for kind in ("eds", "cds", "rds", "lds", "sds"):
        world.server.wait_ack(kind)
    return time.monotonic() - last


def under_load(world, updates, kinds):
    """The same under wrk, h2load over TLS and new handshakes; none of them may fail."""
    seconds = updates // PER_SECOND + 3
    failed, shaken, stop = [], [0], threading.Event()

    def shake():
        context = client_context(trusted=world.trusted)
        while not stop.is_set():
            try:
                with TlsClient(world.tls, context) as client:
                    assert client.ask().status == 200
                shaken[0] += 1
            except Exception as error:  # whatever it is, it is a failure
                failed.append(repr(error))
            time.sleep(0.01)
    shaker = threading.Thread(target=shake)
    shaker.start()
    wrk = subprocess.Popen(["wrk", "-t1", "-c8", f"-d{seconds}", f"http://127.0.0.1:{world.port}/"],
                           stdout=subprocess.PIPE)
    h2load = subprocess.Popen(["h2load", "-c4", "-m4", "--rps=100", f"-D{seconds}",
                               f"https://127.0.0.1:{world.tls}/"], stdout=subprocess.PIPE)
    try:
        converged = churn(world, updates, kinds)
    finally:
        said = [process.communicate()[0].decode() for process in (wrk, h2load)]
        stop.set()
        shaker.join()
    assert not failed, failed[:3]
    assert shaken[0] > updates // PER_SECOND, shaken
    assert "Non-2xx" not in said[0] and "Socket errors" not in said[0], said[0]
    done = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", said[1])
    assert int(done[1]) > 0 and done[2] == done[3] == "0", said[1]
    assert converged < 1, f"the last updates took {converged:.3f} s"


@alone
@limit(300)
def test_updates_under_load(rig):
    """1,000 updates, 100 a second; 10,000 with --soak."""
    for name, api in {"delta": "DELTA_GRPC", "state of the world": "GRPC"}.items():
        with rig.case(name):
            world = World(rig, api)
            kinds = [world.eds, world.cds, world.rds, world.lds, world.sds]
            under_load(world, 10_000 if rig.soak else 1000, kinds)
            assert not world.server.nacks, world.server.nacks[:3]
            assert answer(world.port)[0] == 200
            run("curl", "-sSf", "-o", "/dev/null", f"http://127.0.0.1:{world.port}/")
            world.proxy.stop()
            world.server.close()


@alone
@once
@limit(60)
def test_secrets_under_load(rig):
    """1,000 rotations of the certificate, 100 a second."""
    world = World(rig, "DELTA_GRPC")
    under_load(world, 1000, [world.sds])
    assert not world.server.nacks, world.server.nacks[:3]
