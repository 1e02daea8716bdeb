//! `loadtest ab`: two targets in interleaved pairs, the noise floor first.
//!
//! What it leaves to others: the statistics (`compare`) and the reports.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;

use super::arguments::LoadArguments;
use super::run::{print, write};
use super::{Failure, stop_signal};
use crate::compare::{Measured, Metric, compare};
use crate::engine::{self, Unobserved};
use crate::plan::{Load, Plan};
use crate::report::compared::{self, About};
use crate::units;
use crate::verdict;
use crate::watch::Usage;

/// Fewer pairs than this say nothing about their spread.
const PAIRS_MIN: usize = 5;

#[derive(Parser, Debug)]
#[command(name = "loadtest ab", about = "Compares two targets, and says whether they differ")]
pub struct AbArguments {
    /// The first target, NAME=URL.
    #[arg(long, value_name = "NAME=URL")]
    a: String,
    /// The second target, NAME=URL.
    #[arg(long, value_name = "NAME=URL")]
    b: String,
    /// Pairs of runs, A and B; at least 5.
    #[arg(long, default_value_t = 12)]
    pairs: usize,
    /// Pairs of A and A before; as many if nothing is said. With fewer the noise seems larger.
    #[arg(long, value_name = "N")]
    floor_pairs: Option<usize>,
    /// Time of one run.
    #[arg(short = 'z', long, alias = "duration", default_value = "3s",
          value_parser = units::duration)]
    time: Duration,
    /// A server's process, NAME=PID, with all its children; may be repeated.
    #[arg(long, value_name = "NAME=PID")]
    watch_pid: Vec<String>,
    /// What decides: rate, mean, p50, p90, p99, p99.9, cpu, switches or memory. [cpu where
    /// processes are watched, else rate in a closed loop and mean in an open one]
    #[arg(long, value_name = "METRIC")]
    metric: Option<String>,
    /// The comparison as a page.
    #[arg(long, visible_alias = "report", value_name = "FILE")]
    html: Option<PathBuf>,
    /// The comparison as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    load: LoadArguments,
}

struct Side {
    name: String,
    url: String,
    pids: Vec<u32>,
    plan: Plan,
}

pub fn command(arguments: &AbArguments) -> Result<ExitCode, Failure> {
    let sides = sides(arguments)?;
    let primary = primary(arguments, &sides)?;
    if arguments.pairs < PAIRS_MIN {
        return Err(format!("--pairs is at least {PAIRS_MIN}").into());
    }
    let floor_pairs = arguments.floor_pairs.unwrap_or(arguments.pairs);
    let mut runner = Runner { stop: stop_signal(), dropped: 0, reasons: Vec::new() };
    eprintln!("A/A: {floor_pairs} pairs of {} with itself", sides[0].name);
    let floor = runner.pairs(&sides[0], &sides[0], floor_pairs)?;
    eprintln!("A/B: {} pairs", arguments.pairs);
    let pairs = runner.pairs(&sides[0], &sides[1], arguments.pairs)?;
    let about = about(arguments, &sides, &runner, [floor.len(), pairs.len()], floor_pairs);
    let Some(comparison) = compare(&pairs, &floor, primary) else {
        let reasons = runner.reasons.join("; ");
        return Err(Failure::Failed(format!("there was no pair to compare: {reasons}")));
    };
    print(&compared::text(&comparison, &about));
    if let Some(file) = &arguments.html {
        write(file, compared::html(&comparison, &about).as_bytes())?;
    }
    if let Some(file) = &arguments.json {
        write(file, format!("{:#}\n", compared::document(&comparison, &about)).as_bytes())?;
    }
    Ok(if about.void.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(4) })
}

fn sides(arguments: &AbArguments) -> Result<[Side; 2], Failure> {
    let side = |letter: &str, text: &str| -> Result<Side, Failure> {
        // A URL alone has a `=` in its query at most.
        let (name, url) = match text.split_once('=') {
            Some((name, url)) if !name.contains(['/', '?']) => (name, url),
            _ => (letter, text),
        };
        let mut pids = Vec::new();
        for watched in &arguments.watch_pid {
            let (of, pid) = watched
                .split_once('=')
                .ok_or_else(|| format!("--watch-pid {watched}: NAME=PID"))?;
            let pid: u32 = pid.trim().parse().map_err(|_| format!("`{pid}` is no process id"))?;
            if of == name || of == letter {
                pids.push(pid);
            }
        }
        let plan = arguments.load.plan(url, None, Some(arguments.time), None)?;
        Ok(Side { name: name.to_owned(), url: url.to_owned(), pids, plan })
    };
    let sides = [side("a", &arguments.a)?, side("b", &arguments.b)?];
    let known = |watched: &str| {
        let of = watched.split('=').next().unwrap_or_default();
        ["a", "b"].contains(&of) || sides.iter().any(|side| side.name == of)
    };
    if let Some(watched) = arguments.watch_pid.iter().find(|watched| !known(watched)) {
        let [a, b] = &sides;
        return Err(
            format!("--watch-pid {watched}: the names are {} and {}", a.name, b.name).into()
        );
    }
    Ok(sides)
}

