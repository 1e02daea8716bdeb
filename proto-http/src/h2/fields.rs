//! From field lines to heads: pseudo-headers, and what a message may not have (RFC 9113 8.2, 8.3,
//! 8.5; RFC 8441).
//!
//! What it leaves to others: HPACK, and whether a malformed message ends the stream or the
//! connection.

use super::hpack::{Block, Decoder, Line, LineName};
use super::{Fault, Options};
use crate::h1::bytes::is_token;
use crate::h1::framing::parse_content_length;
use crate::h1::target::{check_authority, has_only_target_bytes};
use crate::message::{BodyLength, Method, RequestHead, ResponseHead, Scheme, Version};
use crate::{Field, Headers, Limits, Name, Span};

/// What a field counts besides its bytes (RFC 9113 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// A list that is too large is decoded to its end, for the dynamic table's sake, up to so many
/// times the limit: a byte of the block can stand for a field of 4096.
const OVERSIZE_FACTOR: usize = 4;

/// What a section is part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Section {
    Request,
    Response,
    Trailers,
}

/// A malformed message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed;

/// What was found in a section, apart from its fields.
#[derive(Default, Debug)]
pub(super) struct Found {
    method: Option<Span>,
    scheme: Option<Span>,
    authority: Option<Span>,
    path: Option<Span>,
    protocol: Option<Span>,
    status: Option<Span>,
    host: Option<Span>,
    content_length: Option<u64>,
    cookie_crumbs: usize,
    /// No pseudo-header may follow a field.
    has_field: bool,
    /// Bytes as SETTINGS_MAX_HEADER_LIST_SIZE counts them.
    size: usize,
    pub(super) is_malformed: bool,
    /// Larger than the limits; its fields are not complete.
    pub(super) is_too_large: bool,
}

/// Reads a block to its end, so that the dynamic table stays the peer's; keeps the lines as long as
/// they are good and within the limits.
pub(super) fn read(
    block: &[u8],
    decoder: &mut Decoder,
    section: Section,
    limits: &Limits,
    headers: &mut Headers,
) -> Result<Found, Fault> {
    headers.clear();
    let mut found = Found::default();
    let mut block = Block::new(block);
    loop {
        let before = headers.arena.len();
        let Some(line) = decoder.next(&mut block, headers).map_err(Fault::Compression)? else {
            break;
        };
        found.size += (line.name.length + line.value.length) as usize + FIELD_OVERHEAD;
        if found.size > limits.head_bytes_max {
            found.is_too_large = true;
            if found.size > limits.head_bytes_max.saturating_mul(OVERSIZE_FACTOR) {
                return Err(Fault::HeadTooLarge);
            }
        }
        if !found.is_too_large && !found.is_malformed {
            found.is_malformed = found.take(&line, section, headers).is_err();
            found.is_too_large = headers.fields.len() > limits.fields_max;
        }
        if found.is_too_large || found.is_malformed {
            headers.arena.truncate(before);
        }
    }
    if found.cookie_crumbs > 1 && !found.is_too_large && !found.is_malformed {
        // RFC 9113 8.2.3
        headers.join(Name::Cookie, b"cookie", b"; ", b"");
    }
    Ok(found)
}

impl Found {
    fn take(
        &mut self,
        line: &Line,
        section: Section,
        headers: &mut Headers,
    ) -> Result<(), Malformed> {
        if !line.has_valid_value {
            return Err(Malformed);
        }
        let LineName::Field(id) = line.kind else { return self.take_pseudo(line, section) };
        self.has_field = true;
        match id {
            Name::Other => {}
            // RFC 9113 8.2.2
            Name::Connection
            | Name::ProxyConnection
            | Name::KeepAlive
            | Name::TransferEncoding
            | Name::Upgrade => return Err(Malformed),
            Name::Te if !headers.bytes(line.value).eq_ignore_ascii_case(b"trailers") => {
                return Err(Malformed);
            }
            // Written anew, from `:authority` if there is one.
            Name::Host if section == Section::Request => {
                let earlier = self.host.replace(line.value);
                return if earlier.is_some() { Err(Malformed) } else { Ok(()) };
            }
            Name::ContentLength => {
                let length = parse_content_length(headers.bytes(line.value));
                let earlier = self.content_length.replace(length.map_err(|_| Malformed)?);
                if earlier.is_some() {
                    return Err(Malformed);
                }
            }
            Name::Cookie if section == Section::Request => self.cookie_crumbs += 1,
            _ => {}
        }
        if line.is_never_indexed {
            headers.never_indexed.push(line.name.start);
        }
        headers.push(Field { id, name: line.name, value: line.value });
        Ok(())
    }

