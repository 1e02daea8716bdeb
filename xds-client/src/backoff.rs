//! How long to wait before a new try, and how many requests may go out: both as numbers, without a
//! clock.
//!
//! What it leaves to others: waiting.

use std::time::{Duration, Instant};

/// Random numbers that a seed fixes (SplitMix64): spread, not secrets.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Anything from nothing up to this, exclusive.
    pub(crate) fn below(&mut self, max: Duration) -> Duration {
        let nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(if nanos == 0 { 0 } else { self.next() % nanos })
    }
}

/// Exponential back-off with full jitter, as Envoy's: the n-th wait is anything below
/// `min(base * 2^n, max)`. With 500 ms and 30 s the first is below 0.5 s, the second below 1 s, the
/// seventh and all later ones below 30 s.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
    random: Random,
}

impl Backoff {
    /// Envoy's base of xDS streams.
    pub const BASE: Duration = Duration::from_millis(500);
    /// Envoy's cap of xDS streams.
    pub const MAX: Duration = Duration::from_secs(30);

    /// A back-off that has not failed yet. A cap below the base is the base.
    #[must_use]
    pub fn new(base: Duration, max: Duration, seed: u64) -> Self {
        Self { base, max: max.max(base), failures: 0, random: Random::new(seed) }
    }

    /// How long to wait after one more failure.
    pub fn next_wait(&mut self) -> Duration {
        let doubled = 1_u32.checked_shl(self.failures).and_then(|by| self.base.checked_mul(by));
        self.failures = self.failures.saturating_add(1);
        self.random.below(doubled.unwrap_or(self.max).min(self.max))
    }

    /// A response came: the next failure is the first one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// `rate_limit_settings`: so many requests at once, and so many per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// The most requests at once, at least 1. Envoy: 100.
    pub max_tokens: u32,
    /// Requests per second, above 0. Envoy: 10.
    pub fill_rate: f64,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { max_tokens: 100, fill_rate: 10.0 }
    }
}

/// A bucket of tokens, one for each request.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    limit: RateLimit,
    tokens: f64,
    filled_at: Option<Instant>,
}

impl TokenBucket {
    /// A full one.
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self { limit, tokens: f64::from(limit.max_tokens.max(1)), filled_at: None }
    }

    /// Takes a token; without one, says when the next one comes.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let passed = self.filled_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.filled_at = Some(now);
        let rate = self.limit.fill_rate.max(1e-3);
        let room = f64::from(self.limit.max_tokens.max(1));
        self.tokens = passed.as_secs_f64().mul_add(rate, self.tokens).min(room);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        // A nanosecond more: what was rounded down would be too early, and turn in circles.
        let wait = (1.0 - self.tokens) / rate + 1e-6;
        Err(now + Duration::from_secs_f64(wait))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "any instant does for a test")]
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_begin_anew() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(Backoff::BASE, Backoff::MAX, seed);
            for limit_ms in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000] {
                assert!(backoff.next_wait() < Duration::from_millis(limit_ms));
            }
            (0..100).for_each(|_| assert!(backoff.next_wait() < Backoff::MAX));
            backoff.reset();
            assert!(backoff.next_wait() < Backoff::BASE);
        }
    }

    #[test]
    fn jitter_is_spread_over_the_whole_wait() {
        let waits = (0..1000).map(|s| Backoff::new(Backoff::BASE, Backoff::MAX, s).next_wait());
        let (low, high) = waits.fold((0, 0), |(low, high), wait| {
            (low + usize::from(wait.as_millis() < 100), high + usize::from(wait.as_millis() > 400))
        });
        assert!((120..280).contains(&low) && (120..280).contains(&high), "{low} {high}");
    }

    #[test]
    fn a_bucket_gives_what_it_holds_and_then_its_rate() {
        let mut bucket = TokenBucket::new(RateLimit { max_tokens: 3, fill_rate: 10.0 });
        let now = Instant::now();
        (0..3).for_each(|_| bucket.take(now).unwrap());
        let next = bucket.take(now).unwrap_err();
        assert!(next > now && next <= now + Duration::from_millis(101));
        bucket.take(next).unwrap();
        bucket.take(next).unwrap_err();
        let later = next + Duration::from_secs(60);
        (0..3).for_each(|_| bucket.take(later).unwrap());
        bucket.take(later).unwrap_err();
    }
}
