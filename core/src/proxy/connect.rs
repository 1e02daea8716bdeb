//! Making upstream connections, those who wait for them, and how long they may take or last.
//!
//! What it leaves to others: who gets a connection that is free (`upstream`).

use super::codec;
use super::deadline::Alarm;
use super::http2::{Http2, codec_time};
use super::keepalive::Keepalive as Pings;
use super::retry::Failure;
use super::splice::Splice;
use super::stream::Phase;
use super::upstream::{Codec, Upstream, Work};
use crate::config::{Availability, UpstreamConnectionOptions};
use crate::reply::LocalReply;
use crate::shard::{Owner, Shard, StreamKey, UpstreamKey, limits};
use crate::snapshot::{Breakers, ClusterEntry, Host, Permit};
use crate::stats::{ClusterStat, HostStat};
use crate::upstream::PoolId;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tidegate_http::h1::ResponseDecoder;
use tidegate_http::h2::Connection;
use tidegate_io::{ConnectOptions, Instant, Io, Keepalive, Socket};

impl Upstream {
    /// A connection that is being made.
    pub(super) fn new(
        socket: Socket,
        host: &Host,
        entry: &Arc<ClusterEntry>,
        id: PoolId,
        now: Instant,
        draw: u64,
    ) -> Upstream {
        let codec = match id.http2 {
            true => {
                let options = codec::http2_client_options(entry);
                let keepalive = entry.config.http2.keepalive;
                let keepalive = keepalive.map(|it| Pings::new(it, now, draw));
                Codec::Http2(Http2::new(Connection::client(options, codec_time(now)), keepalive))
            }
            false => Codec::Http1(ResponseDecoder::new(
                codec::response_options(entry),
                codec::response_limits(entry),
            )),
        };
        Upstream {
            socket,
            pool: id,
            address: host.address,
            host_stats: host.stats,
            cluster: entry.clone(),
            work: Work::Connecting,
            codec,
            output: None,
            sending: false,
            touched: false,
            paused: false,
            splice: Splice::default(),
            bulk: false,
            finish: false,
            broken: false,
            requests: 0,
            facts: None,
            sent: 0,
            received: 0,
            asked: false,
            answered: false,
            opened: now,
            retired: false,
            aged_at: None,
            host_permit: None,
            since: now,
            alarm: Alarm::default(),
        }
    }
}

/// Requests of a pool.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    waiting: usize,
    active: usize,
}

/// The host has all the connections that it may have.
struct HostIsFull;

/// Where a connection to this address comes from, and how it is kept.
pub(super) fn connect_options(
    options: &UpstreamConnectionOptions,
    to: &SocketAddr,
) -> ConnectOptions {
    let same_family = |source: &&SocketAddr| source.is_ipv4() == to.is_ipv4();
    let source = options.sources.iter().find(same_family).or(options.sources.first());
    ConnectOptions {
        source: source.copied(),
        freebind: options.freebind,
        keepalive: options.keepalive.map(|keepalive| Keepalive {
            probes: keepalive.probes,
            time_s: keepalive.time_s,
            interval_s: keepalive.interval_s,
        }),
    }
}

