//! Two targets, measured in blocks of short runs: ratios with their intervals, beside what the
//! first target differs by from itself.
//!
//! A block is A, A again and B in random order, and the same backwards: drift that is straight over
//! a block falls out, and any other is as likely to favour one as the other. Of each block a metric
//! has one logarithm of the ratio B / A, and one of A / A; the middle of all blocks is the result,
//! and Wilcoxon's signed ranks say how sure it is.
//!
//! The blocks are looked at several times, and the comparison ends when it is decided. Each look
//! may err with its own part of 5 % (`Looks`), so that all together err at most so often: a
//! group-sequential test whose parts simply add up (Bonferroni), whatever the looks have in common.
//! The intervals are those of their look, and hold the truth at every look with 95 %.
//!
//! Two processes of one program differ, too, by where their memory lies. So a difference is claimed
//! when the interval lies beyond a margin, and the ratio beyond the interval of A and A.
//!
//! What it leaves to others: running a load (`engine`), and showing the result (`report`).

use hdrhistogram::Histogram;

use crate::engine::Outcome;
use crate::engine::interval::histogram;
use crate::stats::{Estimate, centre_with_interval, median};
use crate::watch::Usage;

/// How often all looks together may claim a difference where there is none.
pub const ERROR: f64 = 0.05;
/// A claim that A differs from itself must be surer than any other.
const BROKEN: f64 = 0.001;
/// Answers of a run that must lie beyond a quantile for it to say anything.
const BEYOND_MIN: f64 = 5.0;

/// Quantiles of the plot of differences.
const GRID: [f64; 23] = [
    0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99,
    0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999,
];

/// What a run is summed up to.
#[derive(Clone, Debug)]
pub struct Measured {
    pub answers: f64,
    pub rate: f64,
    pub mean: f64,
    /// Latencies at the quantiles of the grid.
    pub quantiles: [f64; GRID.len()],
    /// What the watched processes used, and how much memory they had in the end.
    pub usage: Option<Usage>,
    /// What they called, where that is counted.
    pub system_calls: Option<u64>,
}

impl Measured {
    pub fn of(outcome: &Outcome, usage: Option<Usage>, system_calls: Option<u64>) -> Measured {
        let latency = &outcome.total.latency;
        Measured {
            answers: outcome.total.counts.answers() as f64,
            rate: outcome.answers_per_second(),
            mean: latency.mean(),
            quantiles: GRID.map(|quantile| latency.value_at_quantile(quantile) as f64),
            usage,
            system_calls,
        }
    }

    /// The latency at one of the grid's quantiles, where enough answers lie beyond it.
    fn at(&self, quantile: f64) -> Option<f64> {
        let index = GRID.iter().position(|known| (known - quantile).abs() < 1e-9)?;
        ((1.0 - quantile) * self.answers >= BEYOND_MIN).then_some(self.quantiles[index])
    }
}

/// Who is measured in a block: A, A again on connections of its own, and B.
pub const ARMS: usize = 3;

/// The two runs of each arm.
pub type Block = [[Measured; 2]; ARMS];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metric {
    Rate,
    Mean,
    /// A quantile in hundredths of a percent; there must be enough answers in each run for it.
    Quantile(u32),
    CpuPerRequest,
    SwitchesPerRequest,
    SystemCallsPerRequest,
    Memory,
}

pub const METRICS: [(Metric, &str); 10] = [
    (Metric::Rate, "rate"),
    (Metric::Mean, "mean"),
    (Metric::Quantile(5000), "p50"),
    (Metric::Quantile(9000), "p90"),
    (Metric::Quantile(9900), "p99"),
    (Metric::Quantile(9990), "p99.9"),
    (Metric::CpuPerRequest, "cpu"),
    (Metric::SwitchesPerRequest, "switches"),
    (Metric::SystemCallsPerRequest, "syscalls"),
    (Metric::Memory, "memory"),
];

