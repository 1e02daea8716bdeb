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
use tidegate_http::RequestHead;

/// The routes of one virtual host that have conditions.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// By slot.
    paths: Paths,
    /// By slot: the routes, ascending. The first route of a slot is lower than that of the next.
    slots: Vec<Vec<u32>>,
    /// Routes by `connect_matcher`, ascending.
    connect: Vec<u32>,
    /// By route, ascending.
    conditions: Vec<(u32, Conditions)>,
}

impl Candidates {
    /// Of all routes of a virtual host, those that are not only about a path; `None` if there are
    /// none. With `cuts_parameters`, paths are matched up to their first `;`, except by templates.
    pub(super) fn new(
        routes: &[Route],
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
            let mut conditions = Conditions::new(&matches.conditions, failures);
            let mut path = &matches.path;
            if let (PathMatch::Template(template), true) = (path, cuts_parameters) {
                conditions = conditions.with_template(&template.regex, failures);
                path = &everything;
            }
            candidates.conditions.push((number, conditions));
            if *path == PathMatch::Connect {
                candidates.connect.push(number);
                continue;
            }
            let next = slot_of.len();
            let slot =
                *slot_of.entry(format!("{path:?} {}", matches.case_sensitive)).or_insert(next);
            if slot == candidates.slots.len() {
                candidates.slots.push(Vec::new());
                paths.push((slot as u32, path, matches.case_sensitive));
            }
            candidates.slots[slot].push(number);
        }
        if candidates.conditions.is_empty() {
            return None;
        }
        candidates.paths = Paths::new(paths.into_iter(), failures);
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
        let mut from = 0;
        loop {
            step();
            let number = self.next(path, from, below);
            if number == below || self.holds(number, request, random) {
                return number;
            }
            from = number + 1;
        }
    }

    /// The first route that takes this CONNECT request, or [`NONE`].
    pub(super) fn find_connect(&self, request: &RequestHead, random: u64) -> u32 {
        let holds = |number: &u32| self.holds(*number, request, random);
        self.connect.iter().copied().find(holds).unwrap_or(NONE)
    }

    /// The conditions of a route, if it has any.
    pub(super) fn conditions(&self, number: u32) -> Option<&Conditions> {
        let place = self.conditions.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(&self.conditions[place].1)
    }

    fn holds(&self, number: u32, request: &RequestHead, random: u64) -> bool {
        let conditions = self.conditions(number);
        conditions.is_none_or(|conditions| conditions.unmet(request, random).is_none())
    }

    /// The first route, not before `from` and below `below`, whose path specifier takes the path;
    /// else `below`.
    fn next(&self, path: &[u8], from: u32, below: u32) -> u32 {
        let best = std::cell::Cell::new(below);
        let goes_on = |slot: u32| self.slots.get(slot as usize).is_some_and(|s| s[0] < best.get());
        let found = |slot: u32| {
            let routes = &self.slots[slot as usize];
            let place = routes.partition_point(|number| *number < from);
            if let Some(number) = routes.get(place) {
                best.set(best.get().min(*number));
            }
        };
        self.paths.find_all(path, goes_on, found);
        best.get()
    }
}

/// Whether a route asks for more than a path that the trie of its virtual host can find.
pub(super) fn is_candidate(route: &Route, cuts_parameters: bool) -> bool {
    match &route.matches.path {
        PathMatch::Connect => true,
        PathMatch::Template(_) if cuts_parameters => true,
        _ => !route.matches.conditions.is_empty(),
    }
}
