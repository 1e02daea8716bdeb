//! Any bytes behind a good start, for a server and a client: no panic, the same answers however the
//! bytes are cut, and heads that are accepted are clean.
//!
//! The first byte chooses the side and the policies, the second how large the pieces are.
//!
//! What it leaves to others: what the caller does between (`h2_operations`).
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::time::Duration;
use tidegate_http::h2::{Connection, Event, Options, PREFACE};
use tidegate_http::{BodyLength, Headers, Limits, RequestHead, ResponseHead};

const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

fn check(headers: &Headers) {
    for (name, value) in headers.iter() {
        assert!(!name.is_empty() && !name.iter().any(u8::is_ascii_uppercase));
        assert!(!value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
    }
}

/// What is said to the pieces, data joined; and what is written.
fn run(bits: u8, wire: &[u8], piece_bytes: usize) -> (String, Vec<u8>) {
    let options = Options {
        stream_error_on_invalid_http_message: bits & 2 != 0,
        allow_connect: bits & 4 != 0,
        initial_stream_window_size: if bits & 8 != 0 { 10 } else { 70_000 },
        limits: if bits & 16 != 0 {
            Limits { head_bytes_max: 300, fields_max: 4, ..Limits::default() }
        } else {
            Limits::default()
        },
        ..Options::default()
    };
    let is_server = bits & 1 != 0;
    let mut out = Vec::new();
    let mut connection = if is_server {
        Connection::server(options, Duration::ZERO)
    } else {
        Connection::client(options, Duration::ZERO)
    };
    if !is_server {
        let mut head = RequestHead::default();
        head.method_name = head.headers.store(b"GET");
        head.set_path(b"/");
        head.set_authority(b"a");
        for _ in 0..2 {
            let opened = connection.open(&head, BodyLength::None, true, 0, &mut out);
            assert!(opened.is_ok());
        }
    }
    let (mut request, mut response) = (RequestHead::default(), ResponseHead::default());
    let (mut said, mut data) = (String::new(), Vec::new());
    for piece in wire.chunks(piece_bytes) {
        let mut rest = piece;
        loop {
            let step = if is_server {
                connection.decode_request(rest, &mut request, Duration::ZERO)
            } else {
                connection.decode_response(rest, &mut response, Duration::ZERO)
            };
            let step = match step {
                Ok(step) => step,
                Err(error) => {
                    connection.write_control(&mut out);
                    return (format!("{said} {error}"), out);
                }
            };
            match step.event {
                Event::NeedMore => {
                    assert_eq!(step.consumed, rest.len());
                    break;
                }
                Event::Data { stream, range, end_stream, .. } => {
                    data.extend_from_slice(&rest[range.clone()]);
                    // When a small window opens depends on the pieces.
                    if bits & 8 == 0 {
                        connection.consumed(stream, range.len());
                    }
                    if end_stream {
                        said += &format!("{:?} {stream:?}\n", std::mem::take(&mut data));
                    }
                }
                Event::Reset { .. } => {
                    // How much was passed on before the fault depends on the pieces.
                    data.clear();
                    said += &format!("{:?}\n", step.event);
                }
                event => {
                    let head = if is_server { &request.headers } else { &response.headers };
                    if matches!(event, Event::Head { .. } | Event::InterimHead { .. }) {
                        check(head);
                    }
                    said += &format!("{:?} {event:?}\n", std::mem::take(&mut data));
                }
            }
            rest = &rest[step.consumed..];
        }
    }
    connection.write_control(&mut out);
    (said, out)
}

fuzz_target!(|input: &[u8]| {
    let [bits, piece_bytes, frames @ ..] = input else { return };
    let preface: &[u8] = if bits & 1 != 0 { PREFACE } else { b"" };
    let wire = [preface, &SETTINGS, frames].concat();
    let whole = run(*bits, &wire, usize::MAX);
    let pieces = run(*bits, &wire, usize::from(*piece_bytes).max(1));
    // Window updates depend on when data is consumed; what is said does not.
    assert_eq!(whole.0, pieces.0);
});
