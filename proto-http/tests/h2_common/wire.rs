//! Frames written by hand, and frames made readable.
//!
//! What it leaves to others: which frames a peer should send.
// Each test file uses its part.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use tidegate_http::h2::PREFACE;
use tidegate_http::h2::hpack::{Encoder, Indexing};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

pub const GET: &[(&str, &str)] =
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.example")];
pub const POST: &[(&str, &str)] =
    &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a.example")];

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A block that leaves the dynamic table alone.
pub fn block(lines: &[(&str, &str)]) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::new(4096, false), Vec::new());
    for (name, value) in lines {
        encoder.line(name.as_bytes(), value.as_bytes(), Indexing::Repeated, &mut out);
    }
    out
}

pub fn headers(stream: u32, lines: &[(&str, &str)], end_stream: bool) -> Vec<u8> {
    let flags = END_HEADERS | if end_stream { END_STREAM } else { 0 };
    frame(HEADERS, flags, stream, &block(lines))
}

pub fn data(stream: u32, bytes: &[u8], end_stream: bool) -> Vec<u8> {
    frame(DATA, u8::from(end_stream), stream, bytes)
}

pub fn word(kind: u8, stream: u32, value: u32) -> Vec<u8> {
    frame(kind, 0, stream, &value.to_be_bytes())
}

pub fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

pub fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// What a client begins with.
pub fn client_start() -> Vec<u8> {
    [&PREFACE[..], &frame(SETTINGS, 0, 0, &[]), &frame(SETTINGS, ACK, 0, &[])].concat()
}

/// What a server begins with.
pub fn server_start() -> Vec<u8> {
    [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat()
}

/// One line for each frame of an output; without our own SETTINGS and their acknowledgement.
pub fn describe(mut out: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    out = out.strip_prefix(&PREFACE[..]).unwrap_or(out);
    while let [a, b, c, kind, flags, s @ ..] = out {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let stream = u32::from_be_bytes(s[..4].try_into().unwrap());
        let payload = &out[9..9 + length];
        out = &out[9 + length..];
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        let end = if flags & 1 != 0 { " end" } else { "" };
        lines.push(match *kind {
            DATA => format!("DATA {stream} {length}{end}"),
            HEADERS => format!("HEADERS {stream}{end}"),
            RST_STREAM => format!("RST_STREAM {stream} {}", number(0)),
            SETTINGS => continue,
            PING => format!("PING {flags} {}", payload[7]),
            GOAWAY => format!("GOAWAY {} {}", number(0), number(4)),
            WINDOW_UPDATE => format!("WINDOW_UPDATE {stream} {}", number(0)),
            CONTINUATION => format!("CONTINUATION {stream}"),
            kind => format!("{kind}"),
        });
    }
    lines
}
