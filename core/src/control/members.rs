//! Which clusters use which names, and what of their hosts has changed.
//!
//! What it leaves to others: what follows (`resources`).

use super::names::{DnsName, Refresh};
use crate::config::{self, Address};
use crate::snapshot::{ClusterEntry, HostId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Which clusters use a name, as places in the list of clusters: an answer must not cost a look at
/// every cluster.
pub(super) type Users = HashMap<DnsName, Vec<usize>>;

/// How many priorities have other hosts than before.
pub(super) fn changed_priorities(
    before: Option<&Arc<ClusterEntry>>,
    after: &Arc<ClusterEntry>,
) -> u64 {
    if before.is_some_and(|before| Arc::ptr_eq(&before.endpoints, &after.endpoints)) {
        return 0;
    }
    if before.is_some_and(|before| has_same_hosts(before, after)) {
        return 0;
    }
    let hosts = |entry: &Arc<ClusterEntry>| {
        let mut priorities: BTreeMap<u32, BTreeSet<HostId>> = BTreeMap::new();
        for host in &entry.endpoints.hosts {
            priorities.entry(host.priority).or_default().insert(host.id);
        }
        priorities
    };
    let (before, after) = (before.map(hosts).unwrap_or_default(), hosts(after));
    let priorities: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    priorities.into_iter().filter(|it| before.get(it) != after.get(it)).count() as u64
}

/// Whether they have the same hosts in the same order, whatever has changed of these.
fn has_same_hosts(before: &ClusterEntry, after: &ClusterEntry) -> bool {
    let (before, after) = (&before.endpoints.hosts, &after.endpoints.hosts);
    let mut pairs = before.iter().zip(after);
    before.len() == after.len() && pairs.all(|(a, b)| a.id == b.id && a.priority == b.priority)
}

pub(super) fn by_name(clusters: &[Arc<ClusterEntry>]) -> HashMap<&str, &Arc<ClusterEntry>> {
    clusters.iter().map(|entry| (entry.config.name.as_str(), entry)).collect()
}

pub(super) fn users_of(clusters: &[Arc<config::Cluster>]) -> Users {
    let mut users = Users::new();
    for (index, config) in clusters.iter().enumerate() {
        for (name, _) in names_of(config) {
            let users = users.entry(name).or_default();
            if users.last() != Some(&index) {
                users.push(index);
            }
        }
    }
    users
}

/// The names that a cluster's endpoints have.
pub(super) fn names_of(config: &config::Cluster) -> impl Iterator<Item = (DnsName, Refresh)> {
    // A cluster without lookups has no names, and may have many endpoints.
    config.discovery.dns().into_iter().flat_map(|dns| {
        config.load_assignment.endpoints.iter().filter_map(move |endpoint| {
            match &endpoint.address {
                Address::Name { host, .. } => Some((DnsName::of(host, dns), Refresh::of(dns))),
                Address::Socket(_) => None,
            }
        })
    })
}
