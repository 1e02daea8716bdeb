//! From readiness to completions: what a turn does with events and with what waits.
//!
//! What it leaves to others: the owner's requests, which [`super::Epoll`] takes.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use super::{EVENTS_MAX, Epoll, WAKE_DATA};
use crate::pool::Room;
use crate::{Completion, Errno, Outcome, Output, Socket, Token, sys};

/// Buffers read from one socket per turn, so that a fast peer does not starve the others.
const READS_PER_TURN: u32 = 4;

/// Connections accepted from one listener per turn.
const ACCEPTS_PER_TURN: u32 = 64;

/// A socket of the backend. An idle one is this and nothing else.
pub(super) struct Slot {
    pub(super) token: Token,
    pub(super) output: Option<Output>,
    pub(super) fd: RawFd,
    /// The most that the one receive that is wanted may bring; 0: as many and as much as come.
    pub(super) recv_bytes_max: u32,
    /// The splice that this socket is an end of.
    pub(super) splice: Option<Socket>,
    pub(super) flags: Flags,
}

const _: () = assert!(size_of::<Slot>() <= 56);

impl Slot {
    pub(super) fn new(token: Token, fd: RawFd, flags: Flags) -> Slot {
        Slot { token, output: None, fd, recv_bytes_max: 0, splice: None, flags }
    }
}

/// A set of facts about a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Flags(u16);

impl Flags {
    pub(super) const LISTENER: Flags = Flags(1);
    /// The owner wants connections or bytes.
    pub(super) const WANTED: Flags = Flags(1 << 1);
    /// An edge was seen and the socket was not read until it had nothing more.
    pub(super) const READABLE: Flags = Flags(1 << 2);
    /// In the list of those that are read without waiting for an edge.
    pub(super) const RUNNABLE: Flags = Flags(1 << 3);
    /// In the list of those that wait for a free buffer.
    pub(super) const STARVED: Flags = Flags(1 << 4);
    /// End of stream or failure was reported: nothing comes in any more.
    pub(super) const ENDED: Flags = Flags(1 << 5);
    pub(super) const CONNECTING: Flags = Flags(1 << 6);
    /// From [`crate::Io::send`] until the owner has heard of its end.
    pub(super) const SENDING: Flags = Flags(1 << 7);
    pub(super) const WATCHED: Flags = Flags(1 << 8);
    pub(super) const WATCHED_OUTPUT: Flags = Flags(1 << 9);
    /// The peer has finished or failed: a short read is not the last one.
    pub(super) const HANGING: Flags = Flags(1 << 10);
    /// What is being sent is the last.
    pub(super) const LAST: Flags = Flags(1 << 11);

