//! Routes that ask for more than a path: they are candidates, tried in order.
//!
//! Routes with the same path specifier share a slot, numbered by the first of them, so that the
//! trie finds the slots that take a path, however many routes they have. A request is compared with
//! the conditions of those routes only, in the order of the configuration, and only up to the first
//! route that asks for nothing more.
//!
//! What it leaves to others: the conditions (`conditions`), routes without any (`paths`).

use super::conditions::Conditions;
use super::paths::Paths;
use super::trie::NONE;
use crate::config::{PathMatch, Route};
use std::collections::HashMap;

/// Slots that take one path and are remembered. With more (so many prefixes of one path that all
/// have conditions) the trie is asked again for each candidate.
const SLOTS_MAX: usize = 16;
use std::sync::Arc;
use tidegate_http::RequestHead;

/// The routes of one virtual host that have conditions.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Route by route, ascending.
    routes: Vec<Candidate>,
    /// By slot.
    paths: Paths,
    /// By slot: places in `routes`, ascending. The first of a slot is not above that of the next.
    slots: Vec<Vec<u32>>,
    /// Places in `routes` of those with a `connect_matcher`.
    connect: Vec<u32>,
}

/// One route.
#[derive(Debug)]
struct Candidate {
    number: u32,
    conditions: Conditions,
}

/// The slots that take a path, and how far each was tried.
struct Matched {
    slots: [(u32, u32); SLOTS_MAX],
    /// How many there are; more than `SLOTS_MAX` when not all are in `slots`.
    count: usize,
}

impl Candidates {
    /// Of all routes of a virtual host, those that are not only about a path; `None` if there are
    /// none. With `cuts_parameters`, paths are matched up to their first `;`, except by templates.
    pub(super) fn new(
        routes: &[Arc<Route>],
        cuts_parameters: bool,
        failures: &mut u32,
    ) -> Option<Candidates> {
        let everything = PathMatch::Prefix(String::new());
        let mut candidates = Candidates::default();
        let mut slot_of: HashMap<String, usize> = HashMap::new();
        let mut paths = Vec::new();
        for (number, route) in (0_u32..).zip(routes) {
            let matches = &route.matches;
            if !is_candidate(route, cuts_parameters) {
                continue;
            }
            let mut conditions = Conditions::new(matches.conditions(), failures);
            let mut path = &matches.path;
            if let (PathMatch::Template(template), true) = (path, cuts_parameters) {
                conditions = conditions.with_template(&template.regex, failures);
                path = &everything;
            }
            let place = candidates.routes.len() as u32;
            candidates.routes.push(Candidate { number, conditions });
            if *path == PathMatch::Connect {
                candidates.connect.push(place);
                continue;
            }
            for path in strings(path, matches.case_sensitive) {
                let next = slot_of.len();
                let key = format!("{path:?} {}", matches.case_sensitive);
                let slot = *slot_of.entry(key).or_insert(next);
                if slot == candidates.slots.len() {
                    candidates.slots.push(Vec::new());
                    paths.push((slot as u32, path, matches.case_sensitive));
                }
                candidates.slots[slot].push(place);
            }
        }
        if candidates.routes.is_empty() {
            return None;
        }
        let paths = paths.iter().map(|(slot, path, case)| (*slot, path, *case));
        candidates.paths = Paths::new(paths, failures);
        Some(candidates)
    }

    /// The first route below `below` that takes a request with this path, or `below`.
    pub(super) fn find(
        &self,
        request: &RequestHead,
        path: &[u8],
        random: u64,
        below: u32,
        mut step: impl FnMut(),
    ) -> u32 {
        step();
        let mut matched = self.matched(path, below);
        let mut from = 0;
        loop {
            let place = match matched.count > SLOTS_MAX {
                true => self.next(path, from, below),
                false => self.next_of(&mut matched),
            };
            let Some(candidate) = place.and_then(|place| self.routes.get(place as usize)) else {
                return below;
            };
            if candidate.number >= below {
                return below;
            }
            step();
            if candidate.conditions.unmet(request, random).is_none() {
                return candidate.number;
            }
            from = place.map_or(from, |place| place + 1);
        }
    }

