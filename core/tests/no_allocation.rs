//! A request in steady state allocates nothing: counted on the shard's own thread, over real
//! sockets.
//!
//! What it leaves to others: how fast it is (`benches`, `scripts/compare`).

#![allow(clippy::unwrap_used, clippy::panic)]

mod drive;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tidegate_io::epoll::Epoll;
use tidegate_io::uring::Uring;
use tidegate_io::{Io, IoOptions};

const WARM_UP: usize = 2_000;
const REQUESTS: usize = 5_000;

const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello";
const REQUEST: &[u8] =
    b"GET /some/path?query HTTP/1.1\r\nHost: example.com\r\nUser-Agent: test/1.0\r\n\
    Accept: */*\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n\r\n";

const PLAIN: &str = "{ match: { prefix: / }, route: { cluster: c } }";

/// A condition that does not hold, and fields that are made and added.
const CHANGED: &str = "{ match: { prefix: /, headers: [{ name: x, present_match: true }] }, \
    redirect: {} }, { match: { prefix: / }, route: { cluster: c }, \
    request_headers_to_add: [{ header: { key: x-a, value: b } }, \
    { header: { key: x-b, value: '%REQ(:path)% %DOWNSTREAM_REMOTE_ADDRESS%' } }], \
    response_headers_to_remove: [content-type], \
    response_headers_to_add: [{ header: { key: x-c, value: d }, append_action: ADD_IF_ABSENT }] }";

/// Answers every request that arrives, however it is cut.
fn serve(listener: TcpListener) {
    for mut connection in listener.incoming().map_while(Result::ok) {
        let mut input = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = connection.read(&mut buffer) {
            input.extend_from_slice(&buffer[..length]);
            while let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") {
                input.drain(..end + 4);
                connection.write_all(RESPONSE).unwrap();
            }
        }
    }
}

/// Sends requests one after the other over one connection, and counts answers.
fn ask(address: SocketAddr, answered: &AtomicUsize) -> TcpStream {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_nodelay(true).unwrap();
    let mut buffer = [0; 4096];
    while answered.load(Ordering::Relaxed) < WARM_UP + REQUESTS {
        connection.write_all(REQUEST).unwrap();
        let mut got = 0;
        while !buffer[..got].ends_with(b"\r\n\r\nhello") {
            let length = connection.read(&mut buffer[got..]).unwrap();
            assert!(length > 0, "closed after {:?}", String::from_utf8_lossy(&buffer[..got]));
            got += length;
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    connection
}

fn check<I: Io>(io: I, routes: &str) {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut shard, address) = drive::shard(io, origin.local_addr().unwrap(), routes, "");
    thread::spawn(move || serve(origin));
    let answered = Arc::new(AtomicUsize::new(0));
    let counter = answered.clone();
    // The connection stays open until all is counted: closing it is no part of a request.
    let (counted, is_counted) = mpsc::channel::<()>();
    let client = thread::spawn(move || {
        let _open = ask(address, &counter);
        is_counted.recv().ok();
    });
    let mut run_until = |count| {
        while answered.load(Ordering::Relaxed) < count {
            assert!(!client.is_finished(), "the client failed");
            shard.turn(Some(Duration::from_millis(10))).unwrap();
        }
    };
    run_until(WARM_UP);
    let allocations = allocation_counter::measure(|| run_until(WARM_UP + REQUESTS));
    drop(counted);
    // A pool may still grow by an entry when the kernel delivers more at once than ever before.
    assert!(allocations.count_total <= 4, "{allocations:?} for {REQUESTS} requests");
}

#[test]
fn epoll_allocates_nothing_per_request() {
    check(Epoll::new(&IoOptions::default()).unwrap(), PLAIN);
}

#[test]
fn io_uring_allocates_nothing_per_request() {
    match Uring::new(&IoOptions::default()) {
        Ok(io) => check(io, PLAIN),
        Err(error) => eprintln!("NOT CHECKED, no io_uring here: {error}"),
    }
}

#[test]
fn conditions_and_added_fields_allocate_nothing_per_request() {
    check(Epoll::new(&IoOptions::default()).unwrap(), CHANGED);
}

/// The counter counts: a test that cannot fail proves nothing.
#[test]
fn an_allocation_is_noticed() {
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(counted.count_total, 1);
}
