//! Forwarding (`config.route.v3.RouteAction`): to which cluster, and what is rewritten.
//!
//! What it leaves to others: carrying it out (`proxy`). Timeouts: `None` means no timeout.

use super::convert::{At, is_type};
use super::grpc_timeout::GrpcTimeout;
use super::header_mutation::{LevelMutations, level_mutations};
use super::http_connection_manager::upgrade_type;
use super::internal_redirect::InternalRedirectPolicy;
use super::regex_rewrite::RegexRewrite;
use super::retry_policy::RetryPolicy;
use super::route::RouteContext;
use super::route_match::PathMatch;
use super::support::{SupportedMessage, kept, message, only, refused, used};
use super::uri_template::{UriTemplate, UriTemplateRewrite};
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::extensions::path::rewrite::uri_template::v3 as template;
use pb::route_action::{ClusterSpecifier, HostRewriteSpecifier};
use std::sync::Arc;
use std::time::Duration;

/// `config.route.v3.RouteAction`. Routes are many, and mostly differ in their clusters only: what
/// is alike is shared.
#[derive(Clone, PartialEq, Debug)]
pub struct RouteAction {
    /// `cluster`, `cluster_header` or `weighted_clusters`: at least one, weights not all zero.
    pub clusters: Arc<[WeightedCluster]>,
    /// Everything else.
    pub options: Arc<ActionOptions>,
}

/// How a request is forwarded, to whichever cluster.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ActionOptions {
    /// `weighted_clusters.header_name`, in lower case: a request's own random number.
    pub random_value_header: Option<String>,
    /// `cluster_not_found_response_code` as a status, default 503.
    pub cluster_not_found_status: u16,
    /// `timeout`, default 15 s.
    pub timeout: Option<Duration>,
    /// `max_stream_duration.max_stream_duration`: overrides that of the connection manager when
    /// set, and `timeout` has no effect; `Some(None)` is no limit.
    pub max_stream_duration: Option<Option<Duration>>,
    /// `max_stream_duration.grpc_timeout_header_max`: `grpc-timeout` of a request counts instead.
    pub grpc_timeout: Option<Box<GrpcTimeout>>,
    /// `max_grpc_timeout`: it counts instead of `timeout`, for gRPC calls.
    pub max_grpc_timeout: Option<Box<GrpcTimeout>>,
    /// `idle_timeout`: overrides `stream_idle_timeout` when set; `Some(None)` disables it.
    pub idle_timeout: Option<Option<Duration>>,
    /// `upgrade_configs` of the route: type in lower case and whether it is enabled; overrides the
    /// connection manager.
    pub upgrades: Vec<(String, bool)>,
    /// `connect_config` of the upgrade CONNECT: the tunnel ends at the chosen host, which gets the
    /// client's bytes. Otherwise the upstream gets the CONNECT.
    pub terminates_connect: bool,
    /// `prefix_rewrite`, `regex_rewrite` or `path_rewrite_policy`
    pub path_rewrite: PathRewrite,
    /// `host_rewrite_literal`, `host_rewrite_header`, `host_rewrite_path_regex` or
    /// `auto_host_rewrite`
    pub host_rewrite: HostRewrite,
    /// `append_x_forwarded_host`: the old host goes into `x-forwarded-host` when it is rewritten.
    pub append_x_forwarded_host: bool,
    /// `retry_policy`; without it that of the virtual host counts.
    pub retry_policy: Option<Box<RetryPolicy>>,
    /// `internal_redirect_policy`
    pub internal_redirects: Option<Box<InternalRedirectPolicy>>,
}

/// How forwarding changes the path; the query stays.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum PathRewrite {
    /// Not at all.
    #[default]
    Keep,
    /// `prefix_rewrite`: what the route's path specifier matched is replaced.
    Prefix(String),
    /// `regex_rewrite`: every match in the path is replaced.
    Regex(Box<RegexRewrite>),
    /// `path_rewrite_policy` with a template.
    Template(Box<UriTemplateRewrite>),
}

/// How forwarding changes the host.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum HostRewrite {
    /// Not at all.
    #[default]
    Keep,
    /// `host_rewrite_literal`
    Literal(String),
    /// `host_rewrite_header`: to the first value of this field, in lower case.
    Header(String),
    /// `host_rewrite_path_regex`: to what the path becomes.
    PathRegex(Box<RegexRewrite>),
    /// `auto_host_rewrite`: to the name of the host that is chosen, if it has one.
    Auto,
}

