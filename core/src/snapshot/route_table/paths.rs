//! The choice of a route by the path of a request, within one virtual host.
//!
//! Prefixes, exact paths and the literal beginnings of regexes stand in one trie; those that ignore
//! case, in lower case, in another. On the walk down, the lowest number wins; the walk ends when
//! nothing lower is below.
//!
//! What it leaves to others: what to do with the route.

use super::regexes::{Group, Pattern};
use super::trie::{Ends, Folded, NONE, Plain, Text, Trie};
use crate::config::{PathMatch, RouteMatch};
use std::collections::BTreeMap;

/// The matches of one virtual host's routes, numbered in order.
#[derive(Debug, Default)]
pub(super) struct Paths {
    sensitive: Trie,
    insensitive: Trie,
    groups: Vec<Group>,
}

impl Paths {
    /// `failures` counts the automata of a table that turned out too large.
    pub(super) fn new<'a>(
        matches: impl Iterator<Item = &'a RouteMatch>,
        failures: &mut u32,
    ) -> Paths {
        let (mut sensitive, mut insensitive) = (Vec::new(), Vec::new());
        let mut patterns: BTreeMap<Vec<u8>, Vec<Pattern>> = BTreeMap::new();
        for (number, route) in (0_u32..).zip(matches) {
            let (string, ends) = match &route.path {
                PathMatch::Prefix(prefix) => (prefix, Ends { prefix: number, ..Ends::NOTHING }),
                PathMatch::Exact(path) => (path, Ends { exact: number, ..Ends::NOTHING }),
                PathMatch::Regex(regex) => {
                    // What validation let through parses; see `RouteTable::check_regex`.
                    if let Ok(pattern) = Pattern::parse(number, regex) {
                        patterns.entry(pattern.literal().to_vec()).or_default().push(pattern);
                    }
                    continue;
                }
            };
            match route.case_sensitive {
                true => sensitive.push((string.clone().into_bytes(), ends)),
                false => insensitive.push((string.to_ascii_lowercase().into_bytes(), ends)),
            }
        }
        let mut groups = Vec::new();
        for (literal, patterns) in patterns {
            let group_least = patterns[0].number;
            let group = groups.len() as u32;
            sensitive.push((literal, Ends { group, group_least, ..Ends::NOTHING }));
            groups.push(Group::compile(&patterns, failures));
        }
        Paths { sensitive: Trie::new(sensitive), insensitive: Trie::new(insensitive), groups }
    }

    /// The lowest number whose match takes the path, which has no query.
    pub(super) fn find(&self, path: &[u8], mut step: impl FnMut()) -> Option<u32> {
        let best = self.descend(&self.sensitive, Plain(path), path, NONE, &mut step);
        let best = self.descend(&self.insensitive, Folded(path), path, best, &mut step);
        (best != NONE).then_some(best)
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
}
