//! A downstream connection: one client, and what it speaks.
//!
//! What it leaves to others: reading it (`http1_downstream`, `http2_downstream`), what becomes of a
//! request (`stream`, `router`), back-pressure (`flow`).

use super::codec;
use super::deadline::{Alarm, earliest};
use super::http2::{Drain, Http2, Http2Stream, codec_time};
use super::keepalive::Keepalive;
use super::stream::{Phase, Stream};
use crate::access_log::{Measured, Moment};
use crate::config::{CodecType, HttpConnectionManager};
use crate::shard::{DownstreamKey, Shard, StreamKey, limits};
use crate::snapshot::HttpChain;
use crate::stats::HttpStat;
use crate::transport::{ConnectionFacts, Session};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tidegate_http::RequestHead;
use tidegate_http::h1::RequestDecoder;
use tidegate_http::h2::{self, PREFACE};
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

/// What a downstream connection speaks.
#[derive(Debug)]
pub(super) enum Codec {
    /// Its first bytes tell, of which those that came are held.
    Undecided,
    Http1(RequestDecoder),
    Http2(Box<Http2>),
}

impl Codec {
    /// The codec of HTTP/2, if it is that.
    pub(super) fn http2(&mut self) -> Option<&mut h2::Connection> {
        match self {
            Codec::Http2(http2) => Some(&mut http2.connection),
            _ => None,
        }
    }

    /// The same, to look at.
    pub(super) fn as_http2(&self) -> Option<&h2::Connection> {
        match self {
            Codec::Http2(http2) => Some(&http2.connection),
            _ => None,
        }
    }
}

/// A downstream connection.
#[derive(Debug)]
pub struct Downstream {
    pub(crate) socket: Socket,
    /// Its listener, and the filter chain that it was given, as of the last request.
    pub(crate) listener: Rc<HttpChain>,
    /// The version of the snapshot in which `listener` was looked up.
    pub(super) version: u64,
    /// The listener is gone: this connection closes after its next response.
    pub(super) listener_gone: bool,
    pub(super) codec: Codec,
    /// The request under way on HTTP/1, which has one at a time.
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
    /// Until when the handshake may take, while it is under way.
    pub(super) handshake_until: Option<Instant>,
    /// It speaks TLS.
    pub(super) is_secure: bool,
    /// What its handshake came to, once somebody asked.
    pub(super) facts: Option<Arc<ConnectionFacts>>,
    /// The peer's address and ours, once they were asked for.
    pub(crate) ends: Option<[Option<SocketAddr>; 2]>,
}

impl Downstream {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(socket: Socket, listener: Rc<HttpChain>, now: Instant) -> Downstream {
        Downstream {
            socket,
            codec: Codec::Undecided,
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
            handshake_until: None,
            is_secure: false,
            facts: None,
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
        if self.handshake_until.is_some() {
            return self.handshake_until;
        }
        let config = self.config();
        let age = config.max_connection_duration.filter(|_| !self.aged);
        let age = age.map(|duration| self.accepted + duration);
        if let Codec::Http2(http2) = &self.codec {
            if self.life == Life::Closing {
                return config.stream_idle_timeout.map(|timeout| self.idle_since + timeout);
            }
            return http2.deadline(self.idle_since, age, config);
        }
        if self.stream.is_some() {
            return age;
        }
        if self.is_flushing() {
            // Not idle, however slowly the client takes its response: only a standstill ends it.
            return config.stream_idle_timeout.map(|timeout| self.idle_since + timeout);
        }
        let head = if self.is_in_head() { config.request_headers_timeout } else { None };
        let wait = earliest(
            config.idle_timeout.map(|timeout| self.idle_since + timeout),
            head.map(|timeout| self.idle_since + timeout),
        );
        let drain = draining_since.map(|since| since.max(self.idle_since) + limits::DRAIN_IDLE);
        earliest(age, earliest(wait, drain))
    }

