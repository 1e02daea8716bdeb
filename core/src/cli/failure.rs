//! Why the program ends without having done what was asked for, and with which exit code.
//!
//! What it leaves to others: finding out.

use crate::control::{OpenError, Refused};
use std::fmt;

/// Why the program ends.
#[derive(Debug)]
pub enum Failure {
    /// The command line does not make sense; what is wrong and what to write.
    Usage(String),
    /// The configuration is not valid.
    Configuration(Refused),
    /// What the configuration needs cannot be opened.
    Open(Vec<OpenError>),
    /// The machine does not allow something: what, and the remedy.
    Environment(String),
    /// Something went wrong while running.
    Running(String),
}

impl Failure {
    /// 1 running, 2 configuration or command line, 3 environment.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Running(_) => 1,
            Failure::Usage(_) | Failure::Configuration(_) => 2,
            Failure::Open(_) | Failure::Environment(_) => 3,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text) | Failure::Environment(text) | Failure::Running(text) => {
                write!(f, "error: {text}")
            }
            Failure::Configuration(refused) => refused.fmt(f),
            Failure::Open(errors) => {
                let lines: Vec<_> = errors.iter().map(|error| format!("error: {error}")).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}
