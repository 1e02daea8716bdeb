//! The request's body on its way up, and back-pressure both ways: who is too far ahead is not read
//! from.
//!
//! What it leaves to others: how a socket stops and starts to be read (`tidegate-io`).

use super::splice::Splice;
use super::stream::Phase;
use crate::sabotage::Sabotage;
use crate::shard::{Shard, StreamKey, UpstreamKey, limits};
use tidegate_http::BodyLength;
use tidegate_http::h1::{encode_chunk_end, encode_chunk_start, encode_last_chunk};
use tidegate_io::{Buffer, Io, Output};

impl<I: Io> Shard<I> {
    /// Body bytes of the request: to the connection, or to the backlog while there is none.
    pub(crate) fn send_request_data(&mut self, key: StreamKey, data: Buffer) {
        let Some(stream) = self.streams.get(key) else { return };
        if stream.attempts.retries.is_some() && !self.keep_body(key, &data) {
            return;
        }
        let Some(stream) = self.streams.get(key) else { return };
        let chunked = stream.request_body == BodyLength::Chunked;
        let waiting = stream.upstream().is_none();
        if stream.upstream_http2.is_some() {
            let data = if waiting { Buffer::copy_from(&data) } else { data };
            return self.send_http2_request(key, data);
        }
        let Some(output) = self.request_output(key) else { return };
        if chunked {
            encode_chunk_start(data.len(), output.tail());
        }
        if waiting {
            // A copy: who waits for a connection must not hold the buffers that would free one.
            output.tail().extend_from_slice(&data);
        } else {
            output.push(data);
        }
        if chunked {
            encode_chunk_end(output.tail());
        }
        let unsent = output.len();
        if unsent > limits::OUTPUT_BYTES_HIGH {
            self.pause_downstream(key);
        }
    }

    /// The request is complete.
    pub(crate) fn send_request_end(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get(key) else { return };
        if matches!(stream.phase, Phase::BackingOff(_)) {
            return;
        }
        if stream.upstream_http2.is_some() {
            self.end_http2_request(key);
        } else if stream.request_body == BodyLength::Chunked {
            self.write_last_chunk(key);
        }
    }

    /// The end of a request's body in chunks, with its trailers where they are enabled.
    pub(super) fn write_last_chunk(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let enabled = stream.cluster().is_some_and(|entry| entry.config.http1.enable_trailers);
        let trailers = stream.request_trailers.take();
        if let Some(output) = self.request_output(key) {
            encode_last_chunk(trailers.as_deref().filter(|_| enabled), output.tail());
        }
        if let Some(stream) = self.streams.get_mut(key) {
            // Another attempt needs them, too.
            stream.request_trailers = trailers;
        }
    }

    /// Where the request's bytes go; touches the connection.
    pub(super) fn request_output(&mut self, key: StreamKey) -> Option<&mut Output> {
        if let Some(upstream_key) = self.streams.get(key)?.upstream() {
            self.touch_upstream(upstream_key);
            let upstream = self.upstreams.get_mut(upstream_key)?;
            return Some(upstream.output.get_or_insert_with(|| self.io.output()));
        }
        let stream = self.streams.get_mut(key)?;
        Some(stream.backlog.get_or_insert_with(|| self.io.output()))
    }

    /// The request is ahead of the upstream: its client is not read from for now.
    pub(crate) fn pause_downstream(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(downstream) = self.downstreams.get_mut(stream.downstream) else { return };
        let paused = match &mut stream.downstream_http2 {
            Some(http2) => &mut http2.paused,
            None => &mut downstream.paused,
        };
        if !std::mem::replace(paused, true) {
            if stream.downstream_http2.is_none() {
                self.io.pause(downstream.socket);
            }
            let http = downstream.listener.http.stats;
            let stat = crate::stats::HttpStat::DownstreamFlowControlPausedReadingTotal;
            self.stats.inc(http, stat);
        }
    }

    /// The upstream took what it was given: its client may be read from again.
    pub(crate) fn resume_downstream(&mut self, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get(key) else { return };
        let super::upstream::Work::Busy(stream) = upstream.work else { return };
        if upstream.unsent() > limits::OUTPUT_BYTES_LOW {
            return;
        }
        self.resume_request(stream);
    }

