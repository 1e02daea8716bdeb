//! Route configurations (`config.route.v3`).
//!
//! What it leaves to others: which requests a route takes (`route_match`), what it does with them
//! (`route_action`, `redirect`), and compiling it all (`snapshot::RouteTable`).

use super::alike::Alike;
use super::bootstrap::ClusterNames;
use super::config_source::ConfigSource;
use super::convert::At;
use super::header_mutation::{LevelMutations, level_mutations};
use super::matcher::{Matcher, MatcherReader};
use super::metadata::Metadata;
use super::protobuf::split_field;
use super::redirect::{DirectResponse, RedirectAction};
use super::retry_policy::RetryPolicy;
use super::route_action::{ActionOptions, RouteAction, WeightedCluster};
use super::route_match::{PathMatch, RouteMatch};
use super::support::{SupportedMessage, kept, message, refused, reported, used};
use envoy_types::pb::envoy::config::route::v3 as pb;
use prost::{DecodeError, Message};
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

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
    /// `internal_only_headers`: removed from requests of clients that are not internal; in lower
    /// case.
    pub internal_only_headers: Vec<String>,
    /// Header fields of all responses and requests that take a route.
    pub mutations: LevelMutations,
    /// `most_specific_header_mutations_wins`: the route's mutations are done last, not first.
    pub most_specific_header_mutations_wins: bool,
    /// `ignore_port_in_host_matching`
    pub ignore_port_in_host_matching: bool,
    /// `ignore_path_parameters_in_path_matching`: paths are matched up to their first `;`.
    pub ignore_path_parameters_in_path_matching: bool,
    /// `vhds.config_source`: more virtual hosts come from there.
    pub vhds: Option<ConfigSource>,
}

/// `config.route.v3.VirtualHost`
#[derive(Clone, PartialEq, Debug, Default)]
pub struct VirtualHost {
    /// `name`
    pub name: String,
    /// `domains`: exact, `*.suffix`, `prefix.*` or `*`, in lower case.
    pub domains: Vec<String>,
    /// `routes`, in order: the first that matches is taken. With a matcher, the routes in it.
    pub routes: Vec<Arc<Route>>,
    /// `matcher`: which of the routes are looked at.
    pub matcher: Option<Box<Matcher>>,
    /// `require_tls`
    pub require_tls: TlsRequirement,
    /// `include_request_attempt_count`: upstreams get `x-envoy-attempt-count`.
    pub include_request_attempt_count: bool,
    /// `include_attempt_count_in_response`: clients get `x-envoy-attempt-count`.
    pub include_attempt_count_in_response: bool,
    /// `include_is_timeout_retry_header`: retries say whether a timeout of the try caused them.
    pub include_is_timeout_retry_header: bool,
    /// `retry_policy` of routes that have none.
    pub retry_policy: Option<Box<RetryPolicy>>,
    /// How much of a request's body is kept for retries.
    pub body_limit: BodyLimit,
    /// Header fields of this virtual host's routes.
    pub mutations: LevelMutations,
}

/// How much of a request's body is kept for retries; what is not set leaves it to the virtual host,
/// and that to `per_connection_buffer_limit_bytes` of the listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BodyLimit {
    /// `request_body_buffer_limit`
    pub bytes: Option<u64>,
    /// `per_request_buffer_limit_bytes`, which can only make the listener's limit smaller.
    pub per_request: Option<u32>,
}

impl BodyLimit {
    fn is_set(&self) -> bool {
        *self != BodyLimit::default()
    }
}

/// `require_tls`: which requests without TLS are redirected to `https`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TlsRequirement {
    /// `NONE`
    #[default]
    None,
    /// `EXTERNAL_ONLY`: those that are not from inside.
    ExternalOnly,
    /// `ALL`
    All,
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
    /// How much of a request's body is kept for retries, if the route says anything of it.
    pub body_limit: Option<Box<BodyLimit>>,
    /// Header fields of this route.
    pub mutations: LevelMutations,
    /// `metadata`
    pub metadata: Metadata,
}

/// What to do with a request that matched.
#[derive(Clone, PartialEq, Debug)]
pub enum RouteTarget {
    /// `route`
    Forward(RouteAction),
    /// `redirect`
    Redirect(Arc<RedirectAction>),
    /// `direct_response`
    DirectResponse(Arc<DirectResponse>),
}

