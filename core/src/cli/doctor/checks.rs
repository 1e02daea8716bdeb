//! What a machine and a process should have, and why: the same values as `tuning/tune`.
//!
//! What it leaves to others: where it is read (`machine`), how it is told (the module above).

use super::machine::Machine;
use super::{Finding, Fix, Verdict};
use crate::cli::ServerArgs;
use rustix::process::{Resource, geteuid, getrlimit};
use tidegate_io::backend::Backend;
use tidegate_io::uring::{Capabilities, Unavailable, probe};

/// Sysctls that are good from some numbers on: name, least that is not lacking, wanted, why.
const SYSCTLS: &[(&str, u64, u64, &str)] = &[
    (
        "net.core.somaxconn",
        1024,
        4096,
        "A burst of new connections beyond a listener's backlog is dropped, and tried again by \
         the clients a second later.",
    ),
    (
        "net.ipv4.tcp_max_syn_backlog",
        128,
        8192,
        "Half-open connections per listener before SYN cookies take over.",
    ),
];

const PORT_RANGE: &str = "net.ipv4.ip_local_port_range";
const PORTS: (u64, u64) = (16384, 65535);
const PIPES: &str = "fs.pipe-user-pages-soft";
const PIPE_PAGES: u64 = 262_144;
/// Pages of the pipes of one shard: 128 of 16 pages (`tidegate_io`'s splices).
const PIPE_PAGES_OF_SHARD: u64 = 128 * 16;

const DESCRIPTORS: u64 = 1_048_576;
const DESCRIPTORS_ENOUGH: u64 = 65_536;
const DESCRIPTORS_FEW: u64 = 4096;

/// What one shard's queues take, with room.
const MEMLOCK_OF_SHARD: u64 = 64 * 1024;
const MEMLOCK_LEAST: u64 = 1024 * 1024;

/// Reading these takes a system call.
const SLOW_CLOCKS: &[&str] = &["hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit", "xen"];

/// What the process itself finds out.
#[derive(Debug)]
pub(super) struct Process {
    /// Nothing when epoll was asked for.
    pub(super) io_uring: Option<Result<Capabilities, Unavailable>>,
    /// Limits do not hold for root.
    pub(super) root: bool,
    /// `None`: no limit.
    pub(super) descriptors: Option<u64>,
    /// `None`: no limit.
    pub(super) memlock: Option<u64>,
    pub(super) cpus: u64,
    pub(super) shards: u64,
}

impl Process {
    /// Really tries io_uring out, which takes some milliseconds.
    pub(super) fn read(server: &ServerArgs) -> Process {
        let cpus = tidegate_io::cpu::allowed().map_or(1, |cpus| cpus.len().max(1) as u64);
        Process {
            io_uring: (server.io_backend != Backend::Epoll).then(probe),
            root: geteuid().is_root(),
            // The soft limit is raised to this at the start.
            descriptors: getrlimit(Resource::Nofile).maximum,
            memlock: getrlimit(Resource::Memlock).current,
            cpus,
            shards: server.concurrency.map_or(cpus, u64::from),
        }
    }
}

/// Everything that is looked at, in the order in which it is told.
pub(super) fn findings(machine: &Machine, process: &Process) -> Vec<Finding> {
    let mut findings = vec![
        io_uring(machine, process),
        memlock(process),
        descriptors(process),
        cpus(machine, process),
    ];
    findings.extend(SYSCTLS.iter().filter_map(|sysctl| at_least(machine, sysctl)));
    findings.extend(port_range(machine));
    findings.extend(pipes(machine, process));
    for device in machine.devices() {
        findings.extend(receive_queues(machine, process, &device));
        findings.extend(send_queues(machine, &device));
    }
    findings.push(governor(machine));
    findings.extend(huge_pages(machine));
    findings.extend(clock(machine));
    findings
}

fn good(name: impl Into<String>, found: impl Into<String>) -> Finding {
    Finding {
        name: name.into(),
        verdict: Verdict::Good,
        found: found.into(),
        wanted: String::new(),
        why: "",
        fix: None,
    }
}

