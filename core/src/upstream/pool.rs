//! Connection pools of one shard: idle connections by host, and who waits for one.
//!
//! A pool is found by its host's number, which stands for (cluster, address), so it survives every
//! update of the configuration that does not remove the host.
//!
//! What it leaves to others: opening and closing connections, and what a limit's refusal means
//! (`proxy::upstream`).

use super::balancer::{LoadBalancer, Pick};
use crate::proxy::Upstream;
use crate::shard::slots::Slots;
use crate::shard::{Random, StreamKey, UpstreamKey};
use crate::snapshot::{ClusterEntry, ClusterId, ClusterTable, Host, HostId};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// All pools of a shard.
#[derive(Debug)]
pub struct Pools {
    /// By [`ClusterId`].
    clusters: Vec<Option<ClusterPool>>,
    /// By [`HostId`].
    hosts: Vec<Option<Pool>>,
    seed: u64,
    /// Which hosts are drawn.
    random: Random,
}

/// A cluster as this shard balances it.
#[derive(Debug)]
pub struct ClusterPool {
    /// The entry of the adopted snapshot.
    pub entry: Arc<ClusterEntry>,
    /// Where the next request goes.
    pub balancer: LoadBalancer,
}

/// The connections to one host.
#[derive(Debug)]
pub struct Pool {
    /// The host; its address never changes.
    pub host: Arc<Host>,
    /// Connections without a request; the one used last is used next.
    pub idle: Vec<UpstreamKey>,
    /// Streams without a connection, first come first served.
    pub waiting: VecDeque<StreamKey>,
    /// Connections that are being made.
    pub connecting: usize,
    /// All connections: connecting, idle and busy.
    pub open: usize,
    /// Its requests wait for a connection that other shards' connections keep from being made.
    pub starved: bool,
    /// The host left its cluster: connections close when they are idle.
    pub gone: bool,
}

impl Pool {
    /// Requests that this shard has at the host: those under way and those that wait.
    #[must_use]
    pub fn active(&self) -> u32 {
        (self.open - self.idle.len() - self.connecting + self.waiting.len()) as u32
    }
}

impl Pools {
    /// No pools yet. The seed makes shards begin with different hosts.
    #[must_use]
    pub fn new(seed: u64) -> Pools {
        Pools { clusters: Vec::new(), hosts: Vec::new(), seed, random: Random::new(!seed) }
    }

    /// Follows a new cluster table; returns the idle connections to hosts that are gone, which the
    /// caller closes.
    pub fn adopt(&mut self, table: &ClusterTable) -> Vec<UpstreamKey> {
        let mut closing = Vec::new();
        for index in 0..self.clusters.len() {
            let Some(cluster) = &self.clusters[index] else { continue };
            let old = cluster.entry.endpoints.clone();
            match table.get(ClusterId(index as u32)) {
                Some(entry) if Arc::ptr_eq(entry, &cluster.entry) => {}
                Some(entry) => {
                    let present: HashSet<HostId> =
                        entry.endpoints.hosts.iter().map(|host| host.id).collect();
                    self.retire(
                        old.hosts.iter().filter(|h| !present.contains(&h.id)),
                        &mut closing,
                    );
                    let entry = entry.clone();
                    self.set(index, entry);
                }
                None => {
                    self.retire(old.hosts.iter(), &mut closing);
                    self.clusters[index] = None;
                }
            }
        }
        for entry in table.iter() {
            let index = entry.id.0 as usize;
            if self.clusters.get(index).is_none_or(Option::is_none) {
                self.set(index, entry.clone());
            }
        }
        closing
    }

    fn set(&mut self, index: usize, entry: Arc<ClusterEntry>) {
        if self.clusters.len() <= index {
            self.clusters.resize_with(index + 1, || None);
        }
        for host in &entry.endpoints.hosts {
            if let Some(Some(pool)) = self.hosts.get_mut(host.id.0 as usize) {
                pool.gone = false;
                pool.host = host.clone();
            }
        }
        match &mut self.clusters[index] {
            Some(cluster) => {
                let policy = entry.config.load_balancing.policy;
                cluster.balancer.refresh(&entry.endpoints, policy, &mut self.random);
                cluster.entry = entry;
            }
            slot => {
                let policy = entry.config.load_balancing.policy;
                let balancer = LoadBalancer::new(&entry.endpoints, policy, self.seed);
                *slot = Some(ClusterPool { entry, balancer });
            }
        }
    }

