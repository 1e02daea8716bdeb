//! Tables that share pages, and limits that hold across threads.
//!
//! What it leaves to others: building entries (`control`).

use super::*;
use crate::config::{Cluster, ClusterLoadAssignment, Discovery};
use crate::stats::{ClusterStat, Registry};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::thread;

fn config() -> Arc<Cluster> {
    Arc::new(Cluster {
        name: String::new(),
        stat_name: String::new(),
        added_via_api: false,
        discovery: Discovery::Static,
        metadata: Default::default(),
        load_assignment: ClusterLoadAssignment::default().into(),
        tls: None,
        options: Arc::default(),
    })
}

fn entry(id: u32) -> Arc<ClusterEntry> {
    Arc::new(ClusterEntry {
        id: ClusterId(id),
        config: config(),
        endpoints: Arc::default(),
        breakers: Arc::default(),
        stats: Registry::new(0).scope("", ClusterStat::ALL),
        http2_stats: None,
        tls: None,
        ssl_stats: None,
    })
}

fn ids(table: &ClusterTable) -> Vec<u32> {
    table.iter().map(|entry| entry.id.0).collect()
}

#[test]
fn entries_are_found_by_number() {
    let table = ClusterTable::new([entry(200), entry(0), entry(63), entry(64)]);
    assert_eq!(ids(&table), [0, 63, 64, 200]);
    assert_eq!(table.get(ClusterId(64)).map(|entry| entry.id), Some(ClusterId(64)));
    for absent in [1, 65, 199, 201, 256, u32::MAX] {
        assert!(table.get(ClusterId(absent)).is_none(), "{absent}");
    }
}

#[test]
fn entries_are_found_by_name() {
    let named = |id: u32, name: &str| {
        let config = Cluster { name: name.to_owned(), ..(*config()).clone() };
        Arc::new(ClusterEntry {
            id: ClusterId(id),
            config: Arc::new(config),
            endpoints: Arc::default(),
            breakers: Arc::default(),
            stats: Registry::new(0).scope("", ClusterStat::ALL),
            http2_stats: None,
            tls: None,
            ssl_stats: None,
        })
    };
    let before = ClusterTable::new([named(1, "a"), named(2, "b")]);
    let mut after = before.clone();
    after.remove(ClusterId(1));
    after.insert(named(3, "c"));
    assert_eq!(before.named(b"a"), Some(ClusterId(1)));
    assert_eq!(before.named(b"c"), None);
    assert_eq!(after.named(b"a"), None);
    assert_eq!((after.named(b"b"), after.named(b"c")), (Some(ClusterId(2)), Some(ClusterId(3))));
    assert_eq!(after.named(b"\xff"), None);
}

#[test]
fn a_version_that_differs_in_one_entry_shares_the_other_pages() {
    let before = ClusterTable::new((0..200).map(entry));
    let mut after = before.clone();
    after.insert(entry(70));
    after.remove(ClusterId(199));
    let shared = |page: usize| match (&before.pages[page], &after.pages[page]) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    };
    assert_eq!([0, 1, 2, 3].map(shared), [true, false, true, false]);
    let same =
        |id| Arc::ptr_eq(before.get(ClusterId(id)).unwrap(), after.get(ClusterId(id)).unwrap());
    assert!(same(71) && !same(70));
    assert!(before.get(ClusterId(199)).is_some() && after.get(ClusterId(199)).is_none());
}

#[test]
fn taking_out_what_is_not_there_copies_nothing() {
    let before = ClusterTable::new([entry(1)]);
    let mut after = before.clone();
    [2, 500].into_iter().for_each(|id| after.remove(ClusterId(id)));
    let pages = |table: &ClusterTable| Arc::as_ptr(table.pages[0].as_ref().unwrap());
    assert_eq!(pages(&before), pages(&after));
}

proptest! {
    #[test]
    fn a_table_is_a_map(steps in prop::collection::vec((0_u32..300, any::<bool>()), 0..60)) {
        let (mut table, mut map) = (ClusterTable::default(), BTreeMap::new());
        for (id, insert) in steps {
            let version = (table.clone(), ids(&table));
            if insert {
                let entry = entry(id);
                table.insert(entry.clone());
                map.insert(id, entry);
            } else {
                table.remove(ClusterId(id));
                map.remove(&id);
            }
            prop_assert_eq!(ids(&version.0), version.1, "a version changed");
        }
        prop_assert_eq!(ids(&table), map.keys().copied().collect::<Vec<_>>());
        for (id, entry) in &map {
            let found = table.get(ClusterId(*id)).unwrap();
            prop_assert!(Arc::ptr_eq(found, entry), "cluster {}", id);
        }
    }
}

#[test]
fn a_limit_refuses_what_passes_it() {
    let counter = AtomicU32::new(0);
    let acquire = |max| Breakers::acquire(&counter, max);
    assert_eq!(
        [acquire(2), acquire(2), acquire(2)],
        [Permit::Granted, Permit::Granted, Permit::Refused]
    );
    assert_eq!(counter.load(Ordering::Relaxed), 2, "a refusal counts nothing");
    Breakers::release(&counter);
    assert_eq!(acquire(2), Permit::Granted);
    assert_eq!(acquire(0), Permit::Refused);
    assert_eq!(acquire(u32::MAX), Permit::Granted);
}

#[test]
fn limits_are_open_when_they_are_reached() {
    let breakers = Breakers::default();
    let thresholds =
        Thresholds { max_connections: 1, max_pending_requests: 0, ..Thresholds::default() };
    assert_eq!(breakers.open(&thresholds), [false, true, false, false]);
    Breakers::acquire(&breakers.connections, 1);
    assert_eq!(breakers.open(&thresholds), [true, true, false, false]);
}

/// Six threads and four permits: never more than four inside, and never more than four counted, not
/// even for a moment in which somebody else would be refused.
#[test]
fn limits_are_exact_across_threads() {
    let (counter, inside, done) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let mut granted = 0;
                    while granted < 10_000 {
                        if Breakers::acquire(&counter, 4) == Permit::Refused {
                            continue;
                        }
                        granted += 1;
                        let others = inside.fetch_add(1, Ordering::SeqCst);
                        assert!(others < 4, "{others} others");
                        if granted % 64 == 0 {
                            thread::yield_now();
                        }
                        inside.fetch_sub(1, Ordering::SeqCst);
                        Breakers::release(&counter);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let counted = counter.load(Ordering::Relaxed);
                assert!(counted <= 4, "{counted} counted");
            }
        });
        let ends: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ends.iter().all(Result::is_ok));
    });
    assert_eq!(counter.load(Ordering::Relaxed), 0);
}
