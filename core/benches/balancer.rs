//! What choosing a host costs.
//!
//! What it leaves to others: connections to it.
#![allow(clippy::disallowed_methods)] // a benchmark reads the clock itself

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use tidegate::config::{HealthStatus, LbPolicy, LeastRequest};
use tidegate::shard::Random;
use tidegate::snapshot::{EndpointSet, Host, HostId, SelectionRules};
use tidegate::stats::{HostStat, Registry};
use tidegate::upstream::balancer::LoadBalancer;

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
            locality_weight: 0,
            priority: 0,
            connections: None,
            metadata: Default::default(),
            stats,
        })
    };
    Arc::new(EndpointSet::new((0..hosts).map(host).collect(), SelectionRules::default()))
}

fn main() {
    let policies = [
        ("round robin", LbPolicy::RoundRobin),
        ("least request", LbPolicy::LeastRequest(LeastRequest::default())),
        ("random", LbPolicy::Random),
    ];
    for (policy_name, policy) in policies {
        for hosts in [2, 100, 10_000, 100_000] {
            for (name, weights) in [("equal", 1), ("weighted", 7)] {
                let endpoints = endpoints(hosts, |id| 1 + id % weights);
                let mut balancer = LoadBalancer::new(&endpoints, policy, 1);
                let mut random = Random::new(2);
                let start = Instant::now();
                for _ in 0..ROUNDS {
                    black_box(black_box(&mut balancer).pick(&mut random, |host| host.id.0 & 3));
                }
                let pick = start.elapsed().as_nanos() as f64 / f64::from(ROUNDS);
                let start = Instant::now();
                let rules = SelectionRules::default();
                let changed = Arc::new(EndpointSet::new(endpoints.hosts.clone(), rules));
                let select = start.elapsed().as_nanos() as f64 / 1_000.0;
                let start = Instant::now();
                balancer.refresh(&changed, policy, &mut random);
                let refresh = start.elapsed().as_nanos() as f64 / 1_000.0;
                println!(
                    "{policy_name:<13} {name:<8} {hosts:>6} hosts: pick {pick:>6.2} ns, \
                     select {select:>8.1} us, refresh {refresh:>8.1} us"
                );
            }
        }
    }
}
