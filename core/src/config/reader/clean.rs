//! Whether an encoded message needs no reading by names: everything that it has is supported and
//! follows the rules. What management servers send mostly is, and is then converted as it came.
//!
//! It errs on one side only: a message that it does not take for clean is read by names, which says
//! what is wrong. What it leaves to others: what the fields mean (each noun's `from_proto`).

use super::super::support::{self, Support};
use super::extension::supported_types;
use super::{Reader, Scope};
use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, ReflectMessage, Value};

/// How deep an extension can stand in extensions.
const DEPTH_MAX: usize = 20;

/// Of `google.protobuf.Duration`, in seconds.
const DURATION_MAX: i64 = 315_576_000_000;

impl Reader<'_, '_> {
    /// Whether a message is clean.
    pub fn is_clean(&mut self, message: &DynamicMessage) -> bool {
        let is_clean = self.is_clean_message(message, Scope::Used, 0);
        is_clean && !self.report.has_errors()
    }

    fn is_clean_message(&mut self, message: &DynamicMessage, scope: Scope, depth: usize) -> bool {
        let descriptor = message.descriptor();
        let name = descriptor.full_name();
        if message.unknown_fields().next().is_some() {
            return false;
        }
        for (field, value) in message.fields() {
            let scope = match scope {
                Scope::Kept => Scope::Kept,
                Scope::Used => match support::support(name, field.name()) {
                    Some(Support::Used | Support::Types(_)) => Scope::Used,
                    Some(Support::Kept(_)) => Scope::Kept,
                    Some(Support::Only(values) | Support::Must(values)) => {
                        if !text_of(&field, value).is_some_and(|text| values.contains(&&*text)) {
                            return false;
                        }
                        Scope::Kept
                    }
                    // One of them counts, or there is something to say.
                    Some(Support::FirstOf(_) | Support::Reported(_) | Support::Refused) | None => {
                        return false;
                    }
                },
            };
            self.check_rules(message, &field, None);
            if !self.is_clean_value(&field, &field, value, scope, depth) {
                return false;
            }
        }
        self.check_required(message, &descriptor, None);
        !self.report.has_errors()
    }

    /// `holder` says which messages an `Any` can have.
    fn is_clean_value(
        &mut self,
        holder: &FieldDescriptor,
        field: &FieldDescriptor,
        value: &Value,
        scope: Scope,
        depth: usize,
    ) -> bool {
        match value {
            Value::List(items) => {
                items.iter().all(|item| self.is_clean_value(holder, field, item, scope, depth))
            }
            Value::Map(entries) => {
                let Kind::Message(entry) = field.kind() else { return false };
                let inner = entry.map_entry_value_field();
                entries.values().all(|it| self.is_clean_value(holder, &inner, it, scope, depth))
            }
            Value::Message(message) if message.unknown_fields().next().is_some() => false,
            Value::Message(message) => match message.descriptor().full_name() {
                "google.protobuf.Any" => self.is_clean_any(holder, message, scope, depth),
                "google.protobuf.Duration" => is_duration(message),
                name if name.starts_with("google.protobuf.") => is_plain(message),
                _ => self.is_clean_message(message, scope, depth),
            },
            Value::EnumNumber(number) => match field.kind() {
                Kind::Enum(descriptor) => has_value(&descriptor, *number),
                _ => false,
            },
            _ => is_plain_value(value),
        }
    }

    fn is_clean_any(
        &mut self,
        holder: &FieldDescriptor,
        any: &DynamicMessage,
        scope: Scope,
        depth: usize,
    ) -> bool {
        let url = any.get_field_by_name("type_url");
        let url = url.as_deref().and_then(Value::as_str).unwrap_or_default();
        let Some((_, name)) = url.rsplit_once('/') else { return false };
        if depth >= DEPTH_MAX || scope == Scope::Used && !supported_types(holder).contains(&name) {
            return false;
        }
        let Some(descriptor) = self.pool.get_message_by_name(name) else { return false };
        if descriptor.package_name() == "google.protobuf" {
            return false;
        }
        let value = any.get_field_by_name("value");
        let bytes = value.as_deref().and_then(Value::as_bytes).cloned().unwrap_or_default();
        match DynamicMessage::decode(descriptor, bytes) {
            Ok(message) => self.is_clean_message(&message, scope, depth + 1),
            Err(_) => false,
        }
    }
}

/// Whether a message of protobuf's own, about which there are no rules, has only what it may have.
fn is_plain(message: &DynamicMessage) -> bool {
    let mut fields = message.fields();
    message.unknown_fields().next().is_none() && fields.all(|(_, value)| is_plain_value(value))
}

fn is_plain_value(value: &Value) -> bool {
    match value {
        // Text can have what YAML cannot.
        Value::String(text) => text.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
        Value::F32(number) => number.is_finite(),
        Value::F64(number) => number.is_finite(),
        Value::Message(message) => is_plain(message),
        Value::List(items) => items.iter().all(is_plain_value),
        Value::Map(entries) => entries.values().all(is_plain_value),
        _ => true,
    }
}

fn has_value(descriptor: &EnumDescriptor, number: i32) -> bool {
    descriptor.get_value(number).is_some()
}

/// A value as tables of what is supported have it.
fn text_of(field: &FieldDescriptor, value: &Value) -> Option<String> {
    match (field.kind(), value) {
        (Kind::Enum(descriptor), Value::EnumNumber(number)) => {
            Some(descriptor.get_value(*number)?.name().to_owned())
        }
        (_, Value::Bool(value)) => Some(value.to_string()),
        (Kind::Message(message), Value::Message(value))
            if message.full_name() == "google.protobuf.BoolValue" =>
        {
            let value = value.get_field_by_name("value");
            Some(value.as_deref().and_then(Value::as_bool).unwrap_or_default().to_string())
        }
        _ => None,
    }
}

/// Whether JSON could have it.
fn is_duration(message: &DynamicMessage) -> bool {
    let number = |name: &str| message.get_field_by_name(name).map(|value| value.into_owned());
    let seconds = number("seconds").and_then(|value| value.as_i64()).unwrap_or_default();
    let nanos = number("nanos").and_then(|value| value.as_i32()).unwrap_or_default();
    (0..=DURATION_MAX).contains(&seconds) && (0..1_000_000_000).contains(&nanos)
}
