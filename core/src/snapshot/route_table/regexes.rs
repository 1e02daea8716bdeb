//! Many `safe_regex` in one pass over the path.
//!
//! A group of regexes becomes one deterministic automaton that says which of them match the whole
//! path; its cost is that of the path's length, with no scratch memory and no lock. Automata can
//! grow exponentially: a group whose automaton would be larger than [`AUTOMATON_BYTES_MAX`] is cut
//! in halves, and a single regex that is too large runs on the regex crate's own engines, which do
//! take scratch memory from a pool.
//!
//! As in RE2, `\d`, `\w`, `\s` and `\b` are ASCII, and `.` is any byte but a line feed; a regex
//! that needs Unicode (`\pL`, a character beyond ASCII) gets it.
//!
//! What it leaves to others: which groups a path has to be tried on (`paths`).

use super::trie::NONE;
use regex_automata::dfa::Automaton;
use regex_automata::dfa::dense::{self, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind, dfa::StartKind, meta};
use regex_syntax::hir::{Hir, HirKind, Look};

/// The largest automaton.
const AUTOMATON_BYTES_MAX: usize = 512 << 10;

/// The most memory that making one may take, which bounds the time, too: 10 to 50 ms.
const DETERMINIZE_BYTES_MAX: usize = 512 << 10;

/// As in the regex crate: counted repetitions cannot make a regex larger.
const REGEX_BYTES_MAX: usize = 10 << 20;

/// How many automata of one table may turn out too large before no more are tried: bounds the time
/// that a table takes to compile. Regexes that are left over are tried one by one with each
/// request.
const FAILURES_MAX: u32 = 16;

/// A parsed regex and the number of its route.
pub(super) struct Pattern {
    pub(super) number: u32,
    hir: Hir,
}

impl Pattern {
    /// Parses a `safe_regex`. The error is one sentence for the operator.
    pub(super) fn parse(number: u32, regex: &str) -> Result<Pattern, String> {
        let config = syntax::Config::new().utf8(false);
        let hir = match syntax::parse_with(regex, &config.unicode(false)) {
            Ok(hir) => hir,
            Err(_) => {
                syntax::parse_with(regex, &config.unicode(true)).map_err(|e| one_sentence(&e))?
            }
        };
        Ok(Pattern { number, hir })
    }

    /// The bytes that every match begins with.
    pub(super) fn literal(&self) -> &[u8] {
        literal(&self.hir)
    }
}

/// The crate's own text spans several lines.
fn one_sentence(error: &regex_syntax::Error) -> String {
    match error {
        regex_syntax::Error::Parse(error) => {
            format!("{} (at character {})", error.kind(), error.span().start.column)
        }
        regex_syntax::Error::Translate(error) => {
            format!("{} (at character {})", error.kind(), error.span().start.column)
        }
        other => other.to_string(),
    }
}

fn literal(hir: &Hir) -> &[u8] {
    match hir.kind() {
        HirKind::Literal(literal) => &literal.0,
        HirKind::Capture(capture) => literal(&capture.sub),
        HirKind::Concat(parts) => parts.first().map_or(&[], literal),
        _ => &[],
    }
}

/// The bytes that a `safe_regex` takes when it runs alone, or what is wrong with it.
pub(super) fn check(regex: &str) -> Result<usize, String> {
    match Engine::single(&Pattern::parse(0, regex)?)? {
        Engine::Regex { regex, .. } => Ok(regex.memory_usage()),
        Engine::Automaton { automaton, .. } => Ok(automaton.memory_usage()),
    }
}

/// A regex for rewriting, which says where its groups matched. `whole`: it must match the whole
/// text. `None` for what validation refuses.
pub(super) fn replacer(regex: &str, whole: bool) -> Option<meta::Regex> {
    let mut hir = Pattern::parse(0, regex).ok()?.hir;
    if whole {
        hir = Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]);
    }
    let config = meta::Config::new().utf8_empty(false).nfa_size_limit(Some(REGEX_BYTES_MAX));
    meta::Builder::new().configure(config).build_from_hir(&hir).ok()
}

/// Regexes that a path is tried on together.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// In order of their lowest numbers.
    engines: Vec<Engine>,
}

/// What runs one or several regexes.
#[derive(Debug)]
enum Engine {
    /// One pass for all; routes by pattern, ascending.
    Automaton { automaton: Box<DFA<Vec<u32>>>, numbers: Vec<u32> },
    /// One regex whose automaton would be too large.
    Regex { regex: Box<meta::Regex>, number: u32 },
}

