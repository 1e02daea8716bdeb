//! Errors for people: each with the line it is about and a caret below the place.
//!
//! What it leaves to others: where they are printed, and the exit code.

use super::load::Source;
use super::{ConfigError, ConfigErrors, Severity};
use std::fmt::Write;

/// The longest line that is shown, in characters. A longer one is cut around the place.
const MAX_LINE: usize = 120;

/// All errors as text, separated by empty lines, with a count at the end.
#[must_use]
pub fn render(errors: &ConfigErrors, sources: &[Source]) -> String {
    let mut text = String::new();
    let lines = lines_of(sources);
    for error in &errors.0 {
        text.push_str(&render_with(error, &lines));
        text.push('\n');
    }
    let count = |severity| errors.0.iter().filter(|error| error.severity == severity).count();
    let (wrong, warnings) = (count(Severity::Error), count(Severity::Warning));
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let _ = match (wrong, warnings) {
        (0, 0) => Ok(()),
        (0, _) => writeln!(text, "{warnings} warning{}", plural(warnings)),
        (_, 0) => writeln!(text, "{wrong} error{}", plural(wrong)),
        _ => {
            writeln!(text, "{wrong} error{}, {warnings} warning{}", plural(wrong), plural(warnings))
        }
    };
    text
}

/// One error as text: what is wrong, where, the line with a caret, what to do, and the field's
/// path.
#[must_use]
pub fn render_one(error: &ConfigError, sources: &[Source]) -> String {
    render_with(error, &lines_of(sources))
}

/// The name of each source and its lines: an error wants one of them.
type Lines<'s> = Vec<(&'s str, Vec<&'s str>)>;

fn lines_of<'s>(sources: &'s [Source]) -> Lines<'s> {
    let text = |source: &'s Source| source.text.strip_prefix('\u{feff}').unwrap_or(&source.text);
    sources.iter().map(|s| (s.name.as_str(), text(s).lines().collect())).collect()
}

fn render_with(error: &ConfigError, lines: &Lines<'_>) -> String {
    let severity = match error.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut text = format!("{severity}: {}\n", error.reason);
    let mut margin = String::new();
    let mut advised = false;
    if let Some(position) = &error.position {
        let number = position.line.to_string();
        margin = " ".repeat(number.len());
        let (file, column) = (&position.file, position.column);
        let _ = writeln!(text, "{margin}--> {file}:{number}:{column}");
        if let Some(line) = line_of(lines, file, position.line) {
            let (line, before, width) = cut(line, column);
            let hint = error.hint.as_deref().unwrap_or_default();
            advised = true;
            let _ = writeln!(text, "{margin} |");
            let _ = writeln!(text, "{number} | {line}");
            let caret = format!("{}{} {hint}", " ".repeat(before), "^".repeat(width));
            let _ = writeln!(text, "{margin} | {}", caret.trim_end());
        }
    }
    if let Some(hint) = error.hint.as_ref().filter(|_| !advised) {
        let _ = writeln!(text, "{margin} = {hint}");
    }
    if !error.path.is_empty() {
        let _ = writeln!(text, "{margin} = {}", error.path);
    }
    text
}

fn line_of<'s>(lines: &Lines<'s>, file: &str, line: u32) -> Option<&'s str> {
    let (_, lines) = lines.iter().find(|(name, _)| *name == file)?;
    let line = lines.get(usize::try_from(line).ok()?.checked_sub(1)?)?;
    (!line.trim().is_empty()).then_some(*line)
}

/// The line (cut if it is long), how many columns the caret is from its beginning, and how wide it
/// is.
fn cut(line: &str, column: u32) -> (String, usize, usize) {
    let at = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1);
    // A line can be the whole file, and there can be an error at each of its words.
    let is_long = line.char_indices().nth(MAX_LINE).is_some();
    let from = if is_long { at.saturating_sub(MAX_LINE / 2) } else { 0 };
    // Control characters, tabs among them, would move the caret.
    let mut shown: Vec<char> = line.chars().skip(from).take(MAX_LINE + 1).collect();
    shown.iter_mut().filter(|c| c.is_control()).for_each(|c| *c = ' ');
    let is_cut = shown.len() > MAX_LINE;
    shown.truncate(MAX_LINE);
    let at = (at - from).min(shown.len());
    let width = width_of(&shown[at..]);
    let before = shown[..at].iter().map(|c| columns(*c)).sum();
    let marked = &shown[at..(at + width).min(shown.len())];
    let width = marked.iter().map(|c| columns(*c)).sum::<usize>().max(1);
    let mut text: String = shown.iter().collect();
    if is_cut {
        text.push('…');
    }
    (text, before, width)
}

/// How many characters belong to the word, or to the quoted text, at the beginning.
fn width_of(characters: &[char]) -> usize {
    let quote = characters.first().copied().filter(|c| matches!(c, '"' | '\''));
    if let Some(quote) = quote {
        let end = characters.iter().skip(1).position(|c| *c == quote);
        return end.map_or(characters.len(), |end| end + 2);
    }
    let ends = |i: usize, c: char| {
        c.is_whitespace()
            || matches!(c, ',' | ']' | '}')
            || (c == ':' && characters.get(i + 1).is_none_or(|next| next.is_whitespace()))
    };
    let end = characters.iter().enumerate().position(|(i, c)| ends(i, *c));
    end.unwrap_or(characters.len()).max(1)
}

/// How many columns of a terminal a character takes: two for those of East Asia, roughly.
fn columns(c: char) -> usize {
    let wide = matches!(c,
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}' | '\u{1f300}'..='\u{1faff}');
    if wide { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::super::Position;
    use super::*;

    fn error(line: u32, column: u32) -> ConfigError {
        ConfigError {
            position: Some(Position { file: "a.yaml".to_owned(), line, column }),
            path: "x.y".to_owned(),
            reason: "unknown field `addres`".to_owned(),
            hint: Some("did you mean `address`?".to_owned()),
            severity: Severity::Error,
        }
    }

    fn source(text: &str) -> Vec<Source> {
        vec![Source { name: "a.yaml".to_owned(), text: text.to_owned() }]
    }

    #[test]
    fn the_caret_is_below_the_word() {
        let text = render_one(&error(2, 3), &source("a:\n  addres: {}\n"));
        let expected = "error: unknown field `addres`
 --> a.yaml:2:3
  |
2 |   addres: {}
  |   ^^^^^^ did you mean `address`?
  = x.y
";
        assert_eq!(text, expected);
    }

    #[test]
    fn without_the_line_the_hint_is_still_there() {
        let text = render_one(&error(9, 1), &source("a:\n"));
        assert!(text.contains("= did you mean `address`?"), "{text}");
    }

    #[test]
    fn wide_characters_long_lines_and_quotes() {
        assert_eq!(cut("設定: x", 5), ("設定: x".to_owned(), 6, 1));
        assert_eq!(cut("a: \"b c\" d", 4).2, 5);
        assert_eq!(cut("a: 1.2.3.4:80 x", 4).2, 10);
        let (shown, before, width) = cut(&format!("{}key: v", " ".repeat(500)), 501);
        assert_eq!((before, width), (60, 3));
        assert!(shown.chars().count() <= MAX_LINE + 1);
        assert_eq!(cut("", 40), (String::new(), 0, 1));
    }

    #[test]
    fn the_count_is_at_the_end() {
        let mut warning = error(1, 1);
        warning.severity = Severity::Warning;
        let errors = ConfigErrors(vec![error(1, 1), warning]);
        assert!(render(&errors, &source("a:\n")).ends_with("1 error, 1 warning\n"));
    }
}
