"""Abuse of handshakes, with an honest client beside it: memory, CPU and descriptors stay bounded,
and come back.

What it leaves to others: floods of HTTP/2 (`test_http2_abuse.py`), which are the same over TLS.
"""
import contextlib
import os
import re
import socket
import subprocess
import threading
import time

from rig import alone, bootstrap, cluster, limit, listener
from rig.measure import Memory
from rig.proxy import kind, wait_until
from rig.tls import Authority, TlsClient, client_context, downstream_tls, secured
from rig.tools import run

CONNECTIONS = 1000
# A connection whose handshake is under way: a session, what it has sent, and buffers.
EACH_KB = 48
FIRST_KB = 2 * 1024
TIMEOUT_S = 2


def front(rig, timeout=TIMEOUT_S):
    """A proxy of one shard that gives handshakes little time."""
    certificate = Authority(rig.tmp).issue()
    port = rig.port()
    made = secured(listener(port), downstream_tls([certificate], common={
        "alpn_protocols": ["h2", "http/1.1"]}))
    made["filter_chains"][0]["transport_socket_connect_timeout"] = f"{timeout}s"
    proxy = rig.proxy(bootstrap([made], [cluster(rig.nginx().port)], rig.port()), concurrency=1)
    run("h2load", "-n", 2000, "-c", 50, "-m", 10, f"https://127.0.0.1:{port}/")
    return proxy, port


def hello(port, version="1.3"):
    """The first flight of a good client."""
    import ssl  # pylint: disable=import-outside-toplevel
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = client_context(version).wrap_bio(incoming, outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


def handshake(body):
    """Records of a handshake message of type ClientHello with this body."""
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    parts = [message[at:at + 16384] for at in range(0, len(message), 16384)]
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)


def is_honest(port):
    """A good client is served, soon."""
    began = time.monotonic()
    with TlsClient(port) as client:
        assert client.ask().status == 200
    assert time.monotonic() - began < 1, time.monotonic() - began


@alone
@limit(120)
def test_half_open_handshakes(rig):
    """A thousand connections each that send nothing, a byte, half a hello, or a whole one, and then
    nothing more: they cost little, honest clients are served beside them, and time ends them."""
    proxy, port = front(rig)
    whole, descriptors = hello(port), proxy.descriptors()
    rows = {"nothing": b"", "a byte": whole[:1], "half a hello": whole[:len(whole) // 2],
            "a hello": whole, "one of 1.2": hello(port, "1.2")}
    for name, sent in rows.items():
        with rig.case(name):
            memory = Memory(proxy)
            sockets = []
            for _ in range(CONNECTIONS):
                sock = socket.create_connection(("127.0.0.1", port), 5)
                sock.sendall(sent)
                sockets.append(sock)
            is_honest(port)
            grown = memory.peak()
            print(f"{name}: +{grown} KiB")
            wait_until(lambda: proxy.stat("http.main.downstream_cx_active") == 0, TIMEOUT_S + 8,
                       lambda: proxy.stat("http.main.downstream_cx_active"))
            for sock in sockets:
                sock.close()
            assert grown < FIRST_KB + EACH_KB * CONNECTIONS, f"it grew by {grown} KiB"
    wait_until(lambda: proxy.descriptors() < descriptors + 20, 5, proxy.descriptors)


@limit(60)
def test_garbage(rig):
    """What is no handshake ends the connection at once, and costs nothing that stays."""
    proxy, port = front(rig, 10)
    rows = {
        "plaintext": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        "zeros": bytes(100_000), "ones": b"\xff" * 100_000, "random": os.urandom(100_000),
        "a record that is too long": b"\x16\x03\x01\xff\xff" + bytes(70_000),
        "an empty record": b"\x16\x03\x01\x00\x00" * 1000,
        "a message that is too long": handshake(bytes(1_000_000)),
        "SSL 2": b"\x80\x2e\x01\x00\x02" + bytes(45),
        "SSL 3": b"\x16\x03\x00\x00\x2d\x01\x00\x00\x29\x03\x00" + bytes(39),
        "an alert": b"\x15\x03\x01\x00\x02\x02\x28",
        "data before all": b"\x17\x03\x03\x00\x10" + bytes(16),
        "a hello of nothing": handshake(bytes(40)),
        "a second hello": hello(port) * 2,
    }
    for name, sent in rows.items():
        with rig.case(name):
            with socket.create_connection(("127.0.0.1", port), 5) as sock:
                with contextlib.suppress(ConnectionError):
                    sock.sendall(sent)
                    # A hello is answered; what follows it is an alert, or the end.
                    while sock.recv(65536):
                        pass
            is_honest(port)
    proxy.wait_stat("http.main.downstream_cx_active", 0)


@alone
@limit(60)
def test_a_flood_of_garbage(rig):
    """As fast as one client can: an honest one beside it keeps its latency."""
    proxy, port = front(rig)
    memory, stop, count = Memory(proxy), threading.Event(), [0]

    def flood():
        data = os.urandom(4096)
        while not stop.is_set():
            with contextlib.suppress(OSError):
                with socket.create_connection(("127.0.0.1", port), 5) as sock:
                    sock.sendall(data)
                    sock.recv(100)
                    count[0] += 1
    threads = [threading.Thread(target=flood) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        is_honest(port)
        time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    grown = memory.peak()
    assert count[0] > 500 and grown < FIRST_KB, (count, grown)


@alone
@limit(60)
def test_a_storm_of_handshakes(rig):
    """Full handshakes as fast as four processes can: a connection that is there is served beside
    them, and new ones get their turn."""
    proxy, port = front(rig)
    storms = [subprocess.Popen(
        ["openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-new", "-time", "4"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(4)]
    memory = Memory(proxy)
    slowest = 0.0
    with TlsClient(port) as client:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            began = time.monotonic()
            assert client.ask().status == 200
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.01)
        is_honest(port)
    said = [storm.communicate()[0].decode() for storm in storms]
    count = sum(int(found[1]) for text in said if (found := re.search(r"(\d+) connections", text)))
    grown = memory.peak()
    print(f"{count} handshakes, the slowest answer took {slowest * 1000:.0f} ms, +{grown} KiB")
    assert count > 200, said
    assert slowest < 0.5 and grown < FIRST_KB, (slowest, grown)
    proxy.wait_stat("http.main.downstream_cx_active", 0)


@limit(60)
def test_renegotiation(rig):
    """A client that asks for it (TLS 1.2) is refused."""
    _, port = front(rig, 10)
    asked = subprocess.Popen(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2", "-alpn", "http/1.1"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    time.sleep(0.5)
    asked.stdin.write(b"R\n")
    asked.stdin.flush()
    said = asked.communicate(timeout=10)[0].decode(errors="replace")
    assert "RENEGOTIATING" in said, said[-1000:]
    assert "no renegotiation" in said or "unexpected message" in said \
        or "handshake failure" in said or kind() == "envoy", said[-1000:]
    is_honest(port)
