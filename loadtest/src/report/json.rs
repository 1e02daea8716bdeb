//! A run as JSON: oha's keys, and under `loadtest` what oha does not know. `result.schema.json`
//! beside the package's manifest describes it.
//!
//! What it leaves to others: where it is written.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::text::mean_and_deviation;
use crate::engine::Outcome;
use crate::engine::interval::{FAULTS, Slice};
use crate::verdict::{self, Judged};

const PERCENTILES: [(&str, f64); 9] = [
    ("p10", 0.1),
    ("p25", 0.25),
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

/// Bars of oha's histogram.
const BARS: u64 = 11;

pub fn document(outcome: &Outcome, judged: &[Judged]) -> Value {
    let total = &outcome.total;
    let counts = &total.counts;
    let latency = &total.latency;
    let seconds = outcome.elapsed.as_secs_f64();
    let answers = counts.answers();
    let fastest = if latency.is_empty() { Value::Null } else { json!(seconds_of(latency.min())) };
    json!({
        "summary": {
            "successRate": outcome.total.counts.success_ratio(),
            "total": seconds,
            "slowest": seconds_of(latency.max()),
            "fastest": fastest,
            "average": latency.mean() / 1e9,
            "requestsPerSec": outcome.answers_per_second(),
            "totalData": counts.body_in,
            "sizePerRequest": counts.body_in.checked_div(answers),
            "sizePerSec": counts.body_in as f64 / seconds.max(1e-9),
        },
        "responseTimeHistogram": bars(latency),
        "latencyPercentiles": percentiles(latency),
        "rps": rates(outcome),
        "statusCodeDistribution": statuses(outcome),
        "errorDistribution": errors(outcome),
        "loadtest": ours(outcome, judged),
    })
}

fn seconds_of(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn percentiles(histogram: &Histogram<u64>) -> Value {
    let value = |quantile| {
        if histogram.is_empty() {
            Value::Null
        } else {
            json!(seconds_of(histogram.value_at_quantile(quantile)))
        }
    };
    PERCENTILES.iter().map(|(name, quantile)| ((*name).to_owned(), value(*quantile))).collect()
}

/// oha's bars: equal steps from the fastest to the slowest.
fn bars(histogram: &Histogram<u64>) -> Value {
    let mut bars = Map::new();
    if histogram.is_empty() {
        return Value::Object(bars);
    }
    let (min, max) = (histogram.min(), histogram.max());
    let step = (max - min).div_ceil(BARS).max(1);
    let mut low = min;
    for _ in 0..BARS {
        let high = low + step;
        let count = histogram.count_between(low, high - 1);
        bars.insert(format!("{:.9}", seconds_of(high)), json!(count));
        low = high;
    }
    Value::Object(bars)
}

fn rates(outcome: &Outcome) -> Value {
    let interval = outcome.plan.interval.as_secs_f64();
    let mut rates: Vec<f64> =
        outcome.slices.iter().map(|slice| slice.counts.answers() as f64 / interval).collect();
    rates.sort_by(f64::total_cmp);
    let (mean, deviation) = mean_and_deviation(&rates);
    let at = |quantile: f64| {
        let index = (quantile * rates.len() as f64).ceil() as usize;
        rates.get(index.saturating_sub(1)).copied().unwrap_or(0.0)
    };
    let percentiles: Map<String, Value> = PERCENTILES
        .iter()
        .map(|(name, quantile)| ((*name).to_owned(), json!(at(*quantile))))
        .collect();
    json!({
        "mean": mean,
        "stddev": deviation,
        "max": rates.last().copied().unwrap_or(0.0),
        "min": rates.first().copied().unwrap_or(0.0),
        "percentiles": percentiles,
    })
}

fn statuses(outcome: &Outcome) -> Value {
    let statuses = &outcome.total.counts.statuses;
    statuses.iter().map(|(status, count)| (status.to_string(), json!(count))).collect()
}

fn errors(outcome: &Outcome) -> Value {
    let counts = &outcome.total.counts;
    FAULTS
        .iter()
        .filter(|(fault, _)| counts.fault(*fault) > 0)
        .map(|(fault, name)| ((*name).to_owned(), json!(counts.fault(*fault))))
        .collect()
}

/// Microseconds at the quantiles that matter.
pub fn microseconds(histogram: &Histogram<u64>) -> Value {
    if histogram.is_empty() {
        return Value::Null;
    }
    let at = |quantile| json!(histogram.value_at_quantile(quantile) as f64 / 1e3);
    json!({
        "count": histogram.len(),
        "mean": histogram.mean() / 1e3,
        "p50": at(0.5),
        "p90": at(0.9),
        "p99": at(0.99),
        "p99.9": at(0.999),
        "p99.99": at(0.9999),
        "max": histogram.max() as f64 / 1e3,
    })
}

fn ours(outcome: &Outcome, judged: &[Judged]) -> Value {
    let plan = &outcome.plan;
    let counts = &outcome.total.counts;
    let thresholds: Vec<Value> = judged
        .iter()
        .map(|j| json!({"condition": j.condition, "value": j.value, "holds": j.holds}))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "url": plan.url,
        "loop": if plan.load.rate().is_some() { "open" } else { "closed" },
        "rate": plan.load.rate(),
        "threads": plan.threads,
        "connections": plan.connections,
        "connectionsOpen": outcome.connections_open,
        "durationSeconds": plan.duration.map(|d| d.as_secs_f64()),
        "requests": plan.requests,
        "expect": plan.expect.to_string(),
        "startUnixNs": outcome.start_unix_ns,
        "interrupted": outcome.interrupted,
        "sent": counts.sent,
        "succeeded": counts.succeeded,
        "failed": counts.failures(),
        "connects": counts.connects,
        "latencyMicroseconds": microseconds(&outcome.total.latency),
        "serviceMicroseconds": microseconds(&outcome.total.service),
        "latenessMicroseconds": microseconds(&outcome.total.lateness),
        "generator": {
            "backend": outcome.backend,
            "busiestWorker": verdict::busiest(outcome),
            "cpuMicrosecondsPerRequest":
                outcome.process_cpu.as_secs_f64() * 1e6 / counts.answers().max(1) as f64,
            "steal": outcome.steal,
        },
        "server": outcome.server.map(|server| json!({
            "cpuMicrosecondsPerRequest": outcome.per_answer(server.cpu_ns) / 1e3,
            "contextSwitchesPerRequest": outcome.per_answer(server.context_switches),
            "residentBytes": server.resident_bytes,
            "processes": server.processes,
            "systemCallsPerRequest": outcome.system_calls.as_ref().and_then(|count| {
                count.as_ref().ok().map(|count| outcome.per_answer(*count))
            }),
        })),
        "phases": super::phases::document(outcome),
        "thresholds": thresholds,
        "void": verdict::void_reasons(outcome),
        "intervalSeconds": plan.interval.as_secs_f64(),
        "intervals": outcome.slices.iter().map(slice).collect::<Vec<_>>(),
    })
}

fn slice(slice: &Slice) -> Value {
    let us = slice.quantiles.map(|ns| ns as f64 / 1e3);
    json!({
        "index": slice.index,
        "answers": slice.counts.answers(),
        "failed": slice.counts.failures(),
        "p50": us[0],
        "p90": us[1],
        "p99": us[2],
        "p99.9": us[3],
        "max": us[4],
    })
}
