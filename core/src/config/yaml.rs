//! YAML to a tree, with anchors expanded and with limits, so that a small text cannot become a huge
//! tree.
//!
//! What it leaves to others: JSON that is not YAML (`json`), and what the tree means (`reader`).

use super::ast::{Entry, Mark, Node, Scalar, Tree};
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use std::collections::HashMap;

/// How deep mappings and sequences can stand in each other. A real configuration has about thirty
/// levels.
pub(super) const MAX_DEPTH: usize = 100;
/// How many values a text can have after its aliases were expanded: about 300,000 routes.
pub(super) const MAX_NODES: usize = 4_000_000;
/// How many of them can be copies that anchors and aliases make: a text of a few lines must not
/// take the memory of one of a few thousand.
pub(super) const MAX_COPIES: usize = 200_000;

/// Why a text is not a tree, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// Where.
    pub at: Mark,
    /// Why.
    pub reason: String,
    /// What to do.
    pub hint: Option<&'static str>,
}

/// Parses the only document of `text`.
///
/// # Errors
///
/// What is wrong with it as YAML, or which limit it exceeds. The first such thing ends the parse.
pub(super) fn parse(text: &str, source: usize) -> Result<Node, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder::new(source);
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => builder.handle(event, span)?,
            Err(error) => return Err(builder.syntax_error(&error, text)),
        }
    }
    Ok(builder.finished.unwrap_or(Node { at: first(source), value: Tree::Null }))
}

fn first(source: usize) -> Mark {
    Mark { source, line: 1, column: 1 }
}

/// A mapping or sequence that is not complete yet.
struct Open {
    at: Mark,
    anchor: usize,
    value: Tree,
    /// The key whose value comes next, in a mapping.
    key: Option<Key>,
    /// Values in it so far, itself included; what a copy of it costs.
    nodes: usize,
    /// Levels below it so far.
    height: usize,
}

/// A key whose value comes next.
struct Key {
    text: String,
    at: Mark,
    /// It has the tag `!ignore`, by which Envoy leaves out what only defines anchors.
    ignored: bool,
}

/// What an alias stands for.
struct Anchored {
    node: Node,
    nodes: usize,
    height: usize,
}

/// A value that is complete.
struct Complete {
    node: Node,
    anchor: usize,
    /// It has the tag `!ignore`.
    ignored: bool,
    nodes: usize,
    height: usize,
}

struct Builder {
    source: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    nodes: usize,
    /// Of these, how many are copies.
    copies: usize,
    finished: Option<Node>,
}

impl Builder {
    fn new(source: usize) -> Builder {
        let (open, anchors) = (Vec::new(), HashMap::new());
        Builder { source, open, anchors, nodes: 0, copies: 0, finished: None }
    }

