//! A relay gets its host: which one, how often it is tried, and what it holds of limits.
//!
//! What it leaves to others: the bytes (`flow`).

use super::HostConnection;
use crate::proxy::connect::connect_options;
use crate::proxy::handshake;
use crate::reply::ResponseFlags;
use crate::shard::{Owner, RelayKey, Shard};
use crate::snapshot::{Breakers, ClusterEntry, Host, Permit};
use crate::stats::{ClusterStat, HostStat, TcpStat};
use crate::transport::{ConnectionFacts, Session};
use crate::upstream::PoolId;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use tidegate_io::{Errno, Io, Socket};

/// What came of an attempt at once.
enum Attempt {
    /// It is under way.
    Begun,
    /// It has failed; there may be another.
    Failed,
    /// The connection gets no host, for this reason.
    Refused(ResponseFlags),
}

/// Who ended a connection to a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    /// We, or the client.
    Us,
    /// The host.
    Host,
}

impl<I: Io> Shard<I> {
    /// Makes a connection to a host, trying again as often as that is allowed.
    pub(super) fn connect_relay(&mut self, key: RelayKey) {
        loop {
            match self.begin_relay_attempt(key) {
                Attempt::Begun => return self.arm_relay(key),
                Attempt::Failed => {}
                Attempt::Refused(flags) => return self.refuse_relay(key, flags),
            }
        }
    }

    fn begin_relay_attempt(&mut self, key: RelayKey) -> Attempt {
        let random = self.random.draw();
        let Some(relay) = self.relays.get_mut(key) else { return Attempt::Begun };
        let tcp = &relay.chain.tcp;
        let cluster = tcp.choose_cluster(random).and_then(|id| self.pools.cluster(id));
        let Some(entry) = cluster.map(|cluster| cluster.entry.clone()) else {
            self.stats.inc(tcp.stats, TcpStat::DownstreamCxNoRoute);
            return Attempt::Refused(ResponseFlags::NO_CLUSTER_FOUND);
        };
        relay.seen.cluster = Some(entry.clone());
        if relay.attempts >= tcp.config.max_connect_attempts {
            self.stats.inc(entry.stats, ClusterStat::UpstreamCxConnectAttemptsExceeded);
            return Attempt::Refused(
                ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED.and(ResponseFlags::IN_ORDER_OF_TCP),
            );
        }
        let breakers = &entry.breakers;
        let max = entry.config.circuit_breakers.default.max_connections;
        // To wait would be to wait for a connection that is never released.
        if Breakers::acquire(&breakers.connections, max) == Permit::Refused
            && !self.make_room(&entry)
        {
            self.stats.inc(entry.stats, ClusterStat::UpstreamCxOverflow);
            return Attempt::Refused(ResponseFlags::UPSTREAM_OVERFLOW);
        }
        let attempt = self.begin_attempt_in(key, &entry);
        if !matches!(attempt, Attempt::Begun) {
            Breakers::release(&breakers.connections);
        }
        attempt
    }

