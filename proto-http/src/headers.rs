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

impl Span {
    pub(crate) fn new(start: usize, length: usize) -> Span {
        debug_assert!(start + length <= u32::MAX as usize);
        Span { start: start as u32, length: length as u32 }
    }

    pub(crate) fn range(self) -> core::ops::Range<usize> {
        self.start as usize..self.end()
    }

    pub(crate) fn end(self) -> usize {
        self.start as usize + self.length as usize
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.length == 0
    }
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
/// Removing a field only forgets it; adding one appends to the arena, as a whole line
/// `name: value CRLF`: a writer copies lines that stand side by side in the arena with one copy.
#[derive(Clone, Default, Debug)]
pub struct Headers {
    pub(crate) arena: Vec<u8>,
    pub(crate) fields: Vec<Field>,
    /// Names as they were received, if that is to be known.
    pub(crate) received_names: Vec<Span>,
    /// Where the names of fields begin that HTTP/2 may never index (RFC 7541 6.2.3).
    pub(crate) never_indexed: Vec<u32>,
    /// Bits of the names in `fields`, and perhaps of some that were removed: never of fewer.
    pub(crate) seen: u64,
}

impl Headers {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.fields.clear();
        self.received_names.clear();
        self.never_indexed.clear();
        self.seen = 0;
    }

