//! What a gRPC access log says of a stream or a connection (`data.accesslog.v3`), as Envoy fills
//! it.
//!
//! What it leaves to others: the wire format (`wire`), and who gets it (`service`).

use super::measured::Moment;
use super::sizes::{request_headers_size, response_headers_size};
use super::wire::{bytes, message, number, text, time};
use super::{Measured, Record};
use crate::config::GrpcAccessLog;
use crate::reply::ResponseFlags;
use crate::transport::ConnectionFacts;
use std::net::SocketAddr;
use std::time::Duration;
use tidegate_http::{Headers, Method, RequestHead, Scheme, Version};

/// `AccessLogType`
const TCP_CONNECTION_END: u64 = 3;
const DOWNSTREAM_END: u64 = 6;

/// Which field of `ResponseFlags` is which flag.
const FLAGS: &[(ResponseFlags, u32)] = &[
    (ResponseFlags::FAILED_LOCAL_HEALTH_CHECK, 1),
    (ResponseFlags::NO_HEALTHY_UPSTREAM, 2),
    (ResponseFlags::UPSTREAM_REQUEST_TIMEOUT, 3),
    (ResponseFlags::LOCAL_RESET, 4),
    (ResponseFlags::UPSTREAM_REMOTE_RESET, 5),
    (ResponseFlags::UPSTREAM_CONNECTION_FAILURE, 6),
    (ResponseFlags::UPSTREAM_CONNECTION_TERMINATION, 7),
    (ResponseFlags::UPSTREAM_OVERFLOW, 8),
    (ResponseFlags::NO_ROUTE_FOUND, 9),
    (ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION, 15),
    (ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED, 16),
    (ResponseFlags::STREAM_IDLE_TIMEOUT, 17),
    (ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR, 19),
    (ResponseFlags::UPSTREAM_MAX_STREAM_DURATION_REACHED, 20),
    (ResponseFlags::DURATION_TIMEOUT, 23),
    (ResponseFlags::UPSTREAM_PROTOCOL_ERROR, 24),
    (ResponseFlags::NO_CLUSTER_FOUND, 25),
    (ResponseFlags::OVERLOAD_MANAGER, 26),
    (ResponseFlags::DNS_RESOLUTION_FAILED, 27),
    (ResponseFlags::DOWNSTREAM_REMOTE_RESET, 28),
];

/// Appends an entry, as the field `log_entry` of a list of entries.
pub(super) fn write(out: &mut Vec<u8>, log: &GrpcAccessLog, record: &Record<'_>) {
    message(out, 1, |out| {
        message(out, 1, |out| common(out, log, record));
        if log.is_tcp {
            return message(out, 2, |out| {
                number(out, 1, record.bytes_received);
                number(out, 2, record.bytes_sent);
            });
        }
        if !record.is_tcp {
            number(out, 2, protocol(record));
        }
        message(out, 3, |out| request(out, log, record));
        message(out, 4, |out| response(out, log, record));
    });
}

fn protocol(record: &Record<'_>) -> u64 {
    match record.request.map_or(Version::Http11, |request| request.version) {
        Version::Http10 => 1,
        Version::Http11 => 2,
        Version::Http2 => 3,
    }
}

fn common(out: &mut Vec<u8>, log: &GrpcAccessLog, record: &Record<'_>) {
    address(out, 2, record.downstream_remote_address);
    address(out, 3, record.downstream_local_address);
    if let Some(tls) = record.measured.and_then(|measured| measured.downstream_tls.as_deref()) {
        message(out, 4, |out| tls_properties(out, tls));
    }
    time(out, 5, Duration::from_micros(record.start_unix_us));
    if let Some(measured) = record.measured {
        moments(out, measured);
    }
    address(out, 13, record.upstream_host);
    address(out, 14, record.measured.and_then(|measured| measured.upstream_local_address));
    text(out, 15, record.upstream_cluster.unwrap_or_default().as_bytes());
    if record.flags != ResponseFlags::NONE {
        message(out, 16, |out| {
            for (_, field) in FLAGS.iter().filter(|(flag, _)| record.flags.contains(*flag)) {
                number(out, *field, 1);
            }
        });
    }
    text(out, 18, record.upstream_failure().unwrap_or_default().as_bytes());
    text(out, 19, record.route_name.unwrap_or_default().as_bytes());
    address(out, 20, record.downstream_direct_address);
    time(out, 23, Duration::from_micros(record.duration_us));
    number(out, 24, record.attempts.into());
    if let Some(request) = record.request {
        text(out, 26, request.headers.get_name(b"x-request-id").unwrap_or_default());
    }
    if let Some(measured) = record.measured {
        number(out, 29, measured.downstream.sent);
        number(out, 30, measured.downstream.received);
        number(out, 31, measured.upstream.sent);
        number(out, 32, measured.upstream.received);
    }
    number(out, 33, if log.is_tcp { TCP_CONNECTION_END } else { DOWNSTREAM_END });
}

