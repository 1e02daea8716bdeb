//! `/clusters`: every cluster that is warm, with its hosts.
//!
//! What it leaves to others: counting.

use super::info::socket_address;
use super::query::Query;
use super::{Admin, Reply, json_text, stats_page};
use crate::config::{HealthStatus, Thresholds};
use crate::snapshot::{ClusterEntry, Host};
use crate::stats::{HostStat, Registry};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::sync::Arc;

/// Stats of a host: counters, then gauges, as in the JSON page.
const COUNTERS: [(&str, HostStat); 6] = [
    ("cx_connect_fail", HostStat::CxConnectFail),
    ("cx_total", HostStat::CxTotal),
    ("rq_error", HostStat::RqError),
    ("rq_success", HostStat::RqSuccess),
    ("rq_timeout", HostStat::RqTimeout),
    ("rq_total", HostStat::RqTotal),
];
const GAUGES: [(&str, HostStat); 3] = [
    ("cx_active", HostStat::CxActive),
    ("rq_active", HostStat::RqActive),
    ("rq_pending_active", HostStat::RqPendingActive),
];

/// The page, as text or JSON.
pub(super) fn page(admin: &Admin, query: &Query) -> Reply {
    let filter = match stats_page::regex(query) {
        Ok(filter) => filter,
        Err(reply) => return reply,
    };
    let snapshot = admin.publisher.load();
    let clusters = (0..snapshot.clusters.places())
        .filter_map(move |place| snapshot.clusters.at(place).cloned())
        .filter(move |entry| filter.as_ref().is_none_or(|f| f.is_match(&entry.config.name)));
    let registry = admin.registry.clone();
    if query.value("format") == Some("json") {
        return Reply::parts("application/json", json_page(clusters, registry));
    }
    Reply::parts(
        "text/plain; charset=UTF-8",
        clusters.flat_map(move |e| text_cluster(&e, &registry)),
    )
}

/// As [`Reply::json`] writes it.
fn json_page(
    clusters: impl Iterator<Item = Arc<ClusterEntry>> + Send,
    registry: Arc<Registry>,
) -> impl Iterator<Item = String> + Send {
    let begin = std::iter::once("{\n \"cluster_statuses\": [".to_owned());
    let statuses = clusters.enumerate().map(move |(index, entry)| {
        let text = json_text(&json_cluster(&registry, &entry));
        let comma = if index > 0 { "," } else { "" };
        format!("{comma}\n  {}", text.trim_end().replace('\n', "\n  "))
    });
    let end = std::iter::once("\n ]\n}\n".to_owned());
    begin.chain(statuses).chain(end)
}

/// The lines of a cluster: its own, then those of each host.
fn text_cluster(
    entry: &Arc<ClusterEntry>,
    registry: &Arc<Registry>,
) -> impl Iterator<Item = String> + Send + use<> {
    let (entry, registry) = (entry.clone(), registry.clone());
    let mut own = String::new();
    // Writing to a String cannot fail.
    let _ = cluster_lines(&mut own, &entry);
    let hosts = (0..entry.endpoints.hosts.len()).map(move |index| {
        let mut text = String::new();
        let _ = text_host(&mut text, &registry, &entry.config.name, &entry.endpoints.hosts[index]);
        text
    });
    std::iter::once(own).chain(hosts)
}

fn cluster_lines(out: &mut String, entry: &ClusterEntry) -> std::fmt::Result {
    let name = &entry.config.name;
    writeln!(out, "{name}::observability_name::{}", entry.config.stat_name)?;
    let breakers = &entry.config.circuit_breakers;
    for (priority, limits) in [("default", &breakers.default), ("high", &breakers.high)] {
        for (limit, value) in thresholds(limits) {
            writeln!(out, "{name}::{priority}_priority::{limit}::{value}")?;
        }
    }
    writeln!(out, "{name}::added_via_api::{}", entry.config.added_via_api)
}

