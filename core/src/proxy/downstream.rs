//! A downstream connection: one client, one request after the other.
//!
//! What it leaves to others: what becomes of a request (`stream`, `router`), back-pressure
//! (`flow`).

use super::codec;
use super::deadline::{Alarm, earliest};
use super::refused_head::refused_head;
use super::request_timeouts::Limits;
use super::retry::Attempts;
use super::stream::{Phase, Stream};
use crate::access_log::{Measured, Moment};
use crate::config::HttpConnectionManager;
use crate::sabotage::Sabotage;
use crate::shard::{DownstreamKey, Shard, StreamKey, limits};
use crate::snapshot::ListenerEntry;
use crate::stats::HttpStat;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tidegate_http::RequestHead;
use tidegate_http::h1::{Event, RequestDecoder};
use tidegate_io::{Buffer, Instant, Io, Outcome, Output, Socket};

/// What a downstream connection does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// Reads requests.
    Open,
    /// Reads no further request; closes when everything is sent.
    Closing,
    /// Everything is sent, FIN included; reads and drops what still comes, until the peer closes or
    /// time is up, so that the peer is not reset before it has read our answer (RFC 9112 9.6).
    Lingering {
        /// When time is up.
        until: Instant,
        /// Bytes dropped so far.
        dropped: u64,
    },
}

/// A downstream connection.
#[derive(Debug)]
pub struct Downstream {
    pub(crate) socket: Socket,
    /// Its listener, as of the last request.
    pub(crate) listener: Rc<Arc<ListenerEntry>>,
    /// The version of the snapshot in which `listener` was looked up.
    pub(super) version: u64,
    /// The listener is gone: this connection closes after its next response.
    pub(super) listener_gone: bool,
    pub(super) decoder: RequestDecoder,
    /// The request under way.
    pub(crate) stream: Option<StreamKey>,
    /// Input that is not read yet: requests after the one under way.
    pub(super) held: VecDeque<Buffer>,
    pub(crate) output: Option<Output>,
    pub(crate) sending: bool,
    pub(crate) touched: bool,
    pub(crate) life: Life,
    /// The peer finished sending.
    pub(super) eof: bool,
    /// Reading is stopped for back-pressure or because enough is held.
    pub(crate) paused: bool,
    /// The FIN of a tunnel goes out when the output is sent.
    pub(crate) finish: bool,
    pub(super) requests: u32,
    /// Bytes of the request under way that were read.
    pub(super) request_bytes: u64,
    /// Bytes that were given to the kernel.
    pub(super) sent: u64,
    /// `max_connection_duration` has passed.
    pub(super) aged: bool,
    pub(super) accepted: Instant,
    /// When the connection had nothing to do last, or a head began.
    pub(super) idle_since: Instant,
    pub(super) alarm: Alarm,
    /// The peer's address and ours, once they were asked for.
    pub(super) ends: Option<[Option<SocketAddr>; 2]>,
}

impl Downstream {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(socket: Socket, listener: Rc<Arc<ListenerEntry>>, now: Instant) -> Downstream {
        let config = &listener.http.config;
        Downstream {
            socket,
            decoder: RequestDecoder::new(
                codec::request_options(config),
                codec::request_limits(config),
            ),
            listener,
            version: 0,
            listener_gone: false,
            aged: false,
            stream: None,
            held: VecDeque::new(),
            output: None,
            sending: false,
            touched: false,
            life: Life::Open,
            eof: false,
            paused: false,
            finish: false,
            requests: 0,
            request_bytes: 0,
            sent: 0,
            accepted: now,
            idle_since: now,
            alarm: Alarm::default(),
            ends: None,
        }
    }

    pub(super) fn config(&self) -> &HttpConnectionManager {
        &self.listener.http.config
    }

