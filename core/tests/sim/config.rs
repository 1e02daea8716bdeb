//! Snapshots for simulated worlds: what control would build from an Envoy YAML.
//!
//! What it leaves to others: when to publish them (`operator.rs`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tidegate::config::{
    self, ActionOptions, Address, AddressSource, BodyLimit, ClientAddress, Cluster,
    ClusterLoadAssignment, ClusterOptions, Discovery, Endpoint, FilterChain, HealthStatus,
    Http1Options, HttpConnectionManager, LbPolicy, LeastRequest, LoadBalancing, NetworkFilter,
    PathMatch, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, RouteTarget,
    TcpProxy, Thresholds, TlsInspector, UpstreamConnectionOptions, VirtualHost, WeightedCluster,
};
use tidegate::snapshot::{
    Breakers, ChainEntry, Closing, ClusterEntry, ClusterId, ClusterTable, EndpointSet,
    FilterChains, FilterEntry, Host, HostId, HttpEntry, ListenerEntry, ListenerId, ListenerSockets,
    RouteTable, SelectionRules, Snapshot, TcpEntry,
};
use tidegate::stats::{
    ClusterStat, HostStat, Http1Stat, Http2Stat, HttpStat, ListenerHttpStat, ListenerStat,
    Registry, Scope, TcpStat, TlsInspectorStat,
};
use tidegate::transport::{ClientContext, ServerContext};
use tidegate_io::sim::{Random, World};

use super::plan::Weather;

/// Routes by prefix: `/r0/`, `/r1/`, ...
pub const ROUTES: usize = 3;

/// `timeout` of every route.
pub const ROUTE_TIMEOUT: Duration = Duration::from_secs(60);

/// Clusters that there may be.
pub const CLUSTERS: usize = 3;

/// Where the proxy listens.
pub fn proxy_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 80))
}

/// Where an origin listens.
pub fn origin_address(origin: usize) -> SocketAddr {
    SocketAddr::from(([10, 1, 0, origin as u8 + 1], 80))
}

/// What a configuration says, in short.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// The cluster of each route; none: no such route.
    pub routes: [Option<usize>; ROUTES],
    /// The origins of each cluster; none: no such cluster.
    pub clusters: [Option<Vec<usize>>; CLUSTERS],
}

impl Shape {
    /// Every route has a cluster and every cluster has origins.
    pub fn whole(weather: &Weather, random: &mut Random) -> Shape {
        let mut some = || {
            let count = random.between(1, weather.origins as u64) as usize;
            let first = random.index(weather.origins);
            Some((0..count).map(|index| (first + index) % weather.origins).collect())
        };
        let clusters = std::array::from_fn(|_| some());
        let routes = std::array::from_fn(|_| Some(random.index(CLUSTERS)));
        Shape { routes, clusters }
    }

    /// The same with something changed, sometimes for the worse.
    pub fn changed(&self, weather: &Weather, random: &mut Random) -> Shape {
        let mut shape = self.clone();
        let fresh = Shape::whole(weather, random);
        let (route, cluster) = (random.index(ROUTES), random.index(CLUSTERS));
        match random.below(8) {
            0 => shape.routes[route] = None,
            1 => shape.clusters[cluster] = None,
            2 => shape.clusters[cluster] = Some(Vec::new()),
            3 | 4 => shape.routes[route] = fresh.routes[route],
            5 | 6 => shape.clusters[cluster] = fresh.clusters[cluster].clone(),
            _ => shape = fresh,
        }
        shape
    }

    /// The origins that a route leads to; none when it leads nowhere.
    pub fn origins(&self, route: usize) -> Option<&Vec<usize>> {
        self.clusters[self.routes[route]?].as_ref().filter(|origins| !origins.is_empty())
    }
}

/// Builds snapshots, keeping what lives across them.
pub struct Builder {
    pub registry: Arc<Registry>,
    sockets: Arc<ListenerSockets>,
    breakers: Vec<Arc<Breakers>>,
    /// Connections to each host, where they have a limit.
    connections: BTreeMap<u32, Arc<AtomicU32>>,
    /// Origins have two priorities, two weights and two states of health.
    ranked: bool,
    entries: [Option<(Vec<usize>, Arc<ClusterEntry>)>; CLUSTERS],
    manager: HttpConnectionManager,
    cluster: Cluster,
    server_tls: Option<Arc<ServerContext>>,
    client_tls: Option<Arc<ClientContext>>,
    speaks_http2: bool,
    retry: Option<RetryPolicy>,
    kept_bytes: Option<u64>,
    /// The first bytes of connections are read before these have a filter chain.
    inspector: Option<TlsInspector>,
    version: u64,
}

