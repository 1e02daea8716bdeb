//! The Huffman code of RFC 7541 Appendix B.
//!
//! The code is canonical: within a length, codes follow each other in the order of their symbols.
//! So the lengths are all that has to be written down; the tables are computed by the compiler.
//!
//! What it leaves to others: whether to use it.

use super::HpackError;
use alloc::vec::Vec;

/// Bits of each byte's code, and of EOS at the end.
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const SYMBOLS: usize = 257;
const EOS: u16 = 256;
const BITS_MAX: usize = 30;
/// Bits that one look into the table decodes. All characters that are common in fields have codes
/// of at most 8 bits.
const STEP_BITS: usize = 8;

/// Code and number of bits of each byte.
static CODES: [(u32, u8); 256] = codes();

/// For each next eight bits: the symbol and its length; the length is 0 when the code is longer.
static STEPS: [(u8, u8); 1 << STEP_BITS] = steps();

/// Symbols in the order of their codes.
static SYMBOLS_BY_CODE: [u16; SYMBOLS] = symbols_by_code();

/// For each length: the first code beyond those of this length, aligned to the top of 32 bits; and
/// what to add to a code of this length to find its symbol in `SYMBOLS_BY_CODE`.
static LONG: [(u32, i64); BITS_MAX + 1] = long();

const fn count_of(bits: usize) -> u32 {
    let (mut symbol, mut count) = (0, 0);
    while symbol < SYMBOLS {
        if LENGTHS[symbol] as usize == bits {
            count += 1;
        }
        symbol += 1;
    }
    count
}

const fn codes() -> [(u32, u8); 256] {
    let mut codes = [(0, 0); 256];
    let (mut code, mut bits) = (0u32, 1);
    while bits <= BITS_MAX {
        code <<= 1;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == bits {
                if symbol < 256 {
                    codes[symbol] = (code, bits as u8);
                }
                code += 1;
            }
            symbol += 1;
        }
        bits += 1;
    }
    codes
}

const fn steps() -> [(u8, u8); 1 << STEP_BITS] {
    let codes = codes();
    let mut steps = [(0, 0); 1 << STEP_BITS];
    let mut symbol = 0;
    while symbol < 256 {
        let (code, bits) = codes[symbol];
        if bits as usize <= STEP_BITS {
            let free = STEP_BITS - bits as usize;
            let mut low = 0;
            while low < 1 << free {
                steps[((code as usize) << free) | low] = (symbol as u8, bits);
                low += 1;
            }
        }
        symbol += 1;
    }
    steps
}

