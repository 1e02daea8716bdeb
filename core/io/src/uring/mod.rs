//! The io_uring backend: multishot accept and receive, provided buffers, one system call per turn.
//!
//! A turn lends buffers to the kernel, submits everything that was asked for, waits, and reads all
//! completions. An operation in flight keeps its slot, its descriptor and the memory that it names
//! alive until its last completion, whatever the owner of the socket does meanwhile.
//!
//! What it leaves to others: deciding whether io_uring may be used here ([`probe`],
//! [`crate::backend`]).

mod complete;
mod probe;
mod provided;
mod ring;
mod self_test;
mod set_up;
mod slot;
mod splicing;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use io_uring::{opcode, squeue, types};
use socket2::SockAddr;

pub use probe::{Capabilities, Unavailable, probe};

use crate::gather::Gathering;
use crate::output::{OutputPool, Unsent};
use crate::pool::Pool;
use crate::slots::Slots;
use crate::splice::Pipes;
use crate::wake::WakeEvent;
use crate::{
    Completion, ConnectOptions, Io, IoOptions, IoStats, Now, Output, Socket, Token, Waker, sys,
};
use provided::{BUFFER_GROUP, ProvidedRing};
use ring::Ring;
use slot::{Flags, Op, Slot, user_data};
use splicing::Splicing;

const RECV_MULTISHOT: u16 = 1 << 1;
const RECV_POLL_FIRST: u16 = 1;

/// How long dropping a backend waits for the kernel to let go of its memory.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// I/O by io_uring. Belongs to the thread that made it.
pub struct Uring {
    // `None` only while being dropped: the ring goes before what it may touch.
    ring: Option<Ring>,
    provided: Option<ProvidedRing>,
    pool: Option<Pool>,
    slots: Slots<Slot>,
    outputs: Rc<OutputPool>,
    splices: Slots<Splicing>,
    pipes: Pipes,
    /// Splices that can go on without waiting, oldest first.
    pumpable: VecDeque<Socket>,
    /// Sockets whose receive ended for lack of buffers, oldest first.
    starved: VecDeque<u32>,
    wake: Arc<WakeEvent>,
    wake_token: Token,
    gathering: Gathering,
    /// Sends handed over since the last wait: each is a completion, most of them at once.
    sends: u32,
    /// `Woken` was reported in this turn.
    woken: bool,
    stats: IoStats,
}

impl Uring {
    /// Sets up a ring, its buffers and its wake-up for the calling thread.
    ///
    /// # Errors
    ///
    /// Those of `io_uring_setup`; [`probe`] explains them.
    pub fn new(options: &IoOptions) -> io::Result<Uring> {
        let options = options.bounded();
        let (ring, provided) = set_up::queues(&options)?;
        let pool = Pool::new(options.buffer_bytes, options.buffers_max)?;
        let mut uring = Uring {
            ring: Some(ring),
            provided: Some(provided),
            pool: Some(pool),
            slots: Slots::new(),
            outputs: Rc::default(),
            splices: Slots::new(),
            pipes: Pipes::new(),
            pumpable: VecDeque::new(),
            starved: VecDeque::new(),
            wake: WakeEvent::new()?,
            wake_token: Token(u64::MAX),
            gathering: Gathering::new(options.gather),
            sends: 0,
            woken: false,
            stats: IoStats::default(),
        };
        uring.listen_for_wakes();
        Ok(uring)
    }

    fn ring(&mut self) -> &mut Ring {
        match &mut self.ring {
            Some(ring) => ring,
            None => unreachable!("the ring lives until the backend is dropped"),
        }
    }

    fn lenders(&mut self) -> (&mut ProvidedRing, &mut Pool) {
        match (&mut self.provided, &mut self.pool) {
            (Some(provided), Some(pool)) => (provided, pool),
            _ => unreachable!("the buffers live until the backend is dropped"),
        }
    }

