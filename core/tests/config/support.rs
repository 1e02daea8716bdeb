//! What is not implemented: refused by its path, or reported where that is allowed.
//!
//! What it leaves to others: what is implemented.

use super::{problems, source, with};
use tidegate::config::{Options, Severity, Support, load, supported_messages};

const MANAGER: &str = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";

fn allowed(text: &str) -> Result<Vec<String>, Vec<String>> {
    let lines = |errors: Vec<tidegate::config::ConfigError>| {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    load(&[source(text)], &Options { allow_unsupported: true })
        .map(|(_, warnings)| lines(warnings))
        .map_err(|errors| lines(errors.0))
}

#[test]
fn what_is_not_implemented_is_refused_by_its_path() {
    let route = format!("{MANAGER}.route_config.virtual_hosts[0].routes[0]");
    let matches = "match: { prefix: \"/\" }";
    let metadata = "match: { prefix: \"/\", dynamic_metadata: [{ filter: f }] }";
    let bootstrap = "hds_config: `hds_config` of envoy.config.bootstrap.v3.Bootstrap";
    let rows = [
        (
            "{ cluster: c }",
            "{ cluster: c, hedge_policy: {} }",
            format!("{route}.route.hedge_policy: `hedge_policy` of envoy.config.route.v3."),
        ),
        (matches, metadata, format!("{route}.match.dynamic_metadata: `dynamic_metadata` of")),
        (
            "stat_prefix: s",
            "stat_prefix: s\n          tracing: {}",
            format!("{MANAGER}.tracing: `tracing` of"),
        ),
        (
            "stat_prefix: s",
            "stat_prefix: s\n          codec_type: HTTP3",
            format!("{MANAGER}.codec_type: `codec_type: HTTP3` is not supported yet; supported"),
        ),
        (
            "stat_prefix: s",
            "stat_prefix: s\n          append_local_overload: true",
            format!("{MANAGER}.append_local_overload: `append_local_overload: true` is not"),
        ),
        (
            "    type: STATIC",
            "    type: STATIC\n    outlier_detection: {}",
            "static_resources.clusters[0].outlier_detection: `outlier_detection` of".to_owned(),
        ),
        (
            "static_resources:",
            "hds_config: {}\nstatic_resources:",
            format!("{bootstrap} is not supported yet"),
        ),
    ];
    for (from, to, expected) in rows {
        let found = problems(&with(&[(from, to)]));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains(&expected), "{}", found[0]);
    }
}

#[test]
fn what_is_the_default_is_accepted() {
    let text = with(&[(
        "stat_prefix: s",
        "stat_prefix: s
          normalize_path: false
          xff_num_trusted_hops: 0
          forward_client_cert_details: SANITIZE
          internal_address_config: {}",
    )]);
    assert_eq!(problems(&text), [] as [String; 0]);
}

#[test]
fn where_it_is_allowed_it_is_a_warning_with_the_same_path() {
    let text = with(&[("route: { cluster: c }", "route: { cluster: c, hedge_policy: {} }")]);
    let warnings = allowed(&text).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains("warning: static_resources"), "{}", warnings[0]);
    assert!(warnings[0].contains("not supported yet; it is ignored"), "{}", warnings[0]);
}

#[test]
fn what_decides_where_requests_go_is_never_ignored() {
    let rows = [
        ("match: { prefix: \"/\" }", "match: { prefix: \"/\", filter_state: [{ key: x }] }"),
        ("    - filters:", "    - filter_chain_match: { suffix_len: 8 }\n      filters:"),
        ("    type: STATIC", "    type: ORIGINAL_DST\n    lb_policy: CLUSTER_PROVIDED"),
        ("    type: STATIC", "    transport_socket_matches: [{ name: x }]"),
        (
            "envoy.extensions.filters.http.router.v3.Router",
            "envoy.extensions.filters.http.rbac.v3.RBAC",
        ),
    ];
    for (from, to) in rows {
        let errors = allowed(&with(&[(from, to)])).unwrap_err();
        let strict =
            errors.iter().any(|e| e.contains("ignoring it would change where requests go"));
        assert!(strict, "{errors:#?}");
    }
}

#[test]
fn an_unknown_field_is_an_error_also_where_unsupported_ones_are_allowed() {
    let text = with(&[("stat_prefix: s", "stat_prefix: s\n          no_such_field: 1")]);
    assert!(allowed(&text).unwrap_err()[0].contains("unknown field"));
}

#[test]
fn what_has_no_effect_is_reported() {
    let text = with(&[("static_resources:\n", "watchdogs: {}\nstatic_resources:\n")]);
    let (_, warnings) = load(&[source(&text)], &Options::default()).unwrap();
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].severity, Severity::Warning);
    assert_eq!(warnings[0].reason, "`watchdogs` has no effect: there is no watchdog yet");
}

#[test]
fn every_field_that_is_accepted_without_effect_has_a_reason() {
    let mut used = 0;
    for message in supported_messages() {
        for field in message.fields {
            match field.support {
                Support::Kept(reason) | Support::Reported(reason) => {
                    assert!(reason.len() > 10, "{}.{}", message.message, field.name);
                }
                Support::Used => used += 1,
                Support::Types(_)
                | Support::FirstOf(_)
                | Support::Only(_)
                | Support::Must(_)
                | Support::Refused => {}
            }
        }
    }
    assert!(used > 80, "{used}");
}
