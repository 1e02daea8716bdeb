//! The text format of an access log, compiled: Envoy's command operators and the text between them.
//!
//! What it leaves to others: buffers and files (`shard_log`, `writer`).

use super::operator::{MISSING, Operator};
use super::{Record, json, write_escaped};
use std::fmt;

/// Envoy's default format.
pub const DEFAULT_FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" ",
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n",
);

/// A compiled format.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Format {
    parts: Vec<Part>,
}

/// A part of a format; `length_max` is the most bytes of the value that are written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Literal(Vec<u8>),
    Value {
        operator: Operator,
        length_max: Option<usize>,
    },
    /// A value of JSON, with its quotes if it is text.
    JsonValue {
        operator: Operator,
        length_max: Option<usize>,
    },
    /// The inside of a JSON string.
    JsonText {
        operator: Operator,
        length_max: Option<usize>,
    },
}

/// Which operators a format may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operators {
    /// Those of a finished stream.
    OfLogs,
    /// Those of an answer that is written: `%LOCAL_REPLY_BODY%` has a value.
    WithBody,
}

/// What is wrong with a format.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FormatError {
    /// Where the operator begins, in bytes from the format's begin.
    pub offset: usize,
    /// One sentence without a final stop.
    pub reason: String,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {} of the format)", self.reason, self.offset)
    }
}

impl std::error::Error for FormatError {}

impl Format {
    /// Compiles a format: text, `%%` for a percent sign, and `%OPERATOR(argument):LENGTH%`.
    ///
    /// # Errors
    ///
    /// An operator that is not known or not supported, a wrong argument, or a percent sign that
    /// begins nothing.
    pub fn parse(format: &str) -> Result<Format, FormatError> {
        Format::parse_with(format, Operators::OfLogs)
    }

    /// The same for bodies of local replies, with the operator for the body that was there before.
    ///
    /// # Errors
    ///
    /// As [`Format::parse`].
    pub fn parse_body(format: &str) -> Result<Format, FormatError> {
        Format::parse_with(format, Operators::WithBody)
    }

    pub(super) fn parse_with(format: &str, operators: Operators) -> Result<Format, FormatError> {
        let mut compiled = Format { parts: Vec::new() };
        let mut offset = 0;
        while let Some(start) = format[offset..].find('%') {
            compiled.literal(&format[offset..offset + start]);
            offset += start;
            let error = |reason| FormatError { offset, reason };
            if format[offset + 1..].starts_with('%') {
                compiled.literal("%");
                offset += 2;
                continue;
            }
            let (part, length) = parse_operator(&format[offset..], operators).map_err(error)?;
            compiled.parts.push(part);
            offset += length;
        }
        compiled.literal(&format[offset..]);
        Ok(compiled)
    }

    /// The text, when it has no operator and is the same for every stream.
    #[must_use]
    pub fn literal_text(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [] => Some(&[]),
            [Part::Literal(literal)] => Some(literal),
            _ => None,
        }
    }

    /// Whether it has an operator whose value is among what is [`Measured`](super::Measured).
    #[must_use]
    pub fn measures(&self) -> bool {
        self.operators().any(Operator::is_measured)
    }

    /// The first operator, if there is one, that has no value as long as no upstream has answered.
    #[must_use]
    pub fn answered_later(&self) -> Option<&'static str> {
        self.operators().find_map(Operator::answered_later)
    }

    fn operators(&self) -> impl Iterator<Item = &Operator> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Value { operator, .. }
            | Part::JsonValue { operator, .. }
            | Part::JsonText { operator, .. } => Some(operator),
        })
    }

    pub(super) fn literal(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Literal(before)) => before.extend_from_slice(text.as_bytes()),
            _ => self.parts.push(Part::Literal(text.into())),
        }
    }

    pub(super) fn push(&mut self, part: Part) {
        self.parts.push(part);
    }

    pub(super) fn into_parts(self) -> Vec<Part> {
        self.parts
    }

    /// Appends the line of a stream. What comes from peers is escaped, so that it can neither begin
    /// a line nor leave its quotes: control characters, bytes beyond ASCII, `"` and `\` are written
    /// as `\xHH` (as nginx does; Envoy writes them as they are).
    pub fn write(&self, out: &mut Vec<u8>, record: &Record<'_>) {
        self.write_parts(out, record, write_escaped);
    }

    /// Appends a body: as [`Format::write`], but nothing is escaped in text.
    pub fn write_body(&self, out: &mut Vec<u8>, record: &Record<'_>) {
        self.write_parts(out, record, Vec::extend_from_slice);
    }

    fn write_parts(
        &self,
        out: &mut Vec<u8>,
        record: &Record<'_>,
        write_text: impl Fn(&mut Vec<u8>, &[u8]),
    ) {
        for part in &self.parts {
            match part {
                Part::Literal(literal) => out.extend_from_slice(literal),
                Part::Value { operator, length_max } => {
                    let length_max = length_max.unwrap_or(usize::MAX);
                    match operator.text(record) {
                        // It is the configuration's own.
                        Some(text) if operator.is_metadata() => {
                            out.extend_from_slice(&text[..text.len().min(length_max)]);
                        }
                        Some(text) => write_text(out, &text[..text.len().min(length_max)]),
                        None => write_short(operator, out, record, length_max),
                    }
                }
                part => part.write_json(out, record),
            }
        }
    }

    /// Appends the value for a header field: what there is not is left out, and nothing is escaped,
    /// since what comes from peers was a header field's value, or part of a target, before.
    pub fn write_value(&self, out: &mut Vec<u8>, record: &Record<'_>) {
        for part in &self.parts {
            match part {
                Part::Literal(literal) => out.extend_from_slice(literal),
                Part::Value { operator, length_max } => {
                    let start = out.len();
                    match operator.text(record) {
                        Some(text) => out.extend_from_slice(&text),
                        None => operator.write_present(out, record),
                    }
                    let length_max = length_max.unwrap_or(usize::MAX);
                    out.truncate(start.saturating_add(length_max).min(out.len()));
                }
                part => part.write_json(out, record),
            }
        }
    }
}

