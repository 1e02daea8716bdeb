//! One shard's end of an access log: lines gathered in a buffer and handed over in whole.
//!
//! What it leaves to others: writing (`writer`); calling [`ShardLog::flush`] once per turn
//! (`shard`).

use super::writer::Lines;
use super::{AccessLogger, Destination, Record, entry};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tidegate_io::Instant;

/// A buffer of this size is handed over at once.
const HAND_OVER_BYTES: usize = 16 << 10;

/// Lines wait no longer than this.
const AGE_MAX: Duration = Duration::from_millis(100);

/// With a full queue lines are kept up to here, then dropped and counted.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Empty buffers that wait to be used again.
const SPARE_BUFFERS: usize = 4;

/// One shard's buffer of one access log. In steady state it allocates nothing: buffers come back.
#[derive(Debug)]
pub struct ShardLog {
    logger: Arc<AccessLogger>,
    /// Whole lines.
    buffer: Vec<u8>,
    /// How many lines are in `buffer`.
    lines: u64,
    /// When `flush` first saw lines in `buffer`; `None` when it has not yet.
    since: Option<Instant>,
    back: SyncSender<Vec<u8>>,
    spare: Receiver<Vec<u8>>,
}

impl ShardLog {
    /// A shard's end of this log.
    #[must_use]
    pub fn new(logger: &Arc<AccessLogger>) -> ShardLog {
        let (back, spare) = sync_channel(SPARE_BUFFERS);
        let logger = logger.clone();
        ShardLog { logger, buffer: Vec::new(), lines: 0, since: None, back, spare }
    }

    /// The log.
    #[must_use]
    pub fn logger(&self) -> &Arc<AccessLogger> {
        &self.logger
    }

    /// Adds the line or the entry of a stream; hands over when the buffer is full. Never waits.
    pub fn record(&mut self, record: &Record<'_>) {
        match &self.logger.destination {
            Destination::Lines { format, .. } => format.write(&mut self.buffer, record),
            Destination::Service(service) => {
                entry::write(&mut self.buffer, &service.config, record)
            }
        }
        self.lines += 1;
        if self.buffer.len() >= self.buffer_bytes() {
            self.hand_over();
        }
    }

    fn buffer_bytes(&self) -> usize {
        match &self.logger.destination {
            Destination::Lines { .. } => HAND_OVER_BYTES,
            Destination::Service(service) => service.config.buffer_size_bytes,
        }
    }

    fn age_max(&self) -> Duration {
        match &self.logger.destination {
            Destination::Lines { .. } => AGE_MAX,
            Destination::Service(service) => service.config.flush_interval,
        }
    }

    /// Once per turn: hands over what waits for longer than 100 ms, or the service's interval.
    pub fn flush(&mut self, now: Instant) {
        if self.lines == 0 {
            return;
        }
        let since = *self.since.get_or_insert(now);
        if now.since(since) >= self.age_max() {
            self.hand_over();
        }
    }

    /// When [`ShardLog::flush`] will have something to do; `None` when no line waits. Right after
    /// `flush`.
    #[must_use]
    pub fn next_flush(&self) -> Option<Instant> {
        self.since.map(|since| since + self.age_max())
    }

    /// Hands over what there is, whatever its size and age: when a shard ends, or stops serving
    /// this log.
    pub fn hand_over(&mut self) {
        self.since = None;
        if self.lines == 0 {
            return;
        }
        let bytes = mem::take(&mut self.buffer);
        let (count, back) = (self.lines, self.back.clone());
        let result = match &self.logger.destination {
            Destination::Lines { sink, writer, .. } => {
                writer.hand_over(Lines { sink: sink.clone(), bytes, count, back })
            }
            Destination::Service(service) => service.hand_over(bytes, count),
        };
        match result {
            Ok(()) => {
                self.buffer = self.spare.try_recv().unwrap_or_default();
                self.lines = 0;
            }
            Err(bytes) => {
                self.buffer = bytes;
                if self.buffer.len() >= KEPT_BYTES_MAX {
                    self.lose();
                    self.buffer.clear();
                    self.lines = 0;
                }
            }
        }
    }

    /// Counts what is in the buffer as dropped.
    fn lose(&self) {
        match &self.logger.destination {
            Destination::Lines { sink, .. } => {
                sink.dropped.fetch_add(self.lines, Ordering::Relaxed);
            }
            Destination::Service(service) => service.drop_entries(self.lines),
        }
    }
}

impl Drop for ShardLog {
    /// What cannot be handed over now is lost, and counted.
    fn drop(&mut self) {
        self.hand_over();
        self.lose();
    }
}
