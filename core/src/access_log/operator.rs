//! Command operators: what each prints.
//!
//! What it leaves to others: their names (`parse`), the text around them (`format`).

use super::address::{AddressPart, Peer};
use super::measured::{Measured, Moment, Wire};
use super::sizes::{request_headers_size, response_headers_size};
use super::time::TimeFormat;
use super::tls::TlsOperator;
use super::{Record, query, write_number};
use crate::reply::grpc_status;
use crate::snapshot::is_grpc;
use serde_json::Value;
use std::borrow::Cow;
use std::time::Duration;
use tidegate_http::{Headers, Name, Scheme, Version};

/// Written for a value that there is not.
pub(super) const MISSING: &[u8] = b"-";

/// One operator of a format.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Operator {
    StartTime(TimeFormat),
    /// When the line is written.
    EmitTime(TimeFormat),
    /// `REQ(X?Y)`: the first of these fields that there is.
    Request(Vec<RequestField>),
    /// `RESP(X?Y)`
    Response(Vec<ResponseField>),
    /// `PATH(QUERY:WHICH)`
    Path {
        with_query: bool,
        which: PathKind,
    },
    /// `METADATA(KIND:NAMESPACE:KEY:...)`
    Metadata(MetadataOf, String, Vec<String>),
    /// `QUERY_PARAM(NAME)`
    QueryParameter(Vec<u8>),
    /// `QUERY_PARAMS`: the query as it came.
    QueryParameters,
    Protocol,
    UpstreamProtocol,
    /// What is the same in every line.
    Constant(Vec<u8>),
    /// What no stream has.
    Nothing,
    /// `LOCAL_REPLY_BODY`: the body that a local reply's format replaces.
    LocalReplyBody,
    ResponseCodeDetails,
    ResponseFlags,
    ResponseFlagsLong,
    Amount(Amount),
    /// From one moment to another.
    Duration(Moment, Moment, Precision),
    GrpcStatus(GrpcStatus),
    Trailer(Vec<HeaderName>),
    UpstreamCluster,
    UpstreamHostName {
        with_port: bool,
    },
    /// `UPSTREAM_TRANSPORT_FAILURE_REASON`
    UpstreamFailure,
    RouteName,
    FilterChainName,
    Address(Peer, AddressPart),
    /// What the handshake of a connection came to.
    Tls(TlsOperator),
}

/// A number that every stream has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Amount {
    Zero,
    ResponseCode,
    BytesReceived,
    BytesSent,
    Attempts,
    Duration,
    RequestHeaders,
    ResponseHeaders,
    /// Received, or sent.
    WireBytes(Wire, bool),
    /// The same.
    HeaderBytes(Wire, bool),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Precision {
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

/// Whose metadata.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MetadataOf {
    Route,
    Cluster,
    Host,
    Listener,
}

/// How a gRPC status is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum GrpcStatus {
    Camel,
    Snake,
    Number,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum RequestField {
    Method,
    Path,
    Scheme,
    Authority,
    Header(HeaderName),
}

/// Which path: before a rewrite, after it, or before it if there was one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PathKind {
    Original,
    Current,
    Either,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ResponseField {
    Status,
    /// `x-envoy-upstream-service-time`, which the record knows when the response does not carry it.
    ServiceTime(HeaderName),
    Header(HeaderName),
}

/// A field name in lower case, with its number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct HeaderName {
    pub(super) lower: Vec<u8>,
    pub(super) id: Name,
}