impl RouteTarget {
    /// `cluster_header` of a cluster of a route that forwards.
    #[must_use]
    pub fn cluster_header(&self, index: usize) -> Option<&str> {
        match self {
            RouteTarget::Forward(action) => action.clusters.get(index)?.cluster_header.as_deref(),
            RouteTarget::Redirect(_) | RouteTarget::DirectResponse(_) => None,
        }
    }
}

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
            used("internal_only_headers"),
            used("request_headers_to_add"),
            used("request_headers_to_remove"),
            used("response_headers_to_add"),
            used("response_headers_to_remove"),
            used("most_specific_header_mutations_wins"),
            used("ignore_port_in_host_matching"),
            used("ignore_path_parameters_in_path_matching"),
            used("vhds"),
            kept("metadata", "nothing reads a route configuration's metadata"),
        ],
    ),
    message("envoy.config.route.v3.Vhds", &[used("config_source")]),
    message(
        "envoy.config.route.v3.VirtualHost",
        &[
            used("name"),
            used("domains"),
            used("routes"),
            used("matcher"),
            used("request_headers_to_add"),
            used("request_headers_to_remove"),
            used("response_headers_to_add"),
            used("response_headers_to_remove"),
            used("require_tls"),
            used("include_request_attempt_count"),
            used("include_attempt_count_in_response"),
            used("include_is_timeout_retry_header"),
            used("retry_policy"),
            refused("retry_policy_typed_config"),
            used("request_body_buffer_limit"),
            used("per_request_buffer_limit_bytes"),
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
            used("request_headers_to_add"),
            used("request_headers_to_remove"),
            used("response_headers_to_add"),
            used("response_headers_to_remove"),
            used("request_body_buffer_limit"),
            used("per_request_buffer_limit_bytes"),
            refused("filter_action"),
            refused("non_forwarding_action"),
            used("metadata"),
            kept("decorator", "there is no tracing"),
            kept("tracing", "there is no tracing"),
            reported("stat_prefix", "there are no stats by route"),
        ],
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
        let hosts = config.virtual_hosts.iter().map(|host| (Cow::Borrowed(host), Vec::new()));
        RouteConfiguration::with_hosts(at, config, hosts, clusters)
    }

    /// The same of an encoded one. Its routes are decoded one by one: a decoded route takes ten
    /// times the memory that it takes in the end, and is expensive to move.
    ///
    /// # Errors
    ///
    /// When it cannot be decoded.
    pub(super) fn decode(
        at: &At<'_>,
        bytes: &[u8],
    ) -> Result<Option<RouteConfiguration>, DecodeError> {
        let (hosts, rest) = split_field(bytes, VIRTUAL_HOSTS)?;
        let config = pb::RouteConfiguration::decode(rest.as_slice())?;
        let mut failure = Ok(());
        let split = |host| {
            let (routes, rest) = split_field(host, ROUTES)?;
            Ok((Cow::Owned(pb::VirtualHost::decode(rest.as_slice())?), routes))
        };
        let hosts = hosts.into_iter().map_while(|host| match split(host) {
            Ok(host) => Some(host),
            Err(error) => {
                failure = Err(error);
                None
            }
        });
        let converted = RouteConfiguration::with_hosts(at, &config, hosts, &None);
        failure.map(|()| converted)
    }

    fn with_hosts<'h>(
        at: &At<'_>,
        config: &pb::RouteConfiguration,
        hosts: impl Iterator<Item = (Cow<'h, pb::VirtualHost>, Vec<&'h [u8]>)>,
        clusters: &ClusterNames<'_>,
    ) -> Option<RouteConfiguration> {
        let validate_clusters = config.validate_clusters.is_none_or(|flag| flag.value);
        let context = RouteContext::new(
            clusters.as_ref().filter(|_| validate_clusters),
            config
                .max_direct_response_body_size_bytes
                .map_or(DEFAULT_MAX_BODY_BYTES, |limit| limit.value),
        );
        let mutations = level_mutations!(at, config);
        let vhds = config.vhds.as_ref().and_then(|vhds| {
            let at = at.field("vhds");
            let at = at.field("config_source");
            at.converted(ConfigSource::from_proto(&at, vhds.config_source.as_ref()?))
        });
        let at = at.field("virtual_hosts");
        let mut names = HashSet::new();
        let mut domains = HashSet::new();
        let mut virtual_hosts = Vec::with_capacity(hosts.size_hint().1.unwrap_or_default());
        for (index, (host, routes)) in hosts.enumerate() {
            let at = at.index(index);
            if !host.name.is_empty() && !names.insert(host.name.clone()) {
                at.field("name").warning(format!("duplicate virtual host `{}`", host.name));
            }
            let host = VirtualHost::from_proto(&at, &host, &routes, &context);
            check_domains(&at, &host.domains, &mut domains);
            virtual_hosts.push(host);
        }
        Some(RouteConfiguration {
            name: config.name.clone(),
            virtual_hosts,
            validate_clusters,
            internal_only_headers: config
                .internal_only_headers
                .iter()
                .map(|name| name.to_ascii_lowercase())
                .collect(),
            mutations,
            most_specific_header_mutations_wins: config.most_specific_header_mutations_wins,
            ignore_port_in_host_matching: config.ignore_port_in_host_matching,
            ignore_path_parameters_in_path_matching: config.ignore_path_parameters_in_path_matching,
            vhds,
        })
    }

    /// The clusters that its routes name.
    pub fn cluster_names(&self) -> impl Iterator<Item = &str> {
        let routes = self.virtual_hosts.iter().flat_map(|host| &host.routes);
        let actions = routes.filter_map(|route| match &route.target {
            RouteTarget::Forward(action) => Some(action),
            RouteTarget::Redirect(_) | RouteTarget::DirectResponse(_) => None,
        });
        let clusters = actions.flat_map(|action| action.clusters.iter());
        clusters.filter(|it| it.cluster_header.is_none()).map(|it| it.name.as_str())
    }

    /// The same with more virtual hosts. `Err`: a domain that would be there twice.
    pub fn with_virtual_hosts<'h>(
        &self,
        hosts: impl Iterator<Item = &'h VirtualHost>,
    ) -> Result<RouteConfiguration, String> {
        let mut all = self.clone();
        all.virtual_hosts.extend(hosts.cloned());
        let mut seen = HashSet::new();
        let mut domains = all.virtual_hosts.iter().flat_map(|host| &host.domains);
        match domains.find(|domain| !seen.insert(domain.as_str())) {
            Some(twice) => Err(twice.clone()),
            None => Ok(all),
        }
    }
}

