//! `/stats` as text and JSON, `/reset_counters` and `/stats/recentlookups`.
//!
//! Envoy prints two numbers of a histogram: of the last interval, and since the start. What an
//! interval is here, `intervals` says; one without any value is `nan`, `null` or 0.
//!
//! What it leaves to others: `/stats/prometheus`, which series there are (`metrics`).

use super::metrics::{self, Series, View, Wanted};
use super::query::Query;
use super::{Admin, Reply, prometheus};
use crate::stats::histogram::QUANTILES;
use crate::stats::{Bucket, Histogram, Kind, Value};
use regex::Regex;
use serde_json::{Map, Value as Json, json};
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

/// How histograms are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Buckets {
    /// Quantiles.
    Summary,
    /// Counts up to each of the bounds.
    Cumulative,
    /// Counts between the bounds.
    Disjoint,
    /// Our own buckets, beside quantiles.
    Detailed,
}

/// Which kinds are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kinds {
    All,
    Counters,
    Gauges,
    Histograms,
    TextReadouts,
}

/// `/stats`
pub(super) fn page(admin: &Admin, query: &Query) -> Reply {
    let format = query.value("format").unwrap_or("text");
    if format == "prometheus" {
        return prometheus::page(admin, query);
    }
    let (filter, buckets, kinds) = match (regex(query), buckets(query), kinds(query)) {
        (Ok(filter), Ok(buckets), Ok(kinds)) => (filter, buckets, kinds),
        (Err(reply), ..) | (_, Err(reply), _) | (.., Err(reply)) => return reply,
    };
    admin.flush_if_asked();
    let view = View::new(admin, Wanted::of(query, filter));
    view.forget_intervals();
    match format {
        "text" => Reply::parts("text/plain; charset=UTF-8", text(view, kinds, buckets)),
        "json" => Reply::parts("application/json", json(view, kinds, buckets)),
        _ => usage("usage: /stats?format=(json|prometheus|text)\n\n"),
    }
}

/// `/reset_counters`
pub(super) fn reset_counters(admin: &Admin, _: &Query) -> Reply {
    let counters = metrics::counters(admin);
    *admin.baseline.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(counters);
    Reply::ok()
}

/// `/stats/recentlookups`: Envoy's names cost a lock when they are looked up, ours are never looked
/// up.
pub(super) fn recent_lookups(_: &Admin, _: &Query) -> Reply {
    Reply::text(
        "Lookup tracking is not enabled. Use /stats/recentlookups/enable to enable.\n\n\
         total: 0\n",
    )
}

/// The parameter `filter`.
pub(super) fn regex(query: &Query) -> Result<Option<Regex>, Reply> {
    let Some(filter) = query.value("filter").filter(|filter| !filter.is_empty()) else {
        return Ok(None);
    };
    Regex::new(filter).map(Some).map_err(|error| {
        // The crate's message shows the place on lines of its own; its last line says what is
        // wrong.
        let error = error.to_string();
        let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        usage(&format!("Invalid re2 regex: {reason}: {filter}"))
    })
}

/// The parameter `histogram_buckets`.
pub(super) fn buckets(query: &Query) -> Result<Buckets, Reply> {
    match query.value("histogram_buckets") {
        None | Some("" | "summary" | "none") => Ok(Buckets::Summary),
        Some("cumulative") => Ok(Buckets::Cumulative),
        Some("disjoint") => Ok(Buckets::Disjoint),
        Some("detailed") => Ok(Buckets::Detailed),
        Some(_) => {
            let modes = "(cumulative|disjoint|detailed|summary)";
            Err(usage(&format!("usage: /stats?histogram_buckets={modes}\n\n")))
        }
    }
}

fn kinds(query: &Query) -> Result<Kinds, Reply> {
    match query.value("type") {
        None | Some("" | "All") => Ok(Kinds::All),
        Some("Counters") => Ok(Kinds::Counters),
        Some("Gauges") => Ok(Kinds::Gauges),
        Some("Histograms") => Ok(Kinds::Histograms),
        Some("TextReadouts") => Ok(Kinds::TextReadouts),
        Some(_) => {
            Err(usage("usage: /stats?type=(All|Counters|Histograms|Gauges|TextReadouts)\n\n"))
        }
    }
}

fn usage(text: &str) -> Reply {
    Reply::text(text).status(400)
}

impl Kinds {
    fn has(self, value: &Value) -> bool {
        match self {
            Kinds::All => true,
            Kinds::Counters => matches!(value, Value::Counter(_)),
            Kinds::Gauges => matches!(value, Value::Gauge(_)),
            Kinds::Histograms => matches!(value, Value::Histogram(_)),
            Kinds::TextReadouts => matches!(value, Value::Text(_)),
        }
    }
}

/// The wanted series of some kinds, run by run and by name.
fn series(
    view: &Arc<View>,
    kinds: Kinds,
    wanted: fn(Kind) -> bool,
) -> impl Iterator<Item = Vec<Series>> + Send + use<> {
    let view = view.clone();
    view.runs().into_iter().map(move |run| {
        let mut series = view.series(run, wanted);
        series.retain(|one| kinds.has(&one.sample.value));
        series
    })
}

