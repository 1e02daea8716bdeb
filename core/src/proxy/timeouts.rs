//! The timeouts of a downstream connection and of the stream on it.
//!
//! What it leaves to others: how long they are (`config`), when they fire (`shard::timers`).

use super::deadline::earliest;
use super::downstream::{Codec, Life};
use super::retry::Failure;
use super::stream::Stream;
use crate::reply::LocalReply;
use crate::shard::{DownstreamKey, Owner, Shard, StreamKey};
use crate::stats::{ClusterStat, HostStat, HttpStat, ListenerStat};
use tidegate_io::{Instant, Io};

impl<I: Io> Shard<I> {
    pub(crate) fn arm_downstream(&mut self, key: DownstreamKey) {
        let Some(downstream) = self.downstreams.get(key) else { return };
        let mut deadline = downstream.deadline(self.draining_since);
        for stream in downstream.streams() {
            deadline = earliest(deadline, self.streams.get(stream).and_then(Stream::deadline));
        }
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        downstream.alarm.arm(deadline, Owner::Downstream(key).token(), &mut self.timers);
    }

    /// The stream has a new deadline.
    pub(crate) fn arm_stream(&mut self, stream: StreamKey) {
        let Some(stream) = self.streams.get(stream) else { return };
        let key = stream.downstream;
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let deadline = earliest(downstream.deadline(self.draining_since), stream.deadline());
        downstream.alarm.arm(deadline, Owner::Downstream(key).token(), &mut self.timers);
    }

    /// The process drains: an idle connection closes after a while.
    pub(crate) fn drain_downstream(&mut self, key: DownstreamKey) {
        self.start_drain(key);
        self.arm_downstream(key);
    }

    pub(crate) fn downstream_timer(&mut self, key: DownstreamKey) {
        let now = self.now.instant;
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        downstream.alarm.fired();
        // Those whose response is over are not late, whatever the clock says.
        self.end_answered(key);
        let Some(downstream) = self.downstreams.get(key) else { return };
        // Mostly none, which allocates nothing.
        let late: Vec<_> = downstream.streams().filter(|stream| self.is_late(*stream)).collect();
        for stream in late {
            // The end of another may have given it more time.
            if self.is_late(stream) {
                self.stream_timeout(stream);
            }
        }
        let Some(downstream) = self.downstreams.get(key) else { return };
        if downstream.deadline(self.draining_since).is_some_and(|at| at <= now) {
            self.connection_timeout(key);
        }
        self.arm_downstream(key);
    }

    fn is_late(&self, stream: StreamKey) -> bool {
        let deadline = self.streams.get(stream).and_then(Stream::deadline);
        deadline.is_some_and(|at| at <= self.now.instant)
    }

    /// One of the connection's own timeouts ended.
    pub(crate) fn connection_timeout(&mut self, key: DownstreamKey) {
        let now = self.now.instant;
        let Some(downstream) = self.downstreams.get(key) else { return };
        let is_lingering = matches!(downstream.life, Life::Lingering { .. });
        if matches!(downstream.codec, Codec::Http2(_)) && !is_lingering {
            return self.http2_timeout(key);
        }
        let config = downstream.config();
        let http = downstream.listener.http.stats;
        let past = |limit: Option<std::time::Duration>, since: Instant| {
            limit.is_some_and(|limit| since + limit <= now)
        };
        if downstream.handshake_until.is_some() && !is_lingering {
            let stat = ListenerStat::DownstreamCxTransportSocketConnectTimeout;
            self.stats.inc(downstream.listener.stats, stat);
            self.close_downstream(key);
        } else if is_lingering {
            self.stats.inc(http, HttpStat::DownstreamCxDelayedCloseTimeout);
            self.close_downstream(key);
        } else if downstream.stream.is_some() {
            // Only `max_connection_duration` ends while a request is under way: let it finish.
            self.stats.inc(http, HttpStat::DownstreamCxMaxDurationReached);
            if let Some(downstream) = self.downstreams.get_mut(key) {
                downstream.aged = true;
            }
        } else if downstream.is_in_head()
            && past(config.request_headers_timeout, downstream.idle_since)
        {
            self.stats.inc(http, HttpStat::DownstreamRqHeaderTimeout);
            self.reply_without_stream(key, &LocalReply::REQUEST_HEADERS_TIMEOUT, None);
        } else if config.http1_safe_max_connection_duration
            && past(config.max_connection_duration, downstream.accepted)
            && !downstream.aged
        {
            // Closing could cross with a request: the next response says that it is the last.
            self.stats.inc(http, HttpStat::DownstreamCxHttp1SoftDrain);
            if let Some(downstream) = self.downstreams.get_mut(key) {
                downstream.aged = true;
            }
        } else {
            let stat = if past(config.idle_timeout, downstream.idle_since) {
                HttpStat::DownstreamCxIdleTimeout
            } else if past(config.max_connection_duration, downstream.accepted) {
                HttpStat::DownstreamCxMaxDurationReached
            } else {
                HttpStat::DownstreamCxDrainClose
            };
            self.stats.inc(http, stat);
            self.stats.inc(http, HttpStat::DownstreamCxDestroyLocal);
            self.close_downstream(key);
        }
    }