impl<I: Io> Shard<I> {
    /// Makes a connection to `host` for those who wait, unless enough are being made.
    pub(crate) fn connect(&mut self, entry: &Arc<ClusterEntry>, host: &Arc<Host>, id: PoolId) {
        let Some(pool) = self.pools.of(host, id) else { return };
        let each = if id.http2 { entry.config.http2.max_concurrent_streams as usize } else { 1 };
        if pool.connecting.saturating_mul(each) >= pool.waiting.len() {
            return;
        }
        let host_permit = match self.host_permit(entry, host, id) {
            Ok(permit) => permit,
            Err(HostIsFull) => {
                // Who waits beside an idle connection needs one that is new, which is made in the
                // place of that.
                let idle = self.pools.get(id).and_then(|pool| pool.idle.first().copied());
                if let Some(idle) = idle {
                    self.close_upstream(idle);
                }
                return;
            }
        };
        let thresholds = &entry.config.circuit_breakers.default;
        if Breakers::acquire(&entry.breakers.connections, thresholds.max_connections)
            == Permit::Refused
            && !self.make_room(entry)
        {
            self.stats.inc(entry.stats, ClusterStat::UpstreamCxOverflow);
            // With a connection of our own, those who wait get it in turn; else another shard has
            // to give way.
            if thresholds.max_connections == 0 {
                self.fail_waiting(id, LocalReply::OVERFLOW);
            } else if self.pools.get(id).is_some_and(|pool| pool.open == 0) {
                self.starve(entry, id);
            }
            return;
        }
        // Idle ones are of no use to who waits: it needs one that is new.
        if self.open_upstream(entry, host, id, host_permit).is_none()
            && self.pools.get(id).is_some_and(|pool| pool.open == pool.idle.len())
        {
            self.fail_waiting(id, LocalReply::OUT_OF_DESCRIPTORS);
        }
    }

    /// Begins to make a connection, for which there is a permit of the cluster's.
    fn open_upstream(
        &mut self,
        entry: &Arc<ClusterEntry>,
        host: &Arc<Host>,
        id: PoolId,
        host_permit: Option<&Arc<AtomicU32>>,
    ) -> Option<UpstreamKey> {
        let options = connect_options(&entry.config.connections, &host.address);
        let Ok(socket) = self.io.connect_with(&host.address, &options, Owner::Shard.token()) else {
            Breakers::release(&entry.breakers.connections);
            self.stats.inc(entry.stats, ClusterStat::UpstreamCxConnectFail);
            self.stats.inc(host.stats, HostStat::CxConnectFail);
            return None;
        };
        let draw = if id.http2 { self.random.draw() } else { 0 };
        let mut upstream = Upstream::new(socket, host, entry, id, self.now.instant, draw);
        upstream.retired = self.pools.speaks_otherwise(entry);
        if let Some(permit) = host_permit {
            permit.fetch_add(1, Ordering::Relaxed);
            upstream.host_permit = Some(permit.clone());
        }
        let key = self.upstreams.insert(upstream);
        self.io.set_token(socket, Owner::Upstream(key).token());
        self.begin_upstream_handshake(key, host);
        self.count_connection(entry, host, id);
        self.arm_upstream(key);
        Some(key)
    }

    /// Makes connections ahead of requests, as far as limits let it: so many that a share more of
    /// requests than there are now would find one. Called with each request, and not when a
    /// connection fails, so that a host that is down is not asked for ever.
    pub(super) fn preconnect(&mut self, entry: &Arc<ClusterEntry>, host: &Arc<Host>, id: PoolId) {
        let Some(ratio) = entry.config.connections.preconnect_millionths else { return };
        if host.health_status.availability() != Availability::Healthy {
            return;
        }
        for _ in 0..limits::PRECONNECTS_PER_REQUEST {
            let (requests, room) = self.load_of(entry, id);
            let wanted = (requests.waiting + requests.active) as u64 * ratio;
            let provided = (room + requests.active) as u64 * 1_000_000;
            if wanted <= provided {
                return;
            }
            let Ok(host_permit) = self.host_permit(entry, host, id) else { return };
            let max = entry.config.circuit_breakers.default.max_connections;
            if Breakers::acquire(&entry.breakers.connections, max) == Permit::Refused {
                self.stats.inc(entry.stats, ClusterStat::UpstreamCxOverflow);
                return;
            }
            if self.open_upstream(entry, host, id, host_permit).is_none() {
                return;
            }
        }
    }

