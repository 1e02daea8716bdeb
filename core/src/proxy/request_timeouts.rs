//! How long a request may take: what its route and its cluster say, and what an internal client
//! says in `x-envoy-*` fields.
//!
//! What it leaves to others: whether the client is internal (`client_address`), what happens when
//! time is up (`timeouts`).

use super::deadline::earliest;
use super::mutate::decimal;
use super::stream::Stream;
use crate::config::{GrpcTimeout, HttpConnectionManager};
use crate::snapshot::{CompiledRoute, CompiledTarget, is_grpc};
use std::time::Duration;
use tidegate_http::{Headers, Name};
use tidegate_io::Instant;

const TIMEOUT: &[u8] = b"x-envoy-upstream-rq-timeout-ms";
const PER_TRY_TIMEOUT: &[u8] = b"x-envoy-upstream-rq-per-try-timeout-ms";
const ALT_RESPONSE: &[u8] = b"x-envoy-upstream-rq-timeout-alt-response";
const STREAM_DURATION: &[u8] = b"x-envoy-upstream-stream-duration-ms";
const EXPECTED_TIMEOUT: &[u8] = b"x-envoy-expected-rq-timeout-ms";
const GRPC_TIMEOUT: &[u8] = b"grpc-timeout";

/// Timeouts of a stream that few streams have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// When `max_stream_duration` ends.
    pub duration: Option<Instant>,
    /// `max_stream_duration` of the upstream's side.
    pub upstream_duration: Option<Duration>,
    /// When it ends; from the time on when the request has a connection.
    pub upstream_end: Option<Instant>,
    /// The timeout of one try, until its response begins.
    pub per_try_timeout: Option<Duration>,
    /// How long nothing may happen in a try.
    pub per_try_idle_timeout: Option<Duration>,
    /// Since when the upstream has the whole request: from then on these two count.
    pub sent: Option<Instant>,
    /// The client wants 204 instead of 504 when the route's timeout ends.
    pub alt_response: bool,
}

impl Limits {
    /// Of a stream that begins now.
    pub fn new(config: &HttpConnectionManager, now: Instant) -> Limits {
        let duration = config.max_stream_duration.map(|duration| now + duration);
        Limits { duration, ..Limits::default() }
    }

    /// When the first of them ends, if something happened last at `active`.
    pub fn deadline(&self, active: Instant) -> Option<Instant> {
        let ends = earliest(self.duration, self.upstream_end);
        earliest(ends, earliest(self.try_end(), self.try_idle_end(active)))
    }

    /// When the timeout of the try ends.
    pub fn try_end(&self) -> Option<Instant> {
        Some(self.sent? + self.per_try_timeout?)
    }

    /// When the try has been idle for too long.
    pub fn try_idle_end(&self, active: Instant) -> Option<Instant> {
        Some(self.sent?.max(active) + self.per_try_idle_timeout?)
    }

    /// The request has a connection.
    pub fn attached(&mut self, now: Instant, request_complete: bool) {
        self.upstream_end = self.upstream_duration.map(|duration| now + duration);
        if request_complete {
            self.sent(now);
        }
    }

    /// The whole request is on its way.
    pub fn sent(&mut self, now: Instant) {
        self.sent = Some(now);
    }

    /// The request has no connection any more.
    pub fn detached(&mut self) {
        (self.sent, self.upstream_end) = (None, None);
    }
}