impl Metric {
    fn value(self, run: &Measured) -> Option<f64> {
        let per_request = |total: u64| total as f64 / run.answers.max(1.0);
        let value = match self {
            Metric::Rate => Some(run.rate),
            Metric::Mean => Some(run.mean),
            Metric::Quantile(hundredths) => run.at(f64::from(hundredths) / 1e4),
            Metric::CpuPerRequest => run.usage.map(|usage| per_request(usage.cpu_ns)),
            Metric::SwitchesPerRequest => {
                run.usage.map(|usage| per_request(usage.context_switches))
            }
            Metric::SystemCallsPerRequest => run.system_calls.map(per_request),
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
            Metric::SwitchesPerRequest | Metric::SystemCallsPerRequest => format!("{value:.4}"),
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

/// All that was measured.
#[derive(Clone, Debug)]
pub struct Blocks {
    pub blocks: Vec<Block>,
    /// All latencies of A and of B.
    pub latencies: [Histogram<u64>; 2],
    pub failures: [u64; 2],
}

impl Blocks {
    pub fn new() -> Blocks {
        Blocks { blocks: Vec::new(), latencies: [histogram(), histogram()], failures: [0; 2] }
    }
}

/// When the blocks are looked at, and how often each look may err.
///
/// Of `blocks` blocks the last look has half of what may be erred, the one at half as many blocks a
/// quarter, and so on: little is given away for ending early.
#[derive(Clone, Debug)]
pub struct Looks {
    blocks: usize,
}

/// Fewer blocks than this say nothing about their spread.
pub const BLOCKS_MIN: usize = 8;

impl Looks {
    pub fn new(blocks: usize) -> Looks {
        Looks { blocks }
    }

    /// What a look at so many blocks may err, where there is one.
    pub fn error(&self, blocks: usize) -> Option<f64> {
        let mut look = (self.blocks, ERROR / 2.0);
        while look.0 > blocks && look.0 / 2 >= BLOCKS_MIN {
            look = (look.0 / 2, look.1 / 2.0);
        }
        // So often all blocks lean to one side by chance: no interval of theirs errs less.
        let least = 2.0_f64.powi(1 - i32::try_from(blocks).unwrap_or(i32::MAX));
        (look.0 == blocks && look.1 >= least).then_some(look.1)
    }
}

/// The whole comparison.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub rows: Vec<Row>,
    /// The metric that decides.
    pub primary: Metric,
    /// A difference is one of more than this; 0.01 is 1 %.
    pub margin: f64,
    pub blocks: usize,
    /// The metric that decides, of each run: in each block two of A, of A again and of B.
    pub runs: Vec<[[f64; 2]; ARMS]>,
    /// All latencies of A and of B.
    pub latencies: [Histogram<u64>; 2],
    /// For each quantile of a grid, B / A and A / A.
    pub quantiles: Vec<(f64, Estimate, Option<Estimate>)>,
    pub failures: [u64; 2],
    /// A differs from A in the metric that decides: something is wrong with the measurement.
    pub is_broken: bool,
}

/// Compares, where each metric's difference must be beyond `margin` (0.01 is 1 %). `None` of
/// nothing.
pub fn compare(measured: &Blocks, primary: Metric, margin: f64, error: f64) -> Option<Comparison> {
    let blocks = &measured.blocks[..];
    let others = METRICS.len() as f64 - 1.0;
    let rows = METRICS.iter().filter_map(|(metric, _)| {
        // Of many metrics one differs by chance: those that do not decide must be surer.
        let error = if *metric == primary { error } else { error / others };
        row(*metric, blocks, margin, error)
    });
    let rows: Vec<Row> = rows.collect();
    if rows.is_empty() {
        return None;
    }
    let quantiles = GRID
        .iter()
        .filter_map(|quantile| {
            let value = |run: &Measured| run.at(*quantile);
            let (ratios, floor) = ratios(blocks, value)?;
            let estimate =
                |values: &[f64]| Some(centre_with_interval(values, error)?.map(f64::exp));
            Some((*quantile, estimate(&ratios)?, estimate(&floor)))
        })
        .collect();
    let surely = row(primary, blocks, margin, BROKEN).and_then(|row| row.floor);
    Some(Comparison {
        rows,
        primary,
        margin,
        blocks: blocks.len(),
        runs: blocks
            .iter()
            .map(|block| block.each_ref().map(|runs| of_runs(runs, primary)))
            .collect(),
        latencies: measured.latencies.clone(),
        quantiles,
        failures: measured.failures,
        is_broken: surely.is_some_and(|floor| is_beyond(floor, margin)),
    })
}

/// Whether no more blocks are needed: the metric differs, or its difference is within the margin.
pub fn is_decided(measured: &Blocks, primary: Metric, margin: f64, error: f64) -> bool {
    let Some(row) = row(primary, &measured.blocks, margin, error) else { return false };
    let bound = margin.ln_1p();
    row.finding != Finding::NoDifference
        || (row.ratio.low.ln() > -bound && row.ratio.high.ln() < bound)
}

/// B / A, as it seems.
pub fn ratio(measured: &Blocks, metric: Metric) -> Option<f64> {
    let (ratios, _) = ratios(&measured.blocks, |run| metric.value(run))?;
    Some(centre_with_interval(&ratios, ERROR)?.value.exp())
}

fn of_runs(runs: &[Measured; 2], metric: Metric) -> [f64; 2] {
    runs.each_ref().map(|run| metric.value(run).unwrap_or(0.0))
}

/// Of each block the logarithms of B / A and of A / A.
fn ratios(
    blocks: &[Block],
    value: impl Fn(&Measured) -> Option<f64>,
) -> Option<(Vec<f64>, Vec<f64>)> {
    let of_arm = |runs: &[Measured; 2]| -> Option<f64> {
        Some((value(&runs[0])?.ln() + value(&runs[1])?.ln()) / 2.0)
    };
    let of_block = |[a, again, b]: &Block| {
        let (a, again, b) = (of_arm(a)?, of_arm(again)?, of_arm(b)?);
        Some((b - (a + again) / 2.0, again - a))
    };
    blocks.iter().map(of_block).collect::<Option<Vec<_>>>().map(|ratios| ratios.into_iter().unzip())
}

fn row(metric: Metric, blocks: &[Block], margin: f64, error: f64) -> Option<Row> {
    let value = |run: &Measured| metric.value(run);
    let (ratios, floor) = ratios(blocks, value)?;
    let ratio = centre_with_interval(&ratios, error)?.map(f64::exp);
    let floor = centre_with_interval(&floor, error).map(|floor| floor.map(f64::exp));
    let middle = |arms: &[usize]| -> f64 {
        let runs = blocks.iter().flat_map(|block| arms.iter().flat_map(|arm| &block[*arm]));
        median(&runs.filter_map(value).collect::<Vec<_>>())
    };
    Some(Row {
        metric,
        a: middle(&[0, 1]),
        b: middle(&[2]),
        ratio,
        floor,
        finding: finding(metric, ratio, floor, margin),
    })
}

/// Whether a whole interval lies beyond the margin, to either side.
fn is_beyond(ratio: Estimate, margin: f64) -> bool {
    let bound = margin.ln_1p();
    ratio.low.ln() > bound || ratio.high.ln() < -bound
}

fn finding(metric: Metric, ratio: Estimate, floor: Option<Estimate>, margin: f64) -> Finding {
    let noise = floor.map_or(0.0, |f| f.low.ln().abs().max(f.high.ln().abs()));
    if !is_beyond(ratio, margin) || ratio.value.ln().abs() <= noise {
        return Finding::NoDifference;
    }
    if (ratio.value > 1.0) == metric.is_more_better() { Finding::Better } else { Finding::Worse }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Random;

    const MARGIN: f64 = 0.02;

    /// A run of a target that takes about `us`, give or take a tenth from run to run.
    fn run(random: &mut Random, us: f64) -> Measured {
        let noise: f64 = (0..3).map(|_| random.unit() - 0.5).sum::<f64>() * 0.2;
        let mean = us * 1e3 * noise.exp();
        let quantiles = GRID.map(|quantile| mean * (0.8 + 0.4 * quantile));
        Measured {
            answers: 500.0,
            rate: 1e6 / us,
            mean,
            quantiles,
            usage: None,
            system_calls: None,
        }
    }

    /// Blocks on a machine that gets slower and quicker, until it is decided.
    fn blocks(seed: u64, a: f64, b: f64, most: usize) -> (Blocks, f64) {
        let mut random = Random::new(seed);
        let (mut all, looks) = (Blocks::new(), Looks::new(most));
        loop {
            let drift = 1.0 + 0.3 * (all.blocks.len() as f64 / 9.0).sin();
            let mut pair = |us: f64| [(); 2].map(|()| run(&mut random, us * drift));
            all.blocks.push([pair(a), pair(a), pair(b)]);
            if let Some(error) = looks.error(all.blocks.len()) {
                let is_last = all.blocks.len() == most;
                if is_last || is_decided(&all, Metric::Mean, MARGIN, error) {
                    return (all, error);
                }
            }
        }
    }

    fn found(seed: u64, b: f64) -> Finding {
        let (blocks, error) = blocks(seed, 100.0, b, 256);
        row(Metric::Mean, &blocks.blocks, MARGIN, error).unwrap().finding
    }

    #[test]
    fn a_target_against_itself_is_no_different_and_a_slower_one_is_found() {
        let same = (0..100).filter(|seed| found(*seed, 100.0) == Finding::NoDifference).count();
        assert!(same >= 95, "{same} of 100");
        let slower = (0..40).filter(|seed| found(*seed, 105.0) == Finding::Worse).count();
        assert!(slower >= 36, "{slower} of 40");
        let quicker = (0..40).filter(|seed| found(*seed, 95.0) == Finding::Better).count();
        assert!(quicker >= 36, "{quicker} of 40");
    }

    #[test]
    fn large_differences_and_none_end_early() {
        assert_eq!(blocks(1, 100.0, 150.0, 256).0.blocks.len(), 16);
        assert!(blocks(1, 100.0, 100.0, 4096).0.blocks.len() < 4096);
    }

    #[test]
    fn all_looks_together_err_as_often_as_they_may() {
        let looks = Looks::new(256);
        let errors: Vec<(usize, f64)> =
            (1..=300).filter_map(|blocks| Some((blocks, looks.error(blocks)?))).collect();
        assert_eq!(errors.iter().map(|look| look.0).collect::<Vec<_>>(), [16, 32, 64, 128, 256]);
        let sum: f64 = errors.iter().map(|look| look.1).sum();
        assert!(sum <= ERROR && sum > ERROR * 0.9, "{sum}");
        assert!(looks.error(8).is_none(), "eight blocks cannot be so sure");
        assert_eq!(Looks::new(10).error(10), Some(ERROR / 2.0));
        assert_eq!(Looks::new(10).error(5), None);
    }

    #[test]
    fn more_requests_are_better_and_more_time_is_worse() {
        let ratio = Estimate { value: 1.2, low: 1.1, high: 1.3 };
        assert_eq!(finding(Metric::Rate, ratio, None, MARGIN), Finding::Better);
        assert_eq!(finding(Metric::Mean, ratio, None, MARGIN), Finding::Worse);
        assert_eq!(finding(Metric::Mean, ratio, None, 0.15), Finding::NoDifference);
        let noisy = Estimate { value: 1.0, low: 0.8, high: 1.05 };
        assert_eq!(finding(Metric::Mean, ratio, Some(noisy), MARGIN), Finding::NoDifference);
    }

    #[test]
    fn a_target_that_differs_from_itself_makes_it_void() {
        let (mut blocks, error) = blocks(3, 100.0, 100.0, 64);
        assert!(!compare(&blocks, Metric::Mean, MARGIN, error).unwrap().is_broken);
        for block in &mut blocks.blocks {
            block[1].iter_mut().for_each(|run| run.mean *= 1.3);
        }
        assert!(compare(&blocks, Metric::Mean, MARGIN, error).unwrap().is_broken);
    }

    #[test]
    fn nothing_is_compared_without_blocks_and_no_quantile_without_answers() {
        assert!(compare(&Blocks::new(), Metric::Mean, MARGIN, ERROR).is_none());
        assert_eq!(Metric::of_name("p99.9"), Some(Metric::Quantile(9990)));
        assert_eq!((Metric::of_name("p98"), Metric::Memory.name()), (None, "memory"));
        let run = run(&mut Random::new(1), 100.0);
        assert!(Metric::Quantile(9900).value(&run).is_some());
        assert_eq!(Metric::Quantile(9990).value(&run), None);
    }
}
