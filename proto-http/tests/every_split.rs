//! However the input is cut, the decoders say the same: whole, in every two pieces, byte by byte,
//! and in random pieces; also for messages with faults and messages made of random parts.
//!
//! What it leaves to others: whether what they say is right.

mod common;

use common::{Transcript, read_requests, read_responses, request};
use proptest::prelude::*;
use tidegate_http::h1::Options;
use tidegate_http::{Limits, RequestHead};

const REQUESTS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\n\r\nGET /x HTTP/1.1\r\nhost: a\r\nx: y \t\r\nempty:\r\nempty2: \t\r\n\r\n\r\nGET",
    b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n\
      helloGET / HTTP/1.1\r\nHost: b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n00A ;x\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
      5;a;b=c;d=\"e\\\"\";f = g\r\nhello\r\n1f\r\n0123456789012345678901234567890\r\n\
      0\r\nX-One: 1\r\nContent-Length: 7\r\nx-two:2\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n\0\0\0",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\nGET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    b"GET /a HTTP/1.1\nHost: a\nHost: a\nX: 1\n  2\r\n\t3\r\n \r\n\r\nGET / HTTP/1.1\nHost: a\n\n",
    // Faults, some of them two in one message: the first is reported.
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/1.1\r\nHost: a\r\nbad\x00: x\r\nworse\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\nbad name: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: x\r\nHost: a\r\nx : y\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: x\r\nHost: a\r\nTransfer-Encoding: y\r\n\r\n",
    b"GET / HTTP/2.0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET  / HTTP/1.1\r\n\r\n",
    b"GET\t/ HTTP/1.1\r\n\r\n",
    b"GET /\xff HTTP/1.3\r\n\r\n",
    b"GET / HTTP/1.1\r\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\rx: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n x: y\r\n\r\n",
    b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r \n",
    b"\r\r\n",
    b"\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello6\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx y: z\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na:\n\r\n",
    b"BREW /pot HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n",
];

const RESPONSES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 x\r\na: b\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx: y\r\n\r\n",
    b"HTTP/1.0 200 OK\xe9\r\n\r\nuntil the end",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhitoo much",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhitoo much",
    b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\ncut off",
    b"HTTP/1.1 200 OK\r\nContent-Le",
    b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: ws\r\n\r\n\x81\x00",
    b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n\x81\x00",
    b"\r\nHTTP/1.1 200 OK\r\n\r\n",
    b"ICY 200 OK\r\n\r\n",
    b"HTTP/2 200\r\n\r\n",
    b"HTTP/1.2 200 OK\r\n\r\n",
    b"HTTP/1.1 99 OK\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/1.1 200 O\x00K\r\n\r\n",
    b"HTTP/1.1 200 OK\nx : y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx: y\r\n z\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 099 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
];

fn limits() -> [Limits; 2] {
    let small = Limits {
        head_bytes_max: 64,
        fields_max: 2,
        chunk_extension_bytes_max: 8,
        interim_responses_max: 1,
    };
    [Limits::default(), small]
}

fn options() -> [Options; 3] {
    let strict = Options::default();
    [
        strict,
        Options { enable_trailers: true, accept_http_10: true, ..strict },
        Options {
            allow_backslash: true,
            enable_trailers: true,
            reject_absolute_url: true,
            ..strict
        },
    ]
}

fn upgrade_request() -> RequestHead {
    request("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: ws\r\n\r\n")
}

/// Reads as requests and as responses.
fn read_both(input: &[u8], cuts: &[usize], options: Options, limits: Limits) -> [Transcript; 2] {
    let requests = read_requests(input, cuts, options, limits);
    [requests, read_responses(&upgrade_request(), input, cuts, options, limits)]
}

#[test]
fn every_two_pieces_and_byte_by_byte() {
    for input in REQUESTS.iter().chain(RESPONSES) {
        for (options, limits) in options().into_iter().flat_map(|o| limits().map(|l| (o, l))) {
            let whole = read_both(input, &[], options, limits);
            let mut cuts: Vec<Vec<usize>> = (0..=input.len()).map(|cut| vec![cut]).collect();
            cuts.push((1..input.len()).collect());
            for cuts in cuts {
                let cut = read_both(input, &cuts, options, limits);
                assert_eq!(whole, cut, "{} at {cuts:?}, {options:?}", input.escape_ascii());
            }
        }
    }
}

/// A prefix of a good request is never refused: the server waits.
#[test]
fn every_prefix_waits() {
    for input in &REQUESTS[..3] {
        for end in 0..input.len() {
            let transcript = common::strict(&input[..end]);
            assert_eq!(transcript.error, None, "{}", input[..end].escape_ascii());
        }
    }
}

/// Parts that, put together at random, come near to messages.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let parts: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 C\r\n\r\n",
        b"Host: a\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: upgrade\r\nUpgrade: ws\r\n",
        b"x: ",
        b" folded\r\n",
        b"3\r\nabc\r\n",
        b"3;a=b\r\nabc\r\n",
        b"0\r\n",
        b"0\r\n\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b"#",
        b"\0",
        b"\xff",
        b"abc",
    ];
    prop_oneof![
        8 => prop::sample::select(parts).prop_map(Vec::from),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ]
}

proptest! {
    #[test]
    fn random_pieces_of_fixtures(
        index in 0..REQUESTS.len() + RESPONSES.len(),
        fractions in prop::collection::vec(0.0..1.0f64, 0..8),
        options in prop::sample::select(options().to_vec()),
    ) {
        let input = REQUESTS.get(index).unwrap_or_else(|| &RESPONSES[index - REQUESTS.len()]);
        let mut cuts: Vec<usize> =
            fractions.iter().map(|f| (f * input.len() as f64) as usize).collect();
        cuts.sort_unstable();
        let limits = Limits::default();
        let whole = read_both(input, &[], options, limits);
        prop_assert_eq!(whole, read_both(input, &cuts, options, limits));
    }

    #[test]
    fn random_messages(
        parts in prop::collection::vec(part(), 0..16),
        options in prop::sample::select(options().to_vec()),
        limits in prop::sample::select(limits().to_vec()),
    ) {
        let cuts: Vec<usize> = parts
            .iter()
            .scan(0, |at, part| { *at += part.len(); Some(*at) })
            .collect();
        let input = parts.concat();
        let whole = read_both(&input, &[], options, limits);
        prop_assert_eq!(&whole, &read_both(&input, &cuts, options, limits));
        let bytes: Vec<usize> = (0..input.len()).collect();
        prop_assert_eq!(&whole, &read_both(&input, &bytes, options, limits));
    }
}