    /// The timeouts of the connection itself, and which reply a request that ends with it gets.
    pub(super) fn deadline(&self, draining_since: Option<Instant>) -> Option<Instant> {
        if let Life::Lingering { until, .. } = self.life {
            return Some(until);
        }
        let config = self.config();
        let age = config.max_connection_duration.filter(|_| !self.aged);
        let age = age.map(|duration| self.accepted + duration);
        if self.stream.is_some() {
            return age;
        }
        if self.is_flushing() {
            // Not idle, however slowly the client takes its response: only a standstill ends it.
            return config.stream_idle_timeout.map(|timeout| self.idle_since + timeout);
        }
        let head = if self.decoder.is_in_head() { config.request_headers_timeout } else { None };
        let wait = earliest(
            config.idle_timeout.map(|timeout| self.idle_since + timeout),
            head.map(|timeout| self.idle_since + timeout),
        );
        let drain = draining_since.map(|since| since.max(self.idle_since) + limits::DRAIN_IDLE);
        earliest(age, earliest(wait, drain))
    }

    /// Whether the client has not taken everything yet that it is given.
    fn is_flushing(&self) -> bool {
        self.sending || self.unsent() > 0
    }

    /// Unsent bytes that wait for the kernel.
    pub(crate) fn unsent(&self) -> usize {
        self.output.as_ref().map_or(0, Output::len)
    }
}

impl<I: Io> Shard<I> {
    /// A connection was accepted: start to read.
    pub(crate) fn open_downstream(&mut self, key: DownstreamKey) {
        let Some(downstream) = self.downstreams.get(key) else { return };
        let http = downstream.listener.http.stats;
        for stat in [
            HttpStat::DownstreamCxTotal,
            HttpStat::DownstreamCxActive,
            HttpStat::DownstreamCxHttp1Total,
            HttpStat::DownstreamCxHttp1Active,
        ] {
            self.stats.inc(http, stat);
        }
        self.io.recv(downstream.socket);
        self.arm_downstream(key);
    }

    pub(crate) fn downstream_completion(&mut self, key: DownstreamKey, outcome: Outcome) {
        match outcome {
            Outcome::Received(buffer) => self.downstream_received(key, buffer),
            Outcome::Sent(Ok(())) => self.downstream_sent(key),
            Outcome::Eof => self.downstream_eof(key),
            Outcome::RecvFailed(errno) | Outcome::Sent(Err(errno)) => {
                self.downstream_failed(key, errno);
            }
            outcome => debug_assert!(false, "a downstream completed with {outcome:?}"),
        }
    }

