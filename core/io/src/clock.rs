//! Time as a shard sees it: taken once per turn and passed down.
//!
//! What it leaves to others: calendars and formatting.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds on a clock that never goes back. Its zero has no meaning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// Time since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    /// Saturates at the end of time (584 years).
    fn add(self, duration: Duration) -> Instant {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(nanos))
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;
    fn sub(self, earlier: Instant) -> Duration {
        self.since(earlier)
    }
}

/// One reading of both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// The monotonic clock, for timers and durations.
    pub instant: Instant,
    /// The wall clock in microseconds since 1970-01-01 UTC, for `date` headers and log lines.
    pub unix_us: u64,
}

impl Now {
    /// Reads `CLOCK_MONOTONIC` and `CLOCK_REALTIME`, through the vDSO where there is one.
    ///
    /// For backends, and for threads that have no backend; a shard uses what [`crate::Io::turn`]
    /// returned.
    #[must_use]
    pub fn read() -> Now {
        let monotonic = read_clock(libc::CLOCK_MONOTONIC);
        let real = read_clock(libc::CLOCK_REALTIME);
        Now {
            instant: Instant(monotonic.0 * 1_000_000_000 + monotonic.1),
            unix_us: real.0 * 1_000_000 + real.1 / 1_000,
        }
    }
}

/// Seconds and nanoseconds. Times before the clock's zero count as zero.
fn read_clock(clock: libc::clockid_t) -> (u64, u64) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a writable timespec; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward_and_has_the_right_century() {
        let first = Now::read();
        let second = Now::read();
        assert!(second.instant >= first.instant);
        assert!(first.unix_us > 1_700_000_000_000_000 && first.unix_us < 7_000_000_000_000_000);
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Instant(5).since(Instant(7)), Duration::ZERO);
        assert_eq!(Instant(u64::MAX - 1) + Duration::MAX, Instant(u64::MAX));
        assert_eq!(Instant(7) - Instant(5), Duration::from_nanos(2));
    }
}
