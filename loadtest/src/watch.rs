//! What a server's processes cost: CPU time, memory and context switches, from `/proc`. Children
//! count, too: the workers of nginx by the process id of their master.
//!
//! What it leaves to others: dividing by requests, and system calls (`system_calls`).

use std::fs;
use std::path::Path;

/// A process that never rests is read so often, and then taken as it is.
const READS_MAX: usize = 8;

/// Sums over the processes that are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    pub cpu_ns: u64,
    pub resident_bytes: u64,
    pub context_switches: u64,
    pub processes: u32,
}

impl Usage {
    /// Of these processes and all that descend from them.
    pub fn read(pids: &[u32]) -> Usage {
        Usage::of(&family(pids))
    }

    /// Of these processes only.
    pub fn of(pids: &[u32]) -> Usage {
        let mut usage = Usage::default();
        for pid in pids {
            usage.add(Path::new(&format!("/proc/{pid}")));
        }
        usage
    }

    /// Of these processes, when they rest: what follows the last answer belongs to it. The kernel
    /// knows the time of a thread that runs only as of its last tick.
    pub fn at_rest(pids: &[u32]) -> Usage {
        let mut usage = Usage::of(pids);
        for _ in 0..READS_MAX {
            let later = Usage::of(pids);
            if later.cpu_ns == usage.cpu_ns {
                return later;
            }
            usage = later;
        }
        usage
    }

    /// What was used since `before`; the memory is that of now.
    pub fn since(self, before: &Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            context_switches: self.context_switches.saturating_sub(before.context_switches),
            ..self
        }
    }

    fn add(&mut self, process: &Path) {
        let Ok(tasks) = fs::read_dir(process.join("task")) else { return };
        self.processes += 1;
        for task in tasks.filter_map(Result::ok) {
            let text = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
            // Nanoseconds on a CPU, nanoseconds waiting for one, and how often it got one.
            self.cpu_ns += first_number(&text("schedstat"));
            let status = text("status");
            self.context_switches += field(&status, "voluntary_ctxt_switches:")
                + field(&status, "nonvoluntary_ctxt_switches:");
        }
        let status = fs::read_to_string(process.join("status")).unwrap_or_default();
        self.resident_bytes += field(&status, "VmRSS:") * 1024;
    }
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// The number after a line's name.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, first_number)
}

/// Each process and its parent.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in parentheses and may hold anything.
        let rest = &stat[stat.rfind(')')? + 1..];
        Some((pid, rest.split_whitespace().nth(1)?.parse().ok()?))
    })
    .collect()
}

/// The processes and all that descend from them.
pub fn family(pids: &[u32]) -> Vec<u32> {
    if pids.is_empty() { Vec::new() } else { with_descendants(pids, &parents()) }
}

fn with_descendants(pids: &[u32], parents: &[(u32, u32)]) -> Vec<u32> {
    let mut all: Vec<u32> = pids.to_vec();
    let mut next = 0;
    while next < all.len() {
        let parent = all[next];
        next += 1;
        for &(pid, of) in parents {
            if of == parent && !all.contains(&pid) {
                all.push(pid);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_once() {
        let parents = [(2, 1), (3, 2), (4, 2), (5, 9), (1, 0)];
        assert_eq!(with_descendants(&[1, 3], &parents), [1, 3, 2, 4]);
    }

    #[test]
    fn our_own_process_costs_something() {
        let before = Usage::read(&[std::process::id()]);
        assert!(before.cpu_ns > 0 && before.resident_bytes > 100_000 && before.processes >= 1);
        assert_eq!(Usage::read(&[]).processes, 0);
    }
}
