//! Measuring a stream: only where a format asks for it (`HttpEntry::measures`).
//!
//! What it leaves to others: what is done with it (`access_log`).

use super::downstream::Downstream;
use super::http2::Http2Stream;
use super::stream::Stream;
use super::upstream::Upstream;
use crate::access_log::{Measured, Moment, WireCount};
use crate::shard::Shard;
use std::net::SocketAddr;
use std::time::Duration;
use tidegate_http::{Headers, RequestHead};
use tidegate_io::{Instant, Io};

impl<I: Io> Shard<I> {
    /// The stream is over, and its connection still there.
    pub(super) fn end_measuring(&mut self, stream: &mut Stream) {
        let Some(measured) = &mut stream.measured else { return };
        if let Some(http2) = &stream.downstream_http2 {
            measured.downstream = http2.wire;
            return;
        }
        let Some(downstream) = self.downstreams.get(stream.downstream) else { return };
        measured.downstream.received = downstream.request_bytes;
        measured.downstream.sent = downstream.written() - measured.downstream.sent;
    }
}

impl Stream {
    /// Takes note that it is `now` that this happens.
    pub(super) fn note(&mut self, moment: Moment, now: Instant) {
        if let Some(measured) = &mut self.measured {
            measured.note(moment, now - self.started);
        }
    }

    /// The response's head goes out, in so many bytes.
    pub(super) fn note_response_head(&mut self, bytes: u64, now: Instant) {
        if let Some(measured) = &mut self.measured {
            measured.downstream.header_sent = bytes;
            measured.note(Moment::DsTxBeg, now - self.started);
        }
    }

    /// The response's head goes out in so many bytes of HTTP/2.
    pub(super) fn note_http2_head(&mut self, bytes: u64) {
        if let Some(http2) = &mut self.downstream_http2 {
            http2.wire.sent += bytes;
            http2.wire.header_sent = bytes;
        }
    }

    /// The response's head has come, and is as it was received.
    pub(super) fn measure_response(&mut self, now: Instant) {
        if let Some(measured) = &mut self.measured {
            measured.upstream.header_received = received_size(&self.response.headers);
            measured.note(Moment::UsRxBeg, now - self.started);
        }
    }
}

impl Measured {
    /// A stream begins: its request's head has come, and is as it was received.
    pub(super) fn begin(request: &RequestHead, downstream: &Downstream) -> Box<Measured> {
        let mut measured = Box::<Measured>::default();
        measured.downstream.header_received = received_size(&request.headers);
        // Until the end this is what was sent before.
        measured.downstream.sent = downstream.written();
        measured.note(Moment::DsRxBeg, Duration::ZERO);
        measured
    }

    /// The request is about to go out on this connection; until `detached` the counts are those
    /// of what went before.
    pub(super) fn attached(&mut self, upstream: &Upstream, local: Option<SocketAddr>) {
        let before = upstream.output.as_ref().map_or(0, tidegate_io::Output::len) as u64;
        self.upstream_local_address = local;
        self.upstream = WireCount {
            received: upstream.received,
            sent: upstream.written() - before,
            header_received: 0,
            header_sent: self.head,
        };
    }

    /// The exchange on this connection is over.
    pub(super) fn detached(&mut self, upstream: &Upstream, http2: Option<&Http2Stream>) {
        if let Some(http2) = http2 {
            self.upstream = http2.wire;
            return;
        }
        self.upstream.received = upstream.received - self.upstream.received;
        self.upstream.sent = upstream.written() - self.upstream.sent;
    }
}

impl Downstream {
    /// Bytes that were written to it, sent or not.
    fn written(&self) -> u64 {
        self.sent + self.unsent() as u64
    }
}

impl Upstream {
    /// Bytes that were written to it, sent or not.
    fn written(&self) -> u64 {
        self.sent + self.unsent() as u64
    }
}

/// The field lines of a head as Envoy counts them: without the start line and the empty line.
pub(super) fn field_lines_size(head: &[u8]) -> u64 {
    let start = memchr::memchr(b'\n', head).map_or(0, |end| end + 1);
    (head.len() - start).saturating_sub(2) as u64
}

/// The same of a head that was received, of which the white space around values is gone.
fn received_size(headers: &Headers) -> u64 {
    let line = |(name, value): (&[u8], &[u8])| name.len() + value.len() + ":\r\n".len();
    headers.iter().map(line).sum::<usize>() as u64
}
