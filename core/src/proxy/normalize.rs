//! Paths and hosts in one spelling, before a route is looked for.
//!
//! Normalising a path follows the WHATWG URL standard as Chromium's parser does it, which Envoy
//! uses: dot segments are resolved, backslashes become slashes, letters, digits, `-`, `.`, `_` and
//! `~` are unescaped, and what may not stand in a path is escaped.
//!
//! What it leaves to others: what was configured (`config::normalization`), answering (`admit`).

use super::mutate::split_query;
use crate::config::{EscapedSlashes, Normalization, StripPort};

/// What became of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Path {
    /// Nothing.
    Unchanged,
    /// It has another spelling.
    Changed,
    /// The client is to ask again with the other spelling.
    Redirect,
    /// It may not be asked for.
    Rejected,
}

/// Brings path and query into the spelling that is asked for, in `out`.
pub(super) fn normalize_path(target: &[u8], options: &Normalization, out: &mut Vec<u8>) -> Path {
    out.clear();
    let (path, query) = split_query(target);
    out.extend_from_slice(path);
    let mut redirect = false;
    if options.escaped_slashes != EscapedSlashes::KeepUnchanged && unescape_slashes(out) {
        match options.escaped_slashes {
            EscapedSlashes::RejectRequest => {
                append_query(out, query);
                return Path::Rejected;
            }
            EscapedSlashes::UnescapeAndRedirect => redirect = true,
            EscapedSlashes::UnescapeAndForward | EscapedSlashes::KeepUnchanged => {}
        }
        if options.normalize_path && !canonicalize(&std::mem::take(out), out) {
            return Path::Rejected;
        }
    } else if options.normalize_path && !canonicalize(path, out) {
        return Path::Rejected;
    }
    if options.merge_slashes {
        out.dedup_by(|slash, before| *slash == b'/' && *before == b'/');
    }
    append_query(out, query);
    match (redirect, out.as_slice() == target) {
        (true, _) => Path::Redirect,
        (false, true) => Path::Unchanged,
        (false, false) => Path::Changed,
    }
}

fn append_query(out: &mut Vec<u8>, query: Option<&[u8]>) {
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
}

/// Replaces `%2F` and `%5C` by what they stand for. False if there is none.
fn unescape_slashes(path: &mut Vec<u8>) -> bool {
    let mut from = match memchr::memchr(b'%', path) {
        Some(from) => from,
        None => return false,
    };
    let (mut to, mut found) = (from, false);
    while from < path.len() {
        let (byte, length) = match path[from..] {
            [b'%', b'2', b'F' | b'f', ..] => (b'/', 3),
            [b'%', b'5', b'C' | b'c', ..] => (b'\\', 3),
            _ => (path[from], 1),
        };
        found |= length == 3;
        path[to] = byte;
        to += 1;
        from += length;
    }
    path.truncate(to);
    found
}

/// Normalises a path that begins with a slash. False if it has a NUL; then `out` has none of it.
fn canonicalize(path: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    let is_dot_segment = |at: usize| path[at] == b'.' && at > 0 && path[at - 1] == b'/';
    let is_canonical =
        |at: usize| matches!((class(path[at]), path[at]), (Class::Plain, _) | (_, b'.'));
    if (0..path.len()).all(|at| is_canonical(at) && !is_dot_segment(at)) {
        out.extend_from_slice(path);
        return true;
    }
    let mut canonical = Canonical { out, invalid_percent: None, has_nul: false };
    let mut at = 0;
    while at < path.len() {
        at += canonical.step(&path[at..]);
    }
    let has_nul = canonical.has_nul;
    if has_nul {
        out.clear();
    }
    !has_nul
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    /// Stands for itself.
    Plain,
    /// `.`, `\` and `%`, and the slash before them does not matter.
    Special,
    /// Is to be escaped.
    Escape,
}

fn class(byte: u8) -> Class {
    match byte {
        b'.' | b'\\' | b'%' => Class::Special,
        0..=b' ' | b'"' | b'#' | b'<' | b'>' | b'?' | b'^' | b'`' | b'{' | b'|' | b'}' => {
            Class::Escape
        }
        0x7f..=0xff => Class::Escape,
        _ => Class::Plain,
    }
}

/// Whether a byte need not be escaped in any part of a URI (RFC 3986 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

struct Canonical<'o> {
    out: &'o mut Vec<u8>,
    /// Where in `out` a percent sign stands that escapes nothing.
    invalid_percent: Option<usize>,
    has_nul: bool,
}

