//! `extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`.
//!
//! What it leaves to others: carrying it out (`proxy`). Timeouts: `None` means no timeout.

use super::bootstrap::ClusterNames;
use super::client_address::ClientAddress;
use super::client_certificate::ForwardClientCert;
use super::config_source::ConfigSource;
use super::convert::At;
use super::grpc_stats::GrpcStats;
pub(super) use super::http_filters::upgrade_type;
use super::http_filters::{Router, upgrades};
use super::http1::{CommonOptions, DEFAULT_IDLE_TIMEOUT, Http1Options, UnderscoresAction};
use super::http2::{Http2Options, PrematureResets};
use super::local_reply::LocalReplyConfig;
use super::normalization::Normalization;
use super::scoped_routes::ScopedRoutes;
use super::support::{SupportedMessage, kept, message, must, only, types, used};
use super::{AccessLog, ProxyStatus, RouteConfiguration};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use envoy_types::pb::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use pb::http_connection_manager::{self, RouteSpecifier, ServerHeaderTransformation};
use std::sync::Arc;
use std::time::Duration;

/// A validated HTTP connection manager.
#[derive(Clone, PartialEq, Debug)]
pub struct HttpConnectionManager {
    /// `stat_prefix`
    pub stat_prefix: String,
    /// `route_config`
    pub route_config: Arc<RouteConfiguration>,
    /// `rds`: where `route_config` comes from, which is empty until then.
    pub rds: Option<Rds>,
    /// `scoped_routes`: `route_config` is empty, and each request has the routes of its scope.
    pub scoped_routes: Option<ScopedRoutes>,
    /// `codec_type`
    pub codec_type: CodecType,
    /// `http_protocol_options` and what else belongs to the HTTP/1 codec.
    pub http1: Http1Options,
    /// `http2_protocol_options`
    pub http2: Http2Options,
    /// When a client that resets its streams soon is cut off.
    pub premature_resets: PrematureResets,
    /// `max_request_headers_kb` in bytes, default 60 KiB.
    pub max_request_headers_bytes: u32,
    /// `common_http_protocol_options.max_headers_count`, default 100.
    pub max_headers_count: u32,
    /// `common_http_protocol_options.idle_timeout`, default 1 h.
    pub idle_timeout: Option<Duration>,
    /// `common_http_protocol_options.max_connection_duration`
    pub max_connection_duration: Option<Duration>,
    /// `http1_safe_max_connection_duration`: an idle connection is not closed by the former.
    pub http1_safe_max_connection_duration: bool,
    /// `common_http_protocol_options.max_stream_duration`
    pub max_stream_duration: Option<Duration>,
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
    /// `forward_client_cert_details`
    pub forward_client_cert: ForwardClientCert,
    /// `server_header_transformation`
    pub server_header: ServerHeader,
    /// `use_remote_address` and everything else about where requests come from.
    pub client_address: ClientAddress,
    /// What is done to paths and hosts.
    pub normalization: Normalization,
    /// `common_http_protocol_options.headers_with_underscores_action`
    pub underscores: UnderscoresAction,
    /// `add_user_agent`, default false.
    pub add_user_agent: bool,
    /// `via`, empty for none.
    pub via: String,
    /// `proxy_100_continue`
    pub proxy_100_continue: bool,
    /// `stream_error_on_invalid_http_message` or what overrides it: an HTTP/1 connection stays open
    /// after an answer 400 of our own, where its state allows that.
    pub stream_error: bool,
    /// The router's options.
    pub router: Router,
    /// The filter `grpc_stats`, if it is among the filters.
    pub grpc_stats: Option<GrpcStats>,
    /// `generate_request_id`, default true.
    pub generate_request_id: bool,
    /// `preserve_external_request_id`, default false.
    pub preserve_external_request_id: bool,
    /// `always_set_request_id_in_response`, default false.
    pub always_set_request_id_in_response: bool,
    /// `request_id_extension` with `pack_trace_reason`, default true.
    pub pack_trace_reason: bool,
    /// `upgrade_configs` at this level: upgrade types that are enabled, in lower case.
    pub upgrades: Vec<String>,
    /// `access_log`
    pub access_log: Vec<AccessLog>,
    /// `proxy_status_config`
    pub proxy_status: Option<ProxyStatus>,
    /// `local_reply_config`
    pub local_reply: Option<LocalReplyConfig>,
}

