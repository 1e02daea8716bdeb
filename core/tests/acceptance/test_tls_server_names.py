"""Server names that come from requests: `auto_sni`, `override_auto_sni_header`,
`auto_san_validation`. Run with `--kind envoy` it says the same of Envoy 1.40; where the two differ,
a case names both and why.

What it leaves to others: names that the configuration gives (`test_tls_handshakes.py`).
"""
import concurrent.futures
import contextlib
import socket

from rig import Client, access_log, bootstrap, cluster, get, limit, listener, only, route
from rig.config import HTTP_OPTIONS
from rig.http2 import PREFACE, Peer
from rig.origin import reply
from rig.proxy import kind
from rig.tls import Authority, TlsOrigin, upstream_tls

LONG = ".".join(["x" * 60] * 5)
OURS = kind() == "tidegate"
# The status, and the server name that was asked for.
WRONG = "503"


class NamedOrigin(TlsOrigin):
    """Answers with the server name that its connection was made for."""

    def __init__(self, certificate, http2=False, **options):
        super().__init__(certificate, alpn=["h2"] if http2 else None, **options)
        self.handler = self._http2 if http2 else self._http1
        self.context.sni_callback = self._asked

    def _asked(self, sock, name, _):
        self.names.append(name)
        sock.asked = name or "-"

    @staticmethod
    def _http1(connection):
        while (request := connection.request()) is not None:
            connection.send(reply(200, [("x-asked", connection.sock.asked)]))
            if "close" in request.get("x-do", ""):
                return

    @staticmethod
    def _http2(connection):
        peer = Peer(connection.sock, client=False)
        assert peer.reader.take(len(PREFACE)) == PREFACE
        peer.begin()
        answered = set()
        while True:
            peer.step()
            for number in [n for n, one in peer.streams.items() if one.done]:
                if number not in answered:
                    answered.add(number)
                    peer.headers([(":status", "200"), ("x-asked", connection.sock.asked)],
                                 number, end=True)


class Shop:
    """An authority, and one certificate for some names."""

    def __init__(self, directory):
        self.root = Authority(directory)
        self.ca = {"trusted_ca": {"filename": str(self.root.path)}}
        self.server = self.root.issue(sans=[("dns", "a.example.com"), ("dns", "*.w.test"),
                                            ("ip", "127.0.0.1")])


def options(http2=False, **names):
    """Fields of a cluster with these `UpstreamHttpProtocolOptions`."""
    spoken = "http2_protocol_options" if http2 else "http_protocol_options"
    return {"typed_extension_protocol_options": {HTTP_OPTIONS: {
        "@type": f"type.googleapis.com/{HTTP_OPTIONS}", "upstream_http_protocol_options": names,
        "explicit_http_config": {spoken: {}}}}}


def ask(port, path, host, *fields):
    """The status and the server name that the origin was asked for."""
    answer = get(port, path, [("Host", host), *fields])
    return answer.status, answer.get("x-asked")


def seen_of(text):
    """`200 a.test` as `ask` has it."""
    status, _, asked = text.partition(" ")
    return int(status), asked or None


# What is not a DNS name is not sent (RFC 6066, section 3), where Envoy sends any bytes; and no
# name is sent with the dot that may end it.
ODD = {"-x-": "200 -x-", "a..b": "200 a..b", "x" * 64 + ".test": f"200 {'x' * 64}.test",
       "a%20b": "200 a%20b", LONG: WRONG, "a.example.com.": "200 a.example.com."}
ODD_OF_OURS = dict.fromkeys(ODD, "200 -") | {"a.example.com.": "200 a.example.com"}
NAMED = {"a.example.com": "200 a.example.com", "a.example.com:8080": "200 a.example.com",
         "A.Example.COM": "200 a.example.com", "x.w.test": "200 x.w.test",
         "b.other": "200 b.other", "bad_host": "200 bad_host", "127.0.0.1": "200 -",
         "127.0.0.1:80": "200 -", "[::1]": "200 -", "[::1]:80": "200 -",
         **(ODD_OF_OURS if OURS else ODD)}
CHECKED = {"a.example.com": "200 a.example.com", "A.Example.COM:1": "200 a.example.com",
           "x.w.test": "200 x.w.test", "x.y.w.test": WRONG, "b.other": WRONG, "127.0.0.1": "200 -",
           "[::1]": WRONG, "bad_host": WRONG, "a..b": WRONG, LONG: WRONG}
