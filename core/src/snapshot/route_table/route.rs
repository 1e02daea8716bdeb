//! One route, with everything looked up that can be.
//!
//! What it leaves to others: finding it (the table), carrying it out (`proxy`).

use super::mutations::{FieldName, Level, MutationList, RouteMutations};
use super::retry::{self, CompiledBodyLimit, CompiledRetryPolicy};
use super::{Replacement, RouteId};
use crate::config::{
    self, HostRewrite, PathMatch, PathRewrite, RedirectPath, RewritePart, SubstitutionPart,
};
use crate::snapshot::{Body, ClusterId};
use std::sync::Arc;
use std::time::Duration;

/// One route, with everything looked up that can be.
#[derive(Debug)]
pub struct CompiledRoute {
    /// Its place in the table.
    pub id: RouteId,
    /// What was asked for.
    pub config: Arc<config::Route>,
    /// Name of the virtual host.
    pub virtual_host: Arc<str>,
    /// What to do.
    pub target: CompiledTarget,
    /// Header fields that are added and removed, if any are.
    pub mutations: Option<Box<RouteMutations>>,
    /// Whether a request that is forwarded is changed by anything below.
    pub changes_requests: bool,
    /// `auto_host_rewrite`
    pub rewrites_host_to_upstream: bool,
    /// Whether a response is changed by anything below.
    pub changes_responses: bool,
    /// `include_request_attempt_count` of the virtual host.
    pub include_request_attempt_count: bool,
    /// `include_attempt_count_in_response` of the virtual host.
    pub include_attempt_count_in_response: bool,
    /// `include_is_timeout_retry_header` of the virtual host.
    pub include_is_timeout_retry_header: bool,
}

/// What to do with a request.
#[derive(Debug)]
pub enum CompiledTarget {
    /// Forward it.
    Forward {
        /// Clusters with cumulative weights; `None` for a cluster that has no number: it does not
        /// exist, or a header field names it.
        clusters: Vec<(u64, Option<ClusterId>)>,
        /// The sum of the weights.
        total_weight: u64,
        /// `timeout`
        timeout: Option<Duration>,
        /// What was asked for.
        action: Arc<config::RouteAction>,
        /// Rewrites, if there are any.
        rewrites: Option<Box<Rewrites>>,
        /// Header fields that go with the choice of a cluster, by cluster; empty when there are
        /// none.
        choices: Vec<RouteMutations>,
        /// `retry_policy`, the virtual host's if the route has none.
        retry: Option<Box<CompiledRetryPolicy>>,
        /// How much of a request's body is kept for retries.
        body_limit: CompiledBodyLimit,
    },
    /// Redirect it.
    Redirect(Arc<config::RedirectAction>, Option<Box<Replacement>>),
    /// Redirect it to the same address with `https`.
    RequireTls,
    /// Answer it.
    DirectResponse(Arc<config::DirectResponse>, Option<Box<Body>>),
}

/// What forwarding changes in the start line and the host.
#[derive(Debug)]
pub struct Rewrites {
    /// The path.
    pub path: CompiledPathRewrite,
    /// The host.
    pub host: CompiledHostRewrite,
    /// `host_rewrite_literal` by cluster; empty when there is none.
    pub host_by_choice: Vec<Option<String>>,
    /// The old host goes into `x-forwarded-host`.
    pub append_x_forwarded_host: bool,
}

/// A compiled [`PathRewrite`].
#[derive(Debug)]
pub enum CompiledPathRewrite {
    /// The path stays.
    Keep,
    /// What the route's path specifier matched is replaced.
    Prefix(String),
    /// Every match in the path is replaced.
    Regex(Replacement),
    /// The path is made from the variables of a template.
    Template(Replacement),
}

/// A compiled [`HostRewrite`].
#[derive(Debug)]
pub enum CompiledHostRewrite {
    /// The host stays.
    Keep,
    /// This is the host.
    Literal(String),
    /// The first value of this field is the host.
    Header(FieldName),
    /// The path, changed, is the host.
    PathRegex(Replacement),
    /// The name of the chosen host is the host.
    Auto,
}

