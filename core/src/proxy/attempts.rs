//! Attempts of a request: each ends in a response that counts, in another attempt, or in a reply of
//! our own.
//!
//! What it leaves to others: whether there is another one (`retry`), connections (`router`,
//! `upstream`).

use super::mutate::decimal;
use super::request_timeouts;
use super::retry::{self, BackOff, Failure, Retries, Verdict};
use super::stream::{Phase, Stream};
use super::upstream::{Codec, Work};
use crate::reply::{LocalReply, ResponseFlags};
use crate::sabotage::Sabotage;
use crate::shard::{Shard, StreamKey, UpstreamKey, limits};
use crate::snapshot::{
    Breakers, CompiledRetryPolicy, CompiledRoute, CompiledTarget, HttpChain, Permit, RouteId,
};
use crate::stats::{ClusterStat, HostStat, Scope};
use tidegate_http::BodyLength;
use tidegate_http::h1::{Event, encode_chunk_end, encode_chunk_start};
use tidegate_io::{Buffer, Io, Output};

impl Stream {
    /// Settles what its route and the request itself allow, before the first attempt.
    pub(super) fn begin_attempts(&mut self, route: &CompiledRoute) {
        self.attempts.count = 1;
        self.attempts.follows_redirects = route.internal_redirects().is_some();
        // Clients from outside cannot ask for retries: their fields are gone.
        let may_ask = self.internal || route.changes_requests;
        let policy = match route.retry_policy() {
            Some(policy) => policy,
            None if may_ask || self.attempts.follows_redirects => CompiledRetryPolicy::none(),
            None => return,
        };
        let retries = Retries::of(policy, &self.request);
        // The body of a request that may be redirected is kept, too.
        let keeps = self.attempts.follows_redirects && self.request_body != BodyLength::None;
        let retries = retries.or_else(|| keeps.then(Retries::default));
        self.attempts.retries = retries.map(Box::new);
        if may_ask {
            retry::remove_fields(&mut self.request);
        }
    }

    /// It is no longer one of the cluster's `requests`.
    pub(super) fn release_request(&mut self) {
        if std::mem::take(&mut self.counted)
            && let Some(cluster) = self.cluster()
        {
            Breakers::release(&cluster.breakers.requests);
        }
    }

    /// There will be no other attempt.
    pub(super) fn end_attempts(&mut self) {
        if let Some(retries) = self.attempts.retries.take()
            && retries.permit
            && !Sabotage::KeepRetryPermit.strikes()
            && let Some(cluster) = self.cluster()
        {
            Breakers::release(&cluster.breakers.retries);
        }
    }
}

/// The policy of a stream with this route.
fn policy_of(listener: &HttpChain, route: Option<RouteId>) -> &CompiledRetryPolicy {
    match route.and_then(|id| listener.http.routes.get(id).retry_policy()) {
        Some(policy) => policy,
        None => CompiledRetryPolicy::none(),
    }
}

impl CompiledRoute {
    /// `retry_policy` of the route or of what is around it.
    #[must_use]
    pub fn retry_policy(&self) -> Option<&CompiledRetryPolicy> {
        match &self.target {
            CompiledTarget::Forward { retry, .. } => retry.as_deref(),
            _ => None,
        }
    }
}

impl<I: Io> Shard<I> {
    /// An attempt failed before the head of a response, and the stream has no connection any more:
    /// another attempt follows, or `reply`.
    pub(crate) fn attempt_failed(&mut self, key: StreamKey, failure: Failure, reply: LocalReply) {
        let draw = self.random.draw();
        let Some(stream) = self.streams.get_mut(key) else { return };
        let repeatable = match failure {
            Failure::Refused => stream.is_here() || !stream.body_seen,
            _ => stream.is_repeatable(),
        };
        let policy = policy_of(&stream.listener, stream.route);
        let verdict = stream.attempts.after_failure(failure, policy, repeatable, draw);
        stream.limits.detached();
        stream.fresh_connection |= failure == Failure::DiedIdle;
        let stats = stream.cluster().map(|cluster| cluster.stats);
        match (verdict, stats) {
            (Verdict::Replay, Some(stats)) => return self.replay(key, stats),
            (Verdict::Again(back_off), Some(stats)) => match self.acquire_retry(key) {
                true => return self.back_off(key, back_off, failure == Failure::Timeout),
                false if back_off == BackOff::None && repeatable => return self.replay(key, stats),
                false => self.flag(key, ResponseFlags::UPSTREAM_OVERFLOW),
            },
            (Verdict::LimitExceeded, _) => self.limit_exceeded(key),
            _ => {}
        }
        self.local_reply(key, reply);
    }

    fn replay(&mut self, key: StreamKey, stats: Scope) {
        self.stats.inc(stats, ClusterStat::UpstreamRqReplayed);
        self.send_again(key);
    }

