//! The epoll backend: the same completions made from readiness.
//!
//! Edge-triggered, one `epoll_ctl` per socket (one more when a send first has to wait), sends tried
//! at once, one `epoll_pwait2` per turn. It is used where io_uring is denied, and as the control
//! arm of every measurement, so it is meant to be as good as epoll can be.
//!
//! What it leaves to others: choosing between the backends ([`crate::backend`]).

mod ready;
mod splicing;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockAddr;

use crate::gather::Gathering;
use crate::options::TURN_BYTES;
use crate::output::{OutputPool, Unsent};
use crate::pool::Pool;
use crate::slots::Slots;
use crate::splice::{Pipes, Splice};
use crate::wake::WakeEvent;
use crate::{
    Completion, ConnectOptions, Errno, Io, IoOptions, IoStats, Now, Outcome, Output, Socket, Token,
    Waker, sys,
};
use ready::{Flags, Slot};

/// Events read in one turn; the rest is ready in the next.
const EVENTS_MAX: usize = 512;

/// Event data of the wake-up; a slot's index stands in the upper half and is far smaller.
const WAKE_DATA: u64 = u64::MAX;

/// I/O by epoll. Belongs to the thread that made it.
pub struct Epoll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
    slots: Slots<Slot>,
    pool: Pool,
    outputs: Rc<OutputPool>,
    /// What happened outside a turn, for the next one. Sockets and not tokens, for both may change.
    done: Vec<(Socket, Outcome)>,
    splices: Slots<Splice>,
    pipes: Pipes,
    /// Splices that can go on without waiting, oldest first.
    pumpable: VecDeque<Socket>,
    /// Sockets that may be accepted from or read without waiting for an edge, oldest first.
    runnable: VecDeque<Socket>,
    /// Sockets that found no free buffer, oldest first.
    starved: VecDeque<Socket>,
    wake: Arc<WakeEvent>,
    wake_token: Token,
    gathering: Gathering,
    /// The kernel has `epoll_pwait2`, as far as is known.
    waits_exactly: bool,
    /// The last turn only reported what was done.
    brief: bool,
    /// Bytes that may still be received in this turn.
    budget_bytes: usize,
    stats: IoStats,
}

impl Epoll {
    /// Sets up an epoll instance and a pool of buffers for the calling thread.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENOMEM`.
    pub fn new(options: &IoOptions) -> io::Result<Epoll> {
        let options = options.bounded();
        // SAFETY: no pointers.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just made and that nobody else owns.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let wake = WakeEvent::new()?;
        let backend = Epoll {
            epoll,
            events: Vec::with_capacity(EVENTS_MAX),
            slots: Slots::new(),
            pool: Pool::new(options.buffer_bytes, options.buffers_max)?,
            outputs: Rc::default(),
            done: Vec::new(),
            splices: Slots::new(),
            pipes: Pipes::new(),
            pumpable: VecDeque::new(),
            runnable: VecDeque::new(),
            starved: VecDeque::new(),
            wake,
            wake_token: Token(u64::MAX),
            gathering: Gathering::new(options.gather),
            waits_exactly: true,
            brief: false,
            budget_bytes: 0,
            stats: IoStats::default(),
        };
        backend.control(libc::EPOLL_CTL_ADD, backend.wake.fd(), libc::EPOLLIN, WAKE_DATA)?;
        Ok(backend)
    }