fn io_uring(machine: &Machine, process: &Process) -> Finding {
    let name = "io_uring";
    let (found, fix) = match &process.io_uring {
        None => return good(name, "not asked for: --io-backend epoll"),
        Some(Ok(works)) => {
            let with = |is: bool, what: &str| format!(", {}{what}", if is { "" } else { "no " });
            return good(
                name,
                format!(
                    "works: queues of {} and {} entries{}{}; multishot accept and receive, \
                     provided buffers, send and cancel tried",
                    works.submission_entries,
                    works.completion_entries,
                    with(works.no_sqarray, "direct queue"),
                    with(works.registered_ring, "registered ring"),
                ),
            );
        }
        Some(Err(unavailable)) => {
            let disabled = machine.sysctl("kernel.io_uring_disabled");
            let fix = if disabled.is_some_and(|value| value != [0]) {
                Fix::Command("sysctl -w kernel.io_uring_disabled=0".to_owned())
            } else {
                Fix::ByHand(
                    "In a container: --security-opt seccomp=PROFILE, which tuning/seccomp/make \
                     writes."
                        .to_owned(),
                )
            };
            (unavailable.to_string(), fix)
        }
    };
    Finding {
        name: name.to_owned(),
        verdict: Verdict::Lacking,
        found,
        wanted: "io_uring for this process".to_owned(),
        why: "Without it Tidegate runs on epoll, which costs more processor time per request.",
        fix: Some(fix),
    }
}

fn memlock(process: &Process) -> Finding {
    let name = "locked memory";
    let kibibytes = |bytes: u64| format!("{} KiB", bytes / 1024);
    let found = process.memlock.map_or("no limit".to_owned(), kibibytes);
    let wanted = (process.shards * MEMLOCK_OF_SHARD).max(MEMLOCK_LEAST);
    let small = process.io_uring.as_ref().and_then(|tried| tried.as_ref().ok()?.limited.as_ref());
    let enough = process.memlock.is_none_or(|bytes| bytes >= wanted);
    if small.is_none() && (process.root || enough) {
        let root = if enough { "" } else { ", which does not hold for root" };
        return good(name, format!("{found}{root}"));
    }
    Finding {
        name: name.to_owned(),
        verdict: if small.is_some() { Verdict::Lacking } else { Verdict::Advice },
        found,
        wanted: format!("{} or more", kibibytes(wanted)),
        why: "Rings count as locked memory, of all processes of a user together; with little of \
              it their queues are small.",
        fix: Some(limit("memlock", 64 * 1024, "LimitMEMLOCK=64M", "memlock=67108864")),
    }
}

fn descriptors(process: &Process) -> Finding {
    let name = "open descriptors";
    let found = process.descriptors.map_or("no limit".to_owned(), |count| count.to_string());
    let verdict = match process.descriptors {
        Some(count) if count < DESCRIPTORS_FEW => Verdict::Lacking,
        Some(count) if count < DESCRIPTORS_ENOUGH => Verdict::Advice,
        _ => return good(name, found),
    };
    Finding {
        name: name.to_owned(),
        verdict,
        found,
        wanted: format!("{DESCRIPTORS_ENOUGH} or more"),
        why: "Each proxied connection takes two.",
        fix: Some(limit("nofile", DESCRIPTORS, "LimitNOFILE=1048576", "nofile=1048576")),
    }
}

/// A limit is its parent's business: of a service, of a container, of a login.
fn limit(kind: &str, value: u64, unit: &str, docker: &str) -> Fix {
    Fix::ByHand(format!(
        "{unit} in the unit; docker run --ulimit {docker}; or `* - {kind} {value}` in \
         /etc/security/limits.d and a new login."
    ))
}

