"""What is told of TLS: stats, access logs, reasons of failures, and `x-forwarded-client-cert`. Each
value is Envoy's, except where a test says otherwise.

What it leaves to others: whether handshakes succeed (`test_tls_handshakes.py`).
"""
import socket
import time
import urllib.parse

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from rig import access_log, bootstrap, cluster, get, limit, listener, route
from rig.proxy import kind, wait_until
from rig.tls import (Authority, TlsClient, TlsOrigin, attempt, client_context, downstream_tls, pem,
                     secured, upstream_tls)

# Envoy takes the client's order in TLS 1.3, we take ours.
CIPHER = "TLS_AES_128_GCM_SHA256" if kind() == "tidegate" else "TLS_AES_256_GCM_SHA384"
XFCC = "x-forwarded-client-cert"
NAME = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
                  x509.NameAttribute(NameOID.ORGANIZATION_NAME, 'Acme, "Inc"; x'),
                  x509.NameAttribute(NameOID.COMMON_NAME, "client")])
SUBJECT = 'CN=client,O=Acme\\, \\"Inc\\"\\; x,C=DE'
EVERYTHING = {"subject": True, "cert": True, "chain": True, "dns": True, "uri": True}


class Shop:
    """An authority and what it has issued."""

    def __init__(self, directory):
        self.root = Authority(directory)
        self.ca = {"trusted_ca": {"filename": str(self.root.path)}}
        self.server = self.root.issue(sans=[("uri", "spiffe://a/server"), ("dns", "a.example.com")])
        self.client = self.root.issue(NAME, sans=[
            ("dns", "a.example.com"), ("uri", "spiffe://a/b"), ("ip", "10.0.0.1")])
        self.many = self.root.issue("many", sans=[
            ("uri", "spiffe://a/b"), ("uri", "spiffe://a/c"), ("dns", "x.test"), ("dns", "y.test")])
        self.chained = Authority(directory, "Middle", self.root).issue("c", sans=[])
        self.stranger = Authority(directory, "Other").issue()


def escaped(*certificates):
    """PEM as it stands in headers and logs."""
    return "".join(urllib.parse.quote(pem(one).decode(), safe="") for one in certificates)


def element(certificate, details=None):
    """What XFCC says of a client, with all details or without."""
    parts = ["By=spiffe://a/server", f"Hash={certificate.fingerprint()}"]
    if details:
        names = certificate.certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        parts += [f'Cert="{escaped(certificate.certificate)}"',
                  f'Chain="{escaped(certificate.certificate, *certificate.chain)}"',
                  f'Subject="{details}"', *[f"URI={uri}" for uri in uris],
                  *[f"DNS={name}" for name in names.get_values_for_type(x509.DNSName)]]
    return ";".join(parts)


@limit(60)
def test_forward_client_cert(rig):
    """All modes, with and without a certificate, with and without the field in the request, and
    over plain connections."""
    shop, origin = Shop(rig.tmp), rig.origin()
    modes = ["SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"]
    ports = {(mode, plain): rig.port() for mode in modes for plain in (False, True)}
    listeners = []
    for (mode, plain), port in ports.items():
        made = listener(port, name=f"{mode}-{plain}", forward_client_cert_details=mode,
                        set_current_client_cert_details=EVERYTHING)
        listeners.append(made if plain else secured(made, downstream_tls([shop.server], shop.ca)))
    few = rig.port()
    listeners.append(secured(listener(few, name="few", forward_client_cert_details="SANITIZE_SET"),
                             downstream_tls([shop.server], shop.ca)))
    rig.proxy(bootstrap(listeners, [cluster(origin.port)], rig.port()), concurrency=1)
    given = "By=x;Hash=y"
    whole = element(shop.client, SUBJECT)
    expected = {  # with a certificate: without the field, with it; without a certificate; plain
        "SANITIZE": ([], [], [], []), "FORWARD_ONLY": ([], [given], [], []),
        "APPEND_FORWARD": ([whole], [f"{given},{whole}"], [], []),
        "SANITIZE_SET": ([whole], [whole], [], []),
        "ALWAYS_FORWARD_ONLY": ([], [given], [given], [given])}

    def seen(port, certificate=None, fields=(), plain=False):
        if plain:
            get(port, headers=fields)
        else:
            with TlsClient(port, client_context(certificate=certificate)) as client:
                assert client.ask(headers=fields).status == 200
        return origin.last.all(XFCC)
    for mode, wanted in expected.items():
        port = ports[mode, False]
        with rig.case(mode):
            found = (seen(port, shop.client), seen(port, shop.client, [(XFCC, given)]),
                     seen(port, None, [(XFCC, given)]),
                     seen(ports[mode, True], None, [(XFCC, given)], plain=True))
            assert found == wanted, f"{found} not {wanted}"
    port = ports["SANITIZE_SET", False]
    with rig.case("several names"):
        assert seen(port, shop.many) == [element(shop.many, "CN=many")]
    with rig.case("no details"):
        assert seen(few, shop.client) == [element(shop.client)]
    with rig.case("a chain, and no names"):
        line, = seen(port, shop.chained)
        middle = shop.chained.chain[0]
        assert f'Chain="{escaped(shop.chained.certificate, middle)}"' in line, line
        assert line.endswith(';Subject="CN=c";URI='), line


