//! A downstream connection of HTTP/2: many streams, read from one input and written to one output.
//!
//! What it leaves to others: what becomes of a request (`downstream`), frames (`tidegate_http`).

use super::deadline::earliest;
use super::downstream::{Codec, Downstream, Life};
use super::http2::{Drain, Expired, Http2, Http2Stream, Outgoing, codec_time, flood_stat};
use super::keepalive;
use super::stream::{Phase, Stream};
use crate::config::HttpConnectionManager;
use crate::reply::ResponseFlags;
use crate::sabotage::Sabotage;
use crate::shard::{DownstreamKey, Shard, StreamKey, limits};
use crate::stats::{Http2Stat, HttpStat};
use std::time::Duration;
use tidegate_http::h2::{
    self, Cause, Connection, ConnectionError, Ending, ErrorCode, Event, Fault,
};
use tidegate_http::{BodyLength, RequestHead};
use tidegate_io::{Buffer, Instant, Io};

/// The PING whose answer says that the client has read our announcement.
const DRAIN_PING: [u8; 8] = *b"draining";

impl Http2 {
    /// When the connection itself wants something. `age` is when it gets too old.
    pub(super) fn deadline(
        &self,
        idle_since: Instant,
        age: Option<Instant>,
        config: &HttpConnectionManager,
    ) -> Option<Instant> {
        let is_idle = self.connection.streams_active() == 0;
        let idle = config.idle_timeout.filter(|_| is_idle).map(|timeout| idle_since + timeout);
        let ends = match self.drain {
            Drain::No => earliest(age, idle),
            Drain::Announced { until } => Some(until),
            Drain::Final => None,
        };
        earliest(self.wakes_at(idle_since), ends)
    }
}

impl Downstream {
    fn http2(&mut self) -> Option<&mut Connection> {
        self.codec.http2()
    }

    fn headed(&self, at: usize) -> Option<StreamKey> {
        match &self.codec {
            Codec::Http2(http2) => http2.headed.get(at).copied(),
            _ => None,
        }
    }

    /// A stream has ended.
    pub(super) fn forget_headed(&mut self, key: StreamKey) {
        if let Codec::Http2(http2) = &mut self.codec {
            http2.headed.retain(|headed| *headed != key);
        }
    }
}

impl Stream {
    fn outgoing_response(&mut self) -> Outgoing<'_> {
        (self.downstream_http2.as_mut(), self.response_trailers.as_deref())
    }
}

impl<I: Io> Shard<I> {
    /// Decodes a buffer to its end.
    pub(super) fn http2_received(&mut self, key: DownstreamKey, buffer: &Buffer) {
        let now = codec_time(self.now.instant);
        let (mut at, mut head) = (0, None);
        if let Some(downstream) = self.downstreams.get_mut(key)
            && let Codec::Http2(http2) = &mut downstream.codec
        {
            http2.received(self.now.instant);
        }
        while let Some(connection) = self.downstreams.get_mut(key).and_then(Downstream::http2) {
            let memory = head.get_or_insert_with(|| self.request_heads.pop().unwrap_or_default());
            let step = match connection.decode_request(&buffer[at..], memory, now) {
                Ok(step) => step,
                Err(error) => {
                    self.http2_failed(key, error);
                    break;
                }
            };
            match step.event {
                Event::NeedMore => break,
                Event::Head { stream, end_stream, .. } => {
                    if let Some(request) = head.take() {
                        let wire = step.consumed as u64;
                        self.open_http2_stream(key, stream, request, end_stream, wire);
                    }
                }
                Event::Data { stream, tag, range, end_stream } => {
                    let data = buffer.slice(at + range.start..at + range.end);
                    self.count_received(tag, step.consumed);
                    self.http2_request_data(key, stream, StreamKey::from_bits(tag), data);
                    if end_stream {
                        self.http2_request_end(StreamKey::from_bits(tag));
                    }
                }
                Event::Trailers { tag, .. } => {
                    self.count_received(tag, step.consumed);
                    self.take_request_trailers(key, StreamKey::from_bits(tag));
                    self.http2_request_end(StreamKey::from_bits(tag));
                }
                Event::Reset { tag, code, cause, .. } => {
                    self.http2_client_gave_up(StreamKey::from_bits(tag), code, cause);
                }
                Event::Pong { opaque: DRAIN_PING } => self.end_drain(key),
                Event::Pong { opaque: keepalive::PING } => self.client_answered(key),
                Event::Refused { fault } => self.log_refused(key, fault),
                Event::Pong { .. } | Event::Settings | Event::GoAway { .. } => {}
                Event::InterimHead { .. } => {
                    debug_assert!(false, "a request has no interim head");
                }
            }
            at += step.consumed;
        }
        if let Some(memory) = head {
            self.reclaim_request(memory);
        }
        self.touch_downstream(key);
    }

