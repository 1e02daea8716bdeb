//! Frames (RFC 9113 4.1, 6): the header of nine bytes, and the control frames that we write.
//!
//! What it leaves to others: when a frame may come, and what it does.

use super::{ErrorCode, Fault};
use alloc::vec::Vec;

/// Bytes of a frame header.
pub const HEADER_BYTES: usize = 9;

/// What a client sends before its first frame (RFC 9113 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest stream id, and the highest bit of the field is reserved.
pub(super) const STREAM_ID_MAX: u32 = 0x7fff_ffff;

/// Frame types.
pub(super) mod kind {
    pub(crate) const DATA: u8 = 0x0;
    pub(crate) const HEADERS: u8 = 0x1;
    pub(crate) const PRIORITY: u8 = 0x2;
    pub(crate) const RST_STREAM: u8 = 0x3;
    pub(crate) const SETTINGS: u8 = 0x4;
    pub(crate) const PUSH_PROMISE: u8 = 0x5;
    pub(crate) const PING: u8 = 0x6;
    pub(crate) const GOAWAY: u8 = 0x7;
    pub(crate) const WINDOW_UPDATE: u8 = 0x8;
    pub(crate) const CONTINUATION: u8 = 0x9;
}

/// Flags; which of them a frame can have depends on its type.
pub(super) mod flag {
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// The header of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FrameHeader {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// 0 for the connection.
    pub(super) stream: u32,
}

impl FrameHeader {
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> FrameHeader {
        let [a, b, c, kind, flags, stream @ ..] = *bytes;
        FrameHeader {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & STREAM_ID_MAX,
        }
    }

    pub(super) fn bytes(self) -> [u8; HEADER_BYTES] {
        debug_assert!(self.length < 1 << 24 && self.stream <= STREAM_ID_MAX);
        let [_, a, b, c] = (self.length as u32).to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes());
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// RFC 9113 4.2 and 6: lengths and streams that the type does not allow. A length that is wrong
    /// for its type is a connection error here also where the RFC would allow a stream's.
    pub(super) fn check(self) -> Result<(), Fault> {
        let length = self.length;
        let has_good_length = match self.kind {
            kind::PRIORITY => length == 5,
            kind::RST_STREAM | kind::WINDOW_UPDATE => length == 4,
            kind::SETTINGS if self.has(flag::ACK) => length == 0,
            kind::SETTINGS => length.is_multiple_of(6),
            kind::PING => length == 8,
            kind::GOAWAY => length >= 8,
            _ => true,
        };
        let has_good_stream = match self.kind {
            kind::DATA
            | kind::HEADERS
            | kind::PRIORITY
            | kind::RST_STREAM
            | kind::PUSH_PROMISE
            | kind::CONTINUATION => self.stream != 0,
            kind::SETTINGS | kind::PING | kind::GOAWAY => self.stream == 0,
            _ => true,
        };
        match (has_good_stream, has_good_length) {
            (false, _) => Err(Fault::FrameStream),
            (true, false) => Err(Fault::FrameSize),
            (true, true) => Ok(()),
        }
    }
}

/// The payload without padding (RFC 9113 6.1, 6.2); it is all here.
pub(super) fn without_padding(header: FrameHeader, payload: &[u8]) -> Result<&[u8], Fault> {
    if !header.has(flag::PADDED) {
        return Ok(payload);
    }
    let [padding, rest @ ..] = payload else { return Err(Fault::FrameSize) };
    let length = rest.len().checked_sub(usize::from(*padding)).ok_or(Fault::Padding)?;
    Ok(&rest[..length])
}

