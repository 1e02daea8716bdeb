//! The simulated network: bytes, FINs and resets between the two ends of a connection, as TCP on
//! Linux treats them.
//!
//! What it leaves to others: how connections begin and end (`listener.rs`, `close.rs`).

use super::endpoint::{Content, EndpointId, Phase, Segment, Sending};
use super::event::Event;
use super::memory;
use super::world::State;
use crate::{Errno, Outcome, Output};

impl State {
    /// Begins to send `output`.
    pub fn send(&mut self, id: EndpointId, output: Output) {
        assert!(!output.is_empty(), "an empty output cannot be sent");
        self.record("send", self.endpoints[id].node, id as u64, output.len() as u64);
        let endpoint = &mut self.endpoints[id];
        assert!(endpoint.spliced_from.is_none(), "sent while bytes are spliced to it");
        if endpoint.phase == Phase::Dead || endpoint.write_shut {
            self.complete(id, Outcome::Sent(Err(Errno(libc::EPIPE))));
            return;
        }
        endpoint.sending = Some(Sending { bytes: memory::bytes_of(&output), done: 0, output });
        self.send_some(id);
    }

    /// Takes as much of the output in flight as there is room for, or a part of that.
    pub fn send_some(&mut self, id: EndpointId) {
        let endpoint = &self.endpoints[id];
        let Some(sending) = &endpoint.sending else { return };
        if endpoint.phase != Phase::Open || endpoint.cut || endpoint.send_planned {
            return;
        }
        let rest = sending.bytes.len() - sending.done;
        let mut count = rest.min(endpoint.window - endpoint.unread);
        if count == 0 {
            return; // the peer's next read plans to send on
        }
        if self.random.chance(self.faults.short_write) {
            count = self.random.size(count);
        }
        let cut = self.endpoints[id].cut_after.is_some_and(|after| after <= count as u64);
        if cut {
            count = self.endpoints[id].cut_after.unwrap_or(0) as usize;
        }
        self.take(id, count);
        if cut {
            self.cut(id);
        } else if count < rest {
            self.plan_send(id);
        }
    }

    /// Moves `count` bytes from the output in flight to the wire.
    fn take(&mut self, id: EndpointId, count: usize) {
        let endpoint = &mut self.endpoints[id];
        let Some(sending) = &mut endpoint.sending else { return };
        let bytes = sending.bytes[sending.done..][..count].to_vec();
        sending.done += count;
        endpoint.unread += count;
        endpoint.cut_after = endpoint.cut_after.map(|after| after - count as u64);
        let whole = sending.done == sending.bytes.len();
        if count > 0 {
            self.transmit(id, Content::Bytes(bytes), 0);
        }
        if whole {
            self.endpoints[id].sending = None;
            self.complete(id, Outcome::Sent(Ok(())));
        }
    }

    /// A middlebox cuts the connection after what is on the wire: both ends see a reset.
    pub fn cut(&mut self, id: EndpointId) {
        self.record("cut", self.endpoints[id].node, id as u64, 0);
        self.endpoints[id].cut = true;
        self.transmit(id, Content::Reset, 0);
        self.plan(Event::Fail(id));
    }

    /// Plans to send on, once.
    fn plan_send(&mut self, id: EndpointId) {
        if !self.endpoints[id].send_planned {
            self.endpoints[id].send_planned = true;
            self.plan(Event::Send(id));
        }
    }

    /// Puts something on the wire, to arrive after everything before it; `delay` nanoseconds later
    /// than usual.
    pub fn transmit(&mut self, id: EndpointId, content: Content, delay: u64) {
        let at = self.now + self.latency() + delay;
        let endpoint = &mut self.endpoints[id];
        let at = at.max(endpoint.wire_until);
        endpoint.wire_until = at;
        endpoint.wire.push_back(Segment { at, content });
        self.events.plan(at, Event::Arrive(id));
    }

    /// Sends FIN.
    pub fn send_fin(&mut self, id: EndpointId) {
        let endpoint = &mut self.endpoints[id];
        if endpoint.write_shut || endpoint.phase != Phase::Open || endpoint.cut {
            return;
        }
        endpoint.write_shut = true;
        let late = self.random.chance(self.faults.late_fin);
        let delay_max = if late { self.faults.fin_delay_us_max * 1_000 } else { 0 };
        let delay = self.random.between(0, delay_max);
        self.transmit(id, Content::Fin, delay);
    }

    /// What `from` sent reaches its peer.
    pub fn arrive(&mut self, from: EndpointId) {
        let Some(to) = self.endpoints[from].peer else { return };
        while self.endpoints[from].wire.front().is_some_and(|segment| segment.at <= self.now) {
            let Some(segment) = self.endpoints[from].wire.pop_front() else { return };
            match segment.content {
                Content::Bytes(bytes) => self.bytes_arrive(to, &bytes),
                Content::Fin => {
                    self.endpoints[to].fin_arrived = true;
                    self.deliver(to);
                }
                Content::Reset => self.fail(to),
            }
        }
    }

