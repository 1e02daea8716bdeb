"""Which filter chain a connection gets, by its hello and its addresses, and what reads the hello.
Run with `--kind envoy` it says the same of Envoy 1.40.

What it leaves to others: certificates (`test_tls_handshakes.py`).
"""
import socket
import ssl
import subprocess
import time

from rig import Client, bootstrap, listener, once, only
from rig.http1 import Reader
from rig.proxy import kind, wait_until

CONTEXT = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
INSPECTOR = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
NONE = "closed"


class Chains:
    """A listener whose filter chains answer their names."""

    def __init__(self, rig, chains, default=None, inspector=(), **fields):
        self.rig = rig
        self.port, self.admin = rig.port(), rig.port()
        if not (rig.tmp / "cert.pem").exists():
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                 "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=all", "-keyout",
                 rig.tmp / "key.pem", "-out", rig.tmp / "cert.pem"], check=True,
                capture_output=True)
        self.proxy = rig.proxy(self.config(chains, default, inspector, **fields))

    def config(self, chains, default=None, inspector=(), **fields):
        """Chains are `name: (match, with TLS)`."""
        made = {"filter_chains": [self.chain(name, *chain) for name, chain in chains.items()]}
        if default:
            made["default_filter_chain"] = self.chain(default, None, False)
        if inspector is not None:
            typed = {"@type": INSPECTOR, **dict(inspector)}
            made["listener_filters"] = [{"name": "tls", "typed_config": typed}]
        whole = {**listener(self.port), "stat_prefix": "l", **made, **fields}
        return bootstrap([whole], [], self.admin)

    def chain(self, name, match, tls, **context):
        """A chain that answers its name."""
        answer = {"match": {"prefix": "/"},
                  "direct_response": {"status": 200, "body": {"inline_string": name}}}
        chain = dict(listener(self.port, [answer])["filter_chains"][0], name=name)
        if match is not None:
            chain["filter_chain_match"] = match
        if tls:
            files = {"certificate_chain": {"filename": str(self.rig.tmp / "cert.pem")},
                     "private_key": {"filename": str(self.rig.tmp / "key.pem")}}
            common = {"tls_certificates": [files], "alpn_protocols": ["h2", "http/1.1"]}
            chain["transport_socket"] = {"name": "tls", "typed_config": {
                "@type": CONTEXT, "common_tls_context": common, **context}}
        return chain

    def connect(self, name=None, alpn=(), source=None):
        """A TLS connection."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if alpn:
            context.set_alpn_protocols(list(alpn))
        raw = socket.create_connection(("127.0.0.1", self.port), 5, source)
        return context.wrap_socket(raw, server_hostname=name)

    def tls(self, *args, **options):
        """Which chain answers to TLS."""
        try:
            with self.connect(*args, **options) as sock:
                return ask(sock)
        except (ssl.SSLError, ConnectionError):
            return NONE

    def raw(self, data=None, source=None):
        """Which chain answers without."""
        with socket.create_connection(("127.0.0.1", self.port), 5, source) as sock:
            try:
                return ask(sock, data)
            except ConnectionError:
                return NONE


def ask(sock, data=None):
    """The body of an answer; `NONE` where there is none."""
    sock.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" if data is None else data)
    try:
        return Reader(sock).response().body.decode()
    except Exception as error:  # pylint: disable=broad-except
        if "timeout" in str(getattr(error, "reason", error)):
            raise
        return NONE


def hello(name="a.example.com", alpn=("http/1.1",)):
    """The first bytes of a client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(list(alpn))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def names(*server_names, **fields):
    """A match by server names."""
    return {"server_names": list(server_names), **fields}


