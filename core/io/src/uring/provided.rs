//! The ring of receive buffers lent to the kernel, and how many of them.
//!
//! The kernel takes buffers from this ring in turn, so with many entries every receive would touch
//! cold memory although a few warm buffers would do. So only about twice as many are lent as were
//! used in a recent turn, and when the kernel runs out, more are. But never more than hold
//! [`TURN_BYTES`], judging by how full they were lately: when messages are small that is the whole
//! ring, when bodies are relayed it is a handful, and the kernel stops and comes again.
//!
//! They are lent with as much of their room as messages need, and only a few with much of it, which
//! are always the same ones. So a peer that sends in bulk fills those, not whole buffers all around
//! the ring: 256 of 64 KiB would be 16 MiB.
//!
//! What it leaves to others: telling a receive that ended for lack of buffers from one that failed.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use crate::options::TURN_BYTES;
use crate::pool::{PART_BYTES, Pool, Room, Vacant};
use crate::region::Region;

/// The only buffer group of a ring.
pub(super) const BUFFER_GROUP: u16 = 0;

/// Buffers lent while little happens.
const LENT_MIN: u32 = 32;

/// Buffers lent with all of their room at most.
const WHOLE_MAX: u32 = 8;

/// Buffers lent with [`PART_BYTES`] at most. The others have what is left of the page that they
/// begin in, and a part of the next one when that is less than [`SMALL_BYTES`].
const PART_MAX: u32 = 24;

/// Messages are small below this average, and large from the other one on. Each is less than the
/// room of the buffers that it chooses, or larger messages, cut to such rooms, would look small.
const SMALL_BYTES: u32 = 2048;
const LARGE_BYTES: u32 = 12 * 1024;
const PAGE_BYTES: u32 = 4096;

/// A registered ring of provided buffers (5.19).
pub(super) struct ProvidedRing {
    region: Region,
    entries: u32,
    tail: u16,
    /// Buffers that the kernel has now, and how many for each `Room`.
    lent: u32,
    lent_with: [u32; 3],
    /// The most that it used in one turn lately; falls slowly.
    used_peak: u32,
    /// Buffers used since the last turn, and bytes in them.
    used: u32,
    used_bytes: u64,
    /// Bytes per used buffer: the sum of an exponential average over 16 turns. For example 16 turns
    /// with 300 bytes each in two buffers make 2400.
    fill_16: u32,
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
        // SAFETY: page-aligned memory for `entries` entries, unmapped only after the ring is
        // closed.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                address,
                entries as u16,
                BUFFER_GROUP,
                0,
            )?;
        }
        Ok(ProvidedRing {
            region,
            entries,
            tail: 0,
            lent: 0,
            lent_with: [0; 3],
            used_peak: 0,
            used: 0,
            used_bytes: 0,
            fill_16: 0,
        })
    }

    /// Buffers that the kernel could fill now.
    pub(super) fn lent(&self) -> u32 {
        self.lent
    }

    /// Takes note that the kernel put `bytes` into one buffer.
    #[inline]
    pub(super) fn note_used(&mut self, bytes: u32, room: Room) {
        debug_assert!(self.lent > 0);
        self.lent -= 1;
        self.lent_with[room as usize] -= 1;
        self.used += 1;
        self.used_bytes += u64::from(bytes);
    }

    /// Takes note that the kernel found the ring empty.
    pub(super) fn note_ran_dry(&mut self) {
        self.used_peak = self.used_peak.max(self.entries / 2);
    }

    /// Lends as many buffers as should be lent, or as the pool has. Called once per turn.
    pub(super) fn replenish(&mut self, pool: &mut Pool) {
        let target = self.target();
        let before = self.tail;
        while self.lent < target {
            let room = self.room();
            let Some(vacant) = pool.take(room) else { break };
            self.put(&vacant, pool.buffer_bytes());
        }
        if self.tail != before {
            self.publish();
        }
    }

    /// Buffers that the kernel should have in this turn.
    fn target(&mut self) -> u32 {
        if self.used > self.used_peak {
            self.used_peak = self.used;
        } else if self.used_peak > 0 && self.used * 2 < self.used_peak {
            self.used_peak -= self.used_peak.div_ceil(256);
        }
        if self.used > 0 {
            let fill = (self.used_bytes / u64::from(self.used)) as u32;
            self.fill_16 = self.fill_16 - self.fill_16 / 16 + fill;
            (self.used, self.used_bytes) = (0, 0);
        }
        let bounded = TURN_BYTES / (self.fill_16 / 16).max(1);
        (self.used_peak * 2).max(LENT_MIN).min(bounded).clamp(1, self.entries)
    }

    /// What the next buffer is lent for.
    fn room(&self) -> Room {
        let fill = self.fill_16 / 16;
        if fill >= LARGE_BYTES && self.lent_with[Room::Whole as usize] < WHOLE_MAX {
            Room::Whole
        } else if fill >= SMALL_BYTES && self.lent_with[Room::Part as usize] < PART_MAX {
            Room::Part
        } else {
            Room::Page
        }
    }

    fn put(&mut self, vacant: &Vacant, buffer_bytes: u32) {
        let bytes = match vacant.room() {
            Room::Whole => buffer_bytes,
            Room::Part => buffer_bytes.min(PART_BYTES),
            Room::Page => {
                let rest = PAGE_BYTES - vacant.data().addr() as u32 % PAGE_BYTES;
                let next = if rest < SMALL_BYTES { SMALL_BYTES } else { 0 };
                buffer_bytes.min(rest + next)
            }
        };
        self.lent_with[vacant.room() as usize] += 1;
        let index = u32::from(self.tail) & (self.entries - 1);
        let base: NonNull<BufRingEntry> = self.region.base().cast();
        // SAFETY: index < entries, so inside the region; the kernel reads this entry only after the
        // tail has moved past it. Address, length and id leave the tail, which shares the first
        // entry, alone.
        let entry = unsafe { base.add(index as usize).as_mut() };
        entry.set_addr(vacant.data() as u64);
        entry.set_len(bytes);
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
