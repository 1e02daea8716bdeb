//! Listeners and filter chains (`config.listener.v3`).
//!
//! What it leaves to others: binding sockets (`control`) and accepting (`shard`).

use super::{AccessLog, HttpConnectionManager};
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
    /// `tcp_backlog_size`, default 128 in Envoy; ours is `net.core.somaxconn` when absent.
    pub backlog: u32,
    /// `stat_prefix`, or the address with `_` for `:`, as Envoy names the listener's stats.
    pub stat_prefix: String,
    /// `per_connection_buffer_limit_bytes`, default 1 MiB.
    pub per_connection_buffer_limit_bytes: u32,
    /// `filter_chains` and `default_filter_chain`: exactly one for now, without `filter_chain_match`.
    pub filter_chain: FilterChain,
    /// `access_log` of the listener.
    pub access_log: Vec<AccessLog>,
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
