//! How long the HTTP/1 codec takes for a message: `cargo bench -p tidegate-http --bench codec`.
//!
//! Prints the fastest and the median of many short rounds, in nanoseconds for each message; the
//! fastest is what repeats on a busy machine. For counts of instructions see `examples/replay.rs`.
//!
//! What it leaves to others: the kernel, and everything that is not the codec.
#![allow(clippy::disallowed_methods, clippy::print_stdout)] // a clock is what a benchmark is for

mod common;

use common::{BROWSER, RESPONSE, Requests, Responses, WRK};
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: usize = 300;
const MESSAGES_PER_ROUND: u32 = 2000;

fn measure(name: &str, bytes: usize, mut message: impl FnMut() -> bool) {
    let mut nanoseconds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            for _ in 0..MESSAGES_PER_ROUND {
                assert!(message());
            }
            begin.elapsed().as_nanos() as f64 / f64::from(MESSAGES_PER_ROUND)
        })
        .collect();
    nanoseconds.sort_by(f64::total_cmp);
    let (fastest, median) = (nanoseconds[0], nanoseconds[ROUNDS / 2]);
    println!("{name:<28} {bytes:>5} bytes {fastest:>8.1} ns {median:>8.1} ns median");
}

fn main() {
    for (name, input) in [("wrk", WRK), ("browser", BROWSER)] {
        let mut requests = Requests::new();
        measure(&format!("{name}: decode"), input.len(), || requests.decode(black_box(input)));
        measure(&format!("{name}: decode, encode"), input.len(), || {
            requests.pass(black_box(input))
        });
        measure(&format!("{name}: decode, edit, encode"), input.len(), || {
            requests.proxy(black_box(input))
        });
    }
    let mut responses = Responses::new();
    measure("response: all", RESPONSE.len(), || responses.proxy(black_box(RESPONSE)));
}
