//! Messages of `google.protobuf` that JSON writes in a form of their own: durations, wrappers,
//! structs.
//!
//! What it leaves to others: `Any` (`extension`).

use super::super::ast::{Node, Scalar, Tree};
use super::{Reader, Scope};
use prost_reflect::{DynamicMessage, Kind, MapKey, MessageDescriptor, Value};
use std::collections::HashMap;

/// The longest duration that protobuf knows: about 10,000 years.
const MAX_SECONDS: i64 = 315_576_000_000;

impl Reader<'_, '_> {
    /// Reads one of the well-known types, except `Any`.
    pub(super) fn well_known(
        &mut self,
        node: &Node,
        descriptor: &MessageDescriptor,
    ) -> Option<DynamicMessage> {
        match descriptor.full_name() {
            // Besides its own form each of these may be written as the message that it is.
            "google.protobuf.Duration" if matches!(node.value, Tree::Mapping(_)) => {
                Some(self.message(&[node], descriptor, Scope::Kept))
            }
            "google.protobuf.Duration" => self.duration(node, descriptor),
            "google.protobuf.Struct" => self.structure(node, descriptor),
            "google.protobuf.Value" => self.dynamic_value(node, descriptor),
            "google.protobuf.ListValue" => self.list_value(node, descriptor),
            "google.protobuf.Empty" => match &node.value {
                Tree::Mapping(entries) if entries.is_empty() => {
                    Some(DynamicMessage::new(descriptor.clone()))
                }
                _ => {
                    self.expected(node, "`{}`");
                    None
                }
            },
            "google.protobuf.Timestamp" | "google.protobuf.FieldMask" => {
                let reason = format!("{} is not supported yet", descriptor.full_name());
                self.unsupported(node.at, reason, false);
                None
            }
            _ if matches!(node.value, Tree::Mapping(_)) => {
                Some(self.message(&[node], descriptor, Scope::Kept))
            }
            _ => self.wrapper(node, descriptor),
        }
    }

    fn wrapper(&mut self, node: &Node, descriptor: &MessageDescriptor) -> Option<DynamicMessage> {
        let field = descriptor.get_field_by_name("value")?;
        let value = self.scalar(node, &field.kind())?;
        let mut message = DynamicMessage::new(descriptor.clone());
        message.set_field(&field, value);
        Some(message)
    }

    fn duration(&mut self, node: &Node, descriptor: &MessageDescriptor) -> Option<DynamicMessage> {
        let Tree::Scalar(scalar) = &node.value else {
            self.expected(node, "a duration in seconds, as `0.25s`");
            return None;
        };
        let Some((seconds, nanos)) = parse_duration(&scalar.text) else {
            let hint = duration_hint(&scalar.text);
            self.expected_hint(node, "a duration in seconds, as `0.25s`", hint.as_deref());
            return None;
        };
        let mut message = DynamicMessage::new(descriptor.clone());
        message.set_field_by_name("seconds", Value::I64(seconds));
        message.set_field_by_name("nanos", Value::I32(nanos));
        Some(message)
    }

    fn structure(&mut self, node: &Node, descriptor: &MessageDescriptor) -> Option<DynamicMessage> {
        let Tree::Mapping(entries) = &node.value else {
            self.expected(node, "a mapping");
            return None;
        };
        let value_descriptor = self.pool.get_message_by_name("google.protobuf.Value")?;
        let mut fields = HashMap::with_capacity(entries.len());
        for entry in entries {
            let value = self.dynamic_value(&entry.value, &value_descriptor)?;
            fields.insert(MapKey::String(entry.key.clone()), Value::Message(value));
        }
        let mut message = DynamicMessage::new(descriptor.clone());
        message.set_field_by_name("fields", Value::Map(fields));
        Some(message)
    }

