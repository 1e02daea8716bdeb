//! The static table (RFC 7541 Appendix A), as an array, and the way back from a name.
//!
//! What it leaves to others: the dynamic table, whose indices come after.

use super::LineName::{self, Authority, Field, Method, Path, Scheme, Status};
use crate::Name;

/// Entries, of which the first has index 1.
pub(super) const LENGTH: usize = 61;

/// Name, value, and what the name is, of index 1 and on.
pub(super) static ENTRIES: [(&str, &str, LineName); LENGTH] = [
    (":authority", "", Authority),
    (":method", "GET", Method),
    (":method", "POST", Method),
    (":path", "/", Path),
    (":path", "/index.html", Path),
    (":scheme", "http", Scheme),
    (":scheme", "https", Scheme),
    (":status", "200", Status),
    (":status", "204", Status),
    (":status", "206", Status),
    (":status", "304", Status),
    (":status", "400", Status),
    (":status", "404", Status),
    (":status", "500", Status),
    ("accept-charset", "", Field(Name::Other)),
    ("accept-encoding", "gzip, deflate", Field(Name::Other)),
    ("accept-language", "", Field(Name::Other)),
    ("accept-ranges", "", Field(Name::Other)),
    ("accept", "", Field(Name::Other)),
    ("access-control-allow-origin", "", Field(Name::Other)),
    ("age", "", Field(Name::Other)),
    ("allow", "", Field(Name::Other)),
    ("authorization", "", Field(Name::Authorization)),
    ("cache-control", "", Field(Name::Other)),
    ("content-disposition", "", Field(Name::Other)),
    ("content-encoding", "", Field(Name::Other)),
    ("content-language", "", Field(Name::Other)),
    ("content-length", "", Field(Name::ContentLength)),
    ("content-location", "", Field(Name::Other)),
    ("content-range", "", Field(Name::Other)),
    ("content-type", "", Field(Name::ContentType)),
    ("cookie", "", Field(Name::Cookie)),
    ("date", "", Field(Name::Date)),
    ("etag", "", Field(Name::Other)),
    ("expect", "", Field(Name::Expect)),
    ("expires", "", Field(Name::Other)),
    ("from", "", Field(Name::Other)),
    ("host", "", Field(Name::Host)),
    ("if-match", "", Field(Name::Other)),
    ("if-modified-since", "", Field(Name::Other)),
    ("if-none-match", "", Field(Name::Other)),
    ("if-range", "", Field(Name::Other)),
    ("if-unmodified-since", "", Field(Name::Other)),
    ("last-modified", "", Field(Name::Other)),
    ("link", "", Field(Name::Other)),
    ("location", "", Field(Name::Location)),
    ("max-forwards", "", Field(Name::Other)),
    ("proxy-authenticate", "", Field(Name::ProxyAuthenticate)),
    ("proxy-authorization", "", Field(Name::ProxyAuthorization)),
    ("range", "", Field(Name::Other)),
    ("referer", "", Field(Name::Other)),
    ("refresh", "", Field(Name::Other)),
    ("retry-after", "", Field(Name::Other)),
    ("server", "", Field(Name::Server)),
    ("set-cookie", "", Field(Name::Other)),
    ("strict-transport-security", "", Field(Name::Other)),
    ("transfer-encoding", "", Field(Name::TransferEncoding)),
    ("user-agent", "", Field(Name::UserAgent)),
    ("vary", "", Field(Name::Other)),
    ("via", "", Field(Name::Via)),
    ("www-authenticate", "", Field(Name::Other)),
];

/// Names without repetitions.
const NAMES: usize = 52;

/// The longest name has so many bytes.
const NAME_BYTES_MAX: usize = 27;

/// The first index of each name, shortest names first.
static BY_LENGTH: [(&str, u8); NAMES] = by_length().0;

/// Where the names of each length begin in `BY_LENGTH`; those of length `n` end at `n + 1`.
static STARTS: [u8; NAME_BYTES_MAX + 2] = by_length().1;

const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

const fn by_length() -> ([(&'static str, u8); NAMES], [u8; NAME_BYTES_MAX + 2]) {
    let mut names = [("", 0); NAMES];
    let mut starts = [0; NAME_BYTES_MAX + 2];
    let (mut count, mut length) = (0, 0);
    while length <= NAME_BYTES_MAX {
        starts[length] = count as u8;
        let mut index = 0;
        while index < LENGTH {
            let name = ENTRIES[index].0;
            let is_first = index == 0 || !is_same(name.as_bytes(), ENTRIES[index - 1].0.as_bytes());
            if name.len() == length && is_first {
                names[count] = (name, index as u8 + 1);
                count += 1;
            }
            index += 1;
        }
        length += 1;
    }
    starts[length] = count as u8;
    assert!(count == NAMES);
    (names, starts)
}

/// The first index with this name.
pub(super) fn index_of(name: &[u8]) -> Option<usize> {
    let (start, end) = (*STARTS.get(name.len())?, *STARTS.get(name.len() + 1)?);
    let candidates = &BY_LENGTH[usize::from(start)..usize::from(end)];
    let found = candidates.iter().find(|(entry, _)| entry.as_bytes() == name);
    found.map(|(_, index)| usize::from(*index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_where_it_stands_first() {
        for (name, _, kind) in ENTRIES {
            assert_eq!(LineName::of(name.as_bytes()), kind);
            let first = ENTRIES.iter().position(|(other, ..)| *other == name).unwrap() + 1;
            assert_eq!(index_of(name.as_bytes()), Some(first), "{name}");
        }
        assert_eq!(index_of(b"accept-"), None);
        assert_eq!(index_of(b""), None);
    }
}
