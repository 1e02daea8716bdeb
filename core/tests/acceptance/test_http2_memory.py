"""What the proxy holds for peers of HTTP/2 that do not read, read byte by byte, or send without end
as an origin: little, and nothing once they have gone.

What it leaves to others: floods of a client (`test_http2_abuse.py`).
"""
import contextlib
import struct
import threading
import time

from rig import (Client, Closed, alone, bootstrap, cluster, get, http2_fields, limit, listener,
                 route)
from rig.http2 import (CONTINUATION, DATA, END_HEADERS, HEADERS, PING, PREFACE, PRIORITY, SETTINGS,
                       Peer, frame, settings, window_update)
from rig.measure import Memory, warm_up
from rig.origin import Http2Front
from rig.proxy import wait_until

LARGE = 9_000_000
HELD_KB = 4096
FLOOD_KB = 1024
ATTEMPTS = 4
FLOOD_S = 1.5


def ask(peer, path="/"):
    """Sends a GET: its stream."""
    return peer.headers([(":method", "GET"), (":scheme", "http"), (":authority", "a"),
                         (":path", path)], end=True)


def large_origin(rig):
    """An origin whose every answer has nine megabytes."""
    body = bytes(LARGE)
    return rig.origin(lambda request: (200, [], body), keep=False)


def front(rig, version, origin):
    """A proxy before an origin of that version."""
    port = origin.port
    if version == "h2":
        port = rig.keep(Http2Front(rig.tmp, rig.port(), port)).port
    return rig.front(port, cluster=http2_fields(version == "h2"),
                     proxy={"name": version, "concurrency": 1})


@alone
@limit(120)
def test_windows_that_stay_closed(rig):
    """A hundred answers of 9 MB to a client whose windows are 0: at most 4 MiB are held. (Envoy
    1.40 holds 830 MiB, which is nearly all, or 282 MiB from an origin of HTTP/2.)"""
    origin = large_origin(rig)
    for version in ("h1", "h2"):
        with rig.case(f"from {version}"):
            proxy, port = front(rig, version, origin)
            get(port)
            memory = Memory(proxy)
            with Client(port) as client:
                peer = Peer(client.sock, client=True, windows=False)
                peer.begin(window=0, INITIAL_WINDOW_SIZE=0)
                for _ in range(100):
                    ask(peer)
                client.sock.settimeout(1.5)
                with contextlib.suppress(Closed):
                    peer.until(lambda: False)
                heads = sum(stream.fields is not None for stream in peer.streams.values())
                assert heads > 0, "no answer has begun"
                assert not any(stream.body for stream in peer.streams.values())
            grown = memory.peak()
            print(f"{version}: {heads} heads, +{grown} KiB")
            assert grown <= HELD_KB, f"{grown} KiB are held"
            memory.comes_back(HELD_KB)
            proxy.wait_stat("cluster.origin.upstream_rq_active", 0)


@alone
@limit(120)
def test_windows_of_one_byte(rig):
    """A client that opens its windows by one byte again and again gets its bytes, one at a time,
    and costs no memory. (Envoy 1.40 holds 7 MiB.)"""
    proxy, port = front(rig, "h1", large_origin(rig))
    get(port)
    memory = Memory(proxy)
    with Client(port) as client:
        peer = Peer(client.sock, client=True, windows=False)
        peer.begin(INITIAL_WINDOW_SIZE=0)
        stream = ask(peer)
        for number in range(1, 2001):
            peer.give(stream, 1)
            peer.until(lambda number=number: len(peer.streams[stream].body) == number)
    grown = memory.peak()
    assert grown <= HELD_KB, f"{grown} KiB are held"


