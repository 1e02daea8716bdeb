//! One io_uring: set up with the best flags that the kernel takes, and entered once per turn.
//!
//! What it leaves to others: which operations there are and what their completions mean.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::{IoUring, cqueue, squeue};

const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
const ENTER_NO_IOWAIT: u32 = 1 << 7;
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// A ring and the operations that wait for room in its submission queue.
pub(super) struct Ring {
    ring: IoUring,
    backlog: VecDeque<squeue::Entry>,
    /// What `io_uring_enter` takes as its ring: an index when the ring is registered (5.18).
    enter_fd: RawFd,
    enter_flags: u32,
    features: Features,
    pub(super) enters: u64,
    pub(super) submissions: u64,
    pub(super) overflows: u64,
}

/// What the kernel granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Features {
    pub(super) no_sqarray: bool,
    pub(super) registered_ring: bool,
    pub(super) submission_entries: u32,
    pub(super) completion_entries: u32,
}

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct WaitArgument {
    sigmask: u64,
    sigmask_bytes: u32,
    min_wait_us: u32,
    timeout: u64,
}

/// `struct __kernel_timespec`.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

/// `struct io_uring_rsrc_update`, as `IORING_REGISTER_RING_FDS` reads it.
#[repr(C)]
struct RingUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

impl Ring {
    /// Sets a ring up. The calling thread is the only one that may use it.
    ///
    /// Flags: `SINGLE_ISSUER` and `DEFER_TASKRUN` (6.1) are required; `NO_SQARRAY` (6.6), the
    /// registered ring descriptor (5.18) and `NO_IOWAIT` (6.15) are taken where they exist.
    ///
    /// # Errors
    ///
    /// That of `io_uring_setup`: `EINVAL` for a kernel before 6.1, `EPERM`, `ENOSYS`, `ENOMEM`,
    /// `EMFILE`.
    pub(super) fn new(submission_entries: u32, completion_entries: u32) -> io::Result<Ring> {
        let (ring, no_sqarray) = set_up(submission_entries, completion_entries)?;
        let features =
            Features { no_sqarray, registered_ring: false, submission_entries, completion_entries };
        let enter_fd = ring.as_raw_fd();
        let no_iowait = ring.params().is_feature_no_iowait();
        let mut ring = Ring {
            ring,
            backlog: VecDeque::new(),
            enter_fd,
            enter_flags: if no_iowait { ENTER_NO_IOWAIT } else { 0 },
            features,
            enters: 0,
            submissions: 0,
            overflows: 0,
        };
        ring.register_descriptor();
        Ok(ring)
    }

    /// Saves looking the descriptor up in every enter. Does nothing where it is not supported.
    fn register_descriptor(&mut self) {
        let own = self.ring.as_raw_fd();
        let mut update = RingUpdate { offset: u32::MAX, reserved: 0, data: own as u64 };
        if register(own, REGISTER_RING_FDS, &mut update) {
            self.enter_fd = update.offset as RawFd;
            self.enter_flags |= ENTER_REGISTERED_RING;
            self.features.registered_ring = true;
        }
    }

    pub(super) fn features(&self) -> Features {
        self.features
    }

    /// The ring of the crate, for registrations.
    pub(super) fn raw(&self) -> &IoUring {
        &self.ring
    }

