//! What the kernel's files say of this machine.
//!
//! What it leaves to others: what should be there (`checks`).

use std::fs;
use std::path::{Path, PathBuf};

/// A file system whose /proc and /sys are read.
#[derive(Debug)]
pub(super) struct Machine {
    root: PathBuf,
}

impl Machine {
    /// This one.
    pub(super) fn here() -> Machine {
        Machine::at("/")
    }

    /// A tree that looks like one.
    pub(super) fn at(root: impl Into<PathBuf>) -> Machine {
        Machine { root: root.into() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file's text without the blanks around it; nothing when it cannot be read.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_owned())
    }

    /// The numbers of a sysctl.
    pub(super) fn sysctl(&self, name: &str) -> Option<Vec<u64>> {
        let text = self.text(&format!("/proc/sys/{}", name.replace('.', "/")))?;
        text.split_whitespace().map(|word| word.parse().ok()).collect()
    }

    /// Of several words the one in brackets.
    pub(super) fn choice(&self, path: &str) -> Option<String> {
        let text = self.text(path)?;
        let (_, rest) = text.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    }

    /// Names in a folder, sorted.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Network devices that are hardware, a virtual machine's included.
    pub(super) fn devices(&self) -> Vec<String> {
        let mut names = self.names("/sys/class/net");
        names.retain(|name| self.path(&format!("/sys/class/net/{name}/device")).exists());
        names
    }

    /// One file of every queue of a device, `rx` or `tx`, as far as it can be read.
    pub(super) fn queues(&self, device: &str, direction: &str, file: &str) -> Vec<String> {
        let base = format!("/sys/class/net/{device}/queues");
        let names = self.names(&base);
        let queues = names.iter().filter(|name| name.starts_with(direction));
        queues.filter_map(|queue| self.text(&format!("{base}/{queue}/{file}"))).collect()
    }

    /// The governors of all CPUs that have one.
    pub(super) fn governors(&self) -> Vec<String> {
        let base = "/sys/devices/system/cpu";
        let names = self.names(base);
        let file = |cpu: &String| self.text(&format!("{base}/{cpu}/cpufreq/scaling_governor"));
        names.iter().filter_map(file).collect()
    }

    /// Thousandths of a CPU that the control groups of this process allow it in all; nothing when
    /// they allow everything.
    pub(super) fn quota(&self) -> Option<u64> {
        let groups = self.text("/proc/self/cgroup").unwrap_or_default();
        let mut quotas = Vec::new();
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
            // Every group on the way to the root may have a quota. Inside a container only the
            // root may be visible, under a path that is longer.
            for group in Path::new(group).ancestors().map(Path::display) {
                if controllers.is_empty() {
                    quotas.extend(self.text(&format!("/sys/fs/cgroup{group}/cpu.max")));
                } else if controllers.split(',').any(|name| name == "cpu") {
                    let file = |name| self.text(&format!("/sys/fs/cgroup/cpu{group}/{name}"));
                    let quota = file("cpu.cfs_quota_us").zip(file("cpu.cfs_period_us"));
                    quotas.extend(quota.map(|(quota, period)| format!("{quota} {period}")));
                }
            }
        }
        quotas.iter().filter_map(|text| thousandths(text)).min()
    }
}

/// `QUOTA PERIOD`, where a quota of `max` or -1 is none.
fn thousandths(text: &str) -> Option<u64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period) = (quota.parse::<u64>().ok()?, period.trim().parse::<u64>().ok()?);
    quota.checked_mul(1000)?.checked_div(period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_read_as_thousandths() {
        assert_eq!(thousandths("150000 100000"), Some(1500));
        assert_eq!(thousandths("max 100000"), None);
        assert_eq!(thousandths("-1 100000"), None);
        assert_eq!(thousandths("1 0"), None);
    }
}
