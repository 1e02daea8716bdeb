//! Splices of the epoll backend.
//!
//! What it leaves to others: the calls themselves ([`crate::splice`]).

use super::Epoll;
use super::ready::Flags;
use crate::splice::{Splice, Standstill};
use crate::{Completion, Outcome, Socket};

impl Epoll {
    pub(super) fn begin_splice(&mut self, from: Socket, to: Socket, bytes: u64) -> bool {
        let Some(source) = self.slots.get(from) else { return false };
        let busy = Flags::WANTED.with(Flags::CONNECTING);
        assert!(!source.flags.has(busy), "who splices from a socket must not receive from it");
        let Some(target) = self.slots.get(to) else { return false };
        assert!(!target.flags.has(Flags::SENDING), "one send at a time per socket");
        let free = source.splice.is_none() && target.splice.is_none();
        if !free || source.flags.has(Flags::ENDED) {
            return false;
        }
        if self.watch(from, false).is_err() || self.watch(to, true).is_err() {
            return false;
        }
        let id = self.splices.insert(Splice::new(from, to, bytes));
        for end in [from, to] {
            if let Some(slot) = self.slots.get_mut(end) {
                slot.splice = Some(id);
            }
        }
        self.pumpable.push_back(id);
        true
    }

    /// Goes on with the splices that need not wait for an edge.
    pub(super) fn pump_splices(&mut self, completions: &mut Vec<Completion>) {
        for _ in 0..self.pumpable.len() {
            let Some(id) = self.pumpable.pop_front() else { return };
            self.pump(id, completions);
        }
    }

    pub(super) fn pump(&mut self, id: Socket, completions: &mut Vec<Completion>) {
        let Some(splice) = self.splices.get_mut(id) else { return };
        let (source, target) = (splice.from, splice.to);
        let (Some(from), Some(to)) = (self.slots.get(source), self.slots.get(target)) else {
            return;
        };
        let token = from.token;
        let (bytes, standstill) = splice.pump(from.fd, to.fd, &mut self.pipes);
        self.stats.spliced_bytes += bytes;
        let mut end = None;
        match standstill {
            // Whatever comes later makes an edge.
            Standstill::From | Standstill::To => {}
            Standstill::Turn => self.pumpable.push_back(id),
            Standstill::End(why) => {
                self.end_splice(id);
                // There may be more than was spliced.
                if let Some(slot) = self.slots.get_mut(source) {
                    slot.flags.set(Flags::READABLE);
                }
                end = Some(why);
            }
        }
        if bytes > 0 || end.is_some() {
            completions.push(Completion { token, outcome: Outcome::Spliced { bytes, end } });
        }
    }

    /// Ends a splice of which nothing more is to be reported: it is over, or an end is closed.
    pub(super) fn end_splice(&mut self, id: Socket) {
        if self.splices.retire(id).is_none() {
            return;
        }
        let Some(mut splice) = self.splices.remove(id.index) else { return };
        for end in [splice.from, splice.to] {
            if let Some(slot) = self.slots.get_mut(end) {
                slot.splice = None;
            }
        }
        splice.release(&mut self.pipes);
        self.pipes.trim(self.splices.len());
    }
}
