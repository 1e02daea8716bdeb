//! The choice among routes in order: those of a virtual host, or of one action of its matcher.
//!
//! What it leaves to others: which set (`matcher`), what the routes do.

use super::candidates::{Candidates, is_candidate};
use super::conditions::Conditions;
use super::paths::Paths;
use super::trie::NONE;
use super::{RouteQuery, without_parameters, without_query};
use crate::config::Route;
use std::sync::Arc;
use tidegate_http::Method;

/// Some routes of a virtual host, which stand side by side in it.
#[derive(Debug)]
pub(super) struct RouteSet {
    /// Routes that ask for a path only.
    paths: Paths,
    /// The others, if there are any.
    candidates: Option<Box<Candidates>>,
    /// The place of the first in the virtual host.
    first: u32,
    count: u32,
    /// Paths are matched up to their first `;`.
    cuts_parameters: bool,
}

impl RouteSet {
    pub(super) fn new(
        routes: &[Arc<Route>],
        first: u32,
        cuts_parameters: bool,
        failures: &mut u32,
    ) -> RouteSet {
        let plain = (0..).zip(routes).filter(|(_, route)| !is_candidate(route, cuts_parameters));
        let plain = plain
            .map(|(number, route)| (number, &route.matches.path, route.matches.case_sensitive));
        RouteSet {
            paths: Paths::new(plain, failures),
            candidates: Candidates::new(routes, cuts_parameters, failures).map(Box::new),
            first,
            count: routes.len() as u32,
            cuts_parameters,
        }
    }

    /// The place of the first route that takes the request.
    pub(super) fn find(&self, query: &RouteQuery<'_>, mut step: impl FnMut()) -> Option<u32> {
        let candidates = self.candidates.as_deref();
        let number = if query.head.method == Method::Connect {
            // It has no path, which only a `connect_matcher` does not ask for.
            candidates?.find_connect(query.head, query.random)
        } else {
            let path = match self.cuts_parameters {
                true => without_parameters(query.head.path()),
                false => without_query(query.head.path()),
            };
            let number = self.paths.find(path, &mut step);
            match candidates {
                Some(others) => others.find(query.head, path, query.random, number, step),
                None => number,
            }
        };
        if number == NONE { None } else { Some(self.first + number) }
    }

    /// The places of its routes in the virtual host.
    pub(super) fn places(&self) -> std::ops::Range<u32> {
        self.first..self.first + self.count
    }

    /// The conditions of a route, if it has any.
    pub(super) fn conditions(&self, number: u32) -> Option<&Conditions> {
        self.candidates.as_ref()?.conditions(number.checked_sub(self.first)?)
    }
}
