//! A run as text: wrk's lines, wrk2's two blocks with `--latency`, and what the two do not say.
//!
//! What it leaves to others: where the text goes.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::{hgrm, phases};
use crate::engine::Outcome;
use crate::engine::interval::FAULTS;
use crate::phase::Phase;
use crate::plan::{Load, Plan};
use crate::units::{wrk_bytes, wrk_number, wrk_time};
use crate::verdict::{self, Judged};
use crate::watch::Usage;

/// What is said before a run.
pub fn header(plan: &Plan) -> String {
    let what = match (plan.duration, plan.requests) {
        (Some(duration), None) => crate::units::go_duration(duration.as_nanos() as u64),
        (None, Some(requests)) => format!("{requests} requests"),
        (Some(duration), Some(requests)) => format!(
            "{} or {requests} requests",
            crate::units::go_duration(duration.as_nanos() as u64)
        ),
        (None, None) => "endless".to_owned(),
    };
    let mut text = format!("Running {what} test @ {}\n", plan.url);
    let _ = write!(text, "  {} threads and {} connections", plan.threads, plan.connections);
    match plan.http2 {
        Some(streams) => {
            let _ = writeln!(text, " of HTTP/2, {streams} streams each");
        }
        None => text.push('\n'),
    }
    let phases: Vec<String> = plan.phases.iter().map(Phase::to_string).collect();
    let phases = phases.join(", ");
    let _ = match plan.load {
        Load::Open { .. } if !phases.is_empty() => {
            writeln!(text, "  open loop, {phases}: latency is from the intended send time")
        }
        Load::Open { rate } => {
            writeln!(text, "  open loop, {rate} requests/s: latency is from the intended send time")
        }
        Load::Closed => {
            let comma = if phases.is_empty() { "" } else { ", " };
            writeln!(
                text,
                "  closed loop{comma}{phases}: latencies omit queueing (no request is sent while \
                 the target stalls); -R makes an open loop"
            )
        }
    };
    text
}

/// What is asked of a text report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Detail {
    /// wrk2's `--latency`: distribution and spectrum.
    pub latency: bool,
    /// wrk2's `--u_latency`: the same from the actual send time.
    pub uncorrected: bool,
}

pub fn summary(outcome: &Outcome, detail: Detail, judged: &[Judged]) -> String {
    let mut text = thread_stats(outcome);
    let total = &outcome.total;
    let is_open = outcome.plan.load != Load::Closed;
    if detail.latency {
        text.push_str(&distribution(&total.latency, "Recorded Latency"));
        let _ = writeln!(text, "\n  Detailed Percentile spectrum:");
        text.push_str(&hgrm::spectrum(&total.latency));
        text.push_str("----------------------------------------------------------\n");
    } else {
        text.push_str(&short_distribution(&total.latency));
    }
    if detail.uncorrected && is_open {
        let name = "Uncorrected Latency (measured without taking delayed starts into account)";
        text.push_str(&distribution(&total.service, name));
        let _ = writeln!(text, "\n  Detailed Percentile spectrum:");
        text.push_str(&hgrm::spectrum(&total.service));
        text.push_str("----------------------------------------------------------\n");
    }
    text.push_str(&phases::text(outcome));
    let seconds = outcome.elapsed.as_secs_f64().max(1e-9);
    let counts = &total.counts;
    let _ = writeln!(
        text,
        "  {} requests in {}, {} read",
        counts.answers(),
        wrk_time(seconds * 1e9),
        wrk_bytes(counts.wire_in as f64)
    );
    text.push_str(&failures(outcome));
    let _ = writeln!(text, "Requests/sec: {:9.2}", outcome.answers_per_second());
    let _ = writeln!(text, "Transfer/sec: {:>9}", wrk_bytes(counts.wire_in as f64 / seconds));
    let _ = writeln!(text, "Success:      {:8.3}%", outcome.total.counts.success_ratio() * 100.0);
    text.push_str(&generator(outcome));
    if let Some(server) = &outcome.server {
        let _ = writeln!(text, "Server:       {}", server_line(outcome, server));
    }
    if let Some(system_calls) = &outcome.system_calls {
        let line = match system_calls {
            Ok(count) => format!("{:.3} per request", outcome.per_answer(*count)),
            Err(why) => format!("not available: {why}"),
        };
        let _ = writeln!(text, "System calls: {line}");
    }
    for judged in judged {
        let word = if judged.holds { "ok" } else { "FAILED" };
        let _ = writeln!(text, "Threshold:    {} is {}: {word}", judged.condition, judged.value);
    }
    for reason in verdict::void_reasons(outcome) {
        let _ = writeln!(text, "VOID:         {reason}");
    }
    text
}

