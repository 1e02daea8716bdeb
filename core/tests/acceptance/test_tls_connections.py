"""What goes through TLS: protocols, resumption, the ends of connections, bodies and tunnels.

What it leaves to others: certificates (`test_tls_handshakes.py`), secrets that change
(`test_tls_rotation.py`), abuse (`test_tls_abuse.py`).
"""
import contextlib
import hashlib
import re
import socket
import ssl
import subprocess
import threading
import time

from rig import (Client, Closed, bootstrap, cluster, get, http2_fields, limit, listener, once, only,
                 route)
from rig.origin import reply
from rig.proxy import kind, wait_until
from rig.tls import (Authority, TlsClient, TlsOrigin, attempt, client_context, downstream_tls,
                     secured, upstream_tls)
from rig.tools import run

BOTH = ["h2", "http/1.1"]
TLS13 = {"tls_params": {"tls_maximum_protocol_version": "TLSv1_3"}}


def front(rig, origin_port, common=None, context=None, proxy=None, clusters=(), **manager):
    """A proxy that speaks TLS before an origin: (proxy, its port)."""
    # pylint: disable=too-many-arguments
    certificate = Authority(rig.tmp).issue()
    port = rig.port()
    socket_of = downstream_tls([certificate], common=common, **(context or {}))
    made = secured(listener(port, **manager), socket_of)
    config = bootstrap([made], [cluster(origin_port), *clusters], rig.port())
    return rig.proxy(config, **(proxy or {})), port


def s_client(port, *options, text=b"", seconds=10):
    """What `openssl s_client` says."""
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}",
                           *map(str, options)], input=text, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=seconds, check=False)
    return done.stdout.decode(errors="replace")


def test_versions(rig):
    """Which versions are spoken is as `tls_params` says: 1.2 and 1.3 when nothing does."""
    certificate = Authority(rig.tmp).issue()
    rows = [({}, ["1.2", "1.3"]), ({"tls_maximum_protocol_version": "TLSv1_2"}, ["1.2"]),
            ({"tls_minimum_protocol_version": "TLSv1_3"}, ["1.3"]),
            ({"tls_minimum_protocol_version": "TLSv1_2",
              "tls_maximum_protocol_version": "TLSv1_3"}, ["1.2", "1.3"])]
    ports = [rig.port() for _ in rows]
    rig.proxy(bootstrap([secured(listener(port, name=f"l{port}"),
                                 downstream_tls([certificate], common={"tls_params": given}))
                         for port, (given, _) in zip(ports, rows)],
                        [cluster(rig.origin().port)], rig.port()))
    for port, (given, spoken) in zip(ports, rows):
        for version in ("1.2", "1.3"):
            with rig.case(f"{given} {version}"):
                seen = attempt(port, client_context(version))
                wanted = "200" if version in spoken else "tlsv1_alert_protocol_version"
                assert seen == wanted, seen


