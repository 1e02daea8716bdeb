//! Giving an answer of our own: the one place where a [`LocalReply`] becomes bytes.
//!
//! What it leaves to others: which reply (`crate::reply` has them all).

use super::encode::write_response;
use super::map_reply::{Content, TEXT, map};
use super::measure::field_lines_size;
use super::mutate::{decimal, prepare_response};
use super::request_id;
use super::request_timeouts::Limits;
use super::stream::{Phase, Stream};
use crate::access_log::{Measured, Moment, Record};
use crate::reply::{LocalReply, ResponseFlags, grpc_status};
use crate::shard::{DownstreamKey, Shard, StreamKey};
use crate::snapshot::{ChainEntry, CompiledTarget, is_grpc};
use crate::stats::HttpStat;
use std::net::SocketAddr;
use std::time::Duration;
use tidegate_http::{BodyLength, Method, Name, RequestHead, ResponseHead};
use tidegate_io::{Buffer, Io};

/// What Envoy says first when an upstream gives no response.
const NO_RESPONSE: &str = "upstream connect error or disconnect/reset before headers. ";

impl<I: Io> Shard<I> {
    /// Answers a request that gets no upstream answer. Does nothing when an answer has begun,
    /// except to end it.
    pub(crate) fn local_reply(&mut self, key: StreamKey, reply: LocalReply) {
        self.local_reply_saying(key, reply, reply.body);
    }

