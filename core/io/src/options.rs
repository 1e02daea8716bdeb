//! Sizes of one backend's queues and pools, with their bounds.
//!
//! What it leaves to others: where the numbers come from.

use std::time::Duration;

/// Sizes of one backend. Values out of bounds are brought into bounds by [`IoOptions::bounded`],
/// which the backends apply; what the process may not have (memlock, address space) makes them
/// smaller still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoOptions {
    /// Bytes of one receive buffer: 1 KiB to 1 MiB. Larger ones mean fewer receives for large
    /// bodies. A buffer occupies address space only, until and as far as it is filled.
    pub buffer_bytes: u32,
    /// Receive buffers of one backend at most: 16 to 32768. When all are held, receiving waits
    /// until one comes back.
    pub buffers_max: u32,
    /// Receive buffers that the kernel holds at once at most (io_uring only): a power of two, 8 to
    /// 4096. Fewer are lent while fewer are used, so that the same warm buffers go round.
    pub buffer_ring_entries: u32,
    /// Operations handed over in one system call (io_uring only): a power of two, 32 to 4096. Both
    /// queues are walked through from end to end, so larger ones take more of the core's cache.
    pub submission_entries: u32,
    /// Completions that the kernel can report between two turns without taking a slow path
    /// (io_uring only): a power of two, 4 times the submission entries to 65536.
    pub completion_entries: u32,
    /// How long a wait may be prolonged at most so that completions gather, while much is in flight
    /// ([`Io::expect`](crate::Io::expect)): up to 1 ms; zero: never.
    pub gather: Duration,
}

/// Bytes that a backend receives in one turn, more or less, when they come in bulk.
///
/// What one turn receives is sent on only after all of it has come. When it is more than a core's
/// own cache holds, it is read from memory again: relaying 100 KiB bodies costs 1.4 times as much
/// without this bound, and 1 MiB bodies 1.5 times. Measured with a second-level cache of 2 MiB.
pub(crate) const TURN_BYTES: u32 = 128 * 1024;

impl Default for IoOptions {
    fn default() -> IoOptions {
        IoOptions {
            buffer_bytes: 64 * 1024,
            buffers_max: 8192,
            buffer_ring_entries: 256,
            submission_entries: 128,
            completion_entries: 1024,
            gather: Duration::from_micros(50),
        }
    }
}

impl IoOptions {
    /// The same with every value inside its bounds, rounded up to a power of two where one is
    /// needed.
    #[must_use]
    pub fn bounded(&self) -> IoOptions {
        let buffers_max = self.buffers_max.clamp(16, 32 * 1024);
        let submission_entries = power(self.submission_entries, 32, 4096);
        IoOptions {
            buffer_bytes: self.buffer_bytes.clamp(1024, 1024 * 1024),
            buffers_max,
            buffer_ring_entries: power(self.buffer_ring_entries, 8, 4096),
            submission_entries,
            completion_entries: power(self.completion_entries, submission_entries * 4, 65536),
            gather: self.gather.min(Duration::from_millis(1)),
        }
    }
}

fn power(value: u32, min: u32, max: u32) -> u32 {
    value.clamp(min, max).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_inside_their_bounds() {
        assert_eq!(IoOptions::default().bounded(), IoOptions::default());
    }

    #[test]
    fn extremes_are_brought_inside() {
        let small = IoOptions {
            buffer_bytes: 0,
            buffers_max: 0,
            buffer_ring_entries: 0,
            submission_entries: 0,
            completion_entries: 0,
            gather: Duration::ZERO,
        };
        let IoOptions { buffer_bytes, buffers_max, .. } = small.bounded();
        assert_eq!((buffer_bytes, buffers_max), (1024, 16));
        assert_eq!(small.bounded().completion_entries, 128);
        let large = IoOptions {
            buffer_bytes: u32::MAX,
            buffers_max: u32::MAX,
            buffer_ring_entries: u32::MAX,
            submission_entries: u32::MAX,
            completion_entries: u32::MAX,
            gather: Duration::MAX,
        };
        assert_eq!(large.bounded().bounded(), large.bounded());
        assert_eq!(large.bounded().completion_entries, 65536);
        let odd = IoOptions { submission_entries: 33, ..IoOptions::default() };
        assert_eq!(odd.bounded().submission_entries, 64);
    }
}
