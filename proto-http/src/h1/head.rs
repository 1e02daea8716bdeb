//! Complete heads: tokenised by httparse, copied once, and understood in one pass over the fields.
//!
//! The input is strict: every line ends in CRLF and none is folded.
//!
//! What it leaves to others: heads that are not complete, and naming the first fault in a malformed
//! one (`lines.rs`); the rules of framing (`framing.rs`) and of targets (`target.rs`).

use super::Options;
use super::bytes::{is_ows, lower_case};
use super::framing::Facts;
use super::target;
use crate::error::Fault;
use crate::message::{BodyLength, Method, RequestHead, ResponseHead, Version};
use crate::{Field, Headers, Name, Span};
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use memchr::memchr;

/// Fields that need no allocation while they are parsed; Envoy's default bound is 100.
const STACK_FIELDS: usize = 128;

type Slot<'i> = MaybeUninit<httparse::Header<'i>>;

/// What came of a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Parsed {
    /// So many bytes were a head, and a good one.
    Complete(usize),
    /// Not complete or not well-formed: `lines.rs` knows which.
    Unclear,
    /// There are more fields than slots.
    SlotsFull,
}

/// Parses the request head at the front of `input`, which begins with its method.
pub(crate) fn parse_request(
    input: &[u8],
    options: &Options,
    fields_max: usize,
    head: &mut RequestHead,
) -> Result<Parsed, Fault> {
    let mut slots = [const { MaybeUninit::uninit() }; STACK_FIELDS];
    let slots_max = slots.len().min(fields_max);
    match parse_request_into(input, options, head, &mut slots[..slots_max]) {
        Ok(Parsed::SlotsFull) if fields_max > STACK_FIELDS => {
            parse_request_into(input, options, head, &mut spare_slots(input, fields_max))
        }
        parsed => parsed,
    }
}

/// Parses the response head at the front of `input`. Sets neither `body` nor `close`: they depend
/// on the request.
pub(crate) fn parse_response(
    input: &[u8],
    options: &Options,
    fields_max: usize,
    head: &mut ResponseHead,
    facts: &mut Facts,
) -> Result<Parsed, Fault> {
    let mut slots = [const { MaybeUninit::uninit() }; STACK_FIELDS];
    let slots_max = slots.len().min(fields_max);
    match parse_response_into(input, options, head, facts, &mut slots[..slots_max]) {
        Ok(Parsed::SlotsFull) if fields_max > STACK_FIELDS => {
            let mut slots = spare_slots(input, fields_max);
            parse_response_into(input, options, head, facts, &mut slots)
        }
        parsed => parsed,
    }
}

/// Slots for a head with more fields than the stack has; only a configuration above Envoy's default
/// comes here. A field line has at least four bytes.
#[cold]
fn spare_slots<'i>(input: &[u8], fields_max: usize) -> Vec<Slot<'i>> {
    let count = fields_max.min(input.len() / 4 + 1);
    core::iter::repeat_with(MaybeUninit::uninit).take(count).collect()
}

fn parse_request_into<'i>(
    input: &'i [u8],
    options: &Options,
    head: &mut RequestHead,
    slots: &mut [Slot<'i>],
) -> Result<Parsed, Fault> {
    let mut tokens = httparse::Request::new(&mut []);
    let length = match tokens.parse_with_uninit_headers(input, slots) {
        Ok(httparse::Status::Complete(length)) => length,
        Err(httparse::Error::TooManyHeaders) => return Ok(Parsed::SlotsFull),
        _ => return Ok(Parsed::Unclear),
    };
    let (Some(method), Some(path), Some(version)) = (tokens.method, tokens.path, tokens.version)
    else {
        return Ok(Parsed::Unclear);
    };
    let target = span_in(input, path.as_bytes());
    // "HTTP/1.x" follows the target and one SP.
    if input.get(target.end() + 9) != Some(&b'\r')
        || !target::has_only_target_bytes(path.as_bytes(), options.allow_backslash)
    {
        return Ok(Parsed::Unclear);
    }
    let is_http_10 = version == 0;
    head.clear();
    head.version = if is_http_10 { Version::Http10 } else { Version::Http11 };
    head.method = Method::of(method.as_bytes());
    head.method_name = span_in(input, method.as_bytes());
    let mut facts = Facts::default();
    if !take_fields(input, length, tokens.headers, options, &mut head.headers, &mut facts)? {
        return Ok(Parsed::Unclear);
    }
    if head.method == Method::Extension
        && options.known_methods_only
        && !Method::is_known(method.as_bytes())
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
    settle_request(head, &mut facts, is_http_10, options)?;
    Ok(Parsed::Complete(length))
}