    /// The same with a body that is made for this one.
    pub(super) fn local_reply_saying(&mut self, key: StreamKey, reply: LocalReply, body: &str) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        debug_assert!(
            stream.upstream().is_none(),
            "a local reply while an upstream may still answer"
        );
        stream.flags.insert(reply.flags);
        stream.details = reply.details;
        if stream.response_started() {
            let downstream = stream.downstream;
            return match stream.downstream_http2 {
                Some(_) => self.abort_http2_stream(key),
                None => self.abort_downstream(downstream),
            };
        }
        if reply.flags.intersects(ResponseFlags::OF_CLUSTER) {
            self.charge_code(key, reply.status);
        }
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.response.clear();
        let config = &stream.listener.http.config;
        // What is behind a request that makes no sense may make none either.
        stream.request.close |= reply.status == 400 && !config.stream_error;
        // And what is behind a refused upgrade may be meant for the other protocol.
        stream.request.close |= reply == LocalReply::UPGRADE_FAILED;
        let overloaded = reply.flags.contains(ResponseFlags::UPSTREAM_OVERFLOW);
        if overloaded && !config.router.suppress_envoy_headers {
            stream.response.headers.append(b"x-envoy-overloaded", b"true");
        }
        let route = stream.route.map(|id| stream.listener.http.routes.get(id));
        if route.is_some_and(|route| route.host.include_attempt_count_in_response)
            && stream.attempts.count > 0
        {
            // Behind what is here, and before what is common to all answers.
            let count = &mut [0; 20];
            let count = decimal(stream.attempts.count.into(), count);
            stream.response.headers.append(b"x-envoy-attempt-count", count);
        }
        if stream.attempts.count > 1
            && let Some(reason) = body.strip_prefix(NO_RESPONSE)
        {
            let body = format!("{NO_RESPONSE}retried and the latest {reason}");
            self.answer(key, reply.status, Content::text(body.as_bytes()));
            return;
        }
        self.answer(key, reply.status, Content::text(body.as_bytes()));
    }

    /// A `direct_response`.
    pub(crate) fn direct_response(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let listener = stream.listener.clone();
        let Some(route) = stream.route.map(|id| listener.http.routes.get(id)) else { return };
        let CompiledTarget::DirectResponse(direct, format) = &route.target else { return };
        stream.details = "direct_response";
        stream.response.clear();
        let Some(format) = format else {
            return self.answer(key, direct.status, Content::text(&direct.body));
        };
        let body = self.format_body(key, format, &direct.body);
        let content_type = Some(format.content_type.as_str());
        self.answer(key, direct.status, Content { body: &body, content_type });
    }

    /// A `redirect`.
    pub(crate) fn redirect(&mut self, key: StreamKey, status: u16, location: &[u8]) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.details = "direct_response";
        stream.response.clear();
        stream.response.headers.append(b"location", location);
        self.answer(key, status, Content::text(b""));
    }

    /// Sends a whole response; fields that are already in `stream.response` are kept.
    pub(super) fn answer(&mut self, key: StreamKey, status: u16, content: Content<'_>) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.response.status = status;
        stream.end_attempts();
        let listener = stream.listener.clone();
        if stream.changes_responses {
            // Before anything else is in it, as in Envoy.
            stream.status = status;
            self.finalize_response(key, None);
        }
        let Some(replies) = &listener.http.local_replies else {
            return self.send_answer(key, content);
        };
        let mut text = Vec::new();
        let content_type = self.map_reply(key, replies, content, &mut text);
        self.send_answer(key, Content { body: &text, content_type });
    }

    fn send_answer(&mut self, key: StreamKey, content: Content<'_>) {
        let last = self.is_last_response(key);
        let Some(stream) = self.streams.get_mut(key) else { return };
        let response = &mut stream.response;
        let body = match is_grpc(&stream.request) {
            true => complete_for_grpc(response, content, stream.details),
            false => complete(response, content),
        };
        if stream.downstream_http2.is_some() && body.is_empty() {
            // END_STREAM says it.
            response.content_length = None;
        }
        let status = response.status;
        stream.status = status;
        let config = &stream.listener.http.config;
        let id = request_id::of_response(&stream.request.headers, config, stream.internal);
        prepare_response(response, id, config, false, None, self.date.as_bytes());
        stream.add_proxy_status();
        let response = &stream.response;
        let is_head = stream.request.method == Method::Head;
        stream.response_body = if is_head { BodyLength::None } else { response.body };
        stream.phase = Phase::Answered;
        stream.response_deadline = None;
        stream.request_deadline = None;
        stream.limits = Limits::default();
        stream.request.close = last;
        if let Some(call) = &stream.grpc_call {
            call.charge_status(&self.stats, &stream.response.headers);
        }
        self.encode_response_head(key, last);
        let Some(stream) = self.streams.get_mut(key) else { return };
        if !is_head && stream.downstream_http2.is_some() {
            if !body.is_empty() {
                self.response_data(key, Buffer::copy_from(body));
            }
        } else if !is_head && let Some(downstream) = self.downstreams.get_mut(stream.downstream) {
            stream.bytes_sent = body.len() as u64;
            let output = downstream.output.get_or_insert_with(|| self.io.output());
            output.tail().extend_from_slice(body);
        }
        self.end_response(key);
    }

    /// Answers a connection on which no request could be read, and closes it. `refused` is what is
    /// known of the request.
    pub(crate) fn reply_without_stream(
        &mut self,
        key: DownstreamKey,
        reply: &LocalReply,
        refused: Option<&RequestHead>,
    ) {
        let date = *self.date.text();
        let ends = self.ends(key);
        let mut response = self.response_head_memory();
        response.clear();
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let listener = downstream.listener.clone();
        let (http, config) = (&listener.http, &listener.http.config);
        let mut measured = http.measures.then(Measured::default);
        let mut record = Record {
            request: refused,
            ..on_connection(Record::of_reply(reply, self.now.unix_us), &listener, ends)
        };
        response.status = reply.status;
        let mut content = Content::text(reply.body.as_bytes());
        let mut text = Vec::new();
        if let Some(replies) = &http.local_replies {
            let scratch = &mut self.mutation_scratch;
            let content_type = map(replies, &record, content, &mut response, scratch, &mut text);
            content = Content { body: &text, content_type };
        }
        let body = complete(&mut response, content);
        prepare_response(&mut response, None, config, false, None, &date);
        let output = downstream.output.get_or_insert_with(|| self.io.output());
        let out = output.tail();
        let start = out.len();
        write_response(&response, response.body, true, config, None, out);
        if let Some(measured) = &mut measured {
            measured.downstream.header_sent = field_lines_size(&out[start..]);
            measured.note(Moment::DsRxBeg, Duration::ZERO);
            measured.note(Moment::DsTxEnd, Duration::ZERO);
            measured.downstream.received = downstream.request_bytes;
            measured.downstream.sent = (out.len() - start + body.len()) as u64;
        }
        out.extend_from_slice(body);
        self.stats.inc(http.stats, HttpStat::DownstreamRqTotal);
        self.stats.inc(http.stats, HttpStat::DownstreamRqHttp1Total);
        self.count_status(http, response.status);
        record.status = response.status;
        record.measured = measured.as_ref();
        record.response = Some(&response);
        record.bytes_sent = body.len() as u64;
        self.logs.record(&http.access_log, &record);
        self.close_after_output(key);
    }
}

