//! `loadtest URL`: one run, its view, its files, its exit status.
//!
//! What it leaves to others: what is in the files (`report`).

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use super::arguments::FileArguments;
use super::run_arguments::RunArguments;
use super::{Both, Failure, stop_signal};
use crate::engine::interval::Sample;
use crate::engine::{self, Observer, Outcome};
use crate::plan::Plan;
use crate::report::text::Detail;
use crate::report::{csv, hgrm, hlog, html, json, text};
use crate::system_calls::SystemCalls;
use crate::verdict::{self, Judged};
use crate::view::{Style, View};
use crate::watch::{Usage, family};

/// Exit status when a threshold failed.
const THRESHOLD_FAILED: u8 = 4;

pub fn command(arguments: &RunArguments) -> Result<ExitCode, Failure> {
    let plan = arguments.plan()?;
    let form = arguments.output_format.as_str();
    let is_silent = arguments.quiet || form == "quiet";
    if form == "text" && !is_silent {
        print(&text::header(&plan));
    }
    let style = if is_silent { Style::Silent } else { Style::of_terminal(arguments.no_tui) };
    let mut view = View::new(style);
    let mut rows = Rows::default();
    let mut observer = Both(&mut view, &mut rows);
    let counter =
        arguments.watch_system_calls.then(|| SystemCalls::begin(&family(&arguments.watch_pid)));
    let before = Usage::read(&arguments.watch_pid);
    let mut outcome = engine::run(plan, &stop_signal(), &mut observer).map_err(Failure::Failed)?;
    if !arguments.watch_pid.is_empty() {
        outcome.server = Some(Usage::read(&arguments.watch_pid).since(&before));
    }
    outcome.system_calls = counter.map(|counter| counter.and_then(|mut calls| calls.count()));
    if let Some(warning) = &outcome.backend_warning {
        eprintln!("loadtest: {warning}");
    }
    let judged: Vec<Judged> = arguments.threshold.iter().map(|c| c.judge(&outcome)).collect();
    let report = match form {
        "json" => format!("{:#}\n", json::document(&outcome, &judged)),
        "csv" => format!("{}{}", csv::REQUESTS, csv::requests(&rows.0, outcome.start)),
        "quiet" => String::new(),
        _ => {
            let detail = Detail { latency: arguments.latency, uncorrected: arguments.u_latency };
            text::summary(&outcome, detail, &judged)
        }
    };
    match &arguments.output {
        Some(file) => write(file, report.as_bytes())?,
        None => print(&report),
    }
    write_files(&arguments.files, &outcome, &judged)?;
    let reasons = verdict::void_reasons(&outcome);
    if form != "text" {
        for reason in &reasons {
            eprintln!("loadtest: VOID: {reason}");
        }
    }
    Ok(exit_code(&outcome, &judged, !reasons.is_empty()))
}

fn exit_code(outcome: &Outcome, judged: &[Judged], is_void: bool) -> ExitCode {
    if judged.iter().any(|j| !j.holds) || (!judged.is_empty() && is_void) {
        return ExitCode::from(THRESHOLD_FAILED);
    }
    ExitCode::from(u8::from(outcome.total.counts.answers() == 0))
}

/// Each answer, for a table with a line per request.
#[derive(Default)]
struct Rows(Vec<Sample>);

impl Observer for Rows {
    fn samples(&mut self, _: &Plan, samples: &[Sample], _: i64) {
        self.0.extend_from_slice(samples);
    }
}

/// Writes the files that were asked for.
pub fn write_files(
    files: &FileArguments,
    outcome: &Outcome,
    judged: &[Judged],
) -> Result<(), Failure> {
    if let Some(file) = &files.json {
        write(file, format!("{:#}\n", json::document(outcome, judged)).as_bytes())?;
    }
    if let Some(file) = &files.hgrm {
        write(file, hgrm::spectrum(&outcome.total.latency).as_bytes())?;
    }
    if let Some(file) = &files.hlog {
        write(file, &hlog::write(outcome, None).map_err(Failure::Failed)?)?;
    }
    if let Some(file) = &files.csv {
        write(file, csv::time_line(outcome).as_bytes())?;
    }
    if let Some(file) = &files.html {
        write(file, html::report(outcome, judged).as_bytes())?;
    }
    Ok(())
}

pub fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(file, bytes)
        .map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))
}

/// To standard output; whoever closed it does not want it.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
