//! Letting completions gather before a wait ends, as network cards moderate their interrupts.
//!
//! A shard that is quicker than what feeds it wakes for every completion, and a wake costs as much
//! as the work. By Little's law, waiting until an eighth of the requests in flight have news adds
//! about an eighth to the time that they take anyway, and never more than a bound. What is in
//! flight may also be stuck, so a wait that did not pay makes the next ones rarer.
//!
//! What it leaves to others: waiting (the backends), and knowing what is in flight (their user).

use std::time::Duration;

/// Fewer than this in flight are served at once.
const AWAITED_MIN: usize = 32;
/// Which part of what is in flight gathers.
const PART: usize = 8;
/// As many come at once at most: a turn's work should stay in a core's own cache.
const WANTED_MAX: usize = 64;
/// A wait pays when this many messages came by it.
const WORTHWHILE: usize = 4;
/// Waits that end at once between two that gather, when gathering never pays.
const PAUSE_MAX: u32 = 255;

/// How many completions to wait for.
#[derive(Debug)]
pub(crate) struct Gathering {
    time: Duration,
    awaited: usize,
    /// The last wait was prolonged.
    prolonged: bool,
    /// Waits that end at once, after one that did not pay, and how many of them are left.
    pause: u32,
    left: u32,
}

impl Gathering {
    /// Gathers for at most `time`; not at all when that is zero.
    pub(crate) fn new(time: Duration) -> Gathering {
        Gathering { time, awaited: 0, prolonged: false, pause: 0, left: 0 }
    }

    /// How long a wait may be prolonged.
    pub(crate) fn time(&self) -> Duration {
        self.time
    }

    /// So much came with the last turn, and so much more is awaited.
    pub(crate) fn expect(&mut self, came: usize, awaited: usize) {
        self.awaited = awaited;
        if std::mem::take(&mut self.prolonged) {
            self.pause = if came < WORTHWHILE { (self.pause * 2 + 1).min(PAUSE_MAX) } else { 0 };
            self.left = self.pause;
        }
    }

    /// A wait begins: it may go on, while its time lasts, until so many completions have come.
    /// Fewer than two: it ends with the first.
    pub(crate) fn begin(&mut self) -> u32 {
        if self.awaited < AWAITED_MIN || self.time.is_zero() {
            return 0;
        }
        self.prolonged = self.left == 0;
        self.left = self.left.saturating_sub(1);
        if self.prolonged { (self.awaited / PART).min(WANTED_MAX) as u32 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathering(awaited: usize) -> Gathering {
        let mut gathering = Gathering::new(Duration::from_micros(50));
        gathering.expect(0, awaited);
        gathering
    }

    #[test]
    fn an_eighth_of_what_is_awaited_gathers() {
        assert_eq!(gathering(31).begin(), 0);
        assert_eq!(gathering(32).begin(), 4);
        assert_eq!(gathering(256).begin(), 32);
        assert_eq!(gathering(100_000).begin(), 64);
        let mut never = Gathering::new(Duration::ZERO);
        never.expect(0, 1000);
        assert_eq!(never.begin(), 0);
    }

    #[test]
    fn waits_that_do_not_pay_become_rare_and_one_that_pays_brings_them_back() {
        let mut gathering = gathering(256);
        let mut prolonged = 0;
        for _ in 0..1000 {
            prolonged += u32::from(gathering.begin() > 0);
            gathering.expect(1, 256);
        }
        assert!((8..=12).contains(&prolonged), "{prolonged} of 1000 waits were prolonged");
        while gathering.begin() == 0 {
            gathering.expect(1, 256);
        }
        for _ in 0..10 {
            gathering.expect(4, 256);
            assert_eq!(gathering.begin(), 32);
        }
    }
}
