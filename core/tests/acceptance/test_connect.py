"""CONNECT: ended here or passed on, where a route says so; refused elsewhere.

The expectations are Envoy 1.40's answers. What it leaves to others: upgrades (`vtc/upgrade*`).
"""
import socket
import time

from rig import Client, bootstrap, cluster, listener, once

CONNECT_MATCHER = {"connect_matcher": {}}


def connect(name, cluster_name, upgrades=None, **fields):
    """A virtual host for CONNECT."""
    action = {"cluster": cluster_name}
    if upgrades is not None:
        action["upgrade_configs"] = [{"upgrade_type": "CONNECT", **upgrades}]
    routes = [{"match": CONNECT_MATCHER, "route": action, **fields}]
    return {"name": name, "domains": [f"{name}.test:443"], "routes": routes}


def talker(connection):
    """Says hello first, then answers each piece with itself in brackets; bye at the end."""
    connection.sock.sendall(b"HELLO ")
    while data := connection.sock.recv(65536):
        connection.sock.sendall(b"[" + data + b"]")
    connection.sock.sendall(b"bye")


def forward_proxy(connection):
    """Takes CONNECT, except to `refuse.test`; then echoes in parentheses."""
    request = connection.request()
    if "refuse" in request.target:
        connection.send(b"HTTP/1.1 407 No\r\ncontent-length: 2\r\n\r\nno")
        connection.sock.recv(1)
        return
    assert request.method == "CONNECT", request.method
    via = request.get("x-q", "-")
    connection.send(b"HTTP/1.1 200 Fine\r\nx-a: b\r\n\r\n" + f"{request.target} {via} ".encode())
    while data := connection.sock.recv(65536):
        connection.send(b"(" + data + b")")


def front(rig):
    """A proxy with every kind of CONNECT route; returns it and its port."""
    hello, other = rig.raw_origin(talker), rig.raw_origin(forward_proxy)
    mark = {"request_headers_to_add": [{"header": {"key": "x-q", "value": "1"}}]}
    answer = {"response_headers_to_add": [{"header": {"key": "x-r", "value": "%RESPONSE_CODE%"}}]}
    forwarded = connect("forward", "other", {}, **mark)
    forwarded["domains"].append("refuse.test:443")
    redirect = {"match": CONNECT_MATCHER, "redirect": {"path_redirect": "/"}}
    hosts = [
        connect("ends", "hello", {"connect_config": {}}, **answer), forwarded,
        connect("off", "other", {"enabled": False}), connect("not", "other"),
        connect("dead", "dead", {"connect_config": {}}),
        {"name": "redirect", "domains": ["redirect.test:443"], "routes": [redirect]},
        {"name": "rest", "domains": ["*"],
         "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "other"}}]},
    ]
    port = rig.port()
    clusters = [cluster(hello.port, "hello"), cluster(other.port, "other"), cluster(1, "dead")]
    main = listener(port, virtual_hosts=hosts)
    return rig.proxy(bootstrap([main], clusters, rig.port()), concurrency=1), port


def ask(client, name, early=b""):
    """Sends a CONNECT and what follows it at once."""
    authority = f"{name}.test:443"
    client.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode() + early)


def head(client):
    """The head of the answer, and what came behind it."""
    seen = b""
    while b"\r\n\r\n" not in seen:
        data = client.sock.recv(65536)
        assert data, f"closed after {seen}"
        seen += data
    return seen.split(b"\r\n\r\n", 1)


def read_until(client, seen, wanted):
    """Reads until all of `wanted` has come."""
    while len(seen) < len(wanted):
        data = client.sock.recv(65536)
        assert data, f"closed after {seen}"
        seen += data
    assert seen == wanted, seen


def test_connect_ends_here(rig):
    """The chosen host gets the client's bytes, early ones too, and nothing else; FIN passes."""
    proxy, port = front(rig)
    for early in (b"", b"EARLY"):
        with rig.case(f"early {early}"), Client(port) as client:
            ask(client, "ends", early)
            lines, rest = head(client)
            assert lines.startswith(b"HTTP/1.1 200 "), lines
            assert b"\r\nx-r: 200" in lines and b"content-length" not in lines, lines
            assert b"transfer-encoding" not in lines and b"connection" not in lines, lines
            wanted = b"HELLO " + (b"[EARLY]" if early else b"")
            read_until(client, rest, wanted)
            time.sleep(0.05)
            client.send(b"data")
            read_until(client, b"", b"[data]")
            client.sock.shutdown(socket.SHUT_WR)
            read_until(client, b"", b"bye")
            assert client.sock.recv(1) == b"", "no FIN"
    proxy.wait_stat("http.main.downstream_cx_active", 0)
    proxy.wait_stat("cluster.hello.upstream_cx_active", 0)
    assert proxy.stat("cluster.hello.upstream_cx_total") == 2


def test_connect_is_passed_on(rig):
    """Without `connect_config` the upstream gets the CONNECT and decides."""
    proxy, port = front(rig)
    with rig.case("taken"), Client(port) as client:
        ask(client, "forward", b"EARLY")
        lines, rest = head(client)
        assert lines.startswith(b"HTTP/1.1 200 ") and b"\r\nx-a: b" in lines, lines
        read_until(client, rest, b"forward.test:443 1 (EARLY)")
        client.send(b"data")
        read_until(client, b"", b"(data)")
    with rig.case("refused"), Client(port) as client:
        ask(client, "refuse", b"EARLY")
        answer = client.response()
        assert (answer.status, answer.body) == (407, b"no"), answer.status
        assert answer.get("connection") == "close"
        assert client.closed()
    proxy.wait_stat("http.main.downstream_cx_active", 0)


@once
def test_connect_is_refused(rig):
    """Where no route takes it, or none enables it, or its host is not there."""
    _, port = front(rig)
    rows = [("off", 403), ("not", 403), ("redirect", 403), ("other", 404), ("dead", 503)]
    for name, status in rows:
        with rig.case(name), Client(port) as client:
            ask(client, name, b"EARLY")
            answer = client.response()
            assert answer.status == status, answer.status
            assert client.closed()
    with rig.case("only CONNECT"), Client(port) as client:
        client.send(b"GET /x HTTP/1.1\r\nHost: ends.test:443\r\n\r\n")
        assert client.response().status == 404
