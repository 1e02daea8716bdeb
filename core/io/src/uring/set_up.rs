//! Making a ring and its ring of buffers, with what memory the process may lock.
//!
//! What it leaves to others: using them.

use std::io;
use std::time::Duration;

use super::provided::ProvidedRing;
use super::ring::Ring;
use crate::{IoOptions, sys};

/// The smallest queues that still work: with the ring of buffers three or four pages.
const SUBMISSION_ENTRIES_MIN: u32 = 32;
const COMPLETION_ENTRIES_MIN: u32 = 128;

/// Sets a ring and its ring of buffers up. When locked memory is short (`RLIMIT_MEMLOCK`; from
/// kernel 6.13 on it counts the queues, of all processes of the user together) the queues are
/// small.
pub(super) fn queues(options: &IoOptions) -> io::Result<(Ring, ProvidedRing)> {
    let mut submission = options.submission_entries;
    let mut completion = options.completion_entries;
    // What one shard takes, the next one lacks: under a limit that is not far above what one needs,
    // all take the least from the start. With 64 KiB five shards get three pages each.
    let bytes = u64::from(submission) * 64 + u64::from(completion) * 16;
    let tight = sys::memlock_limit().is_some_and(|limit| limit < bytes * 16);
    if tight && !sys::is_root() {
        (submission, completion) = (SUBMISSION_ENTRIES_MIN, COMPLETION_ENTRIES_MIN);
    }
    let mut patience = 10;
    loop {
        let queues = Ring::new(submission, completion).and_then(|ring| {
            let provided = ProvidedRing::register(ring.raw(), options.buffer_ring_entries)?;
            Ok((ring, provided))
        });
        match queues {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && patience > 0 => {
                // The kernel gives the memory of a ring that was just closed back a little later,
                // so the first attempt and the smallest size are given some time.
                patience -= 1;
                pause_for_kernel();
                if patience < 9 {
                    (submission, completion) = (SUBMISSION_ENTRIES_MIN, COMPLETION_ENTRIES_MIN);
                }
            }
            other => return other,
        }
    }
}

#[allow(clippy::disallowed_methods)] // start-up only: no shard turns yet
fn pause_for_kernel() {
    std::thread::sleep(Duration::from_millis(20));
}
