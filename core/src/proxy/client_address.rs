//! Who a request comes from, and whether that is inside or outside: `x-forwarded-for` and what
//! follows from it for other fields.
//!
//! What it leaves to others: what was configured (`config::client_address`), when it is done
//! (`admit`).

use super::mutate::{decimal, replace};
use crate::config::{AddressSource, ClientAddress, IpDetection, XffTrust};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tidegate_http::{Headers, Name, RequestHead, Scheme};

/// The two ends of a connection, and the host's own address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub peer: Option<SocketAddr>,
    pub local: Option<SocketAddr>,
    /// What is written instead of a loopback address.
    pub host: IpAddr,
    /// The connection speaks TLS.
    pub secure: bool,
}

impl Ends {
    /// The scheme of a request that came straight from its client.
    fn scheme(&self) -> &'static [u8] {
        if self.secure { b"https" } else { b"http" }
    }
}

/// What is known of a request's client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Client {
    /// Its address, if that is not the peer's; port 0.
    pub address: Option<SocketAddr>,
    /// It is internal: it may use fields that steer the proxy.
    pub internal: bool,
    /// It is outside, and we are the first to meet it.
    pub edge: bool,
}

/// The status for a request whose client cannot be found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rejected(pub u16);

/// Finds the request's client, and writes what is to be said about it into the request.
pub(super) fn identify(
    request: &mut RequestHead,
    config: &ClientAddress,
    ends: &Ends,
) -> Result<Client, Rejected> {
    let headers = &mut request.headers;
    if headers.get_all(Name::XForwardedFor).nth(1).is_some() {
        headers.join(Name::XForwardedFor, XFF, b",", b"");
    }
    let (address, checked) = match &config.source {
        AddressSource::Peer { skip_xff_append, trusted_hops } => {
            let found = match (headers.get(Name::XForwardedFor), *trusted_hops) {
                (Some(forwarded), hops @ 1..) => from_the_right(forwarded, hops - 1),
                _ => None,
            };
            let checked = headers.get(Name::XForwardedFor).is_none();
            if !skip_xff_append {
                append_peer(headers, ends, config.mapped_to_ipv6);
            }
            let untrusted = *trusted_hops == 0;
            if untrusted || headers.get(Name::XForwardedProto).is_none() {
                replace(headers, Name::XForwardedProto, b"x-forwarded-proto", ends.scheme());
            }
            (found.map(|(address, _)| address), checked)
        }
        AddressSource::Detected(detections) => detect(headers, detections, ends)?,
    };
    settle_scheme(request, config, ends);
    let trusted = match config.source {
        AddressSource::Peer { .. } => address.or(ends.peer.map(|peer| peer.ip())),
        AddressSource::Detected(_) => address,
    };
    let internal = checked && trusted.is_some_and(|address| config.is_internal(address));
    let edge = !internal && config.uses_peer();
    let client = Client { address: address.map(|ip| SocketAddr::new(ip, 0)), internal, edge };
    mark(&mut request.headers, &client);
    Ok(client)
}

const XFF: &[u8] = b"x-forwarded-for";

/// Asks each detection in turn, until one knows the address. Whether the address may be taken for
/// an internal one comes with it.
fn detect(
    headers: &mut Headers,
    detections: &[IpDetection],
    ends: &Ends,
) -> Result<(Option<IpAddr>, bool), Rejected> {
    for detection in detections {
        let found = match detection {
            IpDetection::Xff { trusted, skip_append } => {
                let forwarded = headers.get(Name::XForwardedFor);
                let found = forwarded.and_then(|forwarded| match trusted {
                    XffTrust::Hops(hops) => from_the_right(forwarded, *hops),
                    XffTrust::Ranges(_) => beyond_trusted(forwarded, trusted, ends.peer),
                });
                if !skip_append {
                    append_peer(headers, ends, false);
                }
                found
            }
            IpDetection::Header { name, trusted, reject_status } => {
                let value = headers.get_name(name.as_bytes());
                match (value.and_then(parse_address), reject_status) {
                    (Some(address), _) => Some((address, *trusted)),
                    (None, Some(status)) => return Err(Rejected(*status)),
                    (None, None) => None,
                }
            }
        };
        if let Some((address, checked)) = found {
            return Ok((Some(address), checked));
        }
    }
    Ok((None, false))
}

/// The entry of `x-forwarded-for` left of `skipped` others, and whether it is the only one.
fn from_the_right(forwarded: &[u8], skipped: u32) -> Option<(IpAddr, bool)> {
    let mut rest = forwarded;
    for _ in 0..skipped {
        rest = &rest[..memchr::memrchr(b',', rest)?];
    }
    let comma = memchr::memrchr(b',', rest);
    let entry = comma.map_or(rest, |comma| &rest[comma + 1..]);
    Some((parse_address(entry)?, comma.is_none() && skipped == 0))
}

