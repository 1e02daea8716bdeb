//! Configurations of Envoy's v2 API, and slips that people make: each construct is reported, with
//! its v3 name.
//!
//! What it leaves to others: configurations that are right.

use super::problems;

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
            "30:5 `http2_protocol_options` of envoy.config.cluster.v3.Cluster is not supported yet",
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
fn an_eds_cluster_of_v2() {
    check(
        include_str!("../fixtures/v2-eds.yaml"),
        &[
            "4:11 `type: EDS` is not supported yet",
            "5:5 `eds_cluster_config` of envoy.config.cluster.v3.Cluster is not supported yet",
        ],
    );
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
fn a_fragment_is_told_where_it_belongs() {
    check("listeners: []\n", &["1:1 it belongs below `static_resources`"]);
    check("clusters: []\n", &["1:1 it belongs below `static_resources`"]);
    check("route_config: {}\n", &["1:1 it belongs below an HttpConnectionManager"]);
    check(
        "version: '3'\nservices: {}\n",
        &["1:1 unknown field `version`", "2:1 unknown field `services`"],
    );
}