    /// The requests that a host has, and how many more its connections take, those included that
    /// are being made.
    fn load_of(&mut self, entry: &ClusterEntry, id: PoolId) -> (Load, usize) {
        let now = self.now.instant;
        let each = if id.http2 { entry.config.http2.max_concurrent_streams as usize } else { 1 };
        let Some(pool) = self.pools.get(id) else { return (Load::default(), 0) };
        let load = Load { waiting: pool.waiting.len(), active: pool.active_streams() };
        let connecting = pool.connecting.saturating_mul(each);
        if !id.http2 {
            return (load, connecting + pool.idle.len());
        }
        let upstreams = &mut self.upstreams;
        let rooms = pool
            .idle
            .iter()
            .chain(&pool.shared)
            .filter_map(|key| upstreams.get_mut(*key).map(|it| it.room(now).min(each)));
        let rooms: usize = rooms.sum();
        (load, connecting + rooms)
    }

    fn count_connection(&mut self, entry: &ClusterEntry, host: &Arc<Host>, id: PoolId) {
        if let Some(pool) = self.pools.of(host, id) {
            pool.connecting += 1;
            pool.open += 1;
        }
        let version = match id.http2 {
            true => ClusterStat::UpstreamCxHttp2Total,
            false => ClusterStat::UpstreamCxHttp1Total,
        };
        for stat in [ClusterStat::UpstreamCxTotal, version, ClusterStat::UpstreamCxActive] {
            self.stats.inc(entry.stats, stat);
        }
        self.stats.inc(host.stats, HostStat::CxTotal);
        self.stats.inc(host.stats, HostStat::CxActive);
    }

