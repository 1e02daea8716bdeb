//! What an origin says before it was asked answers nobody, also when it comes in the moment in
//! which the connection changes hands.
//!
//! What it leaves to others: bytes in one piece with a response (`acceptance`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod drive;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use tidegate_io::IoOptions;
use tidegate_io::epoll::Epoll;

const ROUTES: &str = "{ match: { prefix: / }, route: { cluster: c } }";
const ONE_CONNECTION: &str = "circuit_breakers: { thresholds: [{ max_connections: 1 }] }";
/// Bytes that one receive takes.
const RECEIVE_BYTES: usize = 4096;
const UNASKED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nEVIL";

/// A response that is as long as one receive.
fn response() -> Vec<u8> {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4055\r\n\r\n";
    let mut all = HEAD.to_vec();
    all.resize(HEAD.len() + 4055, b'a');
    assert_eq!(all.len(), RECEIVE_BYTES);
    all
}

fn accept(origin: &TcpListener) -> TcpStream {
    let (connection, _) = origin.accept().expect("the shard has connected");
    connection.set_nonblocking(false).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    connection
}

#[test]
fn bytes_of_the_same_turn_do_not_answer_the_next_request() {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    // A connection that was not made is an error and not a wait.
    origin.set_nonblocking(true).unwrap();
    let options = IoOptions { buffer_bytes: RECEIVE_BYTES as u32, ..IoOptions::default() };
    let io = Epoll::new(&options).unwrap();
    let (mut shard, address) =
        drive::shard(io, origin.local_addr().unwrap(), ROUTES, ONE_CONNECTION);
    let mut clients = [0, 1].map(|_| TcpStream::connect(address).unwrap());
    for client in &mut clients {
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    let mut turns = |count| {
        for _ in 0..count {
            shard.turn(Some(Duration::from_millis(5))).unwrap();
        }
    };
    turns(20);
    // Both ask; one has the connection, the other waits for it.
    let mut first = accept(&origin);
    let mut request = [0; 4096];
    assert!(first.read(&mut request).unwrap() > 0);
    let answer = response();
    first.write_all(&[&answer, UNASKED].concat()).unwrap();
    turns(20);
    // The one who waited asks on a connection of its own.
    let mut second = accept(&origin);
    assert!(second.read(&mut request).unwrap() > 0);
    second.write_all(&answer).unwrap();
    turns(20);
    for client in &mut clients {
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut got = Vec::new();
        while got.len() < answer.len() {
            let length = client.read(&mut request).unwrap();
            assert!(length > 0);
            got.extend_from_slice(&request[..length]);
        }
        let text = String::from_utf8_lossy(&got);
        assert!(!text.contains("EVIL") && text.ends_with("aaaa"), "{text}");
    }
}
