//! CPUs: which of them this process may use, pinning a thread to one, and how soon it gets it.
//!
//! What it leaves to others: how many shards there are and which CPU each gets.

use std::io;
use std::time::Duration;

/// 64-bit words of the masks given to the kernel: 8192 CPUs, `NR_CPUS` of the largest distribution
/// kernels.
const MASK_WORDS: usize = 128;

/// The CPUs that the calling thread may run on, in ascending order; never empty. It respects
/// `taskset`, cgroup cpusets and systemd's `CPUAffinity`, but not CPU quotas.
///
/// # Errors
///
/// Whatever `sched_getaffinity` answers; under a seccomp filter for example `EPERM`.
pub fn allowed() -> io::Result<Vec<usize>> {
    let mut mask = [0_u64; MASK_WORDS];
    // SAFETY: a writable mask of the given size, which the kernel fills from its start.
    let result = unsafe {
        libc::sched_getaffinity(0, size_of_val(&mask), mask.as_mut_ptr().cast::<libc::cpu_set_t>())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let bits = mask.len() * 64;
    Ok((0..bits).filter(|&cpu| mask[cpu / 64] >> (cpu % 64) & 1 == 1).collect())
}

/// Makes the calling thread run on `cpu` only.
///
/// # Errors
///
/// `EINVAL` when the CPU does not exist or may not be used.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut mask = [0_u64; MASK_WORDS];
    let Some(word) = mask.get_mut(cpu / 64) else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    *word = 1 << (cpu % 64);
    // SAFETY: a readable mask of the given size.
    let result = unsafe {
        libc::sched_setaffinity(0, size_of_val(&mask), mask.as_ptr().cast::<libc::cpu_set_t>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks the scheduler to let the calling thread run for `slice` at a time where others want its
/// CPU: 0.1 to 100 ms, about 3 ms if nobody asks. A thread that wakes is let in at once when the
/// slice of the one that runs is longer, and else may have to wait for its end. Needs no privilege.
///
/// # Errors
///
/// Whatever `sched_getattr` and `sched_setattr` answer; under a seccomp filter for example `EPERM`.
/// Kernels before 6.12 say yes and do nothing.
pub fn set_slice(slice: Duration) -> io::Result<()> {
    // SAFETY: plain numbers, for which zero is a value.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = size_of_val(&attributes);
    // SAFETY: a writable structure of the given size.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if attributes.sched_policy != libc::SCHED_OTHER as u32 {
        return Ok(()); // Somebody has given the process another policy, and knows why.
    }
    attributes.sched_runtime = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
    // SAFETY: a readable structure that says its size.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets timers of the calling thread end at most so late: 50 us if nobody asks. Needs no privilege.
///
/// # Errors
///
/// Whatever `prctl` answers; under a seccomp filter for example `EPERM`.
pub fn set_timer_slack(slack: Duration) -> io::Result<()> {
    let nanoseconds = libc::c_ulong::try_from(slack.as_nanos()).unwrap_or(libc::c_ulong::MAX);
    // SAFETY: a number and no pointer.
    let result = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_use_one_cpu() {
        let before = allowed().unwrap();
        assert!(!before.is_empty());
        let last = *before.last().unwrap();
        let pinned = std::thread::spawn(move || {
            pin(last).unwrap();
            allowed().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), [last]);
        assert_eq!(allowed().unwrap(), before);
    }

    #[test]
    fn a_slice_can_be_asked_for() {
        let asked = || {
            set_slice(Duration::from_micros(100)).unwrap();
            set_slice(Duration::from_micros(100))
        };
        std::thread::spawn(asked).join().unwrap().unwrap();
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused() {
        for cpu in [MASK_WORDS * 64 - 1, MASK_WORDS * 64, usize::MAX] {
            assert_eq!(pin(cpu).unwrap_err().raw_os_error(), Some(libc::EINVAL), "{cpu}");
        }
    }
}
