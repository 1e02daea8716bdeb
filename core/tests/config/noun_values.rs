//! What the fields become: values, defaults and the special meaning of zero.
//!
//! What it leaves to others: what is refused (`envoy_verdicts`).

use super::{loaded, manager, problems, route, with};
use std::path::PathBuf;
use std::time::Duration;
use tidegate::config::{
    AccessLog, AccessLogFilter, AccessLogSink, Address, AddressSource, Discovery, DnsLookupFamily,
    HeaderKeyFormat, HealthStatus, HostRewrite, LbPolicy, LogFormat, PathMatch, PathRewrite,
    RedirectPath, RouteTarget, ServerHeader, WeightedCluster,
};

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

fn with_manager(lines: &[&str]) -> String {
    let lines: Vec<String> = std::iter::once("stat_prefix: s")
        .chain(lines.iter().copied())
        .map(|line| format!("          {line}\n"))
        .collect();
    with(&[("          stat_prefix: s\n", &lines.concat())])
}

#[test]
fn defaults_are_envoys() {
    let bootstrap = loaded(super::BASE);
    let listener = &bootstrap.listeners[0];
    assert_eq!(listener.stat_prefix, "127.0.0.1_10000");
    assert_eq!(listener.per_connection_buffer_limit_bytes, 1 << 20);
    let manager = manager(&bootstrap);
    assert_eq!(manager.max_request_headers_bytes, 60 << 10);
    assert_eq!(manager.max_headers_count, 100);
    assert_eq!(manager.idle_timeout, seconds(3600));
    assert_eq!(manager.stream_idle_timeout, seconds(300));
    assert_eq!(manager.request_timeout, None);
    assert_eq!(manager.drain_timeout, Duration::from_secs(5));
    assert_eq!(manager.delayed_close_timeout, seconds(1));
    assert_eq!(manager.server_name, "envoy");
    assert!(manager.generate_request_id && !manager.client_address.uses_peer());
    let RouteTarget::Forward(action) = &route(&bootstrap).target else { panic!() };
    assert_eq!(action.options.timeout, seconds(15));
    assert_eq!(action.options.idle_timeout, None);
    assert_eq!(action.options.cluster_not_found_status, 503);
    let cluster = &bootstrap.clusters[0];
    assert_eq!(cluster.idle_timeout, seconds(3600));
    assert_eq!(cluster.circuit_breakers.default.max_retries, 3);
    assert_eq!(cluster.circuit_breakers.high.max_connections, 1024);
    assert_eq!(cluster.load_assignment.endpoints[0].weight, 1);
    let text = with(&[("    connect_timeout: 1s\n", "")]);
    assert_eq!(loaded(&text).clusters[0].connect_timeout, Duration::from_secs(5));
}

#[test]
fn zero_switches_timeouts_off() {
    let bootstrap = loaded(&with_manager(&[
        "stream_idle_timeout: 0s",
        "request_timeout: 0s",
        "delayed_close_timeout: 0s",
        "drain_timeout: 0s",
        "common_http_protocol_options: { idle_timeout: 0s, max_requests_per_connection: 0 }",
    ]));
    let manager = manager(&bootstrap);
    assert_eq!(manager.stream_idle_timeout, None);
    assert_eq!(manager.request_timeout, None);
    assert_eq!(manager.delayed_close_timeout, None);
    assert_eq!(manager.drain_timeout, Duration::ZERO);
    assert_eq!(manager.idle_timeout, None);
    assert_eq!(manager.max_requests_per_connection, None);
    let text = with(&[("{ cluster: c }", "{ cluster: c, timeout: 0s, idle_timeout: 0s }")]);
    let bootstrap = loaded(&text);
    let RouteTarget::Forward(action) = &route(&bootstrap).target else { panic!() };
    assert_eq!(action.options.timeout, None);
    assert_eq!(action.options.idle_timeout, Some(None));
}

