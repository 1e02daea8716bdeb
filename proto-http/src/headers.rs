//! Field lines as spans in one arena: a head owns its bytes, in one allocation that is reused.
//!
//! What it leaves to others: parsing (h1, h2) and meaning.

use crate::Name;
use alloc::vec::Vec;

/// A range of bytes in an arena. `start + length` never exceeds the arena's length.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Number of bytes.
    pub length: u32,
}

/// One field line. The name is in lower case in the arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// The name's number, to look fields up without comparing bytes.
    pub id: Name,
    /// The name, in lower case.
    pub name: Span,
    /// The value, without surrounding white space.
    pub value: Span,
}

/// Field lines in order, with the arena that holds their bytes (and, in a head, the start line's).
///
/// Removing a field only forgets it; adding one appends to the arena.
#[derive(Clone, Default, Debug)]
pub struct Headers {
    pub(crate) arena: Vec<u8>,
    pub(crate) fields: Vec<Field>,
}

impl Headers {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.fields.clear();
    }

    /// The bytes of a span.
    #[must_use]
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.arena[span.start as usize..(span.start + span.length) as usize]
    }

    /// Name and value of each field, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|f| (self.bytes(f.name), self.bytes(f.value)))
    }

    /// The fields themselves, in order.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The first value of a known name.
    #[must_use]
    pub fn get(&self, id: Name) -> Option<&[u8]> {
        self.fields.iter().find(|f| f.id == id).map(|f| self.bytes(f.value))
    }

    /// The first value of any name; `lower` is in lower case.
    #[must_use]
    pub fn get_name(&self, lower: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(name, _)| *name == lower).map(|(_, value)| value)
    }

    /// Appends a field. `lower` is a valid name in lower case, `value` a valid value: the caller's promise.
    pub fn append(&mut self, lower: &[u8], value: &[u8]) {
        let name = self.store(lower);
        let value = self.store(value);
        self.fields.push(Field { id: Name::of(lower), name, value });
    }

    /// Removes every field with this known name.
    pub fn remove(&mut self, id: Name) {
        self.fields.retain(|f| f.id != id);
    }

    /// Removes every field with this name, in lower case.
    pub fn remove_name(&mut self, lower: &[u8]) {
        let arena = &self.arena;
        self.fields.retain(|f| {
            &arena[f.name.start as usize..(f.name.start + f.name.length) as usize] != lower
        });
    }

    /// Replaces the first field with this name and removes the others, or appends it.
    pub fn set(&mut self, lower: &[u8], value: &[u8]) {
        self.remove_name(lower);
        self.append(lower, value);
    }

    /// Copies bytes into the arena.
    pub fn store(&mut self, bytes: &[u8]) -> Span {
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(bytes);
        Span { start, length: bytes.len() as u32 }
    }
}