    /// Queues an operation that points to nothing, or to what its slot keeps alive.
    #[inline]
    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: callers name either no memory at all, or an output or address that the slot holds
        // until the operation's last completion; a slot with operations in flight is never removed.
        unsafe { self.ring().push(entry) };
    }

    fn listen_for_wakes(&mut self) {
        let entry = opcode::PollAdd::new(types::Fd(self.wake.fd()), libc::POLLIN as u32)
            .multi(true)
            .build()
            .user_data(user_data(Op::Wake, 0, 0));
        self.push(entry);
    }

    /// Starts the multishot accept or receive of a slot where none is in flight.
    fn arm(&mut self, index: u32) {
        let socket = self.slots.handle(index);
        let Some(slot) = self.slots.at_mut(index) else { return };
        debug_assert!(!slot.flags.has(Flags::ARMED.with(Flags::CLOSING)));
        slot.flags.set(Flags::ARMED);
        let fd = types::Fd(slot.fd);
        let entry = if slot.flags.has(Flags::LISTENER) {
            opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build()
        } else {
            let mut how = if slot.recv_bytes_max == 0 { RECV_MULTISHOT } else { 0 };
            if slot.flags.has(Flags::POLL_FIRST) {
                slot.flags.clear(Flags::POLL_FIRST);
                how |= RECV_POLL_FIRST;
            }
            opcode::Recv::new(fd, std::ptr::null_mut(), slot.recv_bytes_max)
                .buf_group(BUFFER_GROUP)
                .ioprio(how)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT)
        };
        self.push(entry.user_data(user_data(Op::Incoming, index, socket.generation)));
    }

    fn want_incoming(&mut self, socket: Socket, bytes_max: u32) {
        let Some(slot) = self.slots.get_mut(socket) else { return };
        if slot.flags.has(Flags::ENDED) {
            return;
        }
        if slot.flags.has(Flags::WANTED) {
            // Who wants everything and then some, still wants everything.
            slot.recv_bytes_max = slot.recv_bytes_max.min(bytes_max);
            return;
        }
        slot.recv_bytes_max = bytes_max;
        slot.flags.set(Flags::WANTED);
        // In flight: still being cancelled perhaps, then its last completion arms it again.
        // Connecting and starved: armed when that is over.
        let later = Flags::ARMED.with(Flags::STARVED).with(Flags::CONNECTING);
        if !slot.flags.has(later) {
            self.arm(socket.index);
        }
    }

    /// Asks the kernel to end an operation. Only a failure to find it is reported.
    fn cancel(&mut self, op: Op, index: u32, generation: u32) {
        let entry = opcode::AsyncCancel::new(user_data(op, index, generation))
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(user_data(Op::Cancel, index, generation));
        self.push(entry);
    }

    /// Hands the unsent rest of the slot's output to the kernel.
    fn begin_send(&mut self, socket: Socket, output: Output, flags: Flags) {
        assert!(!output.is_empty(), "an empty output has nothing to wait for");
        let Some(slot) = self.slots.get_mut(socket) else { return };
        assert!(slot.output.is_none(), "one send at a time per socket");
        slot.flags.set(flags);
        slot.output = Some(output);
        self.push_send(socket.index, socket.generation);
    }

    fn push_send(&mut self, index: u32, generation: u32) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        let Some(output) = &mut slot.output else { return };
        slot.flags.set(Flags::SENDING);
        let fd = types::Fd(slot.fd);
        // WAITALL: the kernel continues short sends itself.
        let more = if slot.flags.has(Flags::LAST) { libc::MSG_MORE } else { 0 };
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL | more;
        let entry = match output.unsent() {
            Unsent::One(start, length) => {
                let length = u32::try_from(length).unwrap_or(1 << 30);
                opcode::Send::new(fd, start, length).flags(flags).build()
            }
            Unsent::Many(message) => opcode::SendMsg::new(fd, message).flags(flags as u32).build(),
        };
        self.sends += 1;
        self.push(entry.user_data(user_data(Op::Send, index, generation)));
    }

    /// Cancels what is in flight, or closes at once when nothing is.
    fn begin_close(&mut self, socket: Socket) {
        let Some(slot) = self.slots.retire(socket) else { return };
        slot.flags.set(Flags::CLOSING);
        if let Some(splice) = slot.splice {
            self.end_splice(splice);
        }
        let Some(slot) = self.slots.at_mut(socket.index) else { return };
        let flags = slot.flags;
        if !flags.has(Flags::SENDING) {
            slot.output = None;
        }
        if !flags.in_flight() {
            self.finish_close(socket.index);
            return;
        }
        self.cancel_all_of(socket.index, socket.generation);
    }

    fn cancel_all_of(&mut self, index: u32, generation: u32) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        let flags = slot.flags;
        if flags.has(Flags::ARMED) && !flags.has(Flags::CANCELLING) {
            slot.flags.set(Flags::CANCELLING);
            self.cancel(Op::Incoming, index, generation);
        }
        if flags.has(Flags::SENDING) {
            self.cancel(Op::Send, index, generation);
        }
        if flags.has(Flags::CONNECTING) {
            self.cancel(Op::Connect, index, generation);
        }
    }

    /// Closes the descriptor of a socket that has nothing in flight, and frees its slot.
    ///
    /// By a system call of its own and not by an operation: then a socket that is gone from the
    /// gauge is gone from the kernel, and its port is free.
    fn finish_close(&mut self, index: u32) {
        if let Some(slot) = self.slots.remove(index) {
            debug_assert!(slot.flags.has(Flags::CLOSING) && !slot.flags.in_flight());
            sys::close(slot.fd);
        }
    }

    /// Lends free buffers to the kernel and starts receives that ended for lack of them. Without a
    /// free buffer it starts none, so that a shortage does not turn into a busy loop.
    ///
    /// Whether some still wait although there are buffers: those that were started may have nothing
    /// to put into them, so the turn must not wait before the others had their chance.
    fn replenish(&mut self) -> bool {
        let (provided, pool) = self.lenders();
        provided.replenish(pool);
        let lent = provided.lent();
        let mut chances = lent;
        while chances > 0
            && let Some(index) = self.starved.pop_front()
        {
            let Some(slot) = self.slots.at_mut(index) else { continue };
            if !slot.flags.has(Flags::STARVED) {
                continue;
            }
            slot.flags.clear(Flags::STARVED);
            if slot.flags.has(Flags::WANTED) && !slot.flags.has(Flags::CLOSING) {
                self.stats.rearms += 1;
                self.arm(index);
                chances -= 1;
            }
        }
        lent > 0 && !self.starved.is_empty()
    }

    /// Submits and waits, longer than for the first completion where that pays.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let sends = std::mem::take(&mut self.sends);
        let gather = if timeout == Some(Duration::ZERO) { 0 } else { self.gathering.begin() };
        if gather < 2 {
            return self.ring().enter(timeout, None);
        }
        let gather_us = self.gathering.time().as_micros() as u32;
        self.ring().enter(timeout, Some((gather + sends, gather_us)))
    }
}

