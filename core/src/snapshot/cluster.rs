//! Clusters and their hosts, as shards read them.
//!
//! What it leaves to others: choosing a host (`upstream::balancer`), connections
//! (`upstream::pool`).

mod endpoints;
mod members;
mod selection;

pub use endpoints::{EndpointSet, Host, HostPage, Hosts};
pub use members::Members;
pub use selection::{Group, SelectionRules, Source, SourceKind};

use crate::config::{self, Thresholds};
use crate::stats::Scope;
use crate::transport::ClientContext;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A cluster's number: given to a name once, the same for the life of the process, so that route
/// tables and per-shard tables can be indexed by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ClusterId(pub u32);

/// A host's number: given to a (cluster, address) once, the same for the life of the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct HostId(pub u32);

/// Entries of one page of a [`ClusterTable`].
const PAGE: usize = 64;

type Page = [Option<Arc<ClusterEntry>>; PAGE];

/// Clusters by number, in pages that versions of the table share: with 10,000 clusters, a version
/// that differs in one cluster copies 157 pages' pointers and one page.
#[derive(Debug, Default, Clone)]
pub struct ClusterTable {
    pages: Vec<Option<Arc<Page>>>,
    /// For requests that name their cluster themselves. A version with the same names shares it.
    names: Arc<HashMap<String, ClusterId>>,
}

impl ClusterTable {
    /// A table of these entries.
    #[must_use]
    pub fn new(entries: impl IntoIterator<Item = Arc<ClusterEntry>>) -> ClusterTable {
        let mut table = ClusterTable::default();
        for entry in entries {
            table.insert(entry);
        }
        table
    }

    /// The entry at this place, for readers who come back for the next.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<&Arc<ClusterEntry>> {
        self.pages.get(place / PAGE)?.as_ref()?[place % PAGE].as_ref()
    }

    /// One more than the last place of an entry.
    #[must_use]
    pub fn places(&self) -> usize {
        self.pages.len() * PAGE
    }

    /// Adds an entry, in place of the one with the same number. Other versions of the table do
    /// not change.
    pub fn insert(&mut self, entry: Arc<ClusterEntry>) {
        let index = entry.id.0 as usize;
        if self.named(entry.config.name.as_bytes()) != Some(entry.id) {
            Arc::make_mut(&mut self.names).insert(entry.config.name.clone(), entry.id);
        }
        if self.pages.len() <= index / PAGE {
            self.pages.resize(index / PAGE + 1, None);
        }
        let page = self.pages[index / PAGE].get_or_insert_with(|| Arc::new([const { None }; PAGE]));
        Arc::make_mut(page)[index % PAGE] = Some(entry);
    }

    /// Takes an entry out. Other versions of the table do not change.
    pub fn remove(&mut self, id: ClusterId) {
        let Some(entry) = self.get(id) else { return };
        let name = entry.config.name.clone();
        Arc::make_mut(&mut self.names).remove(&name);
        let index = id.0 as usize;
        let Some(Some(page)) = self.pages.get_mut(index / PAGE) else { return };
        Arc::make_mut(page)[index % PAGE] = None;
    }

    /// The cluster with this number, if there is one now.
    #[must_use]
    #[inline]
    pub fn get(&self, id: ClusterId) -> Option<&Arc<ClusterEntry>> {
        let index = id.0 as usize;
        self.pages.get(index / PAGE)?.as_ref()?[index % PAGE].as_ref()
    }

    /// The number of the cluster with this name, if there is one now.
    #[must_use]
    pub fn named(&self, name: &[u8]) -> Option<ClusterId> {
        self.names.get(std::str::from_utf8(name).ok()?).copied()
    }

    /// Numbers that have another entry than in the version before, with both.
    pub fn changes_since<'t>(
        &'t self,
        before: &'t ClusterTable,
    ) -> impl Iterator<Item = (Option<&'t Arc<ClusterEntry>>, Option<&'t Arc<ClusterEntry>>)> {
        let page = |table: &'t ClusterTable, page: usize| table.pages.get(page)?.as_deref();
        let is_same = |a: Option<&Page>, b: Option<&Page>| match (a, b) {
            (Some(a), Some(b)) => std::ptr::eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let pages = 0..self.pages.len().max(before.pages.len());
        let changed = pages.map(move |at| (page(before, at), page(self, at)));
        let changed = changed.filter(move |(old, new)| !is_same(*old, *new));
        let entry = |page: Option<&'t Page>, at: usize| page?[at].as_ref();
        let both = changed
            .flat_map(move |(old, new)| (0..PAGE).map(move |at| (entry(old, at), entry(new, at))));
        both.filter(|(old, new)| match (old, new) {
            (Some(old), Some(new)) => !Arc::ptr_eq(old, new),
            (old, new) => old.is_some() || new.is_some(),
        })
    }

    /// All clusters, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ClusterEntry>> {
        self.pages.iter().flatten().flat_map(|page| page.iter().flatten())
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
    /// What its connections shake hands with, if they are TLS. Connections are shared by those
    /// whose contexts have the same identity.
    pub tls: Option<Arc<ClientContext>>,
    /// Stats of handshakes, if it speaks TLS.
    pub ssl_stats: Option<Scope>,
    /// Counters of its circuit breakers, shared by shards and by versions of the entry.
    pub breakers: Arc<Breakers>,
    /// Its stats.
    pub stats: Scope,
    /// Stats of its HTTP/2 codecs, if it may have any.
    pub http2_stats: Option<Scope>,
}

