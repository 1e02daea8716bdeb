//! The compiled table against a naive one, and how many steps it takes.
//!
//! What it leaves to others: the parts (`trie`, `domains`, `regexes`).

use super::*;
use crate::config::{
    DirectResponse, PathMatch, Route, RouteAction, RouteConfiguration, RouteMatch, RouteTarget,
    VirtualHost, WeightedCluster,
};
use ::regex::Regex;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

fn route(name: impl Into<String>, path: PathMatch, case_sensitive: bool) -> Route {
    let target = RouteTarget::DirectResponse(DirectResponse { status: 200, body: Vec::new() });
    Route { name: name.into(), matches: RouteMatch { path, case_sensitive }, target }
}

fn prefix(path: &str) -> PathMatch {
    PathMatch::Prefix(path.to_owned())
}

fn exact(path: &str) -> PathMatch {
    PathMatch::Exact(path.to_owned())
}

fn regex(path: &str) -> PathMatch {
    PathMatch::Regex(path.to_owned())
}

fn virtual_host(name: &str, domains: &[&str], routes: Vec<Route>) -> VirtualHost {
    let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
    VirtualHost { name: name.to_owned(), domains, routes }
}

fn table(virtual_hosts: Vec<VirtualHost>) -> RouteTable {
    let config = RouteConfiguration { virtual_hosts, ..RouteConfiguration::default() };
    RouteTable::compile(Arc::new(config), |_| None)
}

fn routes(paths: impl IntoIterator<Item = PathMatch>) -> RouteTable {
    let number = |(number, path): (usize, PathMatch)| route(number.to_string(), path, true);
    let routes = paths.into_iter().enumerate().map(number).collect();
    table(vec![virtual_host("all", &["*"], routes)])
}

fn find<'a>(table: &'a RouteTable, path: &str) -> Option<&'a str> {
    table.find(b"host", path.as_bytes()).map(|route| route.name.as_str())
}

#[test]
fn the_first_route_that_matches_is_taken_even_if_a_later_one_is_longer() {
    let table = routes([prefix("/retry"), prefix("/retryX"), exact("/retry/a"), prefix("/")]);
    assert_eq!(find(&table, "/retryX"), Some("0"));
    assert_eq!(find(&table, "/retry/a"), Some("0"));
    assert_eq!(find(&table, "/other"), Some("3"));
    let table = routes([exact("/a"), regex("/[ab]"), prefix("/a")]);
    assert_eq!(find(&table, "/a"), Some("0"));
    assert_eq!(find(&table, "/b"), Some("1"));
    assert_eq!(find(&table, "/ab"), Some("2"));
    assert_eq!(find(&table, "/c"), None);
}

#[test]
fn query_and_fragment_are_ignored() {
    let table = routes([exact("/a"), regex("/b[0-9]"), prefix("/q?x")]);
    assert_eq!(find(&table, "/a?b=c"), Some("0"));
    assert_eq!(find(&table, "/a#f?g"), Some("0"));
    assert_eq!(find(&table, "/b1?/b"), Some("1"));
    assert_eq!(find(&table, "/q?x"), None);
}

#[test]
fn an_empty_path_matches_only_an_empty_prefix() {
    assert_eq!(find(&routes([prefix("/")]), ""), None);
    assert_eq!(find(&routes([prefix("")]), ""), Some("0"));
    assert_eq!(find(&routes([]), "/"), None);
}

#[test]
fn case_is_ignored_where_asked_but_not_for_a_regex() {
    let table = table(vec![virtual_host(
        "all",
        &["*"],
        vec![
            route("exact", exact("/Abc"), false),
            route("prefix", prefix("/XY"), false),
            route("regex", regex("/r[a-z]"), false),
            route("sensitive", prefix("/S"), true),
        ],
    )]);
    assert_eq!(find(&table, "/aBC"), Some("exact"));
    assert_eq!(find(&table, "/xyZ"), Some("prefix"));
    assert_eq!(find(&table, "/ra"), Some("regex"));
    assert_eq!(find(&table, "/rA"), None);
    assert_eq!(find(&table, "/s"), None);
    assert_eq!(find(&table, "/Sx"), Some("sensitive"));
}