FIELDS = """DOWNSTREAM_TLS_VERSION DOWNSTREAM_TLS_CIPHER DOWNSTREAM_TLS_GROUP
DOWNSTREAM_PEER_SUBJECT DOWNSTREAM_PEER_ISSUER DOWNSTREAM_PEER_URI_SAN DOWNSTREAM_PEER_DNS_SAN
DOWNSTREAM_PEER_IP_SAN DOWNSTREAM_PEER_EMAIL_SAN DOWNSTREAM_PEER_FINGERPRINT_256
DOWNSTREAM_PEER_FINGERPRINT_1 DOWNSTREAM_PEER_SERIAL DOWNSTREAM_PEER_CERT
DOWNSTREAM_PEER_CERT_V_START DOWNSTREAM_PEER_CERT_V_END DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256
DOWNSTREAM_PEER_CHAIN_SERIALS DOWNSTREAM_LOCAL_SUBJECT DOWNSTREAM_LOCAL_URI_SAN
DOWNSTREAM_LOCAL_DNS_SAN UPSTREAM_TLS_VERSION UPSTREAM_TLS_CIPHER UPSTREAM_PEER_SUBJECT
UPSTREAM_PEER_ISSUER UPSTREAM_PEER_URI_SAN UPSTREAM_PEER_DNS_SAN UPSTREAM_PEER_CERT
UPSTREAM_LOCAL_URI_SAN RESPONSE_FLAGS""".split()


def facts(shop, version, certificate):
    """What is expected of `FIELDS`."""
    cipher = {"1.2": "ECDHE-ECDSA-AES128-GCM-SHA256", "1.3": CIPHER}[version]
    server = ["CN=a.example.com", "CN=Test CA", "spiffe://a/server", "a.example.com",
              escaped(shop.server.certificate)]
    if certificate is None:
        peer = ["-"] * 14
    else:
        made = certificate.certificate
        serial = f"{made.serial_number:x}"
        serial = "0" * (len(serial) % 2) + serial
        moment = "%Y-%m-%dT%H:%M:%S.000Z"
        peer = [SUBJECT, "CN=Test CA", "spiffe://a/b", "a.example.com", "10.0.0.1", "-",
                certificate.fingerprint(), made.fingerprint(hashes.SHA1()).hex(), serial,
                escaped(made), made.not_valid_before_utc.strftime(moment),
                made.not_valid_after_utc.strftime(moment), certificate.fingerprint(), serial]
    return [f"TLSv{version}", cipher, "X25519", *peer, "CN=a.example.com", "spiffe://a/server",
            "a.example.com", "TLSv1.3", "TLS_AES_256_GCM_SHA384", *server, "spiffe://a/b", "-"]


@limit(60)
def test_access_log(rig):
    """Operators of TLS, on both sides."""
    shop = Shop(rig.tmp)
    origin = rig.keep(TlsOrigin(shop.server, trusted=shop.root.path))
    log, lines = access_log(rig, "|".join(f"%{name}%" for name in FIELDS))
    port = rig.port()
    made = secured(listener(port, access_log=log), downstream_tls([shop.server], shop.ca))
    upstream = upstream_tls(shop.ca, shop.client, common={"tls_params": {
        "tls_maximum_protocol_version": "TLSv1_3"}})
    rig.proxy(bootstrap([made], [cluster(origin.port, transport_socket=upstream)], rig.port()))
    rows = [(version, certificate) for version in ("1.2", "1.3")
            for certificate in (shop.client, None)]
    for number, (version, certificate) in enumerate(rows):
        context = client_context(version, certificate)
        if version == "1.2":
            context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        with TlsClient(port, context) as client:
            assert client.ask().status == 200
        if kind() == "tidegate":
            lines(number + 1)
    for line, row in zip(lines(len(rows)), rows):
        with rig.case(f"{row[0]} {'with' if row[1] else 'without'} a certificate"):
            found = dict(zip(FIELDS, line.split("|")))
            wanted = dict(zip(FIELDS, facts(shop, *row)))
            wrong = {name: (found[name], wanted[name]) for name in FIELDS
                     if found[name].replace('\\x22', '"').replace("\\x5c", "\\") != wanted[name]}
            assert not wrong, wrong


