//! Pools by the server names that requests ask for (`auto_sni`, `auto_san_validation`): a
//! connection that was made for one name never serves a request for another.
//!
//! What it leaves to others: what a name is (`proxy::server_name`), and closing what is too much.

use super::pool::{Pool, PoolId};
use crate::shard::slots::{Key, Slots};
use crate::snapshot::HostId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The pools of hosts whose clusters take server names from requests. A pool is there as long as
/// something is in it.
#[derive(Debug, Default)]
pub(super) struct NamedPools {
    pools: Slots<Pool>,
    /// By host and protocol. Clients choose names, so no hash of theirs decides how long a look
    /// takes.
    by_host: BTreeMap<(HostId, bool), BTreeMap<Arc<str>, Key<Pool>>>,
    /// Counts requests, so that pools can say when they were used last.
    uses: u64,
}

impl NamedPools {
    /// The pool for a request that asks for this name, if there is one.
    pub fn find(&mut self, host: HostId, http2: bool, name: &str) -> Option<PoolId> {
        let key = *self.by_host.get(&(host, http2))?.get(name)?;
        self.uses += 1;
        let pool = self.pools.get_mut(key)?;
        pool.used = self.uses;
        Some(pool.id)
    }

    /// Adds a pool for this name, which has none.
    pub fn add(&mut self, name: Arc<str>, mut pool: Pool) -> PoolId {
        self.uses += 1;
        let PoolId { host, http2, .. } = pool.id;
        pool.used = self.uses;
        pool.name = Some(name.clone());
        let key = self.pools.insert(pool);
        let id = PoolId { host, http2, named: Some(key) };
        if let Some(pool) = self.pools.get_mut(key) {
            pool.id = id;
        }
        let before = self.by_host.entry((host, http2)).or_default().insert(name, key);
        debug_assert!(before.is_none(), "a name has two pools");
        id
    }

    pub fn get_mut(&mut self, key: Key<Pool>) -> Option<&mut Pool> {
        self.pools.get_mut(key)
    }

    pub fn remove(&mut self, key: Key<Pool>) {
        let Some(pool) = self.pools.remove(key) else { return };
        let of = (pool.id.host, pool.id.http2);
        if let (Some(names), Some(name)) = (self.by_host.get_mut(&of), &pool.name) {
            names.remove(name);
            if names.is_empty() {
                self.by_host.remove(&of);
            }
        }
    }

    /// The pools of a host, of either protocol.
    pub fn of_host(&self, host: HostId) -> impl Iterator<Item = &Pool> {
        let names = [false, true].into_iter().filter_map(move |http2| {
            // Where nobody uses names there is nothing to look for.
            if self.by_host.is_empty() { None } else { self.by_host.get(&(host, http2)) }
        });
        names.flat_map(BTreeMap::values).filter_map(|key| self.pools.get(*key))
    }

    /// Where a host has so many pools of a protocol, or more, the one without requests that was
    /// used least recently.
    pub fn surplus(&self, host: HostId, http2: bool, pools_max: usize) -> Option<&Pool> {
        let names = self.by_host.get(&(host, http2)).filter(|names| names.len() >= pools_max)?;
        let pools = names.values().filter_map(|key| self.pools.get(*key));
        pools.filter(|pool| pool.is_at_rest()).min_by_key(|pool| pool.used)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Pool> {
        let keys = self.by_host.values().flat_map(BTreeMap::values);
        keys.filter_map(|key| self.pools.get(*key))
    }
}
