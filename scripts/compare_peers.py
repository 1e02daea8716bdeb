"""Configurations of the peers of `scripts/compare`: one worker each, the same timeouts, no access
log, connections to the origin kept.

What it leaves to others: starting and measuring them.
"""
import dataclasses
import importlib.util
import os
import pathlib
import shutil
import subprocess

ORIGIN = 19100
ALL = ["relay", "envoy", "nginx", "haproxy"]
# Programs of loadtest/runtimes: the relay on other people's runtimes.
RUNTIMES = ["relay-monoio", "relay-glommio", "relay-compio"]


@dataclasses.dataclass
class Peer:
    """How a proxy is started, and where it listens, by what is spoken there."""

    command: list
    # What says its version; nothing: ours, whose commit is known.
    version: list | None
    ports: dict
    configuration: pathlib.Path | None = None


def ports_of(first):
    """Three ports in a row."""
    return {"plain": first, "h2": first + 1, "tls": first + 2}


def certificate(work):
    """A key and a certificate for localhost."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", work / "key.pem", "-out", work / "cert.pem", "-days", "30", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True)
    both = (work / "cert.pem").read_text() + (work / "key.pem").read_text()
    (work / "both.pem").write_text(both)


def envoy_binary():
    """$ENVOY, or on PATH, or in the Python package."""
    named = os.environ.get("ENVOY")
    spec = importlib.util.find_spec("envoy")
    packaged = pathlib.Path(spec.origin).parent / "_bin" / "envoy" if spec and spec.origin else None
    if named or not (packaged and packaged.exists()):
        return named or shutil.which("envoy") or "envoy"
    return str(packaged)


def nginx(work, ports):
    """One process; its children would be counted, too."""
    temporary = " ".join(f"{name}_temp_path {work}/{name};" for name in
                         ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    location = ("location / { proxy_pass http://origin; proxy_http_version 1.1; "
                "proxy_set_header Connection ''; proxy_set_header Host $host; "
                "proxy_max_temp_file_size 0; }")
    file = work / "nginx.conf"
    file.write_text(f"""user root;
worker_processes 1;
daemon off;
master_process off;
pid {work}/nginx.pid;
error_log {work}/nginx.err;
worker_rlimit_nofile 20000;
events {{ worker_connections 9000; }}
http {{
  {temporary}
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  ssl_certificate {work}/cert.pem;
  ssl_certificate_key {work}/key.pem;
  ssl_protocols TLSv1.3;
  upstream origin {{
    server 127.0.0.1:{ORIGIN};
    keepalive 512;
    keepalive_requests 1000000000;
  }}
  server {{ listen 127.0.0.1:{ports['plain']} backlog=8192; {location} }}
  server {{ listen 127.0.0.1:{ports['h2']} http2 backlog=8192; {location} }}
  server {{ listen 127.0.0.1:{ports['tls']} ssl http2 backlog=8192; {location} }}
}}
""")
    return file


def haproxy(work, ports):
    """One thread."""
    file = work / "haproxy.cfg"
    file.write_text(f"""global
  nbthread 1
  maxconn 9000
  tune.h2.max-concurrent-streams 512
defaults
  mode http
  timeout client 3600s
  timeout server 3600s
  timeout connect 5s
  http-reuse always
  default_backend origin
frontend plain
  bind 127.0.0.1:{ports['plain']} backlog 8192
frontend h2
  bind 127.0.0.1:{ports['h2']} proto h2
frontend tls
  bind 127.0.0.1:{ports['tls']} ssl crt {work}/both.pem alpn h2,http/1.1 ssl-min-ver TLSv1.3
backend origin
  server one 127.0.0.1:{ORIGIN} pool-max-conn 4000
""")
    return file


def listener(name, port, tls):
    """A listener in Envoy's words."""
    types = "type.googleapis.com/envoy.extensions"
    return f"""  - name: {name}
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    tcp_backlog_size: 8192
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {types}.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          http2_protocol_options: {{ max_concurrent_streams: 512 }}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [ {{ match: {{ prefix: / }}, route: {{ cluster: origin }} }} ]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": {types}.filters.http.router.v3.Router }}
{tls}"""


def envoys(work, name, ports, admin):
    """The configuration that Envoy and Tidegate both read."""
    types = "type.googleapis.com/envoy.extensions"
    tls = f"""      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": {types}.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_params: {{ tls_minimum_protocol_version: TLSv1_3 }}
            tls_certificates:
            - certificate_chain: {{ filename: {work}/cert.pem }}
              private_key: {{ filename: {work}/key.pem }}
"""
    listeners = "".join(listener(kind, port, tls if kind == "tls" else "")
                        for kind, port in ports.items())
    limits = "max_connections: 100000, max_pending_requests: 100000, max_requests: 100000"
    file = work / f"{name}.yaml"
    file.write_text(f"""static_resources:
  listeners:
{listeners}  clusters:
  - name: origin
    type: STATIC
    connect_timeout: 5s
    circuit_breakers: {{ thresholds: [ {{ {limits} }} ] }}
    load_assignment:
      cluster_name: origin
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{ socket_address: {{ address: 127.0.0.1, port_value: {ORIGIN} }} }}
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }} }}
""")
    return file


def all_of(work, ours, backend):
    """Every peer, with its files in a directory."""
    certificate(work)
    envoy, tidegate = ports_of(19210), ports_of(19220)
    nginx_ports, haproxy_ports = ports_of(19230), ports_of(19240)
    envoy_file = envoys(work, "envoy", envoy, 19213)
    our_file = envoys(work, "tidegate", tidegate, 19223)
    nginx_file, haproxy_file = nginx(work, nginx_ports), haproxy(work, haproxy_ports)
    program = envoy_binary()
    return {
        "relay": Peer([ours["relay"], 19200, ORIGIN, backend], None, {"plain": 19200}),
        "envoy": Peer([program, "-c", envoy_file, "--concurrency", 1, "-l", "warn",
                       "--use-dynamic-base-id"], [program, "--version"], envoy, envoy_file),
        "nginx": Peer(["nginx", "-c", nginx_file], ["nginx", "-v"], nginx_ports, nginx_file),
        "haproxy": Peer(["haproxy", "-db", "-f", haproxy_file], ["haproxy", "-v"], haproxy_ports,
                        haproxy_file),
        "tidegate": Peer([ours["tidegate"], "-c", our_file, "--concurrency", 1, "--io-backend",
                          backend], None, tidegate, our_file),
    }


def runtimes(ours):
    """The same byte relay on each runtime; monoio and compio with the ring's flags as ours has
    them, and as they come."""
    commands = {"io_uring": [ours["relay"], "io_uring"], "epoll": [ours["relay"], "epoll"]}
    for name in RUNTIMES:
        short = name.removeprefix("relay-")
        commands[short] = [ours[name]]
        if short != "glommio":
            commands[f"{short}-default"] = [ours[name], "default"]
    peers = {}
    for number, (name, (program, *rest)) in enumerate(commands.items()):
        port = 19250 + number
        peers[name] = Peer([program, port, ORIGIN, *rest], None, {"plain": port})
    return peers
