//! The simulated world: one clock, one source of chance, one plan of events, and the threads and
//! connections that share them.
//!
//! What it leaves to others: TCP (`network.rs`, `listener.rs`) and who runs when (`run.rs`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::endpoint::{Endpoint, EndpointId};
use super::event::{Event, Events};
use super::node::Node;
use super::trace::Trace;
use super::{Faults, NodeId, Random, SimIo};
use crate::clock::{Instant, Now};

/// The monotonic clock at the beginning: one second, so that code which subtracts has room.
const START_NS: u64 = 1_000_000_000;

/// The wall clock when the monotonic clock is zero: 2026-01-01 00:00:00 UTC.
const EPOCH_US: u64 = 1_767_225_600_000_000;

/// Receive buffers of a thread that asks for nothing special, and their size.
const BUFFERS: (u32, u32) = (256, 16 << 10);

/// A handle to a simulated world. Cheap to clone; all clones are the same world.
#[derive(Clone, Debug)]
pub struct World {
    pub(super) state: Rc<RefCell<State>>,
}

/// Everything in the world. Borrowed for the length of one call, never while user code runs.
#[derive(Debug)]
pub(super) struct State {
    /// Nanoseconds of virtual time.
    pub now: u64,
    pub random: Random,
    pub faults: Faults,
    pub trace: Trace,
    pub events: Events,
    pub nodes: Vec<Node>,
    pub endpoints: Vec<Endpoint>,
    /// Who listens where: node and slot.
    pub listeners: BTreeMap<SocketAddr, Vec<(usize, u32)>>,
    /// [`World::run`] decides who runs, so a turn must not wait.
    pub driven: bool,
}

impl World {
    /// A world in which everything that chance decides follows from `seed`.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> World {
        let state = State {
            now: START_NS,
            random: Random::new(seed),
            faults,
            trace: Trace::new(),
            events: Events::default(),
            nodes: Vec::new(),
            endpoints: Vec::new(),
            listeners: BTreeMap::new(),
            driven: false,
        };
        World { state: Rc::new(RefCell::new(state)) }
    }

    /// The I/O of one more simulated thread, with 256 receive buffers of 16 KiB.
    #[must_use]
    pub fn io(&self, name: &str) -> SimIo {
        self.io_with_buffers(name, BUFFERS.0, BUFFERS.1)
    }

    /// As [`World::io`], with `buffers_max` receive buffers of `buffer_bytes` each.
    ///
    /// # Panics
    ///
    /// When either is zero, or the machine has no address space for the buffers.
    #[must_use]
    pub fn io_with_buffers(&self, name: &str, buffers_max: u32, buffer_bytes: u32) -> SimIo {
        assert!(buffers_max > 0 && buffer_bytes > 0, "a thread needs receive buffers");
        let mut state = self.state.borrow_mut();
        let node = state.nodes.len();
        let mut new = Node::new(name, node, buffers_max, buffer_bytes);
        new.turned_at = state.now;
        state.nodes.push(new);
        SimIo::new(self.state.clone(), NodeId(node))
    }

    /// A descriptor that stands for a listening socket on `address`: [`crate::Io::listen`] of any
    /// [`SimIo`] takes it. Several on one address share it as SO_REUSEPORT sockets do.
    ///
    /// # Errors
    ///
    /// Those of `memfd_create` and of writing to it.
    pub fn listener_fd(&self, address: SocketAddr) -> io::Result<OwnedFd> {
        super::listener::descriptor_for(address)
    }

    /// What goes wrong from now on. Connections that were to be cut are spared when the new faults
    /// have no resets.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.state.borrow_mut();
        if faults.reset == 0 {
            state.endpoints.iter_mut().for_each(|endpoint| endpoint.cut_after = None);
        }
        state.faults = faults;
    }

    /// What goes wrong now.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.state.borrow().faults.clone()
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Now {
        self.state.borrow().now()
    }

    /// All that happened so far in one number: equal seeds and equal programs give equal numbers.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.state.borrow().trace.hash()
    }

    /// Prints each entry of the trace to standard error from now on.
    pub fn print_trace(&self, print: bool) {
        self.state.borrow_mut().trace.set_print(print);
    }

    /// From now on the trace knows how much was received, and not what: for bytes that differ each
    /// time.
    pub fn trace_lengths_only(&self) {
        self.state.borrow_mut().trace.set_lengths_only();
    }

    /// The name that a thread was given.
    #[must_use]
    pub fn name(&self, node: NodeId) -> String {
        self.state.borrow().nodes[node.0].name.clone()
    }
}

impl State {
    pub fn now(&self) -> Now {
        Now { instant: Instant(self.now), unix_us: EPOCH_US + self.now / 1_000 }
    }

    /// How long something takes on the network: nanoseconds, at least 1,000.
    pub fn latency(&mut self) -> u64 {
        let (low, high) = self.faults.latency_us;
        self.random.between(low * 1_000, high * 1_000).max(1_000)
    }

    /// Plans `event` a latency from now.
    pub fn plan(&mut self, event: Event) {
        let at = self.now + self.latency();
        self.events.plan(at, event);
    }

    /// Lets happen what is due.
    pub fn settle(&mut self) {
        while let Some(event) = self.events.take_due(self.now) {
            self.apply(event);
        }
    }

    /// Moves the clock to `at`, or a little further.
    pub fn advance_to(&mut self, at: u64) {
        self.now = self.now.max(at);
        if self.random.chance(self.faults.clock_jump) {
            self.now += self.random.between(0, self.faults.clock_jump_us_max * 1_000);
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Syn(id, address, attempt) => self.syn_arrives(id, address, attempt),
            Event::Connected(id, result) => self.connect_ends(id, result),
            Event::Accept(node, index, generation) => {
                self.accept_some(node, crate::Socket { index, generation });
            }
            Event::Arrive(id) => self.arrive(id),
            Event::Send(id) => {
                self.endpoints[id].send_planned = false;
                self.send_some(id);
                if let Some(from) = self.endpoints[id].spliced_from {
                    self.splice_some(from);
                }
            }
            Event::Splice(id) => self.splice_some(id),
            Event::Deliver(id) => self.deliver(id),
            Event::Pause(id, recv_calls) => self.pause_works(id, recv_calls),
            Event::Fail(id) => self.fail(id),
            Event::Release(node, output) => {
                drop(output);
                self.nodes[node].closing -= 1;
            }
        }
    }

    pub fn add_endpoint(&mut self, endpoint: Endpoint) -> EndpointId {
        self.endpoints.push(endpoint);
        self.endpoints.len() - 1
    }
}
