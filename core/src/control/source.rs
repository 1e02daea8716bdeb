//! Where the configuration comes from, to be read at the start and again on SIGHUP.
//!
//! What it leaves to others: reading and validating (`config`).

use crate::config::{
    self, Bootstrap, ConfigError, ConfigErrors, NodeDefaults, RuntimeValues, Source,
};
use std::fmt;
use std::path::PathBuf;

/// What was given on the command line.
#[derive(Clone, Debug, Default)]
pub struct ConfigSource {
    /// `--config-path`
    pub path: Option<PathBuf>,
    /// A name and a text that is merged over the file: `--config-yaml`, or what `reverse-proxy`
    /// made.
    pub text: Option<Source>,
    /// How strictly to read.
    pub options: config::Options,
    /// For what it does not say of the node.
    pub node: NodeDefaults,
    /// `--ack-after-warming`
    pub ack_after_warming: bool,
}

/// A configuration that was refused.
#[derive(Clone, Debug)]
pub struct Refused {
    /// What is wrong with it.
    pub errors: ConfigErrors,
    /// Its text, as far as it could be read, to show the lines that are wrong.
    pub sources: Vec<Source>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(config::render(&self.errors, &self.sources).trim_end())
    }
}

impl ConfigSource {
    /// Reads and validates everything. Returns the bootstrap and warnings.
    ///
    /// # Errors
    ///
    /// Everything that is wrong.
    pub fn load(&self) -> Result<(Bootstrap, Vec<ConfigError>), Refused> {
        let sources = self.read()?;
        let (bootstrap, warnings) = match config::load(&sources, &self.options) {
            Ok(loaded) => loaded,
            Err(errors) => return Err(Refused { errors, sources }),
        };
        // The command line can say what a directory of runtime values is called.
        if bootstrap.runtime.disk.iter().any(|layer| layer.appends_cluster)
            && !self.node.cluster.is_empty()
        {
            let service_cluster = self.node.cluster.clone();
            let values = RuntimeValues { service_cluster, ..RuntimeValues::default() };
            let converted = bootstrap.received.convert(&values);
            return converted
                .map(|bootstrap| (bootstrap, warnings))
                .map_err(|errors| Refused { errors, sources });
        }
        Ok((bootstrap, warnings))
    }

    /// The texts, as they are.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn read(&self) -> Result<Vec<Source>, Refused> {
        let mut sources = Vec::with_capacity(2);
        if let Some(path) = &self.path {
            let file = config::read_file(path);
            sources.push(file.map_err(|errors| Refused { errors, sources: Vec::new() })?);
        }
        sources.extend(self.text.clone());
        Ok(sources)
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