    /// There is room for more of the request.
    pub(super) fn resume_request(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get(key) else { return };
        let Some(downstream) = self.downstreams.get_mut(stream.downstream) else { return };
        if Sabotage::NeverResume.strikes() {
            return;
        }
        let paused = match &stream.downstream_http2 {
            Some(http2) => http2.paused,
            None => downstream.paused,
        };
        if paused && (stream.tunnel || !stream.request_complete) {
            let http = downstream.listener.http.stats;
            if stream.downstream_http2.is_some() {
                self.resume_http2_request(key);
            } else {
                downstream.paused = false;
                self.io.recv(downstream.socket);
            }
            let stat = crate::stats::HttpStat::DownstreamFlowControlResumedReadingTotal;
            self.stats.inc(http, stat);
        }
    }

    /// The response may be ahead of the client: then its upstream is not read from for now.
    pub(crate) fn pause_upstream(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get(key) else { return };
        let Some(downstream) = self.downstreams.get(stream.downstream) else { return };
        let is_ahead = match (&stream.downstream_http2, downstream.codec.as_http2()) {
            (Some(_), Some(_)) if Sabotage::HoldEverything.strikes() => false,
            (Some(http2), Some(connection)) => {
                let is_stuck = downstream.unsent() >= limits::OUTPUT_BYTES_HIGH;
                let name = http2.key.filter(|_| !is_stuck);
                let window = name.map_or(0, |name| connection.send_window(name));
                http2.queued > window.clamp(limits::HTTP2_BLOCKED_BYTES, limits::OUTPUT_BYTES_HIGH)
            }
            _ => downstream.unsent() > limits::OUTPUT_BYTES_HIGH,
        };
        if !is_ahead {
            return;
        }
        if let Some(stream) = self.streams.get_mut(key)
            && let Some(http2) = &mut stream.upstream_http2
        {
            http2.paused = true;
            return;
        }
        let Some(stream) = self.streams.get(key) else { return };
        let Some(upstream) = stream.upstream().and_then(|key| self.upstreams.get_mut(key)) else {
            return;
        };
        if !upstream.paused && !upstream.splice.passes_by() {
            upstream.paused = true;
            self.io.pause(upstream.socket);
            let stat = crate::stats::ClusterStat::UpstreamFlowControlPausedReadingTotal;
            self.stats.inc(upstream.cluster.stats, stat);
        }
    }

    /// The client took what it was given: its upstream may be read from again.
    pub(crate) fn resume_upstream(&mut self, stream_key: StreamKey) {
        let Some(stream) = self.streams.get(stream_key) else { return };
        let is_ahead = match &stream.downstream_http2 {
            Some(http2) => http2.queued > limits::HTTP2_BLOCKED_BYTES,
            None => self
                .downstreams
                .get(stream.downstream)
                .is_some_and(|downstream| downstream.unsent() > limits::OUTPUT_BYTES_LOW),
        };
        let Some(upstream_key) = stream.upstream().filter(|_| !is_ahead) else { return };
        if stream.upstream_http2.as_ref().is_some_and(|http2| http2.paused) {
            return self.resume_http2_response(stream_key, upstream_key);
        }
        let Some(upstream) = self.upstreams.get_mut(upstream_key) else { return };
        if upstream.splice == Splice::Wanted {
            self.start_splice(stream_key, upstream_key);
        } else if upstream.paused {
            upstream.paused = false;
            let stat = crate::stats::ClusterStat::UpstreamFlowControlResumedReadingTotal;
            self.stats.inc(upstream.cluster.stats, stat);
            self.receive_response(stream_key, upstream_key);
        }
    }

    /// More of the response may come, on HTTP/1: only as much as the client can take, if its window
    /// is small.
    pub(super) fn receive_response(&mut self, stream_key: StreamKey, key: UpstreamKey) {
        let small_window = self.small_window(stream_key);
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        match small_window {
            Some(window) => {
                upstream.bulk = true;
                self.io.recv_some(upstream.socket, limits::BULK_HEAD_BYTES.max(window as u32));
            }
            None => self.io.recv(upstream.socket),
        }
    }

    /// The window of a client of HTTP/2, if it is small.
    pub(super) fn small_window(&self, stream_key: StreamKey) -> Option<usize> {
        let stream = self.streams.get(stream_key)?;
        let name = stream.http2_name()?;
        let connection = self.downstreams.get(stream.downstream)?.codec.as_http2()?;
        let window = connection.send_window(name);
        (window < limits::HTTP2_WINDOW_SMALL).then_some(window)
    }
}
