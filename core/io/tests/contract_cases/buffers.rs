//! Cases about buffers: shortage, and who outlives whom.
//!
//! What it leaves to others: the pool itself, which has unit tests.

use std::time::Duration;

use tidegate_io::{Buffer, IoOptions, Outcome, Token};

use super::{Bench, CLIENT, SERVER, pattern};
use crate::Backend;

fn few_buffers() -> IoOptions {
    IoOptions {
        buffer_bytes: 1024,
        buffers_max: 16,
        buffer_ring_entries: 8,
        ..IoOptions::default()
    }
}

/// Receives everything and keeps every buffer, until nothing comes any more.
fn hoard<B: Backend>(bench: &mut Bench<B>, held: &mut Vec<(Token, Buffer)>) {
    loop {
        let before = held.len();
        bench.rest(Duration::from_millis(20));
        for completion in std::mem::take(&mut bench.seen) {
            if let Outcome::Received(buffer) = completion.outcome {
                held.push((completion.token, buffer));
            }
        }
        if held.len() == before {
            return;
        }
    }
}

pub fn running_out_of_buffers_loses_nothing_and_does_not_spin<B: Backend>(_: Bench<B>) {
    let Some(mut bench) = Bench::<B>::with(&few_buffers()) else { return };
    let all = pattern(60_000);
    let pairs: Vec<_> = (0..3).map(|i| bench.pair_of(Token(10 + i), Token(20 + i))).collect();
    for &(client, server) in &pairs {
        bench.io.recv(server);
        bench.send(client, &all);
    }
    let mut received = vec![Vec::new(); 3];
    let mut held = Vec::new();
    while received.iter().any(|bytes| bytes.len() < all.len()) {
        hoard(&mut bench, &mut held);
        assert_eq!(bench.io.stats().buffers_in_use, held.len() as u64);
        assert!(!held.is_empty(), "nothing comes although buffers are free");
        if bench.io.stats().buffers_in_use == 16 {
            // All are held: a turn waits instead of trying again and again.
            let before = bench.io.stats().turns;
            bench.rest(Duration::from_millis(50));
            assert!(bench.io.stats().turns - before < 10);
        }
        for (token, buffer) in held.drain(..) {
            received[(token.0 - 20) as usize].extend_from_slice(&buffer);
        }
    }
    assert!(received.iter().all(|bytes| *bytes == all));
    assert!(bench.io.stats().no_buffers > 0);
}

pub fn a_closed_socket_does_not_wait_for_buffers<B: Backend>(_: Bench<B>) {
    let Some(mut bench) = Bench::<B>::with(&few_buffers()) else { return };
    let (client, server) = bench.pair();
    let (client2, server2) = bench.pair_of(Token(10), Token(11));
    bench.io.recv(server);
    bench.send(client, &pattern(60_000));
    let mut held = Vec::new();
    hoard(&mut bench, &mut held);
    bench.io.recv(server2);
    bench.send(client2, b"patience");
    bench.quiet(Token(11));
    // Paused and wanted again while it waits for a buffer.
    bench.io.pause(server2);
    bench.io.recv(server2);
    bench.io.close(server);
    bench.io.close(client);
    drop(held);
    assert_eq!(bench.bytes(Token(11), 8), b"patience");
    bench.io.close(client2);
    bench.io.close(server2);
    bench.settled(1);
}

/// Many sockets wait for a buffer and only the last has anything to put into one: the others must
/// not hold it up.
pub fn one_free_buffer_is_offered_to_everybody_who_waits<B: Backend>(_: Bench<B>) {
    let Some(mut bench) = Bench::<B>::with(&few_buffers()) else { return };
    let (client, server) = bench.pair();
    let pairs: Vec<_> = (0..20).map(|i| bench.pair_of(Token(10 + i), Token(50 + i))).collect();
    bench.io.recv(server);
    bench.send(client, &pattern(60_000));
    let mut held = Vec::new();
    hoard(&mut bench, &mut held);
    for &(_, server) in &pairs {
        bench.io.recv(server);
    }
    bench.rest(Duration::from_millis(5));
    let last = pairs.len() - 1;
    bench.send(pairs[last].0, b"x");
    bench.rest(Duration::from_millis(5));
    // Nobody else wants it: the socket that filled the others is gone.
    bench.io.close(server);
    bench.io.close(client);
    held.pop();
    let before = bench.io.now().instant;
    assert_eq!(bench.bytes(Token(50 + last as u64), 1), b"x");
    assert!(bench.io.now().instant.since(before) < Duration::from_millis(500));
}

pub fn buffers_outlive_their_socket_and_backend<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.recv(server);
    bench.send_whole(client, CLIENT, b"to be kept");
    let received = |outcome: &Outcome| matches!(outcome, Outcome::Received(_));
    let Outcome::Received(buffer) = bench.outcome(SERVER, "bytes", received) else { return };
    bench.io.close(server);
    bench.io.close(client);
    bench.rest(Duration::from_millis(10));
    assert_eq!(bench.io.stats().buffers_in_use, 1);
    let part = buffer.slice(6..10);
    drop(buffer);
    drop(bench);
    assert_eq!(&*part, b"kept");
}

pub fn outputs_are_used_again<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.recv(server);
    let mut first = bench.io.output();
    first.tail().extend_from_slice(&pattern(500));
    bench.io.send(client, first);
    bench.sent(CLIENT).unwrap();
    let second = bench.io.output();
    assert!(second.is_empty());
    drop(second);
    let mut third = bench.io.output();
    assert!(third.tail().capacity() >= 500, "the memory of a sent output comes back");
}