def test_ciphers_and_curves(rig):
    """`cipher_suites` is an order and a limit for 1.2; `ecdh_curves` for both."""
    certificate = Authority(rig.tmp).issue()
    asked = {"cipher_suites": ["ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256"],
             "ecdh_curves": ["P-256"]}
    port = rig.port()
    rig.proxy(bootstrap([secured(listener(port), downstream_tls([certificate], common={
        "tls_params": asked}))], [cluster(rig.origin().port)], rig.port()))
    both = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305"
    with rig.case("the order is the server's"):
        said = s_client(port, "-tls1_2", "-cipher", both)
        assert "Cipher is ECDHE-ECDSA-CHACHA20-POLY1305" in said, said[-2000:]
    with rig.case("no cipher that was not named"):
        said = s_client(port, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384")
        assert "handshake failure" in said, said[-2000:]
    for version in ("-tls1_2", "-tls1_3"):
        with rig.case(f"the curve over {version}"):
            said = s_client(port, version)
            assert "Server Temp Key: ECDH, prime256v1, 256 bits" in said, said[-2000:]
        with rig.case(f"no other curve over {version}"):
            said = s_client(port, version, "-groups", "X25519")
            assert "handshake failure" in said, said[-2000:]


def test_alpn(rig):
    """The server's order decides. A client that offers none, or none of ours, is of the protocol
    that its bytes are of."""
    _, port = front(rig, rig.origin().port, {"alpn_protocols": BOTH})
    for offered, wanted in [(["h2", "http/1.1"], "h2"), (["http/1.1", "h2"], "h2"),
                            (["http/1.1"], "http/1.1"), (["h2"], "h2"), (["spdy/3"], None),
                            (None, None)]:
        for version in ("1.2", "1.3"):
            with rig.case(f"{offered} over {version}"):
                context = client_context(version, alpn=offered)
                with TlsClient(port, context) as client:
                    assert client.sock.selected_alpn_protocol() == wanted
                    if wanted != "h2":
                        assert client.ask().status == 200
    for offered in ("--http2", "--http1.1"):
        with rig.case(f"curl {offered}"):
            said = run("curl", "-skv", offered, f"https://127.0.0.1:{port}/")
            wanted = "HTTP/2 200" if offered == "--http2" else "HTTP/1.1 200"
            assert wanted in said and "origin" in said, said


def test_chain_order(rig):
    """The chain is sent as it stands in its file."""
    root = Authority(rig.tmp)
    certificate = Authority(rig.tmp, "Deep", Authority(rig.tmp, "Middle", root)).issue()
    port = rig.port()
    rig.proxy(bootstrap([secured(listener(port), downstream_tls([certificate]))],
                        [cluster(rig.origin().port)], rig.port()))
    for version in ("-tls1_2", "-tls1_3"):
        with rig.case(version):
            said = s_client(port, version, "-showcerts", "-CAfile", root.path)
            assert re.findall(r"^ *\d s:CN = (.*)$", said, re.M) == \
                ["a.example.com", "Deep", "Middle"], said[:2000]
            assert "Verify return code: 0 (ok)" in said, said[-1500:]


def test_which_certificate(rig):
    """By the name that is asked for, then by what the client can verify; the first otherwise."""
    root = Authority(rig.tmp)
    made = {"ec a": root.issue(sans=[("dns", "a.test")]),
            "rsa a": root.issue(sans=[("dns", "a.test")], key="rsa"),
            "rsa b": root.issue(sans=[("dns", "b.test")], key="rsa"),
            "ec *.c": root.issue(sans=[("dns", "*.c.test")])}
    names = {one.der(): name for name, one in made.items()}
    port = rig.port()
    rig.proxy(bootstrap([secured(listener(port), downstream_tls(list(made.values())))],
                        [cluster(rig.origin().port)], rig.port()))
    rsa = "ECDHE-RSA-AES128-GCM-SHA256"
    for name, ciphers, wanted in [
            ("a.test", None, "ec a"), ("a.test", rsa, "rsa a"), ("b.test", None, "rsa b"),
            ("x.c.test", None, "ec *.c"), ("c.test", None, "ec a"), ("x.y.c.test", None, "ec a"),
            ("other.test", None, "ec a"), (None, None, "ec a"), ("A.TEST", None, "ec a")]:
        with rig.case(f"{name} {ciphers or ''}"):
            context = client_context("1.2" if ciphers else None)
            if ciphers:
                context.set_ciphers(ciphers)
            with TlsClient(port, context, name) as client:
                assert names[client.sock.getpeercert(True)] == wanted


def resumed(port, version, name=None, times=1, second=None):
    """How many of so many later connections go on with the first one's session."""
    context = client_context(version)
    with TlsClient(port, context, name) as client:
        assert client.ask().status == 200
        session = client.sock.session
    count = 0
    for _ in range(times):
        with TlsClient(second or port, context, name, session=session) as client:
            assert client.ask().status == 200
            count += client.sock.session_reused
    return count


def test_resumption(rig):
    """Tickets are good on every shard, over both versions; not in another context, and not where
    they are switched off."""
    root = Authority(rig.tmp)
    certificate = root.issue()
    ca = {"trusted_ca": {"filename": str(root.path)}}
    contexts = {
        "both": downstream_tls([certificate]),
        "asks for certificates": downstream_tls([certificate], ca),
        "no tickets": downstream_tls([certificate], disable_stateless_session_resumption=True),
        "nothing": downstream_tls([certificate], disable_stateless_session_resumption=True,
                                  disable_stateful_session_resumption=True),
    }
    ports = {name: rig.port() for name in contexts}
    proxy = rig.proxy(bootstrap([secured(listener(ports[name], name=name), one)
                                 for name, one in contexts.items()],
                                [cluster(rig.origin().port)], rig.port()))
    for version in ("1.2", "1.3"):
        with rig.case(f"on two shards over {version}"):
            assert resumed(ports["both"], version, times=20) == 20
        with rig.case(f"not elsewhere over {version}"):
            assert resumed(ports["both"], version,
                           second=ports["asks for certificates"]) == 0
        with rig.case(f"switched off over {version}"):
            assert resumed(ports["nothing"], version, times=6) == 0
    with rig.case("no tickets: TLS 1.3 has none"):
        assert resumed(ports["no tickets"], "1.3", times=6) == 0
    if kind() == "tidegate":
        with rig.case("sessions are counted"):
            proxy.wait_stat(f"listener.127.0.0.1_{ports['both']}.ssl.session_reused", 40)


def test_upstream_resumption(rig):
    """A second connection to an origin goes on with the first one's session; not where
    `max_session_keys` is 0."""
    certificate = Authority(rig.tmp).issue()
    port, clusters, routes, origins = rig.port(), [], [], {}
    for version in ("1.2", "1.3"):
        for keys in (1, 0):
            where = f"{version}-{keys}"
            origins[where] = rig.keep(TlsOrigin(certificate, version=version))
            socket_of = upstream_tls(common=TLS13, sni="a.example.com", max_session_keys=keys)
            clusters.append(cluster(origins[where].port, where, transport_socket=socket_of))
            routes.append(route(f"/{where}", where))
    rig.proxy(bootstrap([listener(port, routes)], clusters, rig.port()), concurrency=1)
    for where, origin in origins.items():
        with rig.case(where):
            for _ in range(3):
                assert get(port, f"/{where}").status == 200
                for connection in origin.connections:  # the next request needs a new one
                    with contextlib.suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)
                time.sleep(0.1)
            wanted = [False, True, True] if where.endswith("1") else [False] * 3
            assert origin.sessions == wanted, origin.sessions


