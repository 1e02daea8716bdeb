//! The configuration that the bootstrap makes with what came: everything that is complete.
//!
//! What it leaves to others: what is known (`dynamic`), making it serve (`control`).

use super::wanted::{chain_secrets, cluster_secrets};
use super::{Dynamic, Known};
use crate::config::tls::SecretRef;
use crate::config::{
    Bootstrap, Cluster, ClusterLoadAssignment, Discovery, HttpConnectionManager, Listener,
    NetworkFilter, ResourceKind, RouteConfiguration, Scope, ScopeRoutes, ScopeSource,
};
use foldhash::{HashMap, HashSet};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tidegate_io::Instant;

/// How long a cluster that the server has removed goes on serving the routes that still name it:
/// their new version is on its way, as servers send clusters first.
pub const LEAVING_MAX: Duration = Duration::from_secs(15);

/// How long a listener waits for clusters that its new version names.
const CLUSTERS_MAX: Duration = Duration::from_secs(15);

/// A configuration with everything that is complete.
#[derive(Debug)]
pub struct Whole {
    /// The bootstrap, and what is dynamic.
    pub bootstrap: Bootstrap,
    /// What waits, and for what.
    pub waiting: Arc<BTreeMap<String, Vec<String>>>,
    /// To be remembered when it serves: [`Dynamic::serves`].
    pub serving: Serving,
}

/// What is complete in the configuration that serves.
#[derive(Debug, Default)]
pub struct Serving {
    clusters: HashMap<String, Arc<Cluster>>,
    listeners: HashMap<String, Arc<Listener>>,
    /// Clusters with their assignments: what they were made of, and what they became.
    filled_clusters: HashMap<String, Filled<Cluster, Arc<ClusterLoadAssignment>>>,
    /// Listeners with their routes.
    filled_listeners: HashMap<String, Filled<Listener, Vec<Part>>>,
    /// Clusters that the server has removed, and until when they stay.
    leaving: BTreeMap<String, (Arc<Cluster>, Instant)>,
    /// Until when listeners wait for clusters.
    held: BTreeMap<String, Instant>,
}

/// Something that was made complete: made of the same it is not made again, and the same
/// allocation tells everybody that nothing is new.
#[derive(Clone, Debug)]
struct Filled<T, P> {
    source: Arc<T>,
    parts: P,
    whole: Arc<T>,
}

impl Filled<Cluster, Arc<ClusterLoadAssignment>> {
    fn of(source: &Arc<Cluster>, assignment: &Arc<ClusterLoadAssignment>) -> Self {
        let mut whole = Cluster::clone(source);
        whole.load_assignment = assignment.clone();
        Filled { source: source.clone(), parts: assignment.clone(), whole: Arc::new(whole) }
    }
}

/// Routes of a listener that came by themselves.
#[derive(Clone, Debug)]
struct Part {
    /// The place of the filter chain.
    chain: usize,
    /// Of the scope, if it is one.
    key: Option<Vec<String>>,
    routes: Arc<RouteConfiguration>,
}

impl Part {
    fn is_same(&self, other: &Part) -> bool {
        self.chain == other.chain
            && self.key == other.key
            && Arc::ptr_eq(&self.routes, &other.routes)
    }
}

/// What something waits for.
type Missing = Vec<String>;

impl Dynamic {
    /// The configuration that all of it makes.
    pub fn whole(&self, bootstrap: &Bootstrap, now: Instant) -> Whole {
        let (mut waiting, mut serving) = (BTreeMap::new(), Serving::default());
        let mut warming = HashSet::default();
        let mut clusters =
            self.complete_clusters(bootstrap, &mut waiting, &mut warming, &mut serving);
        serving.clusters = by_name(&clusters, |cluster| &cluster.name);
        let warm = |whole: &Arc<Listener>| self.warm(whole, &warming, now);
        let listeners = self.complete_listeners(bootstrap, warm, &mut waiting, &mut serving);
        serving.leaving = self.leaving(&serving.clusters, &listeners, now);
        serving.listeners = by_name(&listeners, |listener| &listener.name);
        clusters.extend(serving.leaving.values().map(|(cluster, _)| cluster.clone()));
        let bootstrap = Bootstrap { clusters, listeners, ..bootstrap.clone() };
        Whole { bootstrap, waiting: Arc::new(waiting), serving }
    }

