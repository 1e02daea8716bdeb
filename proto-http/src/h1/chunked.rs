//! The chunked transfer coding (RFC 9112 7.1), byte by byte, strictly.
//!
//! ```text
//!   Size --;--> Extension         every line end is CRLF
//!    | \            |
//!    |  `-CR-> SizeLf <-'
//!    |            | size > 0: Data --all--> DataCr --CR--> DataLf --LF--> Size
//!    |            | size = 0: TrailerStart --CR--> LastLf --LF--> End
//!                                  `--else--> Trailers --empty line--> End
//! ```
//!
//! White space after a size, a `;` without a name, a bare LF: all are refused, because some readers
//! skip them and some do not, and what is framed in two ways smuggles. No leniency applies here.
//!
//! What it leaves to others: who wants trailers.

use super::body::{BodyStep, TrailerSink};
use super::bytes::{is_tchar, lower_case, trim_ows};
use super::lines::{Fed, Section};
use crate::error::Fault;
use crate::{Headers, Name};
use alloc::vec::Vec;
use memchr::memchr;

/// A size has at most so many digits: 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Size,
    Extension(Extension),
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    LastLf,
    Trailers,
    End,
}

/// Within chunk-ext = *( BWS ";" BWS name \[ BWS "=" BWS value \] ), after a `;`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Extension {
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Value,
    Quoted,
    QuotedPair,
    AfterQuoted,
    AfterValue,
}

/// Where a chunked body stands.
#[derive(Debug)]
pub(crate) struct Chunked {
    phase: Phase,
    /// While the size is read, its value so far; then the bytes of the chunk that are missing.
    left: u64,
    digits: u8,
    /// Extension bytes that may still come.
    extension_bytes_left: usize,
}

impl Chunked {
    pub(crate) fn new(extension_bytes_max: usize) -> Chunked {
        Chunked {
            phase: Phase::Size,
            left: 0,
            digits: 0,
            extension_bytes_left: extension_bytes_max,
        }
    }

    /// Reads on, up to one piece of data or the end.
    pub(crate) fn step(
        &mut self,
        input: &[u8],
        sink: TrailerSink<'_>,
    ) -> Result<(usize, BodyStep), Fault> {
        let mut at = 0;
        loop {
            match self.phase {
                Phase::Data if at < input.len() => return Ok(self.take_data(input, at)),
                Phase::Trailers => return self.take_trailers(input, at, sink),
                Phase::End => return Ok((at, BodyStep::End)),
                _ => {}
            }
            let Some(&byte) = input.get(at) else { return Ok((at, BodyStep::NeedMore)) };
            if self.phase == Phase::TrailerStart && byte != b'\r' {
                sink.lines.restart(Section::Trailers);
                self.phase = Phase::Trailers;
            } else {
                self.phase = self.after(byte)?;
                at += 1;
            }
        }
    }

    /// The next phase, after one byte of a chunk's frame.
    fn after(&mut self, byte: u8) -> Result<Phase, Fault> {
        match (self.phase, byte) {
            (Phase::Size, _) => self.after_in_size(byte),
            (Phase::Extension(extension), _) => self.after_in_extension(extension, byte),
            (Phase::SizeLf, b'\n') => {
                self.digits = 0;
                Ok(if self.left == 0 { Phase::TrailerStart } else { Phase::Data })
            }
            (Phase::SizeLf, _) => Err(Fault::ChunkSize),
            (Phase::DataCr, b'\r') => Ok(Phase::DataLf),
            (Phase::DataLf, b'\n') => Ok(Phase::Size),
            (Phase::TrailerStart, _) => Ok(Phase::LastLf),
            (Phase::LastLf, b'\n') => Ok(Phase::End),
            (Phase::LastLf, _) => Err(Fault::LineEnd),
            (Phase::DataCr | Phase::DataLf, _) => Err(Fault::ChunkEnd),
            (Phase::Data | Phase::Trailers | Phase::End, _) => Ok(self.phase),
        }
    }