/// Sets what the fields say about body and connection.
fn settle_request(
    head: &mut RequestHead,
    facts: &mut Facts,
    is_http_10: bool,
    options: &Options,
) -> Result<(), Fault> {
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

fn parse_response_into<'i>(
    input: &'i [u8],
    options: &Options,
    head: &mut ResponseHead,
    facts: &mut Facts,
    slots: &mut [Slot<'i>],
) -> Result<Parsed, Fault> {
    // httparse would skip empty lines, which only a server may do.
    if input.first() != Some(&b'H') {
        return Ok(Parsed::Unclear);
    }
    let mut tokens = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut tokens, input, slots) {
        Ok(httparse::Status::Complete(length)) => length,
        Err(httparse::Error::TooManyHeaders) => return Ok(Parsed::SlotsFull),
        _ => return Ok(Parsed::Unclear),
    };
    // "HTTP/1.x nnn" is 12 bytes; then the line ends, or SP and a reason follow.
    let Some(line) = memchr(b'\n', input).and_then(|lf| input[..lf].strip_suffix(b"\r")) else {
        return Ok(Parsed::Unclear);
    };
    let (Some(status), Some(version)) = (tokens.code, tokens.version) else {
        return Ok(Parsed::Unclear);
    };
    head.clear();
    head.version = if version == 0 { Version::Http10 } else { Version::Http11 };
    head.status = status;
    head.reason = Span::new(line.len().min(13), line.len().saturating_sub(13));
    *facts = Facts::default();
    if !take_fields(input, length, tokens.headers, options, &mut head.headers, facts)? {
        return Ok(Parsed::Unclear);
    }
    if status < 100 {
        return Err(Fault::StatusCode);
    }
    head.content_length = facts.content_length;
    head.upgrade = facts.wants_upgrade(version == 0);
    Ok(Parsed::Complete(length))
}

/// Copies the head's bytes into the arena, and the fields with their names in lower case. False
/// when a line does not end in CRLF, which httparse lets pass.
fn take_fields(
    input: &[u8],
    length: usize,
    tokens: &[httparse::Header<'_>],
    options: &Options,
    headers: &mut Headers,
    facts: &mut Facts,
) -> Result<bool, Fault> {
    let input = &input[..length];
    if !input.ends_with(b"\r\n") {
        return Ok(false);
    }
    headers.arena.extend_from_slice(input);
    headers.fields.reserve(tokens.len());
    // The first fault in the fields' meaning counts only when there is none in their form.
    let mut fault = None;
    for token in tokens {
        let name = span_in(input, token.name.as_bytes());
        let value = span_in(input, token.value);
        if !ends_with_crlf(input, value.end()) {
            return Ok(false);
        }
        if options.keep_name_case {
            let received = headers.store(token.name.as_bytes());
            headers.received_names.push(received);
        }
        let lower = &mut headers.arena[name.range()];
        lower_case(lower);
        let id = Name::of(lower);
        if id != Name::Other
            && let Err(found) = facts.note(id, token.value, value)
        {
            fault = fault.or(Some(found));
        }
        headers.push(Field { id, name, value });
    }
    fault.map_or(Ok(true), Err)
}

/// Whether CRLF follows, after optional white space that belongs to no value.
fn ends_with_crlf(input: &[u8], mut at: usize) -> bool {
    while input.get(at).copied().is_some_and(is_ows) {
        at += 1;
    }
    input.get(at) == Some(&b'\r')
}

/// Where a part of `input` that httparse named lies in it.
fn span_in(input: &[u8], part: &[u8]) -> Span {
    Span::new(part.as_ptr().addr() - input.as_ptr().addr(), part.len())
}
