//! The types of resources that xDS carries: how each is named on the wire and asked for.
//!
//! What it leaves to others: what is in a resource.

/// A type of resource. The order is the one in which a new stream asks for them: clusters and their
/// endpoints before listeners and their routes, as Envoy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// CDS: `envoy.config.cluster.v3.Cluster`.
    Cluster,
    /// EDS: `envoy.config.endpoint.v3.ClusterLoadAssignment`.
    ClusterLoadAssignment,
    /// LDS: `envoy.config.listener.v3.Listener`.
    Listener,
    /// SRDS: `envoy.config.route.v3.ScopedRouteConfiguration`.
    ScopedRouteConfiguration,
    /// RDS: `envoy.config.route.v3.RouteConfiguration`.
    RouteConfiguration,
    /// VHDS: `envoy.config.route.v3.VirtualHost`. Only the delta variant has it.
    VirtualHost,
    /// SDS: `envoy.extensions.transport_sockets.tls.v3.Secret`.
    Secret,
    /// ECDS: `envoy.config.core.v3.TypedExtensionConfig`.
    ExtensionConfig,
    /// RTDS: `envoy.service.runtime.v3.Runtime`.
    Runtime,
}

/// One row: the message behind `type.googleapis.com/`, package and service of its own streams, the
/// noun of their methods, the noun of its REST path.
type Row = (ResourceType, &'static str, &'static str, &'static str, &'static str);

/// A service is named by its package; `Stream` or `Delta` and the noun make the method.
const TABLE: [Row; 9] = [
    (
        ResourceType::Cluster,
        "envoy.config.cluster.v3.Cluster",
        "envoy.service.cluster.v3.ClusterDiscoveryService",
        "Clusters",
        "clusters",
    ),
    (
        ResourceType::ClusterLoadAssignment,
        "envoy.config.endpoint.v3.ClusterLoadAssignment",
        "envoy.service.endpoint.v3.EndpointDiscoveryService",
        "Endpoints",
        "endpoints",
    ),
    (
        ResourceType::Listener,
        "envoy.config.listener.v3.Listener",
        "envoy.service.listener.v3.ListenerDiscoveryService",
        "Listeners",
        "listeners",
    ),
    (
        ResourceType::ScopedRouteConfiguration,
        "envoy.config.route.v3.ScopedRouteConfiguration",
        "envoy.service.route.v3.ScopedRoutesDiscoveryService",
        "ScopedRoutes",
        "scoped-routes",
    ),
    (
        ResourceType::RouteConfiguration,
        "envoy.config.route.v3.RouteConfiguration",
        "envoy.service.route.v3.RouteDiscoveryService",
        "Routes",
        "routes",
    ),
    (
        ResourceType::VirtualHost,
        "envoy.config.route.v3.VirtualHost",
        "envoy.service.route.v3.VirtualHostDiscoveryService",
        "VirtualHosts",
        "",
    ),
    (
        ResourceType::Secret,
        "envoy.extensions.transport_sockets.tls.v3.Secret",
        "envoy.service.secret.v3.SecretDiscoveryService",
        "Secrets",
        "secrets",
    ),
    (
        ResourceType::ExtensionConfig,
        "envoy.config.core.v3.TypedExtensionConfig",
        "envoy.service.extension.v3.ExtensionConfigDiscoveryService",
        "ExtensionConfigs",
        "extension_configs",
    ),
    (
        ResourceType::Runtime,
        "envoy.service.runtime.v3.Runtime",
        "envoy.service.runtime.v3.RuntimeDiscoveryService",
        "Runtime",
        "runtime",
    ),
];

const PREFIX: &str = "type.googleapis.com/";

/// The stream of all types over state-of-the-world requests.
pub(crate) const AGGREGATED_STREAM: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

/// The stream of all types over delta requests.
pub(crate) const AGGREGATED_DELTA: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

impl ResourceType {
    /// All of them, in the order of requests on a new stream.
    pub const ALL: [Self; 9] = [
        Self::Cluster,
        Self::ClusterLoadAssignment,
        Self::Listener,
        Self::ScopedRouteConfiguration,
        Self::RouteConfiguration,
        Self::VirtualHost,
        Self::Secret,
        Self::ExtensionConfig,
        Self::Runtime,
    ];

    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// What a resource of this type is called in an `Any`: `type.googleapis.com/envoy…`.
    #[must_use]
    pub fn type_url(self) -> String {
        format!("{PREFIX}{}", self.row().1)
    }

    /// The type that a URL names, whatever stands before its last `/`.
    #[must_use]
    pub fn from_type_url(url: &str) -> Option<Self> {
        let message = url.rsplit_once('/').map_or(url, |(_, message)| message);
        TABLE.iter().find(|row| row.1 == message).map(|row| row.0)
    }

    /// Path of the method that streams this type alone over state-of-the-world requests; VHDS has
    /// none.
    #[must_use]
    pub fn stream_path(self) -> Option<String> {
        (self != Self::VirtualHost).then(|| format!("/{}/Stream{}", self.row().2, self.row().3))
    }

    /// Path of the method that streams this type alone over delta requests.
    #[must_use]
    pub fn delta_path(self) -> String {
        format!("/{}/Delta{}", self.row().2, self.row().3)
    }

    /// Path of the REST endpoint that is polled for this type; VHDS has none.
    #[must_use]
    pub fn rest_path(self) -> Option<String> {
        let noun = self.row().4;
        (!noun.is_empty()).then(|| format!("/v3/discovery:{noun}"))
    }

    /// Whether a state-of-the-world response is all there is: what is missing in it is gone.
    #[must_use]
    pub fn is_state_of_the_world(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener | Self::ScopedRouteConfiguration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_types() {
        for (at, kind) in ResourceType::ALL.into_iter().enumerate() {
            assert_eq!((kind as usize, TABLE[at].0), (at, kind));
            assert_eq!(ResourceType::from_type_url(&kind.type_url()), Some(kind));
        }
        let mut sorted = ResourceType::ALL;
        sorted.sort();
        assert_eq!(sorted, ResourceType::ALL);
    }

    #[test]
    fn names_are_envoys() {
        let kind = ResourceType::ClusterLoadAssignment;
        assert_eq!(
            kind.type_url(),
            "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
        );
        assert_eq!(
            kind.stream_path().unwrap(),
            "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints"
        );
        assert_eq!(
            ResourceType::VirtualHost.delta_path(),
            "/envoy.service.route.v3.VirtualHostDiscoveryService/DeltaVirtualHosts"
        );
        assert_eq!(ResourceType::VirtualHost.stream_path(), None);
        assert_eq!(ResourceType::VirtualHost.rest_path(), None);
        assert_eq!(ResourceType::Cluster.rest_path().unwrap(), "/v3/discovery:clusters");
        assert_eq!(ResourceType::from_type_url("envoy.api.v2.Cluster"), None);
    }
}
