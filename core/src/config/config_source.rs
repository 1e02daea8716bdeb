//! Where dynamic resources come from (`config.core.v3.ConfigSource`).
//!
//! What it leaves to others: speaking with a server (`tidegate-xds`), and what is asked for there
//! (`control::dynamic`).

#![allow(deprecated, reason = "Envoy still accepts fields that it calls deprecated")]

use super::convert::At;
use super::google_grpc::GoogleGrpc;
use super::support::{SupportedMessage, message, must, only, refused, used};
use envoy_types::pb::envoy::config::core::v3 as pb;
use pb::api_config_source::ApiType;
use pb::config_source::ConfigSourceSpecifier;
use pb::grpc_service::TargetSpecifier;
use std::sync::Arc;
use std::time::Duration;

/// `config.core.v3.ConfigSource`
#[derive(Clone, PartialEq, Debug)]
pub struct ConfigSource {
    /// Where.
    pub place: ConfigPlace,
    /// `initial_fetch_timeout`, default 15 s: how long warming waits for the first answer; `None`:
    /// for ever.
    pub initial_fetch_timeout: Option<Duration>,
}

/// Where a [`ConfigSource`] is.
#[derive(Clone, PartialEq, Debug)]
pub enum ConfigPlace {
    /// `ads`, and `self` in what came by it: the stream of `dynamic_resources.ads_config`.
    Ads,
    /// `api_config_source`
    Api(Box<ApiConfigSource>),
    /// `path_config_source` and the deprecated `path`
    Path(Box<PathConfigSource>),
}

/// `config.core.v3.PathConfigSource`
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PathConfigSource {
    /// `path`
    pub path: String,
    /// `watched_directory.path`
    pub watched_directory: Option<String>,
}

/// `config.core.v3.ApiConfigSource`
#[derive(Clone, PartialEq, Debug)]
pub struct ApiConfigSource {
    /// `api_type`
    pub api: ApiProtocol,
    /// `grpc_services`, tried in turn; of `REST`, `cluster_names`.
    pub services: Vec<GrpcService>,
    /// `rate_limit_settings`
    pub rate_limit: Option<RateLimitSettings>,
    /// `set_node_on_first_message_only`
    pub node_on_first_message_only: bool,
}

/// `config.core.v3.ApiConfigSource.ApiType`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApiProtocol {
    /// `GRPC`, `AGGREGATED_GRPC`: all that there is in each response.
    StateOfTheWorld,
    /// `DELTA_GRPC`, `AGGREGATED_DELTA_GRPC`: what has changed.
    Delta,
    /// `REST`
    Rest {
        /// `refresh_delay`
        refresh_delay: Duration,
        /// `request_timeout`, default 1 s.
        request_timeout: Duration,
    },
}

/// `config.core.v3.RateLimitSettings`
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RateLimitSettings {
    /// `max_tokens`, default 100.
    pub max_tokens: u32,
    /// `fill_rate` per second, default 10.
    pub fill_rate: f64,
}

/// `config.core.v3.GrpcService`
#[derive(Clone, PartialEq, Debug)]
pub struct GrpcService {
    /// `envoy_grpc.cluster_name`; empty with `google_grpc`.
    pub cluster: String,
    /// `google_grpc`
    pub google: Option<Arc<GoogleGrpc>>,
    /// `envoy_grpc.authority`; the cluster's name if there is none.
    pub authority: String,
    /// `initial_metadata`
    pub metadata: Vec<(String, String)>,
}

const DEFAULT_INITIAL_FETCH_TIMEOUT: Duration = Duration::from_secs(15);
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.core.v3.ConfigSource",
        &[
            used("path"),
            used("path_config_source"),
            used("api_config_source"),
            used("ads"),
            used("self"),
            used("initial_fetch_timeout"),
            only("resource_api_version", &["AUTO", "V3"]),
            refused("authorities"),
        ],
    ),
    message("envoy.config.core.v3.AggregatedConfigSource", &[]),
    message(
        "envoy.config.core.v3.SelfConfigSource",
        &[only("transport_api_version", &["AUTO", "V3"])],
    ),
    message("envoy.config.core.v3.PathConfigSource", &[used("path"), used("watched_directory")]),
    message(
        "envoy.config.core.v3.ApiConfigSource",
        &[
            must(
                "api_type",
                &["REST", "GRPC", "DELTA_GRPC", "AGGREGATED_GRPC", "AGGREGATED_DELTA_GRPC"],
            ),
            must("transport_api_version", &["AUTO", "V3"]),
            used("cluster_names"),
            used("grpc_services"),
            used("refresh_delay"),
            used("request_timeout"),
            used("rate_limit_settings"),
            used("set_node_on_first_message_only"),
            refused("config_validators"),
        ],
    ),
    message("envoy.config.core.v3.RateLimitSettings", &[used("max_tokens"), used("fill_rate")]),
];