    fn downstream_received(&mut self, key: DownstreamKey, buffer: Buffer) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let http = downstream.listener.http.stats;
        self.stats.add(http, HttpStat::DownstreamCxRxBytesTotal, buffer.len() as u64);
        match &mut downstream.life {
            Life::Open if downstream.held.is_empty() => {
                if let Some(rest) = self.read_downstream(key, buffer) {
                    self.hold(key, &rest);
                }
            }
            Life::Open => self.hold(key, &buffer),
            // A request that began before we decided to close gets no answer: RFC 9112 9.6.
            Life::Closing => {}
            Life::Lingering { dropped, .. } => {
                *dropped += buffer.len() as u64;
                if *dropped > limits::LINGER_BYTES_MAX {
                    self.close_downstream(key);
                }
            }
        }
    }

    /// Keeps input for later, and reads no more when that is enough.
    ///
    /// What is kept is a copy: a client that sends requests faster than they are answered must not
    /// hold receive buffers, for the answers that would set them free need buffers too.
    fn hold(&mut self, key: DownstreamKey, input: &[u8]) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        downstream.held.push_back(Buffer::copy_from(input));
        let held: usize = downstream.held.iter().map(|buffer| buffer.len()).sum();
        let enough =
            held > limits::HELD_BYTES_MAX || downstream.held.len() > limits::HELD_BUFFERS_MAX;
        if enough && !downstream.paused {
            downstream.paused = true;
            self.io.pause(downstream.socket);
        }
    }

    /// Reads on in what was held, when its time has come.
    pub(super) fn read_held(&mut self, key: DownstreamKey) {
        while let Some(downstream) = self.downstreams.get_mut(key) {
            if downstream.life != Life::Open || !self.wants_input(key) {
                return;
            }
            let Some(downstream) = self.downstreams.get_mut(key) else { return };
            let Some(buffer) = downstream.held.pop_front() else { break };
            if let Some(rest) = self.read_downstream(key, buffer)
                && let Some(downstream) = self.downstreams.get_mut(key)
            {
                // Before what is held: it came before it.
                if Sabotage::ReverseHeld.strikes() {
                    downstream.held.push_back(rest);
                } else {
                    downstream.held.push_front(rest);
                }
            }
        }
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        if downstream.life != Life::Open {
            return;
        }
        if downstream.eof {
            // Everything that came before the FIN is read now.
            let tunnel = downstream
                .stream
                .filter(|key| self.streams.get(*key).is_some_and(|stream| stream.tunnel));
            match tunnel {
                Some(stream) => self.tunnel_finished_downstream(stream),
                // The rest of a request under way will not come.
                None => self.downstream_gone(key),
            }
        } else if downstream.stream.is_none() && downstream.paused {
            downstream.paused = false;
            self.io.recv(downstream.socket);
        }
    }

    /// Whether the next bytes can be dealt with now: not while a complete request waits for its
    /// response.
    fn wants_input(&self, key: DownstreamKey) -> bool {
        let Some(downstream) = self.downstreams.get(key) else { return false };
        let Some(stream) = downstream.stream.and_then(|key| self.streams.get(key)) else {
            return true;
        };
        stream.tunnel || !stream.request_complete
    }

    /// Decodes a buffer to its end, or as far as the requests in it can be begun; returns the rest.
    fn read_downstream(&mut self, key: DownstreamKey, buffer: Buffer) -> Option<Buffer> {
        let mut at = 0;
        let mut head = None;
        loop {
            if !self.wants_input(key) {
                break;
            }
            let Some(downstream) = self.downstreams.get_mut(key) else { break };
            if downstream.life != Life::Open {
                at = buffer.len();
                break;
            }
            if let Some(stream) = downstream.stream
                && self.streams.get(stream).is_some_and(|stream| stream.tunnel)
            {
                self.tunnel_upstream(stream, buffer.slice(at..buffer.len()));
                at = buffer.len();
                break;
            }
            let was_in_head = downstream.decoder.is_in_head();
            let memory = head.get_or_insert_with(|| self.request_heads.pop().unwrap_or_default());
            let step = match downstream.decoder.decode(&buffer[at..], memory) {
                Ok(step) => step,
                Err(error) => {
                    downstream.request_bytes += (buffer.len() - at) as u64;
                    let mut memory = head.take().unwrap_or_default();
                    let refused = refused_head(error.fault, &buffer[at..], &mut memory);
                    at = buffer.len();
                    self.request_malformed(key, error, refused.then_some(&memory));
                    head = Some(memory);
                    break;
                }
            };
            downstream.request_bytes += step.consumed as u64;
            match step.event {
                Event::NeedMore => {
                    at += step.consumed;
                    if !was_in_head && downstream.decoder.is_in_head() {
                        downstream.idle_since = self.now.instant;
                        self.arm_downstream(key);
                    }
                    break;
                }
                Event::Head => {
                    let mut memory = head.take().unwrap_or_default();
                    if self.admit_names(key, &mut memory.headers) {
                        self.open_stream(key, memory);
                    } else {
                        self.reclaim_request(memory);
                    }
                }
                Event::Data(range) => {
                    self.request_data(key, buffer.slice(at + range.start..at + range.end));
                }
                Event::Trailers | Event::InterimHead | Event::Tunnel => {}
                Event::End => self.request_end(key),
            }
            at += step.consumed;
        }
        if let Some(memory) = head {
            self.reclaim_request(memory);
        }
        (at < buffer.len()).then(|| buffer.slice(at..buffer.len()))
    }

    /// A head is complete: a stream begins.
    fn open_stream(&mut self, key: DownstreamKey, request: RequestHead) {
        let response = self.response_head_memory();
        self.follow_listener(key);
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        downstream.requests += 1;
        let listener = downstream.listener.clone();
        let config = &listener.http.config;
        let now = self.now;
        let measured = listener.http.measures.then(|| Measured::begin(&request, downstream));
        let stream = Stream {
            downstream: key,
            phase: Phase::Routing,
            request_body: request.body,
            response_body: tidegate_http::BodyLength::None,
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
            counted: false,
            upstream_address: None,
            remote_address: None,
            internal: false,
            flags: crate::reply::ResponseFlags::NONE,
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
            measured,
            snapshot: self.adopted.snapshot().clone(),
            listener,
            request,
            response,
        };
        let http = stream.listener.http.stats;
        let stream = self.streams.insert(stream);
        downstream.stream = Some(stream);
        for stat in [
            HttpStat::DownstreamRqTotal,
            HttpStat::DownstreamRqHttp1Total,
            HttpStat::DownstreamRqActive,
        ] {
            self.stats.inc(http, stat);
        }
        if self.admit(stream) {
            self.route(stream);
        }
        self.arm_downstream(key);
    }

    /// Body bytes of the request under way.
    fn request_data(&mut self, key: DownstreamKey, data: Buffer) {
        let Some(stream_key) = self.downstreams.get(key).and_then(|d| d.stream) else { return };
        let Some(stream) = self.streams.get_mut(stream_key) else { return };
        stream.bytes_received += data.len() as u64;
        stream.active = self.now.instant;
        stream.body_seen = true;
        if stream.phase != Phase::Answered {
            self.send_request_data(stream_key, data);
        }
    }

    /// The request under way is complete.
    fn request_end(&mut self, key: DownstreamKey) {
        let Some(stream_key) = self.downstreams.get(key).and_then(|d| d.stream) else { return };
        let Some(stream) = self.streams.get_mut(stream_key) else { return };
        if stream.request_complete {
            return;
        }
        stream.request_complete = true;
        stream.request_received = Some(self.now.instant);
        stream.note(Moment::DsRxEnd, self.now.instant);
        if stream.upstream().is_some() {
            stream.note(Moment::UsTxEnd, self.now.instant);
        }
        stream.request_deadline = None;
        stream.active = self.now.instant;
        if !stream.tunnel {
            stream.response_deadline = stream.timeout.map(|timeout| self.now.instant + timeout);
        }
        if stream.upstream().is_some() {
            stream.limits.sent(self.now.instant);
        }
        if stream.phase == Phase::Answered {
            self.end_exchange(stream_key);
        } else {
            self.send_request_end(stream_key);
            self.arm_downstream(key);
        }
    }

    /// Both halves are complete, or the rest of the request does not count: the connection goes on
    /// with the next request, or closes.
    pub(crate) fn end_exchange(&mut self, stream_key: StreamKey) {
        let Some(stream) = self.streams.get(stream_key) else { return };
        debug_assert!(stream.phase == Phase::Answered);
        let key = stream.downstream;
        self.finish_stream(stream_key);
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        downstream.stream = None;
        downstream.request_bytes = 0;
        downstream.idle_since = self.now.instant;
        if downstream.life == Life::Open {
            downstream.decoder.resume();
        }
        self.arm_downstream(key);
        self.touch_downstream(key);
    }

    fn downstream_sent(&mut self, key: DownstreamKey) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        downstream.sending = false;
        if let Some(stream) = downstream.stream.and_then(|key| self.streams.get_mut(key)) {
            stream.active = self.now.instant;
        } else if downstream.life == Life::Open && !downstream.decoder.is_in_head() {
            // The response is sent to its end: from now on the connection is idle.
            downstream.idle_since = self.now.instant;
            self.arm_downstream(key);
        }
        self.touch_downstream(key);
    }
}