OTHER_CHECKED = {host: "200 fixed.test" if wanted != WRONG else WRONG
                 for host, wanted in CHECKED.items()}
FIXED = {"sni": "fixed.test"}
BOTH = {"auto_sni": True, "auto_san_validation": True}
OF_HEADER = {"auto_sni": True, "override_auto_sni_header": "X-Name"}
FEW = {"a.example.com": "200 a.example.com", "b.other": WRONG}
# Options, the context of TLS, and what comes of hosts.
TABLE = {
    "auto_sni": ({"auto_sni": True}, {}, NAMED),
    "auto_sni before sni": ({"auto_sni": True}, FIXED, {
        "b.other": "200 b.other", "127.0.0.1": "200 fixed.test"}),
    "auto_sni before auto_host_sni": ({"auto_sni": True}, {"auto_host_sni": True}, {
        "b.other": "200 b.other", "127.0.0.1": "200 host.test"}),
    "both": (BOTH, {}, CHECKED),
    "both before sni": (BOTH, FIXED, {**FEW, "127.0.0.1": "200 fixed.test"}),
    "auto_san_validation beside sni": ({"auto_san_validation": True}, FIXED, OTHER_CHECKED),
    "auto_sni_san_validation": ({"auto_sni": True}, {"auto_sni_san_validation": True}, {
        **FEW, "127.0.0.1": "200 -"}),
    "all of it": ({"auto_san_validation": True}, {"auto_sni_san_validation": True,
                                                  "sni": "a.example.com"},
                  {**FEW, "127.0.0.1": "200 a.example.com"}),
    "no validation context": (BOTH, {"validation": None}, dict.fromkeys(FEW, WRONG)),
    "any is trusted": (BOTH, {"validation": "ACCEPT_UNTRUSTED"}, {
        "a.example.com": "200 a.example.com", "b.other": "200 b.other"}),
    "the authority by its name": ({"auto_sni": True, "override_auto_sni_header": ":authority"}, {},
                                  {"b.other": "200 b.other"}),
}


def context(shop, how):
    """A cluster's transport socket, as the table has it."""
    how = dict(how)
    validation = how.pop("validation", {})
    if validation == "ACCEPT_UNTRUSTED":
        validation = {"trust_chain_verification": validation}
    return upstream_tls(None if validation is None else {**shop.ca, **validation}, **how)


def with_name(made):
    """A cluster whose endpoint has a name."""
    for one in made["load_assignment"]["endpoints"][0]["lb_endpoints"]:
        one["endpoint"]["hostname"] = "host.test"
    return made


@limit(120)
def test_names(rig):
    """What is asked for, and what comes of it, over both protocols."""
    shop, port, clusters, routes, rows = Shop(rig.tmp), rig.port(), [], [], []
    for name, (given, how, hosts) in TABLE.items():
        for http2 in (False, True):
            origin = rig.keep(NamedOrigin(shop.server, http2))
            number = len(rows)
            clusters.append(with_name(cluster(origin.port, f"c{number}", **options(http2, **given),
                                              transport_socket=context(shop, how))))
            routes.append(route(f"/{number}/", f"c{number}"))
            rows.append((f"{name}, HTTP/{2 if http2 else 1}", hosts))
    rig.proxy(bootstrap([listener(port, routes)], clusters, rig.port()), concurrency=1)
    for number, (name, hosts) in enumerate(rows):
        for host, wanted in hosts.items():
            with rig.case(f"{name}: {host[:80]}"):
                seen = ask(port, f"/{number}/", host)
                # Envoy sends the name in the case that came first.
                seen = (seen[0], seen[1] and seen[1].lower())
                assert seen == seen_of(wanted), f"{seen}, not {wanted}"


