//! Encoded messages as trees of fields, without knowing which messages they are: what has the form
//! of a message is taken for one. Encoding a tree that was not changed gives the same bytes.
//!
//! What it leaves to others: what is changed in a tree (`change`).

/// A message, or what looks like one.
pub type Fields = Vec<Field>;

/// How deep a tree is read; what is deeper is bytes.
const DEPTH_MAX: usize = 24;

const VARINT_LENGTH_MAX: usize = 10;

/// A field with its place in the message that it is in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its number; may be one that protobuf does not permit.
    pub number: u64,
    /// So many bytes more than it needs has its tag.
    pub tag_padding: usize,
    /// What it has.
    pub value: Value,
}

/// What a field has, by wire type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A number, and by how many bytes its encoding is longer than needed.
    Varint(u64, usize),
    /// Eight bytes.
    Fixed64([u8; 8]),
    /// Four bytes.
    Fixed32([u8; 4]),
    /// Bytes that are no message, and the padding of their length.
    Bytes(Vec<u8>, usize),
    /// Bytes that have the form of a message, and the padding of their length.
    Message(Fields, usize),
    /// What stands between the tags of a group.
    Group(Fields),
}

/// The tree of a message.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<Fields> {
    fields(bytes, 0)
}

/// The bytes of a tree.
#[must_use]
pub fn write(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    fields.iter().for_each(|field| write_field(field, &mut bytes));
    bytes
}

fn fields(mut bytes: &[u8], depth: usize) -> Option<Fields> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let (tag, tag_padding) = varint(&mut bytes)?;
        fields.push(Field { number: tag >> 3, tag_padding, value: value(tag, &mut bytes, depth)? });
    }
    Some(fields)
}

fn value(tag: u64, bytes: &mut &[u8], depth: usize) -> Option<Value> {
    match tag & 7 {
        0 => varint(bytes).map(|(number, padding)| Value::Varint(number, padding)),
        1 => bytes.split_off(..8)?.try_into().ok().map(Value::Fixed64),
        2 => {
            let (length, padding) = varint(bytes)?;
            let inner = bytes.split_off(..usize::try_from(length).ok()?)?;
            // Text can look like a message, too, but seldom is meant so.
            let is_text = inner.iter().all(|byte| (b' '..=b'~').contains(byte));
            let message =
                if is_text || depth >= DEPTH_MAX { None } else { fields(inner, depth + 1) };
            Some(match message {
                Some(message) => Value::Message(message, padding),
                None => Value::Bytes(inner.to_vec(), padding),
            })
        }
        3 if depth < DEPTH_MAX => group(tag >> 3, bytes, depth + 1).map(Value::Group),
        5 => bytes.split_off(..4)?.try_into().ok().map(Value::Fixed32),
        _ => None,
    }
}

fn group(number: u64, bytes: &mut &[u8], depth: usize) -> Option<Fields> {
    let mut fields = Vec::new();
    loop {
        let (tag, tag_padding) = varint(bytes)?;
        if tag & 7 == 4 {
            return (tag >> 3 == number && tag_padding == 0).then_some(fields);
        }
        fields.push(Field { number: tag >> 3, tag_padding, value: value(tag, bytes, depth)? });
    }
}

fn varint(bytes: &mut &[u8]) -> Option<(u64, usize)> {
    let mut number = 0;
    for index in 0..VARINT_LENGTH_MAX {
        let byte = *bytes.split_off_first()?;
        let part = u64::from(byte & 0x7f);
        // Of the tenth byte one bit counts; a tree could not give the others back.
        if index == VARINT_LENGTH_MAX - 1 && part > 1 {
            return None;
        }
        number |= part << (7 * index);
        if byte < 0x80 {
            return Some((number, index + 1 - length_of(number)));
        }
    }
    None
}

/// How many bytes a number needs.
fn length_of(number: u64) -> usize {
    let bits = 64 - (number | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn write_varint(number: u64, padding: usize, bytes: &mut Vec<u8>) {
    let length = (length_of(number) + padding).min(VARINT_LENGTH_MAX);
    for index in 0..length {
        let more = if index + 1 < length { 0x80 } else { 0 };
        bytes.push((number >> (7 * index)) as u8 & 0x7f | more);
    }
}

fn write_field(field: &Field, bytes: &mut Vec<u8>) {
    let wire_type = match field.value {
        Value::Varint(..) => 0,
        Value::Fixed64(_) => 1,
        Value::Bytes(..) | Value::Message(..) => 2,
        Value::Group(_) => 3,
        Value::Fixed32(_) => 5,
    };
    write_varint(field.number << 3 | wire_type, field.tag_padding, bytes);
    match &field.value {
        Value::Varint(number, padding) => write_varint(*number, *padding, bytes),
        Value::Fixed64(value) => bytes.extend(value),
        Value::Fixed32(value) => bytes.extend(value),
        Value::Bytes(value, padding) => {
            write_varint(value.len() as u64, *padding, bytes);
            bytes.extend(value);
        }
        Value::Message(fields, padding) => {
            let inner = write(fields);
            write_varint(inner.len() as u64, *padding, bytes);
            bytes.extend(inner);
        }
        Value::Group(fields) => {
            bytes.extend(write(fields));
            write_varint(field.number << 3 | 4, 0, bytes);
        }
    }
}
