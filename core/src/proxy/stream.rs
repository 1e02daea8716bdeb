//! A stream: one request and its response, on any HTTP version.
//!
//! ```text
//!          1              2             3            5              7
//!  (head) --> Routing ------> Waiting ---> Attached ---> Responding ---> (gone)
//!                |             |  |  ^         |
//!                |             |  |  '--- 8 ---+
//!                |             |  |  '---.     | 4
//!                |             |  '- 4 > BackingOff
//!                | 6         6 |             | 6
//!                '--> Answered <-------------'
//!                         | 7
//!                         '--> (gone)
//! ```
//!
//! 1 `open_stream` 2 `dispatch` 3 `attach` 4 `attempt_failed`, `retry_response`; and back with
//! `begin_attempt` 5 `response_head` 6 `local_reply` 7 `finish_stream`, when both the request and
//! the response are complete 8 `attempt_failed` (a replay).
//!
//! What it leaves to others: how each step is taken (the other files of `proxy`).

use super::deadline::earliest;
use super::grpc_stats::GrpcCall;
use super::http2::Http2Stream;
use super::request_timeouts::Limits;
use super::retry::Attempts;
use crate::access_log::Measured;
use crate::config::UpstreamProtocol;
use crate::reply::ResponseFlags;
use crate::sabotage::Sabotage;
use crate::shard::{DownstreamKey, Shard, StreamKey, UpstreamKey, limits};
use crate::snapshot::{ClusterEntry, ClusterId};
use crate::snapshot::{CompiledRoute, HttpChain, HttpEntry, RouteId, Snapshot};
use crate::stats::HttpStat;
use crate::upstream::PoolId;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tidegate_http::{BodyLength, Headers, RequestHead, ResponseHead, Version, h2};
use tidegate_io::{Instant, Io, Now, Output};

/// Where a stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// No upstream was chosen, or none is needed.
    Routing,
    /// Waits for a connection of this pool.
    Waiting(PoolId),
    /// The next attempt begins then.
    BackingOff(Instant),
    /// Has a connection; no response head yet.
    Attached(UpstreamKey),
    /// The response head went downstream; its body follows.
    Responding(UpstreamKey),
    /// The response is complete; the upstream is no longer ours.
    Answered,
}

/// One request and its response.
#[derive(Debug)]
pub struct Stream {
    /// The connection that it came on.
    pub downstream: DownstreamKey,
    /// The one snapshot that it sees.
    pub snapshot: Rc<Arc<Snapshot>>,
    /// Listener and connection manager.
    pub listener: Rc<HttpChain>,
    /// What of it is on that connection, if that speaks HTTP/2.
    pub downstream_http2: Option<Http2Stream>,
    /// The same of its upstream connection.
    pub upstream_http2: Option<Http2Stream>,
    /// Trailers of the request.
    pub request_trailers: Option<Box<Headers>>,
    /// Trailers of the response.
    pub response_trailers: Option<Box<Headers>>,
    /// Where it is.
    pub phase: Phase,
    /// The request, as it is (or would be) sent upstream.
    pub request: RequestHead,
    /// The response, as it is sent downstream.
    pub response: ResponseHead,
    /// How the request's body is framed upstream.
    pub request_body: BodyLength,
    /// How the response's body is framed downstream.
    pub response_body: BodyLength,
    /// What is to be sent upstream while there is no connection.
    pub backlog: Option<Output>,
    /// The whole request was read.
    pub request_complete: bool,
    /// Some of the request's body was read: it cannot be sent again.
    pub body_seen: bool,
    /// How often it was sent, and may be.
    pub attempts: Attempts,
    /// The connection must be a new one.
    pub fresh_connection: bool,
    /// Bytes pass unread both ways (101).
    pub tunnel: bool,
    /// In a tunnel: the client, the upstream sent FIN.
    pub finished: [bool; 2],
    /// CONNECT that ends here: the upstream gets no request, only what the tunnel carries.
    pub terminates_connect: bool,
    /// The client wants an upgrade, and it is enabled.
    pub upgrade: bool,
    /// The route, once found.
    pub route: Option<RouteId>,
    /// The place of the chosen cluster among those of the route.
    pub choice: u32,
    /// The route, or what is around it, changes the header of responses.
    pub changes_responses: bool,
    /// The authority becomes the name of the host that is chosen.
    pub auto_host_rewrite: bool,
    /// The cluster, once chosen.
    pub cluster: Option<ClusterId>,
    /// The server name that its connection must have been made for.
    pub server_name: Option<Box<str>>,
    /// Counted in the cluster's `requests`.
    pub counted: bool,
    /// The host, once chosen.
    pub upstream_address: Option<SocketAddr>,
    /// The client's address, if another than the peer's is believed.
    pub remote_address: Option<SocketAddr>,
    /// The client is internal.
    pub internal: bool,
    /// Response flags so far.
    pub flags: ResponseFlags,
    /// Response code details.
    pub details: &'static str,
    /// Status sent downstream; 0 before.
    pub status: u16,
    /// Body bytes received from downstream.
    pub bytes_received: u64,
    /// Body bytes sent downstream.
    pub bytes_sent: u64,
    /// When its head was complete.
    pub started: Instant,
    /// The same on the wall clock, in microseconds since 1970.
    pub started_unix_us: u64,
    /// When the whole request had been received.
    pub request_received: Option<Instant>,
    /// Milliseconds from then to the response head.
    pub upstream_service_ms: Option<u64>,
    /// The route's `timeout`, from the end of the request on.
    pub timeout: Option<Duration>,
    /// When the route's timeout ends.
    pub response_deadline: Option<Instant>,
    /// When `request_timeout` ends.
    pub request_deadline: Option<Instant>,
    /// Rarer timeouts.
    pub limits: Limits,
    /// `stream_idle_timeout`, or the route's.
    pub idle_timeout: Option<Duration>,
    /// When something happened last.
    pub active: Instant,
    /// It is a gRPC call that is counted.
    pub grpc_call: Option<Box<GrpcCall>>,
    /// What is measured of it, if a format asks for it.
    pub measured: Option<Box<Measured>>,
}

