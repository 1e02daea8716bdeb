//! Two targets, measured in interleaved pairs: ratios with their intervals, against what two runs
//! of the same target differ by.
//!
//! Runs go A B, B A, A B ... so that drift falls out. Of each pair a metric has one logarithm of
//! the ratio B / A; their median is the result, its bootstrap interval how sure it is. The same is
//! done with A and A first. A difference is claimed when the interval excludes 1, and the ratio is
//! further from 1 than both ends of the interval of A and A.
//!
//! What it leaves to others: running a load (`engine`), and showing the result (`report`).

use hdrhistogram::Histogram;

use crate::engine::Outcome;
use crate::engine::interval::histogram;
use crate::stats::{Estimate, median, median_with_interval};
use crate::watch::Usage;

/// How sure an interval is.
pub const LEVEL: f64 = 0.95;

/// Quantiles of the plot of differences.
const GRID: [f64; 23] = [
    0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99,
    0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999,
];

/// What a run is summed up to.
#[derive(Clone, Debug)]
pub struct Measured {
    pub latency: Histogram<u64>,
    pub answers: f64,
    pub rate: f64,
    pub failures: f64,
    /// What the watched processes used, and how much memory they had in the end.
    pub usage: Option<Usage>,
}

impl Measured {
    /// `before` and `after` are the watched processes' sums around the run.
    pub fn of(outcome: &Outcome, watched: Option<(Usage, Usage)>) -> Measured {
        Measured {
            latency: outcome.total.latency.clone(),
            answers: outcome.total.counts.answers() as f64,
            rate: outcome.answers_per_second(),
            failures: outcome.total.counts.failures() as f64,
            usage: watched.map(|(before, after)| after.since(&before)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metric {
    Rate,
    Mean,
    /// A quantile in hundredths of a percent.
    Quantile(u32),
    CpuPerRequest,
    SwitchesPerRequest,
    Memory,
}

pub const METRICS: [(Metric, &str); 9] = [
    (Metric::Rate, "rate"),
    (Metric::Mean, "mean"),
    (Metric::Quantile(5000), "p50"),
    (Metric::Quantile(9000), "p90"),
    (Metric::Quantile(9900), "p99"),
    (Metric::Quantile(9990), "p99.9"),
    (Metric::CpuPerRequest, "cpu"),
    (Metric::SwitchesPerRequest, "switches"),
    (Metric::Memory, "memory"),
];

impl Metric {
    fn value(self, run: &Measured) -> Option<f64> {
        let per_request = |total: u64| total as f64 / run.answers.max(1.0);
        let value = match self {
            Metric::Rate => Some(run.rate),
            Metric::Mean => Some(run.latency.mean()),
            Metric::Quantile(hundredths) => {
                Some(run.latency.value_at_quantile(f64::from(hundredths) / 1e4) as f64)
            }
            Metric::CpuPerRequest => run.usage.map(|usage| per_request(usage.cpu_ns)),
            Metric::SwitchesPerRequest => {
                run.usage.map(|usage| per_request(usage.context_switches))
            }
            Metric::Memory => run.usage.map(|usage| usage.resident_bytes as f64),
        };
        value.filter(|value| *value > 0.0)
    }

    /// Whether more is better.
    pub fn is_more_better(self) -> bool {
        self == Metric::Rate
    }

    /// A value as people read it.
    pub fn text(self, value: f64) -> String {
        match self {
            Metric::Rate => format!("{value:.0}/s"),
            Metric::Mean | Metric::Quantile(_) | Metric::CpuPerRequest => {
                crate::units::wrk_time(value)
            }
            Metric::SwitchesPerRequest => format!("{value:.4}"),
            Metric::Memory => crate::units::wrk_bytes(value),
        }
    }

    /// What a name on the command line, or in a table, means.
    pub fn of_name(name: &str) -> Option<Metric> {
        METRICS.iter().find(|(_, n)| *n == name).map(|(metric, _)| *metric)
    }

    pub fn name(self) -> &'static str {
        METRICS.iter().find(|(metric, _)| *metric == self).map_or("", |(_, name)| *name)
    }
}

/// One metric of both targets.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub metric: Metric,
    /// Medians over the runs.
    pub a: f64,
    pub b: f64,
    /// B / A.
    pub ratio: Estimate,
    /// A / A.
    pub floor: Option<Estimate>,
    pub finding: Finding,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    NoDifference,
    Better,
    Worse,
}

/// The whole comparison.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub rows: Vec<Row>,
    /// The metric that decides.
    pub primary: Metric,
    pub pairs: usize,
    pub floor_pairs: usize,
    /// All latencies of A and of B.
    pub latencies: [Histogram<u64>; 2],
    /// For each quantile of a grid, B / A and A / A.
    pub quantiles: Vec<(f64, Estimate, Option<Estimate>)>,
    pub failures: [f64; 2],
}

/// Compares pairs of (A, B), with pairs of (A, A) as the floor. `None` without pairs.
pub fn compare(
    pairs: &[(Measured, Measured)],
    floor: &[(Measured, Measured)],
    primary: Metric,
) -> Option<Comparison> {
    let others = METRICS.len() as f64 - 1.0;
    let rows = METRICS.iter().filter_map(|(metric, _)| {
        // Of many metrics one differs by chance: those that do not decide must be surer.
        let level = if *metric == primary { LEVEL } else { 1.0 - (1.0 - LEVEL) / others };
        row(*metric, pairs, floor, level)
    });
    let rows: Vec<Row> = rows.collect();
    if rows.is_empty() {
        return None;
    }
    let mut latencies = [histogram(), histogram()];
    for (a, b) in pairs {
        // All histograms have the same bounds.
        let _ = (latencies[0].add(&a.latency), latencies[1].add(&b.latency));
    }
    let fewest = latencies.iter().map(Histogram::len).min().unwrap_or(0) / pairs.len() as u64;
    let quantiles = GRID
        .iter()
        .filter(|quantile| (1.0 - **quantile) * fewest as f64 >= 5.0)
        .filter_map(|quantile| {
            let value = |run: &Measured| Some(run.latency.value_at_quantile(*quantile) as f64);
            let ratio = estimate(pairs, LEVEL, value)?;
            Some((*quantile, ratio, estimate(floor, LEVEL, value)))
        })
        .collect();
    Some(Comparison {
        rows,
        primary,
        pairs: pairs.len(),
        floor_pairs: floor.len(),
        latencies,
        quantiles,
        failures: [
            pairs.iter().map(|(a, _)| a.failures).sum(),
            pairs.iter().map(|(_, b)| b.failures).sum(),
        ],
    })
}

/// The ratio of each pair's second to its first, in the middle.
fn estimate(
    pairs: &[(Measured, Measured)],
    level: f64,
    value: impl Fn(&Measured) -> Option<f64>,
) -> Option<Estimate> {
    let ratios: Option<Vec<f64>> =
        pairs.iter().map(|(a, b)| Some((value(b)? / value(a)?).ln())).collect();
    Some(median_with_interval(&ratios?, level)?.map(f64::exp))
}

fn row(
    metric: Metric,
    pairs: &[(Measured, Measured)],
    floor: &[(Measured, Measured)],
    level: f64,
) -> Option<Row> {
    let value = |run: &Measured| metric.value(run);
    let ratio = estimate(pairs, LEVEL, value)?;
    let judged = estimate(pairs, level, value)?;
    let floor = estimate(floor, LEVEL, value);
    let all = |second: bool| -> Vec<f64> {
        pairs.iter().filter_map(|(a, b)| value(if second { b } else { a })).collect()
    };
    Some(Row {
        metric,
        a: median(&all(false)),
        b: median(&all(true)),
        ratio,
        floor,
        finding: finding(metric, judged, floor),
    })
}

fn finding(metric: Metric, ratio: Estimate, floor: Option<Estimate>) -> Finding {
    let noise = floor.map_or(0.0, |f| f.low.ln().abs().max(f.high.ln().abs()));
    let is_sure = ratio.low > 1.0 || ratio.high < 1.0;
    if !is_sure || ratio.value.ln().abs() <= noise {
        return Finding::NoDifference;
    }
    if (ratio.value > 1.0) == metric.is_more_better() { Finding::Better } else { Finding::Worse }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Random;

    /// A run of a target that takes about `us`, give or take some percent from run to run.
    fn run(random: &mut Random, us: f64) -> Measured {
        let noise = 1.0 + (random.below(2001) as f64 - 1000.0) / 1000.0 * 0.03;
        let mut latency = histogram();
        for _ in 0..100 {
            let spread = 0.8 + random.below(400) as f64 / 1000.0;
            latency.saturating_record((us * noise * spread * 1e3) as u64);
        }
        Measured { latency, answers: 500.0, rate: 1e6 / us, failures: 0.0, usage: None }
    }

    fn pairs(random: &mut Random, count: usize, a: f64, b: f64) -> Vec<(Measured, Measured)> {
        (0..count).map(|_| (run(random, a), run(random, b))).collect()
    }

    fn found(seed: u64, b: f64) -> Finding {
        let mut random = Random::new(seed);
        let floor = pairs(&mut random, 12, 100.0, 100.0);
        let pairs = pairs(&mut random, 12, 100.0, b);
        row(Metric::Mean, &pairs, &floor, LEVEL).unwrap().finding
    }

    #[test]
    fn a_target_against_itself_is_no_different_and_a_slower_one_is_found() {
        let same = (0..40).filter(|seed| found(*seed, 100.0) == Finding::NoDifference).count();
        assert!(same >= 38, "{same} of 40");
        let slower = (0..40).filter(|seed| found(*seed, 105.0) == Finding::Worse).count();
        assert!(slower >= 36, "{slower} of 40");
    }

    #[test]
    fn more_requests_are_better_and_more_time_is_worse() {
        let ratio = Estimate { value: 1.2, low: 1.1, high: 1.3 };
        assert_eq!(finding(Metric::Rate, ratio, None), Finding::Better);
        assert_eq!(finding(Metric::Mean, ratio, None), Finding::Worse);
        let noisy = Estimate { value: 1.0, low: 0.8, high: 1.05 };
        assert_eq!(finding(Metric::Mean, ratio, Some(noisy)), Finding::NoDifference);
    }

    #[test]
    fn nothing_is_compared_without_pairs() {
        assert!(compare(&[], &[], Metric::Mean).is_none());
        assert_eq!(Metric::of_name("p99.9"), Some(Metric::Quantile(9990)));
        assert_eq!((Metric::of_name("p98"), Metric::Memory.name()), (None, "memory"));
    }
}
