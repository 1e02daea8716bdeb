//! What is configured, what of it is warm, and the snapshot that follows. Pure: events and `now` in,
//! actions out; it opens nothing, asks nobody and reads no clock.
//!
//! An update (a file that was read) is one transaction. Its clusters warm while the old generation
//! serves; when all of them are warm, or [`WARMING_MAX`] has passed, the whole new generation takes
//! over in one snapshot. So no request sees half of an update, or a route to a cluster that is not
//! there yet.
//!
//! What it leaves to others: sockets (`listeners`), lookups (`dns`), carrying actions out (`control`).

use super::build::{self, Prepared};
use super::changes::Changes;
use super::identity::{Identities, ListenerKey};
use super::names::{Answer, Change, DnsName, Names, Refresh};
use crate::config::{self, Address, Discovery};
use crate::log::{Component, Level};
use crate::snapshot::{ClusterEntry, ClusterTable, ListenerEntry, ListenerSockets, Snapshot};
use crate::stats::Registry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tidegate_io::Instant;

/// How long an update waits for its clusters. Lookups end sooner by themselves; this is the bound that holds
/// when one does not.
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
    /// They were stopped by the operator; the process goes on.
    Stopped,
    /// The process is going down.
    Draining,
}

/// A whole configuration that is warm.
#[derive(Debug, Default)]
struct Generation {
    listeners: Vec<Arc<ListenerEntry>>,
    /// In the order of the configuration.
    clusters: Vec<Arc<ClusterEntry>>,
}

/// A whole configuration that waits for its clusters.
#[derive(Debug)]
struct Pending {
    listeners: Vec<Arc<ListenerEntry>>,
    clusters: Vec<Arc<config::Cluster>>,
    deadline: Instant,
}

/// Everything that is configured.
#[derive(Debug)]
pub struct Resources {
    registry: Arc<Registry>,
    identities: Identities,
    names: Names,
    active: Generation,
    pending: Option<Pending>,
    accepting: Accepting,
    version: u64,
    /// The published snapshot is not the one that `active` makes.
    stale: bool,
    actions: VecDeque<Action>,
}

impl Resources {
    /// Nothing configured yet.
    #[must_use]
    pub fn new(registry: Arc<Registry>) -> Resources {
        Resources {
            registry,
            identities: Identities::default(),
            names: Names::default(),
            active: Generation::default(),
            pending: None,
            accepting: Accepting::Yes,
            version: 0,
            stale: false,
            actions: VecDeque::new(),
        }
    }

    /// The sockets that are open now, of the active and of a waiting configuration. An update uses these for
    /// listeners that it keeps.
    #[must_use]
    pub fn sockets(&self) -> HashMap<ListenerKey, Arc<ListenerSockets>> {
        let pending = self.pending.iter().flat_map(|pending| &pending.listeners);
        let open = self.active.listeners.iter().chain(pending);
        open.map(|entry| (ListenerKey::of(&entry.config), entry.sockets.clone())).collect()
    }

    /// Starts an update, replacing one that still waits, and says what it will change.
    pub fn handle_update(&mut self, prepared: &Prepared, now: Instant) -> Changes {
        let changes = Changes::between(
            (self.active.clusters.iter().map(|entry| &entry.config), &prepared.bootstrap.clusters),
            (self.active.listeners.iter().map(|entry| &entry.config), &prepared.bootstrap.listeners),
        );
        let clusters = prepared.bootstrap.clusters.iter().map(|config| self.known(config)).collect();
        let listeners = build::listeners(
            prepared,
            &self.active.listeners,
            &mut self.identities,
            &self.registry,
        );
        self.pending = Some(Pending { listeners, clusters, deadline: now + WARMING_MAX });
        self.want_names(now);
        self.advance(now);
        changes
    }

