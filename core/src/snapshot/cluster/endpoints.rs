//! The hosts of a cluster, with what is computed from them once for all shards.
//!
//! What it leaves to others: which groups picks come from (`selection`), choosing
//! (`upstream::balancer`).

use super::HostId;
use super::selection::{SelectionRules, Source, select};
use crate::config::{Availability, HealthStatus, Metadata};
use crate::paged::{Page, Paged, page_sizes};
use crate::stats::Scope;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// The hosts of a cluster.
#[derive(Debug, Default)]
pub struct EndpointSet {
    /// In order of configuration, then of address; no address twice.
    pub hosts: Hosts,
    /// How picks are shared out between them.
    pub sources: Vec<Source>,
    /// By which rules.
    pub rules: SelectionRules,
}

impl EndpointSet {
    /// A set of these hosts.
    #[must_use]
    pub fn new(hosts: Hosts, rules: SelectionRules) -> EndpointSet {
        let sources = select(&hosts, &rules);
        EndpointSet { hosts, sources, rules }
    }
}

/// Hosts in pages that versions of a cluster share.
pub type Hosts = Paged<HostPage>;

impl Hosts {
    /// The place of the host that another version has at `place`, if it is here.
    #[must_use]
    pub fn place_of(&self, other: &Hosts, place: usize) -> Option<usize> {
        let id = other.get(place)?.id;
        let (page, within) = other.page_of(place);
        let shared = |at: &usize| Arc::ptr_eq(&self.pages()[*at], &other.pages()[page]);
        // Mostly it is where it was, or near.
        let near = Some(page).filter(|at| *at < self.pages().len()).filter(shared);
        if let Some(at) = near.or_else(|| (0..self.pages().len()).find(shared)) {
            return Some(self.start(at) + within);
        }
        let places = self.places_in(other).into_iter().enumerate();
        places.filter(|(_, there)| there.is_none()).find_map(|(at, _)| {
            let within = self.pages()[at].items().iter().position(|host| host.id == id)?;
            Some(self.start(at) + within)
        })
    }

    /// The hosts that another version has otherwise or not at all, and those that it has instead.
    #[must_use]
    pub fn changes_since<'h>(
        &'h self,
        before: &'h Hosts,
    ) -> (Vec<&'h Arc<Host>>, Vec<&'h Arc<Host>>) {
        let mut gone: Vec<_> = before.items_not_in(self).collect();
        let mut came: Vec<_> = self.items_not_in(before).collect();
        // Of a page with a change, most hosts stay.
        let same = |(a, b): &(&&Arc<Host>, &&Arc<Host>)| Arc::ptr_eq(a, b);
        let behind = gone.iter().rev().zip(came.iter().rev()).take_while(same).count();
        gone.truncate(gone.len() - behind);
        came.truncate(came.len() - behind);
        let ahead = gone.iter().zip(&came).take_while(same).count();
        gone.drain(..ahead);
        came.drain(..ahead);
        (gone, came)
    }

    /// How many hosts there are of an availability.
    #[must_use]
    pub fn count(&self, availability: Availability) -> u64 {
        self.pages().iter().map(|page| u64::from(page.class(availability).count)).sum()
    }
}

/// Hosts of one locality and priority, at least one.
#[derive(Debug)]
pub struct HostPage {
    hosts: Box<[Arc<Host>]>,
    /// By availability.
    classes: [Class; Availability::ALL.len()],
}

/// What is known of the hosts of a page that have one availability.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Class {
    pub count: u32,
    /// The sum of their weights.
    pub weight: u64,
    /// The smallest and the largest.
    pub weights: Option<(u32, u32)>,
}

impl HostPage {
    /// A page of hosts that have the same locality and priority.
    #[must_use]
    pub fn new(hosts: Vec<Arc<Host>>) -> HostPage {
        let mut classes = [Class::default(); Availability::ALL.len()];
        for host in &hosts {
            let class = &mut classes[host.availability() as usize];
            let (least, most) = class.weights.unwrap_or((host.weight, host.weight));
            class.weights = Some((least.min(host.weight), most.max(host.weight)));
            class.weight += u64::from(host.weight);
            class.count += 1;
        }
        HostPage { hosts: hosts.into(), classes }
    }

    pub(super) fn class(&self, availability: Availability) -> &Class {
        &self.classes[availability as usize]
    }

    /// One of its hosts: what it says of locality and priority is said of all.
    pub(super) fn any(&self) -> &Host {
        &self.hosts[0]
    }
}

impl Page for HostPage {
    type Item = Arc<Host>;

    #[inline]
    fn items(&self) -> &[Arc<Host>] {
        &self.hosts
    }
}

impl FromIterator<Arc<Host>> for Hosts {
    fn from_iter<I: IntoIterator<Item = Arc<Host>>>(hosts: I) -> Hosts {
        let (mut pages, mut run) = (Vec::new(), Vec::<Arc<Host>>::new());
        for host in hosts {
            if run.last().is_some_and(|last| !last.is_beside(&host)) {
                pages.extend(pages_of(std::mem::take(&mut run)));
            }
            run.push(host);
        }
        pages.extend(pages_of(run));
        Hosts::new(pages)
    }
}

fn pages_of(hosts: Vec<Arc<Host>>) -> impl Iterator<Item = Arc<HostPage>> {
    let sizes = page_sizes(hosts.len()).filter(|size| *size > 0);
    let mut hosts = hosts.into_iter();
    sizes.map(move |size| Arc::new(HostPage::new(hosts.by_ref().take(size).collect())))
}

/// One host of a cluster.
#[derive(Debug)]
pub struct Host {
    /// Its number.
    pub id: HostId,
    /// Where to connect.
    pub address: SocketAddr,
    /// `endpoint.hostname`, or the name that was resolved.
    pub hostname: String,
    /// At least 1.
    pub weight: u32,
    /// As configured.
    pub health_status: HealthStatus,
    /// Region, zone, sub-zone.
    pub locality: Arc<[String; 3]>,
    /// `load_balancing_weight` of the locality; 0 if it has none.
    pub locality_weight: u32,
    /// 0 first.
    pub priority: u32,
    /// `metadata` of the endpoint.
    pub metadata: Metadata,
    /// How many connections there are to it from all shards, where they have a limit.
    pub connections: Option<Arc<AtomicU32>>,
    /// Its stats.
    pub stats: Scope,
}

impl Host {
    /// Whether both are of one locality and priority.
    fn is_beside(&self, other: &Host) -> bool {
        self.priority == other.priority
            && self.locality_weight == other.locality_weight
            && self.locality == other.locality
    }

    /// What its health means to a balancer.
    #[must_use]
    pub fn availability(&self) -> Availability {
        self.health_status.availability()
    }
}
