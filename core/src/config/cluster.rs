//! Clusters, endpoints and their limits (`config.cluster.v3`, `config.endpoint.v3`).
//!
//! What it leaves to others: resolving (`control`), balancing and pooling (`upstream`).

#![allow(deprecated, reason = "Envoy still accepts fields that it calls deprecated")]

use super::convert::At;
use super::endpoint::ClusterLoadAssignment;
use super::http1::{CommonOptions, Http1Options, UnderscoresAction};
use super::listener::DEFAULT_BUFFER_LIMIT_BYTES;
use super::support::{SupportedMessage, kept, message, must, only, refused, types, used};
use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream_http;
use pb::cluster::{ClusterDiscoveryType, DiscoveryType};
use std::time::Duration;

/// `config.cluster.v3.Cluster`
#[derive(Clone, PartialEq, Debug)]
pub struct Cluster {
    /// `name`
    pub name: String,
    /// `alt_stat_name`, or the name; `:` is replaced by `_` when stats are named, as in Envoy.
    pub stat_name: String,
    /// `type`
    pub discovery: Discovery,
    /// `connect_timeout`, default 5 s.
    pub connect_timeout: Duration,
    /// `lb_policy`
    pub lb_policy: LbPolicy,
    /// `load_assignment`
    pub load_assignment: ClusterLoadAssignment,
    /// `circuit_breakers.thresholds` of priority DEFAULT.
    pub circuit_breakers: CircuitBreakers,
    /// `HttpProtocolOptions.common_http_protocol_options.max_requests_per_connection` or the
    /// deprecated `max_requests_per_connection`; `None` without bound.
    pub max_requests_per_connection: Option<u32>,
    /// `HttpProtocolOptions.common_http_protocol_options.idle_timeout`, default 1 h; `None` never.
    pub idle_timeout: Option<Duration>,
    /// `max_headers_count` of responses, default 100.
    pub max_response_headers_count: u32,
    /// `HttpProtocolOptions.common_http_protocol_options.max_stream_duration`
    pub max_stream_duration: Option<Duration>,
    /// `HttpProtocolOptions.explicit_http_config.http_protocol_options`
    pub http1: Http1Options,
    /// `per_connection_buffer_limit_bytes`, default 1 MiB.
    pub per_connection_buffer_limit_bytes: u32,
}

/// `Cluster.type`
#[derive(Clone, PartialEq, Debug)]
pub enum Discovery {
    /// `STATIC`
    Static,
    /// `STRICT_DNS`: every address of every name is an endpoint.
    StrictDns {
        /// `dns_refresh_rate`, default 5 s.
        refresh_rate: Duration,
        /// `respect_dns_ttl`
        respect_ttl: bool,
        /// `dns_lookup_family`
        family: DnsLookupFamily,
    },
}

/// `dns_lookup_family`
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum DnsLookupFamily {
    /// `AUTO`: IPv6 if there is any, else IPv4.
    #[default]
    Auto,
    /// `V4_ONLY`
    V4Only,
    /// `V6_ONLY`
    V6Only,
    /// `V4_PREFERRED`
    V4Preferred,
    /// `ALL`
    All,
}

/// `lb_policy`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LbPolicy {
    /// `ROUND_ROBIN`
    #[default]
    RoundRobin,
}

/// `config.cluster.v3.CircuitBreakers`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CircuitBreakers {
    /// `thresholds` with priority DEFAULT.
    pub default: Thresholds,
    /// `thresholds` with priority HIGH (shown by `/clusters`).
    pub high: Thresholds,
}

/// `config.cluster.v3.CircuitBreakers.Thresholds`; exact across shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thresholds {
    /// `max_connections`, default 1024.
    pub max_connections: u32,
    /// `max_pending_requests`, default 1024.
    pub max_pending_requests: u32,
    /// `max_requests`, default 1024.
    pub max_requests: u32,
    /// `max_retries`, default 3.
    pub max_retries: u32,
    /// `retry_budget`, in place of `max_retries`.
    pub retry_budget: Option<RetryBudget>,
}