def test_the_end_of_a_connection(rig):
    """`close_notify` is answered and sent, and a client's half-close does not cut its answer."""
    def slow(connection):
        connection.request()
        time.sleep(0.3)
        connection.send(reply(200, [], b"late"))
    _, port = front(rig, rig.raw_origin(slow).port)
    for version in ("1.2", "1.3"):
        with rig.case(f"ours, over {version}"):
            with TlsClient(port, client_context(version)) as client:
                assert client.ask(headers=[("Connection", "close")]).body == b"late"
                # An end without close_notify raises.
                assert client.sock.recv(10) == b""
        with rig.case(f"a client's, over {version}"):
            with TlsClient(port, client_context(version)) as client:
                client.sock.unwrap().close()
        with rig.case(f"a client's, behind its request, over {version}"):
            assert half_closed(port, version) == b"", "as over TCP, nobody is there to be told"


def half_closed(port, version):
    """What a client gets that sends close_notify right behind its request."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = client_context(version).wrap_bio(incoming, outgoing)
    seen = b""
    with Client(port) as client:
        def step(do):
            while True:
                try:
                    return do()
                except ssl.SSLWantReadError:
                    client.send(outgoing.read())
                    data = client.sock.recv(65536)
                    incoming.write(data) if data else incoming.write_eof()
        step(session.do_handshake)
        session.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with contextlib.suppress(ssl.SSLWantReadError):
            session.unwrap()
        with contextlib.suppress(ssl.SSLError, OSError):
            while part := step(lambda: session.read(65536)):
                seen += part
    return seen


def test_a_cut_response_is_not_whole(rig):
    """A response that ends with its connection is whole only after close_notify (RFC 9112,
    9.8)."""
    head = b"HTTP/1.1 200 OK\r\n\r\n"

    def end(connection):
        connection.request()
        connection.send(head + b"a" * 1000)
        connection.sock.unwrap()

    class Origin(TlsOrigin):
        """Ends its connections as `handler` says."""

        def __init__(self, certificate, handler):
            super().__init__(certificate)
            self.handler = handler

    certificate = Authority(rig.tmp).issue()
    port = rig.port()

    def cut(connection):
        connection.request()
        connection.send(head + b"a" * 1000)
        time.sleep(0.1)
        raw = socket.socket(fileno=connection.sock.detach())
        raw.shutdown(socket.SHUT_WR)
        time.sleep(0.2)
        raw.close()
    whole, broken = (rig.keep(Origin(certificate, handler)) for handler in (end, cut))
    rig.proxy(bootstrap(
        [listener(port, [route("/whole", "whole"), route("/cut", "cut")])],
        [cluster(whole.port, "whole", transport_socket=upstream_tls()),
         cluster(broken.port, "cut", transport_socket=upstream_tls())], rig.port()))
    with rig.case("with close_notify"):
        assert len(get(port, "/whole").body) == 1000
    with rig.case("without"):
        try:
            seen = get(port, "/cut")
            assert kind() == "envoy", f"it was taken for whole: {len(seen.body)} bytes"
        except Closed as closed:
            assert b"200 OK" in closed.seen


@limit(120)
def test_bodies(rig):
    """Bodies of any size, both ways, over TLS on both sides, byte by byte the same."""
    def echo(request):
        return 200, [], hashlib.sha256(request.body).digest() + request.body
    certificate = Authority(rig.tmp).issue()
    origin = rig.keep(TlsOrigin(certificate, echo))
    plain = rig.origin(echo)
    port = rig.port()
    made = secured(listener(port, [route("/plain", "origin", timeout="0s"),
                                   route("/", "tls", timeout="0s")]),
                   downstream_tls([certificate], common={"alpn_protocols": BOTH}))
    rig.proxy(bootstrap([made], [cluster(plain.port),
                                 cluster(origin.port, "tls", transport_socket=upstream_tls())],
                        rig.port()))
    for size in (0, 1, 16383, 16384, 16385, 100_000, 10_000_000):
        for path in ("/plain", "/tls"):
            for version in ("1.2", "1.3"):
                with rig.case(f"{size} {path} {version}"):
                    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
                    with TlsClient(port, client_context(version), timeout=30) as client:
                        answer = client.ask(path, method="POST", body=body)
                    assert answer.body == hashlib.sha256(body).digest() + body
    with rig.case("HTTP/2"):
        path = rig.tmp / "body"
        path.write_bytes(b"0123456789" * 500_000)
        out = rig.tmp / "out"
        run("curl", "-sk", "--http2", "--data-binary", f"@{path}", "-o", out,
            f"https://127.0.0.1:{port}/tls")
        assert out.read_bytes()[32:] == path.read_bytes()


@limit(60)
def test_a_slow_reader(rig):
    """A client that does not read makes the proxy hold little, and still gets all of it."""
    size = 64_000_000
    body = bytes(range(250)) * (size // 250)
    _, port = (proxy, port) = front(rig, rig.origin(lambda _: (200, [], body)).port)
    before = proxy.rss_kb()
    with TlsClient(port, timeout=30) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(1)
        grown = proxy.rss_kb() - before
        seen = hashlib.sha256()
        answer = client.response(sink=seen.update)
    assert answer.status == 200 and seen.digest() == hashlib.sha256(body).digest()
    assert grown < 20_000, f"it holds {grown} KiB"


@limit(60)
def test_tunnels(rig):
    """WebSocket and CONNECT over TLS on both sides: bytes both ways, and their ends."""
    def tunnel(connection):
        request = connection.reader.request_head()
        upgrade = request.get("upgrade") is not None
        connection.send(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade"
                        b"\r\n\r\n" if upgrade else b"HTTP/1.1 200 OK\r\n\r\n")
        while data := connection.sock.recv(65536):
            connection.send(data.upper())

    class Origin(TlsOrigin):
        """Answers as a tunnel."""

        def __init__(self, certificate):
            super().__init__(certificate)
            self.handler = tunnel

    certificate = Authority(rig.tmp).issue()
    origin = rig.keep(Origin(certificate))
    port = rig.port()
    made = secured(listener(port, [route("/", "tls", upgrade_configs=[
        {"upgrade_type": "websocket"}])]), downstream_tls([certificate]))
    proxy = rig.proxy(bootstrap([made], [cluster(origin.port, "tls",
                                                 transport_socket=upstream_tls())], rig.port()))
    for version in ("1.2", "1.3"):
        with rig.case(f"an upgrade over {version}"):
            with TlsClient(port, client_context(version)) as client:
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
                            b"Connection: upgrade\r\n\r\n")
                assert client.response().status == 101
                for size in (1, 1000, 100_000):
                    client.send(b"a" * size)
                    assert client.reader.take(size) == b"A" * size
    proxy.wait_stat("http.main.downstream_cx_active", 0)


@limit(60)
def test_connect(rig):
    """CONNECT that ends here, over TLS on both sides."""
    def echo(connection):
        while data := connection.sock.recv(65536):
            connection.send(data.upper())

    certificate = Authority(rig.tmp).issue()
    origin = rig.keep(TlsOrigin(certificate))
    origin.handler = echo
    port = rig.port()
    hosts = [{"name": "all", "domains": ["*"], "routes": [{
        "match": {"connect_matcher": {}}, "route": {"cluster": "origin", "upgrade_configs": [
            {"upgrade_type": "CONNECT", "connect_config": {}}]}}]}]
    made = secured(listener(port, virtual_hosts=hosts, upgrade_configs=[
        {"upgrade_type": "CONNECT"}]), downstream_tls([certificate]))
    rig.proxy(bootstrap([made], [cluster(origin.port, transport_socket=upstream_tls())],
                        rig.port()))
    with TlsClient(port) as client:
        client.send(b"CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n")
        assert client.response(head_only=True).status == 200
        for size in (1, 1000, 100_000):
            client.send(b"a" * size)
            assert client.reader.take(size) == b"A" * size


@limit(60)
def test_http2_upstream(rig):
    """HTTP/2 over TLS to an origin (nginx), which is offered `h2`."""
    certificate = Authority(rig.tmp).issue()
    origin = NginxTls(rig, certificate)
    port = rig.port()
    socket_of = upstream_tls(sni="a.example.com")
    proxy = rig.proxy(bootstrap(
        [listener(port)], [cluster(origin.port, transport_socket=socket_of, **http2_fields())],
        rig.port()))
    for _ in range(10):
        assert get(port).body == b"h2 HTTP/2.0"
    said = run("h2load", "-n", 5000, "-c", 10, "-m", 10, f"http://127.0.0.1:{port}/")
    assert "5000 succeeded" in said, said
    assert proxy.stat("cluster.origin.upstream_cx_http2_total") > 0


class NginxTls:
    """nginx that speaks TLS and HTTP/2 and says what was agreed on."""

    def __init__(self, rig, certificate):
        from rig.origin import wait_for_port  # pylint: disable=import-outside-toplevel
        self.port = rig.port()
        where = rig.tmp / "nginx-tls"
        where.mkdir()
        paths = " ".join(f"{name}_temp_path {where}/{name};" for name in
                         ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (where / "nginx.conf").write_text(f"""
