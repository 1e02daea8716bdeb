"""What users and origins get wrong: each ends in one clear message or reply; never a panic, a hang
or a leak.

What it leaves to others: every single field's validation (the configuration's own tests).
"""
import os
import socket
import threading
import time

from rig import Client, bootstrap, cluster, get, limit, listener, once, only, to_yaml
from rig.proxy import run_proxy, wait_until


def refused(rig, text, *words, mode=None, args=()):
    """Start and validation both end with status 2 and the same words, without a panic."""
    path = rig.tmp / "asked.yaml"
    path.write_text(text if isinstance(text, str) else to_yaml(text) + "\n")
    outcomes = []
    for extra in ([], ["--mode", "validate"]) if mode is None else (mode,):
        status, said = run_proxy("-c", path, "--io-backend", rig.backend, *extra, *args)
        assert status == 2, f"status {status}:\n{said}"
        assert "panicked" not in said, said
        for word in words:
            assert word in said, f"{word!r} is not said:\n{said}"
        outcomes.append(said)
    return outcomes


@once
@only("tidegate")
def test_missing_file(rig):
    """A file that is not there is named, with the reason of the system."""
    for args in ([], ["--mode", "validate"]):
        status, said = run_proxy("-c", rig.tmp / "absent.yaml", *args)
        assert status == 2, (status, said)
        assert "absent.yaml" in said and "No such file" in said, said
        assert len(said.strip().splitlines()) <= 6, said


@once
@only("tidegate")
def test_no_configuration(_):
    """No -c and no --config-yaml: it says what is missing."""
    status, said = run_proxy()
    assert status == 2 and "-c" in said and "--config-yaml" in said, (status, said)


@once
@only("tidegate")
def test_wrong_fields(rig):
    """All errors at once, each with file:line:column, the path of the message and the nearest
    name."""
    config = bootstrap([listener(rig.port())], [cluster(1)], rig.port())
    good = to_yaml(config) + "\n"
    with rig.case("a good one"):
        path = rig.tmp / "good.yaml"
        path.write_text(good)
        status, said = run_proxy("-c", path, "--mode", "validate")
        assert status == 0 and "OK" in said, (status, said)
    with rig.case("two misspelt fields"):
        text = good.replace("stat_prefix:", "stat_prefex:").replace("lb_policy:", "lb_polcy:")
        at = [f"asked.yaml:{n}:{line.index(bad) + 1}" for bad in ("stat_prefex", "lb_polcy")
              for n, line in enumerate(text.splitlines(), 1) if bad in line]
        assert len(at) == 2
        start, validate = refused(rig, text, *at, "stat_prefix", "lb_policy",
                                  "HttpConnectionManager", "Cluster")
        assert start.count("stat_prefex") == validate.count("stat_prefex")
    with rig.case("wrong type"):
        text = good.replace("port_value: 1\n", "port_value: one\n")
        refused(rig, text, "port_value", "asked.yaml:")
    with rig.case("port out of range"):
        refused(rig, good.replace("port_value: 1\n", "port_value: 70000\n"), "port_value", "70000")
    with rig.case("wrong enum"):
        refused(rig, good.replace("ROUND_ROBIN", "ROUND_ROBBIN"), "ROUND_ROBBIN", "ROUND_ROBIN")
    with rig.case("wrong duration"):
        refused(rig, good.replace('"5s"', '"5 parsecs"'), "connect_timeout")
    with rig.case("unknown cluster"):
        refused(rig, good.replace('cluster: "origin"', 'cluster: "orogin"'), "orogin")
    with rig.case("bad YAML"):
        refused(rig, good.replace("static_resources:", "static_resources: ["), "asked.yaml:")
    with rig.case("unknown @type"):
        refused(rig, good.replace("router.v3.Router", "router.v3.Rooter"), "Rooter")
    with rig.case("a field that Envoy has and Tidegate lacks"):
        config["static_resources"]["clusters"][0]["lrs_report_endpoint_metrics"] = ["a"]
        refused(rig, config, "lrs_report_endpoint_metrics", "asked.yaml:")
        status, said = run_proxy("-c", rig.tmp / "asked.yaml", "--mode", "validate",
                                 "--allow-unsupported")
        assert status == 0 and "lrs_report_endpoint_metrics" in said, (status, said)


@only("tidegate")
def test_occupied_port(rig):
    """A port that another process listens on: named, status 3, nothing served."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = bootstrap([listener(port)], [cluster(1)], rig.port())
        path = rig.tmp / "asked.yaml"
        path.write_text(to_yaml(config))
        status, said = run_proxy("-c", path, "--io-backend", rig.backend)
        assert status not in (0, 101) and status > 0, status
        assert str(port) in said and "in use" in said.lower(), said
        assert "panicked" not in said


@only("tidegate")
def test_occupied_admin_port(rig):
    """The admin's port may be taken too."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = rig.tmp / "asked.yaml"
        path.write_text(to_yaml(bootstrap([listener(rig.port())], [cluster(1)], port)))
        status, said = run_proxy("-c", path, "--io-backend", rig.backend)
        assert status > 0 and status != 101, status
        assert str(port) in said and "in use" in said.lower() and "panicked" not in said, said