impl Stream {
    /// A stream that begins now; its heads are still to be set.
    #[inline]
    pub(super) fn new(
        downstream: DownstreamKey,
        listener: Rc<HttpChain>,
        snapshot: Rc<Arc<Snapshot>>,
        now: Now,
    ) -> Stream {
        let config = &listener.http.config;
        Stream {
            downstream,
            downstream_http2: None,
            upstream_http2: None,
            request_trailers: None,
            response_trailers: None,
            phase: Phase::Routing,
            request_body: BodyLength::None,
            response_body: BodyLength::None,
            backlog: None,
            request_complete: false,
            body_seen: false,
            attempts: Attempts::default(),
            fresh_connection: false,
            tunnel: false,
            terminates_connect: false,
            upgrade: false,
            finished: [false; 2],
            route: None,
            choice: 0,
            changes_responses: false,
            auto_host_rewrite: false,
            cluster: None,
            server_name: None,
            counted: false,
            upstream_address: None,
            remote_address: None,
            internal: false,
            flags: ResponseFlags::NONE,
            details: "-",
            status: 0,
            bytes_received: 0,
            bytes_sent: 0,
            started: now.instant,
            started_unix_us: now.unix_us,
            request_received: None,
            upstream_service_ms: None,
            timeout: None,
            response_deadline: None,
            request_deadline: config.request_timeout.map(|timeout| now.instant + timeout),
            limits: Limits::new(config, now.instant),
            idle_timeout: config.stream_idle_timeout,
            active: now.instant,
            grpc_call: None,
            measured: None,
            request: RequestHead::default(),
            response: ResponseHead::default(),
            snapshot,
            listener,
        }
    }

    /// The HTTP connection manager that it belongs to.
    #[must_use]
    pub fn http(&self) -> &HttpEntry {
        &self.listener.http
    }

    /// Its route, once found.
    #[must_use]
    pub fn route(&self) -> Option<&CompiledRoute> {
        Some(self.http().routes.get(self.route?))
    }

    /// Its cluster, once chosen; in the snapshot that it sees.
    #[must_use]
    pub fn cluster(&self) -> Option<&Arc<ClusterEntry>> {
        self.snapshot.clusters.get(self.cluster?)
    }

    /// Its connection, while it has one.
    #[must_use]
    pub fn upstream(&self) -> Option<UpstreamKey> {
        match self.phase {
            Phase::Attached(key) | Phase::Responding(key) => Some(key),
            _ => None,
        }
    }

    /// What was spoken with its upstream, once there was a connection.
    #[must_use]
    pub fn upstream_protocol(&self) -> Option<Version> {
        let version = if self.wants_http2() { Version::Http2 } else { Version::Http11 };
        self.attempts.started.then_some(version)
    }

    /// Whether its upstream is to speak HTTP/2.
    #[must_use]
    pub fn wants_http2(&self) -> bool {
        match self.cluster().map(|cluster| cluster.config.protocol) {
            _ if self.terminates_connect => false,
            Some(UpstreamProtocol::Http2) => true,
            Some(UpstreamProtocol::SameAsDownstream) => self.downstream_http2.is_some(),
            Some(UpstreamProtocol::Http1) | None => false,
        }
    }

    /// Whether a response head went downstream.
    #[must_use]
    pub fn response_started(&self) -> bool {
        self.status != 0
    }

