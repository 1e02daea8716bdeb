//! JSON to a tree. Most JSON is YAML, but not all: tabs after a colon and `\u` pairs of surrogates
//! are not.
//!
//! What it leaves to others: what the tree means (`reader`).

use super::ast::{Entry, Mark, Node, Scalar, Tree};
use super::yaml::{MAX_DEPTH, MAX_NODES, SyntaxError};

/// Parses `text`, which is one JSON value.
///
/// # Errors
///
/// The first thing that is not JSON, or the limit that the text exceeds.
pub(super) fn parse(text: &str, source: usize) -> Result<Node, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut json = Json { rest: text, at: Mark { source, line: 1, column: 1 }, nodes: 0, depth: 0 };
    json.skip_space();
    let node = json.value()?;
    json.skip_space();
    if json.rest.is_empty() { Ok(node) } else { Err(json.error("expected the end of the JSON")) }
}

struct Json<'a> {
    rest: &'a str,
    at: Mark,
    nodes: usize,
    depth: usize,
}

impl Json<'_> {
    fn value(&mut self) -> Result<Node, SyntaxError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(self.error(&format!("more than {MAX_NODES} values")));
        }
        let at = self.at;
        let value = match self.peek() {
            Some('{') => self.nested(Json::object)?,
            Some('[') => self.nested(Json::array)?,
            Some('"') => Tree::Scalar(Scalar { text: self.string()?, plain: false }),
            Some(_) => self.word()?,
            None => return Err(self.error("the JSON ends where a value was expected")),
        };
        Ok(Node { at, value })
    }

    fn nested(
        &mut self,
        read: fn(&mut Self) -> Result<Tree, SyntaxError>,
    ) -> Result<Tree, SyntaxError> {
        if self.depth >= MAX_DEPTH {
            return Err(self.error(&format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        let tree = read(self)?;
        self.depth -= 1;
        Ok(tree)
    }

    fn object(&mut self) -> Result<Tree, SyntaxError> {
        let mut entries = Vec::new();
        self.advance();
        self.skip_space();
        if self.take('}') {
            return Ok(Tree::Mapping(entries));
        }
        loop {
            let key_at = self.at;
            if self.peek() != Some('"') {
                return Err(self.error("expected a key in double quotes"));
            }
            let key = self.string()?;
            self.skip_space();
            if !self.take(':') {
                return Err(self.error("expected `:` after a key"));
            }
            self.skip_space();
            let value = self.value()?;
            entries.push(Entry { key, key_at, value });
            if !self.another('}')? {
                return Ok(Tree::Mapping(entries));
            }
        }
    }

    fn array(&mut self) -> Result<Tree, SyntaxError> {
        let mut items = Vec::new();
        self.advance();
        self.skip_space();
        if self.take(']') {
            return Ok(Tree::Sequence(items));
        }
        loop {
            items.push(self.value()?);
            if !self.another(']')? {
                return Ok(Tree::Sequence(items));
            }
        }
    }

    /// Whether a comma comes, with something after it, and not `end`.
    fn another(&mut self, end: char) -> Result<bool, SyntaxError> {
        self.skip_space();
        if self.take(end) {
            return Ok(false);
        }
        if !self.take(',') {
            return Err(self.error(&format!("expected `,` or `{end}`")));
        }
        self.skip_space();
        Ok(true)
    }

    fn word(&mut self) -> Result<Tree, SyntaxError> {
        let ends = |c: char| c.is_whitespace() || matches!(c, ',' | ']' | '}' | ':' | '"');
        let word = &self.rest[..self.rest.find(ends).unwrap_or(self.rest.len())];
        // A JSON number never begins with a zero and another digit, which would be octal in YAML.
        let number = serde_json::from_str::<serde_json::Number>(word).is_ok();
        let tree = match word {
            "null" => Tree::Null,
            "true" | "false" => Tree::Scalar(Scalar { text: word.to_owned(), plain: true }),
            _ if number => Tree::Scalar(Scalar { text: word.to_owned(), plain: true }),
            _ => return Err(self.error("expected a JSON value")),
        };
        for _ in word.chars() {
            self.advance();
        }
        Ok(tree)
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        let begin = self.at;
        let from = self.rest;
        self.advance();
        loop {
            match self.peek() {
                None => {
                    return Err(SyntaxError { at: begin, ..self.error("a string without end") });
                }
                Some('"') => break,
                Some('\\') => {
                    self.advance();
                    self.advance();
                }
                Some(_) => self.advance(),
            }
        }
        self.advance();
        let quoted = &from[..from.len() - self.rest.len()];
        serde_json::from_str(quoted).map_err(|_| SyntaxError {
            at: begin,
            ..self.error("a string with an escape or control character that JSON does not allow")
        })
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn take(&mut self, expected: char) -> bool {
        let found = self.peek() == Some(expected);
        if found {
            self.advance();
        }
        found
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\r' | '\n')) {
            self.advance();
        }
    }

    fn advance(&mut self) {
        let Some(c) = self.peek() else { return };
        self.rest = &self.rest[c.len_utf8()..];
        if c == '\n' {
            self.at.line = self.at.line.saturating_add(1);
            self.at.column = 1;
        } else {
            self.at.column = self.at.column.saturating_add(1);
        }
    }

    fn error(&self, reason: &str) -> SyntaxError {
        SyntaxError { at: self.at, reason: format!("not valid JSON: {reason}"), hint: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_yaml_does_not_take() {
        let node =
            parse("{\"a\":\t\"\\ud83d\\ude00\\/\",\n\t\"b\": [\n\t\t1,\n\t\t-2.5e3\n\t]}", 0)
                .unwrap();
        let text = |node: &Node| match &node.value {
            Tree::Scalar(scalar) => scalar.text.clone(),
            _ => panic!("{node:?}"),
        };
        assert_eq!(text(node.get("a").unwrap()), "😀/");
        let Tree::Sequence(items) = &node.get("b").unwrap().value else { panic!() };
        assert_eq!(text(&items[1]), "-2.5e3");
        assert_eq!(items[1].at, Mark { source: 0, line: 4, column: 3 });
    }

    #[test]
    fn errors_have_their_place() {
        let rows = [
            ("{\"a\":1,}", 8),
            ("{a:1}", 2),
            ("[1 2]", 4),
            ("[01]", 2),
            ("{\"a\"}", 5),
            ("\"x", 1),
            ("\"\\q\"", 1),
            ("[1]x", 4),
            ("", 1),
            ("{\"a\":", 6),
        ];
        for (text, column) in rows {
            let error = parse(text, 0).expect_err(text);
            assert_eq!(error.at.column, column, "{text}: {}", error.reason);
        }
    }

    #[test]
    fn depth_is_limited() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(&deep(MAX_DEPTH), 0).is_ok());
        assert!(parse(&deep(MAX_DEPTH + 1), 0).is_err());
    }
}
