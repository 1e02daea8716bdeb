//! Ends listening for good: what shards do to a listener that is gone leaves its sockets open as
//! long as anybody refers to them, and an open socket is one that the kernel goes on completing
//! handshakes for.
//!
//! 1. A snapshot without the listener is published (or one that drains).
//! 2. For [`DRAIN_ACCEPT`] the shards take what the queue still holds, then they forget their
//!    descriptor.
//! 3. A connection that lives on keeps the listener's entry, and with it our descriptor.
//! 4. So a client would connect, and wait for ever for an answer. Here we shut the sockets down
//!    instead: from then on connecting is refused, and the port is free.
//!
//! What it leaves to others: which listeners there are (`resources`), accepting (`shard`).

use crate::shard::limits::DRAIN_ACCEPT;
use crate::snapshot::{ListenerSockets, Snapshot};
use socket2::SockRef;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tidegate_io::Instant;

/// When sockets are shut down after the snapshot that they are gone from: when shards surely have
/// adopted it and emptied the queue.
const SHUT_AFTER: Duration = Duration::from_millis(DRAIN_ACCEPT.as_millis() as u64 + 300);

/// Sockets that accept, and sockets that are to stop listening.
#[derive(Debug, Default)]
pub struct Closing {
    accepting: Vec<Arc<ListenerSockets>>,
    gone: Vec<(Instant, Arc<ListenerSockets>)>,
}

impl Closing {
    /// Takes note of what a snapshot makes accept from now on.
    pub fn published(&mut self, snapshot: &Snapshot, now: Instant) {
        let listeners = if snapshot.draining { &[][..] } else { &snapshot.listeners };
        let accepting: Vec<_> = listeners.iter().map(|entry| entry.sockets.clone()).collect();
        for sockets in std::mem::replace(&mut self.accepting, accepting) {
            if !self.accepting.iter().any(|kept| Arc::ptr_eq(kept, &sockets)) {
                self.gone.push((now + SHUT_AFTER, sockets));
            }
        }
    }

    /// When [`Closing::handle_timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.gone.iter().map(|(at, _)| *at).min()
    }

    /// Shuts down what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.gone.retain(|(at, sockets)| {
            let due = *at <= now;
            if due {
                shut(sockets);
            }
            !due
        });
    }

    /// Shuts down at once what listens on one of `addresses`: a new listener wants it.
    pub fn make_room(&mut self, addresses: &[SocketAddr]) {
        self.gone.retain(|(_, sockets)| {
            let wanted = addresses.contains(&sockets.address);
            if wanted {
                shut(sockets);
            }
            !wanted
        });
    }
}

/// Shutting down the reading side of a listening socket ends listening, whoever else has a
/// descriptor of it.
fn shut(sockets: &ListenerSockets) {
    for socket in &sockets.sockets {
        // It fails when the socket does not listen any more, which is what is wanted.
        let _ = SockRef::from(socket).shutdown(Shutdown::Read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::listeners::open_one;
    use std::net::TcpStream;

    #[test]
    fn shut_sockets_refuse_although_they_are_open_and_their_port_is_free() {
        let any = "127.0.0.1:0".parse().unwrap();
        let sockets = Arc::new(open_one(any, 16, 2).unwrap());
        let address = sockets.address;
        let mut closing =
            Closing { accepting: Vec::new(), gone: vec![(Instant(5), sockets.clone())] };
        closing.handle_timeout(Instant(4));
        assert!(TcpStream::connect(address).is_ok());
        assert_eq!(closing.poll_timeout(), Some(Instant(5)));
        closing.handle_timeout(Instant(5));
        assert!(TcpStream::connect(address).is_err());
        assert_eq!(closing.poll_timeout(), None);
        let again = open_one(address, 16, 2).unwrap();
        assert!(TcpStream::connect(address).is_ok());
        drop((sockets, again));
    }

    #[test]
    fn room_is_made_at_once_and_only_where_it_is_wanted() {
        let any = "127.0.0.1:0".parse().unwrap();
        let [wanted, other] = [(); 2].map(|()| Arc::new(open_one(any, 16, 1).unwrap()));
        let gone = vec![(Instant(9), wanted.clone()), (Instant(9), other.clone())];
        let mut closing = Closing { accepting: Vec::new(), gone };
        closing.make_room(&[wanted.address]);
        assert!(TcpStream::connect(wanted.address).is_err());
        assert!(TcpStream::connect(other.address).is_ok());
    }
}
