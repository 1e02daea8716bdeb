//! A shard's listening sockets: its own of each listener's `SO_REUSEPORT` group.
//!
//! What it leaves to others: binding (`control`), what a connection does (`proxy::downstream`).

use super::inspection::Inspection;
use super::{ListenerKey, Owner, Shard, limits};
use crate::proxy::Downstream;
use crate::snapshot::{ChainEntry, ChainQuery, FilterEntry, ListenerEntry, ListenerId};
use crate::snapshot::{HttpChain, TcpChain};
use crate::stats::{ListenerStat, ServerStat};
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use tidegate_io::{Buffer, Completion, Errno, Instant, Io, Outcome, Socket, Token};

/// The classic BPF instruction that ends a filter; its operand, 0, says that nothing is kept.
const BPF_RETURN: u16 = 0x06;

/// Of a connection of which it does not matter, or that is broken already.
const NO_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// One listening socket.
pub struct Listener {
    socket: Socket,
    /// The entry of the adopted snapshot; the last one when the listener is gone.
    pub entry: Rc<Arc<ListenerEntry>>,
    /// Its filter chains, for the connections that are given them.
    chains: Vec<Chain>,
    /// When it stops accepting for good.
    closes_at: Option<Instant>,
}

/// One of its filter chains.
#[derive(Clone)]
enum Chain {
    Http(Rc<HttpChain>),
    Tcp(Rc<TcpChain>),
}

impl Chain {
    fn of(chain: &Arc<ChainEntry>) -> Chain {
        let entry = chain.clone();
        match &chain.filter {
            FilterEntry::Http(http) => {
                Chain::Http(Rc::new(HttpChain { chain: entry, http: http.clone() }))
            }
            FilterEntry::Tcp(tcp) => {
                Chain::Tcp(Rc::new(TcpChain { chain: entry, tcp: tcp.clone() }))
            }
        }
    }

    fn entry(&self) -> &Arc<ChainEntry> {
        match self {
            Chain::Http(chain) => &chain.chain,
            Chain::Tcp(chain) => &chain.chain,
        }
    }
}

impl Listener {
    fn set_entry(&mut self, entry: &Arc<ListenerEntry>) {
        self.entry = Rc::new(entry.clone());
        self.chains = chains_of(entry);
    }
}

fn chains_of(entry: &ListenerEntry) -> Vec<Chain> {
    entry.chains.iter().map(Chain::of).collect()
}

impl<I: Io> Shard<I> {
    /// The listener with this number, if this shard accepts on it.
    pub(super) fn find_listener(&self, id: ListenerId) -> Option<ListenerKey> {
        let mut keys = self.listeners.keys().into_iter();
        keys.find(|key| self.listeners.get(*key).is_some_and(|l| l.entry.id == id))
    }

    pub(super) fn open_listener(&mut self, entry: &Arc<ListenerEntry>) -> io::Result<()> {
        let descriptor = entry.sockets.sockets[self.index].try_clone()?;
        let socket = self.io.listen(descriptor, Owner::Shard.token())?;
        let listener = Listener {
            socket,
            entry: Rc::new(entry.clone()),
            chains: chains_of(entry),
            closes_at: None,
        };
        let key = self.listeners.insert(listener);
        self.io.set_token(socket, Owner::Listener(key).token());
        self.io.accept(socket);
        Ok(())
    }

    /// Follows the adopted snapshot: new listeners open, changed ones change, those that are gone
    /// (all, when it drains) stop accepting.
    pub(super) fn adopt_listeners(&mut self) -> io::Result<()> {
        let snapshot = self.adopted.snapshot().clone();
        let mut changed = false;
        for key in self.listeners.keys() {
            let Some(listener) = self.listeners.get_mut(key) else { continue };
            match snapshot.listeners.iter().find(|entry| entry.id == listener.entry.id) {
                Some(entry) if !snapshot.draining => {
                    if !Arc::ptr_eq(entry, &listener.entry) {
                        listener.set_entry(entry);
                        changed = true;
                    }
                }
                _ => changed |= self.stop_accepting(key),
            }
        }
        if changed && !self.relays.is_empty() {
            self.follow_relays();
        }
        if snapshot.draining {
            return Ok(());
        }
        for entry in &snapshot.listeners {
            if self.find_listener(entry.id).is_none() {
                self.open_listener(entry)?;
            }
        }
        Ok(())
    }

    /// Takes no new connection, but those that are complete in the queue: closing it would reset
    /// them.
    ///
    /// A filter that drops every packet keeps new handshakes out meanwhile, or the last connection
    /// to come before the close would be the one that is reset. Whoever knocks tries again after a
    /// second and is refused, or reaches the listener that took the address over.
    ///
    /// Whether it accepted before.
    fn stop_accepting(&mut self, key: ListenerKey) -> bool {
        let Some(listener) = self.listeners.get_mut(key) else { return false };
        if listener.closes_at.is_some() {
            return false;
        }
        let closes_at = self.now.instant + limits::DRAIN_ACCEPT;
        listener.closes_at = Some(closes_at);
        let descriptor = &listener.entry.sockets.sockets[self.index];
        // A failure only means that a few more connections are taken.
        let drop_all = socket2::SockFilter::new(BPF_RETURN, 0, 0, 0);
        let _ = socket2::SockRef::from(descriptor).attach_filter(&[drop_all]);
        self.timers.set(closes_at, Owner::Listener(key).token());
        true
    }

