//! An upstream connection of HTTP/2: it carries many streams, and stays where further ones find it.
//!
//! What it leaves to others: which host, and connecting (`router`, `connect`), what a response
//! becomes (`response`), frames (`tidegate_http`).

use super::http2::{Http2, Http2Stream, Outgoing, codec_time, flood_stat};
use super::keepalive::{self, Keepalive};
use super::retry::Failure;
use super::stream::{Phase, Stream};
use super::upstream::{Codec, End, Upstream, Work};
use crate::access_log::WireCount;
use crate::reply::LocalReply;
use crate::shard::{Shard, StreamKey, UpstreamKey, limits};
use crate::stats::{ClusterStat, HostStat};
use std::collections::VecDeque;
use tidegate_http::h2::{self, Cause, Connection, Ending, ErrorCode, Event, Fault, Refusal};
use tidegate_http::{BodyLength, Method, Name, ResponseHead};
use tidegate_io::{Buffer, Instant, Io};

impl Upstream {
    pub(super) fn http2(&mut self) -> Option<&mut Connection> {
        self.codec.http2()
    }

    /// When the codec of HTTP/2 wants something.
    pub(super) fn codec_deadline(&self) -> Option<Instant> {
        match &self.codec {
            Codec::Http1(_) => None,
            Codec::Http2(http2) => http2.wakes_at(self.since),
        }
    }
}

impl Stream {
    /// Writes the head of the request, and says what follows it; `since` is when the connection
    /// became idle, if it is.
    pub(super) fn open_http2(
        &mut self,
        key: StreamKey,
        http2: &mut Http2,
        queues: &mut Vec<VecDeque<Buffer>>,
        since: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let connection = &mut http2.connection;
        let is_idle = connection.streams_active() == 0;
        let is_tunnel = self.upgrade || self.request.method == Method::Connect;
        let has_body =
            is_tunnel || self.request_body != BodyLength::None || self.request_trailers.is_some();
        let (request, body) = (&self.request, self.request_body);
        let now = self.active;
        let probes = |keepalive: &mut Keepalive| keepalive.probes(since, now);
        if is_idle && http2.keepalive.as_mut().is_some_and(probes) {
            connection.ping(keepalive::PING);
        }
        connection.write_control(out);
        let before = out.len();
        let name = connection.open(request, body, !has_body, key.to_bits(), out)?;
        let head = (out.len() - before) as u64;
        let new = || Http2Stream::new(None, queues.pop().unwrap_or_default());
        let http2 = self.upstream_http2.get_or_insert_with(new);
        http2.key = Some(name);
        http2.wire = WireCount { sent: head, header_sent: head, ..WireCount::default() };
        if has_body {
            connection.queue_data(name, http2.queued, http2.ending);
        }
        Ok(())
    }

    /// HTTP/1 does not see from the response that it has no body, unless its head says so.
    fn say_empty(&mut self) {
        let response = &mut self.response;
        let is_clear = matches!(response.status, 204 | 304) || self.request.method == Method::Head;
        if response.content_length.is_none() && !is_clear {
            response.content_length = Some(0);
        }
    }

    fn outgoing_request(&mut self) -> Outgoing<'_> {
        (self.upstream_http2.as_mut(), self.request_trailers.as_deref())
    }
}

impl<I: Io> Shard<I> {
    /// The connection cannot take the stream after all. False: it is still free.
    pub(super) fn http2_refused(
        &mut self,
        stream_key: StreamKey,
        key: UpstreamKey,
        refusal: Refusal,
    ) -> bool {
        let Some(upstream) = self.upstreams.get_mut(key) else { return false };
        if upstream.work == Work::Idle && upstream.output.as_ref().is_some_and(|it| it.is_empty()) {
            upstream.output = None;
        }
        match refusal {
            Refusal::NoExtendedConnect => self.local_reply(stream_key, LocalReply::UPGRADE_FAILED),
            Refusal::TooManyStreams | Refusal::GoingAway => {
                self.local_reply(stream_key, LocalReply::OVERFLOW);
            }
        }
        false
    }

