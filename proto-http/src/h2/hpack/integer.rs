//! Integers with a prefix (RFC 7541 5.1).
//!
//! What it leaves to others: what the bits before the prefix mean, and which numbers are too large
//! for what they count.

use super::HpackError;
use alloc::vec::Vec;

/// Bytes after the prefix: enough for 28 bits, more than anything that a block may count. Zeros in
/// the last places (`0x80 0x80 ..`) are so bounded too.
const CONTINUATION_BYTES_MAX: usize = 4;

/// Reads an integer from the front of `block`, whose first byte holds `prefix_bits` of it; answers
/// the number and what follows.
pub(super) fn decode(block: &[u8], prefix_bits: u32) -> Result<(usize, &[u8]), HpackError> {
    let mask = 0xffu8 >> (8 - prefix_bits);
    let [first, rest @ ..] = block else { return Err(HpackError::Truncated) };
    let prefix = first & mask;
    if prefix < mask {
        return Ok((usize::from(prefix), rest));
    }
    decode_long(usize::from(mask), rest)
}

#[cold]
fn decode_long(prefix: usize, rest: &[u8]) -> Result<(usize, &[u8]), HpackError> {
    let mut number = prefix;
    for (at, &byte) in rest.iter().take(CONTINUATION_BYTES_MAX).enumerate() {
        number += usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok((number, &rest[at + 1..]));
        }
    }
    let is_cut = rest.len() < CONTINUATION_BYTES_MAX;
    Err(if is_cut { HpackError::Truncated } else { HpackError::IntegerTooLarge })
}

/// Writes an integer behind the bits of `first` that are before its prefix.
pub(super) fn encode(number: usize, prefix_bits: u32, first: u8, out: &mut Vec<u8>) {
    let mask = (1usize << prefix_bits) - 1;
    if number < mask {
        out.push(first | number as u8);
        return;
    }
    out.push(first | mask as u8);
    let mut rest = number - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_7541_c_1() {
        for (number, prefix, bytes) in
            [(10, 5, &[10][..]), (1337, 5, &[31, 154, 10]), (42, 8, &[42])]
        {
            let mut out = Vec::new();
            encode(number, prefix, 0, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(decode(bytes, prefix), Ok((number, &[][..])));
        }
    }

    #[test]
    fn what_is_written_is_read_whatever_stands_before_it() {
        for prefix in 1..=8 {
            for number in [0, 1, 30, 31, 32, 126, 127, 128, 254, 255, 256, 16383, 16384, 1 << 27] {
                let mut out = Vec::new();
                let first = if prefix == 8 { 0 } else { 0xff << prefix };
                encode(number, prefix, first, &mut out);
                out.push(7);
                assert_eq!(decode(&out, prefix), Ok((number, &[7][..])));
                for length in 0..out.len() - 1 {
                    assert_eq!(decode(&out[..length], prefix), Err(HpackError::Truncated));
                }
            }
        }
    }

    #[test]
    fn too_long_is_refused_also_when_it_is_zeros() {
        for bytes in [&[0x1f, 0x80, 0x80, 0x80, 0x80, 0][..], &[0x1f, 255, 255, 255, 255, 15]] {
            assert_eq!(decode(bytes, 5), Err(HpackError::IntegerTooLarge));
        }
    }
}
