"""An origin that closes idle connections just as they are wanted again: no request may fail of it.

What it leaves to others: retry policies. None is configured here: the replay of a request that died
on a reused connection before any byte of a response is the proxy's own duty.
"""
import random
import socket
import threading
import time

from rig import Client, limit, only

REQUESTS = 5000


def closing_origin(rig, reset):
    """Closes each connection within a millisecond of its answer, without having said so."""
    served = []
    lock = threading.Lock()

    def answer(connection):
        while (request := connection.request()) is not None:
            with lock:
                served.append((request.method, request.target))
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            time.sleep(random.random() / 1000)
            if reset:
                connection.sock.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return

    return rig.raw_origin(answer), served


def race(rig, reset, method="GET", count=REQUESTS):
    """Sends sequential requests with gaps up to a millisecond: (failures, what the origin
    served)."""
    origin, served = closing_origin(rig, reset)
    _, port = rig.front(origin.port, proxy={"concurrency": 1})
    failures = []
    client = Client(port, 5)
    for number in range(count):
        response = client.ask(f"/{number}", method=method)
        if (response.status, response.body) != (200, b"ok"):
            failures.append((number, response.start, response.body))
        if "close" in response.tokens("connection"):
            client.close()
            client = Client(port, 5)
        time.sleep(random.random() / 1000)
    client.close()
    return failures, served


@limit(120)
@only("tidegate")
def test_origin_that_closes(rig):
    """5,000 sequential GETs against an origin that closes after each answer: 0 failures."""
    failures, served = race(rig, reset=False)
    assert not failures, f"{len(failures)} of {REQUESTS} failed: {failures[:3]}"
    assert len(served) == REQUESTS, f"the origin served {len(served)}"


@limit(120)
@only("tidegate")
def test_origin_that_resets(rig):
    """The same with RST in place of FIN, 2,000 DELETEs: idempotent too (RFC 9110 9.2.2)."""
    failures, served = race(rig, reset=True, method="DELETE", count=2000)
    assert not failures, f"{len(failures)} failed: {failures[:3]}"
    assert len(set(served)) == 2000


@limit(60)
@only("tidegate")
def test_post_is_never_sent_twice(rig):
    """A POST may fail in this race, but no POST reaches the origin twice (RFC 9110 9.2.2)."""
    origin, served = closing_origin(rig, reset=False)
    _, port = rig.front(origin.port, proxy={"concurrency": 1})
    with Client(port, 5) as client:
        for number in range(1000):
            response = client.ask(f"/{number}", method="POST", body=b"ab")
            assert response.status in (200, 503), response.start
            time.sleep(random.random() / 1000)
    assert len(served) == len(set(served))
