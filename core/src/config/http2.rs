//! Options of the HTTP/2 codec, downstream and upstream (`config.core.v3.Http2ProtocolOptions`),
//! and what the runtime says of resets.
//!
//! What it leaves to others: carrying them out (`tidegate-http`, `proxy`).

#![allow(deprecated, reason = "Envoy still accepts fields that it calls deprecated")]

use super::convert::At;
use super::support::{SupportedMessage, kept, message, only, used};
use envoy_types::pb::envoy::config::core::v3 as core;
use std::time::Duration;

/// `config.core.v3.Http2ProtocolOptions`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http2Options {
    /// `hpack_table_size`, default 4096.
    pub hpack_table_size: u32,
    /// `max_concurrent_streams`, default 1024: of a client, or that we open to an upstream.
    pub max_concurrent_streams: u32,
    /// `initial_stream_window_size`, default 16 MiB.
    pub initial_stream_window_size: u32,
    /// `initial_connection_window_size`, default 24 MiB.
    pub initial_connection_window_size: u32,
    /// `allow_connect`
    pub allow_connect: bool,
    /// `max_outbound_frames`, default 10,000.
    pub max_outbound_frames: u32,
    /// `max_outbound_control_frames`, default 1000.
    pub max_outbound_control_frames: u32,
    /// `max_consecutive_inbound_frames_with_empty_payload`, default 1.
    pub max_consecutive_inbound_frames_with_empty_payload: u32,
    /// `max_inbound_priority_frames_per_stream`, default 100.
    pub max_inbound_priority_frames_per_stream: u32,
    /// `max_inbound_window_update_frames_per_data_frame_sent`, default 10.
    pub max_inbound_window_update_frames_per_data_frame_sent: u32,
    /// `override_stream_error_on_invalid_http_message`, or else the connection manager's
    /// `stream_error_on_invalid_http_message`, or else the deprecated
    /// `stream_error_on_invalid_http_messaging`: what is wrong with a message ends its stream only.
    pub stream_error: bool,
    /// `connection_keepalive`
    pub keepalive: Option<Http2Keepalive>,
    /// `enable_huffman_encoding`. The default is left to us; it is false, because it costs more
    /// than it saves near by. Envoy's is true.
    pub huffman: bool,
}

/// `config.core.v3.KeepaliveSettings`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Http2Keepalive {
    /// `interval`: a PING is sent this often, and later by chance: up to `interval_jitter`.
    pub interval: Option<Duration>,
    /// `interval_jitter`, default 15 % of the interval.
    pub interval_jitter: Duration,
    /// `timeout`: if nothing at all comes for so long after a PING, the connection is closed.
    pub timeout: Duration,
    /// `connection_idle_interval`: a connection that was idle for so long sends a PING ahead of its
    /// next stream, unless one is not answered yet. Upstream only.
    pub connection_idle_interval: Option<Duration>,
}

/// When a client that resets its streams soon is cut off: runtime values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrematureResets {
    /// `overload.premature_reset_total_stream_count`, default 500.
    pub total_stream_count: u32,
    /// `overload.premature_reset_min_stream_lifetime_seconds`, default 1.
    pub min_stream_lifetime: Duration,
}

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.core.v3.Http2ProtocolOptions",
        &[
            used("hpack_table_size"),
            used("max_concurrent_streams"),
            used("initial_stream_window_size"),
            used("initial_connection_window_size"),
            used("allow_connect"),
            only("allow_metadata", &["false"]),
            used("max_outbound_frames"),
            used("max_outbound_control_frames"),
            used("max_consecutive_inbound_frames_with_empty_payload"),
            used("max_inbound_priority_frames_per_stream"),
            used("max_inbound_window_update_frames_per_data_frame_sent"),
            used("stream_error_on_invalid_http_messaging"),
            used("override_stream_error_on_invalid_http_message"),
            used("connection_keepalive"),
            kept("use_oghttp2_codec", "there is one codec"),
            kept("max_metadata_size", "METADATA frames are not accepted"),
            used("enable_huffman_encoding"),
            kept("max_header_field_size_kb", "the whole head has a limit, and no field another"),
            only("disallow_obs_text", &["false"]),
        ],
    ),
    message(
        "envoy.config.core.v3.KeepaliveSettings",
        &[
            used("interval"),
            used("timeout"),
            used("interval_jitter"),
            used("connection_idle_interval"),
        ],
    ),
];

/// Envoy's defaults.
impl Default for Http2Options {
    fn default() -> Http2Options {
        Http2Options {
            hpack_table_size: 4096,
            max_concurrent_streams: 1024,
            initial_stream_window_size: 16 << 20,
            initial_connection_window_size: 24 << 20,
            allow_connect: false,
            max_outbound_frames: 10_000,
            max_outbound_control_frames: 1000,
            max_consecutive_inbound_frames_with_empty_payload: 1,
            max_inbound_priority_frames_per_stream: 100,
            max_inbound_window_update_frames_per_data_frame_sent: 10,
            stream_error: false,
            keepalive: None,
            huffman: false,
        }
    }
}

