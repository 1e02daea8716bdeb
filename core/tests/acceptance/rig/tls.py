"""TLS for tests: authorities and certificates of any kind, contexts of listeners and clusters, a
client and an origin that speak it.

What it leaves to others: what must hold (`test_tls_*.py`). Certificates come from the package
`cryptography`, sessions from Python's own `ssl`, that is OpenSSL.
"""
import contextlib
import datetime
import ipaddress
import select
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from . import client as http_client
from .origin import HttpOrigin, RawOrigin

TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
SPIFFE = TLS + "SPIFFECertValidatorConfig"
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
KINDS = {"dns": x509.DNSName, "uri": x509.UniformResourceIdentifier, "email": x509.RFC822Name,
         "ip": lambda text: x509.IPAddress(ipaddress.ip_address(text))}


def new_key(kind="ec"):
    """A private key: `ec`, `ec384`, or `rsa`."""
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP384R1() if kind == "ec384" else ec.SECP256R1())


def pem(thing):
    """A certificate, a key or a list of revoked certificates, as PEM."""
    if hasattr(thing, "private_bytes"):
        return thing.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                   serialization.NoEncryption())
    return thing.public_bytes(serialization.Encoding.PEM)


class Certificate:
    """A certificate with its key. `chain` is what follows it, and goes into its file."""

    def __init__(self, directory, certificate, key, chain=()):
        self.certificate, self.key, self.chain = certificate, key, list(chain)
        stem = f"{certificate.serial_number:x}"
        self.cert_path, self.key_path = directory / f"{stem}.pem", directory / f"{stem}.key"
        self.cert_path.write_bytes(pem(certificate) + b"".join(map(pem, self.chain)))
        self.key_path.write_bytes(pem(key))

    def fingerprint(self):
        """SHA-256 of it, in hexadecimal digits."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def der(self):
        """Its DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def public_key(self):
        """DER of its SubjectPublicKeyInfo."""
        return self.certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    def config(self):
        """A `TlsCertificate`."""
        return {"certificate_chain": {"filename": str(self.cert_path)},
                "private_key": {"filename": str(self.key_path)}}


class Authority:
    """One that issues certificates."""

    def __init__(self, directory, name="Test CA", signer=None, **options):
        self.directory, self.signer = directory, signer
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.own = issue(directory, self.name, signer, is_authority=True, **options)
        self.path = self.own.cert_path

    def issue(self, name="a.example.com", sans=None, chained=True, **options):
        """A certificate; its file has the authorities up to the root, unless not `chained`."""
        subject = name if isinstance(name, x509.Name) else \
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        sans = [("dns", "a.example.com")] if sans is None else sans
        made = issue(self.directory, subject, self, sans=sans, **options)
        above, chain = self, []
        while chained and above.signer:
            chain.append(above.own.certificate)
            above = above.signer
        return Certificate(self.directory, made.certificate, made.key, chain)

    def revoke(self, *revoked, days=(-1, 30)):
        """The path of a list of revoked certificates."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name)
        builder = builder.last_update(moment(days[0])).next_update(moment(days[1]))
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().revocation_date(moment(-1))
            number = one.certificate.serial_number
            builder = builder.add_revoked_certificate(entry.serial_number(number).build())
        builder = builder.add_extension(x509.CRLNumber(1), False)
        made = builder.sign(self.own.key, hashes.SHA256())
        path = self.directory / f"{len(list(self.directory.iterdir()))}.crl"
        path.write_bytes(pem(made))
        return path


def moment(days):
    """So many days from now."""
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)


def issue(directory, subject, signer, sans=(), days=(-1, 30), usage=(SERVER, CLIENT), key="ec",
          is_authority=False, key_usage=None, path_length=None, extensions=()):
    """A certificate; without a signer it signs itself."""
    # pylint: disable=too-many-arguments
    own_key = new_key(key)
    builder = x509.CertificateBuilder().subject_name(subject).public_key(own_key.public_key())
    builder = builder.issuer_name(signer.name if signer else subject)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(moment(days[0])).not_valid_after(moment(days[1]))
    constraints = x509.BasicConstraints(is_authority, path_length)
    builder = builder.add_extension(constraints, critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(own_key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    if sans:
        names = sans if isinstance(sans, x509.UnrecognizedExtension) else \
            x509.SubjectAlternativeName([KINDS[kind](text) for kind, text in sans])
        builder = builder.add_extension(names, critical=False)
    if usage and not is_authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    allowed = key_usage or (["key_cert_sign", "crl_sign"] if is_authority else
                            ["digital_signature", "key_encipherment"])
    every = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
             "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    bits = x509.KeyUsage(**{name: name in allowed for name in every})
    builder = builder.add_extension(bits, critical=True)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    made = builder.sign(signer.own.key if signer else own_key, hashes.SHA256())
    return Certificate(directory, made, own_key)


def raw_sans(*names):
    """Names as bytes, by their tag (2: DNS, 6: URI), for what no library would write."""
    body = b"".join(bytes([0x80 | tag, len(data)]) + data for tag, data in names)
    return x509.UnrecognizedExtension(x509.OID_SUBJECT_ALTERNATIVE_NAME,
                                      b"\x30" + bytes([len(body)]) + body)


def downstream_tls(certificates, validation=None, common=None, **context):
    """A transport socket of a listener."""
    made = {"tls_certificates": [one.config() for one in certificates], **(common or {})}
    if validation is not None:
        made["validation_context"] = validation
    return {"name": "tls", "typed_config": {
        "@type": TLS + "DownstreamTlsContext", "common_tls_context": made, **context}}


def upstream_tls(validation=None, certificate=None, common=None, **context):
    """A transport socket of a cluster."""
    made = dict(common or {})
    if certificate:
        made["tls_certificates"] = [certificate.config()]
    if validation is not None:
        made["validation_context"] = validation
    return {"name": "tls", "typed_config": {
        "@type": TLS + "UpstreamTlsContext", "common_tls_context": made, **context}}


def secured(listener, socket):
    """A listener that speaks TLS."""
    listener["filter_chains"][0]["transport_socket"] = socket
    return listener


def client_context(version=None, certificate=None, trusted=None, alpn=None):
    """How a client shakes hands; it trusts any server unless an authority is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if trusted is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(trusted)
    if version:
        context.minimum_version = context.maximum_version = VERSIONS[version]
    if certificate:
        context.load_cert_chain(certificate.cert_path, certificate.key_path)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