def test_the_most_specific_chain_wins(rig):
    """Server names, then the transport, then ALPN; and nothing that was left out comes back."""
    chains = Chains(rig, {
        "exact": (names("a.example.com"), True),
        "wild": (names("*.example.com", "*.EXAMPLE.org"), True),
        "wilder": (names("*.com"), True),
        "h2 only": (names("h2.example.com", application_protocols=["h2"]), True),
        "h1 only": (names("both.example.com", application_protocols=["http/1.1"]), True),
        "h2 of both": (names("both.example.com", application_protocols=["h2"]), True),
        "narrow": (names("narrow.example.com", source_ports=[1]), True),
        "any TLS": ({"transport_protocol": "tls"}, True),
        "raw": ({"transport_protocol": "raw_buffer"}, False),
    })
    for name, alpn, expected in [
        ("a.example.com", (), "exact"), ("A.Example.COM", (), "exact"),
        ("b.example.com", (), "wild"), ("x.y.example.com", (), "wild"),
        ("example.com", (), "wilder"), ("b.example.org", (), "wild"),
        ("other.com", (), "wilder"), ("example.net", (), "any TLS"), (None, (), "any TLS"),
        ("h2.example.com", (), NONE), ("h2.example.com", ("http/1.1",), NONE),
        ("both.example.com", ("http/1.1",), "h1 only"),
        ("narrow.example.com", (), NONE),
    ]:
        with rig.case(f"{name} {alpn}"):
            assert chains.tls(name, alpn) == expected, chains.tls(name, alpn)
    for alpn, expected in [(("h2", "http/1.1"), "h2"), (("http/1.1", "h2"), "h2")]:
        with rig.case(f"agreed on {alpn}"):
            with chains.connect("both.example.com", alpn) as sock:
                assert sock.selected_alpn_protocol() == expected
    with rig.case("raw"):
        assert chains.raw() == "raw"
    with rig.case("counted"):
        stats = chains.proxy.stats()
        closed = 3
        assert stats["listener.l.no_filter_chain_match"] == closed
        found = [stats[f"tls_inspector.{name}"] for name in
                 ("tls_found", "tls_not_found", "sni_found", "sni_not_found", "alpn_found",
                  "alpn_not_found", "client_hello_too_large")]
        assert found[:2] == [15, 1] and found[2:4] == [14, 1] and found[4:] == [4, 11, 0], found
        total = stats["listener.l.downstream_cx_total"]
        assert total == 16 - closed, total
        assert stats["listener.l.downstream_pre_cx_active"] == 0


def test_addresses_choose_without_a_hello(rig):
    """Destination, source and kind of source; nothing of it waits for the client's first byte."""
    source = {"address_prefix": "127.0.0.0", "prefix_len": 8}
    narrow = {"address_prefix": "127.0.0.2", "prefix_len": 32}
    chains = Chains(rig, {
        "narrow": ({"source_prefix_ranges": [narrow]}, False),
        "wide": ({"source_prefix_ranges": [source]}, False),
        "other port": ({"destination_port": 1}, False),
    }, default="default", inspector=None)
    with rig.case("narrow"):
        assert chains.raw(source=("127.0.0.2", 0)) == "narrow"
    with rig.case("wide"):
        assert chains.raw(source=("127.0.0.3", 0)) == "wide"
    with rig.case("at once"), Client(chains.port) as client:
        chains.proxy.wait_stat("listener.l.downstream_cx_active", 1)
        client.ask()
    external = Chains(rig, {"external": ({"source_type": "EXTERNAL"}, False),
                            "here": ({"destination_port": chains.port}, False)}, default="default",
                      inspector=None)
    with rig.case("default"):
        assert external.raw() == "default"
    local = Chains(rig, {"local": ({"source_type": "SAME_IP_OR_LOOPBACK"}, False)}, inspector=None)
    with rig.case("local"):
        assert local.raw() == "local"
    port = local.port
    local.proxy.stop()
    here = Chains(rig, {"no": ({"destination_port": port + 1}, False)}, inspector=None)
    with rig.case("no chain"):
        assert here.raw() == NONE
        here.proxy.wait_stat("listener.l.no_filter_chain_match", 1)


def test_the_default_chain(rig):
    """What no chain matches, with and without TLS."""
    chains = Chains(rig, {"named": (names("a.example.com"), True)}, default="default")
    with rig.case("named"):
        assert chains.tls("a.example.com") == "named"
    with rig.case("raw"):
        assert chains.raw() == "default"
    with rig.case("another name"):
        assert chains.tls("b.example.com") == NONE
    with rig.case("no chain failed"):
        assert chains.proxy.stat("listener.l.no_filter_chain_match") == 0


def test_a_hello_in_pieces(rig):
    """A hello that comes byte by byte, or in records of one byte, is still read."""
    chains = Chains(rig, {"a": (names("a.example.com"), True),
                          "raw": ({"transport_protocol": "raw_buffer"}, False)})
    data = hello()
    with rig.case("byte by byte"), Client(chains.port) as client:
        for at in range(len(data)):
            client.send(data[at:at + 1])
        assert client.sock.recv(5)[:3] == b"\x16\x03\x03"
    for size in (1, 100):
        with rig.case(f"records of {size}"), Client(chains.port) as client:
            body = data[5:]
            pieces = [body[at:at + size] for at in range(0, len(body), size)]
            client.send(b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece
                                 for piece in pieces))
            assert client.sock.recv(5)[:3] == b"\x16\x03\x03"
    with rig.case("a request byte by byte"), Client(chains.port) as client:
        for byte in b"GET / HTTP/1.1\r\nhost: a\r\n\r\n":
            client.send(bytes([byte]))
        assert client.final().body == b"raw"


