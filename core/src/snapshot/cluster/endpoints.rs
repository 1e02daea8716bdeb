//! The hosts of a cluster, with what is computed from them once for all shards.
//!
//! What it leaves to others: which groups picks come from (`selection`), choosing
//! (`upstream::balancer`).

use super::HostId;
use super::selection::{SelectionRules, Source, select};
use crate::config::{Availability, HealthStatus, Metadata};
use crate::stats::Scope;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// The hosts of a cluster.
#[derive(Debug, Default)]
pub struct EndpointSet {
    /// In order of configuration, then of address; no address twice.
    pub hosts: Vec<Arc<Host>>,
    /// How picks are shared out between them.
    pub sources: Vec<Source>,
    /// By which rules.
    pub rules: SelectionRules,
}

impl EndpointSet {
    /// A set of these hosts.
    #[must_use]
    pub fn new(hosts: Vec<Arc<Host>>, rules: SelectionRules) -> EndpointSet {
        let sources = select(&hosts, &rules);
        EndpointSet { hosts, sources, rules }
    }
}

/// One host of a cluster.
#[derive(Debug)]
pub struct Host {
    /// Its number.
    pub id: HostId,
    /// Where to connect.
    pub address: SocketAddr,
    /// `endpoint.hostname`, or the name that was resolved.
    pub hostname: String,
    /// At least 1.
    pub weight: u32,
    /// As configured.
    pub health_status: HealthStatus,
    /// Region, zone, sub-zone.
    pub locality: Arc<[String; 3]>,
    /// `load_balancing_weight` of the locality; 0 if it has none.
    pub locality_weight: u32,
    /// 0 first.
    pub priority: u32,
    /// `metadata` of the endpoint.
    pub metadata: Metadata,
    /// How many connections there are to it from all shards, where they have a limit.
    pub connections: Option<Arc<AtomicU32>>,
    /// Its stats.
    pub stats: Scope,
}

impl Host {
    /// What its health means to a balancer.
    #[must_use]
    pub fn availability(&self) -> Availability {
        self.health_status.availability()
    }
}