    /// The head of a final response has come. Whether its client does not get it, because the
    /// request is sent once more.
    pub(super) fn retry_response(&mut self, key: StreamKey, upstream: UpstreamKey) -> bool {
        let (now, draw) = (self.now, self.random.draw());
        let Some(stream) = self.streams.get_mut(key) else { return false };
        let policy = policy_of(&stream.listener, stream.route);
        let was_retry = stream.attempts.retries.as_ref().is_some_and(|retries| retries.permit);
        let stats = stream.cluster().map(|cluster| cluster.stats);
        let Some(retries) = &mut stream.attempts.retries else { return false };
        let status = stream.response.status;
        match retries.after_response(&stream.response, policy, now, draw) {
            Verdict::Again(back_off) if self.acquire_retry(key) => {
                self.charge_retried_code(key, status);
                self.drop_response(key, upstream, HostStat::RqError);
                self.back_off(key, back_off, false);
                return true;
            }
            Verdict::Again(_) => self.flag(key, ResponseFlags::UPSTREAM_OVERFLOW),
            Verdict::LimitExceeded => self.limit_exceeded(key),
            Verdict::Stands if was_retry => {
                if let Some(stats) = stats {
                    self.stats.inc(stats, ClusterStat::UpstreamRqRetrySuccess);
                }
            }
            _ => {}
        }
        false
    }

