//! What the kernel's completions mean to the sockets and to their owners.
//!
//! What it leaves to others: waiting for them.

use std::io;
use std::time::Duration;

use io_uring::{cqueue, opcode, types};

use super::slot::{Flags, Op, Slot, parse_user_data, user_data};
use super::{CLOSE_WAIT, Uring};
use crate::{Buffer, Completion, Errno, Now, Outcome, Token, sys};

impl Slot {
    pub(super) fn new(token: Token, fd: i32, flags: Flags) -> Slot {
        Slot {
            token,
            output: None,
            connecting_to: None,
            fd,
            recv_bytes_max: 0,
            splice: None,
            flags,
        }
    }
}

impl Uring {
    /// Reads every completion that is there.
    pub(super) fn reap(&mut self, completions: &mut Vec<Completion>) {
        self.woken = false;
        while let Some(entry) = self.ring().next() {
            self.stats.completions += 1;
            self.complete(&entry, completions);
        }
    }

    fn complete(&mut self, entry: &cqueue::Entry, completions: &mut Vec<Completion>) {
        let (op, index, generation) = parse_user_data(entry.user_data());
        self.check_generation(op, index, generation);
        match op {
            Some(Op::Incoming) => self.complete_incoming(index, entry, completions),
            Some(Op::Send) => self.complete_send(index, entry.result(), completions),
            Some(Op::Connect) => self.complete_connect(index, entry.result(), completions),
            Some(Op::Cancel) => self.cancel_failed(index, generation),
            Some(Op::Wake) => self.complete_wake(entry, completions),
            Some(Op::Poll) => self.complete_poll(index, completions),
            Some(Op::CancelAll) | None => {}
        }
    }

    /// An operation belongs to the slot's tenant who started it: the slot was not reused meanwhile.
    fn check_generation(&mut self, op: Option<Op>, index: u32, generation: u32) {
        if cfg!(debug_assertions)
            && let Some(Op::Incoming | Op::Send | Op::Connect) = op
        {
            let closing =
                self.slots.at_mut(index).is_some_and(|slot| slot.flags.has(Flags::CLOSING));
            let now = self.slots.handle(index).generation;
            assert_eq!(now, generation.wrapping_add(u32::from(closing)));
        }
    }

    #[inline]
    fn complete_incoming(
        &mut self,
        index: u32,
        entry: &cqueue::Entry,
        completions: &mut Vec<Completion>,
    ) {
        let result = entry.result();
        let last = !cqueue::more(entry.flags());
        let buffer =
            cqueue::buffer_select(entry.flags()).and_then(|id| self.collect_buffer(id, result));
        let Some(slot) = self.slots.at_mut(index) else { return };
        if last {
            slot.flags.clear(Flags::ARMED.with(Flags::CANCELLING));
        }
        if slot.flags.has(Flags::CLOSING) {
            if slot.flags.has(Flags::LISTENER) && result >= 0 {
                sys::close(result);
            }
            self.close_if_idle(index);
            return;
        }
        let token = slot.token;
        if slot.flags.has(Flags::LISTENER) {
            self.accepted(index, token, result, last, completions);
            return;
        }
        if let Some(buffer) = buffer {
            if slot.recv_bytes_max > 0 {
                slot.flags.clear(Flags::WANTED);
            }
            completions.push(Completion { token, outcome: Outcome::Received(buffer) });
            if last {
                self.arm_again(index);
            }
            return;
        }
        self.recv_ended(index, token, result, completions);
    }

    /// Takes over the buffer that a receive used; one that came without bytes goes back.
    #[inline]
    fn collect_buffer(&mut self, id: u16, result: i32) -> Option<Buffer> {
        let (provided, pool) = self.lenders();
        let vacant = pool.taken(u32::from(id));
        provided.note_used(result.max(0) as u32, vacant.room());
        if result > 0 {
            return Some(pool.received(vacant, result as u32));
        }
        pool.put_back(vacant);
        None
    }

