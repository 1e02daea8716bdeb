//! Listeners and filter chains (`config.listener.v3`).
//!
//! What it leaves to others: binding sockets (`control`) and accepting (`shard`).

use super::bootstrap::ClusterNames;
use super::convert::{At, is_type};
use super::support::{SupportedMessage, kept, message, must, only, refused, strict, types, used};
use super::tcp_proxy::TCP_PROXY;
use super::tls::{self, DOWNSTREAM_TLS, DownstreamTlsContext, UPSTREAM_TLS};
use super::{
    AccessLog, Address, FilterChainMatch, HttpConnectionManager, Metadata, TcpProxy, TlsInspector,
};
use crate::snapshot::FilterChains;
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3 as pb;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// `config.listener.v3.Listener`
#[derive(Clone, PartialEq, Debug)]
pub struct Listener {
    /// `name`; made up from the address when absent.
    pub name: String,
    /// `address.socket_address`; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// `tcp_backlog_size`; when absent 2^31 - 1, which the kernel lowers to `net.core.somaxconn`.
    pub backlog: u32,
    /// `traffic_direction` is INBOUND: `/drain_listeners?inboundonly` means it.
    pub inbound: bool,
    /// `stat_prefix`, or the address with `_` for `:`, as Envoy names the listener's stats.
    pub stat_prefix: String,
    /// `per_connection_buffer_limit_bytes`, default 1 MiB.
    pub per_connection_buffer_limit_bytes: u32,
    /// `filter_chains`
    pub filter_chains: Vec<FilterChain>,
    /// `default_filter_chain`: for connections that none of the others is for.
    pub default_filter_chain: Option<FilterChain>,
    /// What reads a client's hello first, if something does.
    pub tls_inspector: Option<TlsInspector>,
    /// `listener_filters_timeout`, default 15 s: how long it waits for the hello.
    pub listener_filters_timeout: Option<Duration>,
    /// `continue_on_listener_filters_timeout`: the connection goes on without.
    pub continue_on_listener_filters_timeout: bool,
    /// `access_log` of the listener.
    pub access_log: Vec<AccessLog>,
    /// `metadata`
    pub metadata: Metadata,
}

/// `config.listener.v3.FilterChain`
#[derive(Clone, PartialEq, Debug)]
pub struct FilterChain {
    /// `name`
    pub name: String,
    /// `filter_chain_match`
    pub matches: FilterChainMatch,
    /// `filters`: exactly one, terminal.
    pub filter: NetworkFilter,
    /// `transport_socket`, where it is TLS.
    pub tls: Option<Arc<DownstreamTlsContext>>,
    /// `transport_socket_connect_timeout`
    pub transport_socket_connect_timeout: Option<Duration>,
}

/// A terminal network filter.
#[derive(Clone, PartialEq, Debug)]
pub enum NetworkFilter {
    /// `envoy.filters.network.http_connection_manager`
    HttpConnectionManager(Arc<HttpConnectionManager>),
    /// `envoy.filters.network.tcp_proxy`
    TcpProxy(Arc<TcpProxy>),
}

const HTTP_CONNECTION_MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const RAW_BUFFER: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";

/// Envoy's default for `per_connection_buffer_limit_bytes`.
pub(super) const DEFAULT_BUFFER_LIMIT_BYTES: u32 = 1 << 20;
/// Envoy's default for `listener_filters_timeout`.
const DEFAULT_LISTENER_FILTERS_TIMEOUT: Duration = Duration::from_secs(15);
/// What `listen` takes at most.
const MAX_BACKLOG: u32 = i32::MAX as u32;

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.listener.v3.Listener",
        &[
            used("name"),
            used("address"),
            used("stat_prefix"),
            used("filter_chains"),
            used("default_filter_chain"),
            used("per_connection_buffer_limit_bytes"),
            used("tcp_backlog_size"),
            used("access_log"),
            used("metadata"),
            used("traffic_direction"),
            kept("drain_type", "listeners drain when the process does"),
            used("listener_filters"),
            used("listener_filters_timeout"),
            used("continue_on_listener_filters_timeout"),
            kept("max_connections_to_accept_per_socket_event", "accepts are completions"),
            kept("ignore_global_conn_limit", "there is no global limit of connections"),
            kept("bypass_overload_manager", "there is no overload manager"),
            only("enable_reuse_port", &["true"]),
            only("reuse_port", &["true"]),
            must("bind_to_port", &["true"]),
            refused("additional_addresses"),
            refused("filter_chain_matcher"),
            refused("udp_listener_config"),
            refused("api_listener"),
            refused("internal_listener"),
            must("use_original_dst", &["false"]),
            must("transparent", &["false"]),
            only("freebind", &["false"]),
            only("enable_mptcp", &["false"]),
        ],
    ),
    strict(
        "envoy.config.listener.v3.FilterChain",
        &[
            used("filter_chain_match"),
            used("filters"),
            used("name"),
            kept("metadata", "nothing reads a filter chain's metadata"),
            used("transport_socket"),
            used("transport_socket_connect_timeout"),
            only("use_proxy_proto", &["false"]),
        ],
    ),
    strict(
        "envoy.config.core.v3.TransportSocket",
        &[
            kept("name", "the type decides"),
            types("typed_config", &[RAW_BUFFER, DOWNSTREAM_TLS, UPSTREAM_TLS]),
        ],
    ),
    message(RAW_BUFFER, &[]),
    strict(
        "envoy.config.listener.v3.Filter",
        &[used("name"), types("typed_config", &[HTTP_CONNECTION_MANAGER, TCP_PROXY])],
    ),
];

