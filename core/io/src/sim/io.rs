//! [`SimIo`]: the [`Io`] of one simulated thread.
//!
//! What it leaves to others: everything that happens between its calls.

use std::cell::{RefCell, RefMut};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::NodeId;
use super::endpoint::{Endpoint, EndpointId};
use super::node::{Held, Wait};
use super::world::State;
use crate::{Completion, ConnectOptions, Io, IoStats, Now, Outcome, Output, Socket, Token, Waker};

/// Completion I/O over memory, in a [`super::World`].
///
/// Inside [`super::World::run`] a turn never waits: one without completions tells the world what
/// the thread waits for. Outside, a turn lets virtual time pass until something happens.
#[derive(Debug)]
pub struct SimIo {
    state: Rc<RefCell<State>>,
    node: NodeId,
}

impl SimIo {
    pub(super) fn new(state: Rc<RefCell<State>>, node: NodeId) -> SimIo {
        SimIo { state, node }
    }

    /// Names this thread in the world.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// How many sockets this thread may have, closing ones included; at the limit, accepts and
    /// connects get `EMFILE`. As `RLIMIT_NOFILE`, it closes none.
    pub fn set_sockets_max(&mut self, sockets_max: u64) {
        self.state.borrow_mut().nodes[self.node.0].sockets_max = sockets_max;
    }

    /// As [`Io::listen`], without a descriptor.
    ///
    /// # Errors
    ///
    /// `EMFILE` at the limit that [`SimIo::set_sockets_max`] set.
    pub fn listen_at(&mut self, address: SocketAddr, token: Token) -> io::Result<Socket> {
        let node = self.node.0;
        self.change().listen(node, address, token)
    }

    /// The world, for a change: whoever waited looks again.
    fn change(&mut self) -> RefMut<'_, State> {
        let mut state = self.state.borrow_mut();
        let node = &mut state.nodes[self.node.0];
        node.wait = Wait::Nothing;
        node.stats.submissions += 1;
        state
    }

    fn with_stream(&mut self, socket: Socket, change: impl FnOnce(&mut State, EndpointId)) {
        let node = self.node.0;
        let mut state = self.change();
        if let Some(id) = state.nodes[node].stream(socket) {
            change(&mut state, id);
        }
    }

    /// A send is in flight until its end was reported: what a real backend does in between, its
    /// caller cannot know.
    fn assert_none_in_flight(&self, socket: Socket) {
        let mut state = self.state.borrow_mut();
        let node = &mut state.nodes[self.node.0];
        let reported = node.find(socket).is_none_or(|slot| {
            !slot.pending.iter().any(|outcome| matches!(outcome, Outcome::Sent(_)))
        });
        let taken = node.stream(socket).is_none_or(|id| state.endpoints[id].sending.is_none());
        assert!(reported && taken, "a send is in flight on this socket");
    }

    fn with_endpoint<T>(&self, socket: Socket, read: impl FnOnce(&Endpoint) -> T) -> Option<T> {
        let state = self.state.borrow();
        let id = state.nodes[self.node.0].stream(socket)?;
        Some(read(&state.endpoints[id]))
    }
}

impl Io for SimIo {
    fn listen(&mut self, listener: OwnedFd, token: Token) -> io::Result<Socket> {
        let address = super::listener::address_of(listener)?;
        self.listen_at(address, token)
    }

    fn accept(&mut self, listener: Socket) {
        let node = self.node.0;
        self.change().accept(node, listener);
    }

    /// A node has one address, and its peers are never silent: options change nothing.
    fn connect_with(
        &mut self,
        address: &SocketAddr,
        _options: &ConnectOptions,
        token: Token,
    ) -> io::Result<Socket> {
        let node = self.node.0;
        self.change().connect(node, *address, token)
    }

    fn set_token(&mut self, socket: Socket, token: Token) {
        let node = self.node.0;
        if let Some(slot) = self.change().nodes[node].find(socket) {
            slot.token = token;
        }
    }

    fn recv(&mut self, socket: Socket) {
        self.with_stream(socket, |state, id| state.recv(id, 0));
    }

    fn recv_some(&mut self, socket: Socket, bytes_max: u32) {
        assert!(bytes_max > 0, "a receive of nothing never completes");
        self.with_stream(socket, |state, id| state.recv(id, bytes_max));
    }

    fn is_receiving(&self, socket: Socket) -> bool {
        let mut state = self.state.borrow_mut();
        let node = &mut state.nodes[self.node.0];
        let reported = node.find(socket).is_none_or(|slot| {
            !slot.pending.iter().any(|outcome| matches!(outcome, Outcome::Received(_)))
        });
        let endpoint = node.stream(socket).map(|id| &state.endpoints[id]);
        endpoint.is_some_and(|endpoint| endpoint.receiving) || !reported
    }

