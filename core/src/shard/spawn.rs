//! Starting a shard on a thread of its own.
//!
//! What it leaves to others: how many shards, and on which CPUs (`main`).

use super::{Shard, ShardState};
use crate::snapshot::Publisher;
use crate::stats::{Scope, ServerStat, ShardStats};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tidegate_io::epoll::Epoll;
use tidegate_io::uring::Uring;
use tidegate_io::{Io, IoOptions, Waker, cpu};

/// What a shard starts with.
#[derive(Debug)]
pub struct ShardOptions {
    /// Which shard this is, from 0.
    pub index: usize,
    /// The CPU to pin its thread to.
    pub cpu: Option<usize>,
    /// Whether to use io_uring; epoll otherwise.
    pub io_uring: bool,
    /// Sizes of rings and buffers.
    pub io: IoOptions,
    /// Where snapshots come from.
    pub publisher: Arc<Publisher>,
    /// Its cells.
    pub stats: Arc<ShardStats>,
    /// Where it counts what concerns the server.
    pub server: Scope,
    /// Makes shards differ: which host comes first, request ids.
    pub seed: u64,
}

/// How long a shard runs at a time where others want its CPU: the least that the kernel grants.
const SLICE: Duration = Duration::from_micros(100);

/// How late a shard's waits may end: the kernel would take 50 us, as much as they are prolonged.
const TIMER_SLACK: Duration = Duration::from_micros(1);

/// A running shard.
#[derive(Debug)]
pub struct ShardHandle {
    /// Wakes it, for example to adopt a snapshot at once.
    pub waker: Waker,
    /// What it says of itself.
    pub state: Arc<ShardState>,
    /// Its thread; ends after `state.stop` and a wake, or with the error that ended it.
    pub thread: JoinHandle<io::Result<()>>,
}

/// Starts a shard and waits until it accepts. The ring is made on the shard's own thread, as
/// `SINGLE_ISSUER` asks.
pub fn spawn(options: ShardOptions) -> io::Result<ShardHandle> {
    let (sender, receiver) = mpsc::channel();
    let name = format!("shard-{}", options.index);
    let thread = thread::Builder::new().name(name).spawn(move || {
        if let Some(cpu) = options.cpu {
            // A failure costs speed, not correctness: a CPU can be taken away while we start.
            let _ = cpu::pin(cpu);
        }
        // Neither does this: without it a request may wait for milliseconds while a page of admin
        // is made on the shard's CPU.
        let _ = cpu::set_slice(SLICE);
        let _ = cpu::set_timer_slack(TIMER_SLACK);
        let ready = |waker, state| {
            let _ = sender.send((waker, state));
        };
        if options.io_uring {
            run(Uring::new(&options.io)?, &options, ready)
        } else {
            run(Epoll::new(&options.io)?, &options, ready)
        }
    })?;
    match receiver.recv() {
        Ok((waker, state)) => Ok(ShardHandle { waker, state, thread }),
        Err(_) => Err(match thread.join() {
            Ok(Err(error)) => error,
            _ => io::Error::other("a shard's thread ended while it started"),
        }),
    }
}

fn run<I: Io>(
    io: I,
    options: &ShardOptions,
    ready: impl FnOnce(Waker, Arc<ShardState>),
) -> io::Result<()> {
    let mut shard = Shard::new(
        io,
        options.index,
        options.publisher.clone(),
        options.stats.clone(),
        options.server,
        options.seed,
    )?;
    options.stats.set(options.server, ServerStat::IoUringEnabled, u64::from(options.io_uring));
    let state = shard.state();
    ready(shard.io().waker(), state.clone());
    while !state.stop.load(Ordering::Acquire) {
        shard.turn(shard.timeout())?;
    }
    shard.end();
    Ok(())
}
