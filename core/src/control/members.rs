//! Which clusters use which names, and what of their hosts has changed.
//!
//! What it leaves to others: what follows (`resources`).

use super::names::{DnsName, Refresh};
use crate::config::{self, Address};
use crate::snapshot::{ClusterEntry, HostId, Hosts};
use foldhash::HashMap;
use std::collections::BTreeSet;
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
    let none = Hosts::default();
    let before = before.map_or(&none, |before| &before.endpoints.hosts);
    let after = &after.endpoints.hosts;
    // Of pages that both have, nothing is different.
    let (before, after) = (members(before, after), members(after, before));
    let mut last = None;
    let changed = before.symmetric_difference(&after).map(|(priority, _)| *priority);
    changed.filter(|priority| last.replace(*priority) != Some(*priority)).count() as u64
}

/// The hosts with their priorities, in order, on pages that the other version does not have.
fn members(hosts: &Hosts, other: &Hosts) -> BTreeSet<(u32, HostId)> {
    hosts.items_not_in(other).map(|host| (host.priority, host.id)).collect()
}

pub(super) fn by_name(clusters: &[Arc<ClusterEntry>]) -> HashMap<&str, &Arc<ClusterEntry>> {
    clusters.iter().map(|entry| (entry.config.name.as_str(), entry)).collect()
}

pub(super) fn users_of(clusters: &[Arc<config::Cluster>]) -> Users {
    let mut users = Users::default();
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
