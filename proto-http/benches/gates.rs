//! Counts of instructions that may not grow: heads, field compression and frames.
//!
//! What it leaves to others: counting (`common/gate.rs`), time (`codec.rs`, `hpack.rs`).
#![allow(clippy::expect_used, clippy::print_stdout, clippy::print_stderr)] // a program for people

mod common;
#[path = "common/fields.rs"]
mod fields;
#[path = "common/gate.rs"]
mod gate;

use common::{BROWSER, RESPONSE, Requests, Responses};
use gate::{Gate, ROUNDS, WARM_UP, counted};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;
use tidegate_http::h2::hpack::{Decoder, Encoder, Indexing};
use tidegate_http::h2::{Connection, Ending, Event, FRAME_HEADER_BYTES, Options, Send};
use tidegate_http::{BodyLength, Headers, Method, RequestHead, ResponseHead};

const ALL_ROUNDS: u32 = WARM_UP + ROUNDS;
const BODY: &[u8] = &[b'x'; 64];

fn main() -> ExitCode {
    gate::main(&[
        Gate { name: "http1-request-head", prepare: request_head },
        Gate { name: "http1-request-passed", prepare: request_passed },
        Gate { name: "http1-response-head", prepare: response_head },
        Gate { name: "http1-response-passed", prepare: response_passed },
        Gate { name: "hpack-encode", prepare: hpack_encode },
        Gate { name: "hpack-decode", prepare: hpack_decode },
        Gate { name: "http2-data-frame", prepare: data_frame },
        Gate { name: "http2-request-answered", prepare: http2_request },
    ])
}

fn request_head() -> Box<dyn FnMut()> {
    let mut requests = Requests::new();
    Box::new(move || assert!(counted(|| requests.decode(black_box(BROWSER)))))
}

fn request_passed() -> Box<dyn FnMut()> {
    let mut requests = Requests::new();
    Box::new(move || assert!(counted(|| requests.proxy(black_box(BROWSER)))))
}

fn response_passed() -> Box<dyn FnMut()> {
    let mut responses = Responses::new();
    Box::new(move || assert!(counted(|| responses.proxy(black_box(RESPONSE)))))
}

/// With its body and its end, without which the decoder takes no other head.
fn response_head() -> Box<dyn FnMut()> {
    let mut responses = Responses::new();
    Box::new(move || assert!(counted(|| responses.decode(black_box(RESPONSE)))))
}

type Lines = Vec<(&'static str, String)>;

/// The heads of a browser's requests, each a little different.
fn heads() -> impl Iterator<Item = Lines> {
    (0..ALL_ROUNDS).map(|round| {
        let value = |value: &str| value.replace('#', &(round * 7919 % 100_003).to_string());
        fields::BROWSER.iter().map(|(name, text)| (*name, value(text))).collect()
    })
}

fn encode(encoder: &mut Encoder, lines: &Lines, out: &mut Vec<u8>) {
    encoder.begin(out);
    for (name, value) in lines {
        encoder.line(name.as_bytes(), value.as_bytes(), Indexing::Repeated, out);
    }
}

fn hpack_encode() -> Box<dyn FnMut()> {
    let (heads, mut out) = (heads().collect::<Vec<_>>(), Vec::new());
    let (mut encoder, mut round) = (Encoder::new(4096, true), 0);
    Box::new(move || {
        out.clear();
        counted(|| encode(&mut encoder, &heads[round], &mut out));
        round += 1;
    })
}

fn hpack_decode() -> Box<dyn FnMut()> {
    let mut encoder = Encoder::new(4096, true);
    let block = |lines: Lines| {
        let mut out = Vec::new();
        encode(&mut encoder, &lines, &mut out);
        out
    };
    let blocks: Vec<Vec<u8>> = heads().map(block).collect();
    let (mut decoder, mut headers, mut round) = (Decoder::new(), Headers::default(), 0);
    Box::new(move || {
        headers.clear();
        let mut lines = 0;
        let decoded = counted(|| decoder.decode(&blocks[round], &mut headers, |_, _| lines += 1));
        decoded.expect("a block");
        assert!(lines > 0);
        round += 1;
    })
}

/// A client of HTTP/2, and what it has written.
struct Client {
    connection: Connection,
    head: RequestHead,
    out: Vec<u8>,
}

impl Client {
    fn new() -> Client {
        let mut head = RequestHead { method: Method::Post, ..RequestHead::default() };
        head.method_name = head.headers.store(b"POST");
        for (name, value) in fields::BROWSER {
            match *name {
                ":authority" => head.set_authority(value.as_bytes()),
                ":path" => head.set_path(value.replace('#', "7").as_bytes()),
                _ if name.starts_with(':') => {}
                _ => head.headers.append(name.as_bytes(), value.as_bytes()),
            }
        }
        let connection = Connection::client(Options::default(), Duration::ZERO);
        Client { connection, head, out: Vec::new() }
    }

    /// The bytes of one more request with a body that goes on, or ends.
    fn request(&mut self, then: Ending) -> Vec<u8> {
        let Client { connection, head, out } = self;
        let stream = connection.open(head, BodyLength::Chunked, false, 0, out).expect("a stream");
        connection.queue_data(stream, BODY.len(), then);
        while connection.next_send(1 << 14, out).is_some() {
            out.extend_from_slice(BODY);
        }
        std::mem::take(out)
    }
}

/// A server of HTTP/2 that reads what came, and answers what has ended.
struct Server {
    connection: Connection,
    head: RequestHead,
    out: Vec<u8>,
}

impl Server {
    fn new() -> Server {
        let connection = Connection::server(Options::default(), Duration::ZERO);
        Server { connection, head: RequestHead::default(), out: Vec::new() }
    }

    fn read(&mut self, input: &[u8]) {
        self.out.clear();
        let (mut at, connection) = (0, &mut self.connection);
        loop {
            let step = connection.decode_request(&input[at..], &mut self.head, Duration::ZERO);
            let step = step.expect("a request");
            at += step.consumed;
            match step.event {
                Event::NeedMore => break,
                Event::Data { stream, range, end_stream, .. } => {
                    connection.consumed(stream, range.len());
                    if end_stream {
                        let head = ResponseHead { status: 200, ..ResponseHead::default() };
                        let body = BodyLength::Exact(BODY.len() as u64);
                        connection.send_response(stream, &head, body, false, &mut self.out);
                        connection.queue_data(stream, BODY.len(), Ending::End);
                    }
                }
                _ => {}
            }
        }
        while let Some(Send::Data { length, .. }) = connection.next_send(1 << 14, &mut self.out) {
            self.out.extend_from_slice(&BODY[..length]);
        }
        connection.write_control(&mut self.out);
        connection.handle_sending();
        connection.handle_sent();
    }
}

/// One of many short frames of a body.
fn data_frame() -> Box<dyn FnMut()> {
    let (mut client, mut server) = (Client::new(), Server::new());
    let first = client.request(Ending::Open);
    server.read(&first);
    let frame = first[first.len() - BODY.len() - FRAME_HEADER_BYTES..].to_vec();
    Box::new(move || counted(|| server.read(black_box(&frame))))
}

fn http2_request() -> Box<dyn FnMut()> {
    let (mut client, mut server) = (Client::new(), Server::new());
    let requests: Vec<_> = (0..ALL_ROUNDS).map(|_| client.request(Ending::End)).collect();
    let mut round = 0;
    Box::new(move || {
        counted(|| server.read(&requests[round]));
        assert!(server.out.len() > BODY.len());
        round += 1;
    })
}
