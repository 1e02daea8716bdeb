//! Cases about receiving: order, wholeness, pausing, the end.
//!
//! What it leaves to others: shortage of buffers.

use std::time::Duration;

use tidegate_io::{Errno, Outcome, Token};

use super::{Bench, CLIENT, SERVER, pattern};
use crate::Backend;

pub fn nothing_is_received_before_it_is_wanted<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.send_whole(client, CLIENT, b"early");
    bench.quiet(SERVER);
    bench.io.recv(server);
    assert_eq!(bench.bytes(SERVER, 5), b"early");
}

pub fn wanting_twice_is_wanting_once<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.recv(server);
    bench.io.recv(server);
    bench.turn(Duration::ZERO);
    bench.io.recv(server);
    bench.send_whole(client, CLIENT, b"once");
    assert_eq!(bench.bytes(SERVER, 4), b"once");
    bench.quiet(SERVER);
}

pub fn small_messages_arrive_in_order<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.recv(server);
    let mut all = Vec::new();
    for i in 0..200_u32 {
        let message = i.to_le_bytes();
        bench.send_whole(client, CLIENT, &message);
        all.extend_from_slice(&message);
    }
    assert_eq!(bench.bytes(SERVER, all.len()), all);
}

pub fn a_megabyte_arrives_whole_both_ways<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    let all = pattern(1 << 20);
    bench.io.recv(server);
    bench.send(client, &all);
    assert!(bench.bytes(SERVER, all.len()) == all);
    bench.sent(CLIENT).unwrap();
    bench.io.recv(client);
    bench.send(server, &all);
    assert!(bench.bytes(CLIENT, all.len()) == all);
    bench.sent(SERVER).unwrap();
}

pub fn a_paused_socket_loses_nothing<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.recv(server);
    bench.rest(Duration::from_millis(5));
    bench.io.pause(server);
    bench.rest(Duration::from_millis(5));
    bench.send_whole(client, CLIENT, b"while paused");
    bench.quiet(SERVER);
    bench.io.recv(server);
    assert_eq!(bench.bytes(SERVER, 12), b"while paused");
    // And once more, without a turn between.
    bench.io.pause(server);
    bench.io.recv(server);
    bench.send_whole(client, CLIENT, b"again");
    assert_eq!(bench.bytes(SERVER, 5), b"again");
}

/// Any number of turns between sending, pausing and wanting: every byte comes once, in order.
pub fn pause_and_recv_work_in_every_interleaving<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.recv(server);
    let mut expected = Vec::new();
    let mut received = Vec::new();
    for case in 0..256_u32 {
        let message = case.to_le_bytes();
        expected.extend_from_slice(&message);
        // Two bits per gap: turns after the send, after the pause, after recv, after a second
        // pause.
        let turns = |gap: u32| case >> (2 * gap) & 3;
        bench.send(client, &message);
        for (gap, step) in ["send", "pause", "recv", "pause"].into_iter().enumerate() {
            match step {
                "pause" => bench.io.pause(server),
                "recv" => bench.io.recv(server),
                _ => {}
            }
            for _ in 0..turns(gap as u32) {
                bench.turn(Duration::ZERO);
            }
        }
        bench.sent(CLIENT).unwrap();
        bench.io.recv(server);
        while received.len() < expected.len() {
            let more = bench.outcome(SERVER, "bytes", |seen| matches!(seen, Outcome::Received(_)));
            match more {
                Outcome::Received(buffer) => received.extend_from_slice(&buffer),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(received, expected, "case {case}");
    }
    bench.quiet(SERVER);
}

pub fn the_end_of_a_stream_comes_once_and_after_the_bytes<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.recv(server);
    bench.send_whole(client, CLIENT, b"last words");
    bench.io.shutdown_write(client);
    bench.until("the end", |seen| {
        // Only looked at here: the bytes are taken out below.
        seen.token == SERVER && matches!(seen.outcome, Outcome::Eof)
    });
    assert_eq!(bench.bytes(SERVER, 10), b"last words");
    bench.io.recv(server);
    bench.quiet(SERVER);
}

pub fn the_end_of_a_stream_is_seen_when_it_came_before_recv<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.send_whole(client, CLIENT, b"and gone");
    bench.io.close(client);
    bench.rest(Duration::from_millis(10));
    bench.io.recv(server);
    assert_eq!(bench.bytes(SERVER, 8), b"and gone");
    bench.eof(SERVER);
    // The same over a pause: the end comes while nobody listens.
    let (client, server) = bench.pair_of(Token(10), Token(11));
    bench.io.recv(server);
    bench.rest(Duration::from_millis(5));
    bench.io.pause(server);
    bench.io.shutdown_write(client);
    bench.rest(Duration::from_millis(10));
    bench.io.recv(server);
    bench.eof(Token(11));
}

pub fn a_reset_is_reported<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.recv(server);
    bench.turn(Duration::ZERO);
    bench.io.abort(client);
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::RecvFailed(_));
    match bench.outcome(SERVER, "a failed receive", failed) {
        Outcome::RecvFailed(errno) => assert_eq!(errno, Errno(libc::ECONNRESET)),
        other => panic!("{other:?}"),
    }
    bench.io.recv(server);
    bench.quiet(SERVER);
    bench.io.close(server);
    bench.settled(1);
}

pub fn a_new_token_is_used_at_once<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.recv(server);
    bench.send_whole(client, CLIENT, b"one");
    assert_eq!(bench.bytes(SERVER, 3), b"one");
    bench.io.set_token(server, Token(99));
    bench.send_whole(client, CLIENT, b"two");
    assert_eq!(bench.bytes(Token(99), 3), b"two");
    bench.quiet(SERVER);
}
