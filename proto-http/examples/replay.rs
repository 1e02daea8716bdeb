//! Passes one message through the HTTP/1 codec again and again, to count instructions:
//!
//! ```text
//! cargo build --release -p tidegate-http --example replay
//! for n in 1000 2000; do
//!   valgrind --tool=callgrind --callgrind-out-file=/dev/null \
//!     target/release/examples/replay browser $n
//! done
//! ```
//!
//! The difference of the two "Collected" figures, divided by 1000, is the cost of one message. The
//! messages: `wrk` and `browser` (request: decoded, stripped, three fields added, encoded), and
//! `response` (the same, with its body); with `-decode` after a request's name only the decoder
//! runs.
//!
//! What it leaves to others: time (`benches/codec.rs`).
#![allow(clippy::print_stderr)]

#[path = "../benches/common/mod.rs"]
mod common;

use common::{BROWSER, RESPONSE, Requests, Responses, WRK};
use std::hint::black_box;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let message = arguments.next().unwrap_or_default();
    let Some(count) = arguments.next().and_then(|count| count.parse::<usize>().ok()) else {
        eprintln!("usage: replay wrk|wrk-decode|browser|browser-decode|response COUNT");
        return ExitCode::FAILURE;
    };
    let mut requests = Requests::new();
    let mut responses = Responses::new();
    let is_good = (0..count).all(|_| match message.as_str() {
        "wrk" => requests.proxy(black_box(WRK)),
        "wrk-decode" => requests.decode(black_box(WRK)),
        "browser" => requests.proxy(black_box(BROWSER)),
        "browser-decode" => requests.decode(black_box(BROWSER)),
        "response" => responses.proxy(black_box(RESPONSE)),
        _ => false,
    });
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
