//! The ring of receive buffers lent to the kernel, and how many of them.
//!
//! The kernel takes buffers from this ring in turn, so with many entries every receive would touch cold
//! memory although a few warm buffers would do. So only about twice as many are lent as were used in a
//! recent turn; when the kernel runs out, more are.
//!
//! What it leaves to others: telling a receive that ended for lack of buffers from one that failed.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use crate::pool::{Pool, Vacant};
use crate::region::Region;

/// The only buffer group of a ring.
pub(super) const BUFFER_GROUP: u16 = 0;

/// Buffers lent while little happens.
const LENT_MIN: u32 = 16;

/// A registered ring of provided buffers (5.19).
pub(super) struct ProvidedRing {
    region: Region,
    entries: u32,
    tail: u16,
    /// Buffers that the kernel has now.
    lent: u32,
    /// Buffers that it should have at the start of a turn.
    lent_target: u32,
    /// The most that it used in one turn lately; falls slowly.
    used_peak: u32,
    used: u32,
}

impl ProvidedRing {
    /// Registers a ring of `entries` (a power of two). It starts empty.
    ///
    /// # Errors
    ///
    /// `EINVAL` before kernel 5.19, `ENOMEM` when locked memory is short.
    pub(super) fn register(ring: &IoUring, entries: u32) -> io::Result<ProvidedRing> {
        assert!(entries.is_power_of_two() && entries <= 1 << 15);
        let region = Region::reserve(entries as usize * size_of::<BufRingEntry>())?;
        let address = region.base().as_ptr() as u64;
        // SAFETY: page-aligned memory for `entries` entries, unmapped only after the ring is closed.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                address,
                entries as u16,
                BUFFER_GROUP,
                0,
            )?;
        }
        let lent_target = LENT_MIN.min(entries);
        Ok(ProvidedRing { region, entries, tail: 0, lent: 0, lent_target, used_peak: 0, used: 0 })
    }

    /// Buffers that the kernel could fill now.
    pub(super) fn lent(&self) -> u32 {
        self.lent
    }

    /// Takes note that the kernel used one buffer.
    #[inline]
    pub(super) fn note_used(&mut self) {
        debug_assert!(self.lent > 0);
        self.lent -= 1;
        self.used += 1;
    }

    /// Takes note that the kernel found the ring empty.
    pub(super) fn note_ran_dry(&mut self) {
        self.used_peak = self.used_peak.max(self.entries / 2);
    }

    /// Lends buffers up to the target; as many as the pool has. Called once per turn.
    pub(super) fn replenish(&mut self, pool: &mut Pool) {
        if self.used > self.used_peak {
            self.used_peak = self.used;
        } else if self.used_peak > 0 && self.used * 2 < self.used_peak {
            self.used_peak -= (self.used_peak / 64).max(1);
        }
        self.used = 0;
        self.lent_target = (self.used_peak * 2).clamp(LENT_MIN.min(self.entries), self.entries);
        if self.lent >= self.lent_target {
            return;
        }
        let before = self.tail;
        while self.lent < self.lent_target {
            let Some(vacant) = pool.take() else { break };
            self.put(&vacant, pool.buffer_bytes());
        }
        if self.tail != before {
            self.publish();
        }
    }

    fn put(&mut self, vacant: &Vacant, buffer_bytes: u32) {
        let index = u32::from(self.tail) & (self.entries - 1);
        let base: NonNull<BufRingEntry> = self.region.base().cast();
        // SAFETY: index < entries, so inside the region; the kernel reads this entry only after the
        // tail has moved past it. Address, length and id leave the tail, which shares the first
        // entry, alone.
        let entry = unsafe { base.add(index as usize).as_mut() };
        entry.set_addr(vacant.data() as u64);
        entry.set_len(buffer_bytes);
        entry.set_bid(vacant.id() as u16);
        self.tail = self.tail.wrapping_add(1);
        self.lent += 1;
    }

    fn publish(&mut self) {
        let base: NonNull<BufRingEntry> = self.region.base().cast();
        // SAFETY: the tail is a field of the first entry, aligned, and written by this thread only;
        // the kernel reads it, hence the atomic store.
        unsafe {
            let tail = BufRingEntry::tail(base.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// Gives the ring's memory up for good instead of unmapping it.
    pub(super) fn leak(self) {
        self.region.leak();
    }
}
