//! Names of stats, and sums over shards: the control and admin side.
//!
//! A scope's cells stay its own for the life of the process: names that go for good leave their
//! cells behind (about 300 bytes for a cluster that had no traffic). When all cells are given out,
//! further scopes share one set that no page shows, and [`Registry::scopes_refused`] says so.
//!
//! What it leaves to others: pages.

use super::shard::{CHUNK_CELLS, CHUNKS_MAX, Stat};
use super::{Histogram, HostStat, ShardStats, StatId, histogram};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a stat is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// The sum of the shards' values now.
    Gauge,
    /// A distribution; occupies several cells.
    Histogram,
}

/// The names and kinds of a kind of scope: one of the `ALL` tables of `names`.
pub type StatTable = &'static [(&'static str, Kind)];

/// The cells of one scope (one cluster, one listener, ...): stat `n` of the scope's kind is found
/// from here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scope {
    /// The first cell.
    pub base: StatId,
    /// The first cell of the first histogram. Histograms stand apart, so that counters are dense.
    histograms: StatId,
}

impl Scope {
    #[inline]
    pub(super) fn cell(self, stat: impl Stat) -> StatId {
        StatId(self.base.0 + stat.index())
    }

    #[inline]
    pub(super) fn histogram(self, stat: impl Stat) -> StatId {
        self.histogram_at(stat.histogram_index())
    }

    #[inline]
    fn histogram_at(self, index: u32) -> StatId {
        StatId(self.histograms.0 + index * histogram::CELLS as u32)
    }
}

/// A merged value.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Of a counter.
    Counter(u64),
    /// Of a gauge.
    Gauge(u64),
    /// Of a histogram.
    Histogram(Histogram),
}

/// All names, and every shard's cells.
#[derive(Debug)]
pub struct Registry {
    /// One for each shard, then control's.
    threads: Vec<Arc<ShardStats>>,
    names: Mutex<Names>,
}

/// Cells given out, and to whom.
#[derive(Debug, Default)]
struct Names {
    scopes: Vec<Named>,
    /// Prefix to places in `scopes`: more than one when scopes of several kinds have the same
    /// prefix.
    by_prefix: HashMap<Arc<str>, Vec<u32>>,
    counters: Arena,
    histograms: Arena,
    chunks: u32,
    /// What scopes get when there are no cells left.
    spill: Option<Scope>,
    refused: u64,
}

#[derive(Clone, Debug)]
struct Named {
    prefix: Arc<str>,
    stats: StatTable,
    scope: Scope,
    hidden: bool,
}

/// The part of a chunk that is not given out yet: `next <= end`, both in the same chunk or at its
/// end.
#[derive(Clone, Copy, Debug, Default)]
struct Arena {
    next: u32,
    end: u32,
}

/// Scopes begin on a cache line of their own.
const SCOPE_ALIGNMENT: u32 = 8;

/// Cells for scopes that find no others. Larger than any table.
const SPILL_CELLS: u32 = 256;
const SPILL_HISTOGRAMS: u32 = 8;

impl Registry {
    /// A registry for so many shards.
    #[must_use]
    pub fn new(shards: usize) -> Registry {
        let threads = (0..=shards).map(|_| Arc::new(ShardStats::new())).collect();
        let registry = Registry { threads, names: Mutex::default() };
        let mut names = registry.names();
        names.spill = registry.allocate(&mut names, SPILL_CELLS, SPILL_HISTOGRAMS);
        drop(names);
        registry
    }

    /// The cells of one shard. Only that shard writes them.
    ///
    /// # Panics
    ///
    /// When there are not so many shards.
    #[must_use]
    pub fn shard(&self, index: usize) -> Arc<ShardStats> {
        assert!(index + 1 < self.threads.len(), "shard {index} of {}", self.threads.len() - 1);
        self.threads[index].clone()
    }

    /// The cells of the control thread, for what it counts itself. Only that thread writes them.
    #[must_use]
    pub fn control(&self) -> Arc<ShardStats> {
        self.threads[self.threads.len() - 1].clone()
    }

    /// The scope with this prefix (`cluster.one`, `http.ingress`; empty for names that stand
    /// alone), made on first use and the same ever after: stats of a thing that goes and comes back
    /// go on counting. Shows the scope again if it was hidden. `stats` is one of the `ALL` tables
    /// of `names`.
    pub fn scope(&self, prefix: &str, stats: StatTable) -> Scope {
        let mut names = self.names();
        if let Some(index) = names.find(prefix, stats) {
            names.scopes[index].hidden = false;
            return names.scopes[index].scope;
        }
        let histograms = stats.iter().filter(|(_, kind)| *kind == Kind::Histogram).count();
        let made = self.allocate(&mut names, stats.len() as u32, histograms as u32);
        let Some(scope) = made else {
            names.refused += 1;
            return names.spill();
        };
        let prefix: Arc<str> = prefix.into();
        let index = names.scopes.len() as u32;
        names.by_prefix.entry(prefix.clone()).or_default().push(index);
        names.scopes.push(Named { prefix, stats, scope, hidden: false });
        scope
    }