/// The last entry of `x-forwarded-for` that is not in a trusted range, if the peer is in one; the
/// first one if all are.
fn beyond_trusted(
    forwarded: &[u8],
    trusted: &XffTrust,
    peer: Option<SocketAddr>,
) -> Option<(IpAddr, bool)> {
    let XffTrust::Ranges(ranges) = trusted else { return None };
    let is_trusted = |address: IpAddr| ranges.iter().any(|range| range.contains(address));
    if !peer.is_some_and(|peer| is_trusted(peer.ip())) {
        return None;
    }
    let mut last = None;
    for entry in forwarded.rsplit(|byte| *byte == b',') {
        let Some(address) = parse_address(entry) else { break };
        last = Some((address, false));
        if !is_trusted(address) {
            return Some((address, memchr::memchr(b',', forwarded).is_none()));
        }
    }
    last
}

/// An address without port, with white space around it at most.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()
}

/// Appends the peer to `x-forwarded-for`.
fn append_peer(headers: &mut Headers, ends: &Ends, mapped: bool) {
    let Some(peer) = ends.peer else { return };
    let is_loopback = peer.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST)
        || peer.ip() == IpAddr::V6(Ipv6Addr::LOCALHOST);
    let mut text = [0; 40];
    let address = match peer.ip() {
        _ if is_loopback => ends.host,
        IpAddr::V4(address) if mapped => IpAddr::V6(address.to_ipv6_mapped()),
        address => address,
    };
    headers.join(Name::XForwardedFor, XFF, b",", write_address(address, &mut text));
}

/// An address as text. The longest IPv6 address has 39 bytes.
fn write_address(address: IpAddr, text: &mut [u8; 40]) -> &[u8] {
    let mut rest = &mut text[..];
    let written = write!(rest, "{address}");
    debug_assert!(written.is_ok());
    let left = rest.len();
    &text[..40 - left]
}

/// Completes `x-forwarded-proto` and `x-forwarded-port`, and says the request's scheme.
fn settle_scheme(request: &mut RequestHead, config: &ClientAddress, ends: &Ends) {
    let headers = &mut request.headers;
    let forwarded = headers.get(Name::XForwardedProto).unwrap_or_default();
    let mut https = forwarded.eq_ignore_ascii_case(b"https");
    if forwarded.is_empty() {
        https = ends.secure;
        replace(headers, Name::XForwardedProto, b"x-forwarded-proto", ends.scheme());
    }
    let untrusted = matches!(config.source, AddressSource::Peer { trusted_hops: 0, .. });
    if config.append_x_forwarded_port
        && (untrusted || headers.get(Name::XForwardedPort).is_none())
        && let Some(local) = ends.local
    {
        let port = u64::from(local.port());
        let text = &mut [0; 20];
        replace(headers, Name::XForwardedPort, b"x-forwarded-port", decimal(port, text));
    }
    if let Some(scheme) = config.scheme {
        replace(headers, Name::XForwardedProto, b"x-forwarded-proto", scheme.as_bytes());
        https = scheme == "https";
        request.scheme = None;
    }
    request.scheme.get_or_insert(if https { Scheme::Https } else { Scheme::Http });
}

/// Says inside or outside in the request, and takes away what only the inside may say.
fn mark(headers: &mut Headers, client: &Client) {
    headers.remove(Name::XEnvoyInternal);
    if client.internal {
        headers.append_known(Name::XEnvoyInternal, b"x-envoy-internal", b"true");
        return;
    }
    headers.remove(Name::XEnvoyExpectedRqTimeoutMs);
    if headers.iter().any(|(name, _)| is_control(name, client.edge)) {
        headers.retain(|name, _| !is_control(name, client.edge));
    }
    if client.edge {
        headers.remove(Name::XEnvoyOriginalPath);
    }
}

/// `x-envoy-external-address`: at the edge the client's address goes on in it.
pub(super) fn pass_address_on(headers: &mut Headers, client: &Client, ends: &Ends) {
    if client.edge
        && let Some(address) = client.address.or(ends.peer)
    {
        let text = &mut [0; 40];
        let text = write_address(address.ip(), text);
        replace(headers, Name::XEnvoyExternalAddress, b"x-envoy-external-address", text);
    }
}

/// Whether a field steers the proxy, or claims what only the proxy can know: not for clients from
/// outside. A few of them are let pass where another proxy is in front of us.
fn is_control(name: &[u8], edge: bool) -> bool {
    let Some(rest) = name.strip_prefix(b"x-envoy-") else { return false };
    match rest {
        b"retry-on"
        | b"retry-grpc-on"
        | b"max-retries"
        | b"retriable-status-codes"
        | b"retriable-header-names"
        | b"hedge-on-per-try-timeout"
        | b"upstream-alt-stat-name"
        | b"upstream-rq-timeout-ms"
        | b"upstream-rq-per-try-timeout-ms"
        | b"upstream-rq-timeout-alt-response"
        | b"upstream-stream-duration-ms"
        | b"force-trace"
        | b"ip-tags"
        | b"original-url" => true,
        b"decorator-operation" | b"downstream-service-cluster" | b"downstream-service-node" => edge,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
