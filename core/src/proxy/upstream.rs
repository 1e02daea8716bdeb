//! An upstream connection: from the pool and back to it; on HTTP/1 with one request after the
//! other.
//!
//! What it leaves to others: which host (`upstream::balancer`), what the response's head becomes
//! (`response`), connections that carry many streams (`http2_upstream`).

use super::deadline::{Alarm, earliest};
use super::http2::Http2;
use super::retry::Failure;
use super::splice::Splice;
use super::stream::Phase;
use crate::reply::LocalReply;
use crate::sabotage::Sabotage;
use crate::shard::{Shard, StreamKey, UpstreamKey, limits};
use crate::snapshot::{Breakers, ClusterEntry};
use crate::stats::{ClusterStat, HostStat, Scope};
use crate::transport::ConnectionFacts;
use crate::upstream::PoolId;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tidegate_http::h1::ResponseDecoder;
use tidegate_http::h2::{self, ErrorCode};
use tidegate_io::{Instant, Io, Outcome, Output, Socket};

/// What an upstream connection does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Is being made.
    Connecting,
    /// Waits in its pool. A receive is armed, so that its end is noticed at once.
    Idle,
    /// Carries a stream's request and response.
    Busy(StreamKey),
    /// Carries streams of HTTP/2.
    Shared,
    /// Has been told why it ends; drops what comes.
    Parting,
    /// The rest of its response is not wanted: for as long as the input at hand is read.
    Draining,
}

/// What an upstream connection speaks.
#[derive(Debug)]
pub(super) enum Codec {
    Http1(ResponseDecoder),
    Http2(Box<Http2>),
}

impl Codec {
    /// The codec of HTTP/2, if it is that.
    pub(super) fn http2(&mut self) -> Option<&mut h2::Connection> {
        match self {
            Codec::Http1(_) => None,
            Codec::Http2(http2) => Some(&mut http2.connection),
        }
    }

    /// The codec of HTTP/1, if it is that.
    pub(super) fn http1(&mut self) -> Option<&mut ResponseDecoder> {
        match self {
            Codec::Http1(decoder) => Some(decoder),
            Codec::Http2(_) => None,
        }
    }

    /// Bytes of a body whose length is known that are still to come, on HTTP/1.
    pub(super) fn exact_body_left(&self) -> u64 {
        match self {
            Codec::Http1(decoder) => decoder.exact_body_left().unwrap_or(0),
            Codec::Http2(_) => 0,
        }
    }

    fn is_idle(&self) -> bool {
        match self {
            Codec::Http1(decoder) => decoder.is_idle(),
            Codec::Http2(http2) => http2.connection.streams_active() == 0,
        }
    }
}

/// An upstream connection.
#[derive(Debug)]
pub struct Upstream {
    pub(crate) socket: Socket,
    pub(crate) pool: PoolId,
    /// Where it goes to: a host of LOGICAL_DNS can have another address by now.
    pub(super) address: SocketAddr,
    pub(super) host_stats: Scope,
    /// Its cluster, as of when it was made: for limits, counters and timeouts.
    pub(crate) cluster: Arc<ClusterEntry>,
    pub(crate) work: Work,
    pub(super) codec: Codec,
    pub(crate) output: Option<Output>,
    pub(crate) sending: bool,
    pub(crate) touched: bool,
    /// Reading is stopped until downstream takes more.
    pub(crate) paused: bool,
    /// Whether the rest of the response under way passes by.
    pub(super) splice: Splice,
    /// The last response was long: of the next one the first bytes only are asked for.
    pub(super) bulk: bool,
    /// The FIN of a tunnel goes out when the output is sent.
    pub(crate) finish: bool,
    /// The peer takes no more; output is dropped.
    pub(super) broken: bool,
    /// Requests that it has carried.
    pub(super) requests: u32,
    /// What its handshake came to, once somebody asked.
    pub(super) facts: Option<Arc<ConnectionFacts>>,
    /// Bytes that were given to the kernel.
    pub(super) sent: u64,
    /// Bytes that came from the kernel.
    pub(super) received: u64,
    /// Some byte of its request was given to the kernel.
    pub(super) asked: bool,
    /// Some byte of the response under way has arrived.
    pub(super) answered: bool,
    pub(super) opened: Instant,
    /// Its cluster speaks TLS otherwise by now: it carries no further request.
    pub(super) retired: bool,
    /// When it gets too old for another request.
    pub(super) aged_at: Option<Instant>,
    /// Counts it among the connections to its host, where these have a limit.
    pub(super) host_permit: Option<Arc<AtomicU32>>,
    /// Since when it connects or is idle.
    pub(super) since: Instant,
    pub(super) alarm: Alarm,
}

