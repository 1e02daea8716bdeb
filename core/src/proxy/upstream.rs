//! An upstream connection: one request after the other, from the pool and back to it.
//!
//! What it leaves to others: which host (`upstream::balancer`), what the response's head becomes
//! (`response`).

use super::deadline::{Alarm, earliest};
use super::encode::write_request;
use super::retry::Failure;
use super::splice::Splice;
use super::stream::Phase;
use crate::access_log::Moment;
use crate::reply::LocalReply;
use crate::sabotage::Sabotage;
use crate::shard::{Shard, StreamKey, UpstreamKey};
use crate::snapshot::{Breakers, ClusterEntry, HostId, Permit};
use crate::stats::{ClusterStat, HostStat, Scope};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tidegate_http::h1::{Event, ResponseDecoder};
use tidegate_io::{Buffer, Errno, Instant, Io, Outcome, Output, Socket};

/// What an upstream connection does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Is being made.
    Connecting,
    /// Waits in its pool. A receive is armed, so that its end is noticed at once.
    Idle,
    /// Carries a stream's request and response.
    Busy(StreamKey),
    /// The rest of its response is not wanted: for as long as the input at hand is read.
    Draining,
}

/// An upstream connection.
#[derive(Debug)]
pub struct Upstream {
    pub(crate) socket: Socket,
    pub(crate) host: HostId,
    /// Where it goes to: a host of LOGICAL_DNS can have another address by now.
    pub(super) address: SocketAddr,
    pub(super) host_stats: Scope,
    /// Its cluster, as of when it was made: for limits, counters and timeouts.
    pub(crate) cluster: Arc<ClusterEntry>,
    pub(crate) work: Work,
    pub(super) decoder: ResponseDecoder,
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
    /// Bytes that were given to the kernel.
    pub(super) sent: u64,
    /// Bytes that came from the kernel.
    pub(super) received: u64,
    /// Some byte of its request was given to the kernel.
    pub(super) asked: bool,
    /// Some byte of the response under way has arrived.
    pub(super) answered: bool,
    pub(super) opened: Instant,
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

    /// Whether it is too old for another request.
    pub(super) fn is_aged(&self, now: Instant) -> bool {
        self.aged_at.is_some_and(|at| at <= now)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.work {
            Work::Connecting => Some(self.since + self.cluster.config.connect_timeout),
            Work::Idle => {
                let idle = self.cluster.config.idle_timeout.map(|timeout| self.since + timeout);
                earliest(idle, self.aged_at)
            }
            Work::Busy(_) | Work::Draining => None,
        }
    }

    /// Unsent bytes that wait for the kernel.
    pub(crate) fn unsent(&self) -> usize {
        self.output.as_ref().map_or(0, Output::len)
    }
}

/// Why an upstream connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The peer closed or reset it.
    Remote,
    /// What it sent is not HTTP.
    Protocol,
}