@limit(60)
def test_reasons_of_failures(rig):
    """The 503 of a handshake that failed: flag, details and reason."""
    shop = Shop(rig.tmp)
    log, lines = access_log(rig, "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% "
                                 "%UPSTREAM_TRANSPORT_FAILURE_REASON%")
    origin = rig.keep(TlsOrigin(shop.stranger))
    plain = rig.raw_origin(lambda connection: connection.send(b"HTTP/1.1 400 Bad\r\n\r\n"))
    port = rig.port()
    rig.proxy(bootstrap(
        [listener(port, [route("/plain", "plain"), route("/", "bad")], access_log=log)],
        [cluster(origin.port, "bad", transport_socket=upstream_tls(shop.ca)),
         cluster(plain.port, "plain", transport_socket=upstream_tls(shop.ca))], rig.port()))
    for path, reason in (("/", "unable_to_get_local_issuer_certificate"),
                         ("/plain", "WRONG_VERSION_NUMBER")):
        with rig.case(path):
            answer = get(port, path)
            assert (answer.status, answer.body) == (
                503, b"upstream connect error or disconnect/reset before headers. reset reason: "
                     b"remote connection failure")
            flag, details, told = lines(1 if path == "/" else 2)[-1].split(" ")
            assert flag == "UF"
            assert details == f"upstream_reset_before_response_started{{remote_connection_failure|" \
                              f"{told}}}", details
            assert told.startswith("TLS_error:|") and told.endswith(":TLS_error_end"), told
            assert reason in told, told


@limit(60)
def test_stats(rig):
    """Handshakes are counted by what they came to, on both sides."""
    shop = Shop(rig.tmp)
    good, bad = rig.keep(TlsOrigin(shop.server)), rig.keep(TlsOrigin(shop.stranger))
    named = {**shop.ca, "match_typed_subject_alt_names": [
        {"san_type": "DNS", "matcher": {"exact": "elsewhere.test"}}]}
    pinned = {"verify_certificate_hash": ["00" * 32]}
    port, strict = rig.port(), rig.port()
    routes = [route(f"/{name}", name) for name in ("good", "bad", "named", "pinned")]
    proxy = rig.proxy(bootstrap(
        [secured(listener(port, routes), downstream_tls([shop.server], shop.ca)),
         secured(listener(strict, routes, name="strict"),
                 downstream_tls([shop.server], shop.ca, require_client_certificate=True))],
        [cluster(good.port, "good", transport_socket=upstream_tls(shop.ca)),
         cluster(bad.port, "bad", transport_socket=upstream_tls(shop.ca)),
         cluster(good.port, "named", transport_socket=upstream_tls(named)),
         cluster(good.port, "pinned", transport_socket=upstream_tls(pinned))], rig.port()),
        concurrency=1)
    context = client_context("1.3", shop.client)
    with TlsClient(port, context) as client:
        assert client.ask("/good").status == 200
        for path in ("/bad", "/named", "/pinned"):
            assert client.ask(path).status == 503
        session = client.sock.session
    with TlsClient(port, context, session=session) as client:
        assert client.ask("/good").status == 200
    with TlsClient(port, client_context("1.2")) as client:
        assert client.ask("/good").status == 200
    assert attempt(port, client_context("1.3", shop.stranger)) != "200"
    assert attempt(strict, client_context("1.3")) != "200"
    with socket.create_connection(("127.0.0.1", port)) as garbage:
        garbage.sendall(b"GET / HTTP/1.1\r\n\r\n")
        garbage.recv(100)
    ours, theirs = f"listener.127.0.0.1_{port}.ssl.", f"listener.127.0.0.1_{strict}.ssl."
    wanted = {ours + "handshake": 3, ours + "session_reused": 1, ours + "no_certificate": 1,
              ours + "fail_verify_error": 1, ours + "connection_error": 1,
              ours + "versions.TLSv1.3": 2, ours + "versions.TLSv1.2": 1,
              ours + f"ciphers.{CIPHER}": 2, ours + "curves.X25519": 3,
              theirs + "fail_verify_no_cert": 1, theirs + "handshake": 0,
              "cluster.good.ssl.handshake": 1, "cluster.good.ssl.session_reused": 0,
              "cluster.bad.ssl.fail_verify_error": 1, "cluster.bad.ssl.handshake": 0,
              "cluster.named.ssl.fail_verify_san": 1,
              "cluster.pinned.ssl.fail_verify_cert_hash": 1}
    for name, value in wanted.items():
        with rig.case(name.replace(str(port), "PORT").replace(str(strict), "STRICT")):
            proxy.wait_stat(name, value, 2)
    with rig.case("what was not used is not shown"):
        assert not [name for name in proxy.stats() if name.startswith(theirs + "ciphers")]


@limit(60)
def test_a_handshake_that_takes_too_long(rig):
    """`transport_socket_connect_timeout` ends it, and is counted."""
    shop = Shop(rig.tmp)
    port = rig.port()
    made = secured(listener(port), downstream_tls([shop.server]))
    made["filter_chains"][0]["transport_socket_connect_timeout"] = "0.5s"
    proxy = rig.proxy(bootstrap([made], [cluster(rig.origin().port)], rig.port()))
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"\x16\x03\x01")
        sock.settimeout(5)
        assert sock.recv(10) == b""
    assert 0.3 < time.monotonic() - began < 2
    name = f"listener.127.0.0.1_{port}.downstream_cx_transport_socket_connect_timeout"
    wait_until(lambda: proxy.stat(name) == 1, 2, lambda: proxy.stat(name))