impl Upstream {
    /// Whether it waits in its pool.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.work == Work::Idle
    }

    /// Whether it carries no further request, for its age or because it is retired.
    pub(super) fn is_aged(&self, now: Instant) -> bool {
        self.retired || self.aged_at.is_some_and(|at| at <= now)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.work {
            Work::Connecting => Some(self.since + self.cluster.config.connect_timeout),
            Work::Idle => {
                let idle = self.cluster.config.idle_timeout.map(|timeout| self.since + timeout);
                earliest(earliest(idle, self.aged_at), self.codec_deadline())
            }
            // Whether it is too old is asked when a stream leaves it.
            Work::Shared => self.codec_deadline(),
            Work::Parting => Some(self.since + limits::PARTING),
            Work::Busy(_) | Work::Draining => None,
        }
    }

    /// How many streams wait for it while it is being made.
    pub(super) fn waiting_each(&self) -> usize {
        match self.pool.http2 {
            true => self.cluster.config.http2.max_concurrent_streams as usize,
            false => 1,
        }
    }

    /// Unsent bytes that wait for the kernel.
    pub(crate) fn unsent(&self) -> usize {
        self.output.as_ref().map_or(0, Output::len)
    }
}

/// Why an upstream connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The peer closed or reset it.
    Remote,
    /// What it sent is not HTTP.
    Protocol,
}

impl<I: Io> Shard<I> {
    pub(crate) fn upstream_completion(&mut self, key: UpstreamKey, outcome: Outcome) {
        match outcome {
            Outcome::Received(buffer) => match self.upstreams.get(key).map(|it| it.pool.http2) {
                Some(true) => self.http2_upstream_received(key, &buffer),
                _ => self.upstream_received(key, &buffer),
            },
            Outcome::Sent(Ok(())) => self.upstream_sent(key),
            Outcome::Connected(Ok(())) => self.upstream_connected(key),
            Outcome::Connected(Err(errno)) => self.upstream_connect_failed(key, errno),
            Outcome::Eof => self.upstream_eof(key),
            Outcome::RecvFailed(_) => self.upstream_ended(key, End::Remote),
            Outcome::Sent(Err(errno)) => self.upstream_send_failed(key, errno),
            Outcome::Spliced { bytes, end } => self.upstream_spliced(key, bytes, end),
            outcome => debug_assert!(false, "an upstream completed with {outcome:?}"),
        }
    }

    /// A connection is free: it serves who waits longest, goes into its pool, or closes.
    pub(crate) fn release_upstream(&mut self, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        if upstream.pool.http2 {
            return self.serve_waiting(key);
        }
        upstream.work = Work::Idle;
        upstream.answered = false;
        let limit = upstream.cluster.config.max_requests_per_connection;
        let id = upstream.pool;
        let limit_reached = if limit.is_some_and(|max| upstream.requests >= max) {
            Some(ClusterStat::UpstreamCxMaxRequests)
        } else {
            upstream.is_aged(self.now.instant).then_some(ClusterStat::UpstreamCxMaxDurationReached)
        };
        if let Some(stat) = limit_reached {
            if !upstream.retired {
                self.stats.inc(upstream.cluster.stats, stat);
            }
            self.close_upstream(key);
            return;
        }
        let used = upstream.requests > 0;
        while let Some(stream) = self.pools.get(id).and_then(|p| p.waiting.front().copied()) {
            if used && self.streams.get(stream).is_some_and(|stream| stream.fresh_connection) {
                // It died on a used connection once; a new one is made in the place of this one.
                self.close_upstream(key);
                return;
            }
            self.stop_waiting(stream);
            if self.attach(stream, key) {
                return;
            }
        }
        self.become_idle(key);
    }

