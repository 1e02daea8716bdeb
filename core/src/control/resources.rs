//! What is configured, what of it is warm, and the snapshot that follows. Pure: events and `now`
//! in, actions out; it opens nothing, asks nobody and reads no clock.
//!
//! An update (a file that was read) is one transaction. Its clusters warm while the old generation
//! serves; when all of them are warm, or [`WARMING_MAX`] has passed, the whole new generation takes
//! over in one snapshot. So no request sees half of an update, or a route to a cluster that is not
//! there yet.
//!
//! What it leaves to others: sockets (`listeners`), lookups (`dns`), carrying actions out
//! (`control`).

use super::build::{self, Prepared};
use super::changes::{Changes, same};
use super::counts::Counts;
use super::identity::{Identities, ListenerKey};
use super::members::{Users, by_name, changed_priorities, names_of, users_of};
use super::names::{Answer, Change, DnsName, Names, Refresh};
use super::pending::{Clients, Pending};
use super::tls::{TlsContexts, chain_key};
use crate::config;
use crate::log::{Component, Level};
use crate::snapshot::{
    Closing, ClusterEntry, ClusterTable, ListenerEntry, ListenerSockets, Snapshot,
};
use crate::stats::Registry;
use crate::transport::ClientContext;
use foldhash::HashSet;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tidegate_io::Instant;

/// How long an update waits for its clusters. Lookups end sooner by themselves; this is the bound
/// that holds when one does not.
pub const WARMING_MAX: Duration = Duration::from_secs(15);

/// Something for the control thread to do.
#[derive(Debug)]
pub enum Action {
    /// Look this name up and bring the answer back.
    Resolve(DnsName),
    /// Log a line.
    Log(Level, Component, String),
    /// Publish this snapshot and wake the shards.
    Publish(Snapshot),
}

/// Whether listeners accept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Accepting {
    /// They do.
    Yes,
    /// The inbound ones were stopped by the operator.
    OutboundOnly,
    /// They were stopped by the operator; the process goes on.
    Stopped,
    /// The process is going down.
    Draining,
}

impl Accepting {
    fn takes(self, listener: &config::Listener) -> bool {
        match self {
            Accepting::Yes => true,
            Accepting::OutboundOnly => !listener.inbound,
            Accepting::Stopped | Accepting::Draining => false,
        }
    }
}

/// A whole configuration that is warm.
#[derive(Debug, Default)]
struct Generation {
    listeners: Vec<Arc<ListenerEntry>>,
    /// In the order of the configuration.
    clusters: Vec<Arc<ClusterEntry>>,
    /// The same by number, as snapshots have it: pages that did not change are shared with the
    /// snapshot before.
    table: ClusterTable,
    users: Users,
    tls: Clients,
}

/// Everything that is configured.
#[derive(Debug)]
pub struct Resources {
    registry: Arc<Registry>,
    counts: Counts,
    identities: Identities,
    names: Names,
    active: Generation,
    pending: Option<Pending>,
    accepting: Accepting,
    /// Connections that close after their next response, because the operator wants it.
    drained: Closing,
    /// Health checks are to fail.
    failing: bool,
    version: u64,
    /// The published snapshot is not the one that `active` makes.
    stale: bool,
    actions: VecDeque<Action>,
}

impl Resources {
    /// Nothing configured yet.
    #[must_use]
    ///
    /// The seed makes processes look names up at different times.
    pub fn new(registry: Arc<Registry>, seed: u64) -> Resources {
        Resources {
            counts: Counts::new(registry.clone()),
            registry,
            identities: Identities::default(),
            names: Names::new(seed),
            active: Generation::default(),
            pending: None,
            accepting: Accepting::Yes,
            drained: Closing::None,
            failing: false,
            version: 0,
            stale: false,
            actions: VecDeque::new(),
        }
    }

    /// The sockets that are open now, of the active and of a waiting configuration. An update uses
    /// these for listeners that it keeps.
    #[must_use]
    pub fn sockets(&self) -> HashMap<ListenerKey, Arc<ListenerSockets>> {
        let pending = self.pending.iter().flat_map(|pending| &pending.listeners);
        let open = self.active.listeners.iter().chain(pending);
        open.map(|entry| (ListenerKey::of(&entry.config), entry.sockets.clone())).collect()
    }

