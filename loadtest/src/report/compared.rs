//! A comparison as text, JSON and one page.
//!
//! What it leaves to others: the figures (`compare`).

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::html::{page, spectrum};
use super::svg::{Axis, Mark, Plot, Scale, Series, Unit, escape};
use crate::compare::{Blocks, Comparison, Finding, Metric, Row, ratio};
use crate::stats::Estimate;

/// What is known besides the figures.
#[derive(Clone, Debug)]
pub struct About {
    pub names: [String; 2],
    pub urls: [String; 2],
    /// Load and order, in a sentence.
    pub how: String,
    /// Why it is not to be believed.
    pub void: Vec<String>,
}

fn word(finding: Finding) -> &'static str {
    match finding {
        Finding::NoDifference => "no difference",
        Finding::Better => "better",
        Finding::Worse => "worse",
    }
}

fn percent(ratio: f64) -> String {
    format!("{:+.1}%", (ratio - 1.0) * 100.0)
}

fn interval(estimate: Estimate) -> String {
    format!("{} to {}", percent(estimate.low), percent(estimate.high))
}

/// How it goes.
pub fn progress(measured: &Blocks, primary: Metric, most: usize) -> String {
    let so_far = ratio(measured, primary)
        .map_or(String::new(), |e| format!(": {} in {}", percent(e), primary.name()));
    format!("{} of at most {most} blocks{so_far}", measured.blocks.len())
}

/// The sentence that a comparison comes to.
pub fn verdict(comparison: &Comparison, about: &About) -> String {
    if !about.void.is_empty() {
        return "VOID: no verdict".to_owned();
    }
    let Some(row) = comparison.rows.iter().find(|row| row.metric == comparison.primary) else {
        return format!("{} was not measured: no verdict", comparison.primary.name());
    };
    let [a, b] = &about.names;
    let name = row.metric.name();
    match row.finding {
        Finding::NoDifference => format!(
            "no difference of more than {:.1} % between {a} and {b} in {name}, nor beyond the \
             noise: {} (95 % sure: {})",
            comparison.margin * 100.0,
            percent(row.ratio.value),
            interval(row.ratio)
        ),
        finding => format!(
            "{b} is {} than {a} in {name}: {} (95 % sure: {})",
            word(finding),
            percent(row.ratio.value),
            interval(row.ratio)
        ),
    }
}

pub fn text(comparison: &Comparison, about: &About) -> String {
    let mut out = String::new();
    for (letter, (name, url)) in ["A", "B"].iter().zip(about.names.iter().zip(&about.urls)) {
        let _ = writeln!(out, "{letter}  {name:<16} {url}");
    }
    let _ = writeln!(out, "{}\n", about.how);
    let _ = writeln!(
        out,
        "{:<9} {:>12} {:>12} {:>8}  {:<18} {:<18}",
        "", "A", "B", "B/A", "95 % interval", "A/A (noise)"
    );
    for row in &comparison.rows {
        let _ = writeln!(
            out,
            "{:<9} {:>12} {:>12} {:>8.3}  {:<18} {:<18} {}",
            row.metric.name(),
            row.metric.text(row.a),
            row.metric.text(row.b),
            row.ratio.value,
            interval(row.ratio),
            row.floor.map_or("not measured".to_owned(), interval),
            word(row.finding)
        );
    }
    let [a, b] = comparison.failures;
    let _ = writeln!(out, "{:<9} {a:>12} {b:>12}", "failures");
    let _ = writeln!(out, "\n{}", verdict(comparison, about));
    for reason in &about.void {
        let _ = writeln!(out, "VOID: {reason}");
    }
    out
}

fn estimate(estimate: Estimate) -> Value {
    json!({"ratio": estimate.value, "low": estimate.low, "high": estimate.high})
}

pub fn document(comparison: &Comparison, about: &About) -> Value {
    let row = |row: &Row| {
        json!({
            "metric": row.metric.name(),
            "a": row.a,
            "b": row.b,
            "bOverA": estimate(row.ratio),
            "aOverA": row.floor.map(estimate),
            "finding": word(row.finding),
        })
    };
    json!({
        "names": about.names,
        "urls": about.urls,
        "how": about.how,
        "blocks": comparison.blocks,
        "margin": comparison.margin,
        "runs": comparison.runs,
        "primary": comparison.primary.name(),
        "verdict": verdict(comparison, about),
        "void": about.void,
        "failures": comparison.failures,
        "metrics": comparison.rows.iter().map(row).collect::<Vec<_>>(),
        "quantiles": comparison.quantiles.iter().map(|(quantile, ratio, floor)| {
            json!({
                "quantile": quantile,
                "bOverA": estimate(*ratio),
                "aOverA": floor.map(estimate),
            })
        }).collect::<Vec<_>>(),
    })
}

