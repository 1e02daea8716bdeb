//! Stand-in until shards are merged: a thread that adopts snapshots and says when it has drained.
//!
//! What it leaves to others: everything else.

use crate::snapshot::Publisher;
use crate::stats::{Scope, ShardStats};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tidegate_io::backend::Chosen;

/// Wakes nobody.
#[derive(Debug)]
pub struct Waker;

impl Waker {
    /// Does nothing.
    pub fn wake(&self) {}
}

/// What a shard is made of.
#[derive(Debug)]
pub struct ShardOptions {
    /// Its number, from 0.
    pub index: usize,
    /// The CPU that it is pinned to.
    pub cpu: Option<usize>,
    /// How sockets are driven.
    pub backend: Chosen,
    /// The newest snapshot.
    pub publisher: Arc<Publisher>,
    /// Its cells.
    pub stats: Arc<ShardStats>,
    /// Where `server.*` counts.
    pub server_scope: Scope,
    /// Seeds what is random in it.
    pub seed: u64,
}

/// A running shard.
#[derive(Debug)]
pub struct ShardHandle {
    /// Wakes it.
    pub waker: Waker,
    /// It has nothing left to do.
    pub drained: Arc<AtomicBool>,
    /// Downstream connections now.
    pub connections: Arc<AtomicU64>,
    /// Its thread.
    pub thread: JoinHandle<()>,
}

/// Starts a shard.
///
/// # Errors
///
/// When there can be no more threads.
pub fn spawn(options: ShardOptions) -> io::Result<ShardHandle> {
    let drained = Arc::new(AtomicBool::new(false));
    let done = drained.clone();
    let thread = std::thread::Builder::new().spawn(move || {
        while !options.publisher.load().draining {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        done.store(true, Ordering::Release);
    })?;
    Ok(ShardHandle { waker: Waker, drained, connections: Arc::new(AtomicU64::new(0)), thread })
}
