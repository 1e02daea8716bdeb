//! HTTP/2 in the configuration: who speaks it, with which options.
//!
//! What it leaves to others: the rules of numbers in Envoy's .proto files (`envoy_verdicts`).

use super::{loaded, manager, problems, try_load, with};
use std::time::Duration;
use tidegate::config::{
    Cluster, CodecType, Http2Keepalive, Http2Options, HttpConnectionManager, PrematureResets,
    UpstreamProtocol,
};

const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

fn with_manager(lines: &str) -> String {
    with(&[("stat_prefix: s\n", &format!("stat_prefix: s\n          {lines}\n"))])
}

fn loaded_manager(lines: &str) -> HttpConnectionManager {
    manager(&loaded(&with_manager(lines))).clone()
}

fn with_cluster(lines: &str) -> String {
    with(&[("    type: STATIC\n", &format!("    type: STATIC\n    {lines}\n"))])
}

fn typed(config: &str) -> String {
    format!(
        "typed_extension_protocol_options: {{ {OPTIONS}: {{ \"@type\": \
             type.googleapis.com/{OPTIONS}, {config} }} }}"
    )
}

fn loaded_cluster(lines: &str) -> Cluster {
    (*loaded(&with_cluster(lines)).clusters[0]).clone()
}

/// The only problem there is.
fn problem(text: &str) -> String {
    let mut found = problems(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

#[test]
fn codecs() {
    let rows = [
        ("codec_type: AUTO", CodecType::Auto),
        ("codec_type: HTTP1", CodecType::Http1),
        ("codec_type: HTTP2", CodecType::Http2),
        ("codec_type: http2", CodecType::Http2),
        ("codec_type: 2", CodecType::Http2),
        ("via: v", CodecType::Auto),
    ];
    for (line, expected) in rows {
        assert_eq!(loaded_manager(line).codec_type, expected, "{line}");
    }
    let http3 = problem(&with_manager("codec_type: HTTP3"));
    assert!(http3.contains("not supported yet; supported: `AUTO`, `HTTP1`, `HTTP2`"), "{http3}");
    let unused = problem(&with_manager("codec_type: HTTP1\n          http2_protocol_options: {}"));
    assert!(unused.contains("http2_protocol_options: it has no effect with `codec_type"));
}

#[test]
fn the_whole_options() {
    assert_eq!(loaded_manager("http2_protocol_options: {}").http2, Http2Options::default());
    let options = "
            hpack_table_size: 0
            max_concurrent_streams: 2
            initial_stream_window_size: 65536
            initial_connection_window_size: 65537
            allow_connect: true
            allow_metadata: false
            max_outbound_frames: 3
            max_outbound_control_frames: 4
            max_consecutive_inbound_frames_with_empty_payload: 0
            max_inbound_priority_frames_per_stream: 5
            max_inbound_window_update_frames_per_data_frame_sent: 6
            override_stream_error_on_invalid_http_message: true
            connection_keepalive: { interval: 10s, timeout: 0.5s, interval_jitter: { value: 50 } }
            use_oghttp2_codec: true
            max_metadata_size: 7
            enable_huffman_encoding: true";
    let expected = Http2Options {
        hpack_table_size: 0,
        max_concurrent_streams: 2,
        initial_stream_window_size: 65536,
        initial_connection_window_size: 65537,
        allow_connect: true,
        max_outbound_frames: 3,
        max_outbound_control_frames: 4,
        max_consecutive_inbound_frames_with_empty_payload: 0,
        max_inbound_priority_frames_per_stream: 5,
        max_inbound_window_update_frames_per_data_frame_sent: 6,
        stream_error: true,
        keepalive: Some(Http2Keepalive {
            interval: Some(Duration::from_secs(10)),
            interval_jitter: Duration::from_secs(5),
            timeout: Duration::from_millis(500),
            connection_idle_interval: None,
        }),
        huffman: true,
    };
    assert_eq!(loaded_manager(&format!("http2_protocol_options:{options}")).http2, expected);
}

#[test]
fn pings() {
    let of = |settings: &str| {
        let options = format!("http2_protocol_options: {{ connection_keepalive: {settings} }}");
        loaded_cluster(&typed(&format!("explicit_http_config: {{ {options} }}"))).http2.keepalive
    };
    let keepalive = of("{ interval: 2s, timeout: 1s }").unwrap();
    assert_eq!(keepalive.interval_jitter, Duration::from_millis(300), "15 % of it");
    assert_eq!(
        of("{ interval: 2s, timeout: 1s, interval_jitter: {} }").unwrap().interval_jitter,
        Duration::ZERO
    );
    let keepalive = of("{ timeout: 1s, connection_idle_interval: 3s }").unwrap();
    assert_eq!((keepalive.interval, keepalive.interval_jitter), (None, Duration::ZERO));
    assert_eq!(keepalive.connection_idle_interval, Some(Duration::from_secs(3)));
    let downstream = problem(&with_manager(
        "http2_protocol_options: { connection_keepalive: { timeout: 1s, \
         connection_idle_interval: 3s } }",
    ));
    assert!(downstream.contains("connection_idle_interval: it has no effect downstream"));
}

#[test]
fn what_is_wrong_with_a_message_ends_its_stream_or_its_connection() {
    let new = "override_stream_error_on_invalid_http_message";
    let old = "stream_error_on_invalid_http_messaging";
    let rows = [
        (None, String::new(), false),
        (Some(true), String::new(), true),
        (Some(true), format!("{new}: false"), false),
        (Some(false), format!("{new}: true"), true),
        // The deprecated one counts last.
        (None, format!("{old}: true"), true),
        (Some(false), format!("{old}: true"), false),
        (None, format!("{old}: true, {new}: false"), false),
    ];
    for (of_manager, options, expected) in rows {
        let mut lines = format!("http2_protocol_options: {{ {options} }}");
        if let Some(value) = of_manager {
            lines += &format!("\n          stream_error_on_invalid_http_message: {value}");
        }
        let manager = loaded_manager(&lines);
        assert_eq!(manager.http2.stream_error, expected, "{lines}");
        assert_eq!(manager.stream_error, of_manager.unwrap_or(false), "of HTTP/1: {lines}");
    }
}

#[test]
fn what_is_refused_says_why() {
    let rows = [
        ("allow_metadata: true", "`allow_metadata: true` is not supported yet"),
        ("disallow_obs_text: true", "`disallow_obs_text: true` is not supported yet"),
        ("stream_reset_burst: 1", "overload.premature_reset_total_stream_count"),
        ("stream_reset_rate: 1", "overload.premature_reset_total_stream_count"),
        (
            "custom_settings_parameters: [{ identifier: 99, value: 1 }]",
            "only the settings that have fields of their own are sent",
        ),
        ("max_header_field_size_kb: 64", "must not exceed `max_request_headers_kb`, 60"),
        ("max_concurrent_streams: 0", "must"),
        (
            "connection_keepalive: { interval: 1s, timeout: 1s, interval_jitter: { value: -1 } }",
            "`value` must be at least 0",
        ),
        ("connection_keepalive: { interval: 1s }", "`timeout` is required"),
    ];
    for (option, expected) in rows {
        let found = problem(&with_manager(&format!("http2_protocol_options: {{ {option} }}")));
        assert!(found.contains(expected), "{option}: {found}");
    }
    let large = "max_request_headers_kb: 96\n          http2_protocol_options: \
                 { max_header_field_size_kb: 96 }";
    assert_eq!(problems(&with_manager(large)), [] as [String; 0]);
}

#[test]
fn resets_are_bounded_by_the_runtime() {
    assert_eq!(manager(&loaded(&with(&[]))).premature_resets, PrematureResets::default());
    let text = with(&[(
        "static_resources:\n",
        "layered_runtime:
  layers:
  - name: a
    static_layer:
      overload.premature_reset_total_stream_count: 20
      overload: { premature_reset_min_stream_lifetime_seconds: 3 }
static_resources:\n",
    )]);
    let expected =
        PrematureResets { total_stream_count: 20, min_stream_lifetime: Duration::from_secs(3) };
    assert_eq!(manager(&loaded(&text)).premature_resets, expected);
}

#[test]
fn what_is_spoken_upstream() {
    use UpstreamProtocol::{Http1, Http2, SameAsDownstream};
    let h2 = "http2_protocol_options: { max_concurrent_streams: 7 }";
    let same = "protocol_selection: USE_DOWNSTREAM_PROTOCOL";
    let rows = [
        (String::new(), Http1, 1024),
        (typed("explicit_http_config: { http_protocol_options: {} }"), Http1, 1024),
        (typed(&format!("explicit_http_config: {{ {h2} }}")), Http2, 7),
        (typed("use_downstream_protocol_config: {}"), SameAsDownstream, 1024),
        (
            typed(&format!(
                "use_downstream_protocol_config: {{ http_protocol_options: {{}}, {h2} }}"
            )),
            SameAsDownstream,
            7,
        ),
        (h2.to_owned(), Http2, 7),
        (same.to_owned(), SameAsDownstream, 1024),
        (format!("{same}\n    http_protocol_options: {{}}\n    {h2}"), SameAsDownstream, 7),
    ];
    for (lines, protocol, streams) in rows {
        let cluster = loaded_cluster(&lines);
        assert_eq!(cluster.protocol, protocol, "{lines}");
        assert_eq!(cluster.http2.max_concurrent_streams, streams, "{lines}");
    }
    let both = problem(&with_cluster(&format!("http_protocol_options: {{}}\n    {h2}")));
    assert!(both.contains("exclude each other (unless `protocol_selection`"), "{both}");
    let alpn = problem(&with_cluster(&typed("auto_config: {}")));
    assert!(alpn.contains("by ALPN, which needs a TLS transport socket"), "{alpn}");
}

#[test]
fn deprecated_fields_have_no_effect_beside_the_options() {
    let of_typed = typed("explicit_http_config: { http_protocol_options: {} }");
    for field in ["http2_protocol_options: {}", "protocol_selection: USE_DOWNSTREAM_PROTOCOL"] {
        let text = with_cluster(&format!("{of_typed}\n    {field}"));
        let (bootstrap, warnings) = try_load(&text).unwrap();
        assert_eq!(bootstrap.clusters[0].protocol, UpstreamProtocol::Http1);
        assert_eq!(warnings.len(), 1, "{warnings:#?}");
        assert!(warnings[0].reason.contains("no effect beside HttpProtocolOptions"));
    }
}

#[test]
fn connections_are_made_ahead_where_a_ratio_asks_for_it() {
    let of = |policy: &str| {
        let cluster = loaded_cluster(&format!("preconnect_policy: {{ {policy} }}"));
        cluster.connections.preconnect_millionths
    };
    assert_eq!(of(""), None);
    assert_eq!(of("per_upstream_preconnect_ratio: 1"), None);
    assert_eq!(of("per_upstream_preconnect_ratio: 1.5"), Some(1_500_000));
    for (policy, expected) in [
        ("per_upstream_preconnect_ratio: 3.5", "per_upstream_preconnect_ratio"),
        ("predictive_preconnect_ratio: 1.5", "predictive_preconnect_ratio"),
    ] {
        let found = problem(&with_cluster(&format!("preconnect_policy: {{ {policy} }}")));
        assert!(found.contains(expected), "{found}");
    }
}
