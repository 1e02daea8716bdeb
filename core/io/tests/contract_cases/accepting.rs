//! Cases about listeners and connects.
//!
//! What it leaves to others: what flows over the connections.

use tidegate_io::{Errno, Outcome, Token};

use super::{Bench, CLIENT, LISTENER, SERVER};
use crate::Backend;

pub fn a_connection_is_accepted_with_the_listeners_token<B: Backend>(mut bench: Bench<B>) {
    let client = bench.io.connect(&bench.address, CLIENT).unwrap();
    let server = bench.accepted();
    bench.connected(CLIENT).unwrap();
    assert_ne!(client, server);
    bench.send(client, b"hello");
    bench.io.recv(server);
    assert_eq!(bench.bytes(LISTENER, 5), b"hello");
}

pub fn several_connections_are_accepted<B: Backend>(mut bench: Bench<B>) {
    let clients: Vec<_> =
        (0..20).map(|i| bench.io.connect(&bench.address, Token(100 + i)).unwrap()).collect();
    let servers: Vec<_> = clients.iter().map(|_| bench.accepted()).collect();
    for i in 0..20 {
        bench.connected(Token(100 + i)).unwrap();
    }
    assert_eq!(bench.io.stats().sockets, 41);
    for (client, server) in clients.into_iter().zip(servers) {
        bench.io.close(client);
        bench.io.close(server);
    }
    bench.settled(1);
}

pub fn a_paused_listener_accepts_later<B: Backend>(mut bench: Bench<B>) {
    bench.rest(std::time::Duration::from_millis(5));
    bench.io.pause(bench.listener);
    bench.rest(std::time::Duration::from_millis(5));
    bench.io.connect(&bench.address, CLIENT).unwrap();
    // The connection is made by the kernel all the same; nobody hears of it.
    bench.quiet(LISTENER);
    bench.io.accept(bench.listener);
    let server = bench.accepted();
    bench.io.set_token(server, SERVER);
    // Wanted again at once, without a turn between.
    bench.io.pause(bench.listener);
    bench.io.accept(bench.listener);
    bench.pair_of(Token(4), Token(5));
}

pub fn a_closed_listener_reports_nothing<B: Backend>(mut bench: Bench<B>) {
    let client = bench.io.connect(&bench.address, CLIENT).unwrap();
    bench.io.close(bench.listener);
    bench.quiet(LISTENER);
    bench.io.close(client);
    bench.settled(0);
}

pub fn a_refused_connect_says_so<B: Backend>(mut bench: Bench<B>) {
    bench.io.close(bench.listener);
    bench.settled(0);
    let client = bench.io.connect(&bench.address, CLIENT).unwrap();
    assert_eq!(bench.connected(CLIENT), Err(Errno(libc::ECONNREFUSED)));
    let connected = bench.seen.iter().any(|seen| matches!(seen.outcome, Outcome::Connected(_)));
    assert!(!connected);
    bench.io.close(client);
    bench.settled(0);
}

pub fn addresses_of_both_ends_agree<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    assert_eq!(bench.io.peer_address(client), Some(bench.address));
    assert_eq!(bench.io.local_address(server), Some(bench.address));
    assert_eq!(bench.io.peer_address(server), bench.io.local_address(client));
    assert!(bench.io.peer_address(server).is_some());
    bench.io.close(client);
    assert_eq!(bench.io.peer_address(client), None);
    assert_eq!(bench.io.local_address(client), None);
}