/// Settles the timeouts of a request that is sent on, and tells the upstream.
pub(super) fn settle(
    stream: &mut Stream,
    config: &HttpConnectionManager,
    route: Option<&CompiledRoute>,
) {
    if let Some(CompiledTarget::Forward { options, retry, .. }) = route.map(|route| &route.target) {
        let mut duration = options.max_stream_duration;
        if let Some(grpc) = &options.grpc_timeout {
            let told = stream.request.headers.get_name(GRPC_TIMEOUT).and_then(grpc_timeout);
            duration = told.map(|told| Some(grpc.applied_to(told))).or(duration);
        }
        if let Some(duration) = duration {
            stream.limits.duration = duration.map(|duration| stream.started + duration);
        }
        if let Some(Some(duration)) = duration
            && is_grpc(&stream.request)
        {
            tell_grpc(&mut stream.request.headers, duration);
        }
        if let Some(old) = &options.max_grpc_timeout
            && is_grpc(&stream.request)
        {
            let told = stream.request.headers.get_name(GRPC_TIMEOUT).and_then(grpc_timeout);
            stream.timeout = old.instead_of_timeout(told);
        }
        if let Some(policy) = retry {
            stream.limits.per_try_timeout = policy.config.per_try_timeout;
            stream.limits.per_try_idle_timeout = policy.config.per_try_idle_timeout;
        }
    }
    stream.limits.upstream_duration =
        stream.cluster().and_then(|cluster| cluster.config.max_stream_duration);
    let mut told = None;
    if stream.internal {
        told = obey(stream, config.router.respect_expected_rq_timeout);
    }
    let limits = &mut stream.limits;
    let too_long = limits.per_try_timeout >= stream.timeout && stream.timeout.is_some();
    limits.per_try_timeout = limits.per_try_timeout.filter(|_| !too_long);
    if let Some(expected) = told.or(stream.limits.per_try_timeout).or(stream.timeout) {
        tell_expected(stream, config, route, expected);
    }
}

/// Tells the upstream of a further attempt how much time is left.
pub(super) fn settle_again(
    stream: &mut Stream,
    config: &HttpConnectionManager,
    route: Option<&CompiledRoute>,
    now: Instant,
) {
    let Some(expected) = stream.limits.per_try_timeout.or(stream.timeout) else { return };
    let left = stream.response_deadline.map_or(expected, |deadline| deadline.since(now));
    // Zero would be for ever.
    let expected = expected.min(left).max(Duration::from_millis(1));
    tell_expected(stream, config, route, expected);
}

fn tell_expected(
    stream: &mut Stream,
    config: &HttpConnectionManager,
    route: Option<&CompiledRoute>,
    expected: Duration,
) {
    if !config.router.suppress_envoy_headers {
        let text = &mut [0; 20];
        let text = decimal(expected.as_millis() as u64, text);
        stream.request.headers.set(EXPECTED_TIMEOUT, text);
    }
    if let Some(CompiledTarget::Forward { options, .. }) = route.map(|route| &route.target)
        && options.max_grpc_timeout.is_some()
        && is_grpc(&stream.request)
    {
        tell_grpc(&mut stream.request.headers, expected);
    }
}

impl GrpcTimeout {
    /// What becomes of the timeout of a request.
    fn applied_to(self, told: Duration) -> Duration {
        let limited = if self.max.is_zero() { told } else { told.min(self.max) };
        limited.saturating_sub(self.offset)
    }

    /// The same with the deprecated fields, of what counts instead of the route's timeout. No
    /// timeout is zero here, in the request and in the configuration.
    fn instead_of_timeout(self, told: Option<Duration>) -> Option<Duration> {
        let told = told.filter(|told| !told.is_zero());
        let max = Some(self.max).filter(|max| !max.is_zero());
        let shorter = |told: Duration| if self.offset < told { told - self.offset } else { told };
        match (told.map(shorter), max) {
            (Some(told), Some(max)) => Some(told.min(max)),
            (told, max) => told.or(max),
        }
    }
}

/// Tells a gRPC upstream how much time there is, in as many digits as there may be.
fn tell_grpc(headers: &mut Headers, duration: Duration) {
    let (ms, seconds) = (duration.as_millis(), u128::from(duration.as_secs()));
    let units = [(ms, b'm'), (seconds, b'S'), (seconds / 60, b'M'), (seconds / 3600, b'H')];
    let fits = |(value, _): &&(u128, u8)| *value < 100_000_000;
    let (value, unit) = *units.iter().find(fits).unwrap_or(&(99_999_999, b'H'));
    let text = &mut [0; 20];
    let text = [decimal(value as u64, text), &[unit]].concat();
    headers.set(GRPC_TIMEOUT, &text);
}