impl Io for Uring {
    fn listen(&mut self, listener: OwnedFd, token: Token) -> io::Result<Socket> {
        sys::set_nonblocking(&listener, false)?;
        Ok(self.slots.insert(Slot::new(token, listener.into_raw_fd(), Flags::LISTENER)))
    }

    fn accept(&mut self, listener: Socket) {
        self.want_incoming(listener, 0);
    }

    fn connect_with(
        &mut self,
        address: &SocketAddr,
        options: &ConnectOptions,
        token: Token,
    ) -> io::Result<Socket> {
        let fd = sys::connecting_socket(address, options, false)?;
        let raw = fd.as_raw_fd();
        let flags = Flags::CONNECTING.with(Flags::POLL_FIRST);
        let mut slot = Slot::new(token, fd.into_raw_fd(), flags);
        let address = Box::new(SockAddr::from(*address));
        let (start, length) = (address.as_ptr().cast(), address.len());
        slot.connecting_to = Some(address);
        let socket = self.slots.insert(slot);
        let entry = opcode::Connect::new(types::Fd(raw), start, length)
            .build()
            .user_data(user_data(Op::Connect, socket.index, socket.generation));
        self.push(entry);
        Ok(socket)
    }

    fn set_token(&mut self, socket: Socket, token: Token) {
        if let Some(slot) = self.slots.get_mut(socket) {
            slot.token = token;
        }
    }

    fn recv(&mut self, socket: Socket) {
        self.want_incoming(socket, 0);
    }

    fn recv_some(&mut self, socket: Socket, bytes_max: u32) {
        assert!(bytes_max > 0, "a receive of nothing never completes");
        if let Some(slot) = self.slots.get_mut(socket)
            && !slot.flags.has(Flags::ARMED.with(Flags::WANTED))
        {
            slot.flags.set(Flags::POLL_FIRST);
        }
        self.want_incoming(socket, bytes_max);
    }

