//! PINGs that find out whether the peer of a connection of HTTP/2 is still there
//! (`connection_keepalive`).
//!
//! What it leaves to others: frames and timers.

use crate::config::Http2Keepalive;
use tidegate_io::Instant;

/// What our PINGs carry.
pub(super) const PING: [u8; 8] = *b"tidegate";

/// When the next PING is due, and its answer.
#[derive(Debug)]
pub struct Keepalive {
    config: Http2Keepalive,
    next: Option<Instant>,
    /// Until when something must have come.
    due: Option<Instant>,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Nothing,
    Ping,
    /// Nothing has come in time: the connection is dead.
    Dead,
}

impl Keepalive {
    /// For a connection that begins now. `draw` is a random number.
    pub(super) fn new(config: Http2Keepalive, now: Instant, draw: u64) -> Keepalive {
        let mut keepalive = Keepalive { config, next: None, due: None };
        keepalive.answered(now, draw);
        keepalive
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.or(self.next)
    }

    pub(super) fn step(&mut self, now: Instant) -> Step {
        match (self.due, self.next) {
            (Some(due), _) if due <= now => Step::Dead,
            (None, Some(next)) if next <= now => {
                self.due = Some(now + self.config.timeout);
                Step::Ping
            }
            _ => Step::Nothing,
        }
    }

    /// A stream is about to be opened on a connection that was idle since then; whether a PING goes
    /// ahead of it.
    pub(super) fn probes(&mut self, idle_since: Instant, now: Instant) -> bool {
        let is_long = |interval| idle_since + interval <= now;
        let probes =
            self.due.is_none() && self.config.connection_idle_interval.is_some_and(is_long);
        if probes {
            self.due = Some(now + self.config.timeout);
        }
        probes
    }

    /// Something came: the peer is there, and has more time for its answer.
    pub(super) fn received(&mut self, now: Instant) {
        if self.due.is_some() {
            self.due = Some(now + self.config.timeout);
        }
    }

    /// The answer came.
    pub(super) fn answered(&mut self, now: Instant, draw: u64) {
        self.due = None;
        // The high bits of a xorshift are its best.
        let share = (draw >> 32) as f64 / f64::from(u32::MAX);
        let jitter = self.config.interval_jitter.mul_f64(share);
        self.next = self.config.interval.map(|interval| now + interval + jitter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Instant {
        Instant::default() + Duration::from_secs(seconds)
    }

    fn config() -> Http2Keepalive {
        let seconds = Duration::from_secs;
        Http2Keepalive {
            interval: Some(seconds(10)),
            interval_jitter: seconds(2),
            timeout: seconds(3),
            connection_idle_interval: Some(seconds(5)),
        }
    }

    #[test]
    fn a_silent_peer_is_dead() {
        let mut keepalive = Keepalive::new(config(), at(0), 0);
        assert_eq!((keepalive.deadline(), keepalive.step(at(9))), (Some(at(10)), Step::Nothing));
        assert_eq!(keepalive.step(at(10)), Step::Ping);
        assert_eq!((keepalive.deadline(), keepalive.step(at(12))), (Some(at(13)), Step::Nothing));
        keepalive.received(at(12));
        assert_eq!((keepalive.step(at(14)), keepalive.step(at(15))), (Step::Nothing, Step::Dead));
        keepalive.answered(at(14), u64::MAX);
        assert_eq!(keepalive.deadline(), Some(at(26)));
    }

    #[test]
    fn a_connection_that_was_idle_is_probed_once() {
        let mut keepalive = Keepalive::new(config(), at(0), 0);
        assert!(!keepalive.probes(at(1), at(5)) && keepalive.probes(at(1), at(6)));
        assert!(!keepalive.probes(at(1), at(7)));
        assert_eq!(keepalive.step(at(9)), Step::Dead);
    }
}
