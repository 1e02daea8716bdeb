//! One suite of behaviour that every backend passes: what [`tidegate_io::Io`] promises, edge by
//! edge.
//!
//! A backend joins by a [`Backend`] (how to make it, and how to make a listener for it) and one
//! line at the end of this file. Both ends of every connection are sockets of the backend itself,
//! and time is what its turns say, so that a simulator with a virtual clock can join too.
//!
//! What it leaves to others: what only kernel backends can do (`tests/kernel.rs`) and to which
//! surroundings they adapt (`tests/surroundings.rs`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod contract_cases;

use std::net::SocketAddr;

use tidegate_io::epoll::Epoll;
use tidegate_io::sim::{Faults, SimIo, World};
use tidegate_io::socket::{ListenOptions, listen};
use tidegate_io::uring::Uring;
use tidegate_io::{Io, IoOptions, Socket, Token};

/// How the suite makes a backend.
pub trait Backend: Io + Sized {
    /// A backend, or `None` (said loudly) where this machine does not allow it.
    fn make(options: &IoOptions) -> Option<Self>;

    /// A listener on a free address.
    fn listen_anywhere(&mut self, token: Token) -> (Socket, SocketAddr) {
        let fd = listen(&"127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap();
        let socket = self.listen(fd, token).unwrap();
        let address = self.local_address(socket).unwrap();
        (socket, address)
    }
}

impl Backend for Epoll {
    fn make(options: &IoOptions) -> Option<Epoll> {
        Some(Epoll::new(options).unwrap())
    }
}

impl Backend for Uring {
    fn make(options: &IoOptions) -> Option<Uring> {
        match tidegate_io::uring::probe() {
            Ok(_) => Some(Uring::new(options).unwrap()),
            Err(unavailable) => {
                eprintln!("SKIPPED, no io_uring here: {unavailable}");
                None
            }
        }
    }
}

/// A world of its own for each backend, without faults: the suite expects what it promises to
/// happen soon. What happens under faults is `sim_echo.rs`'s business.
impl Backend for SimIo {
    fn make(options: &IoOptions) -> Option<SimIo> {
        let IoOptions { buffers_max, buffer_bytes, .. } = options.bounded();
        Some(World::new(1, Faults::none()).io_with_buffers("bench", buffers_max, buffer_bytes))
    }

    fn listen_anywhere(&mut self, token: Token) -> (Socket, SocketAddr) {
        let address = "10.0.0.1:80".parse().unwrap();
        (self.listen_at(address, token).unwrap(), address)
    }
}

contract_suite!(epoll, tidegate_io::epoll::Epoll);
contract_suite!(sim, tidegate_io::sim::SimIo);
contract_suite!(uring, tidegate_io::uring::Uring);
