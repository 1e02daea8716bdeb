//! Route configurations (`config.route.v3`).
//!
//! What it leaves to others: matching (`snapshot::RouteTable`). Timeouts: `None` means no timeout.

use super::bootstrap::ClusterNames;
use super::convert::At;
use super::http_connection_manager::upgrade_type;
use super::redirect::{DirectResponse, RedirectAction};
use super::safe_regex::check_regex;
use super::support::{
    SupportedMessage, kept, message, must, only, refused, reported, strict, used,
};
use envoy_types::pb::envoy::config::route::v3 as pb;
use pb::route_action::{ClusterSpecifier, HostRewriteSpecifier};
use pb::route_match::PathSpecifier;
use std::collections::HashSet;
use std::time::Duration;

/// `config.route.v3.RouteConfiguration`
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RouteConfiguration {
    /// `name`
    pub name: String,
    /// `virtual_hosts`; `*` at most once over all of them, domains unique.
    pub virtual_hosts: Vec<VirtualHost>,
    /// `validate_clusters`; default true for an inline route configuration: unknown clusters were
    /// refused.
    pub validate_clusters: bool,
}

/// `config.route.v3.VirtualHost`
#[derive(Clone, PartialEq, Debug, Default)]
pub struct VirtualHost {
    /// `name`
    pub name: String,
    /// `domains`: exact, `*.suffix`, `prefix.*` or `*`, in lower case.
    pub domains: Vec<String>,
    /// `routes`, in order: the first that matches is taken.
    pub routes: Vec<Route>,
}

/// `config.route.v3.Route`
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    /// `name`
    pub name: String,
    /// `match`
    pub matches: RouteMatch,
    /// `route`, `redirect` or `direct_response`
    pub target: RouteTarget,
}

/// `config.route.v3.RouteMatch`
#[derive(Clone, PartialEq, Debug)]
pub struct RouteMatch {
    /// The path specifier.
    pub path: PathMatch,
    /// `case_sensitive`, default true. Has no effect on a regex, as in Envoy.
    pub case_sensitive: bool,
}

/// The path specifier of a route; matched against the path without its query.
#[derive(Clone, PartialEq, Debug)]
pub enum PathMatch {
    /// `prefix`
    Prefix(String),
    /// `path`
    Exact(String),
    /// `safe_regex`, which must match the whole path. Known to compile.
    Regex(String),
}

/// What to do with a request that matched.
#[derive(Clone, PartialEq, Debug)]
pub enum RouteTarget {
    /// `route`
    Forward(RouteAction),
    /// `redirect`
    Redirect(RedirectAction),
    /// `direct_response`
    DirectResponse(DirectResponse),
}

/// `config.route.v3.RouteAction`
#[derive(Clone, PartialEq, Debug)]
pub struct RouteAction {
    /// `cluster` or `weighted_clusters`: at least one, weights not all zero.
    pub clusters: Vec<WeightedCluster>,
    /// `cluster_not_found_response_code` as a status, default 503.
    pub cluster_not_found_status: u16,
    /// `timeout`, default 15 s.
    pub timeout: Option<Duration>,
    /// `idle_timeout`: overrides `stream_idle_timeout` when set; `Some(None)` disables it.
    pub idle_timeout: Option<Option<Duration>>,
    /// `upgrade_configs` of the route: type in lower case and whether it is enabled; overrides the
    /// connection manager.
    pub upgrades: Vec<(String, bool)>,
    /// `prefix_rewrite`
    pub prefix_rewrite: Option<String>,
    /// `host_rewrite_literal`
    pub host_rewrite_literal: Option<String>,
}

