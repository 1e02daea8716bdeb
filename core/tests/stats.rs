//! Stats as shards write them and the admin thread reads them.
//!
//! What it leaves to others: the pages (`admin`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tidegate::stats::{
    ClusterStat, GrpcStat, HostStat, Http2Stat, HttpStat, Registry, Scope, ServerStat, Value,
};

fn cluster(registry: &Registry, name: &str) -> Scope {
    registry.scope(&format!("cluster.{name}"), ClusterStat::ALL)
}

fn shown(registry: &Registry, name: &str) -> Option<Value> {
    registry.collect().into_iter().find(|(n, _)| n == name).map(|(_, value)| value)
}

#[test]
fn a_scope_is_the_same_for_the_same_prefix() {
    let registry = Registry::new(1);
    let one = cluster(&registry, "one");
    let two = cluster(&registry, "two");
    assert_ne!(one, two);
    assert_eq!(cluster(&registry, "one"), one);
}

#[test]
fn scopes_of_two_kinds_may_share_a_prefix() {
    let registry = Registry::new(1);
    let a = registry.scope("x", ClusterStat::ALL);
    let b = registry.scope("x", HttpStat::ALL);
    assert_ne!(a, b);
    assert_eq!(registry.scope("x", ClusterStat::ALL), a);
    assert_eq!(registry.scope("x", HttpStat::ALL), b);
}

#[test]
fn every_stat_of_every_scope_has_a_cell_of_its_own() {
    let registry = Registry::new(2);
    let scopes: Vec<Scope> = (0..700).map(|i| cluster(&registry, &format!("{i:04}"))).collect();
    let (first, second) = (registry.shard(0), registry.shard(1));
    for (i, &scope) in scopes.iter().enumerate() {
        first.add(scope, ClusterStat::UpstreamRqTotal, i as u64);
        second.add(scope, ClusterStat::UpstreamRqTotal, 1_000);
        second.add(scope, ClusterStat::LbHealthyPanic, 7);
        first.record(scope, ClusterStat::ExternalRqTime, i as u64);
        second.record(scope, ClusterStat::UpstreamCxLengthMs, 5);
    }
    for (i, &scope) in scopes.iter().enumerate() {
        let number = |stat| registry.number(scope, stat);
        assert_eq!(number(ClusterStat::UpstreamRqTotal), 1_000 + i as u64);
        assert_eq!(number(ClusterStat::LbHealthyPanic), 7);
        assert_eq!(number(ClusterStat::UpstreamRqTimeout), 0);
        assert_eq!(number(ClusterStat::UpstreamCxConnectMs), 0);
        let Value::Histogram(time) = registry.value(scope, ClusterStat::ExternalRqTime) else {
            panic!("not a histogram");
        };
        assert_eq!((time.count, time.sum), (1, i as u64));
    }
}

#[test]
fn gauges_add_up_over_shards() {
    let registry = Registry::new(2);
    let scope = cluster(&registry, "one");
    let (first, second, control) = (registry.shard(0), registry.shard(1), registry.control());
    first.inc(scope, ClusterStat::UpstreamCxActive);
    first.inc(scope, ClusterStat::UpstreamCxActive);
    second.dec(scope, ClusterStat::UpstreamCxActive);
    assert_eq!(registry.number(scope, ClusterStat::UpstreamCxActive), 1);
    control.set(scope, ClusterStat::UpstreamCxActive, 40);
    assert_eq!(registry.number(scope, ClusterStat::UpstreamCxActive), 41);
}

#[test]
fn names_are_sorted_and_an_empty_prefix_adds_no_dot() {
    let registry = Registry::new(1);
    registry.scope("", ServerStat::ALL);
    cluster(&registry, "b");
    cluster(&registry, "a.x");
    cluster(&registry, "a-x");
    let names: Vec<String> = registry.collect().into_iter().map(|(name, _)| name).collect();
    assert!(names.is_sorted());
    // Codes and times are not there before the first of them; a shard has a series of its own.
    let (codes, times, shards) = (3, 2, 1);
    assert_eq!(
        names.len(),
        3 * (ClusterStat::ALL.len() - codes - times) + ServerStat::ALL.len() + shards
    );
    assert!(names.contains(&"io_uring.enabled".to_owned()));
    assert!(names.contains(&"cluster.a.x.upstream_rq_total".to_owned()));
}

#[test]
fn codecs_of_http2_are_counted_for_all_listeners_and_for_each_cluster() {
    let registry = Registry::new(1);
    let cluster = registry.scope("cluster.one", Http2Stat::ALL);
    registry.shard(0).inc(registry.scope("", Http2Stat::ALL), Http2Stat::RxReset);
    registry.shard(0).inc(cluster, Http2Stat::GoawaySent);
    let shown = registry.collect();
    let of = |name: &str| shown.iter().find(|(other, _)| other == name).map(|(_, value)| value);
    assert_eq!(of("http2.rx_reset"), Some(&Value::Counter(1)));
    assert_eq!(of("cluster.one.http2.rx_reset"), Some(&Value::Counter(0)));
    assert_eq!(of("cluster.one.http2.goaway_sent"), Some(&Value::Counter(1)));
    assert!(registry.hide("cluster.one"));
    assert!(!registry.collect().iter().any(|(name, _)| name.starts_with("cluster.")));
}

