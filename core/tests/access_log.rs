//! Access logs from several shards to real files.
//!
//! What it leaves to others: formats (unit tests of `access_log`).

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tidegate::access_log::{AccessLogger, LogWriter, Record, ShardLog};
use tidegate::config::{AccessLog, AccessLogSink, LogFormat};
use tidegate_io::Instant;

const WAIT: Duration = Duration::from_secs(10);

fn record(route_name: &str) -> Record<'_> {
    Record { status: 200, route_name: Some(route_name), ..Record::default() }
}

/// An empty place for a log.
fn path(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_file(&path);
    path
}

fn logger(path: &Path) -> Arc<AccessLogger> {
    let sink = AccessLogSink::File(path.to_owned());
    let config = AccessLog {
        sink,
        format: Some(LogFormat::Text("%ROUTE_NAME%\n".to_owned())),
        filter: None,
    };
    let writer = LogWriter::start().unwrap();
    Arc::new(AccessLogger::with_writer(config, writer).unwrap())
}

fn at(milliseconds: u64) -> Instant {
    Instant(1) + Duration::from_millis(milliseconds)
}

#[test]
fn every_line_of_every_shard_arrives_whole_and_in_order() {
    const SHARDS: usize = 4;
    const LINES: usize = 20_000;
    let path = path("shards.log");
    let logger = logger(&path);
    thread::scope(|threads| {
        for shard in 0..SHARDS {
            let logger = &logger;
            threads.spawn(move || {
                let mut log = ShardLog::new(logger);
                for line in 0..LINES {
                    log.record(&record(&format!("{shard} {line}")));
                    if line % 1_000 == 0 {
                        // Nobody promises room for more than the queue holds.
                        assert!(logger.sync(WAIT));
                    }
                }
            });
        }
    });
    assert!(logger.sync(WAIT));
    assert_eq!((logger.dropped(), logger.failed()), (0, 0));
    let mut next = [0; SHARDS];
    for line in fs::read_to_string(&path).unwrap().lines() {
        let (shard, number) = line.split_once(' ').unwrap();
        let shard: usize = shard.parse().unwrap();
        assert_eq!(number, next[shard].to_string(), "of shard {shard}");
        next[shard] += 1;
    }
    assert_eq!(next, [LINES; SHARDS]);
}

#[test]
fn lines_are_handed_over_after_100_ms_and_when_the_buffer_is_full() {
    let path = path("age.log");
    let logger = logger(&path);
    let mut log = ShardLog::new(&logger);
    let written = || {
        assert!(logger.sync(WAIT));
        fs::read_to_string(&path).unwrap()
    };
    assert_eq!(log.next_flush(), None);
    log.record(&record("a"));
    log.flush(at(1_000));
    assert_eq!(log.next_flush(), Some(at(1_100)));
    log.record(&record("b"));
    log.flush(at(1_099));
    assert_eq!(written(), "");
    log.flush(at(1_100));
    assert_eq!(written(), "a\nb\n");
    assert_eq!(log.next_flush(), None);
    log.flush(at(9_000));
    let long = "x".repeat(16 << 10);
    log.record(&record(&long));
    assert_eq!(written().len(), 4 + long.len() + 1);
    log.record(&record("c"));
    drop(log);
    assert!(written().ends_with("\nc\n"), "a shard that ends hands over what it has");
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew() {
    let (path, moved) = (path("rotated.log"), path("rotated.log.1"));
    let logger = logger(&path);
    let mut log = ShardLog::new(&logger);
    log.record(&record("before"));
    log.hand_over();
    assert!(logger.sync(WAIT));
    fs::rename(&path, &moved).unwrap();
    log.record(&record("moved"));
    log.hand_over();
    assert!(logger.sync(WAIT));
    logger.reopen();
    assert!(logger.sync(WAIT));
    assert_eq!(fs::read_to_string(&path).unwrap(), "", "made at once, not with the next line");
    log.record(&record("after"));
    log.hand_over();
    assert!(logger.sync(WAIT));
    assert_eq!(fs::read_to_string(&moved).unwrap(), "before\nmoved\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "after\n");
}

#[test]
fn a_file_is_appended_to() {
    let path = path("appended.log");
    fs::write(&path, "old\n").unwrap();
    let logger = logger(&path);
    ShardLog::new(&logger).record(&record("new"));
    assert!(logger.sync(WAIT));
    assert_eq!(fs::read_to_string(&path).unwrap(), "old\nnew\n");
}

/// A reader that does not read: nobody waits, and what cannot be kept is counted.
#[test]
fn with_a_stalled_reader_lines_are_dropped_and_counted() {
    let (mut reader, pipe) = std::io::pipe().unwrap();
    let logger = logger(Path::new(&format!("/proc/self/fd/{}", pipe.as_raw_fd())));
    drop(pipe);
    let mut log = ShardLog::new(&logger);
    let long = "x".repeat(16 << 10);
    let mut recorded = 0_u64;
    while logger.dropped() == 0 {
        log.record(&record(&long));
        recorded += 1;
        assert!(recorded < 10_000, "never full");
    }
    assert!(recorded > 256, "full after {recorded}");
    assert!(!logger.sync(Duration::from_millis(20)));
    let reading = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    assert!(logger.sync(WAIT));
    log.record(&record("after"));
    drop(log);
    assert!(logger.sync(WAIT));
    let dropped = logger.dropped();
    drop(logger);
    let text = reading.join().unwrap();
    assert_eq!(text.lines().count() as u64 + dropped, recorded + 1);
    assert!(text.ends_with("\nafter\n"));
}

#[test]
fn a_full_disk_is_counted() {
    let logger = logger(Path::new("/dev/full"));
    let mut log = ShardLog::new(&logger);
    (0..3).for_each(|_| log.record(&record("a")));
    log.hand_over();
    assert!(logger.sync(WAIT));
    assert_eq!((logger.failed(), logger.dropped()), (3, 0));
}

#[test]
fn what_cannot_be_opened_is_an_error() {
    let config = |sink, format: &str| AccessLog {
        sink,
        format: Some(LogFormat::Text(format.to_owned())),
        filter: None,
    };
    let missing = AccessLogSink::File("/no/such/folder/log".into());
    let error = AccessLogger::new(config(missing, "")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    let error = AccessLogger::new(config(AccessLogSink::Stdout, "%X%")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(AccessLogger::new(config(AccessLogSink::Stderr, "%PROTOCOL%")).is_ok());
}
