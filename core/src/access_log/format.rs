//! The text format of an access log, compiled: Envoy's command operators and the text between them.
//!
//! What it leaves to others: buffers and files (`shard_log`, `writer`).

use super::operator::Operator;
use super::{Record, write_escaped};
use std::fmt;

/// Envoy's default format.
pub const DEFAULT_FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" ",
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n",
);

/// A compiled format.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Format {
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Literal(Vec<u8>),
    Value {
        operator: Operator,
        /// The most bytes of the value that are written.
        length_max: Option<usize>,
    },
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
            let (part, length) = parse_operator(&format[offset..]).map_err(error)?;
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

    /// The first operator, if there is one, that has no value as long as no upstream has answered.
    #[must_use]
    pub fn answered_later(&self) -> Option<&'static str> {
        self.parts.iter().find_map(|part| match part {
            Part::Value { operator, .. } => operator.answered_later(),
            Part::Literal(_) => None,
        })
    }

    fn literal(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Literal(before)) => before.extend_from_slice(text.as_bytes()),
            _ => self.parts.push(Part::Literal(text.into())),
        }
    }

    /// Appends the line of a stream. What comes from peers is escaped, so that it can neither begin
    /// a line nor leave its quotes: control characters, bytes beyond ASCII, `"` and `\` are written
    /// as `\xHH` (as nginx does; Envoy writes them as they are).
    pub fn write(&self, out: &mut Vec<u8>, record: &Record<'_>) {
        for part in &self.parts {
            match part {
                Part::Literal(literal) => out.extend_from_slice(literal),
                Part::Value { operator, length_max } => {
                    let length_max = length_max.unwrap_or(usize::MAX);
                    match operator.text(record) {
                        Some(text) => write_escaped(out, &text[..text.len().min(length_max)]),
                        None => {
                            let start = out.len();
                            operator.write(out, record);
                            out.truncate(start.saturating_add(length_max).min(out.len()));
                        }
                    }
                }
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
                        Some(text) => out.extend_from_slice(text),
                        None => operator.write_present(out, record),
                    }
                    let length_max = length_max.unwrap_or(usize::MAX);
                    out.truncate(start.saturating_add(length_max).min(out.len()));
                }
            }
        }
    }
}

/// Parses one operator at the start of `format`, and says how long it is.
fn parse_operator(format: &str) -> Result<(Part, usize), String> {
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
    let operator = Operator::parse(name, argument)?;
    Ok((Part::Value { operator, length_max }, format.len() - rest.len()))
}

#[cfg(test)]
mod tests;
