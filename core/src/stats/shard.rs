//! One shard's cells.
//!
//! What it leaves to others: names and sums.

use super::{ClusterStat, HostStat, HttpStat, ListenerStat, Scope, ServerStat};

/// Cells that one shard writes and the admin thread reads.
#[derive(Debug)]
pub struct ShardStats {}

/// A stat within a scope.
pub trait Stat: Copy {
    /// Its place in the scope's table.
    fn index(self) -> u32;
}

macro_rules! stat {
    ($($name:ident)*) => { $(impl Stat for $name { fn index(self) -> u32 { self as u32 } })* };
}
stat! { ServerStat ListenerStat HttpStat ClusterStat HostStat }

impl ShardStats {
    pub(super) fn new() -> ShardStats {
        ShardStats {}
    }

    /// Adds to a counter or a gauge.
    pub fn add(&self, scope: Scope, stat: impl Stat, amount: u64) {
        let _ = (scope, stat.index(), amount);
    }

    /// Adds one.
    pub fn inc(&self, scope: Scope, stat: impl Stat) {
        self.add(scope, stat, 1);
    }

    /// Takes one off a gauge.
    pub fn dec(&self, scope: Scope, stat: impl Stat) {
        let _ = (scope, stat.index());
    }

    /// Sets a gauge's share of this shard, or a counter that is kept elsewhere.
    pub fn set(&self, scope: Scope, stat: impl Stat, value: u64) {
        let _ = (scope, stat.index(), value);
    }

    /// Records a value (milliseconds) in a histogram.
    pub fn record(&self, scope: Scope, stat: impl Stat, value: u64) {
        let _ = (scope, stat.index(), value);
    }
}
