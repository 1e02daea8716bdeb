//! HTTP/2 and gRPC, against a server made of our own codec.
//!
//! What it leaves to others: the codec, which has suites of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use serde_json::Value;
use tidegate_http::h2::{Connection, Ending, ErrorCode, Event, Options, Send, StreamKey};
use tidegate_http::{BodyLength, Headers, RequestHead, ResponseHead};

use crate::common::json;

/// What the server does with each stream.
#[derive(Clone, Copy, PartialEq)]
pub enum Answer {
    Body,
    /// A message, and this grpc-status.
    Grpc(&'static str),
}

/// Takes at most `streams_max` at a time, and goes away after `requests_max`.
fn server(answer: Answer, streams_max: u32, requests_max: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || serve(&mut stream, answer, streams_max, requests_max));
        }
    });
    address
}

/// Serves one connection.
pub fn serve(
    stream: &mut (impl Read + Write),
    answer: Answer,
    streams_max: u32,
    requests_max: usize,
) {
    let options = Options { max_concurrent_streams: streams_max, ..Options::default() };
    let mut codec = Connection::server(options, Duration::ZERO);
    let (mut head, mut input, mut out) = (RequestHead::default(), [0; 65536], Vec::new());
    let mut served = 0;
    while let Ok(bytes @ 1..) = stream.read(&mut input) {
        let mut at = 0;
        loop {
            let step = codec.decode_request(&input[at..bytes], &mut head, Duration::ZERO).unwrap();
            at += step.consumed;
            match step.event {
                Event::NeedMore => break,
                Event::Head { stream, end_stream: true, .. } => {
                    respond(&mut codec, stream, answer, &mut out);
                    served += 1;
                }
                Event::Data { stream, range, end_stream, .. } => {
                    codec.consumed(stream, range.len());
                    if end_stream {
                        respond(&mut codec, stream, answer, &mut out);
                        served += 1;
                    }
                }
                _ => {}
            }
        }
        if served >= requests_max {
            codec.go_away(ErrorCode::NO_ERROR);
        }
        while let Some(send) = codec.next_send(16384, &mut out) {
            match send {
                Send::Data { length, .. } => out.resize(out.len() + length, b'x'),
                Send::Trailers { stream, .. } => {
                    let Answer::Grpc(status) = answer else { unreachable!() };
                    let mut trailers = Headers::default();
                    trailers.append(b"grpc-status", status.as_bytes());
                    codec.send_trailers(stream, &trailers, &mut out);
                }
            }
        }
        codec.write_control(&mut out);
        codec.handle_sending();
        if stream.write_all(&out).is_err() {
            return;
        }
        codec.handle_sent();
        out.clear();
    }
}

fn respond(codec: &mut Connection, stream: StreamKey, answer: Answer, out: &mut Vec<u8>) {
    let head = ResponseHead { status: 200, ..ResponseHead::default() };
    let ending = if answer == Answer::Body { Ending::End } else { Ending::Trailers };
    let length = if answer == Answer::Body { BodyLength::Exact(9) } else { BodyLength::Chunked };
    codec.send_response(stream, &head, length, false, out);
    codec.queue_data(stream, 9, ending);
}

fn run(arguments: &[&str], address: SocketAddr) -> Value {
    json(&[arguments, &[&format!("http://{address}/x")]].concat()).0
}

#[test]
fn streams_of_http2_on_both_backends() {
    let address = server(Answer::Body, 100, usize::MAX);
    for backend in ["io_uring", "epoll"] {
        for load in [&["-n", "500"][..], &["-n", "500", "-R", "4k"]] {
            let with = ["--http2", "-c", "2", "-p", "8", "--io-backend", backend];
            let report = run(&[&with, load].concat(), address);
            assert_eq!(report["loadtest"]["succeeded"], 500, "{report}");
            assert_eq!(report["summary"]["totalData"], 4500);
            assert_eq!(report["loadtest"]["connectionsOpen"], 2);
        }
    }
    // A body of many frames, and more of it than the first windows hold.
    let body = "b".repeat(100_000);
    let report = run(&["--http2", "-n", "8", "-c", "1", "-p", "4", "--body", &body], address);
    assert_eq!(report["loadtest"]["succeeded"], 8, "{report}");
}

#[test]
fn a_server_that_takes_few_streams_and_goes_away() {
    let address = server(Answer::Body, 3, 20);
    let report = run(&["--http2", "-n", "200", "-c", "2", "-p", "10"], address);
    let ours = &report["loadtest"];
    assert_eq!((&ours["succeeded"], &ours["failed"]), (&200.into(), &0.into()), "{report}");
    assert!(ours["connects"].as_u64().unwrap() >= 6, "{ours}");
}

#[test]
fn calls_of_grpc_succeed_by_their_status() {
    let good = server(Answer::Grpc("0"), 100, usize::MAX);
    let report = run(&["--grpc", "-n", "40", "-c", "1", "-p", "4", "--body", "m"], good);
    assert_eq!(report["loadtest"]["succeeded"], 40, "{report}");
    let bad = server(Answer::Grpc("14"), 100, usize::MAX);
    let report = run(&["--grpc", "-n", "40", "-c", "1", "-p", "4"], bad);
    assert_eq!(report["errorDistribution"]["grpc-status other than 0"], 40, "{report}");
    // Without trailers it is no answer to a call.
    let report = run(&["--grpc", "-n", "4", "-c", "1"], server(Answer::Body, 100, usize::MAX));
    assert_eq!(report["loadtest"]["succeeded"], 0, "{report}");
}
