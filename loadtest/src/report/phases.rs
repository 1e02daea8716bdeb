//! What each phase of a run came to: as text, JSON and a table of the page.
//!
//! What it leaves to others: the run as a whole (`text`, `json`, `html`).

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::json::microseconds;
use super::svg::escape;
use crate::engine::Outcome;
use crate::engine::interval::Interval;
use crate::phase::{Pace, Phase};
use crate::plan::Load;
use crate::units::{go_duration, wrk_time};

const COLUMNS: [&str; 10] =
    ["phase", "time", "pace", "answers/s", "answers", "failed", "p50", "p90", "p99", "p99.9"];

fn all(outcome: &Outcome) -> impl Iterator<Item = (&Phase, &Interval)> {
    outcome.plan.phases.iter().zip(&outcome.phases)
}

fn cells(phase: &Phase, interval: &Interval) -> [String; COLUMNS.len()] {
    let at = |quantile| match interval.latency.is_empty() {
        true => String::new(),
        false => wrk_time(interval.latency.value_at_quantile(quantile) as f64),
    };
    [
        phase.name.clone(),
        go_duration(phase.duration.as_nanos() as u64),
        phase.pace_text(),
        format!("{:.1}", interval.counts.answers_per_second(phase.duration)),
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
    let sent = if outcome.plan.load == Load::Closed { "sent" } else { "due" };
    let mut text = format!("  Phases, by when requests were {sent}\n");
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
    let of = |phase: &Phase, pace, value: f64| (phase.pace == pace).then_some(value);
    let phase = |(phase, interval): (&Phase, &Interval)| {
        json!({
            "name": phase.name,
            "durationSeconds": phase.duration.as_secs_f64(),
            "rateFrom": of(phase, Pace::Rate, phase.from),
            "rateTo": of(phase, Pace::Rate, phase.to),
            "concurrencyFrom": of(phase, Pace::Concurrency, phase.from),
            "concurrencyTo": of(phase, Pace::Concurrency, phase.to),
            "sent": interval.counts.sent,
            "succeeded": interval.counts.succeeded,
            "failed": interval.counts.failures(),
            "answersPerSecond": interval.counts.answers_per_second(phase.duration),
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
