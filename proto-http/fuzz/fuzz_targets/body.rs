//! A chunked body that is accepted, written and read again, has the same bytes and trailers; a size
//! is never trusted with memory; nothing is read beyond the end.
//!
//! The first byte is how large the pieces are; the rest is the body.
//!
//! What it leaves to others: heads (`request_head`), other ways to cut (`connection_splits`).
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_http::RequestHead;
use tidegate_http::h1::{
    Event, RequestDecoder, encode_chunk_end, encode_chunk_start, encode_last_chunk,
};
use tidegate_http_fuzz::{pairs, policies};

const START: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Data and trailers, and the bytes that the body took, if it was complete and good.
fn read(body: &[u8], piece_bytes: usize) -> Option<(Vec<u8>, Fields, usize)> {
    let (options, limits) = policies(8);
    let mut decoder = RequestDecoder::new(options, limits);
    let mut head = RequestHead::default();
    assert_eq!(decoder.decode(START, &mut head).unwrap().event, Event::Head);
    let (mut data, mut taken) = (Vec::new(), 0);
    for piece in body.chunks(piece_bytes) {
        let mut rest = piece;
        loop {
            let step = decoder.decode(rest, &mut head).ok()?;
            taken += step.consumed;
            match step.event {
                Event::NeedMore => break,
                Event::Data(range) => data.extend_from_slice(&rest[range]),
                Event::End => {
                    let trailers = decoder.trailers().map(pairs).unwrap_or_default();
                    return Some((data, trailers, taken));
                }
                event => assert_eq!(event, Event::Trailers),
            }
            rest = &rest[step.consumed..];
        }
    }
    None
}

fuzz_target!(|input: &[u8]| {
    let Some((&piece_bytes, body)) = input.split_first() else { return };
    let whole = read(body, usize::MAX);
    let pieces = read(body, usize::from(piece_bytes).max(1));
    assert_eq!(whole, pieces);
    let Some((data, fields, _)) = whole else { return };
    let mut out = Vec::new();
    for chunk in data.chunks(7) {
        encode_chunk_start(chunk.len(), &mut out);
        out.extend_from_slice(chunk);
        encode_chunk_end(&mut out);
    }
    let mut trailers = tidegate_http::Headers::default();
    for (name, value) in &fields {
        trailers.append(name, value);
    }
    encode_last_chunk(Some(&trailers), &mut out);
    assert_eq!(read(&out, usize::MAX), Some((data, fields, out.len())));
});
