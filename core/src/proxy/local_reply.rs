//! Giving an answer of our own: the one place where a [`LocalReply`] becomes bytes.
//!
//! What it leaves to others: which reply (`crate::reply` has them all).

use super::encode::write_response;
use super::mutate::prepare_response;
use super::request_id;
use super::request_timeouts::Limits;
use super::stream::{Phase, Stream};
use crate::reply::{LocalReply, ResponseFlags};
use crate::shard::{DownstreamKey, Shard, StreamKey};
use crate::snapshot::CompiledTarget;
use crate::stats::HttpStat;
use tidegate_http::{BodyLength, Method};
use tidegate_io::Io;

impl<I: Io> Shard<I> {
    /// Answers a request that gets no upstream answer. Does nothing when an answer has begun,
    /// except to end it.
    pub(crate) fn local_reply(&mut self, key: StreamKey, reply: LocalReply) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        debug_assert!(
            stream.upstream().is_none(),
            "a local reply while an upstream may still answer"
        );
        stream.flags.insert(reply.flags);
        stream.details = reply.details;
        if stream.response_started() {
            let downstream = stream.downstream;
            self.abort_downstream(downstream);
            return;
        }
        let content_type = if reply.body.is_empty() { None } else { Some("text/plain") };
        stream.response.clear();
        let config = &stream.listener.http.config;
        // What is behind a request that makes no sense may make none either.
        stream.request.close |= reply.status == 400 && !config.stream_error;
        let overloaded = reply.flags.contains(ResponseFlags::UPSTREAM_OVERFLOW);
        if overloaded && !config.router.suppress_envoy_headers {
            stream.response.headers.append(b"x-envoy-overloaded", b"true");
        }
        self.answer(key, reply.status, content_type, reply.body.as_bytes());
    }

    /// A `direct_response`.
    pub(crate) fn direct_response(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let listener = stream.listener.clone();
        let Some(route) = stream.route.map(|id| listener.http.routes.get(id)) else { return };
        let CompiledTarget::DirectResponse(direct) = &route.target else { return };
        stream.details = "direct_response";
        stream.response.clear();
        let content_type = if direct.body.is_empty() { None } else { Some("text/plain") };
        self.answer(key, direct.status, content_type, &direct.body);
    }

    /// A `redirect`.
    pub(crate) fn redirect(&mut self, key: StreamKey, status: u16, location: &[u8]) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.details = "direct_response";
        stream.response.clear();
        stream.response.headers.append(b"location", location);
        self.answer(key, status, None, b"");
    }

    /// Sends a whole response; fields that are already in `stream.response` are kept.
    fn answer(&mut self, key: StreamKey, status: u16, content_type: Option<&str>, body: &[u8]) {
        let last = self.is_last_response(key);
        let Some(stream) = self.streams.get_mut(key) else { return };
        let response = &mut stream.response;
        response.status = status;
        response.body = BodyLength::None;
        if !matches!(status, 204 | 304) {
            response.content_length = Some(body.len() as u64);
        }
        if let Some(content_type) = content_type {
            let length = body.len() as u64;
            response.headers.append(b"content-type", content_type.as_bytes());
            if !body.is_empty() {
                response.body = BodyLength::Exact(length);
            }
        }
        stream.status = status;
        if stream.changes_responses {
            self.finalize_response(key, None);
        }
        let Some(stream) = self.streams.get_mut(key) else { return };
        let response = &mut stream.response;
        let config = &stream.listener.http.config;
        let id = request_id::of_response(&stream.request.headers, config, stream.internal);
        prepare_response(response, id, config, false, None, self.date.as_bytes());
        let is_head = stream.request.method == Method::Head;
        stream.response_body = if is_head { BodyLength::None } else { response.body };
        stream.phase = Phase::Answered;
        stream.response_deadline = None;
        stream.request_deadline = None;
        stream.limits = Limits::default();
        stream.request.close = last;
        self.encode_response_head(key, last);
        let Some(stream) = self.streams.get_mut(key) else { return };
        if !is_head && let Some(downstream) = self.downstreams.get_mut(stream.downstream) {
            stream.bytes_sent = body.len() as u64;
            let output = downstream.output.get_or_insert_with(|| self.io.output());
            output.tail().extend_from_slice(body);
        }
        self.end_response(key);
    }

    /// Answers a connection on which no request could be read, and closes it.
    pub(crate) fn reply_without_stream(&mut self, key: DownstreamKey, reply: &LocalReply) {
        let date = *self.date.text();
        let mut response = self.response_head_memory();
        response.clear();
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let listener = downstream.listener.clone();
        response.status = reply.status;
        response.content_length = Some(reply.body.len() as u64);
        if !reply.body.is_empty() {
            response.headers.append(b"content-type", b"text/plain");
            response.body = BodyLength::Exact(reply.body.len() as u64);
        }
        prepare_response(&mut response, None, &listener.http.config, false, None, &date);
        let output = downstream.output.get_or_insert_with(|| self.io.output());
        let config = &listener.http.config;
        write_response(&response, response.body, true, config, None, output.tail());
        output.tail().extend_from_slice(reply.body.as_bytes());
        let http = listener.http.stats;
        let class =
            if reply.status < 500 { HttpStat::DownstreamRq4xx } else { HttpStat::DownstreamRq5xx };
        for stat in [
            HttpStat::DownstreamRqTotal,
            HttpStat::DownstreamRqHttp1Total,
            HttpStat::DownstreamRqCompleted,
            class,
        ] {
            self.stats.inc(http, stat);
        }
        self.log_without_stream(key, reply, &response);
        self.close_after_output(key);
    }

    fn log_without_stream(
        &mut self,
        key: DownstreamKey,
        reply: &LocalReply,
        response: &tidegate_http::ResponseHead,
    ) {
        let [peer, local] = self.ends(key);
        let Some(downstream) = self.downstreams.get(key) else { return };
        let listener = downstream.listener.clone();
        if listener.http.access_log.is_empty() {
            return;
        }
        let record = crate::access_log::Record {
            start_unix_us: self.now.unix_us,
            duration_us: 0,
            request: None,
            response: Some(response),
            status: reply.status,
            flags: reply.flags,
            details: reply.details,
            bytes_received: 0,
            bytes_sent: reply.body.len() as u64,
            upstream_host: None,
            upstream_cluster: None,
            upstream_service_ms: None,
            downstream_remote_address: peer,
            downstream_direct_address: peer,
            downstream_local_address: local,
            route_name: None,
        };
        self.logs.record(&listener.http.access_log, &record);
    }
}

impl Stream {
    /// Whether the request's body is still on its way.
    #[must_use]
    pub fn is_reading_body(&self) -> bool {
        !self.request_complete && self.request_body != BodyLength::None
    }
}