pub fn html(comparison: &Comparison, about: &About) -> String {
    let [a, b] = &about.names;
    let mut body = format!(
        "<h1>{} against {}</h1>\n<p class=\"dim\">A: {}<br>B: {}<br>{}</p>\n",
        escape(b),
        escape(a),
        escape(&about.urls[0]),
        escape(&about.urls[1]),
        escape(&about.how)
    );
    let class = if about.void.is_empty() { "good" } else { "void" };
    let _ =
        write!(body, "<div class=\"{class}\"><b>{}</b><ul>", escape(&verdict(comparison, about)));
    for reason in &about.void {
        let _ = write!(body, "<li>{}</li>", escape(reason));
    }
    body.push_str("</ul></div>\n");
    body.push_str(&table(comparison, about));
    body.push_str("<h2>Latency by percentile</h2>\n");
    let [all_a, all_b] = &comparison.latencies;
    body.push_str(&spectrum(&[(a, 1, all_a), (b, 2, all_b)]).svg());
    body.push_str(
        "<h2>Difference by percentile</h2>\n<p class=\"dim\">B / A - 1 of each block: middle and \
         95 % interval. Grey: A against itself.</p>\n",
    );
    body.push_str(&differences(comparison, about).svg());
    page(&format!("{b} against {a}"), &body)
}

fn table(comparison: &Comparison, about: &About) -> String {
    let mut out = format!(
        "<table><tr><th></th><th>{}</th><th>{}</th><th>B/A</th><th>95 % interval</th>\
         <th>A/A (noise)</th><th></th></tr>\n",
        escape(&about.names[0]),
        escape(&about.names[1])
    );
    for row in &comparison.rows {
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{:.3}</td><td>{}</td><td>{}</td><td>{}</td>\
             </tr>",
            row.metric.name(),
            row.metric.text(row.a),
            row.metric.text(row.b),
            row.ratio.value,
            interval(row.ratio),
            row.floor.map_or(String::new(), interval),
            word(row.finding)
        );
    }
    let [a, b] = comparison.failures;
    let _ = writeln!(out, "<tr><td>failures</td><td>{a}</td><td>{b}</td></tr></table>");
    out
}

/// B / A - 1 in percent, by quantile.
pub fn differences(comparison: &Comparison, about: &About) -> Plot {
    let share = |ratio: f64| (ratio - 1.0) * 100.0;
    let band = |of: fn(Estimate, Option<Estimate>) -> Option<Estimate>| {
        let known: Vec<(f64, Estimate)> = comparison
            .quantiles
            .iter()
            .filter_map(|point| Some((point.0, of(point.1, point.2)?)))
            .collect();
        let there = known.iter().map(|(quantile, e)| (*quantile, share(e.high)));
        let back = known.iter().rev().map(|(quantile, e)| (*quantile, share(e.low)));
        there.chain(back).collect::<Vec<_>>()
    };
    let floor = band(|_, floor| floor);
    let ratio = band(|ratio, _| Some(ratio));
    let line = comparison.quantiles.iter().map(|(q, e, _)| (*q, share(e.value))).collect();
    let ends = |f: fn(f64, f64) -> f64, least: f64| {
        floor.iter().chain(&ratio).map(|point| point.1).fold(least, f) * 1.05
    };
    let (min, max) = (ends(f64::min, -2.0), ends(f64::max, 2.0));
    let last = comparison.quantiles.last().map_or(0.9, |point| point.0);
    let series =
        |name: &str, color, mark, points| Series { name: name.to_owned(), color, mark, points };
    let mut x = Axis::quantiles(10);
    x.max = last.max(0.9);
    Plot {
        x,
        y: Axis {
            label: "difference of latency".to_owned(),
            scale: Scale::Linear,
            unit: Unit::Percent,
            min,
            max,
        },
        series: vec![
            series("noise (A/A)", 6, Mark::Band, floor),
            series("95 % interval", 1, Mark::Band, ratio),
            series(&format!("{} / {}", about.names[1], about.names[0]), 1, Mark::Line, line),
        ],
        rule: Some(0.0),
    }
}
