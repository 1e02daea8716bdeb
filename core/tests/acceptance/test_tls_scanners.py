"""What scanners say: sslscan and testssl.sh find nothing weak.

What it leaves to others: clients and their certificates (`test_tls_handshakes.py`).
"""
import json
import subprocess
from xml.etree import ElementTree

from rig import bootstrap, cluster, limit, listener, once
from rig.tls import Authority, downstream_tls, secured
from rig.tools import run, tool

# Findings that are of the certificate or the host, which are the test's own.
NOT_OURS = {
    "cert_trust": "the authority is made for the test",
    "cert_chain_of_trust": "the same", "cert_revocation": "it has no revocation list",
    "cert_caaRecord": "localhost has no DNS records", "DNS_CAArecord": "the same",
    "engine_problem": "it is about the local openssl",
    "sessionresumption_ticket": "it cannot ask with this openssl (test_tls_connections.py does)",
    "HSTS": "a header that the origin sends, or a route adds", "BREACH": "nothing is compressed",
    "OCSP_stapling": "nothing is stapled", "overall_grade": "it counts the above",
    "grade_cap_reason_1": "the same",
}


def front(rig):
    """A proxy with a certificate of each kind."""
    root = Authority(rig.tmp)
    shown = [root.issue("localhost", [("dns", "localhost")], key=key, days=(-1, 200))
             for key in ("ec", "rsa")]
    port = rig.port()
    socket = downstream_tls(shown, common={"alpn_protocols": ["h2", "http/1.1"]})
    rig.proxy(bootstrap([secured(listener(port), socket)], [cluster(rig.origin().port)],
                        rig.port()))
    return port


@once
@limit(60)
def test_sslscan(rig):
    """Only TLS 1.2 and 1.3, only strong ciphers, no renegotiation, no compression, no Heartbleed."""
    port = front(rig)
    out = rig.tmp / "sslscan.xml"
    run(tool("sslscan"), f"--xml={out}", "--no-colour", "--sni-name=localhost",
        f"127.0.0.1:{port}", seconds=50)
    found = ElementTree.parse(out).getroot().find("ssltest")
    spoken = {f"{one.get('type')} {one.get('version')}" for one in found.findall("protocol")
              if one.get("enabled") == "1"}
    assert spoken == {"tls 1.2", "tls 1.3"}, spoken
    ciphers = {one.get("cipher") for one in found.findall("cipher")}
    assert len(ciphers) >= 6, ciphers
    weak = [name for name in ciphers
            if not any(mode in name for mode in ("GCM", "CHACHA20", "POLY1305"))]
    assert not weak, weak
    assert all(int(one.get("bits")) >= 128 for one in found.findall("cipher"))
    for name, attribute in (("compression", "supported"), ("heartbleed", "vulnerable")):
        assert not [one for one in found.findall(name) if one.get(attribute) != "0"], name
    insecure = [one for one in found.findall("renegotiation") if one.get("secure") == "0"]
    assert not [one for one in insecure if one.get("supported") == "1"]


@once
@limit(120)
def test_testssl(rig):
    """No finding of testssl.sh is of low severity or worse, but for those of the test's own."""
    port = front(rig)
    out = rig.tmp / "testssl.json"
    subprocess.run([tool("testssl"), "--quiet", "--warnings", "off", "--color", "0", "--ip",
                    "127.0.0.1", "--jsonfile", str(out), "-p", "-s", "-f", "-S", "-P", "-H", "-I",
                    "-T", "-BB", "-R", "-C", "-B", "-O", "-F", "-J", "-D", "-A", "-L", "-W",
                    f"localhost:{port}"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, timeout=110, check=False)
    findings = json.loads(out.read_text())
    assert len(findings) > 40, f"only {len(findings)} findings: {findings[-3:]}"
    for one in findings:
        name = one["id"].split(" ")[0]
        if one["severity"] in ("OK", "INFO", "DEBUG") or name in NOT_OURS:
            continue
        with rig.case(one["id"]):
            raise AssertionError(f"{one['severity']}: {one['finding']}")
    with rig.case("versions"):
        said = {one["id"]: one["finding"] for one in findings}
        assert "offered" in said["TLS1_2"] and "offered" in said["TLS1_3"], said
