//! Connection pools of one shard: idle connections by host, and who waits for one.
//!
//! A pool is found by its host's number, which stands for (cluster, address), and by what its
//! connections speak, so it survives every update of the configuration that does not remove the
//! host.
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
    /// By [`PoolId`].
    pools: Vec<Option<Pool>>,
    seed: u64,
    /// Which hosts are drawn.
    random: Random,
}

/// Names the pool of a host's connections that speak HTTP/1, or HTTP/2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolId {
    /// Whose connections.
    pub host: HostId,
    /// They speak HTTP/2.
    pub http2: bool,
}

impl PoolId {
    fn index(self) -> usize {
        self.host.0 as usize * 2 + usize::from(self.http2)
    }

    fn both(host: HostId) -> [PoolId; 2] {
        [false, true].map(|http2| PoolId { host, http2 })
    }
}

/// A cluster as this shard balances it.
#[derive(Debug)]
pub struct ClusterPool {
    /// The entry of the adopted snapshot.
    pub entry: Arc<ClusterEntry>,
    /// Where the next request goes.
    pub balancer: LoadBalancer,
}

/// The connections to one host that speak one protocol.
#[derive(Debug)]
pub struct Pool {
    /// Its own name.
    pub id: PoolId,
    /// The host; its address never changes.
    pub host: Arc<Host>,
    /// Connections without a request; the one used last is used next.
    pub idle: Vec<UpstreamKey>,
    /// Connections of HTTP/2 that have streams and take more.
    pub shared: Vec<UpstreamKey>,
    /// Streams that are on connections of HTTP/2.
    pub streams: usize,
    /// Streams without a connection, first come first served.
    pub waiting: VecDeque<StreamKey>,
    /// Connections that are being made.
    pub connecting: usize,
    /// All connections: connecting, idle and busy.
    pub open: usize,
    /// Connections of `tcp_proxy`, which are not among them.
    pub relays: usize,
    /// Its requests wait for a connection that other shards' connections keep from being made.
    pub starved: bool,
    /// The host left its cluster: connections close when they are idle.
    pub gone: bool,
}

impl Pool {
    fn is_empty(&self) -> bool {
        self.open == 0 && self.relays == 0 && self.waiting.is_empty()
    }

    /// A connection that takes a request now. One of HTTP/2 stays where others find it, too.
    pub fn take(&mut self) -> Option<UpstreamKey> {
        self.shared.last().copied().or_else(|| self.idle.pop())
    }

    /// Requests that this shard has at the host: those under way and those that wait.
    #[must_use]
    pub fn active(&self) -> u32 {
        (self.active_streams() + self.waiting.len() + self.relays) as u32
    }

    /// Requests that have a connection.
    #[must_use]
    pub fn active_streams(&self) -> usize {
        match self.id.http2 {
            true => self.streams,
            false => self.open - self.idle.len() - self.connecting,
        }
    }
}

impl Pools {
    /// No pools yet. The seed makes shards begin with different hosts.
    #[must_use]
    pub fn new(seed: u64) -> Pools {
        Pools { clusters: Vec::new(), pools: Vec::new(), seed, random: Random::new(!seed) }
    }

    /// Follows a new cluster table; returns the idle connections to hosts that are gone, which the
    /// caller closes, and clusters whose connections are not what they should be any more, because
    /// TLS is to be spoken otherwise.
    pub fn adopt(&mut self, table: &ClusterTable) -> (Vec<UpstreamKey>, Vec<ClusterId>) {
        let (mut closing, mut changed) = (Vec::new(), Vec::new());
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
                    if self.speaks_otherwise(entry) {
                        changed.push(entry.id);
                    }
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
        (closing, changed)
    }

    /// Whether connections of this entry's cluster that are made now speak TLS otherwise than the
    /// entry says.
    #[must_use]
    pub fn speaks_otherwise(&self, entry: &ClusterEntry) -> bool {
        let identity = |entry: &ClusterEntry| entry.tls.as_ref().map(|tls| tls.identity);
        self.cluster(entry.id).is_some_and(|now| identity(&now.entry) != identity(entry))
    }

    fn set(&mut self, index: usize, entry: Arc<ClusterEntry>) {
        if self.clusters.len() <= index {
            self.clusters.resize_with(index + 1, || None);
        }
        for host in &entry.endpoints.hosts {
            for id in PoolId::both(host.id) {
                if let Some(pool) = self.get(id) {
                    pool.gone = false;
                    pool.host = host.clone();
                }
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
            for id in PoolId::both(host.id) {
                if let Some(pool) = self.get(id) {
                    pool.gone = true;
                    closing.extend_from_slice(&pool.idle);
                }
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
        let Pools { clusters, pools, random, .. } = self;
        let cluster = clusters.get_mut(id.0 as usize)?.as_mut()?;
        let active = |host: &Host| {
            let of = |id: PoolId| pools.get(id.index()).and_then(Option::as_ref);
            PoolId::both(host.id).into_iter().filter_map(of).map(Pool::active).sum()
        };
        let pick = cluster.balancer.pick(random, active);
        Some((cluster, pick))
    }

    /// The pool of this host for this protocol, made if there is none.
    pub fn of(&mut self, host: &Arc<Host>, http2: bool) -> &mut Pool {
        let id = PoolId { host: host.id, http2 };
        if self.pools.len() <= id.index() {
            self.pools.resize_with(id.index() + 1, || None);
        }
        self.pools[id.index()].get_or_insert_with(|| Pool {
            id,
            host: host.clone(),
            idle: Vec::new(),
            shared: Vec::new(),
            streams: 0,
            waiting: VecDeque::new(),
            connecting: 0,
            open: 0,
            relays: 0,
            starved: false,
            gone: false,
        })
    }

    /// The pool with this name.
    pub fn get(&mut self, id: PoolId) -> Option<&mut Pool> {
        self.pools.get_mut(id.index())?.as_mut()
    }

    /// Drops the pool of a host that is gone, once nothing is left in it.
    pub fn forget(&mut self, id: PoolId) {
        if let Some(slot) = self.pools.get_mut(id.index())
            && slot.as_ref().is_some_and(|p| p.gone && !p.starved && p.is_empty())
        {
            *slot = None;
        }
    }

    /// An idle connection of another host of this cluster, to be closed so that a connection limit
    /// has room.
    #[must_use]
    pub fn idle_in(&self, cluster: ClusterId) -> Option<UpstreamKey> {
        let cluster = self.clusters.get(cluster.0 as usize)?.as_ref()?;
        let first = |id: PoolId| self.pools.get(id.index())?.as_ref()?.idle.first().copied();
        let hosts = cluster.entry.endpoints.hosts.iter();
        hosts.flat_map(|host| PoolId::both(host.id)).find_map(first)
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
        for pool in self.pools.iter().flatten() {
            open += pool.open;
            assert!(pool.idle.len() + pool.shared.len() + pool.connecting <= pool.open);
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