/// `CircuitBreakers.Thresholds.RetryBudget`: retries as a share of the requests under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryBudget {
    /// `budget_percent` in millionths, default 20 %.
    pub millionths: u32,
    /// `min_retry_concurrency`, default 3: so many are always allowed.
    pub min_concurrency: u32,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            retry_budget: None,
        }
    }
}

const HTTP_PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_DNS_REFRESH_RATE: Duration = Duration::from_secs(5);
const DEFAULT_MAX_RESPONSE_HEADERS_COUNT: u32 = 100;

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.cluster.v3.Cluster",
        &[
            used("name"),
            used("alt_stat_name"),
            must("type", &["STATIC", "STRICT_DNS"]),
            used("connect_timeout"),
            used("per_connection_buffer_limit_bytes"),
            only("lb_policy", &["ROUND_ROBIN"]),
            used("load_assignment"),
            used("max_requests_per_connection"),
            used("circuit_breakers"),
            used("common_http_protocol_options"),
            types("typed_extension_protocol_options", &[HTTP_PROTOCOL_OPTIONS]),
            used("dns_refresh_rate"),
            used("respect_dns_ttl"),
            used("dns_lookup_family"),
            used("transport_socket"),
            kept("metadata", "nothing reads a cluster's metadata"),
            kept("cleanup_interval", "it concerns ORIGINAL_DST only"),
            kept("ignore_health_on_host_removal", "there are no active health checks"),
            kept("close_connections_on_host_health_failure", "there are no active health checks"),
            refused("cluster_type"),
            refused("eds_cluster_config"),
            refused("http_protocol_options"),
            refused("http2_protocol_options"),
            refused("upstream_http_protocol_options"),
            refused("transport_socket_matches"),
            refused("transport_socket_matcher"),
            refused("lb_subset_config"),
            refused("original_dst_lb_config"),
            refused("upstream_bind_config"),
            refused("upstream_config"),
            refused("filters"),
            only("wait_for_warm_on_init", &["true"]),
            only("protocol_selection", &["USE_CONFIGURED_PROTOCOL"]),
            only("connection_pool_per_downstream_connection", &["false"]),
            only("track_timeout_budgets", &["false"]),
            only("use_tcp_for_dns_lookups", &["false"]),
        ],
    ),
    message("envoy.config.cluster.v3.CircuitBreakers", &[used("thresholds")]),
    message(
        "envoy.config.cluster.v3.CircuitBreakers.Thresholds",
        &[
            used("priority"),
            used("max_connections"),
            used("max_pending_requests"),
            used("max_requests"),
            used("max_retries"),
            used("retry_budget"),
            kept("max_connection_pools", "there is one pool per endpoint and shard"),
            only("track_remaining", &["false"]),
        ],
    ),
    message(
        "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget",
        &[used("budget_percent"), used("min_retry_concurrency")],
    ),
    message("envoy.type.v3.Percent", &[used("value")]),
    message(
        HTTP_PROTOCOL_OPTIONS,
        &[
            used("common_http_protocol_options"),
            used("explicit_http_config"),
            refused("use_downstream_protocol_config"),
            refused("auto_config"),
            refused("http_filters"),
        ],
    ),
    message(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig",
        &[
            used("http_protocol_options"),
            refused("http2_protocol_options"),
            refused("http3_protocol_options"),
        ],
    ),
];

impl Cluster {
    /// Converts a cluster; what is wrong is reported.
    pub(super) fn from_proto(at: &At<'_>, cluster: &pb::Cluster) -> Option<Cluster> {
        let discovery = Discovery::from_proto(at, cluster);
        let connect_timeout =
            at.field("connect_timeout").duration(cluster.connect_timeout.as_ref());
        let load_assignment = cluster.load_assignment.clone().unwrap_or_default();
        let load_assignment = ClusterLoadAssignment::from_proto(
            &at.field("load_assignment"),
            &load_assignment,
            discovery.as_ref(),
        );
        check_transport_socket(at, cluster);
        let options = UpstreamOptions::from_proto(at, cluster);
        let circuit_breakers = cluster
            .circuit_breakers
            .as_ref()
            .map(|breakers| CircuitBreakers::from_proto(&at.field("circuit_breakers"), breakers));
        let stat_name = match cluster.alt_stat_name.as_str() {
            "" => &cluster.name,
            name => name,
        };
        Some(Cluster {
            name: cluster.name.clone(),
            stat_name: stat_name.to_owned(),
            discovery: discovery?,
            connect_timeout: connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT),
            lb_policy: LbPolicy::RoundRobin,
            load_assignment,
            circuit_breakers: circuit_breakers.unwrap_or_default(),
            max_requests_per_connection: options.max_requests_per_connection,
            idle_timeout: options.idle_timeout,
            max_response_headers_count: options.max_response_headers_count,
            max_stream_duration: options.max_stream_duration,
            http1: options.http1,
            per_connection_buffer_limit_bytes: cluster
                .per_connection_buffer_limit_bytes
                .map_or(DEFAULT_BUFFER_LIMIT_BYTES, |limit| limit.value),
        })
    }
}