    /// The connection goes into its pool, or closes where it is of no use there.
    pub(super) fn become_idle(&mut self, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let Some(pool) = self.pools.get(upstream.pool) else { return };
        let starved = upstream.cluster.breakers.starved.load(Ordering::Relaxed) > 0;
        if pool.gone || starved {
            self.close_upstream(key);
        } else {
            upstream.since = self.now.instant;
            pool.idle.push(key);
            self.arm_upstream(key);
        }
    }

    /// The connection ended, or has to: its stream gets another one, a reply, or is cut off.
    pub(super) fn upstream_ended(&mut self, key: UpstreamKey, end: End) {
        let Some(upstream) = self.upstreams.get(key) else { return };
        if upstream.work == Work::Shared {
            return self.http2_upstream_ended(key, end);
        }
        let stats = upstream.cluster.stats;
        // A response that began and has no end is no HTTP.
        let end = if upstream.answered { End::Protocol } else { end };
        self.stats.inc(stats, ClusterStat::UpstreamCxDestroyRemote);
        if end == End::Protocol {
            self.stats.inc(stats, ClusterStat::UpstreamCxProtocolError);
        }
        let Work::Busy(stream_key) = upstream.work else {
            self.close_upstream(key);
            return;
        };
        let reused = upstream.requests > 1;
        self.stats.inc(stats, ClusterStat::UpstreamCxDestroyWithActiveRq);
        self.stats.inc(stats, ClusterStat::UpstreamCxDestroyRemoteWithActiveRq);
        self.stats.inc(upstream.host_stats, HostStat::RqError);
        self.detach(stream_key);
        let Some(stream) = self.streams.get_mut(stream_key) else { return };
        if stream.response_started() {
            self.cut_off(stream_key);
            return;
        }
        let (failure, reply) = match end {
            // The origin closed an idle connection while our request was on its way.
            End::Remote if reused => (Failure::DiedIdle, LocalReply::CONNECTION_TERMINATION),
            End::Remote => (Failure::Reset, LocalReply::CONNECTION_TERMINATION),
            End::Protocol => (Failure::Reset, LocalReply::UPSTREAM_PROTOCOL_ERROR),
        };
        self.attempt_failed(stream_key, failure, reply);
    }

    /// The stream's request is cancelled: its connection, which is in the middle of it, closes.
    pub(crate) fn reset_upstream(&mut self, stream_key: StreamKey) {
        let Some(stream) = self.streams.get(stream_key) else { return };
        match stream.phase {
            Phase::Waiting(_) => self.stop_waiting(stream_key),
            Phase::Attached(key) | Phase::Responding(key) => {
                if let Some(upstream) = self.upstreams.get(key)
                    && !upstream.pool.http2
                {
                    let stats = upstream.cluster.stats;
                    for stat in [
                        ClusterStat::UpstreamCxDestroyLocal,
                        ClusterStat::UpstreamCxDestroyWithActiveRq,
                        ClusterStat::UpstreamCxDestroyLocalWithActiveRq,
                    ] {
                        self.stats.inc(stats, stat);
                    }
                }
                self.detach(stream_key);
            }
            Phase::Routing | Phase::BackingOff(_) | Phase::Answered => {}
        }
    }

    /// Takes the stream off its connection, which cannot be used any more, and closes that.
    pub(crate) fn detach(&mut self, stream_key: StreamKey) {
        let Some(stream) = self.streams.get_mut(stream_key) else { return };
        let Some(key) = stream.upstream() else { return };
        stream.phase = if stream.response_started() { Phase::Answered } else { Phase::Routing };
        self.count_request_end(key, stream_key);
        match self.upstreams.get(key).is_some_and(|upstream| upstream.pool.http2) {
            true => self.leave_http2(key, stream_key, ErrorCode::CANCEL),
            false => self.close_upstream(key),
        }
    }

