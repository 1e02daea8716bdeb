//! Texts that stand in the configuration, in a file or in an environment variable
//! (`config.core.v3.DataSource`).
//!
//! What it leaves to others: what the text is for.

use super::convert::At;
use super::support::{SupportedMessage, message, used};
use envoy_types::pb::envoy::config::core::v3 as pb;
use pb::data_source::Specifier;
use std::io::Read;

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[message(
    "envoy.config.core.v3.DataSource",
    &[used("inline_string"), used("inline_bytes"), used("filename"), used("environment_variable")],
)];

/// The bytes of a source, of which there may be `longest`.
pub(super) fn read(at: &At<'_>, source: &pb::DataSource, longest: usize) -> Option<Vec<u8>> {
    // A missing specifier breaks a rule of the .proto file, which the reader has reported.
    let (name, bytes) = match source.specifier.as_ref()? {
        Specifier::InlineString(text) => ("inline_string", text.clone().into_bytes()),
        Specifier::InlineBytes(bytes) => ("inline_bytes", bytes.clone()),
        Specifier::Filename(path) => ("filename", read_file(&at.field("filename"), path, longest)?),
        Specifier::EnvironmentVariable(name) => {
            let at = at.field("environment_variable");
            match std::env::var(name) {
                Ok(text) => ("environment_variable", text.into_bytes()),
                Err(error) => {
                    at.error(format!("cannot read the environment variable `{name}`: {error}"));
                    return None;
                }
            }
        }
    };
    if bytes.len() > longest {
        at.field(name).error(format!("longer than {longest} bytes, which is the most here"));
        return None;
    }
    Some(bytes)
}

/// At most one byte more than `longest`, so that a device without end is no trap.
fn read_file(at: &At<'_>, path: &str, longest: usize) -> Option<Vec<u8>> {
    let limit = u64::try_from(longest).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    // Opening a pipe would wait for whoever writes to it.
    if std::fs::metadata(path).is_ok_and(|file| !file.is_file()) {
        at.error(format!("`{path}` is not a file"));
        return None;
    }
    let read = std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    match read {
        Ok(_) => Some(bytes),
        Err(error) => {
            at.error(format!("cannot read `{path}`: {error}"));
            None
        }
    }
}
