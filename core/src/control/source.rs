//! Where the configuration comes from, to be read at the start and again on SIGHUP.
//!
//! What it leaves to others: reading and validating (`config`).

use crate::config::{self, Bootstrap, ConfigError, ConfigErrors, Source};
use std::path::PathBuf;

/// What was given on the command line.
#[derive(Clone, Debug, Default)]
pub struct ConfigSource {
    /// `--config-path`
    pub path: Option<PathBuf>,
    /// A name and a text that is merged over the file: `--config-yaml`, or what `reverse-proxy` made.
    pub text: Option<Source>,
    /// How strictly to read.
    pub options: config::Options,
}

impl ConfigSource {
    /// Reads and validates everything. Returns the bootstrap and warnings.
    ///
    /// # Errors
    ///
    /// Everything that is wrong.
    pub fn load(&self) -> Result<(Bootstrap, Vec<ConfigError>), ConfigErrors> {
        let mut sources = Vec::with_capacity(2);
        if let Some(path) = &self.path {
            sources.push(config::read_file(path)?);
        }
        sources.extend(self.text.clone());
        config::load(&sources, &self.options)
    }

    /// What the user calls it.
    #[must_use]
    pub fn name(&self) -> String {
        match (&self.path, &self.text) {
            (Some(path), _) => path.display().to_string(),
            (None, Some(text)) => text.name.clone(),
            (None, None) => String::new(),
        }
    }
}