/// `Rds`
#[derive(Clone, PartialEq, Debug)]
pub struct Rds {
    /// `config_source`
    pub source: ConfigSource,
    /// `route_config_name`
    pub name: String,
}

/// `codec_type`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CodecType {
    /// `AUTO`: HTTP/2 where a connection begins with its preface, else HTTP/1.
    #[default]
    Auto,
    /// `HTTP1`
    Http1,
    /// `HTTP2`, without upgrade: clients know it beforehand.
    Http2,
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

const UUID_REQUEST_ID: &str = "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig";
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
            must("codec_type", &["AUTO", "HTTP1", "HTTP2"]),
            used("stat_prefix"),
            used("route_config"),
            used("rds"),
            used("scoped_routes"),
            used("http_filters"),
            used("http_protocol_options"),
            used("http2_protocol_options"),
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
            used("local_reply_config"),
            used("internal_address_config"),
            used("xff_num_trusted_hops"),
            used("original_ip_detection_extensions"),
            used("scheme_header_transformation"),
            used("append_x_forwarded_port"),
            used("request_id_extension"),
            used("add_user_agent"),
            used("via"),
            used("proxy_100_continue"),
            used("normalize_path"),
            used("merge_slashes"),
            used("path_with_escaped_slashes_action"),
            used("strip_matching_host_port"),
            used("strip_any_host_port"),
            used("strip_trailing_host_dot"),
            used("stream_error_on_invalid_http_message"),
            used("http1_safe_max_connection_duration"),
            used("represent_ipv4_remote_address_as_ipv4_mapped_ipv6"),
            used("proxy_status_config"),
            used("forward_client_cert_details"),
            used("set_current_client_cert_details"),
            kept("add_proxy_protocol_connection_state", "there is no PROXY protocol"),
            only("append_local_overload", &["false"]),
            only("flush_access_log_on_new_request", &["false"]),
        ],
    ),
    message(
        "envoy.extensions.filters.network.http_connection_manager.v3.Rds",
        &[used("config_source"), used("route_config_name")],
    ),
    message(
        "envoy.extensions.filters.network.http_connection_manager.v3.RequestIDExtension",
        &[types("typed_config", &[UUID_REQUEST_ID])],
    ),
    message(
        UUID_REQUEST_ID,
        &[
            used("pack_trace_reason"),
            kept("use_request_id_for_trace_sampling", "there is no tracing"),
        ],
    ),
];

