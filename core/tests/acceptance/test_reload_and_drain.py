"""SIGHUP and SIGTERM under load: no request fails of either.

What it leaves to others: updates over xDS. SIGHUP reads the file again through the same path as a
start.
"""
import json
import signal
import threading
import time

from rig import Client, Load, alone, bootstrap, cluster, get, limit, listener, once, only, route
from rig.proxy import can_bind, wait_until


def named(rig, name):
    """An origin that answers its own name."""
    return rig.origin(lambda request: (200, [], name.encode()), keep=False)


@alone
@limit(120)
@only("tidegate")
def test_reload_under_load(rig):
    """Routes, clusters, endpoints and other listeners change 30 times; 0 failures on the listener
    that stays."""
    origins = {name: named(rig, name) for name in ("a", "b", "c")}
    stays, comes, admin = rig.port(), rig.port(), rig.port()

    def version(number):
        target = "abc"[number % 3]
        routes = [route("/unused/%d" % n, target) for n in range(number % 7)] + [route("/", target)]
        listeners = [listener(stays, routes, name="stays")]
        if number % 2:
            listeners.append(listener(comes, [route("/", "a")], name="comes"))
        clusters = [cluster(origins[n].port, n) for n in {"a", target}]
        return bootstrap(listeners, clusters, admin)

    proxy = rig.proxy(version(0))
    load = Load(stays, check=lambda r: r.status == 200 and r.body in (b"a", b"b", b"c"))
    for number in range(1, 31):
        time.sleep(0.1)
        proxy.reload(version(number))
        expected = "abc"[number % 3].encode()
        wait_until(lambda expected=expected: get(stays).body == expected, 5,
                   lambda number=number: f"version {number} is not served:\n{proxy.log()[-1500:]}")
    assert load.stop() > 500
    assert all(origin.count for origin in origins.values())


@only("tidegate")
def test_reload_changes_listeners(rig):
    """A listener that comes is served, one that goes is closed, and its running request is
    finished."""
    release = threading.Event()

    def answer(request):
        if request.target == "/slow":
            assert release.wait(10)
        return 200, [], b"a"

    origin = rig.origin(answer)
    first, second, admin = rig.port(), rig.port(), rig.port()
    clusters = [cluster(origin.port, "a")]
    old = bootstrap([listener(first, [route("/", "a")], name="first")], clusters, admin)
    new = bootstrap([listener(second, [route("/", "a")], name="second")], clusters, admin)
    proxy = rig.proxy(old)
    with Client(first) as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: origin.count == 1, 5, lambda: "the request did not arrive")
        proxy.reload(new)
        wait_until(lambda: not can_bind(second), 5, lambda: proxy.log()[-1500:])
        assert get(second).body == b"a"
        wait_until(lambda: can_bind(first), 5, lambda: "the old listener still listens")
        release.set()
        response = client.final()
        assert response.body == b"a"
        assert response.tokens("connection") == ["close"], "its listener is gone"


@only("tidegate")
def test_bad_file_changes_nothing(rig):
    """Files that are wrong in several ways: each is refused with its reason, and service goes
    on."""
    origin = named(rig, "a")
    proxy, port = rig.front(origin.port)
    good = proxy.path.read_text()
    wrong = {
        "not YAML": (good.replace("admin:", "admin: ["), proxy.path.name),
        "unknown field": (good.replace("stat_prefix:", "stat_prefex:", 1), "stat_prefix"),
        "unknown cluster": (good.replace('cluster: "origin"', 'cluster: "orogin"', 1), "orogin"),
        "a mere word": ("nothing", proxy.path.name),
    }
    load = Load(port)
    for name, (text, reason) in wrong.items():
        with rig.case(name):
            assert text != good
            said = len(proxy.log())
            proxy.reload(text)
            wait_until(lambda said=said, reason=reason: reason in proxy.log()[said:], 5,
                       lambda said=said: f"nothing said about it: {proxy.log()[said:]!r}")
            assert get(port).body == b"a"
    proxy.path.unlink()
    said = len(proxy.log())
    proxy.process.send_signal(signal.SIGHUP)
    wait_until(lambda: proxy.path.name in proxy.log()[said:], 5, lambda: "nothing said: no file")
    with rig.case("good again"):
        said = len(proxy.log())
        proxy.reload(good.replace("prefix: \"/\"", "prefix: \"/a\""))
        wait_until(lambda: get(port, "/b").status == 404, 5, lambda: proxy.log()[said:])
        assert get(port, "/a").body == b"a"
    load.check = lambda response: True
    load.stopping.set()
    assert not [f for f in load.failures if "404" not in f], load.failures[:3]


