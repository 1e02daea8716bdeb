//! Counted handles to parts of receive buffers.
//!
//! What it leaves to others: where the memory comes from (the pool), filling it (the kernel,
//! through a backend) and reading it.

use std::alloc::Layout;
use std::cell::Cell;
use std::ops::{Deref, Range};
use std::ptr::NonNull;

use crate::pool::{Core, Room};

/// Bytes before the data of every buffer: its header, and nothing else in that cache line, so that
/// counting references does not touch a line that the kernel copies into.
pub(crate) const HEADER_BYTES: usize = 64;

const _: () = assert!(std::mem::size_of::<Header>() <= HEADER_BYTES);

/// What stands before the data of a buffer. Handles point here.
#[repr(C)]
pub(crate) struct Header {
    /// Where the buffer goes when the last handle is dropped; `None`: to the heap, whence it came.
    pub(crate) home: Option<NonNull<Core>>,
    /// Handles to this buffer; 0 while it is free or with the kernel.
    pub(crate) references: Cell<u32>,
    /// Its number in the pool.
    pub(crate) id: u32,
    /// Bytes of data that fit.
    pub(crate) capacity: u32,
    /// What it was taken for.
    pub(crate) room: Room,
}

/// A handle to received bytes: a part of one buffer of the pool. Cloning and slicing share the
/// buffer; when the last handle is dropped the buffer goes back to the pool. Not `Send`.
///
/// A buffer may outlive the backend that filled it. While a handle exists the whole buffer is
/// occupied, however short the part: whoever must wait for a peer's next bytes copies a short
/// remainder, or slow peers use up the pool.
pub struct Buffer {
    // Invariant: the header is alive and counts this handle; start + length <= capacity, and those
    // bytes are initialised and written by nobody while a handle exists.
    header: NonNull<Header>,
    start: u32,
    length: u32,
}

impl Buffer {
    /// A buffer of its own on the heap, for tests and for the simulator.
    ///
    /// # Panics
    ///
    /// When `bytes` is longer than 4 GiB.
    #[must_use]
    pub fn copy_from(bytes: &[u8]) -> Buffer {
        assert!(u32::try_from(bytes.len()).is_ok(), "a buffer holds less than 4 GiB");
        let length = bytes.len() as u32;
        let layout = heap_layout(length);
        // SAFETY: the layout is not empty, for it has room for the header.
        let base = unsafe { std::alloc::alloc(layout) };
        let Some(base) = NonNull::new(base) else { std::alloc::handle_alloc_error(layout) };
        let header = base.cast::<Header>();
        // SAFETY: freshly allocated with room for the header and `length` bytes after HEADER_BYTES.
        unsafe {
            header.write(Header {
                home: None,
                references: Cell::new(1),
                id: u32::MAX,
                capacity: length,
                room: Room::Whole,
            });
            base.add(HEADER_BYTES).copy_from_nonoverlapping(
                NonNull::new_unchecked(bytes.as_ptr().cast_mut()),
                bytes.len(),
            );
        }
        Buffer { header, start: 0, length }
    }

    /// The first handle to the first `length` bytes of a pool's buffer.
    ///
    /// # Safety
    ///
    /// `header` is a live pool buffer with no handles (references 0) that is not free and not with
    /// the kernel, and its first `length` bytes are initialised.
    pub(crate) unsafe fn first(header: NonNull<Header>, length: u32) -> Buffer {
        // SAFETY: the caller says that the header is alive.
        let head = unsafe { header.as_ref() };
        assert!(length <= head.capacity);
        debug_assert_eq!(head.references.get(), 0);
        head.references.set(1);
        Buffer { header, start: 0, length }
    }

