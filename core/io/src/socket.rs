//! Making listening sockets: one per shard and address, with `SO_REUSEPORT`.
//!
//! What it leaves to others: which addresses, and what an error means to the operator.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket as RawSocket, Type};

/// How to make a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
    /// Envoy: `tcp_backlog_size`, default 128.
    pub backlog: u32,
    /// `SO_REUSEPORT`: several listeners, one per shard, share the address and the kernel spreads
    /// connections over them. Envoy: `enable_reuse_port`.
    pub reuse_port: bool,
    /// `IPV6_V6ONLY`: the listener on `[::]` does not take IPv4 connections.
    /// Envoy: the inverse of `ipv4_compat`.
    pub ipv6_only: bool,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions { backlog: 128, reuse_port: true, ipv6_only: true }
    }
}

/// How to make a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ConnectOptions {
    /// Where it comes from; port 0 leaves the port to the kernel. Envoy: `upstream_bind_config`.
    pub source: Option<SocketAddr>,
    /// `IP_FREEBIND`: the source need not be an address of this host (yet).
    pub freebind: bool,
    /// `SO_KEEPALIVE`. Envoy: `tcp_keepalive`.
    pub keepalive: Option<Keepalive>,
}

/// When the kernel asks a silent peer whether it is still there; what is absent is the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Keepalive {
    /// `TCP_KEEPCNT`: unanswered questions that end the connection.
    pub probes: Option<u32>,
    /// `TCP_KEEPIDLE`: seconds of silence before the first.
    pub time_s: Option<u32>,
    /// `TCP_KEEPINTVL`: seconds between them.
    pub interval_s: Option<u32>,
}

/// A TCP socket, bound to `address` and listening.
///
/// `SO_REUSEADDR` is set, so that a restart is not refused while old connections linger, and
/// `TCP_NODELAY`, which accepted sockets inherit. Port 0 asks for a free port.
///
/// # Errors
///
/// `EADDRINUSE`, `EACCES` (a port below `net.ipv4.ip_unprivileged_port_start`), `EADDRNOTAVAIL`,
/// `EAFNOSUPPORT`, `EMFILE`.
pub fn listen(address: &SocketAddr, options: &ListenOptions) -> io::Result<OwnedFd> {
    let domain = Domain::for_address(*address);
    let socket = RawSocket::new_raw(domain, Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(options.ipv6_only)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.bind(&(*address).into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn port_of(fd: &OwnedFd) -> SocketAddr {
        TcpListener::from(fd.try_clone().unwrap()).local_addr().unwrap()
    }

    #[test]
    fn two_listeners_share_an_address_and_accepted_sockets_inherit_nodelay() {
        let any = "127.0.0.1:0".parse().unwrap();
        let first = listen(&any, &ListenOptions::default()).unwrap();
        let address = port_of(&first);
        let second = listen(&address, &ListenOptions::default()).unwrap();
        drop(first);
        let client = TcpStream::connect(address).unwrap();
        let (accepted, _) = TcpListener::from(second).accept().unwrap();
        assert!(accepted.nodelay().unwrap());
        drop(client);
    }

    #[test]
    fn without_reuse_port_the_second_is_refused() {
        let alone = ListenOptions { reuse_port: false, ..ListenOptions::default() };
        let first = listen(&"127.0.0.1:0".parse().unwrap(), &alone).unwrap();
        let error = listen(&port_of(&first), &alone).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    }

    #[test]
    fn an_address_of_another_host_is_refused() {
        let error = listen(&"192.0.2.1:0".parse().unwrap(), &ListenOptions::default()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL));
    }
}