    /// With a permit of the cluster for a connection, which is kept if one is begun.
    fn begin_attempt_in(&mut self, key: RelayKey, entry: &Arc<ClusterEntry>) -> Attempt {
        let stats = entry.stats;
        let pick = self.pools.pick(entry.id).map(|(_, pick)| pick);
        if pick.as_ref().is_some_and(|pick| pick.panic) {
            self.stats.inc(stats, ClusterStat::LbHealthyPanic);
        }
        let host = pick.and_then(|pick| entry.endpoints.hosts.get(pick.host?)).cloned();
        let Some(host) = host else {
            self.stats.inc(stats, ClusterStat::UpstreamCxNoneHealthy);
            return Attempt::Refused(ResponseFlags::NO_HEALTHY_UPSTREAM);
        };
        let Some(relay) = self.relays.get_mut(key) else { return Attempt::Failed };
        relay.attempts += 1;
        relay.seen.host = None;
        let limit = entry.config.circuit_breakers.default.max_pending_requests;
        if Breakers::acquire(&entry.breakers.pending, limit) == Permit::Refused {
            self.stats.inc(stats, ClusterStat::UpstreamRqPendingOverflow);
            return Attempt::Failed;
        }
        let Some(host_permit) = host_permit(entry, &host) else {
            Breakers::release(&entry.breakers.pending);
            self.stats.inc(stats, ClusterStat::UpstreamCxOverflow);
            return Attempt::Refused(ResponseFlags::UPSTREAM_OVERFLOW);
        };
        relay.seen.host = Some(host.clone());
        let options = connect_options(&entry.config.connections, &host.address);
        let token = Owner::RelayUpstream(key).token();
        let Ok(socket) = self.io.connect_with(&host.address, &options, token) else {
            Breakers::release(&entry.breakers.pending);
            host_permit.iter().for_each(|permit| Breakers::release(permit));
            relay.flags.insert(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
            self.stats.inc(stats, ClusterStat::UpstreamCxConnectFail);
            self.stats.inc(host.stats, HostStat::CxConnectFail);
            return Attempt::Failed;
        };
        relay.upstream = Some(HostConnection {
            socket,
            cluster: entry.clone(),
            host: host.clone(),
            host_permit,
            connected: false,
            since: self.now.instant,
        });
        self.begin_relay_handshake(socket, entry, &host, key);
        if let Some(pool) = self.pools.of(&host, PoolId::unnamed(host.id, false)) {
            pool.relays += 1;
        }
        for stat in [
            ClusterStat::UpstreamCxTotal,
            ClusterStat::UpstreamCxActive,
            ClusterStat::UpstreamRqPendingTotal,
            ClusterStat::UpstreamRqPendingActive,
        ] {
            self.stats.inc(stats, stat);
        }
        for stat in [HostStat::CxTotal, HostStat::CxActive, HostStat::RqPendingActive] {
            self.stats.inc(host.stats, stat);
        }
        Attempt::Begun
    }

    fn begin_relay_handshake(
        &mut self,
        socket: Socket,
        entry: &ClusterEntry,
        host: &Host,
        key: RelayKey,
    ) {
        let Some(context) = &entry.tls else { return };
        let (config, name) = context.handshake(false, None, &host.hostname, host.address.ip());
        let token = Owner::RelayUpstream(key).token();
        let secured = self.io.secure_client(socket, &config, name, token);
        debug_assert!(secured.is_ok(), "a context makes sessions");
    }

    /// The connection to a host is made, and its handshake over: bytes pass.
    pub(super) fn relay_connected(&mut self, key: RelayKey) {
        let now = self.now.instant;
        let Some(relay) = self.relays.get_mut(key) else { return };
        let Some(upstream) = &mut relay.upstream else { return };
        upstream.connected = true;
        let (stats, host_stats) = (upstream.cluster.stats, upstream.host.stats);
        let connect_ms = (now - upstream.since).as_millis() as u64;
        self.stats.record(stats, ClusterStat::UpstreamCxConnectMs, connect_ms);
        Breakers::release(&upstream.cluster.breakers.pending);
        self.stats.dec(stats, ClusterStat::UpstreamRqPendingActive);
        self.stats.dec(host_stats, HostStat::RqPendingActive);
        for stat in [ClusterStat::UpstreamRqTotal, ClusterStat::UpstreamRqActive] {
            self.stats.inc(stats, stat);
        }
        for stat in [HostStat::RqTotal, HostStat::RqActive] {
            self.stats.inc(host_stats, stat);
        }
        let session = self.io.session(upstream.socket);
        if let (Some(scope), Some(session)) = (upstream.cluster.ssl_stats, session) {
            handshake::count(&self.stats, scope, session);
        }
        if relay.chain.tcp.measures {
            relay.seen.upstream_local_address = self.io.local_address(upstream.socket);
            relay.seen.upstream_tls = self.io.session(upstream.socket).map(|session| {
                let context = upstream.cluster.tls.as_ref();
                let shown = context.and_then(|context| context.shown.clone());
                Arc::new(ConnectionFacts::of(session, shown))
            });
        }
        relay.active = now;
        self.io.recv(upstream.socket);
        if !relay.up.paused && !relay.up.ended {
            self.io.recv(relay.downstream);
        }
        self.arm_relay(key);
        self.touch_relay(key);
    }

    /// The handshake of the client is over.
    pub(super) fn relay_secured(&mut self, key: RelayKey, result: Result<(), Errno>) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        let session = self.io.session(relay.downstream);
        if let (Some(scope), Some(session)) = (relay.chain.ssl_stats, session) {
            handshake::count(&self.stats, scope, session);
        }
        if relay.chain.tcp.measures {
            relay.seen.downstream_tls = session.map(|session| {
                let context = relay.chain.tls.as_ref();
                let shown = context.and_then(|context| context.shown.clone());
                Arc::new(ConnectionFacts::of(session, shown))
            });
        }
        relay.handshake_until = None;
        match result {
            Ok(()) => self.touch_relay(key),
            Err(_) => self.close_relay(key, By::Us),
        }
    }