    /// What was made serves now.
    pub fn serves(&mut self, serving: Serving) {
        self.serving = serving;
    }

    /// When [`Dynamic::whole`] makes something else by itself.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let leaving = self.serving.leaving.values().map(|(_, until)| *until);
        leaving.chain(self.serving.held.values().copied()).min()
    }

    fn complete_clusters(
        &self,
        bootstrap: &Bootstrap,
        waiting: &mut BTreeMap<String, Missing>,
        warming: &mut HashSet<String>,
        serving: &mut Serving,
    ) -> Vec<Arc<Cluster>> {
        let count = bootstrap.clusters.len() + self.clusters.len();
        let mut complete = Vec::with_capacity(count);
        serving.filled_clusters.reserve(count);
        for cluster in self.clusters(bootstrap) {
            match self.complete_cluster(cluster, &mut serving.filled_clusters) {
                Ok(cluster) => complete.push(cluster),
                Err(missing) => {
                    match self.served(&cluster.name) {
                        Some(before) => complete.push(before),
                        None => drop(warming.insert(cluster.name.clone())),
                    }
                    if !missing.is_empty() {
                        waiting.insert(format!("cluster `{}`", cluster.name), missing);
                    }
                }
            }
        }
        complete
    }

    /// Whether clusters have this assignment, and all of them serve: a newer one changes nothing
    /// else.
    pub fn is_assigned(&self, bootstrap: &Bootstrap, name: &str) -> bool {
        let users = self.clusters_with(bootstrap, &[name]);
        let serves = |user: &&Arc<Cluster>| {
            let filled = self.serving.filled_clusters.get(&user.name);
            filled.is_some_and(|filled| Arc::ptr_eq(&filled.source, user))
        };
        !users.is_empty()
            && users.iter().all(serves)
            && self.assignments.get(name).is_some_and(|known| known.here().is_some())
    }

    /// The clusters that have this assignment, with what it is now. What [`Dynamic::whole`] makes
    /// has them, too.
    pub fn assigned(&mut self, bootstrap: &Bootstrap, name: &str) -> Vec<Arc<Cluster>> {
        let users = self.clusters_with(bootstrap, &[name]).into_iter().cloned();
        let users: Vec<Arc<Cluster>> = users.collect();
        let Some(assignment) = self.assignments.get(name).and_then(Known::here) else {
            return Vec::new();
        };
        let Serving { filled_clusters, clusters, .. } = &mut self.serving;
        let mut changed = Vec::new();
        for user in users {
            let Some(filled) = filled_clusters.get_mut(&user.name) else { continue };
            if Arc::ptr_eq(&filled.parts, assignment) {
                continue;
            }
            *filled = Filled::of(&filled.source, assignment);
            clusters.insert(user.name.clone(), filled.whole.clone());
            changed.push(filled.whole.clone());
        }
        changed
    }

    /// A cluster as it was when it was complete.
    fn served(&self, name: &str) -> Option<Arc<Cluster>> {
        let leaving = self.serving.leaving.get(name).map(|(cluster, _)| cluster);
        self.serving.clusters.get(name).or(leaving).cloned()
    }

    /// `Err`: what it waits for; nothing, when nobody waits any longer.
    fn complete_cluster(
        &self,
        cluster: &Arc<Cluster>,
        filled: &mut HashMap<String, Filled<Cluster, Arc<ClusterLoadAssignment>>>,
    ) -> Result<Arc<Cluster>, Missing> {
        self.can_be_had(ResourceKind::Cluster, &cluster.name)?;
        self.have_secrets(cluster_secrets(cluster))?;
        let Discovery::Eds(eds) = &cluster.discovery else { return Ok(cluster.clone()) };
        let known = self.assignments.get(&eds.service_name);
        let known = known.ok_or_else(|| vec![format!("assignment `{}`", eds.service_name)])?;
        let Some(assignment) = known.here() else { return Ok(cluster.clone()) };
        let before = self.serving.filled_clusters.get(&cluster.name);
        let is_same = |it: &&Filled<_, _>| {
            Arc::ptr_eq(&it.source, cluster) && Arc::ptr_eq(&it.parts, assignment)
        };
        let now = before.filter(is_same).cloned();
        let now = now.unwrap_or_else(|| Filled::of(cluster, assignment));
        let whole = now.whole.clone();
        filled.insert(cluster.name.clone(), now);
        Ok(whole)
    }

    fn complete_listeners(
        &self,
        bootstrap: &Bootstrap,
        warm: impl Fn(&Arc<Listener>) -> Result<(), (Instant, Missing)>,
        waiting: &mut BTreeMap<String, Missing>,
        serving: &mut Serving,
    ) -> Vec<Arc<Listener>> {
        let mut complete = Vec::with_capacity(bootstrap.listeners.len() + self.listeners.len());
        for listener in self.listeners(bootstrap) {
            let whole = self.complete_listener(listener, &mut serving.filled_listeners);
            let whole = whole.and_then(|whole| match warm(&whole) {
                Ok(()) => Ok(whole),
                Err((until, missing)) => {
                    serving.held.insert(listener.name.clone(), until);
                    Err(missing)
                }
            });
            match whole {
                Ok(listener) => complete.push(listener),
                Err(missing) => {
                    complete.extend(self.serving.listeners.get(&listener.name).cloned());
                    if !missing.is_empty() {
                        waiting.insert(format!("listener `{}`", listener.name), missing);
                    }
                }
            }
        }
        complete
    }

    /// `Err`: the clusters that a listener waits for, and until when.
    fn warm(
        &self,
        listener: &Arc<Listener>,
        warming: &HashSet<String>,
        now: Instant,
    ) -> Result<(), (Instant, Missing)> {
        let until = self.serving.held.get(&listener.name).copied();
        let until = until.unwrap_or(now + CLUSTERS_MAX);
        let missing = cold_clusters(listener, warming);
        // One that has waited long enough, and serves, does not wait again.
        let before = self.serving.listeners.get(&listener.name);
        let serves = || before.is_some_and(|it| Arc::ptr_eq(it, listener) || it == listener);
        match missing.is_empty() || now >= until || serves() {
            true => Ok(()),
            false => Err((until, missing)),
        }
    }

    fn complete_listener(
        &self,
        listener: &Arc<Listener>,
        filled: &mut HashMap<String, Filled<Listener, Vec<Part>>>,
    ) -> Result<Arc<Listener>, Missing> {
        self.can_be_had(ResourceKind::Listener, &listener.name)?;
        let mut parts = Vec::new();
        for (place, chain) in listener.chains().enumerate() {
            self.have_secrets(chain_secrets(chain))?;
            if let NetworkFilter::HttpConnectionManager(manager) = &chain.filter {
                self.complete_manager(place, manager, &mut parts)?;
            }
        }
        if parts.is_empty() {
            return Ok(listener.clone());
        }
        let before = self.serving.filled_listeners.get(&listener.name);
        let is_same = |it: &&Filled<_, Vec<Part>>| {
            Arc::ptr_eq(&it.source, listener)
                && it.parts.len() == parts.len()
                && it.parts.iter().zip(&parts).all(|(a, b)| a.is_same(b))
        };
        let now = before.filter(is_same).cloned().unwrap_or_else(|| Filled {
            source: listener.clone(),
            whole: Arc::new(with_routes(listener, &parts)),
            parts,
        });
        let whole = now.whole.clone();
        filled.insert(listener.name.clone(), now);
        Ok(whole)
    }

    fn complete_manager(
        &self,
        chain: usize,
        manager: &HttpConnectionManager,
        parts: &mut Vec<Part>,
    ) -> Result<(), Missing> {
        if let Some(rds) = &manager.rds {
            let routes = self.complete_routes(&rds.name)?;
            parts.extend(routes.map(|routes| Part { chain, key: None, routes }));
        }
        let Some(scoped) = &manager.scoped_routes else { return Ok(()) };
        let sent;
        let scopes = match &scoped.source {
            ScopeSource::Given(scopes) => scopes,
            ScopeSource::Server(_) => {
                if !self.answered.contains(&ResourceKind::ScopedRouteConfiguration) {
                    return Err(vec!["scopes".to_owned()]);
                }
                sent = self.scopes.values().cloned().collect();
                &sent
            }
        };
        for scope in scopes {
            let routes = match &scope.routes {
                ScopeRoutes::Given(routes) => Some(routes.clone()),
                ScopeRoutes::Named(name) => self.complete_routes(name)?,
            };
            let key = Some(scope.key.clone());
            parts.extend(routes.map(|routes| Part { chain, key, routes }));
        }
        Ok(())
    }

    /// `None`: there are none, and nobody waits for them.
    fn complete_routes(&self, name: &str) -> Result<Option<Arc<RouteConfiguration>>, Missing> {
        let known = self.routes.get(name).ok_or_else(|| vec![format!("routes `{name}`")])?;
        let Some(routes) = known.here() else { return Ok(None) };
        if routes.vhds.is_none() {
            return Ok(Some(routes.clone()));
        }
        if !self.answered.contains(&ResourceKind::VirtualHost) {
            return Err(vec![format!("virtual hosts of routes `{name}`")]);
        }
        let hosts = self.virtual_hosts_of(routes).map(|host| &**host);
        // A domain that is there twice was refused when it came.
        Ok(Some(routes.with_virtual_hosts(hosts).map_or_else(|_| routes.clone(), Arc::new)))
    }

    /// Nobody waits for what cannot be had.
    fn can_be_had(&self, kind: ResourceKind, name: &str) -> Result<(), Missing> {
        match self.broken.is_empty() || !self.broken.contains_key(&(kind, name.to_owned())) {
            true => Ok(()),
            false => Err(Missing::new()),
        }
    }

    fn have_secrets<'s>(
        &self,
        secrets: impl Iterator<Item = &'s SecretRef>,
    ) -> Result<(), Missing> {
        let mut missing = Vec::new();
        let mut absent = false;
        for secret in secrets {
            match self.secrets.get(&secret.name) {
                Some(Known::Here(_)) => {}
                Some(Known::Absent) => absent = true,
                None => missing.push(format!("secret `{}`", secret.name)),
            }
        }
        if missing.is_empty() && !absent { Ok(()) } else { Err(missing) }
    }

    /// Clusters that are not there any longer, but are named.
    fn leaving(
        &self,
        here: &HashMap<String, Arc<Cluster>>,
        listeners: &[Arc<Listener>],
        now: Instant,
    ) -> BTreeMap<String, (Arc<Cluster>, Instant)> {
        let gone = self.serving.clusters.iter().filter(|(name, _)| !here.contains_key(*name));
        let gone = gone.map(|(name, it)| (name.clone(), (it.clone(), now + LEAVING_MAX)));
        let mut leaving: BTreeMap<_, _> = gone.collect();
        leaving.extend(self.serving.leaving.clone());
        leaving.retain(|name, (_, until)| now < *until && !here.contains_key(name));
        if !leaving.is_empty() {
            let chains = listeners.iter().flat_map(|listener| listener.chains());
            let named: HashSet<&str> = chains.flat_map(|it| it.filter.cluster_names()).collect();
            leaving.retain(|name, _| named.contains(name.as_str()));
        }
        leaving
    }
}

