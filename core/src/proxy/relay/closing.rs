//! How a relay ends: with both FINs, with a reset, after a timeout, or without a host.
//!
//! What it leaves to others: passing FINs on (`flow`).

use super::connect::By;
use super::{Relay, Way};
use crate::access_log::{Measured, Record, WireCount};
use crate::reply::ResponseFlags;
use crate::shard::{RelayKey, Shard};
use crate::snapshot::{FilterEntry, TcpChain};
use crate::stats::{ClusterStat, ListenerStat, TcpStat};
use crate::transport::TRUNCATED;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tidegate_io::{Errno, Instant, Io};

impl<I: Io> Shard<I> {
    /// Both FINs were passed on.
    pub(super) fn finish_relay(&mut self, key: RelayKey) {
        let by = match self.relays.get(key) {
            Some(relay) if relay.client_last => By::Us,
            _ => By::Host,
        };
        self.close_relay(key, by);
    }

    /// The client's connection was reset, or cannot be sent to: so is the host's.
    pub(super) fn relay_client_gone(&mut self, key: RelayKey) {
        if let Some(socket) = self.leave_host(key, By::Us) {
            self.io.abort(socket);
        }
        self.close_relay(key, By::Us);
    }

    /// The same for the host's connection.
    pub(super) fn relay_host_gone(&mut self, key: RelayKey, errno: Errno) {
        if errno == TRUNCATED {
            // An end without `close_notify`, of which many origins know nothing: as in Envoy an
            // end like others.
            return self.relay_ended(key, Way::Down);
        }
        let Some(relay) = self.relays.get_mut(key) else { return };
        relay.flags.insert(ResponseFlags::UPSTREAM_REMOTE_RESET);
        let downstream = relay.downstream;
        if let Some(socket) = self.leave_host(key, By::Host) {
            self.io.close(socket);
        }
        self.io.abort(downstream);
        self.close_relay(key, By::Host);
    }

    pub(crate) fn relay_timer(&mut self, key: RelayKey) {
        let now = self.now.instant;
        let Some(relay) = self.relays.get_mut(key) else { return };
        relay.alarm.fired();
        let past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let stats = relay.chain.tcp.stats;
        if past(relay.aged_at()) {
            relay.flags.insert(ResponseFlags::DURATION_TIMEOUT);
            self.stats.inc(stats, TcpStat::MaxDownstreamConnectionDuration);
        } else if past(relay.handshake_until) {
            let stat = ListenerStat::DownstreamCxTransportSocketConnectTimeout;
            self.stats.inc(relay.chain.stats, stat);
        } else if past(relay.idle_at()) {
            self.stats.inc(stats, TcpStat::IdleTimeout);
        } else if past(relay.connects_until()) {
            relay.seen.failure = "connection_timeout";
            let upstream = relay.upstream.as_ref().map(|upstream| upstream.cluster.stats);
            if let Some(stats) = upstream {
                self.stats.inc(stats, ClusterStat::UpstreamCxConnectTimeout);
            }
            return self.relay_attempt_failed(key);
        } else if !past(relay.drained_at) {
            return self.arm_relay(key);
        }
        self.close_relay(key, By::Us);
    }

    /// Looks up what has become of the filter chains of relays. Those that are gone go on for the
    /// time that draining takes, for nothing says when they are done.
    pub(crate) fn follow_relays(&mut self) {
        let snapshot = self.adopted.snapshot().clone();
        for key in self.relays.keys() {
            let Some(relay) = self.relays.get_mut(key) else { continue };
            let entry = snapshot.listeners.iter().find(|entry| entry.id == relay.chain.id);
            let newest = entry.and_then(|entry| entry.successor(&relay.chain));
            match newest.map(|chain| (chain, &chain.filter)) {
                Some((chain, FilterEntry::Tcp(tcp))) => {
                    if !Arc::ptr_eq(chain, &relay.chain.chain) {
                        let chain = chain.clone();
                        relay.chain = Rc::new(TcpChain { chain, tcp: tcp.clone() });
                    }
                }
                _ if relay.drained_at.is_some() => continue,
                _ => {
                    let time = snapshot.drain_time;
                    relay.drained_at = time.map(|time| self.now.instant + time);
                }
            }
            self.arm_relay(key);
        }
    }

    /// The shard ends, and so do they.
    pub(crate) fn close_relays(&mut self) {
        for key in self.relays.keys() {
            self.close_relay(key, By::Us);
        }
    }

    /// Closes both connections, counts it, and logs it.
    pub(super) fn close_relay(&mut self, key: RelayKey, by: By) {
        if let Some(socket) = self.leave_host(key, by) {
            self.io.close(socket);
        }
        let Some(mut relay) = self.relays.remove(key) else { return };
        relay.alarm.cancel(&mut self.timers);
        self.io.close(relay.downstream);
        let age = self.now.instant - relay.accepted;
        let (tcp, listener) = (&relay.chain.tcp, relay.chain.stats);
        if relay.flushing {
            self.stats.dec(tcp.stats, TcpStat::UpstreamFlushActive);
        }
        self.stats.dec(listener, ListenerStat::DownstreamCxActive);
        self.stats.inc(listener, ListenerStat::DownstreamCxDestroy);
        self.stats.record(listener, ListenerStat::DownstreamCxLengthMs, age.as_millis() as u64);
        if !tcp.access_log.is_empty() {
            let measured = tcp.measures.then(|| relay.measured());
            self.logs.record(&tcp.access_log, &relay.record(measured.as_ref(), age));
        }
    }
}

impl Relay {
    fn measured(&self) -> Measured {
        let count = |received, sent| WireCount { received, sent, ..WireCount::default() };
        Measured {
            downstream: count(self.up.received, self.down.sent),
            upstream: count(self.down.received, self.up.sent),
            upstream_local_address: self.seen.upstream_local_address,
            downstream_tls: self.seen.downstream_tls.clone(),
            upstream_tls: self.seen.upstream_tls.clone(),
            host: self.seen.host.clone(),
            ..Measured::default()
        }
    }

    fn record<'r>(&'r self, measured: Option<&'r Measured>, age: Duration) -> Record<'r> {
        let cluster = self.seen.cluster.as_ref().map(|cluster| &cluster.config);
        Record {
            start_unix_us: self.accepted_unix_us,
            duration_us: age.as_micros() as u64,
            is_tcp: true,
            flags: self.flags,
            details: "-",
            bytes_received: self.up.received,
            bytes_sent: self.down.sent,
            upstream_host: self.seen.host.as_ref().map(|host| host.address),
            upstream_cluster: cluster.map(|cluster| cluster.name.as_str()),
            upstream_failure: Some(self.seen.failure).filter(|failure| !failure.is_empty()),
            attempts: self.attempts,
            downstream_remote_address: self.seen.ends[0],
            downstream_direct_address: self.seen.ends[0],
            downstream_local_address: self.seen.ends[1],
            cluster_metadata: cluster.map(|cluster| &cluster.metadata),
            listener_metadata: Some(&self.chain.config.metadata),
            filter_chain_name: Some(&self.chain.name),
            measured,
            ..Record::default()
        }
    }
}