    /// The bytes, to be changed; `None` while another handle to the buffer exists.
    #[must_use]
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        if self.header().references.get() > 1 {
            return None;
        }
        // SAFETY: start + length is inside the buffer, which is alive and initialised (invariant of
        // the field). This is its only handle, and it is borrowed for as long as the slice is.
        unsafe {
            let data = self.header.as_ptr().cast::<u8>().add(HEADER_BYTES);
            let start = data.add(self.start as usize);
            Some(std::slice::from_raw_parts_mut(start, self.length as usize))
        }
    }

    /// The same buffer, narrowed to `range` (relative to this handle).
    ///
    /// # Panics
    ///
    /// When `range` is not inside this handle.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Buffer {
        assert!(range.start <= range.end && range.end <= self.length as usize);
        let mut part = self.clone();
        part.start += range.start as u32;
        part.length = (range.end - range.start) as u32;
        part
    }

    /// Whether more than half of its pool is in use: then it is to be given back soon.
    #[inline]
    pub(crate) fn is_scarce(&self) -> bool {
        // SAFETY: a pool's core lives until its last buffer has come back; this one has not.
        self.header().home.is_some_and(|home| unsafe { home.as_ref() }.is_scarce())
    }

    fn header(&self) -> &Header {
        // SAFETY: the header is alive as long as a handle exists (invariant of the field).
        unsafe { self.header.as_ref() }
    }
}

impl Clone for Buffer {
    #[inline]
    fn clone(&self) -> Buffer {
        let references = &self.header().references;
        assert!(references.get() < u32::MAX);
        references.set(references.get() + 1);
        Buffer { header: self.header, start: self.start, length: self.length }
    }
}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        let references = &self.header().references;
        references.set(references.get() - 1);
        if references.get() == 0 {
            release(self.header);
        }
    }
}

/// Sends a buffer without handles home.
fn release(header: NonNull<Header>) {
    // SAFETY: the last handle is being dropped, so the header is still alive and nobody else's.
    let head = unsafe { header.as_ref() };
    match head.home {
        // SAFETY: a pool's core lives until its last buffer has come back; this one had not.
        Some(home) => unsafe { Core::take_back(home, header) },
        None => {
            let layout = heap_layout(head.capacity);
            // SAFETY: a buffer without a home was allocated by `copy_from` with this layout.
            unsafe { std::alloc::dealloc(header.as_ptr().cast(), layout) };
        }
    }
}

fn heap_layout(capacity: u32) -> Layout {
    let bytes = HEADER_BYTES + capacity as usize;
    // SAFETY: 64 is a power of two, and 4 GiB and a header is far from overflowing a 64-bit isize.
    unsafe { Layout::from_size_align_unchecked(bytes, 64) }
}

impl Deref for Buffer {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: start + length is inside the buffer, which is alive, initialised and not written
        // to while this handle exists (invariant of the field).
        unsafe {
            let data = self.header.as_ptr().cast::<u8>().add(HEADER_BYTES);
            std::slice::from_raw_parts(data.add(self.start as usize), self.length as usize)
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_small() {
        assert_eq!(std::mem::size_of::<Buffer>(), 16);
        assert_eq!(std::mem::size_of::<Option<Buffer>>(), 16);
    }

    #[test]
    fn slices_share_the_bytes_and_outlive_the_first_handle() {
        let whole = Buffer::copy_from(b"hello, world");
        let world = whole.slice(7..12);
        let or = world.slice(1..3);
        assert_eq!(whole.as_ptr().wrapping_add(8), or.as_ptr());
        drop(whole);
        drop(world);
        assert_eq!(&*or, b"or");
    }

    #[test]
    fn bytes_are_changed_by_the_only_handle() {
        let mut whole = Buffer::copy_from(b"hello, world");
        let mut part = whole.slice(7..12);
        assert!(part.bytes_mut().is_none() && whole.bytes_mut().is_none());
        drop(whole);
        part.bytes_mut().unwrap().make_ascii_uppercase();
        assert_eq!(&*part, b"WORLD");
    }

    #[test]
    fn empty_buffers_and_empty_slices_are_fine() {
        assert!(Buffer::copy_from(b"").is_empty());
        let one = Buffer::copy_from(b"x");
        assert!(one.slice(1..1).is_empty());
        assert!(one.slice(0..0).slice(0..0).is_empty());
    }

    #[test]
    #[should_panic(expected = "assertion")]
    fn a_slice_past_the_handle_is_refused_although_the_buffer_is_longer() {
        let part = Buffer::copy_from(b"abcdef").slice(0..3);
        let _ = part.slice(0..4);
    }

    #[test]
    #[should_panic(expected = "assertion")]
    #[allow(clippy::reversed_empty_ranges)]
    fn a_reversed_slice_is_refused() {
        let _ = Buffer::copy_from(b"abcdef").slice(3..2);
    }
}
