//! The few system calls that both kernel backends make on a descriptor.
//!
//! What it leaves to others: when to make them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};

use crate::{ConnectOptions, Errno, Keepalive};

/// The error of the system call that just failed on this thread.
pub(crate) fn last_errno() -> Errno {
    errno_of(&io::Error::last_os_error())
}

/// The errno inside an error; `EIO` when it carries none.
pub(crate) fn errno_of(error: &io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Runs `action` on a descriptor that a slot keeps open for the duration of the call.
fn with_socket<T>(fd: RawFd, action: impl FnOnce(SockRef<'_>) -> io::Result<T>) -> io::Result<T> {
    // SAFETY: the slots close a descriptor only when they forget it; it is open during this call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    action(SockRef::from(&borrowed))
}

/// Whether accepting and connecting descriptors wait: io_uring wants blocking ones, for it turns
/// `EAGAIN` of a non-blocking one into a failed operation instead of waiting.
pub(crate) fn set_nonblocking(fd: &OwnedFd, nonblocking: bool) -> io::Result<()> {
    with_socket(fd.as_raw_fd(), |socket| socket.set_nonblocking(nonblocking))
}

/// As [`set_nonblocking`], for a descriptor that a slot keeps open. It has no other status flag.
pub(crate) fn set_nonblocking_raw(fd: RawFd, nonblocking: bool) {
    let flags = if nonblocking { libc::O_NONBLOCK } else { 0 };
    // SAFETY: no pointers. It cannot fail on a descriptor that is open.
    unsafe { libc::fcntl(fd, libc::F_SETFL, flags) };
}

/// A TCP socket for connecting to `address`, with `TCP_NODELAY` and close-on-exec.
pub(crate) fn connecting_socket(
    address: &SocketAddr,
    options: &ConnectOptions,
    nonblocking: bool,
) -> io::Result<OwnedFd> {
    let kind = if nonblocking { Type::STREAM.nonblocking() } else { Type::STREAM };
    let socket =
        RawSocket::new_raw(Domain::for_address(*address), kind.cloexec(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(keepalive) = &options.keepalive {
        set_keepalive(&socket, keepalive)?;
    }
    if let Some(source) = &options.source {
        if options.freebind {
            match source {
                SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
                SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
            }
        }
        if source.port() == 0 {
            leave_port_to_connect(socket.as_raw_fd());
        }
        socket.bind(&(*source).into())?;
    }
    Ok(socket.into())
}

fn set_keepalive(socket: &RawSocket, keepalive: &Keepalive) -> io::Result<()> {
    socket.set_keepalive(true)?;
    let mut wanted = TcpKeepalive::new();
    if let Some(probes) = keepalive.probes {
        wanted = wanted.with_retries(probes);
    }
    if let Some(seconds) = keepalive.time_s {
        wanted = wanted.with_time(Duration::from_secs(seconds.into()));
    }
    if let Some(seconds) = keepalive.interval_s {
        wanted = wanted.with_interval(Duration::from_secs(seconds.into()));
    }
    socket.set_tcp_keepalive(&wanted)
}

/// The port is chosen when the peer is known: bound before, each would be taken for all peers.
fn leave_port_to_connect(fd: RawFd) {
    let on: libc::c_int = 1;
    // SAFETY: a valid pointer to an int of the given length, which the kernel copies. Where it
    // fails, a port is chosen at once, as without it.
    unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            std::ptr::from_ref(&on).cast(),
            size_of_val(&on) as libc::socklen_t,
        );
    }
}

/// Makes the coming close send a reset and drop what is unsent.
pub(crate) fn set_reset_on_close(fd: RawFd) {
    // A failure (the socket is already dead) leaves an ordinary close, which is all that is left to
    // do.
    let _ = with_socket(fd, |socket| socket.set_linger(Some(Duration::ZERO)));
}

/// Sends FIN.
pub(crate) fn shutdown_write(fd: RawFd) {
    // Fails with ENOTCONN when the peer is gone, which receiving reports.
    let _ = with_socket(fd, |socket| socket.shutdown(std::net::Shutdown::Write));
}

/// The peer's address, unless the peer is gone.
pub(crate) fn peer_address(fd: RawFd) -> Option<SocketAddr> {
    with_socket(fd, |socket| socket.peer_addr()).ok()?.as_socket()
}

/// The descriptor's own address.
pub(crate) fn local_address(fd: RawFd) -> Option<SocketAddr> {
    with_socket(fd, |socket| socket.local_addr()).ok()?.as_socket()
}

/// recv(2), by number: the C library's wrapper also keeps books for the cancellation of threads,
/// which nobody does here, and that shows in profiles.
///
/// # Safety
///
/// `data` has room for `length` bytes, which nobody else uses during the call.
pub(crate) unsafe fn recv(fd: RawFd, data: *mut u8, length: usize, flags: i32) -> isize {
    let nowhere = std::ptr::null_mut::<u8>();
    // SAFETY: the caller's promise; the sender's address is not asked for.
    unsafe { libc::syscall(libc::SYS_recvfrom, fd, data, length, flags, nowhere, nowhere) as isize }
}

/// send(2), by number as [`recv`].
///
/// # Safety
///
/// `data` has `length` bytes, which nobody changes during the call.
pub(crate) unsafe fn send(fd: RawFd, data: *const u8, length: usize, flags: i32) -> isize {
    let nowhere = std::ptr::null::<u8>();
    // SAFETY: the caller's promise; the socket is connected.
    unsafe { libc::syscall(libc::SYS_sendto, fd, data, length, flags, nowhere, 0) as isize }
}

/// Closes a descriptor that a slot owned.
pub(crate) fn close(fd: RawFd) {
    // SAFETY: the slot that owned the descriptor has just forgotten it.
    unsafe { libc::close(fd) };
}

/// Errors of accept that concern one connection that is gone already, and not the listener:
/// accept(2) asks to treat them like a retry.
pub(crate) fn accept_error_passes_by(errno: Errno) -> bool {
    matches!(
        errno.0,
        libc::ECANCELED
            | libc::EAGAIN
            | libc::EINTR
            | libc::ECONNABORTED
            | libc::EPROTO
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EHOSTUNREACH
            | libc::EOPNOTSUPP
            | libc::ENETUNREACH
    )
}

/// `RLIMIT_MEMLOCK` in bytes; `None` when there is no limit.
pub(crate) fn memlock_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a writable rlimit.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (result == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Whether the process runs as root, who usually need not heed limits.
pub(crate) fn is_root() -> bool {
    // SAFETY: asks for a number.
    unsafe { libc::geteuid() == 0 }
}
