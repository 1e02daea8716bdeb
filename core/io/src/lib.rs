//! Completion I/O for Tidegate: one trait, [`Io`], and three backends that behave alike.
//!
//! * [`uring`]: io_uring with multishot accept and receive and a ring of provided buffers.
//! * [`epoll`]: the same completions made from readiness; used where io_uring is denied, and as the
//!   control arm of every measurement.
//! * [`sim`]: the same completions over memory, from a seed and a virtual clock.
//!
//! What it leaves to others: it knows no HTTP, no configuration, no retry and no policy. It never
//! decides to close a connection; it reports what happened and does what it is told.
//!
//! # The ownership rule
//!
//! An [`Io`] owns its sockets and every buffer that the kernel may touch. The owner of a socket
//! gives bytes away with [`Io::send`] and gets bytes as [`Buffer`] handles. After [`Io::close`] no
//! completion for that socket is reported any more, while buffers that the kernel still holds stay
//! alive until the kernel lets go of them. So a connection can be forgotten at any moment, in any
//! state.

// The only package of the workspace that may say `unsafe`; every block names what upholds it.
#![allow(unsafe_code)]

pub mod backend;
pub mod buffer;
mod cells;
pub mod clock;
pub mod cpu;
pub mod epoll;
mod gather;
mod interfaces;
pub mod memory;
pub mod options;
pub mod output;
mod pass_on;
mod pool;
mod region;
pub mod sim;
mod slots;
pub mod socket;
mod splice;
mod sys;
pub mod uring;
mod wake;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

pub use buffer::Buffer;
pub use cells::Cells;
pub use clock::{Instant, Now};
pub use interfaces::host_address;
pub use options::IoOptions;
pub use output::Output;
pub use socket::{ConnectOptions, Keepalive};

/// Names the owner of a socket in every completion of that socket.
///
/// A token is chosen by the owner: a slot and the slot's generation, so that an owner can drop a
/// completion that was already in the batch when the slot was reused. An [`Io`] only carries it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Token(pub u64);

/// A socket that an [`Io`] owns. Small and copyable; the generation makes a stale handle harmless:
/// every operation on a socket that was closed is ignored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Socket {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Socket {
    /// Its place in a table of sockets: below the most sockets that were open at once. It is given
    /// to another socket after this one is closed.
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// One thing that happened to one socket.
#[derive(Debug)]
pub struct Completion {
    /// The token that the socket's owner gave.
    pub token: Token,
    /// What happened.
    pub outcome: Outcome,
}

/// An errno value, for example `libc::ECONNRESET`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Errno(pub i32);

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", io::Error::from_raw_os_error(self.0))
    }
}

/// What happened, in the words of the socket's owner.
#[derive(Debug)]
pub enum Outcome {
    /// A listener accepted a connection. The new socket has the listener's token until
    /// [`Io::set_token`]; it receives nothing before [`Io::recv`].
    Accepted(Socket),
    /// A listener stopped accepting, for example with `EMFILE`. It stays open; [`Io::accept`]
    /// starts it again. The owner decides when, so that nothing spins.
    AcceptStopped(Errno),
    /// A connect finished.
    Connected(Result<(), Errno>),
    /// Bytes arrived; never empty.
    Received(Buffer),
    /// The peer finished sending (FIN). No more bytes arrive; sending is still possible.
    Eof,
    /// Receiving failed, for example with `ECONNRESET`. No more bytes arrive.
    RecvFailed(Errno),
    /// The whole [`Output`] given to [`Io::send`] was taken by the kernel, or sending failed.
    Sent(Result<(), Errno>),
    /// A splice from this socket has moved `bytes` more, and has ended when `end` says so.
    Spliced {
        /// Bytes that the other socket took since the last report.
        bytes: u64,
        /// Why it is over; both sockets are free again. No end: it goes on.
        end: Option<SpliceEnd>,
    },
    /// Somebody called [`Waker::wake`]. Reported at most once per turn, with the token given to
    /// [`Io::set_waker_token`].
    Woken,
}

/// Why a splice is over. All that was taken from the one socket was given to the other, except
/// after [`SpliceEnd::SendFailed`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpliceEnd {
    /// As many bytes were moved as was asked for.
    Complete,
    /// The peer finished sending before.
    Eof,
    /// Receiving failed.
    RecvFailed(Errno),
    /// Sending failed.
    SendFailed(Errno),
    /// There is no pipe left (descriptors, or the bound of the backend): the rest is to be received
    /// and sent as usual.
    NoPipe,
}

/// Wakes an [`Io`] that waits in [`Io::turn`], from any thread.
#[derive(Clone)]
pub struct Waker(pub(crate) Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// Makes the current or the next [`Io::turn`] return soon, with [`Outcome::Woken`].
    pub fn wake(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waker")
    }
}

/// Counters of one backend, for `/stats`. All are totals since start unless they say otherwise.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct IoStats {
    /// Turns taken.
    pub turns: u64,
    /// System calls made to submit or wait.
    pub enters: u64,
    /// Operations handed to the kernel.
    pub submissions: u64,
    /// Completions read from the kernel.
    pub completions: u64,
    /// Receives that found no free buffer; each was started again once buffers were free.
    pub no_buffers: u64,
    /// Times the completion queue overflowed; nothing is lost, the kernel keeps the rest.
    pub overflows: u64,
    /// Multishot operations that the kernel ended and that were started again.
    pub rearms: u64,
    /// Receive buffers held by anybody now (a gauge).
    pub buffers_in_use: u64,
    /// Bytes that were spliced.
    pub spliced_bytes: u64,
    /// Sockets open now, closing ones included (a gauge).
    pub sockets: u64,
}