/// One cluster of a `weighted_clusters`, or the only one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WeightedCluster {
    /// `name`; empty when a header field names it.
    pub name: String,
    /// `cluster_header`: the field that names the cluster, in lower case.
    pub cluster_header: Option<String>,
    /// `weight`
    pub weight: u32,
    /// Header fields that go with this choice.
    pub mutations: LevelMutations,
    /// `host_rewrite_literal` of this choice.
    pub host_rewrite_literal: Option<String>,
}

/// The name by which `upgrade_configs` enable CONNECT.
pub const CONNECT: &str = "connect";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) const TEMPLATE_REWRITE: &str =
    "envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig";

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.route.v3.RouteAction",
        &[
            used("cluster"),
            used("cluster_header"),
            used("weighted_clusters"),
            used("cluster_not_found_response_code"),
            used("prefix_rewrite"),
            used("regex_rewrite"),
            used("path_rewrite_policy"),
            used("host_rewrite_literal"),
            used("host_rewrite_header"),
            used("host_rewrite_path_regex"),
            used("auto_host_rewrite"),
            used("append_x_forwarded_host"),
            used("timeout"),
            used("idle_timeout"),
            used("max_stream_duration"),
            used("max_grpc_timeout"),
            used("grpc_timeout_offset"),
            used("upgrade_configs"),
            used("retry_policy"),
            used("internal_redirect_policy"),
            refused("retry_policy_typed_config"),
            refused("metadata_match"),
            refused("cluster_specifier_plugin"),
            refused("inline_cluster_specifier_plugin"),
            only("priority", &["DEFAULT"]),
            kept("include_vh_rate_limits", "there are no rate limits"),
        ],
    ),
    message(
        "envoy.config.route.v3.WeightedCluster",
        &[
            used("clusters"),
            used("header_name"),
            refused("use_hash_policy"),
            kept("total_weight", "Envoy itself takes the sum of the weights"),
            used("runtime_key_prefix"),
        ],
    ),
    message(
        "envoy.config.route.v3.WeightedCluster.ClusterWeight",
        &[
            used("name"),
            used("cluster_header"),
            used("weight"),
            used("request_headers_to_add"),
            used("request_headers_to_remove"),
            used("response_headers_to_add"),
            used("response_headers_to_remove"),
            used("host_rewrite_literal"),
            refused("metadata_match"),
        ],
    ),
    message(
        "envoy.config.route.v3.RouteAction.UpgradeConfig",
        &[used("upgrade_type"), used("enabled"), used("connect_config")],
    ),
    message(
        "envoy.config.route.v3.RouteAction.UpgradeConfig.ConnectConfig",
        &[refused("proxy_protocol_config"), only("allow_post", &["false"])],
    ),
    message(TEMPLATE_REWRITE, &[used("path_template_rewrite")]),
];

fn max_duration(
    at: &At<'_>,
    duration: &pb::route_action::MaxStreamDuration,
) -> Option<Option<Duration>> {
    let at = at.field("max_stream_duration");
    let duration = duration.max_stream_duration.as_ref()?;
    Some(at.field("max_stream_duration").timeout(Some(duration), None))
}

impl RouteAction {
    /// Converts an action; what is wrong is reported. `path` is what the route matches.
    pub(super) fn from_proto(
        at: &At<'_>,
        action: &pb::RouteAction,
        path: Option<&PathMatch>,
        context: &RouteContext<'_>,
    ) -> Option<RouteAction> {
        use pb::route_action::ClusterNotFoundResponseCode as Code;
        let upgrades = route_upgrades(at, &action.upgrade_configs);
        let idle_timeout = action
            .idle_timeout
            .as_ref()
            .map(|timeout| at.field("idle_timeout").timeout(Some(timeout), None));
        let timeout = at.field("timeout").timeout(action.timeout.as_ref(), Some(DEFAULT_TIMEOUT));
        let max_stream_duration =
            action.max_stream_duration.as_ref().and_then(|duration| max_duration(at, duration));
        let retry_policy = action.retry_policy.as_ref().and_then(|policy| {
            let at = at.field("retry_policy");
            at.converted(RetryPolicy::from_proto(&at, policy))
        });
        let path_rewrite = PathRewrite::from_proto(at, action, path);
        let host_rewrite = HostRewrite::from_proto(at, action);
        let (clusters, random_value_header) = clusters(at, action, context)?;
        let options = ActionOptions {
            random_value_header,
            cluster_not_found_status: match action.cluster_not_found_response_code() {
                Code::ServiceUnavailable => 503,
                Code::NotFound => 404,
                Code::InternalServerError => 500,
            },
            // As in Envoy the message alone turns the other one off.
            timeout: timeout.filter(|_| action.max_stream_duration.is_none()),
            max_stream_duration,
            grpc_timeout: GrpcTimeout::from_proto(at, action).map(Box::new),
            max_grpc_timeout: GrpcTimeout::of_deprecated(at, action).map(Box::new),
            idle_timeout,
            terminates_connect: action
                .upgrade_configs
                .iter()
                .any(|config| config.connect_config.is_some()),
            upgrades,
            path_rewrite: path_rewrite?,
            host_rewrite: host_rewrite?,
            append_x_forwarded_host: action.append_x_forwarded_host,
            retry_policy: retry_policy.map(Box::new),
            internal_redirects: action.internal_redirect_policy.as_ref().map(|policy| {
                let at = at.field("internal_redirect_policy");
                Box::new(InternalRedirectPolicy::from_proto(&at, policy))
            }),
        };
        Some(RouteAction { clusters, options: context.options_alike.shared(options) })
    }
}

