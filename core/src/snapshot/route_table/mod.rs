//! Routes, compiled: the first route that matches is found without trying those before it.
//!
//! Envoy tries the routes of a virtual host in order, so that the last of 10,000 costs 0.4 ms. Here
//! one walk along the path finds the lowest number of all that match; the result is the same.
//!
//! What it leaves to others: carrying the route out (`proxy::router`).

mod domains;
mod paths;
mod regexes;
#[cfg(test)]
mod tests;
mod trie;

use super::ClusterId;
use crate::config;
use domains::Domains;
use paths::Paths;
use std::sync::Arc;
use std::time::Duration;

/// A compiled route configuration.
#[derive(Debug)]
pub struct RouteTable {
    /// What was asked for.
    pub config: Arc<config::RouteConfiguration>,
    domains: Domains,
    virtual_hosts: Vec<CompiledVirtualHost>,
}

#[derive(Debug)]
struct CompiledVirtualHost {
    paths: Paths,
    /// By number in `paths`.
    routes: Vec<CompiledRoute>,
}

/// A route's place in its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteId {
    virtual_host: u32,
    route: u32,
}

/// One route, with everything looked up that can be.
#[derive(Debug)]
pub struct CompiledRoute {
    /// Its place in the table.
    pub id: RouteId,
    /// `name`
    pub name: String,
    /// Name of the virtual host.
    pub virtual_host: String,
    /// How the path matched, for rewrites: the length of the matched prefix is that of this
    /// pattern.
    pub path: config::PathMatch,
    /// What to do.
    pub target: CompiledTarget,
}

/// What to do with a request.
#[derive(Debug)]
pub enum CompiledTarget {
    /// Forward it.
    Forward {
        /// Clusters with cumulative weights; `None` for a cluster that has no number: it does not
        /// exist.
        clusters: Vec<(u64, Option<ClusterId>)>,
        /// The sum of the weights.
        total_weight: u64,
        /// `timeout`
        timeout: Option<Duration>,
        /// What was asked for.
        action: config::RouteAction,
    },
    /// Redirect it.
    Redirect(config::RedirectAction),
    /// Answer it.
    DirectResponse(config::DirectResponse),
}

/// The cluster that a request goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClusterChoice {
    /// Its place in `action.clusters`, which has its name.
    pub index: usize,
    /// Its number; `None` when it does not exist.
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
}

impl RouteTable {
    /// Compiles a route configuration. `cluster` gives the number of a cluster's name.
    #[must_use]
    pub fn compile(
        config: Arc<config::RouteConfiguration>,
        cluster: impl Fn(&str) -> Option<ClusterId>,
    ) -> RouteTable {
        let mut failures = 0;
        let virtual_hosts = (0..).zip(&config.virtual_hosts).map(|(virtual_host, host)| {
            let routes = (0..).zip(&host.routes).map(|(route, config)| {
                CompiledRoute::new(RouteId { virtual_host, route }, host, config, &cluster)
            });
            CompiledVirtualHost {
                paths: Paths::new(host.routes.iter().map(|route| &route.matches), &mut failures),
                routes: routes.collect(),
            }
        });
        let virtual_hosts = virtual_hosts.collect();
        let domains = (0_u32..).zip(&config.virtual_hosts).flat_map(|(number, host)| {
            host.domains.iter().map(move |domain| (domain.as_str(), number))
        });
        let domains = Domains::new(domains);
        RouteTable { config, domains, virtual_hosts }
    }

    /// The first route that matches: virtual host by `authority` (Envoy's precedence), then the
    /// first route in order whose path matches. `path` may have a query, which is ignored. Its cost
    /// does not grow with the number of routes. Allocates nothing.
    #[must_use]
    pub fn find(&self, authority: &[u8], path: &[u8]) -> Option<&CompiledRoute> {
        self.find_stepwise(authority, path, || ())
    }

    /// The route at this place of this table.
    #[must_use]
    pub fn get(&self, id: RouteId) -> &CompiledRoute {
        &self.virtual_hosts[id.virtual_host as usize].routes[id.route as usize]
    }

    /// Says what is wrong with a `safe_regex`, if anything is, as one sentence for the operator. A
    /// regex that passes is one that [`RouteTable::compile`] can compile.
    ///
    /// # Errors
    ///
    /// Syntax that is not RE2's, or a regex that is too large.
    pub fn check_regex(regex: &str) -> Result<(), String> {
        regexes::check(regex)
    }

    /// Calls `step` for each node of a trie and each automaton that it looks at.
    fn find_stepwise(
        &self,
        authority: &[u8],
        path: &[u8],
        mut step: impl FnMut(),
    ) -> Option<&CompiledRoute> {
        let host = self.domains.find(authority, &mut step)?;
        let host = &self.virtual_hosts[host as usize];
        let end = memchr::memchr2(b'?', b'#', path).unwrap_or(path.len());
        let route = host.paths.find(&path[..end], step)?;
        Some(&host.routes[route as usize])
    }
}

impl CompiledRoute {
    fn new(
        id: RouteId,
        host: &config::VirtualHost,
        route: &config::Route,
        cluster: impl Fn(&str) -> Option<ClusterId>,
    ) -> CompiledRoute {
        let target = match &route.target {
            config::RouteTarget::Forward(action) => CompiledTarget::forward(action, cluster),
            config::RouteTarget::Redirect(redirect) => CompiledTarget::Redirect(redirect.clone()),
            config::RouteTarget::DirectResponse(response) => {
                CompiledTarget::DirectResponse(response.clone())
            }
        };
        CompiledRoute {
            id,
            name: route.name.clone(),
            virtual_host: host.name.clone(),
            path: route.matches.path.clone(),
            target,
        }
    }
}

impl CompiledTarget {
    fn forward(
        action: &config::RouteAction,
        cluster: impl Fn(&str) -> Option<ClusterId>,
    ) -> CompiledTarget {
        let mut total_weight = 0;
        let clusters = action.clusters.iter().map(|weighted| {
            total_weight += u64::from(weighted.weight);
            (total_weight, cluster(&weighted.name))
        });
        let clusters = clusters.collect();
        CompiledTarget::Forward {
            clusters,
            total_weight,
            timeout: action.timeout,
            action: action.clone(),
        }
    }
}