fn cpus(machine: &Machine, process: &Process) -> Finding {
    let name = "CPUs";
    let Process { cpus, shards, .. } = *process;
    let found = format!("{cpus} allowed, {shards} shards");
    let quota = machine.quota();
    let (found, wanted, fix) = match quota {
        Some(quota) if quota < shards * 1000 => {
            let whole = (quota / 1000).max(1);
            (
                format!("{found}, a quota of {}.{:03} CPUs", quota / 1000, quota % 1000),
                format!("at most {whole} shards, or a larger quota"),
                Fix::ByHand(format!(
                    "tidegate --concurrency {whole}; or CPUQuota= of the unit, the container's \
                     cpus, the pod's limit."
                )),
            )
        }
        _ if shards > cpus => {
            let fix = Fix::ByHand(format!("tidegate --concurrency {cpus}"));
            (found, format!("at most {cpus} shards"), fix)
        }
        _ => return good(name, format!("{found}, no quota below that")),
    };
    Finding {
        name: name.to_owned(),
        verdict: Verdict::Lacking,
        found,
        wanted,
        why: "Shards that share CPUs, or that are stopped until the next period when a quota is \
              used up, make the latencies long that they should keep short.",
        fix: Some(fix),
    }
}

fn set(name: &str, value: impl std::fmt::Display) -> Option<Fix> {
    Some(Fix::Command(format!("sysctl -w {name}='{value}'")))
}

