//! What the backends allocate: nothing per message, and little per idle socket.
//!
//! What it leaves to others: the kernel's own memory.

#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use tidegate_io::epoll::Epoll;
use tidegate_io::socket::{ListenOptions, listen};
use tidegate_io::uring::{Uring, probe};
use tidegate_io::{Completion, Io, IoOptions, Outcome, Socket, Token};

/// The system's allocator, counting what the calling thread does.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

fn count(allocations: u64, bytes: i64) {
    ALLOCATIONS.with(|count| count.set(count.get() + allocations));
    BYTES.with(|count| count.set(count.get() + bytes));
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(start, layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(start, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn for_both(test: impl Fn(Box<dyn Io>)) {
    test(Box::new(Epoll::new(&IoOptions::default()).unwrap()));
    match probe() {
        Ok(_) => test(Box::new(Uring::new(&IoOptions::default()).unwrap())),
        Err(unavailable) => eprintln!("SKIPPED, no io_uring here: {unavailable}"),
    }
}

/// Connections through the backend: the clients' ends and the servers'.
fn connections(io: &mut dyn Io, count: usize) -> Vec<(Socket, Socket)> {
    let fd = listen(&"127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap();
    let listener = io.listen(fd, Token(0)).unwrap();
    let address = io.local_address(listener).unwrap();
    io.accept(listener);
    let mut seen = Vec::new();
    let mut pairs = Vec::with_capacity(count);
    while pairs.len() < count {
        let client = io.connect(&address, Token(1)).unwrap();
        let mut server = None;
        while server.is_none() {
            io.turn(Some(Duration::from_secs(1)), &mut seen).unwrap();
            for completion in seen.drain(..) {
                if let Outcome::Accepted(socket) = completion.outcome {
                    io.set_token(socket, Token(2));
                    server = Some(socket);
                }
            }
        }
        pairs.extend(server.map(|server| (client, server)));
    }
    pairs
}

/// One message there and back: small ones are copied, long ones are shared and gathered.
fn ping_pong(io: &mut dyn Io, pair: (Socket, Socket), message: &[u8], seen: &mut Vec<Completion>) {
    let mut output = io.output();
    output.tail().extend_from_slice(message);
    io.send(pair.0, output);
    let (mut arrived, mut back, mut sends) = (0, 0, 0);
    let mut answer = Some(io.output());
    while back < message.len() || sends < 2 {
        io.turn(Some(Duration::from_secs(1)), seen).unwrap();
        for Completion { token, outcome } in seen.drain(..) {
            match (token, outcome) {
                (Token(2), Outcome::Received(buffer)) => {
                    arrived += buffer.len();
                    if let Some(answer) = &mut answer {
                        answer.push(buffer);
                    }
                }
                (Token(1), Outcome::Received(buffer)) => back += buffer.len(),
                (_, Outcome::Sent(result)) => {
                    result.unwrap();
                    sends += 1;
                }
                (_, Outcome::Connected(result)) => result.unwrap(),
                other => panic!("{other:?}"),
            }
        }
        if arrived == message.len()
            && let Some(output) = answer.take()
        {
            io.send(pair.1, output);
        }
    }
}

#[test]
fn a_message_allocates_nothing() {
    for_both(|mut io| {
        let io = io.as_mut();
        let pair = connections(io, 1)[0];
        io.recv(pair.0);
        io.recv(pair.1);
        let mut seen = Vec::with_capacity(64);
        let (short, long) = (vec![1; 300], vec![2; 200_000]);
        // Long ones first: what they leave in the pool has no memory of its own any more.
        for message in [&long, &short] {
            for _ in 0..20 {
                ping_pong(io, pair, message, &mut seen);
            }
        }
        let before = ALLOCATIONS.get();
        for _ in 0..200 {
            ping_pong(io, pair, &short, &mut seen);
        }
        assert_eq!(ALLOCATIONS.get() - before, 0, "{}", io.name());
        // An output whose own bytes grew beyond what the pool keeps allocates once; the shared
        // buffers of the way back do not.
        let before = ALLOCATIONS.get();
        for _ in 0..20 {
            ping_pong(io, pair, &long, &mut seen);
        }
        assert!(ALLOCATIONS.get() - before <= 40, "{}", io.name());
    });
}

#[test]
fn an_idle_socket_costs_less_than_a_hundred_bytes() {
    for_both(|mut io| {
        let io = io.as_mut();
        // Fills the slots to a power of two, so that the table's spare room is not counted.
        let mut pairs = connections(io, 63);
        let before = BYTES.get();
        pairs.extend(connections(io, 512 - 64));
        let mut seen = Vec::new();
        for &(client, server) in &pairs {
            io.recv(client);
            io.recv(server);
            io.turn(Some(Duration::ZERO), &mut seen).unwrap();
        }
        drop(seen);
        let list = (pairs.capacity() * size_of::<(Socket, Socket)>()) as i64;
        let sockets = 2 * (512 - 64);
        let each = (BYTES.get() - before - list) / sockets;
        assert!(each < 100, "{}: {each} bytes per idle socket", io.name());
        assert_eq!(io.stats().buffers_in_use, 0);
    });
}
