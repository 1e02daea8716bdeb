//! Long bodies of responses: their first bytes come through here, the rest goes from socket to
//! socket inside the kernel.
//!
//! ```text
//!   Off --a long body begins--> Wanted --all before it is sent--> Running --end--> Off
//!    ^                             '--cannot be done--.              '--no pipe--.
//!    '--end of the response-- Refused <---------------+--------------------------'
//! ```
//!
//! A connection whose last response was long asks for the first bytes of the next one only, so that
//! its body is not received before it can be spliced.
//!
//! What it leaves to others: splicing itself (`tidegate-io`).

use super::downstream::Downstream;
use super::upstream::{Codec, Upstream, Work};
use crate::shard::{Shard, StreamKey, UpstreamKey, limits};
use crate::stats::{ClusterStat, HttpStat};
use tidegate_http::BodyLength;
use tidegate_http::h1::Event;
use tidegate_io::{Io, SpliceEnd};

/// Whether the rest of a response passes by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Splice {
    /// It is received and sent.
    #[default]
    Off,
    /// It will be spliced once the client has taken what comes before.
    Wanted,
    /// The kernel moves it.
    Running,
    /// It could not be spliced: as [`Splice::Off`] until the response ends.
    Refused,
}

impl Splice {
    /// Whether nothing is received: the kernel moves it, or will.
    pub(super) fn passes_by(self) -> bool {
        matches!(self, Splice::Wanted | Splice::Running)
    }
}

impl<I: Io> Shard<I> {
    /// Some input of a response was read: decides how the rest of it is to come.
    pub(super) fn expect_rest(&mut self, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let Work::Busy(stream_key) = upstream.work else { return };
        if !upstream.answered || upstream.splice != Splice::Off {
            return;
        }
        let left = upstream.codec.exact_body_left();
        if left >= limits::SPLICE_BYTES_MIN
            && let Some(stream) = self.streams.get(stream_key)
            && is_long(stream.response.body)
            && stream.downstream_http2.is_none()
            && let Some(downstream) = self.downstreams.get(stream.downstream)
            && passes_unchanged(downstream, upstream)
            && stream.grpc_call.is_none()
            // Nothing is done to the body on its way, and nothing else is to be sent meanwhile.
            && stream.response_body == stream.response.body
            && stream.request_complete
            && !upstream.sending
            && upstream.unsent() == 0
        {
            upstream.splice = Splice::Wanted;
            upstream.paused = false;
            self.io.pause(upstream.socket);
            let downstream = stream.downstream;
            self.touch_downstream(downstream);
        } else if upstream.bulk && !upstream.paused {
            self.receive_response(stream_key, key);
        }
    }

    /// The client has taken everything that was sent: the rest follows.
    pub(super) fn start_splice(&mut self, stream_key: StreamKey, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let downstream = self.streams.get(stream_key).map(|stream| stream.downstream);
        let Some(downstream) = downstream.and_then(|key| self.downstreams.get(key)) else { return };
        let left = upstream.codec.exact_body_left();
        let started = left > 0
            && !self.io.is_receiving(upstream.socket)
            && self.io.splice(upstream.socket, downstream.socket, left);
        if started {
            upstream.splice = Splice::Running;
        } else {
            upstream.splice = Splice::Refused;
            self.io.recv(upstream.socket);
        }
    }

    /// The kernel has moved so many bytes of the response.
    pub(super) fn upstream_spliced(
        &mut self,
        key: UpstreamKey,
        bytes: u64,
        end: Option<SpliceEnd>,
    ) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let Work::Busy(stream_key) = upstream.work else { return };
        let Some(stream) = self.streams.get_mut(stream_key) else { return };
        let downstream = stream.downstream;
        stream.bytes_sent += bytes;
        stream.active = self.now.instant;
        if let Codec::Http1(decoder) = &mut upstream.codec {
            decoder.skip_body(bytes);
        }
        upstream.received += bytes;
        if let Some(downstream) = self.downstreams.get_mut(downstream) {
            downstream.sent += bytes;
        }
        let http = stream.listener.http.stats;
        self.stats.add(upstream.cluster.stats, ClusterStat::UpstreamCxRxBytesTotal, bytes);
        self.stats.add(http, HttpStat::DownstreamCxTxBytesTotal, bytes);
        let Some(end) = end else { return };
        upstream.splice = Splice::Off;
        match end {
            SpliceEnd::Complete => {
                if let Codec::Http1(decoder) = &mut upstream.codec {
                    let step = decoder.decode(&[], &mut stream.response);
                    debug_assert!(step.is_ok_and(|step| step.event == Event::End));
                }
                self.response_end(stream_key, key);
            }
            SpliceEnd::Eof | SpliceEnd::RecvFailed(_) => self.upstream_eof(key),
            SpliceEnd::SendFailed(errno) => self.downstream_failed(downstream, errno),
            SpliceEnd::NoPipe => {
                upstream.splice = Splice::Refused;
                self.io.recv(upstream.socket);
            }
        }
    }

    /// Whether the response was one that is spliced.
    pub(super) fn was_long(&self, key: UpstreamKey, stream: StreamKey) -> bool {
        let Some(stream) = self.streams.get(stream) else { return false };
        let downstream = self.downstreams.get(stream.downstream);
        let ends = downstream.zip(self.upstreams.get(key));
        is_long(stream.response.body) && ends.is_some_and(|(to, from)| passes_unchanged(to, from))
    }

    /// The connection is free again: reads on, the first bytes only when the response was long.
    pub(super) fn listen_for_next(&mut self, key: UpstreamKey, was_long: bool) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let was_reading = !upstream.bulk && !upstream.paused && upstream.splice == Splice::Off;
        upstream.bulk = was_long;
        (upstream.paused, upstream.splice) = (false, Splice::Off);
        if upstream.bulk {
            self.io.pause(upstream.socket);
            self.io.recv_some(upstream.socket, limits::BULK_HEAD_BYTES);
        } else if !was_reading {
            self.io.recv(upstream.socket);
        }
    }
}

/// Whether bytes go from one connection to the other as they are: neither speaks TLS.
fn passes_unchanged(downstream: &Downstream, upstream: &Upstream) -> bool {
    !downstream.is_secure && upstream.cluster.tls.is_none()
}

/// Whether splicing such a body pays.
fn is_long(body: BodyLength) -> bool {
    matches!(body, BodyLength::Exact(length) if length >= limits::SPLICE_BODY_BYTES_MIN)
}
