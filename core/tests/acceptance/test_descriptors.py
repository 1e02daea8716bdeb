"""No descriptors left: who is connected is served, nobody spins, and it recovers.

What it leaves to others: memory pressure. The limit is lowered on the running process, as an
operator's unit would.
"""
import socket
import time

from rig import Client, alone, get, limit, only
from rig.proxy import wait_until


@alone
@limit(60)
@only("tidegate")
def test_out_of_descriptors(rig):
    """Connections beyond the limit wait in the backlog without costing CPU, and are served
    later."""
    origin = rig.origin(keep=False)
    # A limit from the start: the kernel keeps the one of the moment when accepting was asked for.
    proxy, port = rig.front(origin.port, proxy={"confine": ["--nofile", "64"]})
    with Client(port) as early:
        assert early.ask().status == 200
        crowd = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(100)]
        time.sleep(1)
        assert proxy.descriptors() >= 60, "the limit was not reached"
        before, began = proxy.cpu_seconds(), time.monotonic()
        while time.monotonic() - began < 3:
            assert early.ask().status == 200
            time.sleep(0.1)
        used = proxy.cpu_seconds() - before
        assert used < 0.3, f"{used:.2f} s of CPU in 3 s of almost nothing: it spins"
        assert proxy.log().count("\n") < 60, "it says it again and again"
        for sock in crowd:
            sock.close()
        wait_until(lambda: get(port, timeout=3).status == 200, 5, lambda: "it does not recover")
    assert proxy.stat("server.descriptors_exhausted") > 0


@alone
@limit(60)
@only("tidegate")
def test_no_descriptor_for_the_upstream(rig):
    """A request whose upstream socket cannot be opened gets 503 at once, and the next one 200."""
    origin = rig.origin(keep=False)
    proxy, port = rig.front(origin.port, proxy={"concurrency": 1})
    time.sleep(0.5)  # the number of the connection that asked for readiness is free again
    with Client(port) as client:
        client.send(b"GET /ready HTTP/1.1\r\n")
        time.sleep(0.3)
        limit_now = proxy.descriptors()
        proxy.limit_descriptors(limit_now)
        client.send(b"Host: a\r\n\r\n")
        assert client.final().status == 503
        proxy.limit_descriptors(limit_now + 50)
        assert client.ask().status == 200


@alone
@limit(90)
def test_descriptors_come_back(rig):
    """After 2,000 connections of all fates, as many descriptors are open as before."""
    origin = rig.origin(keep=False)
    proxy, port = rig.front(origin.port)
    get(port)
    before = proxy.descriptors()
    for number in range(2000):
        with Client(port) as client:
            fate = number % 5
            if fate == 0:
                assert client.ask(headers=[("Connection", "close")]).status == 200
            elif fate == 1:
                assert client.ask().status == 200
            elif fate == 2:
                client.send(b"GET / HTTP/1.1\r\nHo")
            elif fate == 3:
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            elif fate == 4:
                client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nshort")
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    proxy.wait_stat("http.main.downstream_cx_active", 0)
    # Idle upstream connections are kept on purpose.
    wait_until(lambda: proxy.descriptors() - proxy.stat("cluster.origin.upstream_cx_active")
               <= before, 10, lambda: f"{proxy.descriptors()} descriptors, {before} before")
