//! Entries of a snapshot from configuration: what is equal to what was there before is shared with
//! it.
//!
//! What it leaves to others: when to build (`resources`).

use super::hosts::endpoints;
use super::identity::{Identities, ListenerKey};
use super::names::Names;
use super::tls::{TlsContexts, chain_key};
use crate::access_log::AccessLogger;
use crate::config::{self, Bootstrap, NetworkFilter, ProxyName, UpstreamProtocol};
use crate::snapshot::{
    ChainEntry, ClusterEntry, FilterChains, FilterEntry, HttpEntry, ListenerEntry, ListenerId,
    ListenerSockets, LocalReplies, RouteScopes, RouteTable, TcpEntry,
};
use crate::stats::{
    ClusterStat, Http1Stat, Http2Stat, HttpStat, ListenerHttpStat, ListenerStat, Registry, SslStat,
    TcpStat, TlsInspectorStat,
};
use crate::transport::{ClientContext, ServerContext};
use std::collections::HashMap;
use std::sync::Arc;

/// A bootstrap, and what had to be opened for it, which could fail.
#[derive(Debug)]
pub struct Prepared {
    /// What was asked for.
    pub bootstrap: Bootstrap,
    /// Sockets of every listener.
    pub sockets: HashMap<ListenerKey, Arc<ListenerSockets>>,
    /// A logger for every access log.
    pub access_logs: Vec<Arc<AccessLogger>>,
    /// A context for everything with TLS.
    pub tls: TlsContexts,
}

/// Entries of all listeners, in the order of the configuration.
pub fn listeners(
    prepared: &Prepared,
    previous: &[Arc<ListenerEntry>],
    identities: &mut Identities,
    registry: &Arc<Registry>,
) -> Vec<Arc<ListenerEntry>> {
    let old: HashMap<_, _> = previous.iter().map(|entry| (entry.id, entry)).collect();
    let mut entries = Vec::with_capacity(prepared.bootstrap.listeners.len());
    for config in &prepared.bootstrap.listeners {
        let key = ListenerKey::of(config);
        // `prepare` made sockets for every listener or refused the update.
        let Some(sockets) = prepared.sockets.get(&key) else { continue };
        let id = identities.listener(key);
        let before = old.get(&id).copied();
        let is_same = |entry: &ListenerEntry| {
            super::changes::same(&entry.config, config)
                && Arc::ptr_eq(&entry.sockets, sockets)
                && entry.chains.iter().all(|chain| {
                    let tls = prepared.tls.servers.get(&chain_key(config, chain.place));
                    same_context(chain.tls.as_ref(), tls)
                })
        };
        match before {
            Some(entry) if is_same(entry) => {
                entries.push(entry.clone());
            }
            _ => {
                let inspects = config.tls_inspector.is_some();
                entries.push(Arc::new(ListenerEntry {
                    id,
                    config: config.clone(),
                    sockets: sockets.clone(),
                    chains: chains(id, config, before, prepared, identities, registry),
                    matching: Arc::new(FilterChains::of(config)),
                    stats: registry.scope(&prefix(config), ListenerStat::ALL),
                    inspector_stats: inspects
                        .then(|| registry.scope("tls_inspector", TlsInspectorStat::ALL)),
                }));
            }
        }
    }
    entries
}

fn prefix(listener: &config::Listener) -> String {
    format!("listener.{}", listener.stat_prefix)
}

fn chains(
    id: ListenerId,
    config: &Arc<config::Listener>,
    before: Option<&Arc<ListenerEntry>>,
    prepared: &Prepared,
    identities: &mut Identities,
    registry: &Arc<Registry>,
) -> Vec<Arc<ChainEntry>> {
    let old = before.into_iter().flat_map(|entry| &entry.chains);
    let old = old.filter_map(|chain| Some((config.successor(&chain.config, chain.place)?, chain)));
    let old: HashMap<_, _> = old.collect();
    let chains = config.chains().enumerate().map(|(place, chain)| {
        let same = old.get(&place).copied();
        let tls = prepared.tls.servers.get(&chain_key(config, place)).cloned();
        Arc::new(ChainEntry {
            id,
            config: config.clone(),
            place,
            filter: filter(config, chain, same, prepared, identities, registry),
            ssl_stats: tls.is_some().then(|| registry.scope(&prefix(config), SslStat::ALL)),
            tls,
            handshake_timeout: chain.transport_socket_connect_timeout,
            name: chain.name.clone(),
            stats: registry.scope(&prefix(config), ListenerStat::ALL),
        })
    });
    chains.collect()
}

