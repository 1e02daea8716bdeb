//! An upstream connection of HTTP/2 in its pool: found there as long as it takes streams.
//!
//! What it leaves to others: what its streams say (`http2_upstream`).

use super::http2::Expired;
use super::upstream::{Codec, End, Upstream, Work};
use crate::shard::{Shard, UpstreamKey};
use crate::stats::{ClusterStat, Http2Stat};
use crate::upstream::PoolId;
use tidegate_io::{Instant, Io};

impl<I: Io> Shard<I> {
    /// The connection may have room: those who wait get it, and it is where the pool finds it.
    pub(super) fn serve_waiting(&mut self, key: UpstreamKey) {
        loop {
            let Some(upstream) = self.upstreams.get_mut(key) else { return };
            let id = upstream.pool;
            let room = upstream.room(self.now.instant);
            let Some(pool) = self.pools.get(id) else { return };
            let Some(stream) = pool.waiting.front().copied().filter(|_| room > 0) else { break };
            let is_upgrade = self.streams.get(stream).is_some_and(|stream| stream.upgrade);
            if is_upgrade && !upstream.http2().is_some_and(|it| it.has_settings()) {
                break;
            }
            self.stop_waiting(stream);
            self.attach(stream, key);
        }
        self.settle_share(key);
    }

    /// Whether the connection that the next request would get has not said yet what it can.
    pub(super) fn is_unknown(&mut self, id: PoolId) -> bool {
        let next =
            self.pools.get(id).and_then(|pool| pool.shared.last().or(pool.idle.last()).copied());
        let upstream = next.and_then(|key| self.upstreams.get_mut(key));
        let connection = upstream.and_then(|upstream| upstream.codec.http2());
        connection.is_some_and(|connection| !connection.has_settings())
    }

    /// The connection takes its place in the pool: by whether it has streams, and room for more.
    pub(super) fn settle_share(&mut self, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let room = upstream.room(self.now.instant);
        let active = upstream.http2().map_or(0, |connection| connection.streams_active());
        let was_idle = upstream.work == Work::Idle;
        let Some(pool) = self.pools.get(upstream.pool) else { return };
        if active == 0 {
            pool.shared.retain(|shared| *shared != key);
            if room == 0 {
                // Nobody is to find it, for as long as the origin allows no stream.
                pool.idle.retain(|idle| *idle != key);
                if !was_idle {
                    upstream.work = Work::Idle;
                    upstream.since = self.now.instant;
                    self.arm_upstream(key);
                }
                self.close_if_finished(key);
            } else if !was_idle || !pool.idle.contains(&key) {
                upstream.work = Work::Idle;
                self.become_idle(key);
            }
            return;
        }
        if was_idle {
            pool.idle.retain(|idle| *idle != key);
        }
        upstream.work = Work::Shared;
        let is_shared = pool.shared.contains(&key);
        match room > 0 {
            true if !is_shared => pool.shared.push(key),
            false if is_shared => pool.shared.retain(|shared| *shared != key),
            _ => {}
        }
    }

    /// The origin broke the protocol: it is told so, and what it still says is not listened to.
    /// Closing at once would take our GOAWAY away from it.
    pub(super) fn part(&mut self, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let (id, cluster) = (upstream.pool, upstream.cluster.clone());
        if let Some(pool) = self.pools.get(id) {
            pool.shared.retain(|shared| *shared != key);
            pool.idle.retain(|idle| *idle != key);
        }
        upstream.work = Work::Parting;
        upstream.finish = true;
        upstream.since = self.now.instant;
        self.touch_upstream(key);
        self.arm_upstream(key);
        self.replace_upstream(id, &cluster);
    }

    /// The origin goes away: no further stream is sent to it.
    pub(super) fn stop_sharing(&mut self, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get(key) else { return };
        self.stats.inc(upstream.cluster.stats, ClusterStat::UpstreamCxCloseNotify);
        self.settle_share(key);
    }

    /// Closes a connection that takes no further stream and has none.
    pub(super) fn close_if_finished(&mut self, key: UpstreamKey) {
        let now = self.now.instant;
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let is_over = matches!(upstream.work, Work::Idle | Work::Shared);
        let active = upstream.http2().map_or(0, |connection| connection.streams_active());
        if !is_over || active > 0 || upstream.room(now) > 0 {
            return;
        }
        let stats = upstream.cluster.stats;
        let config = &upstream.cluster.config;
        if config.max_requests_per_connection.is_some_and(|max| upstream.requests >= max) {
            self.stats.inc(stats, ClusterStat::UpstreamCxMaxRequests);
        } else if upstream.is_aged(now) {
            if !upstream.retired {
                self.stats.inc(stats, ClusterStat::UpstreamCxMaxDurationReached);
            }
        } else if upstream.http2().is_some_and(|connection| !connection.is_finished()) {
            return; // The origin allows no stream, for now.
        }
        self.close_upstream(key);
    }

    /// Time is up for something of a connection that has no streams. False when that is only that
    /// it has been idle for too long.
    pub(super) fn http2_idle_timeout(&mut self, key: UpstreamKey) -> bool {
        let now = self.now.instant;
        let Some(upstream) = self.upstreams.get(key) else { return true };
        let idle = upstream.cluster.config.idle_timeout.map(|timeout| upstream.since + timeout);
        if !upstream.pool.http2 || idle.is_some_and(|at| at <= now) || upstream.is_aged(now) {
            return false;
        }
        self.http2_upstream_timeout(key);
        true
    }

    /// Time is up for something of a connection that has streams.
    pub(super) fn http2_upstream_timeout(&mut self, key: UpstreamKey) {
        let now = self.now.instant;
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let (since, stats) = (upstream.since, upstream.cluster.http2_stats);
        let Codec::Http2(http2) = &mut upstream.codec else { return };
        match http2.wake(since, now) {
            Ok(()) => {}
            Err(Expired::Codec(_)) => return self.http2_upstream_ended(key, End::Protocol),
            Err(Expired::Dead) => {
                if let Some(stats) = stats {
                    self.stats.inc(stats, Http2Stat::KeepaliveTimeout);
                }
                return self.http2_upstream_ended(key, End::Remote);
            }
        }
        self.touch_upstream(key);
        self.settle_share(key);
        self.arm_upstream(key);
    }
}

impl Upstream {
    /// How many streams more it takes.
    pub(super) fn room(&mut self, now: Instant) -> usize {
        let left = match self.cluster.config.max_requests_per_connection {
            Some(max) => max.saturating_sub(self.requests) as usize,
            None => usize::MAX,
        };
        let is_aged = self.is_aged(now);
        let Some(connection) = self.http2() else { return 0 };
        if is_aged { 0 } else { connection.streams_available().min(left) }
    }
}
