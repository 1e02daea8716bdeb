//! Addresses as configured (`config.core.v3.Address`).
//!
//! What it leaves to others: resolving host names (`control`).

use super::convert::At;
use super::support::{SupportedMessage, message, must, only, refused, used};
use envoy_types::pb::envoy::config::core::v3 as pb;
use pb::socket_address::PortSpecifier;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

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

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.core.v3.Address",
        &[used("socket_address"), refused("pipe"), refused("envoy_internal_address")],
    ),
    message(
        "envoy.config.core.v3.SocketAddress",
        &[
            must("protocol", &["TCP", "UDP"]),
            used("address"),
            used("port_value"),
            refused("named_port"),
            refused("resolver_name"),
            refused("network_namespace_filepath"),
            only("ipv4_compat", &["false"]),
        ],
    ),
];

impl Address {
    /// Converts an address of TCP, which must be there.
    pub(super) fn from_proto(at: &At<'_>, address: Option<&pb::Address>) -> Option<Address> {
        if let Some(pb::address::Address::SocketAddress(socket)) =
            address.and_then(|address| address.address.as_ref())
            && socket.protocol() == pb::socket_address::Protocol::Udp
        {
            let at = at.field("socket_address");
            at.field("protocol").error("`protocol: UDP` is not supported yet here");
            return None;
        }
        Address::of_any_protocol(at, address)
    }

    /// Converts an address of any protocol, which must be there.
    pub(super) fn of_any_protocol(at: &At<'_>, address: Option<&pb::Address>) -> Option<Address> {
        let Some(pb::address::Address::SocketAddress(socket)) =
            address.and_then(|address| address.address.as_ref())
        else {
            // What is there and is no socket address was refused by name.
            return None;
        };
        Address::of_socket(&at.field("socket_address"), socket)
    }

    /// The same of a socket address that stands alone.
    pub(super) fn of_socket(at: &At<'_>, socket: &pb::SocketAddress) -> Option<Address> {
        let port = match &socket.port_specifier {
            Some(PortSpecifier::PortValue(port)) => match Port::try_from(*port) {
                Ok(port) => port,
                Err(_) => {
                    at.field("port_value").error(format!("{port} is not a port: 0 to 65535"));
                    return None;
                }
            },
            Some(PortSpecifier::NamedPort(_)) | None => return None,
        };
        if socket.address.is_empty() {
            return None;
        }
        Some(match socket.address.parse::<IpAddr>() {
            Ok(ip) => Address::Socket(SocketAddr::new(ip, port)),
            Err(_) => Address::Name { host: socket.address.clone(), port },
        })
    }

    /// Converts an address to listen on: an IP address, not a name.
    pub(super) fn listen_from_proto(
        at: &At<'_>,
        address: Option<&pb::Address>,
    ) -> Option<SocketAddr> {
        match Address::from_proto(at, address)? {
            Address::Socket(address) => Some(address),
            Address::Name { host, .. } => {
                at.field("socket_address").field("address").error_hint(
                    format!("malformed IP address: {host}"),
                    "a listener needs an IP address, as 0.0.0.0, 127.0.0.1 or ::",
                );
                None
            }
        }
    }
}
