//! Names of stats, and sums over shards: the control and admin side.
//!
//! A scope's cells stay its own for the life of the process: names that go for good leave their
//! cells behind (about 400 bytes for a cluster that had no traffic). When all cells are given out,
//! further scopes share one set that no page shows, and [`Registry::scopes_refused`] says so.
//!
//! What it leaves to others: pages.

use super::codes::{self, Codes};
use super::shard::{CHUNK_CELLS, CHUNKS_MAX, Stat, gauge};
use super::{GrpcStat, Histogram, Readouts, ShardStats, StatId, columns, histogram};
use foldhash::HashMap;
use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a stat is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// The sum of the shards' values now.
    Gauge,
    /// A distribution: a block of cells.
    Histogram,
    /// How often each response code was counted: a block of cells.
    Codes,
    /// A text: a [`super::Readout`], never in cells.
    Text,
}

impl Kind {
    /// Cells beside the one that every stat has, which counts uses.
    pub(super) const fn block_cells(self) -> u32 {
        match self {
            Kind::Counter | Kind::Gauge | Kind::Text => 0,
            Kind::Histogram => histogram::CELLS as u32,
            Kind::Codes => codes::CELLS as u32,
        }
    }

    /// Whether it is one number.
    #[must_use]
    pub fn is_number(self) -> bool {
        !matches!(self, Kind::Histogram | Kind::Text)
    }
}

/// The names and kinds of a kind of scope: one of the `ALL` tables of `names`.
pub type StatTable = &'static [(&'static str, Kind)];

/// The cells of one scope (one cluster, one listener, ...): stat `n` of the scope's kind is found
/// from here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scope {
    /// The first cell.
    pub base: StatId,
    /// The first cell of the first block. Blocks stand apart, so that counters are dense.
    blocks: StatId,
}

impl Scope {
    #[inline]
    pub(super) fn cell(self, stat: impl Stat) -> StatId {
        StatId(self.base.0 + stat.index())
    }

    #[inline]
    pub(super) fn block(self, stat: impl Stat) -> StatId {
        self.block_at(stat.block_offset())
    }

    #[inline]
    fn block_at(self, offset: u32) -> StatId {
        StatId(self.blocks.0 + offset)
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
    /// Of a text.
    Text(Arc<str>),
}

/// All names, and every shard's cells.
#[derive(Debug)]
pub struct Registry {
    /// One for each shard, then control's.
    threads: Vec<Arc<ShardStats>>,
    names: Mutex<Names>,
    readouts: Readouts,
}

/// Cells given out, and to whom.
#[derive(Debug, Default)]
struct Names {
    scopes: Vec<Named>,
    /// Prefix to places in `scopes`: more than one when scopes of several kinds have the same
    /// prefix.
    by_prefix: HashMap<Arc<str>, Vec<u32>>,
    counters: Arena,
    /// Of scopes that control counts in, apart from the others: each side's pages are its own.
    of_control: Arena,
    blocks: Arena,
    chunks: u32,
    /// What scopes get when there are no cells left.
    spill: Option<Scope>,
    refused: u64,
}

#[derive(Clone, Debug)]
struct Named {
    shown: ShownScope,
    hidden: bool,
}

/// A scope as pages see it.
#[derive(Clone, Debug)]
pub struct ShownScope {
    /// `cluster.one`; empty for names that stand alone.
    pub prefix: Arc<str>,
    /// Its stats.
    pub stats: StatTable,
    /// So many bytes of the prefix are that of the scope that it is within; 0: of none.
    pub outer: usize,
    pub(super) scope: Scope,
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
const SPILL_BLOCKS: u32 = 8192;

impl Registry {
    /// A registry for so many shards.
    #[must_use]
    pub fn new(shards: usize) -> Registry {
        let threads = (0..=shards).map(|_| Arc::new(ShardStats::new())).collect();
        let registry = Registry { threads, names: Mutex::default(), readouts: Readouts::default() };
        let mut names = registry.names();
        names.spill =
            registry.allocate(&mut names, |names| &mut names.counters, SPILL_CELLS, SPILL_BLOCKS);
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
        self.find_or_make(prefix, 0, stats, |names| &mut names.counters)
    }

    /// The same for stats that only the control thread counts.
    pub fn control_scope(&self, prefix: &str, stats: StatTable) -> Scope {
        self.find_or_make(prefix, 0, stats, |names| &mut names.of_control)
    }

