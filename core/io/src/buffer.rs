//! Receive buffers: a pool that belongs to one backend, and counted handles to parts of its buffers.
//!
//! What it leaves to others: filling the buffers (the kernel, through a backend) and reading them.

use std::ops::{Deref, Range};

/// A handle to received bytes: a part of one buffer of the pool. Cloning and slicing share the buffer;
/// when the last handle is dropped the buffer goes back to the pool. Not `Send`.
#[derive(Clone)]
pub struct Buffer {
    // Filled in by the I/O implementation: pool handle, buffer id, start and length.
    bytes: std::rc::Rc<[u8]>,
    start: u32,
    length: u32,
}

impl Buffer {
    /// Bytes of the heap, for tests and for the simulator.
    #[must_use]
    pub fn copy_from(bytes: &[u8]) -> Buffer {
        Buffer { bytes: bytes.into(), start: 0, length: bytes.len() as u32 }
    }

    /// The same buffer, narrowed to `range` (relative to this handle).
    ///
    /// # Panics
    ///
    /// When `range` is not inside this handle.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Buffer {
        assert!(range.start <= range.end && range.end <= self.length as usize);
        Buffer {
            bytes: self.bytes.clone(),
            start: self.start + range.start as u32,
            length: (range.end - range.start) as u32,
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start as usize..(self.start + self.length) as usize]
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.len())
    }
}
