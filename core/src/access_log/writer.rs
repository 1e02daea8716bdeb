//! The thread that writes access logs, and the files that it writes to.
//!
//! It is the only place that waits for a disk or a terminal. Shards hand whole buffers over through
//! a bounded queue and get them back empty; when the queue is full they never wait.
//!
//! What it leaves to others: lines (`format`), when buffers are handed over (`shard_log`).

use crate::config::AccessLogSink;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Buffers that wait to be written, of all logs and shards together: about 4 MiB.
const QUEUE_BUFFERS: usize = 256;

/// How long a terminal that is not ready is waited for, in all.
const NOT_READY_MAX: Duration = Duration::from_secs(1);
const NOT_READY_STEP: Duration = Duration::from_millis(1);

/// The thread. Ends, when all is written, after the last handle is dropped.
#[derive(Clone, Debug)]
pub struct LogWriter {
    queue: SyncSender<Message>,
}

/// Whole lines on their way to a file.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) sink: Arc<Sink>,
    pub(super) bytes: Vec<u8>,
    pub(super) count: u64,
    /// Where the empty buffer goes back to.
    pub(super) back: SyncSender<Vec<u8>>,
}

#[derive(Debug)]
enum Message {
    Lines(Lines),
    Reopen(Arc<Sink>),
    /// Everything before this is written when an answer comes.
    Sync(SyncSender<()>),
}

/// Where the lines of one log go.
#[derive(Debug)]
pub(super) struct Sink {
    target: AccessLogSink,
    /// Only the writer's thread takes this lock.
    file: Mutex<File>,
    reopen: AtomicBool,
    /// Lines that found the queue full.
    pub(super) dropped: AtomicU64,
    /// Lines that could not be written.
    pub(super) failed: AtomicU64,
}

impl LogWriter {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When the system has no thread left.
    pub fn start() -> io::Result<LogWriter> {
        let (queue, messages) = sync_channel(QUEUE_BUFFERS);
        thread::Builder::new().name("access-log".to_owned()).spawn(move || run(&messages))?;
        Ok(LogWriter { queue })
    }

    /// The writer of this process, started on first use.
    ///
    /// # Errors
    ///
    /// As [`LogWriter::start`].
    pub fn of_process() -> io::Result<LogWriter> {
        static WRITER: Mutex<Option<LogWriter>> = Mutex::new(None);
        let mut writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.is_none() {
            *writer = Some(LogWriter::start()?);
        }
        writer.clone().ok_or_else(|| ErrorKind::Other.into())
    }

    /// Waits until everything that was handed over so far, of all logs, is written, but not longer
    /// than `timeout`. Says whether it is.
    #[must_use]
    pub fn sync(&self, timeout: Duration) -> bool {
        let (done, wait) = sync_channel(1);
        let mut left = timeout;
        // A full queue is a busy writer; there is no sending with a time limit.
        while let Err(TrySendError::Full(_)) = self.queue.try_send(Message::Sync(done.clone())) {
            if left.is_zero() {
                return false;
            }
            let step = left.min(NOT_READY_STEP);
            thread::park_timeout(step);
            left -= step;
        }
        wait.recv_timeout(left).is_ok()
    }

    /// Hands lines over; gives them back when the queue is full.
    pub(super) fn hand_over(&self, lines: Lines) -> Result<(), Vec<u8>> {
        match self.queue.try_send(Message::Lines(lines)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                Err(match message {
                    Message::Lines(lines) => lines.bytes,
                    Message::Reopen(_) | Message::Sync(_) => Vec::new(),
                })
            }
        }
    }

    /// Has the file opened anew before anything else is written to it.
    pub(super) fn reopen(&self, sink: &Arc<Sink>) {
        sink.reopen.store(true, Ordering::Release);
        // With a full queue, lines of this log are likely to be in it or to come soon; they look at
        // the mark.
        let _ = self.queue.try_send(Message::Reopen(sink.clone()));
    }
}

fn run(messages: &Receiver<Message>) {
    for message in messages {
        match message {
            Message::Lines(mut lines) => {
                if lines.sink.write(&lines.bytes).is_err() {
                    lines.sink.failed.fetch_add(lines.count, Ordering::Relaxed);
                }
                lines.bytes.clear();
                // A shard that has buffers enough, or is gone, does not want it.
                let _ = lines.back.try_send(lines.bytes);
            }
            Message::Reopen(sink) => {
                let _ = sink.write(b"");
            }
            Message::Sync(done) => {
                let _ = done.try_send(());
            }
        }
    }
}

impl Sink {
    pub(super) fn open(target: AccessLogSink) -> io::Result<Sink> {
        let file = Mutex::new(open(&target)?);
        Ok(Sink {
            target,
            file,
            reopen: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if self.reopen.swap(false, Ordering::AcqRel) {
            // A file that cannot be opened anew goes on being written under its old name.
            if let Ok(opened) = open(&self.target) {
                *file = opened;
            }
        }
        let mut waited = Duration::ZERO;
        while !bytes.is_empty() {
            match file.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && waited < NOT_READY_MAX => {
                    thread::park_timeout(NOT_READY_STEP);
                    waited += NOT_READY_STEP;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn open(target: &AccessLogSink) -> io::Result<File> {
    match target {
        AccessLogSink::File(path) => OpenOptions::new().append(true).create(true).open(path),
        AccessLogSink::Stdout => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
        AccessLogSink::Stderr => Ok(io::stderr().as_fd().try_clone_to_owned()?.into()),
        AccessLogSink::Service(_) => Err(ErrorKind::InvalidInput.into()),
    }
}
