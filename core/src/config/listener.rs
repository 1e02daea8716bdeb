//! Listeners and filter chains (`config.listener.v3`).
//!
//! What it leaves to others: binding sockets (`control`) and accepting (`shard`).

use super::bootstrap::ClusterNames;
use super::convert::At;
use super::support::{SupportedMessage, kept, message, must, only, refused, strict, types, used};
use super::{AccessLog, Address, HttpConnectionManager, Metadata};
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
    /// `filter_chains` and `default_filter_chain`: exactly one for now, without
    /// `filter_chain_match`.
    pub filter_chain: FilterChain,
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
    /// `filters`: exactly one, terminal.
    pub filter: NetworkFilter,
    /// `transport_socket_connect_timeout`
    pub transport_socket_connect_timeout: Option<Duration>,
}

/// A terminal network filter.
#[derive(Clone, PartialEq, Debug)]
pub enum NetworkFilter {
    /// `envoy.filters.network.http_connection_manager`
    HttpConnectionManager(Arc<HttpConnectionManager>),
}

const HTTP_CONNECTION_MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const RAW_BUFFER: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";

/// Envoy's default for `per_connection_buffer_limit_bytes`.
pub(super) const DEFAULT_BUFFER_LIMIT_BYTES: u32 = 1 << 20;
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
            kept("listener_filters_timeout", "there are no listener filters"),
            kept("continue_on_listener_filters_timeout", "there are no listener filters"),
            kept("max_connections_to_accept_per_socket_event", "accepts are completions"),
            kept("ignore_global_conn_limit", "there is no global limit of connections"),
            kept("bypass_overload_manager", "there is no overload manager"),
            only("enable_reuse_port", &["true"]),
            only("reuse_port", &["true"]),
            must("bind_to_port", &["true"]),
            refused("listener_filters"),
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
    // Nothing of it: an empty one matches everything.
    strict("envoy.config.listener.v3.FilterChainMatch", &[]),
    strict(
        "envoy.config.core.v3.TransportSocket",
        &[kept("name", "the type decides"), types("typed_config", &[RAW_BUFFER])],
    ),
    message(RAW_BUFFER, &[]),
    strict(
        "envoy.config.listener.v3.Filter",
        &[used("name"), types("typed_config", &[HTTP_CONNECTION_MANAGER])],
    ),
];

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
        let filter_chain = Listener::filter_chain_from_proto(at, listener, clusters);
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
            filter_chain: filter_chain?,
            access_log,
            metadata: Metadata::from_proto(listener.metadata.as_ref()),
        })
    }

    /// The only filter chain. All of them are converted, so that what is wrong in any of them is
    /// reported.
    fn filter_chain_from_proto(
        at: &At<'_>,
        listener: &pb::Listener,
        clusters: &ClusterNames<'_>,
    ) -> Option<FilterChain> {
        let at_chains = at.field("filter_chains");
        let mut chains = Vec::new();
        for (index, chain) in listener.filter_chains.iter().enumerate() {
            chains.push(FilterChain::from_proto(&at_chains.index(index), chain, clusters));
        }
        if let Some(chain) = &listener.default_filter_chain {
            chains.push(FilterChain::from_proto(
                &at.field("default_filter_chain"),
                chain,
                clusters,
            ));
        }
        if chains.len() > 1 {
            at_chains.error("more than one filter chain is not supported yet");
        }
        if chains.is_empty() {
            at.missing("filter_chains", None);
        }
        chains.pop().flatten()
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
            at.missing("filters", Some("a filter chain needs an HttpConnectionManager"));
        }
        if filters.len() > 1 {
            at_filters
                .index(1)
                .error("an HttpConnectionManager is terminal: it must be the last filter");
        }
        if let Some(socket) = &chain.transport_socket {
            let at = at.field("transport_socket");
            if socket.config_type.is_none() {
                at.missing("typed_config", None);
            }
        }
        let timeout_at = at.field("transport_socket_connect_timeout");
        let timeout = chain.transport_socket_connect_timeout.as_ref();
        Some(FilterChain {
            name: chain.name.clone(),
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
        let manager = at.unpack(any, HTTP_CONNECTION_MANAGER)?;
        let manager = HttpConnectionManager::from_proto(&at, &manager, clusters)?;
        Some(NetworkFilter::HttpConnectionManager(Arc::new(manager)))
    }
}
