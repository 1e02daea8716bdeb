//! The timeouts of a downstream connection and of the stream on it.
//!
//! What it leaves to others: how long they are (`config`), when they fire (`shard::timers`).

use super::deadline::earliest;
use super::downstream::Life;
use super::stream::Stream;
use crate::reply::LocalReply;
use crate::shard::{DownstreamKey, Owner, Shard};
use crate::stats::HttpStat;
use tidegate_io::{Instant, Io};

impl<I: Io> Shard<I> {
    pub(crate) fn arm_downstream(&mut self, key: DownstreamKey) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let stream = downstream.stream.and_then(|key| self.streams.get(key));
        let deadline =
            earliest(downstream.deadline(self.draining_since), stream.and_then(Stream::deadline));
        downstream.alarm.arm(deadline, Owner::Downstream(key).token(), &mut self.timers);
    }

    /// The process drains: an idle connection closes after a while.
    pub(crate) fn drain_downstream(&mut self, key: DownstreamKey) {
        self.arm_downstream(key);
    }

    pub(crate) fn downstream_timer(&mut self, key: DownstreamKey) {
        let now = self.now.instant;
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        downstream.alarm.fired();
        if let Some(stream) = downstream.stream
            && self.streams.get(stream).and_then(Stream::deadline).is_some_and(|at| at <= now)
        {
            self.stream_timeout(stream);
        }
        let Some(downstream) = self.downstreams.get(key) else { return };
        if downstream.deadline(self.draining_since).is_some_and(|at| at <= now) {
            self.connection_timeout(key);
        }
        self.arm_downstream(key);
    }

    /// One of the connection's own timeouts ended.
    pub(crate) fn connection_timeout(&mut self, key: DownstreamKey) {
        let now = self.now.instant;
        let Some(downstream) = self.downstreams.get(key) else { return };
        let config = downstream.config();
        let http = downstream.listener.http.stats;
        let past = |limit: Option<std::time::Duration>, since: Instant| {
            limit.is_some_and(|limit| since + limit <= now)
        };
        if matches!(downstream.life, Life::Lingering { .. }) {
            self.stats.inc(http, HttpStat::DownstreamCxDelayedCloseTimeout);
            self.close_downstream(key);
        } else if downstream.stream.is_some() {
            // Only `max_connection_duration` ends while a request is under way: let it finish.
            self.stats.inc(http, HttpStat::DownstreamCxMaxDurationReached);
            if let Some(downstream) = self.downstreams.get_mut(key) {
                downstream.aged = true;
            }
        } else if downstream.decoder.is_in_head()
            && past(config.request_headers_timeout, downstream.idle_since)
        {
            self.stats.inc(http, HttpStat::DownstreamRqHeaderTimeout);
            self.reply_without_stream(key, &LocalReply::REQUEST_HEADERS_TIMEOUT);
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
}