impl Canonical<'_> {
    /// Deals with the front of `rest`, and says how long that is.
    fn step(&mut self, rest: &[u8]) -> usize {
        if let Some(dot) = dot_length(rest) {
            return dot + self.dot(&rest[dot..]);
        }
        match rest[0] {
            b'\\' => self.out.push(b'/'),
            b'%' => return self.percent(rest),
            byte if class(byte) == Class::Escape => {
                self.has_nul |= byte == 0;
                self.escape(byte);
            }
            byte => self.out.push(byte),
        }
        1
    }

    /// A dot, with `rest` behind it. Says how much of that it takes along.
    fn dot(&mut self, rest: &[u8]) -> usize {
        if self.out.last() == Some(&b'/') {
            if let Some(length) = segment_end(rest) {
                return length;
            }
            if let Some(second) = dot_length(rest)
                && let Some(length) = segment_end(&rest[second..])
            {
                self.out.pop();
                let up = memchr::memrchr(b'/', self.out).unwrap_or(0);
                self.out.truncate(up);
                self.out.push(b'/');
                return second + length;
            }
        }
        self.out.push(b'.');
        0
    }

    fn percent(&mut self, rest: &[u8]) -> usize {
        let Some(byte) = unescaped(rest) else {
            self.invalid_percent = Some(self.out.len());
            self.out.push(b'%');
            return 1;
        };
        self.has_nul |= byte == 0;
        if !is_unreserved(byte) {
            self.out.extend_from_slice(&rest[..3]);
            return 3;
        }
        self.out.push(byte);
        if self.invalid_percent.is_some_and(|at| at + 3 >= self.out.len()) {
            self.escape_percent(rest.get(3).copied());
        }
        3
    }

    /// What was unescaped may have made an escape of a percent sign that was none, together with
    /// the `next` byte of the input: then the sign is escaped.
    fn escape_percent(&mut self, next: Option<u8>) {
        let Some(percent) = self.invalid_percent else { return };
        let mut digits = self.out[percent + 1..].to_vec();
        digits.extend(if digits.len() == 1 { next } else { None });
        if let [high, low] = digits[..]
            && high.is_ascii_hexdigit()
            && low.is_ascii_hexdigit()
        {
            self.out.splice(percent..=percent, *b"%25");
        }
    }

    fn escape(&mut self, byte: u8) {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
        self.out.extend_from_slice(&[b'%', high, low]);
    }
}

/// How long the dot is that `rest` begins with.
fn dot_length(rest: &[u8]) -> Option<usize> {
    match rest {
        [b'.', ..] => Some(1),
        [b'%', b'2', b'e' | b'E', ..] => Some(3),
        _ => None,
    }
}

/// How long the end of a path's segment is, if `rest` begins with one.
fn segment_end(rest: &[u8]) -> Option<usize> {
    match rest {
        [] => Some(0),
        [b'/' | b'\\', ..] => Some(1),
        _ => None,
    }
}

/// The byte that the escape at the front stands for.
fn unescaped(rest: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = rest else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
}

/// How much of a host is kept: all but its port or its last dot, as is asked for. With a dot before
/// a port both are returned, to be joined.
pub(super) fn normalize_host<'h>(
    host: &'h [u8],
    options: &Normalization,
    local_port: Option<u16>,
) -> (&'h [u8], &'h [u8]) {
    let (mut name, mut port) = match port_start(host) {
        Some(colon) => host.split_at(colon),
        None => (host, &host[host.len()..]),
    };
    // A host of one dot is not made none.
    if options.strip_trailing_host_dot
        && name.len() > 1
        && let Some(without) = name.strip_suffix(b".")
    {
        name = without;
    }
    let number = port.strip_prefix(b":").and_then(|port| std::str::from_utf8(port).ok());
    let number = number.and_then(|port| port.parse::<u16>().ok());
    let strips = match options.strip_port {
        StripPort::None => false,
        StripPort::Matching => number.is_some() && number == local_port,
        StripPort::Any => number.is_some(),
    };
    if strips {
        port = &port[port.len()..];
    }
    (name, port)
}

