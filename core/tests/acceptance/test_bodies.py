"""Large bodies: complete, streamed, in bounded memory, in both directions.

What it leaves to others: many small random ones at once (`test_mixed.py`).
"""
import hashlib
import socket
import subprocess
import time

from rig import Client, Closed, alone, limit
from rig.proxy import wait_until

GIB = 1 << 30
BLOCK = bytes(hashlib.shake_256(b"a megabyte").digest(1 << 20))
# The sum of a gibibyte of these blocks does not depend on the run.
ROOM_KB = 48 * 1024


def blocks_digest(count):
    """SHA-256 of `count` blocks."""
    total = hashlib.sha256()
    for _ in range(count):
        total.update(BLOCK)
    return total.hexdigest()


def send_blocks(connection, count, chunked=False):
    """Sends blocks, plain or as chunks."""
    for _ in range(count):
        if chunked:
            connection.send(b"%x\r\n" % len(BLOCK))
        connection.send(BLOCK)
        if chunked:
            connection.send(b"\r\n")
    if chunked:
        connection.send(b"0\r\n\r\n")


@alone
@limit(180)
def test_download_a_gibibyte(rig):
    """curl gets 1 GiB, counted and chunked, with the right checksum; memory stays where it was."""
    def answer(connection):
        while (request := connection.request()) is not None:
            chunked = request.target == "/chunked"
            framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % GIB
            connection.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
            send_blocks(connection, 1024, chunked)

    origin = rig.raw_origin(answer)
    proxy, port = rig.front(origin.port)
    wanted, before = blocks_digest(1024), proxy.rss_kb()
    for path in ("/counted", "/chunked"):
        with rig.case(path[1:]):
            curl = subprocess.Popen(["curl", "-sf", f"http://127.0.0.1:{port}{path}"],
                                    stdout=subprocess.PIPE)
            found = hashlib.sha256()
            while data := curl.stdout.read(1 << 20):
                found.update(data)
            assert curl.wait() == 0 and found.hexdigest() == wanted
    grown = proxy.peak_kb() - before
    assert grown < ROOM_KB, f"memory grew by {grown} KiB"


@alone
@limit(180)
def test_upload_a_gibibyte(rig):
    """1 GiB goes up counted (socket) and chunked (curl), with the right checksum, in bounded
    memory."""
    def answer(connection):
        while True:
            found = hashlib.sha256()
            if connection.request(found.update) is None:
                return
            text = found.hexdigest().encode()
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n" + text)

    origin = rig.raw_origin(answer)
    proxy, port = rig.front(origin.port)
    wanted, before = blocks_digest(1024), proxy.rss_kb()
    with rig.case("counted"), Client(port, 60) as client:
        client.send(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % GIB)
        send_blocks(client, 1024)
        assert client.final().body.decode() == wanted
    with rig.case("chunked"):
        curl = subprocess.Popen(
            ["curl", "-sf", "-T", "-", f"http://127.0.0.1:{port}/x"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(1024):
            curl.stdin.write(BLOCK)
        curl.stdin.close()
        assert curl.stdout.read().decode() == wanted
        assert curl.wait() == 0
    grown = proxy.peak_kb() - before
    assert grown < ROOM_KB, f"memory grew by {grown} KiB"


@alone
@limit(90)
def test_slow_reader_holds_the_origin_back(rig):
    """A client that does not read stops the origin after a bounded number of bytes, and loses
    none."""
    sent = []

    def answer(connection):
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (256 << 20))
        for _ in range(256):
            connection.send(BLOCK)
            sent.append(1)
        connection.record(1.0)

    origin = rig.raw_origin(answer)
    proxy, port = rig.front(origin.port)
    before = proxy.rss_kb()
    with Client(port, 60) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(2)
        held = len(sent)
        assert held < 64, f"the origin could send {held} MiB to a client that read nothing"
        grown = proxy.rss_kb() - before
        assert grown < ROOM_KB, f"memory grew by {grown} KiB"
        found = hashlib.sha256()
        client.response(sink=found.update)
        assert found.hexdigest() == blocks_digest(256)


@alone
@limit(90)
def test_slow_origin_holds_the_client_back(rig):
    """An origin that does not read stops the client after a bounded number of bytes."""
    def answer(connection):
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.reader.until(b"\r\n\r\n")
        time.sleep(4)
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    origin = rig.raw_origin(answer)
    proxy, port = rig.front(origin.port)
    before, sent = proxy.rss_kb(), 0
    with Client(port, 2) as client:
        client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (256 << 20))
        try:
            while sent < 256:
                client.send(BLOCK)
                sent += 1
        except OSError:
            pass
        assert sent < 64, f"the client could send {sent} MiB to an origin that read nothing"
        grown = proxy.rss_kb() - before
        assert grown < ROOM_KB, f"memory grew by {grown} KiB"


def test_origin_dies_in_the_body(rig):
    """However a body is framed, its cut end is visible to the client, and nothing is left
    behind."""
    heads = {
        "/counted": b"Content-Length: 1000\r\n\r\nhalf",
        "/chunked": b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "/in-a-chunk": b"Transfer-Encoding: chunked\r\n\r\n10\r\nhalf",
    }

    def answer(connection):
        request = connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\n" + heads[request.target])
        time.sleep(0.05)
        if request.get("x-how") == "reset":
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    origin = rig.raw_origin(answer)
    proxy, port = rig.front(origin.port)
    idle = proxy.descriptors()
    for path in heads:
        for how in ("close", "reset"):
            with rig.case(f"{path[1:]}, {how}"), Client(port, 5) as client:
                client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nX-How: {how}\r\n\r\n".encode())
                try:
                    seen = client.reader.rest()
                except Closed as closed:  # a reset is as clear as a close
                    assert closed.reason != "timeout", closed
                    seen = closed.seen
                assert not seen or seen.startswith(b"HTTP/1.1 200"), seen
                assert not seen.endswith(b"0\r\n\r\n") and len(seen) < 1000, seen
    proxy.wait_stat("http.main.downstream_rq_active", 0)
    wait_until(lambda: proxy.descriptors() <= idle, 5,
               lambda: f"{proxy.descriptors()} descriptors, {idle} before")