    /// Takes the scopes with exactly this prefix off the pages, until [`Registry::scope`] asks for
    /// them again. They go on counting what still runs. Says whether there were any.
    pub fn hide(&self, prefix: &str) -> bool {
        let mut names = self.names();
        let Names { scopes, by_prefix, .. } = &mut *names;
        let Some(indices) = by_prefix.get(prefix) else { return false };
        for &index in indices {
            scopes[index as usize].hidden = true;
        }
        true
    }

    /// One stat, summed over the shards.
    #[must_use]
    pub fn value(&self, scope: Scope, stat: impl Stat) -> Value {
        self.merge(stat.kind(), scope.cell(stat), scope.histogram(stat))
    }

    /// A counter or a gauge, summed over the shards; of a histogram, how many values it has.
    #[must_use]
    pub fn number(&self, scope: Scope, stat: impl Stat) -> u64 {
        match self.value(scope, stat) {
            Value::Counter(number) | Value::Gauge(number) => number,
            Value::Histogram(histogram) => histogram.count,
        }
    }

    /// Every stat that is shown, by name, in order of the names. Stats of hosts are not:
    /// `/clusters` reads them with [`Registry::value`].
    #[must_use]
    pub fn collect(&self) -> Vec<(String, Value)> {
        let name = |(prefix, stat, value): (Arc<str>, &str, Value)| match &*prefix {
            "" => (stat.to_owned(), value),
            prefix => (format!("{prefix}.{stat}"), value),
        };
        let mut values: Vec<_> = self.collect_scoped().into_iter().map(name).collect();
        values.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        values
    }

    /// The same as scope prefix, name within the scope, and value, in no order. A prefix can have
    /// dots in it, so only here is it known where it ends: what tags are extracted from.
    #[must_use]
    pub fn collect_scoped(&self) -> Vec<(Arc<str>, &'static str, Value)> {
        let mut values = Vec::new();
        for named in self.shown() {
            let mut histograms = 0;
            for (index, (name, kind)) in named.stats.iter().enumerate() {
                let cell = StatId(named.scope.base.0 + index as u32);
                let value = self.merge(*kind, cell, named.scope.histogram_at(histograms));
                histograms += u32::from(*kind == Kind::Histogram);
                values.push((named.prefix.clone(), *name, value));
            }
        }
        values
    }

    /// How often a scope was asked for when there were no cells left.
    #[must_use]
    pub fn scopes_refused(&self) -> u64 {
        self.names().refused
    }

    /// The scopes that [`Registry::collect`] lists. The lock is not held while cells are read.
    fn shown(&self) -> Vec<Named> {
        let listed = |named: &&Named| !named.hidden && named.stats != HostStat::ALL;
        self.names().scopes.iter().filter(listed).cloned().collect()
    }

    fn merge(&self, kind: Kind, cell: StatId, histogram: StatId) -> Value {
        let sum = || self.threads.iter().fold(0_u64, |sum, t| sum.wrapping_add(t.load(cell)));
        match kind {
            Kind::Counter => Value::Counter(sum()),
            Kind::Gauge => Value::Gauge(sum()),
            Kind::Histogram => {
                let shards = self.threads.iter().filter_map(|thread| thread.histogram(histogram));
                Value::Histogram(Histogram::merge(shards))
            }
        }
    }

    /// Finds cells, and makes the chunks that they are in on every thread's side before anybody
    /// learns of them.
    fn allocate(&self, names: &mut Names, cells: u32, histograms: u32) -> Option<Scope> {
        let Names { counters, histograms: buckets, chunks, .. } = names;
        let base = self.take(counters, chunks, cells)?;
        let histograms = match histograms {
            0 => base,
            count => self.take(buckets, chunks, count * histogram::CELLS as u32)?,
        };
        Some(Scope { base: StatId(base), histograms: StatId(histograms) })
    }

    fn take(&self, arena: &mut Arena, chunks: &mut u32, cells: u32) -> Option<u32> {
        assert!(cells <= CHUNK_CELLS, "a table of {cells} cells");
        if arena.end - arena.next < cells {
            if *chunks == CHUNKS_MAX {
                return None;
            }
            self.threads.iter().for_each(|thread| thread.ensure_chunk(*chunks));
            *arena = Arena { next: *chunks * CHUNK_CELLS, end: (*chunks + 1) * CHUNK_CELLS };
            *chunks += 1;
        }
        let first = arena.next;
        arena.next = (first + cells).next_multiple_of(SCOPE_ALIGNMENT).min(arena.end);
        Some(first)
    }

    /// A thread that panicked while it held the lock left nothing half done.
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    fn find(&self, prefix: &str, stats: StatTable) -> Option<usize> {
        let mut indices = self.by_prefix.get(prefix)?.iter().map(|&index| index as usize);
        indices.find(|&index| self.scopes[index].stats == stats)
    }

    fn spill(&self) -> Scope {
        // Made by `Registry::new` from the first chunks, so it is always there.
        self.spill.unwrap_or(Scope { base: StatId(0), histograms: StatId(0) })
    }
}
