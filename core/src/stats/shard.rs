//! One shard's cells.
//!
//! A cell is written by one thread only, so adding is a relaxed load and a relaxed store: no locked
//! instruction, no shared cache line. Another thread may read it at any time and sees some recent
//! value.
//!
//! Cells stand in chunks of [`CHUNK_CELLS`]. A chunk is made by the registry, zeroed by the kernel,
//! when the first scope in it is made; it never moves and is never freed, and a page of it that
//! nobody writes costs no memory.
//!
//! What it leaves to others: names and sums (`registry`), buckets (`histogram`).

use super::{Kind, Scope, StatId, codes, histogram};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_io::Cells;

/// Cells of one chunk: 512 KiB of address space.
pub(super) const CHUNK_CELLS: u32 = 1 << 16;

/// How many chunks there can be: room for about 57,000 clusters.
pub(super) const CHUNKS_MAX: u32 = 4096;

const _: () = assert!(CHUNK_CELLS.is_power_of_two());
const _: () = assert!((CHUNK_CELLS as u64) * (CHUNKS_MAX as u64) <= u32::MAX as u64 + 1);

type Chunk = Cells<{ CHUNK_CELLS as usize }>;

/// Cells that one thread writes (a shard; in one case the control thread) and the admin thread
/// reads.
pub struct ShardStats {
    chunks: Box<[OnceLock<Chunk>]>,
}

/// A stat within a scope.
pub trait Stat: Copy {
    /// Its place in the scope's table.
    fn index(self) -> u32;

    /// How many cells the blocks of the stats before it have.
    fn block_offset(self) -> u32;

    /// What it is.
    fn kind(self) -> super::Kind;
}

impl ShardStats {
    pub(super) fn new() -> ShardStats {
        ShardStats { chunks: (0..CHUNKS_MAX).map(|_| OnceLock::new()).collect() }
    }

    /// Makes the chunk if it is not there yet. `chunk` is below [`CHUNKS_MAX`].
    pub(super) fn ensure_chunk(&self, chunk: u32) {
        self.chunks[chunk as usize].get_or_init(Cells::zeroed);
    }

    /// The cell, unless its chunk was never made.
    fn cell(&self, id: StatId) -> Option<&AtomicU64> {
        let chunk = self.chunks.get((id.0 / CHUNK_CELLS) as usize)?.get()?;
        Some(&chunk[(id.0 % CHUNK_CELLS) as usize])
    }

    /// The cells of a histogram or of codes. A block never crosses the end of a chunk.
    pub(super) fn block<const CELLS: usize>(&self, id: StatId) -> Option<&[AtomicU64; CELLS]> {
        let chunk = self.chunks.get((id.0 / CHUNK_CELLS) as usize)?.get()?;
        chunk[(id.0 % CHUNK_CELLS) as usize..].first_chunk()
    }

    /// The value of a cell now; 0 for one that was never made.
    pub(super) fn load(&self, id: StatId) -> u64 {
        self.cell(id).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Adds to a counter or a gauge.
    #[inline]
    pub fn add(&self, scope: Scope, stat: impl Stat, amount: u64) {
        match stat.kind() {
            Kind::Gauge => self.update(scope, stat, |cell| gauge::add(cell, amount)),
            _ => self.update(scope, stat, |cell| cell.wrapping_add(amount)),
        }
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self, scope: Scope, stat: impl Stat) {
        self.add(scope, stat, 1);
    }

    /// Takes one off a gauge. A gauge may be added to on one shard and taken off on another: the
    /// sum is right.
    #[inline]
    pub fn dec(&self, scope: Scope, stat: impl Stat) {
        self.update(scope, stat, |cell| gauge::add(cell, u64::MAX));
    }

    /// Sets a gauge's share of this shard, or a counter that is kept elsewhere.
    #[inline]
    pub fn set(&self, scope: Scope, stat: impl Stat, value: u64) {
        match stat.kind() {
            Kind::Gauge => self.update(scope, stat, |_| gauge::add(0, value)),
            _ => self.update(scope, stat, |_| value),
        }
    }

    /// Records a value (milliseconds) in a histogram; a value above [`histogram::VALUE_MAX`] falls
    /// in the last bucket, and counts in full in the sum.
    #[inline]
    pub fn record(&self, scope: Scope, stat: impl Stat, value: u64) {
        let cells = self.block::<{ histogram::CELLS }>(scope.block(stat));
        debug_assert!(cells.is_some(), "a scope of another registry");
        if let Some(cells) = cells {
            for (index, amount) in [(histogram::cell_of(value), 1), (histogram::SUM, value)] {
                bump(&cells[index], |before| before.wrapping_add(amount));
            }
        }
        self.update(scope, stat, |uses| uses.wrapping_add(1));
    }

    /// Counts a response code.
    #[inline]
    pub fn charge(&self, scope: Scope, stat: impl Stat, code: u16) {
        let cells = self.block::<{ codes::CELLS }>(scope.block(stat));
        debug_assert!(cells.is_some(), "a scope of another registry");
        if let Some(cells) = cells {
            bump(&cells[codes::cell_of(code)], |before| before.wrapping_add(1));
        }
        self.update(scope, stat, |uses| uses.wrapping_add(1));
    }

    #[inline]
    fn update(&self, scope: Scope, stat: impl Stat, change: impl FnOnce(u64) -> u64) {
        let cell = self.cell(scope.cell(stat));
        debug_assert!(cell.is_some(), "a scope of another registry");
        if let Some(cell) = cell {
            bump(cell, change);
        }
    }
}

/// What the cell of a gauge holds: twice its value, and in the lowest bit that it was written to.
pub(super) mod gauge {
    /// The cell with `amount` more, which may stand for a negative number.
    #[inline]
    pub fn add(cell: u64, amount: u64) -> u64 {
        cell.wrapping_add(amount << 1) | 1
    }

    /// The value of a cell, which is negative where more was taken off than added.
    pub fn value(cell: u64) -> u64 {
        (cell.cast_signed() >> 1).cast_unsigned()
    }
}

/// Only the owning thread calls this, so nothing is lost between the load and the store.
#[inline]
fn bump(cell: &AtomicU64, change: impl FnOnce(u64) -> u64) {
    cell.store(change(cell.load(Ordering::Relaxed)), Ordering::Relaxed);
}

impl std::fmt::Debug for ShardStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let chunks = self.chunks.iter().filter(|chunk| chunk.get().is_some()).count();
        f.debug_struct("ShardStats").field("chunks", &chunks).finish_non_exhaustive()
    }
}
