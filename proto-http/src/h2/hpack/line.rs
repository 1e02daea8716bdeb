//! One decoded field line, and what its name is.
//!
//! What it leaves to others: which lines may stand in which head.

use crate::h1::bytes::is_field_content;
use crate::{Name, Span};

/// A field line, with its bytes in the arena of the headers that it was decoded into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    /// What the name is.
    pub kind: LineName,
    /// The name.
    pub name: Span,
    /// The value.
    pub value: Span,
    /// Whether the value is one that RFC 9113 8.2.1 allows.
    pub has_valid_value: bool,
    /// To be sent on as never indexed (RFC 7541 6.2.3).
    pub is_never_indexed: bool,
}

/// What the name of a field line is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LineName {
    /// A field.
    Field(Name),
    /// `:method`
    Method,
    /// `:scheme`
    Scheme,
    /// `:authority`
    Authority,
    /// `:path`
    Path,
    /// `:status`
    Status,
    /// `:protocol` (RFC 8441)
    Protocol,
    /// Not a token in lower case, or a pseudo-header that nobody defined.
    Invalid,
}

/// tchar (RFC 9110 5.6.2) without capitals.
static LOWER_TCHAR: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8,
            b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+'
            | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        byte += 1;
    }
    table
};

impl LineName {
    /// What this name is.
    #[must_use]
    pub fn of(name: &[u8]) -> LineName {
        match name {
            [b':', ..] => LineName::of_pseudo(name),
            [] => LineName::Invalid,
            _ if name.iter().all(|&b| LOWER_TCHAR[usize::from(b)]) => {
                LineName::Field(Name::of(name))
            }
            _ => LineName::Invalid,
        }
    }

    fn of_pseudo(name: &[u8]) -> LineName {
        match name {
            b":method" => LineName::Method,
            b":scheme" => LineName::Scheme,
            b":authority" => LineName::Authority,
            b":path" => LineName::Path,
            b":status" => LineName::Status,
            b":protocol" => LineName::Protocol,
            _ => LineName::Invalid,
        }
    }
}

/// RFC 9113 8.2.1: no control characters (all of them, as on HTTP/1), no white space at the ends.
pub(super) fn is_valid_value(value: &[u8]) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    is_field_content(value) && !is_blank(value.first()) && !is_blank(value.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(LineName::of(b"host"), LineName::Field(Name::Host));
        assert_eq!(LineName::of(b"x-a"), LineName::Field(Name::Other));
        assert_eq!(LineName::of(b":path"), LineName::Path);
        for bad in [&b""[..], b":", b":Path", b":other", b"Host", b"a b", b"a:", b"a\0", b"\xe9"] {
            assert_eq!(LineName::of(bad), LineName::Invalid, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn values() {
        for good in [&b""[..], b"a b", b"a\tb", b"\xc3\xa9"] {
            assert!(is_valid_value(good));
        }
        for bad in [&b" a"[..], b"a ", b"\ta", b"a\t", b"a\rb", b"a\nb", b"a\0", b"\x7f", b" "] {
            assert!(!is_valid_value(bad));
        }
    }
}