    fn splice(&mut self, from: Socket, to: Socket, bytes: u64) -> bool {
        self.assert_none_in_flight(to);
        assert!(!self.is_receiving(from), "who splices from a socket must not receive from it");
        let node = self.node.0;
        let mut state = self.change();
        match (state.nodes[node].stream(from), state.nodes[node].stream(to)) {
            (Some(from), Some(to)) => state.splice(from, to, bytes),
            _ => false,
        }
    }

    fn pause(&mut self, socket: Socket) {
        let node = self.node.0;
        if let Some(listener) = self.change().listener(node, socket) {
            listener.accepting = false;
            return;
        }
        self.with_stream(socket, State::pause);
    }

    fn send(&mut self, socket: Socket, output: Output) {
        self.assert_none_in_flight(socket);
        self.with_stream(socket, |state, id| state.send(id, output));
    }

    fn send_last(&mut self, socket: Socket, output: Output) {
        self.send(socket, output);
    }

    fn shutdown_write(&mut self, socket: Socket) {
        self.assert_none_in_flight(socket);
        self.with_stream(socket, State::send_fin);
    }

    fn close(&mut self, socket: Socket) {
        let node = self.node.0;
        self.change().close(node, socket, false);
    }

    fn abort(&mut self, socket: Socket) {
        let node = self.node.0;
        self.change().close(node, socket, true);
    }

    fn trim(&mut self) -> bool {
        self.state.borrow_mut().nodes[self.node.0].memory.trim()
    }

    fn turn(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<Now> {
        let mut state = self.state.borrow_mut();
        let stats = &mut state.nodes[self.node.0].stats;
        stats.turns += 1;
        stats.enters += 1;
        let timeout = timeout.map(|timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        if state.driven {
            state.turn_driven(self.node.0, timeout, completions);
        } else {
            state.turn_waiting(self.node.0, timeout, completions)?;
        }
        Ok(state.now())
    }

    fn now(&self) -> Now {
        self.state.borrow().now()
    }

    fn waker(&self) -> Waker {
        let woken = self.state.borrow().nodes[self.node.0].woken.clone();
        Waker(Arc::new(move || woken.store(true, Ordering::Release)))
    }

    fn set_waker_token(&mut self, token: Token) {
        self.state.borrow_mut().nodes[self.node.0].waker_token = token;
    }

    fn output(&mut self) -> Output {
        self.state.borrow().nodes[self.node.0].memory.output()
    }

    fn peer_address(&self, socket: Socket) -> Option<SocketAddr> {
        self.with_endpoint(socket, |endpoint| endpoint.remote)
    }

    fn local_address(&self, socket: Socket) -> Option<SocketAddr> {
        self.with_endpoint(socket, |endpoint| endpoint.local).or_else(|| {
            let mut state = self.state.borrow_mut();
            state.listener(self.node.0, socket).map(|listener| listener.address)
        })
    }

    fn stats(&self) -> IoStats {
        let state = self.state.borrow();
        let node = &state.nodes[self.node.0];
        IoStats { buffers_in_use: node.memory.in_use(), sockets: node.sockets(), ..node.stats }
    }

    fn name(&self) -> &'static str {
        "sim"
    }
}

impl Drop for SimIo {
    /// As when a process ends: the kernel closes its sockets.
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        let node = self.node.0;
        for index in 0..state.nodes[node].slots.len() as u32 {
            if !matches!(state.nodes[node].slots[index as usize].held, Held::Nothing) {
                let socket = state.nodes[node].socket(index);
                state.close(node, socket, false);
            }
        }
        state.nodes[node].wait = Wait::Forever;
    }
}

impl State {
    /// A turn while [`super::World::run`] decides who runs. The wait began when the last turn
    /// returned, for a thread computes its timeout from that time.
    fn turn_driven(
        &mut self,
        node: usize,
        timeout: Option<u64>,
        completions: &mut Vec<Completion>,
    ) {
        let before = completions.len();
        self.collect(node, completions);
        let this = &mut self.nodes[node];
        let deadline = timeout.map(|timeout| this.turned_at.saturating_add(timeout));
        let waits = completions.len() == before && deadline.is_none_or(|at| at > self.now);
        this.wait = if waits { Wait::Until(deadline) } else { Wait::Nothing };
        this.turned_at = self.now;
    }

    /// A turn outside of [`super::World::run`]: lets time pass until something happened for `node`.
    fn turn_waiting(
        &mut self,
        node: usize,
        timeout: Option<u64>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        let deadline = timeout.map(|timeout| self.now.saturating_add(timeout));
        let before = completions.len();
        loop {
            self.settle();
            self.collect(node, completions);
            if completions.len() > before || deadline.is_some_and(|at| at <= self.now) {
                break;
            }
            match (self.events.next_at(), deadline) {
                (Some(event), Some(deadline)) => self.advance_to(event.min(deadline)),
                (Some(at), None) | (None, Some(at)) => self.advance_to(at),
                (None, None) => {
                    let why = "nothing can ever happen for this turn";
                    return Err(io::Error::new(io::ErrorKind::Deadlock, why));
                }
            }
        }
        self.nodes[node].turned_at = self.now;
        Ok(())
    }
}
