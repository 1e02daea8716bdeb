//! What finding a route costs, first against last of many, and what compiling a table costs.
//!
//! What it leaves to others: what is done with the route.
#![allow(clippy::disallowed_methods)] // a benchmark reads the clock itself

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use tidegate::config::{
    DirectResponse, LevelMutations, Metadata, PathMatch, Route, RouteConfiguration, RouteMatch,
    RouteTarget, VirtualHost,
};
use tidegate::snapshot::{RouteQuery, RouteTable};
use tidegate_http::RequestHead;

const ROUNDS: u32 = 1_000_000;

fn table(hosts: usize, routes: usize, path: impl Fn(usize) -> PathMatch) -> (RouteTable, f64) {
    let target = || {
        let response = DirectResponse { status: 200, body: Vec::new(), body_format: None };
        RouteTarget::DirectResponse(response.into())
    };
    let route = |number| Route {
        name: String::new(),
        matches: RouteMatch::new(path(number)),
        target: target(),
        body_limit: None,
        mutations: LevelMutations::default(),
        metadata: Metadata::default(),
    };
    let host = |number| VirtualHost {
        name: String::new(),
        domains: match hosts {
            1 => vec!["*".to_owned()],
            _ => vec![format!("host{number:05}.example.com")],
        },
        routes: (0..routes).map(route).map(Arc::new).collect(),
        ..VirtualHost::default()
    };
    let virtual_hosts = (0..hosts).map(host).collect();
    let config = Arc::new(RouteConfiguration { virtual_hosts, ..Default::default() });
    let start = Instant::now();
    let table = RouteTable::compile(config, |_| None);
    (table, start.elapsed().as_secs_f64() * 1_000.0)
}

/// The fastest of several runs, in nanoseconds.
fn find(table: &RouteTable, authority: &str, path: &str) -> f64 {
    let mut best = f64::MAX;
    let mut head = RequestHead::default();
    head.set_authority(authority.as_bytes());
    head.set_path(path.as_bytes());
    assert!(table.find(&RouteQuery::new(&head, 0)).is_some());
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            black_box(table.find(&RouteQuery::new(black_box(&head), 0)));
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    }
    best
}

fn report(name: &str, compile_ms: f64, first: f64, last: f64) {
    let ratio = last / first;
    println!(
        "{name:<28} compile {compile_ms:>7.1} ms, first {first:>6.1} ns, last {last:>6.1} ns, \
         ratio {ratio:.2}"
    );
}

fn paths(
    name: &str,
    routes: usize,
    path: impl Fn(usize) -> PathMatch,
    request: fn(usize) -> String,
) {
    let (table, compile_ms) = table(1, routes, path);
    let first = find(&table, "example.com", &request(0));
    report(name, compile_ms, first, find(&table, "example.com", &request(routes - 1)));
}

fn main() {
    let prefix = |i| PathMatch::Prefix(format!("/api/service{i:05}/"));
    let request = |i| format!("/api/service{i:05}/users/42?x=y");
    paths("1 prefix", 1, |_| PathMatch::Prefix("/".to_owned()), request);
    paths("10 prefixes", 10, prefix, request);
    paths("10,000 prefixes", 10_000, prefix, request);
    let exact = |i| PathMatch::Exact(format!("/api/service{i:05}/users/42"));
    paths("10,000 exact", 10_000, exact, request);
    let regex = |i| PathMatch::Regex(format!("/api/service{i:05}/users/[0-9]+"));
    paths("1,000 regexes", 1_000, regex, request);
    let regex = |i| PathMatch::Regex(format!("/[a-z]+/service{i:05}/users/[0-9]+"));
    paths("1,000 regexes, no literal", 1_000, regex, request);
    let (table, compile_ms) = table(10_000, 1, |_| PathMatch::Prefix("/".to_owned()));
    let first = find(&table, "host00000.example.com", "/");
    report("10,000 hosts", compile_ms, first, find(&table, "host09999.example.com", "/"));
}
