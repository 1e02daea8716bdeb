//! `extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`.
//!
//! What it leaves to others: carrying it out (`proxy`). Timeouts: `None` means no timeout.

use super::bootstrap::ClusterNames;
use super::convert::{At, is_type};
use super::support::{
    SupportedMessage, kept, message, must, only, refused, reported, strict, types, used,
};
use super::{AccessLog, RouteConfiguration};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use pb::http_connection_manager::{RouteSpecifier, ServerHeaderTransformation};
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

const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";
const NO_HTTP2: &str = "HTTP/2 is not spoken yet";
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const DEFAULT_STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_DELAYED_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_MAX_REQUEST_HEADERS_KB: u32 = 60;
const DEFAULT_MAX_HEADERS_COUNT: u32 = 100;

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        &[
            must("codec_type", &["AUTO", "HTTP1"]),
            used("stat_prefix"),
            used("route_config"),
            refused("rds"),
            refused("scoped_routes"),
            used("http_filters"),
            used("http_protocol_options"),
            reported("http2_protocol_options", NO_HTTP2),
            used("max_request_headers_kb"),
            used("common_http_protocol_options"),
            used("stream_idle_timeout"),
            used("request_timeout"),
            used("request_headers_timeout"),
            used("drain_timeout"),
            used("delayed_close_timeout"),
            used("server_name"),
            used("server_header_transformation"),
            used("use_remote_address"),
            used("skip_xff_append"),
            used("generate_request_id"),
            used("preserve_external_request_id"),
            used("always_set_request_id_in_response"),
            used("upgrade_configs"),
            used("access_log"),
            used("internal_address_config"),
            only("add_user_agent", &["false"]),
            only("xff_num_trusted_hops", &["0"]),
            only("proxy_100_continue", &["false"]),
            only("represent_ipv4_remote_address_as_ipv4_mapped_ipv6", &["false"]),
            only("forward_client_cert_details", &["SANITIZE"]),
            kept("set_current_client_cert_details", "there are no client certificates"),
            kept("add_proxy_protocol_connection_state", "there is no PROXY protocol"),
            only("normalize_path", &["false"]),
            only("merge_slashes", &["false"]),
            only(
                "path_with_escaped_slashes_action",
                &["IMPLEMENTATION_SPECIFIC_DEFAULT", "KEEP_UNCHANGED"],
            ),
            only("strip_matching_host_port", &["false"]),
            only("strip_any_host_port", &["false"]),
            only("strip_trailing_host_dot", &["false"]),
            only("stream_error_on_invalid_http_message", &["false"]),
            only("append_x_forwarded_port", &["false"]),
            only("append_local_overload", &["false"]),
            only("http1_safe_max_connection_duration", &["false"]),
            only("flush_access_log_on_new_request", &["false"]),
        ],
    ),
    // Nothing of it: an empty one calls no address internal, as Envoy's default does.
    message(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\
         .InternalAddressConfig",
        &[],
    ),
    message(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\
         .UpgradeConfig",
        &[used("upgrade_type"), used("enabled")],
    ),
    // A filter that is left out can be the one that keeps requests out.
    strict(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        &[
            used("name"),
            types("typed_config", &[ROUTER]),
            must("disabled", &["false"]),
            kept("is_optional", "a filter is known or refused by name"),
        ],
    ),
    message(
        ROUTER,
        &[
            kept("start_child_span", "there is no tracing"),
            only("dynamic_stats", &["true"]),
            only("suppress_envoy_headers", &["false"]),
            only("respect_expected_rq_timeout", &["false"]),
            only("suppress_grpc_request_failure_code_stats", &["false"]),
        ],
    ),
    message(
        "envoy.config.core.v3.HttpProtocolOptions",
        &[
            used("idle_timeout"),
            used("max_connection_duration"),
            used("max_headers_count"),
            used("max_requests_per_connection"),
            only("headers_with_underscores_action", &["ALLOW"]),
        ],
    ),
    message(
        "envoy.config.core.v3.Http1ProtocolOptions",
        &[
            used("accept_http_10"),
            used("allow_absolute_url"),
            used("enable_trailers"),
            kept("use_balsa_parser", "there is one parser"),
            only("allow_chunked_length", &["false"]),
            only("allow_custom_methods", &["false"]),
            only("send_fully_qualified_url", &["false"]),
            only("override_stream_error_on_invalid_http_message", &["false"]),
        ],
    ),
];