def test_first_bytes_that_are_no_hello(rig):
    """They are what the raw chain gets, to the last; its codec says what it thinks of them."""
    chains = Chains(rig, {"a": ({"transport_protocol": "tls"}, True),
                          "raw": ({"transport_protocol": "raw_buffer"}, False)})
    request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    if kind() != "envoy":  # which closes it
        with rig.case("a request and the end"), Client(chains.port) as client:
            client.send(request)
            client.sock.shutdown(socket.SHUT_WR)
            assert client.final().body == b"raw"
            assert client.closed()
    with rig.case("two requests"), Client(chains.port) as client:
        client.send(request * 2)
        assert [client.final().body, client.final().body] == [b"raw"] * 2
    with rig.case("HTTP/2"), Client(chains.port) as client:
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        assert client.sock.recv(9)[3] == 4
    for what, data in [
        ("a record of nothing", b"\x16\x03\x01\0\0" + b"x" * 40),
        ("another version", b"\x16\x02\0\0\4abcd\r\n\r\n"),
        ("another message", b"\x16\x03\x01\0\4\2\0\0\0" + b"\r\n\r\n"),
        ("noise", bytes(range(255, 0, -1))),
    ]:
        with rig.case(what), Client(chains.port) as client:
            client.send(data)
            assert client.final().status == 400
    with rig.case("half a hello and the end"), Client(chains.port) as client:
        client.send(hello()[:50])
        client.sock.shutdown(socket.SHUT_WR)
        assert client.closed()
        chains.proxy.wait_stat("listener.l.downstream_pre_cx_active", 0)
    with rig.case("nothing and the end"), Client(chains.port) as client:
        client.sock.shutdown(socket.SHUT_WR)
        assert client.closed()
        chains.proxy.wait_stat("listener.l.downstream_listener_filter_remote_close", 2)


def test_the_timeout(rig):
    """`listener_filters_timeout`, and going on after it."""
    only_tls = {"a": (names("a.example.com"), True)}
    closing = Chains(rig, only_tls, default="default", listener_filters_timeout="0.3s")
    with rig.case("closed"), Client(closing.port) as client:
        closing.proxy.wait_stat("listener.l.downstream_pre_cx_active", 1, 0.3)
        begin = time.monotonic()
        assert client.closed()
        assert time.monotonic() - begin < 3
        assert closing.proxy.stat("listener.l.downstream_pre_cx_timeout") == 1
        assert closing.proxy.stat("listener.l.downstream_cx_total") == 0
    with rig.case("bytes that come slowly do not extend it"), Client(closing.port) as client:
        data, begin = hello(), time.monotonic()
        try:
            for at in range(20):
                client.send(data[at:at + 1])
                time.sleep(0.05)
            assert client.closed()
        except OSError:
            pass
        assert time.monotonic() - begin < 3
    going_on = Chains(rig, only_tls, default="default", listener_filters_timeout="0.2s",
                      continue_on_listener_filters_timeout=True)
    with rig.case("goes on as raw"), Client(going_on.port) as client:
        going_on.proxy.wait_stat("listener.l.downstream_cx_active", 1)
        assert client.ask().body == b"default"
        assert going_on.proxy.stat("listener.l.downstream_pre_cx_timeout") == 1
    with rig.case("with what had come"), Client(going_on.port) as client:
        client.send(hello()[:20])
        assert client.final().status == 400
    never = Chains(rig, only_tls, default="default", listener_filters_timeout="0s")
    with rig.case("none"), Client(never.port) as client:
        time.sleep(0.5)
        assert client.ask().body == b"default"


