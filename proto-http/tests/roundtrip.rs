//! What is written and read again is what it was.
//!
//! What it leaves to others: messages that nobody would write.

#![allow(clippy::expect_used)]

mod common;

use common::{describe_request, describe_response, request};
use proptest::prelude::*;
use tidegate_http::h1::{
    Event, Options, RequestDecoder, ResponseDecoder, encode_chunk_end, encode_chunk_start,
    encode_last_chunk, encode_request, encode_response,
};
use tidegate_http::{BodyLength, Headers, Limits, RequestHead, ResponseHead};

/// Names that neither frame nor route.
fn name() -> impl Strategy<Value = String> {
    "[a-z0-9_!#$%&'*+.^`|~-]{1,20}".prop_filter("has a meaning of its own", |name| {
        !matches!(name.as_str(), "te" | "host" | "expect" | "upgrade")
    })
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(
            prop_oneof![0x21..0x7fu8, 0x80..=0xffu8, Just(b' '), Just(b'\t')],
            0..40
        )
        .prop_map(|value| {
            let mut text: &[u8] = &value;
            while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
                text = rest;
            }
            text.to_vec()
        }),
    ]
}

fn named_values() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    prop::collection::vec((name(), value()), 0..12)
}

fn body() -> impl Strategy<Value = BodyLength> {
    prop_oneof![
        Just(BodyLength::None),
        (1..i64::MAX as u64).prop_map(BodyLength::Exact),
        Just(BodyLength::Chunked),
    ]
}

fn pairs(headers: &Headers) -> Vec<(Vec<u8>, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

fn read_request(wire: &[u8]) -> RequestHead {
    let mut head = RequestHead::default();
    let mut decoder = RequestDecoder::new(Options::default(), Limits::default());
    let step = decoder.decode(wire, &mut head).expect("what was written is good");
    assert_eq!((step.event, step.consumed), (Event::Head, wire.len()));
    head
}

proptest! {
    #[test]
    fn requests(
        method in "[A-Z!-]{1,9}",
        path in r#"/[!-"$-\[\]-~]{0,40}"#,
        authority in "[a-z0-9.-]{1,20}(:[0-9]{1,4})?",
        fields in named_values(),
        body in body(),
    ) {
        prop_assume!(!matches!(method.as_str(), "CONNECT" | "TRACE"));
        let mut head = RequestHead::default();
        let bare = format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n");
        head.method = read_request(bare.as_bytes()).method;
        head.method_name = head.headers.store(method.as_bytes());
        head.path = head.headers.store(path.as_bytes());
        head.authority = head.headers.store(authority.as_bytes());
        for (name, value) in &fields {
            head.headers.append(name.as_bytes(), value);
        }
        let mut wire = Vec::new();
        encode_request(&head, body, &mut wire);
        let read = read_request(&wire);
        prop_assert_eq!(read.method_name(), method.as_bytes());
        prop_assert_eq!(read.path(), path.as_bytes());
        prop_assert_eq!(read.authority(), authority.as_bytes());
        prop_assert_eq!(read.body, body);
        let sent: Vec<_> = fields.into_iter().map(|(n, v)| (n.into_bytes(), v)).collect();
        let mut received = pairs(&read.headers);
        let written: [&[u8]; 3] = [b"host", b"content-length", b"transfer-encoding"];
        received.retain(|(name, _)| !written.contains(&&name[..]));
        prop_assert_eq!(received, sent);
        // Written once more, it stays as it is, byte for byte.
        let mut again = Vec::new();
        encode_request(&read, read.body, &mut again);
        prop_assert_eq!(&again, &wire);
        prop_assert_eq!(describe_request(&read_request(&again)), describe_request(&read));
    }

    #[test]
    fn responses(
        status in (200u16..=999).prop_filter("has no framing", |s| ![204, 304].contains(s)),
        reason in "[ -~]{1,20}",
        fields in named_values(),
        body in body(),
        close in any::<bool>(),
    ) {
        let mut head = ResponseHead { status, ..ResponseHead::default() };
        head.reason = head.headers.store(reason.as_bytes());
        head.content_length = Some(0);
        for (name, value) in &fields {
            head.headers.append(name.as_bytes(), value);
        }
        let mut wire = Vec::new();
        encode_response(&head, body, close, &mut wire);
        let read = |wire: &[u8]| {
            let mut head = ResponseHead::default();
            let mut decoder = ResponseDecoder::new(Options::default(), Limits::default());
            decoder.expect(&request("GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
            let step = decoder.decode(wire, &mut head).unwrap();
            assert_eq!((step.event, step.consumed), (Event::Head, wire.len()));
            head
        };
        let received = read(&wire);
        prop_assert_eq!(received.status, status);
        prop_assert_eq!(received.reason(), reason.as_bytes());
        prop_assert_eq!((received.body, received.close), (body, close));
        let mut again = Vec::new();
        encode_response(&received, received.body, false, &mut again);
        prop_assert_eq!(&again, &wire);
        prop_assert_eq!(describe_response(&read(&again)), describe_response(&received));
    }

    #[test]
    fn chunks(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
        trailers in named_values(),
    ) {
        let mut wire = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for piece in &pieces {
            encode_chunk_start(piece.len(), &mut wire);
            wire.extend_from_slice(piece);
            encode_chunk_end(&mut wire);
        }
        let mut sent = Headers::default();
        for (name, value) in &trailers {
            sent.append(name.as_bytes(), value);
        }
        encode_last_chunk(Some(&sent), &mut wire);
        let options = Options { enable_trailers: true, ..Options::default() };
        let mut decoder = RequestDecoder::new(options, Limits::default());
        let (mut head, mut at, mut data) = (RequestHead::default(), 0, Vec::new());
        loop {
            let rest = &wire[at..];
            let step = decoder.decode(rest, &mut head).unwrap();
            at += step.consumed;
            match step.event {
                Event::Data(range) => data.extend_from_slice(&rest[range]),
                Event::End => break,
                _ => {}
            }
        }
        prop_assert_eq!(at, wire.len());
        prop_assert_eq!(data, pieces.concat());
        let received = decoder.trailers().map(pairs).unwrap_or_default();
        // Names that may not stand in trailers are few; the generator meets them hardly ever.
        prop_assert_eq!(received, pairs(&sent));
    }
}