    /// When the first of its timeouts ends, or it is to be sent again.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::BackingOff(until) => earliest(Some(until), self.times_out()),
            _ => self.times_out(),
        }
    }

    /// When the first of its timeouts ends.
    #[must_use]
    pub fn times_out(&self) -> Option<Instant> {
        let idle = self.idle_timeout.map(|timeout| self.active + timeout);
        let rarer = earliest(self.limits.deadline(self.active), self.request_deadline);
        earliest(idle, earliest(self.response_deadline, rarer))
    }

    /// Whether it may be sent again: repeating it changes nothing, and all of it is still here (RFC
    /// 9110 9.2.2).
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        if Sabotage::ReplayAnything.strikes() {
            return !self.body_seen;
        }
        self.is_here() && !self.upgrade && self.request.method.is_idempotent()
    }

    /// Whether all of the request that has come is still here.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.request_body == BodyLength::None || self.attempts.retries.is_some()
    }

    /// Its name on the client's connection, if that speaks HTTP/2.
    #[must_use]
    pub fn http2_name(&self) -> Option<h2::StreamKey> {
        self.downstream_http2.as_ref()?.key
    }

    /// Whether the client asks for a tunnel, on HTTP/2, that is not there yet.
    #[must_use]
    pub fn is_tunnel_asked(&self) -> bool {
        self.request.body == BodyLength::Tunnel && !self.tunnel
    }

    /// Whether the client speaks HTTP/1.0: no interim responses, no chunks.
    #[must_use]
    pub fn is_http_10(&self) -> bool {
        self.request.version == Version::Http10
    }
}

impl<I: Io> Shard<I> {
    /// Looks the connection's listener up again when a newer snapshot was adopted.
    pub(crate) fn follow_listener(&mut self, key: DownstreamKey) {
        let snapshot = self.adopted.snapshot();
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        if downstream.version == snapshot.version {
            return;
        }
        downstream.version = snapshot.version;
        let newest = snapshot.listeners.iter().find(|entry| entry.id == downstream.listener.id);
        let newest = newest.and_then(|entry| entry.successor(&downstream.listener));
        let newest = newest.filter(|chain| chain.filter.http().is_some());
        downstream.listener_gone = newest.is_none();
        if let Some(chain) = newest
            && !Arc::ptr_eq(chain, &downstream.listener.chain)
            && let Some(chain) = HttpChain::of(chain)
        {
            downstream.listener = Rc::new(chain);
        }
    }

    /// The request is complete and so is the response: counts it, logs it, and takes it off its
    /// connection.
    pub(crate) fn finish_stream(&mut self, key: StreamKey) {
        let Some(mut stream) = self.streams.remove(key) else { return };
        debug_assert!(stream.upstream().is_none(), "a stream ended with a connection");
        if stream.downstream_http2.is_some()
            && let Some(downstream) = self.downstreams.get_mut(stream.downstream)
        {
            downstream.forget_headed(key);
        }
        stream.end_attempts();
        stream.release_request();
        let http = &stream.listener.http;
        self.count_status(http, stream.status);
        self.stats.dec(http.stats, HttpStat::DownstreamRqActive);
        if stream.tunnel {
            self.stats.dec(http.stats, HttpStat::DownstreamCxUpgradesActive);
        }
        let duration = self.now.instant - stream.started;
        self.stats.record(http.stats, HttpStat::DownstreamRqTime, duration.as_millis() as u64);
        if !http.access_log.is_empty() {
            self.log_stream(&mut stream, duration);
        }
        for http2 in [stream.downstream_http2.take(), stream.upstream_http2.take()] {
            self.reclaim_http2(http2);
        }
        for trailers in [stream.request_trailers.take(), stream.response_trailers.take()] {
            self.reclaim_trailers(trailers);
        }
        self.reclaim_request(std::mem::take(&mut stream.request));
        self.reclaim_response(std::mem::take(&mut stream.response));
    }

    fn log_stream(&mut self, stream: &mut Stream, duration: Duration) {
        self.end_measuring(stream);
        let record = stream.record(duration, self.ends(stream.downstream));
        self.logs.record(&stream.listener.http.access_log, &record);
    }

    pub(crate) fn response_head_memory(&mut self) -> ResponseHead {
        self.response_heads.pop().unwrap_or_default()
    }

    pub(crate) fn reclaim_request(&mut self, mut head: RequestHead) {
        let is_small = head.headers.capacity() <= limits::SPARE_HEAD_BYTES_MAX;
        if is_small && self.request_heads.len() < limits::SPARE_HEADS_MAX {
            head.clear();
            self.request_heads.push(head);
        }
    }

    pub(super) fn reclaim_http2(&mut self, http2: Option<Http2Stream>) {
        if self.spare_queues.len() < limits::SPARE_HEADS_MAX {
            self.spare_queues.extend(http2.and_then(Http2Stream::into_queue));
        }
    }

    fn reclaim_trailers(&mut self, trailers: Option<Box<Headers>>) {
        if let Some(trailers) = trailers
            && trailers.capacity() <= limits::SPARE_HEAD_BYTES_MAX
            && self.spare_trailers.len() < limits::SPARE_HEADS_MAX
        {
            self.spare_trailers.push(trailers);
        }
    }

    pub(super) fn reclaim_response(&mut self, mut head: ResponseHead) {
        let is_small = head.headers.capacity() <= limits::SPARE_HEAD_BYTES_MAX;
        if is_small && self.response_heads.len() < limits::SPARE_HEADS_MAX {
            head.clear();
            self.response_heads.push(head);
        }
    }
}
