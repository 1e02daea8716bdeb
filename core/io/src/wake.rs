//! Waking a backend from another thread, by an eventfd.
//!
//! What it leaves to others: waiting on the descriptor.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Waker;

/// An eventfd and whether it was written since it was last heard. The flag saves the system call of
/// every wake but the first.
pub(crate) struct WakeEvent {
    fd: OwnedFd,
    pending: AtomicBool,
}

impl WakeEvent {
    pub(crate) fn new() -> io::Result<Arc<WakeEvent>> {
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just made and that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Arc::new(WakeEvent { fd, pending: AtomicBool::new(false) }))
    }

    /// The descriptor that becomes readable.
    pub(crate) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            let one = 1_u64;
            // SAFETY: eight readable bytes, as an eventfd wants. It cannot fail: the counter is far
            // from its end, for every write is preceded by a read of the one before.
            unsafe { libc::write(self.fd(), (&raw const one).cast(), 8) };
        }
    }

    /// Takes note of the wake, so that the next one is signalled again.
    ///
    /// The descriptor is emptied first. A wake between the two steps finds `pending` set and writes
    /// nothing, which is right: the `Woken` that is about to be reported covers it. The other way
    /// round its write could be swallowed while `pending` stays set, and no wake would be heard
    /// again.
    pub(crate) fn hear(&self) {
        let mut count = 0_u64;
        // SAFETY: eight writable bytes, as an eventfd wants.
        unsafe { libc::read(self.fd(), (&raw mut count).cast(), 8) };
        self.pending.swap(false, Ordering::AcqRel);
    }

    /// A handle for other threads.
    pub(crate) fn waker(self: &Arc<WakeEvent>) -> Waker {
        let event = Arc::clone(self);
        Waker(Arc::new(move || event.wake()))
    }
}
