//! Reading an upstream connection of HTTP/1: the response to the one request that it carries.
//!
//! What it leaves to others: what becomes of the response (`response`), the connection's life
//! (`upstream`).

use super::upstream::{Codec, End, Work};
use crate::shard::{Shard, UpstreamKey};
use crate::stats::ClusterStat;
use tidegate_http::h1::Event;
use tidegate_io::{Buffer, Errno, Io};

impl<I: Io> Shard<I> {
    pub(super) fn upstream_received(&mut self, key: UpstreamKey, buffer: &Buffer) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let stats = upstream.cluster.stats;
        self.stats.add(stats, ClusterStat::UpstreamCxRxBytesTotal, buffer.len() as u64);
        upstream.received += buffer.len() as u64;
        if let Work::Busy(stream) = upstream.work
            && !upstream.asked
            && self.streams.get(stream).is_some_and(|stream| !stream.tunnel)
        {
            // Older than the request, so no answer to it: the connection is of no use to it.
            self.stats.inc(stats, ClusterStat::UpstreamCxProtocolError);
            self.upstream_ended(key, End::Remote);
            return;
        }
        upstream.answered = true;
        self.read_upstream(key, buffer);
        self.expect_rest(key);
    }

    /// Decodes input to its end.
    pub(super) fn read_upstream(&mut self, key: UpstreamKey, buffer: &Buffer) {
        let mut at = 0;
        while let Some(upstream) = self.upstreams.get_mut(key) {
            let Work::Busy(stream_key) = upstream.work else {
                if upstream.work == Work::Draining {
                    self.drain_upstream(key, &buffer[at..]);
                } else if at < buffer.len() {
                    // Nobody asked: it could be taken for the next answer (RFC 9112 6.3).
                    self.upstream_ended(key, End::Protocol);
                }
                return;
            };
            let Some(stream) = self.streams.get_mut(stream_key) else { return };
            if stream.tunnel {
                self.tunnel_downstream(stream_key, buffer.slice(at..buffer.len()));
                return;
            }
            let Codec::Http1(decoder) = &mut upstream.codec else { return };
            let Ok(step) = decoder.decode(&buffer[at..], &mut stream.response) else {
                self.upstream_ended(key, End::Protocol);
                return;
            };
            match step.event {
                Event::NeedMore => return,
                Event::Head => self.response_head(stream_key, key),
                Event::InterimHead => self.interim_response(stream_key),
                Event::Data(range) => {
                    let data = buffer.slice(at + range.start..at + range.end);
                    self.response_data(stream_key, data);
                }
                Event::Trailers => {
                    stream.response_trailers = decoder.trailers().cloned().map(Box::new);
                }
                Event::Tunnel => self.begin_tunnel(stream_key),
                Event::End => {
                    // What follows must not answer who waits for the connection.
                    if at + step.consumed < buffer.len() {
                        stream.response.close = true;
                        let stats = upstream.cluster.stats;
                        self.stats.inc(stats, ClusterStat::UpstreamCxProtocolError);
                    }
                    self.response_end(stream_key, key);
                }
            }
            at += step.consumed;
        }
    }

    pub(super) fn upstream_eof(&mut self, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        if let Work::Busy(stream_key) = upstream.work {
            if self.streams.get(stream_key).is_some_and(|stream| stream.tunnel) {
                if upstream.broken {
                    self.upstream_ended(key, End::Remote);
                } else {
                    self.tunnel_finished_upstream(stream_key);
                }
                return;
            }
            if upstream.codec.http1().is_some_and(|decoder| decoder.eof() == Ok(Event::End)) {
                if let Some(stream) = self.streams.get_mut(stream_key) {
                    stream.response.close = true;
                }
                self.response_end(stream_key, key);
                return;
            }
        }
        self.upstream_ended(key, End::Remote);
    }

    /// The peer takes no more, but may have answered before it closed: what it sent is still read,
    /// up to its end.
    pub(super) fn upstream_send_failed(&mut self, key: UpstreamKey, errno: Errno) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        upstream.sending = false;
        let may_answer = match upstream.work {
            // Not a tunnel whose upstream has sent its FIN: nothing follows that.
            Work::Busy(stream) => self.streams.get(stream).is_some_and(|it| !it.finished[1]),
            _ => true,
        };
        if matches!(errno.0, libc::EPIPE | libc::ECONNRESET) && !upstream.paused && may_answer {
            upstream.broken = true;
            upstream.output = None;
        } else {
            self.upstream_ended(key, End::Remote);
        }
    }
}
