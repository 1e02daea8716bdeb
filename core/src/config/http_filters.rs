//! The filters of an HTTP connection manager, the last of which is the router; and the upgrades
//! that it lets pass.
//!
//! What it leaves to others: routing (`proxy::router`), what other filters do (`grpc_stats`).

use super::convert::{At, is_type};
use super::grpc_stats::GRPC_STATS;
use super::support::{SupportedMessage, kept, message, must, only, strict, types, used};
use envoy_types::pb::envoy::extensions::filters::http::router::v3 as router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;

/// `extensions.filters.http.router.v3.Router`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Router {
    /// `suppress_envoy_headers`
    pub suppress_envoy_headers: bool,
    /// `respect_expected_rq_timeout`
    pub respect_expected_rq_timeout: bool,
    /// `dynamic_stats` is false: response codes and times of clusters are not counted.
    pub without_dynamic_stats: bool,
}

const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\
         .UpgradeConfig",
        &[used("upgrade_type"), used("enabled")],
    ),
    // A filter that is left out can be the one that keeps requests out.
    strict(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        &[
            used("name"),
            types("typed_config", &[ROUTER, GRPC_STATS]),
            must("disabled", &["false"]),
            kept("is_optional", "a filter is known or refused by name"),
        ],
    ),
    message(
        ROUTER,
        &[
            kept("start_child_span", "there is no tracing"),
            used("dynamic_stats"),
            used("suppress_envoy_headers"),
            used("respect_expected_rq_timeout"),
            only("suppress_grpc_request_failure_code_stats", &["false"]),
        ],
    ),
];

impl Router {
    /// The router at the end of the filters; the default one where something is wrong with them,
    /// which is reported.
    pub(super) fn from_filters(at: &At<'_>, filters: &[pb::HttpFilter]) -> Router {
        check_http_filters(at, filters);
        let at = at.field("http_filters");
        let at = at.index(filters.len().saturating_sub(1));
        let at = at.field("typed_config");
        let last = filters.last().and_then(|filter| filter.config_type.as_ref());
        let Some(pb::http_filter::ConfigType::TypedConfig(any)) = last else {
            return Router::default();
        };
        let Some(config) = at.unpack::<router::Router>(any, ROUTER) else {
            return Router::default();
        };
        Router {
            suppress_envoy_headers: config.suppress_envoy_headers,
            respect_expected_rq_timeout: config.respect_expected_rq_timeout,
            without_dynamic_stats: config.dynamic_stats.is_some_and(|on| !on.value),
        }
    }
}

/// The chain must end with the router, and have it only there.
fn check_http_filters(at: &At<'_>, filters: &[pb::HttpFilter]) {
    let at = at.field("http_filters");
    for (index, filter) in filters.iter().enumerate() {
        let at = at.index(index);
        let Some(pb::http_filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
            let hint = filter
                .name
                .ends_with("router")
                .then(|| format!("add \"@type\": type.googleapis.com/{ROUTER}"));
            at.missing("typed_config", hint.as_deref());
            continue;
        };
        if is_type(any, ROUTER) && index + 1 < filters.len() {
            let reason = "the router is terminal: it must be the last of the http_filters";
            at.error_hint(reason, "move it behind the others; one is enough");
        }
    }
    let at_last = at.index(filters.len().saturating_sub(1));
    // What cannot be read may be the router, if it is called so; and of a router at another place
    // enough was said.
    let may_be_router = filters.iter().any(|filter| filter.name.contains("router"))
        || filters.iter().any(|filter| match &filter.config_type {
            Some(pb::http_filter::ConfigType::TypedConfig(any)) => is_type(any, ROUTER),
            _ => false,
        });
    if at.is_unreadable() || at_last.field("typed_config").is_unreadable() && may_be_router {
        return;
    }
    let last = filters.last().and_then(|filter| filter.config_type.as_ref());
    let ends_with_router = match last {
        Some(pb::http_filter::ConfigType::TypedConfig(any)) => is_type(any, ROUTER),
        // That its config is missing was reported already.
        _ => may_be_router,
    };
    if !ends_with_router {
        let hint = format!(
            "add {{name: envoy.filters.http.router, typed_config: {{\"@type\": \
             type.googleapis.com/{ROUTER}}}}}"
        );
        at.error_hint("`http_filters` must end with the router", hint);
    }
}

/// `upgrade_configs` of a connection manager: those that are enabled, in lower case.
pub(super) fn upgrades(
    at: &At<'_>,
    configs: &[pb::http_connection_manager::UpgradeConfig],
) -> Vec<String> {
    let at = at.field("upgrade_configs");
    let mut upgrades: Vec<String> = Vec::new();
    for (index, config) in configs.iter().enumerate() {
        let at = at.index(index);
        let Some(name) = upgrade_type(&at, &config.upgrade_type) else { continue };
        if upgrades.contains(&name) {
            at.error(format!("the upgrade `{name}` is there twice"));
        } else if config.enabled.is_none_or(|enabled| enabled.value) {
            upgrades.push(name);
        }
    }
    upgrades
}

/// The name of an upgrade in lower case. CONNECT is not an upgrade on the wire, but is enabled like
/// one.
pub(super) fn upgrade_type(at: &At<'_>, name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if lower == "connect-udp" {
        at.field("upgrade_type").error(format!("`{name}` is not supported yet"));
        return None;
    }
    if lower.is_empty() {
        at.missing("upgrade_type", Some("for example websocket"));
        return None;
    }
    Some(lower)
}
