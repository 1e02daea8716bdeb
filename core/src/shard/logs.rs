//! A shard's ends of the access logs.
//!
//! What it leaves to others: formats, files and the writing thread (`access_log`).

use crate::access_log::{AccessLogger, Record, ShardLog};
use crate::snapshot::Snapshot;
use std::sync::Arc;
use tidegate_io::Instant;

/// Lines that this shard has made and not handed over yet, by log.
#[derive(Debug, Default)]
pub struct ShardLogs {
    /// Few: a log for each file or stream that the configuration names.
    logs: Vec<ShardLog>,
}

impl ShardLogs {
    /// Makes one line in each of `loggers`.
    pub fn record(&mut self, loggers: &[Arc<AccessLogger>], record: &Record<'_>) {
        for logger in loggers.iter().filter(|logger| logger.wants(record)) {
            let known = self.logs.iter().position(|log| Arc::ptr_eq(log.logger(), logger));
            let index = known.unwrap_or_else(|| {
                self.logs.push(ShardLog::new(logger));
                self.logs.len() - 1
            });
            self.logs[index].record(record);
        }
    }

    /// Hands over what is old or large enough.
    pub fn flush(&mut self, now: Instant) {
        for log in &mut self.logs {
            log.flush(now);
        }
    }

    /// When [`ShardLogs::flush`] has something to do next.
    #[must_use]
    pub fn next_flush(&self) -> Option<Instant> {
        self.logs.iter().filter_map(ShardLog::next_flush).min()
    }

    /// Hands over everything.
    pub fn hand_over(&mut self) {
        for log in &mut self.logs {
            log.hand_over();
        }
    }

    /// Lets go of logs that a new snapshot does not have, with their files. A stream that still
    /// runs there takes its log up again, until the next snapshot.
    pub fn adopt(&mut self, snapshot: &Snapshot) {
        let listeners = &snapshot.listeners;
        self.logs.retain(|log| {
            let mut loggers = listeners
                .iter()
                .flat_map(|listener| &listener.chains)
                .flat_map(|chain| chain.filter.access_log());
            loggers.any(|logger| Arc::ptr_eq(logger, log.logger()))
        });
    }
}
