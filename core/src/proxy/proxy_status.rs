//! `proxy-status`: what went wrong here, in the words of RFC 9209.
//!
//! What it leaves to others: what was configured (`config::ProxyStatus`).

use super::stream::Stream;
use crate::reply::ResponseFlags;
use crate::snapshot::is_grpc;
use tidegate_http::Span;

/// The error type for each flag, in the order in which Envoy looks for them, and the status that
/// goes with it.
const ERRORS: &[(ResponseFlags, &str, u16)] = &[
    (ResponseFlags::FAILED_LOCAL_HEALTH_CHECK, "destination_unavailable", 503),
    (ResponseFlags::NO_HEALTHY_UPSTREAM, "destination_unavailable", 503),
    (ResponseFlags::UPSTREAM_REQUEST_TIMEOUT, "http_response_timeout", 504),
    (ResponseFlags::LOCAL_RESET, "connection_timeout", 504),
    (ResponseFlags::UPSTREAM_REMOTE_RESET, "connection_terminated", 502),
    (ResponseFlags::UPSTREAM_CONNECTION_FAILURE, "connection_refused", 502),
    (ResponseFlags::UPSTREAM_CONNECTION_TERMINATION, "connection_terminated", 502),
    (ResponseFlags::UPSTREAM_OVERFLOW, "connection_limit_reached", 503),
    (ResponseFlags::NO_ROUTE_FOUND, "destination_not_found", 500),
    (ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED, "destination_unavailable", 503),
    (ResponseFlags::STREAM_IDLE_TIMEOUT, "http_response_timeout", 504),
    (ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR, "http_request_error", 400),
    (ResponseFlags::UPSTREAM_MAX_STREAM_DURATION_REACHED, "http_response_timeout", 504),
    (ResponseFlags::UPSTREAM_PROTOCOL_ERROR, "http_protocol_error", 502),
    (ResponseFlags::NO_CLUSTER_FOUND, "destination_unavailable", 503),
    (ResponseFlags::DNS_RESOLUTION_FAILED, "dns_error", 502),
];

impl Stream {
    /// Says in the response's head what went wrong, if something did and that is asked for.
    pub(super) fn add_proxy_status(&mut self) {
        let (http, flags) = (&self.listener.http, self.flags);
        let Some((name, config)) = http.proxy_name.as_ref().zip(http.config.proxy_status.as_ref())
        else {
            return;
        };
        let found = ERRORS.iter().find(|(flag, ..)| flags.contains(*flag));
        let Some((_, error, status)) = found else { return };
        let mut value = Vec::new();
        write_name(&mut value, name);
        value.extend_from_slice(b"; error=");
        value.extend_from_slice(error.as_bytes());
        if config.details {
            value.extend_from_slice(b"; details=\"");
            value.extend_from_slice(self.details.as_bytes());
            if config.flags {
                value.extend_from_slice(b"; ");
                flags.write_short(&mut value);
            }
            value.push(b'"');
        }
        // Who answered before us is named first (RFC 9209 2).
        let headers = &mut self.response.headers;
        match headers.get_name(b"proxy-status") {
            Some(before) => {
                let both = [before, b", ", &value].concat();
                headers.set(b"proxy-status", &both);
            }
            None => headers.append(b"proxy-status", &value),
        }
        if config.recommended_status && !is_grpc(&self.request) {
            self.response.status = *status;
            self.response.reason = Span::default();
            self.status = *status;
        }
    }
}

/// A name as it is, if it is a token (RFC 8941 3.3.4); else as a string. Envoy writes no quotes.
fn write_name(out: &mut Vec<u8>, name: &str) {
    let in_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(b);
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '*');
    if begins && name.as_bytes().iter().all(in_token) {
        out.extend_from_slice(name.as_bytes());
        return;
    }
    out.push(b'"');
    for byte in name.bytes().filter(|byte| (b' '..=b'~').contains(byte)) {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tokens_or_strings() {
        let written = |name| {
            let mut out = Vec::new();
            write_name(&mut out, name);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written("envoy/1:a"), "envoy/1:a");
        assert_eq!(written("my \"proxy\""), "\"my \\\"proxy\\\"\"");
        assert_eq!(written("1"), "\"1\"");
    }
}
