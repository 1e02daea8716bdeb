//! Endpoints of a cluster (`config.endpoint.v3`).
//!
//! What it leaves to others: resolving names (`control`), choosing one (`upstream`).

use super::Address;
use super::cluster::Discovery;
use super::convert::At;
use super::support::{SupportedMessage, kept, message, only, refused, used};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as pb;

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

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.endpoint.v3.ClusterLoadAssignment",
        &[used("cluster_name"), used("endpoints"), used("policy")],
    ),
    // Nothing of it: an empty one changes nothing.
    message("envoy.config.endpoint.v3.ClusterLoadAssignment.Policy", &[]),
    message(
        "envoy.config.endpoint.v3.LocalityLbEndpoints",
        &[
            used("locality"),
            used("lb_endpoints"),
            refused("load_balancer_endpoints"),
            refused("leds_cluster_locality_config"),
            kept("metadata", "nothing reads a locality's metadata"),
            kept("load_balancing_weight", "it concerns locality weighted balancing only"),
            kept("proximity", "Envoy has no use for it either"),
            only("priority", &["0"]),
        ],
    ),
    message("envoy.config.core.v3.Locality", &[used("region"), used("zone"), used("sub_zone")]),
    message(
        "envoy.config.endpoint.v3.LbEndpoint",
        &[
            used("endpoint"),
            refused("endpoint_name"),
            used("health_status"),
            used("load_balancing_weight"),
            kept("metadata", "nothing reads an endpoint's metadata"),
        ],
    ),
    message(
        "envoy.config.endpoint.v3.Endpoint",
        &[
            used("address"),
            used("hostname"),
            kept("health_check_config", "there are no active health checks"),
        ],
    ),
];

impl ClusterLoadAssignment {
    pub(super) fn from_proto(
        at: &At<'_>,
        assignment: &pb::ClusterLoadAssignment,
        discovery: Option<&Discovery>,
    ) -> ClusterLoadAssignment {
        let at = at.field("endpoints");
        let mut endpoints = Vec::new();
        for (group_index, group) in assignment.endpoints.iter().enumerate() {
            let at = at.index(group_index);
            let at = at.field("lb_endpoints");
            let locality = group.locality.clone().unwrap_or_default();
            let locality = [locality.region, locality.zone, locality.sub_zone];
            for (index, lb_endpoint) in group.lb_endpoints.iter().enumerate() {
                let at = at.index(index);
                let endpoint = Endpoint::from_proto(&at, lb_endpoint, &locality, discovery);
                endpoints.extend(at.converted(endpoint));
            }
        }
        ClusterLoadAssignment { endpoints }
    }
}

impl Endpoint {
    fn from_proto(
        at: &At<'_>,
        lb_endpoint: &pb::LbEndpoint,
        locality: &[String; 3],
        discovery: Option<&Discovery>,
    ) -> Option<Endpoint> {
        use pb::lb_endpoint::HostIdentifier;
        let Some(HostIdentifier::Endpoint(found)) = &lb_endpoint.host_identifier else {
            at.missing("endpoint", None);
            return None;
        };
        let at_endpoint = at.field("endpoint");
        if found.address.is_none() {
            at_endpoint.missing("address", None);
        }
        let at_address = at_endpoint.field("address");
        let address = Address::from_proto(&at_address, found.address.as_ref())?;
        if let (Some(Discovery::Static), Address::Name { host, .. }) = (discovery, &address) {
            at_address.field("socket_address").field("address").error_hint(
                format!("malformed IP address: {host}"),
                "a cluster of type STATIC has IP addresses; for names set `type: STRICT_DNS`",
            );
        }
        if matches!(&address, Address::Socket(address) if address.port() == 0)
            || matches!(&address, Address::Name { port: 0, .. })
        {
            at_address
                .field("socket_address")
                .field("port_value")
                .warning("port 0 cannot be reached");
        }
        Some(Endpoint {
            address,
            hostname: found.hostname.clone(),
            weight: lb_endpoint.load_balancing_weight.map_or(1, |weight| weight.value),
            health_status: HealthStatus::from_proto(lb_endpoint.health_status()),
            locality: locality.clone(),
        })
    }
}

impl HealthStatus {
    fn from_proto(status: core::HealthStatus) -> HealthStatus {
        match status {
            core::HealthStatus::Unknown | core::HealthStatus::Healthy => HealthStatus::Healthy,
            core::HealthStatus::Degraded => HealthStatus::Degraded,
            core::HealthStatus::Unhealthy
            | core::HealthStatus::Draining
            | core::HealthStatus::Timeout => HealthStatus::Unhealthy,
        }
    }
}
