//! After 101, or 2xx to CONNECT: bytes pass unread both ways, and so does each side's FIN.
//!
//! What it leaves to others: back-pressure (`flow`), timeouts (`stream_idle_timeout` goes on).

use super::map_reply::Content;
use super::mutate::prepare_response;
use super::stream::Phase;
use crate::shard::{Shard, StreamKey, UpstreamKey};
use crate::stats::HttpStat;
use tidegate_http::h1::strip_hop_by_hop;
use tidegate_http::h2::Ending;
use tidegate_http::{BodyLength, Name};
use tidegate_io::{Buffer, Io};

impl<I: Io> Shard<I> {
    /// CONNECT ends here, and the connection that it asks for is made.
    pub(crate) fn accept_connect(&mut self, key: StreamKey, upstream: UpstreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.response.clear();
        stream.response.status = 200;
        stream.response.body = BodyLength::Tunnel;
        stream.response_body = BodyLength::Tunnel;
        stream.phase = Phase::Responding(upstream);
        stream.end_attempts();
        stream.status = 200;
        stream.details = "via_upstream";
        stream.active = self.now.instant;
        if stream.changes_responses {
            self.finalize_response(key, None);
        }
        let Some(stream) = self.streams.get_mut(key) else { return };
        let config = &stream.listener.http.config;
        prepare_response(&mut stream.response, None, config, false, None, self.date.as_bytes());
        self.encode_response_head(key, false);
        self.begin_tunnel(key);
    }

    /// Answers a WebSocket handshake to which the upstream says neither 101 nor an error: as in
    /// Envoy with the head alone, since nothing behind it can be meant for the client's WebSocket
    /// (RFC 6455 4.1). False when the response is another one.
    pub(super) fn fail_handshake(&mut self, key: StreamKey) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return false };
        let (status, body) = (stream.response.status, stream.response.body);
        let protocol = stream.request.headers.get(Name::Upgrade).unwrap_or_default();
        if !protocol.eq_ignore_ascii_case(b"websocket")
            || status >= 400
            || body == BodyLength::Tunnel
        {
            return false;
        }
        strip_hop_by_hop(&mut stream.response.headers, false);
        self.charge_code(key, status);
        self.detach(key);
        if let Some(stream) = self.streams.get_mut(key) {
            stream.details = "websocket_handshake_unsuccessful";
        }
        self.answer(key, status, Content::text(b""));
        true
    }

    /// The upgrade was accepted and its 101 is on its way downstream.
    pub(crate) fn begin_tunnel(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.tunnel = true;
        stream.request_complete = true;
        let (http, downstream) = (stream.listener.http.stats, stream.downstream);
        let upstream = stream.upstream();
        self.stats.inc(http, HttpStat::DownstreamCxUpgradesTotal);
        self.stats.inc(http, HttpStat::DownstreamCxUpgradesActive);
        self.send_early(key);
        // What the client sent behind its request was held until now, and if that was much, its
        // client is not read from any more.
        self.touch_downstream(downstream);
        if let Some(upstream) = upstream {
            self.touch_upstream(upstream);
        }
    }

    /// What a client of HTTP/2 has sent for its tunnel before that was there.
    fn send_early(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(http2) = &mut stream.downstream_http2 else { return };
        let early = std::mem::take(&mut http2.early);
        let is_finished = std::mem::take(&mut stream.finished[0]);
        if !early.is_empty() {
            self.tunnel_upstream(key, Buffer::copy_from(&early));
            self.resume_request(key);
        }
        if is_finished {
            self.tunnel_finished_downstream(key);
        }
    }

    /// Bytes from the client.
    pub(crate) fn tunnel_upstream(&mut self, key: StreamKey, data: Buffer) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.bytes_received += data.len() as u64;
        stream.active = self.now.instant;
        if !data.is_empty() {
            self.send_request_data(key, data);
        }
    }

    /// Bytes from the upstream.
    pub(crate) fn tunnel_downstream(&mut self, key: StreamKey, data: Buffer) {
        if !data.is_empty() {
            self.response_data(key, data);
        }
    }

    /// The client sent FIN: it goes on to the upstream, behind what was sent before.
    pub(crate) fn tunnel_finished_downstream(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if std::mem::replace(&mut stream.finished[0], true) {
            return;
        }
        if stream.upstream_http2.is_some() {
            return self.queue_http2_end(key, Ending::End);
        }
        if let Some(upstream_key) = stream.upstream()
            && let Some(upstream) = self.upstreams.get_mut(upstream_key)
        {
            upstream.finish = true;
            self.touch_upstream(upstream_key);
        }
    }

    /// The upstream sent FIN: it goes on to the client.
    pub(crate) fn tunnel_finished_upstream(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if std::mem::replace(&mut stream.finished[1], true) {
            return;
        }
        if stream.downstream_http2.is_some() {
            return self.end_http2_response(key);
        }
        let downstream_key = stream.downstream;
        if let Some(downstream) = self.downstreams.get_mut(downstream_key) {
            downstream.finish = true;
            self.touch_downstream(downstream_key);
        }
    }

    /// Closes a tunnel whose both sides are done and have got everything.
    pub(crate) fn end_tunnel(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get(key) else { return };
        if stream.finished != [true; 2] {
            return;
        }
        let downstream = self.downstreams.get(stream.downstream);
        let is_unsent = match &stream.downstream_http2 {
            Some(http2) => !http2.is_sent,
            None => downstream.is_some_and(|d| d.sending || d.finish || d.unsent() > 0),
        };
        let upstream = stream.upstream().and_then(|key| self.upstreams.get(key));
        let is_unsent = is_unsent
            || match &stream.upstream_http2 {
                Some(http2) => !http2.is_sent,
                None => upstream.is_some_and(|u| u.sending || u.finish || u.unsent() > 0),
            };
        if is_unsent {
            return;
        }
        let (downstream, is_http2) = (stream.downstream, stream.downstream_http2.is_some());
        self.detach(key);
        match is_http2 {
            true => self.end_http2_stream(downstream, key),
            false => self.close_downstream(downstream),
        }
    }
}
