//! The one pointer between control and shards: published by swap, adopted once per turn.
//!
//! What it leaves to others: what is in a snapshot; waking shards (`control` has their wakers).

use super::Snapshot;
use arc_swap::ArcSwap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidegate_io::Waker;

/// The newest snapshot. Shared by control, shards and admin.
#[derive(Debug)]
pub struct Publisher {
    current: ArcSwap<Snapshot>,
    /// The version of `current`; looked at once per turn instead of touching the shared count.
    version: AtomicU64,
    /// How many clusters starve for connections that other shards have, on how many shards.
    starving: AtomicU32,
    /// Those before that somebody may have yet: kept until nobody has, so that it is not a shard
    /// that takes them apart.
    retired: Mutex<Vec<Arc<Snapshot>>>,
    /// Off the request path: taken to publish, and when a shard runs short of connections.
    wakers: Mutex<Vec<Waker>>,
}

impl Publisher {
    /// Starts with this snapshot.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Publisher {
        let version = AtomicU64::new(snapshot.version);
        Publisher {
            current: ArcSwap::from_pointee(snapshot),
            version,
            starving: AtomicU32::new(0),
            retired: Mutex::default(),
            wakers: Mutex::default(),
        }
    }

    /// Makes `snapshot` the newest, and wakes every shard so that it adopts it soon.
    ///
    /// # Panics
    ///
    /// When its version is not larger than the current one's.
    pub fn publish(&self, snapshot: Snapshot) {
        let version = snapshot.version;
        let before = self.version.load(Ordering::Relaxed);
        assert!(version > before, "snapshot {version} published after {before}");
        // In this order: a shard that sees the new version finds the new snapshot, or a newer one.
        let before = self.current.swap(Arc::new(snapshot));
        self.version.store(version, Ordering::Release);
        lock(&self.retired).push(before);
        self.wake_all();
    }

    /// Lets go of the snapshots before that nobody has any longer. Whoever publishes calls it now
    /// and then.
    pub fn collect(&self) {
        let mut retired = lock(&self.retired);
        let (kept, gone) = retired.drain(..).partition(|it| Arc::strong_count(it) > 1);
        *retired = kept;
        // Large ones take a while.
        drop(retired);
        drop::<Vec<_>>(gone);
    }

    /// From now on `waker` is woken by [`Publisher::wake_all`].
    pub fn add_waker(&self, waker: Waker) {
        lock(&self.wakers).push(waker);
    }

    /// Wakes every shard.
    pub fn wake_all(&self) {
        for waker in lock(&self.wakers).iter() {
            waker.wake();
        }
    }

    /// A cluster starves on a shard: the others look for what they can spare.
    pub fn starve(&self) {
        self.starving.fetch_add(1, Ordering::Relaxed);
        self.wake_all();
    }

    /// It does so no longer, or tries again.
    pub fn end_starving(&self) {
        self.starving.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether any cluster does. Whoever is woken for it finds that it does, or did.
    #[must_use]
    pub fn any_starves(&self) -> bool {
        self.starving.load(Ordering::Relaxed) > 0
    }

    /// The newest snapshot, for readers off the request path.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }
}

/// Nothing is half done in it when a thread panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A shard's view of the publisher. Streams pin a snapshot by a plain (not atomic) count.
#[derive(Debug)]
#[allow(clippy::redundant_allocation)] // the outer count is plain, the inner one shared
pub struct Adopted {
    publisher: Arc<Publisher>,
    snapshot: Rc<Arc<Snapshot>>,
}

impl Adopted {
    /// Adopts the newest snapshot.
    #[must_use]
    pub fn new(publisher: Arc<Publisher>) -> Adopted {
        let snapshot = Rc::new(publisher.load());
        Adopted { publisher, snapshot }
    }

    /// Adopts a newer snapshot if there is one, and says whether there was. One relaxed-cost load
    /// when there is none.
    pub fn refresh(&mut self) -> bool {
        // Smaller happens, too: between the two stores of `publish` the snapshot is ahead of the
        // version. A shard that began then has what the version is about to say.
        if self.publisher.version.load(Ordering::Acquire) <= self.snapshot.version {
            return false;
        }
        self.snapshot = Rc::new(self.publisher.load());
        true
    }

    /// Where snapshots come from.
    #[must_use]
    pub fn publisher(&self) -> &Arc<Publisher> {
        &self.publisher
    }

    /// The adopted snapshot; cloning the `Rc` pins it.
    #[must_use]
    #[allow(clippy::redundant_allocation)]
    pub fn snapshot(&self) -> &Rc<Arc<Snapshot>> {
        &self.snapshot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::ClusterTable;

    fn snapshot(version: u64) -> Snapshot {
        Snapshot { version, clusters: ClusterTable::default(), ..Snapshot::default() }
    }

    #[test]
    fn a_snapshot_is_adopted_once() {
        let publisher = Arc::new(Publisher::new(snapshot(1)));
        let mut adopted = Adopted::new(publisher.clone());
        assert!(!adopted.refresh());
        publisher.publish(snapshot(2));
        publisher.publish(snapshot(3));
        assert!(adopted.refresh());
        assert_eq!(adopted.snapshot().version, 3);
        assert!(!adopted.refresh());
    }

    #[test]
    fn a_pinned_snapshot_stays_until_it_is_let_go() {
        let publisher = Arc::new(Publisher::new(snapshot(1)));
        let mut adopted = Adopted::new(publisher.clone());
        let pinned = adopted.snapshot().clone();
        let first = Arc::downgrade(&pinned);
        publisher.publish(snapshot(2));
        adopted.refresh();
        assert_eq!((pinned.version, adopted.snapshot().version), (1, 2));
        publisher.collect();
        drop(pinned);
        assert!(first.upgrade().is_some(), "whoever reads takes no snapshot apart");
        publisher.collect();
        assert!(first.upgrade().is_none(), "nothing else keeps an old snapshot");
    }

    /// A shard that begins while a snapshot is being published, between the two stores.
    #[test]
    fn a_snapshot_ahead_of_its_version_is_not_adopted_again() {
        let publisher = Arc::new(Publisher::new(snapshot(1)));
        publisher.current.store(Arc::new(snapshot(2)));
        let mut adopted = Adopted::new(publisher.clone());
        assert_eq!(adopted.snapshot().version, 2);
        assert!(!adopted.refresh());
        publisher.version.store(2, Ordering::Release);
        assert!(!adopted.refresh());
    }

    #[test]
    #[should_panic(expected = "snapshot 2 published after 2")]
    fn a_version_is_published_once() {
        Publisher::new(snapshot(2)).publish(snapshot(2));
    }
}
