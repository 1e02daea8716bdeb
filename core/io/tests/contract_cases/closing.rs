//! Cases about forgetting sockets at any moment.
//!
//! What it leaves to others: counting descriptors, which only a kernel backend has.

use std::time::Duration;

use tidegate_io::{Errno, Outcome, Token};

use super::{Bench, CLIENT, SERVER, pattern};
use crate::Backend;

pub fn a_closed_socket_is_silent<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.recv(server);
    bench.turn(Duration::ZERO);
    bench.send(client, b"too late");
    bench.io.close(server);
    bench.io.close(client);
    bench.quiet(SERVER);
    bench.quiet(CLIENT);
    bench.settled(1);
}

pub fn a_stale_handle_is_ignored<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.close(server);
    bench.io.close(server);
    bench.io.close(client);
    bench.settled(1);
    // The slots of the first pair are used again: the old handles must not touch the new sockets.
    let (client2, server2) = bench.pair_of(Token(20), Token(21));
    for stale in [client, server] {
        bench.io.recv(stale);
        bench.io.pause(stale);
        bench.io.set_token(stale, Token(66));
        bench.io.shutdown_write(stale);
        bench.io.abort(stale);
        bench.io.close(stale);
    }
    bench.io.recv(server2);
    bench.send_whole(client2, Token(20), b"alive");
    assert_eq!(bench.bytes(Token(21), 5), b"alive");
    bench.quiet(Token(66));
}

pub fn an_aborted_socket_is_reset<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.recv(client);
    bench.io.recv(server);
    bench.send_whole(server, SERVER, b"half of it");
    assert_eq!(bench.bytes(CLIENT, 10), b"half of it");
    bench.io.abort(server);
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::RecvFailed(_) | Outcome::Eof);
    match bench.outcome(CLIENT, "a reset", failed) {
        Outcome::RecvFailed(errno) => assert_eq!(errno, Errno(libc::ECONNRESET)),
        other => panic!("{other:?}"),
    }
    bench.io.close(client);
    bench.settled(1);
}

pub fn a_closed_socket_is_finished_for_its_peer<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.recv(client);
    bench.io.recv(server);
    bench.turn(Duration::ZERO);
    bench.send_whole(server, SERVER, b"bye");
    bench.io.close(server);
    assert_eq!(bench.bytes(CLIENT, 3), b"bye");
    bench.eof(CLIENT);
    bench.io.close(client);
    bench.settled(1);
}

pub fn closing_while_a_send_waits_gives_everything_back<B: Backend>(mut bench: Bench<B>) {
    for abort in [false, true] {
        let (client, server) = bench.pair();
        bench.send(client, &pattern(16 << 20));
        bench.rest(Duration::from_millis(10));
        if abort {
            bench.io.abort(client);
        } else {
            bench.io.close(client);
        }
        bench.quiet(CLIENT);
        bench.io.close(server);
        bench.settled(1);
    }
}

pub fn closing_while_connecting_is_fine<B: Backend>(mut bench: Bench<B>) {
    for turns in 0..3 {
        let client = bench.io.connect(&bench.address, CLIENT).unwrap();
        bench.io.recv(client);
        for _ in 0..turns {
            bench.turn(Duration::ZERO);
        }
        bench.seen.clear();
        bench.io.close(client);
        bench.quiet(CLIENT);
        for completion in std::mem::take(&mut bench.seen) {
            if let Outcome::Accepted(server) = completion.outcome {
                bench.io.close(server);
            }
        }
    }
}

pub fn closing_a_paused_or_ended_socket_is_fine<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.recv(server);
    bench.turn(Duration::ZERO);
    bench.io.pause(server);
    bench.io.close(server);
    bench.io.recv(client);
    bench.eof(CLIENT);
    bench.io.close(client);
    bench.settled(1);
}

/// Many sockets, each with something in flight, all forgotten in different states.
pub fn a_storm_of_pauses_and_closes_leaves_nothing<B: Backend>(mut bench: Bench<B>) {
    for round in 0..20_usize {
        let pairs: Vec<_> = (0..16).map(|_| bench.pair()).collect();
        for (i, &(client, server)) in pairs.iter().enumerate() {
            bench.io.recv(server);
            bench.io.recv(client);
            bench.send(client, &pattern(if i % 5 == 0 { 4 << 20 } else { 1 + i * 999 }));
            if i % 2 == 0 {
                bench.io.pause(server);
            }
        }
        for _ in 0..round % 4 {
            bench.turn(Duration::ZERO);
        }
        for (i, &(client, server)) in pairs.iter().enumerate() {
            match (i + round) % 6 {
                0 => bench.io.pause(server),
                1 => bench.io.recv(server),
                2 => bench.io.abort(client),
                3 => bench.io.shutdown_write(server),
                4 => bench.io.close(server),
                _ => {
                    bench.io.pause(server);
                    bench.io.recv(server);
                    bench.io.pause(server);
                }
            }
        }
        for _ in 0..round % 3 {
            bench.turn(Duration::ZERO);
        }
        for (client, server) in pairs {
            bench.io.close(server);
            bench.io.close(client);
        }
        bench.seen.clear();
        bench.quiet(SERVER);
        bench.quiet(CLIENT);
        bench.settled(1);
    }
}

pub fn a_backend_can_be_dropped_in_any_state<B: Backend>(mut bench: Bench<B>) {
    let pairs: Vec<_> = (0..8).map(|_| bench.pair()).collect();
    for (i, &(client, server)) in pairs.iter().enumerate() {
        bench.io.recv(server);
        bench.send(client, &pattern(1 << (10 + i * 2)));
    }
    bench.io.connect(&bench.address, CLIENT).unwrap();
    bench.turn(Duration::ZERO);
    bench.io.pause(pairs[0].1);
    bench.io.close(pairs[1].1);
    let held = std::mem::take(&mut bench.seen);
    let Bench { io, .. } = bench;
    drop(io);
    // Buffers stay readable although their backend is gone.
    for completion in held {
        if let Outcome::Received(buffer) = completion.outcome {
            assert!(pattern(1 << 24).starts_with(&buffer));
            return;
        }
    }
}
