//! Reading field blocks (RFC 7541 6).
//!
//! A line's bytes are written into the arena of the headers that it is for, as a whole line
//! `name: value CRLF`; what goes into the dynamic table is copied from there.
//!
//! What it leaves to others: collecting the fragments of a block, and limits on the decoded list.

use super::dynamic::Table;
use super::line::is_valid_value;
use super::{DEFAULT_TABLE_SIZE, HpackError, Line, LineName, huffman, integer, static_table};
use crate::{Headers, Name, Span};

/// Table size updates at the beginning of one block: the smallest since the last one, and the last
/// (RFC 7541 4.2).
const SIZE_UPDATES_MAX: u8 = 2;

/// A field block that is being read.
#[derive(Debug)]
pub(crate) struct Block<'b> {
    rest: &'b [u8],
    /// No line was read yet.
    is_at_start: bool,
    size_updates: u8,
}

impl<'b> Block<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Block<'b> {
        Block { rest: bytes, is_at_start: true, size_updates: 0 }
    }
}

/// The reader's side: its dynamic table follows the peer's encoder.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// What the peer may set its table to: our SETTINGS_HEADER_TABLE_SIZE, once it is acknowledged.
    allowed_size: usize,
    is_update_due: bool,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

/// A literal's or an index's name, before the value is read.
#[derive(Clone, Copy)]
struct Named {
    kind: LineName,
    name: Span,
}

impl Decoder {
    /// A decoder before the first block, with a table of 4096.
    #[must_use]
    pub fn new() -> Decoder {
        Decoder {
            table: Table::new(DEFAULT_TABLE_SIZE),
            allowed_size: DEFAULT_TABLE_SIZE,
            is_update_due: false,
        }
    }

    /// The peer has acknowledged this SETTINGS_HEADER_TABLE_SIZE. If that is less than what it
    /// uses, its next block has to begin with a size update.
    pub fn set_allowed_size(&mut self, size: usize) {
        self.allowed_size = size;
        self.is_update_due = size < self.table.max_size();
    }

    /// Decodes a whole block; gives each line to `take`, with the headers that hold its bytes. For
    /// readers that need no limit: tests and measurements.
    ///
    /// # Errors
    ///
    /// The block is not HPACK; the connection is lost.
    pub fn decode(
        &mut self,
        block: &[u8],
        headers: &mut Headers,
        mut take: impl FnMut(&mut Headers, Line),
    ) -> Result<(), HpackError> {
        let mut block = Block::new(block);
        while let Some(line) = self.next(&mut block, headers)? {
            take(headers, line);
        }
        Ok(())
    }

    /// The next line of a block; `None` at its end.
    #[inline]
    pub(crate) fn next(
        &mut self,
        block: &mut Block<'_>,
        headers: &mut Headers,
    ) -> Result<Option<Line>, HpackError> {
        loop {
            let [first, ..] = block.rest else { return Ok(None) };
            let first = *first;
            if first & 0xe0 == 0x20 {
                self.read_size_update(block)?;
                continue;
            }
            if core::mem::take(&mut block.is_at_start) && self.is_update_due {
                return Err(HpackError::TableSizeMissing);
            }
            let line = match first {
                0x80.. => self.read_indexed(block, headers)?,
                0x40.. => self.read_literal(block, headers, 6)?,
                _ => self.read_literal(block, headers, 4)?,
            };
            return Ok(Some(line));
        }
    }

    #[cold]
    fn read_size_update(&mut self, block: &mut Block<'_>) -> Result<(), HpackError> {
        let (size, rest) = integer::decode(block.rest, 5)?;
        block.rest = rest;
        block.size_updates += 1;
        let is_allowed = block.is_at_start
            && block.size_updates <= SIZE_UPDATES_MAX
            && size <= self.allowed_size;
        if !is_allowed {
            return Err(HpackError::TableSize);
        }
        self.is_update_due = false;
        self.table.set_max_size(size);
        Ok(())
    }

    fn read_indexed(
        &self,
        block: &mut Block<'_>,
        headers: &mut Headers,
    ) -> Result<Line, HpackError> {
        let (index, rest) = integer::decode(block.rest, 7)?;
        block.rest = rest;
        let entry = match self.entry(index)? {
            Indexed::Dynamic(entry) => entry,
            Indexed::Static(name, value, kind) => {
                let line = headers.store_line(Name::Other, name, value);
                return Ok(Line {
                    kind,
                    name: line.name,
                    value: line.value,
                    has_valid_value: true,
                    is_never_indexed: false,
                });
            }
        };
        let name = store(headers, self.table.name(entry));
        headers.arena.extend_from_slice(b": ");
        let value = store(headers, self.table.value(entry));
        headers.arena.extend_from_slice(b"\r\n");
        Ok(Line {
            kind: entry.kind,
            name,
            value,
            has_valid_value: entry.has_valid_value,
            is_never_indexed: false,
        })
    }

    fn read_literal(
        &mut self,
        block: &mut Block<'_>,
        headers: &mut Headers,
        prefix_bits: u32,
    ) -> Result<Line, HpackError> {
        let first = block.rest[0];
        let (index, rest) = integer::decode(block.rest, prefix_bits)?;
        block.rest = rest;
        let named = self.read_name(index, block, headers)?;
        headers.arena.extend_from_slice(b": ");
        let value = read_string(block, headers)?;
        headers.arena.extend_from_slice(b"\r\n");
        let text = &headers.arena[value.range()];
        let has_valid_value = is_valid_value(text);
        let is_indexed = prefix_bits == 6;
        if is_indexed {
            let name = &headers.arena[named.name.range()];
            self.table.insert(name, text, named.kind, has_valid_value);
        }
        Ok(Line {
            kind: named.kind,
            name: named.name,
            value,
            has_valid_value,
            is_never_indexed: !is_indexed && first & 0x10 != 0,
        })
    }