    fn handle(&mut self, event: Event<'_>, span: Span) -> Result<(), SyntaxError> {
        let at = self.mark(span.start.line(), span.start.col());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_deref();
                let string =
                    tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                let plain = style == ScalarStyle::Plain && !string;
                let bytes = text.len();
                let value = if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
                    Tree::Null
                } else {
                    Tree::Scalar(Scalar { text: text.into_owned(), plain })
                };
                let ignored = tag.is_some_and(is_ignore);
                // A long text is as many values as would take its memory.
                let nodes = 1 + bytes / 64;
                let node = Node { at, value };
                self.complete(Complete { node, anchor, ignored, nodes, height: 0 })
            }
            Event::SequenceStart(anchor, _) => self.begin(at, anchor, Tree::Sequence(Vec::new())),
            Event::MappingStart(anchor, _) => self.begin(at, anchor, Tree::Mapping(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(at, anchor),
            Event::DocumentStart(_)
            | Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn begin(&mut self, at: Mark, anchor: usize, value: Tree) -> Result<(), SyntaxError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(error(at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.open.push(Open { at, anchor, value, key: None, nodes: 1, height: 1 });
        Ok(())
    }

    fn end(&mut self) -> Result<(), SyntaxError> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let Open { at, anchor, value, nodes, height, .. } = open;
        let node = Node { at, value };
        self.complete(Complete { node, anchor, ignored: false, nodes, height })
    }

    fn alias(&mut self, at: Mark, anchor: usize) -> Result<(), SyntaxError> {
        let size = self.anchors.get(&anchor).map(|anchored| (anchored.nodes, anchored.height));
        let Some((nodes, height)) = size else {
            return Err(error(at, "an alias of a value that contains it"));
        };
        if self.open.len() + height > MAX_DEPTH {
            return Err(error(at, format!("nested deeper than {MAX_DEPTH} levels by aliases")));
        }
        // Before the clone, because it is the clone that could exhaust the memory.
        self.count_copies(at, nodes)?;
        let Some(node) = self.anchors.get(&anchor).map(|anchored| anchored.node.clone()) else {
            return Ok(());
        };
        self.complete(Complete { node, anchor: 0, ignored: false, nodes, height })
    }

    fn count(&mut self, at: Mark, nodes: usize) -> Result<(), SyntaxError> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(error(at, format!("more than {MAX_NODES} values")));
        }
        Ok(())
    }

    fn count_copies(&mut self, at: Mark, nodes: usize) -> Result<(), SyntaxError> {
        self.copies += nodes;
        if self.copies > MAX_COPIES {
            let reason = format!("anchors and aliases make more than {MAX_COPIES} values");
            let hint = Some("write out what is repeated, or repeat less");
            return Err(SyntaxError { at, reason, hint });
        }
        self.count(at, nodes)
    }

    fn complete(&mut self, complete: Complete) -> Result<(), SyntaxError> {
        let Complete { node, anchor, ignored, nodes, height } = complete;
        self.count(node.at, 1)?;
        if anchor > 0 {
            self.count_copies(node.at, nodes)?;
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes, height });
        }
        let Some(parent) = self.open.last_mut() else {
            return self.finish(node);
        };
        parent.nodes += nodes;
        parent.height = parent.height.max(height + 1);
        match &mut parent.value {
            Tree::Sequence(items) => items.push(node),
            Tree::Mapping(entries) => match parent.key.take() {
                Some(key) if key.ignored => {}
                Some(Key { text: key, at: key_at, .. }) => {
                    entries.push(Entry { key, key_at, value: node });
                }
                None => match node.value {
                    Tree::Scalar(scalar) => {
                        parent.key = Some(Key { text: scalar.text, at: node.at, ignored });
                    }
                    Tree::Null => return Err(error(node.at, "a key is missing before the colon")),
                    _ => return Err(error(node.at, "a key must be a word, not a list or mapping")),
                },
            },
            Tree::Null | Tree::Scalar(_) => {}
        }
        Ok(())
    }

    /// Takes the root of a document. What comes after the only one must be empty.
    fn finish(&mut self, root: Node) -> Result<(), SyntaxError> {
        if self.finished.is_none() {
            self.finished = Some(root);
        } else if root.value != Tree::Null {
            let reason = "a configuration is one YAML document, and a second one begins here";
            return Err(error(root.at, reason));
        }
        Ok(())
    }

    fn mark(&self, line: usize, column_from_0: usize) -> Mark {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Mark { source: self.source, line: number(line), column: number(column_from_0 + 1) }
    }

    fn syntax_error(&self, error: &saphyr_parser::ScanError, text: &str) -> SyntaxError {
        let marker = error.marker();
        let info = error.info();
        let hint = if info.contains("mapping values are not allowed")
            && is_after_prose(text, marker.line())
        {
            Some("the line before it has no `key:`: does it belong to the configuration?")
        } else if info.contains("mapping values are not allowed") {
            Some("a text that contains `: ` needs quotes; else look at the indentation")
        } else if info.contains("tab") || info.contains("valid YAML whitespace") {
            Some("use spaces, not tabs")
        } else {
            None
        };
        SyntaxError {
            at: self.mark(marker.line(), marker.col()),
            reason: format!("not valid YAML: {info}"),
            hint,
        }
    }
}

