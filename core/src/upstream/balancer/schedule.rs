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
//! What it leaves to others: which hosts are in the group (`snapshot::cluster`).

use super::least_request::LeastRequests;
use crate::snapshot::{EndpointSet, Group, HostId, Members};
use std::cmp::{Ordering, Reverse};
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};

/// Where a new schedule begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start<'a> {
    /// When this part of the cycle is over, in units of 2^-32.
    Fraction(u32),
    /// Where this schedule of a group of other hosts is now.
    After(&'a Schedule, &'a Members, &'a EndpointSet),
    /// Where `LEAST_REQUEST` over a group of other hosts is now.
    AfterRequests(&'a LeastRequests, &'a EndpointSet),
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
            Start::After(Schedule::Turns { next }, hosts, _) => {
                (*next as u64, hosts.len().max(1) as u64)
            }
            Start::After(Schedule::Deadlines(deadlines), ..) => deadlines.now,
            Start::AfterRequests(..) => (0, 1),
        }
    }

    /// The part of a cycle that is over, of `size`; less than `size`, or 0.
    fn scale(&self, size: usize) -> usize {
        let (count, of) = self.time();
        whole((count % of, of), size as u64) as usize
    }

    /// The number in `group` of the host whose turn it is, if hosts took turns and it is there.
    fn next_in(&self, group: &Members, endpoints: &EndpointSet) -> Option<usize> {
        let Start::After(Schedule::Turns { next }, members, before) = self else { return None };
        if *next >= members.len() {
            return None;
        }
        let place = endpoints.hosts.place_of(&before.hosts, members.get(*next) as usize)?;
        group.number_of(place as u32)
    }

    /// The hosts that wait for their deadline, and how many were queued.
    fn waiting(&self) -> (HashMap<HostId, Due>, u64) {
        let Start::After(Schedule::Deadlines(deadlines), _, endpoints) = self else {
            return (HashMap::new(), 0);
        };
        let host = |due: &Due| endpoints.hosts.get(due.item as usize).map(|host| host.id);
        let queue = deadlines.queue.iter();
        let waiting = queue.filter_map(|Reverse(due)| Some((host(due)?, *due)));
        (waiting.collect(), deadlines.queued)
    }
}

/// `time * factor`, rounded down.
fn whole((count, of): Time, factor: u64) -> u64 {
    (u128::from(count) * u128::from(factor) / u128::from(of)) as u64
}

/// The order of picks.
#[derive(Debug)]
pub(super) enum Schedule {
    /// Equal weights: in turn. `next` is below the number of hosts, or 0.
    Turns { next: usize },
    /// Unequal weights.
    Deadlines(Deadlines),
}

/// Items with weights, by the earliest deadline.
#[derive(Debug)]
pub(super) struct Deadlines {
    queue: BinaryHeap<Reverse<Due>>,
    /// Counts what was queued; of items due at one time, the lowest is first.
    queued: u64,
    /// When the last pick was due.
    now: Time,
}

/// An item that is due at the time `count / weight`.
#[derive(Clone, Copy, Debug)]
struct Due {
    count: u64,
    /// At least 1.
    weight: u64,
    queued: u64,
    /// A host by its place in the endpoint set, or a group by its place in its source.
    item: u32,
}

impl Schedule {
    /// A schedule of this group's hosts.
    pub(super) fn new(endpoints: &EndpointSet, group: &Group, start: Start<'_>) -> Schedule {
        if !group.is_weighted {
            let next = start.next_in(&group.hosts, endpoints);
            return Schedule::Turns {
                next: next.unwrap_or_else(|| start.scale(group.hosts.len())),
            };
        }
        let (waiting, queued) = start.waiting();
        let items = group.hosts.iter().map(|place| {
            let host = &endpoints.hosts[place as usize];
            (place, u64::from(host.weight), waiting.get(&host.id))
        });
        Schedule::Deadlines(Deadlines::new(start.time(), queued, items))
    }

    /// The next of the group's hosts.
    #[inline]
    pub(super) fn pick(&mut self, group: &Members) -> u32 {
        match self {
            Schedule::Turns { next } => {
                let host = group.get(*next);
                *next = if *next + 1 == group.len() { 0 } else { *next + 1 };
                host
            }
            Schedule::Deadlines(deadlines) => deadlines.pick(),
        }
    }
}

impl Deadlines {
    /// Items with these weights, none of which was queued before.
    pub(super) fn fresh(start: Start<'_>, weights: impl Iterator<Item = u64>) -> Deadlines {
        let items = weights.enumerate().map(|(item, weight)| (item as u32, weight, None));
        Deadlines::new(start.time(), 0, items)
    }

    /// An item that waits already keeps its deadline and its place among those due at the same
    /// time: else a host that is due once in a cycle would never be picked while hosts change more
    /// often than that. Every other item gets its first deadline after the start, in the order in
    /// which it would have been queued by then: that of the deadline before, then of the items.
    fn new<'a>(
        now: Time,
        mut queued: u64,
        items: impl Iterator<Item = (u32, u64, Option<&'a Due>)>,
    ) -> Deadlines {
        let (mut queue, mut others) = (Vec::new(), Vec::new());
        for (item, weight, waiting) in items {
            let weight = weight.max(1);
            match waiting {
                Some(due) if due.weight == weight => queue.push(Due { item, ..*due }),
                _ => {
                    let count = whole(now, weight);
                    others.push(Due { count, weight, queued: u64::from(item), item });
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
        Deadlines { queue: queue.into_iter().map(Reverse).collect(), queued, now }
    }

    /// The next item; 0 if there is none.
    #[inline]
    pub(super) fn pick(&mut self) -> u32 {
        let Some(mut first) = self.queue.peek_mut() else { return 0 };
        let Reverse(due) = &mut *first;
        let item = due.item;
        self.now = (due.count, due.weight);
        due.count += 1;
        due.queued = self.queued;
        self.queued += 1;
        // Moves the item to its new place in the queue; no memory is taken or given back.
        drop::<PeekMut<'_, _>>(first);
        item
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
