//! What must serve, wait and be shown, in maps: the rules once more, without any of the sharing and
//! the order of work that make the real thing quick.
//!
//! What it leaves to others: comparing it with the real thing (`world`).

use super::steps::{Content, SECRET, Sent, Step, TLS_LISTENER};
use crate::config::ResourceKind;
use std::collections::{BTreeMap, BTreeSet};

type Map<T> = BTreeMap<String, T>;

/// How long a listener waits for a cluster, and a removed cluster stays while it is named.
const PATIENCE_S: u64 = 15;

/// A cluster that serves: its number, and the number of its assignment if it has one.
pub type Warm = (u8, Option<u8>);

/// A listener that serves: its number, and the cluster of its routes if it has any.
pub type Open = (Content, Option<String>);

/// What a page shows of a name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shown {
    /// The version that was accepted last.
    pub version: Option<String>,
    /// The version that was refused last.
    pub error: Option<String>,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    now_s: u64,
    clusters: Map<u8>,
    listeners: Map<Content>,
    /// `None`: there is none, and nobody waits for it.
    assignments: Map<Option<u8>>,
    routes: Map<Option<u8>>,
    secrets: Map<Option<u8>>,
    /// Listeners whose address somebody else has.
    broken: BTreeSet<String>,
    warm: Map<Warm>,
    leaving: Map<(Warm, u64)>,
    open: Map<Open>,
    /// The versions of listeners that were accepted, and of those that serve.
    accepted: Map<String>,
    serving: Map<String>,
    /// Until when listeners wait for clusters.
    held: Map<u64>,
    /// What waits, and for what.
    pub waiting: Map<Vec<String>>,
    /// By kind and name.
    pub shown: BTreeMap<ResourceKind, Map<Shown>>,
}

impl Expected {
    /// Clusters that can be routed to.
    pub fn clusters(&self) -> Map<Warm> {
        let leaving = self.leaving.iter().map(|(name, (cluster, _))| (name.clone(), *cluster));
        self.warm.clone().into_iter().chain(leaving).collect()
    }

    /// Listeners that accept.
    pub fn listeners(&self) -> &Map<Open> {
        &self.open
    }

    /// A step is taken.
    pub fn take(&mut self, step: &Step) {
        match step {
            Step::Response { kind, sent, removed, whole } => {
                self.respond(*kind, sent, removed, *whole);
            }
            Step::TimedOut(kind, names) => {
                names.iter().for_each(|name| self.go_without(*kind, name));
            }
            Step::Expired(kind, names) => names.iter().for_each(|name| self.expire(*kind, name)),
            Step::Disconnected => {}
            Step::Later(seconds) => self.now_s += seconds,
        }
        self.settle();
        self.forget();
    }

    fn respond(&mut self, kind: ResourceKind, sent: &[Sent], removed: &[String], whole: bool) {
        let times = |name: &str| sent.iter().filter(|one| one.name == name).count();
        let is_good = |one: &&Sent| one.content != Content::Bad && times(&one.name) == 1;
        let accepted = self.accepted.clone();
        sent.iter().filter(is_good).for_each(|one| self.insert(kind, one));
        removed.iter().for_each(|name| self.remove(kind, name));
        if whole {
            let gone = self.names(kind).into_iter().filter(|name| times(name) == 0);
            gone.collect::<Vec<_>>().iter().for_each(|name| self.remove(kind, name));
        }
        // Whether a socket can be had shows only when it is opened.
        self.settle();
        self.forget();
        for one in sent {
            let is_broken = kind == ResourceKind::Listener && self.broken.contains(&one.name);
            let shown = self.shown.entry(kind).or_default().entry(one.name.clone()).or_default();
            match is_good(&one) && !is_broken {
                true => *shown = Shown { version: Some(one.version.clone()), error: None },
                false => shown.error = Some(one.version.clone()),
            }
            if is_broken {
                self.accepted.remove(&one.name);
                let before = accepted.get(&one.name).cloned();
                self.accepted.extend(before.map(|version| (one.name.clone(), version)));
            }
        }
    }

    fn insert(&mut self, kind: ResourceKind, sent: &Sent) {
        let name = sent.name.clone();
        let number = match sent.content {
            Content::Good(number) => number,
            _ => 0,
        };
        match kind {
            ResourceKind::Cluster => drop(self.clusters.insert(name, number)),
            ResourceKind::ClusterLoadAssignment => {
                self.assignments.insert(name, Some(number));
            }
            ResourceKind::RouteConfiguration => drop(self.routes.insert(name, Some(number))),
            ResourceKind::Secret => drop(self.secrets.insert(name, Some(number))),
            _ => {
                self.accepted.insert(name.clone(), sent.version.clone());
                if self.listeners.insert(name.clone(), sent.content) != Some(sent.content) {
                    self.broken.remove(&name);
                }
            }
        }
    }

    fn remove(&mut self, kind: ResourceKind, name: &str) {
        match kind {
            ResourceKind::Cluster => drop(self.clusters.remove(name)),
            ResourceKind::Listener => {
                self.listeners.remove(name);
                self.broken.remove(name);
                self.accepted.remove(name);
                self.serving.remove(name);
            }
            // What is in use stays.
            _ => self.go_without(kind, name),
        }
    }

    fn go_without(&mut self, kind: ResourceKind, name: &str) {
        self.known(kind).entry(name.to_owned()).or_insert(None);
    }

    fn expire(&mut self, kind: ResourceKind, name: &str) {
        match kind {
            ResourceKind::ClusterLoadAssignment | ResourceKind::RouteConfiguration => {
                self.known(kind).insert(name.to_owned(), None);
            }
            _ => self.remove(kind, name),
        }
    }