#[test]
fn a_hidden_scope_goes_on_counting_and_comes_back() {
    let registry = Registry::new(1);
    let shard = registry.shard(0);
    let scope = cluster(&registry, "one");
    let name = "cluster.one.upstream_rq_total";
    shard.inc(scope, ClusterStat::UpstreamRqTotal);
    assert!(registry.hide("cluster.one"));
    assert!(!registry.hide("cluster.on"));
    assert_eq!(shown(&registry, name), None);
    shard.inc(scope, ClusterStat::UpstreamRqTotal);
    assert_eq!(registry.number(scope, ClusterStat::UpstreamRqTotal), 2);
    assert_eq!(cluster(&registry, "one"), scope);
    assert_eq!(shown(&registry, name), Some(Value::Counter(2)));
}

#[test]
fn stats_of_hosts_are_read_but_not_listed() {
    let registry = Registry::new(1);
    let scope = registry.nameless_scope(HostStat::ALL);
    registry.shard(0).inc(scope, HostStat::RqSuccess);
    assert_eq!(registry.collect(), []);
    assert_eq!(registry.value(scope, HostStat::RqSuccess), Value::Counter(1));
}

#[test]
#[should_panic(expected = "shard 2 of 2")]
fn the_cells_of_control_are_no_shards() {
    let _ = Registry::new(2).shard(2);
}

/// Each shard writes while scopes are made and the admin side reads; nothing is lost, and a counter
/// never goes back.
#[test]
fn sums_match_across_threads() {
    const SHARDS: usize = 3;
    const ROUNDS: u64 = 200_000;
    let registry = Registry::new(SHARDS);
    let scope = cluster(&registry, "one");
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        let writers: Vec<_> = (0..SHARDS)
            .map(|index| {
                let shard = registry.shard(index);
                threads.spawn(move || {
                    for round in 0..ROUNDS {
                        shard.inc(scope, ClusterStat::UpstreamRqTotal);
                        shard.inc(scope, ClusterStat::UpstreamRqActive);
                        shard.record(scope, ClusterStat::ExternalRqTime, round % 1_000);
                        shard.dec(scope, ClusterStat::UpstreamRqActive);
                    }
                })
            })
            .collect();
        threads.spawn(|| {
            let (mut last, mut made) = (0, 0);
            while !done.load(Ordering::Acquire) {
                let now = registry.number(scope, ClusterStat::UpstreamRqTotal);
                assert!(now >= last, "{now} after {last}");
                last = now;
                cluster(&registry, &format!("other{made}"));
                made = (made + 1) % 1_000;
            }
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Release);
    });
    let total = ROUNDS * SHARDS as u64;
    assert_eq!(registry.number(scope, ClusterStat::UpstreamRqTotal), total);
    assert_eq!(registry.number(scope, ClusterStat::UpstreamRqActive), 0);
    let Value::Histogram(time) = registry.value(scope, ClusterStat::ExternalRqTime) else {
        panic!("not a histogram");
    };
    assert_eq!(time.count, total);
    assert_eq!(time.sum, total / 1_000 * (999 * 1_000 / 2));
}

/// More scopes than there are cells: the last ones share cells that no page shows.
#[test]
fn without_cells_left_scopes_share_hidden_ones() {
    let registry = Registry::new(0);
    let control = registry.control();
    let mut index = 0;
    while registry.scopes_refused() == 0 {
        registry.scope(&format!("cluster.{index}"), ClusterStat::ALL);
        index += 1;
        assert!(index < 100_000, "never full");
    }
    assert!(index > 50_000, "full after {index}");
    let spilled = cluster(&registry, "spilled");
    control.inc(spilled, ClusterStat::UpstreamRqTotal);
    control.record(spilled, ClusterStat::UpstreamCxLengthMs, 1);
    let last = cluster(&registry, &format!("{}", index - 2));
    assert_eq!(registry.number(last, ClusterStat::UpstreamRqTotal), 0);
    assert_eq!(registry.number(spilled, ClusterStat::UpstreamRqTotal), 1);
    assert_eq!(cluster(&registry, "another"), spilled);
}

#[test]
fn scopes_of_grpc_methods_go_and_come_back_with_their_cluster() {
    let registry = Registry::new(1);
    registry.scope("cluster.a", ClusterStat::ALL);
    let method = registry.grpc_scope("a", "s.S.M");
    let shown = || {
        let all = registry.collect();
        let of = |name: &str| all.iter().any(|(shown, _)| shown == name);
        (of("cluster.a.grpc.s.S.M.success"), of("cluster.a.grpc.s.S.M.failure"))
    };
    assert_eq!(shown(), (false, false));
    registry.shard(0).inc(method, GrpcStat::Success);
    assert_eq!(shown(), (true, false));
    assert!(registry.hide("cluster.a"));
    assert_eq!(shown(), (false, false));
    registry.scope("cluster.a", ClusterStat::ALL);
    assert_eq!(shown(), (true, false));
    assert_eq!(registry.grpc_scope("a", "s.S.M"), method);
}
