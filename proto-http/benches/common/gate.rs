//! Counts the instructions of named paths, with valgrind: `scripts/gates` compares the counts with
//! those that are committed.
//!
//! A program of gates runs itself under valgrind once for each path, so that no path sees what
//! another left behind, and prints a line for each: its name and instructions per round. Only what
//! is in [`counted_part`] counts, once the path is warm.
//!
//! What it leaves to others: the paths, and judging the counts.

use std::ffi::OsStr;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};

/// Rounds before those that count: tables are full and pools have grown.
pub const WARM_UP: u32 = 20;
/// Rounds that count.
pub const ROUNDS: u32 = 100;

static IS_WARM: AtomicBool = AtomicBool::new(false);

/// A path: its name, and what makes a round.
pub struct Gate {
    pub name: &'static str,
    pub prepare: fn() -> Box<dyn FnMut()>,
}

/// Runs one path when its name is the argument, or counts all of them.
pub fn main(gates: &[Gate]) -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    if let Some(gate) = gates.iter().find(|gate| gate.name == argument) {
        let mut round = (gate.prepare)();
        (0..WARM_UP).for_each(|_| round());
        IS_WARM.store(true, Ordering::Relaxed);
        (0..ROUNDS).for_each(|_| round());
        return ExitCode::SUCCESS;
    }
    for gate in gates {
        match count(gate.name) {
            Ok(count) => println!("{} {:.1}", gate.name, count as f64 / f64::from(ROUNDS)),
            Err(error) => {
                eprintln!("{}: {error}", gate.name);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// The part of a round that counts.
pub fn counted<T>(part: impl FnOnce() -> T) -> T {
    if IS_WARM.load(Ordering::Relaxed) { counted_part(part) } else { part() }
}

/// Never inlined, for valgrind knows it by its name.
#[inline(never)]
fn counted_part<T>(part: impl FnOnce() -> T) -> T {
    part()
}

/// The instructions of all counted rounds. Nothing of the environment is passed on: its length
/// moves the stack.
fn count(name: &str) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*counted_part*")
        .args([program.as_os_str(), OsStr::new(name)])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .map_err(|error| format!("valgrind cannot be run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    match collected.and_then(|(_, count)| count.trim().parse().ok()) {
        Some(count @ 1..) if output.status.success() => Ok(count),
        _ => Err(format!("nothing was counted:\n{said}")),
    }
}