impl HttpConnectionManager {
    /// Converts an HTTP connection manager; what is wrong is reported.
    pub(super) fn from_proto(
        at: &At<'_>,
        manager: &pb::HttpConnectionManager,
        clusters: &ClusterNames<'_>,
    ) -> Option<HttpConnectionManager> {
        let common = manager.common_http_protocol_options.unwrap_or_default();
        let at_common = at.field("common_http_protocol_options");
        let common = CommonOptions::from_proto(&at_common, &common);
        check_http_filters(at, &manager.http_filters);
        let route_config = route_config(at, manager, clusters);
        let timeout =
            |name, value: &Option<_>, default| at.field(name).timeout(value.as_ref(), default);
        let drain_timeout = at.field("drain_timeout").duration(manager.drain_timeout.as_ref());
        let max_request_headers_kb = manager
            .max_request_headers_kb
            .map_or(DEFAULT_MAX_REQUEST_HEADERS_KB, |limit| limit.value);
        Some(HttpConnectionManager {
            stat_prefix: manager.stat_prefix.clone(),
            http1: Http1Options::from_proto(manager.http_protocol_options.as_ref()),
            // The .proto file allows 8192 at most.
            max_request_headers_bytes: max_request_headers_kb.saturating_mul(1024),
            max_headers_count: common.max_headers_count.unwrap_or(DEFAULT_MAX_HEADERS_COUNT),
            idle_timeout: common.idle_timeout,
            max_connection_duration: common.max_connection_duration,
            max_requests_per_connection: common.max_requests_per_connection,
            stream_idle_timeout: timeout(
                "stream_idle_timeout",
                &manager.stream_idle_timeout,
                Some(DEFAULT_STREAM_IDLE_TIMEOUT),
            ),
            request_timeout: timeout("request_timeout", &manager.request_timeout, None),
            request_headers_timeout: timeout(
                "request_headers_timeout",
                &manager.request_headers_timeout,
                None,
            ),
            drain_timeout: drain_timeout.unwrap_or(DEFAULT_DRAIN_TIMEOUT),
            delayed_close_timeout: timeout(
                "delayed_close_timeout",
                &manager.delayed_close_timeout,
                Some(DEFAULT_DELAYED_CLOSE_TIMEOUT),
            ),
            server_name: match manager.server_name.as_str() {
                "" => "envoy".to_owned(),
                name => name.to_owned(),
            },
            server_header: ServerHeader::from_proto(manager.server_header_transformation()),
            use_remote_address: manager.use_remote_address.is_some_and(|flag| flag.value),
            skip_xff_append: manager.skip_xff_append,
            generate_request_id: manager.generate_request_id.is_none_or(|flag| flag.value),
            preserve_external_request_id: manager.preserve_external_request_id,
            always_set_request_id_in_response: manager.always_set_request_id_in_response,
            upgrades: upgrades(at, &manager.upgrade_configs),
            access_log: AccessLog::all_from_proto(&at.field("access_log"), &manager.access_log),
            route_config: Arc::new(route_config?),
        })
    }
}

fn route_config(
    at: &At<'_>,
    manager: &pb::HttpConnectionManager,
    clusters: &ClusterNames<'_>,
) -> Option<RouteConfiguration> {
    match &manager.route_specifier {
        Some(RouteSpecifier::RouteConfig(config)) => {
            RouteConfiguration::from_proto(&at.field("route_config"), config, clusters)
        }
        // The reader has refused the others by name, or has reported that there is none.
        Some(RouteSpecifier::Rds(_) | RouteSpecifier::ScopedRoutes(_)) | None => None,
    }
}

