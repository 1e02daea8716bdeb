//! Cases about splices: from one socket to another, without a buffer.
//!
//! What it leaves to others: receiving and sending themselves.

use std::time::Duration;

use tidegate_io::{Errno, Outcome, Socket, SpliceEnd, Token};

use super::{Bench, CLIENT, SERVER, pattern};
use crate::Backend;

const FAR_SERVER: Token = Token(4);
const FAR_CLIENT: Token = Token(5);

/// Two connections: `near` sends to `from`, and `to` sends to `far`.
struct Relay {
    near: Socket,
    from: Socket,
    to: Socket,
    far: Socket,
}

impl Relay {
    fn new<B: Backend>(bench: &mut Bench<B>) -> Relay {
        let (near, from) = bench.pair();
        let (far, to) = bench.pair_of(FAR_CLIENT, FAR_SERVER);
        Relay { near, from, to, far }
    }
}

/// Waits for the end of the splice from `SERVER`: how many bytes it has moved, and why it ended.
fn end<B: Backend>(bench: &mut Bench<B>) -> (u64, SpliceEnd) {
    let mut all = 0;
    loop {
        let spliced = |outcome: &Outcome| matches!(outcome, Outcome::Spliced { .. });
        match bench.outcome(SERVER, "a splice", spliced) {
            Outcome::Spliced { bytes, end: Some(end) } => return (all + bytes, end),
            Outcome::Spliced { bytes, end: None } => {
                assert!(bytes > 0, "a report of nothing");
                all += bytes;
            }
            other => panic!("{other:?}"),
        }
    }
}

pub fn so_many_bytes_are_moved_and_the_rest_stays<B: Backend>(mut bench: Bench<B>) {
    let Relay { near, from, to, far } = Relay::new(&mut bench);
    let all = pattern(300_000);
    bench.io.recv(far);
    bench.send(near, &all);
    assert!(bench.io.splice(from, to, 200_000));
    assert_eq!(end(&mut bench), (200_000, SpliceEnd::Complete));
    assert!(bench.bytes(FAR_CLIENT, 200_000) == all[..200_000]);
    bench.io.recv(from);
    assert!(bench.bytes(SERVER, 100_000) == all[200_000..]);
    bench.send_whole(to, FAR_SERVER, b"and then");
    assert_eq!(bench.bytes(FAR_CLIENT, 8), b"and then");
}

pub fn bytes_that_come_later_are_moved_too<B: Backend>(mut bench: Bench<B>) {
    let Relay { near, from, to, far } = Relay::new(&mut bench);
    bench.io.recv(far);
    assert!(bench.io.splice(from, to, 15));
    for part in [b"first", b"later", b"third"] {
        bench.rest(Duration::from_millis(5));
        bench.send_whole(near, CLIENT, part);
        assert_eq!(bench.bytes(FAR_CLIENT, 5), part);
    }
    assert_eq!(end(&mut bench), (15, SpliceEnd::Complete));
}

pub fn a_splice_waits_for_a_slow_reader<B: Backend>(mut bench: Bench<B>) {
    let Relay { near, from, to, far } = Relay::new(&mut bench);
    let all = pattern(12 << 20);
    bench.send(near, &all);
    assert!(bench.io.splice(from, to, all.len() as u64));
    bench.rest(Duration::from_millis(50));
    let turns = bench.io.stats().turns;
    bench.rest(Duration::from_millis(50));
    assert!(bench.io.stats().turns - turns < 40, "it spins while it waits");
    bench.io.recv(far);
    assert!(bench.bytes(FAR_CLIENT, all.len()) == all);
    assert_eq!(end(&mut bench), (all.len() as u64, SpliceEnd::Complete));
    assert_eq!(bench.io.stats().buffers_in_use, 0);
}

pub fn a_splice_ends_with_its_source<B: Backend>(mut bench: Bench<B>) {
    let Relay { near, from, to, far } = Relay::new(&mut bench);
    bench.io.recv(far);
    bench.send_whole(near, CLIENT, b"only this");
    bench.io.shutdown_write(near);
    assert!(bench.io.splice(from, to, 1000));
    assert_eq!(end(&mut bench), (9, SpliceEnd::Eof));
    assert_eq!(bench.bytes(FAR_CLIENT, 9), b"only this");
    bench.send_whole(to, FAR_SERVER, b"more");
    assert_eq!(bench.bytes(FAR_CLIENT, 4), b"more");
}