    fn open_http2_stream(
        &mut self,
        key: DownstreamKey,
        name: h2::StreamKey,
        mut request: RequestHead,
        end_stream: bool,
        wire: u64,
    ) {
        if !self.admit_names(key, Some(name), &mut request.headers) {
            return self.reclaim_request(request);
        }
        let queue = self.spare_queues.pop().unwrap_or_default();
        let mut http2 = Http2Stream::new(Some(name), queue);
        http2.wire.received = wire;
        http2.wire.header_received = wire;
        let stream = self.open_stream(key, request, Some(http2));
        let Some(stream_key) = stream else { return };
        let is_tunnel = self.streams.get(stream_key).is_some_and(Stream::is_tunnel_asked);
        if is_tunnel {
            // The head is all of the request.
            self.request_end(stream_key);
        }
        if end_stream {
            self.http2_request_end(stream_key);
        }
    }

    fn count_received(&mut self, tag: u64, bytes: usize) {
        let stream = self.streams.get_mut(StreamKey::from_bits(tag));
        if let Some(http2) = stream.and_then(|stream| stream.downstream_http2.as_mut()) {
            http2.wire.received += bytes as u64;
        }
    }

    /// Body bytes of a request. Its client may send as many more when they are passed on.
    fn http2_request_data(
        &mut self,
        key: DownstreamKey,
        name: h2::StreamKey,
        stream_key: StreamKey,
        data: Buffer,
    ) {
        let length = data.len();
        match self.streams.get_mut(stream_key) {
            Some(stream) if stream.tunnel => self.tunnel_upstream(stream_key, data),
            Some(stream) if stream.is_tunnel_asked() => {
                // It is for who accepts the tunnel, and nobody has yet.
                let too_much = stream.downstream_http2.as_mut().is_some_and(|http2| {
                    http2.early.extend_from_slice(&data);
                    http2.paused = true;
                    http2.early.len() > limits::HELD_BYTES_MAX
                });
                if too_much {
                    self.reset_upstream(stream_key);
                    self.abort_http2_stream(stream_key);
                }
            }
            // A frame may be empty, for its end alone.
            Some(_) if !data.is_empty() => self.request_data(stream_key, data),
            _ => {}
        }
        let Some(connection) = self.downstreams.get_mut(key).and_then(Downstream::http2) else {
            return;
        };
        let stream = self.streams.get_mut(stream_key);
        match stream.and_then(|stream| stream.downstream_http2.as_mut()) {
            Some(http2) if http2.paused => http2.unconsumed += length,
            _ if Sabotage::ForgetConsumed.strikes() => {}
            _ => connection.consumed(name, length),
        }
    }

    fn http2_request_end(&mut self, stream_key: StreamKey) {
        let Some(stream) = self.streams.get_mut(stream_key) else { return };
        if stream.tunnel {
            self.tunnel_finished_downstream(stream_key);
        } else if stream.is_tunnel_asked() {
            stream.finished[0] = true;
        } else {
            self.request_end(stream_key);
        }
    }

    fn take_request_trailers(&mut self, key: DownstreamKey, stream_key: StreamKey) {
        let Some(connection) = self.downstreams.get_mut(key).and_then(Downstream::http2) else {
            return;
        };
        if let Some(stream) = self.streams.get_mut(stream_key) {
            let trailers =
                stream.request_trailers.insert(self.spare_trailers.pop().unwrap_or_default());
            connection.swap_trailers(trailers);
        }
    }

    /// The client may go on to send on a stream whose data was kept back.
    pub(super) fn resume_http2_request(&mut self, stream_key: StreamKey) {
        let Some(stream) = self.streams.get_mut(stream_key) else { return };
        let key = stream.downstream;
        let Some(http2) = &mut stream.downstream_http2 else { return };
        let Some(name) = http2.key else { return };
        let unconsumed = std::mem::take(&mut http2.unconsumed);
        http2.paused = false;
        if let Some(connection) = self.downstreams.get_mut(key).and_then(Downstream::http2) {
            connection.consumed(name, unconsumed);
            self.touch_downstream(key);
        }
    }

    /// The client does not want the response any more, or has made it impossible.
    fn http2_client_gave_up(&mut self, stream_key: StreamKey, code: ErrorCode, cause: Cause) {
        let Some(stream) = self.streams.get_mut(stream_key) else { return };
        let (flag, details) = match (cause, code) {
            (Cause::Fault(fault), _) => (ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR, fault.details()),
            (_, ErrorCode::REFUSED_STREAM) => {
                (ResponseFlags::DOWNSTREAM_REMOTE_RESET, "http2.remote_refuse")
            }
            _ => (ResponseFlags::DOWNSTREAM_REMOTE_RESET, "http2.remote_reset"),
        };
        stream.flags.insert(flag);
        stream.details = details;
        let (key, http) = (stream.downstream, stream.listener.http.stats);
        self.stats.inc(http, HttpStat::DownstreamRqRxReset);
        self.reset_upstream(stream_key);
        self.end_http2_stream(key, stream_key);
    }

