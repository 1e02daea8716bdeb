//! Hosts of a cluster from its endpoints: what is equal to what was there before is shared with it,
//! page by page.
//!
//! What it leaves to others: what else a cluster has (`build`), names (`names`).

use super::identity::{HostKey, Identities};
use super::names::{DnsName, Names};
use crate::config::{self, Address, Discovery, EndpointPage, Endpoints};
use crate::paged::Page;
use crate::snapshot::{
    ClusterEntry, ClusterId, EndpointSet, Host, HostPage, Hosts, SelectionRules,
};
use crate::stats::Registry;
use foldhash::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The hosts that a cluster has with the addresses known now; those before if nothing is different.
pub(super) fn endpoints(
    id: ClusterId,
    config: &config::Cluster,
    previous: Option<&Arc<ClusterEntry>>,
    names: &Names,
    identities: &mut Identities,
    registry: &Registry,
) -> Arc<EndpointSet> {
    let is_limited = config.circuit_breakers.max_connections_per_host.is_some();
    let mut build = HostBuild { cluster: id, is_limited, identities, registry };
    let none = Hosts::default();
    let old = previous.map_or(&none, |entry| &entry.endpoints.hosts);
    let is_plain = config.load_assignment.is_plain;
    let hosts = match previous {
        Some(entry) if is_plain && build.makes_the_same(&entry.config) => build.next(
            &config.load_assignment.endpoints,
            &entry.config.load_assignment.endpoints,
            old,
        ),
        _ if is_plain => build.next(&config.load_assignment.endpoints, &Endpoints::default(), old),
        _ => build.resolved(config, names, old),
    };
    let rules = SelectionRules::of(config);
    match previous {
        Some(entry) if entry.endpoints.rules == rules && hosts.has_same_pages(old) => {
            entry.endpoints.clone()
        }
        _ => Arc::new(EndpointSet::new(hosts, rules)),
    }
}

/// What hosts of a cluster need beside their endpoints.
struct HostBuild<'b> {
    cluster: ClusterId,
    /// Connections to each have a limit.
    is_limited: bool,
    identities: &'b mut Identities,
    registry: &'b Registry,
}