/// `grpc-timeout`: at most eight digits and a unit; in whole milliseconds, rounded up.
fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let is_number = (1..=8).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    let number: u64 = digits.parse().ok()?;
    Some(Duration::from_millis(match unit {
        b'H' => number * 3_600_000,
        b'M' => number * 60_000,
        b'S' => number * 1_000,
        b'm' => number,
        b'u' => number.div_ceil(1_000),
        b'n' => number.div_ceil(1_000_000),
        _ => return None,
    }))
}

/// Takes over what an internal client says. Answers the timeout that a proxy before us has told
/// already, where that is respected.
#[cold]
fn obey(stream: &mut Stream, respects_expected: bool) -> Option<Duration> {
    let headers = &mut stream.request.headers;
    let expected = match respects_expected {
        true => headers.get(Name::XEnvoyExpectedRqTimeoutMs).and_then(milliseconds),
        false => None,
    };
    // Where the other one counts this one stays, as in Envoy.
    let global = if expected.is_some() { expected } else { take(headers, TIMEOUT) };
    if let Some(global) = global {
        // Zero is no timeout.
        stream.timeout = Some(global).filter(|timeout| !timeout.is_zero());
    }
    if let Some(per_try) = take(headers, PER_TRY_TIMEOUT) {
        stream.limits.per_try_timeout = Some(per_try).filter(|timeout| !timeout.is_zero());
    }
    if let Some(duration) = take(headers, STREAM_DURATION) {
        stream.limits.upstream_duration = Some(duration).filter(|duration| !duration.is_zero());
    }
    stream.limits.alt_response = headers.get_name(ALT_RESPONSE).is_some();
    headers.remove_name(ALT_RESPONSE);
    expected
}

/// The milliseconds in a field, which is removed.
fn take(headers: &mut Headers, name: &[u8]) -> Option<Duration> {
    let value = headers.get_name(name).map(milliseconds)?;
    headers.remove_name(name);
    value
}

fn milliseconds(value: &[u8]) -> Option<Duration> {
    std::str::from_utf8(value).ok()?.trim().parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_are_a_number_and_a_unit() {
        let ms = |value: &[u8]| grpc_timeout(value).map(|timeout| timeout.as_millis());
        for (value, expected) in [
            (&b"2H"[..], Some(7_200_000)),
            (b"3M", Some(180_000)),
            (b"99999999S", Some(99_999_999_000)),
            (b"20m", Some(20)),
            (b"1001u", Some(2)),
            (b"1n", Some(1)),
            (b"0m", Some(0)),
            (b"123456789S", None),
            (b"m", None),
            (b"-1m", None),
            (b"1s", None),
            (b"1", None),
            (b"", None),
        ] {
            assert_eq!(ms(value), expected, "{}", String::from_utf8_lossy(value));
        }
    }

    #[test]
    fn grpc_timeouts_are_bounded_and_then_shortened() {
        let seconds = Duration::from_secs;
        let rule = |max, offset| GrpcTimeout { max: seconds(max), offset: seconds(offset) };
        assert_eq!(rule(0, 0).applied_to(seconds(9)), seconds(9));
        assert_eq!(rule(5, 1).applied_to(seconds(9)), seconds(4));
        assert_eq!(rule(5, 9).applied_to(seconds(3)), seconds(0));
    }

    #[test]
    fn deprecated_grpc_timeouts_are_shortened_unless_nothing_is_left_and_then_bounded() {
        let seconds = Duration::from_secs;
        for (max, offset, told, expected) in [
            (0, 0, None, None),
            (0, 0, Some(0), None),
            (0, 0, Some(9), Some(9)),
            (5, 0, None, Some(5)),
            (5, 0, Some(9), Some(5)),
            (5, 1, Some(9), Some(5)),
            (5, 1, Some(3), Some(2)),
            (5, 3, Some(3), Some(3)),
            (5, 4, Some(3), Some(3)),
        ] {
            let rule = GrpcTimeout { max: seconds(max), offset: seconds(offset) };
            let timeout = rule.instead_of_timeout(told.map(seconds));
            assert_eq!(timeout, expected.map(seconds), "{max} {offset} {told:?}");
        }
    }
}