    /// Whether a request's head has begun and is not complete, on HTTP/1.
    pub(super) fn is_in_head(&self) -> bool {
        match &self.codec {
            Codec::Undecided => !self.held.is_empty(),
            Codec::Http1(decoder) => decoder.is_in_head(),
            Codec::Http2(_) => false,
        }
    }

    /// Whether the client has said that it sends no further request.
    pub(super) fn is_closed(&self) -> bool {
        matches!(&self.codec, Codec::Http1(decoder) if decoder.is_closed())
    }

    /// Whether it was said that it ends, on HTTP/2.
    pub(super) fn is_draining(&self) -> bool {
        matches!(&self.codec, Codec::Http2(http2) if http2.drain != Drain::No)
    }

    /// The streams on it.
    pub(super) fn streams(&self) -> impl Iterator<Item = StreamKey> + '_ {
        let http2 = match &self.codec {
            Codec::Http2(http2) => Some(http2.streams()),
            _ => None,
        };
        self.stream.into_iter().chain(http2.into_iter().flatten())
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
        self.stats.inc(http, HttpStat::DownstreamCxTotal);
        self.stats.inc(http, HttpStat::DownstreamCxActive);
        self.io.recv(downstream.socket);
        self.arm_downstream(key);
    }

    pub(crate) fn downstream_completion(&mut self, key: DownstreamKey, outcome: Outcome) {
        match outcome {
            Outcome::Received(buffer) => self.downstream_received(key, buffer),
            Outcome::Sent(Ok(())) => self.downstream_sent(key),
            Outcome::Eof => self.downstream_eof(key),
            Outcome::Connected(result) => self.downstream_secured(key, result),
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
            Life::Open => match &downstream.codec {
                Codec::Http1(_) => self.http1_received(key, buffer),
                Codec::Http2(_) => self.http2_received(key, &buffer),
                Codec::Undecided => self.decide_codec(key, buffer),
            },
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

    /// The first bytes of a connection: HTTP/2 begins with its preface, and anything else is
    /// HTTP/1 (`codec_type` AUTO).
    fn decide_codec(&mut self, key: DownstreamKey, mut buffer: Buffer) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        if let Some(held) = downstream.held.pop_front() {
            buffer = Buffer::copy_from(&[&*held, &*buffer].concat());
        }
        let config = &downstream.listener.http.config;
        let now = self.now.instant;
        let agreed = self.io.session(downstream.socket).and_then(Session::protocol);
        let speaks_http2 = match config.codec_type {
            CodecType::Http1 => false,
            CodecType::Http2 => true,
            CodecType::Auto if let Some(protocol) = agreed => protocol == b"h2",
            CodecType::Auto if buffer.len() < PREFACE.len() && PREFACE.starts_with(&buffer) => {
                downstream.held.push_back(Buffer::copy_from(&buffer));
                downstream.idle_since = now;
                return self.arm_downstream(key);
            }
            CodecType::Auto => buffer.starts_with(PREFACE),
        };
        match speaks_http2 {
            true => self.begin_http2(key, &buffer),
            false => self.begin_http1(key, buffer),
        }
    }

    /// The connection speaks HTTP/1, and these are its first bytes.
    fn begin_http1(&mut self, key: DownstreamKey, buffer: Buffer) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let (http, config) = (downstream.listener.http.stats, downstream.config());
        let (options, limits) = (codec::request_options(config), codec::request_limits(config));
        downstream.codec = Codec::Http1(RequestDecoder::new(options, limits));
        self.stats.inc(http, HttpStat::DownstreamCxHttp1Total);
        self.stats.inc(http, HttpStat::DownstreamCxHttp1Active);
        self.http1_received(key, buffer);
    }

    /// The connection speaks HTTP/2.
    fn begin_http2(&mut self, key: DownstreamKey, buffer: &Buffer) {
        let (now, draw) = (self.now.instant, self.random.draw());
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let (http, config) = (downstream.listener.http.stats, downstream.config());
        let options = codec::http2_server_options(config);
        let connection = h2::Connection::server(options, codec_time(now));
        let keepalive = config.http2.keepalive.map(|it| Keepalive::new(it, now, draw));
        downstream.codec = Codec::Http2(Http2::new(connection, keepalive));
        self.stats.inc(http, HttpStat::DownstreamCxHttp2Total);
        self.stats.inc(http, HttpStat::DownstreamCxHttp2Active);
        self.arm_downstream(key);
        self.http2_received(key, buffer);
    }

