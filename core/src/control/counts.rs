//! Counts what the control thread does, into its own cells of the stats.
//!
//! What it leaves to others: the names (`stats`), and when things happen (`resources`).

use super::changes::Changes;
use super::names::Change;
use super::stats::{
    AccessLogStat, ClusterManagerStat, ConfigReloadStat, GrpcAccessLogStat, KeyRotationStat,
    ListenerManagerStat, MembershipStat, ReloadStat, RouteReloadStat, RuntimeStat,
    SubscriptionStat,
};
use crate::config::{self, Availability, ResourceKind};
use crate::snapshot::{ClusterEntry, FilterEntry, ListenerEntry};
use crate::stats::{Registry, Scope, ShardStats};
use foldhash::HashSet;
use std::sync::Arc;

/// The control thread's cells.
#[derive(Debug)]
pub struct Counts {
    registry: Arc<Registry>,
    cells: Arc<ShardStats>,
    clusters: Scope,
    listeners: Scope,
}

impl Counts {
    /// Makes the scopes that are always there.
    #[must_use]
    pub fn new(registry: Arc<Registry>) -> Counts {
        // Shown from the start, with zeros.
        registry.scope("server", ReloadStat::ALL);
        Counts {
            cells: registry.control(),
            clusters: registry.scope("cluster_manager", ClusterManagerStat::ALL),
            listeners: registry.scope("listener_manager", ListenerManagerStat::ALL),
            registry,
        }
    }

    /// An update that was accepted.
    pub fn update(&self, changes: &Changes) {
        for (stat, names) in [
            (ClusterManagerStat::ClusterAdded, &changes.clusters.added),
            (ClusterManagerStat::ClusterModified, &changes.clusters.modified),
            (ClusterManagerStat::ClusterRemoved, &changes.clusters.removed),
        ] {
            self.cells.add(self.clusters, stat, names.len() as u64);
        }
        for (stat, names) in [
            (ListenerManagerStat::ListenerAdded, &changes.listeners.added),
            (ListenerManagerStat::ListenerModified, &changes.listeners.modified),
            (ListenerManagerStat::ListenerRemoved, &changes.listeners.removed),
        ] {
            self.cells.add(self.listeners, stat, names.len() as u64);
        }
    }

    /// A lookup for a cluster was started.
    pub fn attempt(&self, cluster: &config::Cluster) {
        self.cells.inc(self.membership(cluster), MembershipStat::UpdateAttempt);
    }

    /// A lookup for a cluster has ended, and what that changed.
    pub fn answer(&self, cluster: &config::Cluster, failed: bool, empty: bool, change: &Change) {
        let scope = self.membership(cluster);
        if failed {
            self.cells.inc(scope, MembershipStat::UpdateFailure);
            return;
        }
        self.cells.inc(scope, MembershipStat::UpdateSuccess);
        if empty {
            self.cells.inc(scope, MembershipStat::UpdateEmpty);
        }
        if matches!(change, Change::Nothing | Change::Order) {
            self.cells.inc(scope, MembershipStat::UpdateNoRebuild);
        }
    }

    /// A snapshot is about to be published.
    pub fn snapshot(&self, clusters: usize, listeners: usize, warming: usize) {
        let set = |stat, count: usize| self.cells.set(self.clusters, stat, count as u64);
        set(ClusterManagerStat::ActiveClusters, clusters);
        set(ClusterManagerStat::WarmingClusters, warming);
        let active = ListenerManagerStat::TotalListenersActive;
        self.cells.set(self.listeners, active, listeners as u64);
    }

    /// A cluster has come, or its hosts are others.
    pub fn members(&self, entry: &ClusterEntry, changed: u64) {
        let scope = self.membership(&entry.config);
        self.cells.add(scope, MembershipStat::MembershipChange, changed);
        let hosts = &entry.endpoints.hosts;
        for (stat, count) in [
            (MembershipStat::MembershipTotal, hosts.len() as u64),
            (MembershipStat::MembershipHealthy, hosts.count(Availability::Healthy)),
            (MembershipStat::MembershipDegraded, hosts.count(Availability::Degraded)),
            (MembershipStat::MembershipExcluded, hosts.count(Availability::Excluded)),
            (MembershipStat::WarmingState, 0),
        ] {
            self.cells.set(scope, stat, count);
        }
    }

    /// All shards run.
    pub fn workers_started(&self) {
        self.cells.set(self.listeners, ListenerManagerStat::WorkersStarted, 1);
    }

    /// Listeners were stopped for good.
    pub fn listeners_stopped(&self, count: usize) {
        let stat = ListenerManagerStat::ListenerStopped;
        self.cells.add(self.listeners, stat, count as u64);
    }

    /// A configuration was read again, and was taken or refused.
    pub fn reload(&self, taken: bool) {
        let stat = if taken { ReloadStat::ReloadSuccess } else { ReloadStat::ReloadFailure };
        self.cells.inc(self.registry.scope("server", ReloadStat::ALL), stat);
    }

    /// Lines of access logs that were dropped, and that could not be written, since the start.
    pub fn access_logs(&self, (dropped, failed): (u64, u64)) {
        let scope = self.registry.scope("access_log", AccessLogStat::ALL);
        self.cells.set(scope, AccessLogStat::LinesDropped, dropped);
        self.cells.set(scope, AccessLogStat::LinesFailed, failed);
    }