fn text(view: View, kinds: Kinds, buckets: Buckets) -> impl Iterator<Item = String> + Send {
    let view = Arc::new(view);
    let texts = series(&view, kinds, is_text).map(|series| {
        let mut text = String::new();
        for Series { name, sample, .. } in series {
            if let Value::Text(value) = sample.value {
                let _ = writeln!(text, "{name}: \"{}\"", escaped(&value));
            }
        }
        text
    });
    let numbers = series(&view, kinds, Kind::is_number).map(|series| {
        let mut text = String::new();
        for Series { name, sample, .. } in series {
            if let Value::Counter(number) | Value::Gauge(number) = sample.value {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{name}: {number}");
            }
        }
        text
    });
    let histograms = series(&view, kinds, is_histogram).map(move |series| {
        let mut text = String::new();
        for Series { name, sample, .. } in series {
            if let Value::Histogram(histogram) = &sample.value {
                let both = Both { interval: view.interval(&name, histogram), whole: histogram };
                write_text(&mut text, &name, &both, buckets, view.settings.bounds(&name));
            }
        }
        text
    });
    texts.chain(numbers).chain(histograms)
}

fn is_text(kind: Kind) -> bool {
    kind == Kind::Text
}

fn is_histogram(kind: Kind) -> bool {
    kind == Kind::Histogram
}

/// A text as Envoy prints it, so that a browser takes no markup from it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A histogram: since the start, and of the last interval.
struct Both<'h> {
    whole: &'h Histogram,
    interval: Histogram,
}

fn write_text(
    text: &mut String,
    name: &str,
    histogram: &Both<'_>,
    buckets: Buckets,
    bounds: &[f64],
) {
    let line = match buckets {
        Buckets::Summary => format!(" {}", summary(histogram)),
        Buckets::Detailed => {
            let (totals, intervals) = (detailed(histogram.whole), detailed(&histogram.interval));
            let summary = summary(histogram);
            format!("\n  totals={totals}\n  intervals={intervals}\n  summary={summary}")
        }
        Buckets::Cumulative | Buckets::Disjoint => counts(histogram, buckets, bounds)
            .map(|(bound, new, count)| format!(" B{}({new},{count})", bound_text(bound)))
            .collect(),
    };
    let _ = writeln!(text, "{name}:{line}");
}

