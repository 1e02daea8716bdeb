//! Single values: booleans, numbers, strings, bytes and enums.
//!
//! What it leaves to others: messages that are written as one value (`well_known`).

use super::super::ast::{Node, Scalar, Tree, shorten};
use super::{Reader, hints};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, Value};

impl Reader<'_, '_> {
    /// Reads a single value.
    pub(super) fn scalar(&mut self, node: &Node, kind: &Kind) -> Option<Value> {
        let Tree::Scalar(scalar) = &node.value else {
            self.expected(node, what(kind));
            return None;
        };
        match kind {
            Kind::Bool => {
                let value = boolean(scalar);
                if value.is_none() {
                    self.expected(node, what(kind));
                }
                value.map(Value::Bool)
            }
            Kind::String => self.string(node, scalar).map(Value::String),
            Kind::Bytes => self.bytes(node, scalar),
            Kind::Enum(descriptor) => {
                self.enumeration(node, scalar, descriptor).map(Value::EnumNumber)
            }
            Kind::Float | Kind::Double => self.float(node, scalar, kind),
            _ => self.integer(node, scalar, kind),
        }
    }

    /// The value as `Support::Only` writes it: `true`, `0`, `HTTP1`. `None` if it is no value of
    /// the field.
    pub(super) fn canonical(&self, field: &FieldDescriptor, node: &Node) -> Option<String> {
        let Tree::Scalar(scalar) = &node.value else { return None };
        match field.kind() {
            Kind::Enum(descriptor) => {
                let number = enum_number(scalar, &descriptor)?;
                descriptor.get_value(number).map(|value| value.name().to_owned())
            }
            Kind::Bool => boolean(scalar).map(|value| value.to_string()),
            Kind::Message(message) if message.full_name() == "google.protobuf.BoolValue" => {
                boolean(scalar).map(|value| value.to_string())
            }
            _ => scalar
                .as_bool()
                .map(|value| value.to_string())
                .or_else(|| scalar.as_integer().map(|value| value.to_string()))
                .or_else(|| Some(scalar.text.clone())),
        }
    }

    fn string(&mut self, node: &Node, scalar: &Scalar) -> Option<String> {
        if scalar.as_bool().is_some() || scalar.as_integer().is_some() {
            let hint = format!("put quotes around it: \"{}\"", shorten(&scalar.text));
            self.expected_hint(node, "a string", Some(&hint));
            return None;
        }
        Some(scalar.text.clone())
    }

    fn bytes(&mut self, node: &Node, scalar: &Scalar) -> Option<Value> {
        let config = GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true);
        let url_safe = scalar.text.contains(['-', '_']);
        let alphabet = if url_safe { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
        match GeneralPurpose::new(alphabet, config).decode(&scalar.text) {
            Ok(bytes) => Some(Value::Bytes(bytes.into())),
            Err(_) => {
                self.expected(node, "bytes in base64");
                None
            }
        }
    }

    fn enumeration(
        &mut self,
        node: &Node,
        scalar: &Scalar,
        descriptor: &EnumDescriptor,
    ) -> Option<i32> {
        if let Some(number) = enum_number(scalar, descriptor) {
            return Some(number);
        }
        let names: Vec<String> = descriptor.values().map(|value| value.name().to_owned()).collect();
        let hint = hints::nearest(&scalar.text.to_uppercase(), names.iter().map(String::as_str))
            .map(|name| format!("did you mean `{name}`?"));
        let reason = format!(
            "`{}` is not a value of {}; it has {}",
            shorten(&scalar.text),
            descriptor.full_name(),
            names.join(", ")
        );
        self.report.error(Some(node.at), &self.path, reason, hint);
        None
    }

    fn float(&mut self, node: &Node, scalar: &Scalar, kind: &Kind) -> Option<Value> {
        let value = match scalar.text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => scalar
                .as_integer()
                .map(|value| value as f64)
                .or_else(|| text.parse().ok().filter(|value: &f64| value.is_finite())),
        };
        match value {
            Some(value) if *kind == Kind::Float => Some(Value::F32(value as f32)),
            Some(value) => Some(Value::F64(value)),
            None => {
                self.expected(node, what(kind));
                None
            }
        }
    }

    fn integer(&mut self, node: &Node, scalar: &Scalar, kind: &Kind) -> Option<Value> {
        let Some(number) = whole_number(scalar) else {
            self.expected(node, what(kind));
            return None;
        };
        let value = match kind {
            Kind::Uint32 | Kind::Fixed32 => u32::try_from(number).ok().map(Value::U32),
            Kind::Uint64 | Kind::Fixed64 => u64::try_from(number).ok().map(Value::U64),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                i32::try_from(number).ok().map(Value::I32)
            }
            _ => i64::try_from(number).ok().map(Value::I64),
        };
        if value.is_none() {
            let reason = format!("{number} is out of range: expected {}", what(kind));
            self.report.error(Some(node.at), &self.path, reason, None);
        }
        value
    }
}

/// A boolean, also in quotes, in any case and by its first letter, as Envoy takes it.
fn boolean(scalar: &Scalar) -> Option<bool> {
    if scalar.as_integer().is_some() {
        return None;
    }
    scalar.as_bool().or_else(|| match scalar.text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    })
}

/// An integer, also in quotes (as JSON writes those of 64 bits) and also as `1.0` or `1e3`.
fn whole_number(scalar: &Scalar) -> Option<i128> {
    if let Some(integer) = scalar.as_integer() {
        return Some(i128::from(integer));
    }
    if let Ok(integer) = scalar.text.parse::<i128>() {
        return Some(integer);
    }
    if let Some(digits) = scalar.text.strip_prefix("0x") {
        return i128::from_str_radix(digits, 16).ok().filter(|integer| *integer >= 0);
    }
    // Above 2^53 a float is no longer the integer that was written.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let float = scalar.text.parse::<f64>().ok()?;
    (float.fract() == 0.0 && float.abs() <= EXACT).then_some(float as i128)
}

/// The number of an enum's value, by number or by name in any case.
fn enum_number(scalar: &Scalar, descriptor: &EnumDescriptor) -> Option<i32> {
    if let Some(number) = scalar.as_integer().or_else(|| scalar.text.parse().ok()) {
        let number = i32::try_from(number).ok()?;
        return descriptor.get_value(number).map(|value| value.number());
    }
    if let Some(value) = descriptor.get_value_by_name(&scalar.text) {
        return Some(value.number());
    }
    let name = &scalar.text;
    let number = descriptor.values().find(|value| value.name().eq_ignore_ascii_case(name));
    number.map(|value| value.number())
}

/// What a field of this kind takes.
pub(super) fn what(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "`true` or `false`",
        Kind::String => "a string",
        Kind::Bytes => "bytes in base64",
        Kind::Enum(_) => "a name",
        Kind::Float | Kind::Double => "a number",
        Kind::Uint32 | Kind::Fixed32 => "an integer from 0 to 4294967295",
        Kind::Uint64 | Kind::Fixed64 => "an integer from 0 to 18446744073709551615",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "an integer of 32 bits",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "an integer of 64 bits",
        Kind::Message(_) => "a mapping",
    }
}
