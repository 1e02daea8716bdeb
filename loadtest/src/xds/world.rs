//! The resources: clusters whose endpoints come by EDS, listeners whose routes come by RDS, and one
//! change of one of them after another.
//!
//! What it leaves to others: who is told of them.

use std::fmt;
use std::str::FromStr;

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as manager;
use envoy_types::pb::google::protobuf::{Any, Duration, UInt32Value};
use prost::Message as _;

/// A kind of resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Clusters,
    Endpoints,
    Listeners,
    Routes,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Clusters, Kind::Endpoints, Kind::Listeners, Kind::Routes];

    pub fn type_url(self) -> &'static str {
        match self {
            Kind::Clusters => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Kind::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Kind::Listeners => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Kind::Routes => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    pub fn of_type(type_url: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }

    /// All of them are wanted by a client that names none.
    pub fn is_wildcard(self) -> bool {
        matches!(self, Kind::Clusters | Kind::Listeners)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Clusters => "clusters",
            Kind::Endpoints => "endpoints",
            Kind::Listeners => "listeners",
            Kind::Routes => "routes",
        })
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        let found = Kind::ALL.into_iter().find(|kind| kind.to_string() == text);
        found.ok_or_else(|| format!("`{text}` is none of endpoints, clusters, routes, listeners"))
    }
}

/// Endpoints begin at 127.1.0.0.
const FIRST_HOST: u32 = 1 << 16;
/// Endpoints that have addresses of their own.
pub const HOSTS_MAX: usize = (1 << 24) - (1 << 17);

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub clusters: usize,
    /// Of each cluster.
    pub endpoints: usize,
    /// To each cluster.
    pub routes: usize,
    /// Each has a route configuration of its own, and its share of the clusters.
    pub listeners: usize,
    /// Where the first one listens; the others at the ports after it.
    pub first_port: u16,
}

/// A resource as it is now.
#[derive(Clone, Debug)]
pub struct Resource {
    pub name: String,
    /// How often it was changed, and one.
    pub version: u64,
    pub body: Any,
}

/// All resources.
#[derive(Debug)]
pub struct World {
    size: Size,
    /// By kind, in the order of their names' numbers.
    resources: [Vec<Resource>; 4],
    /// How often something of each kind was changed.
    changes: [usize; 4],
}

impl World {
    pub fn new(size: Size) -> World {
        let of_kind = |kind| {
            let resource = |number| Resource {
                name: name_of(kind, number),
                version: 1,
                body: body(&size, kind, number, 1),
            };
            (0..count(&size, kind)).map(resource).collect()
        };
        World { size, resources: Kind::ALL.map(of_kind), changes: [0; 4] }
    }

    pub fn all(&self, kind: Kind) -> &[Resource] {
        &self.resources[kind as usize]
    }

    pub fn get(&self, kind: Kind, name: &str) -> Option<&Resource> {
        let number: usize = name.rsplit_once('-')?.1.parse().ok()?;
        self.all(kind).get(number).filter(|resource| resource.name == name)
    }

    /// Changes the next one of a kind; its name.
    pub fn change(&mut self, kind: Kind) -> Option<String> {
        let all = &mut self.resources[kind as usize];
        let number = self.changes[kind as usize].checked_rem(all.len())?;
        self.changes[kind as usize] += 1;
        let resource = &mut all[number];
        resource.version += 1;
        resource.body = body(&self.size, kind, number, resource.version);
        Some(resource.name.clone())
    }
}

fn count(size: &Size, kind: Kind) -> usize {
    match kind {
        Kind::Clusters | Kind::Endpoints => size.clusters,
        Kind::Listeners | Kind::Routes => size.listeners,
    }
}

fn name_of(kind: Kind, number: usize) -> String {
    match kind {
        Kind::Clusters | Kind::Endpoints => format!("cluster-{number}"),
        Kind::Listeners => format!("listener-{number}"),
        Kind::Routes => format!("routes-{number}"),
    }
}

/// A resource, different in each version.
fn body(size: &Size, kind: Kind, number: usize, version: u64) -> Any {
    let value = match kind {
        Kind::Clusters => cluster(number, version).encode_to_vec(),
        Kind::Endpoints => assignment(size, number, version).encode_to_vec(),
        Kind::Listeners => listener(size, number, version).encode_to_vec(),
        Kind::Routes => routes(size, number, version).encode_to_vec(),
    };
    Any { type_url: kind.type_url().to_owned(), value }
}

fn ads() -> Option<core::ConfigSource> {
    let specifier = core::config_source::ConfigSourceSpecifier::Ads(Default::default());
    Some(core::ConfigSource {
        resource_api_version: core::ApiVersion::V3 as i32,
        config_source_specifier: Some(specifier),
        ..Default::default()
    })
}

fn address(address: String, port: u32) -> Option<core::Address> {
    let port = Some(core::socket_address::PortSpecifier::PortValue(port));
    let socket = core::SocketAddress { address, port_specifier: port, ..Default::default() };
    Some(core::Address { address: Some(core::address::Address::SocketAddress(socket)) })
}

/// A version is a millisecond of the time to connect.
fn cluster(number: usize, version: u64) -> cluster::Cluster {
    use cluster::cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig};
    cluster::Cluster {
        name: name_of(Kind::Clusters, number),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: ads(), ..Default::default() }),
        connect_timeout: Some(Duration {
            seconds: 1 + (version / 1_000) as i64,
            nanos: (version % 1_000) as i32 * 1_000_000,
        }),
        ..Default::default()
    }
}

