//! Counts what becomes of subscriptions, by Envoy's names.
//!
//! What it leaves to others: the subscriptions (`xds`, `files`), the cells (`counts`).

use super::Control;
use super::discovery::{Discovery, Wanted};
use super::dynamic::Want;
use super::stats::{MembershipStat, SubscriptionStat};
use crate::config::{ResourceKind, ScopeSource};
use foldhash::HashSet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What is asked for, by kind.
#[derive(Debug, Default)]
pub(super) struct AskedFor {
    /// Kinds of which everything is.
    whole: BTreeSet<ResourceKind>,
    names: BTreeMap<ResourceKind, HashSet<String>>,
}

impl AskedFor {
    fn of(wants: &[Want]) -> AskedFor {
        let mut asked = AskedFor::default();
        for want in wants {
            match &want.name {
                Some(name) => {
                    asked.names.entry(want.kind).or_default().insert(name.clone());
                }
                None => drop(asked.whole.insert(want.kind)),
            }
        }
        asked
    }

    /// Whether this is asked for, by its name or with all others.
    pub fn contains(&self, kind: ResourceKind, name: &str) -> bool {
        self.whole.contains(&kind) || self.names.get(&kind).is_some_and(|it| it.contains(name))
    }

    /// What is asked for by name.
    pub fn names(&self, kind: ResourceKind) -> impl Iterator<Item = &str> {
        self.names.get(&kind).into_iter().flatten().map(String::as_str)
    }

    fn has(&self, want: &Want) -> bool {
        match &want.name {
            Some(name) => self.names.get(&want.kind).is_some_and(|it| it.contains(name)),
            None => self.whole.contains(&want.kind),
        }
    }

    /// What is here and not there.
    fn without(&self, other: &AskedFor) -> Vec<Wanted> {
        let whole = self.whole.difference(&other.whole).map(|kind| (*kind, None));
        let names = self.names.iter().flat_map(|(kind, names)| {
            let there = other.names.get(kind);
            let gone = names.iter().filter(move |name| there.is_none_or(|it| !it.contains(*name)));
            gone.map(|name| (*kind, Some(name.clone())))
        });
        whole.chain(names).collect()
    }
}

/// A response that was accepted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Update<'v> {
    /// Its version.
    pub version: &'v str,
    /// How long it took to take it.
    pub took: Duration,
    /// Whether anything is different.
    pub changed: bool,
}

