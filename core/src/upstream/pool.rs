//! Connection pools of one shard: idle connections by host, and who waits for one.
//!
//! A pool is found by its host's number, which stands for (cluster, address), by what its
//! connections speak, and by the server name that requests ask for, if they do. So it survives
//! every update of the configuration that does not remove the host.
//!
//! What it leaves to others: opening and closing connections, and what a limit's refusal means
//! (`proxy::upstream`).

use super::balancer::{LoadBalancer, Pick};
use super::named::NamedPools;
use crate::proxy::Upstream;
use crate::shard::slots::{Key, Slots};
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
    /// By [`PoolId`], of those without a server name.
    pools: Vec<Option<Pool>>,
    named: NamedPools,
    seed: u64,
    /// Which hosts are drawn.
    random: Random,
}

/// Names the pool of a host's connections that speak HTTP/1, or HTTP/2, and were made for one
/// server name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolId {
    /// Whose connections.
    pub host: HostId,
    /// They speak HTTP/2.
    pub http2: bool,
    /// The pool itself, where requests say what server they want.
    pub named: Option<Key<Pool>>,
}

impl PoolId {
    /// The pool of requests that ask for no server name.
    #[must_use]
    pub fn unnamed(host: HostId, http2: bool) -> PoolId {
        PoolId { host, http2, named: None }
    }

    fn index(self) -> usize {
        self.host.0 as usize * 2 + usize::from(self.http2)
    }

    fn both(host: HostId) -> [PoolId; 2] {
        [false, true].map(|http2| PoolId::unnamed(host, http2))
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
    /// The server name that its requests ask for.
    pub name: Option<Arc<str>>,
    /// When one did so last, by the count of them.
    pub(super) used: u64,
}

impl Pool {
    fn new(id: PoolId, host: Arc<Host>) -> Pool {
        Pool {
            id,
            host,
            idle: Vec::new(),
            shared: Vec::new(),
            streams: 0,
            waiting: VecDeque::new(),
            connecting: 0,
            open: 0,
            relays: 0,
            starved: false,
            gone: false,
            name: None,
            used: 0,
        }
    }

    /// Whether it has nothing but idle connections.
    pub(super) fn is_at_rest(&self) -> bool {
        self.waiting.is_empty() && self.relays == 0 && self.open == self.idle.len()
    }

    /// Whether nothing is left in it.
    fn is_empty(&self) -> bool {
        !self.starved && self.open == 0 && self.relays == 0 && self.waiting.is_empty()
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
        let random = Random::new(!seed);
        let named = NamedPools::default();
        Pools { clusters: Vec::new(), pools: Vec::new(), named, seed, random }
    }