    /// One of the stream's timeouts ended.
    fn stream_timeout(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get(key) else { return };
        if stream.times_out().is_none_or(|at| at > self.now.instant) {
            self.begin_attempt(key);
            return;
        }
        let (mut reply, stat, upstream_stat) = stream.timeout_reply(self.now.instant);
        if let Some(stat) = stat {
            self.stats.inc(stream.listener.http.stats, stat);
        }
        if let (Some(stat), Some(cluster)) = (upstream_stat, stream.cluster()) {
            self.stats.inc(cluster.stats, stat);
        }
        if reply == LocalReply::RESPONSE_TIMEOUT && stream.limits.alt_response {
            reply = LocalReply { status: 204, body: "", ..reply };
        }
        let failure = match upstream_stat.filter(|_| !stream.response_started()) {
            Some(
                ClusterStat::UpstreamRqPerTryTimeout | ClusterStat::UpstreamRqPerTryIdleTimeout,
            ) => Some(Failure::Timeout),
            Some(ClusterStat::UpstreamRqMaxDurationReached) => Some(Failure::Reset),
            _ => None,
        };
        let host = stream.upstream().and_then(|key| self.upstreams.get(key));
        if let (Some(upstream), true) = (host, reply.details.contains("timeout")) {
            self.stats.inc(upstream.host_stats, HostStat::RqTimeout);
        }
        self.reset_upstream(key);
        match failure {
            Some(failure) => self.attempt_failed(key, failure, reply),
            None => self.local_reply(key, reply),
        }
    }
}

impl Stream {
    /// The answer for the timeout that ended, and what counts it.
    fn timeout_reply(&self, now: Instant) -> (LocalReply, Option<HttpStat>, Option<ClusterStat>) {
        let past = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now);
        // The client can be asked for the rest of its request, or cannot.
        let by_client = |reply| match self.request_complete {
            true => reply,
            false => LocalReply { status: 408, ..reply },
        };
        if past(self.response_deadline) {
            (LocalReply::RESPONSE_TIMEOUT, None, Some(ClusterStat::UpstreamRqTimeout))
        } else if past(self.limits.try_end()) {
            (LocalReply::PER_TRY_TIMEOUT, None, Some(ClusterStat::UpstreamRqPerTryTimeout))
        } else if past(self.limits.try_idle_end(self.active)) {
            (LocalReply::PER_TRY_IDLE_TIMEOUT, None, Some(ClusterStat::UpstreamRqPerTryIdleTimeout))
        } else if past(self.limits.upstream_end) {
            let reply = by_client(LocalReply::UPSTREAM_MAX_STREAM_DURATION);
            (reply, None, Some(ClusterStat::UpstreamRqMaxDurationReached))
        } else if past(self.limits.duration) {
            let reply = by_client(LocalReply::MAX_DURATION_TIMEOUT);
            (reply, Some(HttpStat::DownstreamRqMaxDurationReached), None)
        } else if past(self.request_deadline) {
            (LocalReply::REQUEST_TIMEOUT, Some(HttpStat::DownstreamRqTimeout), None)
        } else {
            let reply = by_client(LocalReply::STREAM_IDLE_TIMEOUT);
            (reply, Some(HttpStat::DownstreamRqIdleTimeout), None)
        }
    }
}
