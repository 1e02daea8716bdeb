//! Clusters (`config.cluster.v3.Cluster`).
//!
//! What it leaves to others: resolving (`control`), balancing and pooling (`upstream`).

#![allow(deprecated, reason = "Envoy still accepts fields that it calls deprecated")]

use super::alike::Alike;
use super::circuit_breakers::CircuitBreakers;
use super::config_source::ConfigSource;
use super::convert::At;
use super::dns::DNS_CLUSTER;
use super::dns::DnsResolution;
use super::endpoint::ClusterLoadAssignment;
use super::http1::Http1Options;
use super::http2::Http2Options;
use super::listener::DEFAULT_BUFFER_LIMIT_BYTES;
use super::load_balancing::LoadBalancing;
use super::metadata::Metadata;
use super::support::{SupportedMessage, kept, message, must, only, refused, types, used};
use super::tls::{self, UPSTREAM_TLS, UpstreamTlsContext};
use super::upstream_options::{
    DEFAULT_MAX_RESPONSE_HEADERS_COUNT, HTTP_PROTOCOL_OPTIONS, RequestServerName,
    UpstreamConnectionOptions, UpstreamOptions, UpstreamProtocol,
};
use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::endpoint::v3 as pb_endpoint;
use pb::cluster::{ClusterDiscoveryType, DiscoveryType};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// `config.cluster.v3.Cluster`
#[derive(Clone, PartialEq, Debug)]
pub struct Cluster {
    /// `name`
    pub name: String,
    /// A management server has sent it.
    pub added_via_api: bool,
    /// `alt_stat_name`, or the name; `:` is replaced by `_` when stats are named, as in Envoy.
    pub stat_name: String,
    /// `type`
    pub discovery: Discovery,
    /// `metadata`
    pub metadata: Metadata,
    /// `load_assignment`
    pub load_assignment: Arc<ClusterLoadAssignment>,
    /// `transport_socket`, where it is TLS.
    pub tls: Option<Arc<UpstreamTlsContext>>,
    /// Everything else. Thousands of clusters mostly have the same, and share it.
    pub options: Arc<ClusterOptions>,
}

/// What of a cluster is not its own: limits, timeouts, protocols.
#[derive(Clone, PartialEq, Debug)]
pub struct ClusterOptions {
    /// `connect_timeout`, default 5 s.
    pub connect_timeout: Duration,
    /// `lb_policy`, `load_balancing_policy`, `common_lb_config`
    pub load_balancing: LoadBalancing,
    /// `circuit_breakers.thresholds` of priority DEFAULT.
    pub circuit_breakers: CircuitBreakers,
    /// `HttpProtocolOptions.common_http_protocol_options.max_requests_per_connection` or the
    /// deprecated `max_requests_per_connection`; `None` without bound.
    pub max_requests_per_connection: Option<u32>,
    /// `HttpProtocolOptions.common_http_protocol_options.idle_timeout`, default 1 h; `None` never.
    pub idle_timeout: Option<Duration>,
    /// `HttpProtocolOptions.common_http_protocol_options.max_connection_duration`
    pub max_connection_duration: Option<Duration>,
    /// `max_headers_count` of responses, default 100.
    pub max_response_headers_count: u32,
    /// `HttpProtocolOptions.common_http_protocol_options.max_stream_duration`
    pub max_stream_duration: Option<Duration>,
    /// What is spoken with its hosts.
    pub protocol: UpstreamProtocol,
    /// `http_protocol_options` of `HttpProtocolOptions` or the deprecated ones of the cluster.
    pub http1: Http1Options,
    /// `http2_protocol_options` of `HttpProtocolOptions` or the deprecated ones of the cluster.
    pub http2: Http2Options,
    /// `per_connection_buffer_limit_bytes`, default 1 MiB.
    pub per_connection_buffer_limit_bytes: u32,
    /// `upstream_http_protocol_options`, where it speaks TLS.
    pub server_name: Option<RequestServerName>,
    /// `upstream_bind_config`, `upstream_connection_options`
    pub connections: UpstreamConnectionOptions,
}

