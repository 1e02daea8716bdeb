//! A configuration's text as a tree: mappings, sequences and scalars, each with its place in the
//! text.
//!
//! What it leaves to others: parsing (`yaml`, `json`), and what the tree means (`reader`).

/// A place in one of the sources. Line and column count from 1, columns in characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Mark {
    /// Which of the sources.
    pub source: usize,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

/// A value and its place.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Node {
    /// Where it begins.
    pub at: Mark,
    /// What it is.
    pub value: Tree,
}

/// What a node is.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Tree {
    /// Nothing: absent, `~` or `null`.
    Null,
    /// One value.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// Named values in the order of the text. A key can occur twice; the last one counts.
    Mapping(Vec<Entry>),
}

/// One `key: value`.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Entry {
    /// The key.
    pub key: String,
    /// Where the key begins.
    pub key_at: Mark,
    /// The value.
    pub value: Node,
}

/// Text, and whether it was quoted. What was not quoted can be a number or a boolean.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Scalar {
    /// The text, unescaped.
    pub text: String,
    /// Whether it stood there without quotes.
    pub plain: bool,
}

impl Node {
    /// What kind of value it is, as an error says it.
    pub fn describe(&self) -> String {
        match &self.value {
            Tree::Null => "nothing".to_owned(),
            Tree::Sequence(_) => "a list".to_owned(),
            Tree::Mapping(_) => "a mapping".to_owned(),
            Tree::Scalar(scalar) => scalar.describe(),
        }
    }

    /// The value of the last entry with this key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Tree::Mapping(entries) => {
                entries.iter().rev().find(|entry| entry.key == key).map(|entry| &entry.value)
            }
            _ => None,
        }
    }
}

impl Scalar {
    /// The boolean that it is in YAML 1.1, as Envoy's YAML library sees it: `y` and `off` are
    /// booleans.
    pub fn as_bool(&self) -> Option<bool> {
        if !self.plain || !has_uniform_case(&self.text) {
            return None;
        }
        match self.text.to_ascii_lowercase().as_str() {
            "y" | "yes" | "true" | "on" => Some(true),
            "n" | "no" | "false" | "off" => Some(false),
            _ => None,
        }
    }

    /// The integer that it is: decimal, `0x` hexadecimal or `0` octal, as Envoy's YAML library sees
    /// it.
    pub fn as_integer(&self) -> Option<i64> {
        if !self.plain {
            return None;
        }
        let (negative, digits) = match self.text.as_bytes().first()? {
            b'-' => (true, &self.text[1..]),
            b'+' => (false, &self.text[1..]),
            _ => (false, self.text.as_str()),
        };
        let lower = digits.to_ascii_lowercase();
        let (radix, digits) = match lower.strip_prefix("0x") {
            Some(hexadecimal) => (16, hexadecimal),
            None if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
            None => (10, lower.as_str()),
        };
        // from_str_radix takes a sign of its own, which would be the second here.
        if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
            return None;
        }
        let value = i128::from_str_radix(digits, radix).ok()?;
        i64::try_from(if negative { -value } else { value }).ok()
    }

    fn describe(&self) -> String {
        let text = shorten(&self.text);
        if self.as_bool().is_some() {
            format!("the boolean {text}")
        } else if self.as_integer().is_some() {
            format!("the integer {text}")
        } else {
            format!("\"{text}\"")
        }
    }
}

/// `yes`, `Yes` and `YES`, but not `yEs`.
fn has_uniform_case(text: &str) -> bool {
    let rest = text.get(1..).unwrap_or_default();
    let lower = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase());
    let upper = |text: &str| text.bytes().all(|byte| byte.is_ascii_uppercase());
    lower(text) || upper(text) || (text.get(..1).is_some_and(upper) && lower(rest))
}

/// A text for an error: not longer than an error should be, and on one line.
pub(super) fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut short: String =
        text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Scalar {
        Scalar { text: text.to_owned(), plain: true }
    }

    #[test]
    fn integers_are_read_as_envoys_yaml_library_reads_them() {
        let rows = [
            ("0", Some(0)),
            ("42", Some(42)),
            ("-1", Some(-1)),
            ("+7", Some(7)),
            ("0x1F", Some(31)),
            ("010", Some(8)),
            ("09", None),
            ("--1", None),
            ("0x", None),
            ("0x-1", None),
            ("1.0", None),
            ("1e3", None),
            ("", None),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
        ];
        for (text, expected) in rows {
            assert_eq!(plain(text).as_integer(), expected, "{text}");
        }
        assert_eq!(Scalar { text: "42".to_owned(), plain: false }.as_integer(), None);
    }

    #[test]
    fn yaml_1_1_booleans() {
        for text in ["y", "Y", "yes", "Yes", "YES", "true", "on", "ON"] {
            assert_eq!(plain(text).as_bool(), Some(true), "{text}");
        }
        for text in ["n", "no", "False", "off"] {
            assert_eq!(plain(text).as_bool(), Some(false), "{text}");
        }
        for text in ["yEs", "tRUE", "", "1", "truth"] {
            assert_eq!(plain(text).as_bool(), None, "{text}");
        }
    }
}