    fn is_receiving(&self, socket: Socket) -> bool {
        let receiving = Flags::ARMED.with(Flags::WANTED);
        self.slots.get(socket).is_some_and(|slot| slot.flags.has(receiving))
    }

    fn splice(&mut self, from: Socket, to: Socket, bytes: u64) -> bool {
        self.begin_splice(from, to, bytes)
    }

    fn pause(&mut self, socket: Socket) {
        let Some(slot) = self.slots.get_mut(socket) else { return };
        slot.flags.clear(Flags::WANTED);
        if slot.flags.has(Flags::ARMED) && !slot.flags.has(Flags::CANCELLING) {
            slot.flags.set(Flags::CANCELLING);
            self.cancel(Op::Incoming, socket.index, socket.generation);
        }
    }

    fn send(&mut self, socket: Socket, output: Output) {
        self.begin_send(socket, output, Flags::SENDING);
    }

    fn send_last(&mut self, socket: Socket, output: Output) {
        self.begin_send(socket, output, Flags::SENDING.with(Flags::LAST));
    }

    fn shutdown_write(&mut self, socket: Socket) {
        // A system call, for io_uring would hand a shutdown to a worker thread.
        if let Some(slot) = self.slots.get(socket) {
            sys::shutdown_write(slot.fd);
        }
    }

    fn close(&mut self, socket: Socket) {
        self.begin_close(socket);
    }

    fn abort(&mut self, socket: Socket) {
        if let Some(slot) = self.slots.get(socket) {
            sys::set_reset_on_close(slot.fd);
        }
        self.begin_close(socket);
    }

    fn expect(&mut self, came: usize, awaited: usize) {
        self.gathering.expect(came, awaited);
    }

    fn trim(&mut self) -> bool {
        self.pool.as_mut().is_some_and(Pool::trim) | self.outputs.trim()
    }

    fn turn(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<Now> {
        self.stats.turns += 1;
        let before = completions.len();
        let more_to_arm = self.replenish();
        self.pump_splices(completions);
        let pending = more_to_arm || completions.len() > before || !self.pumpable.is_empty();
        self.wait(if pending { Some(Duration::ZERO) } else { timeout })?;
        let now = Now::read();
        self.reap(completions);
        Ok(now)
    }

    fn now(&self) -> Now {
        Now::read()
    }

    fn waker(&self) -> Waker {
        self.wake.waker()
    }

    fn set_waker_token(&mut self, token: Token) {
        self.wake_token = token;
    }

    fn output(&mut self) -> Output {
        self.outputs.take()
    }

    fn peer_address(&self, socket: Socket) -> Option<SocketAddr> {
        sys::peer_address(self.slots.get(socket)?.fd)
    }

    fn local_address(&self, socket: Socket) -> Option<SocketAddr> {
        sys::local_address(self.slots.get(socket)?.fd)
    }

    fn stats(&self) -> IoStats {
        let mut stats = self.stats;
        if let Some(ring) = &self.ring {
            stats.enters = ring.enters;
            stats.submissions = ring.submissions;
            stats.overflows = ring.overflows;
        }
        stats.buffers_in_use = self.pool.as_ref().map_or(0, |pool| u64::from(pool.in_use()));
        stats.sockets = self.slots.len() as u64;
        stats
    }

    fn name(&self) -> &'static str {
        "io_uring"
    }
}

impl Drop for Uring {
    /// Ends everything in flight before the memory that it may touch goes away. Should the kernel
    /// not let go within a second, the memory is leaked: that is safe, and freeing it would not be.
    fn drop(&mut self) {
        let released = self.cancel_everything();
        // Closes the ring; only then may buffers and outputs go.
        self.ring = None;
        for slot in self.slots.drain() {
            sys::close(slot.fd);
            if !released {
                std::mem::forget(slot.output);
                std::mem::forget(slot.connecting_to);
            }
        }
        if !released && let (Some(provided), Some(pool)) = (self.provided.take(), self.pool.take())
        {
            provided.leak();
            pool.leak();
        }
    }
}