/// `Cluster.type` or `cluster_type`
#[derive(Clone, PartialEq, Debug)]
pub enum Discovery {
    /// `STATIC`
    Static,
    /// `STRICT_DNS`: every address of every name is an endpoint.
    StrictDns(Box<DnsResolution>),
    /// `LOGICAL_DNS`: one endpoint; new connections go to the first address of the last answer, and
    /// those that there are stay.
    LogicalDns(Box<DnsResolution>),
    /// `EDS`: endpoints come from somewhere else, and the cluster has none until then.
    Eds(EdsClusterConfig),
}

/// `config.cluster.v3.Cluster.EdsClusterConfig`
#[derive(Clone, PartialEq, Debug)]
pub struct EdsClusterConfig {
    /// `eds_config`
    pub source: ConfigSource,
    /// `service_name`; the cluster's name if there is none.
    pub service_name: String,
}

impl Default for ClusterOptions {
    fn default() -> ClusterOptions {
        ClusterOptions {
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            load_balancing: LoadBalancing::default(),
            circuit_breakers: CircuitBreakers::default(),
            max_requests_per_connection: None,
            idle_timeout: None,
            max_connection_duration: None,
            max_response_headers_count: DEFAULT_MAX_RESPONSE_HEADERS_COUNT,
            max_stream_duration: None,
            protocol: UpstreamProtocol::default(),
            http1: Http1Options::default(),
            http2: Http2Options::default(),
            per_connection_buffer_limit_bytes: DEFAULT_BUFFER_LIMIT_BYTES,
            server_name: None,
            connections: UpstreamConnectionOptions::default(),
        }
    }
}

/// Options read as if the cluster had them itself.
impl Deref for Cluster {
    type Target = ClusterOptions;

    fn deref(&self) -> &ClusterOptions {
        &self.options
    }
}

thread_local! {
    /// Each cluster that a server sends is converted by itself.
    static OPTIONS: Alike<ClusterOptions> = Alike::default();
}

const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.cluster.v3.Cluster",
        &[
            used("name"),
            used("alt_stat_name"),
            must("type", &["STATIC", "STRICT_DNS", "LOGICAL_DNS", "EDS"]),
            used("cluster_type"),
            used("connect_timeout"),
            used("preconnect_policy"),
            used("per_connection_buffer_limit_bytes"),
            only(
                "lb_policy",
                &["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "LOAD_BALANCING_POLICY_CONFIG"],
            ),
            used("load_balancing_policy"),
            used("common_lb_config"),
            used("least_request_lb_config"),
            used("round_robin_lb_config"),
            refused("ring_hash_lb_config"),
            refused("maglev_lb_config"),
            used("load_assignment"),
            used("max_requests_per_connection"),
            used("circuit_breakers"),
            used("common_http_protocol_options"),
            used("http_protocol_options"),
            used("http2_protocol_options"),
            types("typed_extension_protocol_options", &[HTTP_PROTOCOL_OPTIONS]),
            used("dns_refresh_rate"),
            used("respect_dns_ttl"),
            used("dns_lookup_family"),
            used("dns_failure_refresh_rate"),
            used("dns_jitter"),
            used("dns_resolvers"),
            used("use_tcp_for_dns_lookups"),
            used("dns_resolution_config"),
            used("typed_dns_resolver_config"),
            used("wait_for_warm_on_init"),
            used("transport_socket"),
            used("upstream_bind_config"),
            used("upstream_connection_options"),
            used("track_cluster_stats"),
            used("metadata"),
            kept("cleanup_interval", "it concerns ORIGINAL_DST only"),
            kept("ignore_health_on_host_removal", "there are no active health checks"),
            kept("close_connections_on_host_health_failure", "there are no active health checks"),
            used("eds_cluster_config"),
            used("upstream_http_protocol_options"),
            refused("transport_socket_matches"),
            refused("transport_socket_matcher"),
            refused("lb_subset_config"),
            refused("original_dst_lb_config"),
            refused("upstream_config"),
            refused("filters"),
            used("protocol_selection"),
            only("connection_pool_per_downstream_connection", &["false"]),
            only("track_timeout_budgets", &["false"]),
        ],
    ),
    message(
        "envoy.config.cluster.v3.Cluster.EdsClusterConfig",
        &[used("eds_config"), used("service_name")],
    ),
    message(
        "envoy.config.cluster.v3.TrackClusterStats",
        &[
            only("timeout_budgets", &["false"]),
            only("request_response_sizes", &["false"]),
            only("per_endpoint_stats", &["false"]),
        ],
    ),
];

