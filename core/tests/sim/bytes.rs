//! Bodies, and the ways to cut bytes into chunks and sends.
//!
//! What it leaves to others: heads.

use std::time::Duration;

use tidegate_io::sim::Random;

use super::plan::Id;
use super::script::Step;

/// A time up to `max` microseconds, more often a short one.
pub fn some_us(max: usize, random: &mut Random) -> Duration {
    let bound = random.size(max) as u64;
    Duration::from_micros(random.below(bound + 1))
}

/// Sizes of bodies: mostly small, sometimes nothing, sometimes more than a proxy should keep.
pub fn size(random: &mut Random) -> usize {
    match random.below(100) {
        0..10 => 0,
        10..20 => 65_536 - random.index(1000),
        20 => 600_000 + random.index(1_200_000),
        _ => random.size(32_768),
    }
}

/// Which body of an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Request,
    Response,
}

/// A part of a body that no other exchange has: made anew wherever it is needed.
pub fn body(id: Id, side: Side, range: std::ops::Range<usize>) -> Vec<u8> {
    let seed = (id as u64) << 1 | u64::from(side == Side::Response);
    let mut bytes = Vec::with_capacity(range.len() + 16);
    for word in range.start / 8..range.end.div_ceil(8) {
        bytes.extend_from_slice(&body_word(seed, word as u64).to_le_bytes());
    }
    bytes.drain(..range.start % 8);
    bytes.truncate(range.len());
    bytes
}

fn body_word(seed: u64, at: u64) -> u64 {
    let word = (seed << 32 ^ at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (word ^ word >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// `body` in chunks of any size.
pub fn chunks(body: &[u8], trailers: &str, random: &mut Random) -> Vec<u8> {
    let mut framed = Vec::with_capacity(body.len() + 64);
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(random.size(rest.len()));
        framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
        rest = after;
    }
    framed.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    framed
}

/// `bytes` in up to four sends with little waits.
pub fn pieces(bytes: &[u8], random: &mut Random) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = bytes;
    for _ in 0..random.below(4) {
        let (piece, after) = rest.split_at(random.size(rest.len()));
        rest = after;
        steps.push(Step::Send(piece.to_vec()));
        if random.chance(300) {
            steps.push(Step::Wait(Duration::from_micros(random.below(3_000))));
        }
    }
    steps.push(Step::Send(rest.to_vec()));
    steps
}
