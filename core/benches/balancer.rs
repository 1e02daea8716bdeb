//! What choosing a host costs.
//!
//! What it leaves to others: connections to it.
#![allow(clippy::disallowed_methods)] // a benchmark reads the clock itself

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use tidegate::config::HealthStatus;
use tidegate::snapshot::{EndpointSet, Host, HostId};
use tidegate::stats::{HostStat, Registry};
use tidegate::upstream::balancer::RoundRobin;

const ROUNDS: u32 = 2_000_000;

fn endpoints(hosts: u32, weight: impl Fn(u32) -> u32) -> Arc<EndpointSet> {
    let stats = Registry::new(0).scope("host", HostStat::ALL);
    let host = |id| {
        Arc::new(Host {
            id: HostId(id),
            address: ([127, 0, 0, 1], 80).into(),
            hostname: String::new(),
            weight: weight(id),
            health_status: HealthStatus::Healthy,
            locality: Default::default(),
            stats,
        })
    };
    Arc::new(EndpointSet { hosts: (0..hosts).map(host).collect() })
}

fn main() {
    for hosts in [2, 100, 10_000, 100_000] {
        for (name, weights) in [("equal", 1), ("weighted", 7)] {
            let endpoints = endpoints(hosts, |id| 1 + id % weights);
            let mut balancer = RoundRobin::new(&endpoints, 1);
            let start = Instant::now();
            for _ in 0..ROUNDS {
                black_box(black_box(&mut balancer).pick());
            }
            let pick = start.elapsed().as_nanos() as f64 / f64::from(ROUNDS);
            let changed = Arc::new(EndpointSet { hosts: endpoints.hosts.clone() });
            let start = Instant::now();
            balancer.refresh(&changed);
            let refresh = start.elapsed().as_nanos() as f64 / 1_000.0;
            println!("{name:<9} {hosts:>7} hosts: pick {pick:>7.2} ns, refresh {refresh:>9.1} us");
        }
    }
}
