//! Opens access logs: each file once, however many listeners write to it.
//!
//! What it leaves to others: formats and writing (`access_log`).

use super::OpenError;
use crate::access_log::{AccessLogger, Services};
use crate::config::{self, AccessLogSink, Bootstrap};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// An access log that could not be opened, and why.
#[derive(Debug)]
pub struct LogError {
    /// `name` of the listener that wants it.
    pub listener: String,
    /// Where it was to write.
    pub sink: AccessLogSink,
    /// What the system said.
    pub cause: io::Error,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogError { listener, sink, cause } = self;
        write!(f, "listener `{listener}` cannot write its access log to ")?;
        match sink {
            AccessLogSink::File(path) => write!(f, "{}: {cause}", path.display()),
            AccessLogSink::Stdout => write!(f, "stdout: {cause}"),
            AccessLogSink::Stderr => write!(f, "stderr: {cause}"),
            AccessLogSink::Service(log) => write!(f, "the cluster `{}`: {cause}", log.cluster),
        }
    }
}

/// Opens the access logs of a configuration and closes them again: whether they can be.
///
/// # Errors
///
/// Every log that cannot be opened.
pub fn open_access_logs(bootstrap: &Bootstrap) -> Result<(), Vec<OpenError>> {
    let opened = AccessLogs::default().open_all(&bootstrap.listeners).map(|_| ());
    opened.map_err(|errors| errors.into_iter().map(OpenError::AccessLog).collect())
}

/// The access logs of the newest configuration.
#[derive(Debug, Default)]
pub struct AccessLogs {
    current: Vec<Arc<AccessLogger>>,
    /// Lines dropped, and lines not written, by logs that are gone.
    lost_before: (u64, u64),
    /// The same of entries: those sent, and those dropped.
    entries_before: (u64, u64),
    /// Where gRPC services are found; without, their logs are not begun.
    services: Option<Services>,
}

impl AccessLogs {
    /// No logs yet.
    #[must_use]
    pub fn new(services: Services) -> AccessLogs {
        AccessLogs { services: Some(services), ..AccessLogs::default() }
    }

    /// Loggers for all of `listeners`: those that are open already, new ones for the others.
    ///
    /// # Errors
    ///
    /// Every log that cannot be opened; nothing has changed then.
    pub fn open_all(
        &self,
        listeners: &[Arc<config::Listener>],
    ) -> Result<Vec<Arc<AccessLogger>>, Vec<LogError>> {
        let mut loggers: Vec<Arc<AccessLogger>> = Vec::new();
        let mut errors = Vec::new();
        let chains = listeners.iter().flat_map(|it| it.chains().map(move |chain| (it, chain)));
        for (listener, chain) in chains {
            for log in chain.filter.access_log() {
                if loggers.iter().any(|logger| logger.config == *log) {
                    continue;
                }
                let open = self.current.iter().find(|logger| logger.config == *log);
                let logger = match open {
                    Some(logger) => Ok(logger.clone()),
                    None => match (&log.sink, &self.services) {
                        (AccessLogSink::Service(_), None) => continue,
                        (AccessLogSink::Service(service), Some(services)) => {
                            AccessLogger::with_service(log.clone(), service.clone(), services)
                        }
                        _ => AccessLogger::new(log.clone()),
                    }
                    .map(Arc::new),
                };
                match logger {
                    Ok(logger) => loggers.push(logger),
                    Err(cause) => errors.push(LogError {
                        listener: listener.name.clone(),
                        sink: log.sink.clone(),
                        cause,
                    }),
                }
            }
        }
        if errors.is_empty() { Ok(loggers) } else { Err(errors) }
    }

    /// These are the logs from now on. Those that are not among them are closed when the last
    /// stream that writes to them is over.
    pub fn replace(&mut self, loggers: Vec<Arc<AccessLogger>>) {
        for gone in &self.current {
            if !loggers.iter().any(|logger| Arc::ptr_eq(logger, gone)) {
                self.lost_before.0 += gone.dropped();
                self.lost_before.1 += gone.failed();
                let (written, dropped) = gone.entries();
                self.entries_before.0 += written;
                self.entries_before.1 += dropped;
            }
        }
        self.current = loggers;
    }

    /// Has all files opened anew, after they were rotated.
    pub fn reopen(&self) {
        self.current.iter().for_each(|logger| logger.reopen());
    }

    /// Waits until what shards handed over is written, but not longer than `timeout`.
    pub fn sync(&self, timeout: Duration) -> bool {
        // One thread writes all files, so that all but the first are synced at once.
        self.current.iter().all(|logger| logger.sync(timeout))
    }

    /// Entries that gRPC services were sent, and that were dropped.
    #[must_use]
    pub fn entries(&self) -> (u64, u64) {
        let entries = self.current.iter().map(|logger| logger.entries());
        entries.fold(self.entries_before, |sum, each| (sum.0 + each.0, sum.1 + each.1))
    }

    /// Lines that were dropped because the writer could not keep up, and lines that could not be
    /// written.
    #[must_use]
    pub fn lost(&self) -> (u64, u64) {
        let (dropped, failed) = self.lost_before;
        let of =
            |count: fn(&AccessLogger) -> u64| self.current.iter().map(|l| count(l)).sum::<u64>();
        (dropped + of(AccessLogger::dropped), failed + of(AccessLogger::failed))
    }
}
