"""Secrets that change while the proxy runs: new handshakes get the new ones, and nothing fails.

What it leaves to others: how contexts are built again (`core/src/control`).
"""
import json
import re
import shutil
import threading
import time

from rig import alone, bootstrap, cluster, limit, listener, once
from rig.proxy import kind, wait_until
from rig.tools import run
from rig.tls import (TLS, Authority, TlsClient, client_context, downstream_tls, pem,
                     secured)

ROTATIONS = 1000


class Rotated:
    """A certificate that a file names, which is moved into place."""

    def __init__(self, directory):
        self.directory = directory / "secret"
        self.directory.mkdir()
        self.file = self.directory / "sds.yaml"

    def move(self, cert, key):
        """Has the file say so, by a rename."""
        resource = {"@type": TLS + "Secret", "name": "server", "tls_certificate": {
            "certificate_chain": {"inline_string": cert},
            "private_key": {"inline_string": key}}}
        new = self.directory / "new"
        new.write_text(json.dumps({"resources": [resource]}))
        new.rename(self.file)

    def put(self, certificate):
        """The same for a good one."""
        self.move(pem(certificate.certificate).decode(), pem(certificate.key).decode())

    def config(self):
        """`tls_certificate_sds_secret_configs`"""
        return {"tls_certificate_sds_secret_configs": [{"name": "server", "sds_config": {
            "path_config_source": {"path": str(self.file)}, "resource_api_version": "V3"}}],
            "tls_certificates": []}


def shown(port):
    """The certificate that a new connection gets."""
    with TlsClient(port, client_context("1.3")) as client:
        return client.sock.getpeercert(True)


def front(rig, secret):
    """A proxy whose certificate is in a file."""
    port = rig.port()
    common = {**secret.config(), "alpn_protocols": ["h2", "http/1.1"]}
    made = secured(listener(port), downstream_tls([], common=common))
    origin = rig.nginx()
    return rig.proxy(bootstrap([made], [cluster(origin.port)], rig.port())), port


@alone
@once
@limit(180)
def test_many_rotations_under_load(rig):
    """1,000 rotations under h2load and new handshakes: none fails, no request fails."""
    root = Authority(rig.tmp)
    certificates = [root.issue() for _ in range(8)]
    secret = Rotated(rig.tmp)
    secret.put(certificates[0])
    proxy, port = front(rig, secret)
    failed, handshakes, requests, stop = [], [0], [0], threading.Event()

    def connect():
        context = client_context(trusted=root.path)
        while not stop.is_set():
            try:
                with TlsClient(port, context) as client:
                    assert client.ask().status == 200
                handshakes[0] += 1
            except Exception as error:  # whatever it is, it is a failure
                failed.append(repr(error))

    def load():
        while not stop.is_set():
            try:
                said = run("h2load", "-c", "4", "-m", "4", "--rps", "100", "-D", "3",
                           f"https://127.0.0.1:{port}/")
                done = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", said)
                assert done[2] == done[3] == "0", said
                requests[0] += int(done[1])
            except Exception as error:  # as above
                failed.append(repr(error))
    threads = [threading.Thread(target=work) for work in (connect, connect, load)]
    for thread in threads:
        thread.start()
    for number in range(ROTATIONS):
        secret.put(certificates[number % len(certificates)])
        time.sleep(0.012)
    last = certificates[(ROTATIONS - 1) % len(certificates)].der()
    wait_until(lambda: shown(port) == last, 10, lambda: "the last one is not shown")
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed, failed[:3]
    assert handshakes[0] > 200, handshakes
    assert requests[0] > 1000, requests
    active = proxy.stats()
    assert active["listener.127.0.0.1_%d.ssl.connection_error" % port] == 0
    assert active["listener.127.0.0.1_%d.ssl.fail_verify_error" % port] == 0


