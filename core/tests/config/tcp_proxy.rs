//! `tcp_proxy` and the gRPC access logs as configuration: what is taken, and what is refused by
//! name.
//!
//! What it leaves to others: what they do (the acceptance tests).

use super::{loaded, problems};
use std::time::Duration;
use tidegate::config::{AccessLogSink, GrpcAccessLog, NetworkFilter, TcpProxy};

fn text(fields: &str) -> String {
    format!(
        r#"static_resources:
  listeners:
  - name: l
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 10000 }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: s
          {fields}
  clusters:
  - name: c
    type: STATIC
    load_assignment: {{ cluster_name: c }}
"#
    )
}

fn proxy(fields: &str) -> TcpProxy {
    match &loaded(&text(fields)).listeners[0].filter_chains[0].filter {
        NetworkFilter::TcpProxy(proxy) => (**proxy).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn fields_and_their_defaults() {
    let hour = Some(Duration::from_secs(3600));
    let plain = TcpProxy {
        stat_prefix: "s".into(),
        clusters: vec![("c".into(), 1)],
        idle_timeout: hour,
        max_connect_attempts: 1,
        max_connection_duration: None,
        access_log: Vec::new(),
    };
    assert_eq!(proxy("cluster: c"), plain);
    let whole = "weighted_clusters: { clusters: [{ name: c, weight: 3 }, { name: c, weight: 4 }] }
          idle_timeout: 0s
          max_connect_attempts: 5
          max_downstream_connection_duration: 2.5s";
    let expected = TcpProxy {
        clusters: vec![("c".into(), 3), ("c".into(), 4)],
        idle_timeout: None,
        max_connect_attempts: 5,
        max_connection_duration: Some(Duration::from_millis(2500)),
        ..plain
    };
    assert_eq!(proxy(whole), expected);
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    for (fields, words) in [
        ("cluster: c\n          tunneling_config: { hostname: a }", "tunneling_config"),
        ("cluster: c\n          hash_policy: [{ source_ip: {} }]", "hash_policy"),
        ("cluster: c\n          on_demand: {}", "on_demand"),
        ("cluster: c\n          metadata_match: {}", "metadata_match"),
        ("cluster: c\n          max_connect_attempts: 0", "max_connect_attempts"),
        ("cluster: nosuch", "there is no cluster `nosuch`"),
        ("{}", "cluster"),
    ] {
        let fields = if fields == "{}" { "idle_timeout: 1s" } else { fields };
        let found = problems(&text(fields)).join("\n");
        assert!(found.contains(words), "{fields}: {found}");
    }
}

#[test]
fn a_log_of_a_grpc_service() {
    let log = |fields: &str| {
        format!(
            r#"cluster: c
          access_log:
          - name: envoy.access_loggers.tcp_grpc
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig
              common_config:
                log_name: named
                transport_api_version: V3
                grpc_service: {{ envoy_grpc: {{ cluster_name: c }} }}
                {fields}"#
        )
    };
    let AccessLogSink::Service(service) = &proxy(&log("")).access_log[0].sink.clone() else {
        panic!("another sink");
    };
    let expected = GrpcAccessLog {
        is_tcp: true,
        log_name: "named".into(),
        cluster: "c".into(),
        authority: "c".into(),
        flush_interval: Duration::from_secs(1),
        buffer_size_bytes: 16 << 10,
        request_headers: Vec::new(),
        response_headers: Vec::new(),
        response_trailers: Vec::new(),
    };
    assert_eq!(*service, expected);
    let tags = log("custom_tags: [{ tag: a, literal: { value: b } }]");
    let found = problems(&text(&tags)).join("\n");
    assert!(found.contains("custom_tags"), "{found}");
}
