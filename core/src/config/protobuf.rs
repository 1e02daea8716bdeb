//! A bootstrap as protobuf's own bytes (`-c bootstrap.pb`), as the JSON that it is: the same reader
//! then judges both, and errors can show a line.
//!
//! What it leaves to others: what the JSON means (`json`, `reader`).

use super::ast::shorten;
use super::descriptors;
use prost::DecodeError;
use prost::bytes::Bytes;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage, SerializeOptions, Value};
use serde_json::Serializer;

/// How deep an extension can stand in extensions. A real configuration has about five levels.
const MAX_EXTENSION_DEPTH: usize = 20;

pub(super) const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";

/// The JSON of an encoded message, with line breaks.
///
/// # Errors
///
/// Why the bytes are no such message: one sentence, that begins with the field.
pub(super) fn to_json(name: &str, bytes: Bytes) -> Result<String, String> {
    let pool = descriptors::pool().map_err(|e| format!("the descriptors are broken: {e}"))?;
    let descriptor = pool.get_message_by_name(name);
    let descriptor = descriptor.ok_or_else(|| format!("{name} is no message of Envoy's"))?;
    let message = decode(descriptor, bytes, &Path::Root)?;
    check(&message, &Path::Root, 0)?;
    let mut json = Vec::new();
    let options = SerializeOptions::new().use_proto_field_name(true);
    message
        .serialize_with_options(&mut Serializer::pretty(&mut json), &options)
        .map_err(|error| format!("cannot be written as JSON: {error}"))?;
    String::from_utf8(json).map_err(|error| error.to_string())
}

/// Where a message is, for the error that there may be.
enum Path<'p> {
    Root,
    Field(&'p Path<'p>, &'p str),
}

impl Path<'_> {
    fn text(&self) -> String {
        match self {
            Path::Root => String::new(),
            Path::Field(Path::Root, name) => (*name).to_owned(),
            Path::Field(parent, name) => format!("{}.{name}", parent.text()),
        }
    }

    fn error(&self, reason: &str) -> String {
        match self {
            Path::Root => reason.to_owned(),
            Path::Field(..) => format!("{}: {reason}", self.text()),
        }
    }
}

fn decode(
    descriptor: MessageDescriptor,
    bytes: Bytes,
    path: &Path<'_>,
) -> Result<DynamicMessage, String> {
    let name = descriptor.full_name().to_owned();
    DynamicMessage::decode(descriptor, bytes)
        .map_err(|error| path.error(&format!("cannot be decoded as {name}: {error}")))
}

