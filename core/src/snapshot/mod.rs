//! What shards read: one immutable [`Snapshot`] of everything that a request needs.
//!
//! Control builds and publishes snapshots; a shard adopts the newest once per turn. Entries that an
//! update does not touch are shared with the snapshot before by `Arc`. What must survive an update
//! (counters of circuit breakers, stats) lives behind the entries, in shared atomics that are found
//! again by identity.
//!
//! What it leaves to others: building from configuration events (`control`), per-shard state
//! (`upstream`).

pub mod cluster;
pub mod filter_chains;
pub mod listener;
pub mod local_reply;
pub mod publish;
pub mod route_scopes;
pub mod route_table;

pub use cluster::{
    Breakers, ClusterEntry, ClusterId, ClusterTable, EndpointSet, Group, Host, HostId, HostPage,
    Hosts, Members, Permit, SelectionRules, Source, SourceKind,
};
pub use filter_chains::{ChainQuery, FilterChains, Overlap};
pub use listener::{
    ChainEntry, FilterEntry, HttpChain, HttpEntry, ListenerEntry, ListenerId, ListenerSockets,
    TcpChain, TcpEntry,
};
pub use local_reply::{Body, LocalReplies, Mapper};
pub use publish::{Adopted, Publisher};
pub use route_scopes::RouteScopes;
pub use route_table::{
    AddedValue, Addition, ClusterChoice, CompiledHostRewrite, CompiledPathRewrite,
    CompiledRetryPolicy, CompiledRoute, CompiledTarget, Explanation, FieldName, HeaderCondition,
    Mismatch, Mutations, Replacement, Rewrites, RouteId, RouteQuery, RouteTable, TextMatch, Unmet,
    is_grpc,
};

use std::sync::Arc;
use std::time::Duration;

/// Everything that a request reads.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Grows with each publication; the first is 1.
    pub version: u64,
    /// Listeners that accept. One that is gone is drained by the shards.
    pub listeners: Vec<Arc<ListenerEntry>>,
    /// Clusters that are warm.
    pub clusters: ClusterTable,
    /// The process is going down: stop accepting, finish what runs.
    pub draining: bool,
    /// Which connections close after their next response.
    pub closing: Closing,
    /// How long connections that do not end by themselves go on when their listener is gone.
    pub drain_time: Option<Duration>,
}

/// Which connections close after their next response, though the process goes on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Closing {
    /// None.
    #[default]
    None,
    /// Those of inbound listeners.
    Inbound,
    /// All.
    All,
}