/// Whether what stands before this line, from 1, is neither a key nor an item nor a comment: a
/// shell's prompt, say, that was copied too.
fn is_after_prose(text: &str, line: usize) -> bool {
    let before = text.lines().take(line.saturating_sub(1));
    let last = before.filter(|line| !line.trim().is_empty()).last().map(str::trim);
    last.is_some_and(|line| {
        !line.ends_with(':') && !line.contains(": ") && !line.starts_with(['#', '-'])
    })
}

fn is_ignore(tag: &saphyr_parser::Tag) -> bool {
    tag.handle == "!" && tag.suffix == "ignore"
}

fn error(at: Mark, reason: impl Into<String>) -> SyntaxError {
    SyntaxError { at, reason: reason.into(), hint: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> String {
        parse(text, 0).expect_err(text).reason
    }

    #[test]
    fn an_alias_is_a_copy_of_its_anchor() {
        let node = parse("a: &x {k: v}\nb: *x\n", 0).unwrap();
        assert_eq!(node.get("a"), node.get("b"));
        assert!(node.get("b").unwrap().get("k").is_some());
    }

    #[test]
    fn aliases_of_aliases_meet_the_limit_of_values() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let alias = format!("*a{}", level - 1);
            let items = vec![alias; 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        assert_eq!(reason(&text), "anchors and aliases make more than 200000 values");
    }

    #[test]
    fn anchors_in_each_other_meet_the_limit_of_copies() {
        let levels = (1..MAX_DEPTH).map(|level| format!("&a{level} [")).collect::<String>();
        let text = format!("{levels}{}{}", "1, ".repeat(3000), "]".repeat(MAX_DEPTH - 1));
        assert_eq!(reason(&text), "anchors and aliases make more than 200000 values");
    }

    #[test]
    fn copies_of_a_long_text_meet_the_limit_of_copies() {
        let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(64_000), "*a, ".repeat(200));
        assert_eq!(reason(&text), "anchors and aliases make more than 200000 values");
    }

    #[test]
    fn depth_is_limited_with_and_without_aliases() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(&deep(MAX_DEPTH), 0).is_ok());
        assert_eq!(reason(&deep(MAX_DEPTH + 1)), "nested deeper than 100 levels");
        let text = format!("a: &a {}\nb: [{}]\n", deep(MAX_DEPTH - 1), "*a");
        assert_eq!(reason(&text), "nested deeper than 100 levels by aliases");
    }

    #[test]
    fn what_is_tagged_ignore_is_left_out() {
        let node = parse("!ignore a:\n  - &x 1\nb: *x\n", 0).unwrap();
        assert!(node.get("a").is_none());
        assert!(node.get("b").is_some());
    }

    #[test]
    fn quotes_and_the_str_tag_make_strings() {
        let node = parse("a: 5\nb: '5'\nc: !!str 5\nd: null\ne: 'null'\n", 0).unwrap();
        let plain = |key: &str| match &node.get(key).unwrap().value {
            Tree::Scalar(scalar) => Some(scalar.plain),
            _ => None,
        };
        assert_eq!(plain("a"), Some(true));
        assert_eq!(plain("b"), Some(false));
        assert_eq!(plain("c"), Some(false));
        assert_eq!(plain("d"), None);
        assert_eq!(plain("e"), Some(false));
    }

    #[test]
    fn columns_count_characters_from_one() {
        let node = parse("é: {ü: x}\n", 0).unwrap();
        let Tree::Mapping(entries) = &node.get("é").unwrap().value else { panic!() };
        assert_eq!(entries[0].key_at, Mark { source: 0, line: 1, column: 5 });
        assert_eq!(entries[0].value.at, Mark { source: 0, line: 1, column: 8 });
    }

    #[test]
    fn one_document_and_scalar_keys() {
        assert!(reason("a: 1\n---\nb: 2\n").contains("a second one begins here"));
        assert!(reason("? [1]\n: 2\n").contains("a key must be a word"));
        assert!(reason("a: &a [*a]\n").contains("alias"));
        assert!(parse("a: 1\n---\n", 0).is_ok());
        assert!(parse("a: 1\n...\n# the end\n", 0).is_ok());
        assert_eq!(parse("", 0).unwrap().value, Tree::Null);
        assert_eq!(parse("---\n# nothing\n", 0).unwrap().value, Tree::Null);
    }
}
