//! What each phase of a run came to: as text, JSON and a table of the page.
//!
//! What it leaves to others: the run as a whole (`text`, `json`, `html`).

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::json::microseconds;
use super::svg::escape;
use crate::engine::Outcome;
use crate::engine::interval::Interval;
use crate::phase::Phase;
use crate::units::{go_duration, wrk_time};

const COLUMNS: [&str; 10] =
    ["phase", "time", "rate", "answers/s", "answers", "failed", "p50", "p90", "p99", "p99.9"];

fn all(outcome: &Outcome) -> impl Iterator<Item = (&Phase, &Interval)> {
    outcome.plan.phases.iter().zip(&outcome.phases)
}

fn rate(phase: &Phase) -> String {
    match phase.from == phase.to {
        true => format!("{}/s", phase.from),
        false => format!("{}/s to {}/s", phase.from, phase.to),
    }
}

/// Answers to requests of the phase per second of it.
fn answers_per_second(phase: &Phase, interval: &Interval) -> f64 {
    interval.counts.answers() as f64 / phase.duration.as_secs_f64()
}

fn cells(phase: &Phase, interval: &Interval) -> [String; COLUMNS.len()] {
    let at = |quantile| match interval.latency.is_empty() {
        true => String::new(),
        false => wrk_time(interval.latency.value_at_quantile(quantile) as f64),
    };
    [
        phase.name.clone(),
        go_duration(phase.duration.as_nanos() as u64),
        rate(phase),
        format!("{:.1}", answers_per_second(phase, interval)),
        interval.counts.answers().to_string(),
        interval.counts.failures().to_string(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
    ]
}

/// A line for each phase; nothing when there are none.
pub fn text(outcome: &Outcome) -> String {
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(all(outcome).map(|(phase, interval)| cells(phase, interval)));
    if rows.len() == 1 {
        return String::new();
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..COLUMNS.len()).filter_map(width).collect();
    let mut text = String::from("  Phases, by when requests were due\n");
    for row in &rows {
        let _ = write!(text, "    {:<1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            let _ = write!(text, "  {cell:>width$}");
        }
        text.push('\n');
    }
    text
}

pub fn document(outcome: &Outcome) -> Value {
    let phase = |(phase, interval): (&Phase, &Interval)| {
        json!({
            "name": phase.name,
            "durationSeconds": phase.duration.as_secs_f64(),
            "rateFrom": phase.from,
            "rateTo": phase.to,
            "sent": interval.counts.sent,
            "succeeded": interval.counts.succeeded,
            "failed": interval.counts.failures(),
            "answersPerSecond": answers_per_second(phase, interval),
            "latencyMicroseconds": microseconds(&interval.latency),
            "latenessMicroseconds": microseconds(&interval.lateness),
        })
    };
    all(outcome).map(phase).collect()
}

pub fn html(outcome: &Outcome) -> String {
    if outcome.phases.is_empty() {
        return String::new();
    }
    let mut out = String::from("<h2>Phases</h2>\n<table><tr>");
    for column in COLUMNS {
        let _ = write!(out, "<th>{column}</th>");
    }
    out.push_str("</tr>\n");
    for (phase, interval) in all(outcome) {
        out.push_str("<tr>");
        for cell in cells(phase, interval) {
            let _ = write!(out, "<td>{}</td>", escape(&cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table>\n");
    out
}
