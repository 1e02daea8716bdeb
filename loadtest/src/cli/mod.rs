//! The command line: which command, what comes of it, and the exit status.
//!
//! 0: it ran. 1: it could not run, or nothing was answered. 2: the command line. 4: a threshold
//! failed, or there was one and the run is void.
//!
//! What it leaves to others: everything that has nothing to do with files, signals and arguments.

mod ab;
pub mod arguments;
mod diff;
mod find_max;
mod origin;
mod run;
mod run_arguments;
mod vegeta;
mod xds;

use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;

use crate::engine::Observer;

/// What stands below the options of `loadtest --help`.
pub const COMMANDS: &str = "Commands:\n  \
    loadtest URL             run a load test\n  \
    loadtest ab              compare two targets\n  \
    loadtest find-max        the highest rate at which conditions hold\n  \
    loadtest diff            compare latencies from two files\n  \
    loadtest attack, report, plot, encode   vegeta's pipeline\n  \
    loadtest origin          answer as each request's query says\n  \
    loadtest xds             be a management server, and time its client\n\
    `loadtest COMMAND --help` tells more.";

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// Its arguments cannot be meant.
    Usage(String),
    /// It could not be done.
    Failed(String),
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure::Usage(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text) | Failure::Failed(text) => f.write_str(text),
        }
    }
}

/// Runs the command that the arguments name.
pub fn main(arguments: Vec<String>) -> ExitCode {
    let result = match arguments.get(1).map(String::as_str) {
        Some("ab") => ab::command(&parse(without_command(fingers(arguments)))),
        Some("diff") => diff::command(&parse(without_command(arguments))),
        Some("find-max") => find_max::command(&parse(without_command(fingers(arguments)))),
        Some("attack") => vegeta::attack(&parse(of_go(arguments))),
        Some("report") => vegeta::report_command(&parse(of_go(arguments))),
        Some("plot") => vegeta::plot(&parse(of_go(arguments))),
        Some("encode") => vegeta::encode(&parse(of_go(arguments))),
        Some("origin") => origin::command(&parse(without_command(arguments))),
        Some("xds") => xds::command(&parse(without_command(arguments))),
        _ => run::command(&parse(fingers(arguments))),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("loadtest: {failure}");
            ExitCode::from(if matches!(failure, Failure::Usage(_)) { 2 } else { 1 })
        }
    }
}

/// clap's own errors and pages end the process here, with its exit status 2 or 0.
fn parse<T: Parser>(arguments: Vec<String>) -> T {
    T::parse_from(arguments)
}

/// The arguments of a command.
fn without_command(mut arguments: Vec<String>) -> Vec<String> {
    arguments.remove(1);
    arguments
}

/// The arguments of one of vegeta's commands, whose options have one dash or two.
fn of_go(arguments: Vec<String>) -> Vec<String> {
    let is_long = |word: &str| word.starts_with('-') && !word.starts_with("--") && word.len() > 2;
    without_command(arguments)
        .into_iter()
        .map(|word| if is_long(&word) { format!("-{word}") } else { word })
        .collect()
}

/// vegeta's `-rate` among options of one letter.
pub fn fingers(arguments: Vec<String>) -> Vec<String> {
    let is_rate = |word: &String| word == "-rate" || word.starts_with("-rate=");
    arguments
        .into_iter()
        .map(|word| if is_rate(&word) { format!("-{word}") } else { word })
        .collect()
}

/// Is set when the process is to end (SIGINT, SIGTERM): the run ends, and is reported.
fn stop_signal() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second one ends the process at once.
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop));
        let _ = signal_hook::flag::register(signal, Arc::clone(&stop));
    }
    stop
}

/// Several observers, in turn.
struct Both<'a>(&'a mut dyn Observer, &'a mut dyn Observer);

impl Observer for Both<'_> {
    fn ready(&mut self, plan: &crate::plan::Plan, open: usize) {
        self.0.ready(plan, open);
        self.1.ready(plan, open);
    }

    fn interval(
        &mut self,
        plan: &crate::plan::Plan,
        interval: &crate::engine::interval::Interval,
        total: &crate::engine::interval::Interval,
    ) {
        self.0.interval(plan, interval, total);
        self.1.interval(plan, interval, total);
    }

    fn samples(
        &mut self,
        plan: &crate::plan::Plan,
        samples: &[crate::engine::interval::Sample],
        to_unix_ns: i64,
    ) {
        self.0.samples(plan, samples, to_unix_ns);
        self.1.samples(plan, samples, to_unix_ns);
    }

    fn end(&mut self) {
        self.0.end();
        self.1.end();
    }
}
