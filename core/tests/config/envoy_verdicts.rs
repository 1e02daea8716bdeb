//! Small changes to a good configuration, each with the verdict of Envoy 1.40, which is also ours; except where
//! Envoy accepts what we do not implement.
//!
//! What it leaves to others: where exactly an error points (`places`).

use super::{problems, with};

pub const OK: &str = "";
pub const CLUSTER: &str = "    type: STATIC\n";
pub const ENDPOINT: &str = "{ address: 127.0.0.1, port_value: 80 }";
const MATCH: &str = "{ prefix: \"/\" }";
const ROUTE: &str = "{ cluster: c }";
const STAT_PREFIX: &str = "          stat_prefix: s\n";
pub const ROUTER: &str = "            typed_config:\n              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n";

/// Name, what is replaced by what, and what each problem contains in order ("" for none).
pub type Row = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

pub fn check(rows: &[Row]) {
    for (name, edits, expected) in rows {
        let text = with(edits);
        let found = problems(&text);
        let expected: Vec<&str> = expected.iter().copied().filter(|part| *part != OK).collect();
        let fits = found.len() == expected.len()
            && found.iter().zip(&expected).all(|(found, part)| found.contains(part));
        assert!(fits, "{name}: expected {expected:#?}, found {found:#?}\n{text}");
    }
}

#[test]
fn spelling_and_syntax() {
    check(&[
        ("ok", &[], &[OK]),
        ("lower_enum_cluster_type", &[("STATIC", "static")], &[OK]),
        ("enum_with_dash", &[("STATIC", "strict-dns")], &[OK]),
        ("enum_by_number", &[("STATIC", "1")], &[OK]),
        ("lower_enum_lb", &[(CLUSTER, "    lb_policy: round_robin\n")], &[OK]),
        (
            "codec_lower",
            &[(STAT_PREFIX, "          stat_prefix: s\n          codec_type: auto\n")],
            &[OK],
        ),
        ("camelCase", &[("stat_prefix", "statPrefix"), ("filter_chains", "filterChains")], &[OK]),
        ("any_name_with_typed", &[("envoy.filters.http.router", "anything")], &[OK]),
        (
            "name_int_string",
            &[("name: v", "name: 50001")],
            &["expected a string, found the integer 50001"],
        ),
        (
            "name_bool_string",
            &[("name: v", "name: y")],
            &["expected a string, found the boolean y"],
        ),
        ("name_quoted_int", &[("name: v", "name: \"50001\"")], &[OK]),
        ("name_float_string", &[("name: v", "name: 1.5")], &[OK]),
        (
            "yaml_anchor",
            &[(ROUTE, "&a { cluster: c }"), ("name: r\n", "name: r\n            metadata: {}\n")],
            &[OK],
        ),
        (
            "dup_yaml_key",
            &[(STAT_PREFIX, "          stat_prefix: x\n          stat_prefix: s\n")],
            &["warning"],
        ),
        (
            "two_spellings",
            &[(STAT_PREFIX, "          stat_prefix: x\n          statPrefix: s\n")],
            &["are the same field"],
        ),
        ("hex_port", &[("port_value: 80 ", "port_value: 0x50 ")], &[OK]),
        ("octal_port", &[("port_value: 80 ", "port_value: 0120 ")], &[OK]),
        ("quoted_port", &[("port_value: 80 ", "port_value: \"80\" ")], &[OK]),
        ("whole_float_port", &[("port_value: 80 ", "port_value: 8e1 ")], &[OK]),
        ("fraction_port", &[("port_value: 80 ", "port_value: 80.5 ")], &["expected an integer"]),
        (
            "merge_key",
            &[(ROUTE, "{ <<: { cluster: c } }")],
            &["one of `cluster`", "Envoy's YAML has no merge keys"],
        ),
        (
            "null_is_absent",
            &[(STAT_PREFIX, "          stat_prefix: s\n          server_name: null\n")],
            &[OK],
        ),
        (
            "unknown_field_static",
            &[(STAT_PREFIX, "          stat_prefix: s\n          x_unknown: 1\n")],
            &["unknown field `x_unknown`"],
        ),
        (
            "ignore_tag",
            &[("static_resources:\n", "shared: !ignore { x: 1 }\nstatic_resources:\n")],
            &[OK],
        ),
        (
            "metadata_is_free",
            &[(CLUSTER, "    metadata: { filter_metadata: { a: { b: [1, x, null, true] } } }\n")],
            &[OK],
        ),
    ]);
}