fn check_transport_socket(at: &At<'_>, cluster: &pb::Cluster) {
    if cluster.transport_socket.as_ref().is_some_and(|socket| socket.config_type.is_none()) {
        at.field("transport_socket").missing("typed_config", None);
    }
}

impl Discovery {
    fn from_proto(at: &At<'_>, cluster: &pb::Cluster) -> Option<Discovery> {
        let kind = match &cluster.cluster_discovery_type {
            None => DiscoveryType::Static,
            Some(ClusterDiscoveryType::Type(number)) => DiscoveryType::try_from(*number).ok()?,
            // The reader has refused it by name.
            Some(ClusterDiscoveryType::ClusterType(_)) => return None,
        };
        if at.field("type").is_unreadable() {
            return None;
        }
        match kind {
            DiscoveryType::Static => Some(Discovery::Static),
            DiscoveryType::StrictDns => {
                let rate = cluster.dns_refresh_rate.as_ref();
                let rate = at.field("dns_refresh_rate").duration(rate);
                Some(Discovery::StrictDns {
                    refresh_rate: rate.unwrap_or(DEFAULT_DNS_REFRESH_RATE),
                    respect_ttl: cluster.respect_dns_ttl,
                    family: DnsLookupFamily::from_proto(cluster.dns_lookup_family()),
                })
            }
            // Refused by name.
            DiscoveryType::LogicalDns | DiscoveryType::Eds | DiscoveryType::OriginalDst => None,
        }
    }
}

impl DnsLookupFamily {
    fn from_proto(family: pb::cluster::DnsLookupFamily) -> DnsLookupFamily {
        match family {
            pb::cluster::DnsLookupFamily::Auto => DnsLookupFamily::Auto,
            pb::cluster::DnsLookupFamily::V4Only => DnsLookupFamily::V4Only,
            pb::cluster::DnsLookupFamily::V6Only => DnsLookupFamily::V6Only,
            pb::cluster::DnsLookupFamily::V4Preferred => DnsLookupFamily::V4Preferred,
            pb::cluster::DnsLookupFamily::All => DnsLookupFamily::All,
        }
    }
}

/// What `HttpProtocolOptions`, or the deprecated fields of the cluster, say about connections.
struct UpstreamOptions {
    idle_timeout: Option<Duration>,
    max_requests_per_connection: Option<u32>,
    max_response_headers_count: u32,
    max_stream_duration: Option<Duration>,
    http1: Http1Options,
}

impl UpstreamOptions {
    fn from_proto(at: &At<'_>, cluster: &pb::Cluster) -> UpstreamOptions {
        let mut common = CommonOptions::of_upstream(
            &at.field("common_http_protocol_options"),
            cluster.common_http_protocol_options.as_ref(),
        );
        if let Some(requests) = cluster.max_requests_per_connection {
            common.max_requests_per_connection = Some(requests.value).filter(|count| *count > 0);
        }
        let mut http1 = Http1Options::default();
        let at = at.field("typed_extension_protocol_options");
        // A map has no order; errors should come in the same one each time.
        let mut extensions: Vec<_> = cluster.typed_extension_protocol_options.iter().collect();
        extensions.sort_by_key(|(name, _)| name.as_str());
        for (name, any) in extensions {
            let at = at.key(name);
            if name != HTTP_PROTOCOL_OPTIONS {
                let hint = format!("the key must be {HTTP_PROTOCOL_OPTIONS}");
                at.error_hint(format!("no extension is called `{name}`"), hint);
            }
            let Some(options) =
                at.unpack::<upstream_http::HttpProtocolOptions>(any, HTTP_PROTOCOL_OPTIONS)
            else {
                continue;
            };
            http1 = explicit_http1(&at, &options);
            common = CommonOptions::of_upstream(
                &at.field("common_http_protocol_options"),
                options.common_http_protocol_options.as_ref(),
            );
        }
        UpstreamOptions {
            idle_timeout: common.idle_timeout,
            max_requests_per_connection: common.max_requests_per_connection,
            max_response_headers_count: common
                .max_headers_count
                .unwrap_or(DEFAULT_MAX_RESPONSE_HEADERS_COUNT),
            max_stream_duration: common.max_stream_duration,
            http1,
        }
    }
}

