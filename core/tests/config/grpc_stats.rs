//! The filter `grpc_stats` in the configuration.
//!
//! What it leaves to others: rules of Envoy's .proto files (`core/tests/parity`, grpc_stats.yaml).

use super::{loaded, manager, problems, with};
use std::collections::HashSet;
use tidegate::config::{GrpcMethods, GrpcStats};

const ROUTER: &str = "- name: envoy.filters.http.router";

fn with_filter(fields: &str) -> String {
    let kind = "type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig";
    let filter = format!("- {{ name: s, typed_config: {{ \"@type\": {kind}{fields} }} }}");
    with(&[(ROUTER, &format!("{filter}\n          {ROUTER}"))])
}

fn stats(fields: &str) -> GrpcStats {
    let loaded = loaded(&with_filter(fields));
    let Some(stats) = &manager(&loaded).grpc_stats else { panic!("no filter: {fields}") };
    stats.clone()
}

#[test]
fn methods_have_names_where_they_are_asked_for() {
    let listed = |names: &[&str]| {
        GrpcMethods::Listed(names.iter().map(|name| (*name).to_owned()).collect::<HashSet<_>>())
    };
    let one =
        ", individual_method_stats_allowlist: { services: [{ name: a.S, method_names: [M] }] }";
    let dots = format!("{one}, replace_dots_in_grpc_service_name: true");
    for (fields, methods) in [
        ("", listed(&[])),
        (", stats_for_all_methods: false", listed(&[])),
        (", stats_for_all_methods: true", GrpcMethods::All),
        (one, listed(&["a.S.M"])),
        (&dots, listed(&["a_S.M"])),
    ] {
        assert_eq!(stats(fields).methods, methods, "{fields}");
    }
    assert!(stats(", enable_upstream_stats: true").times && !stats("").times);
}

#[test]
fn what_would_not_take_effect_is_refused() {
    let found = problems(&with_filter(", emit_filter_state: true"));
    assert!(found[0].contains("emit_filter_state"), "{found:#?}");
    let twice = with_filter("");
    let line =
        twice.lines().find(|line| line.contains("name: s,")).expect("it is there").to_owned();
    let twice = twice.replacen(&line, &format!("{line}\n{line}"), 1);
    let found = problems(&twice);
    assert!(found[0].contains("`grpc_stats` is there twice"), "{found:#?}");
}