impl Control {
    /// Something has become of the subscriptions to these names.
    pub(super) fn count_names<'n>(
        &self,
        kind: ResourceKind,
        names: impl Iterator<Item = &'n str>,
        stats: &[SubscriptionStat],
    ) {
        if kind == ResourceKind::ClusterLoadAssignment {
            let Discovery { base, dynamic, .. } = &self.discovery;
            let stats: Vec<_> = stats.iter().copied().map(of_assignment).collect();
            for cluster in dynamic.clusters_with(base, &names.collect::<Vec<_>>()) {
                self.counts.assignment(cluster, &stats);
            }
            return;
        }
        for prefix in self.prefixes(kind, names) {
            for stat in stats {
                self.counts.subscription(&prefix, kind, *stat);
            }
        }
    }

    /// An update of the subscriptions to these names was accepted.
    pub(super) fn count_update<'n>(
        &self,
        kind: ResourceKind,
        names: impl Iterator<Item = &'n str> + Clone,
        update: Update<'_>,
    ) {
        let stats = [SubscriptionStat::UpdateSuccess, SubscriptionStat::UpdateAttempt];
        self.count_names(kind, names.clone(), &stats);
        let readouts = self.options.registry.readouts();
        let version: Arc<str> = update.version.into();
        let now_ms = tidegate_io::Now::read().unix_us / 1_000;
        let took_ms = update.took.as_millis() as u64;
        for prefix in self.prefixes(kind, names) {
            readouts.update(&prefix, |it| {
                it.version = version.clone();
                it.update_time_ms = now_ms;
                it.durations.record(took_ms);
                if let Some(at) = it.reload_time_ms.as_mut().filter(|_| update.changed) {
                    *at = now_ms;
                }
            });
            if update.changed {
                self.counts.config_reload(&prefix, kind);
            }
        }
    }

    /// What the stats of the subscriptions to these names begin with.
    fn prefixes<'n>(
        &self,
        kind: ResourceKind,
        names: impl Iterator<Item = &'n str>,
    ) -> Vec<String> {
        let Discovery { base, dynamic, .. } = &self.discovery;
        match kind {
            ResourceKind::Cluster => vec!["cluster_manager.cds".to_owned()],
            ResourceKind::Listener => vec!["listener_manager.lds".to_owned()],
            ResourceKind::Runtime => vec!["runtime".to_owned()],
            ResourceKind::Secret => names.map(|name| format!("sds.{name}")).collect(),
            ResourceKind::RouteConfiguration => {
                let names: HashSet<&str> = names.collect();
                let found = dynamic.managers(base).flat_map(|manager| {
                    let own = manager.rds.iter().map(|rds| rds.name.as_str());
                    let scoped = manager.scoped_routes.iter();
                    let all = own.chain(scoped.flat_map(|it| dynamic.scope_routes(&it.source)));
                    let asked: BTreeSet<&str> = all.filter(|name| names.contains(name)).collect();
                    let prefix = |name| format!("http.{}.rds.{name}", manager.stat_prefix);
                    asked.into_iter().map(prefix).collect::<Vec<_>>()
                });
                found.collect()
            }
            ResourceKind::ClusterLoadAssignment => {
                let clusters = dynamic.clusters_with(base, &names.collect::<Vec<_>>());
                clusters.iter().map(|cluster| format!("cluster.{}", cluster.stat_name)).collect()
            }
            ResourceKind::ScopedRouteConfiguration => {
                let found = dynamic.managers(base).filter_map(|manager| {
                    let scoped = manager.scoped_routes.as_ref()?;
                    let is_sent = matches!(scoped.source, ScopeSource::Server(_));
                    let prefix = format!("http.{}.scoped_rds.{}", manager.stat_prefix, scoped.name);
                    is_sent.then_some(prefix)
                });
                found.collect()
            }
            // Their names begin with that of their routes.
            ResourceKind::VirtualHost => {
                let of = names.filter_map(|name| name.rsplit_once('/')).map(|(of, _)| of);
                let of: HashSet<&str> = of.collect();
                let found = dynamic.managers(base).filter_map(|manager| {
                    let name = &manager.rds.as_ref()?.name;
                    let is_meant = of.is_empty() || of.contains(name.as_str());
                    let is_meant = is_meant && dynamic.asks_for_virtual_hosts(name);
                    is_meant.then(|| format!("http.{}.rds.vhds.{name}", manager.stat_prefix))
                });
                found.collect()
            }
        }
    }

    /// What was not wanted before is asked for, and waited for; stats of what is not wanted any
    /// longer go.
    pub(super) fn note_asked(&mut self, wants: &[Want]) {
        let asked = AskedFor::of(wants);
        let before = std::mem::replace(&mut self.discovery.asked, asked);
        let mut new: BTreeMap<ResourceKind, Vec<&str>> = BTreeMap::new();
        for want in wants.iter().filter(|want| !before.has(want)) {
            new.entry(want.kind).or_default().extend(want.name.as_deref());
            if let Some(timeout) = want.source.initial_fetch_timeout {
                let wanted = (want.kind, want.name.clone());
                self.discovery.wait_until(self.now() + timeout, wanted);
            }
            self.show_subscription(want);
        }
        let Discovery { asked, shown, .. } = &mut self.discovery;
        for gone in before.without(asked) {
            let prefixes = shown.remove(&gone);
            // All layers have one prefix.
            let is_shared = gone.0 == ResourceKind::Runtime
                && asked.names(ResourceKind::Runtime).next().is_some();
            for prefix in prefixes.into_iter().flatten().filter(|_| !is_shared) {
                self.counts.hide_subscription(&prefix);
            }
        }
        for (kind, names) in new {
            self.count_names(kind, names.into_iter(), &[SubscriptionStat::UpdateAttempt]);
        }
    }

    /// Shows the stats of a subscription, with zeros.
    fn show_subscription(&mut self, want: &Want) {
        let prefixes = self.prefixes(want.kind, want.name.as_deref().into_iter());
        let stream = self.discovery.xds.stream_of(want);
        let readouts = self.options.registry.readouts();
        for prefix in &prefixes {
            let reloads = has_reloads(want.kind);
            readouts.update(prefix, |it| it.reload_time_ms = reloads.then_some(0));
            if let Some(state) = &stream {
                readouts.set_control_plane(prefix, state);
            }
        }
        // Those of an assignment go with its cluster.
        if want.kind != ResourceKind::ClusterLoadAssignment {
            self.discovery.shown.insert((want.kind, want.name.clone()), prefixes);
        }
    }
}

/// Whether Envoy counts how often what came was another thing than before.
pub(super) fn has_reloads(kind: ResourceKind) -> bool {
    matches!(
        kind,
        ResourceKind::Cluster
            | ResourceKind::RouteConfiguration
            | ResourceKind::ScopedRouteConfiguration
            | ResourceKind::VirtualHost
    )
}

/// Assignments are counted with their clusters.
fn of_assignment(stat: SubscriptionStat) -> MembershipStat {
    match stat {
        SubscriptionStat::UpdateAttempt => MembershipStat::UpdateAttempt,
        SubscriptionStat::UpdateSuccess => MembershipStat::UpdateSuccess,
        SubscriptionStat::UpdateFailure => MembershipStat::UpdateFailure,
        SubscriptionStat::UpdateRejected => MembershipStat::UpdateRejected,
        SubscriptionStat::InitFetchTimeout => MembershipStat::InitFetchTimeout,
    }
}
