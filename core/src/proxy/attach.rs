//! A stream gets its upstream connection: its request begins to go out.
//!
//! What it leaves to others: which connection (`router`, `upstream`, `http2_share`).

use super::encode::write_request;
use super::stream::Phase;
use super::upstream::{Codec, Work};
use crate::access_log::Moment;
use crate::reply::LocalReply;
use crate::shard::{Shard, StreamKey, UpstreamKey, limits};
use crate::snapshot::{Breakers, Permit};
use crate::stats::{ClusterStat, HostStat};
use tidegate_http::Scheme;
use tidegate_io::Io;

impl<I: Io> Shard<I> {
    /// The stream has its connection: the request goes out. Otherwise the connection is still free,
    /// and the stream was answered.
    pub(crate) fn attach(&mut self, stream_key: StreamKey, key: UpstreamKey) -> bool {
        let address = self.upstreams.get(key).map(|upstream| upstream.address);
        if let Some(stream) = self.streams.get_mut(stream_key) {
            stream.upstream_address = address;
        }
        if !self.count_request(stream_key) {
            return false;
        }
        let Some(stream) = self.streams.get(stream_key) else { return false };
        let facts = if stream.measured.is_some() { self.upstream_facts(key) } else { None };
        let Some(upstream) = self.upstreams.get_mut(key) else { return false };
        let Some(stream) = self.streams.get_mut(stream_key) else { return false };
        let is_free = upstream.output.is_none() && !upstream.sending;
        debug_assert!(is_free || upstream.pool.http2, "a free connection is busy");
        if stream.listener.http.config.client_address.match_upstream {
            let is_secure = upstream.cluster.tls.is_some();
            stream.request.scheme = Some(if is_secure { Scheme::Https } else { Scheme::Http });
        }
        match &mut upstream.codec {
            Codec::Http1(decoder) => {
                upstream.work = Work::Busy(stream_key);
                upstream.asked = false;
                decoder.expect(&stream.request);
                upstream.output = Some(match stream.backlog.take() {
                    Some(backlog) => backlog,
                    None => {
                        let mut output = self.io.output();
                        write_request(stream, &upstream.cluster.config, output.tail());
                        output
                    }
                });
            }
            Codec::Http2(http2) => {
                let output = upstream.output.get_or_insert_with(|| self.io.output());
                let queue = &mut self.spare_queues;
                if let Err(refusal) =
                    stream.open_http2(stream_key, http2, queue, upstream.since, output.tail())
                {
                    return self.http2_refused(stream_key, key, refusal);
                }
                upstream.work = Work::Shared;
            }
        }
        upstream.requests += 1;
        stream.phase = Phase::Attached(key);
        stream.attempts.started = true;
        if let Some(measured) = &mut stream.measured {
            let local = self.io.local_address(upstream.socket);
            measured.attached(upstream, local);
            measured.upstream_tls = facts;
            measured.note(Moment::UsTxBeg, self.now.instant - stream.started);
            if stream.request_complete {
                measured.note(Moment::UsTxEnd, self.now.instant - stream.started);
            }
        }
        stream.limits.attached(self.now.instant, stream.request_complete);
        self.attached(stream_key, key);
        true
    }

    /// Counts the stream among the cluster's requests, as far as its circuit breaker lets it; else
    /// it is answered.
    fn count_request(&mut self, key: StreamKey) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return false };
        if stream.counted {
            return true;
        }
        let Some(cluster) = stream.cluster() else { return false };
        let limit = cluster.config.circuit_breakers.default.max_requests;
        if Breakers::acquire(&cluster.breakers.requests, limit) == Permit::Refused {
            self.stats.inc(cluster.stats, ClusterStat::UpstreamRqPendingOverflow);
            self.local_reply(key, LocalReply::OVERFLOW);
            return false;
        }
        stream.counted = true;
        true
    }

    /// What follows from it for either side.
    fn attached(&mut self, stream_key: StreamKey, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let Some(stream) = self.streams.get(stream_key) else { return };
        let (id, stats, host_stats) = (upstream.pool, upstream.cluster.stats, upstream.host_stats);
        let has_limits = stream.limits.deadline(stream.active).is_some();
        let terminates_connect = stream.terminates_connect;
        self.stats.inc(stats, ClusterStat::UpstreamRqTotal);
        self.stats.inc(stats, ClusterStat::UpstreamRqActive);
        self.stats.inc(host_stats, HostStat::RqTotal);
        self.stats.inc(host_stats, HostStat::RqActive);
        self.touch_upstream(key);
        if has_limits {
            self.arm_stream(stream_key);
        }
        if terminates_connect {
            self.accept_connect(stream_key, key);
        }
        if id.http2 {
            if let Some(pool) = self.pools.get(id) {
                pool.streams += 1;
            }
            self.settle_share(key);
        } else if self.small_window(stream_key).is_some()
            && let Some(upstream) = self.upstreams.get_mut(key)
        {
            // The first bytes only, as of a long response.
            self.io.pause(upstream.socket);
            upstream.bulk = true;
            self.io.recv_some(upstream.socket, limits::BULK_HEAD_BYTES);
        }
    }
}
