//! One simulated thread's side of the world: its sockets, what was completed for them and not yet
//! reported, its buffers, and what it waits for.
//!
//! What it leaves to others: what happens on the network.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::endpoint::{EndpointId, Listener};
use super::memory::Memory;
use super::trace::Entry;
use super::world::State;
use crate::{Completion, IoStats, Outcome, Socket, Token};

/// What belongs to one [`super::SimIo`].
#[derive(Debug)]
pub(super) struct Node {
    pub name: String,
    pub address: IpAddr,
    pub slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots with pending completions, each once.
    ready: Vec<u32>,
    pub memory: Memory,
    /// Endpoints that wait for a free buffer.
    pub starved: Vec<EndpointId>,
    pub stats: IoStats,
    /// Sockets whose slot is free but that still hold something.
    pub closing: u64,
    /// Sockets that there may be.
    pub sockets_max: u64,
    pub woken: Arc<AtomicBool>,
    pub waker_token: Token,
    pub wait: Wait,
    /// When its last turn returned: from then on it waits.
    pub turned_at: u64,
    next_port: u16,
}

/// What a thread waits for, when the world decides who runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    /// It wants to run.
    Nothing,
    /// A completion or this time; none: a completion only.
    Until(Option<u64>),
    /// Its [`super::SimIo`] was dropped.
    Forever,
}

/// A socket's place in its thread.
#[derive(Debug)]
pub(super) struct Slot {
    generation: u32,
    pub token: Token,
    pub held: Held,
    pub pending: VecDeque<Outcome>,
}

/// What a slot holds.
#[derive(Debug)]
pub(super) enum Held {
    Nothing,
    Listener(Listener),
    Stream(EndpointId),
}

impl Node {
    pub fn new(name: &str, index: usize, buffers_max: u32, buffer_bytes: u32) -> Node {
        let address = Ipv4Addr::new(10, 255, (index >> 8) as u8, index as u8);
        Node {
            name: name.to_owned(),
            address: IpAddr::V4(address),
            slots: Vec::new(),
            free: Vec::new(),
            ready: Vec::new(),
            memory: Memory::new(buffers_max, buffer_bytes),
            starved: Vec::new(),
            stats: IoStats::default(),
            closing: 0,
            sockets_max: u64::MAX,
            woken: Arc::new(AtomicBool::new(false)),
            waker_token: Token(u64::MAX),
            wait: Wait::Nothing,
            turned_at: 0,
            next_port: 32_768,
        }
    }

    /// A local address for a new connection.
    pub fn ephemeral(&mut self) -> SocketAddr {
        self.next_port = self.next_port.checked_add(1).unwrap_or(32_768);
        SocketAddr::new(self.address, self.next_port)
    }

    /// Gives `held` a socket.
    pub fn insert(&mut self, held: Held, token: Token) -> Socket {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                token,
                held: Held::Nothing,
                pending: VecDeque::new(),
            });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        debug_assert!(matches!(slot.held, Held::Nothing) && slot.pending.is_empty());
        slot.token = token;
        slot.held = held;
        Socket { index, generation: slot.generation }
    }

    /// Frees the socket's slot. Its completions die here and its handle is stale from now on.
    pub fn remove(&mut self, socket: Socket) -> Option<(Held, VecDeque<Outcome>)> {
        let slot = self.find(socket)?;
        slot.generation = slot.generation.wrapping_add(1);
        let held = std::mem::replace(&mut slot.held, Held::Nothing);
        let pending = std::mem::take(&mut slot.pending);
        self.ready.retain(|ready| *ready != socket.index);
        self.free.push(socket.index);
        Some((held, pending))
    }

    /// The slot of a socket that was not closed.
    pub fn find(&mut self, socket: Socket) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(socket.index as usize)?;
        (slot.generation == socket.generation && !matches!(slot.held, Held::Nothing))
            .then_some(slot)
    }

    /// The connection of a socket that was not closed.
    pub fn stream(&self, socket: Socket) -> Option<EndpointId> {
        let slot = self.slots.get(socket.index as usize)?;
        match slot.held {
            Held::Stream(id) if slot.generation == socket.generation => Some(id),
            _ => None,
        }
    }

    /// The socket of a slot.
    pub fn socket(&self, index: u32) -> Socket {
        Socket { index, generation: self.slots[index as usize].generation }
    }

    /// Sockets that are open or closing.
    pub fn sockets(&self) -> u64 {
        (self.slots.len() - self.free.len()) as u64 + self.closing
    }

    /// A completion for a later turn.
    pub fn complete(&mut self, index: u32, outcome: Outcome) {
        let slot = &mut self.slots[index as usize];
        debug_assert!(!matches!(slot.held, Held::Nothing));
        if slot.pending.is_empty() {
            self.ready.push(index);
        }
        slot.pending.push_back(outcome);
    }

    /// Whether a turn at `now` would return at once.
    pub fn wants_turn(&self, now: u64) -> bool {
        let due = match self.wait {
            Wait::Forever => return false,
            Wait::Nothing => true,
            Wait::Until(deadline) => deadline.is_some_and(|deadline| deadline <= now),
        };
        due || self.has_news()
    }

    fn has_news(&self) -> bool {
        !self.ready.is_empty()
            || self.woken.load(Ordering::Acquire)
            || (!self.starved.is_empty() && !self.memory.is_exhausted())
    }
}