/// One cluster of a `weighted_clusters`, or the only one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WeightedCluster {
    /// `name`
    pub name: String,
    /// `weight`
    pub weight: u32,
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
/// Envoy's default for `max_direct_response_body_size_bytes`.
const DEFAULT_MAX_BODY_BYTES: u32 = 4096;

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.route.v3.RouteConfiguration",
        &[
            used("name"),
            used("virtual_hosts"),
            used("validate_clusters"),
            used("max_direct_response_body_size_bytes"),
            kept("most_specific_header_mutations_wins", "there are no header mutations"),
            kept("metadata", "nothing reads a route configuration's metadata"),
            only("ignore_port_in_host_matching", &["false"]),
            only("ignore_path_parameters_in_path_matching", &["false"]),
        ],
    ),
    message(
        "envoy.config.route.v3.VirtualHost",
        &[
            used("name"),
            used("domains"),
            used("routes"),
            must("require_tls", &["NONE"]),
            only("include_request_attempt_count", &["false"]),
            only("include_attempt_count_in_response", &["false"]),
            only("include_is_timeout_retry_header", &["false"]),
            kept("metadata", "nothing reads a virtual host's metadata"),
        ],
    ),
    message(
        "envoy.config.route.v3.Route",
        &[
            used("name"),
            used("match"),
            used("route"),
            used("redirect"),
            used("direct_response"),
            refused("filter_action"),
            refused("non_forwarding_action"),
            kept("metadata", "nothing reads a route's metadata"),
            kept("decorator", "there is no tracing"),
            kept("tracing", "there is no tracing"),
            reported("stat_prefix", "there are no stats by route"),
        ],
    ),
    // Without one of these a route would match more than it should.
    strict(
        "envoy.config.route.v3.RouteMatch",
        &[used("prefix"), used("path"), used("safe_regex"), used("case_sensitive")],
    ),
    message(
        "envoy.type.matcher.v3.RegexMatcher",
        &[used("regex"), kept("google_re2", "there is one engine, with the syntax of RE2")],
    ),
    message(
        "envoy.config.route.v3.RouteAction",
        &[
            used("cluster"),
            used("weighted_clusters"),
            used("cluster_not_found_response_code"),
            used("prefix_rewrite"),
            used("host_rewrite_literal"),
            used("timeout"),
            used("idle_timeout"),
            used("upgrade_configs"),
            refused("metadata_match"),
            refused("cluster_header"),
            refused("cluster_specifier_plugin"),
            refused("inline_cluster_specifier_plugin"),
            refused("regex_rewrite"),
            refused("path_rewrite_policy"),
            refused("host_rewrite_header"),
            refused("host_rewrite_path_regex"),
            only("priority", &["DEFAULT"]),
            only("append_x_forwarded_host", &["false"]),
            must("auto_host_rewrite", &["false"]),
            kept("include_vh_rate_limits", "there are no rate limits"),
        ],
    ),
    message(
        "envoy.config.route.v3.WeightedCluster",
        &[
            used("clusters"),
            kept("total_weight", "Envoy itself takes the sum of the weights"),
            reported("runtime_key_prefix", "there is no runtime; the weights written here apply"),
        ],
    ),
    message(
        "envoy.config.route.v3.WeightedCluster.ClusterWeight",
        &[used("name"), used("weight"), refused("cluster_header"), refused("metadata_match")],
    ),
    message(
        "envoy.config.route.v3.RouteAction.UpgradeConfig",
        &[used("upgrade_type"), used("enabled")],
    ),
];

impl RouteConfiguration {
    /// Converts a route configuration; what is wrong is reported. Clusters must be among
    /// `clusters`, if these are known and `validate_clusters` is not off.
    pub(super) fn from_proto(
        at: &At<'_>,
        config: &pb::RouteConfiguration,
        clusters: &ClusterNames<'_>,
    ) -> Option<RouteConfiguration> {
        let validate_clusters = config.validate_clusters.is_none_or(|flag| flag.value);
        let context = RouteContext {
            clusters: clusters.as_ref().filter(|_| validate_clusters),
            max_body_bytes: config
                .max_direct_response_body_size_bytes
                .map_or(DEFAULT_MAX_BODY_BYTES, |limit| limit.value),
        };
        let at = at.field("virtual_hosts");
        let mut names = HashSet::new();
        let mut domains = HashSet::new();
        let mut virtual_hosts = Vec::with_capacity(config.virtual_hosts.len());
        for (index, host) in config.virtual_hosts.iter().enumerate() {
            let at = at.index(index);
            if !host.name.is_empty() && !names.insert(host.name.as_str()) {
                at.field("name").warning(format!("duplicate virtual host `{}`", host.name));
            }
            let host = VirtualHost::from_proto(&at, host, &context);
            check_domains(&at, &host.domains, &mut domains);
            virtual_hosts.push(host);
        }
        Some(RouteConfiguration { name: config.name.clone(), virtual_hosts, validate_clusters })
    }
}

