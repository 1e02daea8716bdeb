//! The matcher of a virtual host (`xds.type.matcher.v3.Matcher`): a tree that ends in routes.
//!
//! What it leaves to others: walking it (`snapshot`), what the routes do (`route`).

use super::convert::{At, is_type};
use super::route::{Route, RouteContext};
use super::safe_regex::check_regex;
use super::string_matcher::{
    REGEX_MATCHER_FIELDS, STRING_MATCHER_FIELDS, StringMatcher, StringPattern,
};
use super::support::{SupportedMessage, kept, message, only, refused, strict, types, used};
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::r#type::matcher::v3 as inputs;
use envoy_types::pb::xds::core::v3::TypedExtensionConfig;
use envoy_types::pb::xds::r#type::matcher::v3 as xds;
use std::ops::Range;
use std::sync::Arc;
use xds::matcher::matcher_list::{
    Predicate as PbPredicate, predicate, predicate::single_predicate,
};
use xds::matcher::{MatcherType, matcher_tree, on_match};

/// A matcher, or a matcher within one.
#[derive(Clone, PartialEq, Debug)]
pub struct Matcher {
    /// `matcher_list` or `matcher_tree`
    pub cases: MatcherCases,
    /// `on_no_match`: what is done when no case holds.
    pub on_no_match: Option<Box<OnMatch>>,
}

/// The cases of a [`Matcher`].
#[derive(Clone, PartialEq, Debug)]
pub enum MatcherCases {
    /// `matcher_list`: the first that holds.
    List(Vec<(Predicate, OnMatch)>),
    /// `exact_match_map`: the one with the value of the input.
    Exact(MatchInput, Vec<(String, OnMatch)>),
    /// `prefix_match_map`: the longest that the value of the input begins with.
    Prefix(MatchInput, Vec<(String, OnMatch)>),
}

/// What is done when a case holds.
#[derive(Clone, PartialEq, Debug)]
pub enum OnMatch {
    /// `matcher`
    Matcher(Box<Matcher>),
    /// `action`: a route, or a list of routes of which the first that matches is taken. Places in
    /// `routes` of the virtual host.
    Routes(Range<usize>),
}

/// A condition of a [`MatcherCases::List`].
#[derive(Clone, PartialEq, Debug)]
pub enum Predicate {
    /// `single_predicate`: a value that is not there matches nothing.
    Value(MatchInput, StringMatcher),
    /// `and_matcher`
    All(Vec<Predicate>),
    /// `or_matcher`
    Any(Vec<Predicate>),
    /// `not_matcher`
    Not(Box<Predicate>),
}

/// The name of a header field, in lower case: `HttpRequestHeaderMatchInput`. Several values are
/// joined by commas.
pub type MatchInput = String;

const HEADER: &str = "envoy.type.matcher.v3.HttpRequestHeaderMatchInput";
const ROUTE: &str = "envoy.config.route.v3.Route";
const ROUTES: &str = "envoy.config.route.v3.RouteList";