impl PathRewrite {
    fn from_proto(
        at: &At<'_>,
        action: &pb::RouteAction,
        path: Option<&PathMatch>,
    ) -> Option<PathRewrite> {
        let has_prefix = !action.prefix_rewrite.is_empty();
        let given = usize::from(has_prefix)
            + usize::from(action.regex_rewrite.is_some())
            + usize::from(action.path_rewrite_policy.is_some());
        if given > 1 {
            at.error("only one of `prefix_rewrite`, `regex_rewrite` and `path_rewrite_policy`");
            return None;
        }
        let template = match path {
            Some(PathMatch::Template(template)) => Some(&**template),
            _ => None,
        };
        if has_prefix {
            if template.is_some() {
                at.field("prefix_rewrite").error_hint(
                    "a path template has no prefix that could be replaced",
                    "use `path_rewrite_policy`",
                );
            }
            return Some(PathRewrite::Prefix(action.prefix_rewrite.clone()));
        }
        if let Some(rewrite) = &action.regex_rewrite {
            let rewrite = RegexRewrite::from_proto(&at.field("regex_rewrite"), rewrite);
            return rewrite.map(|rewrite| PathRewrite::Regex(Box::new(rewrite)));
        }
        match &action.path_rewrite_policy {
            Some(policy) => template_rewrite(&at.field("path_rewrite_policy"), policy, template),
            None => Some(PathRewrite::Keep),
        }
    }
}

fn template_rewrite(
    at: &At<'_>,
    policy: &TypedExtensionConfig,
    template: Option<&UriTemplate>,
) -> Option<PathRewrite> {
    let Some(any) = &policy.typed_config else {
        at.missing("typed_config", Some("a UriTemplateRewriteConfig"));
        return None;
    };
    let at = at.field("typed_config");
    if !is_type(any, TEMPLATE_REWRITE) {
        at.error(format!("a path is rewritten by a {TEMPLATE_REWRITE}"));
        return None;
    }
    let config: template::UriTemplateRewriteConfig = at.unpack(any, TEMPLATE_REWRITE)?;
    let Some(template) = template else {
        at.error_hint(
            "a template for the new path needs one that matches the old path",
            "match with `path_match_policy` and a UriTemplateMatchConfig",
        );
        return None;
    };
    match UriTemplateRewrite::parse(&config.path_template_rewrite, template) {
        Ok(rewrite) => Some(PathRewrite::Template(Box::new(rewrite))),
        Err(reason) => {
            let text = &config.path_template_rewrite;
            at.field("path_template_rewrite").error(format!("`{text}` is no new path: {reason}"));
            None
        }
    }
}

impl HostRewrite {
    fn from_proto(at: &At<'_>, action: &pb::RouteAction) -> Option<HostRewrite> {
        Some(match &action.host_rewrite_specifier {
            Some(HostRewriteSpecifier::HostRewriteLiteral(host)) if !host.is_empty() => {
                HostRewrite::Literal(host.clone())
            }
            Some(HostRewriteSpecifier::HostRewriteHeader(name)) if !name.is_empty() => {
                HostRewrite::Header(name.to_ascii_lowercase())
            }
            Some(HostRewriteSpecifier::HostRewritePathRegex(rewrite)) => {
                let at = at.field("host_rewrite_path_regex");
                HostRewrite::PathRegex(Box::new(RegexRewrite::from_proto(&at, rewrite)?))
            }
            Some(HostRewriteSpecifier::AutoHostRewrite(flag)) if flag.value => HostRewrite::Auto,
            _ => HostRewrite::Keep,
        })
    }
}