const fn symbols_by_code() -> [u16; SYMBOLS] {
    let mut symbols = [0; SYMBOLS];
    let (mut at, mut bits) = (0, 1);
    while bits <= BITS_MAX {
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == bits {
                symbols[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        bits += 1;
    }
    symbols
}

const fn long() -> [(u32, i64); BITS_MAX + 1] {
    let mut long = [(0, 0); BITS_MAX + 1];
    let (mut code, mut before, mut bits) = (0u32, 0i64, 1);
    while bits <= BITS_MAX {
        code <<= 1;
        let offset = before - code as i64;
        let count = count_of(bits);
        code += count;
        before += count as i64;
        // After the last length this is 2^32: all codes are used.
        let beyond = (code as u64) << (32 - bits);
        long[bits] = (if beyond > u32::MAX as u64 { u32::MAX } else { beyond as u32 }, offset);
        bits += 1;
    }
    long
}

/// Appends the decoded bytes to `out`.
pub(super) fn decode(mut input: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    // The shortest code has 5 bits.
    out.reserve(input.len() * 8 / 5);
    // The next bits, at the top; below them zeros.
    let (mut bits, mut count) = (0u64, 0usize);
    loop {
        (bits, count, input) = refill(bits, count, input);
        let (byte, length) = STEPS[(bits >> (64 - STEP_BITS)) as usize];
        let length = usize::from(length);
        if length != 0 && length <= count {
            out.push(byte);
            bits <<= length;
            count -= length;
            continue;
        }
        if count < 8 && is_padding(bits, count) {
            return Ok(());
        }
        let (byte, length) = decode_long(bits, count)?;
        out.push(byte);
        bits <<= length;
        count -= length;
    }
}

/// Up to 56 bits or more, as long as there is input.
#[inline]
fn refill(mut bits: u64, mut count: usize, mut input: &[u8]) -> (u64, usize, &[u8]) {
    if count > 32 {
        return (bits, count, input);
    }
    if let Some((word, _)) = input.split_first_chunk::<8>() {
        bits |= u64::from_be_bytes(*word) >> count;
        let bytes = (63 - count) / 8;
        count += bytes * 8;
        // What is beyond the counted bits comes again with the next refill, in the same places.
        bits &= u64::MAX << (64 - count);
        return (bits, count, &input[bytes..]);
    }
    while let [byte, rest @ ..] = input
        && count <= 56
    {
        bits |= u64::from(*byte) << (56 - count);
        count += 8;
        input = rest;
    }
    (bits, count, input)
}

/// RFC 7541 5.2: fewer than eight bits, all of them ones, as EOS begins.
fn is_padding(bits: u64, count: usize) -> bool {
    count == 0 || bits >> (64 - count) == (1 << count) - 1
}

#[cold]
fn decode_long(bits: u64, count: usize) -> Result<(u8, usize), HpackError> {
    let top = (bits >> 32) as u32;
    for (length, &(beyond, offset)) in LONG.iter().enumerate().skip(1) {
        if top >= beyond && length < BITS_MAX {
            continue;
        }
        if length > count {
            break;
        }
        let code = i64::from(top >> (32 - length));
        let symbol = SYMBOLS_BY_CODE[(code + offset) as usize];
        return match u8::try_from(symbol) {
            Ok(byte) => Ok((byte, length)),
            Err(_) => {
                debug_assert_eq!(symbol, EOS);
                Err(HpackError::Huffman)
            }
        };
    }
    Err(HpackError::Huffman)
}

/// Bytes that [`encode`] writes.
pub(super) fn encoded_length(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|&byte| usize::from(LENGTHS[usize::from(byte)])).sum();
    bits.div_ceil(8)
}

/// Appends the code of each byte, filled up with ones.
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut count) = (0u64, 0usize);
    for &byte in text {
        let (code, length) = CODES[usize::from(byte)];
        bits = (bits << length) | u64::from(code);
        count += usize::from(length);
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        out.push(((bits << (8 - count)) | (0xff >> count)) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(input: &[u8]) -> Result<Vec<u8>, HpackError> {
        let mut out = Vec::new();
        decode(input, &mut out).map(|()| out)
    }

    #[test]
    fn the_code_of_every_byte_and_of_pairs() {
        for first in 0..=255u8 {
            for second in (0..=255u8).step_by(if cfg!(miri) { 51 } else { 1 }) {
                for text in [&[first][..], &[first, second], &[second, first, first, second, 97]] {
                    let mut out = Vec::new();
                    encode(text, &mut out);
                    assert_eq!(out.len(), encoded_length(text));
                    assert_eq!(decoded(&out).as_deref(), Ok(text));
                }
            }
        }
    }

    #[test]
    fn the_examples_of_rfc_7541_c_4() {
        let examples: [(&[u8], &[u8]); 2] = [
            (
                b"www.example.com",
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff],
            ),
            (b"no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
        ];
        for (text, code) in examples {
            let mut out = Vec::new();
            encode(text, &mut out);
            assert_eq!(out, code);
            assert_eq!(decoded(code).as_deref(), Ok(text));
        }
    }

    #[test]
    fn padding_is_short_and_of_ones() {
        assert_eq!(decoded(b""), Ok(Vec::new()));
        // "a" is 00011, and three ones follow.
        assert_eq!(decoded(&[0b0001_1111]), Ok(b"a".to_vec()));
        for bad in [
            &[0b0001_1110][..],                 // a zero in the padding
            &[0b0001_1000],                     // zeros
            &[0b0001_1111, 0xff],               // eleven bits of padding
            &[0xff],                            // eight
            &[0xff, 0xff, 0xff, 0xfc],          // EOS itself
            &[0xff, 0xff, 0xff, 0xff],          // EOS and padding
            &[0xff, 0xff, 0xff, 0xff, 0xff, 1], // EOS within
        ] {
            assert_eq!(decoded(bad), Err(HpackError::Huffman), "{bad:x?}");
        }
    }
}
