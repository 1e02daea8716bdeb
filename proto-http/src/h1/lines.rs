//! A head that does not arrive whole: kept here, and checked line by line as it grows.
//!
//! A head that is complete and faultless in one piece never comes here; see `head.rs`. Everything
//! else does, so that what is reported, and for which byte, does not depend on how the input was
//! cut. Each byte is looked at a bounded number of times, however small the pieces are.
//!
//! What it leaves to others: the meaning of a head that is complete.

use super::bytes::{is_field_content, is_ows, is_tchar, is_token};
use super::target::has_only_target_bytes;
use crate::error::Fault;
use crate::limits::{BUFFER_KEEP_BYTES, HEAD_BYTES_CEILING, Limits};
use alloc::vec::Vec;
use memchr::memchr;

/// What the lines belong to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Section {
    Request,
    Response,
    Trailers,
}

/// What a piece of input did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fed {
    /// All of it was kept, and more is needed.
    More,
    /// The section is complete; so many bytes of the piece belonged to it.
    Complete(usize),
}

/// The lines of one section so far.
///
/// Invariants: `line_start <= seen <= bytes.len()`; there is no LF in `bytes[line_start..]`; every
/// line before `line_start` was checked.
#[derive(Debug)]
pub(crate) struct LineBuffer {
    section: Section,
    allow_backslash: bool,
    bytes: Vec<u8>,
    line_start: usize,
    /// End of the part that [`LineBuffer::check_new_bytes`] saw.
    seen: usize,
    /// Whether the request line's method has ended.
    is_past_method: bool,
    /// Bytes taken from the input: `bytes.len()`.
    taken: usize,
    taken_max: usize,
    fields: usize,
    fields_max: usize,
}