impl<I: Io> Shard<I> {
    pub(crate) fn upstream_completion(&mut self, key: UpstreamKey, outcome: Outcome) {
        match outcome {
            Outcome::Received(buffer) => self.upstream_received(key, &buffer),
            Outcome::Sent(Ok(())) => self.upstream_sent(key),
            Outcome::Connected(Ok(())) => self.upstream_connected(key),
            Outcome::Connected(Err(Errno(libc::ECONNREFUSED))) => {
                self.connect_failed(key, LocalReply::CONNECTION_REFUSED);
            }
            Outcome::Connected(Err(_)) => self.connect_failed(key, LocalReply::CONNECTION_FAILURE),
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
        upstream.work = Work::Idle;
        upstream.answered = false;
        let limit = upstream.cluster.config.max_requests_per_connection;
        let host = upstream.host;
        let limit_reached = if limit.is_some_and(|max| upstream.requests >= max) {
            Some(ClusterStat::UpstreamCxMaxRequests)
        } else {
            upstream.is_aged(self.now.instant).then_some(ClusterStat::UpstreamCxMaxDurationReached)
        };
        if let Some(stat) = limit_reached {
            self.stats.inc(upstream.cluster.stats, stat);
            self.close_upstream(key);
            return;
        }
        let used = upstream.requests > 0;
        while let Some(stream) = self.pools.get(host).and_then(|p| p.waiting.front().copied()) {
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
        let Some(pool) = self.pools.get(host) else { return };
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let starved = upstream.cluster.breakers.starved.load(Ordering::Relaxed) > 0;
        if pool.gone || starved {
            self.close_upstream(key);
        } else {
            upstream.since = self.now.instant;
            pool.idle.push(key);
            self.arm_upstream(key);
        }
    }

    /// The stream has its connection: the request goes out. Otherwise the connection is still free,
    /// and the stream was answered.
    pub(crate) fn attach(&mut self, stream_key: StreamKey, key: UpstreamKey) -> bool {
        let Some(upstream) = self.upstreams.get_mut(key) else { return false };
        let Some(stream) = self.streams.get_mut(stream_key) else { return false };
        debug_assert!(upstream.output.is_none() && !upstream.sending, "a free connection is busy");
        let Some(cluster) = stream.snapshot.clusters.get(upstream.cluster.id) else { return false };
        stream.upstream_address = Some(upstream.address);
        if !stream.counted {
            let limit = cluster.config.circuit_breakers.default.max_requests;
            if Breakers::acquire(&cluster.breakers.requests, limit) == Permit::Refused {
                self.stats.inc(cluster.stats, ClusterStat::UpstreamRqPendingOverflow);
                self.local_reply(stream_key, LocalReply::OVERFLOW);
                return false;
            }
            stream.counted = true;
        }
        upstream.work = Work::Busy(stream_key);
        upstream.asked = false;
        upstream.requests += 1;
        upstream.decoder.expect(&stream.request);
        stream.phase = Phase::Attached(key);
        stream.attempts.started = true;
        let stats = cluster.stats;
        upstream.output = Some(match stream.backlog.take() {
            Some(backlog) => backlog,
            None => {
                let mut output = self.io.output();
                write_request(stream, &upstream.cluster.config, output.tail());
                output
            }
        });
        if let Some(measured) = &mut stream.measured {
            let local = self.io.local_address(upstream.socket);
            measured.attached(upstream, local);
            measured.note(Moment::UsTxBeg, self.now.instant - stream.started);
            if stream.request_complete {
                measured.note(Moment::UsTxEnd, self.now.instant - stream.started);
            }
        }
        stream.limits.attached(self.now.instant, stream.request_complete);
        let has_limits = stream.limits.deadline(stream.active).is_some();
        let (downstream, terminates_connect) = (stream.downstream, stream.terminates_connect);
        self.stats.inc(stats, ClusterStat::UpstreamRqTotal);
        self.stats.inc(stats, ClusterStat::UpstreamRqActive);
        self.stats.inc(upstream.host_stats, HostStat::RqTotal);
        self.stats.inc(upstream.host_stats, HostStat::RqActive);
        self.touch_upstream(key);
        if has_limits {
            self.arm_downstream(downstream);
        }
        if terminates_connect {
            self.accept_connect(stream_key, key);
        }
        true
    }

    fn upstream_received(&mut self, key: UpstreamKey, buffer: &Buffer) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let stats = upstream.cluster.stats;
        self.stats.add(stats, ClusterStat::UpstreamCxRxBytesTotal, buffer.len() as u64);
        upstream.received += buffer.len() as u64;
        if let Work::Busy(stream) = upstream.work
            && !upstream.asked
            && self.streams.get(stream).is_some_and(|stream| !stream.tunnel)
        {
            // Older than the request, so no answer to it: the connection is of no use to it.
            self.stats.inc(stats, ClusterStat::UpstreamCxProtocolError);
            self.upstream_ended(key, End::Remote);
            return;
        }
        upstream.answered = true;
        self.read_upstream(key, buffer);
        self.expect_rest(key);
    }

    /// Decodes input to its end.
    pub(super) fn read_upstream(&mut self, key: UpstreamKey, buffer: &Buffer) {
        let mut at = 0;
        while let Some(upstream) = self.upstreams.get_mut(key) {
            let Work::Busy(stream_key) = upstream.work else {
                if upstream.work == Work::Draining {
                    self.drain_upstream(key, &buffer[at..]);
                } else if at < buffer.len() {
                    // Nobody asked: it could be taken for the next answer (RFC 9112 6.3).
                    self.upstream_ended(key, End::Protocol);
                }
                return;
            };
            let Some(stream) = self.streams.get_mut(stream_key) else { return };
            if stream.tunnel {
                self.tunnel_downstream(stream_key, buffer.slice(at..buffer.len()));
                return;
            }
            let Ok(step) = upstream.decoder.decode(&buffer[at..], &mut stream.response) else {
                self.upstream_ended(key, End::Protocol);
                return;
            };
            match step.event {
                Event::NeedMore => return,
                Event::Head => self.response_head(stream_key, key),
                Event::InterimHead => self.interim_response(stream_key),
                Event::Data(range) => {
                    let data = buffer.slice(at + range.start..at + range.end);
                    self.response_data(stream_key, data);
                }
                Event::Trailers => {}
                Event::Tunnel => self.begin_tunnel(stream_key),
                Event::End => {
                    // What follows must not answer who waits for the connection.
                    if at + step.consumed < buffer.len() {
                        stream.response.close = true;
                        let stats = upstream.cluster.stats;
                        self.stats.inc(stats, ClusterStat::UpstreamCxProtocolError);
                    }
                    self.response_end(stream_key, key);
                }
            }
            at += step.consumed;
        }
    }

    pub(super) fn upstream_eof(&mut self, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        if let Work::Busy(stream_key) = upstream.work {
            if self.streams.get(stream_key).is_some_and(|stream| stream.tunnel) {
                if upstream.broken {
                    self.upstream_ended(key, End::Remote);
                } else {
                    self.tunnel_finished_upstream(stream_key);
                }
                return;
            }
            if upstream.decoder.eof() == Ok(Event::End) {
                if let Some(stream) = self.streams.get_mut(stream_key) {
                    stream.response.close = true;
                }
                self.response_end(stream_key, key);
                return;
            }
        }
        self.upstream_ended(key, End::Remote);
    }

    /// The peer takes no more, but may have answered before it closed: what it sent is still read,
    /// up to its end.
    fn upstream_send_failed(&mut self, key: UpstreamKey, errno: Errno) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        upstream.sending = false;
        let may_answer = match upstream.work {
            // Not a tunnel whose upstream has sent its FIN: nothing follows that.
            Work::Busy(stream) => self.streams.get(stream).is_some_and(|it| !it.finished[1]),
            _ => true,
        };
        if matches!(errno.0, libc::EPIPE | libc::ECONNRESET) && !upstream.paused && may_answer {
            upstream.broken = true;
            upstream.output = None;
        } else {
            self.upstream_ended(key, End::Remote);
        }
    }