/// Completion I/O, as one shard uses it. Not `Send`: a backend belongs to the thread that made it.
///
/// Every method that starts something returns at once; what comes of it is a [`Completion`] of a
/// later [`Io::turn`]. Within one socket, completions come in the order in which things happened;
/// across sockets there is no order.
pub trait Io {
    /// Takes over a bound, listening socket. It accepts nothing before [`Io::accept`].
    fn listen(&mut self, listener: OwnedFd, token: Token) -> io::Result<Socket>;

    /// Starts accepting on `listener`, until [`Outcome::AcceptStopped`], [`Io::pause`] or close.
    fn accept(&mut self, listener: Socket);

    /// Creates a non-blocking TCP socket with `TCP_NODELAY` and starts to connect it.
    ///
    /// An error (no descriptors left, unsupported address family) is returned at once.
    fn connect(&mut self, address: &SocketAddr, token: Token) -> io::Result<Socket> {
        self.connect_with(address, &ConnectOptions::default(), token)
    }

    /// The same, with options. An address that cannot be bound to is an error at once, too.
    fn connect_with(
        &mut self,
        address: &SocketAddr,
        options: &ConnectOptions,
        token: Token,
    ) -> io::Result<Socket>;

    /// Changes the owner that completions of `socket` name.
    fn set_token(&mut self, socket: Socket, token: Token);

    /// Wants bytes from `socket`, until [`Io::pause`], [`Outcome::Eof`], [`Outcome::RecvFailed`] or
    /// close. Idempotent: on a socket that already receives it does nothing.
    fn recv(&mut self, socket: Socket);

    /// Wants one [`Outcome::Received`] of at most `bytes_max` bytes (not 0), then nothing more, as
    /// after [`Io::pause`]. On a socket that already receives it does nothing.
    fn recv_some(&mut self, socket: Socket, bytes_max: u32);

    /// Whether something may still be received without a further call: after [`Io::pause`] until it
    /// has worked.
    fn is_receiving(&self, socket: Socket) -> bool;

    /// Starts to move what `from` receives to `to` inside the kernel, `bytes` of it, and reports it
    /// to the owner of `from` by [`Outcome::Spliced`]. Until that names an end, nothing may be sent
    /// on `to` nor received from `from`. Closing either ends it without a report.
    ///
    /// False when that cannot be done here; then nothing has happened.
    ///
    /// # Panics
    ///
    /// When `from` is receiving, or a send is in flight on `to`: both are our own mistakes.
    fn splice(&mut self, from: Socket, to: Socket, bytes: u64) -> bool;

    /// Wants no more bytes (or no more accepted connections) for now. Something that was already on
    /// its way may still be reported. [`Io::recv`] (or [`Io::accept`]) continues; nothing is lost.
    fn pause(&mut self, socket: Socket);

    /// Gives `output` to the kernel, whole and in order; short writes are the backend's business.
    ///
    /// At most one send is in flight per socket: the caller waits for [`Outcome::Sent`].
    ///
    /// # Panics
    ///
    /// When a send is in flight on this socket, or when `output` is empty: both are our own
    /// mistakes.
    fn send(&mut self, socket: Socket, output: Output);

    /// As [`Io::send`], for the last bytes on a socket that is shut or closed right after
    /// [`Outcome::Sent`]: they may wait for the FIN and go in one packet with it (`MSG_MORE`, which
    /// waits up to 200 ms where nothing follows).
    fn send_last(&mut self, socket: Socket, output: Output);

    /// Sends FIN after what was sent. Call it when no send is in flight.
    fn shutdown_write(&mut self, socket: Socket);

    /// Forgets the socket: nothing is reported for it from now on. Operations in flight are
    /// cancelled and their buffers released as the kernel lets go of them; then the descriptor is
    /// closed.
    fn close(&mut self, socket: Socket);

    /// As [`Io::close`], but the peer sees a reset (`SO_LINGER` 0): it must not take what it got
    /// for whole.
    fn abort(&mut self, socket: Socket);

    /// So many messages came with the last turn, and so many more are awaited. Where that is many,
    /// a wait may be prolonged a little until several things have happened
    /// ([`IoOptions::gather`]); a backend may also do nothing about it.
    fn expect(&mut self, _came: usize, _awaited: usize) {}

    /// Gives back memory that was not needed since this was called last, a part at a time. Whether
    /// there may be more: then it wants to be called again in a second or so.
    fn trim(&mut self) -> bool;

    /// Submits what was asked for, waits until something happened or `timeout` has passed (`None`:
    /// without bound), and appends what happened to `completions`.
    ///
    /// Returns the time at which it woke up; this is where time enters a shard. It may return early
    /// with nothing appended, when what happened concerned only the backend.
    fn turn(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<Now>;

    /// The time without waiting, for set-up code. A shard uses what [`Io::turn`] returned.
    fn now(&self) -> Now;

    /// A handle that wakes this backend from any thread.
    fn waker(&self) -> Waker;

    /// Chooses the token of [`Outcome::Woken`].
    fn set_waker_token(&mut self, token: Token);

    /// An empty [`Output`] from the backend's pool. Dropping it or sending it gives it back.
    fn output(&mut self) -> Output;

    /// The peer's address; a system call, made only when asked for. `None` when it is gone.
    fn peer_address(&self, socket: Socket) -> Option<SocketAddr>;

    /// Our own address on this connection; a system call, made only when asked for.
    fn local_address(&self, socket: Socket) -> Option<SocketAddr>;

    /// Counters and gauges so far.
    fn stats(&self) -> IoStats;

    /// The backend's name: `io_uring`, `epoll` or `sim`.
    fn name(&self) -> &'static str;
}
