//! An eventfd between threads of loom's: a counter that can be waited for.
//!
//! What it leaves to others: what a wake means (`wake.rs`).

use crate::sync::{Arc, PoisonError};
use loom::sync::{Condvar, Mutex};
use real::cmp;

pub(crate) const EFD_CLOEXEC: i32 = 1;
pub(crate) const EFD_NONBLOCK: i32 = 2;

#[derive(Default)]
struct Counter {
    count: Mutex<u64>,
    changed: Condvar,
}

/// Stands for the number of a descriptor.
#[derive(Clone)]
pub(crate) struct RawFd(Arc<Counter>);

/// So that it can be asked whether it is an error.
impl PartialEq<i32> for RawFd {
    fn eq(&self, _: &i32) -> bool {
        false
    }
}

impl PartialOrd<i32> for RawFd {
    fn partial_cmp(&self, _: &i32) -> Option<cmp::Ordering> {
        Some(cmp::Ordering::Greater)
    }
}

impl RawFd {
    /// Waits until it is readable, as a turn does.
    pub(crate) fn wait(&self) {
        let mut count = self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count == 0 {
            count = self.0.changed.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

pub(crate) struct OwnedFd(RawFd);

pub(crate) trait FromRawFd {
    fn from_raw_fd(fd: RawFd) -> Self;
}

pub(crate) trait AsRawFd {
    fn as_raw_fd(&self) -> RawFd;
}

impl FromRawFd for OwnedFd {
    fn from_raw_fd(fd: RawFd) -> OwnedFd {
        OwnedFd(fd)
    }
}

impl AsRawFd for OwnedFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.clone()
    }
}

pub(crate) fn eventfd(_: u32, _: i32) -> RawFd {
    RawFd(Arc::default())
}

/// Writes a one: nothing else is written to it.
pub(crate) fn write(fd: RawFd, _: *const (), _: usize) {
    *fd.0.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    fd.0.changed.notify_one();
}

/// Empties it.
pub(crate) fn read(fd: RawFd, _: *mut (), _: usize) {
    *fd.0.count.lock().unwrap_or_else(PoisonError::into_inner) = 0;
}
