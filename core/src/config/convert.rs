//! What the nouns share when they turn protobuf messages into configuration: where they are, and
//! how they say what is wrong.
//!
//! What it leaves to others: the messages themselves (each noun's `from_proto`).

use super::ast::{Mark, Node, Tree};
use super::report::{Report, is_full};
use super::runtime::{Lookups, Runtime};
use super::tls::Secret;
use envoy_types::pb::google::protobuf::{self as wkt, Any};
use prost::Message;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashSet;
use std::time::Duration;

/// The longest duration: what nanoseconds in 63 bits can count, about 292 years. Envoy's is the
/// same.
const MAX_SECONDS: u64 = 9_223_372_036;

/// What all large regexes of a configuration may take, compiled. RE2 stops a single one at 8 MiB.
const REGEX_BYTES_MAX: usize = 64 << 20;
/// A regex of this size is not large: thousands of them are what a configuration may have.
const REGEX_BYTES_USUAL: usize = 64 << 10;

/// One conversion of a whole configuration.
pub(super) struct Conversion<'c> {
    roots: &'c [Node],
    findings: RefCell<Vec<Finding>>,
    /// Whether the reader has found errors.
    failed: bool,
    /// Fields that were written but could not be read; see [`Report::is_unreadable`].
    unreadable: HashSet<String>,
    runtime: OnceCell<Lookups>,
    /// `static_resources.secrets`
    secrets: OnceCell<Vec<Secret>>,
    /// What large regexes take so far.
    regex_bytes: Cell<usize>,
}

struct Finding {
    at: Option<Mark>,
    path: String,
    reason: String,
    hint: Option<String>,
    warning: bool,
}

/// A place in the configuration: a chain of fields from the root.
#[derive(Clone, Copy)]
pub(super) struct At<'p> {
    conversion: &'p Conversion<'p>,
    parent: Option<&'p At<'p>>,
    segment: Segment<'p>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Segment<'p> {
    Root,
    Field(&'p str),
    Index(usize),
    Key(&'p str),
}

impl<'c> Conversion<'c> {
    /// A conversion of what `roots` say, whose reading is in `report`.
    pub fn new(roots: &'c [Node], report: &Report<'_>) -> Conversion<'c> {
        let unreadable = report.unreadable().clone();
        let failed = report.has_errors();
        let (findings, runtime) = (RefCell::default(), OnceCell::new());
        let (secrets, regex_bytes) = (OnceCell::new(), Cell::new(0));
        Conversion { roots, findings, failed, unreadable, runtime, secrets, regex_bytes }
    }

    /// Converts from the root, and adds what was found to `report`.
    pub fn run<T>(self, report: &mut Report<'_>, convert: impl FnOnce(&At<'_>) -> T) -> T {
        let root = At { conversion: &self, parent: None, segment: Segment::Root };
        let converted = convert(&root);
        for Finding { at, path, reason, hint, warning } in self.findings.into_inner() {
            if warning {
                report.warning(at, &path, reason, hint);
            } else {
                report.error(at, &path, reason, hint);
            }
        }
        converted
    }
}

impl<'p> At<'p> {
    /// A field of the message here.
    pub fn field<'q>(&'q self, name: &'q str) -> At<'q> {
        self.child(Segment::Field(name))
    }