/// What routes need to know of what is around them.
pub(super) struct RouteContext<'c> {
    clusters: Option<&'c HashSet<&'c str>>,
    /// The longest body of a direct response.
    pub max_body_bytes: u32,
}

fn check_domains(at: &At<'_>, domains: &[String], seen: &mut HashSet<String>) {
    let at = at.field("domains");
    for (index, domain) in domains.iter().enumerate() {
        let at = at.index(index);
        if domain.is_empty() {
            at.error_hint("a domain must not be empty", "`*` matches every host");
        } else if !seen.insert(domain.clone()) {
            at.error(match domain.as_str() {
                "*" => "only one `*` can be in a route configuration".to_owned(),
                _ => format!("the domain `{domain}` is there twice in this route configuration"),
            });
        }
    }
}

impl VirtualHost {
    fn from_proto(at: &At<'_>, host: &pb::VirtualHost, context: &RouteContext<'_>) -> VirtualHost {
        let at = at.field("routes");
        let mut routes = Vec::with_capacity(host.routes.len());
        for (index, route) in host.routes.iter().enumerate() {
            let at = at.index(index);
            routes.extend(at.converted(Route::from_proto(&at, route, context)));
        }
        VirtualHost {
            name: host.name.clone(),
            domains: host.domains.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
            routes,
        }
    }
}

impl Route {
    fn from_proto(at: &At<'_>, route: &pb::Route, context: &RouteContext<'_>) -> Option<Route> {
        use pb::route::Action;
        let matches = route
            .r#match
            .as_ref()
            .and_then(|matches| RouteMatch::from_proto(&at.field("match"), matches));
        let target = match &route.action {
            Some(Action::Route(action)) => {
                RouteAction::from_proto(&at.field("route"), action, context)
                    .map(RouteTarget::Forward)
            }
            Some(Action::Redirect(redirect)) => {
                RedirectAction::from_proto(&at.field("redirect"), redirect)
                    .map(RouteTarget::Redirect)
            }
            Some(Action::DirectResponse(response)) => {
                DirectResponse::from_proto(&at.field("direct_response"), response, context)
                    .map(RouteTarget::DirectResponse)
            }
            // The reader has refused the others by name, or has reported that there is none.
            Some(Action::FilterAction(_) | Action::NonForwardingAction(_)) | None => None,
        };
        Some(Route { name: route.name.clone(), matches: matches?, target: target? })
    }
}

impl RouteMatch {
    fn from_proto(at: &At<'_>, matches: &pb::RouteMatch) -> Option<RouteMatch> {
        let path = match matches.path_specifier.as_ref()? {
            PathSpecifier::Prefix(prefix) => PathMatch::Prefix(prefix.clone()),
            PathSpecifier::Path(path) => {
                check_exact_path(&at.field("path"), path);
                PathMatch::Exact(path.clone())
            }
            PathSpecifier::SafeRegex(matcher) => {
                let at = at.field("safe_regex");
                let at = at.field("regex");
                // An empty one breaks a rule of the .proto file, which the reader has reported.
                check_regex(&at, &matcher.regex)?;
                PathMatch::Regex(matcher.regex.clone())
            }
            PathSpecifier::ConnectMatcher(_)
            | PathSpecifier::PathSeparatedPrefix(_)
            | PathSpecifier::PathMatchPolicy(_) => return None,
        };
        let case_sensitive = matches.case_sensitive.is_none_or(|flag| flag.value);
        Some(RouteMatch { path, case_sensitive })
    }
}

/// An exact path with a `*` was probably meant as a prefix, and one with a `?` can never match.
fn check_exact_path(at: &At<'_>, path: &str) {
    if path.contains('*') {
        at.warning(format!("`path` is matched as it stands: `*` in `{path}` is only a star"));
    } else if path.contains('?') {
        at.warning(format!("`{path}` never matches: paths are matched without their query"));
    }
}

