//! A table of sockets: small integers with generations, so that a reused slot can't be mistaken.
//!
//! What it leaves to others: what a slot holds, and when it may be reused.

use crate::Socket;

/// Slots of one backend. A slot is inserted, retired (its handle is stale, its content is still
/// there) and removed (its number may be used again).
pub(crate) struct Slots<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

/// One cache line, for sockets are touched in any order.
#[repr(align(64))]
struct Entry<T> {
    /// Equal to that of the handle while the handle is good.
    generation: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Slots<T> {
        Slots { entries: Vec::new(), free: Vec::new() }
    }

    /// Slots that hold something.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Stores `value` and returns its handle.
    pub(crate) fn insert(&mut self, value: T) -> Socket {
        if let Some(index) = self.free.pop() {
            let entry = &mut self.entries[index as usize];
            debug_assert!(entry.value.is_none());
            entry.value = Some(value);
            return Socket { index, generation: entry.generation };
        }
        let index = self.entries.len() as u32;
        assert!(index < INDEX_END, "more sockets than any descriptor table holds");
        self.entries.push(Entry { generation: 0, value: Some(value) });
        Socket { index, generation: 0 }
    }

    /// What the handle names, unless it is stale.
    #[inline]
    pub(crate) fn get(&self, socket: Socket) -> Option<&T> {
        let entry = self.entries.get(socket.index as usize)?;
        if entry.generation == socket.generation { entry.value.as_ref() } else { None }
    }

    /// What the handle names, unless it is stale.
    #[inline]
    pub(crate) fn get_mut(&mut self, socket: Socket) -> Option<&mut T> {
        let entry = self.entries.get_mut(socket.index as usize)?;
        if entry.generation == socket.generation { entry.value.as_mut() } else { None }
    }

    /// What the slot holds, retired or not.
    #[inline]
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.entries.get_mut(index as usize)?.value.as_mut()
    }

    /// All indices are below this.
    pub(crate) fn end(&self) -> u32 {
        self.entries.len() as u32
    }

    /// The good handle of a slot.
    pub(crate) fn handle(&self, index: u32) -> Socket {
        Socket { index, generation: self.entries[index as usize].generation }
    }

    /// Makes the handle stale. The content stays until [`Slots::remove`].
    pub(crate) fn retire(&mut self, socket: Socket) -> Option<&mut T> {
        let entry = self.entries.get_mut(socket.index as usize)?;
        if entry.generation != socket.generation || entry.value.is_none() {
            return None;
        }
        entry.generation = entry.generation.wrapping_add(1);
        entry.value.as_mut()
    }

    /// Takes the content of a retired slot out; the number may be used again.
    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let value = self.entries.get_mut(index as usize)?.value.take()?;
        self.free.push(index);
        Some(value)
    }

    /// Takes everything out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.free.clear();
        self.entries.drain(..).filter_map(|entry| entry.value)
    }
}

/// Indices are below this: 24 bits, for they share a `user_data` with the kind of operation.
pub(crate) const INDEX_END: u32 = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_handle_names_nothing_even_after_reuse() {
        let mut slots = Slots::new();
        let first = slots.insert("first");
        assert_eq!(slots.get(first), Some(&"first"));
        assert_eq!(slots.retire(first).copied(), Some("first"));
        assert_eq!(slots.get(first), None);
        assert!(slots.retire(first).is_none());
        assert_eq!(slots.at_mut(first.index).copied(), Some("first"));
        assert_eq!(slots.len(), 1);
        assert_eq!(slots.remove(first.index), Some("first"));
        assert_eq!(slots.len(), 0);
        let second = slots.insert("second");
        assert_eq!(second.index, first.index);
        assert_ne!(second.generation, first.generation);
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.handle(second.index), second);
    }

    #[test]
    fn a_retired_slot_is_not_reused_before_it_is_removed() {
        let mut slots = Slots::new();
        let first = slots.insert(1);
        slots.retire(first);
        assert_ne!(slots.insert(2).index, first.index);
        assert_eq!(slots.drain().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_handle_out_of_range_names_nothing() {
        let mut slots: Slots<u8> = Slots::new();
        let nowhere = Socket { index: 7, generation: 0 };
        assert!(slots.get(nowhere).is_none());
        assert!(slots.retire(nowhere).is_none());
        assert!(slots.remove(7).is_none());
    }
}