/// Each bucket that is not empty: its lowest value, its width, its count.
fn detailed(histogram: &Histogram) -> String {
    let one = |bucket: &Bucket| {
        let width = if bucket.high == 0 { 0 } else { bucket.high - bucket.low + 1 };
        format!("{},{width}:{}", bucket.low, bucket.count)
    };
    histogram.buckets.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn summary(histogram: &Both<'_>) -> String {
    if histogram.whole.count == 0 {
        return "No recorded values".to_owned();
    }
    let quantile = |quantile: f64| {
        let new = histogram.interval.quantile(quantile);
        let new = new.map_or_else(|| "nan".to_owned(), |value| value.to_string());
        let value = histogram.whole.quantile(quantile).unwrap_or(0.0);
        format!("P{}({new},{value})", percent(quantile))
    };
    QUANTILES.map(quantile).join(" ")
}

/// 0.999 as 99.9: reckoned so that no binary rest shows.
fn percent(quantile: f64) -> f64 {
    (quantile * 1000.0).round() / 10.0
}

/// The bounds with the counts that belong to them: of the interval, and since the start.
fn counts(
    histogram: &Both<'_>,
    buckets: Buckets,
    bounds: &[f64],
) -> impl Iterator<Item = (f64, u64, u64)> {
    let mut before = (0, 0);
    bounds.iter().map(move |&bound| {
        let new = histogram.interval.count_at_most(bound);
        let whole = histogram.whole.count_at_most(bound);
        let (new_before, whole_before) = std::mem::replace(&mut before, (new, whole));
        match buckets {
            Buckets::Disjoint => (bound, new - new_before, whole - whole_before),
            _ => (bound, new, whole),
        }
    })
}

/// As C's `%g` prints it: 1800000 is `1.8e+06`.
fn bound_text(bound: f64) -> String {
    if bound < 1e6 {
        return bound.to_string();
    }
    let text = format!("{bound:e}");
    text.replace('e', "e+0")
}

fn json(view: View, kinds: Kinds, buckets: Buckets) -> impl Iterator<Item = String> + Send {
    let view = Arc::new(view);
    // Whether anything stands before what comes next.
    let begun = Arc::new(AtomicBool::new(false));
    let after = begun.clone();
    let texts = series(&view, kinds, is_text);
    let numbers = texts.chain(series(&view, kinds, Kind::is_number)).map(move |series| {
        let mut text = String::new();
        for Series { name, sample, .. } in series {
            let value = match sample.value {
                Value::Counter(number) | Value::Gauge(number) => json!(number),
                Value::Text(text) => json!(*text),
                Value::Histogram(_) => continue,
            };
            let comma = if begun.swap(true, Ordering::Relaxed) { "," } else { "" };
            let name = Json::String(name);
            let _ = write!(text, "{comma}{{\"name\":{name},\"value\":{value}}}");
        }
        text
    });
    // The end is made when everything before it was.
    let end = std::iter::once_with(move || {
        let histograms: Vec<_> = series(&view, kinds, is_histogram).flatten().collect();
        if histograms.is_empty() {
            return "]}\n".to_owned();
        }
        let histograms = json!({ "histograms": json_histograms(&view, &histograms, buckets) });
        let comma = if after.load(Ordering::Relaxed) { "," } else { "" };
        format!("{comma}{histograms}]}}\n")
    });
    std::iter::once("{\"stats\":[".to_owned()).chain(numbers).chain(end)
}

fn json_histograms(view: &View, histograms: &[Series], buckets: Buckets) -> Json {
    let histograms = histograms.iter().filter_map(|one| match &one.sample.value {
        Value::Histogram(histogram) => Some((&one.name, histogram)),
        Value::Counter(_) | Value::Gauge(_) | Value::Text(_) => None,
    });
    if buckets == Buckets::Summary {
        let computed: Vec<_> = histograms
            .map(|(name, histogram)| {
                let interval = view.interval(name, histogram);
                let values = QUANTILES.map(|quantile| {
                    let (whole, new) = (histogram.quantile(quantile), interval.quantile(quantile));
                    json!({ "cumulative": whole, "interval": new })
                });
                json!({ "name": name, "values": values })
            })
            .collect();
        let mut object = Map::new();
        object.insert("supported_quantiles".into(), json!(QUANTILES.map(percent)));
        object.insert("computed_quantiles".into(), Json::Array(computed));
        return Json::Object(object);
    }
    let one = |(name, histogram): (&String, &Histogram)| {
        let both = Both { interval: view.interval(name, histogram), whole: histogram };
        let counts = counts(&both, buckets, view.settings.bounds(name));
        let buckets: Vec<_> = counts
            .map(|(bound, new, count)| {
                json!({ "upper_bound": bound, "interval": new, "cumulative": count })
            })
            .collect();
        json!({ "name": name, "buckets": buckets })
    };
    Json::Array(histograms.map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Bucket;

    fn histogram(values: &[(u64, u64)]) -> Histogram {
        let buckets: Vec<_> =
            values.iter().map(|&(at, count)| Bucket { low: at, high: at, count }).collect();
        Histogram {
            count: values.iter().map(|(_, count)| count).sum(),
            sum: values.iter().map(|(at, count)| at * count).sum(),
            buckets,
        }
    }

    #[test]
    fn quantiles_are_printed_as_envoy_prints_them() {
        let nothing = Histogram::default();
        let none = Both { whole: &nothing, interval: Histogram::default() };
        assert_eq!(summary(&none), "No recorded values");
        let whole = histogram(&[(0, 5), (41, 1), (42, 1), (48, 1)]);
        let interval = histogram(&[(41, 1)]);
        assert!(summary(&Both { whole: &whole, interval }).starts_with("P0(41,0) P25(41,0)"));
        assert_eq!(
            summary(&Both { whole: &whole, interval: Histogram::default() }),
            "P0(nan,0) P25(nan,0) P50(nan,0) P75(nan,41) P90(nan,48) P95(nan,48) P99(nan,48) \
             P99.5(nan,48) P99.9(nan,48) P100(nan,48)"
        );
    }

    #[test]
    fn buckets_are_envoys() {
        let whole = histogram(&[(0, 5), (41, 1), (42, 1), (48, 1)]);
        let both = Both { whole: &whole, interval: Histogram::default() };
        let line = |buckets| {
            counts(&both, buckets, &crate::stats::histogram::BUCKET_BOUNDS)
                .map(|(bound, new, count)| format!("B{}({new},{count})", bound_text(bound)))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            line(Buckets::Cumulative),
            "B0.5(0,5) B1(0,5) B5(0,5) B10(0,5) B25(0,5) B50(0,8) B100(0,8) B250(0,8) B500(0,8) \
             B1000(0,8) B2500(0,8) B5000(0,8) B10000(0,8) B30000(0,8) B60000(0,8) B300000(0,8) \
             B600000(0,8) B1.8e+06(0,8) B3.6e+06(0,8)"
        );
        assert!(line(Buckets::Disjoint).starts_with("B0.5(0,5) B1(0,0)"));
        assert!(line(Buckets::Disjoint).contains("B50(0,3) B100(0,0)"));
    }

    #[test]
    fn a_bad_regex_says_what_is_wrong() {
        let reply = regex(&Query::parse("filter=(")).expect_err("it is not closed");
        assert_eq!(reply.status, 400);
        let body = reply.body.text();
        assert!(body.starts_with("Invalid re2 regex: ") && body.ends_with(": ("), "{body}");
    }
}
