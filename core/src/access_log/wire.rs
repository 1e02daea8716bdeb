//! Protobuf's wire format, as far as entries of a gRPC access log need it.
//!
//! Entries are made on shards, which know no messages: what is written here is a part of one that
//! `service` completes, without a copy and without a tree of strings.
//!
//! What it leaves to others: which fields there are (`entry`).

use std::time::Duration;

const VARINT: u32 = 0;
const LENGTH_DELIMITED: u32 = 2;

pub(super) fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A number, `bool` or `enum`; nothing for 0, which is the default.
pub(super) fn number(out: &mut Vec<u8>, field: u32, number: u64) {
    if number != 0 {
        varint(out, u64::from(field << 3 | VARINT));
        varint(out, number);
    }
}

/// Bytes, also when there are none.
pub(super) fn bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    varint(out, u64::from(field << 3 | LENGTH_DELIMITED));
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Text; nothing when it is empty. What is no UTF-8 is `!`, as in Envoy.
pub(super) fn text(out: &mut Vec<u8>, field: u32, text: &[u8]) {
    if text.is_empty() {
        return;
    }
    if std::str::from_utf8(text).is_ok() {
        return bytes(out, field, text);
    }
    message(out, field, |out| {
        for chunk in text.utf8_chunks() {
            out.extend_from_slice(chunk.valid().as_bytes());
            out.extend(chunk.invalid().iter().map(|_| b'!'));
        }
    });
}

/// A message that `write` writes, also when it is empty.
pub(super) fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    varint(out, u64::from(field << 3 | LENGTH_DELIMITED));
    let start = out.len();
    // Room for the length of most; a longer one is moved.
    out.push(0);
    write(out);
    let length = out.len() - start - 1;
    if length < 0x80 {
        out[start] = length as u8;
        return;
    }
    let mut prefix = Vec::with_capacity(10);
    varint(&mut prefix, length as u64);
    out.splice(start..=start, prefix);
}

/// `google.protobuf.Duration`, or `Timestamp` since 1970.
pub(super) fn time(out: &mut Vec<u8>, field: u32, time: Duration) {
    message(out, field, |out| {
        number(out, 1, time.as_secs());
        number(out, 2, u64::from(time.subsec_nanos()));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_lengths_are_those_of_the_wire_format() {
        let mut out = Vec::new();
        number(&mut out, 1, 150);
        number(&mut out, 2, 0);
        text(&mut out, 2, b"testing");
        assert_eq!(out, b"\x08\x96\x01\x12\x07testing");
        out.clear();
        message(&mut out, 3, |out| out.extend_from_slice(&[7; 300]));
        assert_eq!(&out[..4], b"\x1a\xac\x02\x07");
        assert_eq!(out.len(), 303);
        out.clear();
        text(&mut out, 16, b"a\xff\xfeb");
        assert_eq!(out, b"\x82\x01\x04a!!b");
        out.clear();
        time(&mut out, 1, Duration::new(3, 5));
        assert_eq!(out, b"\x0a\x04\x08\x03\x10\x05");
    }
}
