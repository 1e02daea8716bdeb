//! Simulated splices: bytes go from one connection's inbox to the other's wire, a part at a time.
//!
//! What it leaves to others: the wire (`network.rs`), and how connections end (`close.rs`).

use super::endpoint::{Content, EndpointId, Phase, Splicing};
use super::event::Event;
use super::world::State;
use crate::{Errno, Outcome, SpliceEnd};

impl State {
    /// Begins to splice; false when chance has it that there is no pipe.
    pub fn splice(&mut self, from: EndpointId, to: EndpointId, bytes: u64) -> bool {
        let source = &self.endpoints[from];
        let free = source.splicing.is_none() && self.endpoints[to].spliced_from.is_none();
        if source.read_ended || !free || self.random.chance(self.faults.no_pipe) {
            return false;
        }
        self.record("splice", self.endpoints[from].node, from as u64, bytes);
        self.endpoints[from].splicing = Some(Splicing { to, left: bytes });
        self.endpoints[to].spliced_from = Some(from);
        self.plan(Event::Splice(from));
        true
    }

    /// Moves what there is and has room, or a part of it.
    pub fn splice_some(&mut self, from: EndpointId) {
        let Some(Splicing { to, left }) = self.endpoints[from].splicing else { return };
        let target = &self.endpoints[to];
        if target.phase == Phase::Dead || target.write_shut {
            return self.end_splice(from, 0, SpliceEnd::SendFailed(Errno(libc::EPIPE)));
        }
        if target.cut {
            return; // the reset is on its way
        }
        let there = self.endpoints[from].inbox.len();
        if there == 0 && left > 0 {
            return self.end_of_source(from);
        }
        let mut count = there.min(target.window - target.unread);
        count = count.min(usize::try_from(left).unwrap_or(usize::MAX));
        if count > 0 && self.random.chance(self.faults.short_write) {
            count = self.random.size(count);
        }
        if self.move_bytes(from, to, count) || count == 0 {
            return; // cut, or the peer's next read lets it go on
        }
        if count as u64 == left {
            return self.end_splice(from, count, SpliceEnd::Complete);
        }
        if self.random.chance(self.faults.no_pipe) {
            return self.end_splice(from, count, SpliceEnd::NoPipe);
        }
        self.endpoints[from].splicing = Some(Splicing { to, left: left - count as u64 });
        self.complete(from, Outcome::Spliced { bytes: count as u64, end: None });
        self.plan(Event::Splice(from));
    }

    /// From the inbox of the one to the wire of the other; true when the connection was cut there.
    fn move_bytes(&mut self, from: EndpointId, to: EndpointId, mut count: usize) -> bool {
        let cut = self.endpoints[to].cut_after.is_some_and(|after| after <= count as u64);
        if cut {
            count = self.endpoints[to].cut_after.unwrap_or(0) as usize;
        }
        let bytes: Vec<u8> = self.endpoints[from].inbox.drain(..count).collect();
        self.make_room(from, count);
        let target = &mut self.endpoints[to];
        target.unread += count;
        target.cut_after = target.cut_after.map(|after| after - count as u64);
        if count > 0 {
            self.transmit(to, Content::Bytes(bytes), 0);
        }
        if cut {
            self.cut(to);
        }
        cut
    }

    /// Nothing is there: it ends if nothing will come.
    fn end_of_source(&mut self, from: EndpointId) {
        let source = &mut self.endpoints[from];
        let end = match source.error {
            Some(errno) => SpliceEnd::RecvFailed(errno),
            None if source.fin_arrived => SpliceEnd::Eof,
            None => return,
        };
        source.read_ended = true;
        self.end_splice(from, 0, end);
    }

    fn end_splice(&mut self, from: EndpointId, count: usize, end: SpliceEnd) {
        self.forget_splice(from);
        self.complete(from, Outcome::Spliced { bytes: count as u64, end: Some(end) });
    }

    /// An end of it is closed.
    pub fn forget_splice(&mut self, from: EndpointId) {
        if let Some(Splicing { to, .. }) = self.endpoints[from].splicing.take() {
            self.endpoints[to].spliced_from = None;
        }
    }
}
