//! How long HPACK takes for a head: `cargo bench -p tidegate-http --bench hpack`.
//!
//! Ours beside the `fluke-hpack` crate's, for the head of a browser's request and a typical
//! response, on a connection that has seen the same head before (its path, id and date are new each
//! time). Prints the fastest and the median of many short rounds, in nanoseconds for each head.
//!
//! What it leaves to others: frames, and what is not the codec.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::expect_used)] // a clock is what a benchmark is for

use std::hint::black_box;
use std::time::Instant;
use tidegate_http::Headers;
use tidegate_http::h2::hpack::{Decoder, Encoder, Indexing};

const ROUNDS: usize = 100;
const HEADS_PER_ROUND: usize = 1000;

/// `#` is another number in each head.
const BROWSER: &[(&str, &str)] = &[
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "www.example.com"),
    (":path", "/assets/app/main.js?v=#&theme=dark"),
    ("sec-ch-ua", "\"Chromium\";v=\"130\", \"Google Chrome\";v=\"130\", \"Not?A_Brand\";v=\"99\""),
    ("sec-ch-ua-mobile", "?0"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
         Chrome/130.0.0.0 Safari/537.36",
    ),
    ("sec-ch-ua-platform", "\"Linux\""),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "no-cors"),
    ("sec-fetch-dest", "script"),
    ("referer", "https://www.example.com/account/overview"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "en-GB,en;q=0.9,de;q=0.8"),
    ("cookie", "session=3f2b8c0e9d7a4e51b6f0c2d8a1e47f93"),
    ("cookie", "_ga=GA1.1.1234567890.1700000000"),
];

const RESPONSE: &[(&str, &str)] = &[
    (":status", "200"),
    ("server", "envoy"),
    ("date", "Fri, 20 Nov 2026 15:15:22 GMT"),
    ("content-type", "application/json; charset=utf-8"),
    ("content-length", "#"),
    ("cache-control", "no-cache, no-store"),
    ("vary", "accept-encoding"),
    ("x-request-id", "6c1a4f0e-0c0d-4b8f-9d55-3a#"),
    ("x-envoy-upstream-service-time", "#"),
];

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
