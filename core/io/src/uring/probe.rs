//! Whether io_uring works here, and if not, why and what to do about it.
//!
//! What it leaves to others: falling back, and printing.

use std::fmt;
use std::io;

use io_uring::{Probe, opcode};

use super::ring::{Features, Ring};
use super::self_test;
use crate::{Errno, IoOptions, sys};

/// What io_uring offers here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// Operations per system call.
    pub submission_entries: u32,
    /// Completions between two turns without a slow path.
    pub completion_entries: u32,
    /// `IORING_SETUP_NO_SQARRAY` (6.6).
    pub no_sqarray: bool,
    /// The ring's descriptor is registered (5.18).
    pub registered_ring: bool,
    /// One sentence when the queues are smaller than asked for: why, and what to do.
    pub limited: Option<String>,
}

/// io_uring can't be used here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unavailable {
    /// The errno behind it, if there is one.
    pub errno: Option<Errno>,
    /// One sentence: why, and what to do.
    pub reason: String,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Unavailable {}

/// Tries io_uring out: sets a ring up, asks for every operation that we use, and runs a small test
/// of multishot accept, multishot receive with provided buffers, sending and cancelling. Takes a
/// few milliseconds at most when all is well. A kernel's version number is not looked at:
/// distributions backport, and a bug is better found by trying.
///
/// # Errors
///
/// Why io_uring can't be used, and the remedy.
pub fn probe() -> Result<Capabilities, Unavailable> {
    let options = IoOptions::default();
    let features = {
        let (ring, _provided) = super::set_up::queues(&options)
            .map_err(|error| explain(&error, &Surroundings::read()))?;
        check_operations(&ring)?;
        ring.features()
    };
    self_test::run().map_err(|failure| match failure {
        self_test::Failure::System(error) => explain(&error, &Surroundings::read()),
        self_test::Failure::Behaviour(what) => Unavailable {
            errno: None,
            reason: format!(
                "io_uring does not work properly on this kernel ({what}): update the kernel, or \
                 use the epoll backend"
            ),
        },
    })?;
    Ok(capabilities(features, &options, &Surroundings::read()))
}

fn capabilities(
    features: Features,
    options: &IoOptions,
    surroundings: &Surroundings,
) -> Capabilities {
    let shrunk = features.submission_entries < options.submission_entries;
    Capabilities {
        submission_entries: features.submission_entries,
        completion_entries: features.completion_entries,
        no_sqarray: features.no_sqarray,
        registered_ring: features.registered_ring,
        limited: shrunk.then(|| {
            format!(
                "io_uring runs with small queues ({} instead of {} entries) because locked memory \
                 is limited to {}: raise RLIMIT_MEMLOCK (`ulimit -l`, systemd LimitMEMLOCK=, \
                 docker --ulimit memlock=)",
                features.submission_entries,
                options.submission_entries,
                surroundings.memlock(),
            )
        }),
    }
}

fn check_operations(ring: &Ring) -> Result<(), Unavailable> {
    let mut probe = Probe::new();
    ring.raw()
        .submitter()
        .register_probe(&mut probe)
        .map_err(|error| explain(&error, &Surroundings::read()))?;
    let needed = [
        ("accept", opcode::AcceptMulti::CODE),
        ("recv", opcode::Recv::CODE),
        ("send", opcode::Send::CODE),
        ("sendmsg", opcode::SendMsg::CODE),
        ("connect", opcode::Connect::CODE),
        ("async_cancel", opcode::AsyncCancel::CODE),
        ("poll_add", opcode::PollAdd::CODE),
    ];
    for (name, code) in needed {
        if !probe.is_supported(code) {
            return Err(Unavailable {
                errno: None,
                reason: format!(
                    "this kernel's io_uring lacks the operation {name}: Linux 6.1 or newer is \
                     needed, or the epoll backend"
                ),
            });
        }
    }
    Ok(())
}

/// What the process can find out about why it was refused.
#[derive(Clone, Default, Debug)]
struct Surroundings {
    /// `kernel.io_uring_disabled`, when the kernel has it (6.6).
    disabled: Option<u32>,
    /// The process is under a seccomp filter.
    seccomp: bool,
    /// `RLIMIT_MEMLOCK` in bytes; `None`: unlimited or unknown.
    memlock_bytes: Option<u64>,
    /// `uname -r`.
    release: String,
}

