//! The request's body on its way up, and back-pressure both ways: who is too far ahead is not read
//! from.
//!
//! What it leaves to others: how a socket stops and starts to be read (`tidegate-io`).

use super::splice::Splice;
use super::stream::{Phase, Stream};
use crate::sabotage::Sabotage;
use crate::shard::{DownstreamKey, Shard, StreamKey, UpstreamKey, limits};
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
        if stream.request_body == BodyLength::Chunked
            && let Some(output) = self.request_output(key)
        {
            encode_last_chunk(None, output.tail());
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
        let Some(stream) = self.streams.get(key) else { return };
        let Some(downstream) = self.downstreams.get_mut(stream.downstream) else { return };
        if !downstream.paused {
            downstream.paused = true;
            self.io.pause(downstream.socket);
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
        let Some(stream) = self.streams.get(stream) else { return };
        let Some(downstream) = self.downstreams.get_mut(stream.downstream) else { return };
        if Sabotage::NeverResume.strikes() {
            return;
        }
        if downstream.paused && (stream.tunnel || !stream.request_complete) {
            downstream.paused = false;
            self.io.recv(downstream.socket);
            let http = downstream.listener.http.stats;
            let stat = crate::stats::HttpStat::DownstreamFlowControlResumedReadingTotal;
            self.stats.inc(http, stat);
        }
    }

    /// The response may be ahead of the client: then its upstream is not read from for now.
    pub(crate) fn pause_upstream(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get(key) else { return };
        let Some(downstream) = self.downstreams.get(stream.downstream) else { return };
        if downstream.unsent() <= limits::OUTPUT_BYTES_HIGH {
            return;
        }
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
    pub(crate) fn resume_upstream(&mut self, key: DownstreamKey) {
        let Some(downstream) = self.downstreams.get(key) else { return };
        if downstream.unsent() > limits::OUTPUT_BYTES_LOW {
            return;
        }
        let Some(stream_key) = downstream.stream else { return };
        let Some(upstream_key) = self.streams.get(stream_key).and_then(Stream::upstream) else {
            return;
        };
        let Some(upstream) = self.upstreams.get_mut(upstream_key) else { return };
        if upstream.splice == Splice::Wanted {
            self.start_splice(stream_key, upstream_key);
        } else if upstream.paused {
            upstream.paused = false;
            self.io.recv(upstream.socket);
            let stat = crate::stats::ClusterStat::UpstreamFlowControlResumedReadingTotal;
            self.stats.inc(upstream.cluster.stats, stat);
        }
    }
}