    fn read_name(
        &self,
        index: usize,
        block: &mut Block<'_>,
        headers: &mut Headers,
    ) -> Result<Named, HpackError> {
        if index == 0 {
            let name = read_string(block, headers)?;
            let kind = LineName::of(&headers.arena[name.range()]);
            return Ok(Named { kind, name });
        }
        Ok(match self.entry(index)? {
            Indexed::Static(name, _, kind) => Named { kind, name: headers.store(name) },
            Indexed::Dynamic(entry) => {
                Named { kind: entry.kind, name: store(headers, self.table.name(entry)) }
            }
        })
    }

    fn entry(&self, index: usize) -> Result<Indexed<'_>, HpackError> {
        let index = index.checked_sub(1).ok_or(HpackError::Index)?;
        if let Some((name, value, kind)) = static_table::ENTRIES.get(index) {
            return Ok(Indexed::Static(name.as_bytes(), value.as_bytes(), *kind));
        }
        let entry = self.table.get(index - static_table::LENGTH);
        entry.map(Indexed::Dynamic).ok_or(HpackError::Index)
    }
}

/// An entry of either table.
enum Indexed<'t> {
    Static(&'static [u8], &'static [u8], LineName),
    Dynamic(&'t super::dynamic::Entry),
}

fn store(headers: &mut Headers, (first, second): (&[u8], &[u8])) -> Span {
    let start = headers.arena.len();
    headers.arena.extend_from_slice(first);
    headers.arena.extend_from_slice(second);
    Span::new(start, first.len() + second.len())
}

/// RFC 7541 5.2.
fn read_string(block: &mut Block<'_>, headers: &mut Headers) -> Result<Span, HpackError> {
    let is_huffman = block.rest.first().is_some_and(|first| first & 0x80 != 0);
    let (length, rest) = integer::decode(block.rest, 7)?;
    let (text, rest) = rest.split_at_checked(length).ok_or(HpackError::Truncated)?;
    block.rest = rest;
    let start = headers.arena.len();
    if is_huffman {
        huffman::decode(text, &mut headers.arena)?;
    } else {
        headers.arena.extend_from_slice(text);
    }
    Ok(Span::new(start, headers.arena.len() - start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec::Vec;

    fn lines(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, HpackError> {
        let mut headers = Headers::default();
        let mut lines = Vec::new();
        decoder.decode(block, &mut headers, |headers, line| {
            let (name, value) = (headers.bytes(line.name), headers.bytes(line.value));
            lines.push(alloc::format!("{}={}", name.escape_ascii(), value.escape_ascii()));
        })?;
        Ok(lines)
    }

    #[test]
    fn literals_of_rfc_7541_c_2() {
        let mut decoder = Decoder::new();
        let block = b"\x40\x0acustom-key\x0dcustom-header\x04\x0c/sample/path\x10\x08password\x06secret\x82\xbe";
        assert_eq!(
            lines(&mut decoder, block).unwrap(),
            [
                "custom-key=custom-header",
                ":path=/sample/path",
                "password=secret",
                ":method=GET",
                "custom-key=custom-header"
            ]
        );
    }

    #[test]
    fn a_never_indexed_line_says_so() {
        let mut headers = Headers::default();
        let mut flags = Vec::new();
        let block = b"\x10\x01a\x01b\x00\x01a\x01b\x40\x01a\x01b\xbe\x1f\x08\x01c";
        let mut decoder = Decoder::new();
        decoder.decode(block, &mut headers, |_, line| flags.push(line.is_never_indexed)).unwrap();
        assert_eq!(flags, [true, false, false, false, true]);
    }

    #[test]
    fn what_is_not_hpack() {
        let cases: [(&[u8], HpackError); 10] = [
            (b"\x80", HpackError::Index),
            (b"\xbe", HpackError::Index),
            (b"\x7f\x00\x01a", HpackError::Index),
            (b"\x40", HpackError::Truncated),
            (b"\x40\x02a", HpackError::Truncated),
            (b"\x40\x01a\x05b", HpackError::Truncated),
            (b"\x40\x81\xff\x01b", HpackError::Huffman),
            (b"\x3f\xe2\x1f", HpackError::TableSize), // 4097
            (b"\x82\x20", HpackError::TableSize),
            (b"\x20\x21\x20", HpackError::TableSize),
        ];
        for (block, error) in cases {
            assert_eq!(lines(&mut Decoder::new(), block), Err(error), "{block:x?}");
        }
    }

    #[test]
    fn a_reduced_size_must_be_followed_by_an_update() {
        let mut decoder = Decoder::new();
        decoder.set_allowed_size(100);
        assert_eq!(lines(&mut decoder, b"\x82"), Err(HpackError::TableSizeMissing));
        let mut decoder = Decoder::new();
        decoder.set_allowed_size(100);
        assert_eq!(lines(&mut decoder, b"\x3f\x45\x82").unwrap(), [":method=GET"]);
        assert_eq!(lines(&mut decoder, b"\x3f\x46\x82"), Err(HpackError::TableSize));
    }
}
