//! What the proxy changes in heads on their way: fields that end here, and fields that it adds.
//!
//! What it leaves to others: framing fields (`tidegate_http::h1` writes them from the body's
//! length).

use super::request_timeouts;
use crate::config::{HttpConnectionManager, ServerHeader};
use crate::shard::{Shard, StreamKey};
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
        let route = stream.route.map(|id| listener.http.routes.get(id));
        request_timeouts::settle(stream, config, route);
        let request = &mut stream.request;
        prepare_request_fields(request, stream.upgrade, config);
        if let Some(route) = route
            && route.changes_requests
        {
            self.finalize_request(key, route);
        }
        if let (Some(route), Some(stream)) = (route, self.streams.get_mut(key)) {
            stream.begin_attempts(route);
        }
    }
}

fn prepare_request_fields(
    request: &mut RequestHead,
    upgrade: bool,
    config: &HttpConnectionManager,
) {
    strip_hop_by_hop(&mut request.headers, upgrade);
    if request.expect_continue && !config.proxy_100_continue {
        // We have answered it ourselves.
        request.headers.remove(Name::Expect);
    }
}

/// Makes a response's head what the client gets. `request_id` is the request's, if the response is
/// to carry it; `service_ms` is `None` for a local reply.
pub(super) fn prepare_response(
    response: &mut ResponseHead,
    request_id: Option<&[u8]>,
    config: &HttpConnectionManager,
    upgrade: bool,
    service_ms: Option<u64>,
    date: &[u8],
) {
    strip_hop_by_hop(&mut response.headers, upgrade);
    let headers = &mut response.headers;
    if let Some(service_ms) = service_ms.filter(|_| !config.router.suppress_envoy_headers) {
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
    if let Some(id) = request_id {
        replace(headers, Name::XRequestId, b"x-request-id", id);
    }
    if !config.via.is_empty() {
        headers.join(Name::Via, b"via", b", ", config.via.as_bytes());
    }
}

/// Replaces the fields with this name by one, in the place of the first, or appends it.
pub(super) fn replace(headers: &mut Headers, id: Name, lower: &[u8], value: &[u8]) {
    match headers.get(id) {
        None => headers.append_known(id, lower, value),
        Some(_) => headers.set(lower, value),
    }
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
    fn decimals() {
        for value in [0, 9, 10, 15000, u64::MAX] {
            assert_eq!(decimal(value, &mut [0; 20]), value.to_string().as_bytes());
        }
    }
}
