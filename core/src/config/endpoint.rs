//! Endpoints of a cluster (`config.endpoint.v3`).
//!
//! What it leaves to others: resolving names (`control`), choosing one (`upstream`).

mod encoded;
mod list;

pub(super) use encoded::decode;
pub use list::{EndpointPage, Endpoints};

use super::Address;
use super::cluster::Discovery;
use super::convert::At;
use super::metadata::Metadata;
use super::support::{SupportedMessage, kept, message, refused, used};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as pb;
use std::collections::HashSet;
use std::sync::Arc;

/// `config.endpoint.v3.ClusterLoadAssignment`
#[derive(Clone, Debug)]
pub struct ClusterLoadAssignment {
    /// All `lb_endpoints` of all localities and priorities, in order.
    pub endpoints: Endpoints,
    /// Every endpoint is one host: no address is there twice, and none is a name.
    pub is_plain: bool,
    /// `policy.overprovisioning_factor` in percent, default 140, above 0: 72 % of hosts are enough
    /// for all requests.
    pub overprovisioning_factor: u32,
    /// `policy.weighted_priority_health`: the health of a priority counts weights, not hosts.
    pub weighted_priority_health: bool,
    /// What it was read from, where the next version may share pages with it.
    encoded: Option<Box<encoded::Encoded>>,
}

impl PartialEq for ClusterLoadAssignment {
    /// What it was read from does not count, and how endpoints are laid out follows from them.
    fn eq(&self, other: &ClusterLoadAssignment) -> bool {
        self.overprovisioning_factor == other.overprovisioning_factor
            && self.weighted_priority_health == other.weighted_priority_health
            && self.endpoints == other.endpoints
    }
}

impl Default for ClusterLoadAssignment {
    fn default() -> ClusterLoadAssignment {
        ClusterLoadAssignment {
            endpoints: Endpoints::default(),
            is_plain: true,
            overprovisioning_factor: DEFAULT_OVERPROVISIONING_FACTOR,
            weighted_priority_health: false,
            encoded: None,
        }
    }
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
    pub locality: Arc<[String; 3]>,
    /// The locality's `load_balancing_weight`; 0 if it has none.
    pub locality_weight: u32,
    /// The locality's `priority`, 0 first.
    pub priority: u32,
    /// `metadata`
    pub metadata: Metadata,
}

/// `config.core.v3.HealthStatus`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HealthStatus {
    /// `UNKNOWN`: healthy, as nobody has said otherwise.
    #[default]
    Unknown,
    /// `HEALTHY`
    Healthy,
    /// `UNHEALTHY`
    Unhealthy,
    /// `DRAINING`
    Draining,
    /// `TIMEOUT`
    Timeout,
    /// `DEGRADED`
    Degraded,
}

/// What a health status means to a balancer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Availability {
    /// Takes requests.
    Healthy,
    /// Takes what the healthy ones cannot.
    Degraded,
    /// Takes requests in panic only.
    Unavailable,
    /// The same, but it is not missed either: health is that of the other hosts.
    Excluded,
}

const DEFAULT_OVERPROVISIONING_FACTOR: u32 = 140;

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.endpoint.v3.ClusterLoadAssignment",
        &[used("cluster_name"), used("endpoints"), used("policy")],
    ),
    message(
        "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy",
        &[
            used("overprovisioning_factor"),
            used("weighted_priority_health"),
            refused("drop_overloads"),
            refused("endpoint_stale_after"),
        ],
    ),
    message(
        "envoy.config.endpoint.v3.LocalityLbEndpoints",
        &[
            used("locality"),
            used("lb_endpoints"),
            refused("load_balancer_endpoints"),
            refused("leds_cluster_locality_config"),
            kept("metadata", "nothing reads a locality's metadata"),
            used("load_balancing_weight"),
            kept("proximity", "Envoy has no use for it either"),
            used("priority"),
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
            used("metadata"),
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
        let mut converted = ClusterLoadAssignment::of_policy(assignment.policy.as_ref());
        let count = assignment.endpoints.iter().map(|group| group.lb_endpoints.len()).sum();
        let mut endpoints = Vec::with_capacity(count);
        let mut seen = HashSet::with_capacity(count);
        for (group_index, group) in assignment.endpoints.iter().enumerate() {
            let at = at.index(group_index);
            let at = at.field("lb_endpoints");
            let locality = group.locality.clone().unwrap_or_default();
            let locality = Arc::new([locality.region, locality.zone, locality.sub_zone]);
            for (index, lb_endpoint) in group.lb_endpoints.iter().enumerate() {
                let at = at.index(index);
                let endpoint =
                    Endpoint::from_proto(&at, lb_endpoint, (group, &locality), discovery);
                let Some(endpoint) = at.converted(endpoint) else { continue };
                converted.is_plain &= matches!(endpoint.address, Address::Socket(_));
                if !seen.insert(endpoint.address.clone()) {
                    at.warning(format!("{} is there twice and counts once", endpoint.address));
                    converted.is_plain = false;
                }
                endpoints.push(endpoint);
            }
        }
        converted.endpoints = endpoints.into_iter().collect();
        converted
    }

    /// An assignment of no endpoints.
    fn of_policy(policy: Option<&pb::cluster_load_assignment::Policy>) -> ClusterLoadAssignment {
        let mut assignment = ClusterLoadAssignment::default();
        if let Some(policy) = policy {
            let factor = policy.overprovisioning_factor;
            assignment.overprovisioning_factor =
                factor.map_or(DEFAULT_OVERPROVISIONING_FACTOR, |factor| factor.value);
            assignment.weighted_priority_health = policy.weighted_priority_health;
        }
        assignment
    }
}

impl Endpoint {
    /// Whether both are of one locality and priority.
    fn is_beside(&self, other: &Endpoint) -> bool {
        self.priority == other.priority
            && self.locality_weight == other.locality_weight
            && self.locality == other.locality
    }

    fn from_proto(
        at: &At<'_>,
        lb_endpoint: &pb::LbEndpoint,
        (group, locality): (&pb::LocalityLbEndpoints, &Arc<[String; 3]>),
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
            locality_weight: group.load_balancing_weight.map_or(0, |weight| weight.value),
            priority: group.priority,
            metadata: Metadata::from_proto(lb_endpoint.metadata.as_ref()),
        })
    }
}

impl Availability {
    /// All of them, in the order of their declaration.
    pub const ALL: [Availability; 4] = [
        Availability::Healthy,
        Availability::Degraded,
        Availability::Unavailable,
        Availability::Excluded,
    ];
}

impl HealthStatus {
    /// What it means to a balancer.
    #[must_use]
    pub fn availability(self) -> Availability {
        match self {
            HealthStatus::Unknown | HealthStatus::Healthy => Availability::Healthy,
            HealthStatus::Degraded => Availability::Degraded,
            HealthStatus::Unhealthy | HealthStatus::Timeout => Availability::Unavailable,
            HealthStatus::Draining => Availability::Excluded,
        }
    }

    fn from_proto(status: core::HealthStatus) -> HealthStatus {
        match status {
            core::HealthStatus::Unknown => HealthStatus::Unknown,
            core::HealthStatus::Healthy => HealthStatus::Healthy,
            core::HealthStatus::Unhealthy => HealthStatus::Unhealthy,
            core::HealthStatus::Draining => HealthStatus::Draining,
            core::HealthStatus::Timeout => HealthStatus::Timeout,
            core::HealthStatus::Degraded => HealthStatus::Degraded,
        }
    }
}