/// The cluster that a request goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClusterChoice {
    /// Its place in `action.clusters`, which has its name.
    pub index: usize,
    /// Its number; `None` when it does not exist, or when a header field names it.
    pub id: Option<ClusterId>,
}

impl CompiledTarget {
    /// Chooses a cluster by weight, the same for the same `random`; `None` when nothing is
    /// forwarded.
    #[must_use]
    pub fn choose_cluster(&self, random: u64) -> Option<ClusterChoice> {
        let CompiledTarget::Forward { clusters, total_weight, .. } = self else { return None };
        let index = match clusters.len() {
            1 => 0,
            _ => {
                let point = random.checked_rem(*total_weight)?;
                clusters.partition_point(|(cumulative, _)| *cumulative <= point)
            }
        };
        clusters.get(index).map(|&(_, id)| ClusterChoice { index, id })
    }

    fn forward(
        action: &Arc<config::RouteAction>,
        route: &config::Route,
        host: &config::VirtualHost,
        cluster: impl Fn(&str) -> Option<ClusterId>,
    ) -> CompiledTarget {
        let mut total_weight = 0;
        let clusters = action.clusters.iter().map(|weighted| {
            total_weight += u64::from(weighted.weight);
            let named = weighted.cluster_header.is_none();
            (total_weight, if named { cluster(&weighted.name) } else { None })
        });
        let clusters = clusters.collect();
        let choice = |weighted: &config::WeightedCluster| {
            let level = Level::new(&weighted.mutations);
            let list = |one: Option<_>| -> MutationList { one.into_iter().collect() };
            RouteMutations { request: list(level.request), response: list(level.response) }
        };
        let is_plain =
            |choice: &RouteMutations| choice.request.is_empty() && choice.response.is_empty();
        let mut choices: Vec<RouteMutations> = action.clusters.iter().map(choice).collect();
        if choices.iter().all(is_plain) {
            choices = Vec::new();
        }
        let policy = action.retry_policy.as_deref().or(host.retry_policy.as_ref());
        CompiledTarget::Forward {
            clusters,
            total_weight,
            timeout: action.timeout,
            rewrites: Rewrites::new(action, &route.matches.path).map(Box::new),
            choices,
            retry: policy.map(|policy| Box::new(CompiledRetryPolicy::new(policy))),
            body_limit: retry::body_limit(&route.body_limit, &host.body_limit),
            action: action.clone(),
        }
    }
}

impl CompiledRoute {
    pub(super) fn new(
        id: RouteId,
        (host, host_name): (&config::VirtualHost, &Arc<str>),
        route: &Arc<config::Route>,
        mutations: Option<Box<RouteMutations>>,
        cluster: impl Fn(&str) -> Option<ClusterId>,
    ) -> CompiledRoute {
        let target = match &route.target {
            config::RouteTarget::Forward(action) => {
                CompiledTarget::forward(action, route, host, cluster)
            }
            config::RouteTarget::Redirect(redirect) => {
                let replacement = match &redirect.path {
                    RedirectPath::RegexRewrite(rewrite) => Replacement::new(rewrite).map(Box::new),
                    _ => None,
                };
                CompiledTarget::Redirect(redirect.clone(), replacement)
            }
            config::RouteTarget::DirectResponse(response) => {
                let format = response.body_format.as_ref().and_then(Body::new).map(Box::new);
                CompiledTarget::DirectResponse(response.clone(), format)
            }
        };
        let (choices_change, rewrites) = match &target {
            CompiledTarget::Forward { choices, rewrites, .. } => {
                (!choices.is_empty(), rewrites.is_some())
            }
            _ => (false, false),
        };
        let changes = choices_change || mutations.is_some();
        CompiledRoute {
            changes_requests: changes || rewrites || host.include_request_attempt_count,
            rewrites_host_to_upstream: matches!(
                &route.target,
                config::RouteTarget::Forward(action) if action.host_rewrite == HostRewrite::Auto
            ),
            changes_responses: changes || host.include_attempt_count_in_response,
            id,
            config: route.clone(),
            virtual_host: host_name.clone(),
            target,
            mutations,
            include_request_attempt_count: host.include_request_attempt_count,
            include_attempt_count_in_response: host.include_attempt_count_in_response,
            include_is_timeout_retry_header: host.include_is_timeout_retry_header,
        }
    }

