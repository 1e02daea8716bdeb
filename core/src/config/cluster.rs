//! Clusters, endpoints and their limits (`config.cluster.v3`, `config.endpoint.v3`).
//!
//! What it leaves to others: resolving (`control`), balancing and pooling (`upstream`).

use super::Address;
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
    /// `HttpProtocolOptions.common_http_protocol_options.max_requests_per_connection` or the deprecated
    /// `max_requests_per_connection`; `None` without bound.
    pub max_requests_per_connection: Option<u32>,
    /// `HttpProtocolOptions.common_http_protocol_options.idle_timeout`, default 1 h; `None` never.
    pub idle_timeout: Option<Duration>,
    /// `max_headers_count` of responses, default 100.
    pub max_response_headers_count: u32,
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

/// `config.endpoint.v3.ClusterLoadAssignment`: endpoints of priority 0, localities joined.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ClusterLoadAssignment {
    /// All `lb_endpoints`, in order.
    pub endpoints: Vec<Endpoint>,
}

/// `config.endpoint.v3.LbEndpoint`
#[derive(Clone, PartialEq, Debug)]
pub struct Endpoint {
    /// `endpoint.address`
    pub address: Address,
    /// `endpoint.hostname`
    pub hostname: String,
    /// `load_balancing_weight`, default 1, at least 1.
    pub weight: u32,
    /// `health_status`
    pub health_status: HealthStatus,
    /// Locality: region, zone, sub-zone.
    pub locality: [String; 3],
}

/// `config.core.v3.HealthStatus`, as far as balancing cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HealthStatus {
    /// `UNKNOWN` and `HEALTHY`
    #[default]
    Healthy,
    /// `UNHEALTHY`, `DRAINING` and `TIMEOUT`
    Unhealthy,
    /// `DEGRADED`
    Degraded,
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
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
        }
    }
}
