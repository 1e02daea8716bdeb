//! `LEAST_REQUEST`: the host with the fewest requests of a few that are drawn, or, where hosts have
//! different weights, hosts in turn by their weight divided by the requests that they have.
//!
//! With weights, a host that is picked with `a` requests under way is due again `(a + 1)^bias /
//! weight` later: the earliest deadline is next, as in `schedule`, but the weight is that of the
//! moment.
//!
//! What it leaves to others: how many requests a host has (`upstream::pool`).

use super::schedule::Start;
use crate::config::LeastRequest;
use crate::shard::Random;
use crate::snapshot::{EndpointSet, Group, Host, HostId, Hosts, Members};
use std::cmp::{Ordering, Reverse};
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};

/// The longest time from one pick of a host to its next: a bias can make it infinite.
const PAUSE_MAX: f64 = 1e9;

/// Where the picks from a group are.
#[derive(Debug)]
pub(super) struct LeastRequests {
    config: LeastRequest,
    /// When each host is due; empty where all weights are the same.
    queue: BinaryHeap<Reverse<Due>>,
    /// When the last pick was due.
    now: f64,
    /// Counts what was queued; of hosts due at one time, the lowest is first.
    queued: u64,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    /// Finite.
    at: f64,
    queued: u64,
    host: u32,
}

impl LeastRequests {
    /// Hosts that were due before stay due; others are due at random within their first turn.
    pub(super) fn new(
        endpoints: &EndpointSet,
        group: &Group,
        config: LeastRequest,
        start: Start<'_>,
        random: &mut Random,
    ) -> LeastRequests {
        let mut requests = LeastRequests { config, queue: BinaryHeap::new(), now: 0.0, queued: 0 };
        if !group.is_weighted {
            return requests;
        }
        let mut before: HashMap<HostId, f64> = HashMap::new();
        if let Start::AfterRequests(old, hosts) = start {
            requests.now = old.now;
            let id = |due: &Due| hosts.hosts.get(due.host as usize).map(|host| host.id);
            before.extend(old.queue.iter().filter_map(|Reverse(due)| Some((id(due)?, due.at))));
        }
        let mut queue = Vec::with_capacity(group.hosts.len());
        for (queued, host) in group.hosts.iter().enumerate() {
            let Host { id, weight, .. } = &*endpoints.hosts[host as usize];
            let fraction = random.below(1 << 20) as f64 / f64::from(1 << 20);
            let fresh = requests.now + (fraction + 1e-6) / f64::from((*weight).max(1));
            let at = before.get(id).copied().unwrap_or(fresh);
            queue.push(Reverse(Due { at, queued: queued as u64, host }));
        }
        requests.queued = queue.len() as u64;
        requests.queue = queue.into();
        requests
    }

    /// The next host of the group.
    #[inline]
    pub(super) fn pick(
        &mut self,
        group: &Members,
        hosts: &Hosts,
        active: impl Fn(u32) -> u32,
        random: &mut Random,
    ) -> u32 {
        let Some(mut first) = self.queue.peek_mut() else {
            return match self.config.is_full_scan {
                true => scan(group, active, random),
                false => draw(group, self.config.choice_count, active, random),
            };
        };
        let Reverse(due) = &mut *first;
        let host = due.host;
        self.now = due.at;
        let load = f64::from(active(host)) + 1.0;
        let bias = self.config.active_request_bias;
        let load = if bias == 1.0 { load } else { load.powf(bias) };
        let weight = f64::from(hosts[host as usize].weight.max(1));
        due.at = self.now + (load / weight).min(PAUSE_MAX);
        due.queued = self.queued;
        self.queued += 1;
        // Moves the host to its new place in the queue; no memory is taken or given back.
        drop::<PeekMut<'_, _>>(first);
        host
    }
}

/// The host with the fewest requests of `choices` that are drawn; the first of those with as many.
fn draw(group: &Members, choices: u32, active: impl Fn(u32) -> u32, random: &mut Random) -> u32 {
    let mut chosen = group.get(random.below(group.len()));
    let mut fewest = active(chosen);
    for _ in 1..choices {
        let host = group.get(random.below(group.len()));
        let requests = active(host);
        if requests < fewest {
            (chosen, fewest) = (host, requests);
        }
    }
    chosen
}

/// The host with the fewest requests of all; of those with as many, each with the same chance.
fn scan(group: &Members, active: impl Fn(u32) -> u32, random: &mut Random) -> u32 {
    let (mut chosen, mut fewest, mut same) = (group.get(0), u32::MAX, 0);
    for host in group.iter() {
        let requests = active(host);
        match requests.cmp(&fewest) {
            Ordering::Less => (chosen, fewest, same) = (host, requests, 1),
            Ordering::Equal => {
                same += 1;
                if random.below(same) == 0 {
                    chosen = host;
                }
            }
            Ordering::Greater => {}
        }
    }
    chosen
}

impl Ord for Due {
    /// By deadline, then by when it was queued.
    fn cmp(&self, other: &Due) -> Ordering {
        self.at.total_cmp(&other.at).then(self.queued.cmp(&other.queued))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}
