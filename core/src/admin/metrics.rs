//! Every stat that the admin server shows: what is counted, and what is computed when somebody
//! looks.
//!
//! What it leaves to others: pages (`stats_page`, `prometheus`).

use super::Admin;
use super::query::Query;
use crate::cli::version;
use crate::control::State;
use crate::snapshot::{ClusterEntry, Snapshot};
use crate::stats::Value;
use regex::Regex;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};

/// One stat with its value.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Metric {
    /// `cluster.one`, `http.ingress`; empty for a name that stands alone.
    pub scope: Arc<str>,
    /// The name within the scope.
    pub stat: Cow<'static, str>,
    /// The whole name, with dots.
    pub name: String,
    /// Its value.
    pub value: Value,
}

impl Metric {
    fn new(scope: Arc<str>, stat: Cow<'static, str>, value: Value) -> Metric {
        let name = if scope.is_empty() { stat.to_string() } else { format!("{scope}.{stat}") };
        Metric { scope, stat, name, value }
    }

    fn is_zero(&self) -> bool {
        match &self.value {
            Value::Counter(number) | Value::Gauge(number) => *number == 0,
            Value::Histogram(histogram) => histogram.count == 0,
        }
    }
}

/// Which stats are wanted.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// `filter`, a partial match.
    pub filter: Option<Regex>,
    /// `invert_filter`
    pub inverted: bool,
    /// `usedonly`
    pub used_only: bool,
}

impl Wanted {
    /// Reads the query's parameters.
    pub(super) fn of(query: &Query, filter: Option<Regex>) -> Wanted {
        Wanted { filter, inverted: query.has("invert_filter"), used_only: query.has("usedonly") }
    }

    fn name(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.is_match(name) != self.inverted)
    }
}

/// The wanted stats in order of their names.
pub(super) fn collect(admin: &Admin, wanted: &Wanted) -> Vec<Metric> {
    let counted = admin.registry.collect_scoped().into_iter();
    let mut metrics: Vec<_> = counted
        .map(|(scope, stat, value)| Metric::new(scope, Cow::Borrowed(stat), value))
        .collect();
    let snapshot = admin.publisher.load();
    computed(admin, &snapshot, &mut metrics);
    if wanted.used_only {
        keep_used(&mut metrics);
    }
    metrics.retain(|metric| wanted.name(&metric.name));
    metrics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let baseline = admin.baseline.lock().unwrap_or_else(PoisonError::into_inner);
    for metric in &mut metrics {
        if let Value::Counter(number) = &mut metric.value
            && let Some(before) = baseline.get(&metric.name)
        {
            *number = number.wrapping_sub(*before);
        }
    }
    metrics
}

/// Counters as they are, for `/reset_counters` to reckon from.
pub(super) fn counters(admin: &Admin) -> HashMap<String, u64> {
    let counted = admin.registry.collect().into_iter();
    let counters = counted.filter_map(|(name, value)| match value {
        Value::Counter(number) => Some((name, number)),
        Value::Gauge(_) | Value::Histogram(_) => None,
    });
    counters.collect()
}

/// Drops what nothing was ever written to. A gauge that shards count is taken for written when the
/// counter of the same things is; those that control sets always are.
fn keep_used(metrics: &mut Vec<Metric>) {
    let totals: HashMap<_, _> =
        metrics.iter().map(|metric| (metric.name.clone(), !metric.is_zero())).collect();
    metrics.retain(|metric| match &metric.value {
        Value::Gauge(0) => match metric.name.strip_suffix("_active") {
            Some(stem) => match totals.get(&format!("{stem}_total")) {
                Some(used) => *used,
                None => true,
            },
            None => set_by_control(metric),
        },
        _ => !metric.is_zero(),
    });
}

fn set_by_control(metric: &Metric) -> bool {
    matches!(&*metric.scope, "server" | "cluster_manager" | "listener_manager")
        || metric.stat.starts_with("membership_")
        || metric.stat.starts_with("circuit_breakers.")
}