impl Group {
    /// Compiles regexes in order of their numbers. `failures` counts over all groups of a table.
    pub(super) fn compile(patterns: &[Pattern], failures: &mut u32) -> Group {
        let mut group = Group::default();
        let mut open = vec![patterns];
        while let Some(patterns) = open.pop() {
            if *failures < FAILURES_MAX {
                if let Some(engine) = Engine::joined(patterns) {
                    group.engines.push(engine);
                    continue;
                }
                *failures += 1;
                if patterns.len() > 1 {
                    let (first, second) = patterns.split_at(patterns.len() / 2);
                    open.extend([second, first]);
                    continue;
                }
            }
            // What validation let through compiles; see `check`.
            group.engines.extend(patterns.iter().filter_map(|p| Engine::single(p).ok()));
        }
        group
    }

    /// The lowest number, below `below`, of a regex that matches the whole path.
    pub(super) fn find(&self, path: &[u8], below: u32, mut step: impl FnMut()) -> Option<u32> {
        let mut best = below;
        for engine in &self.engines {
            if engine.least() >= best {
                break;
            }
            step();
            best = best.min(engine.find(path));
        }
        (best < below).then_some(best)
    }

    /// Calls `found` with the number of each regex that matches the whole path.
    pub(super) fn find_all(&self, path: &[u8], mut found: impl FnMut(u32)) {
        for engine in &self.engines {
            match engine {
                Engine::Automaton { automaton, numbers } => {
                    run(automaton, numbers, path, &mut found);
                }
                Engine::Regex { regex, number } if regex.is_match(path) => found(*number),
                Engine::Regex { .. } => {}
            }
        }
    }
}

impl Engine {
    fn single(pattern: &Pattern) -> Result<Engine, String> {
        let whole =
            Hir::concat(vec![Hir::look(Look::Start), pattern.hir.clone(), Hir::look(Look::End)]);
        let config = meta::Config::new().utf8_empty(false).nfa_size_limit(Some(REGEX_BYTES_MAX));
        let regex = meta::Builder::new().configure(config).build_from_hir(&whole);
        let regex = regex
            .map_err(|_| format!("the compiled regex is larger than {REGEX_BYTES_MAX} bytes"))?;
        Ok(Engine::Regex { regex: Box::new(regex), number: pattern.number })
    }

    fn joined(patterns: &[Pattern]) -> Option<Engine> {
        let nfa_config = thompson::Config::new()
            .utf8(false)
            .which_captures(thompson::WhichCaptures::None)
            .nfa_size_limit(Some(REGEX_BYTES_MAX));
        let hirs: Vec<&Hir> = patterns.iter().map(|pattern| &pattern.hir).collect();
        let nfa =
            thompson::Compiler::new().configure(nfa_config).build_many_from_hir(&hirs).ok()?;
        // All, not leftmost-first: every regex that matches is to be seen.
        let config = dense::Config::new()
            .match_kind(MatchKind::All)
            .start_kind(StartKind::Anchored)
            .dfa_size_limit(Some(AUTOMATON_BYTES_MAX))
            .determinize_size_limit(Some(DETERMINIZE_BYTES_MAX));
        let automaton = dense::Builder::new().configure(config).build_from_nfa(&nfa).ok()?;
        let numbers = patterns.iter().map(|pattern| pattern.number).collect();
        Some(Engine::Automaton { automaton: Box::new(automaton), numbers })
    }

    fn least(&self) -> u32 {
        match self {
            Engine::Automaton { numbers, .. } => numbers.first().copied().unwrap_or(NONE),
            Engine::Regex { number, .. } => *number,
        }
    }

    /// The lowest number of a regex that matches the whole path, or [`NONE`].
    fn find(&self, path: &[u8]) -> u32 {
        match self {
            Engine::Automaton { automaton, numbers } => {
                let mut best = NONE;
                run(automaton, numbers, path, |number| best = best.min(number));
                best
            }
            Engine::Regex { regex, number } => match regex.is_match(path) {
                true => *number,
                false => NONE,
            },
        }
    }
}