impl Builder {
    pub fn new(world: &World, weather: &Weather, random: &mut Random) -> Builder {
        let address = proxy_address();
        let sockets = (0..weather.shards).map(|_| world.listener_fd(address).unwrap()).collect();
        Builder {
            registry: Arc::new(Registry::new(weather.shards)),
            sockets: Arc::new(ListenerSockets { address, sockets }),
            breakers: (0..CLUSTERS).map(|_| Arc::default()).collect(),
            connections: BTreeMap::new(),
            ranked: weather.origins == 3,
            entries: Default::default(),
            manager: manager(weather, random),
            cluster: cluster(weather, random),
            server_tls: weather.secrecy.server_context(),
            client_tls: weather.secrecy.client_context(),
            speaks_http2: weather.versions.is_upstream_http2(true),
            retry: weather.retry.clone(),
            kept_bytes: weather.kept_bytes,
            inspector: random.clone().chance(250).then(TlsInspector::default),
            version: 0,
        }
    }

    /// Permits of circuit breakers that somebody still holds.
    pub fn unreleased(&self) -> Vec<String> {
        use std::sync::atomic::Ordering::Relaxed;
        let held = self.breakers.iter().map(|breakers| {
            [&breakers.connections, &breakers.pending, &breakers.requests, &breakers.retries]
                .map(|counter| counter.load(Relaxed))
        });
        let of_hosts = self.connections.values().map(|counter| counter.load(Relaxed));
        let of_hosts = of_hosts.filter(|held| *held != 0);
        held.filter(|held| *held != [0; 4])
            .map(|held| format!("permits of connections, pending, requests, retries: {held:?}"))
            .chain(of_hosts.map(|held| format!("{held} connections of a host are counted")))
            .collect()
    }

    pub fn http_scope(&self) -> Scope {
        self.registry.scope("http.sim", HttpStat::ALL)
    }

    pub fn cluster_scope(&self, cluster: usize) -> Scope {
        self.registry.scope(&format!("cluster.c{cluster}"), ClusterStat::ALL)
    }

    pub fn build(&mut self, shape: &Shape, draining: bool) -> Snapshot {
        self.version += 1;
        let clusters = ClusterTable::new(
            (0..CLUSTERS).filter_map(|index| self.cluster_entry(index, shape)).collect::<Vec<_>>(),
        );
        let listeners = vec![Arc::new(self.listener_entry(shape))];
        Snapshot {
            version: self.version,
            listeners,
            clusters,
            draining,
            closing: Closing::None,
            drain_time: None,
        }
    }

    /// The same with a TcpProxy in place of the HttpConnectionManager.
    pub fn build_tcp(&mut self, shape: &Shape, proxy: TcpProxy) -> Snapshot {
        let mut snapshot = self.build(shape, false);
        let proxy = Arc::new(proxy);
        let before = &snapshot.listeners[0];
        let mut config = (*before.config).clone();
        config.filter_chains[0].filter = NetworkFilter::TcpProxy(proxy.clone());
        let config = Arc::new(config);
        let mut total = 0;
        let clusters = proxy.clusters.iter().enumerate().map(|(index, (_, weight))| {
            total += u64::from(*weight);
            (total, ClusterId(index as u32))
        });
        let tcp = TcpEntry {
            clusters: clusters.collect(),
            access_log: Vec::new(),
            measures: false,
            stats: self.registry.scope("tcp.sim", TcpStat::ALL),
            config: proxy,
        };
        let chain = ChainEntry {
            id: before.id,
            config: config.clone(),
            place: 0,
            filter: FilterEntry::Tcp(Arc::new(tcp)),
            tls: None,
            ssl_stats: None,
            handshake_timeout: None,
            name: String::new(),
            stats: before.stats,
        };
        snapshot.listeners = vec![Arc::new(ListenerEntry {
            id: before.id,
            config,
            sockets: before.sockets.clone(),
            chains: vec![Arc::new(chain)],
            matching: before.matching.clone(),
            stats: before.stats,
            inspector_stats: before.inspector_stats,
        })];
        snapshot
    }