    /// The connection to a host could not be made, or its handshake has failed.
    pub(super) fn relay_refused(&mut self, key: RelayKey, errno: Errno) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        let Some(upstream) = &relay.upstream else { return };
        let session = self.io.session(upstream.socket);
        if let (Some(scope), Some(session)) = (upstream.cluster.ssl_stats, session) {
            handshake::count(&self.stats, scope, session);
        }
        relay.seen.failure = match session.and_then(Session::failure) {
            Some(_) => "TLS_error",
            None if errno.0 == libc::ECONNREFUSED => "delayed_connect_error:_Connection_refused",
            None => "delayed_connect_error",
        };
        self.relay_attempt_failed(key);
    }

    /// There is no connection to the host: perhaps another one is tried.
    pub(super) fn relay_attempt_failed(&mut self, key: RelayKey) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        relay.flags.insert(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
        if let Some(upstream) = &relay.upstream {
            let (stats, host_stats) = (upstream.cluster.stats, upstream.host.stats);
            self.stats.inc(stats, ClusterStat::UpstreamCxConnectFail);
            self.stats.inc(stats, ClusterStat::UpstreamRqPendingFailureEject);
            self.stats.inc(host_stats, HostStat::CxConnectFail);
            self.stats.inc(host_stats, HostStat::RqError);
        }
        if let Some(socket) = self.leave_host(key, By::Host) {
            self.io.close(socket);
        }
        self.connect_relay(key);
    }

    /// Gives back what the connection to the host holds, and counts its end. The caller closes it.
    pub(super) fn leave_host(&mut self, key: RelayKey, by: By) -> Option<Socket> {
        let upstream = self.relays.get_mut(key)?.upstream.take()?;
        let HostConnection { socket, host, cluster, host_permit, connected, since } = upstream;
        let stats = cluster.stats;
        Breakers::release(&cluster.breakers.connections);
        host_permit.iter().for_each(|permit| Breakers::release(permit));
        if connected {
            self.stats.dec(stats, ClusterStat::UpstreamRqActive);
            self.stats.dec(host.stats, HostStat::RqActive);
            self.stats.inc(stats, ClusterStat::UpstreamCxDestroyWithActiveRq);
            self.stats.inc(
                stats,
                match by {
                    By::Us => ClusterStat::UpstreamCxDestroyLocalWithActiveRq,
                    By::Host => ClusterStat::UpstreamCxDestroyRemoteWithActiveRq,
                },
            );
        } else {
            Breakers::release(&cluster.breakers.pending);
            self.stats.dec(stats, ClusterStat::UpstreamRqPendingActive);
            self.stats.dec(host.stats, HostStat::RqPendingActive);
        }
        self.stats.inc(
            stats,
            match by {
                By::Us => ClusterStat::UpstreamCxDestroyLocal,
                By::Host => ClusterStat::UpstreamCxDestroyRemote,
            },
        );
        self.stats.inc(stats, ClusterStat::UpstreamCxDestroy);
        self.stats.dec(stats, ClusterStat::UpstreamCxActive);
        self.stats.dec(host.stats, HostStat::CxActive);
        let age_ms = (self.now.instant - since).as_millis() as u64;
        self.stats.record(stats, ClusterStat::UpstreamCxLengthMs, age_ms);
        let id = PoolId::unnamed(host.id, false);
        if let Some(pool) = self.pools.get(id) {
            pool.relays -= 1;
        }
        self.pools.forget(id);
        Some(socket)
    }

    /// There is no host for it.
    fn refuse_relay(&mut self, key: RelayKey, flags: ResponseFlags) {
        if let Some(relay) = self.relays.get_mut(key) {
            relay.flags.insert(flags);
        }
        self.close_relay(key, By::Us);
    }
}

/// A permit of the host's for a connection, where these have a limit; `None` where it is reached.
fn host_permit(entry: &ClusterEntry, host: &Host) -> Option<Option<Arc<AtomicU32>>> {
    let limit = entry.config.circuit_breakers.max_connections_per_host;
    let (Some(limit), Some(connections)) = (limit, &host.connections) else { return Some(None) };
    match Breakers::acquire(connections, limit) {
        Permit::Granted => Some(Some(connections.clone())),
        Permit::Refused => None,
    }
}