impl Operator {
    /// The value, if it is text, which may have to be escaped.
    pub(super) fn text<'a>(&'a self, record: &Record<'a>) -> Option<Cow<'a, [u8]>> {
        let borrowed = match self {
            Operator::Constant(text) => Some(&text[..]),
            Operator::Request(fields) => {
                let request = record.request?;
                fields.iter().find_map(|field| match field {
                    RequestField::Method => present(request.method_name()),
                    RequestField::Path => present(request.path()),
                    RequestField::Scheme => request.scheme.map(scheme),
                    RequestField::Authority => present(request.authority()),
                    RequestField::Header(name) => name.find(&request.headers),
                })
            }
            Operator::Response(fields) => {
                let response = record.response?;
                // The first field that has a value decides, also when that is a number (see
                // `write`).
                let field = fields.iter().find(|field| field.is_present(record))?;
                match field {
                    ResponseField::Status => None,
                    ResponseField::ServiceTime(name) | ResponseField::Header(name) => {
                        name.find(&response.headers)
                    }
                }
            }
            Operator::Trailer(names) => {
                let trailers = record.trailers?;
                names.iter().find_map(|name| name.find(trailers))
            }
            Operator::Path { with_query, which } => {
                let request = record.request?;
                let original = || request.headers.get_name(b"x-envoy-original-path");
                let path = match which {
                    PathKind::Original => original()?,
                    PathKind::Current => request.path(),
                    PathKind::Either => original().unwrap_or(request.path()),
                };
                let end = memchr::memchr(b'?', path).filter(|_| !with_query);
                present(&path[..end.unwrap_or(path.len())])
            }
            Operator::Metadata(..) => {
                return Some(match self.metadata(record)? {
                    Value::String(text) => Cow::Borrowed(text.as_bytes()),
                    value => Cow::Owned(value.to_string().into_bytes()),
                });
            }
            Operator::QueryParameter(name) => {
                return query::parameter(query::of(record.request?.path())?, name);
            }
            Operator::QueryParameters => query::of(record.request?.path()),
            Operator::LocalReplyBody => record.local_reply_body,
            Operator::ResponseCodeDetails => present(record.details.as_bytes()),
            Operator::GrpcStatus(form) => form.text(record),
            Operator::UpstreamCluster => present(record.upstream_cluster?.as_bytes()),
            Operator::UpstreamHostName { with_port } => return host_name(record, *with_port),
            Operator::Tls(tls) => {
                return tls.text(record.measured?).map(|text| Cow::Owned(text.into_bytes()));
            }
            Operator::UpstreamFailure => present(record.upstream_failure()?.as_bytes()),
            Operator::RouteName => present(record.route_name?.as_bytes()),
            Operator::FilterChainName => present(record.filter_chain_name?.as_bytes()),
            _ => None,
        };
        borrowed.map(Cow::Borrowed)
    }

    /// Appends the value of an operator that has no text: a number, an address, flags, or what
    /// stands for a missing value.
    pub(super) fn write(&self, out: &mut Vec<u8>, record: &Record<'_>) {
        match self {
            Operator::StartTime(format) => format.write(out, record.start_unix_us),
            // A line is written when the last byte is on its way.
            Operator::EmitTime(format) => {
                format.write(out, record.start_unix_us + record.duration_us);
            }
            Operator::Protocol if record.is_tcp => out.extend_from_slice(MISSING),
            Operator::Protocol => {
                // Of a head that cannot be read Envoy, too, says that it was of HTTP/1.1.
                let version = record.request.map_or(b"HTTP/1.1".as_slice(), |r| version(r.version));
                out.extend_from_slice(version);
            }
            Operator::UpstreamProtocol => {
                out.extend_from_slice(record.upstream_protocol.map_or(MISSING, version));
            }
            Operator::ResponseFlags => record.flags.write_short(out),
            Operator::ResponseFlagsLong => record.flags.write_long(out),
            Operator::Amount(amount) => write_number(out, amount.of(record), 1),
            Operator::Duration(from, to, precision) => {
                match record.measured.and_then(|measured| measured.between(*from, *to)) {
                    Some(duration) => write_number(out, precision.of(duration), 1),
                    None => out.extend_from_slice(MISSING),
                }
            }
            Operator::Address(peer, part) => part.write(out, peer.address(record)),
            Operator::Response(fields) => {
                match fields.iter().find(|field| field.is_present(record)) {
                    Some(ResponseField::Status) => write_number(out, record.status.into(), 1),
                    Some(ResponseField::ServiceTime(_)) => {
                        write_number(out, record.upstream_service_ms.unwrap_or(0), 1);
                    }
                    _ => out.extend_from_slice(MISSING),
                }
            }
            _ => out.extend_from_slice(MISSING),
        }
    }
}

