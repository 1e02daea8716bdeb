//! `loadtest ab`: two targets in interleaved runs, and the first against itself, until it is
//! decided whether they differ.
//!
//! What it leaves to others: running them in turn (`interleave`), the statistics (`compare`) and
//! the reports.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tidegate_io::Now;

use super::arguments::LoadArguments;
use super::run::{print, write};
use super::{Failure, stop_signal};
use crate::compare::{BLOCKS_MIN, Comparison, ERROR, Looks, Metric, compare, is_decided};
use crate::interleave::{Interleaved, Side};
use crate::machine;
use crate::plan::Load;
use crate::report::compared::{self, About};
use crate::units;

/// Between two lines that say how it goes.
const SAY: u64 = 2_000_000_000;

#[derive(Parser, Debug)]
#[command(name = "loadtest ab", about = "Compares two targets, and says whether they differ")]
pub struct AbArguments {
    /// The first target, NAME=URL.
    #[arg(long, value_name = "NAME=URL")]
    a: String,
    /// The second target, NAME=URL.
    #[arg(long, value_name = "NAME=URL")]
    b: String,
    /// Blocks at most, of six runs each: A, A again and B in random order, and back. It ends before
    /// when it is decided; each look at the blocks so far has its part of the 5 % that all may err.
    #[arg(long, value_name = "N", default_value_t = 512)]
    blocks: usize,
    /// Time of one run. Short ones fall into the same moment of the machine; p99 needs 500 answers
    /// in each run, p99.9 needs 5000.
    #[arg(short = 'z', long, alias = "duration", default_value = "20ms",
          value_parser = units::duration)]
    time: Duration,
    /// Percent by which B must differ at least. Two processes of one program differ by up to so
    /// much, by where their memory lies.
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0)]
    margin: f64,
    /// A server's process, NAME=PID, with all its children; may be repeated.
    #[arg(long, value_name = "NAME=PID")]
    watch_pid: Vec<String>,
    /// Counts the system calls of the watched processes, too, which costs them time.
    #[arg(long, requires = "watch_pid")]
    watch_system_calls: bool,
    /// What decides: rate, mean, p50, p90, p99, p99.9, cpu, switches, syscalls or memory. [cpu
    /// where processes are watched, else rate in a closed loop and mean in an open one]
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

pub fn command(arguments: &AbArguments) -> Result<ExitCode, Failure> {
    let sides = sides(arguments)?;
    let primary = primary(arguments, &sides)?;
    if arguments.blocks < BLOCKS_MIN {
        return Err(format!("--blocks is at least {BLOCKS_MIN}").into());
    }
    if !(0.0..=100.0).contains(&arguments.margin) {
        return Err(format!("--margin {}: 0 to 100 percent", arguments.margin).into());
    }
    let before = machine::Cpu::read();
    let mut runs = Interleaved::new(&sides, &stop_signal()).map_err(Failure::Failed)?;
    let error = measure(arguments, primary, &mut runs)?;
    let steal = machine::Cpu::read().steal_since(&before);
    let margin = arguments.margin / 100.0;
    let Some(comparison) = compare(&runs.measured, primary, margin, error.unwrap_or(ERROR)) else {
        let reasons = runs.reasons.join("; ");
        return Err(Failure::Failed(format!("there was no block to compare: {reasons}")));
    };
    let mut void = void_reasons(&runs, &comparison, error.is_some());
    if steal > sides[0].plan.steal_max {
        void.push(format!("the hypervisor took {:.1} % of the machine's CPU time", steal * 100.0));
    }
    let about = about(arguments, &sides, &runs, void);
    print(&compared::text(&comparison, &about));
    if let Some(file) = &arguments.html {
        write(file, compared::html(&comparison, &about).as_bytes())?;
    }
    if let Some(file) = &arguments.json {
        write(file, format!("{:#}\n", compared::document(&comparison, &about)).as_bytes())?;
    }
    Ok(if about.void.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(4) })
}

/// Runs blocks until it is decided, at most twice as many as are wanted. Says what the last look
/// may err; nothing when there was no look that could end it.
fn measure(
    arguments: &AbArguments,
    primary: Metric,
    runs: &mut Interleaved,
) -> Result<Option<f64>, Failure> {
    let (looks, margin) = (Looks::new(arguments.blocks), arguments.margin / 100.0);
    let mut said = Now::read().instant.0;
    for _ in 0..arguments.blocks * 2 {
        let before = runs.measured.blocks.len();
        runs.block().map_err(Failure::Failed)?;
        if runs.is_stopped() {
            return Ok(None);
        }
        let blocks = runs.measured.blocks.len();
        let now = Now::read().instant.0;
        if now.saturating_sub(said) >= SAY {
            said = now;
            eprintln!("  {}", compared::progress(&runs.measured, primary, arguments.blocks));
        }
        if blocks == before {
            continue;
        }
        if let Some(error) = looks.error(blocks)
            && (blocks == arguments.blocks || is_decided(&runs.measured, primary, margin, error))
        {
            return Ok(Some(error));
        }
    }
    Ok(None)
}

fn void_reasons(runs: &Interleaved, comparison: &Comparison, is_complete: bool) -> Vec<String> {
    let mut void = Vec::new();
    if runs.is_stopped() {
        void.push("interrupted".to_owned());
    } else if !is_complete {
        let reasons = runs.reasons.join("; ");
        let (good, bad) = (comparison.blocks, runs.dropped);
        void.push(format!("only {good} of {} blocks were good: {reasons}", good + bad));
    }
    if comparison.is_broken {
        let name = comparison.primary.name();
        void.push(format!("the first target differs from itself in {name}: not a fair comparison"));
    }
    void
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
        let (name, url) = (name.to_owned(), url.to_owned());
        Ok(Side { name, url, pids, counts_system_calls: arguments.watch_system_calls, plan })
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
                    "--metric {name}: rate, mean, p50, p90, p99, p99.9, cpu, switches, syscalls \
                     or memory"
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
    runs: &Interleaved,
    void: Vec<String>,
) -> About {
    let plan = &sides[0].plan;
    let load = match plan.load {
        Load::Open { rate } => format!("open loop, {rate} requests/s"),
        Load::Closed => "closed loop".to_owned(),
    };
    About {
        names: [0, 1].map(|i| sides[i].name.clone()),
        urls: [0, 1].map(|i| sides[i].url.clone()),
        how: format!(
            "{load}, {} threads, {} connections; {} blocks of A, A again and B in random order and \
             back, {} each; {} void blocks repeated; a difference is one of more than {} %",
            plan.threads,
            plan.connections,
            runs.measured.blocks.len(),
            units::go_duration(arguments.time.as_nanos() as u64),
            runs.dropped,
            arguments.margin
        ),
        void,
    }
}
