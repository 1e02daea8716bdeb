//! Counts what becomes of subscriptions, by Envoy's names.
//!
//! What it leaves to others: the subscriptions (`xds`, `files`), the cells (`counts`).

use super::Control;
use super::discovery::Discovery;
use super::dynamic::Want;
use super::stats::{MembershipStat, SubscriptionStat};
use crate::config::ResourceKind;
use std::collections::{BTreeMap, BTreeSet, HashSet};

impl Control {
    /// Something has become of the subscriptions to these names.
    pub(super) fn count_names<'n>(
        &self,
        kind: ResourceKind,
        names: impl Iterator<Item = &'n str>,
        stat: SubscriptionStat,
    ) {
        let counts = &self.counts;
        match kind {
            ResourceKind::Cluster => counts.subscription("cluster_manager.cds", stat),
            ResourceKind::Listener => counts.subscription("listener_manager.lds", stat),
            ResourceKind::Secret => {
                names.for_each(|name| counts.subscription(&format!("sds.{name}"), stat));
            }
            ResourceKind::RouteConfiguration => {
                let names: HashSet<&str> = names.collect();
                for manager in self.discovery.dynamic.managers(&self.discovery.base) {
                    let rds = manager.rds.as_ref().map(|rds| rds.name.as_str());
                    if let Some(name) = rds.filter(|name| names.contains(name)) {
                        let prefix = format!("http.{}.rds.{name}", manager.stat_prefix);
                        counts.subscription(&prefix, stat);
                    }
                }
            }
            ResourceKind::ClusterLoadAssignment => {
                let stat = match stat {
                    SubscriptionStat::UpdateAttempt => MembershipStat::UpdateAttempt,
                    SubscriptionStat::UpdateSuccess => MembershipStat::UpdateSuccess,
                    SubscriptionStat::UpdateFailure => MembershipStat::UpdateFailure,
                    SubscriptionStat::UpdateRejected => MembershipStat::UpdateRejected,
                    SubscriptionStat::InitFetchTimeout => MembershipStat::InitFetchTimeout,
                    SubscriptionStat::ConfigReload => return,
                };
                let Discovery { base, dynamic, .. } = &self.discovery;
                for cluster in dynamic.clusters_with(base, &names.collect::<Vec<_>>()) {
                    counts.assignment(cluster, stat);
                }
            }
            ResourceKind::ScopedRouteConfiguration
            | ResourceKind::VirtualHost
            | ResourceKind::Runtime => {}
        }
    }

    /// What was not wanted before is asked for, and waited for.
    pub(super) fn note_asked(&mut self, wants: &[Want]) {
        let mut asked = BTreeSet::new();
        let mut new: BTreeMap<ResourceKind, Vec<&str>> = BTreeMap::new();
        for want in wants {
            let wanted = (want.kind, want.name.clone());
            if !self.discovery.asked.contains(&wanted) {
                new.entry(want.kind).or_default().extend(want.name.as_deref());
                if let Some(timeout) = want.source.initial_fetch_timeout {
                    self.discovery.wait_until(self.now() + timeout, wanted.clone());
                }
            }
            asked.insert(wanted);
        }
        self.discovery.asked = asked;
        for (kind, names) in new {
            self.count_names(kind, names.into_iter(), SubscriptionStat::UpdateAttempt);
        }
    }
}
