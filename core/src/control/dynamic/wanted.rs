//! What the configuration names, and so what is asked for.
//!
//! What it leaves to others: asking (`xds`).

use super::{Dynamic, Known};
use crate::config::tls::SecretRef;
use crate::config::{
    Bootstrap, Cluster, ConfigSource, Discovery, FilterChain, HttpConnectionManager, Listener,
    NetworkFilter, ResourceKind, RouteConfiguration, ScopeRoutes, ScopeSource,
};
use foldhash::{HashMap, HashSet};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Something to ask for.
#[derive(Clone, PartialEq, Debug)]
pub struct Want {
    /// What.
    pub kind: ResourceKind,
    /// Where.
    pub source: ConfigSource,
    /// By which name; `None`: all that there are.
    pub name: Option<String>,
}

impl Dynamic {
    /// Everything that the bootstrap and what came name.
    pub fn wanted(&self, bootstrap: &Bootstrap) -> Vec<Want> {
        let mut wants = Vec::new();
        let mut all = |kind, source: &Option<ConfigSource>| {
            let want = |source: &ConfigSource| Want { kind, source: source.clone(), name: None };
            wants.extend(source.as_ref().map(want));
        };
        all(ResourceKind::Cluster, &bootstrap.dynamic.clusters);
        all(ResourceKind::Listener, &bootstrap.dynamic.listeners);
        let named = |kind, source: &ConfigSource, name: &str| Want {
            kind,
            source: source.clone(),
            name: Some(name.to_owned()),
        };
        for cluster in self.clusters(bootstrap) {
            if let Discovery::Eds(eds) = &cluster.discovery {
                let kind = ResourceKind::ClusterLoadAssignment;
                wants.push(named(kind, &eds.source, &eds.service_name));
            }
        }
        for secret in self.secret_refs(bootstrap) {
            wants.push(named(ResourceKind::Secret, &secret.source, &secret.name));
        }
        for rtds in bootstrap.runtime.layers.iter().filter_map(|layer| layer.rtds.as_ref()) {
            wants.push(named(ResourceKind::Runtime, &rtds.source, &rtds.name));
        }
        for manager in self.managers(bootstrap) {
            if let Some(rds) = &manager.rds {
                wants.push(named(ResourceKind::RouteConfiguration, &rds.source, &rds.name));
            }
            let Some(scoped) = &manager.scoped_routes else { continue };
            if let ScopeSource::Server(source) = &scoped.source {
                let kind = ResourceKind::ScopedRouteConfiguration;
                wants.push(Want { kind, source: source.clone(), name: None });
            }
            let Some(source) = &scoped.route_source else { continue };
            for name in self.scope_routes(&scoped.source) {
                wants.push(named(ResourceKind::RouteConfiguration, source, name));
            }
        }
        for routes in self.routes.values().filter_map(Known::here) {
            if let Some(source) = &routes.vhds {
                wants.push(Want {
                    kind: ResourceKind::VirtualHost,
                    source: source.clone(),
                    name: None,
                });
            }
        }
        wants
    }

    /// Forgets what nobody names any longer.
    pub fn forget_unused(&mut self, wanted: &[Want]) {
        let mut names: BTreeMap<ResourceKind, HashSet<&str>> = BTreeMap::new();
        let mut whole = BTreeSet::new();
        for want in wanted {
            match &want.name {
                Some(name) => drop(names.entry(want.kind).or_default().insert(name)),
                None => drop(whole.insert(want.kind)),
            }
        }
        let none = HashSet::default();
        let of = |kind| names.get(&kind).unwrap_or(&none);
        retain(&mut self.assignments, of(ResourceKind::ClusterLoadAssignment));
        retain(&mut self.routes, of(ResourceKind::RouteConfiguration));
        retain(&mut self.secrets, of(ResourceKind::Secret));
        let runtime = of(ResourceKind::Runtime);
        self.runtime.retain(|name, _| runtime.contains(name.as_str()));
        if !whole.contains(&ResourceKind::Cluster) {
            self.clusters.clear();
            self.users.clear();
        }
        if !whole.contains(&ResourceKind::Listener) {
            self.listeners.clear();
        }
        if !whole.contains(&ResourceKind::ScopedRouteConfiguration) {
            self.scopes.clear();
        }
        if !whole.contains(&ResourceKind::VirtualHost) {
            self.virtual_hosts.clear();
        }
        self.answered.retain(|kind| whole.contains(kind) || names.contains_key(kind));
    }