    fn retire<'a>(
        &mut self,
        hosts: impl Iterator<Item = &'a Arc<Host>>,
        closing: &mut Vec<UpstreamKey>,
    ) {
        for host in hosts {
            if let Some(Some(pool)) = self.hosts.get_mut(host.id.0 as usize) {
                pool.gone = true;
                closing.extend_from_slice(&pool.idle);
            }
        }
    }

    /// The cluster with this number, as this shard balances it.
    #[must_use]
    pub fn cluster(&self, id: ClusterId) -> Option<&ClusterPool> {
        self.clusters.get(id.0 as usize)?.as_ref()
    }

    /// The cluster with this number, as this shard balances it, and where its next request goes.
    #[inline]
    pub fn pick(&mut self, id: ClusterId) -> Option<(&ClusterPool, Pick)> {
        let Pools { clusters, hosts, random, .. } = self;
        let cluster = clusters.get_mut(id.0 as usize)?.as_mut()?;
        let active = |host: &Host| {
            let pool = hosts.get(host.id.0 as usize).and_then(Option::as_ref);
            pool.map_or(0, Pool::active)
        };
        let pick = cluster.balancer.pick(random, active);
        Some((cluster, pick))
    }

    /// The pool of this host, made if there is none.
    pub fn of(&mut self, host: &Arc<Host>) -> &mut Pool {
        let index = host.id.0 as usize;
        if self.hosts.len() <= index {
            self.hosts.resize_with(index + 1, || None);
        }
        self.hosts[index].get_or_insert_with(|| Pool {
            host: host.clone(),
            idle: Vec::new(),
            waiting: VecDeque::new(),
            connecting: 0,
            open: 0,
            starved: false,
            gone: false,
        })
    }

    /// The pool of the host with this number.
    pub fn get(&mut self, host: HostId) -> Option<&mut Pool> {
        self.hosts.get_mut(host.0 as usize)?.as_mut()
    }

    /// Drops the pool of a host that is gone, once nothing is left in it.
    pub fn forget(&mut self, host: HostId) {
        if let Some(slot) = self.hosts.get_mut(host.0 as usize)
            && slot
                .as_ref()
                .is_some_and(|p| p.gone && !p.starved && p.open == 0 && p.waiting.is_empty())
        {
            *slot = None;
        }
    }

    /// Every idle connection.
    #[must_use]
    pub fn idle(&self) -> Vec<UpstreamKey> {
        self.hosts.iter().flatten().flat_map(|pool| pool.idle.iter().copied()).collect()
    }

    /// An idle connection of another host of this cluster, to be closed so that a connection limit
    /// has room.
    #[must_use]
    pub fn idle_in(&self, cluster: ClusterId) -> Option<UpstreamKey> {
        let cluster = self.clusters.get(cluster.0 as usize)?.as_ref()?;
        cluster
            .entry
            .endpoints
            .hosts
            .iter()
            .find_map(|host| self.hosts.get(host.id.0 as usize)?.as_ref()?.idle.first().copied())
    }

    /// An idle connection of each cluster in which another shard starves.
    #[must_use]
    pub fn surplus(&self) -> Vec<UpstreamKey> {
        let starved =
            |cluster: &&ClusterPool| cluster.entry.breakers.starved.load(Ordering::Relaxed) > 0;
        let clusters = self.clusters.iter().flatten().filter(starved);
        clusters.filter_map(|cluster| self.idle_in(cluster.entry.id)).collect()
    }

    /// Counts agree with connections.
    pub fn assert_invariants(&self, upstreams: &Slots<Upstream>) {
        let mut open = 0;
        for pool in self.hosts.iter().flatten() {
            open += pool.open;
            assert!(pool.idle.len() + pool.connecting <= pool.open);
            for key in &pool.idle {
                assert!(
                    upstreams.get(*key).is_some_and(Upstream::is_idle),
                    "a pooled connection is not idle"
                );
            }
        }
        assert_eq!(open, upstreams.len(), "a connection belongs to no pool");
    }
}