    #[inline]
    pub(super) fn has(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    #[inline]
    pub(super) fn set(&mut self, other: Flags) {
        self.0 |= other.0;
    }

    #[inline]
    pub(super) fn clear(&mut self, other: Flags) {
        self.0 &= !other.0;
    }

    #[inline]
    pub(super) const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl Epoll {
    /// Lets sockets that found no buffer try again, as many as there are buffers now.
    pub(super) fn feed_starved(&mut self) {
        for _ in 0..self.pool.available() {
            let Some(socket) = self.starved.pop_front() else { return };
            if let Some(slot) = self.slots.get_mut(socket) {
                slot.flags.clear(Flags::STARVED);
                self.stats.rearms += 1;
                self.schedule(socket);
            }
        }
    }

    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout != Some(Duration::ZERO) && self.gathering.begin() > 1 {
            // Readiness cannot be waited for by number: what comes meanwhile is found afterwards.
            self.stats.enters += 1;
            #[allow(clippy::disallowed_methods)] // this is the wait
            std::thread::sleep(self.gathering.time());
        }
        let mut waited = match self.waits_exactly {
            true => self.wait_exactly(timeout),
            false => self.wait_coarsely(timeout),
        };
        // Kernels before 5.11, and filters of system calls that are older than it.
        if let Err(error) = &waited
            && matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
            && self.waits_exactly
        {
            self.waits_exactly = false;
            waited = self.wait_coarsely(timeout);
        }
        let count = match waited {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => 0,
            other => other?,
        };
        // SAFETY: the kernel initialised `count` events, and count <= EVENTS_MAX <= capacity.
        unsafe { self.events.set_len(count) };
        Ok(())
    }

    /// Until something is ready, or the time has passed to the nanosecond.
    fn wait_exactly(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let spec = timeout.map(|timeout| libc::timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX / 2),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        self.stats.enters += 1;
        self.events.clear();
        // SAFETY: room for EVENTS_MAX events, of which the kernel initialises as many as it
        // returns; the time outlives the call; no mask of signals.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                EVENTS_MAX,
                spec,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    /// The same in milliseconds, rounded up: a timer that is due in 0.3 ms must not make us spin
    /// until then.
    fn wait_coarsely(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout_ms = timeout.map_or(-1, |timeout| {
            i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
        });
        self.stats.enters += 1;
        self.events.clear();
        // SAFETY: room for EVENTS_MAX events, of which the kernel initialises as many as it
        // returns.
        let count = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                EVENTS_MAX as i32,
                timeout_ms,
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    /// Reports what happened between the turns, unless its socket was closed since.
    pub(super) fn report_done(&mut self, completions: &mut Vec<Completion>) {
        let mut connected = Vec::new();
        for (socket, outcome) in self.done.drain(..) {
            let Some(slot) = self.slots.get_mut(socket) else { continue };
            match outcome {
                Outcome::Sent(_) => slot.flags.clear(Flags::SENDING),
                Outcome::Connected(Ok(())) if slot.flags.has(Flags::WANTED) => {
                    connected.push(socket);
                }
                Outcome::RecvFailed(_) => slot.flags.set(Flags::ENDED),
                _ => {}
            }
            completions.push(Completion { token: slot.token, outcome });
        }
        for socket in connected {
            self.schedule(socket);
        }
    }

    /// Reads or accepts from the sockets that need no edge, each once.
    pub(super) fn run_runnable(&mut self, completions: &mut Vec<Completion>) {
        for _ in 0..self.runnable.len() {
            let Some(socket) = self.runnable.pop_front() else { return };
            if let Some(slot) = self.slots.get_mut(socket) {
                slot.flags.clear(Flags::RUNNABLE);
                self.take_input(socket, completions);
            }
        }
    }

    pub(super) fn handle_events(&mut self, completions: &mut Vec<Completion>) {
        for position in 0..self.events.len() {
            let libc::epoll_event { events, u64: data } = self.events[position];
            if data == WAKE_DATA {
                self.wake.hear();
                completions.push(Completion { token: self.wake_token, outcome: Outcome::Woken });
                continue;
            }
            let socket = Socket { index: (data >> 32) as u32, generation: data as u32 };
            self.handle_event(socket, events as i32, completions);
        }
    }

    fn handle_event(&mut self, socket: Socket, events: i32, completions: &mut Vec<Completion>) {
        let Some(slot) = self.slots.get_mut(socket) else { return };
        let token = slot.token;
        let broken = events & (libc::EPOLLERR | libc::EPOLLHUP) != 0;
        if slot.flags.has(Flags::CONNECTING) {
            if !broken && events & libc::EPOLLOUT == 0 {
                return;
            }
            slot.flags.clear(Flags::CONNECTING);
            let outcome = Outcome::Connected(socket_error(slot.fd));
            completions.push(Completion { token, outcome });
        }
        if (broken || events & libc::EPOLLOUT != 0)
            && slot.output.is_some()
            && let Some(sent) = self.send_some(socket)
        {
            if let Some(slot) = self.slots.get_mut(socket) {
                slot.flags.clear(Flags::SENDING);
            }
            completions.push(Completion { token, outcome: Outcome::Sent(sent) });
        }
        if let Some(splice) = self.slots.get(socket).and_then(|slot| slot.splice) {
            self.pump(splice, completions);
        }
        if broken || events & (libc::EPOLLIN | libc::EPOLLRDHUP) != 0 {
            let Some(slot) = self.slots.get_mut(socket) else { return };
            slot.flags.set(Flags::READABLE);
            if broken || events & libc::EPOLLRDHUP != 0 {
                slot.flags.set(Flags::HANGING);
            }
            self.take_input(socket, completions);
        }
    }

    /// Accepts or reads from a socket that may have something, if its owner wants it.
    fn take_input(&mut self, socket: Socket, completions: &mut Vec<Completion>) {
        let Some(slot) = self.slots.get_mut(socket) else { return };
        if !slot.flags.has(Flags::WANTED) {
            return;
        }
        if slot.flags.has(Flags::LISTENER) {
            self.accept_some(socket, completions);
        } else {
            self.read_some(socket, completions);
        }
    }

    fn read_some(&mut self, socket: Socket, completions: &mut Vec<Completion>) {
        let capacity = self.pool.buffer_bytes();
        let Some(slot) = self.slots.get_mut(socket) else { return };
        let capacity = match slot.recv_bytes_max {
            0 => capacity,
            limit => capacity.min(limit),
        } as usize;
        for read in 0..READS_PER_TURN {
            // One read is everybody's, or who always has something would leave others nothing.
            if read > 0 && self.budget_bytes == 0 {
                break;
            }
            let Some(vacant) = self.pool.take(Room::Whole) else {
                self.stats.no_buffers += 1;
                if !slot.flags.has(Flags::STARVED.with(Flags::RUNNABLE)) {
                    slot.flags.set(Flags::STARVED);
                    self.starved.push_back(socket);
                }
                return;
            };
            self.stats.enters += 1;
            // SAFETY: the vacant buffer has room for `capacity` bytes and nobody reads it.
            let result = unsafe { sys::recv(slot.fd, vacant.data(), capacity, libc::MSG_DONTWAIT) };
            if result > 0 {
                self.budget_bytes = self.budget_bytes.saturating_sub(result as usize);
                let buffer = self.pool.received(vacant, result as u32);
                let outcome = Outcome::Received(buffer);
                completions.push(Completion { token: slot.token, outcome });
                if slot.recv_bytes_max > 0 {
                    slot.flags.clear(Flags::WANTED);
                    return;
                }
                if (result as usize) < capacity && !slot.flags.has(Flags::HANGING) {
                    // Nothing is left; whatever comes later makes an edge.
                    slot.flags.clear(Flags::READABLE);
                    return;
                }
                continue;
            }
            let errno = sys::last_errno();
            self.pool.put_back(vacant);
            let outcome = match errno {
                _ if result == 0 => Outcome::Eof,
                Errno(libc::EINTR) => continue,
                Errno(libc::EAGAIN) => {
                    slot.flags.clear(Flags::READABLE.with(Flags::HANGING));
                    return;
                }
                errno => Outcome::RecvFailed(errno),
            };
            slot.flags.clear(Flags::WANTED.with(Flags::READABLE));
            slot.flags.set(Flags::ENDED);
            completions.push(Completion { token: slot.token, outcome });
            return;
        }
        self.schedule(socket);
    }

    fn accept_some(&mut self, socket: Socket, completions: &mut Vec<Completion>) {
        let Some(slot) = self.slots.get_mut(socket) else { return };
        let (fd, token) = (slot.fd, slot.token);
        for _ in 0..ACCEPTS_PER_TURN {
            self.stats.enters += 1;
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            // SAFETY: null pointers: the peer's address is asked for when somebody wants it.
            let result =
                unsafe { libc::accept4(fd, std::ptr::null_mut(), std::ptr::null_mut(), flags) };
            if result >= 0 {
                let accepted = self.slots.insert(Slot::new(token, result, Flags::default()));
                completions.push(Completion { token, outcome: Outcome::Accepted(accepted) });
                continue;
            }
            let errno = sys::last_errno();
            let Some(slot) = self.slots.get_mut(socket) else { return };
            if errno == Errno(libc::EAGAIN) {
                slot.flags.clear(Flags::READABLE);
                return;
            }
            if sys::accept_error_passes_by(errno) {
                continue;
            }
            slot.flags.clear(Flags::WANTED);
            completions.push(Completion { token, outcome: Outcome::AcceptStopped(errno) });
            return;
        }
        self.schedule(socket);
    }
}

/// What became of a connect.
fn socket_error(fd: RawFd) -> Result<(), Errno> {
    let mut errno = 0_i32;
    let mut bytes = size_of::<i32>() as libc::socklen_t;
    // SAFETY: a writable int and its size, as SO_ERROR wants.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            (&raw mut errno).cast(),
            &raw mut bytes,
        )
    };
    match (result, errno) {
        (0, 0) => Ok(()),
        (0, errno) => Err(Errno(errno)),
        _ => Err(sys::last_errno()),
    }
}
