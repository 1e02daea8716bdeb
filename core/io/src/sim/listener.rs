//! How simulated connections begin: listeners, SYNs, backlogs and accepts.
//!
//! What it leaves to others: established connections (`network.rs`).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use super::endpoint::{Endpoint, EndpointId, Listener, Phase};
use super::event::Event;
use super::node::Held;
use super::world::State;
use crate::{Errno, Outcome, Socket, Token};

/// A SYN that gets no answer fails after this long: the sum of Linux's six retransmissions.
const CONNECT_TIMEOUT_NS: u64 = 127_000_000_000;

/// How long a client waits before it sends its SYN again.
const SYN_RETRY_NS: u64 = 1_000_000_000;

/// Times that a SYN is sent again.
const SYN_RETRIES_MAX: u32 = 6;

/// A descriptor that says which address it stands for: a memory file with the address as its
/// content, so that duplicates work and no table of descriptors is needed.
pub(super) fn descriptor_for(address: SocketAddr) -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string that lives for ever, and the call touches no other memory.
    let fd = unsafe { libc::memfd_create(c"tidegate-sim-listener".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above returned this descriptor, and nobody else owns it.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    write!(file, "{address}")?;
    Ok(OwnedFd::from(file))
}

/// The address that a descriptor from [`descriptor_for`] stands for.
pub(super) fn address_of(descriptor: OwnedFd) -> io::Result<SocketAddr> {
    let mut text = [0; 64];
    let length = File::from(descriptor).read_at(&mut text, 0)?;
    std::str::from_utf8(&text[..length])
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a simulated listener"))
}

impl State {
    pub fn listen(&mut self, node: usize, address: SocketAddr, token: Token) -> io::Result<Socket> {
        self.check_descriptors(node)?;
        let listener = Listener { address, accepting: false, backlog: VecDeque::new() };
        let socket = self.nodes[node].insert(Held::Listener(listener), token);
        self.listeners.entry(address).or_default().push((node, socket.index));
        Ok(socket)
    }

    fn check_descriptors(&self, node: usize) -> io::Result<()> {
        let node = &self.nodes[node];
        if node.sockets() < node.sockets_max {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::EMFILE))
        }
    }

    pub fn connect(&mut self, node: usize, to: SocketAddr, token: Token) -> io::Result<Socket> {
        self.check_descriptors(node)?;
        if self.random.chance(self.faults.connect_error) {
            let errno = [libc::EMFILE, libc::EADDRNOTAVAIL][self.random.index(2)];
            return Err(io::Error::from_raw_os_error(errno));
        }
        let from = self.nodes[node].ephemeral();
        let id = self.new_endpoint(node, from, to);
        let socket = self.nodes[node].insert(Held::Stream(id), token);
        self.endpoints[id].slot = Some(socket.index);
        self.record("connect", node, token.0, id as u64);
        if self.random.chance(self.faults.refuse) {
            self.plan(Event::Connected(id, Err(Errno(libc::ECONNREFUSED))));
        } else if self.random.chance(self.faults.blackhole) {
            self.time_out(id);
        } else {
            self.plan(Event::Syn(id, to, 0));
        }
        Ok(socket)
    }

    fn time_out(&mut self, id: EndpointId) {
        let at = self.now + CONNECT_TIMEOUT_NS;
        self.events.plan(at, Event::Connected(id, Err(Errno(libc::ETIMEDOUT))));
    }

    fn new_endpoint(&mut self, node: usize, local: SocketAddr, remote: SocketAddr) -> EndpointId {
        let (low, high) = self.faults.window_bytes;
        let window = self.random.between(low as u64, high as u64).max(1) as usize;
        let mut endpoint = Endpoint::new(node, local, remote, window);
        if self.random.chance(self.faults.reset) {
            endpoint.cut_after = Some(self.random.between(0, self.faults.reset_within_bytes));
        }
        self.add_endpoint(endpoint)
    }

    /// A SYN reaches an address: one of its listeners takes the connection, or nobody does.
    pub fn syn_arrives(&mut self, client: EndpointId, to: SocketAddr, attempt: u32) {
        if self.endpoints[client].closed {
            return;
        }
        let there = self.listeners.get(&to).map_or(0, Vec::len);
        if there == 0 {
            return self.plan(Event::Connected(client, Err(Errno(libc::ECONNREFUSED))));
        }
        let choice = self.random.index(there);
        let (node, index) = self.listeners[&to][choice];
        let generation = self.nodes[node].socket(index).generation;
        let backlog_max = self.faults.backlog;
        if self.backlog(node, index).is_none_or(|backlog| backlog.len() >= backlog_max) {
            if attempt == SYN_RETRIES_MAX {
                return self.plan(Event::Connected(client, Err(Errno(libc::ETIMEDOUT))));
            }
            let at = self.now + (SYN_RETRY_NS << attempt);
            return self.events.plan(at, Event::Syn(client, to, attempt + 1));
        }
        let from = self.endpoints[client].local;
        let server = self.new_endpoint(node, to, from);
        let established_at = self.now + self.latency();
        self.endpoints[server].phase = Phase::Open;
        self.endpoints[server].peer = Some(client);
        // The client hears nothing from the server before its handshake is over.
        self.endpoints[server].wire_until = established_at + 1;
        self.endpoints[client].peer = Some(server);
        self.events.plan(established_at, Event::Connected(client, Ok(())));
        if let Some(backlog) = self.backlog(node, index) {
            backlog.push_back(server);
        }
        self.plan(Event::Accept(node, index, generation));
    }

    fn backlog(&mut self, node: usize, index: u32) -> Option<&mut VecDeque<EndpointId>> {
        match &mut self.nodes[node].slots[index as usize].held {
            Held::Listener(listener) => Some(&mut listener.backlog),
            _ => None,
        }
    }

    /// A connect is decided.
    pub fn connect_ends(&mut self, id: EndpointId, result: Result<(), Errno>) {
        let endpoint = &mut self.endpoints[id];
        if endpoint.phase != Phase::Connecting {
            return;
        }
        endpoint.phase = if result.is_ok() { Phase::Open } else { Phase::Dead };
        self.complete(id, Outcome::Connected(result));
        match result {
            Ok(()) => self.send_some(id),
            Err(errno) => {
                self.endpoints[id].receiving = false;
                self.endpoints[id].read_ended = true;
                if self.endpoints[id].sending.take().is_some() {
                    self.complete(id, Outcome::Sent(Err(errno)));
                }
            }
        }
    }

    /// Accepts again, from now on.
    pub fn accept(&mut self, node: usize, socket: Socket) {
        if let Some(listener) = self.listener(node, socket) {
            listener.accepting = true;
        }
        self.accept_some(node, socket);
    }

    /// The listener that a socket is.
    pub fn listener(&mut self, node: usize, socket: Socket) -> Option<&mut Listener> {
        match self.nodes[node].find(socket).map(|slot| &mut slot.held) {
            Some(Held::Listener(listener)) => Some(listener),
            _ => None,
        }
    }

    /// Accepts what is in the backlog.
    pub fn accept_some(&mut self, node: usize, socket: Socket) {
        loop {
            let Some(listener) = self.listener(node, socket) else { return };
            if !listener.accepting || listener.backlog.is_empty() {
                return;
            }
            if let Some(errno) = self.accept_error(node) {
                if let Some(listener) = self.listener(node, socket) {
                    listener.accepting = false;
                }
                return self.nodes[node].complete(socket.index, Outcome::AcceptStopped(errno));
            }
            let first = self.listener(node, socket).and_then(|it| it.backlog.pop_front());
            let Some(id) = first else { return };
            self.accept_one(node, socket, id);
        }
    }

    fn accept_error(&mut self, node: usize) -> Option<Errno> {
        if self.check_descriptors(node).is_err() {
            return Some(Errno(libc::EMFILE));
        }
        let strikes = self.random.chance(self.faults.accept_error);
        strikes.then(|| Errno([libc::EMFILE, libc::ENFILE][self.random.index(2)]))
    }

    fn accept_one(&mut self, node: usize, socket: Socket, id: EndpointId) {
        if self.random.chance(self.faults.accept_abort) {
            self.nodes[node].stats.rearms += 1;
            self.endpoints[id].closed = true;
            return self.send_reset(id);
        }
        let Some(token) = self.nodes[node].find(socket).map(|slot| slot.token) else { return };
        let accepted = self.nodes[node].insert(Held::Stream(id), token);
        self.endpoints[id].slot = Some(accepted.index);
        self.nodes[node].complete(socket.index, Outcome::Accepted(accepted));
    }
}
