//! What a text must be (`type.matcher.v3.StringMatcher`).
//!
//! What it leaves to others: compiling and matching (`snapshot`).

use super::convert::At;
use super::safe_regex::check_regex;
use super::support::{SupportedField, SupportedMessage, kept, message, refused, strict, used};
use envoy_types::pb::envoy::r#type::matcher::v3 as pb;

/// `type.matcher.v3.StringMatcher`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StringMatcher {
    /// `match_pattern`
    pub pattern: StringPattern,
    /// `ignore_case`; has no effect on a regex, as in Envoy.
    pub ignore_case: bool,
}

/// The pattern of a [`StringMatcher`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StringPattern {
    /// `exact`
    Exact(String),
    /// `prefix`
    Prefix(String),
    /// `suffix`
    Suffix(String),
    /// `contains`
    Contains(String),
    /// `safe_regex`, which must match the whole text. Known to compile.
    Regex(String),
}

/// What is implemented of it; xds.type.matcher.v3 has the same fields.
pub(super) const STRING_MATCHER_FIELDS: &[SupportedField] = &[
    used("exact"),
    used("prefix"),
    used("suffix"),
    used("contains"),
    used("safe_regex"),
    refused("custom"),
    used("ignore_case"),
];

/// What is implemented of its regexes.
pub(super) const REGEX_MATCHER_FIELDS: &[SupportedField] =
    &[used("regex"), kept("google_re2", "there is one engine, with the syntax of RE2")];

/// The tables of both.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    // A pattern that is left out would match what it should not.
    strict("envoy.type.matcher.v3.StringMatcher", STRING_MATCHER_FIELDS),
    message("envoy.type.matcher.v3.RegexMatcher", REGEX_MATCHER_FIELDS),
];

impl StringMatcher {
    /// A matcher that respects case.
    #[must_use]
    pub fn new(pattern: StringPattern) -> StringMatcher {
        StringMatcher { pattern, ignore_case: false }
    }

    /// Converts a matcher; what is wrong is reported.
    pub(super) fn from_proto(at: &At<'_>, matcher: &pb::StringMatcher) -> Option<StringMatcher> {
        use pb::string_matcher::MatchPattern;
        let pattern = match matcher.match_pattern.as_ref()? {
            MatchPattern::Exact(text) => StringPattern::Exact(text.clone()),
            MatchPattern::Prefix(text) => StringPattern::Prefix(text.clone()),
            MatchPattern::Suffix(text) => StringPattern::Suffix(text.clone()),
            MatchPattern::Contains(text) => StringPattern::Contains(text.clone()),
            MatchPattern::SafeRegex(regex) => regex_pattern(&at.field("safe_regex"), regex)?,
            // The reader has refused it by name.
            MatchPattern::Custom(_) => return None,
        };
        Some(StringMatcher { pattern, ignore_case: matcher.ignore_case })
    }
}

/// A regex that compiles, of the `RegexMatcher` here.
pub(super) fn regex_pattern(at: &At<'_>, regex: &pb::RegexMatcher) -> Option<StringPattern> {
    // An empty one breaks a rule of the .proto file, which the reader has reported.
    check_regex(&at.field("regex"), &regex.regex)?;
    Some(StringPattern::Regex(regex.regex.clone()))
}