    /// Either the time to accept again, or the time to close.
    pub(super) fn listener_timer(&mut self, key: ListenerKey) {
        let Some(listener) = self.listeners.get(key) else { return };
        if listener.closes_at.is_some_and(|at| at <= self.now.instant) {
            // Control and connections that live on have descriptors of this socket too, and the
            // kernel would go on completing handshakes. From here on connecting is refused.
            let descriptor = &listener.entry.sockets.sockets[self.index];
            let _ = socket2::SockRef::from(descriptor).shutdown(Shutdown::Read);
            self.io.close(listener.socket);
            self.listeners.remove(key);
        } else {
            self.io.accept(listener.socket);
        }
    }

    pub(super) fn accept_stopped(&mut self, key: ListenerKey, errno: Errno) {
        let Some(listener) = self.listeners.get(key) else { return };
        let at = match errno.0 {
            // One connection was lost before we took it; the next is fine.
            libc::ECONNABORTED | libc::EINTR | libc::EPROTO | libc::EPERM => {
                self.io.accept(listener.socket);
                return;
            }
            _ => self.now.instant + limits::ACCEPT_RETRY,
        };
        self.stats.inc(listener.entry.stats, ListenerStat::DownstreamCxOverflow);
        self.stats.inc(self.server, ServerStat::DescriptorsExhausted);
        self.timers.set(at, Owner::Listener(key).token());
    }

    pub(super) fn accepted(&mut self, key: ListenerKey, socket: Socket) {
        let Some(listener) = self.listeners.get(key) else {
            self.io.close(socket);
            return;
        };
        if listener.entry.config.tls_inspector.is_some() {
            self.inspect(key, socket);
        } else if let Some(place) = listener.entry.matching.only() {
            let chain = listener.chains[place].clone();
            self.connected(chain, socket, None, Inspection::NONE);
        } else {
            let entry = listener.entry.clone();
            self.choose_chain(key, &entry, socket, Inspection::NONE);
        }
    }

    /// Gives a connection its filter chain, or closes it if none is for it. The addresses are asked
    /// for only where they matter.
    pub(super) fn choose_chain(
        &mut self,
        key: ListenerKey,
        entry: &ListenerEntry,
        socket: Socket,
        inspection: Inspection,
    ) {
        let ends = match entry.matching.asks_addresses() {
            true => Some([self.io.peer_address(socket), self.io.local_address(socket)]),
            false => None,
        };
        let [remote, local] = ends.unwrap_or_default().map(|it| it.unwrap_or(NO_ADDRESS));
        let place = entry.matching.find(&ChainQuery {
            local,
            remote,
            direct_remote: remote,
            server_name: &inspection.server_name,
            transport_protocol: if inspection.is_tls { "tls" } else { "raw_buffer" },
            application_protocols: &inspection.protocols,
        });
        let Some(chain) = place.and_then(|place| entry.chains.get(place)) else {
            self.stats.inc(entry.stats, ListenerStat::NoFilterChainMatch);
            self.io.close(socket);
            return;
        };
        let of_listener = self.listeners.get(key).and_then(|it| it.chains.get(chain.place));
        let chain = match of_listener.filter(|it| Arc::ptr_eq(it.entry(), chain)) {
            Some(shared) => shared.clone(),
            None => Chain::of(chain),
        };
        self.connected(chain, socket, ends, inspection);
    }

    /// A connection has its filter chain: it begins.
    fn connected(
        &mut self,
        chain: Chain,
        socket: Socket,
        ends: Option<[Option<SocketAddr>; 2]>,
        inspection: Inspection,
    ) {
        let stats = chain.entry().stats;
        self.stats.inc(stats, ListenerStat::DownstreamCxTotal);
        self.stats.inc(stats, ListenerStat::DownstreamCxActive);
        let is_secure = chain.entry().tls.is_some();
        let token = match chain {
            Chain::Http(chain) => self.begin_downstream(chain, socket, ends, inspection.input),
            Chain::Tcp(chain) => self.open_relay(chain, socket, ends, inspection.input),
        };
        match inspection.end {
            None => {}
            Some(Ok(())) if is_secure => self.io.end_input(socket),
            // In the next turn, as if it had not come with the rest.
            Some(end) => {
                let outcome = end.map_or_else(Outcome::RecvFailed, |()| Outcome::Eof);
                self.late.push(Completion { token, outcome });
            }
        }
    }

    fn begin_downstream(
        &mut self,
        chain: Rc<HttpChain>,
        socket: Socket,
        ends: Option<[Option<SocketAddr>; 2]>,
        input: Option<Buffer>,
    ) -> Token {
        let is_secure = chain.tls.is_some();
        let mut downstream = Downstream::new(socket, chain, self.now.instant);
        downstream.ends = ends;
        let key = self.downstreams.insert(downstream);
        let token = Owner::Downstream(key).token();
        self.io.set_token(socket, token);
        if is_secure {
            self.begin_handshake(key, input);
            self.open_downstream(key);
        } else {
            self.open_downstream(key);
            if let Some(input) = input {
                self.downstream_completion(key, Outcome::Received(input));
            }
        }
        token
    }
}
