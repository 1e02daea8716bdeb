"""The public conformance suites of HTTP/2, each case a row: h2spec and httpwg as clients, h2specd
as an origin that misbehaves.

Envoy 1.40 passes 134 of h2spec's 146 cases (it closes without a GOAWAY that the client could still
read), 99 to 101 of httpwg's 107 and 48 of h2specd's 57. What it leaves to others: what no suite
asks (`core/tests/parity`), floods (`test_http2_abuse.py`).
"""
import re
import subprocess

from rig import bootstrap, cluster, http2_fields, limit, listener, route
from rig.tls import Authority, TlsBridge, downstream_tls, secured
from rig.tools import tool

H2SPEC_CASES = 146
HTTPWG_CASES = 107
H2SPECD_CASES = 57
# Cases that may fail, each with its reason.
WAIVED_H2SPEC = {}
WAIVED_HTTPWG = {
    "RFC 9113 :: 8. expressing http semantics in http2 :: sends headers frame with mismatched host"
    " authority": "a server may reject a Host that differs (8.3.1); like Envoy, we go by"
                  " :authority and forward no other Host",
}
WAIVED_H2SPECD = {}
BODY = b"a body that is long enough for windows of a few bytes\n"


def front(rig):
    """A proxy that speaks only HTTP/2, before an origin that answers when a request has ended: an
    answer before that would end the stream before a case has done with it."""
    return rig.front(rig.origin(lambda request: (200, [], BODY)).port, codec_type="HTTP2")


def tls_front(rig):
    """The port of the same over TLS."""
    origin = rig.origin(lambda request: (200, [], BODY))
    port = rig.port()
    context = downstream_tls([Authority(rig.tmp).issue()], common={"alpn_protocols": ["h2"]})
    made = secured(listener(port, codec_type="HTTP2"), context)
    rig.proxy(bootstrap([made], [cluster(origin.port)], rig.port()))
    return port


@limit(120)
def test_h2spec(rig):
    """All cases of h2spec, the strict one too."""
    _, port = front(rig)
    said = output([tool("h2spec"), "-h", "127.0.0.1", "-p", port, "-S"])
    judge(rig, verdicts(said), H2SPEC_CASES, WAIVED_H2SPEC, said)


@limit(120)
def test_h2spec_over_tls(rig):
    """The same over TLS."""
    said = output([tool("h2spec"), "-h", "127.0.0.1", "-p", tls_front(rig), "-S", "-t", "-k"])
    judge(rig, verdicts(said), H2SPEC_CASES, WAIVED_H2SPEC, said)


@limit(60)
def test_httpwg(rig):
    """All cases of httpwg."""
    httpwg(rig, front(rig)[1])


@limit(60)
def test_httpwg_over_tls(rig):
    """The same over TLS, which it does not speak itself."""
    httpwg(rig, rig.keep(TlsBridge(tls_front(rig))).port)


def httpwg(rig, port):
    """Runs it, and judges."""
    said = output([tool("httpwg"), "-a", f"127.0.0.1:{port}", "--connect-timeout", "1000",
                   "--frame-timeout", "2000"])
    rows = {found[2]: found[1] == "passed"
            for found in re.finditer(r"Test (passed|failed): (.*)$", said, re.M)}
    total = int(re.search(r"Passed \d+/(\d+) tests", said)[1])
    # A case that panics is counted and not named.
    unnamed = {f"unnamed case {number}": False for number in range(total - len(rows))}
    judge(rig, rows | unnamed, HTTPWG_CASES, WAIVED_HTTPWG, said)


@limit(180)
def test_h2specd(rig):
    """Each case is a server that misbehaves, as our origin. It is asked for through the proxy; what
    the proxy sends to it is judged, and the proxy still serves a good origin at the end."""
    first = rig.ports_in_a_row(H2SPECD_CASES + 1)
    ports = range(first + 1, first + 1 + H2SPECD_CASES)
    origin = rig.origin()
    port = rig.port()
    routes = [route(f"/{number}", f"bad-{number}", timeout="1.5s") for number in ports]
    clusters = [cluster(number, f"bad-{number}", **http2_fields()) for number in ports]
    proxy = rig.proxy(bootstrap([listener(port, [*routes, route("/", "origin")])],
                                [*clusters, cluster(origin.port)], rig.port()))
    script = rig.tmp / "ask"
    script.write_text(f"""#!/bin/sh
port=${{1##*:}}
exec curl -s -m 2 -o /dev/null http://127.0.0.1:{port}/${{port%/}}
""")
    script.chmod(0o755)
    said = output([tool("h2specd"), "-p", first, "-f", first + 1, "-e", script, "-o", 1])
    judge(rig, verdicts(said), H2SPECD_CASES, WAIVED_H2SPECD, said)
    assert subprocess.run(["curl", "-sf", f"http://127.0.0.1:{port}/"], check=False,
                          stdout=subprocess.DEVNULL).returncode == 0, proxy.log()[-2000:]


def output(command):
    """What a suite says, without colours; its exit status is not what counts."""
    done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, timeout=170,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return re.sub(r"\x1b\[[0-9;]*[a-zA-Z]|\r", "", done.stdout.decode(errors="replace"))


def verdicts(said):
    """Whether each case of h2spec or h2specd passed, by its section and its title."""
    found, section = {}, ""
    for line in said.split("\nFailures:")[0].splitlines():
        if heading := re.match(r"\s*(\d[\d.]*) +(\S.*)", line):
            section = heading[1]
        if row := re.search("(\u2714|\u00d7) \\d+: (.*)", line):
            found[f"{section} {row[2].strip()}"] = row[1] == "\u2714"
    return found


def judge(rig, rows, count, waived, said):
    """Each case a row: it passes, or it is waived and does not."""
    assert len(rows) == count, f"{len(rows)} cases of {count}:\n{said[-3000:]}"
    for name, passed in rows.items():
        with rig.case(name):
            title = name.split(" ", 1)[1] if name.split(" ")[0][0].isdigit() else name
            at = said.rfind(title)
            shown = said[at:at + 500] if at >= 0 else said
            assert passed or name in waived, f"see\n{shown}"
            assert not passed or name not in waived, f"it passes; its waiver: {waived[name]}"