    /// An item of the list here.
    pub fn index<'q>(&'q self, index: usize) -> At<'q> {
        self.child(Segment::Index(index))
    }

    /// An entry of the map here.
    pub fn key<'q>(&'q self, key: &'q str) -> At<'q> {
        self.child(Segment::Key(key))
    }

    fn child<'q>(&'q self, segment: Segment<'q>) -> At<'q> {
        At { conversion: self.conversion, parent: Some(self), segment }
    }

    /// Reports an error here.
    pub fn error(&self, reason: impl Into<String>) {
        self.find(reason.into(), None, false);
    }

    /// Reports an error here, and what to do.
    pub fn error_hint(&self, reason: impl Into<String>, hint: impl Into<String>) {
        self.find(reason.into(), Some(hint.into()), false);
    }

    /// Reports a warning here.
    pub fn warning(&self, reason: impl Into<String>) {
        self.find(reason.into(), None, true);
    }

    /// Reports that a field of the message here is missing, unless it was written and could not be
    /// read.
    pub fn missing(&self, field: &str, hint: Option<&str>) {
        let reason = format!("`{field}` is required");
        self.field(field).find(reason, hint.map(str::to_owned), false);
    }

    /// The same value; but if it is absent and nobody has said why, that is an error: what was
    /// asked for must never be left out silently.
    pub fn converted<T>(&self, value: Option<T>) -> Option<T> {
        let is_said = || self.conversion.findings.borrow().iter().any(|finding| !finding.warning);
        if value.is_none() && !self.conversion.failed && !is_said() {
            let (at, path) = (self.mark(), self.path());
            let reason = "this cannot be carried out as it is written".to_owned();
            let finding = Finding { at, path, reason, hint: None, warning: false };
            self.conversion.findings.borrow_mut().push(finding);
        }
        value
    }

    /// Whether a further regex may be compiled. If not, that was reported.
    pub fn may_spend_on_regexes(&self) -> bool {
        self.conversion.regex_bytes.get() <= REGEX_BYTES_MAX
    }

    /// Counts a regex that takes so many bytes, and reports that they are too many.
    pub fn spend_on_regex(&self, bytes: usize) {
        let spent = &self.conversion.regex_bytes;
        spent.set(spent.get() + bytes.saturating_sub(REGEX_BYTES_USUAL));
        if !self.may_spend_on_regexes() {
            self.error_hint(
                format!("the regexes up to here take more than {} MiB", REGEX_BYTES_MAX >> 20),
                "counts in braces and Unicode classes make them large",
            );
        }
    }

    /// Whether a hint that is costly to find is worth it: not for the hundredth error.
    pub fn wants_hints(&self) -> bool {
        self.conversion.findings.borrow().len() < 100
    }

    /// From now on runtime values are these.
    pub fn set_runtime(&self, runtime: Runtime) {
        // It is set once, by the bootstrap.
        let _ = self.conversion.runtime.set(Lookups::new(runtime));
    }

    /// Runtime values.
    pub fn runtime(&self) -> &Lookups {
        self.conversion.runtime.get_or_init(Lookups::default)
    }

    /// From now on the bootstrap's secrets are these.
    pub fn set_secrets(&self, secrets: Vec<Secret>) {
        // They are set once, by the bootstrap.
        let _ = self.conversion.secrets.set(secrets);
    }

    /// The bootstrap's secrets; a file of its own has none.
    pub fn secrets(&self) -> &'p [Secret] {
        self.conversion.secrets.get().map_or(&[], Vec::as_slice)
    }

    /// Whether the field here was written but could not be read.
    pub fn is_unreadable(&self) -> bool {
        self.conversion.unreadable.contains(&self.path())
    }

    /// Whether something below here was written but could not be read.
    pub fn has_unreadable(&self) -> bool {
        let path = self.path();
        self.conversion.unreadable.iter().any(|unreadable| unreadable.starts_with(&path))
    }

    /// Whether an error was found here or below.
    pub fn has_errors(&self) -> bool {
        let path = self.path();
        let findings = self.conversion.findings.borrow();
        self.has_unreadable() || findings.iter().any(|it| !it.warning && it.path.starts_with(&path))
    }

    /// Acts at a place below, given by its path: `.field[0].field`.
    pub fn below(&self, path: &str, act: &dyn Fn(&At<'_>)) {
        if let Some((index, rest)) = path.strip_prefix('[').and_then(|rest| rest.split_once(']'))
            && let Ok(index) = index.parse()
        {
            return self.index(index).below(rest, act);
        }
        let path = path.strip_prefix('.').unwrap_or(path);
        let end = path.find(['.', '[']).unwrap_or(path.len());
        match &path[..end] {
            "" => act(self),
            name => self.field(name).below(&path[end..], act),
        }
    }

    /// The duration of a field, which must not be negative.
    pub fn duration(&self, duration: Option<&wkt::Duration>) -> Option<Duration> {
        let duration = duration?;
        match (u64::try_from(duration.seconds), u32::try_from(duration.nanos)) {
            (Ok(seconds), Ok(_)) if seconds > MAX_SECONDS => {
                self.error(format!("a duration must be at most {MAX_SECONDS}s"));
                None
            }
            (Ok(seconds), Ok(nanos)) => Some(Duration::new(seconds, nanos)),
            _ => {
                self.error("a duration must not be negative");
                None
            }
        }
    }

    /// A timeout that is off when it is zero: absent is `default`, `0s` is none.
    pub fn timeout(
        &self,
        duration: Option<&wkt::Duration>,
        default: Option<Duration>,
    ) -> Option<Duration> {
        match duration {
            None => default,
            Some(_) => self.duration(duration).filter(|duration| !duration.is_zero()),
        }
    }

    /// The message of an extension; `None` if it is of another type, which the reader has reported.
    pub fn unpack<T: Message + Default>(&self, any: &Any, message: &str) -> Option<T> {
        if self.is_unreadable() || !is_type(any, message) {
            return None;
        }
        match T::decode(any.value.as_slice()) {
            Ok(decoded) => Some(decoded),
            Err(error) => {
                self.error(format!("cannot be decoded as {message}: {error}"));
                None
            }
        }
    }

    /// Notes what was found here, unless what is here was found wrong already.
    fn find(&self, reason: String, hint: Option<String>, warning: bool) {
        let path = self.path();
        if self.conversion.unreadable.contains(&path) {
            return;
        }
        // One more than are reported, so that it is said that there are more.
        if is_full(self.conversion.findings.borrow().len().saturating_sub(1), warning) {
            return;
        }
        let at = self.mark();
        self.conversion.findings.borrow_mut().push(Finding { at, path, reason, hint, warning });
    }

    /// As the reader writes it: `static_resources.listeners[0].address`.
    pub fn path(&self) -> String {
        let mut path = self.parent.map(At::path).unwrap_or_default();
        match self.segment {
            Segment::Root => {}
            Segment::Field(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            Segment::Index(index) => path.push_str(&format!("[{index}]")),
            Segment::Key(key) => path.push_str(&key_segment(key)),
        }
        path
    }

    /// Where in the text this is, or the nearest thing around it that is written there.
    fn mark(&self) -> Option<Mark> {
        let mut segments = Vec::new();
        let mut next = Some(self);
        while let Some(at) = next {
            segments.push(at.segment);
            next = at.parent;
        }
        let mut nodes: Vec<&Node> = self.conversion.roots.iter().collect();
        for segment in segments.into_iter().rev() {
            let below = step(&nodes, segment);
            if below.is_empty() {
                break;
            }
            nodes = below;
        }
        nodes.last().map(|node| node.at)
    }
}

/// A key of a map in a path: a longer one than any name is cut, because each error has the path.
pub(super) fn key_segment(key: &str) -> String {
    const LONGEST: usize = 256;
    let short: String = key.chars().take(LONGEST).collect();
    format!("[\"{short}\"]")
}

/// The nodes at `segment` below `nodes`, of which each source can have one.
pub(super) fn step<'n>(nodes: &[&'n Node], segment: Segment<'_>) -> Vec<&'n Node> {
    match segment {
        Segment::Root => nodes.to_vec(),
        Segment::Key(key) => nodes.iter().filter_map(|node| node.get(key)).collect(),
        Segment::Field(name) => nodes.iter().filter_map(|node| field(node, name)).collect(),
        Segment::Index(index) => {
            let mut left = index;
            for node in nodes {
                let items = match &node.value {
                    Tree::Sequence(items) => items.as_slice(),
                    // The reader takes one value for a list of it.
                    _ => std::slice::from_ref(*node),
                };
                if let Some(item) = items.get(left) {
                    return vec![item];
                }
                left -= items.len();
            }
            Vec::new()
        }
    }
}

