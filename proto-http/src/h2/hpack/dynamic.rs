//! A dynamic table (RFC 7541 2.3.2, 4): entries in the order of their insertion, their bytes one
//! after the other in one ring, so that nothing is moved or allocated when an entry comes or goes.
//!
//! What it leaves to others: finding an entry by what it holds (`encode`).

use super::LineName;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// What an entry counts besides its bytes (RFC 7541 4.1).
pub(super) const ENTRY_OVERHEAD: usize = 32;

/// The ring begins with so many bytes and doubles while the table is being filled.
const RING_BYTES_MIN: usize = 256;

/// What is known of an entry apart from its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// Where the name begins in the ring; the value follows it.
    start: u32,
    name_length: u32,
    value_length: u32,
    pub(super) kind: LineName,
    pub(super) has_valid_value: bool,
}

/// A dynamic table.
///
/// `size <= max_size`; the bytes of all entries, `size - 32 * entries`, fit into the ring.
#[derive(Debug)]
pub(super) struct Table {
    /// A power of two long, or empty.
    ring: Vec<u8>,
    /// Where the next entry's bytes begin.
    head: usize,
    /// Oldest first.
    entries: VecDeque<Entry>,
    size: usize,
    max_size: usize,
    /// Entries that were ever inserted.
    inserted: u32,
}

impl Table {
    pub(super) fn new(max_size: usize) -> Table {
        Table {
            ring: Vec::new(),
            head: 0,
            entries: VecDeque::new(),
            size: 0,
            max_size,
            inserted: 0,
        }
    }

    pub(super) fn max_size(&self) -> usize {
        self.max_size
    }

    pub(super) fn set_max_size(&mut self, max_size: usize) {
        self.max_size = max_size;
        self.evict_to(max_size);
        if self.entries.is_empty() {
            self.ring = Vec::new();
        }
    }

    /// The entry with this index, of which the newest has 0.
    pub(super) fn get(&self, index: usize) -> Option<&Entry> {
        let at = self.entries.len().checked_sub(index + 1)?;
        self.entries.get(at)
    }

    /// Entries that were ever inserted: the newest entry's serial number.
    pub(super) fn inserted(&self) -> u32 {
        self.inserted
    }

    /// The index of the entry with this serial number, if it is still there.
    pub(super) fn index_of(&self, serial: u32) -> Option<usize> {
        let index = self.inserted.wrapping_sub(serial) as usize;
        (index < self.entries.len()).then_some(index)
    }

    /// An entry's name, in two pieces, of which the second is usually empty.
    pub(super) fn name(&self, entry: &Entry) -> (&[u8], &[u8]) {
        self.pieces(entry.start as usize, entry.name_length as usize)
    }

    /// An entry's value, in two pieces.
    pub(super) fn value(&self, entry: &Entry) -> (&[u8], &[u8]) {
        let start = entry.start as usize + entry.name_length as usize;
        self.pieces(start, entry.value_length as usize)
    }

    fn pieces(&self, start: usize, length: usize) -> (&[u8], &[u8]) {
        if length == 0 {
            return (&[], &[]);
        }
        let start = start & (self.ring.len() - 1);
        let first = length.min(self.ring.len() - start);
        (&self.ring[start..start + first], &self.ring[..length - first])
    }

    /// RFC 7541 4.4: makes room, and inserts if the entry fits at all.
    pub(super) fn insert(
        &mut self,
        name: &[u8],
        value: &[u8],
        kind: LineName,
        has_valid_value: bool,
    ) -> bool {
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        self.evict_to(self.max_size.saturating_sub(size));
        if size > self.max_size {
            return false;
        }
        self.make_room(name.len() + value.len());
        self.entries.push_back(Entry {
            start: self.head as u32,
            name_length: name.len() as u32,
            value_length: value.len() as u32,
            kind,
            has_valid_value,
        });
        self.write(name);
        self.write(value);
        self.size += size;
        self.inserted = self.inserted.wrapping_add(1);
        true
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.size -= (oldest.name_length + oldest.value_length) as usize + ENTRY_OVERHEAD;
        }
    }

    fn used(&self) -> usize {
        self.size - self.entries.len() * ENTRY_OVERHEAD
    }

    /// Doubles the ring until so many bytes more fit.
    fn make_room(&mut self, bytes: usize) {
        let needed = self.used() + bytes;
        if needed <= self.ring.len() {
            return;
        }
        let length = needed.next_power_of_two().max(RING_BYTES_MIN);
        let mut ring = Vec::with_capacity(length);
        let mut entries = core::mem::take(&mut self.entries);
        for entry in &mut entries {
            let start = ring.len() as u32;
            for (first, second) in [self.name(entry), self.value(entry)] {
                ring.extend_from_slice(first);
                ring.extend_from_slice(second);
            }
            entry.start = start;
        }
        self.entries = entries;
        self.head = ring.len();
        ring.resize(length, 0);
        self.ring = ring;
    }

    fn write(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let first = bytes.len().min(self.ring.len() - self.head);
        self.ring[self.head..self.head + first].copy_from_slice(&bytes[..first]);
        self.ring[..bytes.len() - first].copy_from_slice(&bytes[first..]);
        self.head = (self.head + bytes.len()) & (self.ring.len() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Name;
    use proptest::prelude::*;

    const KIND: LineName = LineName::Field(Name::Other);

    fn join((first, second): (&[u8], &[u8])) -> Vec<u8> {
        [first, second].concat()
    }

    #[test]
    fn an_entry_that_does_not_fit_empties_the_table() {
        let mut table = Table::new(100);
        assert!(table.insert(b"a", b"b", KIND, true));
        let serial = table.inserted();
        assert_eq!(table.index_of(serial), Some(0));
        assert!(table.insert(b"c", b"d", KIND, true));
        assert_eq!(table.index_of(serial), Some(1));
        assert_eq!(table.index_of(serial + 2), None);
        assert!(!table.insert(&[b'x'; 69], b"", KIND, true));
        assert_eq!((table.get(0), table.size), (None, 0));
        assert_eq!(table.index_of(serial), None);
    }

    proptest! {
        /// The table is the RFC's: a list of pairs from which the oldest go.
        #[test]
        fn it_is_a_list_with_a_bound(
            steps in prop::collection::vec((0usize..300, 0usize..300, 0usize..20), 0..200)
        ) {
            let mut table = Table::new(1000);
            let mut model: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            let mut max_size = 1000;
            for (count, (name_length, value_length, resize)) in steps.into_iter().enumerate() {
                if resize == 0 {
                    max_size = name_length * 4;
                    table.set_max_size(max_size);
                } else {
                    let name = alloc::vec![count as u8; name_length];
                    let value = alloc::vec![!count as u8; value_length];
                    table.insert(&name, &value, KIND, true);
                    model.insert(0, (name, value));
                }
                let size = |model: &[(Vec<u8>, Vec<u8>)]| -> usize {
                    model.iter().map(|(n, v)| n.len() + v.len() + 32).sum()
                };
                while size(&model) > max_size {
                    model.pop();
                }
                prop_assert_eq!(table.size, size(&model));
                prop_assert!(table.ring.len() <= 2048, "no size was above 1196");
                for (index, (name, value)) in model.iter().enumerate() {
                    let entry = table.get(index).unwrap();
                    prop_assert_eq!(&join(table.name(entry)), name);
                    prop_assert_eq!(&join(table.value(entry)), value);
                }
                prop_assert!(table.get(model.len()).is_none());
            }
        }
    }
}
