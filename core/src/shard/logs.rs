//! A shard's ends of the access logs.
//!
//! What it leaves to others: formats and files (`access_log`).

use crate::access_log::{AccessLogger, Record};
use std::sync::Arc;
use tidegate_io::Now;

/// Lines that this shard has made and not handed over yet, by log.
#[derive(Debug, Default)]
pub struct ShardLogs {}

impl ShardLogs {
    /// Makes one line in each of `logs`.
    pub fn record(&mut self, logs: &[Arc<AccessLogger>], record: &Record<'_>, now: Now) {
        let _ = (logs, record, now);
    }

    /// Hands over what is old or large enough.
    pub fn flush(&mut self, now: Now) {
        let _ = now;
    }

    /// Hands over everything.
    pub fn flush_all(&mut self) {}
}
