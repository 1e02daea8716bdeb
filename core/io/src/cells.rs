//! Counting cells in memory straight from the kernel.
//!
//! What it leaves to others: what a cell counts.

use crate::region::Region;
use std::alloc::{Layout, handle_alloc_error};
use std::ops::Deref;
use std::sync::atomic::AtomicU64;

/// `COUNT` cells (at least one), zero at first. A page of them that nobody writes costs no memory,
/// whatever the allocator of the program does with pieces that it gets back.
pub struct Cells<const COUNT: usize>(Region);

// SAFETY: the cells are atomic, and the region is this value's own until it is dropped.
unsafe impl<const COUNT: usize> Send for Cells<COUNT> {}
// SAFETY: the same.
unsafe impl<const COUNT: usize> Sync for Cells<COUNT> {}

impl<const COUNT: usize> Cells<COUNT> {
    /// Makes them. Where the address space has no room the process ends, as it does where any
    /// allocation fails.
    #[must_use]
    pub fn zeroed() -> Cells<COUNT> {
        let layout = Layout::new::<[AtomicU64; COUNT]>();
        Cells(Region::reserve(layout.size()).unwrap_or_else(|_| handle_alloc_error(layout)))
    }
}

impl<const COUNT: usize> Deref for Cells<COUNT> {
    type Target = [AtomicU64; COUNT];

    fn deref(&self) -> &[AtomicU64; COUNT] {
        // SAFETY: the region has room for them, is aligned to a page, and was zero, which is a
        // value of atomic numbers; nothing else writes to it.
        unsafe { self.0.base().cast().as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn they_are_zero_and_are_shared() {
        let cells = Cells::<{ 1 << 12 }>::zeroed();
        assert!(cells.iter().all(|cell| cell.load(Ordering::Relaxed) == 0));
        std::thread::scope(|scope| {
            scope.spawn(|| cells[4095].store(7, Ordering::Relaxed));
        });
        assert_eq!(cells[4095].load(Ordering::Relaxed), 7);
        assert_eq!(cells[4094].load(Ordering::Relaxed), 0);
    }
}