fn primary(arguments: &AbArguments, sides: &[Side; 2]) -> Result<Metric, Failure> {
    let is_watched = sides.iter().all(|side| !side.pids.is_empty());
    match &arguments.metric {
        Some(name) => {
            let metric = Metric::of_name(name).ok_or_else(|| {
                format!(
                    "--metric {name}: rate, mean, p50, p90, p99, p99.9, cpu, switches or memory"
                )
            })?;
            Ok(metric)
        }
        None if is_watched => Ok(Metric::CpuPerRequest),
        None if sides[0].plan.load == Load::Closed => Ok(Metric::Rate),
        None => Ok(Metric::Mean),
    }
}

fn about(
    arguments: &AbArguments,
    sides: &[Side; 2],
    runner: &Runner,
    got: [usize; 2],
    floor_pairs: usize,
) -> About {
    let plan = &sides[0].plan;
    let load = match plan.load {
        Load::Open { rate } => format!("open loop, {rate} requests/s"),
        Load::Closed => "closed loop".to_owned(),
    };
    let mut void = Vec::new();
    for (name, got, wanted) in [("A/A", got[0], floor_pairs), ("A/B", got[1], arguments.pairs)] {
        if got < wanted {
            let reasons = runner.reasons.join("; ");
            void.push(format!("only {got} of {wanted} pairs {name} were good: {reasons}"));
        }
    }
    About {
        names: [0, 1].map(|i| sides[i].name.clone()),
        urls: [0, 1].map(|i| sides[i].url.clone()),
        how: format!(
            "{load}, {} threads, {} connections; {} pairs of {}, interleaved; A/A before: {} \
             pairs; {} void pairs repeated",
            plan.threads,
            plan.connections,
            got[1],
            units::go_duration(arguments.time.as_nanos() as u64),
            got[0],
            runner.dropped
        ),
        void,
    }
}

struct Runner {
    stop: Arc<AtomicBool>,
    /// Pairs with a void run, which do not count.
    dropped: usize,
    reasons: Vec<String>,
}

impl Runner {
    /// `wanted` good pairs, from at most twice as many.
    fn pairs(
        &mut self,
        a: &Side,
        b: &Side,
        wanted: usize,
    ) -> Result<Vec<(Measured, Measured)>, Failure> {
        let mut good = Vec::new();
        for number in 0..wanted * 2 {
            if good.len() == wanted || self.stop.load(Ordering::Relaxed) {
                break;
            }
            let runs = if number % 2 == 0 {
                let first = self.run(a)?;
                (first, self.run(b)?)
            } else {
                let first = self.run(b)?;
                (self.run(a)?, first)
            };
            match runs {
                (Some(a), Some(b)) => good.push((a, b)),
                _ => self.dropped += 1,
            }
        }
        Ok(good)
    }

    /// One run; `None` when it is void.
    fn run(&mut self, side: &Side) -> Result<Option<Measured>, Failure> {
        let before = Usage::read(&side.pids);
        let outcome =
            engine::run(side.plan.clone(), &self.stop, &mut Unobserved).map_err(Failure::Failed)?;
        let after = Usage::read(&side.pids);
        let reasons = verdict::void_reasons(&outcome);
        let rate = outcome.answers_per_second();
        let mean = units::wrk_time(outcome.total.latency.mean());
        eprintln!("  {:<16} {rate:9.0}/s  mean {mean}  {}", side.name, reasons.join("; "));
        for reason in &reasons {
            let reason = format!("{}: {reason}", side.name);
            // One example of each is enough: those that follow differ in their figures.
            let kind = reason.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default();
            if !self.reasons.iter().any(|known| known.starts_with(kind)) {
                self.reasons.push(reason);
            }
        }
        if !reasons.is_empty() || outcome.interrupted {
            return Ok(None);
        }
        let watched = (!side.pids.is_empty()).then_some((before, after));
        Ok(Some(Measured::of(&outcome, watched)))
    }
}