    /// The counter of the host's connections, if they have a limit. Where it is reached, those who
    /// wait get the connections that this shard has to the host in turn; if it has none, one is
    /// made all the same, as in Envoy: no other shard's connection would ever come to them.
    fn host_permit<'a>(
        &mut self,
        entry: &ClusterEntry,
        host: &'a Arc<Host>,
        id: PoolId,
    ) -> Result<Option<&'a Arc<AtomicU32>>, HostIsFull> {
        let limit = entry.config.circuit_breakers.max_connections_per_host;
        let (Some(limit), Some(connections)) = (limit, &host.connections) else { return Ok(None) };
        if connections.load(Ordering::Relaxed) >= limit {
            self.stats.inc(entry.stats, ClusterStat::UpstreamCxOverflow);
            if self.pools.get(id).is_some_and(|pool| pool.open > 0) {
                return Err(HostIsFull);
            }
        }
        Ok(Some(connections))
    }

    /// The cluster's connection limit is reached: an idle connection to another of its hosts gives
    /// way.
    pub(crate) fn make_room(&mut self, entry: &ClusterEntry) -> bool {
        let Some(idle) = self.pools.idle_in(entry.id) else { return false };
        self.close_upstream(idle);
        let limit = entry.config.circuit_breakers.default.max_connections;
        Breakers::acquire(&entry.breakers.connections, limit) == Permit::Granted
    }

    /// Asks the other shards for a connection permit, until there is one or nobody waits for it any
    /// more.
    pub(crate) fn starve(&mut self, entry: &Arc<ClusterEntry>, id: PoolId) {
        let Some(pool) = self.pools.get(id) else { return };
        if !pool.starved {
            pool.starved = true;
            self.starved.push((id, entry.clone()));
            entry.breakers.starved.fetch_add(1, Ordering::Relaxed);
            self.adopted.publisher().starve();
        }
        self.retry_soon();
    }

    /// Tries again to connect for those that other shards kept from it.
    pub(crate) fn connect_starved(&mut self) {
        for (id, entry) in std::mem::take(&mut self.starved) {
            entry.breakers.starved.fetch_sub(1, Ordering::Relaxed);
            self.adopted.publisher().end_starving();
            let Some(pool) = self.pools.get(id) else { continue };
            pool.starved = false;
            let host = pool.host.clone();
            self.connect(&entry, &host, id);
            self.pools.forget(id);
        }
    }

    pub(crate) fn upstream_connected(&mut self, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let duration = upstream.cluster.config.max_connection_duration;
        upstream.aged_at = duration.map(|duration| self.now.instant + duration);
        let connect_ms = (self.now.instant - upstream.since).as_millis() as u64;
        self.stats.record(upstream.cluster.stats, ClusterStat::UpstreamCxConnectMs, connect_ms);
        self.io.recv(upstream.socket);
        upstream.work = Work::Idle;
        self.count_upstream_handshake(key);
        let Some(upstream) = self.upstreams.get(key) else { return };
        if let Some(pool) = self.pools.get(upstream.pool) {
            pool.connecting -= 1;
        }
        self.arm_upstream(key);
        // The preface goes out even if nobody waits any more: its acknowledgement is waited for.
        self.touch_upstream(key);
        self.release_upstream(key);
    }

    /// The connection could not be made: who cannot be served by those still being made gets
    /// `reply`.
    pub(crate) fn connect_failed(&mut self, key: UpstreamKey, reply: LocalReply) {
        let Some(upstream) = self.upstreams.get(key) else { return };
        let (pool_id, stats) = (upstream.pool, upstream.cluster.stats);
        self.stats.inc(stats, ClusterStat::UpstreamCxConnectFail);
        self.stats.inc(upstream.host_stats, HostStat::CxConnectFail);
        self.stats.inc(upstream.host_stats, HostStat::RqError);
        let each = upstream.waiting_each();
        while let Some(pool) = self.pools.get(pool_id)
            && pool.waiting.len() > pool.connecting.saturating_sub(1).saturating_mul(each)
            && let Some(stream) = pool.waiting.front().copied()
        {
            self.stop_waiting(stream);
            self.stats.inc(stats, ClusterStat::UpstreamRqPendingFailureEject);
            self.attempt_failed(stream, Failure::Connect, reply);
        }
        self.close_upstream(key);
    }

    pub(crate) fn fail_waiting(&mut self, id: PoolId, reply: LocalReply) {
        while let Some(stream) = self.pools.get(id).and_then(|p| p.waiting.front().copied()) {
            self.stop_waiting(stream);
            match reply {
                // Another attempt would only add to it.
                LocalReply::OVERFLOW => self.local_reply(stream, reply),
                _ => self.attempt_failed(stream, Failure::Connect, reply),
            }
        }
    }

    /// Takes a stream out of the queue for a connection.
    pub(crate) fn stop_waiting(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Phase::Waiting(id) = stream.phase else { return };
        stream.phase = Phase::Routing;
        if let Some(pool) = self.pools.get(id) {
            pool.waiting.retain(|waiting| *waiting != key);
            self.stats.dec(pool.host.stats, HostStat::RqPendingActive);
            self.pools.forget(id);
        }
        if let Some(cluster) = stream.cluster() {
            Breakers::release(&cluster.breakers.pending);
            self.stats.dec(cluster.stats, ClusterStat::UpstreamRqPendingActive);
        }
    }

    pub(crate) fn arm_upstream(&mut self, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        upstream.alarm.arm(upstream.deadline(), Owner::Upstream(key).token(), &mut self.timers);
    }

    pub(crate) fn upstream_timer(&mut self, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        upstream.alarm.fired();
        let stats = upstream.cluster.stats;
        if upstream.deadline().is_none_or(|deadline| deadline > self.now.instant) {
            self.arm_upstream(key);
            return;
        }
        let work = upstream.work;
        match work {
            Work::Connecting => {
                self.stats.inc(stats, ClusterStat::UpstreamCxConnectTimeout);
                self.connect_failed(key, LocalReply::CONNECTION_TIMEOUT);
            }
            Work::Idle if self.http2_idle_timeout(key) => {}
            Work::Idle => {
                let Some(upstream) = self.upstreams.get(key) else { return };
                let stat = match upstream.is_aged(self.now.instant) {
                    true => ClusterStat::UpstreamCxMaxDurationReached,
                    false => ClusterStat::UpstreamCxIdleTimeout,
                };
                self.stats.inc(stats, stat);
                self.close_upstream(key);
            }
            Work::Shared => self.http2_upstream_timeout(key),
            Work::Parting => self.close_upstream(key),
            Work::Busy(_) | Work::Draining => {}
        }
    }
}