#[test]
fn a_virtual_host_without_a_matching_route_does_not_fall_through() {
    let table = table(vec![
        virtual_host("any", &["*"], vec![route("any", prefix("/"), true)]),
        virtual_host("one", &["one.com"], vec![route("one", prefix("/one"), true)]),
    ]);
    let find = |host: &str, path: &str| table.find(host.as_bytes(), path.as_bytes());
    assert_eq!(find("ONE.com", "/one").map(|r| r.virtual_host.as_str()), Some("one"));
    assert!(find("one.com", "/two").is_none());
    assert_eq!(find("two.com", "/one").map(|r| r.name.as_str()), Some("any"));
}

#[test]
fn a_forwarding_route_knows_its_clusters() {
    let clusters = [("a", 1), ("gone", 0), ("b", 3)]
        .map(|(name, weight)| WeightedCluster { name: name.to_owned(), weight });
    let action = RouteAction {
        clusters: clusters.to_vec(),
        cluster_not_found_status: 503,
        timeout: Some(Duration::from_secs(15)),
        idle_timeout: None,
        upgrades: Vec::new(),
        prefix_rewrite: None,
        host_rewrite_literal: None,
    };
    let mut forward = route("r", prefix("/"), true);
    forward.target = RouteTarget::Forward(action);
    let config = RouteConfiguration {
        virtual_hosts: vec![virtual_host("all", &["*"], vec![forward])],
        ..RouteConfiguration::default()
    };
    let id = |name: &str| ["a", "b"].iter().position(|n| *n == name).map(|n| ClusterId(n as u32));
    let table = RouteTable::compile(Arc::new(config), id);
    let target = &table.find(b"", b"/").unwrap().target;
    let chosen: Vec<ClusterChoice> =
        (0..8).map(|random| target.choose_cluster(random).unwrap()).collect();
    let (a, b) = (ClusterId(0), ClusterId(1));
    let cycle = [(0, a), (2, b), (2, b), (2, b)];
    let expected =
        cycle.repeat(2).into_iter().map(|(i, id)| ClusterChoice { index: i, id: Some(id) });
    assert!(chosen.into_iter().eq(expected));
    let CompiledTarget::Forward { timeout, .. } = target else { panic!("does not forward") };
    assert_eq!(*timeout, Some(Duration::from_secs(15)));
}

#[test]
fn what_is_not_forwarded_chooses_no_cluster() {
    let table = routes([prefix("/")]);
    assert_eq!(table.find(b"", b"/").unwrap().target.choose_cluster(1), None);
}

fn steps(table: &RouteTable, authority: &str, path: &str) -> (u32, String) {
    let mut steps = 0;
    let route = table.find_stepwise(authority.as_bytes(), path.as_bytes(), || steps += 1);
    (steps, route.map_or(String::new(), |route| route.name.clone()))
}

#[test]
fn the_last_of_10_000_prefixes_takes_as_many_steps_as_the_first() {
    let table = routes((0..10_000).map(|i| prefix(&format!("/api/service{i:05}/"))));
    let (first, name) = steps(&table, "host", "/api/service00000/x");
    assert_eq!(name, "0");
    for number in [1, 4_999, 9_999] {
        let (last, name) = steps(&table, "host", &format!("/api/service{number:05}/x"));
        assert_eq!((last, name), (first, number.to_string()));
    }
    assert!(first <= 6, "{first} steps");
    assert!(steps(&table, "host", "/none").0 <= first);
}

