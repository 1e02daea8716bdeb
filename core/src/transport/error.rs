//! Why a context cannot be built.
//!
//! What it leaves to others: where in a file it was asked for (`config`).

use crate::config::tls::TlsSource;
use std::fmt;

/// Why a context cannot be built: what is wrong where, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsError {
    /// The field, by Envoy's names.
    pub path: String,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub hint: Option<String>,
}

impl TlsError {
    /// Of a field without a hint.
    pub(super) fn new(path: impl Into<String>, reason: impl Into<String>) -> TlsError {
        TlsError { path: path.into(), reason: reason.into(), hint: None }
    }

    /// With the file that was read, if it was one: a configuration may leave many to one secret.
    pub(super) fn within(self, source: &TlsSource) -> TlsError {
        match source.file() {
            Some(path) => TlsError { reason: format!("`{path}`: {}", self.reason), ..self },
            None => self,
        }
    }

    /// With what to do.
    pub(super) fn hint(self, hint: impl Into<String>) -> TlsError {
        TlsError { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for TlsError {}