    /// Body bytes of a request: they go when the connection takes them.
    pub(super) fn send_http2_request(&mut self, key: StreamKey, data: Buffer) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let upstream_key = stream.upstream();
        let Some(http2) = &mut stream.upstream_http2 else { return };
        if let (Some(name), Some(upstream_key)) = (http2.key, upstream_key)
            && let Some(connection) = self.upstreams.get_mut(upstream_key).and_then(Upstream::http2)
        {
            connection.queue_data(name, data.len(), Ending::Open);
            http2.push(data, connection.send_window(name));
            self.touch_upstream(upstream_key);
        } else {
            // A copy already.
            http2.push(data, usize::MAX);
        }
        let http2 = self.streams.get(key).and_then(|stream| stream.upstream_http2.as_ref());
        if http2.is_some_and(|http2| http2.queued > limits::OUTPUT_BYTES_HIGH) {
            self.pause_downstream(key);
        }
    }

    /// The request is complete.
    pub(super) fn end_http2_request(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let has_trailers = stream.request_trailers.is_some();
        if stream.request_body == BodyLength::None && !has_trailers || stream.is_tunnel_asked() {
            return;
        }
        let ending = if has_trailers { Ending::Trailers } else { Ending::End };
        self.queue_http2_end(key, ending);
    }

    /// Nothing follows what the client has sent.
    pub(super) fn queue_http2_end(&mut self, key: StreamKey, ending: Ending) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let upstream_key = stream.upstream();
        let Some(http2) = &mut stream.upstream_http2 else { return };
        http2.ending = ending;
        if let (Some(name), Some(upstream_key)) = (http2.key, upstream_key)
            && let Some(connection) = self.upstreams.get_mut(upstream_key).and_then(Upstream::http2)
        {
            connection.queue_data(name, 0, ending);
            self.touch_upstream(upstream_key);
        }
    }

    /// Puts into the output what streams have and windows allow.
    pub(super) fn fill_upstream(&mut self, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let Codec::Http2(http2) = &mut upstream.codec else { return };
        if let Some(stats) = upstream.cluster.http2_stats {
            http2.count(&self.stats, stats);
        }
        if upstream.work == Work::Connecting || !http2.connection.has_output() {
            return;
        }
        let output = upstream.output.get_or_insert_with(|| self.io.output());
        let mut moved = std::mem::take(&mut self.moved);
        let (streams, now) = (&mut self.streams, self.now.instant);
        http2.fill(streams, Stream::outgoing_request, output, now, &mut moved);
        for (stream, is_last) in moved.drain(..) {
            if let Some(stream) = self.streams.get_mut(stream)
                && let Some(http2) = &mut stream.upstream_http2
            {
                http2.is_sent |= is_last;
            }
            let http2 = self.streams.get(stream).and_then(|it| it.upstream_http2.as_ref());
            if http2.is_some_and(|http2| http2.queued <= limits::OUTPUT_BYTES_LOW) {
                self.resume_request(stream);
            }
            self.end_tunnel(stream);
        }
        self.moved = moved;
    }

    /// Decodes input to its end.
    pub(super) fn http2_upstream_received(&mut self, key: UpstreamKey, buffer: &Buffer) {
        let now = codec_time(self.now.instant);
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let stats = upstream.cluster.stats;
        self.stats.add(stats, ClusterStat::UpstreamCxRxBytesTotal, buffer.len() as u64);
        upstream.received += buffer.len() as u64;
        if upstream.work == Work::Parting {
            return;
        }
        if let Codec::Http2(http2) = &mut upstream.codec {
            http2.received(self.now.instant);
        }
        let mut head = self.response_head_memory();
        let mut at = 0;
        while let Some(connection) = self.upstreams.get_mut(key).and_then(Upstream::http2) {
            let step = match connection.decode_response(&buffer[at..], &mut head, now) {
                Ok(step) => step,
                Err(error) => {
                    self.count_flood(key, error.fault);
                    self.http2_upstream_ended(key, End::Protocol);
                    break;
                }
            };
            match step.event {
                Event::NeedMore => break,
                Event::Head { tag, end_stream, .. } => {
                    let stream_key = StreamKey::from_bits(tag);
                    self.count_response(stream_key, step.consumed, true);
                    self.http2_response_head(stream_key, key, &mut head, end_stream);
                    if end_stream {
                        self.http2_response_end(stream_key, key);
                    }
                }
                Event::InterimHead { tag, .. } => {
                    self.http2_interim_head(StreamKey::from_bits(tag), &mut head);
                }
                Event::Data { stream, tag, range, end_stream } => {
                    let stream_key = StreamKey::from_bits(tag);
                    let data = buffer.slice(at + range.start..at + range.end);
                    self.count_response(stream_key, step.consumed, false);
                    self.http2_response_data(key, stream, stream_key, data);
                    if end_stream {
                        self.http2_response_end(stream_key, key);
                    }
                }
                Event::Trailers { tag, .. } => {
                    let stream_key = StreamKey::from_bits(tag);
                    if let Some(stream) = self.streams.get_mut(stream_key) {
                        let memory = self.spare_trailers.pop().unwrap_or_default();
                        connection.swap_trailers(stream.response_trailers.insert(memory));
                    }
                    self.count_response(stream_key, step.consumed, false);
                    self.http2_response_end(stream_key, key);
                }
                Event::Reset { tag, code, cause, .. } => {
                    self.http2_response_reset(StreamKey::from_bits(tag), key, code, cause);
                }
                Event::GoAway { .. } => self.stop_sharing(key),
                Event::Settings => self.serve_waiting(key),
                Event::Pong { .. } => self.origin_answered(key),
                Event::Refused { .. } => debug_assert!(false, "a server asks for nothing"),
            }
            at += step.consumed;
        }
        self.reclaim_response(head);
        self.touch_upstream(key);
        self.close_if_finished(key);
    }

    fn count_response(&mut self, stream_key: StreamKey, bytes: usize, is_head: bool) {
        let stream = self.streams.get_mut(stream_key);
        if let Some(http2) = stream.and_then(|stream| stream.upstream_http2.as_mut()) {
            http2.wire.received += bytes as u64;
            http2.wire.header_received += if is_head { bytes as u64 } else { 0 };
        }
    }

    fn count_flood(&mut self, key: UpstreamKey, fault: Fault) {
        let stats = self.upstreams.get(key).and_then(|upstream| upstream.cluster.http2_stats);
        if let (Some(stats), Some(stat)) = (stats, flood_stat(fault)) {
            self.stats.inc(stats, stat);
        }
    }

    fn origin_answered(&mut self, key: UpstreamKey) {
        let draw = self.random.draw();
        if let Some(upstream) = self.upstreams.get_mut(key)
            && let Codec::Http2(http2) = &mut upstream.codec
            && let Some(keepalive) = &mut http2.keepalive
        {
            keepalive.answered(self.now.instant, draw);
        }
        self.arm_upstream(key);
    }

    fn http2_interim_head(&mut self, stream_key: StreamKey, head: &mut ResponseHead) {
        if let Some(stream) = self.streams.get_mut(stream_key) {
            std::mem::swap(&mut stream.response, head);
            self.interim_response(stream_key);
        }
    }

    fn http2_response_head(
        &mut self,
        stream_key: StreamKey,
        key: UpstreamKey,
        head: &mut ResponseHead,
        end_stream: bool,
    ) {
        let Some(stream) = self.streams.get_mut(stream_key) else { return };
        std::mem::swap(&mut stream.response, head);
        let is_tunnel = stream.response.body == BodyLength::Tunnel;
        if stream.response.upgrade {
            // What HTTP/1.1 says of an upgrade that was accepted (RFC 8441 5).
            let protocol = stream.request.headers.get(Name::Upgrade).unwrap_or_default();
            let headers = &mut stream.response.headers;
            headers.append_known(Name::Connection, b"connection", b"upgrade");
            headers.append_known(Name::Upgrade, b"upgrade", protocol);
        }
        if end_stream && stream.downstream_http2.is_none() {
            stream.say_empty();
        }
        self.response_head(stream_key, key);
        let is_responding = |stream: &Stream| stream.phase == Phase::Responding(key);
        if is_tunnel && self.streams.get(stream_key).is_some_and(is_responding) {
            self.begin_tunnel(stream_key);
        }
    }

    /// Body bytes of a response. Its origin may send as many more when they are passed on.
    fn http2_response_data(
        &mut self,
        key: UpstreamKey,
        name: h2::StreamKey,
        stream_key: StreamKey,
        data: Buffer,
    ) {
        let length = data.len();
        match self.streams.get(stream_key) {
            Some(stream) if stream.tunnel => self.tunnel_downstream(stream_key, data),
            // A frame may be empty, for its end alone.
            Some(_) if !data.is_empty() => self.response_data(stream_key, data),
            _ => {}
        }
        let Some(connection) = self.upstreams.get_mut(key).and_then(Upstream::http2) else {
            return;
        };
        let stream = self.streams.get_mut(stream_key);
        match stream.and_then(|stream| stream.upstream_http2.as_mut()) {
            Some(http2) if http2.paused => http2.unconsumed += length,
            _ => connection.consumed(name, length),
        }
    }

    /// The client takes the response again: its origin may go on.
    pub(super) fn resume_http2_response(&mut self, stream_key: StreamKey, key: UpstreamKey) {
        let Some(stream) = self.streams.get_mut(stream_key) else { return };
        let Some(http2) = &mut stream.upstream_http2 else { return };
        http2.paused = false;
        let unconsumed = std::mem::take(&mut http2.unconsumed);
        if let Some(name) = http2.key
            && let Some(connection) = self.upstreams.get_mut(key).and_then(Upstream::http2)
        {
            connection.consumed(name, unconsumed);
            self.touch_upstream(key);
        }
    }

    fn http2_response_end(&mut self, stream_key: StreamKey, key: UpstreamKey) {
        let Some(stream) = self.streams.get(stream_key) else { return };
        if stream.upstream() != Some(key) {
            return; // It was answered otherwise.
        }
        match stream.tunnel {
            true => self.tunnel_finished_upstream(stream_key),
            false => self.response_end(stream_key, key),
        }
    }

    /// The origin gave a stream up, or made it impossible.
    fn http2_response_reset(
        &mut self,
        stream_key: StreamKey,
        key: UpstreamKey,
        code: ErrorCode,
        cause: Cause,
    ) {
        let Some(upstream) = self.upstreams.get(key) else { return };
        let Some(stream) = self.streams.get(stream_key) else { return };
        if stream.upstream() != Some(key) {
            return;
        }
        let stat = match cause {
            Cause::Fault(_) => ClusterStat::UpstreamRqTxReset,
            Cause::Peer | Cause::Unprocessed => ClusterStat::UpstreamRqRxReset,
        };
        self.stats.inc(upstream.cluster.stats, stat);
        self.stats.inc(upstream.host_stats, HostStat::RqError);
        self.detach(stream_key);
        let (failure, reply) = match (cause, code) {
            (Cause::Unprocessed, _) | (Cause::Peer, ErrorCode::REFUSED_STREAM) => {
                (Failure::Refused, LocalReply::REMOTE_REFUSED)
            }
            (Cause::Peer, ErrorCode::CONNECT_ERROR) => {
                (Failure::Reset, LocalReply::REMOTE_CONNECT_ERROR)
            }
            (Cause::Fault(_), _) | (Cause::Peer, ErrorCode::PROTOCOL_ERROR) => {
                (Failure::Reset, LocalReply::UPSTREAM_PROTOCOL_ERROR)
            }
            (Cause::Peer, _) => (Failure::Reset, LocalReply::REMOTE_RESET),
        };
        self.attempt_ended(stream_key, failure, reply);
    }

    /// The attempt came to nothing, or the response to no end.
    fn attempt_ended(&mut self, stream_key: StreamKey, failure: Failure, reply: LocalReply) {
        let Some(stream) = self.streams.get_mut(stream_key) else { return };
        if !stream.response_started() {
            return self.attempt_failed(stream_key, failure, reply);
        }
        stream.flags.insert(reply.flags);
        stream.details = match reply {
            LocalReply::REMOTE_RESET => "upstream_reset_after_response_started{remote_reset}",
            LocalReply::REMOTE_REFUSED => {
                "upstream_reset_after_response_started{remote_refused_stream_reset}"
            }
            LocalReply::CONNECTION_TERMINATION => {
                "upstream_reset_after_response_started{connection_termination}"
            }
            _ => "upstream_reset_after_response_started{protocol_error}",
        };
        self.break_response(stream_key);
    }

    /// The connection ended, or has to, with all its streams.
    pub(super) fn http2_upstream_ended(&mut self, key: UpstreamKey, end: End) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let stats = upstream.cluster.stats;
        self.stats.inc(stats, ClusterStat::UpstreamCxDestroyRemote);
        if end == End::Protocol {
            self.stats.inc(stats, ClusterStat::UpstreamCxProtocolError);
        }
        let Codec::Http2(http2) = &upstream.codec else { return };
        let streams: Vec<_> = http2.streams().collect();
        let streams: Vec<_> = streams.into_iter().filter(|it| self.is_on(*it, key)).collect();
        let Some(upstream) = self.upstreams.get(key) else { return };
        if !streams.is_empty() {
            self.stats.inc(stats, ClusterStat::UpstreamCxDestroyWithActiveRq);
            self.stats.inc(stats, ClusterStat::UpstreamCxDestroyRemoteWithActiveRq);
        }
        let host_stats = upstream.host_stats;
        for stream_key in &streams {
            self.stats.inc(host_stats, HostStat::RqError);
            if end == End::Protocol {
                self.stats.inc(stats, ClusterStat::UpstreamRqTxReset);
            }
            self.count_request_end(key, *stream_key);
            self.forget_upstream(*stream_key);
        }
        if let Some(upstream) = self.upstreams.get(key)
            && let Some(pool) = self.pools.get(upstream.pool)
        {
            pool.streams -= streams.len();
        }
        match end {
            End::Remote => self.close_upstream(key),
            End::Protocol => self.part(key),
        }
        let reply = match end {
            End::Remote => LocalReply::CONNECTION_TERMINATION,
            End::Protocol => LocalReply::UPSTREAM_PROTOCOL_ERROR,
        };
        for stream_key in streams {
            self.attempt_ended(stream_key, Failure::Reset, reply);
        }
    }

    fn is_on(&self, stream: StreamKey, key: UpstreamKey) -> bool {
        self.streams.get(stream).and_then(Stream::upstream) == Some(key)
    }

    /// The stream has no connection any more.
    fn forget_upstream(&mut self, stream_key: StreamKey) -> Option<h2::StreamKey> {
        let stream = self.streams.get_mut(stream_key)?;
        stream.phase = if stream.response_started() { Phase::Answered } else { Phase::Routing };
        let http2 = stream.upstream_http2.take()?;
        let name = http2.key;
        self.reclaim_http2(Some(http2));
        name
    }

    /// A stream leaves the connection, of which it has no further use; `code` is for an origin that
    /// is not done with it.
    pub(super) fn leave_http2(&mut self, key: UpstreamKey, stream_key: StreamKey, code: ErrorCode) {
        let name = self.forget_upstream(stream_key);
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let Some(connection) = upstream.codec.http2() else { return };
        if let Some(name) = name
            && connection.reset(name, code)
        {
            self.stats.inc(upstream.cluster.stats, ClusterStat::UpstreamRqTxReset);
        }
        if let Some(pool) = self.pools.get(upstream.pool) {
            pool.streams -= 1;
        }
        self.touch_upstream(key);
        self.serve_waiting(key);
    }
}