    pub(in crate::control) fn clusters<'a>(
        &'a self,
        bootstrap: &'a Bootstrap,
    ) -> impl Iterator<Item = &'a Arc<Cluster>> {
        bootstrap.clusters.iter().chain(self.clusters.values())
    }

    /// The clusters that have these assignments.
    pub(in crate::control) fn clusters_with<'a>(
        &'a self,
        bootstrap: &'a Bootstrap,
        assignments: &[&'a str],
    ) -> Vec<&'a Arc<Cluster>> {
        let mut wanted = HashSet::default();
        let mut found = Vec::new();
        for name in assignments.iter().filter(|name| wanted.insert(**name)) {
            found.extend(self.users.get(*name).into_iter().flatten());
        }
        let is_wanted = |cluster: &&Arc<Cluster>| {
            let eds = cluster.discovery.eds();
            eds.is_some_and(|eds| wanted.contains(eds.service_name.as_str()))
        };
        found.extend(bootstrap.clusters.iter().filter(is_wanted));
        found
    }

    pub(super) fn listeners<'a>(
        &'a self,
        bootstrap: &'a Bootstrap,
    ) -> impl Iterator<Item = &'a Arc<Listener>> {
        bootstrap.listeners.iter().chain(self.listeners.values())
    }

    pub(in crate::control) fn managers<'a>(
        &'a self,
        bootstrap: &'a Bootstrap,
    ) -> impl Iterator<Item = &'a Arc<HttpConnectionManager>> {
        self.listeners(bootstrap).flat_map(|it| it.chains()).filter_map(manager)
    }

    fn secret_refs<'a>(&'a self, bootstrap: &'a Bootstrap) -> impl Iterator<Item = &'a SecretRef> {
        let clusters = self.clusters(bootstrap).flat_map(|it| cluster_secrets(it));
        let chains = self.listeners(bootstrap).flat_map(|it| it.chains());
        clusters.chain(chains.flat_map(chain_secrets))
    }

    /// The names of route configurations that scopes have.
    pub(in crate::control) fn scope_routes<'a>(
        &'a self,
        source: &'a ScopeSource,
    ) -> impl Iterator<Item = &'a str> {
        let (given, sent) = match source {
            ScopeSource::Given(list) => (Some(list.iter()), None),
            ScopeSource::Server(_) => (None, Some(self.scopes.values())),
        };
        let scopes = given.into_iter().flatten().chain(sent.into_iter().flatten());
        scopes.filter_map(|scope| match &scope.routes {
            ScopeRoutes::Named(name) => Some(name.as_str()),
            ScopeRoutes::Given(_) => None,
        })
    }

    /// Whether the route configuration of this name has virtual hosts that come by themselves.
    pub(in crate::control) fn asks_for_virtual_hosts(&self, routes: &str) -> bool {
        let known = self.routes.get(routes).and_then(Known::here);
        known.is_some_and(|routes| routes.vhds.is_some())
    }

    /// Virtual hosts that belong to a route configuration: their names begin with its name.
    pub(super) fn virtual_hosts_of<'a>(
        &'a self,
        routes: &'a RouteConfiguration,
    ) -> impl Iterator<Item = &'a Arc<crate::config::VirtualHost>> {
        let belongs =
            |resource: &str| resource.rsplit_once('/').is_some_and(|(of, _)| of == routes.name);
        let hosts = self.virtual_hosts.iter();
        hosts.filter(move |(name, _)| belongs(name)).map(|(_, host)| host)
    }
}

fn retain<T>(map: &mut HashMap<String, Known<T>>, names: &HashSet<&str>) {
    map.retain(|name, _| names.contains(name.as_str()));
}

/// Secrets of a cluster that servers send.
pub(super) fn cluster_secrets(cluster: &Cluster) -> impl Iterator<Item = &SecretRef> {
    let secrets = cluster.tls.iter().flat_map(|tls| tls.common.secrets());
    secrets.filter(|secret| secret.file().is_none())
}

/// Secrets of a filter chain that servers send.
pub(super) fn chain_secrets(chain: &FilterChain) -> impl Iterator<Item = &SecretRef> {
    let secrets = chain.tls.iter().flat_map(|tls| tls.secrets());
    secrets.filter(|secret| secret.file().is_none())
}

pub(super) fn manager(chain: &FilterChain) -> Option<&Arc<HttpConnectionManager>> {
    match &chain.filter {
        NetworkFilter::HttpConnectionManager(manager) => Some(manager),
        NetworkFilter::TcpProxy(_) => None,
    }
}