    fn list_value(
        &mut self,
        node: &Node,
        descriptor: &MessageDescriptor,
    ) -> Option<DynamicMessage> {
        let Tree::Sequence(items) = &node.value else {
            self.expected(node, "a list");
            return None;
        };
        let value_descriptor = self.pool.get_message_by_name("google.protobuf.Value")?;
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            values.push(Value::Message(self.dynamic_value(item, &value_descriptor)?));
        }
        let mut message = DynamicMessage::new(descriptor.clone());
        message.set_field_by_name("values", Value::List(values));
        Some(message)
    }

    fn dynamic_value(
        &mut self,
        node: &Node,
        descriptor: &MessageDescriptor,
    ) -> Option<DynamicMessage> {
        let child = |field: &str| match descriptor.get_field_by_name(field)?.kind() {
            Kind::Message(message) => Some(message),
            _ => None,
        };
        let (field, value) = match &node.value {
            Tree::Null => ("null_value", Value::EnumNumber(0)),
            Tree::Scalar(scalar) => dynamic_scalar(scalar),
            Tree::Mapping(_) => {
                let message = self.structure(node, &child("struct_value")?)?;
                ("struct_value", Value::Message(message))
            }
            Tree::Sequence(_) => {
                let message = self.list_value(node, &child("list_value")?)?;
                ("list_value", Value::Message(message))
            }
        };
        let mut message = DynamicMessage::new(descriptor.clone());
        message.set_field_by_name(field, value);
        Some(message)
    }
}

fn dynamic_scalar(scalar: &Scalar) -> (&'static str, Value) {
    if let Some(value) = scalar.as_bool() {
        return ("bool_value", Value::Bool(value));
    }
    let number = scalar.as_integer().map(|value| value as f64).or_else(|| {
        scalar.text.parse().ok().filter(|value: &f64| scalar.plain && value.is_finite())
    });
    match number {
        Some(value) => ("number_value", Value::F64(value)),
        None => ("string_value", Value::String(scalar.text.clone())),
    }
}

/// Seconds and nanoseconds of `0.25s`: a sign, digits, and at most nine digits after the point.
fn parse_duration(text: &str) -> Option<(i64, i32)> {
    let number = text.strip_suffix('s')?;
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let seconds: i64 = whole.parse().ok().filter(|seconds| *seconds <= MAX_SECONDS)?;
    let nanos: i32 = format!("{fraction:0<9}").parse().ok()?;
    Some(if negative { (-seconds, -nanos) } else { (seconds, nanos) })
}

/// What was probably meant by `250ms`, `5` or `2m`.
fn duration_hint(text: &str) -> Option<String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let seconds = match &text[digits.len()..] {
        "" => digits.parse::<f64>().ok()?,
        "ms" => digits.parse::<f64>().ok()? / 1e3,
        "us" => digits.parse::<f64>().ok()? / 1e6,
        "m" | "min" => digits.parse::<f64>().ok()? * 60.0,
        "h" => digits.parse::<f64>().ok()? * 3600.0,
        _ => return None,
    };
    (0.0..1e9).contains(&seconds).then(|| format!("write `{seconds}s`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let rows = [
            ("0.25s", Some((0, 250_000_000))),
            ("1s", Some((1, 0))),
            ("-1.5s", Some((-1, -500_000_000))),
            ("0.000000001s", Some((0, 1))),
            ("315576000000s", Some((MAX_SECONDS, 0))),
            ("315576000001s", None),
            ("0.0000000001s", None),
            ("250ms", None),
            ("1", None),
            ("s", None),
            (".5s", None),
            ("1.s", None),
            ("+1s", None),
            ("1e3s", None),
            (" 1s", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn what_was_probably_meant() {
        let rows = [
            ("250ms", Some("write `0.25s`")),
            ("5", Some("write `5s`")),
            ("2m", Some("write `120s`")),
            ("never", None),
            ("-1ms", None),
        ];
        for (text, expected) in rows {
            assert_eq!(duration_hint(text).as_deref(), expected, "{text}");
        }
    }
}