fn computed(admin: &Admin, snapshot: &Snapshot, metrics: &mut Vec<Metric>) {
    let state = admin.state.state();
    let server: Arc<str> = "server".into();
    let rss = resident_bytes();
    for (stat, value) in [
        ("state", state as u64),
        ("live", u64::from(state == State::Live)),
        ("uptime", admin.state.uptime().as_secs()),
        ("concurrency", admin.concurrency as u64),
        ("version", version::gauge()),
        ("hot_restart_epoch", 0),
        ("hot_restart_generation", 1),
        ("memory_physical_size", rss),
        ("parent_connections", 0),
        ("total_connections", connections(metrics)),
    ] {
        metrics.push(Metric::new(server.clone(), Cow::Borrowed(stat), Value::Gauge(value)));
    }
    // Two clusters can have one name in stats; the first speaks for both.
    let mut named = HashSet::new();
    for entry in snapshot.clusters.iter().filter(|e| named.insert(e.config.stat_name.clone())) {
        breakers(entry, metrics);
    }
}

/// Downstream connections of all listeners.
fn connections(metrics: &[Metric]) -> u64 {
    let of_listener = |metric: &&Metric| {
        metric.stat == "downstream_cx_active" && metric.scope.starts_with("listener.")
    };
    let number = |metric: &Metric| match metric.value {
        Value::Gauge(number) => number,
        Value::Counter(_) | Value::Histogram(_) => 0,
    };
    metrics.iter().filter(of_listener).map(number).sum()
}

/// Whether the limits of a cluster are reached. Routes have no priority here, so nothing counts
/// against those of priority HIGH.
fn breakers(entry: &ClusterEntry, metrics: &mut Vec<Metric>) {
    let scope: Arc<str> = format!("cluster.{}", entry.config.stat_name).into();
    let [connections, pending, requests, retries] =
        entry.breakers.open(&entry.config.circuit_breakers.default);
    for (stat, open) in [
        ("circuit_breakers.default.cx_open", connections),
        ("circuit_breakers.default.rq_pending_open", pending),
        ("circuit_breakers.default.rq_open", requests),
        ("circuit_breakers.default.rq_retry_open", retries),
        ("circuit_breakers.default.cx_pool_open", false),
        ("circuit_breakers.high.cx_open", false),
        ("circuit_breakers.high.rq_pending_open", false),
        ("circuit_breakers.high.rq_open", false),
        ("circuit_breakers.high.rq_retry_open", false),
        ("circuit_breakers.high.cx_pool_open", false),
    ] {
        let value = Value::Gauge(u64::from(open));
        metrics.push(Metric::new(scope.clone(), Cow::Borrowed(stat), value));
    }
}

/// Resident memory of the process, 0 when `/proc` is not there.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str, value: Value) -> Metric {
        let (scope, stat) = name.rsplit_once('.').unwrap_or(("", name));
        Metric::new(scope.into(), Cow::Owned(stat.to_owned()), value)
    }

    #[test]
    fn used_only_keeps_what_was_written_to() {
        let mut metrics = vec![
            metric("cluster.a.upstream_rq_total", Value::Counter(0)),
            metric("cluster.a.upstream_rq_active", Value::Gauge(0)),
            metric("cluster.b.upstream_rq_total", Value::Counter(3)),
            metric("cluster.b.upstream_rq_active", Value::Gauge(0)),
            metric("server.state", Value::Gauge(0)),
            metric("io.sockets", Value::Gauge(0)),
        ];
        keep_used(&mut metrics);
        let names: Vec<_> = metrics.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(
            names,
            ["cluster.b.upstream_rq_total", "cluster.b.upstream_rq_active", "server.state"]
        );
    }

    #[test]
    fn a_filter_matches_anywhere_and_can_be_inverted() {
        let filter = || Some(Regex::new("rq_(total|time)$").unwrap());
        let wanted = Wanted { filter: filter(), ..Wanted::default() };
        assert!(wanted.name("cluster.a.upstream_rq_total") && !wanted.name("server.state"));
        let inverted = Wanted { filter: filter(), inverted: true, used_only: false };
        assert!(!inverted.name("cluster.a.upstream_rq_total") && inverted.name("server.state"));
    }
}