impl LineBuffer {
    pub(crate) fn new(section: Section, allow_backslash: bool, limits: &Limits) -> LineBuffer {
        LineBuffer {
            section,
            allow_backslash,
            bytes: Vec::new(),
            line_start: 0,
            seen: 0,
            is_past_method: false,
            taken: 0,
            taken_max: limits.head_bytes_max.min(HEAD_BYTES_CEILING),
            fields: 0,
            fields_max: limits.fields_max,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// The most bytes that a section may have.
    pub(crate) fn taken_max(&self) -> usize {
        self.taken_max
    }

    /// The lines, each ending in CRLF.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    #[cfg(test)]
    pub(crate) fn memory(&self) -> &Vec<u8> {
        &self.bytes
    }

    /// Makes room for a section of this kind. Memory is kept unless it is much.
    pub(crate) fn restart(&mut self, section: Section) {
        self.bytes.clear();
        if self.bytes.capacity() > BUFFER_KEEP_BYTES {
            self.bytes = Vec::new();
        }
        self.section = section;
        (self.line_start, self.seen, self.taken, self.fields) = (0, 0, 0, 0);
        self.is_past_method = false;
    }

    /// Takes what belongs to the section from the front of `input`.
    pub(crate) fn feed(&mut self, input: &[u8]) -> Result<Fed, Fault> {
        let mut at = 0;
        while at < input.len() {
            let room = self.taken_max - self.taken;
            let rest = &input[at..input.len().min(at + room)];
            let (piece, ends_line) = match memchr(b'\n', rest) {
                Some(lf) => (&rest[..=lf], true),
                None => (rest, false),
            };
            self.bytes.extend_from_slice(piece);
            self.taken += piece.len();
            at += piece.len();
            self.check_new_bytes()?;
            if ends_line && self.end_line()? {
                return Ok(Fed::Complete(at));
            }
            if self.taken == self.taken_max {
                return Err(self.too_large());
            }
        }
        Ok(Fed::More)
    }

    fn too_large(&self) -> Fault {
        if self.section == Section::Trailers {
            Fault::TrailersTooLarge
        } else {
            Fault::HeadTooLarge
        }
    }

    /// Checks what can be checked before a line ends, so that a peer that speaks something else
    /// (TLS, HTTP/2) or ends lines with CR is answered at once and not when its time is up.
    fn check_new_bytes(&mut self) -> Result<(), Fault> {
        let from = core::mem::replace(&mut self.seen, self.bytes.len());
        if self.line_start == 0 {
            match self.section {
                Section::Request => self.check_method(from)?,
                Section::Response => check_protocol_start(&self.bytes)?,
                Section::Trailers => {}
            }
        }
        // A CR that was the last byte is looked at again with the byte that follows it.
        let mut rest = &self.bytes[from.saturating_sub(1).max(self.line_start)..];
        while let Some(cr) = memchr(b'\r', rest) {
            match rest.get(cr + 1) {
                Some(b'\n') | None => {}
                Some(_) => return Err(Fault::LineEnd),
            }
            rest = &rest[cr + 1..];
        }
        Ok(())
    }

    fn check_method(&mut self, from: usize) -> Result<(), Fault> {
        if self.is_past_method {
            return Ok(());
        }
        for (at, &byte) in self.bytes.iter().enumerate().skip(from) {
            if byte == b' ' && at > 0 {
                self.is_past_method = true;
                return Ok(());
            }
            if !is_tchar(byte) {
                return Err(Fault::Method);
            }
        }
        Ok(())
    }

    /// Checks the line that just got its LF. True when it was the empty one.
    fn end_line(&mut self) -> Result<bool, Fault> {
        let line = &self.bytes[self.line_start..];
        let is_start_line = self.line_start == 0 && self.section != Section::Trailers;
        let content = match line {
            [content @ .., b'\r', b'\n'] => content,
            _ => return Err(Fault::LineEnd),
        };
        let is_last = content.is_empty();
        if is_start_line {
            match self.section {
                Section::Request => check_request_line(content, self.allow_backslash)?,
                _ => check_status_line(content)?,
            }
        } else if content.first().copied().is_some_and(is_ows) {
            return Err(Fault::LineFolding);
        } else if !is_last {
            check_field_line(content)?;
            self.fields += 1;
            if self.fields > self.fields_max {
                return Err(match self.section {
                    Section::Trailers => Fault::TooManyTrailers,
                    _ => Fault::TooManyFields,
                });
            }
        }
        let content_end = self.line_start + content.len();
        self.bytes.truncate(content_end);
        self.bytes.extend_from_slice(b"\r\n");
        self.line_start = self.bytes.len();
        self.seen = self.line_start;
        Ok(is_last)
    }
}

fn check_protocol_start(line: &[u8]) -> Result<(), Fault> {
    const START: &[u8] = b"HTTP/1.";
    let length = line.len().min(START.len());
    if line[..length] == START[..length] { Ok(()) } else { Err(Fault::StartLine) }
}

/// `content` begins with a token and SP: the method was checked as it came.
fn check_request_line(content: &[u8], allow_backslash: bool) -> Result<(), Fault> {
    let mut parts = content.splitn(3, |&b| b == b' ');
    let method = parts.next().unwrap_or_default();
    let target = parts.next().unwrap_or_default();
    if target.is_empty() {
        return Err(Fault::StartLine);
    }
    if !has_only_target_bytes(target, allow_backslash) {
        return Err(Fault::TargetByte);
    }
    let Some(version) = parts.next() else {
        // HTTP/0.9 had only GET and a path.
        let is_http_09 = method == b"GET" && target.starts_with(b"/");
        return Err(if is_http_09 { Fault::LowVersion } else { Fault::StartLine });
    };
    check_version(version)
}

fn check_version(version: &[u8]) -> Result<(), Fault> {
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => Ok(()),
        b"HTTP/0.9" => Err(Fault::LowVersion),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Fault::Version),
        _ => Err(Fault::StartLine),
    }
}

fn check_status_line(content: &[u8]) -> Result<(), Fault> {
    let (version, rest) = content.split_at_checked(8).ok_or(Fault::StartLine)?;
    check_version(version)?;
    let code = rest.strip_prefix(b" ").ok_or(Fault::StartLine)?;
    let (code, rest) = code.split_at_checked(3).ok_or(Fault::StatusCode)?;
    if !code.iter().all(u8::is_ascii_digit) {
        return Err(Fault::StatusCode);
    }
    match rest {
        [] => Ok(()),
        [b' ', reason @ ..] if is_field_content(reason) => Ok(()),
        [b' ', ..] => Err(Fault::FieldValue),
        _ => Err(Fault::StatusCode),
    }
}

fn check_field_line(content: &[u8]) -> Result<(), Fault> {
    let colon = memchr(b':', content).ok_or(Fault::FieldName)?;
    if !is_token(&content[..colon]) {
        return Err(Fault::FieldName);
    }
    if is_field_content(&content[colon + 1..]) { Ok(()) } else { Err(Fault::FieldValue) }
}
