//! Memory straight from the kernel: page-aligned, zero, and costing nothing until it is touched.
//!
//! What it leaves to others: what the bytes mean, and that nobody uses them after the region is
//! gone.

use std::io;
use std::ptr::NonNull;

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
