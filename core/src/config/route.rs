//! Route configurations (`config.route.v3`).
//!
//! What it leaves to others: matching (`snapshot::RouteTable`). Timeouts: `None` means no timeout.

use std::time::Duration;

/// `config.route.v3.RouteConfiguration`
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RouteConfiguration {
    /// `name`
    pub name: String,
    /// `virtual_hosts`; `*` at most once over all of them, domains unique.
    pub virtual_hosts: Vec<VirtualHost>,
    /// `validate_clusters`; default true for an inline route configuration: unknown clusters were refused.
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
    /// `upgrade_configs` of the route: type in lower case and whether it is enabled; overrides the connection manager.
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

/// `config.route.v3.RedirectAction`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RedirectAction {
    /// `https_redirect` (as `https`) or `scheme_redirect`
    pub scheme: Option<String>,
    /// `host_redirect`
    pub host: Option<String>,
    /// `port_redirect`
    pub port: Option<u16>,
    /// `path_redirect` or `prefix_rewrite`
    pub path: RedirectPath,
    /// `response_code` as a status: 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `strip_query`
    pub strip_query: bool,
}

/// How a redirect changes the path.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum RedirectPath {
    /// Not at all.
    #[default]
    Keep,
    /// `path_redirect`
    Replace(String),
    /// `prefix_rewrite`: the matched prefix (or the whole exact path) is replaced.
    PrefixRewrite(String),
}

/// `config.route.v3.DirectResponseAction`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectResponse {
    /// `status`, 200 to 599.
    pub status: u16,
    /// `body` (inline string, inline bytes or the file's content), at most 4 KiB.
    pub body: Vec<u8>,
}
