"""Tunnels (101) at their edges: who is read from, and how each side learns of the other's end.

What it leaves to others: WebSocket itself (`test_clients.py`, `autobahn.py`).
"""
import socket
import struct
import time

from rig import Client, route

UPGRADE = (b"GET /tunnel HTTP/1.1\r\nHost: acceptance.test\r\n"
           b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
ACCEPTED = b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
ROUTES = [route("/", "origin", upgrade_configs=[{"upgrade_type": "websocket"}])]

# What the proxy holds of a client's further requests before it stops reading.
HELD_BYTES_MAX = 64 * 1024


def test_much_that_came_before_a_tunnel_does_not_stop_it(rig):
    """Requests behind one that is slow are held, and the client is not read from any more when
    they are many; the tunnel that the last of them asks for is."""
    heard = []

    def answer(connection):
        while (request := connection.request()) is not None:
            if request.target == "/tunnel":
                connection.send(ACCEPTED)
                heard.append(connection.sock.recv(5))
                return
            if request.target == "/slow":
                time.sleep(1)
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    origin = rig.raw_origin(answer)
    _, port = rig.front(origin.port, routes=ROUTES)
    with Client(port) as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: acceptance.test\r\n\r\n")
        time.sleep(0.2)
        head = b"POST / HTTP/1.1\r\nHost: acceptance.test\r\nContent-Length: 65000\r\n\r\n"
        # The last byte is the one that is too much.
        body = b"x" * 65000
        pad = HELD_BYTES_MAX + 1 - len(head) - len(body) - len(UPGRADE)
        pad = b"X-Pad: " + b"x" * (pad - 9) + b"\r\n"
        client.send(head + body + UPGRADE[:-2] + pad + b"\r\n")
        assert [client.final().status for _ in range(3)] == [200, 200, 101]
        client.send(b"hello")
        client.sock.settimeout(5)
        assert client.sock.recv(1) == b"" and heard == [b"hello"]


def test_an_origin_that_vanishes_behind_its_fin_ends_the_tunnel(rig):
    """The origin has said FIN, so nothing is read from it any more; that it takes no more shows
    when something is sent to it."""

    def answer(connection):
        connection.request()
        connection.send(ACCEPTED)
        connection.sock.shutdown(socket.SHUT_WR)
        time.sleep(0.3)
        linger = struct.pack("ii", 1, 0)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    origin = rig.raw_origin(answer)
    proxy, port = rig.front(origin.port, routes=ROUTES)
    with Client(port) as client:
        client.send(UPGRADE)
        assert client.final().status == 101
        assert client.sock.recv(1) == b""
        time.sleep(0.6)
        client.send(b"nobody takes this")
        proxy.wait_stat("http.main.downstream_cx_active", 0)