/// Where the colon of a host's port is.
fn port_start(host: &[u8]) -> Option<usize> {
    let colon = memchr::memrchr(b':', host)?;
    (!host[colon..].contains(&b']')).then_some(colon)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NORMALIZE: Normalization = Normalization {
        normalize_path: true,
        merge_slashes: false,
        escaped_slashes: EscapedSlashes::KeepUnchanged,
        strip_port: StripPort::None,
        strip_trailing_host_dot: false,
    };

    fn normalized(target: &str, options: Normalization) -> (Path, String) {
        let mut out = Vec::new();
        let path = normalize_path(target.as_bytes(), &options, &mut out);
        (path, out.escape_ascii().to_string())
    }

    /// As Envoy 1.40 answered.
    #[test]
    fn paths_are_normalized() {
        for (target, expected) in [
            ("/", "/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/../a", "/a"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a/../../..", "/"),
            ("/.", "/"),
            ("/..", "/"),
            ("/a/...", "/a/..."),
            ("/a/.b/..c", "/a/.b/..c"),
            ("//a//../b", "//a/b"),
            ("/a//", "/a//"),
            ("/a%2f..%2fb?x=%2f", "/a%2f..%2fb?x=%2f"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/a/%41%7e%2d", "/a/A~-"),
            ("/a%", "/a%"),
            ("/a%2", "/a%2"),
            ("/a%zz", "/a%zz"),
            ("/%25%32%65", "/%252e"),
            ("/a%252fb", "/a%252fb"),
            ("/a%20b%e9", "/a%20b%e9"),
            ("/a\"<>^`{|}b", "/a%22%3C%3E%5E%60%7B%7C%7Db"),
            ("/a;b=1/../c", "/c"),
            ("/a?b/../c//d", "/a?b/../c//d"),
            ("/%4%31", "/%2541"),
            ("/%%34%31", "/%2541"),
            ("/%%341", "/%2541"),
        ] {
            let (path, out) = normalized(target, NORMALIZE);
            assert_eq!(out, expected, "{target}");
            let same = if target == expected { Path::Unchanged } else { Path::Changed };
            assert_eq!(path, same, "{target}");
        }
        assert_eq!(normalized("/a\\b", NORMALIZE).1, "/a/b");
        assert_eq!(normalized("/a%00b", NORMALIZE).0, Path::Rejected);
    }

    #[test]
    fn slashes_are_merged_and_unescaped() {
        let merge = Normalization { merge_slashes: true, ..Normalization::default() };
        // Envoy leaves two slashes of a path that is nothing but slashes.
        let paths = [("//a///b//?c//d", "/a/b/?c//d"), ("//", "/"), ("/a/../b", "/a/../b")];
        for (target, expected) in paths {
            assert_eq!(normalized(target, merge).1, expected);
        }
        let slashes =
            |escaped_slashes| Normalization { escaped_slashes, ..Normalization::default() };
        let target = "/a%2F%5cb%2f..?x=%2f";
        let other = "/a/\\\\b/..?x=%2f".to_owned();
        for (action, path) in [
            (EscapedSlashes::RejectRequest, Path::Rejected),
            (EscapedSlashes::UnescapeAndRedirect, Path::Redirect),
            (EscapedSlashes::UnescapeAndForward, Path::Changed),
        ] {
            assert_eq!(normalized(target, slashes(action)), (path, other.clone()));
            assert_eq!(normalized("/a%2?%2f", slashes(action)).0, Path::Unchanged);
        }
        let all = Normalization {
            escaped_slashes: EscapedSlashes::UnescapeAndForward,
            merge_slashes: true,
            ..NORMALIZE
        };
        assert_eq!(normalized("/a%5C..%5cb", all).1, "/b");
        assert_eq!(normalized("/a%2Fb%5cc", all).1, "/a/b/c");
    }

    #[test]
    fn hosts() {
        let check = |host: &str, strip_port, strip_trailing_host_dot, expected: &str| {
            let options =
                Normalization { strip_port, strip_trailing_host_dot, ..Normalization::default() };
            let (name, port) = normalize_host(host.as_bytes(), &options, Some(8080));
            assert_eq!([name, port].concat(), expected.as_bytes(), "{host}");
        };
        for (host, any, matching, dot) in [
            ("h.com", "h.com", "h.com", "h.com"),
            ("h.com:80", "h.com", "h.com:80", "h.com:80"),
            ("h.com:8080", "h.com", "h.com", "h.com:8080"),
            ("h.com.", "h.com.", "h.com.", "h.com"),
            ("h.com.:80", "h.com.", "h.com.:80", "h.com:80"),
            ("[::1]:8080", "[::1]", "[::1]", "[::1]:8080"),
            ("[::1]", "[::1]", "[::1]", "[::1]"),
            ("h.com:", "h.com:", "h.com:", "h.com:"),
            (".", ".", ".", "."),
        ] {
            check(host, StripPort::Any, false, any);
            check(host, StripPort::Matching, false, matching);
            check(host, StripPort::None, true, dot);
        }
        check("h.com.:8080", StripPort::Any, true, "h.com");
    }
}
