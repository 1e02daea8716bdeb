//! The field lines of a complete section, found and checked in one pass.
//!
//! What it leaves to others: sections that are not complete, and naming the first fault in a
//! malformed one (`lines.rs`); what the fields mean (`framing.rs`).

use super::bytes::{is_ows, is_tchar};
use crate::{Field, Name, Span};
use alloc::vec::Vec;

/// Appends the field lines from `at` on, names as they are and without their numbers, and answers
/// where the section ends, behind its empty line. `None` when it is not complete, not well-formed,
/// or has more than `fields_max` lines.
pub(crate) fn find(
    input: &[u8],
    mut at: usize,
    fields_max: usize,
    fields: &mut Vec<Field>,
) -> Option<usize> {
    loop {
        let name_end = at + input.get(at..)?.iter().position(|&byte| !is_tchar(byte))?;
        if name_end == at {
            return is_line_end(input, at).then_some(at + 2);
        }
        if input[name_end] != b':' || fields.len() == fields_max {
            return None;
        }
        let mut start = name_end + 1;
        while is_ows(*input.get(start)?) {
            start += 1;
        }
        let line_end = content_end(input, start)?;
        let mut end = line_end;
        while end > start && is_ows(input[end - 1]) {
            end -= 1;
        }
        fields.push(Field {
            id: Name::Other,
            name: Span::new(at, name_end - at),
            value: Span::new(start, end - start),
        });
        at = line_end + 2;
    }
}

/// Where the CRLF is that ends the line; `None` when another byte that no field value and no reason
/// phrase has (see [`super::bytes::is_field_content`]) comes first, or none comes.
pub(crate) fn content_end(input: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at = first_control(input, at)?;
        match input[at] {
            b'\t' => at += 1,
            _ => return is_line_end(input, at).then_some(at),
        }
    }
}

fn is_line_end(input: &[u8], at: usize) -> bool {
    input[at..].starts_with(b"\r\n")
}

/// The first control (below SP, or DEL) from `at` on; eight bytes at a time.
fn first_control(input: &[u8], mut at: usize) -> Option<usize> {
    while let Some(word) = input.get(at..).and_then(|rest| rest.first_chunk()) {
        let controls = controls_of(u64::from_le_bytes(*word));
        if controls != 0 {
            return Some(at + controls.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let is_control = |byte: &u8| *byte < b' ' || *byte == 0x7f;
    input.get(at..)?.iter().position(is_control).map(|offset| at + offset)
}

/// The top bit of each byte that is a control, as far as the lowest of them: a borrow may set
/// others above it.
fn controls_of(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const TOP: u64 = EACH * 0x80;
    let below_space = word.wrapping_sub(EACH * 0x20) & !word;
    let not_delete = word ^ (EACH * 0x7f);
    let delete = not_delete.wrapping_sub(EACH) & !not_delete;
    (below_space | delete) & TOP
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::bytes::is_field_content;

    #[test]
    fn the_first_control_is_found_wherever_it_is() {
        // Miri is slow; it looks for other faults than wrong bytes.
        for byte in (0..=255u8).step_by(if cfg!(miri) { 31 } else { 1 }) {
            for at in 0..19 {
                for filler in [b' ', 0x20, 0x7e, 0x80, 0xff] {
                    let mut input = [filler; 20];
                    input[at] = byte;
                    let is_control = byte != b'\t' && !is_field_content(&[byte]);
                    let expected = (is_control || byte == b'\t').then_some(at);
                    assert_eq!(first_control(&input, 0), expected, "{byte} at {at}");
                    input[19] = 0;
                    assert_eq!(first_control(&input, 0), expected.or(Some(19)), "{byte} at {at}");
                }
            }
        }
    }

    #[test]
    fn lines_and_what_are_none() {
        let found = |input: &[u8], fields_max| {
            let mut fields = Vec::new();
            find(input, 0, fields_max, &mut fields).map(|end| {
                let text = |span: Span| alloc::format!("{}", input[span.range()].escape_ascii());
                (end, fields.iter().map(|f| (text(f.name), text(f.value))).collect::<Vec<_>>())
            })
        };
        let field = |name: &str, value: &str| (name.into(), value.into());
        assert_eq!(found(b"\r\nmore", 0), Some((2, Vec::new())));
        let input = b"A: b c\t \r\nempty:\r\nowns: \t\r\nh: \xff\ti\r\n\r\n";
        let fields = [("A", "b c"), ("empty", ""), ("owns", ""), ("h", "\\xff\\ti")];
        let expected = fields.map(|(name, value)| field(name, value)).to_vec();
        assert_eq!(found(input, 4), Some((input.len(), expected)));
        assert_eq!(found(input, 3), None, "more than may be");
        for end in 0..input.len() {
            assert_eq!(found(&input[..end], 4), None, "not complete at {end}");
        }
        for input in
            ["a : b", " a: b", "a\r\nb: c", ": b", "a: b\x7f", "a: b\r", "a: b\n", "a\tb: c"]
        {
            let input = [input.as_bytes(), b"\r\n\r\n"].concat();
            assert_eq!(found(&input, 9), None, "{}", input.escape_ascii());
        }
    }
}
