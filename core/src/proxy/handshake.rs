//! The handshakes of connections that speak TLS: how they begin and what they end with.
//!
//! What it leaves to others: their bytes (`transport`), and what contexts there are (`control`).

use super::upstream::Work;
use crate::reply::LocalReply;
use crate::shard::{DownstreamKey, Owner, Shard, UpstreamKey, limits};
use crate::snapshot::{ClusterId, Host};
use crate::stats::{Scope, ShardStats, SslStat};
use crate::transport::{HandshakeFailure, Session};
use tidegate_io::{Buffer, Errno, Io};

impl<I: Io> Shard<I> {
    /// A connection was accepted, and `input` is what it has sent: where its listener speaks TLS,
    /// so does it.
    pub(crate) fn begin_handshake(&mut self, key: DownstreamKey, input: Option<Buffer>) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let listener = downstream.listener.clone();
        let Some(context) = &listener.tls else { return };
        let timeout = listener.handshake_timeout;
        let timeout = timeout.unwrap_or(limits::HANDSHAKE);
        downstream.handshake_until = Some(self.now.instant + timeout);
        downstream.is_secure = true;
        let token = Owner::Downstream(key).token();
        let secured = self.io.secure_server(downstream.socket, context, token, input);
        debug_assert!(secured.is_ok(), "a context makes sessions");
    }

    /// The handshake of a client is over.
    pub(super) fn downstream_secured(&mut self, key: DownstreamKey, result: Result<(), Errno>) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        if let Some(scope) = downstream.listener.ssl_stats
            && let Some(session) = self.io.session(downstream.socket)
        {
            count(&self.stats, scope, session);
        }
        downstream.handshake_until = None;
        downstream.idle_since = self.now.instant;
        match result {
            Ok(()) => self.arm_downstream(key),
            Err(_) => self.close_downstream(key),
        }
    }

    /// A connection to a host is being made: where its cluster speaks TLS, so does it.
    pub(super) fn begin_upstream_handshake(&mut self, key: UpstreamKey, host: &Host) {
        let Some(upstream) = self.upstreams.get(key) else { return };
        let Some(context) = &upstream.cluster.tls else { return };
        let of_request = self.pools.get(upstream.pool).and_then(|pool| pool.name.as_deref());
        let (http2, address) = (upstream.pool.http2, host.address.ip());
        let (config, name) = context.handshake(http2, of_request, &host.hostname, address);
        let token = Owner::Upstream(key).token();
        let secured = self.io.secure_client(upstream.socket, &config, name, token);
        debug_assert!(secured.is_ok(), "a context makes sessions");
    }

    /// These clusters speak TLS otherwise from now on: connections that they have finish what they
    /// carry, and no more.
    pub(crate) fn retire_upstreams(&mut self, clusters: &[ClusterId]) {
        for key in self.upstreams.keys() {
            let Some(upstream) = self.upstreams.get_mut(key) else { continue };
            if !clusters.contains(&upstream.cluster.id) {
                continue;
            }
            upstream.retired = true;
            match upstream.work {
                Work::Idle => self.close_upstream(key),
                Work::Shared => self.settle_share(key),
                _ => {}
            }
        }
    }

    /// The handshake of an upstream connection failed, or its connect.
    pub(super) fn upstream_connect_failed(&mut self, key: UpstreamKey, errno: Errno) {
        let Some(upstream) = self.upstreams.get(key) else { return };
        let session = self.io.session(upstream.socket);
        if let (Some(scope), Some(session)) = (upstream.cluster.ssl_stats, session) {
            count(&self.stats, scope, session);
        }
        let failure = session.and_then(Session::failure);
        let reply = match (failure, errno) {
            (Some(error), _) => LocalReply {
                details: HandshakeFailure::details(error),
                ..LocalReply::CONNECTION_FAILURE
            },
            (None, Errno(libc::ECONNREFUSED)) => LocalReply::CONNECTION_REFUSED,
            (None, _) => LocalReply::CONNECTION_FAILURE,
        };
        self.connect_failed(key, reply);
    }

    /// The connection to a host is made, and its handshake over.
    pub(super) fn count_upstream_handshake(&self, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get(key) else { return };
        let session = self.io.session(upstream.socket);
        if let (Some(scope), Some(session)) = (upstream.cluster.ssl_stats, session) {
            count(&self.stats, scope, session);
        }
    }
}

/// Counts what a handshake came to. That a peer goes away in the middle of it is no error.
pub(super) fn count(stats: &ShardStats, scope: Scope, session: &Session) {
    let mut inc = |stat| stats.inc(scope, stat);
    if let Some(error) = session.failure() {
        return inc(match HandshakeFailure::of(error) {
            HandshakeFailure::NoCertificate => SslStat::FailVerifyNoCert,
            HandshakeFailure::Chain => SslStat::FailVerifyError,
            HandshakeFailure::Name => SslStat::FailVerifySan,
            HandshakeFailure::Pin => SslStat::FailVerifyCertHash,
            HandshakeFailure::Protocol => SslStat::ConnectionError,
        });
    }
    if !session.is_established() {
        return;
    }
    inc(SslStat::Handshake);
    if session.is_resumed() {
        inc(SslStat::SessionReused);
    }
    if session.peer_certificates().is_empty() {
        inc(SslStat::NoCertificate);
    }
    let used = [
        ("versions", Some(session.version_name())),
        ("ciphers", Some(session.cipher_name())),
        ("curves", session.group_name()),
    ];
    for (kind, thing) in used {
        thing.and_then(|thing| SslStat::of(kind, thing)).into_iter().for_each(&mut inc);
    }
}