#[test]
fn the_whole_connection_manager() {
    let bootstrap = loaded(&with_manager(&[
        "codec_type: HTTP1",
        "max_request_headers_kb: 96",
        "common_http_protocol_options:",
        "  idle_timeout: 7s",
        "  max_connection_duration: 60s",
        "  max_headers_count: 50",
        "  max_requests_per_connection: 9",
        "http_protocol_options:",
        "  accept_http_10: true",
        "  allow_absolute_url: false",
        "  enable_trailers: true",
        "request_headers_timeout: 0.5s",
        "server_name: gate",
        "server_header_transformation: PASS_THROUGH",
        "use_remote_address: true",
        "skip_xff_append: true",
        "generate_request_id: false",
        "preserve_external_request_id: true",
        "always_set_request_id_in_response: true",
        "upgrade_configs: [{ upgrade_type: WebSocket }, { upgrade_type: spdy, enabled: false }]",
    ]));
    let manager = manager(&bootstrap);
    assert_eq!(manager.max_request_headers_bytes, 96 << 10);
    assert_eq!(manager.idle_timeout, seconds(7));
    assert_eq!(manager.max_connection_duration, seconds(60));
    assert_eq!(manager.max_headers_count, 50);
    assert_eq!(manager.max_requests_per_connection, Some(9));
    let http1 = &manager.http1;
    assert!(http1.accept_http_10 && http1.reject_absolute_url && http1.enable_trailers);
    assert_eq!(manager.request_headers_timeout, Some(Duration::from_millis(500)));
    assert_eq!(manager.server_name, "gate");
    assert_eq!(manager.server_header, ServerHeader::PassThrough);
    let at_edge = AddressSource::Peer { skip_xff_append: true, trusted_hops: 0 };
    assert_eq!(manager.client_address.source, at_edge);
    assert!(!manager.generate_request_id && manager.preserve_external_request_id);
    assert!(manager.always_set_request_id_in_response);
    assert_eq!(manager.upgrades, ["websocket"]);
    let refused = problems(&with_manager(&["upgrade_configs: [{ upgrade_type: CONNECT-UDP }]"]));
    assert!(refused[0].contains("`CONNECT-UDP` is not supported yet"), "{refused:#?}");
}

#[test]
fn access_logs() {
    let file = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
    let stderr = "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StderrAccessLog";
    let log = |config: &str| format!("- {{ name: x, typed_config: {{ {config} }} }}");
    let bootstrap = loaded(&with_manager(&[
        "access_log:",
        &log(&format!("\"@type\": {file}, path: /var/log/a")),
        &log(&format!("\"@type\": {file}, path: /dev/stdout, format: \"a\\n\"")),
        &log(&format!("\"@type\": {file}, path: /x, log_format: {{ text_format: b }}")),
        &log(&format!(
            "\"@type\": {stderr}, log_format: {{ text_format_source: {{ inline_string: c }} }}"
        )),
        &log(&format!(
            "\"@type\": {file}, path: /y, log_format: {{ json_format: {{ b: 1, a: [x] }} }}"
        )),
        &format!(
            "- {{ name: x, filter: {{ not_health_check_filter: {{}} }}, \
             typed_config: {{ \"@type\": {file}, path: /z }} }}"
        ),
    ]));
    let logs = &manager(&bootstrap).access_log;
    let text = |format: &LogFormat| match format {
        LogFormat::Text(text) => text.clone(),
        LogFormat::Json(json) => json.to_string(),
    };
    let format = |log: &AccessLog| log.format.as_ref().map(text);
    let found: Vec<_> = logs.iter().map(|log| (log.sink.clone(), format(log))).collect();
    let expected = [
        (AccessLogSink::File(PathBuf::from("/var/log/a")), None),
        (AccessLogSink::Stdout, Some("a\n")),
        (AccessLogSink::File(PathBuf::from("/x")), Some("b")),
        (AccessLogSink::Stderr, Some("c")),
        (AccessLogSink::File(PathBuf::from("/y")), Some("{\"a\":[\"x\"],\"b\":1}")),
        (AccessLogSink::File(PathBuf::from("/z")), None),
    ];
    let expected = expected.map(|(sink, format)| (sink, format.map(str::to_owned)));
    assert_eq!(found, expected);
    assert_eq!(logs[5].filter, Some(AccessLogFilter::NotHealthCheck));
    let operator = problems(&with_manager(&[
        "access_log:",
        &log(&format!("\"@type\": {file}, path: /x, log_format: {{ text_format: \"%NOPE%\" }}")),
    ]));
    assert_eq!(operator.len(), 1, "{operator:#?}");
    assert!(operator[0].contains(".log_format.text_format: not a format of access logs"));
    let empty = problems(&with_manager(&[
        "access_log:",
        &log(&format!("\"@type\": {file}")),
        "- { name: x }",
    ]));
    assert_eq!(empty.len(), 2, "{empty:#?}");
    assert!(empty[0].contains("`path` is required"), "{empty:#?}");
    assert!(empty[1].contains("`typed_config` is required"), "{empty:#?}");
}

