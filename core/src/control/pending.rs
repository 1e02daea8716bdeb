//! An update that waits for the names of its clusters.
//!
//! What it leaves to others: when it takes over (`resources`).

use super::members::{Users, names_of};
use super::names::DnsName;
use crate::config;
use crate::snapshot::ListenerEntry;
use crate::transport::ClientContext;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tidegate_io::Instant;

/// Contexts of clusters by name.
pub(super) type Clients = BTreeMap<String, Arc<ClientContext>>;

/// A whole configuration that waits for its clusters.
#[derive(Debug)]
pub(super) struct Pending {
    pub listeners: Vec<Arc<ListenerEntry>>,
    pub clusters: Vec<Arc<config::Cluster>>,
    pub users: Users,
    pub tls: Clients,
    /// Names that no answer has come for.
    pub cold: BTreeSet<DnsName>,
    pub deadline: Instant,
}

impl Pending {
    /// The clusters that it waits for.
    pub fn cold_clusters(&self) -> impl Iterator<Item = &Arc<config::Cluster>> {
        let cold = |config: &&Arc<config::Cluster>| {
            !self.cold.is_empty() && names_of(config).any(|(name, _)| self.cold.contains(&name))
        };
        self.clusters.iter().filter(cold)
    }
}
