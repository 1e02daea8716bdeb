//! Where simulated bytes live: the pool of receive buffers that the other backends use too, so that
//! a leak shows here as it would there.
//!
//! What it leaves to others: when a buffer is needed, and what happens when there is none.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::output::OutputPool;
use crate::pool::Pool;
use crate::{Buffer, Output};

/// The buffers of one simulated thread.
pub(super) struct Memory {
    pool: Pool,
    outputs: Rc<OutputPool>,
}

impl Memory {
    /// Panics when there is no address space: a simulation without memory proves nothing.
    #[allow(clippy::expect_used)]
    pub fn new(buffers_max: u32, buffer_bytes: u32) -> Memory {
        let pool = Pool::new(buffer_bytes, buffers_max).expect("address space for buffers");
        Memory { pool, outputs: Rc::default() }
    }

    pub fn is_exhausted(&self) -> bool {
        self.pool.available() == 0
    }

    pub fn in_use(&self) -> u64 {
        u64::from(self.pool.in_use())
    }

    /// Bytes that fit into one buffer.
    pub fn buffer_bytes(&self) -> usize {
        self.pool.buffer_bytes() as usize
    }

    pub fn output(&self) -> Output {
        self.outputs.take()
    }

    /// Moves the first `count` bytes of `inbox` to a buffer; none when the pool is exhausted.
    pub fn fill(&mut self, inbox: &mut VecDeque<u8>, count: usize) -> Option<Buffer> {
        assert!(count <= inbox.len() && count <= self.buffer_bytes());
        let vacant = self.pool.take()?;
        let bytes = &inbox.make_contiguous()[..count];
        // SAFETY: the buffer has room for `count` bytes, as asserted; it is vacant, so nobody reads
        // or writes it; and it is not in the inbox.
        unsafe { vacant.data().copy_from_nonoverlapping(bytes.as_ptr(), count) };
        inbox.drain(..count);
        Some(self.pool.received(vacant, count as u32))
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({} buffers in use)", self.in_use())
    }
}

/// A copy of what an output says.
pub(super) fn bytes_of(output: &Output) -> Vec<u8> {
    output.pieces().collect::<Vec<_>>().concat()
}