/// wrk's table.
fn thread_stats(outcome: &Outcome) -> String {
    let latency = &outcome.total.latency;
    let (mean, deviation) = (latency.mean(), latency.stdev());
    let mut text = String::from("  Thread Stats   Avg      Stdev     Max   +/- Stdev\n");
    let mut line = |name: &str, [mean, deviation, max]: [String; 3], within: f64| {
        let _ = writeln!(text, "    {name:<8}{mean:>9} {deviation:>9} {max:>9} {within:>8.2}%");
    };
    let low = (mean - deviation).max(0.0) as u64;
    let high = (mean + deviation) as u64;
    let within = share(latency.count_between(low, high), latency.len());
    line("Latency", [mean, deviation, latency.max() as f64].map(wrk_time), within);
    let plan = &outcome.plan;
    // The last interval may be a short one.
    let whole = outcome.slices.len().saturating_sub(1).max(1).min(outcome.slices.len());
    let rates: Vec<f64> = outcome.slices[..whole]
        .iter()
        .map(|slice| {
            slice.counts.answers() as f64 / plan.interval.as_secs_f64() / plan.threads as f64
        })
        .collect();
    let (mean, deviation) = mean_and_deviation(&rates);
    let max = rates.iter().copied().fold(0.0, f64::max);
    let near = rates.iter().filter(|rate| (*rate - mean).abs() <= deviation).count();
    let within = share(near as u64, rates.len() as u64);
    line("Req/Sec", [mean, deviation, max].map(wrk_number), within);
    text
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}

/// Mean and standard deviation; zeroes of nothing.
pub fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
    (mean, variance.sqrt())
}

/// wrk2's first block.
fn distribution(histogram: &Histogram<u64>, name: &str) -> String {
    let mut text = format!("  Latency Distribution (HdrHistogram - {name})\n");
    for percent in [50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 99.999, 100.0] {
        let value = histogram.value_at_quantile(percent / 100.0);
        let _ = writeln!(text, "{percent:7.3}% {:>9}", wrk_time(value as f64));
    }
    text
}

fn short_distribution(histogram: &Histogram<u64>) -> String {
    let mut text = String::from("  Latency Distribution\n");
    for percent in [50.0, 75.0, 90.0, 99.0, 99.9] {
        let value = wrk_time(histogram.value_at_quantile(percent / 100.0) as f64);
        let _ = writeln!(text, "  {percent:>6}% {value:>9}");
    }
    text
}

fn failures(outcome: &Outcome) -> String {
    let counts = &outcome.total.counts;
    let mut text = String::new();
    let expect = &outcome.plan.expect;
    if counts.unexpected > 0 {
        let list: Vec<String> = counts
            .statuses
            .iter()
            .filter(|(status, _)| !expect.allows(*status))
            .map(|(status, count)| format!("{status}: {count}"))
            .collect();
        let _ = writeln!(
            text,
            "  Responses that were not {expect}: {} ({})",
            counts.unexpected,
            list.join(", ")
        );
    }
    for (fault, name) in FAULTS {
        if counts.fault(fault) > 0 {
            let _ = writeln!(text, "  Errors: {name}: {}", counts.fault(fault));
        }
    }
    text
}

/// What the watched processes used.
pub fn server_line(outcome: &Outcome, server: &Usage) -> String {
    format!(
        "{:.2}us of CPU and {:.3} context switches per request, {} of memory in {} processes",
        outcome.per_answer(server.cpu_ns) / 1e3,
        outcome.per_answer(server.context_switches),
        wrk_bytes(server.resident_bytes as f64),
        server.processes
    )
}

/// How the generator itself did.
fn generator(outcome: &Outcome) -> String {
    let requests = outcome.total.counts.answers().max(1) as f64;
    let mut text = format!(
        "Generator:    {}, busiest worker {:.0}% of a CPU, {:.2}us of CPU per request",
        outcome.backend,
        verdict::busiest(outcome) * 100.0,
        outcome.process_cpu.as_secs_f64() * 1e6 / requests
    );
    let lateness = &outcome.total.lateness;
    if !lateness.is_empty() {
        let at = |quantile| wrk_time(lateness.value_at_quantile(quantile) as f64);
        let _ = write!(text, "; sends late by {} p50, {} p99.9", at(0.5), at(0.999));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::interval::histogram;

    #[test]
    fn the_first_block_is_wrk2s() {
        let mut histogram = histogram();
        for us in 1..=100_000_u64 {
            histogram.saturating_record(us * 100);
        }
        let text = distribution(&histogram, "Recorded Latency");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "  Latency Distribution (HdrHistogram - Recorded Latency)");
        assert_eq!(lines[1], " 50.000%    5.00ms");
        assert_eq!(lines[8], "100.000%   10.00ms");
    }

    #[test]
    fn mean_and_deviation_of_little() {
        assert_eq!(mean_and_deviation(&[]), (0.0, 0.0));
        assert_eq!(mean_and_deviation(&[2.0, 4.0]), (3.0, 1.0));
    }
}
