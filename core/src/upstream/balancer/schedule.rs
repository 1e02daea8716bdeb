//! The order of picks within a group of hosts.
//!
//! With equal weights hosts simply take turns. With unequal ones the order is that of Envoy's
//! scheduler, earliest deadline first: a host of weight `w` is due at the times `1/w`, `2/w`,
//! `3/w`, ... and of hosts that are due at the same time the one that was queued first is picked.
//! For the weights 1, 2, 3 that is, over and over:
//!
//! ```text
//! time    1/3  1/2  2/3  1  1  1
//! weight   3    2    3   1  2  3
//! ```
//!
//! Times are kept as fractions, not as floating point numbers, so that a tie is a tie however long
//! it runs: in every sum of the weights' picks, each host gets exactly its weight.
//!
//! What it leaves to others: which hosts are in the group (`round_robin`).

use crate::snapshot::{EndpointSet, Host, HostId};
use std::cmp::{Ordering, Reverse};
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};

/// Where a new schedule begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start<'a> {
    /// When this part of the cycle is over, in units of 2^-32.
    Fraction(u32),
    /// Where this schedule of other hosts is now.
    After(&'a Schedule, &'a EndpointSet),
}

/// A time, in cycles: the first number divided by the second, which is not 0.
type Time = (u64, u64);

impl Start<'_> {
    /// Multiples of the golden ratio: however many shards there are, they are spread evenly.
    pub(super) fn from_seed(seed: u64) -> Start<'static> {
        Start::Fraction((seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32)
    }

    fn time(&self) -> Time {
        match *self {
            Start::Fraction(fraction) => (u64::from(fraction), 1 << 32),
            Start::After(Schedule::Turns { hosts, next }, _) => {
                (*next as u64, hosts.len().max(1) as u64)
            }
            Start::After(Schedule::Deadlines { now, .. }, _) => *now,
        }
    }

    /// The part of a cycle that is over, of `size`; less than `size`, or 0.
    pub(super) fn scale(&self, size: usize) -> usize {
        let (count, of) = self.time();
        whole((count % of, of), size as u64) as usize
    }

    /// The host whose turn it is, if hosts took turns.
    fn next(&self) -> Option<HostId> {
        let Start::After(Schedule::Turns { hosts, next }, endpoints) = self else { return None };
        Some(endpoints.hosts.get(*hosts.get(*next)? as usize)?.id)
    }

    /// The hosts that wait for their deadline, and how many were queued.
    fn waiting(&self) -> (HashMap<HostId, Due>, u64) {
        let Start::After(Schedule::Deadlines { queue, queued, .. }, endpoints) = self else {
            return (HashMap::new(), 0);
        };
        let host = |due: &Due| endpoints.hosts.get(due.host as usize).map(|host| host.id);
        let waiting = queue.iter().filter_map(|Reverse(due)| Some((host(due)?, *due)));
        (waiting.collect(), *queued)
    }
}

/// `time * factor`, rounded down.
fn whole((count, of): Time, factor: u64) -> u64 {
    (u128::from(count) * u128::from(factor) / u128::from(of)) as u64
}

/// The order of picks. Hosts are named by their place in the endpoint set.
#[derive(Debug)]
pub(super) enum Schedule {
    /// Equal weights: in turn. `next < hosts.len()`, or both are 0.
    Turns { hosts: Vec<u32>, next: usize },
    /// Unequal weights.
    Deadlines {
        queue: BinaryHeap<Reverse<Due>>,
        /// Counts what was queued; of hosts due at one time, the lowest is first.
        queued: u64,
        /// When the last pick was due.
        now: Time,
    },
}

/// A host that is due at the time `count / weight`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    count: u64,
    /// At least 1.
    weight: u32,
    queued: u64,
    host: u32,
}

impl Schedule {
    /// A schedule of the hosts that `taken` takes.
    pub(super) fn new(
        endpoints: &EndpointSet,
        start: Start<'_>,
        taken: impl Fn(&Host) -> bool,
    ) -> Schedule {
        let hosts = || {
            let all = endpoints.hosts.iter().enumerate();
            all.filter(|(_, host)| taken(host)).map(|(index, host)| (index as u32, &**host))
        };
        let first = hosts().next().map_or(1, |(_, host)| host.weight);
        if hosts().any(|(_, host)| host.weight != first) {
            return Schedule::deadlines(start, hosts());
        }
        let order: Vec<u32> = hosts().map(|(index, _)| index).collect();
        let same = |id| hosts().position(|(_, host)| host.id == id);
        let next = start.next().and_then(same).unwrap_or_else(|| start.scale(order.len()));
        Schedule::Turns { hosts: order, next }
    }

    /// A host that waits already keeps its deadline and its place among those due at the same time:
    /// else a host that is due once in a cycle would never be picked while hosts change more often
    /// than that. Every other host gets its first deadline after the start, in the order in which
    /// it would have been queued by then: that of the deadline before, then of the hosts.
    fn deadlines<'a>(start: Start<'_>, hosts: impl Iterator<Item = (u32, &'a Host)>) -> Schedule {
        let now = start.time();
        let (waiting, mut queued) = start.waiting();
        let (mut queue, mut others) = (Vec::new(), Vec::new());
        for (index, host) in hosts {
            let weight = host.weight.max(1);
            match waiting.get(&host.id) {
                Some(due) if due.weight == weight => queue.push(Due { host: index, ..*due }),
                _ => {
                    let count = whole(now, u64::from(weight));
                    others.push(Due { count, weight, queued: u64::from(index), host: index });
                }
            }
        }
        others.sort_unstable();
        for mut due in others {
            due.count += 1;
            due.queued = queued;
            queued += 1;
            queue.push(due);
        }
        Schedule::Deadlines { queue: queue.into_iter().map(Reverse).collect(), queued, now }
    }

    /// The next host.
    #[inline]
    pub(super) fn pick(&mut self) -> Option<usize> {
        match self {
            Schedule::Turns { hosts, next } => {
                let host = *hosts.get(*next)?;
                *next = if *next + 1 == hosts.len() { 0 } else { *next + 1 };
                Some(host as usize)
            }
            Schedule::Deadlines { queue, queued, now } => {
                let mut first = queue.peek_mut()?;
                let Reverse(due) = &mut *first;
                let host = due.host as usize;
                *now = (due.count, u64::from(due.weight));
                due.count += 1;
                due.queued = *queued;
                *queued += 1;
                // Moves the host to its new place in the queue; no memory is taken or given back.
                drop::<PeekMut<'_, _>>(first);
                Some(host)
            }
        }
    }
}

impl Ord for Due {
    /// By deadline, then by when it was queued.
    fn cmp(&self, other: &Due) -> Ordering {
        let this = u128::from(self.count) * u128::from(other.weight);
        let that = u128::from(other.count) * u128::from(self.weight);
        this.cmp(&that).then(self.queued.cmp(&other.queued))
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
