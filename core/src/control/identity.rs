//! Numbers for clusters, hosts and listeners: given once, the same for the life of the process.
//!
//! What it leaves to others: what has a number now (`resources`).

use crate::config;
use crate::snapshot::{Breakers, ClusterId, HostId, ListenerId};
use crate::stats::{HostStat, Registry, Scope};
use foldhash::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// What makes a listener the same listener after an update: its address, so that one that is
/// renamed keeps its sockets and the connections that wait in them. Where the kernel chooses the
/// port, it is the name too.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ListenerKey {
    /// `name` with port 0, else empty.
    name: String,
    /// `address` as configured.
    pub address: SocketAddr,
}

impl ListenerKey {
    /// The key of a configured listener.
    #[must_use]
    pub fn of(listener: &config::Listener) -> ListenerKey {
        let named = listener.address.port() == 0;
        let name = if named { listener.name.clone() } else { String::new() };
        ListenerKey { name, address: listener.address }
    }
}

/// What makes a host of a cluster the same host after an update.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HostKey {
    /// Its address.
    Address(SocketAddr),
    /// Its name and port: the one host of a LOGICAL_DNS cluster, whose address changes.
    Name(String, u16),
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostKey::Address(address) => address.fmt(f),
            HostKey::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Who has which number, and what is kept by number across updates.
#[derive(Debug, Default)]
pub struct Identities {
    clusters: HashMap<String, ClusterId>,
    breakers: Vec<Arc<Breakers>>,
    hosts: HashMap<(ClusterId, HostKey), (HostId, Scope)>,
    /// Of hosts whose connections have had a limit.
    connections: HashMap<HostId, Arc<AtomicU32>>,
    listeners: HashMap<ListenerKey, ListenerId>,
    listeners_numbered: u32,
}

impl Identities {
    /// The number of a cluster's name. A route's cluster gets one too, so that the route finds the
    /// cluster when a later update adds it.
    pub fn cluster(&mut self, name: &str) -> ClusterId {
        if let Some(id) = self.clusters.get(name) {
            return *id;
        }
        let id = ClusterId(next(&self.clusters));
        self.clusters.insert(name.to_owned(), id);
        self.breakers.push(Arc::default());
        id
    }

    /// The counters of a cluster's circuit breakers.
    #[must_use]
    pub fn breakers(&self, id: ClusterId) -> Arc<Breakers> {
        self.breakers[id.0 as usize].clone()
    }

    /// The number and the stats of a host.
    pub fn host(
        &mut self,
        cluster: ClusterId,
        key: HostKey,
        registry: &Registry,
    ) -> (HostId, Scope) {
        let id = HostId(next(&self.hosts));
        let host = self.hosts.entry((cluster, key));
        *host.or_insert_with(|| (id, registry.nameless_scope(HostStat::ALL)))
    }

    /// The counter of the connections to a host.
    pub fn connections(&mut self, host: HostId) -> Arc<AtomicU32> {
        self.connections.entry(host).or_default().clone()
    }

    /// The number of a listener.
    pub fn listener(&mut self, key: ListenerKey) -> ListenerId {
        let numbered = &mut self.listeners_numbered;
        *self.listeners.entry(key).or_insert_with(|| {
            *numbered += 1;
            ListenerId(*numbered)
        })
    }

    /// Forgets a listener that is gone. If it comes back it is another one, with sockets of its
    /// own: shards may still be closing those that it had.
    pub fn forget_listener(&mut self, key: &ListenerKey) {
        self.listeners.remove(key);
    }
}

fn next<K: Eq + Hash, V>(map: &HashMap<K, V>) -> u32 {
    // Four thousand million names do not fit into memory, so this never saturates.
    u32::try_from(map.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_once_and_from_zero() {
        let mut identities = Identities::default();
        let a = identities.cluster("a");
        let b = identities.cluster("b");
        assert_eq!((a, b), (ClusterId(0), ClusterId(1)));
        assert_eq!(identities.cluster("a"), a);
        let address = HostKey::Address("10.0.0.1:80".parse().unwrap());
        let registry = Registry::new(0);
        let of_a = identities.host(a, address.clone(), &registry);
        let of_b = identities.host(b, address.clone(), &registry);
        assert!(of_b.0 != of_a.0 && of_b.1 != of_a.1, "a host belongs to one cluster");
        assert_eq!(identities.host(a, address, &registry), of_a);
    }

    #[test]
    fn breakers_are_the_same_for_the_same_cluster() {
        let mut identities = Identities::default();
        let id = identities.cluster("a");
        assert!(Arc::ptr_eq(&identities.breakers(id), &identities.breakers(id)));
    }
}
