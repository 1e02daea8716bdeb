//! Where simulated bytes live: the pool of receive buffers that the other backends use too, so that
//! a leak shows here as it would there.
//!
//! What it leaves to others: when a buffer is needed, and what happens when there is none.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::output::OutputPool;
use crate::pool::{Pool, Room};
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

    pub fn trim(&mut self) -> bool {
        self.pool.trim() | self.outputs.trim()
    }

    pub fn output(&self) -> Output {
        self.outputs.take()
    }

    /// Moves the first `count` bytes of `inbox` to a buffer; none when the pool is exhausted.
    pub fn fill(&mut self, inbox: &mut VecDeque<u8>, count: usize) -> Option<Buffer> {
        assert!(count <= inbox.len() && count <= self.buffer_bytes());
        let vacant = self.pool.take(Room::Whole)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_move_from_the_inbox_to_buffers_until_there_are_none() {
        let mut memory = Memory::new(16, 1024);
        let mut inbox: VecDeque<u8> = (0..200).collect();
        inbox.rotate_left(100); // not contiguous any more
        let held: Vec<Buffer> = (0..16).map(|_| memory.fill(&mut inbox, 10).unwrap()).collect();
        assert!(memory.is_exhausted());
        assert!(memory.fill(&mut inbox, 10).is_none());
        assert_eq!((inbox.len(), memory.in_use()), (40, 16));
        let moved: Vec<u8> = held.iter().flat_map(|buffer| buffer.to_vec()).collect();
        assert_eq!(moved, (100..200).chain(0..60).collect::<Vec<u8>>());
        drop(held);
        assert!(!memory.is_exhausted());
        assert_eq!(memory.in_use(), 0);
    }

    #[test]
    fn a_copy_of_an_output_has_its_pieces_in_order() {
        let mut output = Memory::new(16, 1024).output();
        output.tail().extend_from_slice(b"head");
        output.push(Buffer::copy_from(&[b'x'; 4000]));
        output.tail().extend_from_slice(b"tail");
        assert_eq!(bytes_of(&output), [&b"head"[..], &[b'x'; 4000], b"tail"].concat());
    }
}