impl NetworkFilter {
    /// The clusters that it names, its routes included.
    pub fn cluster_names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            NetworkFilter::TcpProxy(tcp) => Box::new(tcp.clusters.iter().map(|(name, _)| &**name)),
            NetworkFilter::HttpConnectionManager(manager) => {
                let scoped = manager.scoped_routes.iter().flat_map(|scoped| &scoped.scopes);
                let scoped = scoped.flat_map(|scope| scope.routes.cluster_names());
                Box::new(manager.route_config.cluster_names().chain(scoped))
            }
        }
    }
}

impl Listener {
    /// Converts a listener; what is wrong is reported. An absent name stays empty.
    pub(super) fn from_proto(
        at: &At<'_>,
        listener: &pb::Listener,
        clusters: &ClusterNames<'_>,
    ) -> Option<Listener> {
        if listener.address.is_none() {
            at.missing("address", Some("a listener needs a `socket_address` to listen on"));
        }
        let address = Address::listen_from_proto(&at.field("address"), listener.address.as_ref());
        let (filter_chains, default_filter_chain) =
            Listener::filter_chains_from_proto(at, listener, clusters);
        let tls_inspector = TlsInspector::of_listener(at, &listener.listener_filters);
        let asks_hello = filter_chains.iter().position(|chain| chain.matches.asks_hello());
        if let Some(index) = asks_hello.filter(|_| listener.listener_filters.is_empty()) {
            at.field("filter_chains").index(index).field("filter_chain_match").warning(
                "no connection can match: `listener_filters` has no \
                 envoy.filters.listener.tls_inspector, so that each counts as `raw_buffer`",
            );
        }
        let timeout = listener.listener_filters_timeout.as_ref();
        let backlog = listener.tcp_backlog_size.map_or(MAX_BACKLOG, |size| size.value);
        if backlog > MAX_BACKLOG {
            at.field("tcp_backlog_size").error(format!("must be at most {MAX_BACKLOG}"));
        }
        let access_log = AccessLog::all_from_proto(&at.field("access_log"), &listener.access_log);
        let address = address?;
        let stat_prefix = match listener.stat_prefix.as_str() {
            "" => address.to_string().replace(':', "_"),
            prefix => prefix.to_owned(),
        };
        Some(Listener {
            name: listener.name.clone(),
            address,
            backlog,
            inbound: listener.traffic_direction() == TrafficDirection::Inbound,
            stat_prefix,
            per_connection_buffer_limit_bytes: listener
                .per_connection_buffer_limit_bytes
                .map_or(DEFAULT_BUFFER_LIMIT_BYTES, |limit| limit.value),
            filter_chains,
            default_filter_chain,
            tls_inspector,
            listener_filters_timeout: at
                .field("listener_filters_timeout")
                .timeout(timeout, Some(DEFAULT_LISTENER_FILTERS_TIMEOUT)),
            continue_on_listener_filters_timeout: listener.continue_on_listener_filters_timeout,
            access_log,
            metadata: Metadata::from_proto(listener.metadata.as_ref()),
        })
    }

    fn filter_chains_from_proto(
        at: &At<'_>,
        listener: &pb::Listener,
        clusters: &ClusterNames<'_>,
    ) -> (Vec<FilterChain>, Option<FilterChain>) {
        let at_chains = at.field("filter_chains");
        let chains = listener.filter_chains.iter().enumerate().filter_map(|(index, chain)| {
            FilterChain::from_proto(&at_chains.index(index), chain, clusters)
        });
        let chains: Vec<_> = chains.collect();
        let default = listener.default_filter_chain.as_ref();
        let default = default.and_then(|chain| {
            FilterChain::from_proto(&at.field("default_filter_chain"), chain, clusters)
        });
        // Of chains that are wrong in another way nothing can be said, nor of the others' places.
        if chains.len() == listener.filter_chains.len()
            && let Err(overlap) = FilterChains::compile(chains.iter().map(|it| &it.matches), None)
        {
            at_chains.index(overlap.chain).error_hint(
                "multiple filter chains with overlapping matching rules are defined",
                format!("`filter_chains[{}]` matches the same", overlap.earlier),
            );
        }
        if listener.filter_chains.is_empty() && listener.default_filter_chain.is_none() {
            at.missing("filter_chains", None);
        }
        (chains, default)
    }