def test_fields(rig):
    """A field stands for the authority, as the route has left it; an empty one does not."""
    shop, port = Shop(rig.tmp), rig.port()
    origins = [rig.keep(NamedOrigin(shop.server)) for _ in range(2)]
    clusters = [cluster(origin.port, name, transport_socket=upstream_tls(shop.ca, **how),
                        **options(**given))
                for origin, name, how, given in zip(
                    origins, ("sent", "checked"), ({}, FIXED),
                    (OF_HEADER, {"auto_san_validation": True,
                                 "override_auto_sni_header": "x-name"}))]
    added = {"header": {"key": "x-name", "value": "added.test"},
             "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    rig.proxy(bootstrap([listener(port, [
        {**route("/added/", "sent"), "request_headers_to_add": [added]},
        {**route("/removed/", "sent"), "request_headers_to_remove": ["x-name"]},
        route("/checked/", "checked"), route("/", "sent")])], clusters, rig.port()), concurrency=1)
    for path, values, wanted in [
            ("/", ["x.w.test"], "200 x.w.test"), ("/", ["X.w.test:44"], "200 x.w.test"),
            ("/", ["10.0.0.1"], "200 -"), ("/", [""], "200 a.example.com"),
            ("/", [" "], "200 a.example.com"), ("/", ["p.test", "q.test"], "200 p.test"),
            ("/", [], "200 a.example.com"), ("/added/", ["x.test"], "200 added.test"),
            ("/removed/", ["x.test"], "200 a.example.com"),
            ("/checked/", ["x.w.test"], "200 fixed.test"), ("/checked/", ["b.other"], WRONG),
            ("/checked/", ["127.0.0.1"], "200 fixed.test"), ("/checked/", ["10.0.0.1"], WRONG),
            ("/checked/", [""], "200 fixed.test")]:
        with rig.case(f"{path} {values}"):
            seen = ask(port, path, "a.example.com", *[("X-Name", value) for value in values])
            assert seen == seen_of(wanted), f"{seen}, not {wanted}"


def test_rewritten_hosts(rig):
    """The name is that of the rewritten host; but `auto_host_rewrite` comes after it."""
    shop, port = Shop(rig.tmp), rig.port()
    origin = rig.keep(NamedOrigin(shop.server))
    made = with_name(cluster(origin.port, transport_socket=upstream_tls(),
                             **options(auto_sni=True)))
    rig.proxy(bootstrap([listener(port, [
        route("/literal/", "origin", host_rewrite_literal="Literal.test:99"),
        route("/field/", "origin", host_rewrite_header="x-host"),
        route("/auto/", "origin", auto_host_rewrite=True)])], [made], rig.port()), concurrency=1)
    for path, wanted in [("/literal/", "literal.test"), ("/field/", "field.test"),
                         ("/auto/", "a.test")]:
        with rig.case(path):
            status, asked = ask(port, path, "a.test", ("x-host", "field.test"))
            assert (status, asked.lower()) == (200, wanted), asked


@limit(60)
def test_a_connection_is_for_one_name(rig):
    """Whatever comes, in turn or at once, gets a connection of its own name; and connections are
    used again."""
    shop = Shop(rig.tmp)
    for http2 in (False, True):
        port, origin = rig.port(), rig.keep(NamedOrigin(shop.server, http2))
        made = cluster(origin.port, transport_socket=upstream_tls(),
                       **options(http2, auto_sni=True))
        proxy = rig.proxy(bootstrap([listener(port)], [made], rig.port()), concurrency=1,
                          name=f"proxy{http2}")
        hosts = [f"h{number}.test" for number in range(20)] + ["127.0.0.1"]
        with rig.case(f"in turn, HTTP/{2 if http2 else 1}"):
            with Client(port) as client:
                for host in hosts * 5:
                    answer = client.ask(headers=[("Host", host)])
                    assert answer.get("x-asked") == (host if "test" in host else "-")
            assert len(origin.connections) == len(hosts), len(origin.connections)
        with rig.case(f"at once, HTTP/{2 if http2 else 1}"):
            def one(number, port=port, hosts=hosts):
                host = hosts[number * 7 % len(hosts)]
                asked = ask(port, "/", host)
                return asked == (200, host if "test" in host else "-")
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                assert all(pool.map(one, range(1000)))
        with rig.case(f"after their ends, HTTP/{2 if http2 else 1}"):
            for connection in origin.connections:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)
            proxy.wait_stat("cluster.origin.upstream_cx_active", 0)
            for host in hosts:
                assert ask(port, "/", host) == (200, host if "test" in host else "-")


