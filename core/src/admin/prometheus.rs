//! `/stats/prometheus`: the text exposition format, with names and labels as Envoy makes them.
//!
//! What it leaves to others: which stats there are (`metrics`).

use super::metrics::{self, Metric, Wanted};
use super::query::Query;
use super::stats_page::{Buckets, buckets, regex};
use super::{Admin, Reply};
use crate::stats::histogram::{BUCKET_BOUNDS, QUANTILES};
use crate::stats::{Histogram, Value};
use std::collections::BTreeMap;

/// `/stats/prometheus`
pub(super) fn page(admin: &Admin, query: &Query) -> Reply {
    let (filter, buckets) = match (regex(query), buckets_or_default(query)) {
        (Ok(filter), Ok(buckets)) => (filter, buckets),
        (Err(reply), _) | (_, Err(reply)) => return reply,
    };
    let metrics = metrics::collect(admin, &Wanted::of(query, filter));
    Reply::text(render(&metrics, buckets))
}

/// Here, and only here, buckets are cumulative when nothing is said.
fn buckets_or_default(query: &Query) -> Result<Buckets, Reply> {
    match query.has("histogram_buckets") {
        true => buckets(query),
        false => Ok(Buckets::Cumulative),
    }
}

/// Counters, gauges and histograms, each family once, families by name.
fn render(metrics: &[Metric], buckets: Buckets) -> String {
    let mut families: BTreeMap<(u8, String), Vec<(String, &Value)>> = BTreeMap::new();
    for metric in metrics {
        let (name, labels) = family(metric);
        let order = match metric.value {
            Value::Counter(_) => 0,
            Value::Gauge(_) => 1,
            Value::Histogram(_) => 2,
        };
        families.entry((order, name)).or_default().push((labels, &metric.value));
    }
    let mut text = String::new();
    for ((order, name), samples) in families {
        let kind = match (order, buckets) {
            (0, _) => "counter",
            (1, _) => "gauge",
            (_, Buckets::Summary) => "summary",
            (..) => "histogram",
        };
        text.push_str(&format!("# TYPE {name} {kind}\n"));
        for (labels, value) in samples {
            match value {
                Value::Counter(number) | Value::Gauge(number) => {
                    text.push_str(&format!("{name}{{{labels}}} {number}\n"));
                }
                Value::Histogram(histogram) => {
                    write_histogram(&mut text, &name, &labels, histogram, buckets);
                }
            }
        }
    }
    text
}

