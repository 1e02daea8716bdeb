//! Load balancers: which host of a cluster is next.
//!
//! A balancer belongs to one shard and shares nothing with other shards: each starts at another
//! place (by its seed), so that a cluster with few requests does not see all of them at its first
//! host. Which hosts take part, and what share of the picks they get, was computed once for all
//! shards (`snapshot::cluster`); here is the choice among them.
//!
//! `LEAST_REQUEST` compares the requests that this shard has at each host, those that wait for a
//! connection included. Envoy compares those of all its threads, which costs it a shared write per
//! request.
//!
//! What it leaves to others: connections to the chosen host (`upstream::pool`), counting (`proxy`).

mod least_request;
mod schedule;

use crate::config::LbPolicy;
use crate::shard::Random;
use crate::snapshot::{EndpointSet, Group, Host, Hosts, Source, SourceKind};
use least_request::LeastRequests;
use schedule::{Deadlines, Schedule, Start};
use std::sync::Arc;

/// What a balancer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pick {
    /// Its place in [`LoadBalancer::endpoints`]; `None` when no host may be used.
    pub host: Option<usize>,
    /// Too few hosts are available, so that all were in the choice, or none if the configuration
    /// wants that: counts as `lb_healthy_panic`.
    pub panic: bool,
}

/// One shard's balancer of one cluster.
#[derive(Debug)]
pub struct LoadBalancer {
    endpoints: Arc<EndpointSet>,
    policy: LbPolicy,
    /// As the endpoint set's sources.
    sources: Vec<SourceState>,
}

/// Where the picks from a source are.
#[derive(Debug)]
struct SourceState {
    /// Which group is next, where there are several.
    localities: Option<Deadlines>,
    groups: Vec<GroupState>,
}

/// Where the picks from a group are.
#[derive(Debug)]
enum GroupState {
    RoundRobin(Schedule),
    LeastRequest(LeastRequests),
    Random,
}

impl LoadBalancer {
    /// A balancer over these hosts. Shards give different seeds; consecutive ones start far from
    /// each other.
    #[must_use]
    pub fn new(endpoints: &Arc<EndpointSet>, policy: LbPolicy, seed: u64) -> LoadBalancer {
        let mut random = Random::new(seed);
        let source = |source: &Source| {
            let state = |group: &Group| {
                GroupState::new(endpoints, group, policy, Start::from_seed(seed), &mut random)
            };
            SourceState::new(source, source.groups.iter().map(state).collect(), seed)
        };
        let sources = endpoints.sources.iter().map(source).collect();
        LoadBalancer { endpoints: endpoints.clone(), policy, sources }
    }

    /// The hosts that [`Pick::host`] counts in.
    #[must_use]
    pub fn endpoints(&self) -> &Arc<EndpointSet> {
        &self.endpoints
    }

    /// Takes over another set of hosts and goes on where it was, as far as that place exists there.
    /// Returns false, at once, when nothing is different.
    pub fn refresh(
        &mut self,
        endpoints: &Arc<EndpointSet>,
        policy: LbPolicy,
        random: &mut Random,
    ) -> bool {
        if Arc::ptr_eq(&self.endpoints, endpoints) && self.policy == policy {
            return false;
        }
        let mut sources = Vec::with_capacity(endpoints.sources.len());
        for source in &endpoints.sources {
            let mut groups = Vec::with_capacity(source.groups.len());
            for group in &source.groups {
                let before = self.before(source, &endpoints.hosts, group);
                let start = match before {
                    Some((group, GroupState::RoundRobin(schedule))) => {
                        Start::After(schedule, &group.hosts, &self.endpoints)
                    }
                    Some((_, GroupState::LeastRequest(requests))) => {
                        Start::AfterRequests(requests, &self.endpoints)
                    }
                    _ => Start::from_seed(random.draw()),
                };
                groups.push(GroupState::new(endpoints, group, policy, start, random));
            }
            sources.push(SourceState::new(source, groups, random.draw()));
        }
        self.endpoints = endpoints.clone();
        self.policy = policy;
        self.sources = sources;
        true
    }

    /// The group before a change that a group after it goes on from: of the same priority, kind and
    /// locality, or else the first.
    fn before(
        &self,
        source: &Source,
        hosts: &Hosts,
        group: &Group,
    ) -> Option<(&Group, &GroupState)> {
        let locality =
            |hosts: &Hosts, group: &Group| hosts[group.hosts.get(0) as usize].locality.clone();
        let wanted = locality(hosts, group);
        let sources = || self.endpoints.sources.iter().zip(&self.sources);
        let same = sources()
            .filter(|(old, _)| old.priority == source.priority && old.kind == source.kind)
            .flat_map(|(old, state)| old.groups.iter().zip(&state.groups))
            .find(|(old, _)| {
                source.groups.len() == 1 || locality(&self.endpoints.hosts, old) == wanted
            });
        let first = || {
            let (old, state) = sources().next()?;
            Some((old.groups.first()?, state.groups.first()?))
        };
        same.or_else(first)
    }

    /// The next host. `active` says how many requests this shard has at a host. Constant time when
    /// all weights are equal (a FULL_SCAN excepted), else logarithmic; allocates nothing.
    #[inline]
    pub fn pick(&mut self, random: &mut Random, active: impl Fn(&Host) -> u32) -> Pick {
        let index = match self.endpoints.sources.as_slice() {
            [] => return Pick { host: None, panic: false },
            [_] => 0,
            sources => by_percent(sources, random),
        };
        let (source, state) = (&self.endpoints.sources[index], &mut self.sources[index]);
        let panic = source.kind == SourceKind::Panic;
        let group = match &mut state.localities {
            None => 0,
            Some(localities) => localities.pick() as usize,
        };
        let (Some(group), Some(state)) = (source.groups.get(group), state.groups.get_mut(group))
        else {
            return Pick { host: None, panic };
        };
        let hosts = &self.endpoints.hosts;
        let active = |index: u32| active(&hosts[index as usize]);
        let host = match state {
            GroupState::RoundRobin(schedule) => schedule.pick(&group.hosts),
            GroupState::LeastRequest(requests) => {
                requests.pick(&group.hosts, hosts, active, random)
            }
            GroupState::Random => group.hosts.get(random.below(group.hosts.len())),
        };
        Pick { host: Some(host as usize), panic }
    }
}

/// A source by its share of 100.
fn by_percent(sources: &[Source], random: &mut Random) -> usize {
    let mut drawn = random.below(100) as u32;
    for (index, source) in sources.iter().enumerate() {
        match drawn.checked_sub(source.percent) {
            Some(left) => drawn = left,
            None => return index,
        }
    }
    0
}

impl SourceState {
    fn new(source: &Source, groups: Vec<GroupState>, seed: u64) -> SourceState {
        let weights = source.groups.iter().map(|group| group.weight);
        let several = source.groups.len() > 1;
        let localities = several.then(|| Deadlines::fresh(Start::from_seed(seed), weights));
        SourceState { localities, groups }
    }
}

impl GroupState {
    fn new(
        endpoints: &EndpointSet,
        group: &Group,
        policy: LbPolicy,
        start: Start<'_>,
        random: &mut Random,
    ) -> GroupState {
        match policy {
            LbPolicy::RoundRobin => GroupState::RoundRobin(Schedule::new(endpoints, group, start)),
            LbPolicy::LeastRequest(config) => GroupState::LeastRequest(LeastRequests::new(
                endpoints, group, config, start, random,
            )),
            LbPolicy::Random => GroupState::Random,
        }
    }
}

#[cfg(test)]
mod tests;
