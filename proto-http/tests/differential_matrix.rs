//! Payloads on which well-known proxies were seen to disagree, and what must become of each here.
//!
//! A payload is either refused with a status, or forwarded as the one text that is given: what an
//! origin reads is then what was understood, whatever parser the origin has.
//!
//! What it leaves to others: the grammar in full (`malformed_requests.rs`).

mod common;

use tidegate_http::h1::{
    Event, Options, RequestDecoder, encode_chunk_end, encode_chunk_start, encode_last_chunk,
    encode_request, strip_hop_by_hop,
};
use tidegate_http::{BodyLength, Limits, RequestHead};

/// Forwards every request in `input` as a proxy would, up to the first error.
fn forward(input: &[u8]) -> (String, Option<u16>) {
    let mut decoder = RequestDecoder::new(Options::default(), Limits::default());
    let (mut head, mut out, mut at) = (RequestHead::default(), Vec::new(), 0);
    let mut status = None;
    loop {
        let rest = &input[at..];
        let step = match decoder.decode(rest, &mut head) {
            Ok(step) => step,
            Err(error) => {
                status = Some(error.status);
                break;
            }
        };
        at += step.consumed;
        match step.event {
            Event::NeedMore => break,
            Event::Head => {
                strip_hop_by_hop(&mut head.headers, false);
                encode_request(&head, head.body, &mut out);
            }
            Event::Data(range) if head.body == BodyLength::Chunked => {
                encode_chunk_start(range.len(), &mut out);
                out.extend_from_slice(&rest[range]);
                encode_chunk_end(&mut out);
            }
            Event::Data(range) => out.extend_from_slice(&rest[range]),
            Event::End if head.body == BodyLength::Chunked => encode_last_chunk(None, &mut out),
            Event::End => {}
            Event::InterimHead | Event::Trailers | Event::Tunnel => unreachable!(),
        }
    }
    (out.escape_ascii().to_string().replace("\\r\\n", "|"), status)
}

