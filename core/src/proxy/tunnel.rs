//! After 101: bytes pass unread both ways, and so does each side's FIN.
//!
//! What it leaves to others: back-pressure (`flow`), timeouts (`stream_idle_timeout` goes on).

use crate::shard::{Shard, StreamKey};
use crate::stats::HttpStat;
use tidegate_io::{Buffer, Io};

impl<I: Io> Shard<I> {
    /// The upgrade was accepted and its 101 is on its way downstream.
    pub(crate) fn begin_tunnel(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.tunnel = true;
        stream.request_complete = true;
        let (http, downstream) = (stream.listener.http.stats, stream.downstream);
        let upstream = stream.upstream();
        self.stats.inc(http, HttpStat::DownstreamCxUpgradesTotal);
        self.stats.inc(http, HttpStat::DownstreamCxUpgradesActive);
        // What the client sent behind its request was held until now, and if that was much, its
        // client is not read from any more.
        self.touch_downstream(downstream);
        if let Some(upstream) = upstream {
            self.touch_upstream(upstream);
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
        let upstream = stream.upstream().and_then(|key| self.upstreams.get(key));
        let busy = downstream.is_some_and(|d| d.sending || d.finish || d.unsent() > 0)
            || upstream.is_some_and(|u| u.sending || u.finish || u.unsent() > 0);
        if busy {
            return;
        }
        let downstream = stream.downstream;
        self.detach(key);
        self.close_downstream(downstream);
    }
}
