//! How long HPACK takes for a head: `cargo bench -p tidegate-http --bench hpack`.
//!
//! Ours beside the `fluke-hpack` crate's, for the head of a browser's request and a typical
//! response, on a connection that has seen the same head before (its path, id and date are new each
//! time). Prints the fastest and the median of many short rounds, in nanoseconds for each head.
//!
//! What it leaves to others: frames, and what is not the codec.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::expect_used)] // a clock is what a benchmark is for

#[path = "common/fields.rs"]
mod fields;

use fields::{BROWSER, RESPONSE};
use std::hint::black_box;
use std::time::Instant;
use tidegate_http::Headers;
use tidegate_http::h2::hpack::{Decoder, Encoder, Indexing};

const ROUNDS: usize = 100;
const HEADS_PER_ROUND: usize = 1000;

type Lines = Vec<(Vec<u8>, Vec<u8>)>;

fn heads(lines: &[(&str, &str)]) -> Vec<Lines> {
    let head = |number: usize| {
        let value = |value: &str| value.replace('#', &(number * 7919 % 100_003).to_string());
        lines.iter().map(|(n, v)| (n.as_bytes().to_vec(), value(v).into_bytes())).collect()
    };
    (0..HEADS_PER_ROUND).map(head).collect()
}

fn measure(name: &str, bytes: usize, mut round: impl FnMut()) {
    let mut nanoseconds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            round();
            begin.elapsed().as_nanos() as f64 / HEADS_PER_ROUND as f64
        })
        .collect();
    nanoseconds.sort_by(f64::total_cmp);
    let (fastest, median) = (nanoseconds[0], nanoseconds[ROUNDS / 2]);
    println!("{name:<28} {bytes:>5} bytes {fastest:>8.1} ns {median:>8.1} ns median");
}

fn encode(encoder: &mut Encoder, lines: &Lines, out: &mut Vec<u8>) {
    encoder.begin(out);
    for (name, value) in lines {
        encoder.line(name, value, Indexing::Repeated, out);
    }
}

/// The blocks of one encoder, after it has seen all heads once.
fn blocks(heads: &[Lines], mut encode: impl FnMut(&Lines) -> Vec<u8>) -> Vec<Vec<u8>> {
    heads.iter().for_each(|lines| drop(encode(lines)));
    heads.iter().map(encode).collect()
}

fn bench(name: &str, lines: &[(&str, &str)]) {
    let heads = heads(lines);
    for huffman in [false, true] {
        let mut encoder = Encoder::new(4096, huffman);
        let mut out = Vec::new();
        let label = if huffman { "huffman" } else { "plain" };
        encode(&mut encoder, &heads[0], &mut out);
        let first = out.len();
        measure(&format!("{name}: encode, {label}"), first, || {
            for lines in &heads {
                out.clear();
                encode(&mut encoder, black_box(lines), &mut out);
            }
        });
        let mut encoder = Encoder::new(4096, huffman);
        let mut all: Vec<Vec<u8>> = Vec::new();
        for lines in &heads {
            let mut out = Vec::new();
            encode(&mut encoder, lines, &mut out);
            all.push(out);
        }
        let (mut decoder, mut headers) = (Decoder::new(), Headers::default());
        let average = all.iter().map(Vec::len).sum::<usize>() / all.len();
        measure(&format!("{name}: decode, {label}"), average, || {
            // The blocks begin with an empty table: the decoder's must be too.
            decoder = Decoder::new();
            for block in &all {
                headers.clear();
                let mut lines = 0;
                decoder.decode(black_box(block), &mut headers, |_, _| lines += 1).expect("a block");
                assert!(lines > 0);
            }
        });
        let mut theirs = fluke_hpack::Decoder::new();
        measure(&format!("{name}: fluke decodes it"), average, || {
            theirs = fluke_hpack::Decoder::new();
            for block in &all {
                let decoded = theirs.decode_with_cb(black_box(block), |name, value| {
                    black_box((name, value));
                });
                decoded.expect("a block");
            }
        });
    }
    let mut theirs = fluke_hpack::Encoder::new();
    let blocks = blocks(&heads, |lines| {
        theirs.encode(lines.iter().map(|(name, value)| (&name[..], &value[..])))
    });
    let average = blocks.iter().map(Vec::len).sum::<usize>() / blocks.len();
    measure(&format!("{name}: fluke encodes"), average, || {
        for lines in &heads {
            let lines = black_box(lines).iter().map(|(name, value)| (&name[..], &value[..]));
            black_box(theirs.encode(lines));
        }
    });
}

fn main() {
    bench("browser", BROWSER);
    bench("response", RESPONSE);
}
