//! Changes of an encoded message that leave most of it valid: fields go, come twice, change places,
//! are split in two that have to be merged, or are written as another encoder would.
//!
//! What it leaves to others: trees (`wire`), and changes of single bytes (the engine).

use crate::wire::{Field, Fields, Value};

/// Numbers where something begins or ends: of a byte, of 32 and 64 bits, of a duration, of UTF-8.
const NUMBERS: [u64; 20] = [
    0,
    1,
    2,
    3,
    10,
    99,
    100,
    127,
    128,
    1000,
    65535,
    65536,
    999_999_999,
    1_000_000_000,
    315_576_000_000,
    315_576_000_001,
    0x7fff_ffff,
    0xffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Text that is something elsewhere, and bytes that are none.
const TEXTS: [&[u8]; 16] = [
    b"",
    b" ",
    b"*",
    b"a",
    b"/",
    b":path",
    b"x-a",
    b"0.0.0.0",
    b"(",
    b"type.googleapis.com/google.protobuf.Struct",
    b"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    b"\x00",
    b"\x7f",
    b"\xc3\xa4",
    b"\xff",
    b"\xe2\x80\xa8",
];

const NUMBER_MAX: u64 = (1 << 29) - 1;

/// Numbers that only look as if there were no order in them (splitmix64).
pub struct Random(u64);

impl Random {
    /// Begins with a seed.
    #[must_use]
    pub fn new(seed: u32) -> Random {
        Random(u64::from(seed))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`, and 0 when there is none.
    pub fn below(&mut self, end: usize) -> usize {
        self.next().checked_rem(end as u64).unwrap_or(0) as usize
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

/// Changes one thing, and says whether it did.
pub fn change(message: &mut Fields, random: &mut Random) -> bool {
    let messages = count(message);
    let mut which = random.below(messages);
    let Some(fields) = nth(message, &mut which) else { return false };
    let at = random.below(fields.len());
    match random.below(12) {
        0 if !fields.is_empty() => drop(fields.remove(at)),
        1 if !fields.is_empty() => fields.insert(random.below(fields.len()), fields[at].clone()),
        2 if fields.len() > 1 => {
            let other = random.below(fields.len());
            fields.swap(at, other);
        }
        3 => return split(fields, at),
        4 => return pack(fields, at, random),
        5 => return encode_otherwise(fields, at, random),
        6 => return renumber(fields, at, random),
        7 => fields.push(Field { number: 1 + random.below(60) as u64, ..any_field(random) }),
        _ => return change_value(fields, at, random),
    }
    true
}

/// Takes a field of `other` into a message of this one.
pub fn graft(message: &mut Fields, other: &mut Fields, random: &mut Random) {
    let mut which = random.below(count(other));
    let Some(from) = nth(other, &mut which) else { return };
    if from.is_empty() {
        return;
    }
    let field = from[random.below(from.len())].clone();
    // The message that had it was often of the same kind as one that has its number already.
    let mut which = random.below(count(message));
    let Some(fields) = nth(message, &mut which) else { return };
    match fields.iter().position(|it| it.number == field.number) {
        Some(at) if random.below(2) == 0 => fields[at] = field,
        _ => fields.push(field),
    }
}

/// How many messages a tree has, with itself.
fn count(fields: &Fields) -> usize {
    let inner = fields.iter().map(|field| match &field.value {
        Value::Message(inner, _) | Value::Group(inner) => count(inner),
        _ => 0,
    });
    1 + inner.sum::<usize>()
}

/// The message number `which` of a tree.
fn nth<'a>(fields: &'a mut Fields, which: &mut usize) -> Option<&'a mut Fields> {
    if *which == 0 {
        return Some(fields);
    }
    *which -= 1;
    fields.iter_mut().find_map(|field| match &mut field.value {
        Value::Message(inner, _) | Value::Group(inner) => nth(inner, which),
        _ => None,
    })
}

/// One message becomes two of the same number: where one is wanted, they are merged.
fn split(fields: &mut Fields, at: usize) -> bool {
    let Some(field) = fields.get_mut(at) else { return false };
    let Value::Message(inner, padding) = &mut field.value else { return false };
    let second = inner.split_off(inner.len() / 2);
    let value = Value::Message(second, *padding);
    let field = Field { value, ..field.clone() };
    fields.push(field);
    true
}

/// Numbers of a list one by one or all in one, whichever it is not.
fn pack(fields: &mut Fields, at: usize, random: &mut Random) -> bool {
    let Some(field) = fields.get(at).cloned() else { return false };
    match &field.value {
        Value::Varint(..) => {
            let same = |it: &Field| it.number == field.number;
            let numbers: Vec<u64> = fields
                .iter()
                .filter(|it| same(it))
                .filter_map(|it| match it.value {
                    Value::Varint(number, _) => Some(number),
                    _ => None,
                })
                .collect();
            fields.retain(|it| !same(it));
            let bytes = numbers.iter().map(|number| *number as u8 & 0x7f).collect();
            fields.push(Field { value: Value::Bytes(bytes, 0), ..field });
        }
        Value::Bytes(bytes, _) => {
            let numbers = bytes.iter().map(|byte| Value::Varint(u64::from(byte & 0x7f), 0));
            let unpacked: Vec<_> =
                numbers.take(4).map(|value| Field { value, ..field.clone() }).collect();
            fields.splice(at..=at, unpacked);
        }
        _ => return encode_otherwise(fields, at, random),
    }
    true
}

/// The same said with more bytes, or in the old way, by tags of begin and end.
fn encode_otherwise(fields: &mut Fields, at: usize, random: &mut Random) -> bool {
    let Some(field) = fields.get_mut(at) else { return false };
    let more = 1 + random.below(4);
    match (&mut field.value, random.below(4)) {
        (_, 0) => field.tag_padding = more,
        (Value::Message(inner, _), 1) => field.value = Value::Group(std::mem::take(inner)),
        (Value::Group(inner), _) => field.value = Value::Message(std::mem::take(inner), 0),
        (Value::Varint(_, padding) | Value::Bytes(_, padding) | Value::Message(_, padding), _) => {
            *padding = more;
        }
        (Value::Fixed32(_) | Value::Fixed64(_), _) => field.tag_padding = more,
    }
    true
}

fn renumber(fields: &mut Fields, at: usize, random: &mut Random) -> bool {
    let Some(field) = fields.get_mut(at) else { return false };
    field.number = match random.below(6) {
        0 => field.number.saturating_sub(1),
        1 => 1 + random.below(40) as u64,
        2 => random.one_of(&[0, NUMBER_MAX, NUMBER_MAX + 1, 19_000]),
        3 => random.below(5) as u64,
        _ => field.number + 1,
    };
    true
}

fn any_field(random: &mut Random) -> Field {
    let value = match random.below(5) {
        0 => Value::Varint(random.one_of(&NUMBERS), 0),
        1 => Value::Bytes(random.one_of(&TEXTS).to_vec(), 0),
        2 => Value::Fixed32(random.next().to_le_bytes()[..4].try_into().unwrap_or_default()),
        3 => Value::Fixed64(f64::to_le_bytes(random.one_of(&[0.5, -1.0, f64::NAN, f64::MAX]))),
        _ => Value::Message(Vec::new(), 0),
    };
    Field { number: 1, tag_padding: 0, value }
}

fn change_value(fields: &mut Fields, at: usize, random: &mut Random) -> bool {
    let Some(field) = fields.get_mut(at) else { return false };
    match &mut field.value {
        Value::Varint(number, _) => {
            *number = match random.below(4) {
                0 => number.wrapping_add(1),
                1 => number.wrapping_sub(1),
                2 => random.below(8) as u64,
                _ => random.one_of(&NUMBERS),
            };
        }
        Value::Fixed32(bytes) => bytes.rotate_left(1),
        Value::Fixed64(bytes) => *bytes = random.next().to_le_bytes(),
        Value::Bytes(bytes, _) => change_text(bytes, random),
        Value::Message(inner, _) if random.below(4) == 0 => inner.clear(),
        Value::Message(..) | Value::Group(_) => {
            field.value = any_field(random).value;
        }
    }
    true
}

fn change_text(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    let text = random.one_of(&TEXTS);
    match random.below(6) {
        0 => *bytes = text.to_vec(),
        1 => drop(bytes.splice(at..at, text.iter().copied())),
        2 if !bytes.is_empty() => drop(bytes.remove(at)),
        3 => bytes.truncate(at),
        4 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        _ => bytes.extend(text.repeat(1 + random.below(80))),
    }
}
