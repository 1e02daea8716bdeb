//! What is wrong with a configuration: where, what was expected, and what to do.
//!
//! What it leaves to others: printing (main), and the exit code.

use std::fmt;

/// A place in a configuration file. Lines and columns count from 1, columns in characters.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Position {
    /// File name as the user gave it, or `--config-yaml`.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

/// Whether an error refuses the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// Refuses the configuration.
    Error,
    /// Is reported; the configuration is used.
    Warning,
}

/// One thing that is wrong with a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// Where, when it came from a file.
    pub position: Option<Position>,
    /// The field, by Envoy's names: `static_resources.listeners[0].address`.
    pub path: String,
    /// What is wrong and what was expected, in one sentence without a final stop.
    pub reason: String,
    /// What to do, when there is something better than the reason: the nearest field name, the v3
    /// name.
    pub hint: Option<String>,
    /// Whether it refuses the configuration.
    pub severity: Severity,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(p) = &self.position {
            write!(f, "{}:{}:{}: ", p.file, p.line, p.column)?;
        }
        f.write_str(match self.severity {
            Severity::Error => "error: ",
            Severity::Warning => "warning: ",
        })?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.reason)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Everything that is wrong with a configuration, in the order of the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
