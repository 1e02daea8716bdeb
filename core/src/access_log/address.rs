//! Addresses in a line: whose, and which part.
//!
//! What it leaves to others: the operators that name them (`operator`).

use super::operator::MISSING;
use super::{Record, write_number};
use std::fmt::Display;
use std::io::Write;
use std::net::SocketAddr;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Peer {
    Upstream,
    UpstreamLocal,
    DownstreamRemote,
    DownstreamDirect,
    DownstreamLocal,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AddressPart {
    Whole,
    WithoutPort,
    Port,
}

impl Peer {
    /// Its address.
    pub(super) fn address(self, record: &Record<'_>) -> Option<SocketAddr> {
        match self {
            Peer::Upstream => record.upstream_host,
            Peer::UpstreamLocal => record.measured?.upstream_local_address,
            Peer::DownstreamRemote => record.downstream_remote_address,
            Peer::DownstreamDirect => record.downstream_direct_address,
            Peer::DownstreamLocal => record.downstream_local_address,
        }
    }
}

impl AddressPart {
    /// Appends the part of an address, or what stands for none.
    pub(super) fn write(self, out: &mut Vec<u8>, address: Option<SocketAddr>) {
        let Some(address) = address else {
            out.extend_from_slice(MISSING);
            return;
        };
        match (address, self) {
            (_, AddressPart::Port) => write_number(out, address.port().into(), 1),
            // Most addresses are IPv4, and the standard library's formatting costs more than the
            // rest of a line.
            (SocketAddr::V4(address), part) => {
                for (index, octet) in address.ip().octets().into_iter().enumerate() {
                    if index > 0 {
                        out.push(b'.');
                    }
                    write_number(out, octet.into(), 1);
                }
                if part == AddressPart::Whole {
                    out.push(b':');
                    write_number(out, address.port().into(), 1);
                }
            }
            (SocketAddr::V6(address), AddressPart::WithoutPort) => write_display(out, address.ip()),
            (SocketAddr::V6(address), AddressPart::Whole) => write_display(out, &address),
        }
    }
}

/// Writing to memory does not fail.
fn write_display(out: &mut Vec<u8>, value: &dyn Display) {
    let _ = write!(out, "{value}");
}