fn moments(out: &mut Vec<u8>, measured: &Measured) {
    let fields = [
        (6, Moment::DsRxEnd),
        (7, Moment::UsTxBeg),
        (8, Moment::UsTxEnd),
        (9, Moment::UsRxBeg),
        (10, Moment::UsRxEnd),
        (11, Moment::DsTxBeg),
        (12, Moment::DsTxEnd),
    ];
    for (field, moment) in fields {
        if let Some(since) = measured.moments[moment as usize] {
            time(out, field, since);
        }
    }
}

/// `config.core.v3.Address` with a `socket_address`.
fn address(out: &mut Vec<u8>, field: u32, address: Option<SocketAddr>) {
    let Some(address) = address else { return };
    message(out, field, |out| {
        message(out, 1, |out| {
            text(out, 2, address.ip().to_string().as_bytes());
            number(out, 3, address.port().into());
        });
    });
}

fn tls_properties(out: &mut Vec<u8>, tls: &ConnectionFacts) {
    number(
        out,
        1,
        match tls.version {
            "TLSv1.2" => 3,
            "TLSv1.3" => 4,
            _ => 0,
        },
    );
    for (field, certificate) in [(4, tls.local.as_ref()), (5, tls.peer.first())] {
        let Some(certificate) = certificate else { continue };
        let said = certificate.text();
        message(out, field, |out| {
            text(out, 2, said.subject.as_bytes());
            if field == 5 {
                text(out, 3, said.issuer.as_bytes());
            }
        });
    }
}

fn request(out: &mut Vec<u8>, log: &GrpcAccessLog, record: &Record<'_>) {
    let Some(request) = record.request else { return };
    number(out, 1, method(request));
    text(
        out,
        2,
        match request.scheme {
            Some(Scheme::Https) => b"https",
            Some(Scheme::Http) => b"http",
            None => b"",
        },
    );
    text(out, 3, request.authority());
    text(out, 5, request.path());
    let header = |name: &str| request.headers.get_name(name.as_bytes()).unwrap_or_default();
    text(out, 6, header("user-agent"));
    text(out, 7, header("referer"));
    text(out, 8, header("x-forwarded-for"));
    text(out, 9, header("x-request-id"));
    text(out, 10, header("x-envoy-original-path"));
    number(out, 11, request_headers_size(request));
    number(out, 12, record.bytes_received);
    headers(out, 13, &log.request_headers, Some(&request.headers));
    if let Some(measured) = record.measured {
        number(out, 14, measured.upstream.header_sent);
        number(out, 15, measured.downstream.header_received);
    }
}

fn response(out: &mut Vec<u8>, log: &GrpcAccessLog, record: &Record<'_>) {
    if record.status != 0 {
        message(out, 1, |out| number(out, 1, record.status.into()));
    }
    number(out, 2, response_headers_size(record));
    number(out, 3, record.bytes_sent);
    headers(out, 4, &log.response_headers, record.response.map(|response| &response.headers));
    headers(out, 5, &log.response_trailers, record.trailers);
    if record.details != "-" {
        text(out, 6, record.details.as_bytes());
    }
    if let Some(measured) = record.measured {
        number(out, 7, measured.upstream.header_received);
        number(out, 8, measured.downstream.header_sent);
    }
}

/// Those of the fields that are there, as a map.
fn headers(out: &mut Vec<u8>, field: u32, names: &[String], headers: Option<&Headers>) {
    let Some(headers) = headers else { return };
    for name in names {
        if let Some(value) = headers.get_name(name.as_bytes()) {
            message(out, field, |out| {
                bytes(out, 1, name.as_bytes());
                text(out, 2, value);
            });
        }
    }
}

fn method(request: &RequestHead) -> u64 {
    match request.method {
        Method::Get => 1,
        Method::Head => 2,
        Method::Post => 3,
        Method::Put => 4,
        Method::Delete => 5,
        Method::Connect => 6,
        Method::Options => 7,
        Method::Trace => 8,
        Method::Patch => 9,
        _ => 0,
    }
}