impl Operator {
    pub(super) fn is_metadata(&self) -> bool {
        matches!(self, Operator::Metadata(..))
    }

    /// The value in metadata, if the operator is of metadata and there is one.
    pub(super) fn metadata<'a>(&self, record: &Record<'a>) -> Option<&'a Value> {
        let Operator::Metadata(of, namespace, path) = self else { return None };
        let metadata = match of {
            MetadataOf::Route => record.route_metadata?,
            MetadataOf::Cluster => record.cluster_metadata?,
            MetadataOf::Host => &record.measured?.host.as_ref()?.metadata,
            MetadataOf::Listener => record.listener_metadata?,
        };
        metadata.get(namespace, path)
    }

    /// As [`Operator::write`], but nothing for a value that there is not.
    pub(super) fn write_present(&self, out: &mut Vec<u8>, record: &Record<'_>) {
        let start = out.len();
        self.write(out, record);
        if !self.is_flags() && &out[start..] == MISSING {
            out.truncate(start);
        }
    }

    /// Whether its value is a number.
    pub(super) fn is_number(&self) -> bool {
        matches!(
            self,
            Operator::Amount(_)
                | Operator::Duration(..)
                | Operator::GrpcStatus(GrpcStatus::Number)
                | Operator::Address(_, AddressPart::Port)
        )
    }

    /// Whether its value is flags, for which the hyphen is a value.
    pub(super) fn is_flags(&self) -> bool {
        matches!(self, Operator::ResponseFlags | Operator::ResponseFlagsLong)
    }

    /// Whether its value is among what is [`Measured`].
    pub(super) fn is_measured(&self) -> bool {
        matches!(
            self,
            Operator::Amount(Amount::WireBytes(..) | Amount::HeaderBytes(..))
                | Operator::Duration(..)
                | Operator::Tls(_)
                | Operator::UpstreamHostName { .. }
                | Operator::Metadata(MetadataOf::Host, ..)
                | Operator::Address(Peer::UpstreamLocal, _)
        )
    }

    /// Its name, if it has no value as long as no upstream has answered.
    pub(super) fn answered_later(&self) -> Option<&'static str> {
        match self {
            Operator::Response(_) => Some("RESP"),
            Operator::Trailer(_) => Some("TRAILER"),
            Operator::Amount(Amount::ResponseCode) => Some("RESPONSE_CODE"),
            Operator::ResponseCodeDetails => Some("RESPONSE_CODE_DETAILS"),
            Operator::Address(Peer::Upstream | Peer::UpstreamLocal, _) => Some("UPSTREAM_HOST"),
            Operator::UpstreamProtocol => Some("UPSTREAM_PROTOCOL"),
            _ => None,
        }
    }
}

impl Amount {
    fn of(self, record: &Record<'_>) -> u64 {
        let wire = |wire, measured: &Measured| match wire {
            Wire::Downstream => measured.downstream,
            Wire::Upstream => measured.upstream,
        };
        match (self, record.measured) {
            (Amount::ResponseCode, _) => record.status.into(),
            (Amount::BytesReceived, _) => record.bytes_received,
            (Amount::BytesSent, _) => record.bytes_sent,
            (Amount::Attempts, _) => record.attempts.into(),
            (Amount::Duration, _) => record.duration_us / 1_000,
            (Amount::RequestHeaders, _) => record.request.map_or(0, request_headers_size),
            (Amount::ResponseHeaders, _) => response_headers_size(record),
            (Amount::WireBytes(which, true), Some(measured)) => wire(which, measured).received,
            (Amount::WireBytes(which, false), Some(measured)) => wire(which, measured).sent,
            (Amount::HeaderBytes(which, true), Some(found)) => wire(which, found).header_received,
            (Amount::HeaderBytes(which, false), Some(found)) => wire(which, found).header_sent,
            (Amount::Zero | Amount::WireBytes(..) | Amount::HeaderBytes(..), _) => 0,
        }
    }
}

