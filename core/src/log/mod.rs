//! The process's own log: what happened to Tidegate, in Envoy's line format, to stderr or a file.
//!
//! Written by the main, control and admin threads; a shard writes here only when something is wrong
//! with the machine, never per request. One line is one `write`, so lines of threads do not mix.
//!
//! What it leaves to others: access logs (`access_log`), numbers (`stats`).

mod format;

pub use format::{DEFAULT_FORMAT, Format};

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// How much a line matters; Envoy's names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// Everything.
    Trace,
    /// For whoever looks for a fault.
    Debug,
    /// What an operator wants to have read afterwards.
    Info,
    /// Something is not as asked for; the process goes on.
    Warning,
    /// Something asked for was not done.
    Error,
    /// The process cannot go on.
    Critical,
    /// Above every line: nothing is logged.
    Off,
}

impl Level {
    /// All levels, from the most talkative.
    pub const ALL: [Level; 7] = [
        Level::Trace,
        Level::Debug,
        Level::Info,
        Level::Warning,
        Level::Error,
        Level::Critical,
        Level::Off,
    ];

    /// Envoy's name, as `--log-level` takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
            Level::Critical => "critical",
            Level::Off => "off",
        }
    }

    fn from_index(index: u8) -> Level {
        Level::ALL.get(usize::from(index)).copied().unwrap_or(Level::Off)
    }
}

impl FromStr for Level {
    type Err = String;

    /// Reads a level's name; `warn` is `warning`, as in Envoy.
    fn from_str(text: &str) -> Result<Level, String> {
        let name = if text == "warn" { "warning" } else { text };
        Level::ALL.into_iter().find(|level| level.name() == name).ok_or_else(|| {
            let names: Vec<_> = Level::ALL.iter().map(|level| level.name()).collect();
            format!("no such log level; the levels are {}", names.join(", "))
        })
    }
}

/// Who speaks: the part of the process that a line is about. Names are those of Envoy's loggers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Component {
    /// Starting, stopping, signals.
    Main,
    /// Reading and applying configuration.
    Config,
    /// Clusters and hosts.
    Upstream,
    /// Name resolution.
    Dns,
    /// The admin server.
    Admin,
    /// Listeners and shards.
    Conn,
    /// The I/O backend.
    Io,
    /// Sinks of stats.
    Stats,
}

impl Component {
    /// All components, in the order of `/logging`.
    pub const ALL: [Component; 8] = [
        Component::Admin,
        Component::Config,
        Component::Conn,
        Component::Dns,
        Component::Io,
        Component::Main,
        Component::Stats,
        Component::Upstream,
    ];

    /// The name in a line and in `--component-log-level`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Component::Main => "main",
            Component::Config => "config",
            Component::Upstream => "upstream",
            Component::Dns => "dns",
            Component::Admin => "admin",
            Component::Conn => "conn_handler",
            Component::Io => "io",
            Component::Stats => "stats",
        }
    }

    /// The component of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Component> {
        Component::ALL.into_iter().find(|component| component.name() == name)
    }
}

/// How to log; from the command line.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--log-level`
    pub level: Level,
    /// `--component-log-level`, applied after `level`.
    pub components: Vec<(Component, Level)>,
    /// `--log-path`; stderr when absent.
    pub path: Option<PathBuf>,
    /// `--log-format`
    pub format: Format,
}

/// Levels by component. Readable before [`start`], so that early lines are not lost.
static LEVELS: [AtomicU8; Component::ALL.len()] =
    [const { AtomicU8::new(Level::Info as u8) }; Component::ALL.len()];

static SINK: OnceLock<Sink> = OnceLock::new();

#[derive(Debug)]
struct Sink {
    path: Option<PathBuf>,
    file: Mutex<Option<File>>,
    format: Format,
}

/// Starts logging as `settings` say. Until then, and when it is never called, lines of level info
/// and above go to stderr.
///
/// # Errors
///
/// When the log file cannot be opened. A second call changes levels only.
pub fn start(settings: Settings) -> io::Result<()> {
    set_level(settings.level);
    for (component, level) in settings.components {
        set_component_level(component, level);
    }
    let file = settings.path.as_deref().map(open).transpose()?;
    let sink = Sink { path: settings.path, file: Mutex::new(file), format: settings.format };
    // A second start keeps the first sink: tests in one process may both start it.
    let _ = SINK.set(sink);
    Ok(())
}

/// Opens the log file again under its name, after it was rotated. Does nothing when logging to
/// stderr.
///
/// # Errors
///
/// When it cannot be opened; the old file stays in use.
pub fn reopen() -> io::Result<()> {
    let Some(Sink { path: Some(path), file, .. }) = SINK.get() else { return Ok(()) };
    let new = open(path)?;
    *file.lock().unwrap_or_else(PoisonError::into_inner) = Some(new);
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Sets the level of every component.
pub fn set_level(level: Level) {
    for cell in &LEVELS {
        cell.store(level as u8, Ordering::Relaxed);
    }
}

/// Sets the level of one component.
pub fn set_component_level(component: Component, level: Level) {
    LEVELS[component as usize].store(level as u8, Ordering::Relaxed);
}

/// The level of one component now.
#[must_use]
pub fn component_level(component: Component) -> Level {
    Level::from_index(LEVELS[component as usize].load(Ordering::Relaxed))
}

/// Logs one line of level debug.
pub fn debug(component: Component, text: fmt::Arguments<'_>) {
    write(Level::Debug, component, text);
}

/// Logs one line of level info.
pub fn info(component: Component, text: fmt::Arguments<'_>) {
    write(Level::Info, component, text);
}

/// Logs one line of level warning.
pub fn warning(component: Component, text: fmt::Arguments<'_>) {
    write(Level::Warning, component, text);
}

/// Logs one line of level error.
pub fn error(component: Component, text: fmt::Arguments<'_>) {
    write(Level::Error, component, text);
}

/// Logs one line of level critical.
pub fn critical(component: Component, text: fmt::Arguments<'_>) {
    write(Level::Critical, component, text);
}

fn write(level: Level, component: Component, text: fmt::Arguments<'_>) {
    if level < component_level(component) {
        return;
    }
    let text = text.to_string();
    let sink = SINK.get();
    let default;
    let format = match sink {
        Some(sink) => &sink.format,
        None => {
            default = Format::default();
            &default
        }
    };
    let mut line = format.line(level, component, &text);
    line.push('\n');
    // Nobody can be told when the log itself cannot be written.
    let _ = match sink.map(|sink| sink.file.lock().unwrap_or_else(PoisonError::into_inner)) {
        Some(mut file) if file.is_some() => match file.as_mut() {
            Some(file) => file.write_all(line.as_bytes()),
            None => Ok(()),
        },
        _ => io::stderr().lock().write_all(line.as_bytes()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_named() {
        for pair in Level::ALL.windows(2) {
            assert!(pair[0] < pair[1]);
        }
        for level in Level::ALL {
            assert_eq!(level.name().parse::<Level>(), Ok(level));
            assert_eq!(Level::from_index(level as u8), level);
        }
        assert_eq!("warn".parse::<Level>(), Ok(Level::Warning));
        assert!("loud".parse::<Level>().is_err());
    }

    #[test]
    fn every_component_has_its_own_level_cell() {
        let mut indices: Vec<_> = Component::ALL.iter().map(|c| *c as usize).collect();
        indices.sort_unstable();
        assert_eq!(indices, (0..Component::ALL.len()).collect::<Vec<_>>());
        for component in Component::ALL {
            assert_eq!(Component::named(component.name()), Some(component));
        }
    }
}
