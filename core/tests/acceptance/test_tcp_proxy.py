"""Connections that `tcp_proxy` passes on: bytes, ends and limits. Run with `--kind envoy` it says
the same of Envoy 1.40.

What it leaves to others: TLS itself (`test_tls_handshakes.py`), HTTP tunnels (`test_tunnels.py`).
"""
import hashlib
import random
import socket
import ssl
import struct
import threading
import time

from rig import Client, alone, bootstrap, cluster, listener, once
from rig.config import access_log, tcp_listener
from rig.proxy import kind, wait_until
from rig.tls import Authority, client_context, downstream_tls, secured, upstream_tls

BIG = 24 << 20


def front(rig, origin_port, proxy=None, clusters=None, log=None, **fields):
    """A proxy with one TcpProxy: (proxy, its port)."""
    port = rig.port()
    if log:
        fields["access_log"] = log
    clusters = clusters or [cluster(origin_port)]
    config = bootstrap([tcp_listener(port, **fields)], clusters, rig.port())
    return rig.proxy(config, **(proxy or {})), port


def connect(port):
    """A client."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def echo(connection):
    """Sends everything back, and its end."""
    while data := connection.sock.recv(65536):
        connection.send(data)
    connection.sock.shutdown(socket.SHUT_WR)


def read_all(sock):
    """Everything until the end: (bytes, how it ended)."""
    seen = bytearray()
    try:
        while data := sock.recv(65536):
            seen += data
    except ConnectionResetError:
        return bytes(seen), "reset"
    return bytes(seen), "end"


def reset(sock):
    """Closes with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_bytes_come_back(rig):
    """An echo, and what is counted and logged of it."""
    origin = rig.raw_origin(echo)
    log, lines = access_log(rig, "%BYTES_RECEIVED% %BYTES_SENT% %RESPONSE_FLAGS% %RESPONSE_CODE% "
                            "%PROTOCOL% %UPSTREAM_CLUSTER% %UPSTREAM_HOST% "
                            "%UPSTREAM_WIRE_BYTES_SENT% %UPSTREAM_REQUEST_ATTEMPT_COUNT%")
    proxy, port = front(rig, origin.port, log=log)
    with connect(port) as client:
        for size in (1, 100, 40_000):
            client.sendall(b"x" * size)
            seen = b""
            while len(seen) < size:
                seen += client.recv(65536)
            assert seen == b"x" * size
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == (b"", "end")
    expected = f"40101 40101 - 0 - origin 127.0.0.1:{origin.port} 40101 1"
    assert lines(1) == [expected], lines(1)
    proxy.wait_stat("cluster.origin.upstream_cx_active", 0)
    stats = proxy.stats()
    for name, value in {
        "tcp.tcp.downstream_cx_total": 1, "tcp.tcp.downstream_cx_rx_bytes_total": 40101,
        "tcp.tcp.downstream_cx_tx_bytes_total": 40101, "cluster.origin.upstream_cx_total": 1,
        "cluster.origin.upstream_cx_rx_bytes_total": 40101, "tcp.tcp.upstream_flush_active": 0,
        "cluster.origin.upstream_cx_tx_bytes_total": 40101, "cluster.origin.upstream_rq_total": 1,
        "cluster.origin.upstream_rq_active": 0, "cluster.origin.upstream_cx_destroy_remote": 1,
    }.items():
        assert stats[name] == value, (name, stats[name])
    assert proxy.stat(f"listener.127.0.0.1_{port}.downstream_cx_active") == 0


def stream_both_ways(rig, port, origin_says, heard):
    """A client sends much and reads much at once; the bytes are the same on both sides."""
    said = random.randbytes(BIG)
    with connect(port) as client:
        sender = threading.Thread(target=lambda: (client.sendall(said),
                                                  client.shutdown(socket.SHUT_WR)))
        sender.start()
        seen, end = read_all(client)
        sender.join()
    assert end == "end"
    assert hashlib.sha256(seen).digest() == hashlib.sha256(origin_says).digest()
    wait_until(lambda: heard, 5, lambda: "the origin has heard nothing")
    assert heard[0] == hashlib.sha256(said).digest()


def test_much_both_ways_at_once(rig):
    """24 MiB each way at the same time."""
    origin_says, heard = random.randbytes(BIG), []

    def stream(connection):
        sender = threading.Thread(target=lambda: (connection.send(origin_says),
                                                  connection.sock.shutdown(socket.SHUT_WR)))
        sender.start()
        digest = hashlib.sha256()
        while data := connection.sock.recv(65536):
            digest.update(data)
        sender.join()
        heard.append(digest.digest())

    origin = rig.raw_origin(stream)
    _, port = front(rig, origin.port)
    stream_both_ways(rig, port, origin_says, heard)