impl Cluster {
    /// Converts a cluster; what is wrong is reported.
    pub(super) fn from_proto(at: &At<'_>, cluster: &pb::Cluster) -> Option<Cluster> {
        let discovery = Discovery::from_proto(at, cluster);
        if let Some(discovery) = &discovery {
            discovery.check(&at.field("load_assignment"), cluster.load_assignment.as_ref());
        }
        let connect_timeout =
            at.field("connect_timeout").duration(cluster.connect_timeout.as_ref());
        let load_assignment = cluster.load_assignment.clone().unwrap_or_default();
        let load_assignment = ClusterLoadAssignment::from_proto(
            &at.field("load_assignment"),
            &load_assignment,
            discovery.as_ref(),
        );
        let load_assignment = match discovery {
            Some(Discovery::Eds(_)) => ClusterLoadAssignment::default(),
            _ => load_assignment,
        };
        let socket = cluster.transport_socket.as_ref();
        let tls = tls::transport_socket(at, socket, UPSTREAM_TLS, UpstreamTlsContext::from_proto);
        let load_balancing = LoadBalancing::from_proto(at, cluster);
        let options = UpstreamOptions::from_proto(at, cluster);
        let validates = options.server_name.as_ref().is_some_and(|it| it.auto_san_validation);
        let trusts_any = tls.as_ref().is_some_and(|tls| {
            tls.common.validation.is_none() && tls.common.validation_secret.is_none()
        });
        if validates && trusts_any {
            at.field("transport_socket").warning(
                "with `auto_san_validation` and without a validation context every server is \
                 refused, as in Envoy: set `validation_context.trusted_ca`",
            );
        }
        let circuit_breakers = cluster
            .circuit_breakers
            .as_ref()
            .map(|breakers| CircuitBreakers::from_proto(&at.field("circuit_breakers"), breakers));
        let stat_name = match cluster.alt_stat_name.as_str() {
            "" => &cluster.name,
            name => name,
        };
        let shared = ClusterOptions {
            connect_timeout: connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT),
            load_balancing,
            circuit_breakers: circuit_breakers.unwrap_or_default(),
            max_requests_per_connection: options.max_requests_per_connection,
            idle_timeout: options.idle_timeout,
            max_connection_duration: options.max_connection_duration,
            max_response_headers_count: options.max_response_headers_count,
            max_stream_duration: options.max_stream_duration,
            protocol: options.protocol,
            http1: options.http1,
            http2: options.http2,
            per_connection_buffer_limit_bytes: cluster
                .per_connection_buffer_limit_bytes
                .map_or(DEFAULT_BUFFER_LIMIT_BYTES, |limit| limit.value),
            server_name: options.server_name.filter(|_| tls.is_some()),
            connections: UpstreamConnectionOptions::from_proto(at, cluster),
        };
        Some(Cluster {
            name: cluster.name.clone(),
            added_via_api: false,
            stat_name: stat_name.to_owned(),
            discovery: discovery?,
            metadata: Metadata::from_proto(cluster.metadata.as_ref()),
            load_assignment: Arc::new(load_assignment),
            tls,
            options: OPTIONS.with(|alike| alike.shared(shared)),
        })
    }
}

impl Discovery {
    /// How names are looked up, if names there are.
    #[must_use]
    pub fn dns(&self) -> Option<&DnsResolution> {
        match self {
            Discovery::Static | Discovery::Eds(_) => None,
            Discovery::StrictDns(dns) | Discovery::LogicalDns(dns) => Some(dns),
        }
    }