    fn known(&mut self, kind: ResourceKind) -> &mut Map<Option<u8>> {
        match kind {
            ResourceKind::ClusterLoadAssignment => &mut self.assignments,
            ResourceKind::RouteConfiguration => &mut self.routes,
            _ => &mut self.secrets,
        }
    }

    fn names(&self, kind: ResourceKind) -> Vec<String> {
        match kind {
            ResourceKind::Cluster => self.clusters.keys().cloned().collect(),
            _ => self.listeners.keys().cloned().collect(),
        }
    }

    /// Everything that is complete serves; what was complete before serves until then.
    fn settle(&mut self) {
        self.waiting.clear();
        let before = std::mem::take(&mut self.warm);
        for (name, number) in &self.clusters {
            let warm = match self.assignments.get(name) {
                Some(assignment) => Some((*number, *assignment)),
                None => {
                    let missing = vec![format!("assignment `{name}`")];
                    self.waiting.insert(format!("cluster `{name}`"), missing);
                    let leaving = self.leaving.get(name).map(|(cluster, _)| cluster);
                    before.get(name).or(leaving).copied()
                }
            };
            self.warm.extend(warm.map(|warm| (name.clone(), warm)));
        }
        let was_open = std::mem::take(&mut self.open);
        let was_held = std::mem::take(&mut self.held);
        for (name, content) in self.listeners.clone() {
            let held = was_held.get(&name).copied();
            let complete = self.complete(&name, content, held, was_open.get(&name));
            let open = match complete {
                Some(_) if content == Content::Taken => {
                    self.broken.insert(name.clone());
                    self.note_broken(&name);
                    was_open.get(&name).cloned()
                }
                Some(open) => {
                    let version = self.accepted.get(&name).cloned().unwrap_or_default();
                    self.serving.insert(name.clone(), version);
                    Some(open)
                }
                None => was_open.get(&name).cloned(),
            };
            self.open.extend(open.map(|open| (name, open)));
        }
        for (name, cluster) in before {
            self.leaving.entry(name).or_insert((cluster, self.now_s + PATIENCE_S));
        }
        let (warm, open, now_s) = (&self.warm, &self.open, self.now_s);
        let is_named = |name: &String| open.values().any(|(_, to)| to.as_ref() == Some(name));
        self.leaving.retain(|name, (_, until_s)| {
            !warm.contains_key(name) && now_s < *until_s && is_named(name)
        });
    }

    /// What was accepted while it waited is refused now.
    fn note_broken(&mut self, name: &str) {
        let shown = self.shown.entry(ResourceKind::Listener).or_default();
        if let Some(shown) = shown.get_mut(name).filter(|it| it.version.is_some()) {
            shown.error.clone_from(&shown.version);
        }
    }

    /// The listener, if it has everything; otherwise what it waits for is noted.
    fn complete(
        &mut self,
        name: &str,
        content: Content,
        held: Option<u64>,
        was: Option<&Open>,
    ) -> Option<Open> {
        if self.broken.contains(name) {
            return None;
        }
        let mut missing = None;
        let mut cluster = None;
        let secret = (name == TLS_LISTENER).then(|| self.secrets.get(SECRET));
        match (secret, self.routes.get(name)) {
            (Some(None), _) => missing = Some(format!("secret `{SECRET}`")),
            (Some(Some(None)), _) => return None,
            (_, None) => missing = Some(format!("routes `{name}`")),
            (_, Some(None)) => {}
            (_, Some(Some(number))) => {
                let target = format!("c{number}");
                let until_s = held.unwrap_or(self.now_s + PATIENCE_S);
                let is_cold =
                    self.clusters.contains_key(&target) && !self.warm.contains_key(&target);
                let serves = was == Some(&(content, Some(target.clone())));
                if is_cold && !serves && self.now_s < until_s {
                    self.held.insert(name.to_owned(), until_s);
                    missing = Some(format!("cluster `{target}`"));
                }
                cluster = Some(target);
            }
        }
        match missing {
            Some(missing) => {
                self.waiting.insert(format!("listener `{name}`"), vec![missing]);
                None
            }
            None => Some((content, cluster)),
        }
    }

    /// What nobody names is not kept, and not shown.
    fn forget(&mut self) {
        let (clusters, listeners) = (&self.clusters, &self.listeners);
        self.assignments.retain(|name, _| clusters.contains_key(name));
        self.routes.retain(|name, _| listeners.contains_key(name));
        self.secrets.retain(|_, _| listeners.contains_key(TLS_LISTENER));
    }

    /// Of a kind, what a page shows.
    pub fn shown(&mut self, kind: ResourceKind) -> Map<Shown> {
        let has: BTreeSet<String> = match kind {
            ResourceKind::Cluster => self.clusters.keys().cloned().collect(),
            ResourceKind::Listener => self.listeners.keys().cloned().collect(),
            _ => {
                let known = self.known(kind).iter();
                known.filter(|(_, it)| it.is_some()).map(|(name, _)| name.clone()).collect()
            }
        };
        let shown = self.shown.entry(kind).or_default();
        shown.retain(|name, it| has.contains(name) || it.version.is_none());
        let mut shown = shown.clone();
        // Beside the error stands what serves.
        for name in self.broken.iter().filter(|_| kind == ResourceKind::Listener) {
            if let Some(it) = shown.get_mut(name) {
                it.version = self.serving.get(name).cloned();
            }
        }
        shown
    }
}
