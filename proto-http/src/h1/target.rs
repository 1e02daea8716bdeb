//! The four forms of a request target (RFC 9112 3.2), and what may stand in `host`.
//!
//! What it leaves to others: normalising paths, comparing the scheme with the connection's.
//!
//! A target is refused for a byte that RFC 9112 3 lets nobody send and that some reader would take
//! for something else: controls, SP, DEL, obs-text and `#`; in the path (not in the query, where
//! browsers send it) also the backslash, which some origins read as a slash. Other visible bytes
//! that RFC 3986 wants percent-encoded (`"<>^{|}` and the grave accent) are common, read by all in
//! the same way, and passed on.

use super::Options;
use super::bytes::is_reg_name;
use crate::Span;
use crate::error::Fault;
use crate::message::{Method, RequestHead, Scheme};
use memchr::memchr;

/// Whether a target has only bytes that a target may have; see the module's page.
pub(crate) fn has_only_target_bytes(target: &[u8], allow_backslash: bool) -> bool {
    // Branch-free, so that it compiles to vector code.
    let (mut bad, mut backslash) = (false, false);
    for &byte in target {
        bad |= byte <= b' ' || byte >= 0x7f || byte == b'#';
        backslash |= byte == b'\\';
    }
    !bad && (!backslash || allow_backslash || !has_backslash_in_path(target))
}

#[cold]
fn has_backslash_in_path(target: &[u8]) -> bool {
    let path_end = memchr(b'?', target).unwrap_or(target.len());
    memchr(b'\\', &target[..path_end]).is_some()
}

/// Sets path, authority and scheme of a head whose method is set and whose arena holds the target
/// and the one `host` value, if there is one.
pub(crate) fn resolve(
    head: &mut RequestHead,
    target: Span,
    host: Option<Span>,
    options: &Options,
) -> Result<(), Fault> {
    if let Some(host) = host {
        check_authority(head.headers.bytes(host))?;
        head.authority = host;
    }
    let bytes = head.headers.bytes(target);
    match bytes {
        _ if head.method == Method::Connect => {
            let port = check_authority(bytes)?;
            if !matches!(port, Some(1..)) {
                return Err(Fault::Target);
            }
            head.authority = target;
            Ok(())
        }
        [b'/', ..] => {
            head.path = target;
            Ok(())
        }
        b"*" if head.method == Method::Options => {
            head.path = target;
            Ok(())
        }
        _ => resolve_absolute(head, target, options),
    }
}

fn resolve_absolute(head: &mut RequestHead, target: Span, options: &Options) -> Result<(), Fault> {
    let bytes = head.headers.bytes(target);
    let separator = memchr(b':', bytes).ok_or(Fault::Target)?;
    let after_scheme = bytes[separator..].strip_prefix(b"://").ok_or(Fault::Target)?;
    if options.reject_absolute_url {
        return Err(Fault::Scheme);
    }
    let scheme = match &bytes[..separator] {
        name if name.eq_ignore_ascii_case(b"http") => Scheme::Http,
        name if name.eq_ignore_ascii_case(b"https") => Scheme::Https,
        _ => return Err(Fault::Scheme),
    };
    let length =
        after_scheme.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(after_scheme.len());
    check_authority(&after_scheme[..length])?;
    let authority = Span::new(target.start as usize + separator + 3, length);
    let path = Span::new(authority.end(), target.end() - authority.end());
    head.scheme = Some(scheme);
    head.authority = authority;
    head.path = match head.headers.bytes(path) {
        // RFC 9112 3.2.4: the last proxy on the way sends `*`.
        [] if head.method == Method::Options => head.headers.store(b"*"),
        [] => head.headers.store(b"/"),
        [b'/', ..] => path,
        _ => {
            let start = head.headers.store(b"/").start;
            head.headers.arena.extend_from_within(path.range());
            Span { start, length: path.length + 1 }
        }
    };
    Ok(())
}

/// Checks host and port (RFC 3986 3.2 without userinfo); answers the port if one is given. The host
/// may not be empty; the port may be left empty after its colon.
pub(crate) fn check_authority(authority: &[u8]) -> Result<Option<u16>, Fault> {
    let after_host = match authority {
        [b'[', rest @ ..] => {
            let end = memchr(b']', rest).ok_or(Fault::HostInvalid)?;
            let address = core::str::from_utf8(&rest[..end]).map_err(|_| Fault::HostInvalid)?;
            address.parse::<core::net::Ipv6Addr>().map_err(|_| Fault::HostInvalid)?;
            &rest[end + 1..]
        }
        _ => {
            let end = authority.iter().position(|&b| !is_reg_name(b)).unwrap_or(authority.len());
            match authority.get(end) {
                Some(b'%') => after_encoded_name(authority)?,
                _ if end == 0 => return Err(Fault::HostInvalid),
                _ => &authority[end..],
            }
        }
    };
    match after_host {
        [] | [b':'] => Ok(None),
        [b':', port @ ..] => parse_port(port).map(Some),
        _ => Err(Fault::HostInvalid),
    }
}

/// What follows a name with percent-encoded bytes.
#[cold]
fn after_encoded_name(authority: &[u8]) -> Result<&[u8], Fault> {
    let mut rest = authority;
    loop {
        rest = match rest {
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest
            }
            [byte, rest @ ..] if is_reg_name(*byte) => rest,
            [] | [b':', ..] => return Ok(rest),
            _ => return Err(Fault::HostInvalid),
        };
    }
}

fn parse_port(digits: &[u8]) -> Result<u16, Fault> {
    let mut port = 0u16;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return Err(Fault::HostInvalid);
        }
        port = port
            .checked_mul(10)
            .and_then(|port| port.checked_add(u16::from(digit - b'0')))
            .ok_or(Fault::HostInvalid)?;
    }
    Ok(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        let good: [(&[u8], Option<u16>); 11] = [
            (b"a", None),
            (b"a.example:80", Some(80)),
            (b"a:", None),
            (b"a:0", Some(0)),
            (b"a:65535", Some(65535)),
            (b"a:00080", Some(80)),
            (b"[::1]", None),
            (b"[2001:db8::7]:443", Some(443)),
            (b"192.0.2.1:1", Some(1)),
            (b"under_score.example.", None),
            (b"a%2Db:1", Some(1)),
        ];
        for (text, port) in good {
            assert_eq!(check_authority(text), Ok(port), "{}", text.escape_ascii());
        }
        let bad: [&[u8]; 20] = [
            b"", b":80", b"a:80x", b"a:65536", b"a:99999", b"a:+1", b"a:1:2", b"u@h", b"h/x",
            b"a,b", b"a b", b"[::1", b"[::g]", b"[]", b"[::1]x", b"::1", b"a%2", b"a%zz", b"a\xe9",
            b"a?",
        ];
        for text in bad {
            assert_eq!(check_authority(text), Err(Fault::HostInvalid), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn bytes_of_targets() {
        for target in [&b"/"[..], b"/a?b=\\c", b"/~%00%0d{|}^`\"<>", b"http://a/"] {
            assert!(has_only_target_bytes(target, false), "{}", target.escape_ascii());
        }
        for target in [&b"/a#b"[..], b"/\\a", b"/a\\?b", b"/ ", b"/\t", b"/\x7f", b"/\xc3\xa9"] {
            assert!(!has_only_target_bytes(target, false), "{}", target.escape_ascii());
        }
        assert!(has_only_target_bytes(b"/a\\b", true));
    }
}
