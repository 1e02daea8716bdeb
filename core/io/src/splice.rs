//! Moving bytes from one socket to another inside the kernel: splice(2) through a pipe.
//!
//! Bytes that only pass through need not be copied to user space and back. Relaying a body of 4 MB
//! so costs a third of the processor time, one of 2 MB 0.45 to 0.75, one of 1 MB 0.75 to 0.8, and
//! shorter ones the same. A pipe is taken for as long as it holds bytes, so that a few serve many
//! sockets.
//!
//! What it leaves to others: waiting until a socket is ready (the backends).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::{Errno, Socket, SpliceEnd, sys};

/// What a pipe holds: the kernel's default of 16 pages. Larger pipes gained nothing, and a user has
/// 64 MiB of pipes in all (`fs.pipe-user-pages-soft`).
const PIPE_BYTES: usize = 64 * 1024;

/// Bytes moved for one splice before others have their turn.
const PUMP_BYTES: u64 = 256 * 1024;

/// Pipes of one backend at most; each is two descriptors. Who finds none copies.
const PIPES_MAX: u32 = 128;

/// A pipe that nobody else has an end of.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    fn new() -> io::Result<Pipe> {
        let mut ends = [-1; 2];
        // SAFETY: room for two descriptors.
        let result = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: two descriptors that were just made and that nobody else owns.
        let [read, write] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        Ok(Pipe { read, write })
    }
}

/// The pipes of one backend: one from the start, more while there are more splices.
#[derive(Debug)]
pub(crate) struct Pipes {
    /// Empty ones.
    free: Vec<Pipe>,
    /// Those that are lent included.
    open: u32,
}

impl Pipes {
    pub(crate) fn new() -> Pipes {
        let free = Vec::from_iter(Pipe::new());
        Pipes { open: free.len() as u32, free }
    }

    fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.free.pop() {
            return Some(pipe);
        }
        if self.open == PIPES_MAX {
            return None;
        }
        let pipe = Pipe::new().ok()?;
        self.open += 1;
        Some(pipe)
    }

    /// Closes what so many splices cannot need.
    pub(crate) fn trim(&mut self, splices: usize) {
        let excess = self.free.len().saturating_sub(splices.max(1));
        self.free.truncate(self.free.len() - excess);
        self.open -= excess as u32;
    }

    /// Takes a pipe back that was lent; one that is not empty is closed.
    fn put_back(&mut self, pipe: Pipe, held: usize) {
        if held == 0 {
            self.free.push(pipe);
        } else {
            self.open -= 1;
        }
    }
}

/// Bytes on their way from one socket to another.
#[derive(Debug)]
pub(crate) struct Splice {
    pub(crate) from: Socket,
    pub(crate) to: Socket,
    /// Bytes that are still to be taken from `from`.
    left: u64,
    /// Bytes in the pipe: taken from `from` and not yet given to `to`.
    held: usize,
    /// There while it holds bytes.
    pipe: Option<Pipe>,
}

/// Why a splice does not go on now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standstill {
    /// `from` has nothing.
    From,
    /// `to` takes nothing.
    To,
    /// It has moved enough for now.
    Turn,
    /// It is over.
    End(SpliceEnd),
}

impl Splice {
    pub(crate) fn new(from: Socket, to: Socket, bytes: u64) -> Splice {
        Splice { from, to, left: bytes, held: 0, pipe: None }
    }

    /// Moves what can be moved without waiting; answers with the bytes that `to` took. Neither
    /// descriptor may be one that waits.
    pub(crate) fn pump(&mut self, from: RawFd, to: RawFd, pipes: &mut Pipes) -> (u64, Standstill) {
        let mut moved = 0;
        let standstill = loop {
            if self.held == 0 {
                if self.left == 0 {
                    break Standstill::End(SpliceEnd::Complete);
                }
                if moved >= PUMP_BYTES {
                    break Standstill::Turn;
                }
                if let Err(standstill) = self.fill(from, pipes) {
                    break standstill;
                }
            }
            match self.drain(to) {
                Ok(bytes) => moved += bytes as u64,
                Err(standstill) => break standstill,
            }
        };
        if self.held == 0 {
            self.release(pipes);
        }
        (moved, standstill)
    }

    /// Gives the pipe back, with or without what it holds.
    pub(crate) fn release(&mut self, pipes: &mut Pipes) {
        if let Some(pipe) = self.pipe.take() {
            pipes.put_back(pipe, self.held);
        }
    }

    fn fill(&mut self, from: RawFd, pipes: &mut Pipes) -> Result<(), Standstill> {
        if self.pipe.is_none() {
            self.pipe = pipes.take();
        }
        let Some(pipe) = &self.pipe else { return Err(Standstill::End(SpliceEnd::NoPipe)) };
        let wanted = usize::try_from(self.left).unwrap_or(PIPE_BYTES).min(PIPE_BYTES);
        match splice(from, pipe.write.as_raw_fd(), wanted) {
            Ok(0) => Err(Standstill::End(SpliceEnd::Eof)),
            Ok(bytes) => {
                self.held = bytes;
                self.left -= bytes as u64;
                Ok(())
            }
            Err(Errno(libc::EAGAIN)) => Err(Standstill::From),
            Err(errno) => Err(Standstill::End(SpliceEnd::RecvFailed(errno))),
        }
    }

    fn drain(&mut self, to: RawFd) -> Result<usize, Standstill> {
        let Some(pipe) = &self.pipe else { return Err(Standstill::End(SpliceEnd::NoPipe)) };
        match splice(pipe.read.as_raw_fd(), to, self.held) {
            Ok(bytes) => {
                self.held -= bytes;
                Ok(bytes)
            }
            Err(Errno(libc::EAGAIN)) => Err(Standstill::To),
            Err(errno) => Err(Standstill::End(SpliceEnd::SendFailed(errno))),
        }
    }
}

/// One splice(2); repeated when a signal interrupts it.
fn splice(from: RawFd, to: RawFd, bytes: usize) -> Result<usize, Errno> {
    let flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE;
    loop {
        // SAFETY: no offsets: pipes and sockets have none.
        let moved = unsafe {
            libc::splice(from, std::ptr::null_mut(), to, std::ptr::null_mut(), bytes, flags)
        };
        match usize::try_from(moved) {
            Ok(moved) => return Ok(moved),
            Err(_) => match sys::last_errno() {
                Errno(libc::EINTR) => {}
                errno => return Err(errno),
            },
        }
    }
}
