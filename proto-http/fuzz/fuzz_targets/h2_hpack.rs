//! Any field blocks: no panic; what is read, written by our encoder and read again is the same.
//!
//! The first byte is the encoder's policy; a byte before each block is its length.
//!
//! What it leaves to others: what makes a good head (`h2_frames`).
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_http::Headers;
use tidegate_http::h2::hpack::{Decoder, Encoder, Indexing};

type Lines = Vec<(Vec<u8>, Vec<u8>, bool)>;

fn read(decoder: &mut Decoder, block: &[u8]) -> Option<Lines> {
    let (mut headers, mut lines) = (Headers::default(), Vec::new());
    let take = |headers: &mut Headers, line: tidegate_http::h2::hpack::Line| {
        let name = headers.bytes(line.name).to_vec();
        lines.push((name, headers.bytes(line.value).to_vec(), line.is_never_indexed));
    };
    decoder.decode(block, &mut headers, take).ok()?;
    Some(lines)
}

fuzz_target!(|input: &[u8]| {
    let Some((&policy, mut rest)) = input.split_first() else { return };
    let mut encoder = Encoder::new(usize::from(policy) * 32, policy & 1 != 0);
    let (mut decoder, mut again) = (Decoder::new(), Decoder::new());
    while let Some((&length, after)) = rest.split_first() {
        let (block, after) = after.split_at(after.len().min(usize::from(length)));
        rest = after;
        let Some(lines) = read(&mut decoder, block) else { return };
        let mut out = Vec::new();
        encoder.begin(&mut out);
        for (name, value, is_never_indexed) in &lines {
            let indexing = if *is_never_indexed { Indexing::Never } else { Indexing::Repeated };
            encoder.line(name, value, indexing, &mut out);
        }
        assert_eq!(read(&mut again, &out), Some(lines));
    }
});
