//! Heads and trailers to field blocks.
//!
//! What it leaves to others: frames, and whether the stream can take them.

use super::hpack::{Encoder, Indexing};
use crate::h1::bytes::{list, push_decimal};
use crate::message::{BodyLength, Method, RequestHead, ResponseHead, Scheme};
use crate::{Field, Headers, Name};
use alloc::vec::Vec;

/// A cookie's crumb shorter than this could be guessed byte by byte if it were indexed (RFC 7541
/// 7.1.3); the bound is nghttp2's.
const COOKIE_INDEXED_BYTES_MIN: usize = 20;

/// The decimal digits of the largest number.
type Digits = Vec<u8>;

/// What writes field blocks: the encoder, and room for a number.
#[derive(Debug)]
pub(super) struct HeadWriter {
    pub(super) encoder: Encoder,
    digits: Digits,
}

impl HeadWriter {
    pub(super) fn new(encoder: Encoder) -> HeadWriter {
        HeadWriter { encoder, digits: Vec::new() }
    }

    /// Writes a request. With `upgrade` it is an extended CONNECT for what the `upgrade` field
    /// names.
    pub(super) fn request(&mut self, head: &RequestHead, body: BodyLength, out: &mut Vec<u8>) {
        self.encoder.begin(out);
        let headers = &head.headers;
        let protocol = if head.upgrade { headers.get(Name::Upgrade) } else { None };
        let is_plain_connect = head.method == Method::Connect;
        match head.method {
            _ if protocol.is_some() => self.line(b":method", b"CONNECT", out),
            Method::Get => self.encoder.static_line(2, out),
            Method::Post => self.encoder.static_line(3, out),
            _ => self.line(b":method", head.method_name(), out),
        }
        if let Some(protocol) = protocol {
            self.line(b":protocol", protocol, out);
        }
        if !is_plain_connect {
            let is_https = head.scheme == Some(Scheme::Https);
            self.encoder.static_line(if is_https { 7 } else { 6 }, out);
            match head.path() {
                b"/" => self.encoder.static_line(4, out),
                path => self.line(b":path", path, out),
            }
        }
        if !head.authority.is_empty() {
            self.line(b":authority", head.authority(), out);
        }
        let length = match body {
            BodyLength::Exact(length) => Some(length),
            BodyLength::None => head.content_length,
            BodyLength::Chunked | BodyLength::UntilClose | BodyLength::Tunnel => None,
        };
        self.fields(headers, length, out);
    }

    /// Writes a response.
    pub(super) fn response(
        &mut self,
        head: &ResponseHead,
        status: u16,
        body: BodyLength,
        out: &mut Vec<u8>,
    ) {
        self.encoder.begin(out);
        match status {
            200 => self.encoder.static_line(8, out),
            204 => self.encoder.static_line(9, out),
            206 => self.encoder.static_line(10, out),
            304 => self.encoder.static_line(11, out),
            400 => self.encoder.static_line(12, out),
            404 => self.encoder.static_line(13, out),
            500 => self.encoder.static_line(14, out),
            _ => self.number(b":status", u64::from(status), out),
        }
        let length = match body {
            _ if status < 200 || status == 204 => None,
            BodyLength::Exact(length) => Some(length),
            BodyLength::None => head.content_length,
            BodyLength::Chunked | BodyLength::UntilClose | BodyLength::Tunnel => None,
        };
        self.fields(&head.headers, length, out);
    }

    /// Writes a trailer section.
    pub(super) fn trailers(&mut self, trailers: &Headers, out: &mut Vec<u8>) {
        self.encoder.begin(out);
        self.fields(trailers, None, out);
    }

    fn fields(&mut self, headers: &Headers, length: Option<u64>, out: &mut Vec<u8>) {
        for field in headers.fields() {
            let (name, value) = (headers.bytes(field.name), headers.bytes(field.value));
            match field.id {
                // RFC 9113 8.2.2, and `:authority`; `content-length` is written from the framing.
                Name::Host
                | Name::Connection
                | Name::ProxyConnection
                | Name::KeepAlive
                | Name::TransferEncoding
                | Name::Upgrade
                | Name::Http2Settings
                | Name::ContentLength => {}
                Name::Te => {
                    if list(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers")) {
                        self.line(name, b"trailers", out);
                    }
                }
                Name::Cookie => self.cookie(headers, field, out),
                Name::Authorization | Name::ProxyAuthorization => {
                    self.encoder.line(name, value, Indexing::Never, out);
                }
                _ => self.encoder.line(name, value, indexing(headers, field), out),
            }
        }
        if let Some(length) = length {
            self.number(b"content-length", length, out);
        }
    }

    /// RFC 9113 8.2.3: crumbs of their own compress better.
    fn cookie(&mut self, headers: &Headers, field: &Field, out: &mut Vec<u8>) {
        let mut rest = headers.bytes(field.value);
        let marked = indexing(headers, field);
        loop {
            let end = memchr::memmem::find(rest, b"; ").unwrap_or(rest.len());
            let crumb = &rest[..end];
            let is_short = crumb.len() < COOKIE_INDEXED_BYTES_MIN;
            let indexing = if is_short { Indexing::Never } else { marked };
            self.encoder.line(b"cookie", crumb, indexing, out);
            match rest.get(end + 2..) {
                Some(after) => rest = after,
                None => return,
            }
        }
    }

    fn line(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        self.encoder.line(name, value, Indexing::Repeated, out);
    }

    fn number(&mut self, name: &[u8], number: u64, out: &mut Vec<u8>) {
        self.digits.clear();
        push_decimal(number, &mut self.digits);
        self.encoder.line(name, &self.digits, Indexing::Repeated, out);
    }
}

/// RFC 7541 6.2.3: what was never indexed on its way to us is not on its way from us.
fn indexing(headers: &Headers, field: &Field) -> Indexing {
    match headers.never_indexed.contains(&field.name.start) {
        true => Indexing::Never,
        false => Indexing::Repeated,
    }
}