    /// The scope within that of a cluster for one gRPC method, `service.method`, or for those that
    /// have no name: hidden, and shown again, with the cluster's own.
    pub fn grpc_scope(&self, cluster: &str, method: &str) -> Scope {
        let dot = if method.is_empty() { "" } else { "." };
        let prefix = format!("cluster.{cluster}.grpc{dot}{method}");
        let outer = "cluster.".len() + cluster.len();
        self.find_or_make(&prefix, outer, GrpcStat::ALL, |names| &mut names.counters)
    }

    /// A scope that no page lists: whoever asked for it keeps it, and reads it with
    /// [`Registry::value`].
    pub fn nameless_scope(&self, stats: StatTable) -> Scope {
        let mut names = self.names();
        let blocks = stats.iter().map(|(_, kind)| kind.block_cells()).sum();
        match self.allocate(&mut names, |names| &mut names.counters, stats.len() as u32, blocks) {
            Some(scope) => scope,
            None => {
                names.refused += 1;
                names.spill()
            }
        }
    }

    fn find_or_make(
        &self,
        prefix: &str,
        outer: usize,
        stats: StatTable,
        arena: fn(&mut Names) -> &mut Arena,
    ) -> Scope {
        let mut names = self.names();
        if let Some(index) = names.find(prefix, stats) {
            names.show(index);
            return names.scopes[index].shown.scope;
        }
        let blocks = stats.iter().map(|(_, kind)| kind.block_cells()).sum();
        let made = self.allocate(&mut names, arena, stats.len() as u32, blocks);
        let Some(scope) = made else {
            names.refused += 1;
            return names.spill();
        };
        let prefix: Arc<str> = prefix.into();
        let index = names.scopes.len() as u32;
        names.by_prefix.entry(prefix.clone()).or_default().push(index);
        if outer > 0 {
            names.by_prefix.entry(prefix[..outer].into()).or_default().push(index);
        }
        let shown = ShownScope { prefix, stats, outer, scope };
        names.scopes.push(Named { shown, hidden: false });
        scope
    }

    /// Takes the scopes with exactly this prefix, and those within them, off the pages, until
    /// [`Registry::scope`] asks for them again. They go on counting what still runs. Says whether
    /// there were any.
    pub fn hide(&self, prefix: &str) -> bool {
        let mut names = self.names();
        let Names { scopes, by_prefix, .. } = &mut *names;
        let Some(indices) = by_prefix.get(prefix) else { return false };
        for &index in indices {
            scopes[index as usize].hidden = true;
        }
        true
    }

    /// One stat, summed over the shards; of response codes, how many there are.
    #[must_use]
    pub fn value(&self, scope: Scope, stat: impl Stat) -> Value {
        self.read(stat.kind(), scope, stat.index(), stat.block_offset()).0
    }

    /// A counter or a gauge, summed over the shards; of a histogram, how many values it has.
    #[must_use]
    pub fn number(&self, scope: Scope, stat: impl Stat) -> u64 {
        match self.value(scope, stat) {
            Value::Counter(number) | Value::Gauge(number) => number,
            Value::Histogram(histogram) => histogram.count,
            Value::Text(_) => 0,
        }
    }

    /// Every series that is shown, by name, in order of the names. Nameless
    /// scopes are not: `/clusters` reads those of hosts with [`Registry::value`].
    #[must_use]
    pub fn collect(&self) -> Vec<(String, Value)> {
        let mut values = Vec::new();
        for scope in self.shown() {
            for column in columns(scope.stats) {
                column.read(self, &scope, &mut |sample| {
                    values
                        .push((full_name(&scope.prefix, &sample.stat).into_owned(), sample.value));
                });
            }
        }
        values.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        values
    }

    /// What is set as a whole.
    #[must_use]
    pub fn readouts(&self) -> &Readouts {
        &self.readouts
    }

    /// How often a scope was asked for when there were no cells left.
    #[must_use]
    pub fn scopes_refused(&self) -> u64 {
        self.names().refused
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.threads.len() - 1
    }

    /// The scopes that pages list, in no order. The lock is not held while cells are read.
    #[must_use]
    pub fn shown(&self) -> Vec<ShownScope> {
        self.names()
            .scopes
            .iter()
            .filter(|named| !named.hidden)
            .map(|named| named.shown.clone())
            .collect()
    }

