//! Whether a request is sent once more, and when: decided about each attempt that came to nothing,
//! without IO.
//!
//! ```text
//!              1                          2
//!   (route) ------> attempt under way --------> the outcome stands
//!                     ^      |  |   |
//!                     '- 3 --'  |   '-- the response goes downstream --> (no more attempts)
//!                     ^         | 4
//!                     '- wait <-'
//! ```
//!
//! 1 [`Retries::of`], where a policy covers the request 2 [`Verdict::Stands`], and
//! [`Verdict::LimitExceeded`] 3 [`Verdict::Replay`], [`Verdict::Again`] at once 4
//! [`Verdict::Again`] after a back-off
//!
//! A request that died on a connection which had been idle, before any answer, has probably not
//! been seen by its origin, which had closed the connection. Where a policy covers that, the retry
//! has no back-off; where none does, or it allows no more, there is one replay, which is not
//! counted as an attempt, if the request may be repeated. What an origin has refused unseen (RFC
//! 9113 8.7) is replayed up to [`REPLAYS_OF_REFUSED_MAX`] times: in a roll-out several origins, one
//! after the other, can be about to go. Without a policy Envoy replays nothing.
//!
//! What it leaves to others: doing it (`attempts`), circuit breakers, timers and randomness.

use crate::config::{RateLimitedBackOff, RetryOn, RetryPolicy};
use crate::sabotage::Sabotage;
use crate::snapshot::{CompiledRetryPolicy, HostId};
use std::time::Duration;
use tidegate_http::{RequestHead, ResponseHead};
use tidegate_io::Now;

/// The attempts of a stream.
#[derive(Debug, Default)]
pub struct Attempts {
    /// How many have begun; a replay is none of its own.
    pub count: u32,
    /// How often it was sent again for free.
    replays: u8,
    /// The request was given to a connection.
    pub started: bool,
    /// The route lets redirects be followed here.
    pub follows_redirects: bool,
    /// How many were.
    pub redirects: u32,
    /// What a policy allows, while no response has begun.
    pub retries: Option<Box<Retries>>,
}

/// What a policy allows for one request.
#[derive(Debug, Default)]
pub struct Retries {
    on: RetryOn,
    left: u32,
    /// Retries that had a back-off.
    backed_off: u32,
    /// `x-envoy-retriable-status-codes`
    status_codes: Vec<u32>,
    /// `x-envoy-retriable-header-names`
    header_names: Vec<Vec<u8>>,
    /// A permit of the circuit breaker is held: the attempt under way is a retry.
    pub permit: bool,
    /// A timeout of the try caused the last retry.
    pub timed_out: bool,
    /// How often another host is chosen to avoid those of the attempts before; 0: they need not
    /// be.
    pub host_selections_max: u32,
    /// The hosts of the attempts so far, if they are to be avoided.
    pub previous_hosts: Vec<HostId>,
    /// What has come of the request's body.
    pub body: Vec<u8>,
}

/// Why an attempt ended before the head of a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// No connection could be made.
    Connect,
    /// The connection ended, or what came was no HTTP.
    Reset,
    /// The connection, which had been idle before, ended before any byte of an answer.
    DiedIdle,
    /// The upstream has said that it did nothing with the request (RFC 9113 8.7): it may be sent
    /// again whatever it is.
    Refused,
    /// A timeout of the try ended.
    Timeout,
}

/// What is to be done about an attempt that came to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing: the client gets the outcome.
    Stands,
    /// The same, but there would have been another attempt if the policy had one left.
    LimitExceeded,
    /// The request goes out on another connection, as if it had not been sent.
    Replay,
    /// Another attempt, if the circuit breaker lets it.
    Again(BackOff),
}

/// How long to wait before a retry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BackOff {
    /// Not at all.
    None,
    /// A random share of a bound that grows.
    Exponential(Duration),
    /// As the response asked, and up to half as long again.
    RateLimited(Duration),
}

impl BackOff {
    /// How long.
    pub fn duration(self) -> Duration {
        match self {
            BackOff::None => Duration::ZERO,
            BackOff::Exponential(duration) | BackOff::RateLimited(duration) => duration,
        }
    }
}

/// How often a request is sent again for free because its origin has refused it unseen.
const REPLAYS_OF_REFUSED_MAX: u8 = 3;

