//! `loadtest diff a.hlog b.hlog`: how far latencies have moved at each percentile.
//!
//! Intervals come from resampling the logs' intervals, so that what happened together stays
//! together. A file of one piece has none, and neither has its comparison.
//!
//! What it leaves to others: reading files (`import`).

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hdrhistogram::Histogram;

use super::Failure;
use super::run::{print, write};
use crate::engine::interval::histogram;
use crate::import::{Loaded, load};
use crate::report::html::{page, spectrum};
use crate::report::svg::escape;
use crate::stats::{Random, middle};
use crate::units::wrk_time;

const QUANTILES: [(f64, &str); 6] =
    [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99"), (1.0, "max")];
const RESAMPLINGS: usize = 200;
/// Fewer parts say nothing about their spread.
const PARTS_MIN: usize = 5;

#[derive(Parser, Debug)]
#[command(
    name = "loadtest diff",
    about = "Compares latencies from two files: .hlog, .hgrm, wrk2's output, vegeta's results, fortio's JSON"
)]
pub struct DiffArguments {
    a: PathBuf,
    b: PathBuf,
    /// The comparison as a page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub fn command(arguments: &DiffArguments) -> Result<ExitCode, Failure> {
    let read = |file: &PathBuf| -> Result<Loaded, Failure> {
        let failed = |error: String| Failure::Failed(format!("{}: {error}", file.display()));
        load(&std::fs::read(file).map_err(|error| failed(error.to_string()))?).map_err(failed)
    };
    let files = [read(&arguments.a)?, read(&arguments.b)?];
    let names = [&arguments.a, &arguments.b].map(|file| file.display().to_string());
    let text = table(&files, &names);
    print(&text);
    if let Some(file) = &arguments.html {
        let totals = files.each_ref().map(Loaded::total);
        let plot = spectrum(&[(&names[0], 1, &totals[0]), (&names[1], 2, &totals[1])]);
        let body = format!(
            "<h1>{} and {}</h1>\n<pre>{}</pre>\n{}",
            escape(&names[0]),
            escape(&names[1]),
            escape(&text),
            plot.svg()
        );
        write(file, page("Two runs", &body).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(files: &[Loaded; 2], names: &[String; 2]) -> String {
    let totals = files.each_ref().map(Loaded::total);
    let mut text = String::new();
    for (letter, (file, (name, total))) in
        ["A", "B"].iter().zip(files.iter().zip(names.iter().zip(&totals)))
    {
        text.push_str(&format!("{letter}  {name} ({}, {} values)\n", file.kind, total.len()));
    }
    text.push_str(&format!("\n{:<8} {:>10} {:>10} {:>9}  95 % interval\n", "", "A", "B", "shift"));
    let sure = intervals(files);
    for (number, (quantile, name)) in QUANTILES.iter().enumerate() {
        let [a, b] = totals.each_ref().map(|total| total.value_at_quantile(*quantile) as f64);
        let interval = match &sure {
            // The longest of few is not resampled well.
            Some(sure) if *quantile < 1.0 => {
                let (low, high) = sure[number];
                let word = if low > 1.0 || high < 1.0 { "" } else { "  no difference" };
                format!("{:+.1}% to {:+.1}%{word}", (low - 1.0) * 100.0, (high - 1.0) * 100.0)
            }
            _ => String::new(),
        };
        text.push_str(&format!(
            "{name:<8} {:>10} {:>10} {:>+8.1}%  {interval}\n",
            wrk_time(a),
            wrk_time(b),
            (b / a.max(1.0) - 1.0) * 100.0
        ));
    }
    if sure.is_none() {
        text.push_str(&format!(
            "\nNo intervals: they need {PARTS_MIN} intervals in each file (an .hlog, or vegeta's results \
             of {PARTS_MIN} seconds).\n"
        ));
    }
    text
}

/// For each quantile, where B / A lies in 95 of 100 resamplings of both files' parts.
fn intervals(files: &[Loaded; 2]) -> Option<Vec<(f64, f64)>> {
    if files.iter().any(|file| file.parts.len() < PARTS_MIN) {
        return None;
    }
    let mut random = Random::new(1);
    let mut ratios = vec![Vec::with_capacity(RESAMPLINGS); QUANTILES.len()];
    for _ in 0..RESAMPLINGS {
        let [a, b] = files.each_ref().map(|file| resample(&file.parts, &mut random));
        for (ratios, (quantile, _)) in ratios.iter_mut().zip(QUANTILES) {
            let at = |histogram: &Histogram<u64>| histogram.value_at_quantile(quantile) as f64;
            ratios.push(at(&b) / at(&a).max(1.0));
        }
    }
    Some(ratios.iter_mut().map(|ratios| middle(ratios, 0.95)).collect())
}

fn resample(parts: &[Histogram<u64>], random: &mut Random) -> Histogram<u64> {
    let mut counts = vec![0_u64; parts.len()];
    for _ in parts {
        counts[random.below(parts.len())] += 1;
    }
    let mut total = histogram();
    for (part, count) in parts.iter().zip(counts).filter(|(_, count)| *count > 0) {
        for value in part.iter_recorded() {
            total.saturating_record_n(value.value_iterated_to(), value.count_at_value() * count);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(factor: f64, parts: usize) -> Loaded {
        let mut random = Random::new(3);
        let part = |_| {
            let mut part = histogram();
            for _ in 0..2000 {
                part.saturating_record(((50_000 + random.below(50_000)) as f64 * factor) as u64);
            }
            part
        };
        Loaded { parts: (0..parts).map(part).collect(), kind: "interval log" }
    }

    #[test]
    fn a_shift_is_found_and_no_shift_is_not() {
        let shifted = intervals(&[file(1.0, 8), file(1.1, 8)]).unwrap();
        assert!(shifted[0].0 > 1.05 && shifted[0].1 < 1.15, "{shifted:?}");
        let same = intervals(&[file(1.0, 8), file(1.0, 8)]).unwrap();
        assert!(same[0].0 < 1.0 && same[0].1 > 1.0, "{same:?}");
        assert!(intervals(&[file(1.0, 8), file(1.0, 1)]).is_none());
        let names = ["a", "b"].map(str::to_owned);
        let text = table(&[file(1.0, 8), file(1.0, 1)], &names);
        assert!(text.contains("No intervals") && text.contains("p99.99"), "{text}");
    }
}