/// A field's value, in either spelling of its name. A TypedStruct has its fields one level further
/// down.
fn field<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let Tree::Mapping(entries) = &node.value else { return None };
    let found = entries.iter().rev().find(|entry| {
        // What v2 calls `config` is read as what it would be in v3.
        is_spelling_of(&entry.key, name) || (name == "typed_config" && entry.key == "config")
    });
    found.map(|entry| &entry.value).or_else(|| {
        node.get("type_url").and_then(|_| node.get("value")).and_then(|value| field(value, name))
    })
}

/// Whether `key` is the field `name`, as it is or as JSON writes it.
fn is_spelling_of(key: &str, name: &str) -> bool {
    if key == name {
        return true;
    }
    let mut written = key.chars();
    let mut upper = false;
    for c in name.chars() {
        if c == '_' {
            upper = true;
            continue;
        }
        let expected = if upper { c.to_ascii_uppercase() } else { c };
        upper = false;
        if written.next() != Some(expected) {
            return false;
        }
    }
    written.next().is_none()
}

/// Whether an extension is of the type with this full name.
pub(super) fn is_type(any: &Any, message: &str) -> bool {
    any.type_url.rsplit('/').next() == Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings() {
        assert!(is_spelling_of("filter_chains", "filter_chains"));
        assert!(is_spelling_of("filterChains", "filter_chains"));
        assert!(is_spelling_of("http1Options", "http1_options"));
        assert!(!is_spelling_of("filterchains", "filter_chains"));
        assert!(!is_spelling_of("filterChain", "filter_chains"));
        assert!(!is_spelling_of("filterChainsX", "filter_chains"));
    }
}