worker_processes 1; daemon off; master_process off; pid {where}/pid; error_log {where}/error.log;
events {{ worker_connections 1000; }}
http {{ {paths} access_log off; keepalive_requests 1000000;
  server {{ listen 127.0.0.1:{self.port} ssl http2; ssl_certificate {certificate.cert_path};
    ssl_certificate_key {certificate.key_path};
    location / {{ return 200 "$ssl_alpn_protocol $server_protocol"; }} }} }}
""")
        self.process = subprocess.Popen(["nginx", "-c", str(where / "nginx.conf")],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rig.keep(self)
        wait_for_port(self.port, self.process)

    def close(self):
        """Stops it."""
        self.process.terminate()
        self.process.wait()


@only("tidegate")
@limit(60)
def test_a_drain(rig):
    """SIGTERM under load over TLS: no request is lost."""
    proxy, port = front(rig, rig.origin().port)
    stop, failed, done = threading.Event(), [], []

    def load():
        context = client_context()
        while not stop.is_set():
            try:
                with TlsClient(port, context) as client:
                    for _ in range(20):
                        answer = client.ask()
                        done.append(answer.status)
                        if "close" in answer.tokens("connection"):
                            break
            except ConnectionRefusedError:
                return
            except (OSError, Closed) as error:
                failed.append(repr(error))
    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    proxy.process.terminate()
    proxy.wait_exit(30)
    stop.set()
    for thread in threads:
        thread.join()
    assert len(done) > 50 and set(done) == {200}, set(done)
    # A handshake may be cut by the end of the listener; a request may not.
    assert not [text for text in failed if "reset" not in text.lower()], failed
