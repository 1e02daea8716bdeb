//! Listeners and what belongs to them, as shards read them.
//!
//! What it leaves to others: binding (`control`), accepting (`shard`).

use super::{ClusterId, FilterChains, LocalReplies, RouteScopes, RouteTable};
use crate::access_log::AccessLogger;
use crate::config;
use crate::stats::{Registry, Scope};
use crate::transport::ServerContext;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// A listener's number: given to an address once (to a name, where the kernel chooses the port). A
/// listener whose address changes is another one, and so is one that was gone and comes back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ListenerId(pub u32);

/// One listener.
#[derive(Debug)]
pub struct ListenerEntry {
    /// Its number. A changed listener with the same number keeps its sockets and its connections.
    pub id: ListenerId,
    /// What was asked for.
    pub config: Arc<config::Listener>,
    /// Its sockets.
    pub sockets: Arc<ListenerSockets>,
    /// Its filter chains, as [`config::Listener::chains`] has them.
    pub chains: Vec<Arc<ChainEntry>>,
    /// Which of them a connection gets.
    pub matching: Arc<FilterChains>,
    /// Its stats.
    pub stats: Scope,
    /// Stats of its TLS inspector, under `tls_inspector`.
    pub inspector_stats: Option<Scope>,
}

/// One filter chain of a listener, with what its connections need to know of the listener.
#[derive(Debug)]
pub struct ChainEntry {
    /// The listener's number.
    pub id: ListenerId,
    /// The listener.
    pub config: Arc<config::Listener>,
    /// Its place among the listener's chains.
    pub place: usize,
    /// Its terminal filter.
    pub filter: FilterEntry,
    /// What its connections shake hands with, if they are TLS. New handshakes use the context of
    /// the newest snapshot.
    pub tls: Option<Arc<ServerContext>>,
    /// Stats of handshakes, if it speaks TLS.
    pub ssl_stats: Option<Scope>,
    /// How long a handshake may take, if that is said.
    pub handshake_timeout: Option<Duration>,
    /// Its name; may be empty.
    pub name: String,
    /// The listener's stats.
    pub stats: Scope,
}

/// A compiled terminal filter.
#[derive(Clone, Debug)]
pub enum FilterEntry {
    /// An HTTP connection manager.
    Http(Arc<HttpEntry>),
    /// A TCP proxy.
    Tcp(Arc<TcpEntry>),
}

impl FilterEntry {
    /// The HTTP connection manager, if it is one.
    #[must_use]
    pub fn http(&self) -> Option<&Arc<HttpEntry>> {
        match self {
            FilterEntry::Http(http) => Some(http),
            FilterEntry::Tcp(_) => None,
        }
    }

    /// Its access logs.
    #[must_use]
    pub fn access_log(&self) -> &[Arc<AccessLogger>] {
        match self {
            FilterEntry::Http(http) => &http.access_log,
            FilterEntry::Tcp(tcp) => &tcp.access_log,
        }
    }
}

/// A filter chain whose connections speak HTTP.
#[derive(Clone, Debug)]
pub struct HttpChain {
    /// The chain.
    pub chain: Arc<ChainEntry>,
    /// Its filter.
    pub http: Arc<HttpEntry>,
}

impl HttpChain {
    /// The chain as one of HTTP, if it is.
    #[must_use]
    pub fn of(chain: &Arc<ChainEntry>) -> Option<HttpChain> {
        Some(HttpChain { http: chain.filter.http()?.clone(), chain: chain.clone() })
    }
}

impl Deref for HttpChain {
    type Target = ChainEntry;

    fn deref(&self) -> &ChainEntry {
        &self.chain
    }
}

/// A filter chain whose connections are passed on unread.
#[derive(Clone, Debug)]
pub struct TcpChain {
    /// The chain.
    pub chain: Arc<ChainEntry>,
    /// Its filter.
    pub tcp: Arc<TcpEntry>,
}

impl Deref for TcpChain {
    type Target = ChainEntry;

    fn deref(&self) -> &ChainEntry {
        &self.chain
    }
}

/// A compiled TCP proxy.
#[derive(Debug)]
pub struct TcpEntry {
    /// What was asked for.
    pub config: Arc<config::TcpProxy>,
    /// Its clusters with cumulative weights.
    pub clusters: Vec<(u64, ClusterId)>,
    /// Its access logs.
    pub access_log: Vec<Arc<AccessLogger>>,
    /// Whether what is [`Measured`](crate::access_log::Measured) has a place in what is written.
    pub measures: bool,
    /// Its stats, under `tcp.<stat_prefix>`.
    pub stats: Scope,
}

impl TcpEntry {
    /// The cluster of a connection for which `random` was drawn.
    #[must_use]
    pub fn choose_cluster(&self, random: u64) -> Option<ClusterId> {
        let (total, _) = *self.clusters.last()?;
        let point = random.checked_rem(total)?;
        let index = self.clusters.partition_point(|(cumulative, _)| *cumulative <= point);
        self.clusters.get(index).map(|(_, id)| *id)
    }
}

impl ListenerEntry {
    /// What has become of a chain of this listener as it was before.
    #[must_use]
    pub fn successor(&self, before: &ChainEntry) -> Option<&Arc<ChainEntry>> {
        self.chains.get(self.config.successor(&before.config, before.place)?)
    }
}

/// The listening sockets of one listener: one per shard, bound to one address with `SO_REUSEPORT`.
#[derive(Debug)]
pub struct ListenerSockets {
    /// The address, with the port that the kernel chose for port 0.
    pub address: SocketAddr,
    /// By shard. A shard duplicates its own.
    pub sockets: Vec<OwnedFd>,
}

/// A compiled HTTP connection manager.
#[derive(Debug)]
pub struct HttpEntry {
    /// What was asked for.
    pub config: Arc<config::HttpConnectionManager>,
    /// Its routes.
    pub routes: Arc<RouteTable>,
    /// The same with the routes of each scope, if routes are scoped.
    pub scopes: Option<Box<RouteScopes>>,
    /// Its access logs.
    pub access_log: Vec<Arc<AccessLogger>>,
    /// The proxy's name in `proxy-status`, if answers have that.
    pub proxy_name: Option<String>,
    /// Whether what is [`Measured`](crate::access_log::Measured) has a place in what is written.
    pub measures: bool,
    /// Its stats, under `http.<stat_prefix>`.
    pub stats: Scope,
    /// Its stats within the listener's, under `listener.<address>.http.<stat_prefix>`.
    pub listener_stats: Scope,
    /// What becomes of the proxy's own answers.
    pub local_replies: Option<Box<LocalReplies>>,
    /// Where names of gRPC's stats are made, if gRPC calls are counted.
    pub grpc_stats: Option<Arc<Registry>>,
    /// Stats of the HTTP/1 codec, under `http1`.
    pub codec_stats: Scope,
    /// Stats of the HTTP/2 codec, under no prefix: their names begin with `http2`.
    pub http2_stats: Scope,
    /// The host's own address, which `x-forwarded-for` gets instead of a loopback address.
    pub host_address: IpAddr,
    /// `add_user_agent`: cluster and id of the node.
    pub user_agent: Option<(String, String)>,
}
