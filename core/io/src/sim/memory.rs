//! Where simulated bytes live: receive buffers of a bounded pool, and the bytes of an output.
//!
//! What it leaves to others: when a buffer is needed, and what happens when there is none.

use std::collections::VecDeque;

use crate::{Buffer, Output};

/// The receive buffers of one simulated thread.
#[derive(Debug)]
pub(super) struct Memory {
    buffer_bytes: usize,
}

impl Memory {
    pub fn new(_buffers_max: u32, buffer_bytes: u32) -> Memory {
        Memory { buffer_bytes: buffer_bytes as usize }
    }

    pub fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    pub fn is_exhausted(&self) -> bool {
        false
    }

    pub fn in_use(&self) -> u64 {
        0
    }

    /// Moves the first `count` bytes of `inbox` to a buffer; none when the pool is exhausted.
    pub fn fill(&mut self, inbox: &mut VecDeque<u8>, count: usize) -> Option<Buffer> {
        let bytes: Vec<u8> = inbox.drain(..count).collect();
        Some(Buffer::copy_from(&bytes))
    }
}

/// A copy of what an output says.
pub(super) fn bytes_of(output: &mut Output) -> Vec<u8> {
    output.tail().clone()
}
