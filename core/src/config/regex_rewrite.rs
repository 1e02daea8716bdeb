//! Replacing what a regex matches (`type.matcher.v3.RegexMatchAndSubstitute`).
//!
//! What it leaves to others: doing it (`snapshot`).

use super::convert::At;
use super::safe_regex::check_regex;
use super::support::{SupportedMessage, message, used};
use envoy_types::pb::envoy::r#type::matcher::v3 as pb;

/// `type.matcher.v3.RegexMatchAndSubstitute`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegexRewrite {
    /// `pattern.regex`; every match is replaced. Known to compile.
    pub pattern: String,
    /// `substitution`, in its parts.
    pub substitution: Vec<SubstitutionPart>,
}

/// One part of a substitution.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SubstitutionPart {
    /// Text.
    Literal(String),
    /// What a group of the regex matched; the whole match for 0.
    Group(usize),
}

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[message(
    "envoy.type.matcher.v3.RegexMatchAndSubstitute",
    &[used("pattern"), used("substitution")],
)];

impl RegexRewrite {
    /// Converts a rewrite; what is wrong is reported.
    pub(super) fn from_proto(
        at: &At<'_>,
        rewrite: &pb::RegexMatchAndSubstitute,
    ) -> Option<RegexRewrite> {
        // That it is missing breaks a rule of the .proto file, which the reader has reported.
        let pattern = &rewrite.pattern.as_ref()?.regex;
        check_regex(&at.field("pattern").field("regex"), pattern)?;
        let groups = regex::bytes::Regex::new(pattern).map_or(0, |regex| regex.captures_len() - 1);
        match substitution(&rewrite.substitution, groups) {
            Ok(substitution) => Some(RegexRewrite { pattern: pattern.clone(), substitution }),
            Err(reason) => {
                at.field("substitution").error_hint(
                    reason,
                    "write \\1 to \\9 for what a group matched, \\0 for all, \\\\ for a backslash",
                );
                None
            }
        }
    }
}

/// Takes a substitution apart, in RE2's syntax.
fn substitution(text: &str, groups: usize) -> Result<Vec<SubstitutionPart>, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            literal.push(c);
            continue;
        }
        match characters.next() {
            Some('\\') => literal.push('\\'),
            Some(digit) if digit.is_ascii_digit() => {
                let group = digit as usize - '0' as usize;
                if group > groups {
                    return Err(format!("\\{group} is used, but the regex has {groups} groups"));
                }
                if !literal.is_empty() {
                    parts.push(SubstitutionPart::Literal(std::mem::take(&mut literal)));
                }
                parts.push(SubstitutionPart::Group(group));
            }
            Some(other) => return Err(format!("`\\{other}` is no reference to a group")),
            None => return Err("it ends with a single backslash".to_owned()),
        }
    }
    if !literal.is_empty() {
        parts.push(SubstitutionPart::Literal(literal));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substitutions_are_taken_apart() {
        let literal = |text: &str| SubstitutionPart::Literal(text.to_owned());
        let group = SubstitutionPart::Group;
        assert_eq!(substitution("", 0), Ok(vec![]));
        assert_eq!(substitution("/a$1", 0), Ok(vec![literal("/a$1")]));
        let expected = vec![literal("/"), group(2), literal("\\x"), group(1), group(0)];
        assert_eq!(substitution("/\\2\\\\x\\1\\0", 2), Ok(expected));
        for text in ["\\3", "\\", "a\\n"] {
            assert!(substitution(text, 2).is_err(), "{text}");
        }
    }
}
