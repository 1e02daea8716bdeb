//! Snapshots published by one thread and adopted by several.
//!
//! What it leaves to others: requests that are under way meanwhile (`sim`).

use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use tidegate::config::{Cluster, ClusterLoadAssignment, Discovery};
use tidegate::snapshot::{
    Adopted, ClusterEntry, ClusterId, ClusterTable, EndpointSet, Publisher, Snapshot,
};
use tidegate::stats::{ClusterStat, Registry};

const CLUSTERS: u32 = 130;
const VERSIONS: u64 = 3_000;

/// All clusters of a snapshot carry its version in their name.
fn snapshot(version: u64, registry: &Registry) -> Snapshot {
    let config = Arc::new(Cluster {
        name: version.to_string(),
        stat_name: String::new(),
        added_via_api: false,
        discovery: Discovery::Static,
        metadata: Default::default(),
        load_assignment: ClusterLoadAssignment::default().into(),
        tls: None,
        options: Arc::default(),
    });
    let entry = |id| {
        Arc::new(ClusterEntry {
            id: ClusterId(id),
            config: config.clone(),
            endpoints: Arc::new(EndpointSet::default()),
            breakers: Arc::default(),
            stats: registry.scope("", ClusterStat::ALL),
            http2_stats: None,
            tls: None,
            ssl_stats: None,
        })
    };
    let clusters = ClusterTable::new((0..CLUSTERS).map(entry));
    Snapshot { version, clusters, ..Snapshot::default() }
}

fn assert_whole(snapshot: &Snapshot) {
    let version = snapshot.version.to_string();
    assert_eq!(snapshot.clusters.iter().count(), CLUSTERS as usize);
    assert!(snapshot.clusters.iter().all(|cluster| cluster.config.name == version));
}

/// Each shard sees versions grow, every snapshot whole, the last one in the end; pinned ones do not
/// change.
#[test]
fn shards_adopt_whole_snapshots_in_order() {
    let registry = Registry::new(0);
    let publisher = Arc::new(Publisher::new(snapshot(1, &registry)));
    thread::scope(|threads| {
        for shard in 0..3_usize {
            let publisher = publisher.clone();
            threads.spawn(move || {
                let mut adopted = Adopted::new(publisher);
                let mut pinned = Vec::new();
                let mut last = adopted.snapshot().version;
                while last < VERSIONS {
                    if !adopted.refresh() {
                        thread::yield_now();
                        continue;
                    }
                    let snapshot = adopted.snapshot();
                    assert!(snapshot.version > last, "{} after {last}", snapshot.version);
                    last = snapshot.version;
                    assert_whole(snapshot);
                    // Streams of different length pin different versions.
                    pinned.push((last, Rc::clone(snapshot)));
                    if pinned.len() > 2 + shard {
                        let (version, snapshot) = pinned.remove(0);
                        assert_eq!(snapshot.version, version);
                        assert_whole(&snapshot);
                    }
                }
            });
        }
        for version in 2..=VERSIONS {
            publisher.publish(snapshot(version, &registry));
        }
    });
    assert_eq!(publisher.load().version, VERSIONS);
    assert_eq!(Arc::strong_count(&publisher.load()), 2, "shards that ended hold nothing");
}