    fn control(&self, operation: i32, fd: RawFd, interest: i32, data: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: (interest | libc::EPOLLET) as u32, u64: data };
        // SAFETY: a readable event; the kernel copies it.
        let result =
            unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Makes epoll report edges of the socket: of input always, of output when `output` says so.
    fn watch(&mut self, socket: Socket, output: bool) -> io::Result<()> {
        let Some(slot) = self.slots.get_mut(socket) else { return Ok(()) };
        let (operation, wanted) = match (slot.flags.has(Flags::WATCHED), output) {
            (false, false) => (libc::EPOLL_CTL_ADD, Flags::WATCHED),
            (false, true) => (libc::EPOLL_CTL_ADD, Flags::WATCHED.with(Flags::WATCHED_OUTPUT)),
            (true, true) if !slot.flags.has(Flags::WATCHED_OUTPUT) => {
                (libc::EPOLL_CTL_MOD, Flags::WATCHED_OUTPUT)
            }
            _ => return Ok(()),
        };
        slot.flags.set(wanted);
        let fd = slot.fd;
        let interest = libc::EPOLLIN | libc::EPOLLRDHUP | if output { libc::EPOLLOUT } else { 0 };
        let data = u64::from(socket.index) << 32 | u64::from(socket.generation);
        self.stats.enters += 1;
        self.control(operation, fd, interest, data)
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
        if slot.flags.has(Flags::READABLE) {
            self.schedule(socket);
        } else if let Err(error) = self.watch(socket, false) {
            self.watch_failed(socket, sys::errno_of(&error));
        }
    }

    /// Epoll took no more descriptors (`ENOSPC`: `fs.epoll.max_user_watches`).
    fn watch_failed(&mut self, socket: Socket, errno: Errno) {
        let Some(slot) = self.slots.get_mut(socket) else { return };
        slot.flags.clear(Flags::WATCHED.with(Flags::WATCHED_OUTPUT).with(Flags::WANTED));
        let listener = slot.flags.has(Flags::LISTENER);
        let outcome =
            if listener { Outcome::AcceptStopped(errno) } else { Outcome::RecvFailed(errno) };
        self.done.push((socket, outcome));
    }

    /// Lets the next turn read the socket without waiting for an edge.
    fn schedule(&mut self, socket: Socket) {
        let Some(slot) = self.slots.get_mut(socket) else { return };
        let queued = Flags::RUNNABLE.with(Flags::STARVED).with(Flags::CONNECTING);
        if !slot.flags.has(queued) {
            slot.flags.set(Flags::RUNNABLE);
            self.runnable.push_back(socket);
        }
    }

    fn begin_send(&mut self, socket: Socket, output: Output, flags: Flags) {
        assert!(!output.is_empty(), "an empty output has nothing to wait for");
        let Some(slot) = self.slots.get_mut(socket) else { return };
        assert!(!slot.flags.has(Flags::SENDING), "one send at a time per socket");
        slot.flags.set(flags);
        slot.output = Some(output);
        self.stats.submissions += 1;
        match self.send_some(socket) {
            Some(sent) => self.done.push((socket, Outcome::Sent(sent))),
            None => {
                if let Err(error) = self.watch(socket, true) {
                    let failed = Outcome::Sent(Err(sys::errno_of(&error)));
                    self.done.push((socket, failed));
                }
            }
        }
    }

    /// Sends what the kernel takes now. `Some` when it is over, well or not.
    fn send_some(&mut self, socket: Socket) -> Option<Result<(), Errno>> {
        let slot = self.slots.get_mut(socket)?;
        let output = slot.output.as_mut()?;
        let result = loop {
            self.stats.enters += 1;
            let more = if slot.flags.has(Flags::LAST) { libc::MSG_MORE } else { 0 };
            let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | more;
            let offered = output.unsent();
            let sent = match offered {
                // SAFETY: the piece belongs to the output, which outlives the call.
                Unsent::One(start, length) => unsafe { sys::send(slot.fd, start, length, flags) },
                // SAFETY: the header and its vectors belong to the output, which outlives the call.
                Unsent::Many(message) => unsafe { libc::sendmsg(slot.fd, message, flags) },
            };
            if sent < 0 {
                match sys::last_errno() {
                    Errno(libc::EINTR) => continue,
                    Errno(libc::EAGAIN) => break None,
                    errno => break Some(Err(errno)),
                }
            }
            output.advance(sent as usize);
            if output.unsent_bytes() == 0 {
                break Some(Ok(()));
            }
        };
        if result.is_some() {
            slot.output = None;
        }
        result
    }

