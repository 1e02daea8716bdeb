//! The compiled table against a naive one, and how many steps it takes.
//!
//! What it leaves to others: the parts (`trie`, `domains`, `regexes`).

use super::*;
use crate::config::{
    ActionOptions, DirectResponse, LevelMutations, PathMatch, Route, RouteAction,
    RouteConfiguration, RouteMatch, RouteTarget, VirtualHost, WeightedCluster,
};
use std::time::Duration;

mod naive;

fn route(name: impl Into<String>, path: PathMatch, case_sensitive: bool) -> Route {
    let response = DirectResponse { status: 200, body: Vec::new(), body_format: None };
    let target = RouteTarget::DirectResponse(response.into());
    let matches = RouteMatch { case_sensitive, ..RouteMatch::new(path) };
    Route {
        name: name.into(),
        matches,
        target,
        body_limit: None,
        mutations: LevelMutations::default(),
        metadata: Default::default(),
    }
}

/// A GET request.
fn request(authority: &str, path: &str, fields: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::default();
    head.method_name = head.headers.store(b"GET");
    head.set_authority(authority.as_bytes());
    head.set_path(path.as_bytes());
    for (name, value) in fields {
        head.headers.append(name.as_bytes(), value.as_bytes());
    }
    head
}

fn find_in<'a>(table: &'a RouteTable, authority: &str, path: &str) -> Option<&'a CompiledRoute> {
    table.find(&RouteQuery::new(&request(authority, path, &[]), 0))
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
    let routes = routes.into_iter().map(Arc::new).collect();
    VirtualHost { name: name.to_owned(), domains, routes, ..VirtualHost::default() }
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
    find_in(table, "host", path).map(|route| route.config.name.as_str())
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
    let find = |host: &str, path: &str| find_in(&table, host, path);
    assert_eq!(find("ONE.com", "/one").map(|r| r.host.name.as_str()), Some("one"));
    assert!(find("one.com", "/two").is_none());
    assert_eq!(find("two.com", "/one").map(|r| r.config.name.as_str()), Some("any"));
}

#[test]
fn a_forwarding_route_knows_its_clusters() {
    let clusters = [("a", 1), ("gone", 0), ("b", 3)].map(|(name, weight)| WeightedCluster {
        name: name.to_owned(),
        weight,
        ..Default::default()
    });
    let timeout = Some(Duration::from_secs(15));
    let options = ActionOptions { timeout, ..ActionOptions::default() };
    let action = RouteAction { clusters: clusters.into(), options: options.into() };
    let mut forward = route("r", prefix("/"), true);
    forward.target = RouteTarget::Forward(action);
    let config = RouteConfiguration {
        virtual_hosts: vec![virtual_host("all", &["*"], vec![forward])],
        ..RouteConfiguration::default()
    };
    let id = |name: &str| ["a", "b"].iter().position(|n| *n == name).map(|n| ClusterId(n as u32));
    let table = RouteTable::compile(Arc::new(config), id);
    let target = &find_in(&table, "", "/").unwrap().target;
    let chosen: Vec<ClusterChoice> =
        (0..8).map(|random| target.choose_cluster(random).unwrap()).collect();
    let (a, b) = (ClusterId(0), ClusterId(1));
    let cycle = [(0, a), (2, b), (2, b), (2, b)];
    let expected =
        cycle.repeat(2).into_iter().map(|(i, id)| ClusterChoice { index: i, id: Some(id) });
    assert!(chosen.into_iter().eq(expected));
    let CompiledTarget::Forward { options, .. } = target else { panic!("does not forward") };
    assert_eq!(options.timeout, timeout);
}

#[test]
fn what_is_not_forwarded_chooses_no_cluster() {
    let table = routes([prefix("/")]);
    assert_eq!(find_in(&table, "", "/").unwrap().target.choose_cluster(1), None);
}