impl HostBuild<'_> {
    /// Whether an endpoint of the version before made the host that it would make now.
    fn makes_the_same(&self, before: &config::Cluster) -> bool {
        before.load_assignment.is_plain
            && before.circuit_breakers.max_connections_per_host.is_some() == self.is_limited
    }

    /// The hosts of endpoints each of which is one: page by page, as the endpoints are. `before`:
    /// those of which page by page the `old` hosts were made, if they were.
    fn next(&mut self, endpoints: &Endpoints, before: &Endpoints, old: &Hosts) -> Hosts {
        let places = endpoints.places_in(before);
        let mut kept = vec![false; old.pages().len()];
        places.iter().flatten().for_each(|page| kept[*page] = true);
        let others = old.pages().iter().zip(kept).filter(|(_, kept)| !kept);
        let others = others.flat_map(|(page, _)| page.items());
        let others: HashMap<SocketAddr, &Arc<Host>> =
            others.map(|host| (host.address, host)).collect();
        let pages = endpoints.pages().iter().zip(places).enumerate();
        let pages = pages.map(|(index, (page, place))| match place {
            Some(place) => old.pages()[place].clone(),
            None => {
                let hosts = self.page(page, &others);
                let before =
                    old.pages().get(index).filter(|it| are_same(it.items().iter(), &hosts));
                before.cloned().unwrap_or_else(|| Arc::new(HostPage::new(hosts)))
            }
        });
        Hosts::new(pages.collect())
    }

    fn page(
        &mut self,
        page: &EndpointPage,
        old: &HashMap<SocketAddr, &Arc<Host>>,
    ) -> Vec<Arc<Host>> {
        let mut hosts = Vec::with_capacity(page.items().len());
        hosts.extend(page.items().iter().filter_map(|endpoint| {
            let Address::Socket(address) = endpoint.address else { return None };
            let before = old.get(&address).copied();
            let found = Found { endpoint, address, name: "", key: HostKey::Address(address) };
            Some(self.host(found, before))
        }));
        hosts
    }

    /// The hosts of endpoints that have names, or of which some have the same address.
    fn resolved(&mut self, config: &config::Cluster, names: &Names, old: &Hosts) -> Hosts {
        let mut hosts: Vec<Arc<Host>> = Vec::with_capacity(config.load_assignment.endpoints.len());
        let by_address: HashMap<SocketAddr, &Arc<Host>> =
            old.iter().map(|host| (host.address, host)).collect();
        let mut seen = HashSet::default();
        for found in addresses(config, names) {
            if seen.insert(found.address) {
                let before = by_address.get(&found.address).copied();
                hosts.push(self.host(found, before));
            }
        }
        match are_same(old.iter(), &hosts) {
            true => old.clone(),
            false => hosts.into_iter().collect(),
        }
    }

    /// The host that an endpoint becomes: the one before if nothing of it is different.
    fn host(&mut self, found: Found<'_>, before: Option<&Arc<Host>>) -> Arc<Host> {
        let Found { endpoint, address, name, key } = found;
        let hostname = if endpoint.hostname.is_empty() { name } else { &endpoint.hostname };
        let unchanged = before.filter(|host| {
            host.hostname == *hostname
                && host.weight == endpoint.weight
                && host.health_status == endpoint.health_status
                && host.locality == endpoint.locality
                && host.locality_weight == endpoint.locality_weight
                && host.priority == endpoint.priority
                && host.metadata == endpoint.metadata
                && host.connections.is_some() == self.is_limited
        });
        if let Some(host) = unchanged {
            return host.clone();
        }
        let (id, stats) = self.identities.host(self.cluster, key, self.registry);
        Arc::new(Host {
            id,
            address,
            hostname: hostname.to_owned(),
            weight: endpoint.weight,
            health_status: endpoint.health_status,
            locality: endpoint.locality.clone(),
            locality_weight: endpoint.locality_weight,
            priority: endpoint.priority,
            metadata: endpoint.metadata.clone(),
            connections: self.is_limited.then(|| self.identities.connections(id)),
            stats,
        })
    }
}

/// A host that an endpoint becomes.
struct Found<'a> {
    endpoint: &'a config::Endpoint,
    address: SocketAddr,
    /// The name that was resolved, if there was one.
    name: &'a str,
    key: HostKey,
}

/// The hosts of every endpoint: one for an address, one for each address of a name, or one for the
/// first address of a logical name.
fn addresses<'a>(config: &'a config::Cluster, names: &'a Names) -> impl Iterator<Item = Found<'a>> {
    let is_logical = matches!(config.discovery, Discovery::LogicalDns(_));
    config.load_assignment.endpoints.iter().flat_map(move |endpoint| {
        let found = |address, name| {
            let key = HostKey::Address(address);
            Found { endpoint, address, name, key }
        };
        let (mut alone, mut many) = (None, Vec::new());
        match (&endpoint.address, config.discovery.dns()) {
            (Address::Socket(address), _) => alone = Some(found(*address, "")),
            // A cluster without lookups has no names.
            (Address::Name { .. }, None) => {}
            (Address::Name { host, port }, Some(dns)) => {
                let name = DnsName::of(host, dns);
                let of = |ip: &IpAddr| found(SocketAddr::new(*ip, *port), host.as_str());
                if is_logical {
                    let key = || HostKey::Name(host.clone(), *port);
                    alone = names.first(&name).map(|ip| Found { key: key(), ..of(&ip) });
                } else {
                    many.extend(names.addresses(&name).iter().map(of));
                }
            }
        }
        alone.into_iter().chain(many)
    })
}

fn are_same<'h>(old: impl Iterator<Item = &'h Arc<Host>>, hosts: &[Arc<Host>]) -> bool {
    let mut hosts = hosts.iter();
    let mut old = old;
    old.all(|host| hosts.next().is_some_and(|it| Arc::ptr_eq(it, host))) && hosts.next().is_none()
}
