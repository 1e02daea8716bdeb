//! A small text must not take much time or memory, whatever it says: each of these once did, or
//! would without a limit.
//!
//! What it leaves to others: texts that nobody thought of (`core/fuzz`).

use super::{problems, try_load, with};
use std::fmt::Write;
use std::time::{Duration, Instant};
use tidegate::config::{MAX_SOURCE_BYTES, Options, load, read_bytes, render};

/// A route for each regex.
fn regex_routes(regexes: impl Iterator<Item = String>) -> String {
    let mut routes = String::new();
    for regex in regexes {
        let _ = writeln!(
            routes,
            "              - {{ match: {{ safe_regex: {{ regex: {regex:?} }} }}, route: {{ cluster: c }} }}"
        );
    }
    with(&[(
        "              - match: { prefix: \"/\" }\n                route: { cluster: c }\n",
        &routes,
    )])
}

#[allow(clippy::disallowed_methods, reason = "no shard runs here; the time is what is tested")]
fn soon<T>(what: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let found = what();
    let taken = begin.elapsed();
    assert!(taken < Duration::from_secs(20), "{taken:?}");
    found
}

#[test]
fn regexes_have_one_limit_together() {
    for regex in ["(a{1000}){200}", "(?i)\\pL{100}", "((a{900}){900})"] {
        let text = regex_routes((0..500).map(|number| format!("/{number}{regex}")));
        let found = soon(|| problems(&text));
        let said = "the regexes up to here take more than 64 MiB";
        assert!(found.iter().any(|problem| problem.contains(said)), "{regex}: {found:?}");
    }
    let usual = regex_routes((0..3000).map(|number| format!("/v[0-9]+/{number}/[^/]+(/.*)?")));
    assert_eq!(soon(|| problems(&usual)), [] as [String; 0]);
}

#[test]
fn regexes_of_tags_count_too() {
    let mut tags = String::from("stats_config:\n  stats_tags:\n");
    for number in 0..200 {
        let _ = writeln!(tags, "  - {{ tag_name: t{number}, regex: '((a{{1000}}){{100}})' }}");
    }
    let found = soon(|| problems(&tags));
    assert!(found.iter().any(|problem| problem.contains("take more than 64 MiB")), "{found:?}");
}

#[test]
fn a_table_size_beyond_all_tables_is_no_work() {
    let sizes = "lb_policy: MAGLEV\n    maglev_lb_config: { table_size: 18446744073709551557 }";
    let found =
        soon(|| problems(&with(&[("type: STATIC", &format!("type: STATIC\n    {sizes}"))])));
    assert!(found.iter().any(|problem| problem.contains("maglev_lb_config")), "{found:?}");
}

#[test]
fn a_long_line_full_of_errors_is_shown_soon() {
    let clusters = "{name: same},".repeat(20_000);
    let text = format!("static_resources: {{ clusters: [{clusters}] }}\n");
    let errors = try_load(&text).unwrap_err();
    let last = errors.0.last().map(|error| error.reason.clone()).unwrap_or_default();
    assert!(last.contains("there are more faults"), "{last}");
    let shown = soon(|| render(&errors, &[super::source(&text)]));
    assert!(shown.len() < 2 << 20, "{} bytes", shown.len());
}

#[test]
fn a_long_key_is_not_in_every_path() {
    let keys: String = (0..2000).map(|key| format!("k{key}: {{ x: [a: b] }}, ")).collect();
    let text =
        format!("node: {{ metadata: {{ '{}': {{ {keys} }} }}, x: 1 }}\n", "k".repeat(60_000));
    let errors = try_load(&text).unwrap_err();
    assert!(errors.to_string().len() < 1 << 20);
}

#[test]
fn bytes_that_are_no_text_or_too_many() {
    let refused = |name: &str, bytes: Vec<u8>| read_bytes(name.into(), bytes).unwrap_err();
    let error = refused("a.yaml", b"a: 1\nb: \xff".to_vec());
    assert_eq!(error.to_string(), "a.yaml:2:1: error: the file is not UTF-8 text");
    let error = refused("a.yaml", vec![b' '; MAX_SOURCE_BYTES + 1]);
    assert_eq!(error.to_string(), "a.yaml:1:1: error: longer than 64 MiB");
    let error = refused("a.pb", b"\x08".to_vec()).to_string();
    assert!(error.starts_with("a.pb:1:1: error: cannot be decoded as envoy.config"), "{error}");
}

#[test]
fn a_bootstrap_as_protobuf_shows_its_faults_as_json() {
    // node { id: "n" } header_prefix: "x"
    let bytes = b"\x0a\x03\x0a\x01n\x92\x01\x01x".to_vec();
    let source = read_bytes("a.pb".into(), bytes).unwrap();
    assert_eq!(source.name, "a.pb (as JSON)");
    let sources = [source];
    let errors = load(&sources, &Options::default()).unwrap_err();
    let shown = render(&errors, &sources);
    assert!(shown.contains("--> a.pb (as JSON):5:3"), "{shown}");
    assert!(shown.contains("5 |   \"header_prefix\": \"x\""), "{shown}");
}
