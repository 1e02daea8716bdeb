//! Splices of the io_uring backend: system calls of the shard's own thread, and polls to wait for
//! readiness. `IORING_OP_SPLICE` would hand each of them to a worker thread.
//!
//! What it leaves to others: the calls themselves ([`crate::splice`]).

use io_uring::{opcode, types};

use super::Uring;
use super::slot::{Flags, Op, user_data};
use crate::splice::{Splice, Standstill};
use crate::{Completion, Outcome, Socket, sys};

/// A splice and what it waits for.
pub(super) struct Splicing {
    splice: Splice,
    /// The slot whose descriptor a poll in flight watches.
    polled: Option<u32>,
}

impl Uring {
    pub(super) fn begin_splice(&mut self, from: Socket, to: Socket, bytes: u64) -> bool {
        let busy = Flags::ARMED.with(Flags::WANTED).with(Flags::CONNECTING);
        let Some(source) = self.slots.get(from) else { return false };
        assert!(!source.flags.has(busy), "who splices from a socket must not receive from it");
        let ended = source.flags.has(Flags::ENDED);
        let Some(target) = self.slots.get(to) else { return false };
        assert!(target.output.is_none(), "one send at a time per socket");
        if ended || source.splice.is_some() || target.splice.is_some() {
            return false;
        }
        let splice = Splice::new(from, to, bytes);
        let id = self.splices.insert(Splicing { splice, polled: None });
        for end in [from, to] {
            if let Some(slot) = self.slots.get_mut(end) {
                slot.splice = Some(id.index);
            }
        }
        self.pumpable.push_back(id);
        true
    }

    /// Goes on with the splices that need not wait.
    pub(super) fn pump_splices(&mut self, completions: &mut Vec<Completion>) {
        for _ in 0..self.pumpable.len() {
            let Some(id) = self.pumpable.pop_front() else { return };
            self.pump(id, completions);
        }
    }

    fn pump(&mut self, id: Socket, completions: &mut Vec<Completion>) {
        let Some(Splicing { splice, .. }) = self.splices.get_mut(id) else { return };
        let (Some(from), Some(to)) = (self.slots.get(splice.from), self.slots.get(splice.to))
        else {
            return;
        };
        let (from_fd, to_fd, token) = (from.fd, to.fd, from.token);
        // Operations in flight do not see this: they have read the flag before, or will after.
        for fd in [from_fd, to_fd] {
            sys::set_nonblocking_raw(fd, true);
        }
        let (bytes, standstill) = splice.pump(from_fd, to_fd, &mut self.pipes);
        for fd in [from_fd, to_fd] {
            sys::set_nonblocking_raw(fd, false);
        }
        self.stats.spliced_bytes += bytes;
        let (source, target) = (splice.from.index, splice.to.index);
        let mut end = None;
        match standstill {
            Standstill::From => self.poll(id, source, libc::POLLIN | libc::POLLRDHUP),
            Standstill::To => self.poll(id, target, libc::POLLOUT),
            Standstill::Turn => self.pumpable.push_back(id),
            Standstill::End(why) => {
                self.end_splice(id.index);
                end = Some(why);
            }
        }
        if bytes > 0 || end.is_some() {
            completions.push(Completion { token, outcome: Outcome::Spliced { bytes, end } });
        }
    }

    fn poll(&mut self, id: Socket, index: u32, events: i16) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        slot.flags.set(Flags::POLLED);
        let fd = types::Fd(slot.fd);
        if let Some(splicing) = self.splices.get_mut(id) {
            splicing.polled = Some(index);
        }
        let entry = opcode::PollAdd::new(fd, u32::from(events.cast_unsigned())).build();
        self.push(entry.user_data(user_data(Op::Poll, id.index, id.generation)));
    }

    /// A poll has ended: its socket is ready, or nobody waits for it any more.
    pub(super) fn complete_poll(&mut self, index: u32, completions: &mut Vec<Completion>) {
        let Some(splicing) = self.splices.at_mut(index) else { return };
        let ends = [splicing.splice.from, splicing.splice.to];
        if let Some(polled) = splicing.polled.take()
            && let Some(slot) = self.slots.at_mut(polled)
        {
            slot.flags.clear(Flags::POLLED);
            self.close_if_closing(polled);
        }
        // A retired splice has lost one of its ends.
        if ends.iter().all(|end| self.slots.get(*end).is_some_and(|s| s.splice == Some(index))) {
            self.pump(self.splices.handle(index), completions);
        } else {
            self.remove_splice(index);
        }
    }

    /// Ends a splice of which nothing more is to be reported: it is over, or an end is closed.
    pub(super) fn end_splice(&mut self, index: u32) {
        let id = self.splices.handle(index);
        let Some(Splicing { splice, polled }) = self.splices.retire(id) else { return };
        let (ends, polled) = ([splice.from.index, splice.to.index], *polled);
        for end in ends {
            if let Some(slot) = self.slots.at_mut(end)
                && slot.splice == Some(index)
            {
                slot.splice = None;
            }
        }
        if polled.is_none() {
            self.remove_splice(index);
            return;
        }
        // When it is not found it has just completed.
        let entry = opcode::AsyncCancel::new(user_data(Op::Poll, index, id.generation)).build();
        self.push(entry.user_data(user_data(Op::CancelAll, 0, 0)));
    }

    fn remove_splice(&mut self, index: u32) {
        if let Some(Splicing { mut splice, .. }) = self.splices.remove(index) {
            splice.release(&mut self.pipes);
            self.pipes.trim(self.splices.len());
        }
    }
}
