//! Counts what becomes of subscriptions, by Envoy's names.
//!
//! What it leaves to others: the subscriptions (`xds`, `files`), the cells (`counts`).

use super::Control;
use super::dynamic::Want;
use super::stats::{MembershipStat, SubscriptionStat};
use crate::config::{Discovery, ResourceKind};

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
                let names: Vec<&str> = names.collect();
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
                let names: Vec<&str> = names.collect();
                for cluster in self.discovery.dynamic.clusters(&self.discovery.base) {
                    let Discovery::Eds(eds) = &cluster.discovery else { continue };
                    if names.contains(&eds.service_name.as_str()) {
                        counts.assignment(cluster, stat);
                    }
                }
            }
            ResourceKind::ScopedRouteConfiguration
            | ResourceKind::VirtualHost
            | ResourceKind::Runtime => {}
        }
    }

    /// What was not wanted before is asked for, and waited for.
    pub(super) fn note_asked(&mut self, wants: &[Want]) {
        let mut asked = std::collections::BTreeSet::new();
        for want in wants {
            let wanted = (want.kind, want.name.clone());
            if !self.discovery.asked.contains(&wanted) {
                let name = want.name.as_deref().into_iter();
                self.count_names(want.kind, name, SubscriptionStat::UpdateAttempt);
                if let Some(timeout) = want.source.initial_fetch_timeout {
                    self.discovery.wait_until(self.now() + timeout, wanted.clone());
                }
            }
            asked.insert(wanted);
        }
        self.discovery.asked = asked;
    }
}