    /// Whether a header or a body has what is [`Measured`](crate::access_log::Measured).
    pub(super) fn measures(&self) -> bool {
        let of_target = match &self.target {
            CompiledTarget::Forward { choices, .. } => choices.iter().any(RouteMutations::measures),
            CompiledTarget::DirectResponse(_, format) => {
                format.as_ref().is_some_and(|body| body.format.measures())
            }
            CompiledTarget::Redirect(..) | CompiledTarget::RequireTls => false,
        };
        of_target || self.mutations.as_ref().is_some_and(|mutations| mutations.measures())
    }

    /// The route that `require_tls` of a virtual host stands for.
    pub(super) fn require_tls(id: RouteId, host: &config::VirtualHost) -> CompiledRoute {
        CompiledRoute {
            id,
            config: Arc::new(config::Route::redirect_of_all()),
            virtual_host: host.name.as_str().into(),
            target: CompiledTarget::RequireTls,
            mutations: None,
            changes_requests: false,
            rewrites_host_to_upstream: false,
            changes_responses: false,
            include_request_attempt_count: false,
            include_attempt_count_in_response: false,
            include_is_timeout_retry_header: false,
        }
    }
}

impl Rewrites {
    /// The rewrites of an action, whose route matches by `matches`; `None` if there are none.
    fn new(action: &config::RouteAction, matches: &PathMatch) -> Option<Rewrites> {
        let by_choice = action.clusters.iter().map(|cluster| cluster.host_rewrite_literal.clone());
        let mut host_by_choice: Vec<Option<String>> = by_choice.collect();
        if host_by_choice.iter().all(Option::is_none) {
            host_by_choice.clear();
        }
        if action.path_rewrite == PathRewrite::Keep
            && action.host_rewrite == HostRewrite::Keep
            && host_by_choice.is_empty()
        {
            return None;
        }
        Some(Rewrites {
            path: CompiledPathRewrite::new(&action.path_rewrite, matches)?,
            host: CompiledHostRewrite::new(&action.host_rewrite)?,
            host_by_choice,
            append_x_forwarded_host: action.append_x_forwarded_host,
        })
    }
}

impl CompiledPathRewrite {
    /// `None` for a regex that does not compile, which validation has refused.
    fn new(rewrite: &PathRewrite, matches: &PathMatch) -> Option<CompiledPathRewrite> {
        Some(match (rewrite, matches) {
            (PathRewrite::Prefix(prefix), _) => CompiledPathRewrite::Prefix(prefix.clone()),
            (PathRewrite::Regex(rewrite), _) => {
                CompiledPathRewrite::Regex(Replacement::new(rewrite)?)
            }
            (PathRewrite::Template(rewrite), PathMatch::Template(template)) => {
                let part = |part: &RewritePart| match part {
                    RewritePart::Literal(text) => SubstitutionPart::Literal(text.clone()),
                    // The group of the first variable is the second, behind the whole match.
                    RewritePart::Variable(place) => SubstitutionPart::Group(place + 1),
                };
                let parts = rewrite.parts.iter().map(part).collect();
                CompiledPathRewrite::Template(Replacement::of_whole(&template.regex, parts)?)
            }
            (PathRewrite::Keep | PathRewrite::Template(_), _) => CompiledPathRewrite::Keep,
        })
    }
}

impl CompiledHostRewrite {
    /// `None` for a regex that does not compile, which validation has refused.
    fn new(rewrite: &HostRewrite) -> Option<CompiledHostRewrite> {
        Some(match rewrite {
            HostRewrite::Keep => CompiledHostRewrite::Keep,
            HostRewrite::Literal(host) => CompiledHostRewrite::Literal(host.clone()),
            HostRewrite::Header(name) => CompiledHostRewrite::Header(FieldName::new(name)),
            HostRewrite::PathRegex(rewrite) => {
                CompiledHostRewrite::PathRegex(Replacement::new(rewrite)?)
            }
            HostRewrite::Auto => CompiledHostRewrite::Auto,
        })
    }
}
