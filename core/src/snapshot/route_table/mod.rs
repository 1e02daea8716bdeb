//! Routes, compiled: the first route that matches is found without trying those before it.
//!
//! Envoy tries the routes of a virtual host in order, so that the last of 10,000 costs 0.4 ms. Here
//! one walk along the path finds the lowest number of all that match; the result is the same.
//!
//! What it leaves to others: carrying the route out (`proxy::router`).

mod candidates;
mod conditions;
mod domains;
mod explain;
mod matcher;
mod mutations;
mod paths;
mod regexes;
mod retry;
mod route;
mod route_set;
#[cfg(test)]
mod tests;
mod text;
mod trie;

pub use conditions::is_grpc;
pub use conditions::{HeaderCondition, Unmet};
pub use explain::{Explanation, Mismatch};
pub use mutations::{AddedValue, Addition, FieldName, MutationList, Mutations, RouteMutations};
pub use retry::CompiledRetryPolicy;
pub use route::{
    ClusterChoice, Clusters, CompiledHostRewrite, CompiledPathRewrite, CompiledRoute,
    CompiledTarget, HostPart, Rewrites, WeightedClusters,
};
pub use text::{Replacement, TextMatch};

use super::ClusterId;
use crate::config::{self, TlsRequirement};
use domains::Domains;
use matcher::{CompiledMatcher, Compiling};
use mutations::Level;
use route_set::RouteSet;
use std::sync::Arc;
use tidegate_http::RequestHead;

/// A compiled route configuration.
#[derive(Debug)]
pub struct RouteTable {
    /// What was asked for.
    pub config: Arc<config::RouteConfiguration>,
    /// Whether a virtual host asks for TLS, so that it matters how a request came.
    pub requires_tls: bool,
    /// Whether a header or a body has what is [`Measured`](crate::access_log::Measured).
    pub measures: bool,
    domains: Domains,
    virtual_hosts: Vec<CompiledVirtualHost>,
}

#[derive(Debug)]
struct CompiledVirtualHost {
    choice: Choice,
    /// By number.
    routes: Vec<CompiledRoute>,
    /// `require_tls`, and the route that redirects what comes without.
    tls: Option<Box<(TlsRequirement, CompiledRoute)>>,
}

/// How a virtual host finds a route.
#[derive(Debug)]
enum Choice {
    /// `routes`
    Routes(RouteSet),
    /// `matcher`
    Matcher(Box<CompiledMatcher>),
}

/// A route's place in its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteId {
    /// The virtual host's place in `virtual_hosts`.
    pub virtual_host: u32,
    /// The route's place in `routes`.
    pub route: u32,
}

/// The place of the route by which `require_tls` redirects.
const TLS_REDIRECT: u32 = u32::MAX;

/// What a route is chosen by.
#[derive(Clone, Copy, Debug)]
pub struct RouteQuery<'r> {
    /// The request.
    pub head: &'r RequestHead,
    /// Decides about shares of requests.
    pub random: u64,
    /// The request came by TLS, here or at a proxy before.
    pub https: bool,
    /// It is from inside.
    pub internal: bool,
}

impl<'r> RouteQuery<'r> {
    /// A request from outside, without TLS.
    #[must_use]
    pub fn new(head: &'r RequestHead, random: u64) -> RouteQuery<'r> {
        RouteQuery { head, random, https: false, internal: false }
    }
}

impl RouteTable {
    /// Compiles a route configuration. `cluster` gives the number of a cluster's name.
    #[must_use]
    pub fn compile(
        config: Arc<config::RouteConfiguration>,
        cluster: impl Fn(&str) -> Option<ClusterId>,
    ) -> RouteTable {
        let mut failures = 0;
        let level = Level::new(&config.mutations);
        let virtual_hosts = (0..).zip(&config.virtual_hosts).map(|(number, host)| {
            CompiledVirtualHost::compile(number, host, &config, &level, &cluster, &mut failures)
        });
        let virtual_hosts: Vec<CompiledVirtualHost> = virtual_hosts.collect();
        let measures =
            virtual_hosts.iter().any(|host| host.routes.iter().any(CompiledRoute::measures));
        let domains = (0_u32..).zip(&config.virtual_hosts).flat_map(|(number, host)| {
            host.domains.iter().map(move |domain| (domain.as_str(), number))
        });
        let domains = Domains::new(domains);
        let requires_tls =
            config.virtual_hosts.iter().any(|host| host.require_tls != TlsRequirement::None);
        RouteTable { config, requires_tls, measures, domains, virtual_hosts }
    }

    /// The first route that matches: virtual host by the authority (Envoy's precedence), then the
    /// first route in order whose path and conditions match. Its cost does not grow with the number
    /// of routes that have no conditions. Allocates nothing.
    #[must_use]
    pub fn find(&self, query: &RouteQuery<'_>) -> Option<&CompiledRoute> {
        self.find_stepwise(query, || ())
    }

