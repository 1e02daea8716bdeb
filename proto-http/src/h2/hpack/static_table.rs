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

/// The first index of each name, in alphabetical order.
static BY_NAME: [(&str, u8); 52] = by_name();

const fn is_before(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() {
        if a[at] != b[at] {
            return a[at] < b[at];
        }
        at += 1;
    }
    a.len() < b.len()
}

const fn by_name() -> [(&'static str, u8); 52] {
    let mut sorted = [("", 0); 52];
    let (mut index, mut count) = (0, 0);
    while index < LENGTH {
        let name = ENTRIES[index].0;
        let is_repeated = index > 0 && {
            let before = ENTRIES[index - 1].0.as_bytes();
            !is_before(before, name.as_bytes()) && !is_before(name.as_bytes(), before)
        };
        if !is_repeated {
            let mut at = count;
            while at > 0 && is_before(name.as_bytes(), sorted[at - 1].0.as_bytes()) {
                sorted[at] = sorted[at - 1];
                at -= 1;
            }
            sorted[at] = (name, index as u8 + 1);
            count += 1;
        }
        index += 1;
    }
    assert!(count == 52);
    sorted
}

/// The first index with this name.
pub(super) fn index_of(name: &[u8]) -> Option<usize> {
    let found = BY_NAME.binary_search_by(|(entry, _)| entry.as_bytes().cmp(name));
    found.ok().map(|at| usize::from(BY_NAME[at].1))
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
