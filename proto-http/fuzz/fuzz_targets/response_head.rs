//! A response head that is accepted, written and read again, says the same and is framed the same.
//!
//! The first byte chooses the policies and the request; the rest is the wire.
//!
//! What it leaves to others: incomplete heads (`connection_splits`).
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_http::h1::{Event, Options, ResponseDecoder, encode_response, strip_hop_by_hop};
use tidegate_http::{BodyLength, Limits, ResponseHead};
use tidegate_http_fuzz::{pairs, policies, request};

fuzz_target!(|input: &[u8]| {
    let Some((&bits, wire)) = input.split_first() else { return };
    let (options, limits) = policies(bits);
    let request = request(match bits >> 5 {
        0..=4 => b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        5 => b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n",
        6 => b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n",
        _ => b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: ws\r\n\r\n",
    });
    let mut head = ResponseHead::default();
    let mut decoder = ResponseDecoder::new(options, limits);
    decoder.expect(&request);
    let Ok(step) = decoder.decode(wire, &mut head) else { return };
    if !matches!(step.event, Event::Head | Event::InterimHead) {
        return;
    }
    let is_switch = head.body == BodyLength::Tunnel;
    strip_hop_by_hop(&mut head.headers, is_switch);
    let mut out = Vec::new();
    encode_response(&head, head.body, head.close, &mut out);
    let mut again = ResponseHead::default();
    let mut decoder = ResponseDecoder::new(Options::default(), Limits::default());
    decoder.expect(&request);
    let read = decoder.decode(&out, &mut again);
    let Ok(read) = read else { panic!("refused: {}", out.escape_ascii()) };
    assert_eq!((read.event, read.consumed), (step.event, out.len()));
    assert_eq!((again.status, again.body), (head.status, head.body));
    // One that is missing is filled in.
    assert!(head.reason().is_empty() || again.reason() == head.reason());
    assert_eq!(again.content_length, head.content_length);
    let added: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"connection"];
    let rest = |head: &ResponseHead| {
        let mut fields = pairs(&head.headers);
        fields.retain(|(name, _)| !added.contains(&&name[..]));
        fields
    };
    assert_eq!(rest(&again), rest(&head));
});