#[test]
fn routes() {
    let target = |text: &str| {
        let bootstrap = loaded(&with(&[("route: { cluster: c }", text)]));
        route(&bootstrap).target.clone()
    };
    let RouteTarget::Forward(action) = target(
        "route: { weighted_clusters: { clusters: [{ name: c, weight: 9 }, \
         { name: c, weight: 0 }] }, cluster_not_found_response_code: NOT_FOUND, \
         prefix_rewrite: /x, host_rewrite_literal: h, \
         upgrade_configs: [{ upgrade_type: WebSocket, enabled: false }] }",
    ) else {
        panic!()
    };
    let of = |weight| WeightedCluster { name: "c".to_owned(), weight, ..Default::default() };
    assert_eq!(*action.clusters, [of(9), of(0)]);
    assert_eq!(action.options.cluster_not_found_status, 404);
    assert_eq!(action.options.path_rewrite, PathRewrite::Prefix("/x".to_owned()));
    assert_eq!(action.options.host_rewrite, HostRewrite::Literal("h".to_owned()));
    assert_eq!(action.options.upgrades, [("websocket".to_owned(), false)]);

    let RouteTarget::Redirect(redirect) = target(
        "redirect: { https_redirect: true, host_redirect: h, port_redirect: 8443, \
         path_redirect: /p, response_code: PERMANENT_REDIRECT, strip_query: true }",
    ) else {
        panic!()
    };
    assert_eq!(redirect.scheme.as_deref(), Some("https"));
    assert_eq!((redirect.host.as_deref(), redirect.port), (Some("h"), Some(8443)));
    assert_eq!(redirect.path, RedirectPath::Replace("/p".to_owned()));
    assert!(redirect.status == 308 && redirect.strip_query);
    let RouteTarget::Redirect(redirect) = target("redirect: {}") else { panic!() };
    assert_eq!((&redirect.scheme, redirect.port, redirect.status), (&None, None, 301));

    let RouteTarget::DirectResponse(response) =
        target("direct_response: { status: 204, body: { inline_bytes: \"aGk-_w\" } }")
    else {
        panic!()
    };
    assert_eq!((response.status, response.body.as_slice()), (204, b"hi>\xff".as_slice()));
}

#[test]
fn matches_and_domains() {
    let bootstrap = loaded(&with(&[
        ("domains: [\"*\"]", "domains: [WWW.Shop.Example, \"*.Example\", \"shop.*\", \"*\"]"),
        (
            "{ prefix: \"/\" }",
            "{ safe_regex: { google_re2: {}, regex: \"/a|/b\" }, case_sensitive: false }",
        ),
    ]));
    let host = &manager(&bootstrap).route_config.virtual_hosts[0];
    assert_eq!(host.domains, ["www.shop.example", "*.example", "shop.*", "*"]);
    assert_eq!(host.routes[0].matches.path, PathMatch::Regex("/a|/b".to_owned()));
    assert!(!host.routes[0].matches.case_sensitive);
}

