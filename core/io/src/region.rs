//! Memory straight from the kernel: page-aligned, zero, and costing nothing until it is touched.
//!
//! What it leaves to others: what the bytes mean, and that nobody uses them after the region is
//! gone.

use std::io;
use std::ops::Range;
use std::ptr::NonNull;

/// The least page of this kind of processor; where pages are larger the kernel refuses to discard a
/// part of one, and the memory stays.
const PAGE_BYTES: usize = 4096;

/// An anonymous private mapping. Pages become resident when they are first touched.
pub(crate) struct Region {
    base: NonNull<u8>,
    bytes: usize,
}

impl Region {
    /// Reserves `bytes` (rounded up to whole pages by the kernel) of zeroed, readable, writable
    /// memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM` when the address space (`RLIMIT_AS`, `vm.overcommit_memory` 2) has no room.
    pub(crate) fn reserve(bytes: usize) -> io::Result<Region> {
        assert!(bytes > 0);
        let base = map(bytes)?;
        Ok(Region { base, bytes })
    }

    /// The first byte.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Gives back the memory of whole pages within a range: they are zero when touched again. The
    /// caller has no use for what is there.
    pub(crate) fn discard(&self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.bytes);
        let start = range.start.next_multiple_of(PAGE_BYTES);
        let end = range.end / PAGE_BYTES * PAGE_BYTES;
        if start < end {
            // SAFETY: inside the region, says the assertion.
            discard(unsafe { self.base.add(start) }, end - start);
        }
    }

    /// Gives the memory up without unmapping it: for when the kernel might still write to it.
    pub(crate) fn leak(self) {
        std::mem::forget(self);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        unmap(self.base, self.bytes);
    }
}

#[cfg(not(miri))]
fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice aliases nothing.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}

#[cfg(not(miri))]
fn unmap(base: NonNull<u8>, bytes: usize) {
    // SAFETY: base and bytes are those of a mapping made by `map`, and its owner is being dropped.
    unsafe { libc::munmap(base.as_ptr().cast(), bytes) };
}

#[cfg(not(miri))]
fn discard(base: NonNull<u8>, bytes: usize) {
    // SAFETY: whole pages of a mapping made by `map`: private and anonymous, so they read as zero
    // from now on, which is a value of all that is kept there.
    unsafe { libc::madvise(base.as_ptr().cast(), bytes, libc::MADV_DONTNEED) };
}

#[cfg(miri)]
fn discard(base: NonNull<u8>, bytes: usize) {
    // SAFETY: inside the region, says `Region::discard`.
    unsafe { base.write_bytes(0, bytes) };
}

// Miri has an allocator but hardly an mmap; pages of the heap stand in.
#[cfg(miri)]
fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    let layout = std::alloc::Layout::from_size_align(bytes, 4096).map_err(io::Error::other)?;
    // SAFETY: the layout is not empty: `reserve` asserts it.
    let base = unsafe { std::alloc::alloc_zeroed(layout) };
    NonNull::new(base).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}

#[cfg(miri)]
fn unmap(base: NonNull<u8>, bytes: usize) {
    if let Ok(layout) = std::alloc::Layout::from_size_align(bytes, 4096) {
        // SAFETY: base came from `alloc_zeroed` with this layout, in `map`.
        unsafe { std::alloc::dealloc(base.as_ptr(), layout) };
    }
}
