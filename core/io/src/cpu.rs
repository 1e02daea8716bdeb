//! CPU affinity: which CPUs this process may use, and pinning a thread to one.
//!
//! What it leaves to others: how many shards there are and which CPU each gets.

use std::io;

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
    fn a_cpu_that_is_not_there_is_refused() {
        for cpu in [MASK_WORDS * 64 - 1, MASK_WORDS * 64, usize::MAX] {
            assert_eq!(pin(cpu).unwrap_err().raw_os_error(), Some(libc::EINVAL), "{cpu}");
        }
    }
}