/// Adds to a record what is known of the connection where there is no stream.
pub(super) fn on_connection<'l>(
    record: Record<'l>,
    listener: &'l ChainEntry,
    [peer, local]: [Option<SocketAddr>; 2],
) -> Record<'l> {
    Record {
        downstream_remote_address: peer,
        downstream_direct_address: peer,
        downstream_local_address: local,
        listener_metadata: Some(&listener.config.metadata),
        filter_chain_name: Some(&listener.name),
        ..record
    }
}

/// Says in the head what the body is; answers the body that is sent.
fn complete<'c>(response: &mut ResponseHead, content: Content<'c>) -> &'c [u8] {
    let has_none = matches!(response.status, 204 | 304);
    let body = if has_none { b"" } else { content.body };
    let length = body.len() as u64;
    response.content_length = (!has_none).then_some(length);
    response.body = BodyLength::None;
    if let Some(content_type) = content.content_type
        && !body.is_empty()
    {
        // One that a mutation has set stays, unless a format has its own.
        if content_type != TEXT || response.headers.get(Name::ContentType).is_none() {
            response.headers.set(b"content-type", content_type.as_bytes());
        }
        response.body = BodyLength::Exact(length);
    }
    body
}

/// The same for a client of gRPC, which wants to know in its own way: there is no body.
fn complete_for_grpc<'c>(
    response: &mut ResponseHead,
    content: Content<'c>,
    details: &str,
) -> &'c [u8] {
    let status: &[u8] = match details {
        _ if details == LocalReply::MAX_DURATION_TIMEOUT.details => b"4",
        _ if details == LocalReply::GRPC_OVER_HTTP1.details => b"12",
        _ => grpc_status(response.status).as_bytes(),
    };
    response.headers.set(b"content-type", b"application/grpc");
    if response.headers.get_name(b"grpc-status").is_none() {
        response.headers.append(b"grpc-status", status);
    }
    let message = match content.content_type {
        // As in Envoy: without the line end of a JSON text.
        Some("application/json") => content.body.trim_ascii_end(),
        _ => content.body,
    };
    if !message.is_empty() {
        response.headers.append(b"grpc-message", &percent_encoded(message));
    }
    response.status = 200;
    response.content_length = Some(0);
    response.body = BodyLength::None;
    b""
}

/// As gRPC writes its messages: what is not printable, and the percent sign, as `%XX`.
fn percent_encoded(text: &[u8]) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b'%' | ..b' ' | b'~'.. => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                encoded.extend_from_slice(&[b'%', high, low]);
            }
            byte => encoded.push(*byte),
        }
    }
    encoded
}

impl Stream {
    /// Whether the request's body is still on its way.
    #[must_use]
    pub fn is_reading_body(&self) -> bool {
        !self.request_complete && self.request_body != BodyLength::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_grpc_are_encoded() {
        assert_eq!(percent_encoded(b"a b%~\n\xff}"), b"a b%25%7E%0A%FF}");
    }
}