    /// All filter chains; the default is the last.
    pub fn chains(&self) -> impl Iterator<Item = &FilterChain> + Clone {
        self.filter_chains.iter().chain(&self.default_filter_chain)
    }

    /// The filter chain at a place of [`Listener::chains`].
    #[must_use]
    pub fn chain(&self, place: usize) -> Option<&FilterChain> {
        match self.filter_chains.get(place) {
            Some(chain) => Some(chain),
            None => {
                self.default_filter_chain.as_ref().filter(|_| place == self.filter_chains.len())
            }
        }
    }

    /// Which of [`Listener::chains`] is what `chain` was in `before`: the one with its name, or,
    /// where there is none, with its match. Quick where it is in the same place.
    #[must_use]
    pub fn successor(&self, before: &Listener, chain: usize) -> Option<usize> {
        let old = before.chain(chain)?;
        let named = |new: &FilterChain| !new.name.is_empty() && new.name == old.name;
        if self.chain(chain).is_some_and(named) {
            return Some(chain);
        }
        if !old.name.is_empty()
            && let Some(place) = self.chains().position(named)
        {
            return Some(place);
        }
        let matched = |new: &FilterChain| new.matches == old.matches;
        match chain < before.filter_chains.len() {
            true if self.filter_chains.get(chain).is_some_and(matched) => Some(chain),
            true => self.filter_chains.iter().position(matched),
            false => self.default_filter_chain.as_ref().map(|_| self.filter_chains.len()),
        }
    }
}

impl NetworkFilter {
    /// Its access logs.
    #[must_use]
    pub fn access_log(&self) -> &[AccessLog] {
        match self {
            NetworkFilter::HttpConnectionManager(manager) => &manager.access_log,
            NetworkFilter::TcpProxy(proxy) => &proxy.access_log,
        }
    }
}

impl FilterChain {
    fn from_proto(
        at: &At<'_>,
        chain: &pb::FilterChain,
        clusters: &ClusterNames<'_>,
    ) -> Option<FilterChain> {
        let at_filters = at.field("filters");
        let mut filters = Vec::new();
        for (index, filter) in chain.filters.iter().enumerate() {
            filters.push(NetworkFilter::from_proto(&at_filters.index(index), filter, clusters));
        }
        if filters.is_empty() {
            at.missing(
                "filters",
                Some("a filter chain needs an HttpConnectionManager or a TcpProxy"),
            );
        }
        if filters.len() > 1 {
            at_filters.index(1).error(
                "HttpConnectionManager and TcpProxy are terminal: each must be the last filter",
            );
        }
        let socket = chain.transport_socket.as_ref();
        let tls =
            tls::transport_socket(at, socket, DOWNSTREAM_TLS, DownstreamTlsContext::from_proto);
        let at_match = at.field("filter_chain_match");
        let matches = chain.filter_chain_match.as_ref();
        let matches = matches.map(|rules| FilterChainMatch::from_proto(&at_match, rules));
        let timeout_at = at.field("transport_socket_connect_timeout");
        let timeout = chain.transport_socket_connect_timeout.as_ref();
        Some(FilterChain {
            name: chain.name.clone(),
            matches: matches.unwrap_or_default(),
            tls,
            transport_socket_connect_timeout: timeout_at.timeout(timeout, None),
            filter: filters.into_iter().next().flatten()?,
        })
    }
}

impl NetworkFilter {
    fn from_proto(
        at: &At<'_>,
        filter: &pb::Filter,
        clusters: &ClusterNames<'_>,
    ) -> Option<NetworkFilter> {
        let Some(pb::filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
            let hint = format!("add \"@type\": type.googleapis.com/{HTTP_CONNECTION_MANAGER}");
            at.missing("typed_config", Some(&hint));
            return None;
        };
        let at = at.field("typed_config");
        if is_type(any, TCP_PROXY) {
            let filter = TcpProxy::from_proto(&at, &at.unpack(any, TCP_PROXY)?, clusters)?;
            return Some(NetworkFilter::TcpProxy(Arc::new(filter)));
        }
        let manager = at.unpack(any, HTTP_CONNECTION_MANAGER)?;
        let manager = HttpConnectionManager::from_proto(&at, &manager, clusters)?;
        Some(NetworkFilter::HttpConnectionManager(Arc::new(manager)))
    }
}
