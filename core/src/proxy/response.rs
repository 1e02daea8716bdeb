//! The response's way from the upstream to the client.
//!
//! What it leaves to others: the connections at both ends (`upstream`, `downstream`).

use super::downstream::{Codec, Downstream};
use super::encode::write_response;
use super::measure::field_lines_size;
use super::mutate::prepare_response;
use super::request_id;
use super::stream::Phase;
use crate::access_log::Moment;
use crate::reply::ResponseFlags;
use crate::sabotage::Sabotage;
use crate::shard::{Shard, StreamKey, UpstreamKey, limits};
use tidegate_http::h1::{
    encode_chunk_end, encode_chunk_start, encode_last_chunk, strip_hop_by_hop,
};
use tidegate_http::h2::Ending;
use tidegate_http::{BodyLength, Name};
use tidegate_io::{Buffer, Io};

impl<I: Io> Shard<I> {
    /// The final response head is in `stream.response`: it goes downstream.
    pub(crate) fn response_head(&mut self, key: StreamKey, upstream: UpstreamKey) {
        self.came += 1;
        let Some(stream) = self.streams.get(key) else { return };
        let (follows_redirects, upgrade) = (stream.attempts.follows_redirects, stream.upgrade);
        if stream.attempts.retries.is_some() && self.retry_response(key, upstream)
            || follows_redirects && self.follow_redirect(key, upstream)
            || upgrade && self.fail_handshake(key)
        {
            return;
        }
        let last = self.is_last_response(key);
        let Some(stream) = self.streams.get_mut(key) else { return };
        let now = self.now.instant;
        stream.measure_response(now);
        let received = stream.request_received;
        stream.active = now;
        stream.end_attempts();
        stream.limits.per_try_timeout = None;
        stream.phase = Phase::Responding(upstream);
        stream.status = stream.response.status;
        stream.details = "via_upstream";
        // 101, or 2xx to CONNECT: what follows is another protocol's, without an end to wait for.
        let upgraded = stream.response.body == BodyLength::Tunnel;
        if upgraded {
            stream.response_deadline = None;
        }
        // As in Envoy: an answer to a request that is still on its way has no service time.
        let is_whole = stream.request_complete && !stream.upgrade;
        let service_ms = received.map(|received| (now - received).as_millis() as u64);
        let shown_ms = service_ms.filter(|_| is_whole);
        stream.upstream_service_ms = shown_ms;
        let is_changed = stream.changes_responses;
        if is_changed {
            self.finalize_response(key, shown_ms);
        }
        let Some(stream) = self.streams.get_mut(key) else { return };
        let config = &stream.listener.http.config;
        let date = self.date.as_bytes();
        let id = request_id::of_response(&stream.request.headers, config, stream.internal);
        let added_ms = shown_ms.filter(|_| !is_changed);
        prepare_response(&mut stream.response, id, config, upgraded, added_ms, date);
        stream.add_proxy_status();
        // An upstream's body that ends with its connection gets chunks, so that the client's
        // connection stays.
        stream.response_body = match stream.response.body {
            BodyLength::UntilClose | BodyLength::Chunked if !stream.is_http_10() => {
                BodyLength::Chunked
            }
            BodyLength::Chunked => BodyLength::UntilClose,
            body => body,
        };
        let close = !upgraded && (last || stream.response_body == BodyLength::UntilClose);
        stream.request.close = close;
        let status = stream.status;
        if let Some(call) = &stream.grpc_call {
            call.charge_status(&self.stats, &stream.response.headers);
        }
        self.encode_response_head(key, close);
        self.charge_code(key, status);
    }