def test_a_client_that_has_said_all_gets_the_rest(rig):
    """Half-close of the client: the origin goes on."""
    heard = []

    def answer(connection):
        heard.append(read_all(connection.sock))
        for _ in range(3):
            time.sleep(0.1)
            connection.send(b"later ")

    origin = rig.raw_origin(answer)
    _, port = front(rig, origin.port)
    with connect(port) as client:
        client.sendall(b"all of it")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == (b"later later later ", "end")
    assert heard == [(b"all of it", "end")]


def test_an_origin_that_has_said_all_hears_the_rest(rig):
    """Half-close of the origin: the client goes on."""
    heard = []

    def answer(connection):
        connection.send(b"hello")
        connection.sock.shutdown(socket.SHUT_WR)
        heard.append(read_all(connection.sock))

    origin = rig.raw_origin(answer)
    proxy, port = front(rig, origin.port)
    with connect(port) as client:
        assert read_all(client) == (b"hello", "end")
        for _ in range(3):
            time.sleep(0.1)
            client.sendall(b"more ")
        client.shutdown(socket.SHUT_WR)
        wait_until(lambda: heard, 5, lambda: "the origin has heard nothing")
    assert heard == [(b"more more more ", "end")]
    proxy.wait_stat("cluster.origin.upstream_cx_active", 0)


def test_resets_are_passed_on(rig):
    """Either side's reset is the other side's reset."""
    seen = []

    def answer(connection):
        if connection.sock.recv(1) == b"r":
            reset(connection.sock)
        else:
            seen.append(read_all(connection.sock)[1])

    origin = rig.raw_origin(answer)
    log, lines = access_log(rig, "%RESPONSE_FLAGS% %BYTES_RECEIVED%")
    _, port = front(rig, origin.port, log=log)
    with connect(port) as client:
        client.sendall(b"r")
        assert read_all(client) == (b"", "reset")
    client = connect(port)
    client.sendall(b"x")
    time.sleep(0.2)
    reset(client)
    wait_until(lambda: seen, 5, lambda: "the origin has seen no end")
    assert seen == ["reset"]
    assert lines(2) == ["UR 1", "- 1"], lines(2)


def closed_at_once(port):
    """A connection is taken and closed."""
    start = time.monotonic()
    with connect(port) as client:
        assert read_all(client) == (b"", "end")
    assert time.monotonic() - start < 3


