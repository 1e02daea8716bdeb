//! Configurations of Envoy's v2 API, and slips that people make: each construct is reported, with
//! its v3 name.
//!
//! What it leaves to others: configurations that are right.

use super::{BASE, problems, with};

fn check(text: &str, expected: &[&str]) {
    let found = problems(text);
    let places: Vec<&str> =
        found.iter().map(|problem| problem.trim_start_matches("c.yaml:")).collect();
    let fits = places.len() == expected.len()
        && places.iter().zip(expected).all(|(place, expected)| {
            let (at, part) = expected.split_once(' ').unwrap_or_default();
            place.starts_with(&format!("{at}: ")) && place.contains(part)
        });
    assert!(fits, "expected {expected:#?}, found {places:#?}");
}

#[test]
fn a_front_proxy_of_v2() {
    check(
        include_str!("../fixtures/v2-front-proxy.yaml"),
        &[
            "10:9 envoy.config.listener.v3.Filter (v3 has `typed_config` with \"@type\"",
            "24:13 http_connection_manager.v3.HttpFilter (v3 has `typed_config` with",
            "31:5 unknown field `hosts` in envoy.config.cluster.v3.Cluster (v3 has",
        ],
    );
}

#[test]
fn a_tls_upstream_of_v2() {
    check(
        include_str!("../fixtures/v2-tls-upstream.yaml"),
        &[
            "10:20 Envoy has no message `envoy.config.filter.network.http_connection_manager.v2",
            "27:5 unknown field `hosts`",
            "28:5 unknown field `tls_context` in envoy.config.cluster.v3.Cluster (v3 has",
        ],
    );
}

#[test]
fn a_route_of_v2() {
    check(
        include_str!("../fixtures/v2-route.yaml"),
        &[
            "8:9 unknown field `config`",
            "16:26 `host_rewrite` of envoy.config.route.v3.RouteAction is not supported yet (v3",
            "17:35 route: unknown cluster `web`",
            "18:26 unknown field `regex` in envoy.config.route.v3.RouteMatch (v3 has `safe_regex",
            "20:13 `typed_config` is required (add \"@type\"",
        ],
    );
}

#[test]
fn an_eds_cluster_of_v2_is_one_of_v3() {
    check(include_str!("../fixtures/v2-eds.yaml"), &[]);
}

#[test]
fn slips_that_envoy_answers_with_the_whole_configuration() {
    check(
        include_str!("../fixtures/slips.yaml"),
        &[
            "4:5 `address` is required (a listener needs a `socket_address` to listen on",
            "4:5 `filter_chains` is required",
            "16:21 expected a string, found the integer 50001 (put quotes around it: \"50001\")",
            "19:32 warning: static_resources.listeners[1]",
            "20:35 route: unknown cluster `shop.default`",
        ],
    );
}

#[test]
fn constructs_of_v2_are_told_their_names_in_v3() {
    let manager = |field: &str| {
        with(&[("stat_prefix: s\n", &format!("stat_prefix: s\n          {field}\n"))])
    };
    let action = |field: &str| {
        with(&[("route: { cluster: c }", &format!("route: {{ cluster: c, {field} }}"))])
    };
    let of_filter = |name: &str| {
        with(&[(
            "          http_filters:\n",
            &format!(
                "          http_filters:\n          - name: {name}\n            config: {{}}\n"
            ),
        )])
    };
    let cluster =
        |field: &str| with(&[("    type: STATIC\n", &format!("    type: STATIC\n    {field}\n"))]);
    let type_url = |url: &str| {
        let router = "envoy.extensions.filters.http.router.v3.Router";
        with(&[(router, url)])
    };
    let rows = [
        (manager("idle_timeout: 5s"), "v3 has `common_http_protocol_options` for it"),
        (action("use_websocket: true"), "v3 has `upgrade_configs: [{upgrade_type: websocket}]`"),
        (action("request_mirror_policy: {}"), "v3 has the list `request_mirror_policies`"),
        (action("host_rewrite: a"), "v3 calls it `host_rewrite_literal`"),
        (of_filter("envoy.cors"), "envoy.extensions.filters.http.cors.v3.Cors, which is not supp"),
        (
            of_filter("envoy.health_check"),
            "type.googleapis.com/envoy.extensions.filters.http.health",
        ),
        (cluster("tls_context: {}"), "v3.UpstreamTlsContext}}` instead"),
        (cluster("hosts: []"), "`load_assignment: {cluster_name: ..., endpoints: [{lb_endpoints:"),
        (cluster("health_check: []"), "the field is called `health_checks`"),
        (
            type_url("envoy.config.filter.http.router.v2.Router"),
            "in v3 it is `type.googleapis.com/envoy.extensions.filters.http.router.v3.Router`",
        ),
        (
            type_url("envoy.config.filter.http.ext_authz.v2.ExtAuthz"),
            "in v3 it is `envoy.extensions.filters.http.ext_authz.v3.ExtAuthz`, which is not supp",
        ),
        (
            type_url("envoy.extensions.filters.http.lua.v3.Lua"),
            "the extension `envoy.extensions.filters.http.lua.v3.Lua` is not supported yet",
        ),
        (
            BASE.replace("type: STATIC", "type: EDS\n    eds_cluster_config: {}"),
            "`eds_config` is required (`ads: {}` for example)",
        ),
    ];
    for (text, hint) in rows {
        let found = problems(&text);
        assert!(found.iter().any(|problem| problem.contains(hint)), "{hint}: {found:#?}\n{text}");
    }
}

#[test]
fn a_prompt_of_a_shell_before_the_configuration_is_pointed_at() {
    check(
        "$ docker exec -it 246f9a537172 cat /etc/envoy/envoy.yaml\nadmin:\n  address: {}\n",
        &["2:6 the line before it has no `key:`: does it belong to the configuration?"],
    );
}

#[test]
fn a_fragment_is_told_where_it_belongs() {
    check("listeners: []\n", &["1:1 it belongs below `static_resources`"]);
    check("clusters: []\n", &["1:1 it belongs below `static_resources`"]);
    check("route_config: {}\n", &["1:1 it belongs below an HttpConnectionManager"]);
    check(
        "version: '3'\nservices: {}\n",
        &[
            "1:1 unknown field `version`",
            "2:1 a configuration has `static_resources`, `admin`, `node` and more",
        ],
    );
}
