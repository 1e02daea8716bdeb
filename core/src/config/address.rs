//! Addresses as configured (`config.core.v3.Address`).
//!
//! What it leaves to others: resolving host names (`control`).

use std::fmt;
use std::net::SocketAddr;

/// A TCP port.
pub type Port = u16;

/// Where to connect to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// An IP address and port.
    Socket(SocketAddr),
    /// A host name to resolve, and a port.
    Name {
        /// The host name.
        host: String,
        /// The port.
        port: Port,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Socket(address) => address.fmt(f),
            Address::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}
