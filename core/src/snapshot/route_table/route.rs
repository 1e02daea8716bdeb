//! One route, with everything looked up that can be.
//!
//! What it leaves to others: finding it (the table), carrying it out (`proxy`).

use super::mutations::{FieldName, Level, MutationList, RouteMutations};
use super::retry::{self, CompiledRetryPolicy};
use super::{Replacement, RouteId};
use crate::config::{
    self, HostRewrite, PathMatch, PathRewrite, RedirectPath, RewritePart, SubstitutionPart,
};
use crate::snapshot::{Body, ClusterId};
use std::sync::Arc;

/// One route, with everything looked up that can be.
#[derive(Debug)]
pub struct CompiledRoute {
    /// Its place in the table.
    pub id: RouteId,
    /// What was asked for.
    pub config: Arc<config::Route>,
    /// What all routes of its virtual host have in common.
    pub host: Arc<HostPart>,
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
}

/// What all routes of a virtual host have in common.
#[derive(Debug)]
pub struct HostPart {
    /// Name of the virtual host.
    pub name: String,
    /// `include_request_attempt_count`
    pub include_request_attempt_count: bool,
    /// `include_attempt_count_in_response`
    pub include_attempt_count_in_response: bool,
    /// `include_is_timeout_retry_header`
    pub include_is_timeout_retry_header: bool,
    body_limit: config::BodyLimit,
    /// `retry_policy`, for routes that have none.
    retry: Option<Arc<CompiledRetryPolicy>>,
}

/// What to do with a request.
#[derive(Debug)]
pub enum CompiledTarget {
    /// Forward it.
    Forward {
        /// To which cluster.
        clusters: Clusters,
        /// What was asked for.
        options: Arc<config::ActionOptions>,
        /// Rewrites, if there are any.
        rewrites: Option<Box<Rewrites>>,
        /// `retry_policy`, the virtual host's if the route has none.
        retry: Option<Arc<CompiledRetryPolicy>>,
    },
    /// Redirect it.
    Redirect(Arc<config::RedirectAction>, Option<Box<Replacement>>),
    /// Redirect it to the same address with `https`.
    RequireTls,
    /// Answer it.
    DirectResponse(Arc<config::DirectResponse>, Option<Box<Body>>),
}

/// The clusters of a route. `None` is a cluster that has no number: it does not exist, or a header
/// field names it.
#[derive(Debug)]
pub enum Clusters {
    /// Always the same.
    One(Option<ClusterId>),
    /// By weight.
    Weighted(Box<WeightedClusters>),
}

/// Clusters by weight.
#[derive(Debug)]
pub struct WeightedClusters {
    /// With the sum of the weights up to each.
    cumulative: Vec<(u64, Option<ClusterId>)>,
    /// Header fields that go with the choice of a cluster, by cluster; empty when there are none.
    mutations: Vec<RouteMutations>,
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
        match self {
            CompiledTarget::Forward { clusters: Clusters::One(id), .. } => {
                Some(ClusterChoice { index: 0, id: *id })
            }
            CompiledTarget::Forward { clusters: Clusters::Weighted(clusters), .. } => {
                clusters.choose(random)
            }
            _ => None,
        }
    }

    /// Header fields that go with the choice of this cluster, if any do.
    #[must_use]
    pub fn mutations_of_choice(&self, index: usize) -> Option<&RouteMutations> {
        match self {
            CompiledTarget::Forward { clusters: Clusters::Weighted(clusters), .. } => {
                clusters.mutations.get(index)
            }
            _ => None,
        }
    }

    fn forward(
        action: &config::RouteAction,
        route: &config::Route,
        host: &HostPart,
        cluster: impl Fn(&str) -> Option<ClusterId>,
    ) -> CompiledTarget {
        let policy = action.options.retry_policy.as_deref();
        let policy = policy.map(|policy| Arc::new(CompiledRetryPolicy::new(policy)));
        CompiledTarget::Forward {
            clusters: Clusters::new(&action.clusters, cluster),
            options: action.options.clone(),
            rewrites: Rewrites::new(action, &route.matches.path).map(Box::new),
            retry: policy.or_else(|| host.retry.clone()),
        }
    }
}

