//! What the kernel says about the machine: CPU time, what a hypervisor took of it, files and ports.
//!
//! What it leaves to others: dividing by requests.

use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// CPU time of this thread so far.
pub fn thread_cpu() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

/// CPU time of this process so far, user and system.
pub fn process_cpu() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

/// Lets the process open `files` files, as far as it may raise its own limit. What is missing shows
/// as connections that cannot be made.
pub fn allow_files(files: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < files) {
        limit.current = Some(limit.maximum.map_or(files, |maximum| maximum.min(files)));
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// How many ports the kernel has for connections from one address to one target
/// (`net.ipv4.ip_local_port_range`, which is IPv6's, too); nothing where it does not say.
pub fn ports() -> Option<u64> {
    ports_in(&std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?)
}

fn ports_in(text: &str) -> Option<u64> {
    let mut numbers = text.split_whitespace().map(str::parse);
    let (first, last): (u64, u64) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (first <= last).then(|| last - first + 1)
}

/// The first line of `/proc/stat`, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    total: u64,
    steal: u64,
}

impl Cpu {
    /// As of now; zeroes where there is no `/proc`.
    pub fn read() -> Cpu {
        Cpu::parse(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn parse(text: &str) -> Cpu {
        let line = text.lines().next().unwrap_or_default();
        let numbers: Vec<u64> =
            line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; guest time is in user time already.
        Cpu { total: numbers.iter().take(8).sum(), steal: numbers.get(7).copied().unwrap_or(0) }
    }

    /// The share of all CPU time since `before` that was stolen.
    pub fn steal_since(&self, before: &Cpu) -> f64 {
        let total = self.total.saturating_sub(before.total);
        if total == 0 {
            0.0
        } else {
            (self.steal.saturating_sub(before.steal)) as f64 / total as f64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_a_share_of_all_time() {
        let before = Cpu::parse("cpu  10 0 10 70 0 0 0 10 5 0\ncpu0 1 2 3\n");
        assert_eq!(before, Cpu { total: 100, steal: 10 });
        let after = Cpu::parse("cpu  20 0 20 140 0 0 0 20 5 0\n");
        assert_eq!(after.steal_since(&before), 0.1);
        assert_eq!(Cpu::parse("").steal_since(&before), 0.0);
    }

    #[test]
    fn a_range_of_ports_has_both_its_ends() {
        assert_eq!(ports_in("32768\t60999\n"), Some(28_232));
        assert_eq!((ports_in("5 4"), ports_in("")), (None, None));
        assert!(ports().is_none_or(|ports| ports > 0));
    }

    #[test]
    fn files_are_allowed_as_far_as_may_be() {
        allow_files(u64::MAX >> 1);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum.or(Some(u64::MAX >> 1)));
    }

    #[test]
    fn our_own_time_goes_forward() {
        let before = process_cpu();
        let mut sum = 0_u64;
        for number in 0..2_000_000_u64 {
            sum = sum.wrapping_add(std::hint::black_box(number));
        }
        assert!(sum > 0 && process_cpu() > before && thread_cpu() > Duration::ZERO);
    }
}
