//! What will happen, and when: a heap ordered by time, then by the order of planning.
//!
//! What it leaves to others: making it happen (`network.rs`).

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use super::endpoint::EndpointId;
use crate::{Errno, Output};

/// Something planned.
#[derive(Debug)]
pub(super) enum Event {
    /// A SYN reaches the address; the number counts how often it was sent again.
    Syn(EndpointId, SocketAddr, u32),
    /// A connect is decided.
    Connected(EndpointId, Result<(), Errno>),
    /// A listener looks at its backlog: node, slot, generation.
    Accept(usize, u32, u32),
    /// The first segments that this endpoint sent reach the other one.
    Arrive(EndpointId),
    /// There may be room to send on.
    Send(EndpointId),
    /// A splice from this endpoint may go on.
    Splice(EndpointId),
    /// Arrived bytes may be reported.
    Deliver(EndpointId),
    /// A late pause works, unless a newer receive replaced it.
    Pause(EndpointId, u32),
    /// The endpoint is reset from outside.
    Fail(EndpointId),
    /// A closed socket of this node lets go of its last bytes.
    Release(usize, Option<Output>),
}

/// The heap. Two events of the same time happen in the order in which they were planned.
#[derive(Debug, Default)]
pub(super) struct Events {
    heap: BinaryHeap<Planned>,
    planned_total: u64,
}

#[derive(Debug)]
struct Planned {
    at: u64,
    order: u64,
    event: Event,
}

impl Events {
    pub fn plan(&mut self, at: u64, event: Event) {
        let order = self.planned_total;
        self.planned_total += 1;
        self.heap.push(Planned { at, order, event });
    }

    /// When the next event happens.
    pub fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|planned| planned.at)
    }

    /// Takes the next event that is due at `now`.
    pub fn take_due(&mut self, now: u64) -> Option<Event> {
        if self.next_at()? > now {
            return None;
        }
        self.heap.pop().map(|planned| planned.event)
    }
}

impl Ord for Planned {
    // The standard heap gives the greatest first, and we want the earliest.
    fn cmp(&self, other: &Planned) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Planned) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Planned) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Planned {}