def test_connections_ahead(rig):
    """Connections that are made ahead of requests are made for the name of these."""
    shop, port = Shop(rig.tmp), rig.port()
    origin = rig.keep(NamedOrigin(shop.server))
    made = cluster(origin.port, transport_socket=upstream_tls(), **options(auto_sni=True),
                   preconnect_policy={"per_upstream_preconnect_ratio": 3.0})
    proxy = rig.proxy(bootstrap([listener(port)], [made], rig.port()), concurrency=1)
    for host in ("a.test", "b.test"):
        assert ask(port, "/", host) == (200, host)
    proxy.wait_stat("cluster.origin.ssl.handshake", 6)
    assert sorted(origin.names) == ["a.test"] * 3 + ["b.test"] * 3, origin.names


@limit(60)
def test_reasons(rig):
    """A certificate without the name: flag, details, counter, and no connection that stays."""
    shop, port = Shop(rig.tmp), rig.port()
    origin = rig.keep(NamedOrigin(shop.server))
    log, lines = access_log(rig, "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%")
    made = cluster(origin.port, transport_socket=upstream_tls(shop.ca), **options(**BOTH))
    proxy = rig.proxy(bootstrap([listener(port, access_log=log)], [made], rig.port()),
                      concurrency=1)
    answer = get(port, "/", [("Host", "b.other")])
    assert (answer.status, answer.body) == (
        503, b"upstream connect error or disconnect/reset before headers. reset reason: "
             b"remote connection failure")
    flag, details = lines(1)[0].split(" ")
    assert flag == "UF", flag
    assert details.startswith("upstream_reset_before_response_started{remote_connection_failure|"
                              "TLS_error:|"), details
    # Envoy says both lists, too.
    assert "CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_verify_SAN_list" in details, details
    proxy.wait_stat("cluster.origin.ssl.fail_verify_san", 1)
    proxy.wait_stat("cluster.origin.upstream_cx_active", 0)


@limit(60)
def test_sessions(rig):
    """Sessions are resumed by those who ask for the same name. Where another name is validated than
    is asked for there are none: a resumed session is not verified again."""
    shop, port, clusters, routes, origins = Shop(rig.tmp), rig.port(), [], [], {}
    for version in ("1.2", "1.3"):
        for name, given, how in (("sent", BOTH, {}),
                                 ("fixed", {"auto_san_validation": True}, FIXED)):
            where = f"{name}{version}"
            origins[where] = rig.keep(NamedOrigin(shop.server, version=version))
            tls = upstream_tls(shop.ca, common={"tls_params": {
                "tls_maximum_protocol_version": "TLSv1_3"}}, **how)
            clusters.append(cluster(origins[where].port, where, transport_socket=tls,
                                    **options(**given)))
            routes.append(route(f"/{where}/", where))
    rig.proxy(bootstrap([listener(port, routes)], clusters, rig.port()), concurrency=1)
    for where, origin in origins.items():
        with rig.case(where):
            seen = []
            for host in ("a.example.com", "x.w.test", "a.example.com", "x.w.test", "b.other"):
                # Each request needs a connection of its own.
                seen.append(ask(port, f"/{where}/", host, ("x-do", "close"))[0])
            assert seen == [200] * 4 + [503], seen
            if OURS:  # Envoy's one session is for whatever comes next
                wanted = [False, False, True, True] if "sent" in where else [False] * 4
                assert origin.sessions[:4] == wanted, origin.sessions


@only("tidegate")
@limit(120)
def test_many_names(rig):
    """A shard keeps connections for 256 names of a host; for another one, those close that nobody
    has asked for for longest."""
    shop, port = Shop(rig.tmp), rig.port()
    origin = rig.keep(NamedOrigin(shop.server))
    made = cluster(origin.port, transport_socket=upstream_tls(), **options(auto_sni=True))
    proxy = rig.proxy(bootstrap([listener(port)], [made], rig.port()), concurrency=1)
    with Client(port) as client:
        def seen(number):
            host = f"h{number}.test"
            return client.ask(headers=[("Host", host)]).get("x-asked") == host
        assert all(seen(number) for number in range(256))
        assert seen(0) and seen(1)
        assert len(origin.connections) == 256
        assert all(seen(number) for number in range(256, 300))
        proxy.wait_stat("cluster.origin.upstream_cx_pool_overflow", 44)
        proxy.wait_stat("cluster.origin.upstream_cx_active", 256)
        with_room = len(origin.connections)
        assert seen(0) and seen(1) and seen(299), "these were used"
        assert len(origin.connections) == with_room
        assert seen(2) and len(origin.connections) == with_room + 1