/// The number of `RouteConfiguration.virtual_hosts`.
const VIRTUAL_HOSTS: u32 = 2;
/// The number of `VirtualHost.routes`.
const ROUTES: u32 = 3;

/// What routes need to know of what is around them.
pub(super) struct RouteContext<'c> {
    /// The clusters that there are, when routes may name no others.
    pub clusters: Option<&'c HashSet<&'c str>>,
    /// The longest body of a direct response.
    pub max_body_bytes: u32,
    /// Clusters of routes.
    pub clusters_alike: Alike<[WeightedCluster]>,
    /// Options of routes.
    pub options_alike: Alike<ActionOptions>,
}

impl<'c> RouteContext<'c> {
    fn new(clusters: Option<&'c HashSet<&'c str>>, max_body_bytes: u32) -> RouteContext<'c> {
        let (clusters_alike, options_alike) = (Alike::default(), Alike::default());
        RouteContext { clusters, max_body_bytes, clusters_alike, options_alike }
    }
}

fn check_domains(at: &At<'_>, domains: &[String], seen: &mut HashSet<String>) {
    let at = at.field("domains");
    for (index, domain) in domains.iter().enumerate() {
        let at = at.index(index);
        if domain.is_empty() {
            at.warning("an empty domain is no host's: `*` matches every host");
        } else if !seen.insert(domain.clone()) {
            let reason = match domain.as_str() {
                "*" => "only one `*` can be in a route configuration".to_owned(),
                _ => format!("the domain `{domain}` is there twice in this route configuration"),
            };
            at.error_hint(reason, "a domain belongs to one virtual host: put its routes there");
        }
    }
}

/// The limit of a route or a virtual host.
macro_rules! body_limit {
    ($at:expr, $of:expr) => {{
        let bytes = $of.request_body_buffer_limit.as_ref().map(|limit| limit.value);
        #[allow(deprecated, reason = "configurations still have the fields that Envoy deprecates")]
        let per_request = $of.per_request_buffer_limit_bytes.as_ref().map(|limit| limit.value);
        if bytes.is_some() && per_request.is_some() {
            $at.field("per_request_buffer_limit_bytes")
                .warning("no effect beside `request_body_buffer_limit`");
        }
        BodyLimit { bytes, per_request }
    }};
}