fn at_least(machine: &Machine, sysctl: &(&str, u64, u64, &'static str)) -> Option<Finding> {
    let (name, few, wanted, why) = *sysctl;
    let found = *machine.sysctl(name)?.first()?;
    if found >= wanted {
        return Some(good(name, found.to_string()));
    }
    Some(Finding {
        name: name.to_owned(),
        verdict: if found < few { Verdict::Lacking } else { Verdict::Advice },
        found: found.to_string(),
        wanted: format!("{wanted} or more"),
        why,
        fix: set(name, wanted),
    })
}

fn port_range(machine: &Machine) -> Option<Finding> {
    let numbers = machine.sysctl(PORT_RANGE)?;
    let &[first, last] = numbers.as_slice() else { return None };
    let found = format!("{first} {last}");
    if first <= PORTS.0 && last >= PORTS.1 {
        return Some(good(PORT_RANGE, found));
    }
    let few = last.saturating_sub(first) < 10_000;
    let value = format!("{} {}", PORTS.0.min(first), PORTS.1.max(last));
    Some(Finding {
        name: PORT_RANGE.to_owned(),
        verdict: if few { Verdict::Lacking } else { Verdict::Advice },
        found,
        wanted: format!("{value} or wider"),
        why: "One address of an origin can be reached from at most so many ports at once.",
        fix: set(PORT_RANGE, value),
    })
}

fn pipes(machine: &Machine, process: &Process) -> Option<Finding> {
    let found = *machine.sysctl(PIPES)?.first()?;
    let needed = process.shards * PIPE_PAGES_OF_SHARD;
    if found == 0 || found >= needed || process.root {
        let root = if found == 0 || found >= needed { "" } else { ", which is not root's limit" };
        return Some(good(PIPES, format!("{found}{root}")));
    }
    Some(Finding {
        name: PIPES.to_owned(),
        verdict: Verdict::Advice,
        found: found.to_string(),
        wanted: format!("{needed} or more for {} shards, or 0", process.shards),
        why: "Long bodies are spliced through pipes; beyond this many pages a user's pipes are \
              small.",
        fix: set(PIPES, PIPE_PAGES.max(needed)),
    })
}

/// A set of CPUs as the kernel writes it, without any.
fn is_empty(mask: &str) -> bool {
    mask.chars().all(|c| c == '0' || c == ',')
}

fn receive_queues(machine: &Machine, process: &Process, device: &str) -> Option<Finding> {
    let masks = machine.queues(device, "rx-", "rps_cpus");
    let name = format!("RPS of {device}");
    if masks.is_empty() {
        return None;
    }
    let queues = masks.len() as u64;
    if queues >= process.shards {
        return Some(good(name, format!("not needed: {}", queues_of(queues))));
    }
    if !masks.iter().all(|mask| is_empty(mask)) {
        return Some(good(name, format!("on, {}", queues_of(queues))));
    }
    // All that there are: which of them have shards is not known here.
    let all = machine.text("/sys/devices/system/cpu/online").unwrap_or_default();
    Some(Finding {
        name,
        verdict: Verdict::Advice,
        found: format!("off, {}", queues_of(queues)),
        wanted: format!("RPS on all CPUs, or {} queues", process.shards),
        why: "With fewer queues than shards few CPUs do the kernel's part of receiving for all.",
        fix: last_cpu(&all).map(|last| {
            let mask = mask_up_to(last);
            Fix::Command(format!(
                "for f in /sys/class/net/{device}/queues/rx-*/rps_cpus; do echo {mask} >$f; done"
            ))
        }),
    })
}

fn queues_of(count: u64) -> String {
    if count == 1 { "1 queue".to_owned() } else { format!("{count} queues") }
}

/// The last number of a list as `0-3,8`.
fn last_cpu(list: &str) -> Option<u64> {
    list.rsplit([',', '-']).next()?.parse().ok()
}

/// CPUs 0 to `last` as the kernel reads them: words of 32 bits, the highest first.
fn mask_up_to(last: u64) -> String {
    let top = (1_u64 << (last % 32 + 1)) - 1;
    let words = usize::try_from(last / 32).unwrap_or_default();
    format!("{top:x}{}", ",ffffffff".repeat(words))
}

fn send_queues(machine: &Machine, device: &str) -> Option<Finding> {
    let masks = machine.queues(device, "tx-", "xps_cpus");
    if masks.len() < 2 {
        return None;
    }
    let name = format!("XPS of {device}");
    if !masks.iter().any(|mask| is_empty(mask)) {
        return Some(good(name, format!("on, {} queues", masks.len())));
    }
    Some(Finding {
        name,
        verdict: Verdict::Advice,
        found: format!("not on all of {} queues", masks.len()),
        wanted: "every queue has CPUs of its own".to_owned(),
        why: "A shard that sends through the queue of its CPU waits for no other CPU's lock.",
        fix: Some(Fix::Command(format!("tuning/tune --apply --only xps --device {device}"))),
    })
}

fn governor(machine: &Machine) -> Finding {
    let name = "CPU governor";
    let governors = machine.governors();
    let Some(slow) = governors.iter().find(|governor| *governor != "performance") else {
        let nothing = "not this machine's to choose";
        return good(name, if governors.is_empty() { nothing } else { "performance" });
    };
    Finding {
        name: name.to_owned(),
        verdict: Verdict::Advice,
        found: slow.clone(),
        wanted: "performance".to_owned(),
        why: "A CPU that has lowered its clock needs a while to raise it, and a proxy's work \
              comes in pieces of microseconds.",
        fix: Some(Fix::Command(
            "for f in /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor; do echo performance \
             >$f; done"
                .to_owned(),
        )),
    }
}

fn huge_pages(machine: &Machine) -> Option<Finding> {
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    let name = "transparent huge pages";
    let found = machine.choice(path)?;
    if found != "always" {
        return Some(good(name, found));
    }
    Some(Finding {
        name: name.to_owned(),
        verdict: Verdict::Advice,
        found,
        wanted: "madvise".to_owned(),
        why: "The first byte of a receive buffer makes 2 MiB present, of 64 KiB that are needed.",
        fix: Some(Fix::Command(format!("echo madvise >{path}"))),
    })
}

fn clock(machine: &Machine) -> Option<Finding> {
    let base = "/sys/devices/system/clocksource/clocksource0";
    let found = machine.text(&format!("{base}/current_clocksource"))?;
    if !SLOW_CLOCKS.contains(&found.as_str()) {
        return Some(good("clock source", found));
    }
    let available = machine.text(&format!("{base}/available_clocksource")).unwrap_or_default();
    let better = available.split_whitespace().find(|name| !SLOW_CLOCKS.contains(name));
    Some(Finding {
        name: "clock source".to_owned(),
        verdict: Verdict::Advice,
        found,
        wanted: better.unwrap_or("tsc").to_owned(),
        why: "Reading this clock takes a system call, and every turn of a shard reads it.",
        fix: Some(match better {
            Some(name) => Fix::Command(format!("echo {name} >{base}/current_clocksource")),
            None => Fix::ByHand("The kernel has no better one: see `dmesg | grep -i tsc`.".into()),
        }),
    })
}

#[cfg(test)]
mod tests;
