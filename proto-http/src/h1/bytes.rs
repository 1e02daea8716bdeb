//! Classes of bytes and small conversions, as the RFCs' grammars name them.
//!
//! What it leaves to others: where each class applies.

use alloc::vec::Vec;

/// Builds a table of the bytes for which one of the patterns holds.
macro_rules! byte_set {
    ($($pattern:pat_param)|+) => {{
        let mut table = [false; 256];
        let mut byte = 0usize;
        while byte < 256 {
            table[byte] = matches!(byte as u8, $($pattern)|+);
            byte += 1;
        }
        table
    }};
}

/// tchar (RFC 9110 5.6.2).
static TCHAR: [bool; 256] = byte_set!(
    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*'
        | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
);

/// unreserved and sub-delims of RFC 3986 without the comma: a comma in `host` is two hosts that
/// somebody joined. `%` is checked apart.
static REG_NAME: [bool; 256] = byte_set!(
    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&'
        | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'='
);

pub(crate) fn is_tchar(byte: u8) -> bool {
    TCHAR[byte as usize]
}

pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is_tchar(b))
}

pub(crate) fn is_reg_name(byte: u8) -> bool {
    REG_NAME[byte as usize]
}

/// HTAB, SP, VCHAR and obs-text: what a field value or a reason phrase may hold. Other controls
/// could be kept by RFC 9110 5.5 (but CR, LF and NUL), and are refused as Envoy refuses them.
pub(crate) fn is_field_content(bytes: &[u8]) -> bool {
    bytes.iter().all(|&b| (b >= b' ' && b != 0x7f) || b == b'\t')
}

pub(crate) fn is_ows(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Without optional white space (SP, HTAB) at both ends.
pub(crate) fn trim_ows(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_ows(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_ows(*last)
    {
        bytes = rest;
    }
    bytes
}

/// The elements of a comma-separated list (RFC 9110 5.6.1), empty ones included.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim_ows)
}

/// Lower-cases ASCII letters, eight bytes at a time.
///
/// Field names are short, so the work is in the ends: the last word overlaps the one before it,
/// which does no harm because lower-casing twice is lower-casing once.
pub(crate) fn lower_case(bytes: &mut [u8]) {
    if bytes.len() < 8 {
        bytes.make_ascii_lowercase();
        return;
    }
    let last = bytes.len() - 8;
    let mut at = 0;
    while at < last {
        lower_case_word(&mut bytes[at..at + 8]);
        at += 8;
    }
    lower_case_word(&mut bytes[last..]);
}

/// Bytes of `word` that are `A` to `Z` get bit 5. Each byte is first taken without its top bit, so
/// that no addition carries into its neighbour: with 0x3f added, bytes from `A` (0x41) reach 0x80;
/// with 0x25 added, bytes beyond `Z` (from 0x5b) do.
fn lower_case_word(bytes: &mut [u8]) {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let Ok(word) = <[u8; 8]>::try_from(&*bytes) else { return };
    let word = u64::from_le_bytes(word);
    let low = word & (EACH * 0x7f);
    let from_a = low + EACH * 0x3f;
    let beyond_z = low + EACH * 0x25;
    let upper = (from_a & !beyond_z & !word) & (EACH * 0x80);
    bytes.copy_from_slice(&(word | (upper >> 2)).to_le_bytes());
}

/// Appends a number in decimal.
pub(crate) fn push_decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Whether `text` is how this number is written by [`push_decimal`].
pub(crate) fn is_decimal_of(text: &[u8], mut number: u64) -> bool {
    for &digit in text.iter().rev() {
        if digit != b'0' + (number % 10) as u8 {
            return false;
        }
        number /= 10;
    }
    number == 0 && (text.len() == 1 || text.first().is_some_and(|&first| first != b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_case_is_the_standard_one() {
        // Miri is slow; it looks for other faults than wrong letters.
        for byte in (0..=255u8).step_by(if cfg!(miri) { 31 } else { 1 }) {
            for length in 0..20 {
                let mut ours: Vec<u8> = (0..length).map(|i| byte.wrapping_add(i * 7)).collect();
                let mut theirs = ours.clone();
                lower_case(&mut ours);
                theirs.make_ascii_lowercase();
                assert_eq!(ours, theirs);
            }
        }
    }

    #[test]
    fn decimals() {
        for number in [0, 1, 9, 10, 99, 1_000_000, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(number, &mut out);
            assert_eq!(out, alloc::string::ToString::to_string(&number).as_bytes());
            assert!(is_decimal_of(&out, number));
            out.insert(0, b'0');
            assert!(!is_decimal_of(&out, number));
        }
        assert!(!is_decimal_of(b"", 0) && !is_decimal_of(b"12", 13) && !is_decimal_of(b"2", 12));
    }

    #[test]
    fn lists_and_white_space() {
        let elements: Vec<&[u8]> = list(b" a ,,\tb c, ").collect();
        assert_eq!(elements, [&b"a"[..], b"", b"b c", b""]);
        assert!(!is_token(b"") && !is_token(b"a b") && is_token(b"x-a_1"));
        assert!(is_field_content(b"\t \x80~") && !is_field_content(b"\x7f"));
        assert!(!is_field_content(b"\r") && !is_field_content(b"\0"));
    }
}