impl Http2Options {
    /// Converts the options of a connection manager; absent ones are the defaults.
    pub(super) fn of_downstream(
        at: &At<'_>,
        options: Option<&core::Http2ProtocolOptions>,
        stream_error: Option<bool>,
        max_request_headers_kb: u32,
    ) -> Http2Options {
        let converted = Http2Options::from_proto(at, options, stream_error);
        if converted.keepalive.is_some_and(|it| it.connection_idle_interval.is_some()) {
            let at = at.field("connection_keepalive");
            at.field("connection_idle_interval").warning("it has no effect downstream");
        }
        let field_kb = options.and_then(|options| options.max_header_field_size_kb);
        if field_kb.is_some_and(|limit| limit.value > max_request_headers_kb) {
            at.field("max_header_field_size_kb").error_hint(
                format!("it must not exceed `max_request_headers_kb`, {max_request_headers_kb}"),
                "leave it out: only the whole head has a limit here",
            );
        }
        converted
    }

    /// Converts the options of a cluster; absent ones are the defaults.
    pub(super) fn of_upstream(
        at: &At<'_>,
        options: Option<&core::Http2ProtocolOptions>,
    ) -> Http2Options {
        Http2Options::from_proto(at, options, None)
    }

    /// Numbers beyond Envoy's ranges were reported by the reader.
    fn from_proto(
        at: &At<'_>,
        options: Option<&core::Http2ProtocolOptions>,
        stream_error: Option<bool>,
    ) -> Http2Options {
        let options = options.cloned().unwrap_or_default();
        let default = Http2Options::default();
        let or = |value: Option<envoy_types::pb::google::protobuf::UInt32Value>, default: u32| {
            value.map_or(default, |value| value.value)
        };
        let keepalive = options.connection_keepalive.as_ref();
        Http2Options {
            hpack_table_size: or(options.hpack_table_size, default.hpack_table_size),
            max_concurrent_streams: or(
                options.max_concurrent_streams,
                default.max_concurrent_streams,
            ),
            initial_stream_window_size: or(
                options.initial_stream_window_size,
                default.initial_stream_window_size,
            ),
            initial_connection_window_size: or(
                options.initial_connection_window_size,
                default.initial_connection_window_size,
            ),
            allow_connect: options.allow_connect,
            max_outbound_frames: or(options.max_outbound_frames, default.max_outbound_frames),
            max_outbound_control_frames: or(
                options.max_outbound_control_frames,
                default.max_outbound_control_frames,
            ),
            max_consecutive_inbound_frames_with_empty_payload: or(
                options.max_consecutive_inbound_frames_with_empty_payload,
                default.max_consecutive_inbound_frames_with_empty_payload,
            ),
            max_inbound_priority_frames_per_stream: or(
                options.max_inbound_priority_frames_per_stream,
                default.max_inbound_priority_frames_per_stream,
            ),
            max_inbound_window_update_frames_per_data_frame_sent: or(
                options.max_inbound_window_update_frames_per_data_frame_sent,
                default.max_inbound_window_update_frames_per_data_frame_sent,
            ),
            stream_error: options
                .override_stream_error_on_invalid_http_message
                .map(|flag| flag.value)
                .or(stream_error)
                .unwrap_or(options.stream_error_on_invalid_http_messaging),
            keepalive: keepalive.and_then(|keepalive| {
                let at = at.field("connection_keepalive");
                at.converted(Http2Keepalive::from_proto(&at, keepalive))
            }),
            huffman: options.enable_huffman_encoding.map_or(default.huffman, |flag| flag.value),
        }
    }
}

impl Http2Keepalive {
    fn from_proto(at: &At<'_>, settings: &core::KeepaliveSettings) -> Option<Http2Keepalive> {
        let duration = |name, value: &Option<_>| at.field(name).duration(value.as_ref());
        let interval = duration("interval", &settings.interval);
        let percent = settings.interval_jitter.map_or(DEFAULT_JITTER_PERCENT, |it| it.value);
        // What is not was reported by the reader.
        let percent = if (0.0..=100.0).contains(&percent) { percent } else { 0.0 };
        Some(Http2Keepalive {
            interval,
            interval_jitter: interval.unwrap_or_default().mul_f64(percent / 100.0),
            timeout: duration("timeout", &settings.timeout)?,
            connection_idle_interval: duration(
                "connection_idle_interval",
                &settings.connection_idle_interval,
            ),
        })
    }
}

const DEFAULT_JITTER_PERCENT: f64 = 15.0;

impl Default for PrematureResets {
    fn default() -> PrematureResets {
        PrematureResets { total_stream_count: 500, min_stream_lifetime: Duration::from_secs(1) }
    }
}

impl PrematureResets {
    /// What the runtime says.
    pub(super) fn from_runtime(at: &At<'_>) -> PrematureResets {
        let runtime = at.runtime();
        let seconds = runtime.integer("overload.premature_reset_min_stream_lifetime_seconds", 1);
        PrematureResets {
            total_stream_count: runtime.integer("overload.premature_reset_total_stream_count", 500),
            min_stream_lifetime: Duration::from_secs(u64::from(seconds)),
        }
    }
}
