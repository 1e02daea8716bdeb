//! Resources that came while we run, and the whole configuration that they make with the bootstrap.
//! Pure: responses and `now` in, a configuration and the names that are wanted out.
//!
//! What it leaves to others: speaking with servers (`xds`), warming of names and snapshots
//! (`resources`).
//!
//! What is not complete is not in the configuration: a cluster waits for its assignment and its
//! secrets, a listener for its routes, its secrets and the clusters that it names. What was
//! complete before serves until then. Waiting ends when the first fetch has timed out, or the
//! server says that there is no such resource.

mod received;
#[cfg(test)]
mod tests;
mod undo;
mod wanted;
mod whole;

pub use received::{Raw, Received};
pub use wanted::Want;
pub use whole::{Serving, Whole};

use foldhash::{HashMap, HashSet};
use undo::Old;

use super::book::{Book, Failure};
use crate::config::tls::{Secret, SentSecrets};
use crate::config::{
    Bootstrap, Cluster, ClusterLoadAssignment, ConfigErrors, Listener, Overrides, Resource,
    ResourceContext, ResourceKind, RouteConfiguration, ScopedRouteConfiguration, VirtualHost,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What was made of a response.
#[derive(Debug, Default)]
pub struct Taken {
    /// What is in use from now on.
    pub accepted: Vec<Received>,
    /// What is not, and why.
    pub refused: Vec<Failure>,
    /// Whether anything is different.
    pub changed: bool,
    /// Whether something may be gone.
    pub removed: bool,
}

impl Taken {
    /// The text of the NACK, if it is one.
    #[must_use]
    pub fn reasons(&self) -> Option<String> {
        let reasons: Vec<&str> = self.refused.iter().map(|one| one.details.as_str()).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// What is known under a name that was asked for.
#[derive(Clone, Debug)]
enum Known<T> {
    /// The resource.
    Here(Arc<T>),
    /// There is none, or nobody has said so in time: nobody waits for it any longer.
    Absent,
}

impl<T> Known<T> {
    fn here(&self) -> Option<&Arc<T>> {
        match self {
            Known::Here(it) => Some(it),
            Known::Absent => None,
        }
    }
}

/// Resources by name.
#[derive(Debug, Default)]
pub struct Dynamic {
    clusters: BTreeMap<String, Arc<Cluster>>,
    /// Those with assignments, by the names of these.
    users: HashMap<String, Vec<Arc<Cluster>>>,
    listeners: BTreeMap<String, Arc<Listener>>,
    scopes: BTreeMap<String, Arc<ScopedRouteConfiguration>>,
    virtual_hosts: BTreeMap<String, Arc<VirtualHost>>,
    runtime: BTreeMap<String, Overrides>,
    assignments: HashMap<String, Known<ClusterLoadAssignment>>,
    routes: HashMap<String, Known<RouteConfiguration>>,
    secrets: HashMap<String, Known<Secret>>,
    /// Kinds of which all are asked for, and an answer has come.
    answered: BTreeSet<ResourceKind>,
    /// Listeners and clusters that ask for what cannot be had, and why: they are as they were
    /// before, or not there, until they change.
    broken: BTreeMap<(ResourceKind, String), String>,
    serving: Serving,
    /// What the last response has replaced.
    undo: Vec<Old>,
}

impl Dynamic {
    /// Takes a response. Those of its resources that are valid count, whatever the others are; a
    /// name that is there twice is an error, and neither counts.
    pub fn handle_response(
        &mut self,
        kind: ResourceKind,
        received: Vec<(Received, Result<Resource, ConfigErrors>)>,
        removed: &[String],
        whole: bool,
        bootstrap: &Bootstrap,
    ) -> Taken {
        self.begin();
        let mut taken = Taken { removed: whole || !removed.is_empty(), ..Taken::default() };
        let mut times: HashMap<&str, usize> = HashMap::default();
        for (one, _) in &received {
            *times.entry(&one.name).or_default() += 1;
        }
        let twice: BTreeSet<String> =
            times.iter().filter(|(_, times)| **times > 1).map(|(name, _)| (*name).into()).collect();
        let names = received.iter().map(|(one, _)| one.name.clone());
        let present: HashSet<String> = if whole { names.collect() } else { HashSet::default() };
        taken.changed |= self.answered.insert(kind);
        for (one, resource) in received {
            let result = match resource {
                _ if twice.contains(&one.name) => Err("it is there twice".to_owned()),
                Ok(resource) => self.insert(&one.name, resource, bootstrap),
                Err(errors) => Err(one_line(&errors)),
            };
            match result {
                Ok(changed) => {
                    if changed && !self.broken.is_empty() {
                        self.broken.remove(&(kind, one.name.clone()));
                    }
                    taken.changed |= changed;
                    taken.accepted.push(one);
                }
                Err(reason) => {
                    let details = format!("{} `{}`: {reason}", noun(kind), one.name);
                    taken.refused.push(Failure { details, received: one });
                }
            }
        }
        for name in removed {
            taken.changed |= self.remove(kind, name);
        }
        if whole {
            for name in self.names(kind) {
                if !present.contains(&name) {
                    taken.changed |= self.remove(kind, &name);
                }
            }
        }
        taken
    }

    /// What a listener or a cluster asks for cannot be had. Whether that was not known, and came
    /// from a server.
    pub fn set_broken(&mut self, kind: ResourceKind, name: &str, reason: String) -> bool {
        let is_new = !self.broken.contains_key(&(kind, name.to_owned()));
        if !is_new || !self.has(kind, name) {
            return false;
        }
        self.broken.insert((kind, name.to_owned()), reason);
        true
    }

    /// Of what was accepted, what cannot be had is refused.
    pub fn refuse_broken(&self, kind: ResourceKind, taken: &mut Taken) {
        if self.broken.is_empty() {
            return;
        }
        let all = std::mem::take(&mut taken.accepted);
        for received in all {
            match self.broken.get(&(kind, received.name.clone())) {
                None => taken.accepted.push(received),
                Some(details) => {
                    taken.refused.push(Failure { details: details.clone(), received });
                }
            }
        }
    }

    /// The time of these is over.
    pub fn handle_expiry(&mut self, kind: ResourceKind, names: &[String]) {
        for name in names {
            match kind {
                ResourceKind::ClusterLoadAssignment => {
                    self.assignments.insert(name.clone(), Known::Absent);
                }
                ResourceKind::RouteConfiguration => {
                    self.routes.insert(name.clone(), Known::Absent);
                }
                _ => drop(self.remove(kind, name)),
            }
        }
        self.keep();
    }

    /// Nobody waits any longer for the first answer about these. Whether anybody did.
    pub fn handle_timeout(&mut self, kind: ResourceKind, names: &[String]) -> bool {
        let mut changed = false;
        for name in names {
            changed |= match kind {
                ResourceKind::ClusterLoadAssignment
                | ResourceKind::RouteConfiguration
                | ResourceKind::Secret => self.remove(kind, name),
                ResourceKind::Cluster
                | ResourceKind::Listener
                | ResourceKind::ScopedRouteConfiguration
                | ResourceKind::VirtualHost
                | ResourceKind::Runtime => self.answered.insert(kind),
            };
        }
        self.keep();
        changed
    }

    /// Reads everything again that runtime values can be named in.
    pub fn read_again(&mut self, book: &Book, context: &ResourceContext, bootstrap: &Bootstrap) {
        for kind in [
            ResourceKind::Cluster,
            ResourceKind::Listener,
            ResourceKind::RouteConfiguration,
            ResourceKind::VirtualHost,
        ] {
            let shelf = book.shelf(kind);
            for received in shelf.entries.values().filter_map(|entry| entry.received.as_ref()) {
                let name = &received.name;
                // It was valid before, and values that cannot be used have no effect.
                if let Ok((resource, _)) = received.raw.read(kind, name, None, context) {
                    self.insert(name, resource, bootstrap).ok();
                }
            }
        }
        self.keep();
    }

    /// Whether a resource is here.
    pub fn has(&self, kind: ResourceKind, name: &str) -> bool {
        match kind {
            ResourceKind::Cluster => self.clusters.contains_key(name),
            ResourceKind::Listener => self.listeners.contains_key(name),
            ResourceKind::ScopedRouteConfiguration => self.scopes.contains_key(name),
            ResourceKind::VirtualHost => self.virtual_hosts.contains_key(name),
            ResourceKind::Runtime => self.runtime.contains_key(name),
            ResourceKind::ClusterLoadAssignment => is_here(&self.assignments, name),
            ResourceKind::RouteConfiguration => is_here(&self.routes, name),
            ResourceKind::Secret => is_here(&self.secrets, name),
        }
    }

    /// An assignment that is here.
    pub fn assignment(&self, name: &str) -> Option<&Arc<ClusterLoadAssignment>> {
        self.assignments.get(name)?.here()
    }

    /// Secrets that are known.
    pub fn sent_secrets(&self) -> SentSecrets {
        let known = self.secrets.iter();
        known.filter_map(|(name, it)| Some((name.clone(), it.here()?.clone()))).collect()
    }

    /// Values of runtime layers.
    pub fn runtime(&self) -> &BTreeMap<String, Overrides> {
        &self.runtime
    }

    /// `Err`: why it cannot be taken beside what there is.
    fn insert(
        &mut self,
        name: &str,
        resource: Resource,
        bootstrap: &Bootstrap,
    ) -> Result<bool, String> {
        Ok(match resource {
            // What the bootstrap has stays, as in Envoy.
            Resource::Cluster(it) if bootstrap.clusters.iter().any(|c| c.name == it.name) => false,
            Resource::Cluster(mut it) => {
                Arc::make_mut(&mut it).added_via_api = true;
                let (before, now) = (self.clusters.get(name).cloned(), it.clone());
                let changed = replace(&mut self.clusters, name, it, (&mut self.undo, Old::Cluster));
                if changed {
                    self.note_use(before.as_ref(), Some(&now));
                }
                changed
            }
            Resource::Listener(it) if bootstrap.listeners.iter().any(|l| l.name == it.name) => {
                false
            }
            Resource::Listener(it) => {
                replace(&mut self.listeners, name, it, (&mut self.undo, Old::Listener))
            }
            Resource::ScopedRouteConfiguration(it) => {
                let mut others = self.scopes.values().filter(|other| other.name != it.name);
                if let Some(other) = others.find(|other| other.key == it.key) {
                    return Err(format!("the scope `{}` has its key", other.name));
                }
                replace(&mut self.scopes, name, it, (&mut self.undo, Old::Scope))
            }
            Resource::VirtualHost(it) => {
                let of = |name: &str| name.rsplit_once('/').map(|(of, _)| of.to_owned());
                let others = self.virtual_hosts.iter();
                let mut others =
                    others.filter(|(other, _)| *other != name && of(other) == of(name));
                let is_taken = |domain: &&String| others.any(|(_, it)| it.domains.contains(domain));
                if let Some(domain) = it.domains.iter().find(is_taken) {
                    return Err(format!("another virtual host has its domain `{domain}`"));
                }
                replace(&mut self.virtual_hosts, name, it, (&mut self.undo, Old::VirtualHost))
            }
            Resource::Runtime(_, values) => {
                let old = self.runtime.insert(name.to_owned(), values.clone());
                let changed = old.as_ref() != Some(&values);
                self.undo.push(Old::Runtime(name.to_owned(), old));
                changed
            }
            Resource::ClusterLoadAssignment(_, it) => {
                know(&mut self.assignments, name, it, (&mut self.undo, Old::Assignment))
            }
            Resource::RouteConfiguration(it) => {
                know(&mut self.routes, name, it, (&mut self.undo, Old::Routes))
            }
            Resource::Secret(it) => {
                know(&mut self.secrets, name, it, (&mut self.undo, Old::Secret))
            }
        })
    }

    fn remove(&mut self, kind: ResourceKind, name: &str) -> bool {
        self.broken.remove(&(kind, name.to_owned()));
        let undo = &mut self.undo;
        match kind {
            ResourceKind::Cluster => {
                let gone = self.clusters.remove(name);
                self.note_use(gone.as_ref(), None);
                is_gone(name, gone, (&mut self.undo, Old::Cluster))
            }
            ResourceKind::Listener => {
                is_gone(name, self.listeners.remove(name), (undo, Old::Listener))
            }
            ResourceKind::ScopedRouteConfiguration => {
                is_gone(name, self.scopes.remove(name), (undo, Old::Scope))
            }
            ResourceKind::VirtualHost => {
                is_gone(name, self.virtual_hosts.remove(name), (undo, Old::VirtualHost))
            }
            ResourceKind::Runtime => is_gone(name, self.runtime.remove(name), (undo, Old::Runtime)),
            // What is in use stays, as in Envoy; for what never came nobody waits any longer.
            ResourceKind::ClusterLoadAssignment => {
                absent(&mut self.assignments, name, (undo, Old::Assignment))
            }
            ResourceKind::RouteConfiguration => absent(&mut self.routes, name, (undo, Old::Routes)),
            ResourceKind::Secret => absent(&mut self.secrets, name, (undo, Old::Secret)),
        }
    }

    /// A cluster is another one, which may have another assignment.
    fn note_use(&mut self, before: Option<&Arc<Cluster>>, now: Option<&Arc<Cluster>>) {
        let assignment =
            |cluster: &Arc<Cluster>| Some(cluster.discovery.eds()?.service_name.clone());
        if let Some(now) = now
            && let Some(name) = assignment(now)
        {
            self.users.entry(name).or_default().push(now.clone());
        }
        if let Some(before) = before
            && let Some(name) = assignment(before)
            && let Some(users) = self.users.get_mut(&name)
        {
            users.retain(|user| !Arc::ptr_eq(user, before));
            if users.is_empty() {
                self.users.remove(&name);
            }
        }
    }

    /// Names of kinds of which a response can hold everything.
    fn names(&self, kind: ResourceKind) -> Vec<String> {
        match kind {
            ResourceKind::Cluster => self.clusters.keys().cloned().collect(),
            ResourceKind::Listener => self.listeners.keys().cloned().collect(),
            ResourceKind::ScopedRouteConfiguration => self.scopes.keys().cloned().collect(),
            _ => Vec::new(),
        }
    }
}

/// Where to note what is replaced, and as what.
type Note<'u, T> = (&'u mut Vec<Old>, fn(String, Option<T>) -> Old);

fn replace<T: PartialEq>(
    map: &mut BTreeMap<String, Arc<T>>,
    name: &str,
    new: Arc<T>,
    (undo, note): Note<'_, Arc<T>>,
) -> bool {
    if map.get(name).is_some_and(|old| *old == new) {
        return false;
    }
    let old = map.insert(name.to_owned(), new);
    undo.push(note(name.to_owned(), old));
    true
}

fn know<T: PartialEq>(
    map: &mut HashMap<String, Known<T>>,
    name: &str,
    new: Arc<T>,
    (undo, note): Note<'_, Known<T>>,
) -> bool {
    if map.get(name).and_then(Known::here).is_some_and(|old| *old == new) {
        return false;
    }
    let old = map.insert(name.to_owned(), Known::Here(new));
    undo.push(note(name.to_owned(), old));
    true
}

fn is_gone<T>(name: &str, old: Option<T>, (undo, note): Note<'_, T>) -> bool {
    let was_there = old.is_some();
    undo.push(note(name.to_owned(), old));
    was_there
}

fn is_here<T>(map: &HashMap<String, Known<T>>, name: &str) -> bool {
    map.get(name).is_some_and(|known| known.here().is_some())
}

fn absent<T>(
    map: &mut HashMap<String, Known<T>>,
    name: &str,
    (undo, note): Note<'_, Known<T>>,
) -> bool {
    if map.contains_key(name) {
        return false;
    }
    map.insert(name.to_owned(), Known::Absent);
    undo.push(note(name.to_owned(), None));
    true
}

fn noun(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Cluster => "cluster",
        ResourceKind::ClusterLoadAssignment => "assignment",
        ResourceKind::Listener => "listener",
        ResourceKind::RouteConfiguration => "route configuration",
        ResourceKind::ScopedRouteConfiguration => "scope",
        ResourceKind::VirtualHost => "virtual host",
        ResourceKind::Secret => "secret",
        ResourceKind::Runtime => "runtime layer",
    }
}

fn one_line(errors: &ConfigErrors) -> String {
    errors.to_string().trim_end().replace('\n', "; ")
}
