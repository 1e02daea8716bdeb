//! The host's own address.
//!
//! What it leaves to others: what it is needed for.

use std::net::{IpAddr, Ipv4Addr};
use std::ptr;

/// The first IPv4 address of an interface that is not the loopback address; without any,
/// `127.0.0.1`.
#[must_use]
pub fn host_address() -> IpAddr {
    let mut list: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: the pointer is writable; on success it is a list that is ours until freeifaddrs.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Ipv4Addr::LOCALHOST.into();
    }
    let mut found = None;
    let mut next = list;
    while found.is_none() && !next.is_null() {
        // SAFETY: `next` is an element of the list, which is not freed before the end.
        let interface = unsafe { &*next };
        found = address_of(interface.ifa_addr).filter(|address| *address != Ipv4Addr::LOCALHOST);
        next = interface.ifa_next;
    }
    // SAFETY: the list came from getifaddrs, and no reference into it is left.
    unsafe { libc::freeifaddrs(list) };
    found.unwrap_or(Ipv4Addr::LOCALHOST).into()
}

/// The address in an element of the list, if it has one and that is of IPv4.
fn address_of(address: *const libc::sockaddr) -> Option<Ipv4Addr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: the list's addresses are null or point to a sockaddr of the family that it names.
    let family = i32::from(unsafe { (*address).sa_family });
    if family != libc::AF_INET {
        return None;
    }
    // SAFETY: it is a sockaddr_in, as its family says; read unaligned, for nobody promises more.
    let address = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
    Some(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one() {
        let address = host_address();
        assert!(address.is_ipv4() && !address.is_unspecified(), "{address}");
        assert_eq!(address, host_address());
    }
}