@alone
@limit(60)
@only("tidegate")
def test_terminate_under_load(rig):
    """SIGTERM with requests under way: all are answered, connections end with close, exit status
    0."""
    def answer(request):
        time.sleep(0.02)
        return 200, [], b"x" * 2000

    origin = rig.origin(answer, keep=False)
    proxy, port = rig.front(origin.port, proxy={"args": ["--drain-time-s", "5"]})
    load = Load(port, threads=12, body=b"y" * 500, per_connection=1 << 30)
    time.sleep(1)
    load.expect_end()
    began = time.monotonic()
    proxy.process.send_signal(signal.SIGTERM)
    assert proxy.wait_exit(10) == 0, proxy.log()[-1500:]
    assert time.monotonic() - began < 5, "nothing was left to wait for"
    done = load.stop()
    assert done > 100 and origin.count == done, (done, origin.count)


@limit(60)
@only("tidegate")
def test_terminate_lets_a_long_request_finish(rig):
    """A request that takes 1.5 s survives SIGTERM; new connections are refused meanwhile."""
    def answer(request):
        time.sleep(1.5)
        return 200, [], b"late"

    origin = rig.origin(answer)
    proxy, port = rig.front(origin.port, proxy={"args": ["--drain-time-s", "8"]})
    with Client(port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: origin.count == 1, 5, lambda: "the request did not arrive")
        proxy.process.send_signal(signal.SIGTERM)
        wait_until(lambda: can_bind(port), 2, lambda: "it still listens")
        response = client.final()
        assert (response.body, response.tokens("connection")) == (b"late", ["close"])
        assert client.closed()
    assert proxy.wait_exit(5) == 0


@limit(60)
@only("tidegate")
def test_drain_is_bounded(rig):
    """A request that never ends does not keep the proxy: --drain-time-s does."""
    origin = rig.raw_origin(lambda connection: connection.record(30))
    proxy, port = rig.front(origin.port, proxy={"args": ["--drain-time-s", "2"]})
    with Client(port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: origin.connections, 5, lambda: "the request did not arrive")
        began = time.monotonic()
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.wait_exit(8) == 0
        assert 1.5 < time.monotonic() - began < 5


@only("tidegate")
def test_quitquitquit(rig):
    """The admin's way to end is an end like SIGTERM's."""
    origin = named(rig, "a")
    proxy, port = rig.front(origin.port, proxy={"args": ["--drain-time-s", "2"]})
    assert get(port).body == b"a"
    assert proxy.fetch("/quitquitquit")[0] == 405
    assert proxy.fetch("/quitquitquit", "POST") == (200, "OK\n")
    assert proxy.wait_exit(5) == 0


@once
@only("tidegate")
def test_reload_keeps_and_changes_the_node(rig):
    """What the command line says of the node outlives a reload, and what a new configuration says
    of it takes effect."""
    origin = rig.origin()
    port, admin = rig.port(), rig.port()

    def version(node, **manager):
        config = bootstrap([listener(port, add_user_agent=True, **manager)],
                           [cluster(origin.port)], admin)
        return {**config, "node": node}

    def sees(expected):
        get(port)
        field = origin.last.get("x-envoy-downstream-service-cluster")
        told = json.loads(proxy.fetch("/server_info")[1])["node"]
        return (field, told["id"], told["cluster"]) == (expected[1], *expected)

    proxy = rig.proxy(version({}), args=["--service-node", "n", "--service-cluster", "c"])
    assert sees(("n", "c"))
    proxy.reload(version({}, server_name="other"))
    wait_until(lambda: get(port).get("server") == "other", 5, proxy.log)
    assert sees(("n", "c")), proxy.fetch("/server_info")[1]
    proxy.reload(version({"id": "a", "cluster": "b"}, server_name="third"))
    wait_until(lambda: get(port).get("server") == "third", 5, proxy.log)
    assert sees(("a", "b")), proxy.fetch("/server_info")[1]
