//! `extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`.
//!
//! What it leaves to others: carrying it out (`proxy`). Timeouts: `None` means no timeout.

use super::{AccessLog, RouteConfiguration};
use std::sync::Arc;
use std::time::Duration;

/// A validated HTTP connection manager.
#[derive(Clone, PartialEq, Debug)]
pub struct HttpConnectionManager {
    /// `stat_prefix`
    pub stat_prefix: String,
    /// `route_config`
    pub route_config: Arc<RouteConfiguration>,
    /// `http_protocol_options` and what else belongs to the HTTP/1 codec.
    pub http1: Http1Options,
    /// `max_request_headers_kb` in bytes, default 60 KiB.
    pub max_request_headers_bytes: u32,
    /// `common_http_protocol_options.max_headers_count`, default 100.
    pub max_headers_count: u32,
    /// `common_http_protocol_options.idle_timeout`, default 1 h.
    pub idle_timeout: Option<Duration>,
    /// `common_http_protocol_options.max_connection_duration`
    pub max_connection_duration: Option<Duration>,
    /// `common_http_protocol_options.max_requests_per_connection`, `None` without bound.
    pub max_requests_per_connection: Option<u32>,
    /// `stream_idle_timeout`, default 5 min.
    pub stream_idle_timeout: Option<Duration>,
    /// `request_timeout`, default none.
    pub request_timeout: Option<Duration>,
    /// `request_headers_timeout`, default none.
    pub request_headers_timeout: Option<Duration>,
    /// `drain_timeout`, default 5 s.
    pub drain_timeout: Duration,
    /// `delayed_close_timeout`, default 1 s; `None` closes at once.
    pub delayed_close_timeout: Option<Duration>,
    /// `server_name`, default `envoy`.
    pub server_name: String,
    /// `server_header_transformation`
    pub server_header: ServerHeader,
    /// `use_remote_address`, default false.
    pub use_remote_address: bool,
    /// `skip_xff_append`, default false.
    pub skip_xff_append: bool,
    /// `generate_request_id`, default true.
    pub generate_request_id: bool,
    /// `preserve_external_request_id`, default false.
    pub preserve_external_request_id: bool,
    /// `always_set_request_id_in_response`, default false.
    pub always_set_request_id_in_response: bool,
    /// `upgrade_configs` at this level: upgrade types that are enabled, in lower case.
    pub upgrades: Vec<String>,
    /// `access_log`
    pub access_log: Vec<AccessLog>,
}

/// `config.core.v3.Http1ProtocolOptions`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Http1Options {
    /// `accept_http_10`
    pub accept_http_10: bool,
    /// `allow_absolute_url` set to false.
    pub reject_absolute_url: bool,
    /// `enable_trailers`
    pub enable_trailers: bool,
}

/// `server_header_transformation`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ServerHeader {
    /// `OVERWRITE`
    #[default]
    Overwrite,
    /// `APPEND_IF_ABSENT`
    AppendIfAbsent,
    /// `PASS_THROUGH`
    PassThrough,
}