    /// Writes `stream.response` to the downstream connection.
    pub(crate) fn encode_response_head(&mut self, key: StreamKey, close: bool) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let downstream_key = stream.downstream;
        let Some(downstream) = self.downstreams.get_mut(downstream_key) else { return };
        // A client of HTTP/1.0 takes a connection for closed unless it is told (RFC 9112 9.3).
        if stream.is_http_10() && !close && stream.response.status >= 200 {
            stream.response.headers.append_known(Name::Connection, b"connection", b"keep-alive");
        }
        let output = downstream.output.get_or_insert_with(|| self.io.output());
        let head = output.tail();
        if let Some(name) = stream.http2_name() {
            let body = stream.response_body;
            let end_stream = body == BodyLength::None && stream.response.status >= 200;
            if let Codec::Http2(http2) = &mut downstream.codec {
                http2.connection.write_control(head);
                let start = head.len();
                http2.connection.send_response(name, &stream.response, body, end_stream, head);
                stream.note_http2_head((head.len() - start) as u64);
                http2.headed.extend(end_stream.then_some(key));
            }
            stream.note(Moment::DsTxBeg, self.now.instant);
            return self.touch_downstream(downstream_key);
        }
        // A response of our own has no names that were received.
        let upstream = match stream.response.headers.received_names().next() {
            Some(_) => stream.cluster().map(|cluster| cluster.config.http1.header_key_format),
            None => None,
        };
        let config = &stream.http().config;
        let body = stream.response_body;
        let start = head.len();
        write_response(&stream.response, body, close, config, upstream, head);
        stream.note_response_head(field_lines_size(&head[start..]), self.now.instant);
        self.touch_downstream(downstream_key);
    }

    /// An interim response: forwarded, except a 100 that the proxy has sent itself, and to HTTP/1.0
    /// clients (RFC 9110 15.2).
    pub(crate) fn interim_response(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.active = self.now.instant;
        let proxies_100 = stream.listener.http.config.proxy_100_continue;
        // A client that takes nothing must not be made to hold them for.
        let unsent = self.downstreams.get(stream.downstream).map_or(0, Downstream::unsent);
        if stream.response.status == 100 && !proxies_100
            || stream.is_http_10()
            || unsent > limits::OUTPUT_BYTES_LOW
        {
            return;
        }
        // The client has heard of this attempt; another one might have another thing to say.
        stream.end_attempts();
        strip_hop_by_hop(&mut stream.response.headers, false);
        stream.response_body = BodyLength::None;
        let status = stream.response.status;
        self.encode_response_head(key, false);
        self.charge_code(key, status);
    }

    /// Body bytes of the response.
    pub(crate) fn response_data(&mut self, key: StreamKey, data: Buffer) {
        let data = match Sabotage::SkipBodyByte.strikes() && data.len() > 1 {
            true => data.slice(1..data.len()),
            false => data,
        };
        let Some(stream) = self.streams.get_mut(key) else { return };
        let downstream_key = stream.downstream;
        let Some(downstream) = self.downstreams.get_mut(downstream_key) else { return };
        stream.bytes_sent += data.len() as u64;
        stream.active = self.now.instant;
        stream.count_grpc_response(&self.stats, &data);
        if let Some(http2) = &mut stream.downstream_http2 {
            if let (Some(name), Some(connection)) = (http2.key, downstream.codec.http2()) {
                connection.queue_data(name, data.len(), Ending::Open);
                let window = connection.send_window(name);
                let is_stuck = downstream.unsent() >= limits::OUTPUT_BYTES_HIGH;
                http2.push(data, if is_stuck { 0 } else { window });
            }
            self.touch_downstream(downstream_key);
            return self.pause_upstream(key);
        }
        let output = downstream.output.get_or_insert_with(|| self.io.output());
        if stream.response_body == BodyLength::Chunked {
            encode_chunk_start(data.len(), output.tail());
            output.push(data);
            encode_chunk_end(output.tail());
        } else {
            output.push(data);
        }
        self.touch_downstream(downstream_key);
        self.pause_upstream(key);
    }

    /// The response is complete: the upstream is free, and the exchange over if the request is
    /// complete too.
    pub(crate) fn response_end(&mut self, key: StreamKey, upstream: UpstreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.response_body == BodyLength::Chunked
            && stream.downstream_http2.is_none()
            && let Some(downstream) = self.downstreams.get_mut(stream.downstream)
        {
            let output = downstream.output.get_or_insert_with(|| self.io.output());
            let enabled = stream.listener.http.config.http1.enable_trailers;
            let trailers = stream.response_trailers.as_deref().filter(|_| enabled);
            encode_last_chunk(trailers, output.tail());
        }
        stream.note(Moment::UsRxEnd, self.now.instant);
        stream.charge_grpc_end(&self.stats, self.now.instant);
        stream.phase = Phase::Answered;
        stream.response_deadline = None;
        stream.limits.detached();
        self.charge_time(key);
        self.finish_upstream(upstream, key);
        self.end_response(key);
    }

    /// Everything of the response is on its way downstream.
    pub(crate) fn end_response(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let downstream = stream.downstream;
        stream.note(Moment::DsTxEnd, self.now.instant);
        stream.idle_timeout = stream.listener.http.config.stream_idle_timeout;
        if stream.downstream_http2.is_some() {
            return self.end_http2_response(key);
        }
        // A body that nobody reads any more: the connection cannot be used for another request.
        let close = stream.request.close
            || !stream.request_complete && stream.request_body != BodyLength::None;
        let complete = stream.request_complete;
        if close {
            // Without a body it is complete, also when its end is not read any more.
            stream.request_complete |= stream.request_body == BodyLength::None;
            self.close_after_output(downstream);
        } else {
            self.touch_downstream(downstream);
        }
        // What is left of a request whose connection closes is not waited for.
        if complete || close {
            self.end_exchange(key);
        }
    }

    /// The response cannot be completed: the client must notice.
    pub(crate) fn cut_off(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        // A response without its end is no HTTP, whichever way it ended: so Envoy puts it.
        stream.flags.insert(ResponseFlags::UPSTREAM_PROTOCOL_ERROR);
        stream.details = "upstream_reset_after_response_started{protocol_error}";
        self.break_response(key);
    }

    /// The same, with flags and details that are set already.
    pub(super) fn break_response(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get(key) else { return };
        let downstream = stream.downstream;
        match stream.response_body {
            _ if stream.downstream_http2.is_some() => self.abort_http2_stream(key),
            BodyLength::Exact(_) | BodyLength::Chunked => self.break_off(key),
            // It would look whole.
            _ => self.abort_downstream(downstream),
        }
    }
}
