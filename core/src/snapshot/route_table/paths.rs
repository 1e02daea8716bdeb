//! The choice of a route by the path of a request, within one virtual host.
//!
//! Prefixes, exact paths and the literal beginnings of regexes stand in one trie; those that ignore
//! case, in lower case, in another. On the walk down, the lowest number wins; the walk ends when
//! nothing lower is below.
//!
//! What it leaves to others: what else a route asks for (`candidates`), what to do with it.

use super::regexes::{Group, Pattern};
use super::trie::{Ends, Folded, NONE, Plain, Text, Trie};
use crate::config::PathMatch;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Numbered path specifiers. A number may come several times.
#[derive(Debug, Default)]
pub(super) struct Paths {
    sensitive: Trie,
    insensitive: Trie,
    groups: Vec<Group>,
}

/// One path specifier: its number, itself, and whether case matters.
pub(super) type NumberedPath<'a> = (u32, &'a PathMatch, bool);

impl Paths {
    /// `failures` counts the automata of a table that turned out too large.
    pub(super) fn new<'a>(
        paths: impl Iterator<Item = NumberedPath<'a>>,
        failures: &mut u32,
    ) -> Paths {
        let (mut sensitive, mut insensitive) = (Vec::new(), Vec::new());
        let mut patterns: BTreeMap<Vec<u8>, Vec<Pattern>> = BTreeMap::new();
        let mut add_pattern = |number, regex: &str| {
            // What validation let through parses; see `RouteTable::check_regex`.
            if let Ok(pattern) = Pattern::parse(number, regex) {
                patterns.entry(pattern.literal().to_vec()).or_default().push(pattern);
            }
        };
        for (number, path, case_sensitive) in paths {
            let prefix = Ends { prefix: number, ..Ends::NOTHING };
            let exact = Ends { exact: number, ..Ends::NOTHING };
            let mut add = |string: Cow<'a, [u8]>, ends| match case_sensitive {
                true => sensitive.push((string, ends)),
                false => insensitive.push((string.to_ascii_lowercase().into(), ends)),
            };
            match path {
                PathMatch::Prefix(string) => add(string.as_bytes().into(), prefix),
                PathMatch::Exact(string) => add(string.as_bytes().into(), exact),
                // Followed by a slash, or by nothing.
                PathMatch::SeparatedPrefix(string) => {
                    add(string.as_bytes().into(), exact);
                    add(format!("{string}/").into_bytes().into(), prefix);
                }
                PathMatch::Regex(regex) => add_pattern(number, regex),
                PathMatch::Template(template) => add_pattern(number, &template.regex),
                PathMatch::Connect => {}
            }
        }
        let mut groups = Vec::new();
        for (literal, patterns) in patterns {
            let group_least = patterns[0].number;
            let group = groups.len() as u32;
            sensitive.push((literal.into(), Ends { group, group_least, ..Ends::NOTHING }));
            groups.push(Group::compile(&patterns, failures));
        }
        Paths { sensitive: Trie::new(sensitive), insensitive: Trie::new(insensitive), groups }
    }

    /// The lowest number whose specifier takes the path, which has no query; else [`NONE`].
    pub(super) fn find(&self, path: &[u8], mut step: impl FnMut()) -> u32 {
        let best = self.descend(&self.sensitive, Plain(path), path, NONE, &mut step);
        self.descend(&self.insensitive, Folded(path), path, best, &mut step)
    }

    /// The lowest number below `best` in one trie, or `best`.
    fn descend(
        &self,
        trie: &Trie,
        text: impl Text,
        path: &[u8],
        mut best: u32,
        mut step: impl FnMut(),
    ) -> u32 {
        for (node, length) in trie.walk(text) {
            step();
            if node.least >= best {
                break;
            }
            best = best.min(node.ends.prefix);
            if length == path.len() {
                best = best.min(node.ends.exact);
            }
            if node.ends.group_least < best {
                let group = &self.groups[node.ends.group as usize];
                best = group.find(path, best, &mut step).unwrap_or(best);
            }
        }
        best
    }

    /// Calls `found` with every number whose specifier takes the path, in any order, as long as
    /// `goes_on` says that a number as low as this one is still of interest.
    pub(super) fn find_all(
        &self,
        path: &[u8],
        mut goes_on: impl FnMut(u32) -> bool,
        mut found: impl FnMut(u32),
    ) {
        self.descend_all(&self.sensitive, Plain(path), path, &mut goes_on, &mut found);
        self.descend_all(&self.insensitive, Folded(path), path, &mut goes_on, &mut found);
    }

    fn descend_all(
        &self,
        trie: &Trie,
        text: impl Text,
        path: &[u8],
        goes_on: &mut impl FnMut(u32) -> bool,
        found: &mut impl FnMut(u32),
    ) {
        for (node, length) in trie.walk(text) {
            if !goes_on(node.least) {
                break;
            }
            if node.ends.prefix != NONE {
                found(node.ends.prefix);
            }
            if length == path.len() && node.ends.exact != NONE {
                found(node.ends.exact);
            }
            if node.ends.group != NONE && goes_on(node.ends.group_least) {
                self.groups[node.ends.group as usize].find_all(path, &mut *found);
            }
        }
    }
}
