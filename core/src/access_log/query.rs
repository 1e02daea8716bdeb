//! Parameters of a query.
//!
//! What it leaves to others: matching routes by them (`snapshot`).

use std::borrow::Cow;

/// What follows the question mark, if there is one.
pub(super) fn of(path: &[u8]) -> Option<&[u8]> {
    memchr::memchr(b'?', path).map(|mark| &path[mark + 1..])
}

/// The value of the first parameter with this name, its escapes undone; empty if it has none.
pub(super) fn parameter<'q>(query: &'q [u8], name: &[u8]) -> Option<Cow<'q, [u8]>> {
    query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).find_map(|pair| {
        let mark = memchr::memchr(b'=', pair);
        let (key, value) = match mark {
            Some(mark) => (&pair[..mark], &pair[mark + 1..]),
            None => (pair, &pair[pair.len()..]),
        };
        (*unescaped(key) == *name).then(|| unescaped(value))
    })
}

/// The text without its percent escapes; what is no escape stays.
fn unescaped(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'%', text).is_none() {
        return Cow::Borrowed(text);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let escape = match (first, after) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)),
            _ => None,
        };
        (rest, _) = match escape {
            Some((high, low)) => (&after[2..], plain.push((high << 4 | low) as u8)),
            None => (after, plain.push(*first)),
        };
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        let find = |query: &str, name: &str| {
            let found = parameter(query.as_bytes(), name.as_bytes())?;
            Some(String::from_utf8_lossy(&found).into_owned())
        };
        assert_eq!(find("b&a=%20x+y%zz&a=3", "a"), Some(" x+y%zz".to_owned()));
        assert_eq!(find("b&a=1", "b"), Some(String::new()));
        assert_eq!(find("%61=1%", "a"), Some("1%".to_owned()));
        assert_eq!(find("a=1=2", "a"), Some("1=2".to_owned()));
        assert_eq!(find("ab=1", "a"), None);
        assert_eq!(find("", ""), None);
    }
}