impl Part {
    /// Appends a part that is JSON.
    fn write_json(&self, out: &mut Vec<u8>, record: &Record<'_>) {
        let (Part::JsonValue { operator, length_max } | Part::JsonText { operator, length_max }) =
            self
        else {
            return;
        };
        let length_max = length_max.unwrap_or(usize::MAX);
        let is_value = matches!(self, Part::JsonValue { .. });
        if is_value && let Some(value) = operator.metadata(record).filter(|it| !it.is_string()) {
            out.extend_from_slice(value.to_string().as_bytes());
            return;
        }
        if let Some(text) = operator.text(record) {
            let quote: &[u8] = if is_value && !operator.is_number() { b"\"" } else { b"" };
            out.extend_from_slice(quote);
            json::write_inside(out, &text[..text.len().min(length_max)]);
            out.extend_from_slice(quote);
            return;
        }
        let start = out.len();
        write_short(operator, out, record, length_max);
        if !is_value || operator.is_number() && &out[start..] != MISSING {
            return;
        }
        if &out[start..] == MISSING && !operator.is_flags() {
            out.truncate(start);
            out.extend_from_slice(b"null");
        } else {
            out.insert(start, b'"');
            out.push(b'"');
        }
    }
}

/// Appends the value of an operator that has no text, up to a length.
fn write_short(operator: &Operator, out: &mut Vec<u8>, record: &Record<'_>, length_max: usize) {
    let start = out.len();
    operator.write(out, record);
    out.truncate(start.saturating_add(length_max).min(out.len()));
}

/// Parses one operator at the start of `format`, and says how long it is.
fn parse_operator(format: &str, operators: Operators) -> Result<(Part, usize), String> {
    let name_length = format[1..]
        .find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
        .unwrap_or(format.len() - 1);
    let (name, mut rest) = format[1..].split_at(name_length);
    if name.is_empty() {
        return Err("a percent sign that begins no operator; write %% for the sign itself".into());
    }
    let mut argument = None;
    if let Some(inside) = rest.strip_prefix('(') {
        let Some((inside, after)) = inside.split_once(')') else {
            return Err(format!("%{name}( has no closing parenthesis"));
        };
        (argument, rest) = (Some(inside), after);
    }
    let mut length_max = None;
    if let Some(after) = rest.strip_prefix(':') {
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let length = after[..digits].parse();
        length_max = Some(length.map_err(|_| format!("%{name}: has no length after the colon"))?);
        rest = &after[digits..];
    }
    let Some(rest) = rest.strip_prefix('%') else {
        return Err(format!("%{name} has no closing percent sign"));
    };
    let operator = if name == "LOCAL_REPLY_BODY" && operators == Operators::WithBody {
        if argument.is_some() || length_max.is_some() {
            return Err("%LOCAL_REPLY_BODY% takes neither argument nor length".to_owned());
        }
        Operator::LocalReplyBody
    } else {
        Operator::parse(name, argument)?
    };
    Ok((Part::Value { operator, length_max }, format.len() - rest.len()))
}

#[cfg(test)]
mod tests;
