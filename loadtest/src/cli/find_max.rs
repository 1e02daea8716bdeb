//! `loadtest find-max --slo 'p99.9<2ms' URL`: the highest rate at which all conditions hold.
//!
//! First a closed loop says how much the target can answer at all; between nothing and that the
//! rate is halved in. A step that fails is tried once more, for a machine has bad moments; the last
//! rate that held is confirmed by a longer run.
//!
//! What it leaves to others: running and judging.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use serde_json::json;

use super::arguments::{FileArguments, LoadArguments};
use super::run::{print, write, write_files};
use super::{Failure, stop_signal};
use crate::engine::interval::Fault;
use crate::engine::{self, Outcome, Unobserved};
use crate::plan::{Load, Plan};
use crate::units;
use crate::verdict::{self, Condition, Judged};

/// The longer run is so many times as long as a step.
const CONFIRMING: u32 = 3;
/// Between two confirmations that fail the rate is lowered by this factor.
const BACK_OFF: f64 = 0.95;
const CONFIRMATIONS_MAX: u32 = 5;
/// A rate is kept when so many of the answers that were due came.
const KEPT: f64 = 0.99;

#[derive(Parser, Debug)]
#[command(name = "loadtest find-max", about = "Finds the highest rate at which conditions hold")]
pub struct FindMaxArguments {
    url: String,
    /// A condition: p99.9<2ms, errors<0.01%; may be repeated.
    #[arg(long, required = true, value_name = "CONDITION")]
    slo: Vec<Condition>,
    /// Time of one step.
    #[arg(short = 'z', long, alias = "duration", default_value = "3s",
          value_parser = units::duration)]
    time: Duration,
    /// How near the answer is to be, in percent.
    #[arg(long, default_value_t = 3.0)]
    precision: f64,
    /// The highest rate to try [what a closed loop reaches].
    #[arg(long, value_parser = units::rate)]
    to: Option<f64>,
    #[command(flatten)]
    files: FileArguments,
    #[command(flatten)]
    load: LoadArguments,
}

pub fn command(arguments: &FindMaxArguments) -> Result<ExitCode, Failure> {
    let plan = arguments.load.plan(&arguments.url, None, Some(arguments.time), None)?;
    arguments.slo.iter().try_for_each(|condition| condition.check(&plan))?;
    let search = Search { plan, slo: &arguments.slo, stop: stop_signal() };
    let capacity = match arguments.to {
        Some(rate) => rate,
        None => search.capacity()?,
    };
    if capacity <= 0.0 {
        return Err(Failure::Failed(format!("{} answered nothing", arguments.url)));
    }
    let (mut low, mut high) = (0.0, capacity * 1.05);
    while (high - low) / high > arguments.precision.max(0.1) / 100.0 && high >= 1.0 {
        let rate = (low + high) / 2.0;
        if search.holds(rate)? {
            low = rate
        } else {
            high = rate
        }
        search.check_stop()?;
    }
    for _ in 0..CONFIRMATIONS_MAX {
        if low < 1.0 {
            break;
        }
        let (outcome, judged, held) = search.step(low, CONFIRMING)?;
        if held {
            print(&format!("{low:.0} requests/s: the highest rate at which all holds\n"));
            for reason in verdict::void_reasons(&outcome) {
                print(&format!("the generator may be what limits it: {reason}\n"));
            }
            return finish(arguments, low, &outcome, &judged);
        }
        low *= BACK_OFF;
        search.check_stop()?;
    }
    print("no rate was found at which all holds\n");
    Ok(ExitCode::from(4))
}

fn finish(
    arguments: &FindMaxArguments,
    rate: f64,
    outcome: &Outcome,
    judged: &[Judged],
) -> Result<ExitCode, Failure> {
    let files = FileArguments { json: None, ..arguments.files.clone() };
    write_files(&files, outcome, judged)?;
    if let Some(file) = &arguments.files.json {
        let mut document = crate::report::json::document(outcome, judged);
        document["findMax"] = json!({"rate": rate});
        write(file, format!("{document:#}\n").as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

struct Search<'a> {
    plan: Plan,
    slo: &'a [Condition],
    stop: Arc<AtomicBool>,
}

impl Search<'_> {
    fn check_stop(&self) -> Result<(), Failure> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Failure::Failed("interrupted".to_owned()));
        }
        Ok(())
    }

    fn run(&self, load: Load, times: u32) -> Result<Outcome, Failure> {
        let mut plan = self.plan.clone();
        plan.load = load;
        plan.duration = plan.duration.map(|duration| duration * times);
        engine::run(plan, &self.stop, &mut Unobserved).map_err(Failure::Failed)
    }

    fn capacity(&self) -> Result<f64, Failure> {
        let outcome = self.run(Load::Closed, 1)?;
        let rate = outcome.answers_per_second();
        print(&format!("closed loop: {rate:.0} answers/s\n"));
        Ok(rate)
    }

    /// Whether a rate holds, at the first or the second try.
    fn holds(&self, rate: f64) -> Result<bool, Failure> {
        Ok(self.step(rate, 1)?.2 || self.step(rate, 1)?.2)
    }

    fn step(&self, rate: f64, times: u32) -> Result<(Outcome, Vec<Judged>, bool), Failure> {
        let outcome = self.run(Load::Open { rate }, times)?;
        let judged: Vec<Judged> = self.slo.iter().map(|c| c.judge(&outcome)).collect();
        let counts = &outcome.total.counts;
        let planned = outcome.plan.planned().unwrap_or(0) as f64;
        let kept = counts.answers() as f64 >= planned * KEPT
            && counts.fault(Fault::Unsent) == 0
            && outcome.answers_per_second() >= rate * KEPT;
        let held = kept && judged.iter().all(|j| j.holds);
        let said: Vec<String> =
            judged.iter().map(|j| format!("{} is {}", j.condition, j.value)).collect();
        let rate_word = if kept {
            String::new()
        } else {
            format!(", only {:.0}/s answered", outcome.answers_per_second())
        };
        let word = if held { "ok" } else { "no" };
        print(&format!("{rate:9.0}/s  {word}  {}{rate_word}\n", said.join(", ")));
        for reason in verdict::void_reasons(&outcome) {
            eprintln!("             VOID: {reason}");
        }
        Ok((outcome, judged, held))
    }
}