const RETRY_ON: &[u8] = b"x-envoy-retry-on";
const RETRY_GRPC_ON: &[u8] = b"x-envoy-retry-grpc-on";
const MAX_RETRIES: &[u8] = b"x-envoy-max-retries";
const STATUS_CODES: &[u8] = b"x-envoy-retriable-status-codes";
const HEADER_NAMES: &[u8] = b"x-envoy-retriable-header-names";

const FIELDS: [&[u8]; 5] = [RETRY_ON, RETRY_GRPC_ON, MAX_RETRIES, STATUS_CODES, HEADER_NAMES];

/// Takes out of a request what it says about retries.
pub fn remove_fields(request: &mut RequestHead) {
    if request.headers.iter().any(|(name, _)| FIELDS.contains(&name)) {
        request.headers.retain(|name, _| !FIELDS.contains(&name));
    }
}

impl Attempts {
    /// Those of the request that a redirect leads to.
    pub fn of_redirect(&self) -> Attempts {
        Attempts { redirects: self.redirects, ..Attempts::default() }
    }

    /// Decides about an attempt that failed. `repeatable` says that to repeat the request changes
    /// nothing, and that all of it is still here.
    pub fn after_failure(
        &mut self,
        failure: Failure,
        policy: &CompiledRetryPolicy,
        repeatable: bool,
        draw: u64,
    ) -> Verdict {
        let replays_max = match failure {
            Failure::DiedIdle => 1,
            Failure::Refused => REPLAYS_OF_REFUSED_MAX,
            _ => 0,
        };
        let fresh = self.replays < replays_max;
        let is_first = fresh && self.replays == 0;
        self.replays += u8::from(fresh);
        let verdict = match &mut self.retries {
            Some(retries) if retries.covers(failure, self.started) => match is_first {
                true => retries.again(BackOff::None),
                false => retries.again_later(&policy.config, draw),
            },
            _ => Verdict::Stands,
        };
        match verdict {
            _ if failure == Failure::Refused && Sabotage::KeepRefused.strikes() => Verdict::Stands,
            Verdict::Again(_) => verdict,
            // Where a policy covers it, its number of retries counts, but for the first time.
            Verdict::Stands if fresh && repeatable => Verdict::Replay,
            _ if is_first && repeatable => Verdict::Replay,
            _ => verdict,
        }
    }
}

impl Retries {
    /// What a route's policy and the request itself allow; `None` when that is nothing.
    pub fn of(policy: &CompiledRetryPolicy, request: &RequestHead) -> Option<Retries> {
        let field = |name| std::str::from_utf8(request.headers.get_name(name)?).ok();
        let on = policy.config.retry_on;
        let on = on.with(field(RETRY_ON).map(RetryOn::of_header).unwrap_or_default());
        let on = on.with(field(RETRY_GRPC_ON).map(RetryOn::of_grpc_header).unwrap_or_default());
        if on.is_empty() || !policy.covers(request) {
            return None;
        }
        let list = |name| field(name).unwrap_or_default().split(',').map(str::trim);
        let left = field(MAX_RETRIES).and_then(|count| count.trim().parse::<u64>().ok());
        let names = list(HEADER_NAMES).filter(|name| !name.is_empty());
        Some(Retries {
            on,
            left: left.map_or(policy.config.num_retries, |left| left.min(u32::MAX.into()) as u32),
            status_codes: list(STATUS_CODES).filter_map(|code| code.parse().ok()).collect(),
            host_selections_max: match policy.config.avoids_previous_hosts {
                true => policy.config.host_selection_max_attempts,
                false => 0,
            },
            header_names: names.map(|name| name.to_ascii_lowercase().into_bytes()).collect(),
            ..Retries::default()
        })
    }

    /// Decides about a response, whose head has come.
    pub fn after_response(
        &mut self,
        response: &ResponseHead,
        policy: &CompiledRetryPolicy,
        now: Now,
        draw: u64,
    ) -> Verdict {
        if !self.covers_response(response, policy) {
            return Verdict::Stands;
        }
        let limited = policy.config.rate_limited_back_off.as_ref();
        match limited.and_then(|back_off| wait_of(response, back_off, now)) {
            Some(wait) => {
                // So that those who were told the same do not all come at once.
                let more = share(wait / 2, draw);
                self.again(BackOff::RateLimited(wait + more))
            }
            None => self.again_later(&policy.config, draw),
        }
    }

    /// The circuit breaker did not let the retry.
    pub fn refused(&mut self) {
        self.left = self.left.saturating_add(1);
    }