    /// Where its endpoints come from, if it is `EDS`.
    #[must_use]
    pub fn eds(&self) -> Option<&EdsClusterConfig> {
        match self {
            Discovery::Eds(eds) => Some(eds),
            _ => None,
        }
    }

    fn from_proto(at: &At<'_>, cluster: &pb::Cluster) -> Option<Discovery> {
        let kind = match &cluster.cluster_discovery_type {
            None => DiscoveryType::Static,
            Some(ClusterDiscoveryType::Type(number)) => DiscoveryType::try_from(*number).ok()?,
            Some(ClusterDiscoveryType::ClusterType(custom)) => {
                return Discovery::from_custom(&at.field("cluster_type"), custom, at, cluster);
            }
        };
        if at.field("type").is_unreadable() {
            return None;
        }
        match kind {
            DiscoveryType::Static => Some(Discovery::Static),
            DiscoveryType::StrictDns => {
                Some(Discovery::StrictDns(DnsResolution::from_cluster(at, cluster).into()))
            }
            DiscoveryType::LogicalDns => {
                Some(Discovery::LogicalDns(DnsResolution::from_cluster(at, cluster).into()))
            }
            DiscoveryType::Eds => EdsClusterConfig::from_proto(at, cluster).map(Discovery::Eds),
            // Refused by name.
            DiscoveryType::OriginalDst => None,
        }
    }

    /// An extension, or one of the types above by the name that Envoy gives to it.
    fn from_custom(
        at: &At<'_>,
        custom: &pb::cluster::CustomClusterType,
        at_cluster: &At<'_>,
        cluster: &pb::Cluster,
    ) -> Option<Discovery> {
        if let Some(any) = &custom.typed_config {
            let at = at.field("typed_config");
            let (dns, is_logical) = DnsResolution::from_typed(&at, any, cluster)?;
            return Some(match is_logical {
                true => Discovery::LogicalDns(dns.into()),
                false => Discovery::StrictDns(dns.into()),
            });
        }
        let dns = || Box::new(DnsResolution::from_cluster(at_cluster, cluster));
        match custom.name.as_str() {
            "envoy.cluster.static" => Some(Discovery::Static),
            "envoy.cluster.strict_dns" => Some(Discovery::StrictDns(dns())),
            "envoy.cluster.logical_dns" => Some(Discovery::LogicalDns(dns())),
            _ => {
                let hint = format!("add \"@type\": type.googleapis.com/{DNS_CLUSTER}, for example");
                at.missing("typed_config", Some(&hint));
                None
            }
        }
    }

    /// What Envoy asks of the assignment of such a cluster.
    fn check(&self, at: &At<'_>, assignment: Option<&pb_endpoint::ClusterLoadAssignment>) {
        let Discovery::LogicalDns(_) = self else { return };
        let endpoints = assignment.map_or(&[][..], |assignment| &assignment.endpoints);
        let is_one = matches!(endpoints, [locality] if locality.lb_endpoints.len() == 1);
        if !is_one && !at.has_unreadable() {
            at.error_hint(
                "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single \
                 lb_endpoint",
                "for several names set `type: STRICT_DNS`",
            );
        }
    }
}

impl EdsClusterConfig {
    fn from_proto(at: &At<'_>, cluster: &pb::Cluster) -> Option<EdsClusterConfig> {
        // The reader says that it is needed.
        let config = cluster.eds_cluster_config.as_ref()?;
        if cluster.load_assignment.is_some() {
            let reason = "no effect: the endpoints of a cluster of type EDS come from `eds_config`";
            at.field("load_assignment").warning(reason);
        }
        let at = at.field("eds_cluster_config");
        let Some(source) = config.eds_config.as_ref() else {
            at.missing("eds_config", Some("`ads: {}` for example"));
            return None;
        };
        let at = at.field("eds_config");
        Some(EdsClusterConfig {
            source: at.converted(ConfigSource::from_proto(&at, source))?,
            service_name: match config.service_name.as_str() {
                "" => cluster.name.clone(),
                name => name.to_owned(),
            },
        })
    }
}