fn steps(table: &RouteTable, authority: &str, path: &str) -> (u32, String) {
    let mut steps = 0;
    let head = request(authority, path, &[]);
    let route = table.find_stepwise(&RouteQuery::new(&head, 0), || steps += 1);
    (steps, route.map_or(String::new(), |route| route.config.name.clone()))
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

#[test]
fn routes_with_conditions_do_not_slow_down_those_without() {
    let mut paths: Vec<Route> = (0..10_000)
        .map(|i| route(i.to_string(), prefix(&format!("/api/service{i:05}/")), true))
        .collect();
    for number in [3, 5_000] {
        paths[number].matches.conditions_mut().grpc = true;
    }
    let table = table(vec![virtual_host("all", &["*"], paths)]);
    let (first, _) = steps(&table, "host", "/api/service00000/x");
    let (last, name) = steps(&table, "host", "/api/service09999/x");
    assert_eq!((last, name.as_str()), (first, "9999"));
    assert_eq!(steps(&table, "host", "/api/service05000/x").1, "");
}

/// Different specifiers that are one string in the trie.
#[test]
fn candidates_with_one_string_are_all_found() {
    let separated = || PathMatch::SeparatedPrefix("/a".to_owned());
    let never = || config::RuntimeFraction { numerator: 0, denominator: 100 };
    let rows: [(PathMatch, PathMatch, bool, &str); 4] = [
        (prefix("/a/"), separated(), true, "/a/b"),
        (exact("/a"), separated(), true, "/a"),
        (prefix("/a"), prefix("/A"), false, "/aB"),
        (exact("/A"), separated(), false, "/a"),
    ];
    for (first, second, case, path) in rows {
        for (one, two) in [(first.clone(), second.clone()), (second, first)] {
            let mut one = route("one", one, case);
            one.matches.conditions_mut().runtime_fraction = Some(never());
            let mut two = route("two", two, case);
            two.matches.conditions_mut().tls_context = Some(config::TlsContextMatch::default());
            let table = table(vec![virtual_host("all", &["*"], vec![one, two])]);
            assert_eq!(find(&table, path), Some("two"), "{path}");
        }
    }
}

/// One prefix, many conditions: each candidate is one step. And more prefixes of one path than are
/// remembered.
#[test]
fn candidates_are_tried_in_order() {
    let with_header = |name: &str, path: PathMatch| {
        let mut route = route(name, path, true);
        route.matches.conditions_mut().headers.push(config::HeaderMatcher {
            name: "x".to_owned(),
            value: config::HeaderValueMatch::Text(config::StringMatcher::new(
                config::StringPattern::Exact(name.to_owned()),
            )),
            invert: false,
            treat_missing_as_empty: false,
        });
        route
    };
    let long = "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    for one_path in [true, false] {
        let path = |i: usize| if one_path { prefix("/") } else { prefix(&long[..=i % 40]) };
        let mut routes: Vec<Route> =
            (0..100).map(|i| with_header(&i.to_string(), path(i))).collect();
        routes.push(route("rest", prefix("/"), true));
        let table = table(vec![virtual_host("all", &["*"], routes)]);
        for wanted in ["0", "57", "99", "rest"] {
            let head = request("h", &format!("{long}/x"), &[("x", wanted)]);
            let mut steps = 0;
            let found = table.find_stepwise(&RouteQuery::new(&head, 0), || steps += 1);
            assert_eq!(found.map(|route| route.config.name.as_str()), Some(wanted));
            let tried = wanted.parse().map_or(100, |number: u32| number + 1);
            assert!(!one_path || steps <= tried + 4, "{steps} steps to {wanted}");
        }
    }
}

#[test]
fn a_separated_prefix_ends_at_a_slash() {
    let table = routes([PathMatch::SeparatedPrefix("/sep".to_owned())]);
    for path in ["/sep", "/sep/", "/sep/x", "/sep?x"] {
        assert_eq!(find(&table, path), Some("0"), "{path}");
    }
    for path in ["/sepx", "/se", "/"] {
        assert_eq!(find(&table, path), None, "{path}");
    }
}

#[test]
fn ports_and_path_parameters_are_ignored_where_asked() {
    let template = config::UriTemplate::parse("/t/{a}/c").unwrap();
    let routes = vec![
        route("a", exact("/a"), true),
        route("t", PathMatch::Template(template.into()), true),
        route("any", prefix("/any;x"), true),
    ];
    let config = RouteConfiguration {
        virtual_hosts: vec![virtual_host("v", &["a.com", "[::1]"], routes)],
        ignore_port_in_host_matching: true,
        ignore_path_parameters_in_path_matching: true,
        ..RouteConfiguration::default()
    };
    let table = RouteTable::compile(Arc::new(config), |_| None);
    let name = |host, path| find_in(&table, host, path).map(|route| route.config.name.as_str());
    assert_eq!(name("a.com:8080", "/a;b=c"), Some("a"));
    assert_eq!(name("[::1]:80", "/a?;"), Some("a"));
    assert_eq!(name("[::1]", "/a;"), Some("a"));
    assert_eq!(name("a.com:x", "/a"), None);
    assert_eq!(name("a.com", "/any;x"), None, "what is behind a `;` is not seen");
    assert_eq!(name("a.com", "/t/x;v/c"), Some("t"), "but templates see it");
    assert_eq!(name("a.com", "/t/x"), None);
}

#[test]
fn tls_is_required_of_what_did_not_come_by_it() {
    let hosts = [("all", TlsRequirement::All), ("outside", TlsRequirement::ExternalOnly)];
    let hosts = hosts.map(|(name, require_tls)| VirtualHost {
        require_tls,
        ..virtual_host(name, &[name], vec![route("r", prefix("/"), true)])
    });
    let table = table(hosts.to_vec());
    assert!(table.requires_tls);
    let redirects = |host: &str, https, internal| {
        let head = request(host, "/", &[]);
        let query = RouteQuery { https, internal, ..RouteQuery::new(&head, 0) };
        let route = table.find(&query).unwrap();
        assert!(std::ptr::eq(table.get(route.id), route));
        matches!(route.target, CompiledTarget::RequireTls)
    };
    assert!(redirects("all", false, false) && redirects("all", false, true));
    assert!(!redirects("all", true, false));
    assert!(redirects("outside", false, false));
    assert!(!redirects("outside", false, true) && !redirects("outside", true, false));
}
