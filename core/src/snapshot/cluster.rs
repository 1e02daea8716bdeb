//! Clusters and their hosts, as shards read them.
//!
//! What it leaves to others: choosing a host (`upstream::balancer`), connections (`upstream::pool`).

use crate::config::{self, HealthStatus, Thresholds};
use crate::stats::Scope;
use crossbeam_utils::CachePadded;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A cluster's number: given to a name once, the same for the life of the process, so that route tables and
/// per-shard tables can be indexed by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ClusterId(pub u32);

/// A host's number: given to a (cluster, address) once, the same for the life of the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct HostId(pub u32);

/// Clusters by number.
#[derive(Debug, Default, Clone)]
pub struct ClusterTable {
    entries: Vec<Option<Arc<ClusterEntry>>>,
}

impl ClusterTable {
    /// A table of these entries.
    #[must_use]
    pub fn new(entries: impl IntoIterator<Item = Arc<ClusterEntry>>) -> ClusterTable {
        let mut table = ClusterTable::default();
        for entry in entries {
            let index = entry.id.0 as usize;
            if table.entries.len() <= index {
                table.entries.resize(index + 1, None);
            }
            table.entries[index] = Some(entry);
        }
        table
    }

    /// The cluster with this number, if there is one now.
    #[must_use]
    pub fn get(&self, id: ClusterId) -> Option<&Arc<ClusterEntry>> {
        self.entries.get(id.0 as usize)?.as_ref()
    }

    /// All clusters, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ClusterEntry>> {
        self.entries.iter().flatten()
    }
}

/// One warm cluster.
#[derive(Debug)]
pub struct ClusterEntry {
    /// Its number.
    pub id: ClusterId,
    /// What was asked for.
    pub config: Arc<config::Cluster>,
    /// Its hosts now.
    pub endpoints: Arc<EndpointSet>,
    /// Counters of its circuit breakers, shared by shards and by versions of the entry.
    pub breakers: Arc<Breakers>,
    /// Its stats.
    pub stats: Scope,
}

/// The hosts of a cluster.
#[derive(Debug, Default)]
pub struct EndpointSet {
    /// In order of configuration, then of address; no address twice.
    pub hosts: Vec<Arc<Host>>,
}

/// One host of a cluster.
#[derive(Debug)]
pub struct Host {
    /// Its number.
    pub id: HostId,
    /// Where to connect.
    pub address: SocketAddr,
    /// `endpoint.hostname`, or the name that was resolved.
    pub hostname: String,
    /// At least 1.
    pub weight: u32,
    /// As configured.
    pub health_status: HealthStatus,
    /// Region, zone, sub-zone.
    pub locality: [String; 3],
    /// Its stats.
    pub stats: Scope,
}

/// Counters of a cluster's circuit breakers of one priority. Exact across shards: a permit is counted before it
/// is used, and given back when the limit was passed.
#[derive(Debug, Default)]
pub struct Breakers {
    /// Connections, connecting ones included.
    pub connections: CachePadded<AtomicU32>,
    /// Requests that wait for a connection.
    pub pending: CachePadded<AtomicU32>,
    /// Requests under way, waiting ones not included.
    pub requests: CachePadded<AtomicU32>,
    /// Shards with requests that wait for a connection while other shards have all that the limit allows. While it is
    /// not zero, a connection that becomes idle closes, so that the permit goes to who needs it.
    pub starved: CachePadded<AtomicU32>,
}

/// Whether a limit has room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Permit {
    /// Counted; give it back with [`Breakers::release`].
    Granted,
    /// The limit is reached; nothing was counted.
    Refused,
}

impl Breakers {
    /// Counts one in `counter` unless that passes `max`.
    pub fn acquire(counter: &AtomicU32, max: u32) -> Permit {
        if counter.fetch_add(1, Ordering::Relaxed) < max {
            return Permit::Granted;
        }
        counter.fetch_sub(1, Ordering::Relaxed);
        Permit::Refused
    }

    /// Gives one back.
    pub fn release(counter: &AtomicU32) {
        let before = counter.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a permit was given back twice");
    }

    /// Whether any limit of `thresholds` is reached now: connections, pending, requests.
    #[must_use]
    pub fn open(&self, thresholds: &Thresholds) -> [bool; 3] {
        [
            self.connections.load(Ordering::Relaxed) >= thresholds.max_connections,
            self.pending.load(Ordering::Relaxed) >= thresholds.max_pending_requests,
            self.requests.load(Ordering::Relaxed) >= thresholds.max_requests,
        ]
    }
}