    fn take_pseudo(&mut self, line: &Line, section: Section) -> Result<(), Malformed> {
        use LineName::{Authority, Field, Invalid, Method, Path, Protocol, Scheme, Status};
        let place = match (line.kind, section) {
            _ if self.has_field => return Err(Malformed),
            (Method, Section::Request) => &mut self.method,
            (Scheme, Section::Request) => &mut self.scheme,
            (Authority, Section::Request) => &mut self.authority,
            (Path, Section::Request) => &mut self.path,
            (Protocol, Section::Request) => &mut self.protocol,
            (Status, Section::Response) => &mut self.status,
            (Method | Scheme | Authority | Path | Protocol | Status | Invalid | Field(_), _) => {
                return Err(Malformed);
            }
        };
        let earlier = place.replace(line.value);
        if earlier.is_some() { Err(Malformed) } else { Ok(()) }
    }

    /// Completes a request head, of which the fields are read. An extended CONNECT becomes what an
    /// upgrade is on HTTP/1.1: GET with `connection: upgrade` and `upgrade`, as Envoy has it.
    pub(super) fn request(
        &self,
        head: &mut RequestHead,
        end_stream: bool,
        options: &Options,
    ) -> Result<(), Malformed> {
        let fields = core::mem::take(&mut head.headers);
        *head = RequestHead { headers: fields, version: Version::Http2, ..RequestHead::default() };
        head.method_name = self.method.ok_or(Malformed)?;
        let name = head.headers.bytes(head.method_name);
        if !is_token(name) || options.known_methods_only && !Method::is_known(name) {
            return Err(Malformed);
        }
        head.method = Method::of(name);
        let is_connect = head.method == Method::Connect;
        if is_connect && self.protocol.is_none() {
            self.connect_target(head)?;
        } else {
            self.target(head, options)?;
        }
        self.host(head)?;
        if let Some(protocol) = self.protocol {
            if !is_connect || !options.allow_connect {
                return Err(Malformed);
            }
            upgrade(head, protocol)?;
        }
        head.expect_continue = head
            .headers
            .get(Name::Expect)
            .is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
        head.content_length = self.content_length;
        head.body = match self.content_length {
            _ if is_connect => BodyLength::Tunnel,
            Some(1..) if end_stream => return Err(Malformed),
            _ => body_length(self.content_length, end_stream),
        };
        Ok(())
    }

    /// RFC 9113 8.5: CONNECT has an authority with a port, and neither scheme nor path.
    fn connect_target(&self, head: &mut RequestHead) -> Result<(), Malformed> {
        let authority = self.authority.ok_or(Malformed)?;
        let port = check_authority(head.headers.bytes(authority)).map_err(|_| Malformed)?;
        if self.scheme.is_some() || self.path.is_some() || !matches!(port, Some(1..)) {
            return Err(Malformed);
        }
        Ok(())
    }

