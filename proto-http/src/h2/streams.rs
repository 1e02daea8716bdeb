//! The streams of one connection: a slab of slots, found by key or by id.
//!
//! What it leaves to others: what happens on a stream.

use super::flow::{ReceiveWindow, Window};
use super::state::State;
use alloc::vec::Vec;
use core::time::Duration;

/// When nothing is open, more slots than so many are given back.
const SLOTS_KEPT: usize = 128;

/// Names a stream; stale when the stream is closed. Ids are used once, so a slot that is used again
/// is not mistaken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct StreamKey {
    slot: u32,
    id: u32,
}

impl StreamKey {
    /// The stream id on the wire.
    #[must_use]
    pub fn id(self) -> u32 {
        self.id
    }
}

/// How far the message is that we receive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Receiving {
    /// Its head is due; for a response after any number of interim ones.
    Head,
    /// Data or trailers are due.
    Body,
}

/// What follows the data that is queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ending {
    /// More data.
    #[default]
    Open,
    /// The end.
    End,
    /// Trailers, and the end.
    Trailers,
}

/// A stream that is not closed.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) state: State,
    pub(super) receiving: Receiving,
    pub(super) ending: Ending,
    /// Whether it is in the queue of those that can send.
    pub(super) is_ready: bool,
    pub(super) has_sent_head: bool,
    /// A response to HEAD has a length and no body.
    pub(super) is_head: bool,
    /// A tunnel: CONNECT, or what an extended CONNECT asks for.
    pub(super) is_connect: bool,
    pub(super) is_extended_connect: bool,
    pub(super) interim_responses: u16,
    pub(super) send: Window,
    pub(super) receive: ReceiveWindow,
    /// Bytes that the caller has and that wait to be sent.
    pub(super) queued: u64,
    /// Bytes of the body that are still due, if that is known.
    pub(super) content_left: Option<u64>,
    pub(super) opened: Duration,
    /// The caller's word for it.
    pub(super) tag: u64,
}

impl Stream {
    /// A stream of which no head was read or sent.
    pub(super) fn new(id: u32, state: State, send: Window, receive: ReceiveWindow) -> Stream {
        Stream {
            id,
            state,
            receiving: Receiving::Head,
            ending: Ending::Open,
            is_ready: false,
            has_sent_head: false,
            is_head: false,
            is_connect: false,
            is_extended_connect: false,
            interim_responses: 0,
            send,
            receive,
            queued: 0,
            content_left: None,
            opened: Duration::ZERO,
            tag: 0,
        }
    }
}

#[derive(Debug)]
enum Slot {
    /// The next free one.
    Free(Option<u32>),
    Used(Stream),
}

/// Slots, and the way from an id to its slot.
#[derive(Default, Debug)]
pub(super) struct Streams {
    slots: Vec<Slot>,
    free: Option<u32>,
    count: usize,
    ids: Ids,
}

impl Streams {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn insert(&mut self, stream: Stream) -> StreamKey {
        let id = stream.id;
        let slot = match self.free {
            Some(slot) => {
                let place = &mut self.slots[slot as usize];
                if let Slot::Free(next) = place {
                    self.free = *next;
                }
                *place = Slot::Used(stream);
                slot
            }
            None => {
                self.slots.push(Slot::Used(stream));
                self.slots.len() as u32 - 1
            }
        };
        self.count += 1;
        self.ids.insert(id, slot, self.count);
        StreamKey { slot, id }
    }

    pub(super) fn find(&self, id: u32) -> Option<StreamKey> {
        self.ids.find(id).map(|slot| StreamKey { slot, id })
    }