    /// Takes the answer of a lookup.
    pub fn handle_answer(&mut self, name: &DnsName, answer: Answer, now: Instant) {
        match self.names.handle_answer(name, answer, now) {
            Change::Nothing => {}
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

    /// Does what is due: lookups, and the end of waiting.
    pub fn handle_timeout(&mut self, now: Instant) {
        for name in self.names.poll_due(now) {
            self.actions.push_back(Action::Resolve(name));
        }
        self.advance(now);
    }

    /// Stops listeners for good; the process goes on.
    pub fn stop_listeners(&mut self) {
        if self.accepting == Accepting::Yes {
            self.accepting = Accepting::Stopped;
            self.stale = true;
        }
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

    /// The next thing to do. A snapshot comes last, so that events handled together make one snapshot.
    pub fn poll_action(&mut self) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if !std::mem::take(&mut self.stale) {
            return None;
        }
        self.version += 1;
        let listeners = match self.accepting {
            Accepting::Stopped => Vec::new(),
            Accepting::Yes | Accepting::Draining => self.active.listeners.clone(),
        };
        Some(Action::Publish(Snapshot {
            version: self.version,
            listeners,
            clusters: ClusterTable::new(self.active.clusters.iter().cloned()),
            draining: self.accepting == Accepting::Draining,
        }))
    }

    /// How many clusters of a waiting update are not warm yet.
    #[must_use]
    pub fn warming(&self) -> usize {
        let clusters = self.pending.iter().flat_map(|pending| &pending.clusters);
        clusters.filter(|config| !self.warm(config)).count()
    }

    /// The same configuration that is active already, if it is equal: so that entries stay shared.
    fn known(&self, config: &Arc<config::Cluster>) -> Arc<config::Cluster> {
        let same = self.active.clusters.iter().find(|entry| entry.config == *config);
        same.map_or_else(|| config.clone(), |entry| entry.config.clone())
    }

    fn want_names(&mut self, now: Instant) {
        let active = self.active.clusters.iter().map(|entry| &entry.config);
        let pending = self.pending.iter().flat_map(|pending| &pending.clusters);
        let mut wanted: BTreeMap<DnsName, Refresh> = BTreeMap::new();
        for (name, refresh) in active.chain(pending).flat_map(|config| names_of(config)) {
            let entry = wanted.entry(name).or_insert(refresh);
            entry.rate = entry.rate.min(refresh.rate);
            // One cluster that wants the fixed rate gets it; the others lose nothing.
            entry.respect_ttl &= refresh.respect_ttl;
        }
        self.names.set_wanted(wanted, now);
        for name in self.names.poll_due(now) {
            self.actions.push_back(Action::Resolve(name));
        }
    }

    fn warm(&self, config: &config::Cluster) -> bool {
        names_of(config).all(|(name, _)| self.names.answered(&name))
    }

    /// Lets the waiting update take over if it can.
    fn advance(&mut self, now: Instant) {
        let Some(pending) = &self.pending else { return };
        let cold: Vec<_> = pending.clusters.iter().filter(|config| !self.warm(config)).collect();
        if !cold.is_empty() {
            if now < pending.deadline {
                return;
            }
            let names: Vec<_> = cold.iter().map(|config| config.name.as_str()).collect();
            let text = format!(
                "not waiting any longer for the first lookups of {}; {} until they end",
                names.join(", "),
                "requests for them get 503"
            );
            self.log(Level::Warning, Component::Upstream, text);
        }
        let Some(pending) = self.pending.take() else { return };
        let mut clusters = Vec::with_capacity(pending.clusters.len());
        let old: HashMap<&str, &Arc<ClusterEntry>> =
            self.active.clusters.iter().map(|entry| (entry.config.name.as_str(), entry)).collect();
        for config in &pending.clusters {
            let previous = old.get(config.name.as_str()).copied();
            clusters.push(build::cluster(
                config,
                previous,
                &self.names,
                &mut self.identities,
                &self.registry,
            ));
        }
        self.active = Generation { listeners: pending.listeners, clusters };
        self.stale = true;
        self.want_names(now);
    }

    /// Gives the clusters that use `name` its new addresses.
    fn refresh_endpoints(&mut self, name: &DnsName) {
        for index in 0..self.active.clusters.len() {
            let entry = &self.active.clusters[index];
            if !names_of(&entry.config).any(|(used, _)| used == *name) {
                continue;
            }
            let config = entry.config.clone();
            let previous = entry.clone();
            let new = build::cluster(
                &config,
                Some(&previous),
                &self.names,
                &mut self.identities,
                &self.registry,
            );
            if Arc::ptr_eq(&new, &previous) {
                continue;
            }
            let (before, after) = (previous.endpoints.hosts.len(), new.endpoints.hosts.len());
            let text = format!("cluster `{}`: {before} hosts become {after}", config.name);
            self.log(Level::Info, Component::Upstream, text);
            self.active.clusters[index] = new;
            self.stale = true;
        }
    }

    fn tell_failure(&mut self, name: &DnsName, reason: &str) {
        let pending = self.pending.iter().flat_map(|pending| pending.clusters.iter());
        let active = self.active.clusters.iter().map(|entry| &entry.config);
        let mut clusters: Vec<_> = active
            .chain(pending)
            .filter(|config| names_of(config).any(|(used, _)| used == *name))
            .map(|config| config.name.as_str())
            .collect();
        clusters.sort_unstable();
        clusters.dedup();
        let consequence = match self.names.addresses(name).len() {
            0 => "there is no address to send requests to, they get 503 until it resolves",
            _ => "the addresses known before stay in use",
        };
        let text = format!(
            "cannot resolve `{}` of cluster {}: {reason}; {consequence}",
            name.host,
            clusters.join(", ")
        );
        self.log(Level::Warning, Component::Dns, text);
    }

    fn log(&mut self, level: Level, component: Component, text: String) {
        self.actions.push_back(Action::Log(level, component, text));
    }
}

/// The names that a cluster's endpoints have.
fn names_of(config: &config::Cluster) -> impl Iterator<Item = (DnsName, Refresh)> {
    let (family, refresh) = match &config.discovery {
        Discovery::Static => (None, None),
        Discovery::StrictDns { refresh_rate, respect_ttl, family } => {
            (Some(*family), Some(Refresh { rate: *refresh_rate, respect_ttl: *respect_ttl }))
        }
    };
    config.load_assignment.endpoints.iter().filter_map(move |endpoint| match &endpoint.address {
        Address::Name { host, .. } => {
            Some((DnsName { host: host.clone(), family: family? }, refresh?))
        }
        Address::Socket(_) => None,
    })
}