    fn client_answered(&mut self, key: DownstreamKey) {
        let draw = self.random.draw();
        if let Some(downstream) = self.downstreams.get_mut(key)
            && let Codec::Http2(http2) = &mut downstream.codec
            && let Some(keepalive) = &mut http2.keepalive
        {
            keepalive.answered(self.now.instant, draw);
        }
        self.arm_downstream(key);
    }

    /// The client broke the protocol, or was a nuisance: what it asked for is given up.
    fn http2_failed(&mut self, key: DownstreamKey, error: ConnectionError) {
        self.end_answered(key);
        let Some(downstream) = self.downstreams.get(key) else { return };
        let (http, codec) = (downstream.listener.http.stats, downstream.listener.http.http2_stats);
        self.stats.inc(http, HttpStat::DownstreamCxProtocolError);
        if let Some(stat) = flood_stat(error.fault) {
            self.stats.inc(codec, stat);
        } else if error.fault == Fault::PrematureResets {
            self.stats.inc(http, HttpStat::DownstreamRqTooManyPrematureResets);
        }
        let is_of_head =
            matches!(error.fault, Fault::Message | Fault::HeadTooLarge | Fault::Compression(_));
        if is_of_head {
            self.log_refused(key, error.fault);
        }
        let Some(downstream) = self.downstreams.get(key) else { return };
        for stream_key in downstream.streams().collect::<Vec<_>>() {
            let Some(stream) = self.streams.get_mut(stream_key) else { continue };
            stream.flags.insert(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR);
            stream.details = error.fault.details();
            self.stats.inc(http, HttpStat::DownstreamRqRxReset);
            self.reset_upstream(stream_key);
            self.finish_stream(stream_key);
        }
        self.close_after_output(key);
    }

    /// Everything of the response is known: what is not sent yet follows as windows allow.
    pub(super) fn end_http2_response(&mut self, stream_key: StreamKey) {
        let Some(stream) = self.streams.get(stream_key) else { return };
        let key = stream.downstream;
        let Some(name) = stream.http2_name() else { return };
        if stream.response_body == BodyLength::None {
            // The head has said so, and trailers came too late. The end of the request may be
            // among what is being read, so it is not over before that is done.
            return self.touch_downstream(key);
        }
        let ending = match stream.response_trailers {
            Some(_) => Ending::Trailers,
            None => Ending::End,
        };
        if let Some(connection) = self.downstreams.get_mut(key).and_then(Downstream::http2) {
            connection.queue_data(name, 0, ending);
        }
        self.touch_downstream(key);
    }

    /// Ends the streams whose response was over with its head.
    pub(super) fn end_answered(&mut self, key: DownstreamKey) {
        let mut at = 0;
        while let Some(stream) = self.downstreams.get(key).and_then(|it| it.headed(at)) {
            match self.streams.get(stream).is_some_and(|it| it.phase == Phase::Answered) {
                true => self.response_sent(stream), // It is not there any more.
                false => at += 1,
            }
        }
    }

    /// Fills the output, and closes a connection that has nothing left to do.
    pub(super) fn settle_http2(&mut self, key: DownstreamKey) {
        self.end_answered(key);
        self.fill_downstream(key);
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let codec_stats = downstream.listener.http.http2_stats;
        let Codec::Http2(http2) = &mut downstream.codec else { return };
        http2.count(&self.stats, codec_stats);
        if downstream.life == Life::Open && http2.connection.is_finished() {
            downstream.life = Life::Closing;
        }
    }