    /// Starts an update, replacing one that still waits, and says what it will change.
    pub fn handle_update(&mut self, prepared: &Prepared, now: Instant) -> Changes {
        let bootstrap = &prepared.bootstrap;
        let changes = Changes::between(
            (self.active.clusters.iter().map(|entry| &entry.config), &bootstrap.clusters),
            (self.active.listeners.iter().map(|entry| &entry.config), &bootstrap.listeners),
        );
        self.counts.update(&changes);
        let clusters = self.shared(&bootstrap.clusters);
        let active = &self.active.listeners;
        let listeners = match self.accepting {
            Accepting::Yes | Accepting::OutboundOnly => {
                build::listeners(prepared, active, &mut self.identities, &self.registry)
            }
            Accepting::Stopped | Accepting::Draining => Vec::new(),
        };
        let users = users_of(&clusters);
        let cold: BTreeSet<DnsName> = clusters
            .iter()
            .filter(|config| config.discovery.dns().is_some_and(|dns| dns.waits_for_warm))
            .flat_map(|config| names_of(config).map(|(name, _)| name))
            .filter(|name| !self.names.answered(name))
            .collect();
        // A name that does not resolve must not hold up one update after the other.
        let before = self.pending.as_ref().filter(|before| !before.cold.is_disjoint(&cold));
        let deadline = before.map_or(now + WARMING_MAX, |before| before.deadline);
        let tls = prepared.tls.clients.clone();
        self.pending = Some(Pending { listeners, clusters, users, tls, cold, deadline });
        self.want_names(now);
        self.advance(now);
        changes
    }

    /// Takes the answer of a lookup.
    pub fn handle_answer(&mut self, name: &DnsName, answer: Answer, now: Instant) {
        if let Some(pending) = &mut self.pending {
            pending.cold.remove(name);
        }
        let failed = matches!(answer, Answer::Failed(_));
        let change = self.names.handle_answer(name, answer, now);
        for &index in self.active.users.get(name).map_or(&[][..], Vec::as_slice) {
            let empty = self.names.addresses(name).is_empty();
            self.counts.answer(&self.active.clusters[index].config, failed, empty, &change);
        }
        match change {
            Change::Nothing => {}
            Change::Order => self.refresh_endpoints(name),
            Change::Addresses { recovered } => {
                if recovered {
                    let text = format!("`{}` resolves again", name.host);
                    self.log(Level::Info, Component::Dns, text);
                }
                self.refresh_endpoints(name);
            }
            Change::Failed(reason) => self.tell_failure(name, &reason),
        }
        self.advance(now);
    }

    /// Clusters that serve have other endpoints; all else of them is as it was.
    pub fn handle_assignments(&mut self, clusters: &[Arc<config::Cluster>]) {
        for config in clusters {
            let pending = self.pending.iter_mut().flat_map(|pending| &mut pending.clusters);
            for waiting in pending.filter(|waiting| waiting.name == config.name) {
                *waiting = config.clone();
            }
            let mut active = self.active.clusters.iter();
            if let Some(index) = active.position(|entry| entry.config.name == config.name) {
                self.replace_cluster(index, config);
            }
        }
    }

    /// Certificates and the like have changed: new handshakes use these contexts. All else stays.
    pub fn handle_tls(&mut self, renewed: &TlsContexts) {
        let pending = self.pending.iter_mut().flat_map(|pending| &mut pending.listeners);
        for entry in self.active.listeners.iter_mut().chain(pending) {
            let context = |place| {
                let context = renewed.servers.get(&chain_key(&entry.config, place));
                let asked = entry.config.chain(place).and_then(|chain| chain.tls.as_ref());
                // A listener of this name can be asked for differently before and after an update.
                context.filter(|it| Some(&it.material.config) == asked).cloned()
            };
            if (0..entry.chains.len()).any(|place| context(place).is_some()) {
                *entry = build::with_contexts(entry, context);
            }
        }
        let clients = || renewed.clients.iter().map(|(name, it)| (name.clone(), it.clone()));
        if let Some(pending) = &mut self.pending {
            pending.tls.extend(clients());
        }
        self.active.tls.extend(clients());
        for index in 0..self.active.clusters.len() {
            let previous = self.active.clusters[index].clone();
            let context = renewed.clients.get(&previous.config.name);
            let asked = previous.config.tls.as_ref();
            let Some(context) = context.filter(|it| Some(&it.material.config) == asked) else {
                continue;
            };
            let new = self.cluster(&previous.config, Some(&previous), Some(context));
            self.active.table.insert(new.clone());
            self.active.clusters[index] = new;
        }
        self.stale = true;
    }