    fn bytes_arrive(&mut self, to: EndpointId, bytes: &[u8]) {
        let endpoint = &mut self.endpoints[to];
        if endpoint.closed {
            // Nobody is there to read: TCP answers with a reset (RFC 9293, 3.10.7.1).
            self.send_reset(to);
        } else if endpoint.phase != Phase::Dead {
            endpoint.inbox.extend(bytes);
            if self.random.chance(self.faults.merge) {
                self.plan(Event::Deliver(to));
            } else {
                self.deliver(to);
            }
        }
    }

    /// Reports what arrived, as far as its owner wants it and there are buffers.
    pub fn deliver(&mut self, id: EndpointId) {
        if self.endpoints[id].splicing.is_some() {
            return self.splice_some(id);
        }
        while self.may_deliver(id) {
            if self.endpoints[id].inbox.is_empty() {
                return self.end_receiving(id);
            }
            if self.random.chance(self.faults.no_buffers) {
                self.nodes[self.endpoints[id].node].stats.no_buffers += 1;
                return self.plan(Event::Deliver(id));
            }
            if !self.deliver_one(id) {
                return;
            }
            if self.random.chance(self.faults.rearm) {
                self.nodes[self.endpoints[id].node].stats.rearms += 1;
                return self.plan(Event::Deliver(id));
            }
        }
    }

    fn may_deliver(&self, id: EndpointId) -> bool {
        let endpoint = &self.endpoints[id];
        endpoint.receiving
            && endpoint.slot.is_some()
            && endpoint.phase != Phase::Connecting
            && !endpoint.read_ended
            && !endpoint.starved
    }

    /// Reports one buffer; false when there is none.
    fn deliver_one(&mut self, id: EndpointId) -> bool {
        let split = self.random.chance(self.faults.split);
        let endpoint = &mut self.endpoints[id];
        let node = &mut self.nodes[endpoint.node];
        let mut count = endpoint.inbox.len().min(node.memory.buffer_bytes());
        if split {
            count = self.random.size(count);
        }
        let once = endpoint.recv_bytes_max > 0;
        if once {
            count = count.min(endpoint.recv_bytes_max);
        }
        let Some(buffer) = node.memory.fill(&mut endpoint.inbox, count) else {
            node.stats.no_buffers += 1;
            endpoint.starved = true;
            node.starved.push(id);
            self.record("starved", self.endpoints[id].node, id as u64, 0);
            return false;
        };
        if once {
            self.endpoints[id].receiving = false;
        }
        self.complete(id, Outcome::Received(buffer));
        self.make_room(id, count);
        true
    }

    /// `count` bytes of the inbox were read: the peer may send so many more.
    pub fn make_room(&mut self, id: EndpointId, count: usize) {
        if let Some(peer) = self.endpoints[id].peer {
            let sender = &mut self.endpoints[peer];
            sender.unread = sender.unread.saturating_sub(count);
            if sender.sending.is_some() || sender.spliced_from.is_some() {
                self.plan_send(peer);
            }
        }
    }

    /// Reports the end, if it has come and everything before it was reported.
    fn end_receiving(&mut self, id: EndpointId) {
        let endpoint = &mut self.endpoints[id];
        let outcome = match endpoint.error {
            Some(errno) => Outcome::RecvFailed(errno),
            None if endpoint.fin_arrived => Outcome::Eof,
            None => {
                return;
            }
        };
        endpoint.read_ended = true;
        endpoint.receiving = false;
        self.complete(id, outcome);
    }

    /// Receives that waited for buffers go on when there are some.
    pub fn feed_starved(&mut self, node: usize) {
        if self.nodes[node].starved.is_empty() || self.nodes[node].memory.is_exhausted() {
            return;
        }
        for id in std::mem::take(&mut self.nodes[node].starved) {
            self.endpoints[id].starved = false;
            self.nodes[node].stats.rearms += 1;
            self.deliver(id);
        }
    }

    /// Wants bytes.
    pub fn recv(&mut self, id: EndpointId, bytes_max: u32) {
        self.record("recv", self.endpoints[id].node, id as u64, u64::from(bytes_max));
        let endpoint = &mut self.endpoints[id];
        endpoint.recv_calls = endpoint.recv_calls.wrapping_add(1);
        if endpoint.receiving {
            // Who wants everything and then some, still wants everything.
            endpoint.recv_bytes_max = endpoint.recv_bytes_max.min(bytes_max as usize);
        } else {
            endpoint.receiving = true;
            endpoint.recv_bytes_max = bytes_max as usize;
            self.deliver(id);
        }
    }

    /// Wants no more bytes: now, or when the cancellation has won its race.
    pub fn pause(&mut self, id: EndpointId) {
        self.record("pause", self.endpoints[id].node, id as u64, 0);
        if self.random.chance(self.faults.late_pause) {
            self.plan(Event::Pause(id, self.endpoints[id].recv_calls));
        } else {
            self.endpoints[id].receiving = false;
        }
    }

    pub fn pause_works(&mut self, id: EndpointId, recv_calls: u32) {
        if self.endpoints[id].recv_calls == recv_calls {
            self.endpoints[id].receiving = false;
        }
    }

    /// A completion for the endpoint's owner, if it has one.
    pub fn complete(&mut self, id: EndpointId, outcome: Outcome) {
        let endpoint = &self.endpoints[id];
        if let Some(index) = endpoint.slot {
            self.nodes[endpoint.node].complete(index, outcome);
        }
    }
}