    /// The route at this place of this table.
    #[must_use]
    pub fn get(&self, id: RouteId) -> &CompiledRoute {
        let host = &self.virtual_hosts[id.virtual_host as usize];
        match &host.tls {
            Some(tls) if id.route == TLS_REDIRECT => &tls.1,
            _ => &host.routes[id.route as usize],
        }
    }

    /// Says what is wrong with a `safe_regex`, if anything is, as one sentence for the operator. A
    /// regex that passes is one that [`RouteTable::compile`] can compile.
    ///
    /// # Errors
    ///
    /// Syntax that is not RE2's, or a regex that is too large.
    pub fn check_regex(regex: &str) -> Result<usize, String> {
        regexes::check(regex)
    }

    /// The virtual host for a request with this authority: its place in `virtual_hosts`.
    #[must_use]
    pub fn find_virtual_host(&self, authority: &[u8]) -> Option<u32> {
        self.domains.find(self.host_of(authority), || ())
    }

    fn host_of<'a>(&self, authority: &'a [u8]) -> &'a [u8] {
        match self.config.ignore_port_in_host_matching {
            true => without_port(authority),
            false => authority,
        }
    }

    /// Calls `step` for each node of a trie and each automaton that it looks at.
    fn find_stepwise(
        &self,
        query: &RouteQuery<'_>,
        mut step: impl FnMut(),
    ) -> Option<&CompiledRoute> {
        let host = self.domains.find(self.host_of(query.head.authority()), &mut step)?;
        let host = &self.virtual_hosts[host as usize];
        match &host.tls {
            Some(tls) if redirects(tls.0, query) => Some(&tls.1),
            _ => host.find(query, step),
        }
    }
}

fn redirects(requirement: TlsRequirement, query: &RouteQuery<'_>) -> bool {
    match requirement {
        TlsRequirement::None => false,
        TlsRequirement::ExternalOnly => !query.https && !query.internal,
        TlsRequirement::All => !query.https,
    }
}

impl CompiledVirtualHost {
    fn compile(
        number: u32,
        host: &config::VirtualHost,
        config: &config::RouteConfiguration,
        level: &Level,
        cluster: impl Fn(&str) -> Option<ClusterId>,
        failures: &mut u32,
    ) -> CompiledVirtualHost {
        let host_level = Level::new(&host.mutations);
        let part = Arc::new(HostPart::new(host));
        let routes = (0..).zip(&host.routes).map(|(route, route_config)| {
            let mutations = RouteMutations::new(
                [&Level::new(&route_config.mutations), &host_level, level],
                config.most_specific_header_mutations_wins,
            );
            let id = RouteId { virtual_host: number, route };
            CompiledRoute::new(id, &part, route_config, mutations, &cluster)
        });
        let cuts_parameters = config.ignore_path_parameters_in_path_matching;
        let choice = match &host.matcher {
            None => Choice::Routes(RouteSet::new(&host.routes, 0, cuts_parameters, failures)),
            Some(matcher) => {
                let mut with = Compiling { routes: &host.routes, cuts_parameters, failures };
                Choice::Matcher(Box::new(CompiledMatcher::new(matcher, &mut with)))
            }
        };
        let tls_redirect = RouteId { virtual_host: number, route: TLS_REDIRECT };
        CompiledVirtualHost {
            choice,
            routes: routes.collect(),
            tls: match host.require_tls {
                TlsRequirement::None => None,
                requirement => {
                    let redirect = CompiledRoute::require_tls(tls_redirect, &part);
                    Some(Box::new((requirement, redirect)))
                }
            },
        }
    }

    fn find(&self, query: &RouteQuery<'_>, step: impl FnMut()) -> Option<&CompiledRoute> {
        let set = self.routes_for(query)?;
        Some(&self.routes[set.find(query, step)? as usize])
    }

    /// The routes that a request can take here.
    fn routes_for(&self, query: &RouteQuery<'_>) -> Option<&RouteSet> {
        match &self.choice {
            Choice::Routes(set) => Some(set),
            Choice::Matcher(matcher) => matcher.find(query.head),
        }
    }
}

/// The path without its query and what is behind it.
pub(super) fn without_query(path: &[u8]) -> &[u8] {
    &path[..memchr::memchr2(b'?', b'#', path).unwrap_or(path.len())]
}

/// The path up to the first `;`, too.
fn without_parameters(path: &[u8]) -> &[u8] {
    &path[..memchr::memchr3(b'?', b'#', b';', path).unwrap_or(path.len())]
}

/// The authority without its port, if that is a number.
pub fn without_port(authority: &[u8]) -> &[u8] {
    let Some(colon) = memchr::memrchr(b':', authority) else { return authority };
    let (host, port) = (&authority[..colon], &authority[colon + 1..]);
    let is_port = !port.is_empty() && port.iter().all(u8::is_ascii_digit);
    // Colons before it are those of an IPv6 address, which must be in brackets then.
    let is_whole = memchr::memchr(b':', host).is_none() || host.ends_with(b"]");
    if is_port && is_whole { host } else { authority }
}
