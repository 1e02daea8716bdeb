//! Cases about sending: wholeness, order, slow and missing peers, and our own mistakes.
//!
//! What it leaves to others: closing in the middle of a send.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tidegate_io::{Buffer, Outcome};

use super::{Bench, CLIENT, SERVER, pattern};
use crate::Backend;

pub fn pieces_are_sent_in_order<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.recv(server);
    let body = pattern(10_000);
    let mut output = bench.io.output();
    output.tail().extend_from_slice(b"head ");
    output.push(Buffer::copy_from(&body[..6_000]));
    output.tail().extend_from_slice(b" middle ");
    output.push(Buffer::copy_from(&body[6_000..]).slice(0..3_000));
    output.push(Buffer::copy_from(b"short"));
    output.tail().extend_from_slice(b" tail");
    let expected =
        [b"head ".as_slice(), &body[..6_000], b" middle ", &body[6_000..9_000], b"short tail"]
            .concat();
    assert_eq!(output.len(), expected.len());
    bench.io.send(client, output);
    assert!(bench.bytes(SERVER, expected.len()) == expected);
    bench.sent(CLIENT).unwrap();
}

/// More than the socket buffers hold: the send waits until the reader has made room.
pub fn a_slow_reader_gets_everything<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    let all = pattern(12 << 20);
    let mut output = bench.io.output();
    // Owned and shared pieces, so that short sends end inside both.
    for (i, chunk) in all.chunks(50_000).enumerate() {
        if i % 3 == 0 {
            output.tail().extend_from_slice(chunk);
        } else {
            output.push(Buffer::copy_from(chunk));
        }
    }
    bench.io.send(client, output);
    bench.rest(Duration::from_millis(20));
    assert!(!bench.seen.iter().any(|seen| matches!(seen.outcome, Outcome::Sent(_))));
    let mut received = Vec::new();
    while received.len() < all.len() {
        bench.io.recv(server);
        let next = bench.outcome(SERVER, "bytes", |seen| matches!(seen, Outcome::Received(_)));
        match next {
            Outcome::Received(buffer) => received.extend_from_slice(&buffer),
            other => panic!("{other:?}"),
        }
        if received.len() % 7 == 0 {
            bench.io.pause(server);
            bench.turn(Duration::ZERO);
        }
    }
    assert!(received == all);
    bench.sent(CLIENT).unwrap();
}

pub fn sending_goes_on_after_the_peer_has_finished<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.recv(server);
    bench.io.recv(client);
    bench.io.shutdown_write(client);
    bench.eof(SERVER);
    bench.send_whole(server, SERVER, b"answer after FIN");
    assert_eq!(bench.bytes(CLIENT, 16), b"answer after FIN");
    bench.io.close(server);
    bench.eof(CLIENT);
}

pub fn the_last_bytes_arrive_with_the_end<B: Backend>(mut bench: Bench<B>) {
    for closed in [true, false] {
        let (client, server) = bench.pair();
        bench.io.recv(server);
        bench.io.recv(client);
        let mut output = bench.io.output();
        let all = pattern(300_000);
        output.push(Buffer::copy_from(&all));
        output.tail().extend_from_slice(b"the end");
        bench.io.send_last(client, output);
        bench.sent(CLIENT).unwrap();
        if closed {
            bench.io.close(client);
        } else {
            bench.io.shutdown_write(client);
        }
        assert!(bench.bytes(SERVER, 300_007) == [&all, b"the end".as_slice()].concat());
        bench.eof(SERVER);
        if !closed {
            bench.send_whole(server, SERVER, b"understood");
            assert_eq!(bench.bytes(CLIENT, 10), b"understood");
            bench.io.close(client);
        }
        bench.io.close(server);
    }
    bench.settled(1);
}

pub fn a_received_buffer_can_be_sent_on<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.recv(server);
    bench.io.recv(client);
    let all = pattern(300_000);
    bench.send(client, &all);
    let mut echoed = Vec::new();
    let mut waiting = bench.io.output();
    let mut sending = false;
    while echoed.len() < all.len() {
        bench.turn(Duration::from_millis(100));
        for completion in std::mem::take(&mut bench.seen) {
            match (completion.token, completion.outcome) {
                (SERVER, Outcome::Received(buffer)) => waiting.push(buffer),
                (SERVER, Outcome::Sent(result)) => {
                    result.unwrap();
                    sending = false;
                }
                (CLIENT, Outcome::Received(buffer)) => echoed.extend_from_slice(&buffer),
                (CLIENT, Outcome::Sent(result)) => result.unwrap(),
                other => panic!("{other:?}"),
            }
        }
        if !sending && !waiting.is_empty() {
            let output = std::mem::replace(&mut waiting, bench.io.output());
            bench.io.send(server, output);
            sending = true;
        }
    }
    assert!(echoed == all);
    drop(waiting);
    bench.io.close(client);
    bench.io.close(server);
    bench.settled(1);
}

pub fn a_send_to_a_closed_socket_is_dropped<B: Backend>(mut bench: Bench<B>) {
    let (client, _) = bench.pair();
    bench.io.close(client);
    bench.send(client, b"into the void");
    bench.quiet(CLIENT);
}

pub fn two_sends_at_once_are_a_mistake<B: Backend>(mut bench: Bench<B>) {
    let (client, _) = bench.pair();
    bench.send(client, b"one");
    let mut second = bench.io.output();
    second.tail().push(2);
    let io = &mut bench.io;
    assert!(catch_unwind(AssertUnwindSafe(|| io.send(client, second))).is_err());
}

pub fn an_empty_send_is_a_mistake<B: Backend>(mut bench: Bench<B>) {
    let (client, _) = bench.pair();
    let empty = bench.io.output();
    let io = &mut bench.io;
    assert!(catch_unwind(AssertUnwindSafe(|| io.send(client, empty))).is_err());
}

pub fn sending_to_a_peer_that_is_gone_fails<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.abort(server);
    bench.rest(Duration::from_millis(10));
    // The first may still be taken; the reset that it meets fails a later one.
    let mut failed = None;
    for _ in 0..3 {
        bench.send(client, b"anybody there?");
        if let Err(errno) = bench.sent(CLIENT) {
            failed = Some(errno.0);
            break;
        }
        bench.rest(Duration::from_millis(10));
    }
    assert!(matches!(failed, Some(libc::EPIPE | libc::ECONNRESET)), "{failed:?}");
    bench.io.close(client);
    bench.settled(1);
}

/// More pieces than one system call takes.
pub fn many_pieces_are_sent_in_order<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.recv(server);
    let all = pattern(1_500 * 2_100);
    let mut output = bench.io.output();
    for chunk in all.chunks(2_100) {
        output.push(Buffer::copy_from(chunk));
    }
    bench.io.send(client, output);
    assert!(bench.bytes(SERVER, all.len()) == all);
    bench.sent(CLIENT).unwrap();
}
