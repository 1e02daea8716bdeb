//! Small changes to listeners, clusters and filters, each with its verdict.
//!
//! What it leaves to others: routes, and how things are written (`envoy_verdicts`).

use super::envoy_verdicts::{CLUSTER, ENDPOINT, OK, ROUTER, check};
use super::{problems, with};

#[test]
fn clusters_and_listeners() {
    check(&[
        (
            "dup_cluster",
            &[("  clusters:\n", "  clusters:\n  - name: c\n")],
            &["duplicate cluster `c`"],
        ),
        (
            "dup_listener",
            &[(
                "  listeners:\n",
                "  listeners:\n  - name: l\n    address: { socket_address: { address: 127.0.0.1, port_value: 1 } }\n    filter_chains: []\n",
            )],
            &["`filter_chains` is required", "duplicate listener `l`"],
        ),
        (
            "hostname_in_static_cluster",
            &[(ENDPOINT, "{ address: example.com, port_value: 80 }")],
            &[
                "malformed IP address: example.com (a cluster of type STATIC has IP addresses; for names set `type: STRICT_DNS`)",
            ],
        ),
        (
            "hostname_without_type",
            &[(CLUSTER, ""), (ENDPOINT, "{ address: example.com, port_value: 80 }")],
            &["malformed IP address"],
        ),
        (
            "hostname_strict_dns",
            &[("STATIC", "STRICT_DNS"), (ENDPOINT, "{ address: example.com, port_value: 80 }")],
            &[OK],
        ),
        (
            "hostname_in_listener",
            &[(
                "{ address: 127.0.0.1, port_value: 10000 }",
                "{ address: localhost, port_value: 10000 }",
            )],
            &["malformed IP address: localhost"],
        ),
        (
            "port_zero_upstream",
            &[("port_value: 80 ", "port_value: 0 ")],
            &["port 0 cannot be reached"],
        ),
        ("port_zero_listener", &[("port_value: 10000", "port_value: 0")], &[OK]),
        (
            "ipv6",
            &[
                (
                    "{ address: 127.0.0.1, port_value: 10000 }",
                    "{ address: \"::\", port_value: 10000 }",
                ),
                (ENDPOINT, "{ address: \"[::1]\", port_value: 80 }"),
            ],
            &[OK],
        ),
        (
            "logical_dns",
            &[("STATIC", "LOGICAL_DNS")],
            &["`type: LOGICAL_DNS` is not supported yet"],
        ),
        (
            "original_dst_lb",
            &[("STATIC", "ORIGINAL_DST")],
            &["`type: ORIGINAL_DST` is not supported yet"],
        ),
        ("eds_with_load_assignment", &[("STATIC", "EDS")], &["`type: EDS` is not supported yet"]),
        (
            "maglev",
            &[(CLUSTER, "    type: STATIC\n    lb_policy: MAGLEV\n")],
            &["`lb_policy: MAGLEV` is not supported yet; supported: `ROUND_ROBIN`"],
        ),
        (
            "no_endpoints",
            &[(
                "    load_assignment:\n      cluster_name: c\n      endpoints:\n      - lb_endpoints:\n        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 80 } } }\n",
                "",
            )],
            &[OK],
        ),
        (
            "pipe",
            &[(
                "socket_address: { address: 127.0.0.1, port_value: 10000 }",
                "pipe: { path: /tmp/x }",
            )],
            &["`pipe` of envoy.config.core.v3.Address is not supported yet"],
        ),
        (
            "raw_buffer",
            &[(
                CLUSTER,
                "    transport_socket: { name: x, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer } }\n",
            )],
            &[OK],
        ),
        (
            "tls",
            &[(
                CLUSTER,
                "    transport_socket: { name: x, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext } }\n",
            )],
            &[
                "the extension `envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext` is not supported yet",
            ],
        ),
        (
            "empty_match",
            &[("    - filters:\n", "    - filter_chain_match: {}\n      filters:\n")],
            &[OK],
        ),
        (
            "server_names",
            &[(
                "    - filters:\n",
                "    - filter_chain_match: { server_names: [a] }\n      filters:\n",
            )],
            &["`server_names` of envoy.config.listener.v3.FilterChainMatch is not supported yet"],
        ),
        (
            "two_thresholds",
            &[(
                CLUSTER,
                "    circuit_breakers: { thresholds: [{}, { priority: HIGH }, { max_requests: 1 }] }\n",
            )],
            &["a second threshold of the same priority has no effect"],
        ),
    ]);
}

#[test]
fn filters() {
    let cors = "          - name: cors\n            typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors }\n";
    let cors_last = format!("{ROUTER}{cors}");
    let found = problems(&with(&[(ROUTER, &cors_last)]));
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found.iter().any(|problem| problem.contains("router is terminal")));
    assert!(found.iter().any(|problem| problem.contains("v3.Cors` is not supported yet")));
    check(&[
        (
            "router_twice",
            &[(
                "          - name: envoy.filters.http.router\n",
                "          - { name: a, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router } }\n          - name: envoy.filters.http.router\n",
            )],
            &["it must be the last"],
        ),
        ("no_type", &[(ROUTER, "            typed_config: {}\n")], &["an `@type` is missing"]),
        (
            "old_type",
            &[(
                "envoy.extensions.filters.http.router.v3.Router",
                "envoy.config.filter.http.router.v2.Router",
            )],
            &["in v3 it is `type.googleapis.com/envoy.extensions.filters.http.router.v3.Router`"],
        ),
        (
            "wrong_type",
            &[(
                "envoy.extensions.filters.http.router.v3.Router",
                "envoy.config.cluster.v3.Cluster",
            )],
            &["is not supported yet; supported: `envoy.extensions.filters.http.router.v3.Router`"],
        ),
        (
            "type_without_url",
            &[(
                "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                "envoy.extensions.filters.http.router.v3.Router",
            )],
            &[OK],
        ),
        (
            "typed_struct",
            &[(
                "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n",
                "type.googleapis.com/xds.type.v3.TypedStruct\n              type_url: type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n              value: { start_child_span: false }\n",
            )],
            &[OK],
        ),
        (
            "typed_struct_inside",
            &[(
                "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n",
                "type.googleapis.com/udpa.type.v1.TypedStruct\n              type_url: type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n              value: { x: 1 }\n",
            )],
            &["unknown field `x`"],
        ),
        (
            "tcp_proxy",
            &[("http_connection_manager.v3.HttpConnectionManager", "tcp_proxy.v3.TcpProxy")],
            &["v3.TcpProxy` is not supported yet"],
        ),
        (
            "bootstrap_extension",
            &[(
                "static_resources:\n",
                "bootstrap_extensions: [{ name: x, typed_config: { \"@type\": type.googleapis.com/udpa.type.v1.TypedStruct, type_url: a/b.C } }]\nstatic_resources:\n",
            )],
            &["warning: bootstrap_extensions"],
        ),
    ]);
}
