//! Cases about turns: waiting, waking, time, and everything at once.
//!
//! What it leaves to others: single operations.

use std::time::Duration;

use tidegate_io::{Buffer, Outcome, Socket, Token};

use super::{Bench, CLIENT, SERVER, pattern};
use crate::Backend;

pub fn a_turn_waits_as_long_as_it_is_told<B: Backend>(mut bench: Bench<B>) {
    bench.rest(Duration::from_millis(5));
    let before = bench.io.now().instant;
    let now = bench.turn(Duration::from_millis(20));
    assert!(now.instant.since(before) >= Duration::from_millis(20));
    assert!(bench.seen.is_empty());
}

pub fn a_turn_without_wait_returns<B: Backend>(mut bench: Bench<B>) {
    for _ in 0..1000 {
        bench.turn(Duration::ZERO);
    }
    assert!(bench.seen.is_empty());
}

/// However much is awaited, the one thing that happens ends a wait.
pub fn what_gathers_is_not_kept<B: Backend>(mut bench: Bench<B>) {
    let (client, server) = bench.pair();
    bench.io.expect(10, 10_000);
    bench.io.recv(server);
    for _ in 0..20 {
        bench.send_whole(client, CLIENT, b"x");
        let before = bench.io.now().instant;
        while bench.seen.is_empty() {
            bench.turn(Duration::from_secs(10));
        }
        assert_eq!(bench.bytes(SERVER, 1), b"x");
        assert!(bench.io.now().instant.since(before) < Duration::from_secs(10), "it was kept");
    }
}

pub fn a_wake_is_heard_once_per_turn<B: Backend>(mut bench: Bench<B>) {
    bench.io.set_waker_token(Token(77));
    let waker = bench.io.waker();
    for _ in 0..3 {
        for _ in 0..5 {
            waker.wake();
            waker.clone().wake();
        }
        bench.until("a wake", |seen| {
            seen.token == Token(77) && matches!(seen.outcome, Outcome::Woken)
        });
        bench.quiet(Token(77));
    }
}

pub fn wakes_from_another_thread_are_never_lost<B: Backend>(mut bench: Bench<B>) {
    if bench.io.name() == "sim" {
        return; // virtual time does not wait for other threads
    }
    use std::sync::atomic::{AtomicU64, Ordering};
    static ASKED: AtomicU64 = AtomicU64::new(0);
    static HEARD: AtomicU64 = AtomicU64::new(0);
    // The suite runs this once per backend in one process, in any order.
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    ASKED.store(0, Ordering::SeqCst);
    HEARD.store(0, Ordering::SeqCst);
    let waker = bench.io.waker();
    let thread = std::thread::spawn(move || {
        for round in 1..=500 {
            ASKED.store(round, Ordering::SeqCst);
            waker.wake();
            while HEARD.load(Ordering::SeqCst) < round {
                std::hint::spin_loop();
                std::thread::yield_now();
            }
        }
    });
    while HEARD.load(Ordering::SeqCst) < 500 {
        bench.until("a wake", |seen| matches!(seen.outcome, Outcome::Woken));
        HEARD.store(ASKED.load(Ordering::SeqCst), Ordering::SeqCst);
    }
    thread.join().unwrap();
}

pub fn time_goes_forward<B: Backend>(mut bench: Bench<B>) {
    let mut last = bench.io.now();
    for _ in 0..50 {
        let now = bench.turn(Duration::from_micros(100));
        assert!(now.instant >= last.instant);
        assert!(now.unix_us >= last.unix_us);
        last = now;
    }
}

/// One direction of one connection in the random mixture.
struct Flow {
    from: Socket,
    to: Socket,
    bytes: Vec<u8>,
    /// Bytes handed to `send` so far.
    offered: usize,
    sending: bool,
    received: usize,
    wanted: bool,
}

/// Connections that send, receive, pause and finish at random: every byte arrives once and in
/// order.
pub fn a_random_mixture_is_carried_whole<B: Backend>(mut bench: Bench<B>) {
    let mut random = Random(0x5eed);
    let mut flows = Vec::new();
    for i in 0..12 {
        let (client, server) = bench.pair_of(Token(100 + 2 * i), Token(101 + 2 * i));
        for (from, to) in [(client, server), (server, client)] {
            let bytes = pattern(random.below(700_000));
            flows.push(Flow {
                from,
                to,
                bytes,
                offered: 0,
                sending: false,
                received: 0,
                wanted: false,
            });
        }
    }
    let mut rounds = 0;
    while flows.iter().any(|flow| flow.received < flow.bytes.len()) {
        rounds += 1;
        assert!(rounds < 200_000, "no progress");
        for flow in &mut flows {
            act(&mut bench, flow, &mut random);
        }
        bench.turn(Duration::from_millis(u64::from(random.below(2) == 0)));
        for completion in std::mem::take(&mut bench.seen) {
            // The token of a socket is 100 + its number; even numbers are clients, which send the
            // flow of their number and receive the next one.
            let number = (completion.token.0 - 100) as usize;
            match completion.outcome {
                Outcome::Received(buffer) => {
                    let flow = &mut flows[number ^ 1];
                    let end = flow.received + buffer.len();
                    assert!(flow.bytes[flow.received..end] == *buffer, "flow {number}");
                    flow.received = end;
                }
                Outcome::Sent(result) => {
                    result.unwrap();
                    flows[number].sending = false;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    for flow in &flows {
        bench.io.close(flow.from);
    }
    bench.settled(1);
}

fn act<B: Backend>(bench: &mut Bench<B>, flow: &mut Flow, random: &mut Random) {
    if random.below(4) == 0 {
        flow.wanted = !flow.wanted;
        if flow.wanted { bench.io.recv(flow.to) } else { bench.io.pause(flow.to) }
    }
    if !flow.sending && flow.offered < flow.bytes.len() && random.below(3) > 0 {
        let mut output = bench.io.output();
        for _ in 0..=random.below(4) {
            let rest = &flow.bytes[flow.offered..];
            let part = &rest[..rest.len().min(1 + random.below(20_000))];
            flow.offered += part.len();
            if random.below(2) == 0 {
                output.tail().extend_from_slice(part);
            } else {
                output.push(Buffer::copy_from(part));
            }
            if flow.offered == flow.bytes.len() {
                break;
            }
        }
        bench.io.send(flow.from, output);
        flow.sending = true;
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}
