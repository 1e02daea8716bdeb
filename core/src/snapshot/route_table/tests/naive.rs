//! The compiled table against what Envoy does: domains by precedence, then every route in order.
//!
//! What it leaves to others: single cases (`tests`), the parts (`trie`, `domains`, `conditions`).

use super::*;
use crate::config::{
    HeaderMatcher, HeaderValueMatch, MatchConditions, QueryParameterMatcher, QueryValueMatch,
    RuntimeFraction, StringMatcher, StringPattern,
};
use ::regex::Regex;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// One request of the property.
#[derive(Clone, Debug)]
struct Asked {
    authority: String,
    path: String,
    fields: Vec<(&'static str, String)>,
    random: u64,
}

fn naive<'a>(config: &'a RouteConfiguration, asked: &Asked) -> Option<&'a str> {
    let mut authority = asked.authority.to_ascii_lowercase();
    if config.ignore_port_in_host_matching
        && let Some((host, port)) = authority.split_once(':')
        && !port.is_empty()
    {
        authority = host.to_owned();
    }
    let all = || config.virtual_hosts.iter().flat_map(|h| h.domains.iter().map(move |d| (d, h)));
    let exact = all().find(|(domain, _)| **domain == authority);
    let suffixes = all().filter(|(domain, _)| {
        domain.len() > 1
            && domain
                .strip_prefix('*')
                .is_some_and(|suffix| authority.ends_with(suffix) && authority.len() > suffix.len())
    });
    let prefixes = all().filter(|(domain, _)| {
        domain.len() > 1
            && domain.strip_suffix('*').is_some_and(|prefix| {
                authority.starts_with(prefix) && authority.len() > prefix.len()
            })
    });
    let host = exact
        .or_else(|| suffixes.max_by_key(|(domain, _)| domain.len()))
        .or_else(|| prefixes.max_by_key(|(domain, _)| domain.len()))
        .or_else(|| all().find(|(domain, _)| *domain == "*"))?;
    let cut = config.ignore_path_parameters_in_path_matching;
    let matches = |route: &&Arc<Route>| {
        path_matches(route, &asked.path, cut) && conditions_hold(route.matches.conditions(), asked)
    };
    host.1.routes.iter().find(matches).map(|route| route.name.as_str())
}

fn path_matches(route: &Route, path: &str, cut: bool) -> bool {
    let path = path.split(['?', '#']).next().unwrap_or("");
    let path = if cut { path.split(';').next().unwrap_or("") } else { path };
    let fold = |s: &str| match route.matches.case_sensitive {
        true => s.to_owned(),
        false => s.to_ascii_lowercase(),
    };
    match &route.matches.path {
        PathMatch::Prefix(prefix) => fold(path).starts_with(&fold(prefix)),
        PathMatch::Exact(exact) => fold(path) == fold(exact),
        PathMatch::SeparatedPrefix(prefix) => fold(path)
            .strip_prefix(&fold(prefix))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        PathMatch::Regex(regex) => WHOLE[regex.as_str()].is_match(path),
        PathMatch::Template(_) | PathMatch::Connect => false,
    }
}

fn conditions_hold(conditions: &MatchConditions, asked: &Asked) -> bool {
    let fraction = conditions.runtime_fraction;
    fraction.is_none_or(|f| asked.random % u64::from(f.denominator) < u64::from(f.numerator))
        && conditions.headers.iter().all(|matcher| header_matches(matcher, asked))
        && conditions.query_parameters.iter().all(|matcher| query_matches(matcher, asked))
}

fn header_matches(matcher: &HeaderMatcher, asked: &Asked) -> bool {
    let mut values: Vec<&str> = match matcher.name.as_str() {
        ":method" => vec!["GET"],
        name => {
            let fields = asked.fields.iter().filter(|(field, _)| *field == name);
            fields.map(|(_, value)| value.as_str()).collect()
        }
    };
    if values.is_empty() && matcher.treat_missing_as_empty {
        values.push("");
    }
    let found = match &matcher.value {
        HeaderValueMatch::Present(present) => values.is_empty() != *present,
        _ if values.is_empty() => return false,
        HeaderValueMatch::Range(start, end) => {
            values.iter().any(|value| value.parse().is_ok_and(|n: i64| *start <= n && n < *end))
        }
        HeaderValueMatch::Text(text) => values.iter().any(|value| text_matches(text, value)),
    };
    found != matcher.invert
}

fn query_matches(matcher: &QueryParameterMatcher, asked: &Asked) -> bool {
    let query = asked.path.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let found = pairs.into_iter().find(|(name, _)| *name == matcher.name);
    match &matcher.value {
        QueryValueMatch::Present(present) => found.is_some() == *present,
        QueryValueMatch::Text(text) => found.is_some_and(|(_, value)| text_matches(text, value)),
    }
}

fn text_matches(matcher: &StringMatcher, text: &str) -> bool {
    let fold = |s: &str| if matcher.ignore_case { s.to_ascii_lowercase() } else { s.to_owned() };
    match &matcher.pattern {
        StringPattern::Exact(s) => fold(text) == fold(s),
        StringPattern::Prefix(s) => fold(text).starts_with(&fold(s)),
        StringPattern::Suffix(s) => fold(text).ends_with(&fold(s)),
        StringPattern::Contains(s) => fold(text).contains(&fold(s)),
        StringPattern::Regex(regex) => WHOLE[regex.as_str()].is_match(text),
    }
}

const REGEXES: [&str; 9] =
    ["/a.*", "/[ab]+", "(/a|/b)*", "/ab?c?", "/(?:a|B)/.", "", "/a/b", "a|/b", "(?i)/AB"];

