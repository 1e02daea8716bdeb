//! Adopting a snapshot: the shard's own tables follow it.
//!
//! What it leaves to others: building snapshots (`control`). Streams under way keep the one that they pinned.

use super::Shard;
use crate::stats::ServerStat;
use std::io;
use std::sync::atomic::Ordering;
use tidegate_io::Io;

impl<I: Io> Shard<I> {
    /// Follows the snapshot that `self.adopted` just took up.
    pub(super) fn adopt(&mut self) -> io::Result<()> {
        let snapshot = self.adopted.snapshot().clone();
        let closed = self.pools.adopt(&snapshot.clusters);
        for key in closed {
            self.close_upstream(key);
        }
        self.adopt_listeners()?;
        if snapshot.draining && self.draining_since.is_none() {
            self.draining_since = Some(self.now.instant);
            for key in self.downstreams.keys() {
                self.drain_downstream(key);
            }
        }
        self.stats.inc(self.server, ServerStat::SnapshotsAdopted);
        self.state.version.store(snapshot.version, Ordering::Release);
        Ok(())
    }

    /// Somebody woke us: there may be a newer snapshot, which the turn has adopted already, or it is time to stop.
    pub(super) fn woken(&mut self) {}
}