/// The same listener with other contexts of chains, by their places: its sockets and connections
/// stay.
pub fn with_contexts(
    entry: &ListenerEntry,
    context: impl Fn(usize) -> Option<Arc<ServerContext>>,
) -> Arc<ListenerEntry> {
    let chains = entry.chains.iter().map(|chain| match context(chain.place) {
        None => chain.clone(),
        Some(tls) => Arc::new(ChainEntry {
            id: chain.id,
            config: chain.config.clone(),
            place: chain.place,
            filter: chain.filter.clone(),
            tls: Some(tls),
            ssl_stats: chain.ssl_stats,
            handshake_timeout: chain.handshake_timeout,
            name: chain.name.clone(),
            stats: chain.stats,
        }),
    });
    Arc::new(ListenerEntry {
        id: entry.id,
        config: entry.config.clone(),
        sockets: entry.sockets.clone(),
        chains: chains.collect(),
        matching: entry.matching.clone(),
        stats: entry.stats,
        inspector_stats: entry.inspector_stats,
    })
}

fn same_context<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

fn filter(
    listener: &config::Listener,
    chain: &config::FilterChain,
    previous: Option<&Arc<ChainEntry>>,
    prepared: &Prepared,
    identities: &mut Identities,
    registry: &Arc<Registry>,
) -> FilterEntry {
    match &chain.filter {
        NetworkFilter::HttpConnectionManager(config) => {
            let before = previous.and_then(|entry| entry.filter.http());
            let prefix = previous.map(|entry| &entry.config.stat_prefix);
            let moved = prefix.is_some_and(|prefix| *prefix != listener.stat_prefix);
            let build = HttpBuild { listener, prepared, registry };
            let before = before.filter(|_| !moved);
            FilterEntry::Http(build.entry(config, before, identities))
        }
        NetworkFilter::TcpProxy(config) => {
            let before = previous.map(|entry| &entry.filter);
            FilterEntry::Tcp(tcp(config, before, prepared, identities, registry))
        }
    }
}

fn tcp(
    config: &Arc<config::TcpProxy>,
    before: Option<&FilterEntry>,
    prepared: &Prepared,
    identities: &mut Identities,
    registry: &Registry,
) -> Arc<TcpEntry> {
    if let Some(FilterEntry::Tcp(entry)) = before
        && entry.config == *config
    {
        return entry.clone();
    }
    let mut total = 0;
    let clusters = config.clusters.iter().map(|(name, weight)| {
        total += u64::from(*weight);
        (total, identities.cluster(name))
    });
    let clusters = clusters.collect();
    let access_log = loggers(prepared, &config.access_log);
    Arc::new(TcpEntry {
        clusters,
        measures: access_log.iter().any(|log| log.measures()),
        access_log,
        stats: registry.scope(&format!("tcp.{}", config.stat_prefix), TcpStat::ALL),
        config: config.clone(),
    })
}

fn loggers(prepared: &Prepared, logs: &[config::AccessLog]) -> Vec<Arc<AccessLogger>> {
    let logger = |log: &config::AccessLog| {
        prepared.access_logs.iter().find(|logger| logger.config == *log).cloned()
    };
    logs.iter().filter_map(logger).collect()
}

/// What entries of connection managers need beside their configuration.
struct HttpBuild<'b> {
    listener: &'b config::Listener,
    prepared: &'b Prepared,
    registry: &'b Arc<Registry>,
}

