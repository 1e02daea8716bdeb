//! What one socket has in flight, and how its operations are named.
//!
//! What it leaves to others: starting the operations and reading their completions.

use std::os::fd::RawFd;

use socket2::SockAddr;

use crate::slots::INDEX_END;
use crate::{Output, Token};

/// A socket of the ring. An idle one is this and nothing else: no buffer, no heap.
pub(super) struct Slot {
    pub(super) token: Token,
    /// Boxed by nature: what the kernel reads while a send is in flight does not move with the
    /// slot.
    pub(super) output: Option<Output>,
    pub(super) connecting_to: Option<Box<SockAddr>>,
    pub(super) fd: RawFd,
    /// The most that the one receive that is wanted may bring; 0: as many and as much as come.
    pub(super) recv_bytes_max: u32,
    /// The splice that this socket is an end of.
    pub(super) splice: Option<u32>,
    pub(super) flags: Flags,
}

const _: () = assert!(size_of::<Slot>() <= 56);

/// A set of facts about a slot.
///
/// "Incoming" is the multishot accept of a listener or the multishot receive of a connection. Its
/// life: wanted by the owner, armed (in flight), and when the owner wants it no more, cancelling
/// until the last completion arrives; then armed again if it is wanted again by then. A receive
/// that found no buffer is starved: wanted, not armed, and in the list of those who wait for
/// buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Flags(u16);

impl Flags {
    pub(super) const LISTENER: Flags = Flags(1);
    pub(super) const WANTED: Flags = Flags(1 << 1);
    pub(super) const ARMED: Flags = Flags(1 << 2);
    pub(super) const CANCELLING: Flags = Flags(1 << 3);
    pub(super) const STARVED: Flags = Flags(1 << 4);
    /// End of stream or failure was seen: nothing comes in any more.
    pub(super) const ENDED: Flags = Flags(1 << 5);
    pub(super) const CONNECTING: Flags = Flags(1 << 6);
    pub(super) const SENDING: Flags = Flags(1 << 7);
    /// The owner has forgotten the socket; it goes when nothing is in flight any more.
    pub(super) const CLOSING: Flags = Flags(1 << 8);
    /// Nothing was received or sent yet on a socket that we connected: data can't be there.
    pub(super) const POLL_FIRST: Flags = Flags(1 << 9);
    /// A splice waits for it.
    pub(super) const POLLED: Flags = Flags(1 << 10);
    /// What is being sent is the last.
    pub(super) const LAST: Flags = Flags(1 << 11);

    #[inline]
    pub(super) fn has(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    #[inline]
    pub(super) fn set(&mut self, other: Flags) {
        self.0 |= other.0;
    }

    #[inline]
    pub(super) fn clear(&mut self, other: Flags) {
        self.0 &= !other.0;
    }

    #[inline]
    pub(super) const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether the kernel works on anything of this socket.
    #[inline]
    pub(super) fn in_flight(self) -> bool {
        self.has(Flags::ARMED.with(Flags::CONNECTING).with(Flags::SENDING).with(Flags::POLLED))
    }
}

/// The kind of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Op {
    Incoming = 1,
    Connect = 2,
    Send = 3,
    /// Completes only when it failed.
    Cancel = 4,
    Wake = 5,
    CancelAll = 6,
    /// Waits for a splice; it names that and not a slot.
    Poll = 7,
}

/// The name of an operation: kind, slot, and the slot's generation when the operation started.
///
/// The slot alone would do, for it is not reused before its operations have completed; the
/// generation lets debug builds check just that.
pub(super) fn user_data(op: Op, index: u32, generation: u32) -> u64 {
    debug_assert!(index < INDEX_END);
    (op as u64) << 56 | u64::from(index) << 32 | u64::from(generation)
}

/// The reverse of [`user_data`].
#[inline]
pub(super) fn parse_user_data(data: u64) -> (Option<Op>, u32, u32) {
    let op = match data >> 56 {
        1 => Some(Op::Incoming),
        2 => Some(Op::Connect),
        3 => Some(Op::Send),
        4 => Some(Op::Cancel),
        5 => Some(Op::Wake),
        6 => Some(Op::CancelAll),
        7 => Some(Op::Poll),
        _ => None,
    };
    (op, (data >> 32) as u32 & (INDEX_END - 1), data as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_round_trip() {
        let some = [Op::Incoming, Op::Connect, Op::Send, Op::Cancel, Op::Wake, Op::Poll];
        for op in some {
            for index in [0, 1, 77, INDEX_END - 1] {
                for generation in [0, 1, u32::MAX] {
                    let data = user_data(op, index, generation);
                    assert_eq!(parse_user_data(data), (Some(op), index, generation));
                }
            }
        }
        assert_eq!(parse_user_data(0).0, None);
        assert_eq!(parse_user_data(u64::MAX).0, None);
    }
}