    /// Queues an operation for the next enter. Operations start in the order in which they are
    /// queued.
    ///
    /// # Safety
    ///
    /// What the entry points to stays valid until its completion (until it is submitted, for
    /// addresses that the kernel copies).
    #[inline]
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        self.submissions += 1;
        if self.backlog.is_empty() {
            // SAFETY: the caller's promise.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
        }
        self.backlog.push_back(entry);
    }

    /// Moves what waits into the submission queue. Whether everything found room.
    fn drain_backlog(&mut self) -> bool {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: promised by whoever called `Ring::push` with this entry.
            if unsafe { queue.push(entry) }.is_err() {
                return false;
            }
            self.backlog.pop_front();
        }
        true
    }

    /// Submits everything and waits until there is a completion or `timeout` has passed; or, with
    /// `gather`, for so many completions, but after so many microseconds for the first only. A
    /// kernel before 6.12 waits for the first.
    ///
    /// # Errors
    ///
    /// Those that no waiting heals. An interruption, a passed timeout and a kernel that is
    /// momentarily out of memory are not errors: the caller comes again.
    pub(super) fn enter(
        &mut self,
        timeout: Option<Duration>,
        gather: Option<(u32, u32)>,
    ) -> io::Result<()> {
        while !self.drain_backlog() {
            let queued = self.ring.submission().len() as u32;
            if self.enter_once(queued, (0, 0), None)? == 0 {
                // The kernel takes nothing now; what it has completed must be read first.
                break;
            }
        }
        let queue = self.ring.submission();
        let queued = queue.len() as u32;
        let overflowed = queue.cq_overflow();
        drop(queue);
        self.overflows += u64::from(overflowed);
        let ready = !self.ring.completion().is_empty() || overflowed || !self.backlog.is_empty();
        if ready || timeout == Some(Duration::ZERO) {
            self.enter_once(queued, (0, 0), None)?;
        } else {
            let gather = gather.filter(|_| self.ring.params().is_feature_min_timeout());
            self.enter_once(queued, gather.unwrap_or((1, 0)), timeout)?;
        }
        Ok(())
    }

    /// Waits for `count` completions, after `min_wait_us` for one.
    fn enter_once(
        &mut self,
        submit: u32,
        (count, min_wait_us): (u32, u32),
        timeout: Option<Duration>,
    ) -> io::Result<u32> {
        self.enters += 1;
        let spec = timeout.map(|timeout| Timespec {
            seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX / 2),
            nanoseconds: i64::from(timeout.subsec_nanos()),
        });
        let argument = WaitArgument {
            sigmask: 0,
            sigmask_bytes: 8,
            min_wait_us,
            timeout: spec.as_ref().map_or(0, |spec| (&raw const *spec) as u64),
        };
        // SAFETY: the argument and the timespec that it points to outlive the call; queued entries
        // are valid by the promise given to `Ring::push`.
        let submitted = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.enter_fd,
                submit,
                count,
                self.enter_flags | ENTER_GETEVENTS | ENTER_EXT_ARG,
                &raw const argument,
                size_of::<WaitArgument>(),
            )
        };
        if submitted >= 0 {
            return Ok(submitted as u32);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // EBUSY: completions overflowed and must be read before more is taken.
            // EAGAIN: no memory for a request; it stays queued.
            Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => Ok(0),
            _ => Err(error),
        }
    }

    /// The next completion that the kernel has reported, in order.
    #[inline]
    pub(super) fn next(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }
}

impl Drop for Ring {
    /// The registration holds the ring: closing the descriptor alone would keep it, its memory and
    /// its operations until the thread ends.
    fn drop(&mut self) {
        if self.features.registered_ring {
            let mut update = RingUpdate { offset: self.enter_fd as u32, reserved: 0, data: 0 };
            register(self.ring.as_raw_fd(), UNREGISTER_RING_FDS, &mut update);
        }
    }
}

/// `io_uring_register` with one update. Whether it was done.
fn register(ring: RawFd, operation: u32, update: &mut RingUpdate) -> bool {
    // SAFETY: one writable update of the layout that both operations read and write.
    let done = unsafe {
        libc::syscall(libc::SYS_io_uring_register, ring, operation, &raw mut *update, 1_u32)
    };
    done == 1
}

/// One attempt with and, when the kernel does not know it, one without `NO_SQARRAY`.
fn set_up(submission: u32, completion: u32) -> io::Result<(IoUring, bool)> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(completion);
    let mut newest = builder.clone();
    match newest.setup_no_sqarray().build(submission) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            Ok((builder.build(submission)?, false))
        }
        other => Ok((other?, true)),
    }
}