impl VirtualHost {
    /// Converts one that comes by itself.
    pub(super) fn alone_from_proto(at: &At<'_>, host: &pb::VirtualHost) -> VirtualHost {
        let context = RouteContext::new(None, DEFAULT_MAX_BODY_BYTES);
        let converted = VirtualHost::from_proto(at, host, &[], &context);
        check_domains(at, &converted.domains, &mut HashSet::new());
        converted
    }

    /// `encoded`: its routes, if they are not decoded.
    fn from_proto(
        at: &At<'_>,
        host: &pb::VirtualHost,
        encoded: &[&[u8]],
        context: &RouteContext<'_>,
    ) -> VirtualHost {
        use pb::virtual_host::TlsRequirementType as Tls;
        let mutations = level_mutations!(at, host);
        let at_routes = at.field("routes");
        let mut routes = Vec::with_capacity(host.routes.len() + encoded.len());
        let mut add = |at: &At<'_>, route: &pb::Route| {
            routes.extend(at.converted(Route::from_proto(at, route, context)).map(Arc::new));
        };
        for (index, route) in host.routes.iter().enumerate() {
            add(&at_routes.index(index), route);
        }
        for (index, route) in encoded.iter().enumerate() {
            let at = at_routes.index(index);
            match pb::Route::decode(*route) {
                Ok(route) => add(&at, &route),
                Err(error) => at.error(format!("cannot be decoded: {error}")),
            }
        }
        let mut matcher = None;
        if let Some(found) = &host.matcher {
            let at = at.field("matcher");
            if !routes.is_empty() {
                at.error("only one of `routes` and `matcher`");
            }
            let mut reader = MatcherReader { context, routes: Vec::new() };
            matcher = at.converted(reader.matcher(&at, found)).map(Box::new);
            routes = reader.routes;
        }
        VirtualHost {
            name: host.name.clone(),
            domains: host.domains.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
            routes,
            matcher,
            require_tls: match host.require_tls() {
                Tls::None => TlsRequirement::None,
                Tls::ExternalOnly => TlsRequirement::ExternalOnly,
                Tls::All => TlsRequirement::All,
            },
            include_request_attempt_count: host.include_request_attempt_count,
            include_attempt_count_in_response: host.include_attempt_count_in_response,
            include_is_timeout_retry_header: host.include_is_timeout_retry_header,
            retry_policy: host.retry_policy.as_ref().and_then(|policy| {
                let at = at.field("retry_policy");
                at.converted(RetryPolicy::from_proto(&at, policy)).map(Box::new)
            }),
            body_limit: body_limit!(at, host),
            mutations,
        }
    }
}

impl Route {
    /// What `require_tls` of a virtual host stands for.
    pub(crate) fn redirect_of_all() -> Route {
        Route {
            name: String::new(),
            matches: RouteMatch::new(PathMatch::Prefix(String::new())),
            target: RouteTarget::Redirect(Arc::default()),
            body_limit: None,
            mutations: LevelMutations::default(),
            metadata: Metadata::default(),
        }
    }

    pub(super) fn from_proto(
        at: &At<'_>,
        route: &pb::Route,
        context: &RouteContext<'_>,
    ) -> Option<Route> {
        use pb::route::Action;
        let matches = route
            .r#match
            .as_ref()
            .and_then(|matches| RouteMatch::from_proto(&at.field("match"), matches));
        let target = match &route.action {
            Some(Action::Route(action)) => {
                let path = matches.as_ref().map(|matches| &matches.path);
                RouteAction::from_proto(&at.field("route"), action, path, context)
                    .map(RouteTarget::Forward)
            }
            Some(Action::Redirect(redirect)) => {
                RedirectAction::from_proto(&at.field("redirect"), redirect)
                    .map(|action| RouteTarget::Redirect(Arc::new(action)))
            }
            Some(Action::DirectResponse(response)) => {
                DirectResponse::from_proto(&at.field("direct_response"), response, context)
                    .map(|response| RouteTarget::DirectResponse(Arc::new(response)))
            }
            // The reader has refused the others by name, or has reported that there is none.
            Some(Action::FilterAction(_) | Action::NonForwardingAction(_)) | None => None,
        };
        Some(Route {
            name: route.name.clone(),
            matches: matches?,
            target: target?,
            body_limit: Some(body_limit!(at, route)).filter(BodyLimit::is_set).map(Box::new),
            mutations: level_mutations!(at, route),
            metadata: Metadata::from_proto(route.metadata.as_ref()),
        })
    }
}