    /// A stat with this place in its table, and whether it was ever written to.
    pub(super) fn read(&self, kind: Kind, scope: Scope, index: u32, block: u32) -> (Value, bool) {
        let cell = StatId(scope.base.0 + index);
        let mut used = false;
        let mut sum = |value: fn(u64) -> u64| {
            self.threads.iter().fold(0_u64, |sum, thread| {
                let cell = thread.load(cell);
                used |= cell != 0;
                sum.wrapping_add(value(cell))
            })
        };
        let value = match kind {
            Kind::Gauge => Value::Gauge(sum(gauge::value)),
            Kind::Counter | Kind::Codes => Value::Counter(sum(|cell| cell)),
            Kind::Text => Value::Text(Arc::default()),
            Kind::Histogram if sum(|cell| cell) == 0 => Value::Histogram(Histogram::default()),
            Kind::Histogram => {
                let block = scope.block_at(block);
                let shards = self.threads.iter().filter_map(|thread| thread.block(block));
                Value::Histogram(Histogram::merge(shards))
            }
        };
        (value, used)
    }

    /// The same of one shard only.
    pub(super) fn read_shard(&self, shard: usize, kind: Kind, scope: Scope, index: u32) -> Value {
        let cell = self.threads[shard].load(StatId(scope.base.0 + index));
        match kind {
            Kind::Gauge => Value::Gauge(gauge::value(cell)),
            _ => Value::Counter(cell),
        }
    }

    /// The response codes of a stat.
    pub(super) fn codes(&self, scope: Scope, index: u32, block: u32) -> Codes {
        let cell = StatId(scope.base.0 + index);
        if self.threads.iter().all(|thread| thread.load(cell) == 0) {
            return Codes::default();
        }
        let block = scope.block_at(block);
        Codes::merge(self.threads.iter().filter_map(|thread| thread.block(block)))
    }

    /// Finds cells, and makes the chunks that they are in on every thread's side before anybody
    /// learns of them.
    fn allocate(
        &self,
        names: &mut Names,
        arena: fn(&mut Names) -> &mut Arena,
        cells: u32,
        block_cells: u32,
    ) -> Option<Scope> {
        let base = self.take(names, arena, cells)?;
        let blocks = match block_cells {
            0 => base,
            cells => self.take(names, |names| &mut names.blocks, cells)?,
        };
        Some(Scope { base: StatId(base), blocks: StatId(blocks) })
    }

    fn take(
        &self,
        names: &mut Names,
        arena: fn(&mut Names) -> &mut Arena,
        cells: u32,
    ) -> Option<u32> {
        assert!(cells <= CHUNK_CELLS, "a table of {cells} cells");
        let chunk = names.chunks;
        if arena(names).end - arena(names).next < cells {
            if chunk == CHUNKS_MAX {
                return None;
            }
            self.threads.iter().for_each(|thread| thread.ensure_chunk(chunk));
            *arena(names) = Arena { next: chunk * CHUNK_CELLS, end: (chunk + 1) * CHUNK_CELLS };
            names.chunks += 1;
        }
        let arena = arena(names);
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
        indices.find(|&index| {
            let shown = &self.scopes[index].shown;
            shown.stats == stats && *shown.prefix == *prefix
        })
    }

    /// The scope is on the pages from now on, and so are those within it.
    fn show(&mut self, index: usize) {
        if !std::mem::replace(&mut self.scopes[index].hidden, false) {
            return;
        }
        let prefix = self.scopes[index].shown.prefix.clone();
        for &within in self.by_prefix.get(&prefix).into_iter().flatten() {
            let named = &mut self.scopes[within as usize];
            named.hidden &= named.shown.outer == 0;
        }
    }

    fn spill(&self) -> Scope {
        // Made by `Registry::new` from the first chunks, so it is always there.
        self.spill.unwrap_or(Scope { base: StatId(0), blocks: StatId(0) })
    }
}

impl ShownScope {
    /// A counter or a gauge of it, or how many values a histogram has. The stat must be of its
    /// table.
    #[must_use]
    pub fn number(&self, registry: &Registry, stat: impl Stat) -> u64 {
        registry.number(self.scope, stat)
    }
}

/// Prefix and name with a dot between them, if there is a prefix.
#[must_use]
pub fn full_name<'n>(prefix: &str, stat: &'n str) -> Cow<'n, str> {
    match prefix {
        "" => Cow::Borrowed(stat),
        prefix => Cow::Owned(format!("{prefix}.{stat}")),
    }
}
