//! Adopting a snapshot: the shard's own tables follow it.
//!
//! What it leaves to others: building snapshots (`control`). Streams under way keep the one that
//! they pinned.

use super::{Owner, Shard, limits};
use crate::stats::ServerStat;
use std::io;
use std::sync::atomic::Ordering;
use tidegate_io::Io;

impl<I: Io> Shard<I> {
    /// Follows the snapshot that `self.adopted` just took up.
    pub(super) fn adopt(&mut self) -> io::Result<()> {
        let snapshot = self.adopted.snapshot().clone();
        let before = std::mem::replace(&mut self.followed, snapshot.clone());
        let (closed, changed) = self.pools.adopt(&before.clusters, &snapshot.clusters);
        for key in closed {
            self.close_upstream(key);
        }
        if !changed.is_empty() {
            self.retire_upstreams(&changed);
        }
        self.logs.adopt(&snapshot);
        self.adopt_listeners()?;
        if snapshot.draining && self.draining_since.is_none() {
            self.draining_since = Some(self.now.instant);
            for key in self.downstreams.keys() {
                self.drain_downstream(key);
            }
            for key in self.inspected.keys() {
                self.arm_inspected(key);
            }
        }
        self.stats.inc(self.server, ServerStat::SnapshotsAdopted);
        self.state.version.store(snapshot.version, Ordering::Release);
        Ok(())
    }

    /// As [`Shard::adopt`], while running: what failed (no descriptors left) is tried again soon.
    pub(super) fn adopt_or_retry(&mut self) {
        if self.adopt().is_err() {
            self.stats.inc(self.server, ServerStat::DescriptorsExhausted);
            self.retry_soon();
        }
    }

    /// Sets the timer of [`Shard::retry`].
    pub(crate) fn retry_soon(&mut self) {
        if !self.retrying {
            self.retrying = true;
            self.timers.set(self.now.instant + limits::RETRY, Owner::Shard.token());
        }
    }

    /// Tries again what could not be done for want of something that others hold.
    pub(super) fn retry(&mut self) {
        self.retrying = false;
        self.connect_starved();
        if self.adopt_listeners().is_err() {
            self.retry_soon();
        }
    }

    /// Somebody woke us. There may be a newer snapshot, which the turn has adopted already, or
    /// another shard starves.
    pub(super) fn woken(&mut self) {
        if !self.adopted.publisher().any_starves() {
            return;
        }
        for key in self.pools.surplus() {
            self.close_upstream(key);
        }
    }
}