    fn limit_exceeded(&mut self, key: StreamKey) {
        self.flag(key, ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
        if let Some(cluster) = self.streams.get(key).and_then(Stream::cluster) {
            self.stats.inc(cluster.stats, ClusterStat::UpstreamRqRetryLimitExceeded);
        }
    }

    fn flag(&mut self, key: StreamKey, flag: ResponseFlags) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.flags.insert(flag);
        }
    }

    /// Whether the circuit breaker lets the stream retry. Its permit lasts until the outcome of the
    /// retry is known.
    fn acquire_retry(&mut self, key: StreamKey) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return false };
        let Some(cluster) = stream.cluster().cloned() else { return false };
        let Some(retries) = &mut stream.attempts.retries else { return false };
        let breakers = &cluster.breakers;
        if std::mem::take(&mut retries.permit) {
            Breakers::release(&breakers.retries);
        }
        let max = breakers.retries_max(&cluster.config.circuit_breakers.default);
        retries.permit = Breakers::acquire(&breakers.retries, max) == Permit::Granted;
        if !retries.permit {
            retries.refused();
            self.stats.inc(cluster.stats, ClusterStat::UpstreamRqRetryOverflow);
        }
        retries.permit
    }

    /// The next attempt begins after a while.
    fn back_off(&mut self, key: StreamKey, back_off: BackOff, timed_out: bool) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if let Some(retries) = &mut stream.attempts.retries {
            retries.timed_out = timed_out;
        }
        stream.phase = Phase::BackingOff(self.now.instant + back_off.duration());
        stream.backlog = None;
        stream.limits.detached();
        stream.release_request();
        let downstream = stream.downstream;
        if let Some(cluster) = stream.cluster() {
            let stat = match back_off {
                BackOff::None => None,
                BackOff::Exponential(_) => Some(ClusterStat::UpstreamRqRetryBackoffExponential),
                BackOff::RateLimited(_) => Some(ClusterStat::UpstreamRqRetryBackoffRatelimited),
            };
            if let Some(stat) = stat {
                self.stats.inc(cluster.stats, stat);
            }
        }
        match back_off {
            BackOff::None => self.begin_attempt(key),
            _ => self.arm_downstream(downstream),
        }
    }

    /// The back-off is over.
    pub(super) fn begin_attempt(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let listener = stream.listener.clone();
        stream.attempts.count += 1;
        let timed_out = stream.attempts.retries.as_ref().is_some_and(|retries| retries.timed_out);
        if let Some(route) = stream.route.map(|id| listener.http.routes.get(id)) {
            let headers = &mut stream.request.headers;
            if route.host.include_request_attempt_count {
                let count = &mut [0; 20];
                let count = decimal(stream.attempts.count.into(), count);
                headers.set(b"x-envoy-attempt-count", count);
            }
            if route.host.include_is_timeout_retry_header {
                let value: &[u8] = if timed_out { b"true" } else { b"false" };
                headers.set(b"x-envoy-is-timeout-retry", value);
            }
        }
        if let Some(cluster) = stream.cluster() {
            self.stats.inc(cluster.stats, ClusterStat::UpstreamRqRetry);
        }
        let route = stream.route.map(|id| listener.http.routes.get(id));
        let config = &listener.http.config;
        request_timeouts::settle_again(stream, config, route, self.now.instant);
        self.send_again(key);
    }

    /// The request goes out again, with what has come of its body.
    fn send_again(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.phase = Phase::Routing;
        stream.backlog = None;
        stream.response.clear();
        let kept = stream.attempts.retries.as_mut();
        let body = kept.map(|retries| std::mem::take(&mut retries.body)).unwrap_or_default();
        self.dispatch(key);
        self.resend_body(key, body);
    }

    /// Sends what has come of the body, if the request is under way, and keeps it on where there
    /// may be another attempt.
    pub(super) fn resend_body(&mut self, key: StreamKey, body: Vec<u8>) {
        let Some(stream) = self.streams.get(key) else { return };
        let is_under_way = matches!(stream.phase, Phase::Waiting(_) | Phase::Attached(_));
        if is_under_way && stream.request_body != BodyLength::None {
            self.write_body(key, &body);
        }
        if let Some(stream) = self.streams.get_mut(key)
            && let Some(retries) = &mut stream.attempts.retries
        {
            retries.body = body;
        }
    }

    fn write_body(&mut self, key: StreamKey, body: &[u8]) {
        let Some(stream) = self.streams.get(key) else { return };
        let chunked = stream.request_body == BodyLength::Chunked;
        let complete = stream.request_complete;
        if stream.upstream_http2.is_some() {
            self.send_http2_request(key, Buffer::copy_from(body));
            if complete {
                self.end_http2_request(key);
            }
            return;
        }
        let Some(output) = self.request_output(key) else { return };
        if chunked && !body.is_empty() {
            encode_chunk_start(body.len(), output.tail());
        }
        let forgotten = usize::from(Sabotage::ForgetKeptByte.strikes()).min(body.len());
        output.tail().extend_from_slice(&body[forgotten..]);
        if chunked && !body.is_empty() {
            encode_chunk_end(output.tail());
        }
        let unsent = output.len();
        if chunked && complete {
            self.write_last_chunk(key);
        }
        if unsent > limits::OUTPUT_BYTES_HIGH && !complete {
            self.pause_downstream(key);
        }
    }

    /// Keeps bytes of the request's body for further attempts, of which there are no more when they
    /// are too many. Whether the bytes are to be sent now.
    pub(super) fn keep_body(&mut self, key: StreamKey, data: &[u8]) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return false };
        let backs_off = matches!(stream.phase, Phase::BackingOff(_));
        let Some(route) = stream.route() else { return true };
        let limit = route.body_limit(stream.listener.config.per_connection_buffer_limit_bytes);
        let Some(retries) = &mut stream.attempts.retries else { return true };
        if (retries.body.len() + data.len()) as u64 <= limit {
            retries.body.extend_from_slice(data);
            return !backs_off;
        }
        stream.end_attempts();
        if let Some(cluster) = stream.cluster() {
            self.stats.inc(cluster.stats, ClusterStat::RetryOrShadowAbandoned);
        }
        if backs_off {
            self.local_reply(key, LocalReply::RETRY_BUFFER_EXCEEDED);
        }
        !backs_off
    }

    /// The response that has begun is not wanted. Its connection is free when the rest has come
    /// with the head, and closes otherwise.
    pub(super) fn drop_response(
        &mut self,
        key: StreamKey,
        upstream_key: UpstreamKey,
        verdict: HostStat,
    ) {
        let Some(upstream) = self.upstreams.get_mut(upstream_key) else { return };
        let Some(stream) = self.streams.get_mut(key) else { return };
        self.stats.inc(upstream.host_stats, verdict);
        let is_sent = !upstream.pool.http2
            && !upstream.broken
            && !upstream.sending
            && upstream.output.as_ref().is_none_or(Output::is_empty);
        let has_end = matches!(
            stream.response.body,
            BodyLength::None | BodyLength::Exact(_) | BodyLength::Chunked
        );
        if is_sent && has_end && stream.request_complete && !stream.response.close {
            upstream.output = None;
            upstream.work = Work::Draining;
            stream.phase = Phase::Routing;
            self.count_request_end(upstream_key, key);
        } else {
            self.reset_upstream(key);
        }
    }

    /// The rest of a response that is not wanted: of what has come.
    pub(super) fn drain_upstream(&mut self, key: UpstreamKey, rest: &[u8]) {
        let mut head = self.response_head_memory();
        let mut at = 0;
        let mut ended = false;
        while let Some(upstream) = self.upstreams.get_mut(key) {
            let Codec::Http1(decoder) = &mut upstream.codec else { break };
            let Ok(step) = decoder.decode(&rest[at..], &mut head) else { break };
            at += step.consumed;
            match step.event {
                Event::End => {
                    ended = at == rest.len() && decoder.is_idle();
                    break;
                }
                Event::NeedMore => break,
                _ => {}
            }
        }
        self.reclaim_response(head);
        if ended {
            self.listen_for_next(key, false);
            self.release_upstream(key);
        } else if let Some(upstream) = self.upstreams.get(key) {
            self.stats.inc(upstream.cluster.stats, ClusterStat::UpstreamCxDestroyLocal);
            self.close_upstream(key);
        }
    }
}
