//! How the latest closed streams ended: what a late frame means depends on it (RFC 9113 5.1).
//!
//! What it leaves to others: what to do then.

use alloc::collections::VecDeque;

/// Streams that are remembered.
const STREAMS_KEPT: usize = 64;

/// How a stream ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// Both sides had said everything. More is an error of the connection.
    Complete,
    /// The peer has reset it. More is an error of the stream.
    ResetByPeer,
    /// We have reset it. The peer may not know yet: more is ignored.
    ResetByUs,
}

/// The latest closed streams.
#[derive(Default, Debug)]
pub(super) struct Closed {
    latest: VecDeque<(u32, End)>,
    /// The highest id that was reset by us and is remembered no more.
    forgotten: u32,
}

impl Closed {
    pub(super) fn push(&mut self, id: u32, end: End) {
        if self.latest.len() == STREAMS_KEPT
            && let Some((id, End::ResetByUs)) = self.latest.pop_front()
        {
            self.forgotten = self.forgotten.max(id);
        }
        self.latest.push_back((id, end));
    }

    /// How this stream ended; `None` if it was never open, or that is long ago and nothing of it
    /// can be under way.
    pub(super) fn find(&self, id: u32) -> Option<End> {
        let found = self.latest.iter().rev().find(|(other, _)| *other == id);
        match found {
            Some((_, end)) => Some(*end),
            None if id <= self.forgotten => Some(End::ResetByUs),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_reset_is_ignored_for_ever() {
        let mut closed = Closed::default();
        closed.push(1, End::Complete);
        closed.push(5, End::ResetByUs);
        closed.push(7, End::ResetByPeer);
        assert_eq!(closed.find(1), Some(End::Complete));
        assert_eq!((closed.find(3), closed.find(5)), (None, Some(End::ResetByUs)));
        for id in 0..64 {
            closed.push(11 + 2 * id, End::Complete);
        }
        assert_eq!((closed.find(5), closed.find(7)), (Some(End::ResetByUs), None));
        assert_eq!(closed.latest.len(), STREAMS_KEPT);
    }
}
