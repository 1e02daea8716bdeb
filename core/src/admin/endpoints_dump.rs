//! The hosts of all clusters as `/config_dump?include_eds` shows them: as they are now, not as they
//! were configured.
//!
//! What it leaves to others: the page (`config_dump`).

use super::info::socket_address;
use crate::config::{Discovery, Dumped, HealthStatus};
use crate::snapshot::{ClusterEntry, Host, Snapshot};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// One `ClusterLoadAssignment` for each cluster whose endpoints come by EDS, or for each other one.
pub(super) fn all(
    snapshot: &Snapshot,
    by_eds: bool,
) -> impl Iterator<Item = Dumped> + Send + use<> {
    let is_asked =
        |entry: &&Arc<ClusterEntry>| matches!(entry.config.discovery, Discovery::Eds(_)) == by_eds;
    let clusters: Vec<Arc<ClusterEntry>> =
        snapshot.clusters.iter().filter(is_asked).cloned().collect();
    clusters
        .into_iter()
        .map(|entry| Dumped { name: entry.config.name.clone(), json: assignment(&entry) })
}

fn assignment(entry: &ClusterEntry) -> Value {
    let mut localities: Vec<(&[String; 3], Vec<Value>)> = Vec::new();
    for host in entry.endpoints.hosts.iter() {
        match localities.iter_mut().find(|(locality, _)| **locality == *host.locality) {
            Some((_, hosts)) => hosts.push(lb_endpoint(host)),
            None => localities.push((&host.locality, vec![lb_endpoint(host)])),
        }
    }
    let endpoints: Vec<_> = localities
        .into_iter()
        .map(|(names, hosts)| {
            let names = ["region", "zone", "sub_zone"].into_iter().zip(names);
            let locality: Map<_, _> = names
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (name.to_owned(), json!(value)))
                .collect();
            json!({ "locality": locality, "lb_endpoints": hosts })
        })
        .collect();
    let mut assignment = Map::new();
    assignment.insert("cluster_name".into(), json!(entry.config.name));
    if !endpoints.is_empty() {
        assignment.insert("endpoints".into(), json!(endpoints));
    }
    assignment.insert("policy".into(), json!({ "overprovisioning_factor": 140 }));
    Value::Object(assignment)
}

fn lb_endpoint(host: &Host) -> Value {
    let mut endpoint = Map::new();
    endpoint.insert("address".into(), socket_address(host.address));
    endpoint.insert("health_check_config".into(), json!({}));
    if !host.hostname.is_empty() {
        endpoint.insert("hostname".into(), json!(host.hostname));
    }
    let health = match host.health_status {
        HealthStatus::Healthy | HealthStatus::Unknown => "HEALTHY",
        HealthStatus::Unhealthy => "UNHEALTHY",
        HealthStatus::Degraded => "DEGRADED",
        HealthStatus::Draining => "DRAINING",
        HealthStatus::Timeout => "TIMEOUT",
    };
    json!({
        "endpoint": endpoint, "health_status": health, "load_balancing_weight": host.weight,
    })
}
