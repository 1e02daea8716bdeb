//! What the fields of one head say about its body and its connection (RFC 9112 6 and 9, RFC 9110
//! 7).
//!
//! Every rule that keeps two parsers from framing a message differently is here and in
//! `chunked.rs`.
//!
//! What it leaves to others: the start line, and the fields that only the proxy reads.

use super::bytes::{is_token, list};
use crate::error::Fault;
use crate::{Name, Span};

/// The largest body that can be declared: 2^63 - 1. Above it, signed and unsigned readers differ.
const CONTENT_LENGTH_MAX: u64 = i64::MAX as u64;

/// The facts of one head, gathered field by field.
#[derive(Default, Debug)]
pub(crate) struct Facts {
    /// The value of `host`, in the head's arena.
    pub(crate) host: Option<Span>,
    pub(crate) content_length: Option<u64>,
    /// `transfer-encoding: chunked`; any other value was refused.
    pub(crate) is_chunked: bool,
    pub(crate) says_close: bool,
    pub(crate) says_keep_alive: bool,
    says_upgrade: bool,
    has_upgrade: bool,
    pub(crate) expects_continue: bool,
    expects_other: bool,
}

impl Facts {
    /// Takes note of a field other than [`Name::Other`]. `span` is where `value` lies in the arena.
    pub(crate) fn note(&mut self, id: Name, value: &[u8], span: Span) -> Result<(), Fault> {
        match id {
            Name::Host => {
                let earlier = self.host.replace(span);
                if earlier.is_some() {
                    return Err(Fault::HostDuplicate);
                }
            }
            Name::ContentLength => {
                if self.content_length.is_some() || memchr::memchr(b',', value).is_some() {
                    return Err(Fault::ContentLengthDuplicate);
                }
                self.content_length = Some(parse_content_length(value)?);
            }
            Name::TransferEncoding => {
                if self.is_chunked {
                    return Err(Fault::TransferEncoding);
                }
                check_transfer_encoding(value)?;
                self.is_chunked = true;
            }
            Name::Connection => {
                for option in list(value) {
                    if option.eq_ignore_ascii_case(b"close") {
                        self.says_close = true;
                    } else if option.eq_ignore_ascii_case(b"keep-alive") {
                        self.says_keep_alive = true;
                    } else if option.eq_ignore_ascii_case(b"upgrade") {
                        self.says_upgrade = true;
                    }
                }
            }
            Name::Upgrade => self.has_upgrade |= !value.is_empty(),
            Name::Expect => {
                if value.eq_ignore_ascii_case(b"100-continue") {
                    self.expects_continue = true;
                } else {
                    self.expects_other = true;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// RFC 9110 7.8: `upgrade` counts only when `connection` names it, and never in HTTP/1.0.
    pub(crate) fn wants_upgrade(&self, is_http_10: bool) -> bool {
        self.has_upgrade && self.says_upgrade && !is_http_10
    }

    /// RFC 9112 9.3: whether the connection ends with this message.
    pub(crate) fn closes(&self, is_http_10: bool) -> bool {
        self.says_close || (is_http_10 && !self.says_keep_alive)
    }

    /// RFC 9110 10.1.1: an expectation in HTTP/1.0 is ignored; one that is not known gets 417.
    pub(crate) fn check_expectation(&mut self, is_http_10: bool) -> Result<(), Fault> {
        if is_http_10 {
            self.expects_continue = false;
            return Ok(());
        }
        if self.expects_other { Err(Fault::Expectation) } else { Ok(()) }
    }

    /// RFC 9112 6.1: never both framings, and no transfer coding in HTTP/1.0. Where both are
    /// allowed the length counts for nothing, and the connection ends.
    pub(crate) fn check_framing(
        &mut self,
        is_http_10: bool,
        allow_chunked_length: bool,
    ) -> Result<(), Fault> {
        if !self.is_chunked {
            return Ok(());
        }
        if is_http_10 {
            return Err(Fault::TransferEncodingNotAllowed);
        }
        if self.content_length.is_some() {
            if !allow_chunked_length {
                return Err(Fault::TransferEncodingWithContentLength);
            }
            self.content_length = None;
            self.says_close = true;
        }
        Ok(())
    }
}

/// 1*DIGIT below 2^63. Leading zeros are allowed by the grammar and never passed on: the encoder
/// writes the number.
pub(crate) fn parse_content_length(value: &[u8]) -> Result<u64, Fault> {
    if value.is_empty() {
        return Err(Fault::ContentLength);
    }
    let mut number = 0u64;
    for &digit in value {
        if !digit.is_ascii_digit() {
            return Err(Fault::ContentLength);
        }
        number = number
            .checked_mul(10)
            .and_then(|number| number.checked_add(u64::from(digit - b'0')))
            .ok_or(Fault::ContentLength)?;
    }
    if number > CONTENT_LENGTH_MAX { Err(Fault::ContentLength) } else { Ok(number) }
}

/// Accepts exactly one `chunked`. A list of sound codings that does not frame ambiguously is merely
/// unknown here (501); everything else is malformed (400).
fn check_transfer_encoding(value: &[u8]) -> Result<(), Fault> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut is_after_chunked = false;
    for coding in list(value) {
        if is_after_chunked || !is_token(coding) {
            return Err(Fault::TransferEncoding);
        }
        is_after_chunked = coding.eq_ignore_ascii_case(b"chunked");
    }
    Err(Fault::TransferCodingUnknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_lengths() {
        for (text, number) in [
            (&b"0"[..], 0),
            (b"00", 0),
            (b"0200", 200),
            (b"9223372036854775807", i64::MAX as u64),
            (b"000000000000000000000000000000001", 1),
        ] {
            assert_eq!(parse_content_length(text), Ok(number), "{}", text.escape_ascii());
        }
        for text in [
            &b""[..],
            b"+1",
            b"-1",
            b"-0",
            b"0x1",
            b"0o5",
            b"1_0",
            b"1 0",
            b"1.0",
            b"1e0",
            b"1;",
            b"9223372036854775808",
            b"18446744073709551615",
            b"18446744073709551616",
            b"18446744073709551617",
            b"999999999999999999999999999999",
            b"1\xa0",
            b"\x851",
        ] {
            assert_eq!(parse_content_length(text), Err(Fault::ContentLength));
        }
    }

    #[test]
    fn transfer_encodings() {
        for text in [&b"chunked"[..], b"Chunked", b"CHUNKED"] {
            assert_eq!(check_transfer_encoding(text), Ok(()));
        }
        for text in [&b"xchunked"[..], b"chunk", b"identity", b"gzip", b"gzip, chunked"] {
            assert_eq!(check_transfer_encoding(text), Err(Fault::TransferCodingUnknown));
        }
        for text in [
            &b""[..],
            b",chunked",
            b"chunked,",
            b"chunked, chunked",
            b"chunked, identity",
            b"chunked;x=y",
            b"\"chunked\"",
            b"chun ked",
            b"gzip,chunked,gzip",
            b"\xffchunked",
            b"chunked\xa0",
            b"=?UTF-8?B?Y2h1bmtlZA==?=",
        ] {
            assert_eq!(check_transfer_encoding(text), Err(Fault::TransferEncoding));
        }
    }
}
