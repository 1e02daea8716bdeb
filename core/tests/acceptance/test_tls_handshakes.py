"""Good and bad certificates, on both sides and over TLS 1.2 and 1.3: who is let in, and what the
others are told. Run with `--kind envoy` it says the same of Envoy 1.40; where the two differ, a
case names both and why.

What it leaves to others: resumption, ALPN and records (`test_tls_connections.py`), secrets that
change (`test_tls_rotation.py`).
"""
import base64
import concurrent.futures
import hashlib

from cryptography.x509.oid import ExtendedKeyUsageOID

from rig import bootstrap, cluster, get, limit, listener, route
from rig.proxy import kind
from rig.tls import (CLIENT, SERVER, SPIFFE, Authority, Certificate, TlsOrigin, attempt,
                     client_context, downstream_tls, issue, raw_sans, secured, upstream_tls)

# What clients are told, in OpenSSL's words.
EXPIRED = "sslv3_alert_certificate_expired"
UNKNOWN_CA = "tlsv1_alert_unknown_ca"
# Ours cannot say what Envoy says.
WRONG_PIN, WRONG_PIN_OF_OURS = "tlsv1_bad_certificate_hash_value", "tlsv1_alert_access_denied"
UNKNOWN = "sslv3_alert_certificate_unknown"
REVOKED = "sslv3_alert_certificate_revoked"
UNSUPPORTED = "sslv3_alert_unsupported_certificate"
# The second is of TLS 1.3, and says more.
FAILURE, REQUIRED = "sslv3_alert_handshake_failure", "tlsv13_alert_certificate_required"
DECRYPT = "tlsv1_alert_decrypt_error"
OK = "200"


