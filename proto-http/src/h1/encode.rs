//! Writing heads, chunks and trailers.
//!
//! Field lines that stand side by side in the head's arena, as they arrive and as
//! [`Headers::append`] stores them, are copied together: a head that was not changed is one copy.
//!
//! What it leaves to others: deciding which fields to add or remove, except the framing fields,
//! which are written from the body length alone so that what is sent is always framed once.

use super::bytes::{is_decimal_of, push_decimal};
use crate::{BodyLength, Field, Headers, Method, Name, RequestHead, ResponseHead, Span};
use alloc::vec::Vec;
use core::ops::Range;

/// Writes a request head for an upstream, with `body` as its framing: `content-length` for `Exact`,
/// also `content-length: 0` when `head.content_length` is `Some(0)` or the method is one that
/// commonly has a body; `transfer-encoding: chunked` for `Chunked`. Field names come out in lower
/// case. `host` is written from `head.authority`, at the place of the `host` field, or first. The
/// version is always HTTP/1.1.
pub fn encode_request(head: &RequestHead, body: BodyLength, out: &mut Vec<u8>) {
    let mut lines = LineCopier::new(&head.headers, out);
    let target = if head.method == Method::Connect { head.authority } else { head.path };
    lines.request_line(head.method_name, target);
    let has_host = head.headers.get(Name::Host).is_some();
    if !has_host {
        lines.field(b"host", head.headers.bytes(head.authority));
    }
    // Some origins want a length with every POST (RFC 9110 8.6).
    let is_bodiless =
        matches!(head.method, Method::Get | Method::Head | Method::Delete | Method::Trace)
            || head.method == Method::Connect;
    let declared = head.content_length.or_else(|| (!is_bodiless).then_some(0));
    let mut framing = Framing::new(body, declared);
    let mut is_host_written = !has_host;
    for field in head.headers.fields() {
        match field.id {
            Name::Host if is_host_written => {}
            Name::Host => {
                is_host_written = true;
                if field.value == head.authority {
                    lines.copy(field);
                } else {
                    lines.field(b"host", head.headers.bytes(head.authority));
                }
            }
            Name::ContentLength | Name::TransferEncoding => framing.copy(field, &mut lines),
            _ => lines.copy(field),
        }
    }
    framing.finish(&mut lines);
    lines.finish();
}

/// Writes a response head, as HTTP/1.1. `close` adds `connection: close`, and an until-close body
/// always does; a tunnel never. `content-length` of HEAD and 304 comes from `head.content_length`.
///
/// With [`BodyLength::None`] and no `content_length` nothing says where the response ends: right
/// for an answer to HEAD, for 1xx, 204 and 304; a response of one's own to anything else needs
/// `content_length: Some(0)`.
pub fn encode_response(head: &ResponseHead, body: BodyLength, close: bool, out: &mut Vec<u8>) {
    let mut lines = LineCopier::new(&head.headers, out);
    lines.status_line(head.status, head.reason);
    let is_without_framing = head.status < 200 || head.status == 204;
    let mut framing = if is_without_framing {
        Framing::new(BodyLength::None, None)
    } else {
        Framing::new(body, head.content_length)
    };
    for field in head.headers.fields() {
        match field.id {
            Name::ContentLength | Name::TransferEncoding => framing.copy(field, &mut lines),
            _ => lines.copy(field),
        }
    }
    framing.finish(&mut lines);
    if (close && body != BodyLength::Tunnel) || body == BodyLength::UntilClose {
        lines.field(b"connection", b"close");
    }
    lines.finish();
}