/// What is implemented of it. What is left out would send requests elsewhere.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    strict(
        "xds.type.matcher.v3.Matcher",
        &[used("matcher_list"), used("matcher_tree"), used("on_no_match")],
    ),
    strict(
        "xds.type.matcher.v3.Matcher.OnMatch",
        &[used("matcher"), used("action"), only("keep_matching", &["false"])],
    ),
    message("xds.type.matcher.v3.Matcher.MatcherList", &[used("matchers")]),
    message(
        "xds.type.matcher.v3.Matcher.MatcherList.FieldMatcher",
        &[used("predicate"), used("on_match")],
    ),
    strict(
        "xds.type.matcher.v3.Matcher.MatcherList.Predicate",
        &[used("single_predicate"), used("or_matcher"), used("and_matcher"), used("not_matcher")],
    ),
    message(
        "xds.type.matcher.v3.Matcher.MatcherList.Predicate.PredicateList",
        &[used("predicate")],
    ),
    strict(
        "xds.type.matcher.v3.Matcher.MatcherList.Predicate.SinglePredicate",
        &[used("input"), used("value_match"), refused("custom_match")],
    ),
    strict(
        "xds.type.matcher.v3.Matcher.MatcherTree",
        &[
            used("input"),
            used("exact_match_map"),
            used("prefix_match_map"),
            refused("custom_match"),
        ],
    ),
    message("xds.type.matcher.v3.Matcher.MatcherTree.MatchMap", &[used("map")]),
    strict("xds.type.matcher.v3.StringMatcher", STRING_MATCHER_FIELDS),
    message("xds.type.matcher.v3.RegexMatcher", REGEX_MATCHER_FIELDS),
    message(
        "xds.core.v3.TypedExtensionConfig",
        &[
            kept("name", "the type in `@type` decides"),
            types("typed_config", &[HEADER, ROUTE, ROUTES]),
        ],
    ),
    message(HEADER, &[used("header_name")]),
    message(ROUTES, &[used("routes")]),
];

/// Converts a matcher and the routes in it.
pub(super) struct MatcherReader<'r> {
    pub context: &'r RouteContext<'r>,
    /// The routes that were met so far.
    pub routes: Vec<Arc<Route>>,
}

impl MatcherReader<'_> {
    /// A matcher; what is wrong is reported.
    pub(super) fn matcher(&mut self, at: &At<'_>, matcher: &xds::Matcher) -> Option<Matcher> {
        let cases = match matcher.matcher_type.as_ref()? {
            MatcherType::MatcherList(list) => {
                let at = at.field("matcher_list");
                let at = at.field("matchers");
                let mut cases = Vec::with_capacity(list.matchers.len());
                for (index, case) in list.matchers.iter().enumerate() {
                    let at = at.index(index);
                    let predicate =
                        self.predicate(&at.field("predicate"), case.predicate.as_ref()?);
                    let on_match = self.on_match(&at.field("on_match"), case.on_match.as_ref()?);
                    cases.push((predicate?, on_match?));
                }
                MatcherCases::List(cases)
            }
            MatcherType::MatcherTree(tree) => self.tree(&at.field("matcher_tree"), tree)?,
        };
        let on_no_match = match &matcher.on_no_match {
            Some(on_match) => Some(Box::new(self.on_match(&at.field("on_no_match"), on_match)?)),
            None => None,
        };
        Some(Matcher { cases, on_no_match })
    }

    fn tree(&mut self, at: &At<'_>, tree: &xds::matcher::MatcherTree) -> Option<MatcherCases> {
        let input = input(&at.field("input"), tree.input.as_ref()?)?;
        let (name, map) = match tree.tree_type.as_ref()? {
            matcher_tree::TreeType::ExactMatchMap(map) => ("exact_match_map", map),
            matcher_tree::TreeType::PrefixMatchMap(map) => ("prefix_match_map", map),
            // The reader has refused it by name.
            matcher_tree::TreeType::CustomMatch(_) => return None,
        };
        let at = at.field(name);
        let at = at.field("map");
        let mut keys: Vec<&String> = map.map.keys().collect();
        keys.sort();
        let mut cases = Vec::with_capacity(keys.len());
        for key in keys {
            cases.push((key.clone(), self.on_match(&at.key(key), &map.map[key])?));
        }
        Some(match name {
            "exact_match_map" => MatcherCases::Exact(input, cases),
            _ => MatcherCases::Prefix(input, cases),
        })
    }

    fn on_match(&mut self, at: &At<'_>, on_match: &xds::matcher::OnMatch) -> Option<OnMatch> {
        match on_match.on_match.as_ref()? {
            on_match::OnMatch::Matcher(matcher) => {
                let matcher = self.matcher(&at.field("matcher"), matcher)?;
                Some(OnMatch::Matcher(Box::new(matcher)))
            }
            on_match::OnMatch::Action(action) => self.action(&at.field("action"), action),
        }
    }

    fn action(&mut self, at: &At<'_>, action: &TypedExtensionConfig) -> Option<OnMatch> {
        let first = self.routes.len();
        let any = action.typed_config.as_ref()?;
        let at = at.field("typed_config");
        if is_type(any, ROUTE) {
            let route: pb::Route = at.unpack(any, ROUTE)?;
            self.routes.push(Arc::new(Route::from_proto(&at, &route, self.context)?));
        } else if is_type(any, ROUTES) {
            let list: pb::RouteList = at.unpack(any, ROUTES)?;
            let at = at.field("routes");
            for (index, route) in list.routes.iter().enumerate() {
                let route = Route::from_proto(&at.index(index), route, self.context)?;
                self.routes.push(Arc::new(route));
            }
        } else {
            at.error(format!("the action of a virtual host's matcher is a {ROUTE} or a {ROUTES}"));
            return None;
        }
        Some(OnMatch::Routes(first..self.routes.len()))
    }

    fn predicate(&mut self, at: &At<'_>, predicate: &PbPredicate) -> Option<Predicate> {
        let all = |reader: &mut Self, at: &At<'_>, list: &predicate::PredicateList| {
            let at = at.field("predicate");
            let mut predicates = Vec::with_capacity(list.predicate.len());
            for (index, predicate) in list.predicate.iter().enumerate() {
                predicates.push(reader.predicate(&at.index(index), predicate)?);
            }
            Some(predicates)
        };
        Some(match predicate.match_type.as_ref()? {
            predicate::MatchType::SinglePredicate(single) => {
                let at = at.field("single_predicate");
                let input = input(&at.field("input"), single.input.as_ref()?);
                let value = match single.matcher.as_ref()? {
                    single_predicate::Matcher::ValueMatch(matcher) => {
                        text(&at.field("value_match"), matcher)?
                    }
                    // The reader has refused it by name.
                    single_predicate::Matcher::CustomMatch(_) => return None,
                };
                Predicate::Value(input?, value)
            }
            predicate::MatchType::AndMatcher(list) => {
                Predicate::All(all(self, &at.field("and_matcher"), list)?)
            }
            predicate::MatchType::OrMatcher(list) => {
                Predicate::Any(all(self, &at.field("or_matcher"), list)?)
            }
            predicate::MatchType::NotMatcher(predicate) => {
                let at = at.field("not_matcher");
                Predicate::Not(Box::new(self.predicate(&at, predicate)?))
            }
        })
    }
}