def test_the_inspector_that_was_asked_for(rig):
    """Its bounds, and what it does where no chain needs it."""
    one = {"only": (None, False)}
    closing = {"close_connection_on_client_hello_parsing_errors": True}
    for inspector, expected in [({}, "only"), (closing, NONE)]:
        chains = Chains(rig, one, inspector=inspector)
        with rig.case(f"no hello, {inspector}"):
            assert chains.raw() == expected
            assert chains.proxy.stat("tls_inspector.tls_not_found") == 1
    tls = {"a": (names("a.example.com"), True), "raw": (None, False)}
    long = [f"{number:0200}" for number in range(30)]
    for inspector, size, expected in [
        ({"max_client_hello_size": 300}, 0, NONE),
        ({"max_client_hello_size": 8000, "initial_read_buffer_size": 512}, 30, "a"),
        ({}, 30, "a"),
    ]:
        chains = Chains(rig, tls, inspector=inspector)
        with rig.case(f"{inspector} and {size} protocols"):
            got = chains.tls("a.example.com", long[:size] + ["http/1.1"])
            assert got == expected, got
            too_large = chains.proxy.stat("tls_inspector.client_hello_too_large")
            assert too_large == (expected == NONE), too_large


def test_a_hello_beyond_all_bounds(rig):
    """More than 16 KiB of it are not read."""
    chains = Chains(rig, {"a": (names("a.example.com"), True), "raw": (None, False)})
    with rig.case("as one message"), Client(chains.port) as client:
        record = b"\x16\x03\x01\x40\x00"
        client.send(record + b"\x01\x00\xff\x00" + b"\0" * (0x4000 - 4) + record + b"\0" * 0x4000)
        assert client.closed()
        chains.proxy.wait_stat("tls_inspector.client_hello_too_large", 1)


@only("tidegate")
def test_chains_change_while_connections_stay(rig):
    """A chain that stays keeps its connections, a changed one goes on as what it is now, and one
    that is gone closes after the next response."""
    first = {"stays": (names("stays.test"), True), "changes": (names("changes.test"), True),
             "goes": (names("goes.test"), True)}
    chains = Chains(rig, first)
    sockets = {name: chains.connect(f"{name}.test") for name in first}
    for name, sock in sockets.items():
        assert ask(sock) == name
    waiting = Client(chains.port)
    waiting.send(hello("new.test")[:40])
    chains.proxy.wait_stat("listener.l.downstream_pre_cx_active", 1)
    config = chains.config({"new": (names("new.test"), True), "stays": (names("stays.test"), True),
                            "changes": (names("other.test"), True)})
    changed = config["static_resources"]["listeners"][0]["filter_chains"][2]
    manager = changed["filters"][0]["typed_config"]
    body = manager["route_config"]["virtual_hosts"][0]["routes"][0]["direct_response"]["body"]
    body["inline_string"] = "changed"
    chains.proxy.reload(config)
    wait_until(lambda: chains.tls("new.test") == "new", 5, chains.proxy.log)
    with rig.case("stays"):
        assert [ask(sockets["stays"]) for _ in range(3)] == ["stays"] * 3
    with rig.case("changes"):
        assert [ask(sockets["changes"]) for _ in range(3)] == ["changed"] * 3
    with rig.case("goes"):
        sockets["goes"].sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        response = Reader(sockets["goes"]).response()
        assert response.body == b"goes"
        assert ("connection", "close") in [(n.lower(), v) for n, v in response.headers]
        assert sockets["goes"].recv(1) == b""
    with rig.case("what waited gets a chain of now"):
        waiting.send(hello("new.test")[40:])
        assert waiting.sock.recv(5)[:1] == b"\x16"
    with rig.case("names that have changed hands"):
        assert chains.tls("changes.test") == NONE
        assert chains.tls("other.test") == "changed"
    for sock in sockets.values():
        sock.close()
    waiting.close()


@only("tidegate")
def test_require_sni(rig):
    """A client that asks for no name is refused."""
    chains = Chains(rig, {"a": (None, True)})
    config = chains.config({"a": (None, True)})
    context = config["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"]
    context["typed_config"]["require_sni"] = True
    chains.proxy.reload(config)
    wait_until(lambda: chains.tls() == NONE, 5, chains.proxy.log)
    with rig.case("a name"):
        assert chains.tls("any.test") == "a"


@once
@only("tidegate")
def test_a_drain_ends_what_says_nothing(rig):
    """A connection that waits for its hello does not keep the process."""
    chains = Chains(rig, {"a": (names("a.example.com"), True)})
    with Client(chains.port):
        chains.proxy.wait_stat("listener.l.downstream_pre_cx_active", 1)
        chains.proxy.process.terminate()
        assert chains.proxy.wait_exit(8) == 0