    /// Puts into the output what streams have and windows allow.
    fn fill_downstream(&mut self, key: DownstreamKey) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Codec::Http2(http2) = &mut downstream.codec else { return };
        if !http2.connection.has_output() {
            return;
        }
        let output = downstream.output.get_or_insert_with(|| self.io.output());
        let mut moved = std::mem::take(&mut self.moved);
        let (streams, now) = (&mut self.streams, self.now.instant);
        http2.fill(streams, Stream::outgoing_response, output, now, &mut moved);
        for (stream, is_last) in moved.drain(..) {
            match is_last {
                true => self.response_sent(stream),
                false => self.resume_upstream(stream),
            }
        }
        self.moved = moved;
    }

    /// All of the response is in the connection's output.
    pub(super) fn response_sent(&mut self, stream_key: StreamKey) {
        let Some(stream) = self.streams.get_mut(stream_key) else { return };
        let (key, is_tunnel) = (stream.downstream, stream.tunnel);
        if let Some(http2) = &mut stream.downstream_http2 {
            http2.is_sent = true;
        }
        match is_tunnel {
            true => self.end_tunnel(stream_key),
            false => self.end_http2_stream(key, stream_key),
        }
    }

    /// The stream is over; what of its request is still to come is not wanted (RFC 9113 8.1).
    pub(super) fn end_http2_stream(&mut self, key: DownstreamKey, stream_key: StreamKey) {
        self.reset_http2_stream(key, stream_key, ErrorCode::NO_ERROR);
    }

    /// The response cannot be completed.
    pub(super) fn abort_http2_stream(&mut self, stream_key: StreamKey) {
        let Some(stream) = self.streams.get(stream_key) else { return };
        let (key, http) = (stream.downstream, stream.listener.http.stats);
        // RFC 9113 8.5
        let code = if stream.tunnel { ErrorCode::CONNECT_ERROR } else { ErrorCode::INTERNAL_ERROR };
        self.stats.inc(http, HttpStat::DownstreamRqTxReset);
        // What has come of the response goes out before.
        self.fill_downstream(key);
        self.reset_http2_stream(key, stream_key, code);
    }

    fn reset_http2_stream(&mut self, key: DownstreamKey, stream_key: StreamKey, code: ErrorCode) {
        let http2 = self.streams.get(stream_key).and_then(|it| it.downstream_http2.as_ref());
        let name = http2.and_then(|http2| http2.key);
        self.finish_stream(stream_key);
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let http = downstream.listener.http.stats;
        if let (Some(name), Some(connection)) = (name, downstream.http2()) {
            if connection.reset(name, code) {
                // As in Envoy, whoever resets it.
                self.stats.inc(http, HttpStat::DownstreamRqRxReset);
            }
            if connection.streams_active() == 0 {
                downstream.idle_since = self.now.instant;
                self.arm_downstream(key);
            }
        }
        self.touch_downstream(key);
    }

    /// Tells the client that the connection ends; when it has read that, the connection takes no
    /// further request (RFC 9113 6.8).
    pub(super) fn start_drain(&mut self, key: DownstreamKey) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let until = self.now.instant + downstream.config().drain_timeout;
        let Codec::Http2(http2) = &mut downstream.codec else { return };
        if http2.drain == Drain::No {
            http2.drain = Drain::Announced { until };
            http2.connection.announce_end();
            http2.connection.ping(DRAIN_PING);
            self.touch_downstream(key);
            self.arm_downstream(key);
        }
    }

    /// From here on no request is taken any more.
    pub(super) fn end_drain(&mut self, key: DownstreamKey) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Codec::Http2(http2) = &mut downstream.codec else { return };
        if http2.drain != Drain::Final {
            http2.drain = Drain::Final;
            http2.connection.go_away(ErrorCode::NO_ERROR);
            self.touch_downstream(key);
        }
    }

    /// One of the connection's own timeouts may have ended.
    pub(super) fn http2_timeout(&mut self, key: DownstreamKey) {
        let now = self.now.instant;
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let config = &downstream.listener.http.config;
        let http = downstream.listener.http.stats;
        let past = |limit: Option<Duration>, since| limit.is_some_and(|it| since + it <= now);
        let is_old = past(config.max_connection_duration, downstream.accepted);
        let is_idle = past(config.idle_timeout, downstream.idle_since);
        let Codec::Http2(http2) = &mut downstream.codec else { return };
        if downstream.life == Life::Closing {
            // It does not take its last frames.
            if past(config.stream_idle_timeout, downstream.idle_since) {
                self.close_downstream(key);
            }
            return;
        }
        match http2.wake(downstream.idle_since, now) {
            Ok(()) => {}
            Err(Expired::Codec(error)) => return self.http2_failed(key, error),
            Err(Expired::Dead) => {
                self.stats.inc(downstream.listener.http.http2_stats, Http2Stat::KeepaliveTimeout);
                self.stats.inc(http, HttpStat::DownstreamCxDestroyLocal);
                return self.close_downstream(key);
            }
        }
        match http2.drain {
            Drain::Announced { until } if until <= now => self.end_drain(key),
            Drain::No if is_old || is_idle && http2.connection.streams_active() == 0 => {
                let stat = match is_old {
                    true => HttpStat::DownstreamCxMaxDurationReached,
                    false => HttpStat::DownstreamCxIdleTimeout,
                };
                self.stats.inc(http, stat);
                self.start_drain(key);
            }
            _ => {}
        }
        self.touch_downstream(key);
    }
}