    /// The first route that takes this CONNECT request, or [`NONE`].
    pub(super) fn find_connect(&self, request: &RequestHead, random: u64) -> u32 {
        let candidates = self.connect.iter().map(|place| &self.routes[*place as usize]);
        let mut holding = candidates.filter(|one| one.conditions.unmet(request, random).is_none());
        holding.next().map_or(NONE, |candidate| candidate.number)
    }

    /// The conditions of a route, if it has any.
    pub(super) fn conditions(&self, number: u32) -> Option<&Conditions> {
        let place = self.routes.binary_search_by_key(&number, |candidate| candidate.number).ok()?;
        Some(&self.routes[place].conditions)
    }

    /// Whether the first route of a slot is below `below`.
    fn begins_below(&self, slot: u32, below: u32) -> bool {
        let slot = self.slots.get(slot as usize);
        slot.is_some_and(|places| self.routes[places[0] as usize].number < below)
    }

    /// The slots that take the path and have a route below `below`.
    fn matched(&self, path: &[u8], below: u32) -> Matched {
        let mut matched = Matched { slots: [(0, 0); SLOTS_MAX], count: 0 };
        let goes_on = |slot| self.begins_below(slot, below);
        self.paths.find_all(path, goes_on, |slot| {
            if let Some(entry) = matched.slots.get_mut(matched.count) {
                *entry = (slot, 0);
            }
            matched.count += 1;
        });
        matched
    }

    /// The next place of all slots, in order.
    fn next_of(&self, matched: &mut Matched) -> Option<u32> {
        let mut best: Option<(u32, usize)> = None;
        for (index, (slot, tried)) in matched.slots[..matched.count].iter().enumerate() {
            let place = self.slots[*slot as usize].get(*tried as usize);
            if let Some(&place) = place
                && best.is_none_or(|(best, _)| place < best)
            {
                best = Some((place, index));
            }
        }
        let (place, index) = best?;
        matched.slots[index].1 += 1;
        Some(place)
    }

    /// The first place, not before `from`, whose path specifier takes the path and whose route is
    /// below `below`; by asking the trie.
    fn next(&self, path: &[u8], from: u32, below: u32) -> Option<u32> {
        let best = std::cell::Cell::new(NONE);
        let goes_on =
            |slot: u32| self.begins_below(slot, below) && self.slots[slot as usize][0] < best.get();
        let found = |slot: u32| {
            let places = &self.slots[slot as usize];
            let index = places.partition_point(|place| *place < from);
            if let Some(place) = places.get(index) {
                best.set(best.get().min(*place));
            }
        };
        self.paths.find_all(path, goes_on, found);
        Some(best.get()).filter(|place| *place != NONE)
    }
}

/// The strings of the trie that a path specifier stands for, which must not be two slots' strings:
/// a node of the trie can name one slot only.
fn strings(path: &PathMatch, case_sensitive: bool) -> Vec<PathMatch> {
    let fold = |string: &String| match case_sensitive {
        true => string.clone(),
        false => string.to_ascii_lowercase(),
    };
    match path {
        PathMatch::Prefix(prefix) => vec![PathMatch::Prefix(fold(prefix))],
        PathMatch::Exact(exact) => vec![PathMatch::Exact(fold(exact))],
        PathMatch::SeparatedPrefix(prefix) => {
            let below = PathMatch::Prefix(format!("{}/", fold(prefix)));
            vec![PathMatch::Exact(fold(prefix)), below]
        }
        PathMatch::Regex(_) | PathMatch::Template(_) | PathMatch::Connect => vec![path.clone()],
    }
}

/// Whether a route asks for more than a path that the trie of its virtual host can find.
pub(super) fn is_candidate(route: &Route, cuts_parameters: bool) -> bool {
    match &route.matches.path {
        PathMatch::Connect => true,
        PathMatch::Template(_) if cuts_parameters => true,
        _ => !route.matches.conditions().is_empty(),
    }
}