impl HttpBuild<'_> {
    fn entry(
        &self,
        config: &Arc<config::HttpConnectionManager>,
        before: Option<&Arc<HttpEntry>>,
        identities: &mut Identities,
    ) -> Arc<HttpEntry> {
        let HttpBuild { listener, prepared, registry } = *self;
        let node = &prepared.bootstrap.node;
        let user_agent = config.add_user_agent.then(|| (node.cluster.clone(), node.id.clone()));
        let proxy_name = config.proxy_status.as_ref().map(|status| match &status.name {
            ProxyName::Server => config.server_name.clone(),
            ProxyName::NodeId => node.id.clone(),
            ProxyName::Literal(name) => name.clone(),
        });
        let is_same = |entry: &&Arc<HttpEntry>| {
            entry.config == *config
                && entry.user_agent == user_agent
                && entry.proxy_name == proxy_name
        };
        if let Some(entry) = before.filter(is_same) {
            return entry.clone();
        }
        let scopes = self.scopes(config, before, identities);
        let routes = match before.filter(|entry| entry.routes.config == config.route_config) {
            Some(entry) => entry.routes.clone(),
            None => routes(&config.route_config, identities),
        };
        let access_log = loggers(prepared, &config.access_log);
        let local_replies = config.local_reply.as_ref().map(|c| Box::new(LocalReplies::new(c)));
        let measures = access_log.iter().any(|log| log.measures())
            || routes.measures
            || local_replies.as_ref().is_some_and(|replies| replies.measures());
        Arc::new(HttpEntry {
            config: config.clone(),
            routes,
            scopes,
            access_log,
            proxy_name,
            measures,
            stats: registry.scope(&format!("http.{}", config.stat_prefix), HttpStat::ALL),
            listener_stats: registry.scope(
                &format!("listener.{}.http.{}", listener.stat_prefix, config.stat_prefix),
                ListenerHttpStat::ALL,
            ),
            local_replies,
            grpc_stats: config.grpc_stats.is_some().then(|| registry.clone()),
            codec_stats: registry.scope("http1", Http1Stat::ALL),
            http2_stats: registry.scope("", Http2Stat::ALL),
            host_address: tidegate_io::host_address(),
            user_agent,
        })
    }

    /// The same connection manager with the routes of each scope.
    fn scopes(
        &self,
        config: &config::HttpConnectionManager,
        before: Option<&Arc<HttpEntry>>,
        identities: &mut Identities,
    ) -> Option<Box<RouteScopes>> {
        let scoped = config.scoped_routes.as_ref()?;
        let old = before.and_then(|entry| entry.scopes.as_ref());
        let entries = scoped.scopes.iter().map(|scope| {
            let mut alone = config.clone();
            (alone.route_config, alone.scoped_routes) = (scope.routes.clone(), None);
            let before = old.and_then(|old| old.with_key(&scope.key));
            (scope.key.clone(), self.entry(&Arc::new(alone), before, identities))
        });
        let entries = entries.collect();
        Some(Box::new(RouteScopes::new(scoped.key_builder.clone(), entries)))
    }
}

fn routes(
    config: &Arc<config::RouteConfiguration>,
    identities: &mut Identities,
) -> Arc<RouteTable> {
    // Every cluster that is named has a number, so that a table need not be compiled again when a
    // cluster comes.
    let identities = std::cell::RefCell::new(identities);
    let cluster = |name: &str| Some(identities.borrow_mut().cluster(name));
    Arc::new(RouteTable::compile(config.clone(), cluster))
}

/// The entry of a cluster with the addresses known now: the previous one if nothing is different.
pub fn cluster(
    config: &Arc<config::Cluster>,
    previous: Option<&Arc<ClusterEntry>>,
    tls: Option<&Arc<ClientContext>>,
    names: &Names,
    identities: &mut Identities,
    registry: &Registry,
) -> Arc<ClusterEntry> {
    if let Some(entry) = previous
        && Arc::ptr_eq(&entry.config, config)
        && config.discovery.dns().is_none()
        && same_context(entry.tls.as_ref(), tls)
    {
        return entry.clone();
    }
    let id = identities.cluster(&config.name);
    let endpoints = endpoints(id, config, previous, names, identities, registry);
    if let Some(entry) = previous
        && super::changes::same(&entry.config, config)
        && Arc::ptr_eq(&entry.endpoints, &endpoints)
        && same_context(entry.tls.as_ref(), tls)
    {
        return entry.clone();
    }
    let prefix = format!("cluster.{}", config.stat_name);
    let speaks_http2 = config.protocol != UpstreamProtocol::Http1;
    Arc::new(ClusterEntry {
        id,
        config: config.clone(),
        endpoints,
        tls: tls.cloned(),
        ssl_stats: tls.map(|_| registry.scope(&prefix, SslStat::ALL)),
        breakers: identities.breakers(id),
        stats: registry.scope(&prefix, ClusterStat::ALL),
        http2_stats: speaks_http2.then(|| registry.scope(&prefix, Http2Stat::ALL)),
    })
}
