//! Control publishes, shards adopt: in every order that threads and memory permit, a shard that
//! sleeps is woken for the newest snapshot, versions grow, and what was replaced is let go.
//!
//! What it leaves to others: the real arc-swap and real threads (`core/tests/snapshot.rs`), and the
//! kernel's eventfd.
#![allow(clippy::unwrap_used)]

use loom::model::Builder;
use loom::thread;
use std::rc::Rc;
use std::sync::Arc;
use tidegate_interleavings::{Adopted, Bell, Publisher, Snapshot};

/// How often threads may be interrupted where they would go on: more than any mistake between these
/// few steps needs, and few enough for a second.
const PREEMPTIONS_MAX: usize = 4;

fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(run);
}

fn publisher() -> Arc<Publisher> {
    Arc::new(Publisher::new(Snapshot { version: 1 }))
}

/// A shard's life until it has adopted `last`, with the order of `Shard::new` and `Shard::turn`.
/// A wake that gets lost leaves it asleep for ever: loom calls that a deadlock.
fn shard(publisher: &Arc<Publisher>, last: u64) {
    let bell = Bell::new().unwrap();
    publisher.add_waker(bell.waker());
    let mut adopted = Adopted::new(publisher.clone());
    while adopted.snapshot().version < last {
        bell.wait();
        refresh(&mut adopted);
    }
}

/// A refresh says that there is a newer snapshot only when there is.
fn refresh(adopted: &mut Adopted) {
    let before = adopted.snapshot().version;
    let is_newer = adopted.refresh();
    let version = adopted.snapshot().version;
    assert_eq!(is_newer, version > before, "{version} after {before}");
    assert!(version >= before, "{version} after {before}");
}

#[test]
fn a_shard_that_begins_while_snapshots_are_published_sleeps_through_none() {
    model(|| {
        let publisher = publisher();
        let control = publisher.clone();
        // The third wake is the first that is lost, should hearing the first take away the second.
        let control = thread::spawn(move || {
            (2..=4).for_each(|version| control.publish(Snapshot { version }));
        });
        shard(&publisher, 4);
        control.join().unwrap();
    });
}

#[test]
fn a_wake_wakes_every_shard() {
    model(|| {
        let publisher = publisher();
        let shards: Vec<_> = (0..2)
            .map(|_| {
                let publisher = publisher.clone();
                thread::spawn(move || shard(&publisher, 2))
            })
            .collect();
        publisher.publish(Snapshot { version: 2 });
        shards.into_iter().for_each(|shard| shard.join().unwrap());
    });
}

/// A shard whose turn ended for another reason looks as well, in the middle of everything.
#[test]
fn a_shard_that_was_not_woken_sees_versions_grow() {
    model(|| {
        let publisher = publisher();
        let control = publisher.clone();
        let control = thread::spawn(move || {
            control.publish(Snapshot { version: 2 });
            control.publish(Snapshot { version: 3 });
        });
        let mut adopted = Adopted::new(publisher);
        (0..3).for_each(|_| refresh(&mut adopted));
        control.join().unwrap();
        refresh(&mut adopted);
        assert_eq!(adopted.snapshot().version, 3);
    });
}

/// One that is being woken for something else (a shard that starves wakes all others) is woken for
/// the snapshot nevertheless.
#[test]
fn a_wake_for_something_else_takes_none_away() {
    model(|| {
        let publisher = publisher();
        let other = publisher.clone();
        let starved = thread::spawn(move || other.wake_all());
        let control = publisher.clone();
        let control = thread::spawn(move || control.publish(Snapshot { version: 2 }));
        shard(&publisher, 2);
        starved.join().unwrap();
        control.join().unwrap();
    });
}

/// What a stream has pinned stays, and is let go by whoever publishes. The cell of this test keeps
/// one of each, and `first` is one more: so nothing is let go of here before `first` is.
#[test]
fn what_was_replaced_is_let_go_by_who_publishes() {
    model(|| {
        let publisher = publisher();
        let first = publisher.load();
        let control = publisher.clone();
        let control = thread::spawn(move || control.publish(Snapshot { version: 2 }));
        let mut adopted = Adopted::new(publisher.clone());
        let pinned = Rc::clone(adopted.snapshot());
        let version = pinned.version;
        while adopted.snapshot().version < 2 {
            refresh(&mut adopted);
            thread::yield_now();
        }
        assert_eq!(pinned.version, version);
        drop(pinned);
        control.join().unwrap();
        assert_eq!(Arc::strong_count(&first), 3, "the cell, `first`, and what was retired");
        publisher.collect();
        assert_eq!(Arc::strong_count(&first), 3);
    });
}
