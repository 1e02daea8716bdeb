//! Opens listening sockets: one per shard and listener, on one address.
//!
//! With `SO_REUSEPORT` alone, a second Tidegate of the same user would silently take half of the
//! connections of the first. So the first socket of an address is opened without it, which the
//! kernel refuses while anybody else listens there, and shares its port only after that, with our
//! own sockets.
//!
//! What it leaves to others: accepting (`shard`), and when a listener is there (`resources`).

use super::identity::ListenerKey;
use crate::config;
use crate::snapshot::ListenerSockets;
use rustix::io::Errno;
use socket2::SockRef;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tidegate_io::socket::{ListenOptions, listen};

/// A listener that could not be opened, and why.
#[derive(Debug)]
pub struct BindError {
    /// `name` of the listener, or `admin`.
    pub listener: String,
    /// Where it was to listen.
    pub address: SocketAddr,
    /// What the kernel said; `None` when another listener of ours has the address.
    pub cause: Option<io::Error>,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BindError { listener, address, cause } = self;
        write!(f, "listener `{listener}` cannot listen on {address}: ")?;
        match cause {
            Some(cause) => f.write_str(&explain(cause, *address)),
            None => f.write_str("another listener of the configuration has the same address"),
        }
    }
}

impl std::error::Error for BindError {}

/// What the kernel's refusal means, and what to do.
fn explain(error: &io::Error, address: SocketAddr) -> String {
    let port = address.port();
    match Errno::from_io_error(error) {
        Some(Errno::ADDRINUSE) => {
            format!("the port is in use; `ss -ltnp 'sport = :{port}'` shows by whom")
        }
        Some(Errno::ACCESS | Errno::PERM) => format!(
            "ports below net.ipv4.ip_unprivileged_port_start are privileged; run `setcap \
             cap_net_bind_service=+ep` on the binary, give the unit \
             `AmbientCapabilities=CAP_NET_BIND_SERVICE`, or run `sysctl \
             net.ipv4.ip_unprivileged_port_start={port}`"
        ),
        Some(Errno::ADDRNOTAVAIL) => {
            "no interface of this machine has this address; `ip address` shows those there are"
                .to_owned()
        }
        Some(Errno::AFNOSUPPORT) => "this machine has no IPv6".to_owned(),
        Some(Errno::MFILE) => "no file descriptor is left in this process; raise `ulimit -n` or \
             the unit's LimitNOFILE"
            .to_owned(),
        Some(Errno::NFILE) => {
            "no file descriptor is left on this machine; raise `sysctl fs.file-max`".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Sockets for all of `listeners`: those in `open` for listeners that stay, new ones for the
/// others. `open` are the sockets of the configuration that serves now.
///
/// # Errors
///
/// Every listener that cannot be opened. What was opened for the others is closed again.
pub fn open_all(
    listeners: &[Arc<config::Listener>],
    open: &HashMap<ListenerKey, Arc<ListenerSockets>>,
    shards: usize,
) -> Result<HashMap<ListenerKey, Arc<ListenerSockets>>, Vec<BindError>> {
    let mut sockets = HashMap::new();
    let mut errors = Vec::new();
    for config in listeners {
        let key = ListenerKey::of(config);
        let refuse =
            |cause| BindError { listener: config.name.clone(), address: key.address, cause };
        if sockets.contains_key(&key) {
            errors.push(refuse(None));
            continue;
        }
        let result = match open.get(&key) {
            Some(kept) => set_backlog(kept, config.backlog).map(|()| kept.clone()),
            None => open_one(key.address, config.backlog, shards).map(Arc::new),
        };
        match result {
            Ok(opened) => drop(sockets.insert(key, opened)),
            Err(error) => errors.push(refuse(Some(error))),
        }
    }
    if errors.is_empty() { Ok(sockets) } else { Err(errors) }
}

/// One socket per shard on `address`, which nobody else listens on.
pub(super) fn open_one(
    address: SocketAddr,
    backlog: u32,
    shards: usize,
) -> io::Result<ListenerSockets> {
    let alone = ListenOptions { backlog, reuse_port: false, ..ListenOptions::default() };
    let first = listen(&address, &alone)?;
    let bound = local_address(&first)?;
    SockRef::from(&first).set_reuse_port(true)?;
    let mut sockets = vec![first];
    for _ in 1..shards {
        sockets.push(listen(&bound, &ListenOptions { reuse_port: true, ..alone })?);
    }
    Ok(ListenerSockets { address: bound, sockets })
}

/// `listen` again changes the backlog of a socket that listens.
fn set_backlog(sockets: &ListenerSockets, backlog: u32) -> io::Result<()> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    sockets.sockets.iter().try_for_each(|socket| SockRef::from(socket).listen(backlog))
}

/// One listening socket that shares its port with nobody, for the admin server.
///
/// # Errors
///
/// With the name `admin`, as for any listener.
pub fn open_admin(address: SocketAddr) -> Result<std::net::TcpListener, BindError> {
    let options = ListenOptions { reuse_port: false, ..ListenOptions::default() };
    let listener = listen(&address, &options).map(std::net::TcpListener::from);
    let listener = listener.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map_err(|error| BindError {
        listener: "admin".to_owned(),
        address,
        cause: Some(error),
    })
}

fn local_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    let address = SockRef::from(socket).local_addr()?;
    address.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn the_sockets_of_all_shards_share_the_port_that_the_kernel_chose() {
        let sockets = open_one(any(), 16, 3).unwrap();
        assert_eq!(sockets.sockets.len(), 3);
        assert_ne!(sockets.address.port(), 0);
        for socket in &sockets.sockets {
            assert_eq!(local_address(socket).unwrap(), sockets.address);
        }
    }

    #[test]
    fn a_port_in_use_is_refused_even_when_its_owner_shares_it() {
        let theirs = TcpListener::bind(any()).unwrap();
        let address = theirs.local_addr().unwrap();
        assert_eq!(open_one(address, 16, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let shared = open_one(any(), 16, 2).unwrap();
        assert_eq!(open_one(shared.address, 16, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn refusals_name_the_listener_the_address_and_the_remedy() {
        for (error, remedy) in [
            (Errno::ADDRINUSE, "ss -ltnp 'sport = :80'"),
            (Errno::ACCESS, "setcap cap_net_bind_service=+ep"),
            (Errno::ACCESS, "net.ipv4.ip_unprivileged_port_start=80"),
            (Errno::ADDRNOTAVAIL, "ip address"),
            (Errno::MFILE, "LimitNOFILE"),
        ] {
            let text = BindError {
                listener: "web".to_owned(),
                address: "10.0.0.1:80".parse().unwrap(),
                cause: Some(error.into()),
            }
            .to_string();
            assert!(text.contains("`web`") && text.contains("10.0.0.1:80"), "{text}");
            assert!(text.contains(remedy), "{text}");
        }
    }
}