    /// A receive that brought no bytes: the end, a failure, or a reason to start it again.
    fn recv_ended(
        &mut self,
        index: u32,
        token: Token,
        result: i32,
        completions: &mut Vec<Completion>,
    ) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        let outcome = match -result {
            0 => Outcome::Eof,
            libc::ENOBUFS => {
                slot.flags.set(Flags::STARVED);
                self.starved.push_back(index);
                self.stats.no_buffers += 1;
                self.lenders().0.note_ran_dry();
                return;
            }
            libc::ECANCELED | libc::EAGAIN | libc::EINTR => return self.arm_again(index),
            errno => Outcome::RecvFailed(Errno(errno)),
        };
        slot.flags.clear(Flags::WANTED);
        slot.flags.set(Flags::ENDED);
        completions.push(Completion { token, outcome });
    }

    fn accepted(
        &mut self,
        index: u32,
        token: Token,
        result: i32,
        last: bool,
        completions: &mut Vec<Completion>,
    ) {
        if result >= 0 {
            let socket = self.slots.insert(Slot::new(token, result, Flags::default()));
            completions.push(Completion { token, outcome: Outcome::Accepted(socket) });
            if last {
                self.arm_again(index);
            }
            return;
        }
        if sys::accept_error_passes_by(Errno(-result)) {
            return self.arm_again(index);
        }
        if let Some(slot) = self.slots.at_mut(index) {
            slot.flags.clear(Flags::WANTED);
        }
        let outcome = Outcome::AcceptStopped(Errno(-result));
        completions.push(Completion { token, outcome });
    }

    /// Starts accepting or receiving again when the kernel ended it and the owner still wants it.
    fn arm_again(&mut self, index: u32) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        if slot.flags.has(Flags::WANTED) && !slot.flags.has(Flags::ARMED) {
            self.stats.rearms += 1;
            self.arm(index);
        }
    }

    fn complete_send(&mut self, index: u32, result: i32, completions: &mut Vec<Completion>) {
        let generation = self.slots.handle(index).generation;
        let Some(slot) = self.slots.at_mut(index) else { return };
        slot.flags.clear(Flags::SENDING);
        if slot.flags.has(Flags::CLOSING) {
            slot.output = None;
            self.close_if_idle(index);
            return;
        }
        let Some(output) = &mut slot.output else { return };
        if result > 0 {
            output.advance(result as usize);
            if output.unsent_bytes() > 0 {
                // More pieces than one call takes, or cut short by something that the next attempt
                // will report.
                self.push_send(index, generation);
                return;
            }
        } else if matches!(-result, libc::EINTR | libc::EAGAIN) {
            self.push_send(index, generation);
            return;
        }
        slot.output = None;
        let sent = match result {
            1.. => Ok(()),
            // Never answered to a send that is not empty; were it, asking again might never end.
            0 => Err(Errno(libc::EIO)),
            _ => Err(Errno(-result)),
        };
        completions.push(Completion { token: slot.token, outcome: Outcome::Sent(sent) });
    }

    fn complete_connect(&mut self, index: u32, result: i32, completions: &mut Vec<Completion>) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        slot.flags.clear(Flags::CONNECTING);
        slot.connecting_to = None;
        if slot.flags.has(Flags::CLOSING) {
            self.close_if_idle(index);
            return;
        }
        let connected = if result >= 0 { Ok(()) } else { Err(Errno(-result)) };
        let token = slot.token;
        completions.push(Completion { token, outcome: Outcome::Connected(connected) });
        if connected.is_ok() {
            self.arm_again(index);
        }
    }

    fn complete_wake(&mut self, entry: &cqueue::Entry, completions: &mut Vec<Completion>) {
        self.wake.hear();
        if !cqueue::more(entry.flags()) {
            self.listen_for_wakes();
        }
        if !self.woken {
            self.woken = true;
            completions.push(Completion { token: self.wake_token, outcome: Outcome::Woken });
        }
    }

    /// The kernel did not find what was to be cancelled: most often it has just completed. When it
    /// is still in flight (it was between two waits) it is asked again.
    fn cancel_failed(&mut self, index: u32, generation: u32) {
        let now = self.slots.handle(index).generation;
        let Some(slot) = self.slots.at_mut(index) else { return };
        let closing = slot.flags.has(Flags::CLOSING);
        if now != generation.wrapping_add(u32::from(closing)) {
            // The socket that it was meant for is gone, and its slot has another tenant.
            return;
        }
        slot.flags.clear(Flags::CANCELLING);
        let unwanted = slot.flags.has(Flags::ARMED) && !slot.flags.has(Flags::WANTED);
        if closing {
            self.cancel_all_of(index, generation);
        } else if unwanted {
            slot.flags.set(Flags::CANCELLING);
            self.cancel(Op::Incoming, index, generation);
        }
    }

    pub(super) fn close_if_closing(&mut self, index: u32) {
        if self.slots.at_mut(index).is_some_and(|slot| slot.flags.has(Flags::CLOSING)) {
            self.close_if_idle(index);
        }
    }

    fn close_if_idle(&mut self, index: u32) {
        let idle = self.slots.at_mut(index).is_some_and(|slot| !slot.flags.in_flight());
        if idle {
            self.finish_close(index);
        }
    }

    /// Cancels every operation and waits until none that names memory is in flight. Whether that
    /// worked.
    pub(super) fn cancel_everything(&mut self) -> bool {
        if self.ring.is_none() {
            return true;
        }
        let deadline = Now::read().instant + CLOSE_WAIT;
        self.retire_all();
        loop {
            let entry = opcode::AsyncCancel2::new(types::CancelBuilder::any())
                .build()
                .user_data(user_data(Op::CancelAll, 0, 0));
            self.push(entry);
            let waited: io::Result<()> = self.ring().enter(Some(Duration::from_millis(10)), None);
            self.reap(&mut Vec::new());
            if self.slots.len() == 0 {
                return true;
            }
            if waited.is_err() || Now::read().instant >= deadline {
                return false;
            }
        }
    }

    fn retire_all(&mut self) {
        for index in 0..self.slots.end() {
            let open = |slot: &mut Slot| !slot.flags.has(Flags::CLOSING);
            if self.slots.at_mut(index).is_some_and(open) {
                self.begin_close(self.slots.handle(index));
            }
        }
    }
}
