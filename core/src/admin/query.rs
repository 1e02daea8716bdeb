//! The query of an admin request: `a=1&b&c=%28`.
//!
//! What it leaves to others: what parameters mean.

/// Parameters in order, decoded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what follows `?`.
    pub(super) fn parse(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Query(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    /// The value of the first parameter with this name; empty for one without a value.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether there is a parameter with this name, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// All parameters.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// `%XX` and `+`. What is not a valid escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let escape = (bytes[index] == b'%')
            .then(|| text.get(index + 1..index + 3))
            .flatten()
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (escape, bytes[index]) {
            (Some(byte), _) => {
                decoded.push(byte);
                index += 3;
                continue;
            }
            (None, b'+') => decoded.push(b' '),
            (None, byte) => decoded.push(byte),
        }
        index += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_flags_and_escapes() {
        let query = Query::parse("usedonly&filter=a%5C.b+c&format=json&&x=%zz%4");
        assert!(query.has("usedonly") && query.has("filter") && !query.has("type"));
        assert_eq!(query.value("usedonly"), Some(""));
        assert_eq!(query.value("filter"), Some("a\\.b c"));
        assert_eq!(query.value("x"), Some("%zz%4"));
        assert_eq!(Query::parse(""), Query::default());
    }
}