#[test]
fn regexes_with_different_beginnings_are_not_tried_one_by_one() {
    let table = routes((0..500).map(|i| regex(&format!("/api/service{i:03}/[0-9]+"))));
    let (first, _) = steps(&table, "host", "/api/service000/7");
    let (last, name) = steps(&table, "host", "/api/service499/7");
    assert_eq!((last, name.as_str()), (first, "499"));
    let table = routes((0..200).map(|i| regex(&format!("/[a-z]+/item{i:03}/.*"))));
    let (steps, name) = steps(&table, "host", "/x/item199/y");
    assert_eq!(name, "199");
    assert!(steps <= 4, "{steps} steps");
}

#[test]
fn a_virtual_host_among_10_000_is_found_in_few_steps() {
    let host = |i: usize| {
        let domains = [format!("host{i:05}.example.com"), format!("*.wild{i:05}.com")];
        let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
        virtual_host(&i.to_string(), &domains, vec![route(i.to_string(), prefix("/"), true)])
    };
    let table = table((0..10_000).map(host).collect());
    let (first, _) = steps(&table, "host00000.example.com", "/");
    assert_eq!(steps(&table, "HOST09999.example.com", "/"), (first, "9999".to_owned()));
    assert!(first <= 10, "{first} steps");
    let (wild, name) = steps(&table, "a.b.wild07777.com", "/");
    assert_eq!(name, "7777");
    assert!(wild <= 12, "{wild} steps");
}

/// What Envoy does: domains by precedence, then every route in order.
fn naive<'a>(config: &'a RouteConfiguration, authority: &str, path: &str) -> Option<&'a str> {
    let authority = authority.to_ascii_lowercase();
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
    let path = path.split(['?', '#']).next().unwrap_or("");
    let matches = |route: &&Route| {
        let fold = |s: &str| match route.matches.case_sensitive {
            true => s.to_owned(),
            false => s.to_ascii_lowercase(),
        };
        match &route.matches.path {
            PathMatch::Prefix(prefix) => fold(path).starts_with(&fold(prefix)),
            PathMatch::Exact(exact) => fold(path) == fold(exact),
            PathMatch::Regex(regex) => WHOLE[regex.as_str()].is_match(path),
        }
    };
    host.1.routes.iter().find(matches).map(|route| route.name.as_str())
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
        4 => "/?[abB/]{0,5}".prop_map(PathMatch::Prefix),
        2 => "/?[abB/]{0,5}".prop_map(PathMatch::Exact),
        1 => prop::sample::select(&REGEXES[..]).prop_map(|r| PathMatch::Regex(r.to_owned())),
    ]
}

fn configuration() -> impl Strategy<Value = RouteConfiguration> {
    let route = (path_match(), prop::bool::weighted(0.7));
    let routes = prop::collection::vec(route, 0..12);
    let domains = prop::collection::vec("[ab.]{1,4}|\\*[ab.]{1,3}|[ab.]{1,3}\\*|\\*", 1..4);
    prop::collection::vec((domains, routes), 1..5).prop_map(|hosts| {
        let mut seen = HashSet::new();
        let hosts = hosts.into_iter().enumerate().map(|(h, (mut domains, routes))| {
            domains.retain(|domain| seen.insert(domain.clone()));
            let number = |(r, (path, case)): (usize, (PathMatch, bool))| {
                self::route(format!("{h}.{r}"), path, case)
            };
            let routes = routes.into_iter().enumerate().map(number).collect();
            VirtualHost { name: h.to_string(), domains, routes }
        });
        RouteConfiguration { virtual_hosts: hosts.collect(), ..RouteConfiguration::default() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_compiled_table_finds_what_a_linear_search_finds(
        config in configuration(),
        requests in prop::collection::vec(("[abAB.]{0,5}", "/?[abB/]{0,6}([?#][ab/]{0,2})?"), 30),
    ) {
        let table = RouteTable::compile(Arc::new(config.clone()), |_| None);
        for (authority, path) in &requests {
            let found = table.find(authority.as_bytes(), path.as_bytes());
            let found = found.map(|route| route.name.as_str());
            prop_assert_eq!(found, naive(&config, authority, path), "{} {}", authority, path);
        }
    }
}
