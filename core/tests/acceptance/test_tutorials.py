"""Configurations as tutorials print them: they serve, once their addresses are of this machine.

What it leaves to others: what tutorials of older Envoys get told (`core/tests/config`).
"""
import time

from rig import get, limit, once, only
from rig.origin import wait_for_port
from rig.proxy import run_proxy

# From an introduction to Envoy: a listener, routes by version, a cluster by name.
INTRODUCTION = """
admin:
  access_log_path: /tmp/admin_access.log
  address:
    socket_address: {{ protocol: TCP, address: 127.0.0.1, port_value: {admin} }}
static_resources:
  listeners:
    - name: listener_0
      address:
        socket_address:
          address: 0.0.0.0
          port_value: {port}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: ingress_http
                route_config:
                  name: local_route
                  virtual_hosts:
                    - name: local_service
                      domains: ["*"]
                      routes:
                        - match:
                            prefix: "/"
                          route:
                            cluster: backend_cluster
                            retry_policy:
                              retry_on: "5xx,reset,connect-failure"
                              num_retries: 3
                              per_try_timeout: 2s
                              retry_back_off:
                                base_interval: 0.1s
                                max_interval: 1s
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router

  clusters:
    - name: backend_cluster
      type: STRICT_DNS
      lb_policy: ROUND_ROBIN
      circuit_breakers:
        thresholds:
          - priority: DEFAULT
            max_connections: 100
            max_pending_requests: 100
            max_requests: 100
            max_retries: 3
      load_assignment:
        cluster_name: backend_cluster
        endpoints:
          - lb_endpoints:
              - endpoint:
                  address:
                    socket_address:
                      address: localhost
                      port_value: {origin}
"""

# As a service mesh names things, put right: names in quotes, one listener, no `path: /*`.
MESH_HEAD = """
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }} }}
static_resources:
  # リスナー
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
                codec_type: AUTO
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                route_config:
                  name: local_route
                  virtual_hosts:
"""
MESH_HOST = """
                    - name: "{number}"
                      domains:
                        - {name}-service.{name}-namespace.svc.cluster.local
                      # ルート
                      routes:
                        - match:
                            # ホストベースルーティング
                            prefix: /
                          route:
                            cluster: {cluster}
"""
MESH_CLUSTER = """
    - name: "{cluster}"
      connect_timeout: 0.25s
      type: STATIC
      lb_policy: ROUND_ROBIN
      load_assignment:
        cluster_name: "{cluster}"
        # エンドポイント
        endpoints:
          - lb_endpoints:
              - endpoint:
                  address:
                    socket_address: {{ address: 127.0.0.1, port_value: {first} }}
              - endpoint:
                  address:
                    socket_address: {{ address: 127.0.0.1, port_value: {second} }}
"""


@limit(60)
def test_introduction(rig):
    """The configuration of an introduction, with its retries and circuit breakers."""
    origin = rig.origin()
    port, admin = rig.port(), rig.port()
    text = INTRODUCTION.format(port=port, admin=admin, origin=origin.port)
    wait_for_port(port, rig.proxy(text, ready=0).process)
    deadline = time.monotonic() + 10
    while get(port).status != 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert get(port, "/path").status == 200


def test_names_of_a_service_mesh(rig):
    """Hosts by domain, clusters whose names have bars, two endpoints in turn."""
    names = ("foo", "bar", "baz")
    port, admin = rig.port(), rig.port()
    text = MESH_HEAD.format(port=port, admin=admin)
    clusters = "  # クラスター\n  clusters:\n"
    for number, name in enumerate(names, 50001):
        origins = [rig.origin(lambda r, says=f"{name} {n}".encode(): (200, [], says))
                   for n in (1, 2)]
        cluster = f"outbound|{number}|v1|{name}-service.{name}-namespace.svc.cluster.local"
        text += MESH_HOST.format(number=number, name=name, cluster=cluster)
        clusters += MESH_CLUSTER.format(cluster=cluster, first=origins[0].port,
                                        second=origins[1].port)
    wait_for_port(port, rig.proxy(text + clusters, ready=0).process)
    for name in names:
        host = f"{name}-service.{name}-namespace.svc.cluster.local"
        seen = {get(port, headers=[("Host", host)]).body for _ in range(12)}
        assert seen == {f"{name} 1".encode(), f"{name} 2".encode()}, seen
    assert get(port, headers=[("Host", "other.test")]).status == 404
    page = get(admin, "/clusters").body.decode()
    assert "outbound|50001|v1|foo-service.foo-namespace.svc.cluster.local::added_via_api" in page


@once
@only("tidegate")
def test_several_errors_at_once(rig):
    """Each construct of v2 has its line, and what v3 has instead."""
    path = rig.tmp / "old.yaml"
    path.write_text("""static_resources:
  listeners:
  - address:
      socket_address: { address: 0.0.0.0, port_value: 80 }
    filter_chains:
    - filters:
      - name: envoy.http_connection_manager
        config:
          codec_type: auto
          stat_prefix: ingress_http
          route_config:
            virtual_hosts:
            - name: backend
              domains: ["*"]
              routes:
              - match: { prefix: "/" }
                route: { host_rewrite: www.google.com, cluster: service1 }
          http_filters:
          - name: envoy.router
  clusters:
  - name: service1
    type: strict_dns
    lb_policy: round_robin
    http2_protocol_options: {}
    hosts: [{ socket_address: { address: google.com, port_value: 443 }}]
    tls_context: { sni: www.google.com }
""")
    status, said = run_proxy("-c", path, "--mode", "validate")
    assert status == 2, said
    for place, remedy in ((":8:9", "v3.HttpConnectionManager"), (":17:26", "host_rewrite_literal"),
                          (":19:13", "v3.Router"),
                          (":25:5", "load_assignment"), (":26:5", "UpstreamTlsContext")):
        at = said.find(f"old.yaml{place}\n")
        assert at >= 0, f"nothing at {place}: {said}"
        assert remedy in said[at:].split("\n\n")[0], said[at:]
    assert "5 errors" in said, said
