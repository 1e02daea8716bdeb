//! Where certificates, keys and the like are: in the configuration, in a file, or in an environment
//! variable (`config.core.v3.DataSource`).
//!
//! Other than [`data_source`](crate::config) it keeps the place, because what stands there can
//! change while we run.
//!
//! What it leaves to others: noticing that a file has changed (`control`).

use crate::config::convert::At;
use envoy_types::pb::envoy::config::core::v3 as pb;
use pb::data_source::Specifier;
use std::fmt;
use std::io::Read;
use std::sync::Arc;

/// The most that is read: bundles of all public roots take a quarter of a megabyte.
const LONGEST: usize = 16 << 20;

/// `config.core.v3.DataSource`
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum TlsSource {
    /// `inline_string`, `inline_bytes`
    Inline(Arc<[u8]>),
    /// `filename`
    File(String),
    /// `environment_variable`
    Environment(String),
}

/// Why a source cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable {
    /// In a sentence.
    pub reason: String,
    /// What to do.
    pub hint: Option<String>,
}

impl TlsSource {
    /// The source of a field; `None` when it is absent or says nothing, which was reported.
    pub(in crate::config) fn from_proto(
        at: &At<'_>,
        source: Option<&pb::DataSource>,
    ) -> Option<TlsSource> {
        let source = source?;
        if source.watched_directory.is_some() {
            at.field("watched_directory").error_hint(
                "it is not implemented for a single file",
                "the directory of every file of a certificate is watched",
            );
        }
        Some(match source.specifier.as_ref()? {
            Specifier::InlineString(text) => TlsSource::Inline(text.as_bytes().into()),
            Specifier::InlineBytes(bytes) => TlsSource::Inline(bytes.as_slice().into()),
            Specifier::Filename(path) => TlsSource::File(path.clone()),
            Specifier::EnvironmentVariable(name) => TlsSource::Environment(name.clone()),
        })
    }

    /// What it holds now.
    ///
    /// # Errors
    ///
    /// Why it cannot be read.
    pub fn read(&self) -> Result<Arc<[u8]>, Unreadable> {
        match self {
            TlsSource::Inline(bytes) => Ok(bytes.clone()),
            TlsSource::File(path) => read_file(path),
            TlsSource::Environment(name) => match std::env::var(name) {
                Ok(text) => Ok(text.into_bytes().into()),
                Err(error) => {
                    let reason = format!("cannot read the environment variable `{name}`: {error}");
                    Err(Unreadable { reason, hint: None })
                }
            },
        }
    }

    /// As `/certs` calls it.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            TlsSource::Inline(_) => "<inline>",
            TlsSource::File(path) => path,
            TlsSource::Environment(_) => "<environment_variable>",
        }
    }

    /// The file, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        match self {
            TlsSource::File(path) => Some(path),
            TlsSource::Inline(_) | TlsSource::Environment(_) => None,
        }
    }
}

fn read_file(path: &str) -> Result<Arc<[u8]>, Unreadable> {
    let refuse = |reason: String, hint: Option<&str>| {
        Err(Unreadable { reason, hint: hint.map(str::to_owned) })
    };
    // Opening a pipe would wait for whoever writes to it.
    if std::fs::metadata(path).is_ok_and(|file| !file.is_file()) {
        return refuse(format!("`{path}` is not a file"), None);
    }
    let mut bytes = Vec::new();
    let limit = LONGEST as u64 + 1;
    let read = std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() > LONGEST => {
            refuse(format!("`{path}` is longer than {} MiB", LONGEST >> 20), None)
        }
        Ok(_) => Ok(bytes.into()),
        Err(error) => {
            let hint = match error.kind() {
                std::io::ErrorKind::PermissionDenied => Some(
                    "the user that this process runs as needs the permission to read it, and to \
                     enter its directories",
                ),
                std::io::ErrorKind::NotFound => {
                    Some("a relative path counts from the directory where the process was started")
                }
                _ => None,
            };
            refuse(format!("cannot read `{path}`: {error}"), hint)
        }
    }
}

/// Keys do not belong into a log.
impl fmt::Debug for TlsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsSource::Inline(bytes) => write!(f, "Inline({} bytes)", bytes.len()),
            TlsSource::File(path) => write!(f, "File({path:?})"),
            TlsSource::Environment(name) => write!(f, "Environment({name:?})"),
        }
    }
}
