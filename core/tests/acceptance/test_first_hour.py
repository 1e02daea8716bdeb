"""What a newcomer does in the first hour: one-line proxy, Envoy's sample, a typo.

What it leaves to others: the examples' content (`examples/`).
"""
import re
import signal
import subprocess
import time
from pathlib import Path

from rig import Client, get, limit, once, only
from rig.origin import wait_for_port
from rig.proxy import binary, run_proxy

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"

# The front page of Envoy's documentation, with the upstream on loopback.
DEMO = """
static_resources:

  listeners:
  - name: listener_0
    address:
      socket_address:
        address: 127.0.0.1
        port_value: {port}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress_http
          access_log:
          - name: envoy.access_loggers.stdout
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            name: local_route
            virtual_hosts:
            - name: local_service
              domains: ["*"]
              routes:
              - match:
                  prefix: "/"
                route:
                  host_rewrite_literal: www.example.com
                  cluster: service

  clusters:
  - name: service
    type: STRICT_DNS
    # Comment out the following line to test on v6 networks
    dns_lookup_family: V4_ONLY
    load_assignment:
      cluster_name: service
      endpoints:
      - lb_endpoints:
        - endpoint:
            address:
              socket_address:
                address: localhost
                port_value: {origin}
"""


@only("tidegate")
def test_one_liner(rig):
    """`tidegate reverse-proxy --from --to` answers soon after exec, balances, and ends on
    SIGTERM."""
    origins = [rig.origin(lambda r, n=n: (200, [], n)) for n in (b"one", b"two")]
    port = rig.port()
    command = [binary(), "reverse-proxy", "--from", f"127.0.0.1:{port}",
               "--io-backend", rig.backend]
    for origin in origins:
        command += ["--to", f"127.0.0.1:{origin.port}"]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    rig.stack.callback(process.kill)
    while True:
        try:
            assert get(port, timeout=2).status == 200
            break
        except ConnectionRefusedError:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.002)
    took = time.monotonic() - began
    # It takes 50 ms on an idle machine with a release build; neither is given here.
    assert took < 2, f"{took * 1000:.0f} ms until the first answer"
    print(f"{took * 1000:.0f} ms until the first answer")
    assert {get(port).body for _ in range(12)} == {b"one", b"two"}
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0


@only("tidegate")
@limit(60)
def test_envoys_demo(rig):
    """Envoy's own first example runs as it is; a request leaves a line in the access log on
    stdout."""
    origin = rig.origin()
    port = rig.port()
    path = rig.tmp / "envoy-demo.yaml"
    path.write_text(DEMO.format(port=port, origin=origin.port))
    with open(rig.tmp / "demo.log", "wb") as log:
        process = subprocess.Popen([binary(), "-c", str(path), "--io-backend", rig.backend],
                                   stdout=log, stderr=log)
    rig.stack.callback(process.kill)
    wait_for_port(port, process)
    deadline = time.monotonic() + 5
    while get(port).status != 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    with Client(port) as client:
        assert client.ask("/path", [("Host", "a.test"), ("User-Agent", "me")]).status == 200
    assert origin.last.get("host") == "www.example.com"
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    said = (rig.tmp / "demo.log").read_text()
    line = re.search(r'^\[\d{4}-\d\d-\d\dT[\d:.]+Z\] "GET /path HTTP/1\.1" 200 - 0 \d+ \d+ .*$',
                     said, re.M)
    assert line and '"me"' in line[0], said


@once
@only("tidegate")
def test_typo_is_located(rig):
    """A misspelt field: file, line, column, the suggestion; and following the suggestion mends
    it."""
    text = DEMO.format(port=rig.port(), origin=1).replace("port_value:", "prot_value:", 1)
    path = rig.tmp / "typo.yaml"
    path.write_text(text)
    line = next(n for n, at in enumerate(text.splitlines(), 1) if "prot_value" in at)
    said = {}
    for mode in ("serve", "validate"):
        status, said[mode] = run_proxy("-c", path, "--mode", mode)
        assert status == 2, (status, said[mode])
    assert f"typo.yaml:{line}:9" in said["validate"], said["validate"]
    assert "did you mean `port_value`" in said["validate"], said["validate"]
    assert said["serve"] == said["validate"]
    path.write_text(text.replace("prot_value", "port_value"))
    status, out = run_proxy("-c", path, "--mode", "validate")
    assert status == 0, out


@once
def test_examples_are_valid(rig):
    """Every example is accepted by the proxy under test."""
    files = sorted(EXAMPLES.glob("*.yaml"))
    assert files, "no examples"
    for path in files:
        with rig.case(path.name):
            status, said = run_proxy("-c", path, "--mode", "validate")
            assert status == 0, said


@once
@only("tidegate")
def test_help(rig):
    """--help names the flags that Envoy's users know, and --version says a version."""
    del rig
    status, said = run_proxy("--help")
    assert status == 0
    for flag in ("--config-path", "--config-yaml", "--mode", "--concurrency", "--log-level",
                 "--drain-time-s", "--io-backend", "--allow-unsupported"):
        assert flag in said, f"{flag} is not in --help"
    status, said = run_proxy("--version")
    assert status == 0 and re.search(r"\d+\.\d+\.\d+", said), said
