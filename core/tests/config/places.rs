//! Where errors point: file, line, column and path; all of them at once, in the order of the text.
//!
//! What it leaves to others: which faults there are (`envoy_verdicts`).

use super::{BASE, problems, source, try_load, with};
use tidegate::config::render;

#[test]
fn an_unknown_field_is_shown_as_a_compiler_would() {
    let text = with(&[("    address:\n", "    addres:\n")]);
    let errors = try_load(&text).unwrap_err();
    let expected = "error: unknown field `addres` in envoy.config.listener.v3.Listener
 --> c.yaml:4:5
  |
4 |     addres:
  |     ^^^^^^ did you mean `address`?
  = static_resources.listeners[0].addres

1 error
";
    assert_eq!(render(&errors, &[source(&text)]), expected);
}

#[test]
fn every_fault_is_reported_at_its_place_and_none_twice() {
    let text = with(&[
        ("port_value: 10000", "port_value: 100000"),
        ("stat_prefix: s", "stat_prefx: s"),
        ("domains: [\"*\"]", "domains: [\"*\", \"*\"]"),
        ("prefix: \"/\"", "prefix: 1"),
        ("cluster: c }", "cluster: d }"),
        ("connect_timeout: 1s", "connect_timeout: 1"),
        ("address: 127.0.0.1, port_value: 80 ", "address: a.b, port_value: x "),
    ]);
    let manager = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
    let host = format!("{manager}.route_config.virtual_hosts[0]");
    let socket = "static_resources.clusters[0].load_assignment.endpoints[0].lb_endpoints[0]\
                  .endpoint.address.socket_address";
    let expected = [
        "c.yaml:5:57: error: static_resources.listeners[0].address.socket_address.port_value: \
         `port_value` must be at most 65535"
            .to_owned(),
        format!(
            "c.yaml:11:11: error: {manager}.stat_prefx: unknown field `stat_prefx` in \
             envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager \
             (did you mean `stat_prefix`?)"
        ),
        format!(
            "c.yaml:16:30: error: {host}.domains[1]: only one `*` can be in a route configuration \
             (a domain belongs to one virtual host: put its routes there)"
        ),
        format!(
            "c.yaml:18:34: error: {host}.routes[0].match.prefix: expected a string, found the \
             integer 1 (put quotes around it: \"1\")"
        ),
        format!(
            "c.yaml:19:35: error: {host}.routes[0].route.cluster: route: unknown cluster `d` \
             (did you mean `c`?)"
        ),
        "c.yaml:27:22: error: static_resources.clusters[0].connect_timeout: expected a duration in \
         seconds, as `0.25s`, found the integer 1 (write `1s`)"
            .to_owned(),
        format!(
            "c.yaml:32:78: error: {socket}.port_value: expected an integer from 0 to 4294967295, \
             found \"x\""
        ),
    ];
    assert_eq!(problems(&text), expected);
}

#[test]
fn a_fault_that_only_conversion_finds_points_into_the_text_too() {
    let text = with(&[(
        "match: { prefix: \"/\" }",
        "match:\n                  safeRegex:\n                    regex: \"[\"",
    )]);
    let found = problems(&text);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("c.yaml:20:28: error: "), "{}", found[0]);
    assert!(found[0].contains("routes[0].match.safe_regex.regex"), "{}", found[0]);
}

#[test]
fn what_is_missing_points_to_what_it_is_missing_from() {
    let found = problems(&with(&[("          stat_prefix: s\n", "")]));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("c.yaml:10:11: error: "), "{}", found[0]);
}

#[test]
fn two_listeners_at_one_address_are_refused_at_the_second() {
    let listener =
        BASE.split("  listeners:\n").nth(1).and_then(|rest| rest.split("  clusters:").next());
    let second = listener.unwrap_or_default().replace("- name: l\n", "- name: m\n");
    let text = with(&[("  clusters:\n", &format!("{second}  clusters:\n"))]);
    let found = problems(&text);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("listeners[1].address: the listener `l` is at 127.0.0.1:10000"));
    let any_port = text.replace("port_value: 10000", "port_value: 0");
    assert_eq!(problems(&any_port), [] as [String; 0]);
}

#[test]
fn syntax_errors_have_a_place() {
    let rows = [
        ("a: [1,\n", "c.yaml:2:1: error: not valid YAML"),
        ("admin:\n\taddress: x\n", "c.yaml:2:"),
        ("a: b: c\n", "c.yaml:1:5: error: not valid YAML"),
        ("{\"static_resources\": [}", "c.yaml:1:"),
        ("", "c.yaml:1:1: error: the configuration is empty"),
        ("# only a comment\n", "c.yaml:1:1: error: the configuration is empty"),
        (
            "[]",
            "c.yaml:1:1: error: expected a mapping (envoy.config.bootstrap.v3.Bootstrap), found a ",
        ),
        (
            "x",
            "c.yaml:1:1: error: expected a mapping (envoy.config.bootstrap.v3.Bootstrap), found ",
        ),
    ];
    for (text, expected) in rows {
        let found = problems(text);
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        assert!(found[0].starts_with(expected), "{text}: {}", found[0]);
    }
}

#[test]
fn an_alias_points_to_what_it_stands_for() {
    let text = with(&[
        ("static_resources:\n", "!ignore shared:\n  t: &t 250ms\nstatic_resources:\n"),
        ("connect_timeout: 1s", "connect_timeout: *t"),
    ]);
    let found = problems(&text);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].starts_with("c.yaml:2:9: error: static_resources.clusters[0].connect_timeout")
    );
}