    /// Follows a new version of the cluster table after the one it followed before; returns the
    /// idle connections to hosts that are gone, which the caller closes, and clusters whose
    /// connections are not what they should be any more, because TLS is to be spoken otherwise.
    ///
    /// It costs what has changed.
    pub fn adopt(
        &mut self,
        before: &ClusterTable,
        table: &ClusterTable,
    ) -> (Vec<UpstreamKey>, Vec<ClusterId>) {
        let (mut closing, mut changed) = (Vec::new(), Vec::new());
        for (old, new) in table.changes_since(before) {
            match (old, new) {
                (Some(old), Some(new)) => {
                    let (gone, came) = new.endpoints.hosts.changes_since(&old.endpoints.hosts);
                    let stays: HashSet<HostId> = came.iter().map(|host| host.id).collect();
                    let gone = gone.into_iter().filter(|host| !stays.contains(&host.id));
                    self.retire(gone, &mut closing);
                    if self.speaks_otherwise(new) {
                        changed.push(new.id);
                    }
                    self.set(new, came.into_iter());
                }
                (Some(old), None) => {
                    self.retire(old.endpoints.hosts.iter(), &mut closing);
                    self.clusters[old.id.0 as usize] = None;
                }
                (None, Some(new)) => self.set(new, new.endpoints.hosts.iter()),
                (None, None) => {}
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

    /// `came`: its hosts that are new, or not as they were.
    fn set<'h>(&mut self, entry: &Arc<ClusterEntry>, came: impl Iterator<Item = &'h Arc<Host>>) {
        let index = entry.id.0 as usize;
        if self.clusters.len() <= index {
            self.clusters.resize_with(index + 1, || None);
        }
        for host in came {
            for id in self.ids_of(host.id) {
                if let Some(pool) = self.get(id) {
                    pool.gone = false;
                    pool.host = host.clone();
                }
            }
        }
        let policy = entry.config.load_balancing.policy;
        match &mut self.clusters[index] {
            Some(cluster) => {
                cluster.balancer.refresh(&entry.endpoints, policy, &mut self.random);
                cluster.entry = entry.clone();
            }
            slot => {
                let balancer = LoadBalancer::new(&entry.endpoints, policy, self.seed);
                *slot = Some(ClusterPool { entry: entry.clone(), balancer });
            }
        }
    }

    fn retire<'a>(
        &mut self,
        hosts: impl Iterator<Item = &'a Arc<Host>>,
        closing: &mut Vec<UpstreamKey>,
    ) {
        for host in hosts {
            for id in self.ids_of(host.id) {
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
        let Pools { clusters, pools, named, random, .. } = self;
        let cluster = clusters.get_mut(id.0 as usize)?.as_mut()?;
        let active = |host: &Host| {
            let of = |id: PoolId| pools.get(id.index()).and_then(Option::as_ref);
            let unnamed = PoolId::both(host.id).into_iter().filter_map(of);
            unnamed.chain(named.of_host(host.id)).map(Pool::active).sum()
        };
        let pick = cluster.balancer.pick(random, active);
        Some((cluster, pick))
    }

    /// The pool with this name. One without a server name is made if there is none.
    pub fn of(&mut self, host: &Arc<Host>, id: PoolId) -> Option<&mut Pool> {
        if id.named.is_some() {
            return self.get(id);
        }
        if self.pools.len() <= id.index() {
            self.pools.resize_with(id.index() + 1, || None);
        }
        Some(self.pools[id.index()].get_or_insert_with(|| Pool::new(id, host.clone())))
    }

    /// The pool with this name.
    pub fn get(&mut self, id: PoolId) -> Option<&mut Pool> {
        match id.named {
            None => self.pools.get_mut(id.index())?.as_mut(),
            Some(key) => self.named.get_mut(key),
        }
    }

    /// The pool for a request that asks for this server name, if there is one.
    pub fn find_named(&mut self, host: HostId, http2: bool, name: &str) -> Option<PoolId> {
        self.named.find(host, http2, name)
    }

    /// A new pool for this server name, which must get a connection, or a request that waits.
    pub fn add_named(&mut self, host: &Arc<Host>, http2: bool, name: &str) -> PoolId {
        let pool = Pool::new(PoolId::unnamed(host.id, http2), host.clone());
        self.named.add(name.into(), pool)
    }

    /// Where a host has connections for so many server names, or more, those for one of them that
    /// are to be closed: nobody uses them, and nobody did for longest.
    #[must_use]
    pub fn surplus_named(&self, host: HostId, http2: bool, names_max: usize) -> Vec<UpstreamKey> {
        self.named.surplus(host, http2, names_max).map(|pool| pool.idle.clone()).unwrap_or_default()
    }

    /// Drops the pool of a host that is gone, or of a server name, once nothing is left in it.
    pub fn forget(&mut self, id: PoolId) {
        let Some(pool) = self.get(id).filter(|pool| pool.is_empty()) else { return };
        match id.named {
            Some(key) => self.named.remove(key),
            None if pool.gone => self.pools[id.index()] = None,
            None => {}
        }
    }

    fn ids_of(&self, host: HostId) -> Vec<PoolId> {
        let named = self.named.of_host(host).map(|pool| pool.id);
        PoolId::both(host).into_iter().chain(named).collect()
    }

    /// An idle connection of another host of this cluster, to be closed so that a connection limit
    /// has room.
    #[must_use]
    pub fn idle_in(&self, cluster: ClusterId) -> Option<UpstreamKey> {
        let cluster = self.clusters.get(cluster.0 as usize)?.as_ref()?;
        let unnamed = |id: PoolId| self.pools.get(id.index())?.as_ref();
        let mut hosts = cluster.entry.endpoints.hosts.iter();
        hosts.find_map(|host| {
            let unnamed = PoolId::both(host.id).into_iter().filter_map(unnamed);
            unnamed.chain(self.named.of_host(host.id)).find_map(|pool| pool.idle.first().copied())
        })
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
        for pool in self.pools.iter().flatten().chain(self.named.iter()) {
            let is_used = pool.name.is_none() || !pool.is_empty();
            assert!(is_used, "the pool of a server name is empty");
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