    /// Bytes of memory that are held, about.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.arena.capacity() + self.fields.capacity() * size_of::<Field>()
    }

    /// The bytes of a span.
    #[must_use]
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.arena[span.range()]
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

    /// The names as they were received, in order; none unless the head was read with
    /// [`keep_name_case`](crate::h1::Options::keep_name_case).
    pub fn received_names(&self) -> impl Iterator<Item = &[u8]> {
        self.received_names.iter().map(|name| self.bytes(*name))
    }

    /// Whether there are no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The first value of a known name.
    #[must_use]
    pub fn get(&self, id: Name) -> Option<&[u8]> {
        if self.seen & id.bit() == 0 {
            return None;
        }
        self.fields.iter().find(|f| f.id == id).map(|f| self.bytes(f.value))
    }

    /// Every value of a known name, in order.
    pub fn get_all(&self, id: Name) -> impl Iterator<Item = &[u8]> {
        let fields = if self.seen & id.bit() == 0 { &[] } else { &self.fields[..] };
        fields.iter().filter(move |f| f.id == id).map(|f| self.bytes(f.value))
    }

    /// The first value of any name; `lower` is in lower case.
    #[must_use]
    pub fn get_name(&self, lower: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(name, _)| *name == lower).map(|(_, value)| value)
    }

    /// As [`Headers::get_name`], for a name whose number is known.
    #[must_use]
    pub fn get_known(&self, id: Name, lower: &[u8]) -> Option<&[u8]> {
        if id == Name::Other { self.get_name(lower) } else { self.get(id) }
    }

    /// Appends a field. `lower` is a valid name in lower case, `value` a valid value: the caller's
    /// promise.
    pub fn append(&mut self, lower: &[u8], value: &[u8]) {
        let field = self.store_line(Name::of(lower), lower, value);
        self.push(field);
    }

    /// Appends a field whose name's number is known, as [`Headers::append`].
    pub fn append_known(&mut self, id: Name, lower: &[u8], value: &[u8]) {
        debug_assert_eq!(Name::of(lower), id);
        let field = self.store_line(id, lower, value);
        self.push(field);
    }

    /// Removes every field with this known name.
    pub fn remove(&mut self, id: Name) {
        if self.seen & id.bit() != 0 {
            self.fields.retain(|f| f.id != id);
            if id != Name::Other {
                self.seen &= !id.bit();
            }
        }
    }

    /// Removes every field with this name, in lower case.
    pub fn remove_name(&mut self, lower: &[u8]) {
        match Name::of(lower) {
            Name::Other => {
                let arena = &self.arena;
                self.fields.retain(|f| &arena[f.name.range()] != lower);
            }
            id => self.remove(id),
        }
    }

    /// Replaces the first field with this name and removes the others, or appends it.
    pub fn set(&mut self, lower: &[u8], value: &[u8]) {
        let field = self.store_line(Name::of(lower), lower, value);
        let (arena, mut replaced) = (&self.arena, false);
        self.fields.retain_mut(|f| {
            if f.id != field.id || &arena[f.name.range()] != lower {
                return true;
            }
            let is_first = !replaced;
            if is_first {
                *f = field;
                replaced = true;
            }
            is_first
        });
        if !replaced {
            self.push(field);
        }
    }

    /// Makes all fields with this known name one, in the place of the first: their values and then
    /// `value`, as far as they are not empty, joined by `separator` (RFC 9110 5.3). Appends it if
    /// there is none.
    pub fn join(&mut self, id: Name, lower: &[u8], separator: &[u8], value: &[u8]) {
        debug_assert!(Name::of(lower) == id && id != Name::Other);
        if self.get(id).is_none() {
            self.append_known(id, lower, value);
            return;
        }
        let name = self.store(lower);
        self.arena.extend_from_slice(b": ");
        let start = self.arena.len();
        for index in 0..self.fields.len() {
            let Field { id: other, value, .. } = self.fields[index];
            if other == id && !value.is_empty() {
                self.separate(start, separator);
                self.arena.extend_from_within(value.range());
            }
        }
        if !value.is_empty() {
            self.separate(start, separator);
            self.arena.extend_from_slice(value);
        }
        let field = Field { id, name, value: Span::new(start, self.arena.len() - start) };
        self.arena.extend_from_slice(b"\r\n");
        let mut first = true;
        self.fields.retain_mut(|f| {
            if f.id != id {
                return true;
            }
            *f = field;
            core::mem::take(&mut first)
        });
    }

    fn separate(&mut self, start: usize, separator: &[u8]) {
        if self.arena.len() > start {
            self.arena.extend_from_slice(separator);
        }
    }

    /// Keeps the fields of which `keep` says so, by name and value.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let arena = &self.arena;
        self.fields.retain(|f| keep(&arena[f.name.range()], &arena[f.value.range()]));
    }

    /// Copies bytes into the arena.
    pub fn store(&mut self, bytes: &[u8]) -> Span {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        Span::new(start, bytes.len())
    }

    pub(crate) fn push(&mut self, field: Field) {
        self.seen |= field.id.bit();
        self.fields.push(field);
    }

    pub(crate) fn store_line(&mut self, id: Name, lower: &[u8], value: &[u8]) -> Field {
        self.arena.reserve(lower.len() + value.len() + 4);
        let name = self.store(lower);
        self.arena.extend_from_slice(b": ");
        let value = self.store(value);
        self.arena.extend_from_slice(b"\r\n");
        Field { id, name, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(headers: &Headers) -> alloc::string::String {
        headers
            .iter()
            .map(|(n, v)| alloc::format!("{}={} ", n.escape_ascii(), v.escape_ascii()))
            .collect()
    }

    #[test]
    fn set_keeps_the_place_of_the_first() {
        let mut headers = Headers::default();
        for (name, value) in [("a", "1"), ("via", "x"), ("b", "2"), ("via", "y"), ("a", "3")] {
            headers.append(name.as_bytes(), value.as_bytes());
        }
        headers.set(b"via", b"z");
        headers.set(b"a", b"4");
        headers.set(b"new", b"5");
        assert_eq!(lines(&headers), "a=4 via=z b=2 new=5 ");
        assert_eq!(headers.get(Name::Via), Some(&b"z"[..]));
        assert_eq!(headers.get_name(b"b"), Some(&b"2"[..]));
        assert_eq!(headers.get(Name::Host), None);
    }

    #[test]
    fn join_makes_one_field_of_several() {
        let mut headers = Headers::default();
        headers.join(Name::Via, b"via", b", ", b"x");
        assert_eq!(lines(&headers), "via=x ");
        for (name, value) in [("a", "1"), ("via", "y"), ("b", "2"), ("via", ""), ("via", "z")] {
            headers.append(name.as_bytes(), value.as_bytes());
        }
        headers.join(Name::Via, b"via", b", ", b"");
        assert_eq!(lines(&headers), "via=x, y, z a=1 b=2 ");
        headers.join(Name::Via, b"via", b",", b"w");
        assert_eq!(lines(&headers), "via=x, y, z,w a=1 b=2 ");
        headers.retain(|name, value| name != b"a" && value != b"2");
        assert_eq!(lines(&headers), "via=x, y, z,w ");
    }

    #[test]
    fn removal_forgets_all_of_a_name_and_no_other() {
        let mut headers = Headers::default();
        for name in ["via", "x", "via", "y"] {
            headers.append(name.as_bytes(), b"");
        }
        headers.remove(Name::Via);
        assert_eq!(headers.get(Name::Via), None);
        headers.remove_name(b"x");
        assert_eq!(lines(&headers), "y= ");
        headers.append(b"via", b"again");
        assert_eq!(headers.get_all(Name::Via).count(), 1);
        headers.clear();
        assert!(headers.is_empty());
    }
}
