//! A run as one page: headline, verdict, percentile spectrum, histogram and time line. It needs
//! nothing from elsewhere.
//!
//! What it leaves to others: how plots are drawn (`svg`).

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::svg::{Axis, Mark, Plot, Series, Unit, escape};
use super::{hgrm, phases, text};
use crate::engine::Outcome;
use crate::engine::interval::{FAULTS, Slice};
use crate::units::{wrk_bytes, wrk_time};
use crate::verdict::{self, Judged};

/// Bars of the histogram.
const BARS: usize = 60;

const STYLE: &str = include_str!("style.css");

/// A page around `body`.
pub fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>{}</title>\n<style>\n{STYLE}</style></head>\n\
         <body><main>\n{body}<footer>loadtest {}. Values are exact to three digits.</footer>\n\
         </main></body></html>\n",
        escape(title),
        env!("CARGO_PKG_VERSION")
    )
}

pub fn report(outcome: &Outcome, judged: &[Judged]) -> String {
    let latency = &outcome.total.latency;
    let mut body = head(outcome);
    body.push_str(&cards(outcome));
    body.push_str(&verdicts(outcome, judged));
    if !latency.is_empty() {
        let _ = writeln!(body, "<h2>Latency by percentile</h2>");
        let service = &outcome.total.service;
        let mut all = vec![("latency from the intended send", 1, latency)];
        if !service.is_empty() {
            all.push(("from the actual send", 6, service));
        }
        body.push_str(&spectrum(&all).svg());
        let _ = writeln!(body, "<h2>Histogram</h2>");
        body.push_str(&bars(latency).svg());
    }
    let _ = writeln!(body, "<h2>Latency over time</h2>");
    body.push_str(&latency_over_time(outcome).svg());
    let _ = writeln!(body, "<h2>Answers per second</h2>");
    body.push_str(&rate_over_time(outcome).svg());
    body.push_str(&phases::html(outcome));
    body.push_str(&tables(outcome));
    page(&format!("loadtest {}", outcome.plan.url), &body)
}

fn head(outcome: &Outcome) -> String {
    let header = text::header(&outcome.plan);
    let lines: Vec<&str> = header.lines().map(str::trim).collect();
    format!(
        "<h1>{}</h1>\n<p class=\"dim\">{}</p>\n",
        escape(&outcome.plan.url),
        escape(&lines[1..].join(" · "))
    )
}

fn card(out: &mut String, value: &str, name: &str) {
    let _ = write!(
        out,
        "<div class=\"card\"><b>{}</b><span>{}</span></div>",
        escape(value),
        escape(name)
    );
}

fn cards(outcome: &Outcome) -> String {
    let mut out = String::from("<div class=\"cards\">");
    let latency = &outcome.total.latency;
    card(&mut out, &format!("{:.0}", outcome.answers_per_second()), "answers per second");
    card(&mut out, &format!("{:.2}%", outcome.total.counts.success_ratio() * 100.0), "success");
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
        card(&mut out, &wrk_time(latency.value_at_quantile(quantile) as f64), name);
    }
    out.push_str("</div>\n");
    out
}

fn verdicts(outcome: &Outcome, judged: &[Judged]) -> String {
    let mut out = String::new();
    let reasons = verdict::void_reasons(outcome);
    if !reasons.is_empty() {
        out.push_str("<div class=\"void\"><b>This run is void</b><ul>");
        for reason in &reasons {
            let _ = write!(out, "<li>{}</li>", escape(reason));
        }
        out.push_str("</ul></div>\n");
    }
    for judged in judged {
        let (class, word) = if judged.holds { ("good", "holds") } else { ("void", "fails") };
        let _ = writeln!(
            out,
            "<div class=\"{class}\">{} {word}: it is {}</div>",
            escape(&judged.condition),
            escape(&judged.value)
        );
    }
    out
}

/// Latency by percentile of several histograms.
pub fn spectrum(all: &[(&str, u8, &Histogram<u64>)]) -> Plot {
    let count = all.iter().map(|(_, _, h)| h.len()).max().unwrap_or(0);
    let min = all.iter().map(|(_, _, h)| h.min()).min().unwrap_or(1);
    let max = all.iter().map(|(_, _, h)| h.max()).max().unwrap_or(1);
    let series = all.iter().map(|(name, color, histogram)| Series {
        name: (*name).to_owned(),
        color: *color,
        mark: Mark::Line,
        points: hgrm::points(histogram)
            .iter()
            .map(|point| (point.quantile, point.value as f64))
            .collect(),
    });
    Plot {
        x: Axis::quantiles(count),
        y: Axis::log("latency", Unit::Nanoseconds, min as f64, max as f64),
        series: series.collect(),
        rule: None,
    }
}

fn bars(histogram: &Histogram<u64>) -> Plot {
    let low = histogram.min().max(1) as f64;
    let high = (histogram.max() as f64).max(low * 2.0) * 1.01;
    let factor = (high / low).powf(1.0 / BARS as f64);
    let points: Vec<(f64, f64)> = (0..=BARS)
        .map(|bar| {
            let from = low * factor.powi(bar as i32);
            let count = histogram.count_between(from as u64, (from * factor) as u64 - 1);
            (from, count as f64 / histogram.len().max(1) as f64 * 100.0)
        })
        .collect();
    let most = points.iter().map(|point| point.1).fold(0.0, f64::max);
    Plot {
        x: Axis::log("latency", Unit::Nanoseconds, low, high),
        y: Axis::linear("share of answers", Unit::Percent, most),
        series: vec![Series { name: String::new(), color: 1, mark: Mark::Bars, points }],
        rule: None,
    }
}

