//! Formats that write JSON (`json_format`): the same parts as of text, with JSON around them.
//!
//! A string that is one operator becomes a value of that operator's type, and null when there is
//! none; in other strings what is missing is a hyphen, as in text.
//!
//! What it leaves to others: the operators (`operator`).

use super::format::{Format, FormatError, Operators, Part};
use serde_json::Value;

impl Format {
    /// Compiles an object, whose strings can have operators. The line ends with LF.
    ///
    /// # Errors
    ///
    /// As [`Format::parse`].
    pub fn of_json(fields: &Value, local_reply: bool) -> Result<Format, FormatError> {
        let operators = if local_reply { Operators::WithBody } else { Operators::OfLogs };
        let mut compiled = Format::default();
        push(&mut compiled, fields, operators)?;
        compiled.literal("\n");
        Ok(compiled)
    }
}

fn push(compiled: &mut Format, value: &Value, operators: Operators) -> Result<(), FormatError> {
    match value {
        Value::Object(fields) => {
            compiled.literal("{");
            for (index, (name, value)) in fields.iter().enumerate() {
                compiled.literal(if index > 0 { "," } else { "" });
                compiled.literal(&format!("{}:", Value::from(name.as_str())));
                push(compiled, value, operators)?;
            }
            compiled.literal("}");
        }
        Value::Array(values) => {
            compiled.literal("[");
            for (index, value) in values.iter().enumerate() {
                compiled.literal(if index > 0 { "," } else { "" });
                push(compiled, value, operators)?;
            }
            compiled.literal("]");
        }
        Value::String(text) => push_text(compiled, text, operators)?,
        value => compiled.literal(&value.to_string()),
    }
    Ok(())
}

fn push_text(compiled: &mut Format, text: &str, operators: Operators) -> Result<(), FormatError> {
    let parts = Format::parse_with(text, operators)?.into_parts();
    if let [Part::Value { operator, length_max }] = &parts[..] {
        let (operator, length_max) = (operator.clone(), *length_max);
        compiled.push(Part::JsonValue { operator, length_max });
        return Ok(());
    }
    compiled.literal("\"");
    for part in parts {
        match part {
            Part::Literal(literal) => {
                let quoted = Value::from(String::from_utf8_lossy(&literal)).to_string();
                compiled.literal(&quoted[1..quoted.len() - 1]);
            }
            Part::Value { operator, length_max } => {
                compiled.push(Part::JsonText { operator, length_max });
            }
            part => compiled.push(part),
        }
    }
    compiled.literal("\"");
    Ok(())
}

/// Appends text of a peer's as the inside of a JSON string. What is not UTF-8 is replaced.
pub(super) fn write_inside(out: &mut Vec<u8>, text: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for chunk in text.utf8_chunks() {
        for byte in chunk.valid().bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                0..=0x1f | 0x7f => {
                    let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                    out.extend_from_slice(b"\\u00");
                    out.extend_from_slice(&digits);
                }
                byte => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::Record;
    use crate::reply::{LocalReply, ResponseFlags};
    use serde_json::json;
    use tidegate_http::RequestHead;

    #[test]
    fn what_is_written_is_json() {
        let mut request = RequestHead::default();
        request.headers.append(b"a", b"q\"\\\t\x7f\xff\x01\xc3\xa9");
        let nothing = Record::of_reply(&LocalReply::UPGRADE_FAILED, 0);
        let record = Record {
            request: Some(&request),
            status: 404,
            flags: ResponseFlags::NO_ROUTE_FOUND,
            local_reply_body: Some(b"gone"),
            ..nothing
        };
        let format = json!({
            "code": "%RESPONSE_CODE%",
            "text": "%REQ(A)%",
            "short": "%REQ(A):1%",
            "both": "[%REQ(A)%] %REQ(B)% \"%RESPONSE_CODE%\" 100%%",
            "missing": "%REQ(B)%",
            "flags": "%RESPONSE_FLAGS%",
            "port": "%UPSTREAM_REMOTE_PORT%",
            "body": "%LOCAL_REPLY_BODY%",
            "list": [1, 2.5, true, null, {}, "plain \"text\""],
        });
        let mut out = Vec::new();
        Format::of_json(&format, true).unwrap().write(&mut out, &record);
        let written: Value = serde_json::from_slice(&out).unwrap();
        let text = "q\"\\\t\u{7f}\u{fffd}\u{1}\u{e9}";
        assert_eq!(
            written,
            json!({
                "code": 404,
                "text": text,
                "short": "q",
                "both": format!("[{text}] - \"404\" 100%"),
                "missing": null,
                "flags": "NR",
                "port": null,
                "body": "gone",
                "list": [1, 2.5, true, null, {}, "plain \"text\""],
            })
        );
        assert!(out.ends_with(b"}\n"));
        let mut out = Vec::new();
        let flags = json!({ "flags": "%RESPONSE_FLAGS%" });
        Format::of_json(&flags, false).unwrap().write(&mut out, &nothing);
        assert_eq!(out, b"{\"flags\":\"-\"}\n");
    }

    #[test]
    fn operators_are_checked() {
        for (format, local_reply) in [
            (json!({ "a": { "b": ["%NOPE%"] } }), false),
            (json!({ "a": "%LOCAL_REPLY_BODY:3%" }), true),
        ] {
            assert!(Format::of_json(&format, local_reply).is_err(), "{format}");
        }
    }
}