impl CommonOptions {
    fn of_upstream(at: &At<'_>, options: Option<&core::HttpProtocolOptions>) -> CommonOptions {
        let options = options.cloned().unwrap_or_default();
        let common = CommonOptions::from_proto(at, &options);
        if common.max_connection_duration.is_some() {
            at.field("max_connection_duration")
                .error("`max_connection_duration` of upstream connections is not supported yet");
        }
        if common.underscores != UnderscoresAction::Allow {
            at.field("headers_with_underscores_action").warning("it has no effect upstream");
        }
        common
    }
}

/// What of the HTTP/1 options concerns requests that are sent upstream.
fn explicit_http1(at: &At<'_>, options: &upstream_http::HttpProtocolOptions) -> Http1Options {
    use upstream_http::http_protocol_options::UpstreamProtocolOptions;
    use upstream_http::http_protocol_options::explicit_http_config::ProtocolConfig;
    let Some(UpstreamProtocolOptions::ExplicitHttpConfig(config)) =
        &options.upstream_protocol_options
    else {
        return Http1Options::default();
    };
    let Some(ProtocolConfig::HttpProtocolOptions(http1)) = &config.protocol_config else {
        return Http1Options::default();
    };
    let at = at.field("explicit_http_config");
    let at = at.field("http_protocol_options");
    if http1.accept_http_10 {
        at.field("accept_http_10").warning("`accept_http_10` has no effect upstream");
    }
    if http1.enable_trailers {
        at.field("enable_trailers").error("`enable_trailers` is not supported upstream yet");
    }
    Http1Options::from_proto(&at, Some(http1))
}

impl CircuitBreakers {
    fn from_proto(at: &At<'_>, breakers: &pb::CircuitBreakers) -> CircuitBreakers {
        let at = at.field("thresholds");
        let mut converted = CircuitBreakers::default();
        let (mut default_seen, mut high_seen) = (false, false);
        for (index, thresholds) in breakers.thresholds.iter().enumerate() {
            let (slot, seen) = match thresholds.priority() {
                core::RoutingPriority::Default => (&mut converted.default, &mut default_seen),
                core::RoutingPriority::High => (&mut converted.high, &mut high_seen),
            };
            // Envoy takes the first of a priority without a word.
            if std::mem::replace(seen, true) {
                at.index(index).warning("a second threshold of the same priority has no effect");
                continue;
            }
            *slot = Thresholds::from_proto(thresholds);
        }
        converted
    }
}

impl Thresholds {
    fn from_proto(thresholds: &pb::circuit_breakers::Thresholds) -> Thresholds {
        let default = Thresholds::default();
        let or = |value: Option<envoy_types::pb::google::protobuf::UInt32Value>, default: u32| {
            value.map_or(default, |value| value.value)
        };
        Thresholds {
            max_connections: or(thresholds.max_connections, default.max_connections),
            max_pending_requests: or(thresholds.max_pending_requests, default.max_pending_requests),
            max_requests: or(thresholds.max_requests, default.max_requests),
            max_retries: or(thresholds.max_retries, default.max_retries),
            retry_budget: thresholds.retry_budget.as_ref().map(|budget| RetryBudget {
                // The reader has checked that it is from 0 to 100.
                millionths: budget.budget_percent.map_or(200_000, |it| (it.value * 1e4) as u32),
                min_concurrency: or(budget.min_retry_concurrency, 3),
            }),
        }
    }
}