class Shop:
    """Certificates of every kind, and what is asked of them."""

    def __init__(self, directory):
        self.directory = directory
        self.root = root = Authority(directory)
        self.other = Authority(directory, "Other CA")
        self.middle = middle = Authority(directory, "Middle CA", root)
        self.deep = deep = Authority(directory, "Deep CA", middle)
        self.closed = Authority(directory, "Closed CA", root, path_length=0)
        below = Authority(directory, "Below CA", self.closed)
        self.server = root.issue(sans=[("dns", "a.example.com"), ("ip", "127.0.0.1")])
        self.good = root.issue()
        self.revoked = root.issue()
        self.crl = root.revoke(self.revoked)
        uri = [("uri", "spiffe://example.com/a")]
        self.certificates = {
            "good": self.good,
            "expired": root.issue(days=(-20, -10)),
            "not yet valid": root.issue(days=(10, 20)),
            "self-signed": issue(directory, root.name, None),
            "unknown CA": self.other.issue(),
            "same name, other key": Authority(directory).issue(),
            "only for servers": root.issue(usage=[SERVER]),
            "only for clients": root.issue(usage=[CLIENT]),
            "for e-mail": root.issue(usage=[ExtendedKeyUsageOID.EMAIL_PROTECTION]),
            "for anything": root.issue(usage=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
            "without usages": root.issue(usage=None),
            "revoked": self.revoked,
            "chained": middle.issue(),
            "intermediate missing": middle.issue(chained=False),
            "deep": deep.issue(),
            "below a closed authority": below.issue(),
            "issued by one that is none": self._under(self.good),
            "RSA": root.issue(key="rsa"),
            "P-384": root.issue(key="ec384"),
            "no names": root.issue(sans=[]),
            "other DNS name": root.issue(sans=[("dns", "b.example.com")]),
            "wildcard": root.issue(sans=[("dns", "*.example.com")]),
            "upper case": root.issue(sans=[("dns", "A.EXAMPLE.com")]),
            "NUL in the name": root.issue(sans=raw_sans((2, b"a.example.com\0.evil.com"))),
            "name only in the subject": root.issue("a.example.com", sans=[("dns", "c.test")]),
            "IP": root.issue(sans=[("ip", "127.0.0.1")]),
            "IP as DNS": root.issue(sans=raw_sans((2, b"127.0.0.1"))),
            "URI": root.issue(sans=uri),
            "URI in upper case": root.issue(sans=raw_sans((6, b"SPIFFE://EXAMPLE.COM/a"))),
            "URI with a slash": root.issue(sans=[("uri", "spiffe://example.com/a/")]),
            "URI with NUL": root.issue(sans=raw_sans((6, b"spiffe://example.com/a\0b"))),
            "URI with an escape": root.issue(sans=[("uri", "spiffe://example.com/%61")]),
            "URI of another domain": root.issue(sans=[("uri", "spiffe://example.org/a")]),
            "two URIs": root.issue(sans=uri + [("uri", "spiffe://example.org/a")]),
            "a URI that is none": root.issue(sans=[("uri", "https://example.com/a")]),
            "SVID that signs": root.issue(sans=uri, key_usage=["digital_signature",
                                                               "key_cert_sign"]),
            "signature not allowed": root.issue(key="rsa", key_usage=["key_encipherment"]),
        }

    def _under(self, leaf):
        """A certificate that a leaf has signed."""
        signer = type("Signer", (), {"name": leaf.certificate.subject, "own": leaf})()
        made = issue(self.directory, leaf.certificate.subject, signer)
        return Certificate(self.directory, made.certificate, made.key, [leaf.certificate])

    def validations(self):
        """Validation contexts by name."""
        ca = {"trusted_ca": {"filename": str(self.root.path)}}
        crl = {**ca, "crl": {"filename": str(self.crl)}}

        def san(san_type, **matcher):
            return {**ca, "match_typed_subject_alt_names": [
                {"san_type": san_type, "matcher": matcher}]}

        good = self.good
        other = "".join(f"{byte:02x}" for byte in hashlib.sha256(b"other").digest())
        spki = base64.b64encode(hashlib.sha256(good.public_key()).digest()).decode()
        colons = ":".join(good.fingerprint()[at:at + 2] for at in range(0, 64, 2)).upper()
        domain = {"name": "example.com", "trust_bundle": {"filename": str(self.root.path)}}
        return {
            "CA": ca,
            "CRL": crl,
            "CRL of leaves": {**crl, "only_verify_leaf_cert_crl": True},
            "expired CRL": {**ca, "crl": {
                "filename": str(self.root.revoke(self.revoked, days=(-20, -10)))}},
            "depth 0": {**ca, "max_verify_depth": 0},
            "depth 1": {**ca, "max_verify_depth": 1},
            "expired allowed": {**ca, "allow_expired_certificate": True},
            "untrusted allowed": {**ca, "trust_chain_verification": "ACCEPT_UNTRUSTED"},
            "intermediate as CA": {"trusted_ca": {"filename": str(self.middle.path)}},
            "leaf as CA": {"trusted_ca": {"filename": str(good.cert_path)}},
            "DNS": san("DNS", exact="a.example.com"),
            "DNS suffix": san("DNS", suffix=".example.com"),
            "DNS regex": san("DNS", safe_regex={"regex": "[ab]\\.example\\.com"}),
            "URI": san("URI", exact="spiffe://example.com/a"),
            "URI prefix": san("URI", prefix="spiffe://example.com/"),
            "URI without case": san("URI", exact="spiffe://example.com/a", ignore_case=True),
            "IP": san("IP_ADDRESS", exact="127.0.0.1"),
            "hash": {"verify_certificate_hash": [good.fingerprint()]},
            "hash with colons": {**ca, "verify_certificate_hash": [colons]},
            "other hash": {**ca, "verify_certificate_hash": [other]},
            "key": {"verify_certificate_spki": [spki]},
            "key or other hash": {**ca, "verify_certificate_spki": [spki],
                                  "verify_certificate_hash": [other]},
            "SPIFFE": {"custom_validator_config": {
                "name": "envoy.tls.cert_validator.spiffe",
                "typed_config": {"@type": SPIFFE, "trust_domains": [domain]}}},
        }


ALL = ["good", "expired", "not yet valid", "self-signed", "unknown CA", "same name, other key",
       "only for servers", "only for clients", "for e-mail", "for anything", "without usages",
       "chained", "intermediate missing", "deep", "below a closed authority",
       "issued by one that is none", "RSA", "P-384", "signature not allowed", "no names"]
NAMES = ["good", "other DNS name", "wildcard", "upper case", "NUL in the name", "no names",
         "name only in the subject"]
URIS = ["good", "URI", "URI in upper case", "URI with a slash", "URI with NUL",
        "URI with an escape", "URI of another domain", "two URIs", "a URI that is none"]
PINS = ["good", "chained", "expired", "unknown CA"]
# Which certificates meet which validation context.
MEETINGS = {
    "CA": ALL,
    "CRL": ["good", "revoked", "chained"], "CRL of leaves": ["good", "revoked", "chained"],
    "expired CRL": ["good", "revoked"],
    "depth 0": ["good", "chained", "deep"], "depth 1": ["good", "chained", "deep"],
    "expired allowed": ["good", "expired", "not yet valid", "unknown CA"],
    "untrusted allowed": ["good", "expired", "self-signed", "unknown CA"],
    "intermediate as CA": ["good", "chained", "intermediate missing", "deep"],
    "leaf as CA": ["good", "chained", "RSA"],
    "DNS": NAMES, "DNS suffix": NAMES, "DNS regex": NAMES,
    "URI": URIS, "URI prefix": URIS, "URI without case": URIS,
    "IP": ["good", "IP", "IP as DNS"],
    "hash": PINS, "hash with colons": PINS, "other hash": PINS, "key": PINS,
    "key or other hash": PINS,
    "SPIFFE": [*URIS, "SVID that signs", "no names", "expired"],
}
# Which of them are refused, and what a client is told then.
NO_NAME = ["NUL in the name", "no names", "name only in the subject"]
NO_DOMAIN = ["good", "URI in upper case", "URI of another domain", "a URI that is none"]
NOT_THE_URI = [*NO_DOMAIN, "URI with a slash", "URI with NUL", "URI with an escape"]
REFUSED = {
    EXPIRED: {"CA": ["expired", "not yet valid"], "expired CRL": ["good", "revoked"],
              "hash with colons": ["expired"], "other hash": ["expired"],
              "key or other hash": ["expired"]},
    DECRYPT: {"CA": ["self-signed", "same name, other key"]},
    UNKNOWN_CA: {"CA": ["unknown CA", "intermediate missing", "below a closed authority",
                        "issued by one that is none"],
                 "CRL": ["chained"], "CRL of leaves": ["chained"],
                 "depth 0": ["chained", "deep"], "depth 1": ["chained", "deep"],
                 "expired allowed": ["unknown CA"], "intermediate as CA": ["good"],
                 "leaf as CA": ["chained", "RSA"], "hash with colons": ["unknown CA"],
                 "other hash": ["unknown CA"], "key or other hash": ["unknown CA"]},
    REVOKED: {"CRL": ["revoked"], "CRL of leaves": ["revoked"]},
    UNSUPPORTED: {"CA": ["only for servers", "for e-mail", "for anything",
                         "signature not allowed"]},
    UNKNOWN: {"DNS": ["other DNS name", *NO_NAME], "DNS suffix": ["upper case", *NO_NAME],
              "DNS regex": ["wildcard", "upper case", *NO_NAME],
              "URI": NOT_THE_URI, "URI prefix": NO_DOMAIN,
              "URI without case": [name for name in NOT_THE_URI if name != "URI in upper case"],
              "IP": ["good", "IP as DNS"],
              "SPIFFE": [*NO_DOMAIN, "SVID that signs", "no names", "expired"]},
    WRONG_PIN: {"hash": ["chained", "expired", "unknown CA"], "hash with colons": ["chained"],
                "other hash": ["good", "chained"], "key": ["chained", "expired", "unknown CA"],
                "key or other hash": ["chained"]},
}
# Where we differ: what is right, and why.
OURS = {
    # A name ends where it ends, and not at a NUL (as in CVE-2026-47778).
    ("URI prefix", "URI with NUL"): UNKNOWN,
    ("SPIFFE", "URI with NUL"): UNKNOWN,
    # An X.509-SVID has exactly one URI.
    ("SPIFFE", "two URIs"): UNKNOWN,
    # It is the list that has expired, so nothing is known of the certificate.
    ("expired CRL", "good"): UNKNOWN_CA,
    ("expired CRL", "revoked"): UNKNOWN_CA,
}
ENVOY = {
    # Over 1.3 BoringSSL finds it later, with a general alert.
    ("CA", "signature not allowed"): f"{UNSUPPORTED} | sslv3_alert_illegal_parameter",
}
# Servers: Envoy does not count how deep their chains are; and over 1.2 it trips over the error
# that a signature left behind which is not the root's.
ENVOY_SERVERS = {("depth 0", "chained"): OK, ("depth 0", "deep"): OK, ("depth 1", "chained"): OK,
                 ("depth 1", "deep"): OK, ("untrusted allowed", "self-signed"): "503 | 200"}
# Over 1.2 its curve is not among those that are offered for signatures.
OFFERED = {("CA", "P-384"): "503 | 200"}


def expected_of_client(key):
    """What a client is told by the proxy under test."""
    special = OURS if kind() == "tidegate" else ENVOY
    validation, shown = key
    alerts = [alert for alert, table in REFUSED.items() if shown in table.get(validation, [])]
    told_by_us = WRONG_PIN_OF_OURS if kind() == "tidegate" and alerts == [WRONG_PIN] else None
    return special.get(key) or told_by_us or next(iter(alerts), OK)


def expected_of_server(key):
    """What becomes of a request to a server."""
    if kind() == "envoy" and key in ENVOY_SERVERS:
        return ENVOY_SERVERS[key]
    validation, shown = key
    swapped = {"only for clients": "only for servers", "only for servers": "only for clients"}
    verdict = expected_of_client((validation, swapped.get(shown, shown)))
    return OFFERED.get(key) or (OK if verdict == OK else "503")


def told(outcomes):
    """What a client was told, by version: one word when it is the same."""
    first, second = outcomes
    return first if first == second else f"{first} | {second}"


@limit(120)
def test_client_certificates(rig):
    """Every client certificate with every validation context that it may matter to, over both
    versions."""
    shop = Shop(rig.tmp)
    origin = rig.origin()
    ports, listeners = {}, []
    for name, validation in shop.validations().items():
        ports[name] = rig.port()
        socket = downstream_tls([shop.server], validation, require_client_certificate=True)
        listeners.append(secured(listener(ports[name], name=name), socket))
    proxy = rig.proxy(bootstrap(listeners, [cluster(origin.port)], rig.port()), concurrency=1)
    for name, certificates in MEETINGS.items():
        for shown in certificates:
            with rig.case(f"{name}: {shown}"):
                seen = told([attempt(ports[name],
                                     client_context(version, shop.certificates[shown]))
                             for version in ("1.2", "1.3")])
                wanted = expected_of_client((name, shown))
                assert seen == wanted, f"SAW {(name, shown)!r}: {seen!r}, not {wanted}"
    with rig.case("the proxy is well"):
        assert proxy.fetch("/ready")[0] == 200


@limit(60)
def test_asking_for_client_certificates(rig):
    """Required, requested or not asked for; shown, not shown, or a wrong one."""
    shop = Shop(rig.tmp)
    origin = rig.origin()
    ca = shop.validations()["CA"]
    contexts = {"required": downstream_tls([shop.server], ca, require_client_certificate=True),
                "requested": downstream_tls([shop.server], ca),
                "not asked for": downstream_tls([shop.server])}
    ports = {name: rig.port() for name in contexts}
    rig.proxy(bootstrap([secured(listener(ports[name], name=name), socket)
                         for name, socket in contexts.items()],
                        [cluster(origin.port)], rig.port()), concurrency=1)
    outcomes = {
        ("required", None): REQUIRED if kind() == "tidegate" else f"{FAILURE} | {REQUIRED}",
        ("required", "good"): OK,
        ("required", "unknown CA"): UNKNOWN_CA,
        ("requested", None): OK, ("requested", "good"): OK, ("requested", "unknown CA"): UNKNOWN_CA,
        ("not asked for", None): OK, ("not asked for", "good"): OK,
        ("not asked for", "unknown CA"): OK}
    for (asked, shown), wanted in outcomes.items():
        with rig.case(f"{asked}: {shown}"):
            seen = told([attempt(ports[asked], client_context(version, shown and
                                                              shop.certificates[shown]))
                         for version in ("1.2", "1.3")])
            assert seen == wanted, f"SAW {(asked, shown)!r}: {seen!r}"


def ask_upstream(port, path):
    """What a client gets, in short."""
    answer = get(port, path)
    if answer.status == 200:
        return OK
    assert answer.body == b"upstream connect error or disconnect/reset before headers. " \
                          b"reset reason: remote connection failure", answer.body
    return str(answer.status)


@limit(120)
def test_server_certificates(rig):
    """The same certificates shown by origins, over both versions: 200, or 503 with a reason."""
    shop = Shop(rig.tmp)
    port, clusters, routes, rows = rig.port(), [], [], []
    origins = {(shown, version): rig.keep(TlsOrigin(certificate, version=version))
               for shown, certificate in shop.certificates.items() for version in ("1.2", "1.3")}
    validations = shop.validations()
    for name, certificates in MEETINGS.items():
        for shown in certificates:
            for version in ("1.2", "1.3"):
                number = len(routes)
                socket = upstream_tls(validations[name], common={"tls_params": {
                    "tls_maximum_protocol_version": "TLSv1_3"}})
                clusters.append(cluster(origins[shown, version].port, f"c{number}",
                                        transport_socket=socket))
                routes.append(route(f"/{number}/", f"c{number}"))
            rows.append((name, shown, len(routes) - 2))
    proxy = rig.proxy(bootstrap([listener(port, routes)], clusters, rig.port()), concurrency=1,
                      ready=30)
    for name, shown, number in rows:
        with rig.case(f"{name}: {shown}"):
            seen = told([ask_upstream(port, f"/{number + more}/") for more in (0, 1)])
            wanted = expected_of_server((name, shown))
            assert seen == wanted, f"SAW {(name, shown)!r}: {seen!r}, not {wanted}"
    with rig.case("the proxy is well"):
        assert proxy.fetch("/ready")[0] == 200


@limit(60)
def test_names_of_servers(rig):
    """`sni` with `auto_sni_san_validation`: the certificate must have the name that was asked
    for."""
    shop = Shop(rig.tmp)
    ca = shop.validations()["CA"]
    port, clusters, routes, rows = rig.port(), [], [], []
    shown = [*NAMES, "IP", "IP as DNS"]
    for name in shown:
        for sni in ("a.example.com", "127.0.0.1", "A.Example.COM", "example.com"):
            origin = rig.keep(TlsOrigin(shop.certificates[name]))
            rows.append((name, sni, origin))
            socket = upstream_tls(ca, sni=sni, auto_sni_san_validation=True)
            clusters.append(cluster(origin.port, f"c{len(rows)}", transport_socket=socket))
            routes.append(route(f"/{len(rows)}/", f"c{len(rows)}"))
    rig.proxy(bootstrap([listener(port, routes)], clusters, rig.port()), concurrency=1)
    # An address belongs into a name of that kind (RFC 9525), where Envoy does not look.
    addresses = ["IP", "IP as DNS"] if kind() == "tidegate" else ["IP as DNS"]
    good = {"a.example.com": ["good", "wildcard", "upper case"], "127.0.0.1": addresses,
            "A.Example.COM": ["good", "wildcard", "upper case"], "example.com": []}
    for number, (name, sni, origin) in enumerate(rows):
        with rig.case(f"{name} as {sni}"):
            seen = ask_upstream(port, f"/{number + 1}/")
            wanted = OK if name in good[sni] else "503"
            assert seen == wanted, f"SAW {(name, sni)!r}: {seen!r}; asked for {origin.names}"


@limit(60)
def test_our_certificate_upstream(rig):
    """An origin that requires a certificate gets ours, or refuses us."""
    shop = Shop(rig.tmp)
    ca = shop.validations()["CA"]
    shown = {"good": OK, "chained": OK, "RSA": OK, "unknown CA": "503", "expired": "503",
             None: "503"}
    port, clusters, routes = rig.port(), [], []
    for number, name in enumerate(shown):
        for version in ("1.2", "1.3"):
            origin = rig.keep(TlsOrigin(shop.server, trusted=shop.root.path, version=version))
            where = f"c{number}-{version}"
            socket = upstream_tls(ca, name and shop.certificates[name], common={"tls_params": {
                "tls_maximum_protocol_version": "TLSv1_3"}})
            clusters.append(cluster(origin.port, where, transport_socket=socket))
            routes.append(route(f"/{number}/{version}", where))
    rig.proxy(bootstrap([listener(port, routes)], clusters, rig.port()), concurrency=1)
    for number, (name, wanted) in enumerate(shown.items()):
        for version in ("1.2", "1.3"):
            with rig.case(f"{name} over {version}"):
                seen = get(port, f"/{number}/{version}")
                assert str(seen.status) == wanted, f"SAW {seen.status} {seen.body}"


def test_many_handshakes_at_once(rig):
    """Good ones beside bad ones, at once, on two shards."""
    shop = Shop(rig.tmp)
    origin = rig.origin()
    port = rig.port()
    socket = downstream_tls([shop.server], shop.validations()["CA"],
                            require_client_certificate=True)
    proxy = rig.proxy(bootstrap([secured(listener(port), socket)], [cluster(origin.port)],
                                rig.port()))
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        seen = list(pool.map(lambda number: attempt(port, client_context(
            certificate=shop.certificates[("good", "expired", "unknown CA")[number % 3]])),
            range(300)))
    assert seen == [OK, EXPIRED, UNKNOWN_CA] * 100, set(enumerate(seen))
    proxy.wait_stat("http.main.downstream_cx_active", 0)