/// The chain must end with the router, and have it only there.
fn check_http_filters(at: &At<'_>, filters: &[pb::HttpFilter]) {
    let at = at.field("http_filters");
    for (index, filter) in filters.iter().enumerate() {
        let at = at.index(index);
        let Some(pb::http_filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
            let hint = filter
                .name
                .ends_with("router")
                .then(|| format!("add \"@type\": type.googleapis.com/{ROUTER}"));
            at.missing("typed_config", hint.as_deref());
            continue;
        };
        if is_type(any, ROUTER) && index + 1 < filters.len() {
            at.error("the router is terminal: it must be the last of the http_filters");
        }
    }
    let at_last = at.index(filters.len().saturating_sub(1));
    if at.is_unreadable() || at_last.field("typed_config").is_unreadable() {
        return;
    }
    let last = filters.last().and_then(|filter| filter.config_type.as_ref());
    let ends_with_router = match last {
        Some(pb::http_filter::ConfigType::TypedConfig(any)) => is_type(any, ROUTER),
        // That its config is missing was reported already.
        _ => !filters.is_empty(),
    };
    if !ends_with_router {
        let hint = format!(
            "add {{name: envoy.filters.http.router, typed_config: {{\"@type\": \
             type.googleapis.com/{ROUTER}}}}}"
        );
        at.error_hint("`http_filters` must end with the router", hint);
    }
}

/// `upgrade_configs` of a connection manager: those that are enabled, in lower case.
fn upgrades(at: &At<'_>, configs: &[pb::http_connection_manager::UpgradeConfig]) -> Vec<String> {
    let at = at.field("upgrade_configs");
    let mut upgrades: Vec<String> = Vec::new();
    for (index, config) in configs.iter().enumerate() {
        let at = at.index(index);
        let Some(name) = upgrade_type(&at, &config.upgrade_type) else { continue };
        if upgrades.contains(&name) {
            at.error(format!("the upgrade `{name}` is there twice"));
        } else if config.enabled.is_none_or(|enabled| enabled.value) {
            upgrades.push(name);
        }
    }
    upgrades
}

/// The name of an upgrade in lower case. CONNECT is not an upgrade on the wire, but is enabled like
/// one.
pub(super) fn upgrade_type(at: &At<'_>, name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if lower == "connect-udp" {
        at.field("upgrade_type").error(format!("`{name}` is not supported yet"));
        return None;
    }
    if lower.is_empty() {
        at.missing("upgrade_type", Some("for example websocket"));
        return None;
    }
    Some(lower)
}

/// `config.core.v3.HttpProtocolOptions`, downstream and upstream.
pub(super) struct CommonOptions {
    pub idle_timeout: Option<Duration>,
    pub max_connection_duration: Option<Duration>,
    pub max_headers_count: Option<u32>,
    pub max_requests_per_connection: Option<u32>,
}

impl CommonOptions {
    pub(super) fn from_proto(at: &At<'_>, options: &core::HttpProtocolOptions) -> CommonOptions {
        let default = Some(DEFAULT_IDLE_TIMEOUT);
        let max_duration = options.max_connection_duration.as_ref();
        CommonOptions {
            idle_timeout: at.field("idle_timeout").timeout(options.idle_timeout.as_ref(), default),
            max_connection_duration: at
                .field("max_connection_duration")
                .timeout(max_duration, None),
            max_headers_count: options.max_headers_count.map(|count| count.value),
            max_requests_per_connection: options
                .max_requests_per_connection
                .map(|requests| requests.value)
                .filter(|requests| *requests > 0),
        }
    }
}

impl Http1Options {
    pub(super) fn from_proto(options: Option<&core::Http1ProtocolOptions>) -> Http1Options {
        let Some(options) = options else { return Http1Options::default() };
        Http1Options {
            accept_http_10: options.accept_http_10,
            reject_absolute_url: options.allow_absolute_url.is_some_and(|flag| !flag.value),
            enable_trailers: options.enable_trailers,
        }
    }
}

impl ServerHeader {
    fn from_proto(transformation: ServerHeaderTransformation) -> ServerHeader {
        match transformation {
            ServerHeaderTransformation::Overwrite => ServerHeader::Overwrite,
            ServerHeaderTransformation::AppendIfAbsent => ServerHeader::AppendIfAbsent,
            ServerHeaderTransformation::PassThrough => ServerHeader::PassThrough,
        }
    }
}
