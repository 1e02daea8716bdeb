//! A shard's ends of the access logs.
//!
//! What it leaves to others: formats and files (`access_log`).

use crate::access_log::{AccessLogger, Record, ShardLog};
use crate::snapshot::Snapshot;
use std::sync::Arc;
use tidegate_io::{Instant, Now};

/// Lines that this shard has made and not handed over yet, by log. There are few logs, so that
/// looking through them is faster than a table.
#[derive(Debug, Default)]
pub struct ShardLogs {
    logs: Vec<ShardLog>,
}

impl ShardLogs {
    /// Makes one line in each of `logs`.
    pub fn record(&mut self, logs: &[Arc<AccessLogger>], record: &Record<'_>, now: Now) {
        for logger in logs {
            let known = self.logs.iter().position(|log| Arc::ptr_eq(log.logger(), logger));
            let index = known.unwrap_or_else(|| {
                self.logs.push(ShardLog::new(logger));
                self.logs.len() - 1
            });
            self.logs[index].record(record);
            // Begins the line's 100 ms; `settle` of this turn may be over.
            self.logs[index].flush(now.instant);
        }
    }

    /// Hands over what is old or large enough.
    pub fn flush(&mut self, now: Now) {
        self.logs.iter_mut().for_each(|log| log.flush(now.instant));
    }

    /// When [`ShardLogs::flush`] will have something to do; `None` when no line waits.
    pub fn next_flush(&self) -> Option<Instant> {
        self.logs.iter().filter_map(ShardLog::next_flush).min()
    }

    /// Hands over everything.
    pub fn flush_all(&mut self) {
        self.logs.iter_mut().for_each(ShardLog::hand_over);
    }

    /// Lets go of logs that a new snapshot does not have, with their files. A stream that still
    /// runs there takes its log up again, until the next snapshot.
    pub fn adopt(&mut self, snapshot: &Snapshot) {
        let listeners = &snapshot.listeners;
        self.logs.retain(|log| {
            let mut loggers = listeners.iter().flat_map(|listener| &listener.http.access_log);
            loggers.any(|logger| Arc::ptr_eq(logger, log.logger()))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AccessLog, AccessLogSink};
    use crate::reply::ResponseFlags;
    use std::time::Duration;

    fn now(milliseconds: u64) -> Now {
        let instant = Instant(1) + Duration::from_millis(milliseconds);
        Now { instant, unix_us: 0 }
    }

    fn record(logs: &mut ShardLogs, loggers: &[Arc<AccessLogger>], at: Now) {
        let record = Record {
            start_unix_us: 0,
            duration_us: 0,
            request: None,
            response: None,
            status: 200,
            flags: ResponseFlags::NONE,
            details: "",
            bytes_received: 0,
            bytes_sent: 0,
            upstream_host: None,
            upstream_cluster: None,
            upstream_service_ms: None,
            downstream_remote_address: None,
            downstream_local_address: None,
            route_name: None,
        };
        logs.record(loggers, &record, at);
    }

    #[test]
    fn each_log_has_one_end_until_a_snapshot_comes_without_it() {
        let sink = AccessLogSink::File("/dev/null".into());
        let config = AccessLog { sink, format: None };
        let loggers: Vec<_> =
            (0..2).map(|_| Arc::new(AccessLogger::new(config.clone()).unwrap())).collect();
        let mut logs = ShardLogs::default();
        assert_eq!(logs.next_flush(), None);
        record(&mut logs, &loggers, now(0));
        record(&mut logs, &loggers[1..], now(50));
        assert_eq!(logs.logs.len(), 2);
        assert_eq!(logs.next_flush(), Some(now(100).instant), "100 ms after the first line");
        logs.flush(now(100));
        assert_eq!(logs.next_flush(), None);
        assert_eq!(Arc::strong_count(&loggers[0]), 2);
        logs.adopt(&Snapshot::default());
        assert_eq!(Arc::strong_count(&loggers[0]), 1);
    }
}