class TlsClient(http_client.Client):
    """A client that speaks TLS; what it sends and reads is plaintext."""

    def __init__(self, port, context=None, name=None, timeout=10.0, session=None):
        super().__init__(port, timeout)
        context = context or client_context()
        self.sock = self.reader.sock = context.wrap_socket(
            self.sock, server_hostname=name, session=session, suppress_ragged_eofs=False)


def attempt(port, context, name=None):
    """`200`, or what became of a request: the alert that came, or how the connection ended. The
    request goes with the client's last flight, so that a refusal of that is always read."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname=name)
    data = b""
    with http_client.Client(port) as client:
        try:
            while not _done(session.do_handshake):
                _exchange(client.sock, incoming, outgoing)
            session.write(b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n")
            while b"\r\n\r\n" not in data:
                if part := _done(lambda: session.read(65536)):
                    data += part
                else:
                    _exchange(client.sock, incoming, outgoing)
            return data.split(b" ", 2)[1].decode()
        except ssl.SSLError as error:
            return (error.reason or str(error)).lower()
        except OSError as error:
            return error.strerror or str(error)


def _done(step):
    """What a step came to; nothing when it needs more input."""
    try:
        return step() or True
    except ssl.SSLWantReadError:
        return None


def _exchange(sock, incoming, outgoing):
    """Sends what there is and waits for something."""
    with contextlib.suppress(OSError):  # what the peer has said before it went is read below
        sock.sendall(outgoing.read())
    if data := sock.recv(65536):
        incoming.write(data)
    else:
        incoming.write_eof()


class TlsOrigin(HttpOrigin):
    """An `HttpOrigin` that speaks TLS. `failures` has the handshakes that went wrong."""

    def __init__(self, certificate, answer=None, trusted=None, version=None, alpn=None):
        # pylint: disable=too-many-arguments
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate.cert_path, certificate.key_path)
        if trusted:
            self.context.load_verify_locations(trusted)
            self.context.verify_mode = ssl.CERT_REQUIRED
        if version:
            self.context.minimum_version = self.context.maximum_version = VERSIONS[version]
        if alpn:
            self.context.set_alpn_protocols(alpn)
        self.failures, self.names, self.sessions = [], [], []
        self.context.sni_callback = lambda _, name, __: self.names.append(name)
        super().__init__(answer)

    def _serve(self, connection):
        try:
            connection.sock = connection.reader.sock = \
                self.context.wrap_socket(connection.sock, server_side=True)
            self.sessions.append(connection.sock.session_reused)
        except OSError as error:
            self.failures.append(error)
            connection.sock.close()
            connection.ended.set()
            return
        super()._serve(connection)


class TlsBridge(RawOrigin):
    """For clients that speak no TLS: each connection goes on over TLS, with `h2` agreed on."""

    def __init__(self, port):
        self.to = port
        super().__init__(self._bridge)

    def _bridge(self, connection):
        context = client_context(alpn=["h2"])
        with TlsClient(self.to, context, timeout=None) as client:
            assert client.sock.selected_alpn_protocol() == "h2"
            connection.sock.settimeout(None)
            while True:
                # The session may hold what select does not see.
                waits = 0 if client.sock.pending() else None
                ready = select.select([connection.sock, client.sock], [], [], waits)[0]
                if client.sock in ready or client.sock.pending():
                    # A session ticket is readable too, and nothing that can be passed on.
                    client.sock.settimeout(0)
                    with contextlib.suppress(ssl.SSLWantReadError):
                        if not (data := client.sock.recv(65536)):
                            return
                        connection.send(data)
                    client.sock.settimeout(None)
                if connection.sock in ready:
                    if not (data := connection.sock.recv(65536)):
                        return
                    client.send(data)