fn over_time(outcome: &Outcome, name: &str, color: u8, value: impl Fn(&Slice) -> f64) -> Series {
    let interval = outcome.plan.interval.as_secs_f64();
    let whole = whole_intervals(outcome);
    let points = outcome.slices[..whole]
        .iter()
        .map(|slice| ((slice.index as f64 + 0.5) * interval, value(slice)))
        .filter(|(_, value)| *value >= 0.0)
        .collect();
    Series { name: name.to_owned(), color, mark: Mark::Line, points }
}

/// Intervals within the time of sending: what came after is in the last one, which is short.
fn whole_intervals(outcome: &Outcome) -> usize {
    let all = outcome.slices.len();
    match outcome.plan.duration {
        Some(duration) if !outcome.interrupted => {
            let whole = duration.as_secs_f64() / outcome.plan.interval.as_secs_f64();
            all.min((whole.floor() as usize).max(1))
        }
        _ => all,
    }
}

/// A value that an interval without answers does not have is not drawn.
fn drawn(slice: &Slice, nanoseconds: u64) -> f64 {
    if slice.quantiles[4] == 0 { -1.0 } else { nanoseconds as f64 }
}

fn time_axis(outcome: &Outcome) -> Axis {
    let seconds = whole_intervals(outcome) as f64 * outcome.plan.interval.as_secs_f64();
    let mut axis = Axis::linear("time", Unit::Seconds, seconds);
    axis.max = seconds.max(1e-3);
    axis
}

fn latency_over_time(outcome: &Outcome) -> Plot {
    let min = outcome.total.latency.min().max(1) as f64;
    let max = outcome.total.latency.max().max(1) as f64;
    let names = [("max", 4, 4), ("p99.9", 2, 3), ("p99", 5, 2), ("p50", 1, 0)];
    Plot {
        x: time_axis(outcome),
        y: Axis::log("latency", Unit::Nanoseconds, min, max),
        series: names
            .iter()
            .map(|(name, color, at)| {
                over_time(outcome, name, *color, |slice| drawn(slice, slice.quantiles[*at]))
            })
            .collect(),
        rule: None,
    }
}

fn rate_over_time(outcome: &Outcome) -> Plot {
    let interval = outcome.plan.interval.as_secs_f64();
    let mut series = vec![over_time(outcome, "as expected", 3, |slice| {
        slice.counts.succeeded as f64 / interval
    })];
    if outcome.total.counts.failures() > 0 {
        series.push(over_time(outcome, "failed", 4, |slice| {
            slice.counts.failures() as f64 / interval
        }));
    }
    let max = series.iter().flat_map(|s| &s.points).map(|point| point.1).fold(0.0, f64::max);
    Plot {
        x: time_axis(outcome),
        y: Axis::linear("per second", Unit::Plain, max),
        series,
        // A rate that changes is no line.
        rule: outcome.plan.load.rate().filter(|_| outcome.plan.phases.is_empty()),
    }
}

fn tables(outcome: &Outcome) -> String {
    let mut out = String::from(
        "<h2>Figures</h2>\n<table><tr><th></th><th>mean</th><th>p50</th><th>p90</th><th>p99</th>\
         <th>p99.9</th><th>p99.99</th><th>max</th></tr>\n",
    );
    let rows = [
        ("latency", &outcome.total.latency),
        ("from the actual send", &outcome.total.service),
        ("lateness of sends", &outcome.total.lateness),
    ];
    for (name, histogram) in rows.iter().filter(|(_, histogram)| !histogram.is_empty()) {
        let _ = write!(out, "<tr><td>{name}</td><td>{}</td>", wrk_time(histogram.mean()));
        for quantile in [0.5, 0.9, 0.99, 0.999, 0.9999, 1.0] {
            let value = histogram.value_at_quantile(quantile) as f64;
            let _ = write!(out, "<td>{}</td>", wrk_time(value));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table>\n<table>");
    let counts = &outcome.total.counts;
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "<tr><td>{}</td><td>{}</td></tr>", escape(name), escape(&value));
    };
    row("requests sent", counts.sent.to_string());
    for (status, count) in &counts.statuses {
        row(&format!("status {status}"), count.to_string());
    }
    for (fault, name) in FAULTS.iter().filter(|(fault, _)| counts.fault(*fault) > 0) {
        row(name, counts.fault(*fault).to_string());
    }
    row("received", wrk_bytes(counts.wire_in as f64));
    row("connections open at the start", outcome.connections_open.to_string());
    let requests = counts.answers().max(1) as f64;
    row(
        "generator",
        format!(
            "{}, busiest worker {:.0} % of a CPU, {:.2} µs of CPU per request",
            outcome.backend,
            verdict::busiest(outcome) * 100.0,
            outcome.process_cpu.as_secs_f64() * 1e6 / requests
        ),
    );
    if let Some(server) = &outcome.server {
        row("server", text::server_line(outcome, server));
    }
    row("stolen by the hypervisor", format!("{:.2} %", outcome.steal * 100.0));
    out.push_str("</table>\n");
    out
}