def test_without_a_host_the_connection_is_closed(rig):
    """Refused by the host, as often as it is tried; no host; no cluster; a limit reached."""
    nobody = rig.port()
    origin = rig.raw_origin(echo, timeout=120)
    log, lines = access_log(
        rig, "%UPSTREAM_CLUSTER% %RESPONSE_FLAGS% %UPSTREAM_REQUEST_ATTEMPT_COUNT% "
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%")

    def limited(name, **limits):
        return cluster(origin.port, name, circuit_breakers={"thresholds": [limits]})

    clusters = [cluster(nobody, "refused"), cluster([], "empty"),
                limited("full", max_connections=1), limited("queue", max_pending_requests=0)]
    cases = {
        "refused": ({}, "refused UF,URX 1 delayed_connect_error:_Connection_refused",
                    {"cluster.refused.upstream_cx_connect_fail": 1,
                     "cluster.refused.upstream_cx_connect_attempts_exceeded": 1,
                     "cluster.refused.upstream_cx_destroy_remote": 1}),
        "again": ({"cluster": "refused", "max_connect_attempts": 3},
                  "refused UF,URX 3 delayed_connect_error:_Connection_refused",
                  {"cluster.refused.upstream_cx_connect_fail": 4,
                   "cluster.refused.upstream_rq_pending_failure_eject": 4}),
        "empty": ({}, "empty UH 0 -", {"cluster.empty.upstream_cx_none_healthy": 1}),
        "nosuch": ({}, "- NC 0 -", {"tcp.nosuch.downstream_cx_no_route": 1}),
        "queue": ({}, "queue URX 1 -", {"cluster.queue.upstream_rq_pending_overflow": 1}),
        "full": ({}, "full UO 0 -", {"cluster.full.upstream_cx_overflow": 1}),
    }
    ports = {name: rig.port() for name in cases}
    listeners = [tcp_listener(ports[name], name, access_log=log, **{"cluster": name, **fields})
                 for name, (fields, _, _) in cases.items()]
    proxy = rig.proxy(bootstrap(listeners, clusters, rig.port()), concurrency=1)
    with connect(ports["full"]) as first:
        first.sendall(b"x")
        assert first.recv(1) == b"x"
        for number, (name, (_, line, stats)) in enumerate(cases.items(), 1):
            with rig.case(name):
                closed_at_once(ports[name])
                assert lines(number)[-1] == line, lines(number)
                for stat, value in stats.items():
                    assert proxy.stat(stat) == value, (stat, proxy.stat(stat))
        first.sendall(b"y")
        assert first.recv(1) == b"y"


def test_timeouts(rig):
    """An idle connection ends, one that is used does not; unless it is too old."""
    origin = rig.raw_origin(echo)
    ports = [rig.port() for _ in range(3)]
    log, lines = access_log(rig, "%RESPONSE_FLAGS% %DURATION%")
    listeners = [
        tcp_listener(ports[0], "idle", idle_timeout="0.8s", access_log=log),
        tcp_listener(ports[1], "old", max_downstream_connection_duration="1.2s", access_log=log),
        tcp_listener(ports[2], "never", idle_timeout="0s"),
    ]
    proxy = rig.proxy(bootstrap(listeners, [cluster(origin.port)], rig.port()))
    never = connect(ports[2])
    with rig.case("idle"), connect(ports[0]) as client:
        for _ in range(4):
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            time.sleep(0.4)
        assert read_all(client) == (b"", "end")
        flags, duration = lines(1)[0].split()
        assert flags == "-" and 1900 < int(duration) < 3500
        assert proxy.stat("tcp.idle.idle_timeout") == 1
    with rig.case("old"), connect(ports[1]) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        assert read_all(client) == (b"", "end")
        flags, duration = lines(2)[1].split()
        assert flags == "DT" and 1100 < int(duration) < 3000
        assert proxy.stat("tcp.old.max_downstream_connection_duration") == 1
    with rig.case("never"), never:
        never.sendall(b"x")
        assert never.recv(1) == b"x"


def test_connect_timeout(rig):
    """A host that never answers: its queue is full."""
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    rig.keep(full)
    port = full.getsockname()[1]
    filling = [socket.socket() for _ in range(4)]
    for sock in filling:
        rig.keep(sock)
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port))
    log, lines = access_log(rig, "%RESPONSE_FLAGS%")
    proxy, front_port = front(rig, port, log=log,
                              clusters=[cluster(port, connect_timeout="0.5s")])
    start = time.monotonic()
    with connect(front_port) as client:
        assert read_all(client) == (b"", "end")
    assert 0.4 < time.monotonic() - start < 3
    assert lines(1) == ["UF,URX"]
    assert proxy.stat("cluster.origin.upstream_cx_connect_timeout") == 1
    assert proxy.stat("cluster.origin.upstream_cx_connect_fail") == 1


