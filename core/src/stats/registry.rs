//! Names of stats, and sums over shards: the control and admin side.
//!
//! What it leaves to others: pages.

use super::{ShardStats, StatId};
use std::sync::Arc;

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

/// The cells of one scope (one cluster, one listener, ...): stat `n` of the scope's kind is found from here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scope {
    /// The first cell.
    pub base: StatId,
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

/// A merged distribution.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Histogram {
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
}

/// All names, and every shard's cells.
#[derive(Debug)]
pub struct Registry {
    shards: Vec<Arc<ShardStats>>,
}

impl Registry {
    /// A registry for so many shards.
    #[must_use]
    pub fn new(shards: usize) -> Registry {
        Registry { shards: (0..shards).map(|_| Arc::new(ShardStats::new())).collect() }
    }

    /// The cells of one shard.
    #[must_use]
    pub fn shard(&self, index: usize) -> Arc<ShardStats> {
        self.shards[index].clone()
    }

    /// The scope with this prefix (`cluster.one`, `http.ingress`), made on first use and the same ever after: stats
    /// of a thing that goes and comes back go on counting. `stats` is one of the `ALL` tables of `names`.
    pub fn scope(&self, prefix: &str, stats: &'static [(&'static str, Kind)]) -> Scope {
        let _ = (prefix, stats);
        Scope { base: StatId(0) }
    }
}
