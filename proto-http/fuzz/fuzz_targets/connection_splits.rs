//! However a connection's bytes are cut, both decoders say the same.
//!
//! The first byte chooses the policies, the next four where to cut; the rest is the wire.
//!
//! What it leaves to others: whether what they say is right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_http_fuzz::{policies, read_requests, read_responses, request};

fuzz_target!(|input: &[u8]| {
    let Some((&[bits, ref cuts @ ..], wire)) = input.split_first_chunk::<5>() else { return };
    let (options, limits) = policies(bits);
    let upgrade =
        request(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: ws\r\n\r\n");
    let mut pieces = Vec::new();
    let mut rest = wire;
    for &cut in cuts {
        let (piece, after) = rest.split_at(usize::from(cut).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    let bytes: Vec<&[u8]> = wire.chunks(1).collect();
    let whole = read_requests(&[wire], options, limits);
    assert_eq!(whole, read_requests(&pieces, options, limits));
    assert_eq!(whole, read_requests(&bytes, options, limits));
    let whole = read_responses(&upgrade, &[wire], options, limits);
    assert_eq!(whole, read_responses(&upgrade, &pieces, options, limits));
    assert_eq!(whole, read_responses(&upgrade, &bytes, options, limits));
});
