"""Real clients over HTTP/2 to real origins of either version: curl, nghttp and h2load, with bodies
compared by hash and the numbers of all sides compared.

What it leaves to others: what no real client sends (`core/tests/parity`), speed
(`scripts/compare`).
"""
import hashlib
import re

from rig import Client, alone, http2_fields, limit, route
from rig.http2 import Peer
from rig.origin import HttpOrigin, Http2Front
from rig.tools import run, tool

MIB = 1 << 20
LARGE = 100 * MIB
ROOM_KB = 48 * 1024


def large_body(path, size=LARGE):
    """A file of bytes that do not repeat within a window: its hash."""
    block = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(MIB // 32))
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for number in range(size // MIB):
            part = number.to_bytes(8, "big") + block[8:]
            file.write(part)
            digest.update(part)
    return digest.hexdigest()


class Bodies(HttpOrigin):
    """Answers GET with a file, and anything else with the hash of what it was sent."""

    def __init__(self, path):
        self.path = path
        super().__init__(keep=False)

    def _answer_all(self, connection):
        while (request := connection.reader.request_head()) is not None:
            digest = hashlib.sha256()
            connection.reader.request_body(request, digest.update)
            if request.method == "GET":
                size = self.path.stat().st_size
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                with open(self.path, "rb") as file:
                    connection.sock.sendfile(file)
            else:
                text = digest.hexdigest().encode()
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)


def routes_of(rig, origin):
    """A proxy for each version of the origin: {version: (it, its port)}."""
    ports = {}
    for version in ("h1", "h2"):
        port = origin.port if version == "h1" else rig.keep(Http2Front(rig.tmp, rig.port(),
                                                                       origin.port)).port
        ports[version] = rig.front(port, cluster=http2_fields(version == "h2"),
                                      routes=[route("/", "origin", timeout="0s")],
                                      proxy={"name": version})
    return ports


@alone
@limit(120)
def test_large_bodies(rig):
    """100 MB down and up between every pair of versions: the same bytes."""
    path = rig.tmp / "large"
    digest = large_body(path)
    ports = routes_of(rig, rig.keep(Bodies(path)))
    for client, option in (("h1", "--http1.1"), ("h2", "--http2-prior-knowledge")):
        for origin, (_, port) in ports.items():
            if (client, origin) == ("h1", "h1"):
                continue
            url = f"http://127.0.0.1:{port}/"
            with rig.case(f"{client} to {origin}, down"):
                got = run("sh", "-c", f"curl -sf {option} {url} | sha256sum").split()[0]
                assert got == digest
            with rig.case(f"{client} to {origin}, up"):
                assert run("curl", "-sf", option, "-T", path, url) == digest
            with rig.case(f"{client} to {origin}, up without a length"):
                command = f"cat {path} | curl -sf {option} -T - {url}"
                assert run("sh", "-c", command) == digest


class Digest:
    """Takes the place of a stream's body."""

    def __init__(self):
        self.sum = hashlib.sha256()

    def __iadd__(self, data):
        self.sum.update(data)
        return self


@alone
@limit(120)
def test_large_bodies_at_once(rig):
    """Ten streams of 20 MB on one connection, each whole, while memory stays small: the window of
    64 KiB a stream holds the origin back. (Envoy 1.40 grows by 174 MiB.)"""
    path = rig.tmp / "large"
    digest = large_body(path, 20 * MIB)
    for version, (proxy, port) in routes_of(rig, rig.keep(Bodies(path))).items():
        with rig.case(f"to {version}"), Client(port, 30) as client:
            before = proxy.rss_kb()
            peer = Peer(client.sock, client=True)
            peer.begin()
            for number in range(10):
                asked = peer.headers([(":method", "GET"), (":scheme", "http"),
                                      (":authority", "a"), (":path", f"/{number}")], end=True)
                peer.streams[asked].body = Digest()
            peer.until(lambda peer=peer: all(s.done for s in peer.streams.values()))
            sums = {number: s.body.sum.hexdigest() for number, s in peer.streams.items()}
            assert set(sums.values()) == {digest}, sums
            grown = proxy.peak_kb() - before
            assert grown < ROOM_KB, f"memory grew by {grown} KiB"


def test_curl(rig):
    """Methods, heads, bodies, Expect, and many URLs on one connection."""
    origin = rig.origin(lambda r: (200, [("X-Method", r.method)], r.body or b"hello"))
    proxy, port = rig.front(origin.port)
    url = f"http://127.0.0.1:{port}/path?query=1"
    curl = ["curl", "-sf", "--http2-prior-knowledge"]
    with rig.case("GET"):
        assert run(*curl, "-w", " %{http_version}", url) == "hello 2"
        assert origin.last.target == "/path?query=1"
        assert origin.last.get("host") == f"127.0.0.1:{port}"
    with rig.case("HEAD"):
        head = run(*curl, "-I", url).lower()
        assert "http/2 200" in head and "content-length: 5" in head and "x-method: head" in head
    with rig.case("POST"):
        assert run(*curl, "-d", "a=1", url) == "a=1"
    with rig.case("POST with Expect"):
        body = "x" * 2_000_000
        assert run(*curl, "-H", "Expect: 100-continue", "--data-binary", "@-", url,
                   input=body.encode()) == body
    with rig.case("cookies"):
        run(*curl, "-b", "a=1; b=2", url)
        assert origin.last.get("cookie") == "a=1; b=2"
    with rig.case("upgrade from HTTP/1.1 is not taken"):
        assert run("curl", "-sf", "--http2", "-w", " %{http_version}", url, fails=True)[-3:] != " 2"
    proxy.wait_stat("http.main.downstream_cx_active", 0)
    assert proxy.stat("http.main.downstream_rq_active") == 0


def test_nghttp(rig):
    """nghttp: several requests at once, trailers, padding, and a window of 64 bytes."""
    origin = rig.origin(lambda r: (200, [], r.body or b"hello" * 1000))
    _, port = rig.front(origin.port)
    url = f"http://127.0.0.1:{port}/"
    with rig.case("several"):
        said = run(tool("nghttp"), "-nvs", "-m", "20", url)
        assert said.count(":status: 200") == 20, said[-2000:]
    with rig.case("trailers"):
        body = rig.tmp / "body"
        body.write_text("some data")
        assert run(tool("nghttp"), "-d", body, "--trailer", "x-t: 1",
                   "--no-content-length", url) == "some data"
        assert origin.last.body == b"some data" and origin.last.chunked
    with rig.case("padding"):
        assert run(tool("nghttp"), "-b", "100", url) == "hello" * 1000
    with rig.case("a small window"):
        assert run(tool("nghttp"), "-w", "6", "-W", "6", url) == "hello" * 1000
    with rig.case("a small table"):
        said = run(tool("nghttp"), "-nvs", "-c", "0", "-m", "5", url)
        assert said.count(":status: 200") == 5, said[-2000:]
    with rig.case("a small table, then a larger one"):
        said = run(tool("nghttp"), "-nvs", "-c", "0", "-c", "65536", "-m", "5", url)
        assert said.count(":status: 200") == 5, said[-2000:]


@alone
@limit(90)
def test_h2load(rig):
    """A fixed number of requests on many streams: the same number on every side, whichever version
    the origin speaks."""
    for version in ("h1", "h2"):
        with rig.case(f"to {version}"):
            origin = rig.nginx() if version == "h1" else rig.nginx(http2=True)
            cluster = http2_fields(version == "h2")
            proxy, port = rig.front(origin.port, cluster=cluster, proxy={"name": version})
            count_everywhere(proxy, port, origin)


def count_everywhere(proxy, port, origin):
    """Runs h2load and compares all numbers."""
    text = run("h2load", "-n", "20000", "-c", "10", "-m", "32", f"http://127.0.0.1:{port}/")
    assert "20000 succeeded, 0 failed, 0 errored, 0 timeout" in text, text
    assert re.search(r"status codes: 20000 2xx", text), text
    proxy.wait_stat("http.main.downstream_cx_active", 0)
    stats = proxy.stats()
    expected = {
        "http.main.downstream_cx_total": 10,
        "http.main.downstream_cx_http2_total": 10,
        "http.main.downstream_cx_http2_active": 0,
        "http.main.downstream_rq_total": 20000,
        "http.main.downstream_rq_http2_total": 20000,
        "http.main.downstream_rq_2xx": 20000,
        "http.main.downstream_rq_active": 0,
        "cluster.origin.upstream_rq_total": 20000,
        "cluster.origin.upstream_rq_2xx": 20000,
        "cluster.origin.upstream_rq_active": 0,
    }
    found = {name: stats.get(name) for name in expected}
    assert found == expected, found
    assert origin.served() == 20000