/// Writes the line before a chunk's data. `length` is not zero.
pub fn encode_chunk_start(length: usize, out: &mut Vec<u8>) {
    debug_assert!(length > 0, "a chunk of zero bytes would end the body");
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(DIGITS[(length >> (digit * 4)) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the line end after a chunk's data.
pub fn encode_chunk_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk and the trailers, if any.
pub fn encode_last_chunk(trailers: Option<&Headers>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    match trailers {
        Some(trailers) => {
            let mut lines = LineCopier::new(trailers, out);
            for field in trailers.fields() {
                lines.copy(field);
            }
            lines.finish();
        }
        None => out.extend_from_slice(b"\r\n"),
    }
}

/// The reason phrase of a status code in its registry; without one, `Unknown`, as Envoy writes.
fn reason_phrase(code: u16) -> &'static str {
    const PHRASES: [(u16, &str); 62] = [
        (100, "Continue"),
        (101, "Switching Protocols"),
        (102, "Processing"),
        (103, "Early Hints"),
        (200, "OK"),
        (201, "Created"),
        (202, "Accepted"),
        (203, "Non-Authoritative Information"),
        (204, "No Content"),
        (205, "Reset Content"),
        (206, "Partial Content"),
        (207, "Multi-Status"),
        (208, "Already Reported"),
        (226, "IM Used"),
        (300, "Multiple Choices"),
        (301, "Moved Permanently"),
        (302, "Found"),
        (303, "See Other"),
        (304, "Not Modified"),
        (305, "Use Proxy"),
        (307, "Temporary Redirect"),
        (308, "Permanent Redirect"),
        (400, "Bad Request"),
        (401, "Unauthorized"),
        (402, "Payment Required"),
        (403, "Forbidden"),
        (404, "Not Found"),
        (405, "Method Not Allowed"),
        (406, "Not Acceptable"),
        (407, "Proxy Authentication Required"),
        (408, "Request Timeout"),
        (409, "Conflict"),
        (410, "Gone"),
        (411, "Length Required"),
        (412, "Precondition Failed"),
        (413, "Payload Too Large"),
        (414, "URI Too Long"),
        (415, "Unsupported Media Type"),
        (416, "Range Not Satisfiable"),
        (417, "Expectation Failed"),
        (421, "Misdirected Request"),
        (422, "Unprocessable Entity"),
        (423, "Locked"),
        (424, "Failed Dependency"),
        (425, "Too Early"),
        (426, "Upgrade Required"),
        (428, "Precondition Required"),
        (429, "Too Many Requests"),
        (431, "Request Header Fields Too Large"),
        (451, "Unavailable For Legal Reasons"),
        (500, "Internal Server Error"),
        (501, "Not Implemented"),
        (502, "Bad Gateway"),
        (503, "Service Unavailable"),
        (504, "Gateway Timeout"),
        (505, "HTTP Version Not Supported"),
        (506, "Variant Also Negotiates"),
        (507, "Insufficient Storage"),
        (508, "Loop Detected"),
        (510, "Not Extended"),
        (511, "Network Authentication Required"),
        (599, "Last Unassigned Server Error Code"),
    ];
    let found = PHRASES.binary_search_by_key(&code, |(code, _)| *code);
    found.map_or("Unknown", |index| PHRASES[index].1)
}

/// Copies lines out of an arena, as many at a time as stand side by side.
struct LineCopier<'h, 'o> {
    arena: &'h [u8],
    /// Lines of the arena that are still to be copied; they come after all that is in `out`.
    run: Range<usize>,
    out: &'o mut Vec<u8>,
}

impl<'h, 'o> LineCopier<'h, 'o> {
    fn new(headers: &'h Headers, out: &'o mut Vec<u8>) -> LineCopier<'h, 'o> {
        // Room for the arena and for what is commonly added to it; more than that is grown.
        out.reserve(headers.arena.len() + 128);
        LineCopier { arena: &headers.arena, run: 0..0, out }
    }

    fn request_line(&mut self, method: Span, target: Span) {
        const END: &[u8] = b" HTTP/1.1\r\n";
        if target.start as usize == method.end() + 1 && self.has_at(target.end(), END) {
            self.run = method.start as usize..target.end() + END.len();
            return;
        }
        self.out.extend_from_slice(&self.arena[method.range()]);
        self.out.push(b' ');
        self.out.extend_from_slice(&self.arena[target.range()]);
        self.out.extend_from_slice(END);
    }

    fn status_line(&mut self, code: u16, reason: Span) {
        const START: &[u8] = b"HTTP/1.1 ";
        let status = [
            b'0' + (code / 100 % 10) as u8,
            b'0' + (code / 10 % 10) as u8,
            b'0' + (code % 10) as u8,
            b' ',
        ];
        let is_unchanged = !reason.is_empty()
            && reason.start as usize == START.len() + status.len()
            && self.arena.starts_with(START)
            && self.has_at(START.len(), &status)
            && self.has_at(reason.end(), b"\r\n");
        if is_unchanged {
            self.run = 0..reason.end() + 2;
            return;
        }
        let reason = match &self.arena[reason.range()] {
            [] => reason_phrase(code).as_bytes(),
            reason => reason,
        };
        self.out.extend_from_slice(START);
        self.out.extend_from_slice(&status);
        self.out.extend_from_slice(reason);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Copies a field line, from the arena if it stands there just as it is to be written.
    #[inline]
    fn copy(&mut self, field: &Field) {
        let end = field.value.end();
        let is_line = field.value.start as usize == field.name.end() + 2
            && self.has_at(field.name.end(), b": ")
            && self.has_at(end, b"\r\n");
        if !is_line {
            let arena = self.arena;
            self.field(&arena[field.name.range()], &arena[field.value.range()]);
        } else if field.name.start as usize == self.run.end {
            self.run.end = end + 2;
        } else {
            self.flush();
            self.run = field.name.start as usize..end + 2;
        }
    }

    /// Writes a field line that is not in the arena.
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.flush();
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b": ");
        self.out.extend_from_slice(value);
        self.out.extend_from_slice(b"\r\n");
    }

    fn flush(&mut self) {
        let run = core::mem::take(&mut self.run);
        if !run.is_empty() {
            self.out.extend_from_slice(&self.arena[run]);
        }
    }

    fn finish(mut self) {
        self.flush();
        self.out.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn has_at(&self, at: usize, bytes: &[u8]) -> bool {
        self.arena.get(at..at + bytes.len()) == Some(bytes)
    }
}

/// The one framing field that a head may have, and whether it is written.
struct Framing {
    length: Option<u64>,
    is_chunked: bool,
}

impl Framing {
    fn new(body: BodyLength, declared: Option<u64>) -> Framing {
        let length = match body {
            BodyLength::Exact(length) => Some(length),
            BodyLength::None => declared,
            BodyLength::Chunked | BodyLength::UntilClose | BodyLength::Tunnel => None,
        };
        Framing { length, is_chunked: body == BodyLength::Chunked }
    }

    /// Copies a framing field of the head if it is the right one, in its one right spelling.
    fn copy(&mut self, field: &Field, lines: &mut LineCopier<'_, '_>) {
        let value = &lines.arena[field.value.range()];
        if field.id == Name::ContentLength {
            if self.length.is_some_and(|length| is_decimal_of(value, length)) {
                lines.copy(field);
                self.length = None;
            }
        } else if self.is_chunked && value == b"chunked" {
            lines.copy(field);
            self.is_chunked = false;
        }
    }

    fn finish(self, lines: &mut LineCopier<'_, '_>) {
        if self.is_chunked {
            lines.field(b"transfer-encoding", b"chunked");
        }
        if let Some(length) = self.length {
            lines.flush();
            lines.out.extend_from_slice(b"content-length: ");
            push_decimal(length, lines.out);
            lines.out.extend_from_slice(b"\r\n");
        }
    }
}
