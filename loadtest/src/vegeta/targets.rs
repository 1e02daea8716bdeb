//! vegeta's target files: its `http` format, and JSON lines.
//!
//! What it leaves to others: `@file` bodies are read here; sending is not.

use std::path::Path;

use base64::Engine as _;
use serde_json::Value;

use crate::target::{Origin, Parts, Target, Url, header};

/// Targets of one origin: all must name the same host and port.
pub fn read(
    text: &str,
    is_json: bool,
    folder: &Path,
    common: &Parts,
) -> Result<(Origin, Vec<Target>), String> {
    let parsed = if is_json { json(text)? } else { http(text, folder)? };
    let mut origin: Option<Origin> = None;
    let mut targets = Vec::new();
    for (url_text, mut parts) in parsed {
        let url = Url::parse(&url_text)?;
        let its = match &origin {
            Some(known) if known.authority == url.authority && known.is_https == url.is_https => {
                known.clone()
            }
            Some(known) => {
                return Err(format!(
                    "{url_text}: all targets of a run are of one origin, here {}",
                    known.authority
                ));
            }
            None => url.resolve()?,
        };
        origin = Some(its);
        let mut headers = common.headers.clone();
        headers.append(&mut parts.headers);
        parts.headers = headers;
        if parts.body.is_empty() {
            parts.body.clone_from(&common.body);
        }
        targets.push(Target::new(&url, &url_text, &parts)?);
    }
    origin.map(|origin| (origin, targets)).ok_or_else(|| "there are no targets".to_owned())
}

/// `METHOD URL`, header lines, and `@file` for the body; empty lines between targets.
fn http(text: &str, folder: &Path) -> Result<Vec<(String, Parts)>, String> {
    let mut targets: Vec<(String, Parts)> = Vec::new();
    let mut is_in_target = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let place = |error: String| format!("targets, line {}: {error}", number + 1);
        if line.is_empty() {
            is_in_target = false;
        } else if line.starts_with('#') {
        } else if let Some((method, url)) = start_line(line) {
            let parts = Parts { method: method.to_owned(), ..Parts::default() };
            targets.push((url.to_owned(), parts));
            is_in_target = true;
        } else if let (true, Some((_, parts))) = (is_in_target, targets.last_mut()) {
            if let Some(file) = line.strip_prefix('@') {
                let path = folder.join(file);
                parts.body = std::fs::read(&path)
                    .map_err(|error| place(format!("{}: {error}", path.display())))?;
            } else {
                parts.headers.push(header(line).map_err(place)?);
            }
        } else {
            return Err(place(format!("`{line}`: a target begins with METHOD URL")));
        }
    }
    Ok(targets)
}

fn start_line(line: &str) -> Option<(&str, &str)> {
    let (method, url) = line.split_once(' ')?;
    let is_method = !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase());
    (is_method && url.contains("://")).then_some((method, url.trim()))
}

/// One object per line: `method`, `url`, `header` (lists of values), `body` (base64).
fn json(text: &str) -> Result<Vec<(String, Parts)>, String> {
    let mut targets = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |what: &str| format!("targets, line {}: {what}", number + 1);
        let value: Value = serde_json::from_str(line).map_err(|e| wrong(&e.to_string()))?;
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("");
        let mut headers = Vec::new();
        let fields = value.get("header").and_then(Value::as_object);
        for (name, values) in fields.into_iter().flatten() {
            for value in values.as_array().into_iter().flatten().filter_map(Value::as_str) {
                headers.push(header(&format!("{name}: {value}")).map_err(|e| wrong(&e))?);
            }
        }
        let body = base64::engine::general_purpose::STANDARD
            .decode(text("body"))
            .map_err(|_| wrong("`body` is no base64"))?;
        if text("url").is_empty() {
            return Err(wrong("no `url`"));
        }
        let parts = Parts { method: text("method").to_owned(), headers, body };
        targets.push((text("url").to_owned(), parts));
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wires(text: &str, is_json: bool) -> Result<Vec<String>, String> {
        let (_, targets) = read(text, is_json, Path::new("."), &Parts::default())?;
        Ok(targets.into_iter().map(|t| String::from_utf8(t.wire).unwrap()).collect())
    }

    #[test]
    fn the_http_format() {
        let text = "# comment\nGET http://127.0.0.1:1/a\nX-One: 1\n\nDELETE http://127.0.0.1:1/b\n\
                    GET http://127.0.0.1:1/c\n";
        let wires = wires(text, false).unwrap();
        assert_eq!(wires.len(), 3);
        assert!(wires[0].starts_with("GET /a ") && wires[0].contains("x-one: 1\r\n"));
        assert!(wires[1].starts_with("DELETE /b ") && wires[2].starts_with("GET /c "));
    }

    #[test]
    fn the_json_format() {
        let text = r#"{"method": "POST", "url": "http://127.0.0.1:1/a", "body": "aGVsbG8=", "header": {"X-A": ["1", "2"]}}"#;
        let wires = wires(text, true).unwrap();
        assert!(wires[0].ends_with("hello") && wires[0].contains("x-a: 1\r\nx-a: 2\r\n"));
    }

    #[test]
    fn mistakes_name_their_line() {
        let cases = [
            ("X: y\n", false, "line 1"),
            ("GET http://127.0.0.1/\n@nowhere\n", false, "line 2"),
            ("GET http://127.0.0.1/\nnonsense\n", false, "line 2"),
            ("GET http://127.0.0.1:1/\nGET http://127.0.0.1:2/\n", false, "one origin"),
            ("", false, "no targets"),
            ("{\"method\": \"GET\"}", true, "no `url`"),
            ("\n{", true, "line 2"),
        ];
        for (text, is_json, expected) in cases {
            let error = wires(text, is_json).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
