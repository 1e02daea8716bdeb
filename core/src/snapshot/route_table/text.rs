//! A compiled `StringMatcher`, and regexes that rewrite.
//!
//! What it leaves to others: which text is matched (`conditions`).

use super::regexes::{Group, Pattern, replacer};
use crate::config::{RegexRewrite, StringMatcher, StringPattern, SubstitutionPart};
use regex_automata::meta;

/// A compiled `StringMatcher`.
#[derive(Debug)]
pub struct TextMatch {
    pattern: TextPattern,
    ignore_case: bool,
}

#[derive(Debug)]
enum TextPattern {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    Suffix(Vec<u8>),
    Contains(Vec<u8>),
    Regex(WholeRegex),
}

impl TextMatch {
    /// Compiles a matcher that stands alone. What validation let through compiles.
    #[must_use]
    pub fn of(matcher: &StringMatcher) -> TextMatch {
        TextMatch::new(matcher, &mut 0)
    }

    pub(super) fn new(matcher: &StringMatcher, failures: &mut u32) -> TextMatch {
        let bytes = |text: &String| text.clone().into_bytes();
        let pattern = match &matcher.pattern {
            StringPattern::Exact(text) => TextPattern::Exact(bytes(text)),
            StringPattern::Prefix(text) => TextPattern::Prefix(bytes(text)),
            StringPattern::Suffix(text) => TextPattern::Suffix(bytes(text)),
            StringPattern::Contains(text) => TextPattern::Contains(bytes(text)),
            StringPattern::Regex(regex) => TextPattern::Regex(WholeRegex::new(regex, failures)),
        };
        TextMatch { pattern, ignore_case: matcher.ignore_case }
    }

    /// Whether it matches.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        let same = |a: &[u8], b: &[u8]| match self.ignore_case {
            true => a.eq_ignore_ascii_case(b),
            false => a == b,
        };
        match &self.pattern {
            TextPattern::Exact(exact) => same(text, exact),
            TextPattern::Prefix(prefix) => {
                text.get(..prefix.len()).is_some_and(|begin| same(begin, prefix))
            }
            TextPattern::Suffix(suffix) => {
                let start = text.len().checked_sub(suffix.len());
                start.is_some_and(|start| same(&text[start..], suffix))
            }
            TextPattern::Contains(part) if self.ignore_case => {
                part.is_empty() || text.windows(part.len()).any(|window| same(window, part))
            }
            TextPattern::Contains(part) => memchr::memmem::find(text, part).is_some(),
            TextPattern::Regex(regex) => regex.matches(text),
        }
    }
}

/// A regex that has to match the whole text.
#[derive(Debug)]
pub(super) struct WholeRegex(Group);

impl WholeRegex {
    /// What validation let through parses; what does not matches nothing.
    pub(super) fn new(regex: &str, failures: &mut u32) -> WholeRegex {
        let pattern = Pattern::parse(0, regex);
        WholeRegex(pattern.map_or_else(
            |_| Group::default(),
            |pattern| Group::compile(std::slice::from_ref(&pattern), failures),
        ))
    }

    pub(super) fn matches(&self, text: &[u8]) -> bool {
        self.0.find(text, super::trie::NONE, || ()).is_some()
    }
}

/// A compiled `RegexMatchAndSubstitute`, or another regex whose groups are put in new places.
#[derive(Debug)]
pub struct Replacement {
    regex: meta::Regex,
    parts: Vec<SubstitutionPart>,
}

impl Replacement {
    /// Of every match of a regex. `None` for a regex that does not compile, which validation has
    /// refused.
    #[must_use]
    pub fn new(rewrite: &RegexRewrite) -> Option<Replacement> {
        let regex = replacer(&rewrite.pattern, false)?;
        Some(Replacement { regex, parts: rewrite.substitution.clone() })
    }

    /// Of the whole text, which the regex must match.
    #[must_use]
    pub(super) fn of_whole(regex: &str, parts: Vec<SubstitutionPart>) -> Option<Replacement> {
        Some(Replacement { regex: replacer(regex, true)?, parts })
    }

    /// Appends `text` with every match replaced; says whether there was one.
    pub fn replace_all(&self, text: &[u8], out: &mut Vec<u8>) -> bool {
        let mut copied = 0;
        let mut replaced = false;
        for captures in self.regex.captures_iter(text) {
            let Some(whole) = captures.get_match() else { continue };
            replaced = true;
            out.extend_from_slice(&text[copied..whole.start()]);
            copied = whole.end();
            for part in &self.parts {
                match part {
                    SubstitutionPart::Literal(literal) => out.extend_from_slice(literal.as_bytes()),
                    SubstitutionPart::Group(group) => {
                        let span = captures.get_group(*group);
                        out.extend_from_slice(span.map_or(&[], |span| &text[span]));
                    }
                }
            }
        }
        out.extend_from_slice(&text[copied..]);
        replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: StringPattern, ignore_case: bool, text: &str) -> bool {
        TextMatch::new(&StringMatcher { pattern, ignore_case }, &mut 0).matches(text.as_bytes())
    }

    #[test]
    fn patterns() {
        use StringPattern::{Contains, Exact, Prefix, Regex, Suffix};
        type Row = (fn(String) -> StringPattern, &'static str, &'static str, [bool; 2]);
        let rows: [Row; 13] = [
            (Exact, "ab", "ab", [true, true]),
            (Exact, "ab", "aB", [false, true]),
            (Exact, "", "", [true, true]),
            (Prefix, "ab", "abc", [true, true]),
            (Prefix, "ab", "a", [false, false]),
            (Prefix, "ab", "ABC", [false, true]),
            (Suffix, "bc", "abc", [true, true]),
            (Suffix, "bc", "aBC", [false, true]),
            (Suffix, "abc", "bc", [false, false]),
            (Contains, "b", "abc", [true, true]),
            (Contains, "B", "abc", [false, true]),
            (Contains, "", "abc", [true, true]),
            (Regex, "a|ab", "ab", [true, true]),
        ];
        for (pattern, wanted, text, expected) in rows {
            for (ignore_case, expected) in [false, true].into_iter().zip(expected) {
                let pattern = pattern(wanted.to_owned());
                let shown = format!("{pattern:?} {ignore_case} {text}");
                assert_eq!(matches(pattern, ignore_case, text), expected, "{shown}");
            }
        }
        assert!(!matches(Regex("a".to_owned()), true, "A"), "a regex says itself what case means");
    }

    fn replaced(regex: &str, parts: &[SubstitutionPart], text: &str) -> String {
        let rewrite = RegexRewrite { pattern: regex.to_owned(), substitution: parts.to_vec() };
        let mut out = Vec::new();
        Replacement::new(&rewrite).unwrap().replace_all(text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_match_is_replaced() {
        let literal = |text: &str| SubstitutionPart::Literal(text.to_owned());
        let group = SubstitutionPart::Group;
        assert_eq!(replaced("a", &[literal("X")], "/abca"), "/XbcX");
        let parts = [group(2), literal("/y/"), group(1)];
        assert_eq!(replaced("^/rx/([^/]+)(/.*)$", &parts, "/rx/foo/bar"), "/bar/y/foo");
        assert_eq!(replaced("z", &[], "/abc"), "/abc");
        assert_eq!(replaced("b*", &[literal("-")], "abc"), "-a-c-");
        assert_eq!(replaced("(a)|(b)", &[group(2), literal(".")], "ab"), ".b.");
    }
}
