//! How long a request may take: what its route and its cluster say, and what an internal client
//! says in `x-envoy-*` fields.
//!
//! What it leaves to others: whether the client is internal (`client_address`), what happens when
//! time is up (`timeouts`).

use super::deadline::earliest;
use super::mutate::{decimal, replace};
use super::stream::Stream;
use crate::config::HttpConnectionManager;
use crate::snapshot::{CompiledRoute, CompiledTarget};
use std::time::Duration;
use tidegate_http::{Headers, Name};
use tidegate_io::Instant;

const TIMEOUT: &[u8] = b"x-envoy-upstream-rq-timeout-ms";
const PER_TRY_TIMEOUT: &[u8] = b"x-envoy-upstream-rq-per-try-timeout-ms";
const ALT_RESPONSE: &[u8] = b"x-envoy-upstream-rq-timeout-alt-response";
const STREAM_DURATION: &[u8] = b"x-envoy-upstream-stream-duration-ms";
const EXPECTED_TIMEOUT: &[u8] = b"x-envoy-expected-rq-timeout-ms";

/// Timeouts of a stream that few streams have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// When `max_stream_duration` ends.
    pub duration: Option<Instant>,
    /// `max_stream_duration` of the upstream's side.
    pub upstream_duration: Option<Duration>,
    /// When it ends; from the time on when the request has a connection.
    pub upstream_end: Option<Instant>,
    /// The timeout of one try.
    pub per_try_timeout: Option<Duration>,
    /// When it ends; from the time on when the whole request was sent on.
    pub try_end: Option<Instant>,
    /// The client wants 204 instead of 504 when the route's timeout ends.
    pub alt_response: bool,
}

impl Limits {
    /// Of a stream that begins now.
    pub fn new(config: &HttpConnectionManager, now: Instant) -> Limits {
        let duration = config.max_stream_duration.map(|duration| now + duration);
        Limits { duration, ..Limits::default() }
    }

    /// When the first of them ends.
    pub fn deadline(&self) -> Option<Instant> {
        earliest(self.duration, earliest(self.upstream_end, self.try_end))
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
        self.try_end = self.per_try_timeout.map(|timeout| now + timeout);
    }
}

/// Settles the timeouts of a request that is sent on, and tells the upstream.
pub(super) fn settle(
    stream: &mut Stream,
    config: &HttpConnectionManager,
    route: Option<&CompiledRoute>,
) {
    if let Some(CompiledTarget::Forward { action, .. }) = route.map(|route| &route.target)
        && let Some(duration) = action.max_stream_duration
    {
        stream.limits.duration = duration.map(|duration| stream.started + duration);
    }
    stream.limits.upstream_duration =
        stream.cluster().and_then(|cluster| cluster.config.max_stream_duration);
    let mut told = None;
    if stream.internal {
        told = obey(stream, config.router.respect_expected_rq_timeout);
    }
    if config.router.suppress_envoy_headers {
        return;
    }
    let expected = told.or(stream.limits.per_try_timeout).or(stream.timeout);
    if let Some(expected) = expected {
        let text = &mut [0; 20];
        let text = decimal(expected.as_millis() as u64, text);
        let headers = &mut stream.request.headers;
        replace(headers, Name::XEnvoyExpectedRqTimeoutMs, EXPECTED_TIMEOUT, text);
    }
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
    let per_try = take(headers, PER_TRY_TIMEOUT).filter(|timeout| !timeout.is_zero());
    let too_long = per_try >= stream.timeout && stream.timeout.is_some();
    stream.limits.per_try_timeout = per_try.filter(|_| !too_long);
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
