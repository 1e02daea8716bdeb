"""Reload, drain and descriptors with connections of HTTP/2: GOAWAY in two phases, and no request
that fails.

What it leaves to others: the same over HTTP/1.1 (`test_reload_and_drain.py`), the bytes of a GOAWAY
after other limits (`core/tests/parity`).
"""
import re
import signal
import socket
import threading
import time

from rig import (Client, Closed, alone, bootstrap, cluster, get, http2_fields, limit, listener,
                 only, route)
from rig.http2 import Peer, goaway
from rig.proxy import wait_until
from rig.tools import run

LAST = 2**31 - 1
FIELDS = [(":method", "GET"), (":scheme", "http"), (":authority", "a")]


def ask(peer, path="/"):
    """Sends a GET: its stream."""
    return peer.headers([*FIELDS, (":path", path)], end=True)


class Http2Load:
    """Connections with several streams each; a request fails when it is not answered with 200,
    also when a GOAWAY says that it was not served."""

    def __init__(self, port, connections=4, streams=10):
        self.port, self.streams = port, streams
        self.done = 0
        self.goaways = []
        self.failures = []
        self.ending = False
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, daemon=True)
                        for _ in range(connections)]
        for thread in self.threads:
            thread.start()

    def _run(self):
        while not self.stopping.is_set():
            try:
                client = Client(self.port, 10)
            except OSError as error:
                if not self.ending:
                    self.failures.append(f"connect: {error}")
                return
            with client:
                self._converse(Peer(client.sock, client=True))

    def _converse(self, peer):
        """Keeps streams open until the proxy says GOAWAY, or until told to stop."""
        try:
            peer.begin()
            while True:
                waiting = [s for s in peer.streams.values() if not s.done]
                while not peer.goaways and not self.stopping.is_set() \
                        and len(waiting) < self.streams and peer.next < 20_000:
                    waiting.append(peer.streams[ask(peer)])
                if not waiting:
                    break
                peer.step()
                for number in [n for n, s in peer.streams.items() if s.done]:
                    self._judge(number, peer.streams.pop(number))
            # What is left is to be said: the second GOAWAY, and the end.
            while peer.goaways:
                peer.step()
        except (Closed, OSError, AssertionError) as error:
            self.failures += [f"stream {n}: {error}" for n in peer.streams]
            if isinstance(error, AssertionError):
                self.failures.append(str(error))
        self.goaways.append(peer.goaways)

    def _judge(self, number, stream):
        self.done += 1
        if stream.reset or stream.status != 200:
            self.failures.append(f"stream {number}: {stream.status} {stream.reset}")

    def stop(self):
        """Ends it; fails when any request failed. How many were done."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in self.threads), "a request hangs"
        assert not self.failures, \
            f"{len(self.failures)} of {self.done} failed: {self.failures[:4]}"
        return self.done


@alone
@limit(120)
@only("tidegate")
def test_reload_under_load(rig):
    """Routes and clusters of either version change 20 times under h2load: no request fails."""
    origins = {"a": rig.nginx(), "b": rig.nginx(http2=True)}
    port, admin = rig.port(), rig.port()

    def version(number):
        name = "ab"[number % 2]
        routes = [route(f"/unused/{n}", name) for n in range(number % 5)] + [route("/", name)]
        clusters = [cluster(origin.port, key, **http2_fields(key == "b"))
                    for key, origin in origins.items() if key == name or number % 3]
        return bootstrap([listener(port, routes)], clusters, admin)

    proxy = rig.proxy(version(0))
    said = []
    load = threading.Thread(target=lambda: said.append(run(
        "h2load", "-c", 4, "-m", 10, "-D", 6, "--warm-up-time", 0, f"http://127.0.0.1:{port}/")))
    load.start()
    for number in range(1, 21):
        time.sleep(0.2)
        before = proxy.stat("listener_manager.listener_in_place_updated") + \
            proxy.stat("listener_manager.listener_modified")
        proxy.reload(version(number))
        assert before >= 0
    load.join()
    assert " 0 failed, 0 errored, 0 timeout" in said[0], said[0]
    assert int(re.search(r"(\d+) succeeded", said[0])[1]) > 1000, said[0]
    assert min(origin.served() for origin in origins.values()) > 100


@alone
@limit(60)
@only("tidegate")
def test_terminate_under_load(rig):
    """SIGTERM with 40 requests under way at all times: every connection gets two GOAWAYs, the
    first of which takes nothing back, all requests are answered, exit status 0."""
    origin = rig.origin(lambda request: (time.sleep(0.02), (200, [], b"x" * 2000))[1], keep=False)
    for version in ("h1", "h2"):
        with rig.case(f"origin of {version}"):
            port = origin.port if version == "h1" else rig.nginx(http2=True).port
            proxy, front = rig.front(port, cluster=http2_fields(version == "h2"),
                                     proxy={"args": ["--drain-time-s", "5"], "name": version})
            load = Http2Load(front)
            time.sleep(1)
            load.ending = True
            proxy.process.send_signal(signal.SIGTERM)
            assert proxy.wait_exit(10) == 0, proxy.log()[-1500:]
            assert load.stop() > 100
            for goaways in load.goaways:
                assert [code for code, _ in goaways] == ["NO_ERROR"] * 2, goaways
                assert goaways[0][1] == LAST and goaways[1][1] < LAST, goaways


@limit(60)
@only("tidegate")
def test_terminate_lets_a_stream_finish(rig):
    """A stream that takes 1.5 s survives SIGTERM; one that is opened between the two GOAWAYs is
    served too; then the connection is closed."""
    def answer(request):
        time.sleep(1.5 if request.target == "/slow" else 0)
        return 200, [], b"late"

    origin = rig.origin(answer)
    proxy, port = rig.front(origin.port, proxy={"args": ["--drain-time-s", "8"]})
    with Client(port) as client:
        peer = Peer(client.sock, client=True)
        peer.begin()
        slow = peer.streams[ask(peer, "/slow")]
        wait_until(lambda: origin.count == 1, 5, lambda: "the request did not arrive")
        proxy.process.send_signal(signal.SIGTERM)
        peer.until(lambda: peer.goaways)
        assert peer.goaways == [("NO_ERROR", LAST)]
        between = peer.streams[ask(peer)]
        peer.until(lambda: slow.done and between.done)
        assert (slow.status, slow.reset, slow.body) == (200, None, b"late")
        assert (between.status, between.reset, between.body) == (200, None, b"late")
        try:
            while True:
                peer.step()
        except Closed as closed:
            assert closed.reason == "end", closed.reason
        assert peer.goaways[1] == ("NO_ERROR", between.number), peer.goaways
    assert proxy.wait_exit(5) == 0


@limit(60)
@only("tidegate")
def test_drain_is_bounded(rig):
    """A stream that never ends does not keep the proxy: --drain-time-s does."""
    origin = rig.raw_origin(lambda connection: connection.record(30))
    proxy, port = rig.front(origin.port, proxy={"args": ["--drain-time-s", "2"]})
    with Client(port) as client:
        peer = Peer(client.sock, client=True)
        peer.begin()
        ask(peer)
        wait_until(lambda: origin.connections, 5, lambda: "the request did not arrive")
        began = time.monotonic()
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.wait_exit(8) == 0
        assert 1.5 < time.monotonic() - began < 5


@alone
@limit(90)
def test_descriptors_come_back(rig):
    """After 1,000 connections of all fates, as many descriptors are open as before."""
    origin = rig.origin(keep=False)
    proxy, port = rig.front(origin.port)
    get(port)
    before = proxy.descriptors()
    for number in range(1000):
        with Client(port) as client:
            peer = Peer(client.sock, client=True)
            if number % 6:
                peer.begin()
            if number % 6 > 1:
                stream = peer.streams[ask(peer)]
            if number % 6 == 2:
                peer.until(lambda stream=stream: stream.done)
                assert stream.status == 200
            elif number % 6 == 3:
                peer.send(goaway())
            elif number % 6 == 4:
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            elif number % 6 == 5:
                peer.send(b"\xff" * 9)
    proxy.wait_stat("http.main.downstream_cx_active", 0)
    wait_until(lambda: proxy.descriptors() - proxy.stat("cluster.origin.upstream_cx_active")
               <= before, 10, lambda: f"{proxy.descriptors()} descriptors, {before} before")