/// The clusters, and the header field that has the random number for the choice.
fn clusters(
    at: &At<'_>,
    action: &pb::RouteAction,
    context: &RouteContext<'_>,
) -> Option<(Arc<[WeightedCluster]>, Option<String>)> {
    let alike = &context.clusters_alike;
    match action.cluster_specifier.as_ref()? {
        ClusterSpecifier::Cluster(name) => {
            check_cluster(&at.field("cluster"), name, context);
            let cluster = || vec![WeightedCluster::plain(name.clone())];
            let is_same = |it: &[WeightedCluster]| matches!(it, [one] if one.is_plain(name));
            Some((alike.find(is_same).unwrap_or_else(|| alike.shared(cluster())), None))
        }
        ClusterSpecifier::ClusterHeader(name) => {
            let cluster_header = Some(name.to_ascii_lowercase());
            let cluster = WeightedCluster { cluster_header, weight: 1, ..Default::default() };
            Some((alike.shared(vec![cluster]), None))
        }
        ClusterSpecifier::WeightedClusters(weighted) => {
            use pb::weighted_cluster::RandomValueSpecifier;
            let header = match &weighted.random_value_specifier {
                Some(RandomValueSpecifier::HeaderName(name)) => Some(name.to_ascii_lowercase()),
                // The reader has refused the hash policy by name.
                _ => None,
            };
            let at = at.field("weighted_clusters");
            Some((alike.shared(weighted_clusters(&at, weighted, context)?), header))
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
        let mut cluster = WeightedCluster::from_proto(&at_clusters.index(index), cluster, context);
        if !weighted.runtime_key_prefix.is_empty() {
            let key = format!("{}.{}", weighted.runtime_key_prefix, cluster.name);
            cluster.weight = at.runtime().integer(&key, cluster.weight);
        }
        clusters.push(cluster);
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

impl WeightedCluster {
    /// The only one, and nothing else.
    fn plain(name: String) -> WeightedCluster {
        WeightedCluster { name, weight: 1, ..WeightedCluster::default() }
    }

    fn is_plain(&self, name: &str) -> bool {
        self.name == name
            && self.weight == 1
            && self.cluster_header.is_none()
            && self.mutations.is_empty()
            && self.host_rewrite_literal.is_none()
    }

    fn from_proto(
        at: &At<'_>,
        cluster: &pb::weighted_cluster::ClusterWeight,
        context: &RouteContext<'_>,
    ) -> WeightedCluster {
        use pb::weighted_cluster::cluster_weight::HostRewriteSpecifier as Specifier;
        match (cluster.name.as_str(), cluster.cluster_header.as_str()) {
            ("", "") => at.missing("name", Some("or `cluster_header`")),
            ("", _) => {}
            (name, "") => check_cluster(&at.field("name"), name, context),
            _ => at.error("only one of `name` and `cluster_header`"),
        }
        if cluster.weight.is_none() {
            at.missing("weight", None);
        }
        let header = Some(cluster.cluster_header.to_ascii_lowercase());
        let host = cluster.host_rewrite_specifier.as_ref();
        let host_rewrite_literal = host.map(|Specifier::HostRewriteLiteral(host)| host.clone());
        WeightedCluster {
            name: cluster.name.clone(),
            cluster_header: header.filter(|header| !header.is_empty()),
            weight: cluster.weight.map_or(0, |weight| weight.value),
            mutations: level_mutations!(at, cluster),
            host_rewrite_literal: host_rewrite_literal.filter(|host| !host.is_empty()),
        }
    }
}

fn check_cluster(at: &At<'_>, name: &str, context: &RouteContext<'_>) {
    let Some(known) = context.clusters else { return };
    // An empty name breaks a rule of the .proto file, which the reader has reported.
    if !name.is_empty() && !known.contains(name) {
        let wanted = at.wants_hints().then(|| super::reader::nearest(name, known.iter().copied()));
        let hint = wanted.flatten();
        let reason = format!("route: unknown cluster `{name}`");
        match hint {
            Some(hint) => at.error_hint(reason, format!("did you mean `{hint}`?")),
            None if known.is_empty() => {
                at.error_hint(reason, "there is none below `static_resources.clusters`");
            }
            None => at.error_hint(reason, "it must be one of `static_resources.clusters`"),
        }
    }
}

fn route_upgrades(at: &At<'_>, configs: &[pb::route_action::UpgradeConfig]) -> Vec<(String, bool)> {
    let at = at.field("upgrade_configs");
    let mut upgrades: Vec<(String, bool)> = Vec::new();
    for (index, config) in configs.iter().enumerate() {
        let at = at.index(index);
        let Some(name) = upgrade_type(&at, &config.upgrade_type) else { continue };
        if config.connect_config.is_some() && name != CONNECT {
            at.field("connect_config").error(format!("`{name}` has none; only CONNECT can"));
        }
        if upgrades.iter().any(|(other, _)| *other == name) {
            at.error(format!("the upgrade `{name}` is there twice"));
        } else {
            upgrades.push((name, config.enabled.is_none_or(|enabled| enabled.value)));
        }
    }
    upgrades
}