impl State {
    /// Reports what was completed for `node`: some or all of it, from any sockets, in order within
    /// each.
    pub fn collect(&mut self, node: usize, completions: &mut Vec<Completion>) {
        self.feed_starved(node);
        if self.nodes[node].woken.swap(false, Ordering::AcqRel) {
            let token = self.nodes[node].waker_token;
            completions.push(Completion { token, outcome: Outcome::Woken });
            self.record("woken", node, 0, 0);
        }
        let mut room = usize::MAX;
        if self.nodes[node].ready.len() > 1 && self.random.chance(self.faults.overflow) {
            self.nodes[node].stats.overflows += 1;
            room = self.random.size(8);
        }
        while room > 0 && !self.nodes[node].ready.is_empty() {
            let reorder = self.random.chance(self.faults.reorder);
            let ready = self.nodes[node].ready.len();
            let position = if reorder { self.random.index(ready) } else { 0 };
            self.take_one(node, position, completions);
            room -= 1;
        }
    }

    fn take_one(&mut self, node: usize, position: usize, completions: &mut Vec<Completion>) {
        let this = &mut self.nodes[node];
        let index = this.ready[position];
        let slot = &mut this.slots[index as usize];
        let token = slot.token;
        let outcome = slot.pending.pop_front();
        if slot.pending.is_empty() {
            this.ready.remove(position);
        }
        if let Some(outcome) = outcome {
            this.stats.completions += 1;
            let (what, value) = self.describe(&outcome);
            self.record(what, node, token.0, value);
            completions.push(Completion { token, outcome });
        }
    }

    /// A name and a number for the trace; received bytes themselves are folded in too.
    fn describe(&mut self, outcome: &Outcome) -> (&'static str, u64) {
        let code = |result: &Result<(), crate::Errno>| result.map_or_else(|e| e.0 as u64, |()| 0);
        match outcome {
            Outcome::Accepted(socket) => ("accepted", u64::from(socket.index)),
            Outcome::AcceptStopped(errno) => ("accept-stopped", errno.0 as u64),
            Outcome::Connected(result) => ("connected", code(result)),
            Outcome::Received(buffer) => {
                self.trace.received(buffer);
                ("received", buffer.len() as u64)
            }
            Outcome::Eof => ("eof", 0),
            Outcome::RecvFailed(errno) => ("recv-failed", errno.0 as u64),
            Outcome::Sent(result) => ("sent", code(result)),
            Outcome::Spliced { bytes, .. } => ("spliced", *bytes),
            Outcome::Woken => ("woken", 0),
        }
    }

    /// Records an entry at the present time.
    pub fn record(&mut self, what: &'static str, node: usize, subject: u64, value: u64) {
        self.trace.record(self.now, Entry { what, node, subject, value });
    }
}