    /// The entry of a cluster; the same as before when nothing changed.
    fn cluster_entry(&mut self, index: usize, shape: &Shape) -> Option<Arc<ClusterEntry>> {
        let Some(origins) = &shape.clusters[index] else {
            self.entries[index] = None;
            return None;
        };
        if let Some((before, entry)) = &self.entries[index]
            && before == origins
        {
            return Some(entry.clone());
        }
        let hosts = origins.iter().map(|origin| Arc::new(self.host(index, *origin))).collect();
        let mut config = self.cluster.clone();
        config.name = format!("c{index}");
        let assignment = Arc::make_mut(&mut config.load_assignment);
        assignment.endpoints = origins.iter().map(|origin| endpoint(*origin)).collect();
        let entry = Arc::new(ClusterEntry {
            id: ClusterId(index as u32),
            config: Arc::new(config),
            endpoints: Arc::new(EndpointSet::new(hosts, SelectionRules::default())),
            tls: self.client_tls.clone(),
            ssl_stats: None,
            breakers: self.breakers[index].clone(),
            stats: self.cluster_scope(index),
            http2_stats: self
                .speaks_http2
                .then(|| self.registry.scope(&format!("cluster.c{index}"), Http2Stat::ALL)),
        });
        self.entries[index] = Some((origins.clone(), entry.clone()));
        Some(entry)
    }

    fn host(&mut self, cluster: usize, origin: usize) -> Host {
        let prefix = format!("cluster.c{cluster}.o{origin}");
        let id = HostId((cluster * 16 + origin) as u32);
        let is_limited = self.cluster.circuit_breakers.max_connections_per_host.is_some();
        Host {
            id,
            address: origin_address(origin),
            hostname: String::new(),
            weight: if self.ranked { 1 + origin as u32 % 2 } else { 1 },
            health_status: match self.ranked && origin % 3 == 1 {
                true => HealthStatus::Degraded,
                false => HealthStatus::Healthy,
            },
            locality: Default::default(),
            locality_weight: 0,
            priority: if self.ranked { origin as u32 / 2 } else { 0 },
            metadata: Default::default(),
            connections: is_limited.then(|| self.connections.entry(id.0).or_default().clone()),
            stats: self.registry.scope(&prefix, HostStat::ALL),
        }
    }

    fn listener_entry(&self, shape: &Shape) -> ListenerEntry {
        let routes = Arc::new(self.routes(shape));
        let known = |name: &str| {
            (0..CLUSTERS).find(|index| name == format!("c{index}")).map(|it| ClusterId(it as u32))
        };
        let manager = Arc::new(HttpConnectionManager {
            route_config: routes.clone(),
            ..self.manager.clone()
        });
        let http = HttpEntry {
            config: manager.clone(),
            routes: Arc::new(RouteTable::compile(routes, known)),
            scopes: None,
            measures: false,
            proxy_name: None,
            access_log: Vec::new(),
            stats: self.http_scope(),
            listener_stats: self.registry.scope("listener.sim.http.sim", ListenerHttpStat::ALL),
            local_replies: None,
            grpc_stats: None,
            codec_stats: self.registry.scope("http1", Http1Stat::ALL),
            http2_stats: self.registry.scope("", Http2Stat::ALL),
            host_address: proxy_address().ip(),
            user_agent: None,
        };
        let config = Arc::new(listener(manager, self.inspector));
        let stats = self.registry.scope("listener.sim", ListenerStat::ALL);
        let chain = ChainEntry {
            id: ListenerId(0),
            config: config.clone(),
            place: 0,
            filter: FilterEntry::Http(Arc::new(http)),
            tls: self.server_tls.clone(),
            ssl_stats: None,
            handshake_timeout: None,
            name: String::new(),
            stats,
        };
        ListenerEntry {
            id: ListenerId(0),
            matching: Arc::new(FilterChains::of(&config)),
            config,
            sockets: self.sockets.clone(),
            chains: vec![Arc::new(chain)],
            stats,
            inspector_stats: self
                .inspector
                .map(|_| self.registry.scope("tls_inspector", TlsInspectorStat::ALL)),
        }
    }
}

impl Builder {
    fn routes(&self, shape: &Shape) -> RouteConfiguration {
        let mut routes = Vec::new();
        for (index, cluster) in shape.routes.iter().enumerate() {
            let Some(cluster) = cluster else { continue };
            routes.push(Arc::new(Route {
                name: format!("r{index}"),
                matches: RouteMatch::new(PathMatch::Prefix(format!("/r{index}/"))),
                body_limit: self
                    .kept_bytes
                    .map(|bytes| Box::new(BodyLimit { bytes: Some(bytes), per_request: None })),
                mutations: Default::default(),
                metadata: Default::default(),
                target: RouteTarget::Forward(RouteAction {
                    clusters: Arc::new([WeightedCluster {
                        name: format!("c{cluster}"),
                        weight: 1,
                        ..WeightedCluster::default()
                    }]),
                    options: Arc::new(ActionOptions {
                        cluster_not_found_status: 503,
                        timeout: Some(ROUTE_TIMEOUT),
                        retry_policy: self.retry.clone().map(Box::new),
                        ..ActionOptions::default()
                    }),
                }),
            }));
        }
        let domains = vec!["*".into()];
        let all = VirtualHost { name: "all".into(), domains, routes, ..VirtualHost::default() };
        let name = "sim".to_owned();
        RouteConfiguration { name, virtual_hosts: vec![all], ..RouteConfiguration::default() }
    }
}

