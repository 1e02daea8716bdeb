//! The filter `envoy.filters.network.tcp_proxy`: bytes pass between a client and a host unread.
//!
//! What it leaves to others: passing them (`proxy::relay`).

#![allow(deprecated, reason = "Envoy still accepts fields that it calls deprecated")]

use super::AccessLog;
use super::bootstrap::ClusterNames;
use super::convert::At;
use super::support::{SupportedMessage, must, only, refused, strict, used};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as pb;
use std::time::Duration;

/// `extensions.filters.network.tcp_proxy.v3.TcpProxy`
#[derive(Clone, PartialEq, Debug)]
pub struct TcpProxy {
    /// `stat_prefix`
    pub stat_prefix: String,
    /// `cluster` or `weighted_clusters`: at least one, with weights that are not 0.
    pub clusters: Vec<(String, u32)>,
    /// `idle_timeout`, default 1 h: without a byte either way.
    pub idle_timeout: Option<Duration>,
    /// `max_connect_attempts`, default 1.
    pub max_connect_attempts: u32,
    /// `max_downstream_connection_duration`
    pub max_connection_duration: Option<Duration>,
    /// `access_log`
    pub access_log: Vec<AccessLog>,
}

pub(super) const TCP_PROXY: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
/// Envoy's default for `idle_timeout`.
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    strict(
        TCP_PROXY,
        &[
            used("stat_prefix"),
            used("cluster"),
            used("weighted_clusters"),
            used("idle_timeout"),
            used("max_connect_attempts"),
            used("max_downstream_connection_duration"),
            used("access_log"),
            only("flush_access_log_on_connected", &["false"]),
            must("upstream_connect_mode", &["IMMEDIATE"]),
            refused("on_demand"),
            refused("metadata_match"),
            refused("hash_policy"),
            refused("tunneling_config"),
            refused("proxy_protocol_tlvs"),
        ],
    ),
    strict(
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster",
        &[used("clusters")],
    ),
    strict(
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight",
        &[used("name"), used("weight")],
    ),
];

impl TcpProxy {
    /// Converts the filter; what is wrong is reported.
    pub(super) fn from_proto(
        at: &At<'_>,
        filter: &pb::TcpProxy,
        known: &ClusterNames<'_>,
    ) -> Option<TcpProxy> {
        let clusters = clusters(at, filter, known);
        let idle_timeout = at
            .field("idle_timeout")
            .timeout(filter.idle_timeout.as_ref(), Some(DEFAULT_IDLE_TIMEOUT));
        let duration = filter.max_downstream_connection_duration.as_ref();
        let at_duration = at.field("max_downstream_connection_duration");
        Some(TcpProxy {
            stat_prefix: filter.stat_prefix.clone(),
            clusters: clusters?,
            idle_timeout,
            max_connect_attempts: filter.max_connect_attempts.map_or(1, |attempts| attempts.value),
            max_connection_duration: at_duration.timeout(duration, None),
            access_log: AccessLog::all_from_proto(&at.field("access_log"), &filter.access_log),
        })
    }
}

fn clusters(
    at: &At<'_>,
    filter: &pb::TcpProxy,
    known: &ClusterNames<'_>,
) -> Option<Vec<(String, u32)>> {
    use pb::tcp_proxy::ClusterSpecifier;
    match &filter.cluster_specifier {
        None => {
            at.missing("cluster", Some("or `weighted_clusters`"));
            None
        }
        Some(ClusterSpecifier::Cluster(name)) => {
            warn_of_unknown(&at.field("cluster"), name, known);
            Some(vec![(name.clone(), 1)])
        }
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let at = at.field("weighted_clusters");
            let at_clusters = at.field("clusters");
            for (index, cluster) in weighted.clusters.iter().enumerate() {
                warn_of_unknown(&at_clusters.index(index).field("name"), &cluster.name, known);
            }
            let clusters = weighted.clusters.iter().map(|it| (it.name.clone(), it.weight));
            Some(clusters.collect())
        }
    }
}

/// To Envoy that is no error: connections are closed as long as the cluster is not there.
fn warn_of_unknown(at: &At<'_>, name: &str, known: &ClusterNames<'_>) {
    if let Some(known) = known
        && !name.is_empty()
        && !known.contains(name)
    {
        at.warning(format!("there is no cluster `{name}`: its connections are closed at once"));
    }
}
