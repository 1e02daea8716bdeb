//! Formats with command operators (`config.core.v3.SubstitutionFormatString`), of access logs and
//! of local replies' bodies.
//!
//! What it leaves to others: compiling and writing (`crate::access_log::Format`).

#![allow(deprecated, reason = "Envoy still accepts fields that it calls deprecated")]

use super::convert::At;
use super::data_source;
use super::support::{SupportedMessage, kept, message, only, used};
use crate::access_log::Format;
use envoy_types::pb::envoy::config::core::v3::SubstitutionFormatString;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format as Specifier;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};

/// A format. Known to compile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// `text_format` or `text_format_source`
    Text(String),
    /// `json_format`; its fields are sorted.
    Json(serde_json::Value),
}

/// Where a format is used: not every operator has a value everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    AccessLog,
    LocalReply,
}

/// The longest format, in bytes: it is compiled once, and each line is about as long.
const MAX_FORMAT_BYTES: usize = 16 << 10;

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.core.v3.SubstitutionFormatString",
        &[
            used("text_format"),
            used("text_format_source"),
            used("json_format"),
            used("content_type"),
            only("omit_empty_values", &["false"]),
            used("json_format_options"),
        ],
    ),
    message(
        "envoy.config.core.v3.JsonFormatOptions",
        &[kept("sort_properties", "fields are sorted in any case")],
    ),
];

impl LogFormat {
    /// The format of the message here; `None` was reported.
    pub(super) fn from_proto(
        at: &At<'_>,
        format: &SubstitutionFormatString,
        usage: Use,
    ) -> Option<LogFormat> {
        // The reader has reported that there is none.
        match format.format.as_ref()? {
            Specifier::TextFormat(text) => {
                LogFormat::Text(text.clone()).checked(&at.field("text_format"), usage)
            }
            Specifier::TextFormatSource(source) => {
                let at = at.field("text_format_source");
                let bytes = data_source::read(&at, source, MAX_FORMAT_BYTES)?;
                match String::from_utf8(bytes) {
                    Ok(text) => LogFormat::Text(text).checked(&at, usage),
                    Err(_) => {
                        at.error("the format is not UTF-8 text");
                        None
                    }
                }
            }
            Specifier::JsonFormat(fields) => {
                let at = at.field("json_format");
                LogFormat::Json(object(fields)).checked(&at, usage)
            }
        }
    }

    /// The same, if it compiles.
    pub(super) fn checked(self, at: &At<'_>, usage: Use) -> Option<LogFormat> {
        match self.compile(usage == Use::LocalReply) {
            Ok(_) => Some(self),
            Err(error) => {
                let what = if usage == Use::AccessLog { "access logs" } else { "local replies" };
                at.error(format!("not a format of {what}: {error}"));
                None
            }
        }
    }

    /// Compiles the format, for bodies of local replies with the operator for what they replace.
    ///
    /// # Errors
    ///
    /// As [`Format::parse`]; validation has refused such formats.
    pub fn compile(&self, local_reply: bool) -> Result<Format, crate::access_log::FormatError> {
        match self {
            LogFormat::Text(text) if local_reply => Format::parse_body(text),
            LogFormat::Text(text) => Format::parse(text),
            LogFormat::Json(fields) => Format::of_json(fields, local_reply),
        }
    }
}

pub(super) fn object(fields: &Struct) -> serde_json::Value {
    // In the order of their names: a map of protobuf has none of its own.
    let sorted: std::collections::BTreeMap<_, _> = fields.fields.iter().collect();
    let entry = |(name, value): (&String, &Value)| (name.clone(), json(value));
    serde_json::Value::Object(sorted.into_iter().map(entry).collect())
}

fn json(value: &Value) -> serde_json::Value {
    match &value.kind {
        Some(Kind::StringValue(text)) => text.as_str().into(),
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() < 1e15 => {
            (*number as i64).into()
        }
        Some(Kind::NumberValue(number)) => (*number).into(),
        Some(Kind::BoolValue(flag)) => (*flag).into(),
        Some(Kind::StructValue(fields)) => object(fields),
        Some(Kind::ListValue(list)) => list.values.iter().map(json).collect(),
        Some(Kind::NullValue(_)) | None => serde_json::Value::Null,
    }
}
