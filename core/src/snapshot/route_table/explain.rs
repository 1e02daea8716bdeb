//! Why a request takes the route that it takes: the same question as the table's, answered in the
//! plain way, route by route.
//!
//! What it leaves to others: saying it (`cli::explain`).

use super::conditions::Unmet;
use super::text::WholeRegex;
use super::{RouteQuery, RouteTable, redirects, without_parameters, without_query};
use crate::config::{PathMatch, RouteMatch};
use tidegate_http::Method;

/// How a request finds its route.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Explanation {
    /// The place of the virtual host, if there is one for the authority.
    pub virtual_host: Option<u32>,
    /// The virtual host redirects it to `https` before any route is looked at.
    pub requires_tls: bool,
    /// The virtual host has a `matcher`, which chose the routes that were looked at, if any.
    pub by_matcher: bool,
    /// The place of the first route that was looked at.
    pub first: u32,
    /// The place of the route, if there is one.
    pub route: Option<u32>,
    /// Why the routes between the first and it do not match, in order.
    pub rejected: Vec<Mismatch>,
}

/// Why a route does not match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mismatch {
    /// The path specifier does not match the path.
    Path,
    /// `connect_matcher`, and the method is not CONNECT.
    NotConnect,
    /// CONNECT has no path.
    Connect,
    /// A condition does not hold.
    Condition(Unmet),
}

impl RouteTable {
    /// Looks for the request's route as [`RouteTable::find`] does, and keeps the reasons.
    #[must_use]
    pub fn explain(&self, query: &RouteQuery<'_>) -> Explanation {
        let Some(place) = self.find_virtual_host(query.head.authority()) else {
            return Explanation::default();
        };
        let mut explanation = Explanation { virtual_host: Some(place), ..Default::default() };
        let host = &self.virtual_hosts[place as usize];
        if host.tls.as_ref().is_some_and(|tls| redirects(tls.0, query)) {
            explanation.requires_tls = true;
            return explanation;
        }
        let config = &self.config.virtual_hosts[place as usize];
        explanation.by_matcher = config.matcher.is_some();
        let Some(set) = host.routes_for(query) else { return explanation };
        explanation.first = set.places().start;
        for number in set.places() {
            let route = &config.routes[number as usize];
            let by_path = self.path_mismatch(&route.matches, query);
            let unmet = || {
                let conditions = set.conditions(number)?;
                conditions.unmet(query.head, query.random).map(Mismatch::Condition)
            };
            match by_path.or_else(unmet) {
                Some(mismatch) => explanation.rejected.push(mismatch),
                None => {
                    explanation.route = Some(number);
                    break;
                }
            }
        }
        explanation
    }

    fn path_mismatch(&self, matches: &RouteMatch, query: &RouteQuery<'_>) -> Option<Mismatch> {
        match (&matches.path, query.head.method == Method::Connect) {
            (PathMatch::Connect, true) => return None,
            (PathMatch::Connect, false) => return Some(Mismatch::NotConnect),
            (_, true) => return Some(Mismatch::Connect),
            _ => {}
        }
        let path = without_query(query.head.path());
        let cut = match self.config.ignore_path_parameters_in_path_matching {
            true => without_parameters(path),
            false => path,
        };
        let same = |a: &[u8], b: &[u8]| match matches.case_sensitive {
            true => a == b,
            false => a.eq_ignore_ascii_case(b),
        };
        let begins = |prefix: &[u8]| cut.get(..prefix.len()).is_some_and(|p| same(p, prefix));
        let takes = match &matches.path {
            PathMatch::Prefix(prefix) => begins(prefix.as_bytes()),
            PathMatch::Exact(exact) => same(cut, exact.as_bytes()),
            PathMatch::SeparatedPrefix(prefix) => {
                begins(prefix.as_bytes()) && matches!(cut.get(prefix.len()), None | Some(b'/'))
            }
            PathMatch::Regex(regex) => WholeRegex::new(regex, &mut 0).matches(cut),
            PathMatch::Template(template) => WholeRegex::new(&template.regex, &mut 0).matches(path),
            PathMatch::Connect => true,
        };
        (!takes).then_some(Mismatch::Path)
    }
}