    fn forget(&mut self, socket: Socket) {
        if let Some(splice) = self.slots.get(socket).and_then(|slot| slot.splice) {
            self.end_splice(splice);
        }
        if self.slots.retire(socket).is_some()
            && let Some(slot) = self.slots.remove(socket.index)
        {
            // Closing the last descriptor of a socket takes it out of the epoll instance.
            sys::close(slot.fd);
        }
    }
}

impl Io for Epoll {
    fn listen(&mut self, listener: OwnedFd, token: Token) -> io::Result<Socket> {
        sys::set_nonblocking(&listener, true)?;
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
        let fd = sys::connecting_socket(address, options, true)?;
        let raw = fd.as_raw_fd();
        let socket = self.slots.insert(Slot::new(token, fd.into_raw_fd(), Flags::default()));
        let address = SockAddr::from(*address);
        self.stats.enters += 1;
        // SAFETY: a valid address of the given length, which the kernel copies.
        let result = unsafe { libc::connect(raw, address.as_ptr().cast(), address.len()) };
        let outcome = if result == 0 { Ok(()) } else { Err(sys::last_errno()) };
        if outcome == Err(Errno(libc::EINPROGRESS)) {
            if let Some(slot) = self.slots.get_mut(socket) {
                slot.flags.set(Flags::CONNECTING);
            }
            if let Err(error) = self.watch(socket, true) {
                self.forget(socket);
                return Err(error);
            }
        } else {
            self.done.push((socket, Outcome::Connected(outcome)));
        }
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
        self.want_incoming(socket, bytes_max);
    }

    fn is_receiving(&self, socket: Socket) -> bool {
        self.slots.get(socket).is_some_and(|slot| slot.flags.has(Flags::WANTED))
    }

    fn splice(&mut self, from: Socket, to: Socket, bytes: u64) -> bool {
        self.begin_splice(from, to, bytes)
    }

    fn pause(&mut self, socket: Socket) {
        if let Some(slot) = self.slots.get_mut(socket) {
            slot.flags.clear(Flags::WANTED);
        }
    }

    fn send(&mut self, socket: Socket, output: Output) {
        self.begin_send(socket, output, Flags::SENDING);
    }

    fn send_last(&mut self, socket: Socket, output: Output) {
        self.begin_send(socket, output, Flags::SENDING.with(Flags::LAST));
    }

    fn shutdown_write(&mut self, socket: Socket) {
        if let Some(slot) = self.slots.get(socket) {
            sys::shutdown_write(slot.fd);
        }
    }

    fn close(&mut self, socket: Socket) {
        self.forget(socket);
    }

    fn abort(&mut self, socket: Socket) {
        if let Some(slot) = self.slots.get(socket) {
            sys::set_reset_on_close(slot.fd);
        }
        self.forget(socket);
    }

    fn expect(&mut self, came: usize, awaited: usize) {
        self.gathering.expect(came, awaited);
    }

    fn trim(&mut self) -> bool {
        self.pool.trim() | self.outputs.trim()
    }

    fn turn(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<Now> {
        self.stats.turns += 1;
        let before = completions.len();
        self.feed_starved();
        let ready = !(self.runnable.is_empty() && self.pumpable.is_empty());
        let pending = ready || !self.done.is_empty();
        // What was sent needs no look at the sockets, every second time.
        self.brief = pending && !ready && !self.brief;
        if self.brief {
            self.report_done(completions);
            self.stats.completions += (completions.len() - before) as u64;
            return Ok(Now::read());
        }
        self.wait(if pending { Some(Duration::ZERO) } else { timeout })?;
        let now = Now::read();
        self.budget_bytes = TURN_BYTES as usize;
        self.report_done(completions);
        self.pump_splices(completions);
        self.run_runnable(completions);
        self.handle_events(completions);
        self.stats.completions += (completions.len() - before) as u64;
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
        stats.buffers_in_use = u64::from(self.pool.in_use());
        stats.sockets = self.slots.len() as u64;
        stats
    }

    fn name(&self) -> &'static str {
        "epoll"
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        for slot in self.slots.drain() {
            sys::close(slot.fd);
        }
    }
}