#[test]
fn clusters_and_endpoints() {
    let text = with(&[
        (
            "    type: STATIC\n",
            "    type: STRICT_DNS
    alt_stat_name: other
    dns_refresh_rate: 30s
    respect_dns_ttl: true
    dns_lookup_family: V4_PREFERRED
    per_connection_buffer_limit_bytes: 32768
    circuit_breakers:
      thresholds:
      - { max_connections: 1, max_pending_requests: 2, max_requests: 3, max_retries: 4 }
      - { priority: HIGH, max_requests: 5 }
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        common_http_protocol_options:
          idle_timeout: 9s
          max_requests_per_connection: 7
          max_headers_count: 20
        explicit_http_config: { http_protocol_options: {} }
",
        ),
        (
            "      - lb_endpoints:\n",
            "      - locality: { region: r, zone: z, sub_zone: s }
        lb_endpoints:
        - health_status: DRAINING
          load_balancing_weight: 3
          endpoint:
            hostname: h
            address: { socket_address: { address: shop.example, port_value: 81 } }
",
        ),
    ]);
    let bootstrap = loaded(&text);
    let cluster = &bootstrap.clusters[0];
    assert_eq!(cluster.stat_name, "other");
    let Discovery::StrictDns(dns) = &cluster.discovery else { panic!() };
    assert_eq!(dns.refresh_rate, Duration::from_secs(30));
    assert!(dns.respect_ttl && dns.waits_for_warm);
    assert_eq!(dns.family, DnsLookupFamily::V4Preferred);
    assert_eq!(cluster.per_connection_buffer_limit_bytes, 32768);
    let (default, high) = (cluster.circuit_breakers.default, cluster.circuit_breakers.high);
    assert_eq!((default.max_connections, default.max_pending_requests), (1, 2));
    assert_eq!((default.max_requests, default.max_retries), (3, 4));
    assert_eq!((high.max_connections, high.max_requests), (1024, 5));
    assert_eq!(cluster.idle_timeout, seconds(9));
    assert_eq!(cluster.max_requests_per_connection, Some(7));
    assert_eq!(cluster.max_response_headers_count, 20);
    let endpoint = &cluster.load_assignment.endpoints[0];
    let host = "shop.example".to_owned();
    assert_eq!(endpoint.address, Address::Name { host, port: 81 });
    assert_eq!((endpoint.hostname.as_str(), endpoint.weight), ("h", 3));
    assert_eq!(endpoint.health_status, HealthStatus::Draining);
    assert_eq!(*endpoint.locality, ["r", "z", "s"]);
    assert_eq!(cluster.load_assignment.endpoints[1].health_status, HealthStatus::Unknown);
}

#[test]
fn upstream_protocols() {
    let options = |config: &str| {
        problems(&with(&[(
            "    type: STATIC\n",
            &format!(
                "    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        {config}\n"
            ),
        )]))
    };
    let rows = [
        (
            "explicit_http_config: { http3_protocol_options: {} }",
            "HttpProtocolOptions.ExplicitHttpConfig is not supported yet",
        ),
        ("auto_config: {}", "`auto_config` chooses the version by ALPN"),
        (
            "common_http_protocol_options: {}",
            "one of `explicit_http_config`, `use_downstream_protocol_config`, `auto_config` is",
        ),
    ];
    for (config, expected) in rows {
        let found = options(config);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains(expected), "{found:#?}");
        assert!(found[0].contains(
            "static_resources.clusters[0].typed_extension_protocol_options\
             [\"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\"]"
        ));
    }
}

#[test]
fn names_node_and_admin() {
    let text = with(&[
        ("  - name: l\n    address:", "  - address:"),
        (
            "static_resources:\n",
            "node:
  id: me
  cluster: k
  metadata: { a: [1, { b: c }] }
  locality: { zone: z }
admin:
  access_log_path: /dev/null
  address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
static_resources:\n",
        ),
    ]);
    let bootstrap = loaded(&text);
    assert_eq!(bootstrap.listeners[0].name, "127.0.0.1:10000");
    assert_eq!((bootstrap.node.id.as_str(), bootstrap.node.cluster.as_str()), ("me", "k"));
    let expected = serde_json::json!({
        "id": "me",
        "cluster": "k",
        "locality": { "zone": "z" },
        "metadata": { "a": [1.0, { "b": "c" }] },
    });
    assert_eq!(bootstrap.node.json, expected);
    let admin = bootstrap.admin.unwrap();
    assert_eq!(admin.address.to_string(), "127.0.0.1:0");
    assert_eq!(admin.access_log[0].sink, AccessLogSink::File(PathBuf::from("/dev/null")));
    assert!(problems("admin: { address: {} }")[0].contains("is required"));
}