    /// Entries that gRPC services of access logs were sent, and that were dropped, since the start.
    pub fn log_entries(&self, (written, dropped): (u64, u64)) {
        if (written, dropped) == (0, 0) {
            return;
        }
        let scope = self.registry.scope("access_logs.grpc_access_log", GrpcAccessLogStat::ALL);
        self.cells.set(scope, GrpcAccessLogStat::LogsWritten, written);
        self.cells.set(scope, GrpcAccessLogStat::LogsDropped, dropped);
    }

    /// Something has become of a subscription.
    pub fn subscription(&self, prefix: &str, kind: ResourceKind, stat: SubscriptionStat) {
        self.cells.inc(self.registry.control_scope(prefix, SubscriptionStat::ALL), stat);
        let of_kind = match kind {
            ResourceKind::Cluster => ConfigReloadStat::ALL,
            ResourceKind::RouteConfiguration
            | ResourceKind::ScopedRouteConfiguration
            | ResourceKind::VirtualHost => RouteReloadStat::ALL,
            ResourceKind::Secret => KeyRotationStat::ALL,
            _ => return,
        };
        self.registry.control_scope(prefix, of_kind);
    }

    /// What a subscription brought is another thing than before.
    pub fn config_reload(&self, prefix: &str, kind: ResourceKind) {
        match kind {
            ResourceKind::Cluster => {
                let scope = self.registry.control_scope(prefix, ConfigReloadStat::ALL);
                self.cells.inc(scope, ConfigReloadStat::ConfigReload);
            }
            ResourceKind::RouteConfiguration
            | ResourceKind::ScopedRouteConfiguration
            | ResourceKind::VirtualHost => {
                let scope = self.registry.control_scope(prefix, RouteReloadStat::ALL);
                self.cells.inc(scope, RouteReloadStat::ConfigReload);
            }
            _ => {}
        }
    }

    /// Takes the stats of a subscription off the pages.
    pub fn hide_subscription(&self, prefix: &str) {
        self.registry.readouts().remove(prefix);
        // Other things of the process have this prefix, too.
        if prefix != "runtime" {
            self.registry.hide(prefix);
        }
    }

    /// The same for the assignment of a cluster.
    pub fn assignment(&self, cluster: &config::Cluster, stats: &[MembershipStat]) {
        let scope = self.membership(cluster);
        stats.iter().for_each(|stat| self.cells.inc(scope, *stat));
    }

    /// Runtime layers were read.
    pub fn runtime(&self, runtime: &config::Runtime) {
        let scope = self.registry.control_scope("runtime", RuntimeStat::ALL);
        let is_whole = runtime.unreadable == 0;
        let stat = if is_whole { RuntimeStat::LoadSuccess } else { RuntimeStat::LoadError };
        self.cells.inc(scope, stat);
        // As in Envoy, where the second directory is that of an override.
        let on_disk = runtime.layers.iter().filter(|layer| layer.is_on_disk).count();
        let stat = match on_disk > 1 {
            true => RuntimeStat::OverrideDirExists,
            false => RuntimeStat::OverrideDirNotExists,
        };
        self.cells.inc(scope, stat);
    }

    /// Listeners that could not be opened.
    pub fn listeners_refused(&self, count: usize) {
        let stat = ListenerManagerStat::ListenerCreateFailure;
        self.cells.add(self.listeners, stat, count as u64);
    }

    /// Takes the stats of clusters and listeners that are gone off the pages.
    pub fn hide_gone(
        &self,
        old: (&[Arc<ClusterEntry>], &[Arc<ListenerEntry>]),
        new: (&[Arc<ClusterEntry>], &[Arc<ListenerEntry>]),
    ) {
        let is_same = |(old, new): (&Arc<ClusterEntry>, &Arc<ClusterEntry>)| {
            Arc::ptr_eq(old, new) || old.config.stat_name == new.config.stat_name
        };
        // Mostly all of them stay: the names of thousands need not be looked at.
        let all_stay = old.0.len() <= new.0.len() && old.0.iter().zip(new.0).all(is_same);
        let (of_old, of_new) = if all_stay { (&[][..], &[][..]) } else { (old.0, new.0) };
        let kept: HashSet<String> = prefixes(of_new, new.1).collect();
        for prefix in prefixes(of_old, old.1).filter(|prefix| !kept.contains(prefix)) {
            self.registry.hide(&prefix);
            self.registry.readouts().remove(&prefix);
        }
    }

    fn membership(&self, cluster: &config::Cluster) -> Scope {
        self.registry.control_scope(&format!("cluster.{}", cluster.stat_name), MembershipStat::ALL)
    }
}

fn prefixes(
    clusters: &[Arc<ClusterEntry>],
    listeners: &[Arc<ListenerEntry>],
) -> impl Iterator<Item = String> {
    let clusters = clusters.iter().map(|entry| format!("cluster.{}", entry.config.stat_name));
    let listeners = listeners.iter().flat_map(|entry| {
        let listener = &entry.config.stat_prefix;
        let of_chains = entry.chains.iter().flat_map(move |chain| match &chain.filter {
            FilterEntry::Http(entry) => {
                let http = &entry.config.stat_prefix;
                vec![format!("listener.{listener}.http.{http}"), format!("http.{http}")]
            }
            FilterEntry::Tcp(entry) => vec![format!("tcp.{}", entry.config.stat_prefix)],
        });
        std::iter::once(format!("listener.{listener}")).chain(of_chains)
    });
    clusters.chain(listeners)
}
