//! What the proxy changes in heads on their way: fields that end here, and fields that it adds.
//!
//! What it leaves to others: framing fields (`tidegate_http::h1` writes them from the body's
//! length).

use crate::config::{HttpConnectionManager, ServerHeader};
use crate::shard::{Random, Shard, StreamKey};
use std::io::Write;
use std::net::SocketAddr;
use tidegate_http::h1::strip_hop_by_hop;
use tidegate_http::{Headers, Name, RequestHead, ResponseHead};
use tidegate_io::Io;

/// Host and port of an authority; the port without its colon.
#[must_use]
pub fn split_port(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let colon = match memchr::memrchr(b':', authority) {
        Some(colon) if !authority[colon..].contains(&b']') => colon,
        _ => return (authority, None),
    };
    (&authority[..colon], Some(&authority[colon + 1..]))
}

/// Path and query; the query without its question mark.
#[must_use]
pub fn split_query(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', path) {
        Some(mark) => (&path[..mark], Some(&path[mark + 1..])),
        None => (path, None),
    }
}

impl<I: Io> Shard<I> {
    /// Makes the request's head what the upstream gets.
    pub(crate) fn prepare_request(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let listener = stream.listener.clone();
        let config = &listener.http.config;
        let peer = if config.use_remote_address && !config.skip_xff_append {
            let socket = self.downstreams.get(stream.downstream).map(|d| d.socket);
            socket.and_then(|socket| self.io.peer_address(socket))
        } else {
            None
        };
        let timeout_ms = stream.timeout.map(|timeout| timeout.as_millis() as u64);
        let route = stream.route.map(|id| listener.http.routes.get(id));
        let request = &mut stream.request;
        prepare_request_fields(request, stream.upgrade, config, peer, timeout_ms, &mut self.random);
        if let Some(route) = route
            && route.changes_requests
        {
            self.finalize_request(key, route);
        }
    }
}

fn prepare_request_fields(
    request: &mut RequestHead,
    upgrade: bool,
    config: &HttpConnectionManager,
    peer: Option<SocketAddr>,
    timeout_ms: Option<u64>,
    random: &mut Random,
) {
    strip_hop_by_hop(&mut request.headers, upgrade);
    if request.expect_continue {
        // We have answered it ourselves.
        request.headers.remove(Name::Expect);
    }
    let headers = &mut request.headers;
    if let Some(peer) = peer {
        let mut value = headers.get(Name::XForwardedFor).map(<[u8]>::to_vec).unwrap_or_default();
        if !value.is_empty() {
            value.push(b',');
        }
        let _ = write!(value, "{}", peer.ip());
        headers.set(b"x-forwarded-for", &value);
    }
    if config.use_remote_address || headers.get(Name::XForwardedProto).is_none() {
        replace(headers, Name::XForwardedProto, b"x-forwarded-proto", b"http");
    }
    if config.generate_request_id
        && (headers.get(Name::XRequestId).is_none()
            || (config.use_remote_address && !config.preserve_external_request_id))
    {
        replace(headers, Name::XRequestId, b"x-request-id", &request_id(random));
    }
    if let Some(timeout_ms) = timeout_ms {
        replace(
            headers,
            Name::XEnvoyExpectedRqTimeoutMs,
            b"x-envoy-expected-rq-timeout-ms",
            decimal(timeout_ms, &mut [0; 20]),
        );
    }
}

/// Makes a response's head what the client gets. `service_ms` is `None` for a local reply.
pub fn prepare_response(
    response: &mut ResponseHead,
    config: &HttpConnectionManager,
    upgrade: bool,
    service_ms: Option<u64>,
    date: &[u8],
) {
    strip_hop_by_hop(&mut response.headers, upgrade);
    let headers = &mut response.headers;
    if let Some(service_ms) = service_ms {
        replace(
            headers,
            Name::XEnvoyUpstreamServiceTime,
            b"x-envoy-upstream-service-time",
            decimal(service_ms, &mut [0; 20]),
        );
    }
    if headers.get(Name::Date).is_none() {
        headers.append_known(Name::Date, b"date", date);
    }
    let server = config.server_name.as_bytes();
    match config.server_header {
        ServerHeader::Overwrite => replace(headers, Name::Server, b"server", server),
        ServerHeader::AppendIfAbsent if headers.get(Name::Server).is_none() => {
            headers.append_known(Name::Server, b"server", server);
        }
        _ => {}
    }
}

/// Replaces the fields with this name by one.
fn replace(headers: &mut Headers, id: Name, lower: &[u8], value: &[u8]) {
    headers.remove(id);
    headers.append_known(id, lower, value);
}

/// A number in decimal.
pub fn decimal(mut value: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &buffer[at..];
        }
    }
}

/// A random UUID, version 4 (RFC 9562 5.4).
fn request_id(random: &mut Random) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let high = random.draw() & !0xf000 | 0x4000;
    let low = random.draw() & !(0b11 << 62) | 0b10 << 62;
    let digits = u128::from(high) << 64 | u128::from(low);
    let mut text = [b'-'; 36];
    let mut shift = 128;
    for (at, digit) in text.iter_mut().enumerate() {
        if !matches!(at, 8 | 13 | 18 | 23) {
            shift -= 4;
            *digit = HEX[(digits >> shift) as usize & 15];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits() {
        assert_eq!(split_port(b"a.b:80"), (&b"a.b"[..], Some(&b"80"[..])));
        assert_eq!(split_port(b"[::1]"), (&b"[::1]"[..], None));
        assert_eq!(split_port(b"[::1]:8"), (&b"[::1]"[..], Some(&b"8"[..])));
        assert_eq!(split_query(b"/a?b?c"), (&b"/a"[..], Some(&b"b?c"[..])));
    }

    #[test]
    fn request_ids_are_version_4_uuids() {
        let mut random = Random::new(7);
        let (one, two) = (request_id(&mut random), request_id(&mut random));
        assert_ne!(one, two);
        for id in [one, two] {
            assert_eq!(id[14], b'4');
            assert!(b"89ab".contains(&id[19]), "{:?}", id[19] as char);
            assert_eq!(id.iter().filter(|c| **c == b'-').count(), 4);
        }
    }

    #[test]
    fn decimals() {
        for value in [0, 9, 10, 15000, u64::MAX] {
            assert_eq!(decimal(value, &mut [0; 20]), value.to_string().as_bytes());
        }
    }
}