/// Envoy's defaults, with no routes.
impl Default for HttpConnectionManager {
    fn default() -> HttpConnectionManager {
        HttpConnectionManager {
            stat_prefix: String::new(),
            route_config: Arc::default(),
            rds: None,
            scoped_routes: None,
            codec_type: CodecType::default(),
            http1: Http1Options::default(),
            http2: Http2Options::default(),
            premature_resets: PrematureResets::default(),
            max_request_headers_bytes: DEFAULT_MAX_REQUEST_HEADERS_KB * 1024,
            max_headers_count: DEFAULT_MAX_HEADERS_COUNT,
            idle_timeout: Some(DEFAULT_IDLE_TIMEOUT),
            max_connection_duration: None,
            http1_safe_max_connection_duration: false,
            max_stream_duration: None,
            max_requests_per_connection: None,
            stream_idle_timeout: Some(DEFAULT_STREAM_IDLE_TIMEOUT),
            request_timeout: None,
            request_headers_timeout: None,
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
            delayed_close_timeout: Some(DEFAULT_DELAYED_CLOSE_TIMEOUT),
            server_name: "envoy".to_owned(),
            server_header: ServerHeader::default(),
            client_address: ClientAddress::default(),
            normalization: Normalization::default(),
            underscores: UnderscoresAction::default(),
            add_user_agent: false,
            via: String::new(),
            forward_client_cert: ForwardClientCert::default(),
            proxy_100_continue: false,
            stream_error: false,
            router: Router::default(),
            grpc_stats: None,
            generate_request_id: true,
            preserve_external_request_id: false,
            always_set_request_id_in_response: false,
            pack_trace_reason: true,
            upgrades: Vec::new(),
            access_log: Vec::new(),
            proxy_status: None,
            local_reply: None,
        }
    }
}

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
        let router = Router::from_filters(at, &manager.http_filters);
        let codecs = Codecs::from_proto(at, manager);
        let routes = routes(at, manager, clusters);
        let timeouts = Timeouts::from_proto(at, manager);
        let Routes { route_config, rds, scoped_routes } = routes?;
        Some(HttpConnectionManager {
            stat_prefix: manager.stat_prefix.clone(),
            codec_type: codecs.kind,
            stream_error: codecs.stream_error,
            http1: codecs.http1,
            http2: codecs.http2,
            premature_resets: PrematureResets::from_runtime(at),
            router,
            grpc_stats: GrpcStats::from_filters(at, &manager.http_filters),
            max_request_headers_bytes: codecs.max_request_headers_bytes,
            max_headers_count: common.max_headers_count.unwrap_or(DEFAULT_MAX_HEADERS_COUNT),
            idle_timeout: common.idle_timeout,
            max_connection_duration: common.max_connection_duration,
            http1_safe_max_connection_duration: manager.http1_safe_max_connection_duration,
            max_stream_duration: common.max_stream_duration,
            max_requests_per_connection: common.max_requests_per_connection,
            stream_idle_timeout: timeouts.stream_idle,
            request_timeout: timeouts.request,
            request_headers_timeout: timeouts.request_headers,
            drain_timeout: timeouts.drain,
            delayed_close_timeout: timeouts.delayed_close,
            server_name: match manager.server_name.as_str() {
                "" => "envoy".to_owned(),
                name => name.to_owned(),
            },
            server_header: ServerHeader::from_proto(manager.server_header_transformation()),
            client_address: ClientAddress::from_proto(at, manager),
            normalization: Normalization::from_proto(at, manager),
            underscores: common.underscores,
            add_user_agent: manager.add_user_agent.is_some_and(|flag| flag.value),
            via: manager.via.clone(),
            forward_client_cert: ForwardClientCert::from_proto(manager),
            proxy_100_continue: manager.proxy_100_continue,
            generate_request_id: manager.generate_request_id.is_none_or(|flag| flag.value),
            preserve_external_request_id: manager.preserve_external_request_id,
            always_set_request_id_in_response: manager.always_set_request_id_in_response,
            pack_trace_reason: packs_trace_reason(at, manager),
            upgrades: upgrades(at, &manager.upgrade_configs),
            access_log: AccessLog::all_from_proto(&at.field("access_log"), &manager.access_log),
            proxy_status: manager.proxy_status_config.as_ref().map(ProxyStatus::from_proto),
            local_reply: manager.local_reply_config.as_ref().map(|config| {
                LocalReplyConfig::from_proto(&at.field("local_reply_config"), config)
            }),
            route_config: Arc::new(route_config),
            rds,
            scoped_routes,
        })
    }
}

/// What the codecs are told.
struct Codecs {
    kind: CodecType,
    http1: Http1Options,
    http2: Http2Options,
    stream_error: bool,
    max_request_headers_bytes: u32,
}

impl Codecs {
    fn from_proto(at: &At<'_>, manager: &pb::HttpConnectionManager) -> Codecs {
        use http_connection_manager::CodecType as Kind;
        let kind = match manager.codec_type() {
            // HTTP/3 was refused by name.
            Kind::Auto | Kind::Http3 => CodecType::Auto,
            Kind::Http1 => CodecType::Http1,
            Kind::Http2 => CodecType::Http2,
        };
        let stream_error = manager.stream_error_on_invalid_http_message.map(|flag| flag.value);
        let max_request_headers_kb = manager
            .max_request_headers_kb
            .map_or(DEFAULT_MAX_REQUEST_HEADERS_KB, |limit| limit.value);
        let http1 = Http1Options::from_proto(
            &at.field("http_protocol_options"),
            manager.http_protocol_options.as_ref(),
        );
        let http2 = Http2Options::of_downstream(
            &at.field("http2_protocol_options"),
            manager.http2_protocol_options.as_ref(),
            stream_error,
            max_request_headers_kb,
        );
        if kind == CodecType::Http1 && manager.http2_protocol_options.is_some() {
            let at = at.field("http2_protocol_options");
            at.warning("it has no effect with `codec_type: HTTP1`");
        }
        if kind == CodecType::Http2 && manager.http_protocol_options.is_some() {
            let at = at.field("http_protocol_options");
            at.warning("it has no effect with `codec_type: HTTP2`");
        }
        Codecs {
            kind,
            stream_error: http1.stream_error.or(stream_error).unwrap_or(false),
            http1,
            http2,
            // The .proto file allows 8192 at most.
            max_request_headers_bytes: max_request_headers_kb.saturating_mul(1024),
        }
    }
}