fn write_histogram(
    text: &mut String,
    name: &str,
    labels: &str,
    histogram: &Histogram,
    buckets: Buckets,
) {
    let comma = if labels.is_empty() { "" } else { "," };
    let count = histogram.count;
    if buckets == Buckets::Summary {
        for quantile in QUANTILES {
            let value = histogram.quantile(quantile);
            let value = value.map_or_else(|| "nan".to_owned(), |value| value.to_string());
            text.push_str(&format!("{name}{{{labels}{comma}quantile=\"{quantile}\"}} {value}\n"));
        }
    } else {
        for bound in BUCKET_BOUNDS {
            let at_most = histogram.count_at_most(bound);
            text.push_str(&format!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {at_most}\n"));
        }
        text.push_str(&format!("{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}\n"));
    }
    text.push_str(&format!("{name}_sum{{{labels}}} {}\n", histogram.sum));
    text.push_str(&format!("{name}_count{{{labels}}} {count}\n"));
}

/// The family's name and its labels: Envoy's default tags. What a tag holds is taken out of the
/// name. The scope is known apart from the name, so a dot in a cluster's name does no harm here as
/// it does in Envoy.
fn family(metric: &Metric) -> (String, String) {
    let mut labels = Vec::new();
    let stat = match code_class(&metric.stat) {
        Some((stem, class)) => {
            labels.push(label("envoy_response_code_class", class));
            format!("{stem}_xx")
        }
        None => metric.stat.to_string(),
    };
    let scope = [
        ("cluster.", "envoy_cluster_name"),
        ("http.", "envoy_http_conn_manager_prefix"),
        ("listener.", "envoy_listener_address"),
    ]
    .into_iter()
    .find_map(|(kind, tag)| metric.scope.strip_prefix(kind).map(|value| (kind, tag, value)));
    let name = match scope {
        Some((kind, tag, value)) => {
            labels.push(label(tag, value));
            format!("envoy_{kind}{stat}")
        }
        None if metric.scope.is_empty() => format!("envoy_{stat}"),
        None => format!("envoy_{}.{stat}", metric.scope),
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    (name.chars().map(plain).collect(), labels.join(","))
}

/// `upstream_rq_2xx` as `upstream_rq` and `2`.
fn code_class(stat: &str) -> Option<(&str, &str)> {
    let stem = stat.strip_suffix("xx")?;
    let (rest, class) = stem.split_at_checked(stem.len().checked_sub(1)?)?;
    let stem = rest.strip_suffix('_')?;
    (stem.ends_with("_rq") && class.bytes().all(|byte| byte.is_ascii_digit()))
        .then_some((stem, class))
}

fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    fn metric(scope: &str, stat: &'static str, value: Value) -> Metric {
        Metric {
            scope: scope.into(),
            stat: Cow::Borrowed(stat),
            name: format!("{scope}.{stat}"),
            value,
        }
    }

    #[track_caller]
    fn check(scope: &str, stat: &'static str, name: &str, labels: &str) {
        let family = family(&metric(scope, stat, Value::Counter(0)));
        assert_eq!(family, (name.to_owned(), labels.to_owned()));
    }

    #[test]
    fn names_and_labels_are_envoys() {
        check(
            "cluster.one",
            "upstream_rq_total",
            "envoy_cluster_upstream_rq_total",
            "envoy_cluster_name=\"one\"",
        );
        check(
            "cluster.a.b",
            "upstream_rq_2xx",
            "envoy_cluster_upstream_rq_xx",
            "envoy_response_code_class=\"2\",envoy_cluster_name=\"a.b\"",
        );
        check(
            "http.ingress",
            "downstream_rq_5xx",
            "envoy_http_downstream_rq_xx",
            "envoy_response_code_class=\"5\",envoy_http_conn_manager_prefix=\"ingress\"",
        );
        check(
            "listener.127.0.0.1_80",
            "downstream_cx_total",
            "envoy_listener_downstream_cx_total",
            "envoy_listener_address=\"127.0.0.1_80\"",
        );
        check(
            "cluster.one",
            "circuit_breakers.default.cx_open",
            "envoy_cluster_circuit_breakers_default_cx_open",
            "envoy_cluster_name=\"one\"",
        );
        check("server", "live", "envoy_server_live", "");
        check("", "io.turns", "envoy_io_turns", "");
    }

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(label("a", "b\"c\\d\n"), "a=\"b\\\"c\\\\d\\n\"");
    }

    #[test]
    fn a_family_has_one_type_line_and_kinds_have_an_order() {
        let text = render(
            &[
                metric("cluster.a", "x_active", Value::Gauge(1)),
                metric("cluster.a", "x_total", Value::Counter(2)),
                metric("cluster.b", "x_total", Value::Counter(3)),
                metric("server", "live", Value::Gauge(1)),
            ],
            Buckets::Cumulative,
        );
        assert_eq!(
            text,
            "# TYPE envoy_cluster_x_total counter\n\
             envoy_cluster_x_total{envoy_cluster_name=\"a\"} 2\n\
             envoy_cluster_x_total{envoy_cluster_name=\"b\"} 3\n\
             # TYPE envoy_cluster_x_active gauge\n\
             envoy_cluster_x_active{envoy_cluster_name=\"a\"} 1\n\
             # TYPE envoy_server_live gauge\n\
             envoy_server_live{} 1\n"
        );
    }

    #[test]
    fn a_histogram_ends_with_infinity_sum_and_count() {
        let histogram = Histogram::default();
        let metrics = [metric("cluster.a", "rq_time", Value::Histogram(histogram))];
        let text = render(&metrics, Buckets::Cumulative);
        assert!(
            text.contains("envoy_cluster_rq_time_bucket{envoy_cluster_name=\"a\",le=\"0.5\"} 0\n")
        );
        assert!(text.ends_with(
            "envoy_cluster_rq_time_bucket{envoy_cluster_name=\"a\",le=\"+Inf\"} 0\n\
             envoy_cluster_rq_time_sum{envoy_cluster_name=\"a\"} 0\n\
             envoy_cluster_rq_time_count{envoy_cluster_name=\"a\"} 0\n"
        ));
        assert!(render(&metrics, Buckets::Summary).contains("quantile=\"0.5\"} nan\n"));
    }
}
