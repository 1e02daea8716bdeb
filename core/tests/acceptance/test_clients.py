"""Real clients: curl, wrk, h2load and a WebSocket client, with the numbers of all sides compared.

What it leaves to others: how fast it is (`scripts/compare`), messages that no real client sends.
"""
import asyncio
import re
import subprocess
import threading

from rig import HttpOrigin, alone, get, limit, route


def run(*command, seconds=60, **options):
    """A command's output; fails when it does."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=seconds, check=False, **options)
    assert done.returncode == 0, f"{command[0]}: {done.returncode} {done.stderr[-500:]!r}"
    return done.stdout


def test_curl(rig):
    """GET, HEAD, POST with and without Expect, ranges of methods, keep-alive over one
    connection."""
    origin = rig.origin(lambda r: (200, [("X-Method", r.method)], r.body or b"hello"))
    _, port = rig.front(origin.port)
    url = f"http://127.0.0.1:{port}/path?query=1"
    with rig.case("GET"):
        assert run("curl", "-sf", url) == b"hello"
        assert origin.last.target == "/path?query=1"
    with rig.case("HEAD"):
        head = run("curl", "-sfI", url).decode().lower()
        assert "content-length: 5" in head and "x-method: head" in head, head
    with rig.case("POST"):
        assert run("curl", "-sf", "-d", "a=1", url) == b"a=1"
    with rig.case("chunked POST with Expect"):
        body = b"x" * 3_000_000
        sent = run("curl", "-sf", "-H", "Expect: 100-continue", "-H", "Transfer-Encoding: chunked",
                   "--data-binary", "@-", url, input=body)
        assert sent == body and origin.last.chunked
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"):
        with rig.case(method):
            assert run("curl", "-sf", "-X", method, url) == b"hello"
            assert origin.last.method == method
    with rig.case("ten URLs on one connection"):
        urls = ["-o", "/dev/null", url] * 10
        opened = run("curl", "-sf", "-w", "%{num_connects} ", *urls).split()
        assert list(map(int, opened)) == [1] + [0] * 9, opened


@alone
def test_wrk(rig):
    """wrk sees only 2xx, and the proxy counts what wrk and the origin counted."""
    origin = rig.nginx()
    proxy, port = rig.front(origin.port)
    text = run("wrk", "-t1", "-c32", "-d3s", f"http://127.0.0.1:{port}/").decode()
    assert "Non-2xx" not in text and "Socket errors" not in text, text
    done = int(re.search(r"(\d+) requests in", text)[1])
    proxy.wait_stat("http.main.downstream_cx_active", 0)
    stats = proxy.stats()
    # wrk stops with up to one request per connection under way, which it does not count.
    assert done <= stats["http.main.downstream_rq_total"] <= done + 32, (done, stats)
    assert stats["cluster.origin.upstream_rq_total"] == stats["http.main.downstream_rq_total"]
    assert stats["http.main.downstream_rq_5xx"] == 0
    assert stats["http.main.downstream_rq_active"] == 0
    assert done <= origin.served() <= stats["cluster.origin.upstream_rq_total"]


@alone
def test_h2load(rig):
    """A fixed number of requests: the same number on every side."""
    origin = rig.nginx()
    proxy, port = rig.front(origin.port)
    text = run("h2load", "--h1", "-n", "20000", "-c", "20", f"http://127.0.0.1:{port}/").decode()
    assert "20000 succeeded, 0 failed, 0 errored, 0 timeout" in text, text
    proxy.wait_stat("http.main.downstream_cx_active", 0)
    stats = proxy.stats()
    expected = {
        "http.main.downstream_cx_total": 20,
        "http.main.downstream_rq_total": 20000,
        "http.main.downstream_rq_completed": 20000,
        "http.main.downstream_rq_2xx": 20000,
        "cluster.origin.upstream_rq_total": 20000,
        "cluster.origin.upstream_rq_2xx": 20000,
        "cluster.origin.upstream_rq_active": 0,
    }
    found = {name: stats.get(name) for name in expected}
    assert found == expected, found
    assert origin.served() == 20000


@limit(90)
def test_websocket(rig):
    """A WebSocket echo through the proxy: text, binary of many sizes, fragments, ping, close."""
    import websockets

    port = websocket_echo()
    upgrade = route("/", "origin", upgrade_configs=[{"upgrade_type": "websocket"}])
    proxy, front = rig.front(port, routes=[upgrade])

    async def talk():
        async with websockets.connect(f"ws://127.0.0.1:{front}/", max_size=None) as socket:
            for size in (0, 1, 125, 126, 65535, 65536, 1_000_000):
                await socket.send(b"\x5a" * size)
                assert await socket.recv() == b"\x5a" * size
            await socket.send("text \N{SNOWMAN}")
            assert await socket.recv() == "text \N{SNOWMAN}"
            await socket.send(["in ", "three ", "parts"])
            assert await socket.recv() == "in three parts"
            await (await socket.ping())
            await asyncio.gather(*(socket.send(str(n)) for n in range(200)))
            assert [await socket.recv() for _ in range(200)] == [str(n) for n in range(200)]
            assert proxy.stat("http.main.downstream_cx_upgrades_active") == 1
        assert socket.close_code == 1000

    asyncio.run(asyncio.wait_for(talk(), 60))
    proxy.wait_stat("http.main.downstream_cx_active", 0)
    assert proxy.stat("http.main.downstream_cx_upgrades_total") == 1


def websocket_echo():
    """A WebSocket echo origin on a thread: its port."""
    import websockets

    ready, port = threading.Event(), []

    async def echo(socket):
        async for message in socket:
            await socket.send(message)

    async def serve():
        options = {"max_size": None, "compression": None}
        async with websockets.serve(echo, "127.0.0.1", 0, **options) as server:
            port.append(server.sockets[0].getsockname()[1])
            ready.set()
            await asyncio.Future()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    assert ready.wait(10)
    return port[0]


def test_several_listeners_clusters_and_weights(rig):
    """Requests go to the cluster of their route, in the shares that weights say."""
    from rig import bootstrap, cluster, listener

    origins = {name: HttpOrigin(lambda r, name=name: (200, [], name.encode())) for name in "abc"}
    one, two = rig.port(), rig.port()
    weighted = {"match": {"prefix": "/w"}, "route": {"weighted_clusters": {"clusters": [
        {"name": "a", "weight": 90}, {"name": "b", "weight": 10}]}}}
    routes = [route("/a", "a"), route("/b", "b"), weighted]
    rig.proxy(bootstrap(
        [listener(one, routes, name="one"), listener(two, [route("/", "c")], name="two")],
        [cluster(origin.port, name) for name, origin in origins.items()], rig.port()))
    assert get(one, "/a/x").body == b"a"
    assert get(one, "/b/x").body == b"b"
    assert get(two, "/a/x").body == b"c"
    assert get(one, "/x").status == 404
    bodies = [get(one, "/w").body for _ in range(300)]
    assert 5 <= bodies.count(b"b") <= 65, f"{bodies.count(b'b')} of 300 at weight 10 of 100"