    /// Nothing follows the first bytes of what might have become HTTP/2.
    pub(super) fn end_decision(&mut self, key: DownstreamKey) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        if matches!(downstream.codec, Codec::Undecided)
            && let Some(held) = downstream.held.pop_front()
        {
            self.begin_http1(key, held);
        }
    }

    /// A head is complete: a stream begins, and takes its first steps.
    pub(super) fn open_stream(
        &mut self,
        key: DownstreamKey,
        request: RequestHead,
        http2: Option<Http2Stream>,
    ) -> Option<StreamKey> {
        self.came += 1;
        let response = self.response_head_memory();
        self.follow_listener(key);
        let downstream = self.downstreams.get_mut(key)?;
        downstream.requests += 1;
        let listener = downstream.listener.clone();
        let mut measured = listener.http.measures.then(|| Measured::begin(&request, downstream));
        if let Some(measured) = &mut measured {
            measured.downstream_tls = self.downstream_facts(key);
        }
        let downstream = self.downstreams.get_mut(key)?;
        let mut stream = Stream::new(key, listener, self.adopted.snapshot().clone(), self.now);
        stream.request_body = request.body;
        (stream.request, stream.response) = (request, response);
        (stream.downstream_http2, stream.measured) = (http2, measured);
        let http = stream.listener.http.stats;
        let name = stream.downstream_http2.as_ref().and_then(|http2| http2.key);
        let stream = self.streams.insert(stream);
        let version = match (&mut downstream.codec, name) {
            (Codec::Http2(http2), Some(name)) => {
                http2.connection.set_tag(name, stream.to_bits());
                HttpStat::DownstreamRqHttp2Total
            }
            _ => {
                downstream.stream = Some(stream);
                HttpStat::DownstreamRqHttp1Total
            }
        };
        for stat in [HttpStat::DownstreamRqTotal, version, HttpStat::DownstreamRqActive] {
            self.stats.inc(http, stat);
        }
        if self.admit(stream) {
            self.route(stream);
        }
        self.arm_stream(stream);
        Some(stream)
    }

    /// Body bytes of a request.
    pub(super) fn request_data(&mut self, stream_key: StreamKey, data: Buffer) {
        let Some(stream) = self.streams.get_mut(stream_key) else { return };
        stream.bytes_received += data.len() as u64;
        stream.active = self.now.instant;
        stream.body_seen = true;
        stream.count_grpc_request(&self.stats, &data);
        if stream.phase != Phase::Answered {
            self.send_request_data(stream_key, data);
        }
    }

    /// A request is complete.
    pub(super) fn request_end(&mut self, stream_key: StreamKey) {
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
        if stream.phase != Phase::Answered {
            self.send_request_end(stream_key);
            self.arm_stream(stream_key);
        } else if stream.downstream_http2.is_none() {
            self.end_exchange(stream_key);
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
        if downstream.life == Life::Open
            && let Codec::Http1(decoder) = &mut downstream.codec
        {
            decoder.resume();
        }
        self.arm_downstream(key);
        self.touch_downstream(key);
    }

    fn downstream_sent(&mut self, key: DownstreamKey) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        downstream.sending = false;
        if let Codec::Http2(http2) = &mut downstream.codec {
            http2.connection.handle_sent();
        } else if let Some(stream) = downstream.stream.and_then(|key| self.streams.get_mut(key)) {
            stream.active = self.now.instant;
        } else if downstream.life == Life::Open && !downstream.is_in_head() {
            // The response is sent to its end: from now on the connection is idle.
            downstream.idle_since = self.now.instant;
            self.arm_downstream(key);
        }
        self.touch_downstream(key);
    }
}