/// Counters of a cluster's circuit breakers of one priority. Exact across shards: there are never
/// more permits than the limit, and none is refused while there is room.
///
/// They stand together on a line of their own: a request that counts in one counts in others.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Breakers {
    /// Connections, connecting ones included.
    pub connections: AtomicU32,
    /// Requests that wait for a connection.
    pub pending: AtomicU32,
    /// Requests under way, waiting ones not included.
    pub requests: AtomicU32,
    /// Retries: from the decision to send a request once more until that attempt is decided on.
    pub retries: AtomicU32,
    /// Shards with requests that wait for a connection while other shards have all that the limit
    /// allows. While it is not zero, a connection that becomes idle closes, so that the permit goes
    /// to who needs it.
    pub starved: AtomicU32,
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
    ///
    /// Compares and swaps, because adding first and taking back what was too much would for a
    /// moment show others a full counter that is not full.
    pub fn acquire(counter: &AtomicU32, max: u32) -> Permit {
        let more = |count: u32| (count < max).then_some(count + 1);
        match counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Permit::Granted,
            Err(_) => Permit::Refused,
        }
    }

    /// Gives one back.
    pub fn release(counter: &AtomicU32) {
        let before = counter.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a permit was given back twice");
    }

    /// How many retries there may be now: `max_retries`, or a share of the requests under way and
    /// waiting.
    #[must_use]
    pub fn retries_max(&self, thresholds: &Thresholds) -> u32 {
        let Some(budget) = thresholds.retry_budget else { return thresholds.max_retries };
        let load = |count: &AtomicU32| u64::from(count.load(Ordering::Relaxed));
        let share = (load(&self.requests) + load(&self.pending)) * u64::from(budget.millionths);
        u32::try_from(share / 1_000_000).unwrap_or(u32::MAX).max(budget.min_concurrency)
    }

    /// Whether any limit of `thresholds` is reached now: connections, pending, requests, retries.
    #[must_use]
    pub fn open(&self, thresholds: &Thresholds) -> [bool; 4] {
        [
            self.connections.load(Ordering::Relaxed) >= thresholds.max_connections,
            self.pending.load(Ordering::Relaxed) >= thresholds.max_pending_requests,
            self.requests.load(Ordering::Relaxed) >= thresholds.max_requests,
            self.retries.load(Ordering::Relaxed) >= self.retries_max(thresholds),
        ]
    }
}

#[cfg(test)]
mod tests;