fn text_host(
    out: &mut String,
    registry: &Registry,
    cluster: &str,
    host: &Host,
) -> std::fmt::Result {
    let prefix = format!("{cluster}::{}", host.address);
    let mut stats: Vec<_> = COUNTERS.iter().chain(&GAUGES).collect();
    stats.sort_unstable_by_key(|(name, _)| *name);
    for (stat, id) in stats {
        writeln!(out, "{prefix}::{stat}::{}", registry.number(host.stats, *id))?;
    }
    let [region, zone, sub_zone] = &*host.locality;
    let flags = match host.health_status {
        HealthStatus::Unknown | HealthStatus::Healthy => "healthy",
        HealthStatus::Unhealthy | HealthStatus::Timeout => "/failed_eds_health",
        HealthStatus::Draining => "/eds_status_draining",
        HealthStatus::Degraded => "/degraded_eds_health",
    };
    writeln!(out, "{prefix}::hostname::{}", host.hostname)?;
    writeln!(out, "{prefix}::health_flags::{flags}")?;
    writeln!(out, "{prefix}::weight::{}", host.weight)?;
    writeln!(out, "{prefix}::region::{region}")?;
    writeln!(out, "{prefix}::zone::{zone}")?;
    writeln!(out, "{prefix}::sub_zone::{sub_zone}")?;
    writeln!(out, "{prefix}::canary::false")?;
    writeln!(out, "{prefix}::priority::{}", host.priority)?;
    writeln!(out, "{prefix}::success_rate::-1")?;
    writeln!(out, "{prefix}::local_origin_success_rate::-1")
}

fn thresholds(limits: &Thresholds) -> [(&'static str, u32); 4] {
    [
        ("max_connections", limits.max_connections),
        ("max_pending_requests", limits.max_pending_requests),
        ("max_requests", limits.max_requests),
        ("max_retries", limits.max_retries),
    ]
}

/// `admin.v3.ClusterStatus`: as protobuf's JSON, without what has its default value.
fn json_cluster(registry: &Registry, entry: &ClusterEntry) -> Value {
    let mut cluster = Map::new();
    cluster.insert("name".into(), json!(entry.config.name));
    let hosts: Vec<_> = entry.endpoints.hosts.iter().map(|h| json_host(registry, h)).collect();
    if !hosts.is_empty() {
        cluster.insert("host_statuses".into(), Value::Array(hosts));
    }
    let breakers = &entry.config.circuit_breakers;
    let mut default = Map::new();
    let mut high = Map::from_iter([("priority".to_owned(), json!("HIGH"))]);
    for (limits, object) in [(&breakers.default, &mut default), (&breakers.high, &mut high)] {
        for (name, value) in thresholds(limits) {
            object.insert(name.to_owned(), json!(value));
        }
    }
    cluster.insert("circuit_breakers".into(), json!({ "thresholds": [default, high] }));
    cluster.insert("observability_name".into(), json!(entry.config.stat_name));
    Value::Object(cluster)
}

fn json_host(registry: &Registry, host: &Arc<Host>) -> Value {
    let mut stats = Vec::new();
    for (kind, list) in [(None, &COUNTERS[..]), (Some("GAUGE"), &GAUGES[..])] {
        for (name, id) in list {
            let mut stat = Map::new();
            if let Some(kind) = kind {
                stat.insert("type".into(), json!(kind));
            }
            let value = registry.number(host.stats, *id);
            if value != 0 {
                stat.insert("value".into(), json!(value.to_string()));
            }
            stat.insert("name".into(), json!(name));
            stats.push(Value::Object(stat));
        }
    }
    let health = match host.health_status {
        HealthStatus::Unknown | HealthStatus::Healthy => "HEALTHY",
        HealthStatus::Unhealthy | HealthStatus::Timeout => "UNHEALTHY",
        HealthStatus::Draining => "DRAINING",
        HealthStatus::Degraded => "DEGRADED",
    };
    let mut status = Map::new();
    status.insert("address".into(), socket_address(host.address));
    status.insert("stats".into(), Value::Array(stats));
    status.insert("health_status".into(), json!({ "eds_health_status": health }));
    status.insert("weight".into(), json!(host.weight));
    if !host.hostname.is_empty() {
        status.insert("hostname".into(), json!(host.hostname));
    }
    let names = ["region", "zone", "sub_zone"];
    let locality = names.iter().zip(&*host.locality).filter(|(_, value)| !value.is_empty());
    let locality = locality.map(|(name, value)| ((*name).to_owned(), json!(value)));
    if host.priority != 0 {
        status.insert("priority".into(), json!(host.priority));
    }
    status.insert("locality".into(), Value::Object(locality.collect()));
    Value::Object(status)
}
