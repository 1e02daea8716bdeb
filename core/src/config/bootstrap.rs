//! The bootstrap (`config.bootstrap.v3.Bootstrap`): what a process starts with.
//!
//! What it leaves to others: dynamic resources.

use super::{AccessLog, Cluster, Listener};
use std::net::SocketAddr;
use std::sync::Arc;

/// A validated bootstrap.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Bootstrap {
    /// Who we are.
    pub node: Node,
    /// The admin server, if any.
    pub admin: Option<Admin>,
    /// `static_resources.listeners`, names unique.
    pub listeners: Vec<Arc<Listener>>,
    /// `static_resources.clusters`, names unique.
    pub clusters: Vec<Arc<Cluster>>,
}

/// `config.core.v3.Node`, as far as it is used.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Node {
    /// `id`
    pub id: String,
    /// `cluster`
    pub cluster: String,
    /// The whole node as JSON, for `/server_info`.
    pub json: serde_json::Value,
}

/// `config.bootstrap.v3.Admin`
#[derive(Clone, PartialEq, Debug)]
pub struct Admin {
    /// Where the admin server listens.
    pub address: SocketAddr,
    /// `access_log` and the deprecated `access_log_path`.
    pub access_log: Vec<AccessLog>,
}