fn listener(
    manager: Arc<HttpConnectionManager>,
    tls_inspector: Option<TlsInspector>,
) -> config::Listener {
    config::Listener {
        name: "sim".into(),
        address: proxy_address(),
        backlog: 128,
        inbound: false,
        stat_prefix: "sim".into(),
        per_connection_buffer_limit_bytes: 1 << 20,
        filter_chains: vec![FilterChain {
            name: String::new(),
            filter: NetworkFilter::HttpConnectionManager(manager),
            tls: None,
            matches: Default::default(),
            transport_socket_connect_timeout: None,
        }],
        default_filter_chain: None,
        tls_inspector,
        listener_filters_timeout: None,
        continue_on_listener_filters_timeout: false,
        access_log: Vec::new(),
        metadata: Default::default(),
    }
}

fn manager(weather: &Weather, random: &mut Random) -> HttpConnectionManager {
    let short = Duration::from_millis(random.between(20, 500));
    let source = AddressSource::Peer { skip_xff_append: false, trusted_hops: 0 };
    let at_edge = ClientAddress { source, ..ClientAddress::default() };
    HttpConnectionManager {
        stat_prefix: "sim".into(),
        idle_timeout: Some(if weather.short_idle { short } else { Duration::from_secs(3600) }),
        max_requests_per_connection: random.chance(200).then(|| random.between(1, 4) as u32),
        server_name: "tidegate".into(),
        client_address: if random.chance(500) { at_edge } else { ClientAddress::default() },
        upgrades: vec!["websocket".into()],
        http2: weather.versions.options.clone(),
        ..HttpConnectionManager::default()
    }
}

fn cluster(weather: &Weather, random: &mut Random) -> Cluster {
    let small = Thresholds {
        max_connections: random.between(1, 3) as u32,
        max_pending_requests: random.between(1, 3) as u32,
        max_requests: random.between(1, 4) as u32,
        max_retries: random.between(0, 2) as u32,
        retry_budget: None,
    };
    let short = Duration::from_millis(random.between(1, 300));
    let options = ClusterOptions {
        connect_timeout: Duration::from_secs(3),
        load_balancing: LoadBalancing {
            policy: match random.between(0, 3) {
                0 => LbPolicy::RoundRobin,
                1 => LbPolicy::LeastRequest(LeastRequest::default()),
                _ => LbPolicy::Random,
            },
            ..LoadBalancing::default()
        },
        circuit_breakers: config::CircuitBreakers {
            default: if weather.small_breakers { small } else { Thresholds::default() },
            high: Thresholds::default(),
            max_connections_per_host: weather.host_limit,
        },
        max_requests_per_connection: random.chance(200).then(|| random.between(1, 4) as u32),
        idle_timeout: Some(if weather.short_idle { short } else { Duration::from_secs(3600) }),
        max_connection_duration: random.chance(200).then_some(short * 10),
        max_response_headers_count: 100,
        max_stream_duration: None,
        protocol: weather.versions.upstream,
        http2: weather.versions.upstream_options.clone(),
        http1: Http1Options::default(),
        per_connection_buffer_limit_bytes: 1 << 20,
        server_name: weather.secrecy.server_name(),
        connections: UpstreamConnectionOptions::default(),
    };
    Cluster {
        name: String::new(),
        stat_name: String::new(),
        added_via_api: false,
        discovery: Discovery::Static,
        metadata: Default::default(),
        load_assignment: ClusterLoadAssignment::default().into(),
        tls: None,
        options: options.into(),
    }
}

fn endpoint(origin: usize) -> Endpoint {
    Endpoint {
        address: Address::Socket(origin_address(origin)),
        hostname: String::new(),
        weight: 1,
        health_status: HealthStatus::Healthy,
        locality: Default::default(),
        locality_weight: 0,
        priority: 0,
        metadata: Default::default(),
    }
}