/// The four bytes at the front of a payload.
pub(super) fn word(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

pub(super) fn write_rst_stream(stream: u32, code: ErrorCode, out: &mut Vec<u8>) {
    FrameHeader { length: 4, kind: kind::RST_STREAM, flags: 0, stream }.write(out);
    out.extend_from_slice(&code.0.to_be_bytes());
}

pub(super) fn write_window_update(stream: u32, increment: u32, out: &mut Vec<u8>) {
    debug_assert!(increment > 0 && increment <= STREAM_ID_MAX);
    FrameHeader { length: 4, kind: kind::WINDOW_UPDATE, flags: 0, stream }.write(out);
    out.extend_from_slice(&increment.to_be_bytes());
}

pub(super) fn write_ping(opaque: [u8; 8], is_ack: bool, out: &mut Vec<u8>) {
    let flags = if is_ack { flag::ACK } else { 0 };
    FrameHeader { length: 8, kind: kind::PING, flags, stream: 0 }.write(out);
    out.extend_from_slice(&opaque);
}

pub(super) fn write_settings_ack(out: &mut Vec<u8>) {
    FrameHeader { length: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 }.write(out);
}

pub(super) fn write_goaway(last_stream: u32, code: ErrorCode, out: &mut Vec<u8>) {
    FrameHeader { length: 8, kind: kind::GOAWAY, flags: 0, stream: 0 }.write(out);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
}

/// Makes frames of the field block that begins at `start` of `out`, behind room for one frame
/// header: HEADERS, and CONTINUATION for what exceeds `length_max`.
pub(super) fn frame_block(
    out: &mut Vec<u8>,
    start: usize,
    stream: u32,
    end_stream: bool,
    length_max: usize,
) {
    let length = out.len() - start - HEADER_BYTES;
    let end_stream = if end_stream { flag::END_STREAM } else { 0 };
    let mut header = FrameHeader {
        length: length.min(length_max),
        kind: kind::HEADERS,
        flags: end_stream | flag::END_HEADERS,
        stream,
    };
    if length <= length_max {
        out[start..start + HEADER_BYTES].copy_from_slice(&header.bytes());
        return;
    }
    header.flags = end_stream;
    out[start..start + HEADER_BYTES].copy_from_slice(&header.bytes());
    let rest = out.split_off(start + HEADER_BYTES + length_max);
    let mut pieces = rest.chunks(length_max).peekable();
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { flag::END_HEADERS } else { 0 };
        let length = piece.len();
        FrameHeader { length, kind: kind::CONTINUATION, flags, stream }.write(out);
        out.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = FrameHeader { length: 0x12_3456, kind: 9, flags: 0x25, stream: 0x7654_3210 };
        assert_eq!(FrameHeader::parse(&header.bytes()), header);
        let mut bytes = header.bytes();
        bytes[5] |= 0x80;
        assert_eq!(FrameHeader::parse(&bytes), header, "the reserved bit is ignored");
    }

    #[test]
    fn padding() {
        let header = FrameHeader { length: 4, kind: kind::HEADERS, flags: flag::PADDED, stream: 1 };
        assert_eq!(without_padding(header, &[2, 7, 0, 0]), Ok(&[7][..]));
        assert_eq!(without_padding(header, &[3, 0, 0, 0]), Ok(&[][..]));
        assert_eq!(without_padding(header, &[4, 0, 0, 0]), Err(Fault::Padding));
        assert_eq!(without_padding(header, &[]), Err(Fault::FrameSize));
    }

    #[test]
    fn a_long_block_continues() {
        let mut out = alloc::vec![9u8; 2 + HEADER_BYTES + 25];
        frame_block(&mut out, 2, 5, true, 10);
        let (mut rest, mut seen, mut block) = (&out[2..], Vec::new(), 0);
        while let Some((header, after)) = rest.split_first_chunk::<HEADER_BYTES>() {
            let header = FrameHeader::parse(header);
            seen.push((header.kind, header.flags, header.length));
            block += header.length;
            rest = &after[header.length..];
        }
        assert_eq!(seen, [(1, flag::END_STREAM, 10), (9, 0, 10), (9, flag::END_HEADERS, 5)]);
        assert_eq!(block, 25);
    }

    #[test]
    fn lengths_and_streams_of_each_type() {
        let of = |kind, flags, length, stream| FrameHeader { length, kind, flags, stream }.check();
        for (kind, length) in [(2, 5), (3, 4), (4, 12), (6, 8), (7, 8), (8, 4)] {
            let stream = u32::from(matches!(kind, 2 | 3));
            assert_eq!(of(kind, 0, length, stream), Ok(()));
            assert_eq!(of(kind, 0, length - 1, stream), Err(Fault::FrameSize));
        }
        assert_eq!(of(4, flag::ACK, 6, 0), Err(Fault::FrameSize));
        for kind in [0, 1, 2, 3, 5, 9] {
            assert_eq!(of(kind, 0, 5, 0), Err(Fault::FrameStream));
        }
        for kind in [4, 6, 7] {
            assert_eq!(of(kind, 0, 24, 1), Err(Fault::FrameStream));
        }
    }
}
