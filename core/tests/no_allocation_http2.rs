//! As `no_allocation.rs`, for HTTP/2: on the client's side, and on both. Requests have bodies, and
//! answers have trailers, as in gRPC.
//!
//! What it leaves to others: HTTP/1 (`no_allocation.rs`), the codec alone (`tidegate-http`).

#![allow(clippy::unwrap_used, clippy::panic)]

mod drive;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tidegate_http::h2::{Connection, Ending, Event, Options, Send};
use tidegate_http::{BodyLength, Headers, Method, RequestHead, ResponseHead};
use tidegate_io::epoll::Epoll;
use tidegate_io::uring::Uring;
use tidegate_io::{Io, IoOptions, Now};

const WARM_UP: usize = 2_000;
const REQUESTS: usize = 5_000;
const BODY: &[u8] = b"hello";

const PLAIN: &str = "{ match: { prefix: / }, route: { cluster: c } }";
const HTTP2: &str = "typed_extension_protocol_options: { \
    envoy.extensions.upstreams.http.v3.HttpProtocolOptions: { \
    '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
    explicit_http_config: { http2_protocol_options: {} } } }";

/// A blocking end of a connection.
struct Peer {
    socket: TcpStream,
    connection: Connection,
    input: Vec<u8>,
    output: Vec<u8>,
    trailers: Headers,
}

impl Peer {
    fn new(socket: TcpStream, connection: Connection) -> Peer {
        socket.set_nodelay(true).unwrap();
        let mut trailers = Headers::default();
        trailers.append(b"grpc-status", b"0");
        Peer { socket, connection, input: vec![0; 20_000], output: Vec::new(), trailers }
    }

    /// Sends everything.
    fn flush(&mut self) -> std::io::Result<()> {
        let Peer { connection, output, .. } = self;
        while let Some(send) = connection.next_send(16_384, output) {
            match send {
                Send::Data { length, .. } => output.extend_from_slice(&BODY[..length]),
                Send::Trailers { stream, .. } => {
                    connection.send_trailers(stream, &self.trailers, output);
                }
            }
        }
        connection.write_control(output);
        connection.handle_sending();
        connection.handle_sent();
        let result = self.socket.write_all(output);
        output.clear();
        result
    }
}

/// Answers every request.
fn serve_http2(listener: TcpListener) {
    for socket in listener.incoming().map_while(Result::ok) {
        let options = Options::default();
        let mut peer = Peer::new(socket, Connection::server(options, Duration::ZERO));
        let mut head = RequestHead::default();
        while peer.flush().is_ok() {
            let length = peer.socket.read(&mut peer.input).unwrap_or(0);
            if length == 0 {
                break;
            }
            let mut at = 0;
            loop {
                let input = &peer.input[at..length];
                let step = peer.connection.decode_request(input, &mut head, Duration::ZERO);
                let step = step.unwrap();
                at += step.consumed;
                match step.event {
                    Event::NeedMore => break,
                    Event::Data { stream, range, end_stream, .. } => {
                        peer.connection.consumed(stream, range.len());
                        if end_stream {
                            let head = ResponseHead { status: 200, ..ResponseHead::default() };
                            let body = BodyLength::Chunked;
                            let out = &mut peer.output;
                            peer.connection.send_response(stream, &head, body, false, out);
                            peer.connection.queue_data(stream, BODY.len(), Ending::Trailers);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Answers every request by its head.
fn serve_http1(listener: TcpListener) {
    const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    for mut connection in listener.incoming().map_while(Result::ok) {
        let mut input = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = connection.read(&mut buffer) {
            input.extend_from_slice(&buffer[..length]);
            while let Some(end) = input.windows(9).position(|window| window == b"\r\n\r\nhello") {
                input.drain(..end + 9);
                connection.write_all(RESPONSE).unwrap();
            }
        }
    }
}

/// Sends requests one after the other over one connection, and counts answers.
fn ask(address: SocketAddr, answered: &AtomicUsize) -> Peer {
    let socket = TcpStream::connect(address).unwrap();
    let mut peer = Peer::new(socket, Connection::client(Options::default(), Duration::ZERO));
    let mut head = RequestHead { method: Method::Post, ..RequestHead::default() };
    head.method_name = head.headers.store(b"POST");
    head.set_path(b"/some/path?query");
    head.set_authority(b"example.com");
    head.headers.append(b"te", b"trailers");
    head.headers.append(b"cookie", b"session=0123456789abcdef0123456789abcdef");
    let mut response = ResponseHead::default();
    while answered.load(Ordering::Relaxed) < WARM_UP + REQUESTS {
        let body = BodyLength::Exact(BODY.len() as u64);
        let stream = peer.connection.open(&head, body, false, 0, &mut peer.output).unwrap();
        peer.connection.queue_data(stream, BODY.len(), Ending::End);
        peer.flush().unwrap();
        let mut ended = false;
        while !ended {
            let length = peer.socket.read(&mut peer.input).unwrap();
            assert!(length > 0, "closed");
            let mut at = 0;
            loop {
                let input = &peer.input[at..length];
                let step = peer.connection.decode_response(input, &mut response, Duration::ZERO);
                let step = step.unwrap();
                at += step.consumed;
                match step.event {
                    Event::NeedMore => break,
                    Event::Data { stream, range, end_stream, .. } => {
                        peer.connection.consumed(stream, range.len());
                        ended |= end_stream;
                    }
                    Event::Trailers { .. } => ended = true,
                    Event::Reset { .. } => panic!("{:?}", step.event),
                    _ => {}
                }
            }
        }
        assert_eq!(response.status, 200);
        answered.fetch_add(1, Ordering::Relaxed);
    }
    peer
}

fn check<I: Io>(io: I, http2: bool) {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let cluster = if http2 { HTTP2 } else { "" };
    let (mut shard, address) = drive::shard(io, origin.local_addr().unwrap(), PLAIN, cluster);
    thread::spawn(move || if http2 { serve_http2(origin) } else { serve_http1(origin) });
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
    let began = Now::read().instant;
    let allocations = allocation_counter::measure(|| run_until(WARM_UP + REQUESTS));
    drop(counted);
    // A pool may still grow by an entry when the kernel delivers more at once than ever before. And
    // the date is another one each second: a new entry in the tables of both sides, until they are
    // full.
    let allowed = 4 + 4 * (Now::read().instant.since(began).as_secs() + 1);
    assert!(allocations.count_total <= allowed, "{allocations:?} for {REQUESTS} requests");
}

#[test]
fn http2_to_http1_allocates_nothing_per_request() {
    check(Epoll::new(&IoOptions::default()).unwrap(), false);
}

#[test]
fn http2_to_http2_allocates_nothing_per_request() {
    check(Epoll::new(&IoOptions::default()).unwrap(), true);
}

#[test]
fn io_uring_allocates_nothing_per_request() {
    match Uring::new(&IoOptions::default()) {
        Ok(io) => check(io, true),
        Err(error) => eprintln!("NOT CHECKED, no io_uring here: {error}"),
    }
}
