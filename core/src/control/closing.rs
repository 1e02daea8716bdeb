//! Sockets of listeners that are gone and may still listen.
//!
//! A shard takes what the queue of a gone listener holds for [`DRAIN_ACCEPT`], then shuts its
//! socket down. A listener that comes back in the meantime has other sockets, and there is room for
//! them only when the old ones do not listen any more.
//!
//! What it leaves to others: which listeners there are (`resources`), accepting (`shard`).
//!
//! [`DRAIN_ACCEPT`]: crate::shard::limits::DRAIN_ACCEPT

use crate::snapshot::{ListenerSockets, Snapshot};
use socket2::SockRef;
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Weak};

/// Sockets that accept, and sockets that are to stop listening.
#[derive(Debug, Default)]
pub struct Closing {
    accepting: Vec<Arc<ListenerSockets>>,
    /// Connections keep their listener's entry, and with it its sockets; when they are gone, so are
    /// these.
    gone: Vec<Weak<ListenerSockets>>,
}

impl Closing {
    /// Takes note of what a snapshot makes accept from now on.
    pub fn published(&mut self, snapshot: &Snapshot) {
        let accepting: Vec<_> =
            snapshot.listeners.iter().map(|entry| entry.sockets.clone()).collect();
        for sockets in std::mem::replace(&mut self.accepting, accepting) {
            if !self.accepting.iter().any(|kept| Arc::ptr_eq(kept, &sockets)) {
                self.gone.push(Arc::downgrade(&sockets));
            }
        }
        self.gone.retain(|sockets| sockets.strong_count() > 0);
    }

    /// Shuts down what listens on one of `addresses`: a new listener wants it.
    pub fn make_room(&mut self, addresses: &[SocketAddr]) {
        self.gone.retain(|sockets| match sockets.upgrade() {
            Some(sockets) if addresses.contains(&sockets.address) => {
                shut(&sockets);
                false
            }
            Some(_) => true,
            None => false,
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
    fn room_is_made_only_where_it_is_wanted_and_although_the_sockets_are_open() {
        let any = "127.0.0.1:0".parse().unwrap();
        let [wanted, other] = [(); 2].map(|()| Arc::new(open_one(any, 16, 2).unwrap()));
        let gone = [&wanted, &other].map(Arc::downgrade).into();
        let mut closing = Closing { accepting: Vec::new(), gone };
        closing.make_room(&[wanted.address]);
        assert!(TcpStream::connect(wanted.address).is_err());
        assert!(TcpStream::connect(other.address).is_ok());
        let again = open_one(wanted.address, 16, 2).unwrap();
        assert!(TcpStream::connect(again.address).is_ok());
    }
}
