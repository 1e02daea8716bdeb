//! The matcher of a virtual host, compiled: a tree that ends in sets of routes.
//!
//! What it leaves to others: the choice within a set (`route_set`).

use super::conditions::Source;
use super::route_set::RouteSet;
use super::text::TextMatch;
use crate::config::{self, MatcherCases, Route};
use std::collections::HashMap;
use std::sync::Arc;
use tidegate_http::RequestHead;

/// A compiled [`config::Matcher`].
#[derive(Debug)]
pub(super) struct CompiledMatcher {
    cases: Cases,
    on_no_match: Option<OnMatch>,
}

#[derive(Debug)]
enum Cases {
    List(Vec<(Predicate, OnMatch)>),
    Exact(Source, HashMap<Vec<u8>, OnMatch>),
    /// The longest prefix first.
    Prefix(Source, Vec<(Vec<u8>, OnMatch)>),
}

#[derive(Debug)]
enum OnMatch {
    Matcher(Box<CompiledMatcher>),
    Routes(RouteSet),
}

#[derive(Debug)]
enum Predicate {
    Value(Source, TextMatch),
    All(Vec<Predicate>),
    Any(Vec<Predicate>),
    Not(Box<Predicate>),
}

/// What compiling needs to know.
pub(super) struct Compiling<'c> {
    /// The routes of the virtual host.
    pub routes: &'c [Arc<Route>],
    /// `ignore_path_parameters_in_path_matching`
    pub cuts_parameters: bool,
    /// Counts the automata that turned out too large.
    pub failures: &'c mut u32,
}

impl CompiledMatcher {
    pub(super) fn new(matcher: &config::Matcher, with: &mut Compiling<'_>) -> CompiledMatcher {
        let cases = match &matcher.cases {
            MatcherCases::List(cases) => Cases::List(
                cases
                    .iter()
                    .map(|(predicate, on_match)| {
                        (Predicate::new(predicate, with), OnMatch::new(on_match, with))
                    })
                    .collect(),
            ),
            MatcherCases::Exact(input, cases) => {
                let case = |(key, on_match): &(String, config::OnMatch)| {
                    (key.clone().into_bytes(), OnMatch::new(on_match, with))
                };
                Cases::Exact(Source::of(input), cases.iter().map(case).collect())
            }
            MatcherCases::Prefix(input, cases) => {
                let case = |(key, on_match): &(String, config::OnMatch)| {
                    (key.clone().into_bytes(), OnMatch::new(on_match, with))
                };
                let mut cases: Vec<_> = cases.iter().map(case).collect();
                cases.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
                Cases::Prefix(Source::of(input), cases)
            }
        };
        let on_no_match = matcher.on_no_match.as_ref();
        CompiledMatcher { cases, on_no_match: on_no_match.map(|found| OnMatch::new(found, with)) }
    }

    /// The set of routes that a request is led to. A case whose own matcher finds nothing does not
    /// count, as in Envoy.
    pub(super) fn find(&self, request: &RequestHead) -> Option<&RouteSet> {
        let found = match &self.cases {
            Cases::List(cases) => cases
                .iter()
                .filter(|(predicate, _)| predicate.holds(request))
                .find_map(|(_, on_match)| on_match.find(request)),
            Cases::Exact(input, cases) => input
                .joined(request)
                .and_then(|value| cases.get(&*value))
                .and_then(|on_match| on_match.find(request)),
            Cases::Prefix(input, cases) => input.joined(request).and_then(|value| {
                let begins = |(prefix, _): &&(Vec<u8>, OnMatch)| value.starts_with(prefix);
                cases.iter().filter(begins).find_map(|(_, on_match)| on_match.find(request))
            }),
        };
        found.or_else(|| self.on_no_match.as_ref()?.find(request))
    }
}

impl OnMatch {
    fn new(on_match: &config::OnMatch, with: &mut Compiling<'_>) -> OnMatch {
        match on_match {
            config::OnMatch::Matcher(matcher) => {
                OnMatch::Matcher(Box::new(CompiledMatcher::new(matcher, with)))
            }
            config::OnMatch::Routes(places) => {
                let routes = with.routes.get(places.clone()).unwrap_or_default();
                let first = places.start as u32;
                OnMatch::Routes(RouteSet::new(routes, first, with.cuts_parameters, with.failures))
            }
        }
    }

    fn find(&self, request: &RequestHead) -> Option<&RouteSet> {
        match self {
            OnMatch::Matcher(matcher) => matcher.find(request),
            OnMatch::Routes(set) => Some(set),
        }
    }
}

impl Predicate {
    fn new(predicate: &config::Predicate, with: &mut Compiling<'_>) -> Predicate {
        let mut all = |predicates: &[config::Predicate]| {
            predicates.iter().map(|predicate| Predicate::new(predicate, with)).collect()
        };
        match predicate {
            config::Predicate::All(predicates) => Predicate::All(all(predicates)),
            config::Predicate::Any(predicates) => Predicate::Any(all(predicates)),
            config::Predicate::Not(predicate) => {
                Predicate::Not(Box::new(Predicate::new(predicate, with)))
            }
            config::Predicate::Value(input, text) => {
                Predicate::Value(Source::of(input), TextMatch::new(text, with.failures))
            }
        }
    }

    fn holds(&self, request: &RequestHead) -> bool {
        match self {
            Predicate::Value(input, text) => {
                input.joined(request).is_some_and(|value| text.matches(&value))
            }
            Predicate::All(predicates) => predicates.iter().all(|one| one.holds(request)),
            Predicate::Any(predicates) => predicates.iter().any(|one| one.holds(request)),
            Predicate::Not(predicate) => !predicate.holds(request),
        }
    }
}