/// The listener with routes that came by themselves.
fn with_routes(listener: &Listener, parts: &[Part]) -> Listener {
    let mut whole = listener.clone();
    let chains = whole.filter_chains.iter_mut().chain(&mut whole.default_filter_chain);
    for (place, chain) in chains.enumerate() {
        let NetworkFilter::HttpConnectionManager(manager) = &mut chain.filter else { continue };
        for part in parts.iter().filter(|part| part.chain == place) {
            let manager = Arc::make_mut(manager);
            match (&part.key, &mut manager.scoped_routes) {
                (Some(key), Some(scoped)) => {
                    scoped.scopes.push(Scope { key: key.clone(), routes: part.routes.clone() });
                }
                _ => manager.route_config = part.routes.clone(),
            }
        }
    }
    whole
}

/// Clusters that it names and that are not warm.
fn cold_clusters(listener: &Listener, warming: &HashSet<String>) -> Missing {
    if warming.is_empty() {
        return Vec::new();
    }
    let named = listener.chains().flat_map(|chain| chain.filter.cluster_names());
    let cold: HashSet<&str> = named.filter(|name| warming.contains(*name)).collect();
    cold.into_iter().map(|name| format!("cluster `{name}`")).collect()
}

fn by_name<T>(items: &[Arc<T>], name: impl Fn(&T) -> &String) -> HashMap<String, Arc<T>> {
    items.iter().map(|item| (name(item).clone(), item.clone())).collect()
}