impl Precision {
    fn of(self, duration: Duration) -> u64 {
        let count = match self {
            Precision::Milliseconds => duration.as_millis(),
            Precision::Microseconds => duration.as_micros(),
            Precision::Nanoseconds => duration.as_nanos(),
        };
        count as u64
    }
}

impl GrpcStatus {
    const NAMES: [(&str, &str); 17] = [
        ("OK", "OK"),
        ("Canceled", "CANCELLED"),
        ("Unknown", "UNKNOWN"),
        ("InvalidArgument", "INVALID_ARGUMENT"),
        ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
        ("NotFound", "NOT_FOUND"),
        ("AlreadyExists", "ALREADY_EXISTS"),
        ("PermissionDenied", "PERMISSION_DENIED"),
        ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
        ("FailedPrecondition", "FAILED_PRECONDITION"),
        ("Aborted", "ABORTED"),
        ("OutOfRange", "OUT_OF_RANGE"),
        ("Unimplemented", "UNIMPLEMENTED"),
        ("Internal", "INTERNAL"),
        ("Unavailable", "UNAVAILABLE"),
        ("DataLoss", "DATA_LOSS"),
        ("Unauthenticated", "UNAUTHENTICATED"),
    ];

    /// The status of a response to a request of gRPC, which stands in its trailers or its header.
    fn text<'a>(self, record: &Record<'a>) -> Option<&'a [u8]> {
        if !record.request.is_some_and(is_grpc) {
            return None;
        }
        let sections = [record.trailers, record.response.map(|response| &response.headers)];
        let of = |section: &'a Headers| section.get_name(b"grpc-status");
        let digits = match sections.into_iter().flatten().find_map(of) {
            Some(found) if found.is_empty() || !found.iter().all(u8::is_ascii_digit) => b"-1",
            Some(found) => found,
            None => grpc_status(record.status).as_bytes(),
        };
        if digits == b"-1" {
            return Some(digits);
        }
        let number: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
        Some(match (self, GrpcStatus::NAMES.get(number)) {
            (GrpcStatus::Camel, Some((camel, _))) => camel.as_bytes(),
            (GrpcStatus::Snake, Some((_, snake))) => snake.as_bytes(),
            _ => digits,
        })
    }
}

/// The name of the upstream host, which is its address if it has no other.
fn host_name<'a>(record: &Record<'a>, with_port: bool) -> Option<Cow<'a, [u8]>> {
    let address = record.upstream_host?;
    let name = match record.measured.and_then(|measured| measured.host.as_ref()) {
        Some(host) if !host.hostname.is_empty() => host.hostname.as_bytes(),
        _ => {
            let part = if with_port { AddressPart::Whole } else { AddressPart::WithoutPort };
            let mut text = Vec::new();
            part.write(&mut text, Some(address));
            return Some(Cow::Owned(text));
        }
    };
    let port = memchr::memrchr(b':', name).filter(|_| !with_port);
    Some(Cow::Borrowed(&name[..port.unwrap_or(name.len())]))
}

impl ResponseField {
    fn is_present(&self, record: &Record<'_>) -> bool {
        let header = |name: &HeaderName| record.response.and_then(|r| name.find(&r.headers));
        match self {
            ResponseField::Status => record.status != 0,
            ResponseField::ServiceTime(name) => {
                record.upstream_service_ms.is_some() || header(name).is_some()
            }
            ResponseField::Header(name) => header(name).is_some(),
        }
    }
}

impl HeaderName {
    /// The first value; as in Envoy, an empty one counts as there.
    fn find<'a>(&self, headers: &'a Headers) -> Option<&'a [u8]> {
        headers.get_known(self.id, &self.lower)
    }
}

fn present(value: &[u8]) -> Option<&[u8]> {
    (!value.is_empty()).then_some(value)
}

fn scheme(scheme: Scheme) -> &'static [u8] {
    match scheme {
        Scheme::Http => b"http",
        Scheme::Https => b"https",
    }
}

fn version(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 => b"HTTP/1.1",
        Version::Http2 => b"HTTP/2",
    }
}
