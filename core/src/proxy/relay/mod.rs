//! A connection that `tcp_proxy` has taken: bytes pass unread between a client and a host, and so
//! does each side's FIN.
//!
//! ```text
//!               1              2             3
//!  (accepted) ----> Connecting ---> Connected ---> (gone)
//!                    |  ^   '-------- 3 ------------^
//!                    '--' 4
//! ```
//!
//! 1 `open_relay` 2 `relay_connected` 3 `end_relay` 4 `relay_attempt_failed`.
//!
//! One state has both ends, for they begin and end together. An HTTP tunnel begins as a request and
//! has two connections that go on or not: what it does with bytes is in `tunnel`.
//!
//! What it leaves to others: TLS of either side (`transport`), which host (`upstream::balancer`).

mod closing;
mod connect;
mod flow;

use super::deadline::{Alarm, earliest};
use crate::reply::ResponseFlags;
use crate::shard::RelayKey;
use crate::shard::{Owner, Shard, limits};
use crate::snapshot::{ClusterEntry, Host, TcpChain};
use crate::stats::TcpStat;
use crate::transport::ConnectionFacts;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use tidegate_io::{Buffer, Instant, Io, Now, Output, Socket, Token};

/// A client's connection and the one to its host.
#[derive(Debug)]
pub struct Relay {
    chain: Rc<TcpChain>,
    downstream: Socket,
    upstream: Option<HostConnection>,
    up: Flow,
    down: Flow,
    /// Until when the client's handshake may take, while it is under way.
    handshake_until: Option<Instant>,
    /// How often a connection to a host was begun.
    attempts: u32,
    accepted: Instant,
    accepted_unix_us: u64,
    /// When a byte went either way last.
    active: Instant,
    flags: ResponseFlags,
    /// When it ends because its filter chain is gone.
    drained_at: Option<Instant>,
    /// The last FIN was the client's.
    client_last: bool,
    /// The client has closed, and the rest is on its way to the host.
    flushing: bool,
    touched: bool,
    alarm: Alarm,
    seen: Seen,
}

/// What its access logs say of it beside what it has anyway.
#[derive(Debug, Default)]
struct Seen {
    /// The client's address and ours, asked for where there are logs.
    ends: [Option<SocketAddr>; 2],
    cluster: Option<Arc<ClusterEntry>>,
    host: Option<Arc<Host>>,
    upstream_local_address: Option<SocketAddr>,
    downstream_tls: Option<Arc<ConnectionFacts>>,
    upstream_tls: Option<Arc<ConnectionFacts>>,
    /// Why the last connection to a host could not be made.
    failure: &'static str,
}

/// A connection to a host, with what it holds of its cluster's limits.
#[derive(Debug)]
struct HostConnection {
    socket: Socket,
    host: Arc<Host>,
    cluster: Arc<ClusterEntry>,
    host_permit: Option<Arc<AtomicU32>>,
    connected: bool,
    since: Instant,
}

/// Bytes on their way from one end to the other.
#[derive(Debug, Default)]
struct Flow {
    /// What is next to be sent.
    output: Option<Output>,
    sending: bool,
    /// Where they come from is not read, because too much waits here.
    paused: bool,
    /// Where they come from sent FIN.
    ended: bool,
    /// So did we, where they go to.
    finished: bool,
    received: u64,
    sent: u64,
}

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// From the client to the host.
    Up,
    /// From the host to the client.
    Down,
}

impl Relay {
    fn new(chain: Rc<TcpChain>, downstream: Socket, now: Now) -> Relay {
        Relay {
            chain,
            downstream,
            upstream: None,
            up: Flow::default(),
            down: Flow::default(),
            handshake_until: None,
            attempts: 0,
            accepted: now.instant,
            accepted_unix_us: now.unix_us,
            active: now.instant,
            flags: ResponseFlags::NONE,
            drained_at: None,
            client_last: false,
            flushing: false,
            touched: false,
            alarm: Alarm::default(),
            seen: Seen::default(),
        }
    }

    fn flow(&mut self, way: Way) -> &mut Flow {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    /// The connection to a host, once it is made.
    fn connected(&self) -> Option<&HostConnection> {
        self.upstream.as_ref().filter(|upstream| upstream.connected)
    }

    /// Where bytes of this way come from, and where they go to.
    fn sockets(&self, way: Way) -> (Option<Socket>, Option<Socket>) {
        let upstream = self.connected().map(|upstream| upstream.socket);
        match way {
            Way::Up => (Some(self.downstream), upstream),
            Way::Down => (upstream, Some(self.downstream)),
        }
    }

    /// When it has been idle for too long. Not before there is a host: connecting has a timeout of
    /// its own.
    fn idle_at(&self) -> Option<Instant> {
        self.connected()?;
        self.chain.tcp.config.idle_timeout.map(|timeout| self.active + timeout)
    }

    fn aged_at(&self) -> Option<Instant> {
        self.chain.tcp.config.max_connection_duration.map(|duration| self.accepted + duration)
    }

    /// Until when the connection to a host is to be made.
    fn connects_until(&self) -> Option<Instant> {
        let upstream = self.upstream.as_ref().filter(|upstream| !upstream.connected)?;
        Some(upstream.since + upstream.cluster.config.connect_timeout)
    }

    fn deadline(&self) -> Option<Instant> {
        let connection = earliest(self.handshake_until, self.connects_until());
        let whole = earliest(self.aged_at(), self.drained_at);
        earliest(connection, earliest(self.idle_at(), whole))
    }
}

impl<I: Io> Shard<I> {
    /// A connection was accepted that `tcp_proxy` takes, and `input` is what it has sent.
    pub(crate) fn open_relay(
        &mut self,
        chain: Rc<TcpChain>,
        socket: Socket,
        ends: Option<[Option<SocketAddr>; 2]>,
        input: Option<Buffer>,
    ) -> Token {
        self.stats.inc(chain.tcp.stats, TcpStat::DownstreamCxTotal);
        let mut relay = Relay::new(chain.clone(), socket, self.now);
        if !chain.tcp.access_log.is_empty() {
            let ask = || [self.io.peer_address(socket), self.io.local_address(socket)];
            relay.seen.ends = ends.unwrap_or_else(ask);
        }
        let key = self.relays.insert(relay);
        let token = Owner::RelayDownstream(key).token();
        self.io.set_token(socket, token);
        if let Some(context) = &chain.tls {
            let secured = self.io.secure_server(socket, context, token, input);
            debug_assert!(secured.is_ok(), "a context makes sessions");
            self.io.recv(socket);
            if let Some(relay) = self.relays.get_mut(key) {
                let timeout = chain.handshake_timeout.unwrap_or(limits::HANDSHAKE);
                relay.handshake_until = Some(self.now.instant + timeout);
            }
        } else if let Some(input) = input {
            self.relay_received(key, Way::Up, input);
        }
        self.connect_relay(key);
        token
    }

    fn touch_relay(&mut self, key: RelayKey) {
        if let Some(relay) = self.relays.get_mut(key)
            && !std::mem::replace(&mut relay.touched, true)
        {
            self.touched_relays.push(key);
        }
    }

    fn arm_relay(&mut self, key: RelayKey) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        relay.alarm.arm(relay.deadline(), Owner::RelayDownstream(key).token(), &mut self.timers);
    }
}