#[test]
fn durations_and_ranges() {
    check(&[
        ("no_connect_timeout", &[("    connect_timeout: 1s\n", "")], &[OK]),
        (
            "connect_timeout_zero",
            &[("connect_timeout: 1s", "connect_timeout: 0s")],
            &["must be more than 0s"],
        ),
        ("duration_ms", &[("connect_timeout: 1s", "connect_timeout: 250ms")], &["(write `0.25s`)"]),
        ("duration_number", &[("connect_timeout: 1s", "connect_timeout: 5")], &["(write `5s`)"]),
        ("timeout_negative", &[(ROUTE, "{ cluster: c, timeout: -1s }")], &["must not be negative"]),
        ("timeout_zero", &[(ROUTE, "{ cluster: c, timeout: 0s }")], &[OK]),
        ("port_too_big", &[("port_value: 80 ", "port_value: 65536 ")], &["must be at most 65535"]),
        ("port_negative", &[("port_value: 80 ", "port_value: -1 ")], &["out of range"]),
        (
            "port_missing",
            &[(", port_value: 80 ", "")],
            &["one of `port_value`, `named_port` is required"],
        ),
        (
            "lb_weight_zero",
            &[("- endpoint: {", "- load_balancing_weight: 0\n          endpoint: {")],
            &["must be at least 1"],
        ),
        (
            "headers_kb_too_big",
            &[(STAT_PREFIX, "          stat_prefix: s\n          max_request_headers_kb: 8193\n")],
            &["must be at most 8192"],
        ),
        (
            "headers_kb_zero",
            &[(STAT_PREFIX, "          stat_prefix: s\n          max_request_headers_kb: 0\n")],
            &["must be more than 0"],
        ),
        (
            "status_too_small",
            &[("route: { cluster: c }", "direct_response: { status: 199 }")],
            &["must be at least 200"],
        ),
        (
            "status_too_big",
            &[("route: { cluster: c }", "direct_response: { status: 600 }")],
            &["must be less than 600"],
        ),
        (
            "redirect_port",
            &[("route: { cluster: c }", "redirect: { port_redirect: 70000 }")],
            &["70000 is not a port"],
        ),
        (
            "redirect_code",
            &[("route: { cluster: c }", "redirect: { response_code: TEAPOT }")],
            &["`TEAPOT` is not a value of"],
        ),
        (
            "redirect_two_schemes",
            &[(
                "route: { cluster: c }",
                "redirect: { https_redirect: true, scheme_redirect: http }",
            )],
            &["cannot be set together with"],
        ),
    ]);
}