pub fn a_reset_of_the_source_ends_it<B: Backend>(mut bench: Bench<B>) {
    let Relay { near, from, to, .. } = Relay::new(&mut bench);
    assert!(bench.io.splice(from, to, 1000));
    bench.rest(Duration::from_millis(5));
    bench.io.abort(near);
    assert_eq!(end(&mut bench), (0, SpliceEnd::RecvFailed(Errno(libc::ECONNRESET))));
}

pub fn a_target_that_is_gone_ends_it<B: Backend>(mut bench: Bench<B>) {
    let Relay { near, from, to, far } = Relay::new(&mut bench);
    assert!(bench.io.splice(from, to, 1 << 30));
    bench.rest(Duration::from_millis(5));
    bench.io.abort(far);
    bench.rest(Duration::from_millis(5));
    bench.send(near, &pattern(1 << 20));
    let (_, end) = end(&mut bench);
    assert!(matches!(end, SpliceEnd::SendFailed(_)), "{end:?}");
}

pub fn closing_either_end_is_silent_and_leaves_nothing<B: Backend>(mut bench: Bench<B>) {
    for case in 0..8 {
        let Relay { near, from, to, far } = Relay::new(&mut bench);
        // The pipe is empty, or full because nobody reads.
        if case & 1 == 1 {
            bench.send(near, &pattern(12 << 20));
        }
        assert!(bench.io.splice(from, to, 1 << 30));
        if case & 2 == 2 {
            bench.rest(Duration::from_millis(10));
        }
        bench.seen.clear();
        bench.io.close(if case & 4 == 4 { from } else { to });
        bench.quiet(if case & 4 == 4 { FAR_SERVER } else { SERVER });
        for socket in [near, from, to, far] {
            bench.io.close(socket);
        }
        bench.settled(1);
    }
}

pub fn both_ends_are_free_after_a_splice<B: Backend>(mut bench: Bench<B>) {
    let Relay { near, from, to, far } = Relay::new(&mut bench);
    bench.io.recv(far);
    for round in 0..50_u32 {
        assert!(!bench.io.is_receiving(from));
        assert!(bench.io.splice(from, to, 4));
        bench.send_whole(near, CLIENT, &round.to_le_bytes());
        assert_eq!(end(&mut bench), (4, SpliceEnd::Complete));
        assert_eq!(bench.bytes(FAR_CLIENT, 4), round.to_le_bytes());
        bench.send_whole(to, FAR_SERVER, b"between");
        assert_eq!(bench.bytes(FAR_CLIENT, 7), b"between");
        bench.io.recv_some(from, 3);
        assert!(bench.io.is_receiving(from));
        bench.send_whole(near, CLIENT, b"some");
        assert_eq!(bench.bytes(SERVER, 3), b"som");
        bench.io.recv_some(from, 3);
        assert_eq!(bench.bytes(SERVER, 1), b"e");
    }
}

pub fn one_splice_at_a_time<B: Backend>(mut bench: Bench<B>) {
    let Relay { from, to, .. } = Relay::new(&mut bench);
    assert!(bench.io.splice(from, to, 10));
    assert!(!bench.io.splice(from, to, 10));
}

pub fn a_paused_socket_can_be_spliced_from<B: Backend>(mut bench: Bench<B>) {
    let Relay { near, from, to, far } = Relay::new(&mut bench);
    bench.io.recv(far);
    bench.io.recv(from);
    bench.send_whole(near, CLIENT, b"received");
    assert_eq!(bench.bytes(SERVER, 8), b"received");
    bench.io.pause(from);
    while bench.io.is_receiving(from) {
        bench.turn(Duration::from_millis(1));
    }
    let all = pattern(1 << 20);
    bench.send(near, &all);
    assert!(bench.io.splice(from, to, all.len() as u64));
    assert_eq!(end(&mut bench), (all.len() as u64, SpliceEnd::Complete));
    assert!(bench.bytes(FAR_CLIENT, all.len()) == all);
}

pub fn receiving_and_splicing_is_a_mistake<B: Backend>(mut bench: Bench<B>) {
    let Relay { from, to, .. } = Relay::new(&mut bench);
    bench.io.recv(from);
    let splice = std::panic::AssertUnwindSafe(|| bench.io.splice(from, to, 10));
    assert!(std::panic::catch_unwind(splice).is_err());
}
