//! Complete heads: taken apart in one pass, copied once, understood in one pass over the fields.
//!
//! The input is strict: every line ends in CRLF and none is folded.
//!
//! What it leaves to others: heads that are not complete, and naming the first fault in a malformed
//! one (`lines.rs`); the rules of framing (`framing.rs`) and of targets (`target.rs`).

use super::Options;
use super::bytes::{is_tchar, lower_case};
use super::field_lines::{self, content_end};
use super::framing::Facts;
use super::target;
use crate::error::Fault;
use crate::message::{BodyLength, Method, RequestHead, ResponseHead, Version};
use crate::{Headers, Name, Span};
use alloc::vec::Vec;
use memchr::memchr;

/// Parses the request head at the front of `input`, which begins with its method, and answers how
/// long it is. `Ok(None)` when it is not complete or not well-formed, or has too many fields:
/// `lines.rs` knows which.
pub(crate) fn parse_request(
    input: &[u8],
    options: &Options,
    fields_max: usize,
    head: &mut RequestHead,
) -> Result<Option<usize>, Fault> {
    head.clear();
    let Some(line) = RequestLine::find(input, options) else { return Ok(None) };
    let Some(length) = take_fields(input, line.length, fields_max, options, &mut head.headers)
    else {
        return Ok(None);
    };
    head.version = line.version;
    head.method_name = line.method;
    head.method = Method::of(head.headers.bytes(line.method));
    let facts = settle_fields(&mut head.headers)?;
    settle_request(head, line.target, facts, options)?;
    Ok(Some(length))
}

/// Parses the response head at the front of `input`, as [`parse_request`]. Sets neither `body` nor
/// `close`: they depend on the request.
pub(crate) fn parse_response(
    input: &[u8],
    options: &Options,
    fields_max: usize,
    head: &mut ResponseHead,
) -> Result<Option<(usize, Facts)>, Fault> {
    head.clear();
    let Some(line) = StatusLine::find(input) else { return Ok(None) };
    let Some(length) = take_fields(input, line.length, fields_max, options, &mut head.headers)
    else {
        return Ok(None);
    };
    head.version = line.version;
    head.status = line.status;
    head.reason = line.reason;
    let facts = settle_fields(&mut head.headers)?;
    if line.status < 100 {
        return Err(Fault::StatusCode);
    }
    head.content_length = facts.content_length;
    head.upgrade = facts.wants_upgrade(line.version == Version::Http10);
    Ok(Some((length, facts)))
}

/// The parts of a request line.
struct RequestLine {
    method: Span,
    target: Span,
    version: Version,
    /// With its CRLF.
    length: usize,
}

impl RequestLine {
    fn find(input: &[u8], options: &Options) -> Option<RequestLine> {
        let method_end = input.iter().position(|&byte| !is_tchar(byte))?;
        if method_end == 0 || input[method_end] != b' ' {
            return None;
        }
        let start = method_end + 1;
        let length = memchr(b' ', &input[start..])?;
        let (target, rest) = input[start..].split_at(length);
        if target.is_empty() || !target::has_only_target_bytes(target, options.allow_backslash) {
            return None;
        }
        let version = match rest.first_chunk()? {
            b" HTTP/1.1\r\n" => Version::Http11,
            b" HTTP/1.0\r\n" => Version::Http10,
            _ => return None,
        };
        Some(RequestLine {
            method: Span::new(0, method_end),
            target: Span::new(start, length),
            version,
            length: start + length + b" HTTP/1.x\r\n".len(),
        })
    }
}

/// The parts of a status line.
struct StatusLine {
    version: Version,
    status: u16,
    reason: Span,
    /// With its CRLF.
    length: usize,
}