    /// RFC 9113 8.3.1
    fn target(&self, head: &mut RequestHead, options: &Options) -> Result<(), Malformed> {
        let scheme = self.scheme.ok_or(Malformed)?;
        head.scheme = match head.headers.bytes(scheme) {
            name if name.eq_ignore_ascii_case(b"http") => Some(Scheme::Http),
            name if name.eq_ignore_ascii_case(b"https") => Some(Scheme::Https),
            _ => return Err(Malformed),
        };
        head.path = self.path.ok_or(Malformed)?;
        let path = head.headers.bytes(head.path);
        let is_asterisk = path == b"*" && head.method == Method::Options;
        if path.first() != Some(&b'/') && !is_asterisk
            || !has_only_target_bytes(path, options.allow_backslash)
        {
            return Err(Malformed);
        }
        if let Some(authority) = self.authority {
            check_authority(head.headers.bytes(authority)).map_err(|_| Malformed)?;
        }
        Ok(())
    }

    /// RFC 9113 8.3.1: `:authority` counts more than `host`. The head gets one `host`, first.
    fn host(&self, head: &mut RequestHead) -> Result<(), Malformed> {
        let Some(value) = self.authority.or(self.host) else { return Ok(()) };
        if self.authority.is_none() {
            check_authority(head.headers.bytes(value)).map_err(|_| Malformed)?;
        }
        let name = head.headers.store(b"host");
        let start = head.headers.store(b": ").start as usize + 2;
        head.headers.arena.extend_from_within(value.range());
        head.headers.store(b"\r\n");
        head.authority = Span::new(start, value.length as usize);
        let field = Field { id: Name::Host, name, value: head.authority };
        head.headers.seen |= Name::Host.bit();
        head.headers.fields.insert(0, field);
        Ok(())
    }

    /// Completes a response head, of which the fields are read.
    pub(super) fn response(
        &self,
        head: &mut ResponseHead,
        end_stream: bool,
        request: Request,
    ) -> Result<(), Malformed> {
        let fields = core::mem::take(&mut head.headers);
        *head = ResponseHead { headers: fields, version: Version::Http2, ..Default::default() };
        let status = self.status.ok_or(Malformed)?;
        let &[a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] = head.headers.bytes(status)
        else {
            return Err(Malformed);
        };
        head.status = [a, b, c].iter().fold(0, |n, digit| n * 10 + u16::from(digit - b'0'));
        head.content_length = self.content_length;
        // RFC 9113 8.6: there is no 101; an interim response does not end.
        if head.status == 101 || head.status < 200 && end_stream {
            return Err(Malformed);
        }
        if head.status < 200 {
            head.content_length = None;
            return Ok(());
        }
        let is_success = head.status < 300;
        head.body = match request {
            Request::Connect | Request::ExtendedConnect if is_success => BodyLength::Tunnel,
            Request::Head => BodyLength::None,
            _ if matches!(head.status, 204 | 304) => BodyLength::None,
            _ if end_stream && matches!(self.content_length, Some(1..)) => return Err(Malformed),
            _ => body_length(self.content_length, end_stream),
        };
        if request == Request::ExtendedConnect && is_success {
            head.status = 101;
            head.upgrade = true;
            head.content_length = None;
        }
        Ok(())
    }
}

/// What a response answers, as far as its framing depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Request {
    Head,
    Connect,
    ExtendedConnect,
    Other,
}

fn body_length(content_length: Option<u64>, end_stream: bool) -> BodyLength {
    match content_length {
        _ if end_stream => BodyLength::None,
        Some(length) => BodyLength::Exact(length),
        None => BodyLength::Chunked,
    }
}

/// RFC 8441 5: the protocol is what `upgrade` says in HTTP/1.1.
fn upgrade(head: &mut RequestHead, protocol: Span) -> Result<(), Malformed> {
    if !is_token(head.headers.bytes(protocol)) || head.authority.is_empty() {
        return Err(Malformed);
    }
    head.method = Method::Get;
    head.method_name = head.headers.store(b"GET");
    head.upgrade = true;
    head.headers.append_known(Name::Connection, b"connection", b"upgrade");
    let name = head.headers.store(b"upgrade");
    head.headers.push(Field { id: Name::Upgrade, name, value: protocol });
    Ok(())
}
