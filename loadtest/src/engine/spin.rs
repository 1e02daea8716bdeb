//! Looking instead of sleeping in the last moments before a request is due: a timer, and waking up
//! from it, takes 5 to 60 us, more on virtual machines.
//!
//! Only where it costs nobody else anything: where others want the same CPU, the thread sleeps. A
//! thread of real-time priority sleeps, too, for the kernel stops one that always runs
//! (`sched_rt_runtime_us`).
//!
//! What it leaves to others: when a request is due.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// Looking begins so long before. Longer, and slow schedules would keep a CPU busy for little.
const SPIN: u64 = 60_000;
/// The time between two looks at who wants the CPU.
const WINDOW: u64 = 50_000_000;
/// The thread may have waited for its CPU for this part of a window.
const DELAYED_MAX: u64 = WINDOW / 100;
/// After that it sleeps for so long.
const REST: u64 = 1_000_000_000;

/// Whether the calling thread looks, and what that came to.
#[derive(Debug)]
pub struct Spin {
    /// Time on the CPU, time of waiting for it, slices.
    schedstat: Option<File>,
    delayed: u64,
    next_window: u64,
    rests_until: u64,
    /// Nanoseconds of looking in which nothing came.
    pub spun: u64,
}

impl Spin {
    /// For the calling thread.
    pub fn new() -> Spin {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
        Spin {
            schedstat: File::open("/proc/thread-self/schedstat").ok(),
            delayed: 0,
            next_window: 0,
            rests_until: if policy(&stat) == Some(0) { 0 } else { u64::MAX },
            spun: 0,
        }
    }

    /// How long before a request is due looking begins.
    pub fn time(&self, now: u64) -> u64 {
        if now < self.rests_until { 0 } else { SPIN }
    }

    /// Now and then, looks who wants the CPU.
    pub fn watch(&mut self, now: u64) {
        if now < self.next_window || self.rests_until == u64::MAX {
            return;
        }
        let mut text = [0; 64];
        let read = self.schedstat.as_ref().and_then(|file| file.read_at(&mut text, 0).ok());
        let delayed = read.and_then(|length| delayed(&text[..length])).unwrap_or(0);
        if delayed.saturating_sub(self.delayed) > DELAYED_MAX && self.next_window > 0 {
            self.rests_until = now + REST;
        }
        self.delayed = delayed;
        self.next_window = now + WINDOW;
    }
}

/// The scheduling policy in a line of `/proc/*/stat`: its 41st field, the 39th after the name in
/// parentheses, which may hold anything.
fn policy(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(38)?.parse().ok()
}

/// The second number.
fn delayed(schedstat: &[u8]) -> Option<u64> {
    std::str::from_utf8(schedstat).ok()?.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_kernel_are_read() {
        let stat = format!("7 (a) b) S{} 2 0 0", " 9".repeat(37));
        assert_eq!(policy(&stat), Some(2), "SCHED_RR");
        assert_eq!(policy("7 (a"), None);
        assert_eq!(delayed(b"8023 4711 12\n"), Some(4711));
        assert_eq!(delayed(b""), None);
        let own = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        assert!(policy(&own).is_some_and(|policy| policy < 8), "{own}");
    }

    #[test]
    fn who_waited_for_the_cpu_sleeps_for_a_while() {
        let folder = std::env::temp_dir().join(format!("loadtest-spin-{}", std::process::id()));
        std::fs::write(&folder, "1 1000 1\n").unwrap();
        let schedstat = Some(File::open(&folder).unwrap());
        let mut spin = Spin { schedstat, delayed: 0, next_window: 0, rests_until: 0, spun: 0 };
        spin.watch(1);
        assert_eq!(spin.time(1), SPIN, "what was before the run does not count");
        spin.watch(1 + WINDOW);
        assert_eq!(spin.time(1 + WINDOW), SPIN);
        std::fs::write(&folder, format!("1 {} 1\n", 1001 + DELAYED_MAX)).unwrap();
        let now = 1 + 2 * WINDOW;
        spin.watch(now);
        assert_eq!((spin.time(now), spin.time(now + REST)), (0, SPIN));
        std::fs::remove_file(&folder).unwrap();
    }

    #[test]
    fn real_time_threads_sleep() {
        let rests_until = u64::MAX;
        let mut spin = Spin { schedstat: None, delayed: 0, next_window: 0, rests_until, spun: 0 };
        spin.watch(u64::MAX - 1);
        assert_eq!(spin.time(u64::MAX - 1), 0);
    }
}