impl StatusLine {
    fn find(input: &[u8]) -> Option<StatusLine> {
        let (start, rest) = input.split_first_chunk()?;
        let version = match start {
            b"HTTP/1.1 " => Version::Http11,
            b"HTTP/1.0 " => Version::Http10,
            _ => return None,
        };
        let (digits, rest) = rest.split_first_chunk::<3>()?;
        let mut status = 0;
        for digit in digits {
            status = status * 10 + char::from(*digit).to_digit(10)? as u16;
        }
        // The line ends here, or SP and a reason follow, which may be empty.
        let reason = match rest.first()? {
            b' ' => b"HTTP/1.x nnn ".len(),
            _ => b"HTTP/1.x nnn".len(),
        };
        let end = content_end(input, reason)?;
        if end > reason && rest[0] != b' ' {
            return None;
        }
        let reason = Span::new(reason, end - reason);
        Some(StatusLine { version, status, reason, length: end + 2 })
    }
}

/// Takes the fields behind a start line of `start` bytes, and copies the head's bytes into the
/// arena. Answers how long the head is; `None` leaves nothing behind.
fn take_fields(
    input: &[u8],
    start: usize,
    fields_max: usize,
    options: &Options,
    headers: &mut Headers,
) -> Option<usize> {
    let Some(length) = field_lines::find(input, start, fields_max, &mut headers.fields) else {
        headers.clear();
        return None;
    };
    headers.arena.extend_from_slice(&input[..length]);
    if options.keep_name_case {
        for field in &headers.fields {
            let start = headers.arena.len();
            headers.arena.extend_from_within(field.name.range());
            headers.received_names.push(Span { start: start as u32, ..field.name });
        }
    }
    Some(length)
}

/// Gives the fields their names in lower case and their numbers, and gathers what they say.
fn settle_fields(headers: &mut Headers) -> Result<Facts, Fault> {
    let mut facts = Facts::default();
    let mut fault = None;
    for field in &mut headers.fields {
        let name = &mut headers.arena[field.name.range()];
        lower_case(name);
        field.id = Name::of(name);
        headers.seen |= field.id.bit();
        if field.id != Name::Other
            && let Err(found) =
                facts.note(field.id, &headers.arena[field.value.range()], field.value)
        {
            fault = fault.or(Some(found));
        }
    }
    fault.map_or(Ok(facts), Err)
}

/// Sets what the request line and the fields say about target, body and connection.
fn settle_request(
    head: &mut RequestHead,
    target: Span,
    mut facts: Facts,
    options: &Options,
) -> Result<(), Fault> {
    let is_http_10 = head.version == Version::Http10;
    if head.method == Method::Extension
        && options.known_methods_only
        && !Method::is_known(head.headers.bytes(head.method_name))
    {
        return Err(Fault::Method);
    }
    if is_http_10 && !options.accept_http_10 {
        return Err(Fault::LowVersion);
    }
    if facts.host.is_none() && !is_http_10 {
        return Err(Fault::HostMissing);
    }
    target::resolve(head, target, facts.host, options)?;
    facts.check_framing(is_http_10, options.allow_chunked_length)?;
    facts.check_expectation(is_http_10)?;
    head.content_length = facts.content_length;
    head.body = match facts.content_length {
        Some(length) if length > 0 => BodyLength::Exact(length),
        _ if facts.is_chunked => BodyLength::Chunked,
        _ => BodyLength::None,
    };
    head.close = facts.closes(is_http_10);
    head.upgrade = facts.wants_upgrade(is_http_10);
    head.expect_continue = facts.expects_continue;
    if is_http_10 {
        // Ignored here, it may not come alive when the request is passed on as HTTP/1.1.
        head.headers.remove(Name::Expect);
    }
    match head.method {
        Method::Connect | Method::Trace if head.body != BodyLength::None => {
            return Err(Fault::BodyNotAllowed);
        }
        Method::Connect => {
            head.body = BodyLength::Tunnel;
            head.upgrade = false;
            head.close = true;
        }
        _ => {}
    }
    if head.scheme.is_some() {
        replace_host(head);
    }
    Ok(())
}

/// RFC 9112 3.2.2: with a target in absolute-form, `host` is what the target says.
fn replace_host(head: &mut RequestHead) {
    let authority = head.authority;
    match head.headers.fields.iter_mut().find(|field| field.id == Name::Host) {
        Some(field) => field.value = authority,
        None => {
            let text = Vec::from(head.headers.bytes(authority));
            head.headers.append(b"host", &text);
        }
    }
}
