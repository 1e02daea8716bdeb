//! Regexes (`type.matcher.v3.RegexMatcher`): whether they mean here what they mean in Envoy.
//!
//! What it leaves to others: compiling and matching them (`snapshot`).

use super::ast::shorten;
use super::convert::At;
use crate::snapshot::RouteTable;
use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{Ast, RepetitionKind, RepetitionRange};

/// What a regex that is refused may have cost to try.
const REGEX_BYTES_REFUSED: usize = 1 << 20;

/// Reports what is wrong with a regex; `None` if something is.
pub(super) fn check_regex(at: &At<'_>, regex: &str) -> Option<()> {
    if let Some(text) = class_operator(regex) {
        at.error_hint(
            format!("`{text}` in a character class has another meaning than in RE2"),
            "put a backslash before each of its characters",
        );
        return None;
    }
    if let Some(reason) = not_of_re2(regex) {
        at.error(format!("`{}` cannot be compiled: {reason}", shorten(regex)));
        return None;
    }
    if !at.may_spend_on_regexes() {
        return None;
    }
    match RouteTable::check_regex(regex) {
        Ok(bytes) => at.spend_on_regex(bytes),
        Err(reason) => {
            at.spend_on_regex(REGEX_BYTES_REFUSED);
            let hint = match regex.contains("\\Q") {
                true => "put a backslash before each character instead of `\\Q` and `\\E`",
                false => "the syntax is RE2's: no look-around, no back-references",
            };
            at.error_hint(format!("`{}` cannot be compiled: {reason}", shorten(regex)), hint);
            return None;
        }
    }
    Some(())
}

/// What RE2 refuses and the regex crate takes: `a++`, which elsewhere is possessive, and more
/// repetitions than RE2 counts.
fn not_of_re2(regex: &str) -> Option<String> {
    const REPETITIONS_MAX: u32 = 1_000;
    // What cannot be parsed is refused for that.
    let ast = Parser::new().parse(regex).ok()?;
    let mut rest = vec![&ast];
    while let Some(ast) = rest.pop() {
        match ast {
            Ast::Repetition(outer) => {
                if matches!(*outer.ast, Ast::Repetition(_)) {
                    let operator = &regex[outer.op.span.start.offset..outer.op.span.end.offset];
                    return Some(format!("`{operator}` repeats a repetition"));
                }
                if let RepetitionKind::Range(range) = &outer.op.kind {
                    let most = match range {
                        RepetitionRange::Exactly(most)
                        | RepetitionRange::AtLeast(most)
                        | RepetitionRange::Bounded(_, most) => *most,
                    };
                    if most > REPETITIONS_MAX {
                        return Some(format!("{most} repetitions are more than {REPETITIONS_MAX}"));
                    }
                }
                rest.push(&outer.ast);
            }
            Ast::Group(group) => rest.push(&group.ast),
            Ast::Alternation(them) => rest.extend(&them.asts),
            Ast::Concat(them) => rest.extend(&them.asts),
            _ => {}
        }
    }
    None
}

/// The first operator of the regex crate in a character class (`[a&&b]`, `[[a]]`): RE2 takes its
/// characters as they are, so that the same regex would match other paths.
fn class_operator(regex: &str) -> Option<&str> {
    let bytes = regex.as_bytes();
    let mut i = 0;
    // Where the contents of the class begin that we are in.
    let mut class: Option<usize> = None;
    while i < bytes.len() {
        match (bytes[i], class) {
            (b'\\', _) => i += 1,
            (b'[', None) => {
                i += usize::from(bytes.get(i + 1) == Some(&b'^'));
                class = Some(i + 1);
            }
            // A `]` at the beginning is itself.
            (b']', Some(begin)) if i > begin => class = None,
            (b'[', Some(_)) if bytes.get(i + 1) == Some(&b':') => {
                i += regex[i..].find(":]").map_or(0, |end| end + 1);
            }
            (b'[', Some(_)) => return regex.get(i..=i),
            (b'&' | b'-' | b'~', Some(begin))
                if i > begin && bytes.get(i + 1) == Some(&bytes[i]) =>
            {
                return regex.get(i..i + 2);
            }
            _ => {}
        }
        i += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_re2_refuses() {
        let refused =
            ["a++", "(a|b**)c", "a{2}{3}", "a+?+", "a{1001}", "(?:b{2,2000})", "a{1001,}"];
        refused.iter().for_each(|regex| assert!(not_of_re2(regex).is_some(), "{regex}"));
        let taken = ["a+?", "(a+)+", "a{1000}", "a{0,1000}", "[++]", "\\++", "(", ""];
        taken.iter().for_each(|regex| assert!(not_of_re2(regex).is_none(), "{regex}"));
    }

    #[test]
    fn operators_in_character_classes_are_found() {
        let rows = [
            ("[a&&b]", Some("&&")),
            ("x[[a]]", Some("[")),
            ("[^a--b]", Some("--")),
            ("[a~~b]", Some("~~")),
            ("[]&&]", Some("&&")),
            ("[&a]&&[b&]", None),
            ("[[:alpha:]-]", None),
            ("[\\[a\\]&]", None),
            ("\\[a&&b]", None),
            ("[a-z]--", None),
            ("[", None),
            ("[é&&ü]", Some("&&")),
            ("\\", None),
        ];
        for (regex, expected) in rows {
            assert_eq!(class_operator(regex), expected, "{regex}");
        }
    }
}
