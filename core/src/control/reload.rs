//! The bootstrap read again: on SIGHUP, and with other runtime values.
//!
//! What it leaves to others: reading it (`source`), making it the configuration (`discovery`).

use super::{Control, Refused};
use crate::config::{Admin, Bootstrap, DiskLayer};
use crate::log::{self, Component};

impl Control {
    /// Runtime values have changed: what is configured is read with them.
    pub(super) fn change_runtime(&mut self) {
        let received = self.options.state.shown().received.clone();
        let converted = received.convert(&self.options.state.runtime_values());
        if let Ok(bootstrap) = &converted {
            self.counts.runtime(&bootstrap.runtime);
            if bootstrap.runtime == self.discovery.base.runtime {
                return;
            }
        }
        match converted.map(|bootstrap| self.apply_runtime(bootstrap)) {
            Ok(Ok(_)) => log::info(Component::Config, format_args!("runtime values have changed")),
            Ok(Err(errors)) => {
                errors.iter().for_each(|e| log::error(Component::Config, format_args!("{e}")));
            }
            Err(errors) => {
                errors.0.iter().for_each(|e| log::error(Component::Config, format_args!("{e}")));
            }
        }
    }

    /// Reads the configuration again. A configuration that is not valid, or a listener that cannot
    /// be opened, changes nothing.
    pub(super) fn reload(&mut self) {
        let name = self.options.source.name();
        let values = self.options.state.runtime_values();
        let loaded = self.options.source.load().and_then(|(bootstrap, warnings)| {
            let admin_layer = |errors| Refused { errors, sources: Vec::new() };
            let bootstrap = match values.is_empty() {
                true => bootstrap,
                false => bootstrap.received.convert(&values).map_err(admin_layer)?,
            };
            Ok((bootstrap, warnings))
        });
        let taken = match loaded {
            Ok((bootstrap, warnings)) => {
                for warning in warnings {
                    log::warning(Component::Config, format_args!("{warning}"));
                }
                self.warn_of_start_only(&bootstrap);
                self.counts.runtime(&bootstrap.runtime);
                match self.apply_base(bootstrap) {
                    Ok(changes) => {
                        log::info(Component::Config, format_args!("reloaded {name}: {changes}"));
                        true
                    }
                    Err(errors) => {
                        for error in errors {
                            log::error(Component::Config, format_args!("{error}"));
                        }
                        false
                    }
                }
            }
            Err(refused) => {
                for error in refused.errors.0 {
                    log::error(Component::Config, format_args!("{error}"));
                }
                false
            }
        };
        self.counts.reload(taken);
        if !taken {
            let text = "was not taken; the configuration before it stays in use";
            log::error(Component::Config, format_args!("{name} {text}"));
        }
    }

    /// Something was moved where layers on disk stand: they are read again.
    pub(super) fn handle_disk_layers(&mut self) {
        let before = std::mem::take(&mut self.disk_marks);
        self.watch_disk_layers();
        if before != self.disk_marks || before.contains(&None) {
            self.change_runtime();
        }
    }

    /// Watches for other directories of runtime values.
    pub(super) fn watch_disk_layers(&mut self) {
        let layers = &self.discovery.base.runtime.disk;
        self.disk_layers.set(&layers.iter().map(DiskLayer::watched).collect());
        self.disk_marks = layers.iter().map(DiskLayer::mark).collect();
    }

    fn warn_of_start_only(&self, bootstrap: &Bootstrap) {
        let address = |admin: &Option<Admin>| admin.as_ref().map(|admin| admin.address);
        let (stats, sinks, flush) = &self.stats;
        for (changed, name) in [
            (address(&self.admin) != address(&bootstrap.admin), "admin.address"),
            (*stats != bootstrap.stats, "stats_config"),
            (*sinks != bootstrap.sinks || *flush != bootstrap.flush, "stats_sinks"),
        ] {
            if changed {
                let text = format_args!("a change of `{name}` takes effect at the next start");
                log::warning(Component::Config, text);
            }
        }
    }
}
