//! Access logs that a gRPC service gets (`access_loggers.grpc.v3`).
//!
//! What it leaves to others: entries (`access_log::entry`), sending them (`access_log::service`).

use super::convert::At;
use super::support::{SupportedMessage, kept, message, only, refused, used};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3 as pb;
use std::time::Duration;

/// `CommonGrpcAccessLogConfig`, and what `HttpGrpcAccessLogConfig` adds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrpcAccessLog {
    /// `TcpGrpcAccessLogConfig`: entries are of connections.
    pub is_tcp: bool,
    /// `log_name`
    pub log_name: String,
    /// `grpc_service.envoy_grpc.cluster_name`
    pub cluster: String,
    /// `grpc_service.envoy_grpc.authority`; the cluster's name if there is none.
    pub authority: String,
    /// `buffer_flush_interval`, default 1 s.
    pub flush_interval: Duration,
    /// `buffer_size_bytes`, default 16 KiB; 0 sends each entry by itself.
    pub buffer_size_bytes: usize,
    /// `additional_request_headers_to_log`, in lower case.
    pub request_headers: Vec<String>,
    /// `additional_response_headers_to_log`
    pub response_headers: Vec<String>,
    /// `additional_response_trailers_to_log`
    pub response_trailers: Vec<String>,
}

pub(super) const HTTP_GRPC: &str =
    "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig";
pub(super) const TCP_GRPC: &str = "envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig";

const DEFAULT_FLUSH_INTERVAL: Duration = Duration::from_secs(1);
const DEFAULT_BUFFER_BYTES: u32 = 16 << 10;

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        HTTP_GRPC,
        &[
            used("common_config"),
            used("additional_request_headers_to_log"),
            used("additional_response_headers_to_log"),
            used("additional_response_trailers_to_log"),
        ],
    ),
    message(TCP_GRPC, &[used("common_config")]),
    message(
        "envoy.extensions.access_loggers.grpc.v3.CommonGrpcAccessLogConfig",
        &[
            used("log_name"),
            used("grpc_service"),
            only("transport_api_version", &["AUTO", "V3"]),
            used("buffer_flush_interval"),
            used("buffer_size_bytes"),
            kept("filter_state_objects_to_log", "there is no filter state"),
            refused("custom_tags"),
        ],
    ),
    message(
        "envoy.config.core.v3.GrpcService",
        &[
            used("envoy_grpc"),
            kept("timeout", "a stream that is always open has none"),
            used("google_grpc"),
            used("initial_metadata"),
        ],
    ),
    message(
        "envoy.config.core.v3.GrpcService.EnvoyGrpc",
        &[used("cluster_name"), used("authority"), kept("skip_envoy_headers", "none are sent")],
    ),
];

impl GrpcAccessLog {
    /// Converts the logger of streams.
    pub(super) fn from_http(
        at: &At<'_>,
        log: &pb::HttpGrpcAccessLogConfig,
    ) -> Option<GrpcAccessLog> {
        let lower = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let common = GrpcAccessLog::from_common(at, log.common_config.as_ref())?;
        Some(GrpcAccessLog {
            request_headers: lower(&log.additional_request_headers_to_log),
            response_headers: lower(&log.additional_response_headers_to_log),
            response_trailers: lower(&log.additional_response_trailers_to_log),
            ..common
        })
    }

    /// Converts the logger of connections.
    pub(super) fn from_tcp(at: &At<'_>, log: &pb::TcpGrpcAccessLogConfig) -> Option<GrpcAccessLog> {
        let common = GrpcAccessLog::from_common(at, log.common_config.as_ref())?;
        Some(GrpcAccessLog { is_tcp: true, ..common })
    }

    fn from_common(
        at: &At<'_>,
        common: Option<&pb::CommonGrpcAccessLogConfig>,
    ) -> Option<GrpcAccessLog> {
        use core::grpc_service::TargetSpecifier;
        let common = common?;
        let at = at.field("common_config");
        let interval = common.buffer_flush_interval.as_ref();
        let interval = at.field("buffer_flush_interval").duration(interval);
        let target = common.grpc_service.as_ref().and_then(|it| it.target_specifier.as_ref());
        if common.grpc_service.as_ref().is_some_and(|it| !it.initial_metadata.is_empty()) {
            at.field("grpc_service").field("initial_metadata").error("it is not implemented here");
        }
        if let Some(TargetSpecifier::GoogleGrpc(_)) = target {
            let hint = "name a cluster by `envoy_grpc`";
            at.field("grpc_service").field("google_grpc").error_hint("not implemented here", hint);
            return None;
        }
        let Some(TargetSpecifier::EnvoyGrpc(service)) = target else {
            at.field("grpc_service").missing("envoy_grpc", Some("it names a cluster"));
            return None;
        };
        let cluster = service.cluster_name.clone();
        let authority = match service.authority.as_str() {
            "" => cluster.clone(),
            authority => authority.to_owned(),
        };
        let bytes = common.buffer_size_bytes.map_or(DEFAULT_BUFFER_BYTES, |bytes| bytes.value);
        Some(GrpcAccessLog {
            is_tcp: false,
            log_name: common.log_name.clone(),
            cluster,
            authority,
            flush_interval: interval.unwrap_or(DEFAULT_FLUSH_INTERVAL),
            buffer_size_bytes: bytes as usize,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            response_trailers: Vec::new(),
        })
    }
}
