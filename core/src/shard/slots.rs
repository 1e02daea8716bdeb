//! A table of slots whose keys carry a generation, so that a reused slot is never mistaken for its
//! former tenant.
//!
//! What it leaves to others: what is kept in it, and how many (the caller bounds that).

use std::fmt;
use std::marker::PhantomData;

/// Names one tenancy of one slot of a [`Slots<T>`].
pub struct Key<T> {
    index: u32,
    /// Counts the tenants of the slot; wraps after 2^24, far beyond what can be outstanding.
    generation: u32,
    kind: PhantomData<fn() -> T>,
}

/// Generations use so many bits, so that a key fits a [`tidegate_io::Token`] beside its kind.
pub const GENERATION_BITS: u32 = 24;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

impl<T> Clone for Key<T> {
    fn clone(&self) -> Key<T> {
        *self
    }
}
impl<T> Copy for Key<T> {}
impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Key<T>) -> bool {
        self.index == other.index && self.generation == other.generation
    }
}
impl<T> Eq for Key<T> {}
impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

impl<T> Key<T> {
    /// The key as the low 56 bits of a token.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.index)
    }

    /// The inverse of [`Key::to_bits`]; higher bits are ignored.
    #[must_use]
    pub fn from_bits(bits: u64) -> Key<T> {
        Key {
            index: bits as u32,
            generation: (bits >> 32) as u32 & GENERATION_MASK,
            kind: PhantomData,
        }
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    tenant: Option<T>,
}

/// The table. A freed slot is reused last in, first out, while its memory is warm.
#[derive(Debug)]
pub struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Moves a tenant in.
    pub fn insert(&mut self, tenant: T) -> Key<T> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, tenant: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        debug_assert!(slot.tenant.is_none());
        slot.tenant = Some(tenant);
        Key { index, generation: slot.generation, kind: PhantomData }
    }

    /// Moves a tenant out; `None` for a stale key.
    pub fn remove(&mut self, key: Key<T>) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let tenant = slot.tenant.take()?;
        slot.generation = (slot.generation + 1) & GENERATION_MASK;
        self.free.push(key.index);
        Some(tenant)
    }

    /// The tenant; `None` for a stale key.
    #[must_use]
    pub fn get(&self, key: Key<T>) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation { slot.tenant.as_ref() } else { None }
    }

    /// The tenant, to change; `None` for a stale key.
    pub fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.tenant.as_mut() } else { None }
    }

    /// How many tenants there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is no tenant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys of all tenants. For rare work over all of them; costs the size of the table.
    #[must_use]
    pub fn keys(&self) -> Vec<Key<T>> {
        let tenants = self.slots.iter().enumerate().filter(|(_, slot)| slot.tenant.is_some());
        tenants
            .map(|(index, slot)| Key {
                index: index as u32,
                generation: slot.generation,
                kind: PhantomData,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slots = Slots::default();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_ne!(first, second);
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&"second"));
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn a_key_survives_the_way_through_a_token() {
        let mut slots = Slots::default();
        for round in 0..70_000 {
            let key = slots.insert(round);
            assert_eq!(Key::from_bits(key.to_bits() | 0xff << 56), key);
            slots.remove(key);
        }
    }
}