fn input(at: &At<'_>, input: &TypedExtensionConfig) -> Option<MatchInput> {
    let any = input.typed_config.as_ref()?;
    let at = at.field("typed_config");
    if is_type(any, HEADER) {
        let input: inputs::HttpRequestHeaderMatchInput = at.unpack(any, HEADER)?;
        return Some(input.header_name.to_ascii_lowercase());
    }
    at.error(format!("routes are matched on header fields only: by a {HEADER}"));
    None
}

fn text(at: &At<'_>, matcher: &xds::StringMatcher) -> Option<StringMatcher> {
    use xds::string_matcher::MatchPattern;
    let pattern = match matcher.match_pattern.as_ref()? {
        MatchPattern::Exact(text) => StringPattern::Exact(text.clone()),
        MatchPattern::Prefix(text) => StringPattern::Prefix(text.clone()),
        MatchPattern::Suffix(text) => StringPattern::Suffix(text.clone()),
        MatchPattern::Contains(text) => StringPattern::Contains(text.clone()),
        MatchPattern::SafeRegex(regex) => {
            check_regex(&at.field("safe_regex").field("regex"), &regex.regex)?;
            StringPattern::Regex(regex.regex.clone())
        }
        // The reader has refused it by name.
        MatchPattern::Custom(_) => return None,
    };
    Some(StringMatcher { pattern, ignore_case: matcher.ignore_case })
}