/// Each of [`REGEXES`] as the regex crate sees it, for the whole path.
static WHOLE: LazyLock<HashMap<&str, Regex>> = LazyLock::new(|| {
    let whole = |regex: &str| Regex::new(&format!("^(?:{regex})$")).unwrap();
    REGEXES.iter().map(|regex| (*regex, whole(regex))).collect()
});

fn path_match() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        4 => "/?[abB/;]{0,5}".prop_map(PathMatch::Prefix),
        2 => "/?[abB/]{0,5}".prop_map(PathMatch::Exact),
        2 => "/[abB]{1,2}".prop_map(PathMatch::SeparatedPrefix),
        1 => prop::sample::select(&REGEXES[..]).prop_map(|r| PathMatch::Regex(r.to_owned())),
    ]
}

fn text() -> impl Strategy<Value = StringMatcher> {
    let pattern = prop_oneof![
        "[abB]{0,2}".prop_map(StringPattern::Exact),
        "[abB]{0,2}".prop_map(StringPattern::Prefix),
        "[abB]{0,2}".prop_map(StringPattern::Suffix),
        "[abB]{0,2}".prop_map(StringPattern::Contains),
        prop::sample::select(&REGEXES[..]).prop_map(|r| StringPattern::Regex(r.to_owned())),
    ];
    (pattern, any::<bool>())
        .prop_map(|(pattern, ignore_case)| StringMatcher { pattern, ignore_case })
}

fn header() -> impl Strategy<Value = HeaderMatcher> {
    let value = prop_oneof![
        any::<bool>().prop_map(HeaderValueMatch::Present),
        (-2_i64..3, -2_i64..3).prop_map(|(a, b)| HeaderValueMatch::Range(a, b)),
        text().prop_map(HeaderValueMatch::Text),
    ];
    let name = prop::sample::select(&["x", "via", ":method"][..]);
    (name, value, any::<bool>(), any::<bool>()).prop_map(
        |(name, value, invert, treat_missing_as_empty)| HeaderMatcher {
            name: name.to_owned(),
            value,
            invert,
            treat_missing_as_empty,
        },
    )
}

fn conditions() -> impl Strategy<Value = MatchConditions> {
    let value = prop_oneof![
        any::<bool>().prop_map(QueryValueMatch::Present),
        text().prop_map(QueryValueMatch::Text),
    ];
    let parameter = ("[ab]", value).prop_map(|(name, value)| QueryParameterMatcher { name, value });
    let fraction =
        (0_u32..=100).prop_map(|numerator| RuntimeFraction { numerator, denominator: 100 });
    let some = (
        prop::collection::vec(header(), 0..3),
        prop::collection::vec(parameter, 0..2),
        prop::option::weighted(0.2, fraction),
    );
    let some = some.prop_map(|(headers, query_parameters, runtime_fraction)| MatchConditions {
        headers,
        query_parameters,
        runtime_fraction,
        ..MatchConditions::default()
    });
    prop_oneof![Just(MatchConditions::default()), some]
}

fn configuration() -> impl Strategy<Value = RouteConfiguration> {
    let route = (path_match(), prop::bool::weighted(0.7), conditions());
    let routes = prop::collection::vec(route, 0..12);
    let domains = prop::collection::vec("[ab.]{1,4}|\\*[ab.]{1,3}|[ab.]{1,3}\\*|\\*", 1..4);
    let hosts = prop::collection::vec((domains, routes), 1..5).prop_map(|hosts| {
        let mut seen = HashSet::new();
        let hosts = hosts.into_iter().enumerate().map(|(h, (mut domains, routes))| {
            domains.retain(|domain| seen.insert(domain.clone()));
            let number = |(r, (path, case, conditions))| {
                let mut route = super::route(format!("{h}.{r}"), path, case);
                *route.matches.conditions_mut() = conditions;
                Arc::new(route)
            };
            let routes = routes.into_iter().enumerate().map(number).collect();
            VirtualHost { name: h.to_string(), domains, routes, ..VirtualHost::default() }
        });
        hosts.collect::<Vec<_>>()
    });
    (hosts, any::<bool>(), any::<bool>()).prop_map(|(virtual_hosts, port, parameters)| {
        RouteConfiguration {
            virtual_hosts,
            ignore_port_in_host_matching: port,
            ignore_path_parameters_in_path_matching: parameters,
            ..RouteConfiguration::default()
        }
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let name = prop::sample::select(&["x", "via"][..]);
    let fields = prop::collection::vec((name, "[abB]{0,2}|-?[0-2]"), 0..4);
    let path = "/?[abB/;]{0,6}([?#][ab=&/]{0,5})?";
    ("[abAB.]{0,5}(:[0-9])?", path, fields, 0_u64..300)
        .prop_map(|(authority, path, fields, random)| Asked { authority, path, fields, random })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_compiled_table_finds_what_a_linear_search_finds(
        config in configuration(),
        requests in prop::collection::vec(asked(), 30),
    ) {
        let table = RouteTable::compile(Arc::new(config.clone()), |_| None);
        for asked in &requests {
            let fields: Vec<(&str, &str)> =
                asked.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let head = request(&asked.authority, &asked.path, &fields);
            let query = RouteQuery::new(&head, asked.random);
            let found = table.find(&query);
            let name = found.map(|route| route.config.name.as_str());
            prop_assert_eq!(name, naive(&config, asked), "{:?}", asked);
            let explained = table.explain(&query);
            prop_assert_eq!(explained.route, found.map(|route| route.id.route), "{:?}", asked);
            let before = explained.rejected.len();
            prop_assert!(explained.route.is_none_or(|route| route as usize == before));
        }
    }
}
