//! What counting costs a shard, and what reading costs the admin thread.
//!
//! What it leaves to others: whole requests (`loadtest`).
#![allow(clippy::disallowed_methods)] // a benchmark reads the clock itself

use std::hint::black_box;
use std::time::Instant;
use tidegate::stats::{ClusterStat, Registry};

fn measure(name: &str, rounds: u64, mut run: impl FnMut(u64)) {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        (0..rounds).for_each(&mut run);
        best = best.min(start.elapsed().as_nanos() as f64 / rounds as f64);
    }
    println!("{name:<40} {best:>12.2} ns");
}

fn main() {
    let registry = Registry::new(2);
    let scopes: Vec<_> =
        (0..1_024).map(|i| registry.scope(&format!("cluster.{i}"), ClusterStat::ALL)).collect();
    let shard = registry.shard(0);
    measure("inc, one cell", 10_000_000, |_| {
        black_box(&shard).inc(black_box(scopes[0]), ClusterStat::UpstreamRqTotal);
    });
    measure("inc, 1,024 scopes in turn", 10_000_000, |i| {
        let scope = scopes[i as usize & 1_023];
        black_box(&shard).inc(black_box(scope), ClusterStat::UpstreamRqTotal);
    });
    measure("record", 10_000_000, |i| {
        black_box(&shard).record(black_box(scopes[0]), ClusterStat::ExternalRqTime, i & 0xfff);
    });
    measure("number", 1_000_000, |_| {
        black_box(registry.number(black_box(scopes[0]), ClusterStat::UpstreamRqTotal));
    });
    measure("collect, 1,024 clusters", 3, |_| {
        black_box(registry.collect());
    });
}