impl RouteAction {
    fn from_proto(
        at: &At<'_>,
        action: &pb::RouteAction,
        context: &RouteContext<'_>,
    ) -> Option<RouteAction> {
        use pb::route_action::ClusterNotFoundResponseCode as Code;
        let upgrades = route_upgrades(at, &action.upgrade_configs);
        let idle_timeout = action
            .idle_timeout
            .as_ref()
            .map(|timeout| at.field("idle_timeout").timeout(Some(timeout), None));
        let timeout = at.field("timeout").timeout(action.timeout.as_ref(), Some(DEFAULT_TIMEOUT));
        let host_rewrite_literal = match &action.host_rewrite_specifier {
            Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => Some(host.clone()),
            // `auto_host_rewrite: false` is no rewrite; the reader has refused the others by name.
            _ => None,
        };
        Some(RouteAction {
            clusters: clusters(at, action, context)?,
            cluster_not_found_status: match action.cluster_not_found_response_code() {
                Code::ServiceUnavailable => 503,
                Code::NotFound => 404,
                Code::InternalServerError => 500,
            },
            timeout,
            idle_timeout,
            upgrades,
            prefix_rewrite: Some(action.prefix_rewrite.clone()).filter(|path| !path.is_empty()),
            host_rewrite_literal: host_rewrite_literal.filter(|host| !host.is_empty()),
        })
    }
}

fn clusters(
    at: &At<'_>,
    action: &pb::RouteAction,
    context: &RouteContext<'_>,
) -> Option<Vec<WeightedCluster>> {
    match action.cluster_specifier.as_ref()? {
        ClusterSpecifier::Cluster(name) => {
            check_cluster(&at.field("cluster"), name, context);
            Some(vec![WeightedCluster { name: name.clone(), weight: 1 }])
        }
        ClusterSpecifier::WeightedClusters(weighted) => {
            weighted_clusters(&at.field("weighted_clusters"), weighted, context)
        }
        // The reader has refused the others by name.
        _ => None,
    }
}

fn weighted_clusters(
    at: &At<'_>,
    weighted: &pb::WeightedCluster,
    context: &RouteContext<'_>,
) -> Option<Vec<WeightedCluster>> {
    let at_clusters = at.field("clusters");
    let mut clusters = Vec::with_capacity(weighted.clusters.len());
    for (index, cluster) in weighted.clusters.iter().enumerate() {
        let at = at_clusters.index(index);
        if cluster.name.is_empty() {
            at.missing("name", None);
        } else {
            check_cluster(&at.field("name"), &cluster.name, context);
        }
        if cluster.weight.is_none() {
            at.missing("weight", None);
        }
        let weight = cluster.weight.map_or(0, |weight| weight.value);
        clusters.push(WeightedCluster { name: cluster.name.clone(), weight });
    }
    let sum: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
    if at_clusters.has_unreadable() {
        return None;
    }
    if sum == 0 || sum > u64::from(u32::MAX) {
        at.error(format!("the weights add up to {sum}; they must add up to 1 to {}", u32::MAX));
        return None;
    }
    Some(clusters)
}

fn check_cluster(at: &At<'_>, name: &str, context: &RouteContext<'_>) {
    let Some(known) = context.clusters else { return };
    // An empty name breaks a rule of the .proto file, which the reader has reported.
    if !name.is_empty() && !known.contains(name) {
        let hint = super::reader::nearest(name, known.iter().copied());
        let reason = format!("route: unknown cluster `{name}`");
        match hint {
            Some(hint) => at.error_hint(reason, format!("did you mean `{hint}`?")),
            None => at.error(reason),
        }
    }
}

fn route_upgrades(at: &At<'_>, configs: &[pb::route_action::UpgradeConfig]) -> Vec<(String, bool)> {
    let at = at.field("upgrade_configs");
    let mut upgrades: Vec<(String, bool)> = Vec::new();
    for (index, config) in configs.iter().enumerate() {
        let at = at.index(index);
        let Some(name) = upgrade_type(&at, &config.upgrade_type) else { continue };
        if upgrades.iter().any(|(other, _)| *other == name) {
            at.error(format!("the upgrade `{name}` is there twice"));
        } else {
            upgrades.push((name, config.enabled.is_none_or(|enabled| enabled.value)));
        }
    }
    upgrades
}