    fn again(&mut self, back_off: BackOff) -> Verdict {
        match self.left.checked_sub(1) {
            Some(left) => {
                if !Sabotage::RetryWithoutLimit.strikes() {
                    self.left = left;
                }
                Verdict::Again(back_off)
            }
            None => Verdict::LimitExceeded,
        }
    }

    /// The n-th time after a random share of (2^n - 1) times the base, as Envoy documents it.
    fn again_later(&mut self, policy: &RetryPolicy, draw: u64) -> Verdict {
        let factor = 2_u32.saturating_pow(self.backed_off.saturating_add(1)) - 1;
        let bound = policy.back_off.base.saturating_mul(factor).min(policy.back_off.max);
        let verdict = self.again(BackOff::Exponential(share(bound, draw)));
        self.backed_off = self.backed_off.saturating_add(1);
        verdict
    }

    /// Whether a failure is to be retried.
    fn covers(&self, failure: Failure, started: bool) -> bool {
        let connect = RetryOn::CONNECT_FAILURE;
        let resets = RetryOn::RESET.with(RetryOn::SERVER_ERROR).with(RetryOn::GATEWAY_ERROR);
        self.on.has_any(resets)
            || failure == Failure::Connect && self.on.has_any(connect)
            || failure == Failure::Refused && self.on.has_any(RetryOn::REFUSED_STREAM)
            || !started && self.on.has_any(RetryOn::RESET_BEFORE_REQUEST)
    }

    fn covers_response(&self, response: &ResponseHead, policy: &CompiledRetryPolicy) -> bool {
        let headers = &response.headers;
        // A rate limit of another proxy: to ask once more would make it worse.
        if headers.get_name(b"x-envoy-ratelimited").is_some() {
            return self.on.has_any(RetryOn::ENVOY_RATE_LIMITED);
        }
        let status = u32::from(response.status);
        let is_listed = || {
            policy
                .config
                .retriable_status_codes
                .iter()
                .chain(&self.status_codes)
                .any(|it| *it == status)
        };
        let has_header = || {
            let named = |name: &Vec<u8>| headers.get_name(name).is_some();
            policy.has_retriable_header(response) || self.header_names.iter().any(named)
        };
        let grpc = || headers.get_name(b"grpc-status").map_or(RetryOn::default(), of_grpc_status);
        self.on.has_any(RetryOn::SERVER_ERROR) && (500..600).contains(&status)
            || self.on.has_any(RetryOn::GATEWAY_ERROR) && (502..=504).contains(&status)
            || self.on.has_any(RetryOn::RETRIABLE_4XX) && status == 409
            || self.on.has_any(RetryOn::RETRIABLE_STATUS_CODES) && is_listed()
            || self.on.has_any(RetryOn::RETRIABLE_HEADERS) && has_header()
            || self.on.has_any(grpc())
    }
}

/// The condition that a `grpc-status` meets.
fn of_grpc_status(value: &[u8]) -> RetryOn {
    match value.trim_ascii() {
        b"1" => RetryOn::GRPC_CANCELLED,
        b"4" => RetryOn::GRPC_DEADLINE_EXCEEDED,
        b"8" => RetryOn::GRPC_RESOURCE_EXHAUSTED,
        b"13" => RetryOn::GRPC_INTERNAL,
        b"14" => RetryOn::GRPC_UNAVAILABLE,
        _ => RetryOn::default(),
    }
}

/// The wait that a response asks for, if it can be believed.
fn wait_of(response: &ResponseHead, back_off: &RateLimitedBackOff, now: Now) -> Option<Duration> {
    back_off.reset_headers.iter().find_map(|header| {
        let value = response.headers.get_name(header.name.as_bytes())?;
        let seconds: u64 = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
        let seconds = match header.is_timestamp {
            true => seconds.checked_sub(now.unix_us / 1_000_000)?,
            false => seconds,
        };
        let wait = Duration::from_secs(seconds);
        (seconds > 0 && wait <= back_off.max).then_some(wait)
    })
}

/// A random share of a duration: from nothing to all but a nanosecond.
fn share(bound: Duration, draw: u64) -> Duration {
    let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    // The high bits of a xorshift are its best.
    Duration::from_nanos(((u128::from(nanos) * u128::from(draw)) >> 64) as u64)
}

#[cfg(test)]
mod tests;
