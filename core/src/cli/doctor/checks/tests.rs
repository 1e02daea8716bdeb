//! The checks on machines made of files.
//!
//! What it leaves to others: this machine (`core/tests/acceptance/test_doctor.py`).

use super::*;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use tidegate_io::Errno;

struct Tree(PathBuf);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Tree {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-doctor-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        Tree(root)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn process() -> Process {
    Process {
        io_uring: None,
        root: false,
        descriptors: Some(DESCRIPTORS),
        memlock: None,
        cpus: 16,
        shards: 16,
    }
}

fn found(files: &[(&str, &str)], process: &Process) -> Vec<Finding> {
    let tree = Tree::new(files);
    findings(&Machine::at(&tree.0), process)
}

fn named(findings: &[Finding], name: &str) -> Finding {
    findings.iter().find(|finding| finding.name == name).unwrap().clone()
}

fn command(finding: &Finding) -> &str {
    match finding.fix.as_ref().unwrap() {
        Fix::Command(text) | Fix::ByHand(text) => text,
    }
}

const POOR: &[(&str, &str)] = &[
    ("proc/sys/net/core/somaxconn", "128"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "2048"),
    ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999"),
    ("proc/sys/fs/pipe-user-pages-soft", "16384"),
    ("proc/self/cgroup", "0::/a/b"),
    ("sys/fs/cgroup/a/cpu.max", "150000 100000"),
    ("sys/fs/cgroup/a/b/cpu.max", "max 100000"),
    ("sys/class/net/lo/queues/rx-0/rps_cpus", "0000"),
    ("sys/class/net/eth0/device/vendor", "0"),
    ("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,00000000"),
    ("sys/class/net/eth0/queues/tx-0/xps_cpus", "00ff"),
    ("sys/class/net/eth0/queues/tx-1/xps_cpus", "0000"),
    ("sys/devices/system/cpu/online", "0-35"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet"),
    ("sys/devices/system/clocksource/clocksource0/available_clocksource", "hpet tsc acpi_pm"),
];

#[test]
fn a_poor_machine_is_told_what_to_do() {
    let findings = found(POOR, &process());
    for (name, verdict, fix) in [
        ("net.core.somaxconn", Verdict::Lacking, "sysctl -w net.core.somaxconn='4096'"),
        (
            "net.ipv4.tcp_max_syn_backlog",
            Verdict::Advice,
            "sysctl -w net.ipv4.tcp_max_syn_backlog='8192'",
        ),
        (PORT_RANGE, Verdict::Advice, "sysctl -w net.ipv4.ip_local_port_range='16384 65535'"),
        (PIPES, Verdict::Advice, "sysctl -w fs.pipe-user-pages-soft='262144'"),
        ("CPUs", Verdict::Lacking, "tidegate --concurrency 1;"),
        (
            "RPS of eth0",
            Verdict::Advice,
            "for f in /sys/class/net/eth0/queues/rx-*/rps_cpus; do echo f,ffffffff >$f; done",
        ),
        ("XPS of eth0", Verdict::Advice, "tuning/tune --apply --only xps --device eth0"),
        ("CPU governor", Verdict::Advice, "echo performance"),
        ("transparent huge pages", Verdict::Advice, "echo madvise >/sys/"),
        ("clock source", Verdict::Advice, "echo tsc >/sys/"),
    ] {
        let finding = named(&findings, name);
        assert_eq!(finding.verdict, verdict, "{finding:?}");
        assert!(command(&finding).contains(fix), "{finding:?}");
        assert!(finding.why.ends_with('.') && !finding.why.contains("  "), "{finding:?}");
    }
    assert!(!findings.iter().any(|finding| finding.name.ends_with("of lo")));
    assert!(named(&findings, "CPUs").found.contains("a quota of 1.500 CPUs"));
}

#[test]
fn a_machine_that_was_tuned_has_nothing_to_mend() {
    let files = [
        ("proc/sys/net/core/somaxconn", "4096"),
        ("proc/sys/net/ipv4/tcp_max_syn_backlog", "65536"),
        ("proc/sys/net/ipv4/ip_local_port_range", "1024 65535"),
        ("proc/sys/fs/pipe-user-pages-soft", "0"),
        ("proc/self/cgroup", "2:cpu,cpuacct:/x\n0::/"),
        ("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "-1"),
        ("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000"),
        ("sys/class/net/eth0/device/vendor", "0"),
        ("sys/class/net/eth0/queues/rx-0/rps_cpus", "ffff"),
        ("sys/class/net/eth0/queues/tx-0/xps_cpus", "00ff"),
        ("sys/class/net/eth0/queues/tx-1/xps_cpus", "ff00"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
    ];
    for finding in found(&files, &process()) {
        assert_eq!((finding.verdict, &finding.fix), (Verdict::Good, &None), "{finding:?}");
    }
    // A machine that shows nothing has nothing to mend either.
    assert!(found(&[], &process()).iter().all(|finding| finding.verdict == Verdict::Good));
}

#[test]
fn the_older_control_groups_are_read_as_well() {
    let files = [
        ("proc/self/cgroup", "4:cpu,cpuacct:/docker/x\n1:name=systemd:/"),
        ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000"),
        ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000"),
    ];
    let findings = found(&files, &process());
    assert!(command(&named(&findings, "CPUs")).contains("--concurrency 4;"));
    let fewer = Process { shards: 4, ..process() };
    assert_eq!(named(&found(&files, &fewer), "CPUs").verdict, Verdict::Good);
    let more = Process { shards: 17, ..process() };
    assert_eq!(named(&found(&[], &more), "CPUs").verdict, Verdict::Lacking);
}

#[test]
fn io_uring_says_why_not_and_what_to_do() {
    let denied = || {
        let reason = "io_uring is denied".to_owned();
        Some(Err(Unavailable { errno: Some(Errno(1)), reason }))
    };
    let process = Process { io_uring: denied(), ..process() };
    let files = [("proc/sys/kernel/io_uring_disabled", "2")];
    let finding = named(&found(&files, &process), "io_uring");
    assert_eq!((finding.verdict, finding.found.as_str()), (Verdict::Lacking, "io_uring is denied"));
    assert_eq!(command(&finding), "sysctl -w kernel.io_uring_disabled=0");
    let finding = named(&found(&[], &process), "io_uring");
    assert!(command(&finding).contains("--security-opt seccomp="));
}

#[test]
fn limits_of_the_process_are_weighed() {
    let works = |limited: Option<&str>| {
        Some(Ok(Capabilities {
            submission_entries: 32,
            completion_entries: 128,
            no_sqarray: false,
            registered_ring: true,
            limited: limited.map(str::to_owned),
        }))
    };
    let memlock = |io_uring, memlock, root| {
        let process = Process { io_uring, memlock, root, ..process() };
        named(&found(&[], &process), "locked memory").verdict
    };
    assert_eq!(memlock(works(Some("small")), Some(65536), false), Verdict::Lacking);
    assert_eq!(memlock(works(None), Some(65536), false), Verdict::Advice);
    assert_eq!(memlock(works(None), Some(65536), true), Verdict::Good);
    assert_eq!(memlock(works(None), Some(8 << 20), false), Verdict::Good);
    let descriptors = |count| {
        let process = Process { descriptors: Some(count), io_uring: works(None), ..process() };
        named(&found(&[], &process), "open descriptors").verdict
    };
    assert_eq!(descriptors(1024), Verdict::Lacking);
    assert_eq!(descriptors(4096), Verdict::Advice);
    assert_eq!(descriptors(65536), Verdict::Good);
}

#[test]
fn sets_of_cpus_are_written_as_the_kernel_reads_them() {
    assert_eq!(mask_up_to(0), "1");
    assert_eq!(mask_up_to(31), "ffffffff");
    assert_eq!(mask_up_to(32), "1,ffffffff");
    assert_eq!(last_cpu("0-3,8"), Some(8));
    assert_eq!(last_cpu("0-63"), Some(63));
    assert_eq!(last_cpu(""), None);
}

#[test]
fn the_values_are_those_that_tune_sets() {
    let file = include_str!("../../../../../tuning/sysctl.d/60-tidegate.conf");
    let mut lines: Vec<_> =
        SYSCTLS.iter().map(|(name, _, wanted, _)| format!("{name} = {wanted}")).collect();
    lines.push(format!("{PORT_RANGE} = {} {}", PORTS.0, PORTS.1));
    lines.push(format!("{PIPES} = {PIPE_PAGES}"));
    for line in lines {
        assert!(file.lines().any(|other| other == line), "{line}");
    }
}