impl ConfigSource {
    /// Converts a source; `None` when that was reported.
    pub(super) fn from_proto(at: &At<'_>, source: &pb::ConfigSource) -> Option<ConfigSource> {
        let timeout = source.initial_fetch_timeout.as_ref();
        let initial_fetch_timeout =
            at.field("initial_fetch_timeout").timeout(timeout, Some(DEFAULT_INITIAL_FETCH_TIMEOUT));
        let place = match source.config_source_specifier.as_ref()? {
            ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_) => ConfigPlace::Ads,
            ConfigSourceSpecifier::ApiConfigSource(api) => {
                let at = at.field("api_config_source");
                let api = at.converted(ApiConfigSource::from_proto(&at, api))?;
                ConfigPlace::Api(Box::new(api))
            }
            ConfigSourceSpecifier::PathConfigSource(source) => {
                let directory = source.watched_directory.as_ref();
                PathConfigSource::at(
                    &at.field("path_config_source"),
                    &source.path,
                    directory.map(|directory| directory.path.clone()),
                )
            }
            ConfigSourceSpecifier::Path(path) => {
                PathConfigSource::at(&at.field("path"), path, None)
            }
        };
        Some(ConfigSource { place, initial_fetch_timeout })
    }
}

impl PathConfigSource {
    fn at(at: &At<'_>, path: &str, watched_directory: Option<String>) -> ConfigPlace {
        if let Err(error) = std::fs::metadata(path) {
            let reason = format!("cannot read `{path}`: {error}");
            at.error_hint(reason, "the file has to be there at the start, as in Envoy");
        }
        let path = path.to_owned();
        ConfigPlace::Path(Box::new(PathConfigSource { path, watched_directory }))
    }
}

impl ApiConfigSource {
    /// Converts `dynamic_resources.ads_config`, and what a [`ConfigSource`] has.
    pub(super) fn from_proto(at: &At<'_>, source: &pb::ApiConfigSource) -> Option<ApiConfigSource> {
        let api = match source.api_type() {
            ApiType::Grpc | ApiType::AggregatedGrpc => ApiProtocol::StateOfTheWorld,
            ApiType::DeltaGrpc | ApiType::AggregatedDeltaGrpc => ApiProtocol::Delta,
            ApiType::Rest => ApiProtocol::Rest {
                refresh_delay: refresh_delay(at, source)?,
                request_timeout: at
                    .field("request_timeout")
                    .duration(source.request_timeout.as_ref())
                    .unwrap_or(DEFAULT_REQUEST_TIMEOUT),
            },
            // Refused by name.
            ApiType::DeprecatedAndUnavailableDoNotUse => return None,
        };
        let services = match api {
            ApiProtocol::Rest { .. } => rest_services(at, source),
            _ => grpc_services(at, source),
        };
        if services.is_empty() {
            return None;
        }
        let rate_limit = source.rate_limit_settings.as_ref().map(|limit| RateLimitSettings {
            max_tokens: limit.max_tokens.map_or(100, |tokens| tokens.value),
            fill_rate: limit.fill_rate.map_or(10.0, |rate| rate.value),
        });
        Some(ApiConfigSource {
            api,
            services,
            rate_limit,
            node_on_first_message_only: source.set_node_on_first_message_only,
        })
    }
}

fn refresh_delay(at: &At<'_>, source: &pb::ApiConfigSource) -> Option<Duration> {
    if source.refresh_delay.is_none() {
        at.missing("refresh_delay", Some("how often a REST server is asked, `5s` for example"));
    }
    at.field("refresh_delay").duration(source.refresh_delay.as_ref())
}

fn rest_services(at: &At<'_>, source: &pb::ApiConfigSource) -> Vec<GrpcService> {
    if source.cluster_names.len() != 1 {
        at.field("cluster_names").error("a REST server needs exactly one cluster");
    }
    let service = |name: &String| GrpcService::of_cluster(name);
    source.cluster_names.iter().map(service).collect()
}

fn grpc_services(at: &At<'_>, source: &pb::ApiConfigSource) -> Vec<GrpcService> {
    if !source.cluster_names.is_empty() {
        let hint = "name the cluster in `grpc_services[0].envoy_grpc.cluster_name`";
        at.field("cluster_names").error_hint("it is for REST only", hint);
    }
    if source.grpc_services.is_empty() {
        at.missing("grpc_services", Some("it names the cluster of the control plane"));
    }
    let at = at.field("grpc_services");
    let services = source.grpc_services.iter().enumerate();
    services.filter_map(|(i, one)| GrpcService::from_proto(&at.index(i), one)).collect()
}

impl GrpcService {
    fn of_cluster(name: &str) -> GrpcService {
        GrpcService {
            cluster: name.to_owned(),
            google: None,
            authority: name.to_owned(),
            metadata: Vec::new(),
        }
    }

    /// What the server is called.
    #[must_use]
    pub fn destination(&self) -> &str {
        self.google.as_ref().map_or(&self.cluster, |google| &google.uri)
    }

    fn from_proto(at: &At<'_>, service: &pb::GrpcService) -> Option<GrpcService> {
        let metadata = service.initial_metadata.iter();
        let metadata = metadata.map(|field| (field.key.to_ascii_lowercase(), field.value.clone()));
        let target = match service.target_specifier.as_ref()? {
            TargetSpecifier::EnvoyGrpc(target) => target,
            TargetSpecifier::GoogleGrpc(google) => {
                let google = GoogleGrpc::from_proto(&at.field("google_grpc"), google)?;
                let authority = google.authority.clone();
                return Some(GrpcService {
                    cluster: String::new(),
                    google: Some(Arc::new(google)),
                    authority,
                    metadata: metadata.collect(),
                });
            }
        };
        let mut converted = GrpcService::of_cluster(&target.cluster_name);
        if !target.authority.is_empty() {
            converted.authority.clone_from(&target.authority);
        }
        converted.metadata = metadata.collect();
        if converted.cluster.is_empty() {
            at.field("envoy_grpc").missing("cluster_name", None);
        }
        Some(converted)
    }
}