    /// The connection ended, or has to: its stream gets another one, a reply, or is cut off.
    fn upstream_ended(&mut self, key: UpstreamKey, end: End) {
        let Some(upstream) = self.upstreams.get(key) else { return };
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
                if let Some(upstream) = self.upstreams.get(key) {
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
        self.count_request_end(key);
        self.close_upstream(key);
    }

    pub(super) fn count_request_end(&mut self, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        if let Work::Busy(stream) = upstream.work
            && let Some(stream) = self.streams.get_mut(stream)
            && let Some(measured) = &mut stream.measured
        {
            measured.detached(upstream);
        }
        self.stats.dec(upstream.cluster.stats, ClusterStat::UpstreamRqActive);
        self.stats.dec(upstream.host_stats, HostStat::RqActive);
    }

    /// The response is complete: the connection is free again if nothing is left of the exchange.
    pub(crate) fn finish_upstream(&mut self, key: UpstreamKey, stream_key: StreamKey) {
        self.count_request_end(key);
        let Some(upstream) = self.upstreams.get(key) else { return };
        let Some(stream) = self.streams.get(stream_key) else { return };
        let verdict = if stream.status < 500 { HostStat::RqSuccess } else { HostStat::RqError };
        self.stats.inc(upstream.host_stats, verdict);
        let close = stream.response.close;
        let quiet = stream.request_complete
            && !upstream.broken
            && !upstream.sending
            && upstream.output.as_ref().is_none_or(Output::is_empty)
            && upstream.decoder.is_idle();
        if quiet && !close {
            let body = stream.response.body;
            if let Some(upstream) = self.upstreams.get_mut(key) {
                upstream.output = None;
            }
            self.listen_for_next(key, body);
            self.release_upstream(key);
        } else {
            self.stats.inc(upstream.cluster.stats, ClusterStat::UpstreamCxDestroyLocal);
            self.close_upstream(key);
        }
    }

    pub(crate) fn close_upstream(&mut self, key: UpstreamKey) {
        let Some(mut upstream) = self.upstreams.remove(key) else { return };
        upstream.alarm.cancel(&mut self.timers);
        self.io.close(upstream.socket);
        let stats = upstream.cluster.stats;
        if let Some(pool) = self.pools.get(upstream.host) {
            pool.open -= 1;
            match upstream.work {
                Work::Connecting => pool.connecting -= 1,
                Work::Idle => pool.idle.retain(|idle| *idle != key),
                Work::Busy(_) | Work::Draining => {}
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
        self.replace_upstream(upstream.host, &upstream.cluster);
        self.pools.forget(upstream.host);
    }

    /// A connection closed; if somebody waits for one, another is made.
    fn replace_upstream(&mut self, host: HostId, cluster: &Arc<ClusterEntry>) {
        if let Some(pool) = self.pools.get(host) {
            let host = pool.host.clone();
            self.connect(cluster, &host);
        }
    }

    fn upstream_sent(&mut self, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        upstream.sending = false;
        if let Work::Busy(stream) = upstream.work
            && let Some(stream) = self.streams.get_mut(stream)
        {
            stream.active = self.now.instant;
        }
        self.touch_upstream(key);
    }

    pub(crate) fn touch_upstream(&mut self, key: UpstreamKey) {
        if let Some(upstream) = self.upstreams.get_mut(key)
            && !upstream.touched
        {
            upstream.touched = true;
            self.touched_upstreams.push(key);
        }
    }
}
