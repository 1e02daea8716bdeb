//! How many system calls the watched processes make: the kernel counts them for `perf stat`, where
//! that is installed and permitted. Counting costs them some time at each call, so that it is only
//! done when it is asked for.
//!
//! What it leaves to others: dividing by requests.

use std::fs;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tidegate_io::Now;

const EVENT: &str = "raw_syscalls:sys_enter";
/// How long the counter may take until it counts.
const ATTACH: Duration = Duration::from_secs(5);

/// A counter that runs.
#[derive(Debug)]
pub struct SystemCalls {
    perf: Child,
}

impl SystemCalls {
    /// Counts from now on, in all threads of these processes.
    ///
    /// # Errors
    ///
    /// Why it cannot, in a few words.
    pub fn begin(pids: &[u32]) -> Result<SystemCalls, String> {
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let perf = Command::new("perf")
            .args(["stat", "-x,", "-e", EVENT, "-p", &pids.join(",")])
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("perf: {error}"))?;
        let mut counter = SystemCalls { perf };
        let begin = Now::read().instant.0;
        while !counter.is_attached() {
            let ended = counter.perf.try_wait().is_ok_and(|status| status.is_some());
            let late = u128::from(Now::read().instant.0 - begin) > ATTACH.as_nanos();
            if ended || late {
                let said = counter.text();
                let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it ended");
                return Err(format!("perf: {}", line.trim()));
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Ok(counter)
    }

    /// Whether the counter has opened its events.
    fn is_attached(&self) -> bool {
        let Ok(files) = fs::read_dir(format!("/proc/{}/fd", self.perf.id())) else { return false };
        files.filter_map(Result::ok).any(|file| {
            fs::read_link(file.path())
                .is_ok_and(|target| target.to_string_lossy().contains("perf_event"))
        })
    }

    /// How many there were.
    ///
    /// # Errors
    ///
    /// Why that is not known.
    pub fn end(mut self) -> Result<u64, String> {
        let text = self.text();
        count(&text).ok_or_else(|| format!("perf: {}", text.trim()))
    }

    /// Ends it; what it has said.
    fn text(&mut self) -> String {
        if let Some(pid) = i32::try_from(self.perf.id()).ok().and_then(Pid::from_raw) {
            // One that has ended is a zombie until it is waited for.
            let _ = kill_process(pid, Signal::INT);
        }
        let mut text = String::new();
        if let Some(stderr) = &mut self.perf.stderr {
            let _ = stderr.read_to_string(&mut text);
        }
        let _ = self.perf.wait();
        text
    }
}

impl Drop for SystemCalls {
    fn drop(&mut self) {
        let _ = self.perf.kill();
        let _ = self.perf.wait();
    }
}

/// The number in a line of `perf stat -x,`.
fn count(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains(EVENT))?;
    line.split(',').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_perf_is_read() {
        assert_eq!(count("\n4711,,raw_syscalls:sys_enter,2003,100.00,,\n"), Some(4711));
        assert_eq!(count("<not counted>,,raw_syscalls:sys_enter,0,100.00,,\n"), None);
        assert_eq!(count("event syntax error: 'raw_syscalls:sys_enter'\n"), None);
    }

    #[test]
    fn a_process_that_is_not_there_is_said() {
        assert!(SystemCalls::begin(&[u32::MAX >> 1]).unwrap_err().starts_with("perf: "));
    }
}