#[test]
fn what_is_required() {
    check(&[
        (
            "router_no_typed_config",
            &[(ROUTER, "")],
            &[
                "`typed_config` is required (add \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            ],
        ),
        (
            "no_http_filters",
            &[
                ("          http_filters:\n          - name: envoy.filters.http.router\n", ""),
                (ROUTER, ""),
            ],
            &["`http_filters` must end with the router"],
        ),
        ("stat_prefix_missing", &[(STAT_PREFIX, "")], &["`stat_prefix` is required"]),
        (
            "stat_prefix_empty",
            &[("stat_prefix: s", "stat_prefix: \"\"")],
            &["`stat_prefix` must not be empty"],
        ),
        (
            "no_address",
            &[(
                "    address:\n      socket_address: { address: 127.0.0.1, port_value: 10000 }\n",
                "",
            )],
            &["`address` is required"],
        ),
        ("domain_empty", &[("[\"*\"]", "[]")], &["`domains` must have at least one entry"]),
        ("domain_empty_text", &[("[\"*\"]", "[\"\"]")], &["a domain must not be empty"]),
        (
            "route_match_missing",
            &[("match: { prefix: \"/\" }", "name: x")],
            &["`match` is required"],
        ),
        ("match_empty", &[(MATCH, "{}")], &["one of `prefix`, `path`, `safe_regex`"]),
        (
            "route_no_action",
            &[("                route: { cluster: c }\n", "")],
            &["one of `route`, `redirect`, `direct_response`"],
        ),
        ("cluster_name_missing", &[("  - name: c\n    type", "  - type")], &["`name` is required"]),
        (
            "virtual_host_name_missing",
            &[("- name: v\n              domains", "- domains")],
            &["`name` is required"],
        ),
        (
            "manager_without_routes",
            &[(
                "route_config:\n            name: r\n            virtual_hosts:\n            - name: v\n              domains: [\"*\"]\n              routes:\n              - match: { prefix: \"/\" }\n                route: { cluster: c }\n",
                "server_name: x\n",
            )],
            &["one of `rds`, `route_config`, `scoped_routes` is required"],
        ),
        (
            "no_filters",
            &[("    - filters:\n", "    - name: f\n    - filters:\n")],
            &["`filters` is required", "more than one filter chain"],
        ),
    ]);
}

#[test]
fn routes_and_domains() {
    check(&[
        ("dup_domain", &[("[\"*\"]", "[\"a\", \"A\"]")], &["the domain `a` is there twice"]),
        ("two_wildcards", &[("[\"*\"]", "[\"*\", \"*\"]")], &["only one `*`"]),
        ("domain_mid_wildcard", &[("[\"*\"]", "[\"a*b\"]")], &[OK]),
        ("domain_port", &[("[\"*\"]", "[\"a:80\", \"*\"]")], &[OK]),
        (
            "include_vhost_catchall_twice",
            &[(
                "            - name: v\n",
                "            - { name: w, domains: [\"*\"] }\n            - name: v\n",
            )],
            &["only one `*`"],
        ),
        (
            "dup_virtual_host",
            &[(
                "            - name: v\n",
                "            - { name: v, domains: [x] }\n            - name: v\n",
            )],
            &["duplicate virtual host `v`"],
        ),
        ("prefix_empty", &[(MATCH, "{ prefix: \"\" }")], &[OK]),
        ("path_with_query", &[(MATCH, "{ path: \"/a?b\" }")], &["warning"]),
        ("path_with_star", &[(MATCH, "{ path: \"/*\" }")], &["`*` in `/*` is only a star"]),
        (
            "two_paths",
            &[(MATCH, "{ prefix: /, path: / }")],
            &["`path` cannot be set together with `prefix`"],
        ),
        ("bad_regex", &[(MATCH, "{ safe_regex: { regex: \"(\" } }")], &["unclosed group"]),
        ("closing_regex", &[(MATCH, "{ safe_regex: { regex: \"a)|(b\" } }")], &["unopened group"]),
        ("regex_lookahead", &[(MATCH, "{ safe_regex: { regex: \"a(?=b)\" } }")], &["look-around"]),
        ("regex_empty", &[(MATCH, "{ safe_regex: { regex: \"\" } }")], &["must not be empty"]),
        (
            "regex_too_big",
            &[(MATCH, "{ safe_regex: { regex: \"(a{1000}){1000}\" } }")],
            &["size limit"],
        ),
        (
            "weights_zero",
            &[(ROUTE, "{ weighted_clusters: { clusters: [{ name: c, weight: 0 }] } }")],
            &["the weights add up to 0"],
        ),
        (
            "weights_too_big",
            &[(
                ROUTE,
                "{ weighted_clusters: { clusters: [{ name: c, weight: 4294967295 }, { name: c, weight: 1 }] } }",
            )],
            &["the weights add up to 4294967296"],
        ),
        (
            "weights_no_total",
            &[(
                ROUTE,
                "{ weighted_clusters: { clusters: [{ name: c, weight: 3 }, { name: c, weight: 9 }] } }",
            )],
            &[OK],
        ),
        (
            "weights_none",
            &[(ROUTE, "{ weighted_clusters: { clusters: [] } }")],
            &["must have at least one entry"],
        ),
        ("unknown_cluster", &[(ROUTE, "{ cluster: nope }")], &["route: unknown cluster `nope`"]),
        (
            "unknown_cluster_weighted",
            &[(ROUTE, "{ weighted_clusters: { clusters: [{ name: nope, weight: 1 }] } }")],
            &["route: unknown cluster `nope`"],
        ),
        (
            "unknown_cluster_allowed",
            &[
                (ROUTE, "{ cluster: nope }"),
                ("name: r\n", "name: r\n            validate_clusters: false\n"),
            ],
            &[OK],
        ),
        (
            "require_tls_bad",
            &[("name: v\n", "name: v\n              require_tls: SOMETIMES\n")],
            &["`SOMETIMES` is not a value of"],
        ),
        (
            "both_prefix_rewrite_regex",
            &[(
                ROUTE,
                "{ cluster: c, prefix_rewrite: /, regex_rewrite: { pattern: { regex: a }, substitution: b } }",
            )],
            &["`regex_rewrite` of envoy.config.route.v3.RouteAction is not supported yet"],
        ),
        (
            "upgrade_twice",
            &[(
                ROUTE,
                "{ cluster: c, upgrade_configs: [{ upgrade_type: websocket }, { upgrade_type: WebSocket }] }",
            )],
            &["the upgrade `websocket` is there twice"],
        ),
        (
            "body_not_there",
            &[(
                "route: { cluster: c }",
                "direct_response: { status: 200, body: { filename: /nonexistent/x } }",
            )],
            &["cannot read `/nonexistent/x`"],
        ),
        (
            "body_not_base64",
            &[(
                "route: { cluster: c }",
                "direct_response: { status: 200, body: { inline_bytes: \"!\" } }",
            )],
            &["expected bytes in base64"],
        ),
        (
            "body_without_variable",
            &[(
                "route: { cluster: c }",
                "direct_response: { status: 200, body: { environment_variable: TIDEGATE_NOT_SET } }",
            )],
            &["cannot read the environment variable"],
        ),
    ]);
}

#[test]
fn a_direct_response_has_4096_bytes_at_most() {
    let of = |length: usize, limit: &str| {
        let body = "x".repeat(length);
        let response =
            format!("direct_response: {{ status: 200, body: {{ inline_string: {body} }} }}");
        problems(&with(&[("route: { cluster: c }", &response), ("name: r\n", limit)]))
    };
    assert_eq!(of(4096, "name: r\n"), [] as [String; 0]);
    assert!(of(4097, "name: r\n")[0].contains("longer than 4096 bytes"));
    let higher = "name: r\n            max_direct_response_body_size_bytes: 5000\n";
    assert_eq!(of(5000, higher), [] as [String; 0]);
}
