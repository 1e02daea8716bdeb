//! A connection comes to rest: what gathered in a turn goes out at its end.
//!
//! What it leaves to others: what is written to an output.

use super::downstream::{Codec, Life};
use super::upstream::Work;
use crate::shard::{DownstreamKey, Shard, UpstreamKey};
use crate::stats::{ClusterStat, HttpStat};
use tidegate_io::Io;

impl<I: Io> Shard<I> {
    pub(crate) fn touch_downstream(&mut self, key: DownstreamKey) {
        if let Some(downstream) = self.downstreams.get_mut(key)
            && !downstream.touched
        {
            downstream.touched = true;
            self.touched_downstreams.push(key);
        }
    }

    pub(crate) fn touch_upstream(&mut self, key: UpstreamKey) {
        if let Some(upstream) = self.upstreams.get_mut(key)
            && !upstream.touched
        {
            upstream.touched = true;
            self.touched_upstreams.push(key);
        }
    }

    /// Sends what is to be sent, closes what is to be closed, reads on where that is possible
    /// again.
    pub(crate) fn settle_downstream(&mut self, key: DownstreamKey) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        downstream.touched = false;
        if !downstream.sending && matches!(downstream.codec, Codec::Http2(_)) {
            self.settle_http2(key);
        }
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        if !downstream.sending
            && let Some(output) = downstream.output.take_if(|output| !output.is_empty())
        {
            let http = downstream.listener.http.stats;
            self.stats.add(http, HttpStat::DownstreamCxTxBytesTotal, output.len() as u64);
            downstream.sent += output.len() as u64;
            downstream.sending = true;
            if let Some(connection) = downstream.codec.http2() {
                connection.handle_sending();
            }
            if downstream.life == Life::Closing {
                self.io.send_last(downstream.socket, output);
            } else {
                self.io.send(downstream.socket, output);
            }
        }
        if downstream.sending {
            return;
        }
        if downstream.finish {
            downstream.finish = false;
            self.io.shutdown_write(downstream.socket);
        }
        if let Some(stream) = downstream.stream {
            self.end_tunnel(stream);
            self.resume_upstream(stream);
        }
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        match downstream.life {
            Life::Closing => self.linger(key),
            Life::Open if !downstream.held.is_empty() || downstream.paused || downstream.eof => {
                self.read_held(key);
            }
            _ => {}
        }
    }

    pub(crate) fn settle_upstream(&mut self, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        upstream.touched = false;
        if upstream.broken {
            upstream.output = None;
        }
        if !upstream.sending && upstream.pool.http2 && !upstream.broken {
            self.fill_upstream(key);
        }
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        if !upstream.sending
            && let Some(output) = upstream.output.take_if(|output| !output.is_empty())
        {
            let stats = upstream.cluster.stats;
            self.stats.add(stats, ClusterStat::UpstreamCxTxBytesTotal, output.len() as u64);
            upstream.sent += output.len() as u64;
            upstream.sending = true;
            upstream.asked = true;
            if let Some(connection) = upstream.codec.http2() {
                connection.handle_sending();
            }
            self.io.send(upstream.socket, output);
        }
        if upstream.sending {
            return;
        }
        if upstream.finish {
            upstream.finish = false;
            self.io.shutdown_write(upstream.socket);
        }
        if let Work::Busy(stream) = upstream.work {
            self.end_tunnel(stream);
        }
        self.resume_downstream(key);
    }
}
