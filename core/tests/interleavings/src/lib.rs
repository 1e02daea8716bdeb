//! The files by which snapshots reach shards, word for word, over threads and memory of loom's.
//!
//! `publish.rs` and `wake.rs` are compiled here a second time. What they use from outside they find
//! in this crate, which gives itself the names that they say: `std`, `arc_swap`, `libc`,
//! `tidegate_io`. What it leaves to others: what must hold (`tests`).
// The tests that these files bring are run where the files are.
#![cfg(not(test))]
#![allow(unsafe_code, unused_unsafe, reason = "wake.rs has it; what it calls here has none")]

extern crate self as arc_swap;
extern crate self as libc;
extern crate self as std;
extern crate self as tidegate_io;
extern crate std as real;

mod cell;
mod eventfd;
#[path = "../../../src/snapshot/publish.rs"]
mod publish;
#[path = "../../../io/src/wake.rs"]
mod wake;

pub use cell::ArcSwap;
use eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, eventfd, read, write};
pub use publish::{Adopted, Publisher};
use real::sync::Arc;

/// The part of `std` that is loom's where threads meet.
pub mod sync {
    pub use loom::sync::{Mutex, MutexGuard, atomic};
    pub use real::sync::{Arc, PoisonError};
}
pub use real::{fmt, io, rc};

mod os {
    pub(crate) mod fd {
        pub(crate) use crate::eventfd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
    }
}

/// As much of a snapshot as publishing it needs.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows with each.
    pub version: u64,
}

/// As in `tidegate-io`.
#[derive(Clone)]
pub struct Waker(pub(crate) Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// Makes a wait end.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// What a shard sleeps on.
pub struct Bell(Arc<wake::WakeEvent>);

impl Bell {
    /// One that nobody rang.
    ///
    /// # Errors
    ///
    /// Never.
    pub fn new() -> io::Result<Bell> {
        wake::WakeEvent::new().map(Bell)
    }

    /// Rings it.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.0.waker()
    }

    /// Sleeps until it is rung, and hears it, as each backend does.
    pub fn wait(&self) {
        self.0.fd().wait();
        self.0.hear();
    }
}