    pub(super) fn count_request_end(&mut self, key: UpstreamKey, stream: StreamKey) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        if let Some(stream) = self.streams.get_mut(stream)
            && let Some(measured) = &mut stream.measured
        {
            measured.detached(upstream, stream.upstream_http2.as_ref());
        }
        self.stats.dec(upstream.cluster.stats, ClusterStat::UpstreamRqActive);
        self.stats.dec(upstream.host_stats, HostStat::RqActive);
    }

    /// The response is complete: the connection is free again if nothing is left of the exchange.
    pub(crate) fn finish_upstream(&mut self, key: UpstreamKey, stream_key: StreamKey) {
        self.count_request_end(key, stream_key);
        let Some(upstream) = self.upstreams.get(key) else { return };
        let Some(stream) = self.streams.get(stream_key) else { return };
        let verdict = if stream.status < 500 { HostStat::RqSuccess } else { HostStat::RqError };
        self.stats.inc(upstream.host_stats, verdict);
        if upstream.pool.http2 {
            return self.leave_http2(key, stream_key, ErrorCode::NO_ERROR);
        }
        let close = stream.response.close;
        let quiet = stream.request_complete
            && !upstream.broken
            && !upstream.sending
            && upstream.output.as_ref().is_none_or(Output::is_empty)
            && upstream.codec.is_idle();
        if quiet && !close {
            let was_long = self.was_long(key, stream_key);
            if let Some(upstream) = self.upstreams.get_mut(key) {
                upstream.output = None;
            }
            self.listen_for_next(key, was_long);
            self.release_upstream(key);
        } else {
            self.stats.inc(upstream.cluster.stats, ClusterStat::UpstreamCxDestroyLocal);
            self.close_upstream(key);
        }
    }

    pub(crate) fn close_upstream(&mut self, key: UpstreamKey) {
        let Some(mut upstream) = self.upstreams.remove(key) else { return };
        upstream.alarm.cancel(&mut self.timers);
        if let (Codec::Http2(http2), Some(stats)) =
            (&mut upstream.codec, upstream.cluster.http2_stats)
        {
            http2.end_count(&self.stats, stats);
        }
        self.io.close(upstream.socket);
        let stats = upstream.cluster.stats;
        if let Some(pool) = self.pools.get(upstream.pool) {
            pool.open -= 1;
            match upstream.work {
                Work::Connecting => pool.connecting -= 1,
                Work::Idle => pool.idle.retain(|idle| *idle != key),
                Work::Shared => pool.shared.retain(|shared| *shared != key),
                Work::Busy(_) | Work::Draining | Work::Parting => {}
            }
        }
        if !Sabotage::KeepPermit.strikes() {
            Breakers::release(&upstream.cluster.breakers.connections);
        }
        if let Some(permit) = &upstream.host_permit {
            Breakers::release(permit);
        }
        let age_ms = (self.now.instant - upstream.opened).as_millis() as u64;
        self.stats.dec(stats, ClusterStat::UpstreamCxActive);
        self.stats.inc(stats, ClusterStat::UpstreamCxDestroy);
        self.stats.record(stats, ClusterStat::UpstreamCxLengthMs, age_ms);
        self.stats.dec(upstream.host_stats, HostStat::CxActive);
        self.replace_upstream(upstream.pool, &upstream.cluster);
        self.pools.forget(upstream.pool);
    }

    /// A connection closed; if somebody waits for one, another is made.
    pub(super) fn replace_upstream(&mut self, id: PoolId, cluster: &Arc<ClusterEntry>) {
        if let Some(pool) = self.pools.get(id) {
            let host = pool.host.clone();
            self.connect(cluster, &host, id);
        }
    }

    fn upstream_sent(&mut self, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        upstream.sending = false;
        if let Some(connection) = upstream.codec.http2() {
            connection.handle_sent();
        }
        if let Work::Busy(stream) = upstream.work
            && let Some(stream) = self.streams.get_mut(stream)
        {
            stream.active = self.now.instant;
        }
        self.touch_upstream(key);
    }
}
