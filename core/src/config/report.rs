//! Collects what is wrong, with its place, while a configuration is read.
//!
//! What it leaves to others: the words (whoever finds the fault), and printing (`render`).

use super::ast::Mark;
use super::load::Source;
use super::{ConfigError, Position, Severity};
use std::collections::HashSet;

/// How many faults are listed, and how many errors more. Nobody reads as many; each takes memory.
pub(super) const MAX_FINDINGS: usize = 1_000;

/// The faults found so far.
#[derive(Debug)]
pub(super) struct Report<'a> {
    sources: &'a [Source],
    found: Vec<(Option<Mark>, ConfigError)>,
    /// Fields that were written but could not be read. They must not be called missing as well.
    unreadable: HashSet<String>,
    /// There were more faults than are listed.
    is_cut: bool,
}

impl<'a> Report<'a> {
    /// No faults yet.
    pub fn new(sources: &'a [Source]) -> Report<'a> {
        Report { sources, found: Vec::new(), unreadable: HashSet::new(), is_cut: false }
    }

    /// Notes an error.
    pub fn error(
        &mut self,
        at: Option<Mark>,
        path: &str,
        reason: impl Into<String>,
        hint: Option<String>,
    ) {
        self.add(at, path, reason.into(), hint, Severity::Error);
    }

    /// Notes a warning.
    pub fn warning(
        &mut self,
        at: Option<Mark>,
        path: &str,
        reason: impl Into<String>,
        hint: Option<String>,
    ) {
        self.add(at, path, reason.into(), hint, Severity::Warning);
    }

    /// Notes that the field at `path` was written but could not be read.
    pub fn set_unreadable(&mut self, path: String) {
        self.unreadable.insert(path);
    }

    /// Whether the field at `path` was written but could not be read.
    pub fn is_unreadable(&self, path: &str) -> bool {
        self.unreadable.contains(path)
    }

    /// Whether there is an error among what was found.
    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|(_, error)| error.severity == Severity::Error)
    }

    /// The fields that were written but could not be read.
    pub fn unreadable(&self) -> &HashSet<String> {
        &self.unreadable
    }

    /// Everything that was found, in the order of the text.
    pub fn finish(mut self) -> Vec<ConfigError> {
        self.found.sort_by_key(|(at, _)| at.unwrap_or_default());
        let mut found: Vec<_> = self.found.into_iter().map(|(_, error)| error).collect();
        found.dedup_by(|later, earlier| {
            let same = later.path == earlier.path
                && later.reason == earlier.reason
                && later.position == earlier.position;
            if same && later.hint.is_some() {
                // Whoever converts the field knows more about it than its rules.
                earlier.hint = later.hint.take();
            }
            same
        });
        if self.is_cut {
            let reason = format!("there are more faults; {} are listed", found.len());
            let hint = Some("mend these first".to_owned());
            let (position, path, severity) = (None, String::new(), Severity::Error);
            found.push(ConfigError { position, path, reason, hint, severity });
        }
        found
    }

    fn add(
        &mut self,
        at: Option<Mark>,
        path: &str,
        reason: String,
        hint: Option<String>,
        severity: Severity,
    ) {
        if is_full(self.found.len(), severity == Severity::Warning) {
            self.is_cut |= severity == Severity::Error;
            return;
        }
        let position = at.map(|at| Position {
            file: self.sources.get(at.source).map(|source| source.name.clone()).unwrap_or_default(),
            line: at.line,
            column: at.column,
        });
        let path = path.to_owned();
        self.found.push((at, ConfigError { position, path, reason, hint, severity }));
    }
}

/// Whether one more fault is not noted. Warnings leave room for errors, so that they hide none.
pub(super) fn is_full(found: usize, is_warning: bool) -> bool {
    found >= if is_warning { MAX_FINDINGS } else { 2 * MAX_FINDINGS }
}