@alone
@limit(120)
def test_an_origin_that_does_not_read(rig):
    """A hundred uploads to an origin that reads none of them: at most 8 MiB are held, and the
    client is held back. (Envoy 1.40 holds 12 MiB.)"""
    origin = rig.raw_origin(lambda connection: (connection.reader.request_head(), time.sleep(20)))
    proxy, port = rig.front(origin.port, proxy={"concurrency": 1})
    memory = Memory(proxy)
    with Client(port) as client:
        peer = Peer(client.sock, client=True)
        peer.begin()
        sent = 0
        for _ in range(100):
            peer.headers([(":method", "POST"), (":scheme", "http"), (":authority", "a"),
                          (":path", "/")])
        while not peer.settings:
            peer.step()
        room = min(peer.settings[0].get("INITIAL_WINDOW_SIZE", 65535), 1 << 20)
        client.sock.settimeout(1.0)
        try:
            for stream in peer.streams:
                for _ in range(room // 16384):
                    # What the connection's window leaves: more may not be sent.
                    while sent + 16384 > 65535 + peer.given:
                        peer.step()
                    peer.data(stream, bytes(16384))
                    sent += 16384
        except (Closed, OSError):
            pass  # no window any more
    grown = memory.peak()
    print(f"+{grown} KiB of {sent / 1e6:.0f} MB")
    assert grown <= 2 * HELD_KB, f"{grown} KiB are held"
    memory.comes_back(2 * HELD_KB)


RESPONSE = b"\x88"
INTERIM = b"\x08\x03103"
# What an origin sends without end, after its answer to a request has begun or instead of it.
FLOODS = {
    "interim responses": (b"", frame(HEADERS, END_HEADERS, 1, INTERIM)),
    "CONTINUATION": (frame(HEADERS, 0, 1, RESPONSE),
                     frame(CONTINUATION, 0, 1, b"\0\x01x\x7f\x81\x06" + b"a" * 1000)),
    "empty CONTINUATION": (frame(HEADERS, 0, 1, RESPONSE), frame(CONTINUATION, 0, 1)),
    "empty DATA": (frame(HEADERS, END_HEADERS, 1, RESPONSE), frame(DATA, 0, 1)),
    "PING": (b"", frame(PING, 0, 0, bytes(8))),
    "SETTINGS": (b"", settings(HEADER_TABLE_SIZE=4096)),
    "PRIORITY": (b"", frame(PRIORITY, 0, 1, struct.pack(">IB", 3, 1))),
    "WINDOW_UPDATE": (b"", window_update(0, 1)),
    "DATA of no stream": (b"", frame(DATA, 0, 99, b"a")),
    "what was reset": (frame(HEADERS, END_HEADERS, 1, RESPONSE) + frame(3, 0, 1, bytes(4)),
                       frame(DATA, 0, 1, bytes(1000))),
}


class Flooder:
    """An origin that floods for so many seconds. It is asked once before for less, so that what is
    measured is its own."""

    def __init__(self, rig, first, flood):
        self.first, self.flood = first, flood * max(1, 16384 // len(flood))
        self.seconds, self.sent = 0.3, 0
        self.port = rig.raw_origin(self._serve, timeout=1.0).port

    def _serve(self, connection):
        connection.reader.take(len(PREFACE))
        connection.send(settings() + frame(SETTINGS, 1))
        time.sleep(0.1)
        self.sent += len(self.first)
        connection.send(self.first)
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            self.sent += len(self.flood)
            connection.send(self.flood)


@alone
@limit(150)
def test_floods_of_an_origin(rig):
    """An origin that floods costs at most a mebibyte, and the request that it had is answered or
    reset, while another cluster's requests go on. (Envoy 1.40 takes interim responses for as long
    as they come, and grows by 2.4 MiB with SETTINGS.)"""
    good = rig.nginx()
    port = rig.port()
    origins = {name: Flooder(rig, *given) for name, given in FLOODS.items()}
    routes = [route(f"/{number}", name) for number, name in enumerate(origins)]
    clusters = [cluster(origin.port, name, **http2_fields()) for name, origin in origins.items()]
    proxy = rig.proxy(bootstrap([listener(port, [*routes, route("/", "origin")])],
                                [*clusters, cluster(good.port)], rig.port()), concurrency=1)
    warm_up(port)
    for number, (name, origin) in enumerate(origins.items()):
        with rig.case(name):
            flood_from(proxy, port, f"/{number}", name, origin)


def flood_from(proxy, port, path, name, origin):
    """One flood; more of them if memory grows that is then kept, of which there is an end."""
    stream_of_a_flood(port, path)
    assert origin.sent, "nothing was sent"
    for attempt in reversed(range(ATTEMPTS)):
        origin.seconds, origin.sent = FLOOD_S, 0
        memory = Memory(proxy)
        found = []
        asking = threading.Thread(target=lambda found=found: found.append(
            stream_of_a_flood(port, path)))
        asking.start()
        time.sleep(0.3)
        for _ in range(20):
            assert get(port, timeout=2).status == 200
        asking.join()
        stream, grown = found[0], memory.peak()
        print(f"{name:20s} {origin.sent / 1e6:6.1f} MB, +{grown} KiB, {stream.status}"
              f" {stream.reset}")
        assert origin.sent, "nothing was sent"
        assert stream.done, "neither answered nor reset"
        if grown <= FLOOD_KB:
            break
        assert attempt, f"memory grew by {grown} KiB"
    memory.comes_back()
    wait_until(lambda: proxy.stat(f"cluster.{name}.upstream_rq_active") == 0, 5,
               lambda: "the request goes on")


def stream_of_a_flood(port, path):
    """Asks, and waits for an end."""
    with Client(port) as client:
        peer = Peer(client.sock, client=True)
        peer.begin()
        stream = peer.streams[ask(peer, path)]
        client.sock.settimeout(FLOOD_S + 2)
        with contextlib.suppress(Closed):
            peer.until(lambda: stream.done)
    return stream
