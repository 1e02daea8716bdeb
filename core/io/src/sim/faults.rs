//! What goes wrong in a simulated world, and how often: plain fields.
//!
//! What it leaves to others: making it happen (`network.rs`, `listener.rs`, `node.rs`, `run.rs`).

use super::Random;

/// How often each fault strikes. Fields that name no unit are chances per mille, rolled each time
/// the fault could strike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The time that a segment, a handshake or a window update takes, from and to, in microseconds.
    pub latency_us: (u64, u64),
    /// A receive reports fewer bytes than are there, down to one.
    pub split: u32,
    /// Arrived bytes wait a latency longer, so that they may come together with later ones.
    pub merge: u32,
    /// A part of an output is taken, and the rest a latency later.
    pub short_write: u32,
    /// Bytes that one direction of a connection holds, from and to, before the sender must wait for
    /// the receiver to read: the send and the receive buffer together.
    pub window_bytes: (usize, usize),
    /// One direction of a new connection will be cut after a chosen byte: both ends see a reset.
    pub reset: u32,
    /// The choice of that byte goes from 0 to this.
    pub reset_within_bytes: u64,
    /// A reset that arrives throws away what had arrived before it and was not yet reported.
    pub reset_drops_unread: u32,
    /// A connect is refused although somebody listens.
    pub refuse: u32,
    /// A connect gets no answer; it fails with `ETIMEDOUT` after 127 seconds, as on Linux.
    pub blackhole: u32,
    /// [`crate::Io::connect`] itself fails, with `EMFILE` or `EADDRNOTAVAIL`.
    pub connect_error: u32,
    /// Accepting stops with `EMFILE` or `ENFILE`; the connection stays in the backlog.
    pub accept_error: u32,
    /// A connection in the backlog is gone when it is accepted (`ECONNABORTED`): its client sees a
    /// reset, and the backend accepts on.
    pub accept_abort: u32,
    /// Connections that a listener holds before it drops a SYN, which is sent again a second later.
    pub backlog: usize,
    /// A receive finds no buffer although there is one, and goes on a latency later.
    pub no_buffers: u32,
    /// A splice does not begin, or ends, for lack of a pipe.
    pub no_pipe: u32,
    /// A multishot receive ends after a completion, and goes on a latency later.
    pub rearm: u32,
    /// The completion queue overflows: a turn reports a few completions and keeps the rest.
    pub overflow: u32,
    /// A pause takes a latency to work: what arrives before is still reported.
    pub late_pause: u32,
    /// A closed socket takes a latency to let go of what it sent.
    pub late_close: u32,
    /// A FIN takes up to `fin_delay_us_max` longer than bytes.
    pub late_fin: u32,
    /// See `late_fin`; microseconds.
    pub fin_delay_us_max: u64,
    /// A turn takes the next completion from any socket instead of the first.
    pub reorder: u32,
    /// Somebody runs although nothing happened.
    pub spurious_wakeup: u32,
    /// Time jumps past the next event by up to `clock_jump_us_max`.
    pub clock_jump: u32,
    /// See `clock_jump`; microseconds.
    pub clock_jump_us_max: u64,
}

impl Faults {
    /// A perfect network with 50 microseconds of latency and 256 KiB of window.
    #[must_use]
    pub fn none() -> Faults {
        Faults {
            latency_us: (50, 50),
            split: 0,
            merge: 0,
            short_write: 0,
            window_bytes: (256 << 10, 256 << 10),
            reset: 0,
            reset_within_bytes: 64 << 10,
            reset_drops_unread: 0,
            refuse: 0,
            blackhole: 0,
            connect_error: 0,
            accept_error: 0,
            accept_abort: 0,
            backlog: 1024,
            no_buffers: 0,
            no_pipe: 0,
            rearm: 0,
            overflow: 0,
            late_pause: 0,
            late_close: 0,
            late_fin: 0,
            fin_delay_us_max: 5_000,
            reorder: 0,
            spurious_wakeup: 0,
            clock_jump: 0,
            clock_jump_us_max: 2_000,
        }
    }

    /// Everything that a correct network may do without losing a connection: splits, merges, short
    /// writes, small windows, delays, races and reordering. Chosen by `random`.
    #[must_use]
    pub fn lossless(random: &mut Random) -> Faults {
        let mut rate = |max: u64| match random.below(4) {
            0 => 0,
            1 => random.below(max / 10 + 1) as u32,
            _ => random.below(max + 1) as u32,
        };
        Faults {
            split: rate(900),
            merge: rate(500),
            short_write: rate(800),
            no_buffers: rate(150),
            no_pipe: rate(300),
            rearm: rate(300),
            overflow: rate(500),
            late_pause: rate(700),
            late_close: rate(1000),
            late_fin: rate(800),
            reorder: rate(1000),
            spurious_wakeup: rate(100),
            clock_jump: rate(100),
            latency_us: (1 + random.below(50), 50 + random.below(5_000)),
            window_bytes: (random.size(16 << 10), 1024 + random.size(256 << 10)),
            ..Faults::none()
        }
    }

    /// As [`Faults::lossless`], and connections are refused, lost and cut.
    #[must_use]
    pub fn lossy(random: &mut Random) -> Faults {
        let mut rate = |max: u64| match random.below(2) {
            0 => 0,
            _ => random.below(max + 1) as u32,
        };
        Faults {
            reset: rate(200),
            reset_drops_unread: rate(1000),
            refuse: rate(100),
            blackhole: rate(30),
            connect_error: rate(30),
            accept_error: rate(100),
            accept_abort: rate(50),
            reset_within_bytes: random.size(128 << 10) as u64,
            backlog: 1 + random.size(64),
            ..Faults::lossless(random)
        }
    }
}