@only("tidegate")
def test_privileged_port(rig):
    """A port below 1024 as nobody: the message says which and what to do."""
    path = rig.tmp / "asked.yaml"
    path.write_text(to_yaml(bootstrap([listener(81)], [cluster(1)], rig.port())))
    if int(open("/proc/sys/net/ipv4/ip_unprivileged_port_start").read()) <= 81 \
            or os.getuid() != 0:
        print("every port is unprivileged here")
        return
    status, said = run_proxy("-c", path, "--io-backend", rig.backend,
                             confine=["--user", "nobody"])
    assert status > 0 and status != 101, status
    assert "81" in said and "privileged" in said and "panicked" not in said, said
    assert "CAP_NET_BIND_SERVICE" in said or "ip_unprivileged_port_start" in said, said


@only("tidegate")
@limit(60)
def test_unresolvable_host(rig):
    """A STRICT_DNS name that does not resolve: the proxy starts, says so and answers 503 UH."""
    port = rig.port()
    lost = cluster(80, host="no-such-host.invalid", type="STRICT_DNS")
    origin = rig.origin()
    local = cluster(origin.port, name="local", host="localhost", type="STRICT_DNS",
                    dns_lookup_family="V4_ONLY")
    routes = [{"match": {"prefix": "/local"}, "route": {"cluster": "local"}},
              {"match": {"prefix": "/"}, "route": {"cluster": "origin"}}]
    proxy = rig.proxy(bootstrap([listener(port, routes)], [lost, local], rig.port()), ready=30)
    reply = get(port)
    assert (reply.status, reply.body) == (503, b"no healthy upstream"), (reply.start, reply.body)
    wait_until(lambda: "no-such-host.invalid" in proxy.log(), 20,
               lambda: f"it says nothing of the name:\n{proxy.log()}")
    wait_until(lambda: get(port, "/local").status == 200, 10, lambda: "localhost does not resolve")


def test_nobody_listens_at_the_origin(rig):
    """A refused connection is one 503 with Envoy's body, at once."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        dead = gone.getsockname()[1]
    proxy, port = rig.front(dead)
    began = time.monotonic()
    with Client(port) as client:
        for _ in range(20):
            reply = client.ask()
            assert reply.status == 503, reply.start
            assert reply.body.startswith(b"upstream connect error or disconnect/reset"), reply.body
    assert time.monotonic() - began < 2
    proxy.wait_stat("cluster.origin.upstream_cx_active", 0)
    assert proxy.stat("cluster.origin.upstream_cx_connect_fail") == 20


@limit(60)
def test_client_that_leaves(rig):
    """Clients that go away in the middle of a head, a body or a response leave nothing behind."""
    release = threading.Event()

    def answer(request):
        release.wait(5)
        return 200, [], b"x" * 100000

    origin = rig.origin(answer)
    proxy, port = rig.front(origin.port)

    def leave():
        for part in (b"GET", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                     b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
                     b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"):
            for reset in (False, True):
                client = Client(port)
                client.send(part)
                time.sleep(0.1)
                if reset:
                    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1" + bytes(3)
                                           + bytes(4))
                client.close()
        release.set()
        proxy.wait_stat("http.main.downstream_cx_active", 0)
        proxy.wait_stat("http.main.downstream_rq_active", 0)

    def descriptors():
        return proxy.descriptors() - proxy.stat("cluster.origin.upstream_cx_active")

    # The first round also opens what is opened on first use.
    leave()
    time.sleep(1)
    before = descriptors()
    leave()
    wait_until(lambda: descriptors() <= before, 10,
               lambda: f"{descriptors()} descriptors, {before} before")
    assert get(port).status == 200


@only("tidegate")
@limit(90)
def test_timeouts(rig):
    """Each timeout ends in its own reply, about when it should."""
    origin = rig.raw_origin(lambda connection: connection.record(20))
    manager = {"request_timeout": "0.5s", "request_headers_timeout": "0.4s",
               "common_http_protocol_options": {"idle_timeout": "0.6s"}}
    _, port = rig.front(origin.port, routes=[
        {"match": {"prefix": "/"}, "route": {"cluster": "origin", "timeout": "0.3s"}}], **manager)
    for name, sent, status in (
            ("route", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 504),
            ("request head", b"GET / HTTP/1.1\r\nHost", 408),
            ("request body", b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc", 408)):
        with rig.case(name), Client(port, 5) as client:
            began = time.monotonic()
            client.send(sent)
            assert client.final().status == status
            assert 0.25 < time.monotonic() - began < 1.5, time.monotonic() - began
    with rig.case("idle"), Client(port, 5) as client:
        began = time.monotonic()
        assert client.closed()
        assert 0.5 < time.monotonic() - began < 2
