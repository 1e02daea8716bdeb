//! Starts the shards: how many, and on which CPUs.
//!
//! What it leaves to others: what a shard does (`shard`).

use super::Shard;
use crate::log::{self, Component};
use crate::shard::{self, ShardOptions};
use crate::snapshot::Publisher;
use crate::stats::{Registry, ServerStat};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::Arc;
use tidegate_io::IoOptions;
use tidegate_io::backend::Chosen;

/// The backend's name, as in `--io-backend`.
#[must_use]
pub fn backend_name(backend: Chosen) -> &'static str {
    match backend {
        Chosen::IoUring => "io_uring",
        Chosen::Epoll => "epoll",
    }
}

/// The CPUs that we may use. When the kernel does not say, shards are not pinned.
#[must_use]
pub fn allowed_cpus() -> Vec<usize> {
    tidegate_io::cpu::allowed().unwrap_or_else(|error| {
        let text = format_args!("cannot ask which CPUs there are, nothing is pinned: {error}");
        log::warning(Component::Main, text);
        Vec::new()
    })
}

/// Starts `count` shards, each on a CPU of its own while there are enough.
///
/// # Errors
///
/// When a thread or its I/O cannot be made.
pub fn start(
    count: usize,
    cpus: &[usize],
    backend: Chosen,
    io: &IoOptions,
    publisher: &Arc<Publisher>,
    registry: &Registry,
) -> io::Result<Vec<Shard>> {
    let server = registry.scope("", ServerStat::ALL);
    let mut shards = Vec::with_capacity(count);
    for index in 0..count {
        let handle = shard::spawn(ShardOptions {
            index,
            // Two shards on one CPU would only wait for each other: then the kernel places them.
            cpu: if count <= cpus.len() { cpus.get(index).copied() } else { None },
            io_uring: backend == Chosen::IoUring,
            io: io.clone(),
            publisher: publisher.clone(),
            stats: registry.shard(index),
            server,
            seed: RandomState::new().build_hasher().finish(),
        })?;
        let waker = handle.waker;
        shards.push(Shard {
            wake: Box::new(move || waker.wake()),
            state: handle.state,
            thread: handle.thread,
        });
    }
    Ok(shards)
}
