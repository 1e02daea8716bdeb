//! How long a shard pauses to follow a snapshot that differs in one cluster or one host.
//!
//! What it leaves to others: building snapshots (`gates`), listeners.
#![allow(clippy::disallowed_methods)] // a benchmark reads the clock itself
#![allow(clippy::unwrap_used)] // and may stop when its own input is wrong

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use tidegate::config::{Cluster, HealthStatus, Options, ResourceContext, ResourceKind};
use tidegate::config::{LbPolicy, Resource, Source};
use tidegate::paged::Page;
use tidegate::snapshot::{
    Breakers, ClusterEntry, ClusterId, ClusterTable, EndpointSet, Host, HostId, HostPage, Hosts,
    SelectionRules,
};
use tidegate::stats::{ClusterStat, HostStat, Registry, Scope};
use tidegate::upstream::Pools;

const ROUNDS: usize = 501;

struct Maker {
    config: Cluster,
    stats: Scope,
    host_stats: Scope,
}

impl Maker {
    fn new() -> Maker {
        let source = Source { name: "c".into(), text: "{ name: c, type: STATIC }".into() };
        let context = ResourceContext { options: Options::default(), ..Default::default() };
        let (cluster, _) = Resource::read(ResourceKind::Cluster, &source, &context).unwrap();
        let Resource::Cluster(config) = cluster else { unreachable!("a cluster was read") };
        let registry = Registry::new(0);
        Maker {
            config: Arc::unwrap_or_clone(config),
            stats: registry.scope("cluster", ClusterStat::ALL),
            host_stats: registry.scope("host", HostStat::ALL),
        }
    }

    fn host(&self, id: u32, weight: u32) -> Arc<Host> {
        Arc::new(Host {
            id: HostId(id),
            address: ([127, 0, 0, 1], 80).into(),
            hostname: String::new(),
            weight,
            health_status: HealthStatus::Healthy,
            locality: Default::default(),
            locality_weight: 0,
            priority: 0,
            connections: None,
            metadata: Default::default(),
            stats: self.host_stats,
        })
    }

    fn entry(&self, id: u32, hosts: Hosts, policy: LbPolicy) -> Arc<ClusterEntry> {
        let mut config = self.config.clone();
        config.name = format!("c{id}");
        Arc::make_mut(&mut config.options).load_balancing.policy = policy;
        Arc::new(ClusterEntry {
            id: ClusterId(id),
            config: Arc::new(config),
            endpoints: Arc::new(EndpointSet::new(hosts, SelectionRules::default())),
            tls: None,
            ssl_stats: None,
            breakers: Arc::new(Breakers::default()),
            stats: self.stats,
            http2_stats: None,
        })
    }
}

/// The median and the longest of many adoptions, in microseconds: of one of two tables after the
/// other.
fn adopt(tables: [&ClusterTable; 2]) -> (f64, f64) {
    let mut pools = Pools::new(1);
    pools.adopt(&ClusterTable::default(), tables[0]);
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            let (old, new) = (tables[round % 2], tables[(round + 1) % 2]);
            let start = Instant::now();
            black_box(pools.adopt(old, new));
            start.elapsed().as_nanos() as f64 / 1_000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[ROUNDS / 2], times[ROUNDS - 1])
}

fn main() {
    let maker = Maker::new();
    for (name, policy) in [
        ("round robin", LbPolicy::RoundRobin),
        ("least request", LbPolicy::LeastRequest(Default::default())),
    ] {
        let hosts = |cluster: u32| (0..10).map(move |it| cluster * 10 + it);
        let entry = |id| maker.entry(id, hosts(id).map(|it| maker.host(it, 1)).collect(), policy);
        let before = ClusterTable::new((0..10_000).map(entry));
        let mut after = before.clone();
        after.insert(maker.entry(5_000, (0..9).map(|it| maker.host(it, 1)).collect(), policy));
        let (median, longest) = adopt([&before, &after]);
        println!("{name:<13} one of 10,000 clusters: {median:.1} us, longest {longest:.1} us");
        for (kind, weight) in [("", 1), (" that gets another weight", 2)] {
            let hosts: Hosts = (0..100_000).map(|it| maker.host(it, 1)).collect();
            let mut pages = hosts.pages().to_vec();
            let mut changed = pages[200].items().to_vec();
            changed[100] = maker.host(100_000, weight);
            pages[200] = Arc::new(HostPage::new(changed));
            let one = |hosts| ClusterTable::new([maker.entry(0, hosts, policy)]);
            let (before, after) = (one(hosts.clone()), one(Hosts::new(pages)));
            let (median, longest) = adopt([&before, &after]);
            println!(
                "{name:<13} one of 100,000 hosts{kind}: {median:.1} us, longest {longest:.1} us"
            );
        }
    }
}