impl Surroundings {
    fn read() -> Surroundings {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        // Filters belong to threads; the calling thread is the one that was refused.
        let status = read("/proc/thread-self/status");
        let seccomp = status
            .lines()
            .any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"));
        Surroundings {
            disabled: read("/proc/sys/kernel/io_uring_disabled").trim().parse().ok(),
            seccomp,
            memlock_bytes: sys::memlock_limit(),
            release: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }

    fn memlock(&self) -> String {
        match self.memlock_bytes {
            Some(bytes) => format!("{} KiB", bytes / 1024),
            None => "less than is needed".to_owned(),
        }
    }
}

/// The sentence for an error of setting a ring up.
fn explain(error: &io::Error, surroundings: &Surroundings) -> Unavailable {
    let Errno(errno) = sys::errno_of(error);
    let seccomp = "a seccomp filter (for containers: docker run --security-opt seccomp=PROFILE \
                   with a profile that allows io_uring_setup, io_uring_enter and \
                   io_uring_register)";
    let reason = match (errno, surroundings.disabled) {
        (libc::EPERM, Some(2)) => {
            "io_uring is switched off on this host: sysctl kernel.io_uring_disabled is 2, set it \
             to 0"
                .to_owned()
        }
        (libc::EPERM, Some(1)) => {
            "io_uring is reserved for a group on this host: sysctl kernel.io_uring_disabled is 1, \
             set it to 0 or join the group of kernel.io_uring_group"
                .to_owned()
        }
        (libc::EPERM, _) if surroundings.seccomp => {
            format!("io_uring is denied (EPERM) by {seccomp}")
        }
        (libc::EPERM, _) => format!(
            "io_uring is denied (EPERM) although kernel.io_uring_disabled does not say so: a \
             security module or {seccomp} may be the cause"
        ),
        (libc::ENOSYS, _) if surroundings.seccomp => {
            format!("io_uring is hidden (ENOSYS) by this kernel or by {seccomp}")
        }
        (libc::ENOSYS, _) => format!(
            "this kernel ({}) has no io_uring: Linux 6.1 or newer with CONFIG_IO_URING is needed",
            surroundings.release
        ),
        (libc::ENOMEM, _) => format!(
            "there is not enough locked memory for io_uring: RLIMIT_MEMLOCK is {}, raise it \
             (`ulimit -l`, systemd LimitMEMLOCK=, docker --ulimit memlock=)",
            surroundings.memlock()
        ),
        (libc::EMFILE, _) => {
            "no descriptors are left for io_uring: raise RLIMIT_NOFILE (`ulimit -n`, systemd \
             LimitNOFILE=)"
                .to_owned()
        }
        (libc::ENFILE, _) => {
            "the system has no descriptors left for io_uring: raise sysctl fs.file-max".to_owned()
        }
        (libc::EINVAL, _) => format!(
            "this kernel's io_uring ({}) is too old: Linux 6.1 or newer is needed",
            surroundings.release
        ),
        _ => format!("io_uring can't be set up: {error}"),
    };
    Unavailable { errno: Some(Errno(errno)), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(errno: i32, surroundings: &Surroundings) -> String {
        explain(&io::Error::from_raw_os_error(errno), surroundings).reason
    }

    #[test]
    fn a_sysctl_is_told_from_seccomp() {
        let sysctl = Surroundings { disabled: Some(2), seccomp: true, ..Surroundings::default() };
        assert!(reason(libc::EPERM, &sysctl).contains("kernel.io_uring_disabled is 2"));
        let group = Surroundings { disabled: Some(1), ..Surroundings::default() };
        assert!(reason(libc::EPERM, &group).contains("kernel.io_uring_group"));
        let filter = Surroundings { disabled: Some(0), seccomp: true, ..Surroundings::default() };
        assert!(reason(libc::EPERM, &filter).contains("--security-opt seccomp="));
        assert!(reason(libc::ENOSYS, &filter).contains("--security-opt seccomp="));
        let unknown = Surroundings { disabled: Some(0), ..Surroundings::default() };
        assert!(reason(libc::EPERM, &unknown).contains("security module"));
    }

    #[test]
    fn every_reason_is_one_sentence_with_a_remedy() {
        let surroundings = Surroundings {
            memlock_bytes: Some(65536),
            release: "5.4.0".to_owned(),
            ..Surroundings::default()
        };
        assert!(reason(libc::ENOMEM, &surroundings).contains("RLIMIT_MEMLOCK is 64 KiB, raise it"));
        assert!(reason(libc::EMFILE, &surroundings).contains("raise RLIMIT_NOFILE"));
        assert!(reason(libc::EINVAL, &surroundings).contains("(5.4.0) is too old"));
        assert!(reason(libc::ENOSYS, &surroundings).contains("(5.4.0) has no io_uring"));
        for errno in
            [libc::EPERM, libc::ENOSYS, libc::ENOMEM, libc::EMFILE, libc::EINVAL, libc::EIO]
        {
            let text = reason(errno, &surroundings);
            assert!(!text.contains('\n') && !text.contains("  "), "{text}");
        }
    }

    #[test]
    fn io_uring_works_here_or_says_why() {
        match probe() {
            Ok(capabilities) => assert!(capabilities.submission_entries >= 32),
            Err(unavailable) => eprintln!("SKIPPED, no io_uring here: {unavailable}"),
        }
    }
}