    pub(super) fn get(&self, key: StreamKey) -> Option<&Stream> {
        match self.slots.get(key.slot as usize) {
            Some(Slot::Used(stream)) if stream.id == key.id => Some(stream),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        match self.slots.get_mut(key.slot as usize) {
            Some(Slot::Used(stream)) if stream.id == key.id => Some(stream),
            _ => None,
        }
    }

    pub(super) fn remove(&mut self, key: StreamKey) -> Option<Stream> {
        self.get(key)?;
        let slot = Slot::Free(self.free);
        let Slot::Used(stream) = core::mem::replace(&mut self.slots[key.slot as usize], slot)
        else {
            return None;
        };
        self.free = Some(key.slot);
        self.count -= 1;
        self.ids.remove(key.id);
        if self.slots.len() > SLOTS_KEPT {
            self.release_memory();
        }
        Some(stream)
    }

    /// Gives the slots back, if nothing is open.
    pub(super) fn release_memory(&mut self) {
        if self.count == 0 {
            *self = Streams::default();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.slots.iter().filter_map(|place| match place {
            Slot::Used(stream) => Some(stream),
            Slot::Free(_) => None,
        })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (StreamKey, &mut Stream)> {
        self.slots.iter_mut().enumerate().filter_map(|(slot, place)| match place {
            Slot::Used(stream) => Some((StreamKey { slot: slot as u32, id: stream.id }, stream)),
            Slot::Free(_) => None,
        })
    }
}

/// From id to slot: a table with open addressing, at most half full. A peer that chooses ids that
/// collide makes a look-up walk over as many places as it may have streams, and no more.
#[derive(Default, Debug)]
struct Ids {
    /// Id and slot; 0 is no stream. A power of two long, or empty.
    places: Vec<(u32, u32)>,
}

impl Ids {
    fn place_of(&self, id: u32) -> usize {
        // Ids go up by two, so neighbours lie side by side.
        (id >> 1) as usize & (self.places.len() - 1)
    }

    fn find(&self, id: u32) -> Option<u32> {
        if self.places.is_empty() {
            return None;
        }
        let mut at = self.place_of(id);
        loop {
            match self.places[at] {
                (0, _) => return None,
                (other, slot) if other == id => return Some(slot),
                _ => at = (at + 1) & (self.places.len() - 1),
            }
        }
    }

    fn insert(&mut self, id: u32, slot: u32, count: usize) {
        if count * 2 > self.places.len() {
            let length = (count * 2).next_power_of_two().max(8);
            let before = core::mem::replace(&mut self.places, alloc::vec![(0, 0); length]);
            for (id, slot) in before.into_iter().filter(|(id, _)| *id != 0) {
                self.put(id, slot);
            }
        }
        self.put(id, slot);
    }

    fn put(&mut self, id: u32, slot: u32) {
        let mut at = self.place_of(id);
        while self.places[at].0 != 0 {
            at = (at + 1) & (self.places.len() - 1);
        }
        self.places[at] = (id, slot);
    }

    /// Removes an id, and moves those back that it had pushed on.
    fn remove(&mut self, id: u32) {
        let mask = self.places.len() - 1;
        let mut hole = self.place_of(id);
        while self.places[hole].0 != id {
            hole = (hole + 1) & mask;
        }
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let (other, slot) = self.places[at];
            if other == 0 {
                break;
            }
            // It may move into the hole unless that would be before its own place.
            let home = self.place_of(other);
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.places[hole] = (other, slot);
                hole = at;
            }
        }
        self.places[hole] = (0, 0);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    pub(crate) fn stream(id: u32) -> Stream {
        Stream::new(id, State::Open, Window::new(0), ReceiveWindow::new(0))
    }

    proptest! {
        /// A map from id to stream.
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((1u32..200, any::<bool>()), 0..400)) {
            let (mut streams, mut model) = (Streams::default(), BTreeMap::new());
            let mut stale = Vec::new();
            for (id, is_insert) in steps {
                // Ids that differ by 64 share a place in a small table.
                let id = if id % 3 == 0 { id * 64 + 1 } else { id * 2 + 1 };
                match (is_insert, model.contains_key(&id)) {
                    (true, false) => {
                        model.insert(id, streams.insert(stream(id)));
                    }
                    (false, true) => {
                        let key = model.remove(&id).unwrap();
                        prop_assert_eq!(streams.remove(key).map(|stream| stream.id), Some(id));
                        stale.push(key);
                    }
                    _ => {}
                }
                prop_assert_eq!(streams.count(), model.len());
                for (id, key) in &model {
                    prop_assert_eq!(streams.find(*id), Some(*key));
                    prop_assert_eq!(streams.get(*key).map(|stream| stream.id), Some(*id));
                }
                for key in stale.iter().filter(|key| !model.contains_key(&key.id)) {
                    prop_assert!(streams.get(*key).is_none() && streams.find(key.id).is_none());
                }
            }
        }
    }
}