/// A version is the first endpoint's weight. Endpoints are on this machine, where nobody listens:
/// whoever connects to them hears so at once.
fn assignment(size: &Size, number: usize, version: u64) -> endpoint::ClusterLoadAssignment {
    let endpoint = |place: usize| {
        let [_, a, b, c] = ((number * size.endpoints + place) as u32 + FIRST_HOST).to_be_bytes();
        let weight = if place == 0 { 1 + (version % 100) as u32 } else { 1 };
        let endpoint = endpoint::Endpoint {
            address: address(format!("127.{a}.{b}.{c}"), 8080),
            ..Default::default()
        };
        endpoint::LbEndpoint {
            host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
            load_balancing_weight: Some(UInt32Value { value: weight }),
            ..Default::default()
        }
    };
    let locality =
        core::Locality { region: "r1".to_owned(), zone: "z1".to_owned(), ..Default::default() };
    let endpoints = endpoint::LocalityLbEndpoints {
        locality: Some(locality),
        lb_endpoints: (0..size.endpoints).map(endpoint).collect(),
        ..Default::default()
    };
    endpoint::ClusterLoadAssignment {
        cluster_name: name_of(Kind::Clusters, number),
        endpoints: vec![endpoints],
        ..Default::default()
    }
}

/// A version is a prefix of the first virtual host.
fn routes(size: &Size, number: usize, version: u64) -> route::RouteConfiguration {
    use route::route_action::ClusterSpecifier;
    use route::route_match::PathSpecifier;
    let route = |cluster: usize, place: usize| {
        let is_changed = place == 0 && cluster == number;
        let prefix = match is_changed {
            true => format!("/path-{place}-{version}/"),
            false => format!("/path-{place}/"),
        };
        let action = route::RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(name_of(Kind::Clusters, cluster))),
            ..Default::default()
        };
        route::Route {
            r#match: Some(route::RouteMatch {
                path_specifier: Some(PathSpecifier::Prefix(prefix)),
                ..Default::default()
            }),
            action: Some(route::route::Action::Route(action)),
            ..Default::default()
        }
    };
    let host = |cluster: usize| route::VirtualHost {
        name: format!("host-{cluster}"),
        domains: vec![format!("host-{cluster}.example.com")],
        routes: (0..size.routes).map(|place| route(cluster, place)).collect(),
        ..Default::default()
    };
    route::RouteConfiguration {
        name: name_of(Kind::Routes, number),
        virtual_hosts: (number..size.clusters).step_by(size.listeners.max(1)).map(host).collect(),
        ..Default::default()
    }
}

/// A version is the prefix of its statistics.
fn listener(size: &Size, number: usize, version: u64) -> listener::Listener {
    use manager::http_connection_manager::RouteSpecifier;
    let router = manager::http_filter::ConfigType::TypedConfig(any(&Router::default(), ROUTER));
    let rds =
        manager::Rds { route_config_name: name_of(Kind::Routes, number), config_source: ads() };
    let manager = manager::HttpConnectionManager {
        stat_prefix: format!("listener-{number}-{version}"),
        route_specifier: Some(RouteSpecifier::Rds(rds)),
        http_filters: vec![manager::HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            config_type: Some(router),
            ..Default::default()
        }],
        ..Default::default()
    };
    let filter = listener::Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(any(&manager, MANAGER))),
    };
    let chain = listener::FilterChain { filters: vec![filter], ..Default::default() };
    listener::Listener {
        name: name_of(Kind::Listeners, number),
        address: address("127.0.0.1".to_owned(), u32::from(size.first_port) + number as u32),
        filter_chains: vec![chain],
        ..Default::default()
    }
}

const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";
const MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

fn any(message: &impl prost::Message, name: &str) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size =
        Size { clusters: 5, endpoints: 3, routes: 2, listeners: 2, first_port: 10_000 };

    #[test]
    fn everything_is_there_once_and_found_by_its_name() {
        let world = World::new(SIZE);
        let counts = Kind::ALL.map(|kind| world.all(kind).len());
        assert_eq!(counts, [5, 5, 2, 2]);
        for kind in Kind::ALL {
            assert_eq!(Kind::of_type(kind.type_url()), Some(kind));
            assert_eq!(kind.to_string().parse(), Ok(kind));
            for resource in world.all(kind) {
                assert_eq!(world.get(kind, &resource.name).unwrap().body, resource.body);
            }
            assert!(world.get(kind, "cluster-9").is_none() && world.get(kind, "").is_none());
        }
        let hosts = world.all(Kind::Routes).iter().map(|resource| {
            let routes = route::RouteConfiguration::decode(&*resource.body.value).unwrap();
            assert!(routes.virtual_hosts.iter().all(|host| host.routes.len() == 2));
            routes.virtual_hosts.len()
        });
        assert_eq!(hosts.sum::<usize>(), 5);
    }

    #[test]
    fn a_change_changes_one_resource_and_the_next_one_another() {
        for kind in Kind::ALL {
            let (mut world, before) = (World::new(SIZE), World::new(SIZE));
            let (first, second) = (world.change(kind).unwrap(), world.change(kind).unwrap());
            assert_ne!(first, second);
            for (now, before) in world.all(kind).iter().zip(before.all(kind)) {
                let is_changed = [&first, &second].contains(&&now.name);
                assert_eq!(now.body != before.body, is_changed, "{}", now.name);
                assert_eq!(now.version, 1 + u64::from(is_changed));
            }
        }
        let none = Size { listeners: 0, ..SIZE };
        assert_eq!(World::new(none).change(Kind::Routes), None);
    }
}