enum Required {
    /// Refused with this status, nothing forwarded.
    Refuse(u16),
    /// Refused with this status after this was forwarded: never a complete message.
    CutOff(u16, &'static str),
    /// Forwarded so.
    Forward(&'static str),
}
use Required::{CutOff, Forward, Refuse};

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const CHUNKED_OUT: &str = "POST / HTTP/1.1|host: a|transfer-encoding: chunked||";

/// A POST with these lines and two bytes of body.
fn lines(lines: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\nab").into_bytes()
}

fn chunks(body: &str) -> Vec<u8> {
    format!("{CHUNKED}{body}").into_bytes()
}

#[test]
fn every_payload() {
    let rows: Vec<(&str, Vec<u8>, Required)> = vec![
        ("CL and TE", lines("Content-Length: 2\r\nTransfer-Encoding: chunked"), Refuse(400)),
        ("two different CL", lines("Content-Length: 2\r\nContent-Length: 3"), Refuse(400)),
        ("CL twice", lines("Content-Length: 2\r\nContent-Length: 2"), Refuse(400)),
        ("CL list", lines("Content-Length: 2, 2"), Refuse(400)),
        ("CL +2", lines("Content-Length: +2"), Refuse(400)),
        ("CL 0x2", lines("Content-Length: 0x2"), Refuse(400)),
        ("CL empty", lines("Content-Length:"), Refuse(400)),
        (
            "CL 002",
            lines("Content-Length: 002"),
            Forward("POST / HTTP/1.1|host: a|content-length: 2||ab"),
        ),
        ("TE ,chunked", lines("Transfer-Encoding: ,chunked"), Refuse(400)),
        ("TE xchunked", lines("Transfer-Encoding: xchunked"), Refuse(501)),
        ("TE chunked, chunked", lines("Transfer-Encoding: chunked, chunked"), Refuse(400)),
        ("TE chunked, identity", lines("Transfer-Encoding: chunked, identity"), Refuse(400)),
        (
            "two TE lines",
            lines("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            Refuse(400),
        ),
        ("TE :", lines("Transfer-Encoding : chunked"), Refuse(400)),
        ("TE VT", lines("Transfer-Encoding: \x0bchunked"), Refuse(400)),
        (
            "TE in HTTP/1.0",
            b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            Refuse(426),
        ),
        ("chunk 0x0", chunks("0x0\r\n\r\n"), CutOff(400, CHUNKED_OUT)),
        ("chunk -1", chunks("-1\r\n\r\n"), CutOff(400, CHUNKED_OUT)),
        ("chunk 1_0", chunks("1_0\r\n\r\n"), CutOff(400, CHUNKED_OUT)),
        ("chunk SP SP 0", chunks("  0\r\n\r\n"), CutOff(400, CHUNKED_OUT)),
        ("chunk 2^64+1", chunks("10000000000000001\r\na\r\n"), CutOff(400, CHUNKED_OUT)),
        (
            "chunk spill",
            chunks("2\r\nabcd\r\n0\r\n\r\n"),
            CutOff(400, "POST / HTTP/1.1|host: a|transfer-encoding: chunked||2|ab|"),
        ),
        ("chunk extension CR CR", chunks("1\r\r;a\r\nx\r\n0\r\n\r\n"), CutOff(400, CHUNKED_OUT)),
        ("chunk LF", chunks("1\nx\n0\n\n"), CutOff(400, CHUNKED_OUT)),
        ("extension LF", chunks("1;a\nx\r\n0\r\n\r\n"), CutOff(400, CHUNKED_OUT)),
        ("bare LF", b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n".to_vec(), Refuse(400)),
        ("CR in value", lines("X: a\rb"), Refuse(400)),
        ("NUL in value", lines("X: a\0b"), Refuse(400)),
        ("0x85 in name", b"GET / HTTP/1.1\r\nHost: a\r\nX\x85: y\r\n\r\n".to_vec(), Refuse(400)),
        ("no colon", lines("nocolon"), Refuse(400)),
        ("empty name", lines(": x"), Refuse(400)),
        ("obs-fold", lines("X: a\r\n b"), Refuse(400)),
        ("SP before first", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_vec(), Refuse(400)),
        ("two Host", lines("Host: b"), Refuse(400)),
        ("no Host", b"GET / HTTP/1.1\r\n\r\n".to_vec(), Refuse(400)),
        (
            "absolute-form and another Host",
            b"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            Forward("GET /x HTTP/1.1|host: b||"),
        ),
        (
            "Connection: x-h",
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x-h\r\nX-h: 1\r\n\r\n".to_vec(),
            Forward("GET / HTTP/1.1|host: a||"),
        ),
        (
            "TE: gzip",
            b"GET / HTTP/1.1\r\nHost: a\r\nTE: gzip\r\nConnection: TE\r\n\r\n".to_vec(),
            Forward("GET / HTTP/1.1|host: a||"),
        ),
        (
            "Transfer_Encoding is only a field",
            b"GET / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n".to_vec(),
            Forward("GET / HTTP/1.1|host: a|transfer_encoding: chunked||"),
        ),
        ("Expect: x 100-continue", lines("Expect: x 100-continue"), Refuse(417)),
        ("/a#b", b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Refuse(400)),
        ("HTTP/1.32", b"GET / HTTP/1.32\r\nHost: a\r\n\r\n".to_vec(), Refuse(400)),
        ("HTTP/0.9", b"GET /\r\n".to_vec(), Refuse(426)),
        ("HTTP/0.9 by name", b"GET / HTTP/0.9\r\n\r\n".to_vec(), Refuse(426)),
    ];
    assert_eq!(rows.len(), 44);
    for (name, input, required) in rows {
        let expected = match required {
            Refuse(status) => (String::new(), Some(status)),
            CutOff(status, text) => (text.to_string(), Some(status)),
            Forward(text) => (text.to_string(), None),
        };
        assert_eq!(forward(&input), expected, "{name}");
    }
}