@limit(60)
def test_a_secret_that_cannot_be_used(rig):
    """It is reported, the old one serves on; the next good one is used."""
    root = Authority(rig.tmp)
    first, second = root.issue(), root.issue()
    secret = Rotated(rig.tmp)
    secret.put(first)
    proxy, port = front(rig, secret)
    assert shown(port) == first.der()
    for name, cert, key in [
            ("another key", pem(second.certificate).decode(), pem(first.key).decode()),
            ("no PEM", "nothing", "nothing"), ("no key", pem(second.certificate).decode(), ""),
            ("empty", "", "")]:
        with rig.case(name):
            before = len(proxy.log())
            secret.move(cert, key)
            wait_until(lambda before=before: len(proxy.log()) > before, 5,
                       lambda: "nothing is said of it")
            assert shown(port) == first.der()
            if kind() == "tidegate":
                assert "what was in use before stays in use" in proxy.log()[before:]
    with rig.case("no YAML"):
        before = len(proxy.log())
        new = secret.directory / "new"
        new.write_text("resources: [")
        new.rename(secret.file)
        wait_until(lambda: len(proxy.log()) > before, 5, lambda: "nothing is said of it")
        assert shown(port) == first.der()
    with rig.case("a good one again"):
        secret.put(second)
        wait_until(lambda: shown(port) == second.der(), 5, lambda: "it is not shown")


@limit(60)
def test_running_connections_stay(rig):
    """A rotation changes nothing for connections that are there, nor for their streams."""
    root = Authority(rig.tmp)
    first, second = root.issue(), root.issue()
    secret = Rotated(rig.tmp)
    secret.put(first)
    _, port = front(rig, secret)
    with TlsClient(port) as client:
        assert client.ask().status == 200
        secret.put(second)
        wait_until(lambda: shown(port) == second.der(), 5, lambda: "it is not shown")
        answer = client.ask()
        assert answer.status == 200 and "close" not in answer.tokens("connection")


class Mounted:
    """A volume as Kubernetes mounts it: `tls.crt` leads to `..data/tls.crt`, and `..data` to the
    directory of a version, by links of which one rename changes all."""

    def __init__(self, directory, certificate):
        self.directory, self.count = directory / "volume", 0
        self.directory.mkdir()
        self.put(certificate)
        for name in ("tls.crt", "tls.key"):
            (self.directory / name).symlink_to(f"..data/{name}")

    def put(self, certificate):
        """The next version."""
        self.count += 1
        version = self.directory / f"..{self.count}"
        version.mkdir()
        (version / "tls.crt").write_bytes(pem(certificate.certificate))
        (version / "tls.key").write_bytes(pem(certificate.key))
        link = self.directory / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self.directory / "..data")
        for old in [one for one in self.directory.glob("..[0-9]*") if one != version]:
            shutil.rmtree(old)

    def certificate(self):
        """A `TlsCertificate` that watches it."""
        return {"certificate_chain": {"filename": str(self.directory / "tls.crt")},
                "private_key": {"filename": str(self.directory / "tls.key")},
                "watched_directory": {"path": str(self.directory)}}


@limit(60)
def test_a_volume_of_links(rig):
    """The links of a Kubernetes volume change with one rename: each version is shown, whole."""
    root = Authority(rig.tmp)
    issued = [root.issue() for _ in range(10)]
    volume = Mounted(rig.tmp, issued[0])
    secret = rig.tmp / "secret.yaml"
    secret.write_text(json.dumps({"resources": [{
        "@type": TLS + "Secret", "name": "server", "tls_certificate": volume.certificate()}]}))
    common = {"tls_certificates": [], "tls_certificate_sds_secret_configs": [{
        "name": "server", "sds_config": {"path_config_source": {"path": str(secret)},
                                         "resource_api_version": "V3"}}]}
    port = rig.port()
    made = secured(listener(port), downstream_tls([], common=common))
    proxy = rig.proxy(bootstrap([made], [cluster(rig.origin().port)], rig.port()))
    assert shown(port) == issued[0].der()
    # 30 days, less what has passed; Envoy looks every 5 s.
    proxy.wait_stat("server.days_until_first_cert_expiring", 29, 8)
    for certificate in issued[1:]:
        volume.put(certificate)
        wait_until(lambda certificate=certificate: shown(port) == certificate.der(), 5,
                   lambda: f"it is not shown: {proxy.log()[-2000:]}")
    with rig.case("a version that is broken names its file"):
        before = len(proxy.log())
        broken = root.issue()
        broken.certificate = type("Broken", (), {"public_bytes": lambda *_: b"nothing"})()
        volume.put(broken)
        wait_until(lambda: len(proxy.log()) > before, 5, lambda: "nothing is said of it")
        assert "tls.crt" in proxy.log()[before:], proxy.log()[before:]
        assert shown(port) == issued[-1].der()