/// Whether every field is one that Envoy knows, also in extensions.
fn check(message: &DynamicMessage, path: &Path<'_>, depth: usize) -> Result<(), String> {
    if let Some(field) = message.unknown_fields().next() {
        let (number, descriptor) = (field.number(), message.descriptor());
        return Err(path.error(&format!("{} has no field {number}", descriptor.full_name())));
    }
    if message.descriptor().full_name() == "google.protobuf.Any" {
        return check_any(message, path, depth);
    }
    for (field, value) in message.fields() {
        let path = Path::Field(path, field.name());
        match value {
            Value::Message(inner) => check(inner, &path, depth)?,
            Value::List(items) => items
                .iter()
                .filter_map(Value::as_message)
                .try_for_each(|m| check(m, &path, depth))?,
            Value::Map(entries) => {
                let inner = entries.values().filter_map(Value::as_message);
                inner.into_iter().try_for_each(|m| check(m, &path, depth))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The messages of one field of an encoded message, and the message without them.
///
/// # Errors
///
/// When it is no message.
pub(super) fn split_field(bytes: &[u8], number: u32) -> Result<(Vec<&[u8]>, Vec<u8>), DecodeError> {
    let (mut items, mut others, mut rest) = (Vec::new(), Vec::new(), bytes);
    while !rest.is_empty() {
        let at = rest;
        let (found, wire) = decode_key(&mut rest)?;
        if found == number && wire == WireType::LengthDelimited {
            let length = decode_varint(&mut rest)?;
            let item =
                usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
            // What is cut off is left to whoever decodes the others, which says so.
            let Some((item, behind)) = item else {
                others.extend_from_slice(at);
                break;
            };
            items.push(item);
            rest = behind;
        } else {
            skip_field(wire, found, &mut rest, DecodeContext::default())?;
            others.extend_from_slice(&at[..at.len() - rest.len()]);
        }
    }
    Ok((items, others))
}

fn check_any(any: &DynamicMessage, path: &Path<'_>, depth: usize) -> Result<(), String> {
    if depth >= MAX_EXTENSION_DEPTH {
        let reason = format!("more than {MAX_EXTENSION_DEPTH} extensions in each other");
        return Err(path.error(&reason));
    }
    let url = any.get_field_by_name("type_url");
    let url = url.as_deref().and_then(Value::as_str).unwrap_or_default();
    let name = url.rsplit('/').next().unwrap_or_default();
    let Some(descriptor) = any.descriptor().parent_pool().get_message_by_name(name) else {
        return Err(path.error(&format!("Envoy has no message `{}`", shorten(name))));
    };
    let value = any.get_field_by_name("value");
    let bytes = value.as_deref().and_then(Value::as_bytes).cloned().unwrap_or_default();
    check(&decode(descriptor, bytes, path)?, path, depth + 1)
}

#[cfg(test)]
mod tests {
    use super::super::{Options, Source, load};
    use super::*;
    use prost::Message;
    use serde_json::json;

    fn any(inner: &[u8], name: &str) -> Vec<u8> {
        let pool = descriptors::pool().unwrap();
        let mut any = DynamicMessage::new(pool.get_message_by_name("google.protobuf.Any").unwrap());
        any.set_field_by_name("type_url", Value::String(format!("type.googleapis.com/{name}")));
        any.set_field_by_name("value", Value::Bytes(Bytes::copy_from_slice(inner)));
        any.encode_to_vec()
    }

    /// A bootstrap with this `Any` as one of its `bootstrap_extensions`.
    fn with_extension(any: &[u8]) -> Bytes {
        let mut extension = Vec::new();
        prost::encoding::bytes::encode(2, &any.to_vec(), &mut extension);
        let mut bootstrap = Vec::new();
        prost::encoding::bytes::encode(21, &extension, &mut bootstrap);
        bootstrap.into()
    }

    #[test]
    fn what_was_read_from_text_is_the_same_when_it_is_read_from_its_bytes() {
        let text = include_str!("../../../examples/front-proxy.yaml");
        let yaml = Source { name: "a.yaml".into(), text: text.into() };
        let (from_yaml, _) = load(&[yaml], &Options::default()).unwrap();
        let json = to_json(BOOTSTRAP, Bytes::copy_from_slice(from_yaml.received.bytes())).unwrap();
        let json = Source { name: "a.pb".into(), text: json };
        let (from_bytes, _) = load(&[json], &Options::default()).unwrap();
        assert_eq!(from_bytes, from_yaml);
    }

    #[test]
    fn what_envoy_does_not_know_is_named() {
        assert_eq!(
            to_json(BOOTSTRAP, Bytes::from_static(b"\xfa\x3f\x00")).unwrap_err(),
            "envoy.config.bootstrap.v3.Bootstrap has no field 1023"
        );
        let unknown = with_extension(&any(b"", "envoy.Nothing"));
        assert_eq!(
            to_json(BOOTSTRAP, unknown).unwrap_err(),
            "bootstrap_extensions.typed_config: Envoy has no message `envoy.Nothing`"
        );
        assert!(to_json(BOOTSTRAP, Bytes::from_static(b"static_resources: {}")).is_err());
    }

    #[test]
    fn extensions_in_each_other_have_a_limit() {
        let mut inner = any(b"", "google.protobuf.Any");
        for _ in 0..100_000 / inner.len() {
            inner = any(&inner, "google.protobuf.Any");
        }
        let error = to_json(BOOTSTRAP, with_extension(&inner)).unwrap_err();
        assert!(error.ends_with("more than 20 extensions in each other"), "{error}");
    }

    #[test]
    fn messages_in_each_other_have_a_limit() {
        // A struct in a struct, and so on, in the metadata of the node.
        let mut value = json!(1);
        for _ in 0..30 {
            value = json!({ "a": value });
        }
        let text = json!({ "node": { "id": "n", "metadata": { "m": value } } }).to_string();
        let error = load(&[Source { name: "a".into(), text }], &Options::default());
        assert!(error.is_ok(), "{error:?}");
        let mut inner = Vec::new();
        for _ in 0..10_000 {
            // Value.struct_value = Struct { fields: [("", inner)] }
            let mut entry = Vec::new();
            prost::encoding::bytes::encode(2, &inner, &mut entry);
            let mut structure = Vec::new();
            prost::encoding::bytes::encode(1, &entry, &mut structure);
            inner.clear();
            prost::encoding::bytes::encode(5, &structure, &mut inner);
        }
        let mut entry = Vec::new();
        prost::encoding::bytes::encode(2, &inner, &mut entry);
        let mut metadata = Vec::new();
        prost::encoding::bytes::encode(1, &entry, &mut metadata);
        let mut node = Vec::new();
        prost::encoding::bytes::encode(3, &metadata, &mut node);
        let mut bootstrap = Vec::new();
        prost::encoding::bytes::encode(1, &node, &mut bootstrap);
        let error = to_json(BOOTSTRAP, bootstrap.into()).unwrap_err();
        assert!(error.contains("recursion limit reached"), "{error}");
    }
}