impl Clusters {
    fn new(
        clusters: &[config::WeightedCluster],
        number: impl Fn(&str) -> Option<ClusterId>,
    ) -> Clusters {
        let number = |it: &config::WeightedCluster| match it.cluster_header {
            None => number(&it.name),
            Some(_) => None,
        };
        let is_plain = |it: &config::WeightedCluster| it.mutations.is_empty();
        if let [only] = clusters
            && is_plain(only)
        {
            return Clusters::One(number(only));
        }
        let mut total = 0;
        let cumulative = clusters.iter().map(|it| {
            total += u64::from(it.weight);
            (total, number(it))
        });
        let mutations = |it: &config::WeightedCluster| {
            let level = Level::new(&it.mutations);
            let list = |one: Option<_>| -> MutationList { one.into_iter().collect() };
            RouteMutations { request: list(level.request), response: list(level.response) }
        };
        Clusters::Weighted(Box::new(WeightedClusters {
            cumulative: cumulative.collect(),
            mutations: match clusters.iter().all(is_plain) {
                true => Vec::new(),
                false => clusters.iter().map(mutations).collect(),
            },
        }))
    }
}

impl WeightedClusters {
    fn choose(&self, random: u64) -> Option<ClusterChoice> {
        let (total, _) = self.cumulative.last()?;
        let point = random.checked_rem(*total)?;
        let index = self.cumulative.partition_point(|(cumulative, _)| *cumulative <= point);
        self.cumulative.get(index).map(|&(_, id)| ClusterChoice { index, id })
    }
}

impl HostPart {
    pub(super) fn new(host: &config::VirtualHost) -> HostPart {
        HostPart {
            name: host.name.clone(),
            include_request_attempt_count: host.include_request_attempt_count,
            include_attempt_count_in_response: host.include_attempt_count_in_response,
            include_is_timeout_retry_header: host.include_is_timeout_retry_header,
            body_limit: host.body_limit,
            retry: host.retry_policy.as_ref().map(|it| Arc::new(CompiledRetryPolicy::new(it))),
        }
    }
}

impl CompiledRoute {
    pub(super) fn new(
        id: RouteId,
        host: &Arc<HostPart>,
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
        let rewrites = matches!(&target, CompiledTarget::Forward { rewrites: Some(_), .. });
        let changes = target.mutations_of_choice(0).is_some() || mutations.is_some();
        CompiledRoute {
            changes_requests: changes || rewrites || host.include_request_attempt_count,
            rewrites_host_to_upstream: matches!(
                &route.target,
                config::RouteTarget::Forward(action)
                    if action.options.host_rewrite == HostRewrite::Auto
            ),
            changes_responses: changes || host.include_attempt_count_in_response,
            id,
            config: route.clone(),
            host: host.clone(),
            target,
            mutations,
        }
    }

    /// How much of a request's body is kept for retries, where the listener's
    /// `per_connection_buffer_limit_bytes` is this.
    #[must_use]
    pub fn body_limit(&self, of_listener: u32) -> u64 {
        let of_route = self.config.body_limit.as_deref().copied().unwrap_or_default();
        retry::body_limit(of_route, self.host.body_limit, of_listener)
    }

    /// Whether a header or a body has what is [`Measured`](crate::access_log::Measured).
    pub(super) fn measures(&self) -> bool {
        let of_target = match &self.target {
            CompiledTarget::Forward { clusters: Clusters::Weighted(clusters), .. } => {
                clusters.mutations.iter().any(RouteMutations::measures)
            }
            CompiledTarget::Forward { .. } => false,
            CompiledTarget::DirectResponse(_, format) => {
                format.as_ref().is_some_and(|body| body.format.measures())
            }
            CompiledTarget::Redirect(..) | CompiledTarget::RequireTls => false,
        };
        of_target || self.mutations.as_ref().is_some_and(|mutations| mutations.measures())
    }

    /// The route that `require_tls` of a virtual host stands for.
    pub(super) fn require_tls(id: RouteId, host: &Arc<HostPart>) -> CompiledRoute {
        CompiledRoute {
            id,
            config: Arc::new(config::Route::redirect_of_all()),
            host: host.clone(),
            target: CompiledTarget::RequireTls,
            mutations: None,
            changes_requests: false,
            rewrites_host_to_upstream: false,
            changes_responses: false,
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
        let options = &action.options;
        if options.path_rewrite == PathRewrite::Keep
            && options.host_rewrite == HostRewrite::Keep
            && host_by_choice.is_empty()
        {
            return None;
        }
        Some(Rewrites {
            path: CompiledPathRewrite::new(&options.path_rewrite, matches)?,
            host: CompiledHostRewrite::new(&options.host_rewrite)?,
            host_by_choice,
            append_x_forwarded_host: options.append_x_forwarded_host,
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
