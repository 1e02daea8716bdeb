//! How simulated connections end: close, abort, reset.
//!
//! What it leaves to others: the half-close, which is only a segment (`network.rs`).

use super::endpoint::{Content, EndpointId, Phase};
use super::event::Event;
use super::node::Held;
use super::world::State;
use crate::{Errno, Outcome, Socket};

impl State {
    /// Forgets the socket. What was completed for it is never reported; a connection that was
    /// accepted and not yet reported ends with its listener.
    pub fn close(&mut self, node: usize, socket: Socket, abort: bool) {
        let Some((held, pending)) = self.nodes[node].remove(socket) else { return };
        for outcome in pending {
            if let Outcome::Accepted(accepted) = outcome {
                self.close(node, accepted, true);
            }
        }
        match held {
            Held::Stream(id) => self.close_stream(id, abort),
            Held::Listener(listener) => {
                if let Some(there) = self.listeners.get_mut(&listener.address) {
                    there.retain(|entry| *entry != (node, socket.index));
                }
                for id in listener.backlog {
                    self.endpoints[id].closed = true;
                    self.send_reset(id);
                }
            }
            Held::Nothing => {}
        }
    }

    fn close_stream(&mut self, id: EndpointId, abort: bool) {
        let node = self.endpoints[id].node;
        self.record(if abort { "abort" } else { "close" }, node, id as u64, 0);
        let endpoint = &mut self.endpoints[id];
        endpoint.slot = None;
        endpoint.closed = true;
        endpoint.receiving = false;
        let in_flight = endpoint.sending.take();
        let unread = !endpoint.inbox.is_empty();
        endpoint.inbox = std::collections::VecDeque::new();
        if let Some(from) = endpoint.spliced_from {
            self.forget_splice(from);
        }
        self.forget_splice(id);
        let endpoint = &mut self.endpoints[id];
        match endpoint.phase {
            Phase::Dead => {}
            // Linux resets a connection that is closed with unread bytes (RFC 2525, 2.17); the peer
            // may then lose bytes that it was sent but has not read.
            Phase::Open if abort || unread => self.send_reset(id),
            Phase::Open => self.send_fin(id),
            Phase::Connecting => self.send_reset(id),
        }
        if std::mem::take(&mut self.endpoints[id].starved) {
            self.nodes[node].starved.retain(|starved| *starved != id);
        }
        let late = self.random.chance(self.faults.late_close);
        if late {
            self.nodes[node].closing += 1;
            self.plan(Event::Release(node, in_flight.map(|sending| sending.output)));
        }
    }

    /// Sends a reset. What is on the wire before it may be lost, from a chosen point on.
    pub fn send_reset(&mut self, id: EndpointId) {
        let endpoint = &mut self.endpoints[id];
        endpoint.phase = Phase::Dead;
        if std::mem::replace(&mut endpoint.reset_sent, true) || endpoint.peer.is_none() {
            return;
        }
        let kept = self.random.below(endpoint.wire.len() as u64 + 1) as usize;
        endpoint.wire.truncate(kept);
        self.transmit(id, Content::Reset, 0);
    }

    /// The endpoint learns that its connection was reset.
    pub fn fail(&mut self, id: EndpointId) {
        let endpoint = &mut self.endpoints[id];
        if endpoint.phase == Phase::Dead {
            return;
        }
        endpoint.phase = Phase::Dead;
        // Its bytes are purged, but what a cut sent to the other end arrives.
        endpoint.wire.retain(|segment| matches!(segment.content, Content::Reset));
        if endpoint.closed {
            return;
        }
        endpoint.error = Some(Errno(libc::ECONNRESET));
        let sending = endpoint.sending.take();
        self.record("reset", self.endpoints[id].node, id as u64, 0);
        if self.random.chance(self.faults.reset_drops_unread) {
            self.endpoints[id].inbox.clear();
        }
        // Both completions come of one event; either may be first.
        let receive_first = self.random.chance(500);
        if receive_first {
            self.deliver(id);
        }
        if sending.is_some() {
            self.complete(id, Outcome::Sent(Err(Errno(libc::ECONNRESET))));
        }
        if let Some(from) = self.endpoints[id].spliced_from {
            self.splice_some(from);
        }
        self.deliver(id);
    }
}