    /// Does what is due: lookups, and the end of waiting.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.resolve_due(now);
        self.advance(now);
    }

    /// Stops listeners, or the inbound ones, for good; the process goes on. Answers how many.
    pub fn stop_listeners(&mut self, inbound_only: bool) -> usize {
        match (self.accepting, inbound_only) {
            (Accepting::Yes, true) => self.accepting = Accepting::OutboundOnly,
            (Accepting::Yes | Accepting::OutboundOnly, false) => {
                self.accepting = Accepting::Stopped;
            }
            _ => return 0,
        }
        let accepting = self.accepting;
        let before = self.sockets().len();
        self.active.listeners.retain(|entry| accepting.takes(&entry.config));
        if let Some(pending) = &mut self.pending {
            pending.listeners.retain(|entry| accepting.takes(&entry.config));
        }
        self.stale = true;
        before - self.sockets().len()
    }

    /// Whether a listener of an update is wanted: not after it was stopped.
    #[must_use]
    pub fn accepts(&self, listener: &config::Listener) -> bool {
        self.accepting.takes(listener)
    }

    /// From now on connections, or the inbound ones, close after their next response.
    pub fn close_connections(&mut self, inbound_only: bool) {
        self.drained = match inbound_only {
            true => self.drained.max(Closing::Inbound),
            false => Closing::All,
        };
        self.stale = true;
    }

    /// The same while health checks are to fail.
    pub fn fail(&mut self, failing: bool) {
        self.stale |= self.failing != failing;
        self.failing = failing;
    }

    /// The clusters that a waiting update waits for.
    #[must_use]
    pub fn warming_names(&self) -> Vec<String> {
        let cold = self.pending.iter().flat_map(Pending::cold_clusters);
        cold.map(|config| config.name.clone()).collect()
    }

    /// Begins the end: shards stop accepting and finish what runs.
    pub fn drain(&mut self) {
        self.accepting = Accepting::Draining;
        self.stale = true;
    }

    /// When [`Resources::handle_timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.pending.as_ref().map(|pending| pending.deadline);
        [deadline, self.names.poll_timeout()].into_iter().flatten().min()
    }

    /// The next thing to do. A snapshot comes last, so that events handled together make one
    /// snapshot.
    pub fn poll_action(&mut self) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if !std::mem::take(&mut self.stale) {
            return None;
        }
        self.version += 1;
        let listeners = self.active.listeners.clone();
        self.counts.snapshot(self.active.clusters.len(), listeners.len(), self.warming());
        Some(Action::Publish(Snapshot {
            version: self.version,
            listeners,
            clusters: self.active.table.clone(),
            draining: self.accepting == Accepting::Draining,
            closing: if self.failing { Closing::All } else { self.drained },
            drain_time: None,
        }))
    }

    /// How many clusters of a waiting update are not warm yet.
    #[must_use]
    pub fn warming(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.cold_clusters().count())
    }

    /// The configurations with those that are equal to an active one replaced by it, so that
    /// entries stay shared.
    fn shared(&self, clusters: &[Arc<config::Cluster>]) -> Vec<Arc<config::Cluster>> {
        let active = by_name(&self.active.clusters);
        let share = |config: &Arc<config::Cluster>| match active.get(config.name.as_str()) {
            Some(entry) if same(&entry.config, config) => entry.config.clone(),
            _ => config.clone(),
        };
        clusters.iter().map(share).collect()
    }

    /// Keeps looking up what the active and the waiting configuration use, and nothing else.
    fn want_names(&mut self, now: Instant) {
        let active = self.active.clusters.iter().map(|entry| &entry.config);
        let pending = self.pending.iter().flat_map(|pending| &pending.clusters);
        let mut wanted: BTreeMap<DnsName, Refresh> = BTreeMap::new();
        for (name, refresh) in active.chain(pending).flat_map(|config| names_of(config)) {
            let entry = wanted.entry(name).or_insert(refresh);
            *entry = entry.both(refresh);
        }
        self.names.set_wanted(wanted, now);
        self.resolve_due(now);
    }

    fn resolve_due(&mut self, now: Instant) {
        for name in self.names.poll_due(now) {
            for &index in self.active.users.get(&name).map_or(&[][..], Vec::as_slice) {
                self.counts.attempt(&self.active.clusters[index].config);
            }
            self.actions.push_back(Action::Resolve(name));
        }
    }

    /// Lets the waiting update take over if it can.
    fn advance(&mut self, now: Instant) {
        let ready = |pending: &Pending| pending.cold.is_empty() || now >= pending.deadline;
        if !self.pending.as_ref().is_some_and(ready) {
            return;
        }
        let Some(pending) = self.pending.take() else { return };
        if !pending.cold.is_empty() {
            let names: Vec<_> = pending.cold_clusters().map(|c| c.name.as_str()).collect();
            let text = format!(
                "not waiting any longer for the first lookups of cluster {}; without addresses, \
                 requests get 503",
                names.join(", ")
            );
            self.log(Level::Warning, Component::Upstream, text);
        }
        let old = std::mem::take(&mut self.active);
        let mut table = old.table.clone();
        let before = by_name(&old.clusters);
        let mut clusters = Vec::with_capacity(pending.clusters.len());
        for config in &pending.clusters {
            let previous = before.get(config.name.as_str()).copied();
            let new = self.cluster(config, previous, pending.tls.get(&config.name));
            if previous.is_none_or(|entry| !Arc::ptr_eq(entry, &new)) {
                self.counts.members(&new, changed_priorities(previous, &new));
                table.insert(new.clone());
            }
            clusters.push(new);
        }
        let kept: HashSet<_> = clusters.iter().map(|entry| entry.id).collect();
        for gone in old.clusters.iter().filter(|entry| !kept.contains(&entry.id)) {
            table.remove(gone.id);
        }
        for gone in &old.listeners {
            if !pending.listeners.iter().any(|entry| entry.id == gone.id) {
                self.identities.forget_listener(&ListenerKey::of(&gone.config));
            }
        }
        let Pending { listeners, users, tls, .. } = pending;
        self.active = Generation { listeners, clusters, table, users, tls };
        self.counts.hide_gone(
            (&old.clusters, &old.listeners),
            (&self.active.clusters, &self.active.listeners),
        );
        self.stale = true;
        self.want_names(now);
    }

    fn cluster(
        &mut self,
        config: &Arc<config::Cluster>,
        previous: Option<&Arc<ClusterEntry>>,
        tls: Option<&Arc<ClientContext>>,
    ) -> Arc<ClusterEntry> {
        build::cluster(config, previous, tls, &self.names, &mut self.identities, &self.registry)
    }

    /// Gives the clusters that use `name` its new addresses.
    fn refresh_endpoints(&mut self, name: &DnsName) {
        let users = self.active.users.get(name).cloned().unwrap_or_default();
        for index in users {
            let config = self.active.clusters[index].config.clone();
            self.replace_cluster(index, &config);
        }
    }

    /// Makes the entry of an active cluster anew.
    fn replace_cluster(&mut self, index: usize, config: &Arc<config::Cluster>) {
        let previous = self.active.clusters[index].clone();
        let new = self.cluster(config, Some(&previous), previous.tls.as_ref());
        if Arc::ptr_eq(&new, &previous) {
            return;
        }
        let changed = changed_priorities(Some(&previous), &new);
        // A logical host whose address changed is the same host.
        if changed > 0 {
            let (before, after) = (previous.endpoints.hosts.len(), new.endpoints.hosts.len());
            if config.discovery.dns().is_some() {
                let text = format!("cluster `{}`: {before} hosts become {after}", new.config.name);
                self.log(Level::Info, Component::Upstream, text);
            }
            self.counts.members(&new, changed);
        }
        self.active.table.insert(new.clone());
        self.active.clusters[index] = new;
        self.stale = true;
    }

    fn tell_failure(&mut self, name: &DnsName, reason: &str) {
        let indices = |users: &Users| users.get(name).cloned().unwrap_or_default().into_iter();
        let pending = self.pending.iter().flat_map(|pending| {
            indices(&pending.users).map(|index| pending.clusters[index].name.as_str())
        });
        let active = indices(&self.active.users)
            .map(|index| self.active.clusters[index].config.name.as_str());
        let clusters: BTreeSet<_> = active.chain(pending).collect();
        let consequence = match self.names.addresses(name).len() {
            0 => "without an address, requests get 503 until it resolves",
            _ => "the addresses known before stay in use",
        };
        let text = format!(
            "cannot resolve `{}` of cluster {}: {reason}; {consequence}",
            name.host,
            Vec::from_iter(clusters).join(", ")
        );
        self.log(Level::Warning, Component::Dns, text);
    }

    fn log(&mut self, level: Level, component: Component, text: String) {
        self.actions.push_back(Action::Log(level, component, text));
    }
}