    fn after_in_size(&mut self, byte: u8) -> Result<Phase, Fault> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if self.digits > 0 => return Ok(Phase::SizeLf),
            b';' if self.digits > 0 => return Ok(Phase::Extension(Extension::BeforeName)),
            _ => return Err(Fault::ChunkSize),
        };
        if self.digits == SIZE_DIGITS_MAX {
            return Err(Fault::ChunkSize);
        }
        self.digits += 1;
        self.left = self.left << 4 | u64::from(digit);
        Ok(Phase::Size)
    }

    fn after_in_extension(&mut self, extension: Extension, byte: u8) -> Result<Phase, Fault> {
        use Extension::*;
        if self.extension_bytes_left == 0 {
            return Err(Fault::ChunkExtensionsTooLarge);
        }
        self.extension_bytes_left -= 1;
        let next = match (extension, byte) {
            (Name | Value | AfterQuoted, b'\r') => return Ok(Phase::SizeLf),
            (Name | AfterName | Value | AfterQuoted | AfterValue, b';') => BeforeName,
            (BeforeName | AfterName | BeforeValue | AfterValue, b' ' | b'\t') => extension,
            (Name, b' ' | b'\t') => AfterName,
            (Value | AfterQuoted, b' ' | b'\t') => AfterValue,
            (Name | AfterName, b'=') => BeforeValue,
            (BeforeName | Name, _) if is_tchar(byte) => Name,
            (BeforeValue, b'"') => Quoted,
            (BeforeValue | Value, _) if is_tchar(byte) => Value,
            (Quoted, b'"') => AfterQuoted,
            (Quoted, b'\\') => QuotedPair,
            (Quoted | QuotedPair, b'\t' | b' '..=b'~' | 0x80..) => Quoted,
            _ => return Err(Fault::ChunkExtension),
        };
        Ok(Phase::Extension(next))
    }

    fn take_data(&mut self, input: &[u8], at: usize) -> (usize, BodyStep) {
        let available = input.len() - at;
        let length = available.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let end = at + length;
        self.left -= length as u64;
        let mut consumed = end;
        if self.left == 0 {
            self.phase = Phase::DataCr;
            if input[end..].starts_with(b"\r\n") {
                self.phase = Phase::Size;
                consumed += 2;
            }
        }
        (consumed, BodyStep::Data(at..end))
    }

    fn take_trailers(
        &mut self,
        input: &[u8],
        at: usize,
        sink: TrailerSink<'_>,
    ) -> Result<(usize, BodyStep), Fault> {
        let Fed::Complete(length) = sink.lines.feed(&input[at..])? else {
            return Ok((input.len(), BodyStep::NeedMore));
        };
        if sink.keep {
            store_trailers(sink.lines.bytes(), sink.trailers);
        }
        sink.lines.restart(Section::Trailers);
        let has_some = sink.keep && !sink.trailers.is_empty();
        self.phase = Phase::End;
        Ok((at + length, if has_some { BodyStep::Trailers } else { BodyStep::End }))
    }
}

/// Keeps the fields of a trailer section that was checked, but for those that may not be there.
fn store_trailers(mut section: &[u8], trailers: &mut Headers) {
    trailers.clear();
    let mut lower = Vec::new();
    while let Some(end) = memchr(b'\n', section) {
        let line = section[..end].strip_suffix(b"\r").unwrap_or(&section[..end]);
        section = &section[end + 1..];
        let Some(colon) = memchr(b':', line) else { continue };
        lower.clear();
        lower.extend_from_slice(&line[..colon]);
        lower_case(&mut lower);
        if !is_forbidden_in_trailers(&lower) {
            trailers.append(&lower, trim_ows(&line[colon + 1..]));
        }
    }
}

/// RFC 9110 6.5.1: fields for framing, routing, authentication, request modifiers, response control
/// and content format mean something only before the body.
fn is_forbidden_in_trailers(lower: &[u8]) -> bool {
    match Name::of(lower) {
        Name::Other => {}
        Name::Server | Name::Via | Name::XEnvoyUpstreamServiceTime | Name::UserAgent => {
            return false;
        }
        _ => return true,
    }
    matches!(
        lower,
        b"age"
            | b"cache-control"
            | b"content-encoding"
            | b"content-range"
            | b"expires"
            | b"if-match"
            | b"if-modified-since"
            | b"if-none-match"
            | b"if-range"
            | b"if-unmodified-since"
            | b"max-forwards"
            | b"pragma"
            | b"range"
            | b"retry-after"
            | b"set-cookie"
            | b"vary"
            | b"warning"
            | b"www-authenticate"
    )
}