def test_weighted_clusters(rig):
    """As many connections to each as its weight says."""
    served = {b"a": 0, b"b": 0}

    def named(name):
        def answer(connection):
            served[name] += 1
            connection.send(name)
        return rig.raw_origin(answer)

    origins = [named(name) for name in served]
    weights = {"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 3}]}
    clusters = [cluster(origins[0].port, "a"), cluster(origins[1].port, "b")]
    _, port = front(rig, 0, clusters=clusters, weighted_clusters=weights)
    for _ in range(400):
        with connect(port) as client:
            assert read_all(client)[0] in served
    assert 60 < served[b"a"] < 140, served


def test_tls_on_both_sides(rig):
    """A client that speaks TLS and a host that does; bytes and ends are those of plain ones."""
    authority = Authority(rig.tmp)
    certificate = authority.issue()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert_path, certificate.key_path)

    def answer(connection):
        with context.wrap_socket(connection.sock, server_side=True) as sock:
            digest = hashlib.sha256()
            left = BIG // 4
            while left:
                data = sock.recv(65536)
                digest.update(data)
                left -= len(data)
            sock.sendall(digest.digest())
            sock.unwrap()

    origin = rig.raw_origin(answer)
    port = rig.port()
    front_listener = secured(tcp_listener(port), downstream_tls([certificate]))
    back = cluster(origin.port, transport_socket=upstream_tls())
    log, lines = access_log(rig, "%BYTES_RECEIVED% %BYTES_SENT% %RESPONSE_FLAGS% "
                            "%DOWNSTREAM_TLS_VERSION%")
    typed = front_listener["filter_chains"][0]["filters"][0]["typed_config"]
    typed["access_log"] = log
    proxy = rig.proxy(bootstrap([front_listener], [back], rig.port()))
    said = random.randbytes(BIG // 4)
    with client_context().wrap_socket(connect(port)) as sock:
        sock.sendall(said)
        assert sock.recv(32) == hashlib.sha256(said).digest()
        assert sock.recv(1) == b""
    assert lines(1) == [f"{BIG // 4} 32 - TLSv1.3"], lines(1)
    assert proxy.stat("cluster.origin.ssl.handshake") == 1


def test_one_listener_has_chains_of_both_kinds(rig):
    """By what the hello says: HTTP in one filter chain, whole connections in another."""
    inspector = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3" \
                ".TlsInspector"
    authority = Authority(rig.tmp)
    certificate = authority.issue("tcp.example.com")
    origin = rig.raw_origin(echo)
    port = rig.port()
    direct = {"match": {"prefix": "/"},
              "direct_response": {"status": 200, "body": {"inline_string": "http"}}}
    http = listener(port, [direct])
    tcp = secured(tcp_listener(port), downstream_tls([certificate]))["filter_chains"][0]
    tcp["filter_chain_match"] = {"server_names": ["tcp.example.com"]}
    through = tcp_listener(port, "through")["filter_chains"][0]
    through["filter_chain_match"] = {"server_names": ["through.example.com"]}
    http["filter_chains"] += [tcp, through]
    http["listener_filters"] = [{"name": "tls", "typed_config": {"@type": inspector}}]
    rig.proxy(bootstrap([http], [cluster(origin.port)], rig.port()))
    with rig.case("http"), Client(port) as client:
        assert client.ask().body == b"http"
    with rig.case("tcp"):
        context = client_context()
        with context.wrap_socket(connect(port), server_hostname="tcp.example.com") as sock:
            sock.sendall(b"through TLS")
            assert sock.recv(100) == b"through TLS"
    with rig.case("hello passed on"), connect(port) as sock:
        # An echo is no server: its hello comes back as it was sent.
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = context.wrap_bio(incoming, outgoing, server_hostname="through.example.com")
        try:
            session.do_handshake()
        except ssl.SSLWantReadError:
            pass
        hello = outgoing.read()
        sock.sendall(hello)
        seen = b""
        while len(seen) < len(hello):
            seen += sock.recv(65536)
        assert seen == hello


def test_a_reader_that_is_slow_holds_its_sender_back(rig):
    """Nobody reads: the proxy takes little more than sockets hold, and then all of it arrives."""
    taken = []

    def pour(connection):
        connection.sock.settimeout(60)
        for _ in range(64):
            connection.send(b"x" * (1 << 20))
            taken.append(1)

    origin = rig.raw_origin(pour)
    proxy, port = front(rig, origin.port)
    with connect(port) as client:
        time.sleep(1.5)
        held = len(taken)
        assert held < 32, f"{held} MiB were taken that nobody reads"
        assert proxy.stat("cluster.origin.upstream_flow_control_paused_reading_total") >= 1
        seen, end = read_all(client)
        assert (len(seen), end) == (64 << 20, "end")


@alone
def test_a_thousand_connections_at_once(rig):
    """Each of them talks, and nothing is left of them."""
    origin = rig.raw_origin(echo)
    proxy, port = front(rig, origin.port)
    clients = [connect(port) for _ in range(1000)]
    for round_ in range(3):
        for number, client in enumerate(clients):
            client.sendall(b"%d.%d" % (round_, number))
        for number, client in enumerate(clients):
            expected = b"%d.%d" % (round_, number)
            assert client.recv(100) == expected
    assert proxy.stat("cluster.origin.upstream_cx_active") == 1000
    for client in clients:
        client.close()
    proxy.wait_stat("cluster.origin.upstream_cx_active", 0)
    assert proxy.stat("tcp.tcp.downstream_cx_total") == 1000


@once
def test_draining(rig):
    """A listener that goes away keeps its connections as long as draining takes; an update that
    does not concern them changes nothing."""
    if kind() == "envoy":
        return
    origin = rig.raw_origin(echo)
    ports = [rig.port(), rig.port()]
    admin = rig.port()

    def config(*listeners):
        return bootstrap(list(listeners), [cluster(origin.port)], admin)

    first, second = tcp_listener(ports[0], "first"), tcp_listener(ports[1], "second")
    proxy = rig.proxy(config(first, second), args=["--drain-time-s", "2"])
    kept, drained = connect(ports[0]), connect(ports[1])
    changed = tcp_listener(ports[0], "first", idle_timeout="100s")
    proxy.reload(config(changed))
    proxy.wait_stat("listener_manager.total_listeners_active", 1)
    start = time.monotonic()
    drained.sendall(b"still here")
    assert drained.recv(100) == b"still here"
    assert read_all(drained) == (b"", "end")
    assert 1 < time.monotonic() - start < 4
    kept.sendall(b"and here")
    assert kept.recv(100) == b"and here"
    proxy.process.terminate()
    time.sleep(0.5)
    kept.sendall(b"and now")
    assert kept.recv(100) == b"and now"
    kept.shutdown(socket.SHUT_WR)
    assert read_all(kept) == (b"", "end")
    assert proxy.wait_exit(3) == 0