#[test]
fn balancing_and_priorities() {
    let text = with(&[
        (
            "    type: STATIC\n",
            "    common_lb_config: { healthy_panic_threshold: { value: 12.9 } }
    load_balancing_policy:
      policies:
      - typed_extension_config:
          name: x
          typed_config:
            \"@type\": type.googleapis.com/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest
            choice_count: 5
            active_request_bias: { default_value: 0.5, runtime_key: x }
            locality_lb_config: { locality_weighted_lb_config: {} }
",
        ),
        (
            "      - lb_endpoints:\n",
            "      - priority: 2
        load_balancing_weight: 7
        lb_endpoints:\n",
        ),
        (
            "      endpoints:\n",
            "      policy: { overprovisioning_factor: 200, weighted_priority_health: true }
      endpoints:\n",
        ),
    ]);
    let cluster = loaded(&text).clusters[0].clone();
    let LbPolicy::LeastRequest(policy) = cluster.load_balancing.policy else { panic!() };
    assert_eq!((policy.choice_count, policy.active_request_bias), (5, 0.5));
    assert!(!policy.is_full_scan && cluster.load_balancing.is_locality_weighted);
    assert_eq!(cluster.load_balancing.healthy_panic_percent, 12);
    let assignment = &cluster.load_assignment;
    assert_eq!(assignment.overprovisioning_factor, 200);
    assert!(assignment.weighted_priority_health);
    let endpoint = &assignment.endpoints[0];
    assert_eq!((endpoint.priority, endpoint.locality_weight), (2, 7));
}

#[test]
fn a_dns_cluster() {
    let text = with(&[
        (
            "    type: STATIC\n",
            "    wait_for_warm_on_init: false
    cluster_type:
      name: envoy.clusters.dns
      typed_config:
        \"@type\": type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster
        dns_refresh_rate: 9s
        dns_failure_refresh_rate: { base_interval: 2s }
        dns_jitter: 1s
        dns_min_refresh_rate: 3s
        respect_dns_ttl: true
        dns_lookup_family: ALL
        all_addresses_in_single_endpoint: true
        typed_dns_resolver_config:
          name: x
          typed_config:
            \"@type\": type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig
            resolvers: [{ socket_address: { address: 10.0.0.53, port_value: 53 } }]
            dns_resolver_options: { use_tcp_for_dns_lookups: true, no_default_search_domain: true }
",
        ),
        ("address: 127.0.0.1, port_value: 80 }", "address: shop.example, port_value: 80 }"),
    ]);
    let cluster = loaded(&text).clusters[0].clone();
    let Discovery::LogicalDns(dns) = &cluster.discovery else { panic!() };
    assert_eq!((dns.family, dns.refresh_rate), (DnsLookupFamily::All, Duration::from_secs(9)));
    let failure = dns.failure_refresh_rate.unwrap();
    assert_eq!(failure.max_interval, Duration::from_secs(20));
    assert_eq!((dns.jitter, dns.min_refresh_rate).1, Duration::from_secs(3));
    assert!(dns.respect_ttl && !dns.waits_for_warm);
    assert_eq!(dns.resolver.servers, ["10.0.0.53:53".parse().unwrap()]);
    assert!(dns.resolver.tcp_only && dns.resolver.no_search_domain);
}

#[test]
fn connections_of_a_cluster() {
    let text = with(&[(
        "    type: STATIC\n",
        "    upstream_bind_config:
      source_address: { address: 127.0.0.9, port_value: 0 }
      extra_source_addresses: [{ address: { address: \"::1\", port_value: 0 } }]
      freebind: true
    upstream_connection_options: { tcp_keepalive: { keepalive_time: 30, keepalive_probes: 3 } }
    circuit_breakers: { per_host_thresholds: [{ max_connections: 4 }] }
    max_requests_per_connection: 8
    http_protocol_options: { header_key_format: { proper_case_words: {} } }
    common_http_protocol_options: { max_connection_duration: 60s }
",
    )]);
    let cluster = loaded(&text).clusters[0].clone();
    let connections = &cluster.connections;
    assert_eq!(connections.sources.len(), 2);
    assert!(connections.freebind);
    let keepalive = connections.keepalive.unwrap();
    assert_eq!(
        (keepalive.time_s, keepalive.probes, keepalive.interval_s),
        (Some(30), Some(3), None)
    );
    assert_eq!(cluster.circuit_breakers.max_connections_per_host, Some(4));
    assert_eq!(cluster.max_requests_per_connection, Some(8));
    assert_eq!(cluster.max_connection_duration, seconds(60));
    assert_eq!(cluster.http1.header_key_format, HeaderKeyFormat::ProperCaseWords);
}