/// Calls `found` with the number of each regex that matches the whole path.
fn run(automaton: &DFA<Vec<u32>>, numbers: &[u32], path: &[u8], mut found: impl FnMut(u32)) {
    let input = Input::new(path).anchored(Anchored::Yes);
    // It fails only for a look-behind that was not compiled in; then nothing matches.
    let Ok(mut state) = automaton.start_state_forward(&input) else { return };
    for &byte in path {
        state = automaton.next_state(state, byte);
        if automaton.is_special_state(state)
            && (automaton.is_dead_state(state) || automaton.is_quit_state(state))
        {
            return;
        }
    }
    state = automaton.next_eoi_state(state);
    if automaton.is_match_state(state) {
        for index in 0..automaton.match_len(state) {
            found(numbers[automaton.match_pattern(state, index)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(regexes: &[&str], failures: &mut u32) -> Group {
        let parse = |(number, regex): (usize, &&str)| Pattern::parse(number as u32, regex).unwrap();
        let patterns: Vec<Pattern> = regexes.iter().enumerate().map(parse).collect();
        Group::compile(&patterns, failures)
    }

    fn find(regexes: &[&str], path: &str) -> Option<u32> {
        group(regexes, &mut 0).find(path.as_bytes(), NONE, || ())
    }

    #[test]
    fn a_regex_matches_the_whole_path() {
        assert_eq!(find(&["/re/[0-9]+"], "/re/12"), Some(0));
        assert_eq!(find(&["/re/[0-9]+"], "/re/12x"), None);
        assert_eq!(find(&["/re/[0-9]+"], "x/re/12"), None);
        assert_eq!(find(&["a|ab"], "ab"), Some(0));
        assert_eq!(find(&["(?i)/A.c"], "/aBC"), Some(0));
        assert_eq!(find(&["(?x) /a # x"], "/a"), Some(0));
        assert_eq!(find(&["^/a$"], "/a"), Some(0));
        assert_eq!(find(&[""], ""), Some(0));
    }

    #[test]
    fn of_several_that_match_the_first_is_found() {
        let regexes = ["/a/[^/]+", "/a/b", "/[a-c]/.*", ".*"];
        assert_eq!(find(&regexes, "/a/b"), Some(0));
        assert_eq!(find(&regexes, "/a/b/c"), Some(2));
        assert_eq!(find(&regexes, "/d"), Some(3));
        let group = group(&regexes, &mut 0);
        assert_eq!(group.find(b"/d", 3, || ()), None, "only numbers below are asked for");
    }

    #[test]
    fn classes_are_ascii_as_in_re2_unless_unicode_is_asked_for() {
        assert_eq!(find(&[r"/\d"], "/٣"), None);
        assert_eq!(find(&[r"/\p{Nd}"], "/٣"), Some(0));
        assert_eq!(find(&["/é+"], "/éé"), Some(0));
        assert_eq!(find(&[r"/.\b"], "/a"), Some(0));
        let group = group(&["/.*"], &mut 0);
        assert_eq!(group.find(b"/\xff\xfe", NONE, || ()), Some(0), "not all paths are UTF-8");
    }

    #[test]
    fn literals_end_where_choices_begin() {
        let literal = |regex| Pattern::parse(0, regex).unwrap().literal().to_vec();
        assert_eq!(literal("/api/v1/[0-9]+"), b"/api/v1/");
        assert_eq!(literal("(/a/)(b|c)"), b"/a/");
        assert_eq!(literal("/ab?"), b"/a");
        assert_eq!(literal("(?i)/ab"), b"/");
        assert_eq!(literal("a|b"), b"");
        assert_eq!(literal("^/a"), b"");
    }

    #[test]
    fn what_is_too_large_together_is_tried_apart() {
        let regexes: Vec<String> = (0..8).map(|i| format!("/.*{i}a.{{2}}b{i}.*c")).collect();
        let regexes: Vec<&str> = regexes.iter().map(String::as_str).collect();
        let mut failures = 0;
        let group = group(&regexes, &mut failures);
        assert!(failures > 0 && group.engines.len() > 1, "{failures} failures");
        for number in [0, 4, 7] {
            let path = format!("/xx{number}a12b{number}zc");
            assert_eq!(group.find(path.as_bytes(), NONE, || ()), Some(number));
        }
    }

    #[test]
    fn a_regex_that_is_too_large_alone_still_matches() {
        let group = group(&["/[ab]*a[ab]{18}"], &mut 0);
        assert!(matches!(group.engines[..], [Engine::Regex { .. }]));
        let path = format!("/b{}", "a".repeat(19));
        assert_eq!(group.find(path.as_bytes(), NONE, || ()), Some(0));
        assert_eq!(group.find(format!("{path}x").as_bytes(), NONE, || ()), None);
        assert_eq!(group.find(format!("x{path}").as_bytes(), NONE, || ()), None);
    }

    #[test]
    fn failures_bound_the_attempts() {
        let mut failures = FAILURES_MAX;
        assert_eq!(group(&["/a", "/b", "/c"], &mut failures).engines.len(), 3);
        assert_eq!(failures, FAILURES_MAX);
    }

    #[test]
    fn errors_are_told() {
        assert_eq!(check("/a(b").unwrap_err(), "unclosed group (at character 3)");
        assert!(check("/(?=a)").is_err());
        assert!(check(&format!("/{}", "(a{1000}){1000}")).unwrap_err().contains("larger than"));
        assert!(check("/ok").unwrap() < 64 << 10);
        assert!(check("/api/v[0-9]+/users/[^/]+/orders(/.*)?").unwrap() < 64 << 10);
    }
}