/// The timeouts at this level.
struct Timeouts {
    stream_idle: Option<Duration>,
    request: Option<Duration>,
    request_headers: Option<Duration>,
    drain: Duration,
    delayed_close: Option<Duration>,
}

impl Timeouts {
    fn from_proto(at: &At<'_>, manager: &pb::HttpConnectionManager) -> Timeouts {
        let timeout =
            |name, value: &Option<_>, default| at.field(name).timeout(value.as_ref(), default);
        let drain = at.field("drain_timeout").duration(manager.drain_timeout.as_ref());
        Timeouts {
            stream_idle: timeout(
                "stream_idle_timeout",
                &manager.stream_idle_timeout,
                Some(DEFAULT_STREAM_IDLE_TIMEOUT),
            ),
            request: timeout("request_timeout", &manager.request_timeout, None),
            request_headers: timeout(
                "request_headers_timeout",
                &manager.request_headers_timeout,
                None,
            ),
            drain: drain.unwrap_or(DEFAULT_DRAIN_TIMEOUT),
            delayed_close: timeout(
                "delayed_close_timeout",
                &manager.delayed_close_timeout,
                Some(DEFAULT_DELAYED_CLOSE_TIMEOUT),
            ),
        }
    }
}

/// What `route_specifier` says.
#[derive(Default)]
struct Routes {
    route_config: RouteConfiguration,
    rds: Option<Rds>,
    scoped_routes: Option<ScopedRoutes>,
}

fn routes(
    at: &At<'_>,
    manager: &pb::HttpConnectionManager,
    clusters: &ClusterNames<'_>,
) -> Option<Routes> {
    match &manager.route_specifier {
        Some(RouteSpecifier::RouteConfig(config)) => {
            let at = at.field("route_config");
            if config.vhds.is_some() {
                let hint = "`rds`, or a scope, can name routes that have it";
                at.field("vhds").error_hint("only routes that come by RDS can have it", hint);
            }
            let route_config = RouteConfiguration::from_proto(&at, config, clusters)?;
            Some(Routes { route_config, ..Default::default() })
        }
        Some(RouteSpecifier::Rds(rds)) => {
            let rds = Rds::from_proto(&at.field("rds"), rds)?;
            let route_config = RouteConfiguration { name: rds.name.clone(), ..Default::default() };
            Some(Routes { route_config, rds: Some(rds), ..Default::default() })
        }
        Some(RouteSpecifier::ScopedRoutes(scoped)) => {
            let at = at.field("scoped_routes");
            let scoped_routes = Some(at.converted(ScopedRoutes::from_proto(&at, scoped))?);
            Some(Routes { scoped_routes, ..Default::default() })
        }
        // The reader has reported it.
        None => None,
    }
}

impl Rds {
    fn from_proto(at: &At<'_>, rds: &pb::Rds) -> Option<Rds> {
        if rds.route_config_name.is_empty() {
            at.missing("route_config_name", None);
        }
        let Some(source) = &rds.config_source else {
            at.missing("config_source", Some("`ads: {}` for example"));
            return None;
        };
        let at = at.field("config_source");
        let source = at.converted(ConfigSource::from_proto(&at, source))?;
        Some(Rds { source, name: rds.route_config_name.clone() })
    }
}

/// `request_id_extension`: the one that there is makes UUIDs, as the default does.
fn packs_trace_reason(at: &At<'_>, manager: &pb::HttpConnectionManager) -> bool {
    let at = at.field("request_id_extension");
    let at = at.field("typed_config");
    manager
        .request_id_extension
        .as_ref()
        .and_then(|extension| extension.typed_config.as_ref())
        .and_then(|any| at.unpack::<UuidRequestIdConfig>(any, UUID_REQUEST_ID))
        .and_then(|config| config.pack_trace_reason)
        .is_none_or(|flag| flag.value)
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
