//! How many system calls the watched processes make, where the kernel permits to count them
//! (`perf_event_open`). Counting costs them some time at each call, so that it is only done when it
//! is asked for.
//!
//! What it leaves to others: dividing by requests.

use std::fs;

use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter};

/// Each entry of a system call, by tracefs, and where that is mounted.
const EVENT: &str = "events/raw_syscalls/sys_enter/id";
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// A counter for each thread that was there in the beginning.
#[derive(Debug)]
pub struct SystemCalls {
    counters: Vec<Counter>,
}

impl SystemCalls {
    /// Counts from now on, in all threads of these processes and in all that those begin.
    ///
    /// # Errors
    ///
    /// Why it cannot, in a few words.
    pub fn begin(pids: &[u32]) -> Result<SystemCalls, String> {
        let event = event()?;
        let counters = pids.iter().flat_map(|pid| threads(*pid)).map(|thread| {
            let mut builder = Builder::new(event);
            // The event is one of the kernel's, although it is the program that calls.
            builder.observe_pid(thread).any_cpu().inherit(true).include_kernel().enabled(true);
            builder.build()
        });
        let counters: Result<Vec<Counter>, _> = counters.collect();
        match counters {
            Ok(counters) if counters.is_empty() => Err("no such process".to_owned()),
            Ok(counters) => Ok(SystemCalls { counters }),
            Err(error) => Err(format!("perf_event_open: {error}")),
        }
    }

    /// How many there were so far.
    ///
    /// # Errors
    ///
    /// Why that is not known.
    pub fn count(&mut self) -> Result<u64, String> {
        let sum = self.counters.iter_mut().map(Counter::read).sum::<Result<u64, _>>();
        sum.map_err(|error| format!("perf_event_open: {error}"))
    }
}

fn event() -> Result<Tracepoint, String> {
    let mut said = String::new();
    for folder in TRACEFS {
        let file = format!("{folder}/{EVENT}");
        match fs::read_to_string(&file) {
            Ok(text) => {
                let id = text.trim().parse().map_err(|_| format!("{file}: {text}"))?;
                return Ok(Tracepoint::with_id(id));
            }
            Err(error) if said.is_empty() => said = format!("{file}: {error}"),
            Err(_) => {}
        }
    }
    Err(said)
}

fn threads(pid: u32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let names = tasks.filter_map(Result::ok).map(|task| task.file_name());
    names.filter_map(|name| name.to_string_lossy().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_counted_is_said() {
        let error = SystemCalls::begin(&[u32::MAX >> 1]).unwrap_err();
        assert!(error == "no such process" || error.starts_with("/sys/kernel/"), "{error}");
    }
}
