//! Command operators: what each prints.
//!
//! What it leaves to others: the text around them (`format`).

use super::address::{AddressPart, Peer};
use super::time::TimeFormat;
use super::{Record, write_escaped, write_number};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use tidegate_http::{Headers, Name, Version};

/// Written for a value that there is not.
pub(super) const MISSING: &[u8] = b"-";

/// One operator of a format.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Operator {
    StartTime(TimeFormat),
    /// `REQ(X?Y)`: the first of these fields that there is.
    Request(Vec<RequestField>),
    /// `RESP(X?Y)`
    Response(Vec<ResponseField>),
    /// `PATH(QUERY:WHICH)`
    Path {
        with_query: bool,
        which: PathKind,
    },
    Protocol,
    UpstreamProtocol,
    /// What every line has, written as in a line.
    Constant(Vec<u8>),
    /// `LOCAL_REPLY_BODY`: the body that a local reply's format replaces.
    LocalReplyBody,
    ResponseCode,
    ResponseCodeDetails,
    ResponseFlags,
    ResponseFlagsLong,
    BytesReceived,
    BytesSent,
    Attempts,
    Duration,
    UpstreamCluster,
    RouteName,
    Address(Peer, AddressPart),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum RequestField {
    Method,
    Path,
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
    lower: Vec<u8>,
    id: Name,
}

/// Operators of Envoy that are not here, so that the error can say so.
const UNSUPPORTED: &[&str] = &[
    "BYTES_RETRANSMITTED",
    "COMMON_DURATION",
    "CONNECTION_ID",
    "CONNECTION_TERMINATION_DETAILS",
    "DOWNSTREAM_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_HEADER_BYTES_SENT",
    "DOWNSTREAM_WIRE_BYTES_RECEIVED",
    "DOWNSTREAM_WIRE_BYTES_SENT",
    "DYNAMIC_METADATA",
    "EMIT_TIME",
    "FILTER_CHAIN_NAME",
    "FILTER_STATE",
    "GRPC_STATUS",
    "GRPC_STATUS_NUMBER",
    "LOCAL_REPLY_BODY",
    "METADATA",
    "PACKETS_RETRANSMITTED",
    "QUERY_PARAM",
    "QUERY_PARAMS",
    "REQUEST_DURATION",
    "REQUEST_HEADERS_BYTES",
    "REQUEST_TX_DURATION",
    "RESPONSE_DURATION",
    "RESPONSE_HEADERS_BYTES",
    "RESPONSE_TRAILERS_BYTES",
    "RESPONSE_TX_DURATION",
    "ROUNDTRIP_DURATION",
    "START_TIME_LOCAL",
    "STREAM_ID",
    "TRACE_ID",
    "TRAILER",
    "UNIQUE_ID",
    "UPSTREAM_FILTER_STATE",
    "UPSTREAM_HEADER_BYTES_RECEIVED",
    "UPSTREAM_HEADER_BYTES_SENT",
    "UPSTREAM_HOST_NAME",
    "UPSTREAM_LOCAL_ADDRESS",
    "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_LOCAL_PORT",
    "UPSTREAM_METADATA",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "UPSTREAM_WIRE_BYTES_RECEIVED",
    "UPSTREAM_WIRE_BYTES_SENT",
];

impl Operator {
    /// The operator of this name. The error is one sentence.
    pub(super) fn parse(name: &str, argument: Option<&str>) -> Result<Operator, String> {
        match (name, argument) {
            ("START_TIME", None | Some("")) => {
                return Ok(Operator::StartTime(TimeFormat::default()));
            }
            ("START_TIME", Some(format)) => {
                let format = TimeFormat::parse(format)
                    .map_err(|what| format!("%START_TIME does not know the conversion {what}"))?;
                return Ok(Operator::StartTime(format));
            }
            ("REQ", argument) => {
                let fields = header_names(name, argument)?.into_iter().map(RequestField::parse);
                return Ok(Operator::Request(fields.collect::<Result<_, _>>()?));
            }
            ("RESP", argument) => {
                let fields = header_names(name, argument)?.into_iter().map(ResponseField::parse);
                return Ok(Operator::Response(fields.collect::<Result<_, _>>()?));
            }
            ("PATH", argument) => return Operator::path(argument.unwrap_or_default()),
            ("ENVIRONMENT", Some(variable)) if !variable.is_empty() => {
                return Ok(Operator::constant(std::env::var_os(variable)));
            }
            ("ENVIRONMENT", _) => {
                return Err("%ENVIRONMENT% needs the name of a variable in parentheses".into());
            }
            _ => {}
        }
        let Some(operator) = Operator::plain(name) else {
            return Err(match UNSUPPORTED.contains(&name) {
                true => format!("%{name}% is an operator of Envoy that is not supported"),
                false => format!("%{name}% is not an operator"),
            });
        };
        match argument {
            None => Ok(operator),
            Some(_) => Err(format!("%{name}% takes no argument")),
        }
    }

    fn path(argument: &str) -> Result<Operator, String> {
        let (query, which) = argument.split_once(':').unwrap_or((argument, ""));
        let with_query = match query {
            "" | "WQ" => true,
            "NQ" => false,
            _ => return Err(format!("%PATH({argument})%: {query} is neither WQ nor NQ")),
        };
        let which = match which {
            "" | "ORIG_OR_PATH" => PathKind::Either,
            "ORIG" => PathKind::Original,
            "PATH" => PathKind::Current,
            _ => {
                let known = "ORIG, PATH nor ORIG_OR_PATH";
                return Err(format!("%PATH({argument})%: {which} is neither {known}"));
            }
        };
        Ok(Operator::Path { with_query, which })
    }

    fn constant(value: Option<impl AsRef<OsStr>>) -> Operator {
        let mut text = Vec::new();
        match value {
            Some(value) => write_escaped(&mut text, value.as_ref().as_bytes()),
            None => text.extend_from_slice(MISSING),
        }
        Operator::Constant(text)
    }

    /// Operators without an argument.
    fn plain(name: &str) -> Option<Operator> {
        use AddressPart::{Port, Whole, WithoutPort};
        use Peer::{DownstreamDirect, DownstreamLocal, DownstreamRemote, Upstream};
        Some(match name {
            "PROTOCOL" => Operator::Protocol,
            "UPSTREAM_PROTOCOL" => Operator::UpstreamProtocol,
            // A line is written when a request is over, and at no other time.
            "ACCESS_LOG_TYPE" => Operator::constant(Some("DownstreamEnd")),
            "HOSTNAME" => Operator::constant(Some(
                rustix::system::uname().nodename().to_string_lossy().as_ref(),
            )),
            // Without TLS and without virtual clusters there are no such values.
            "DOWNSTREAM_LOCAL_URI_SAN"
            | "DOWNSTREAM_PEER_SUBJECT"
            | "DOWNSTREAM_TLS_CIPHER"
            | "DOWNSTREAM_TLS_VERSION"
            | "DOWNSTREAM_TRANSPORT_FAILURE_REASON"
            | "REQUESTED_SERVER_NAME"
            | "VIRTUAL_CLUSTER_NAME" => Operator::constant(None::<&str>),
            "RESPONSE_CODE" => Operator::ResponseCode,
            "RESPONSE_CODE_DETAILS" => Operator::ResponseCodeDetails,
            "RESPONSE_FLAGS" => Operator::ResponseFlags,
            "RESPONSE_FLAGS_LONG" => Operator::ResponseFlagsLong,
            "BYTES_RECEIVED" => Operator::BytesReceived,
            "BYTES_SENT" => Operator::BytesSent,
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Operator::Attempts,
            "DURATION" => Operator::Duration,
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Operator::UpstreamCluster,
            "ROUTE_NAME" => Operator::RouteName,
            "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Operator::Address(Upstream, Whole),
            "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Operator::Address(Upstream, WithoutPort),
            "UPSTREAM_REMOTE_PORT" => Operator::Address(Upstream, Port),
            "DOWNSTREAM_REMOTE_ADDRESS" => Operator::Address(DownstreamRemote, Whole),
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => {
                Operator::Address(DownstreamRemote, WithoutPort)
            }
            "DOWNSTREAM_REMOTE_PORT" => Operator::Address(DownstreamRemote, Port),
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => Operator::Address(DownstreamDirect, Whole),
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
                Operator::Address(DownstreamDirect, WithoutPort)
            }
            "DOWNSTREAM_DIRECT_REMOTE_PORT" => Operator::Address(DownstreamDirect, Port),
            "DOWNSTREAM_LOCAL_ADDRESS" => Operator::Address(DownstreamLocal, Whole),
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => {
                Operator::Address(DownstreamLocal, WithoutPort)
            }
            "DOWNSTREAM_LOCAL_PORT" => Operator::Address(DownstreamLocal, Port),
            _ => return None,
        })
    }

    /// The value, if it is text that has to be escaped.
    pub(super) fn text<'a>(&self, record: &Record<'a>) -> Option<&'a [u8]> {
        match self {
            Operator::Request(fields) => {
                let request = record.request?;
                fields.iter().find_map(|field| match field {
                    RequestField::Method => present(request.method_name()),
                    RequestField::Path => present(request.path()),
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
            Operator::LocalReplyBody => record.local_reply_body,
            Operator::ResponseCodeDetails => present(record.details.as_bytes()),
            Operator::UpstreamCluster => present(record.upstream_cluster?.as_bytes()),
            Operator::RouteName => present(record.route_name?.as_bytes()),
            _ => None,
        }
    }

    /// Appends the value of an operator that has no text: a number, an address, flags, or what
    /// stands for a missing value.
    pub(super) fn write(&self, out: &mut Vec<u8>, record: &Record<'_>) {
        match self {
            Operator::StartTime(format) => format.write(out, record.start_unix_us),
            Operator::Protocol => {
                // Of a head that cannot be read Envoy, too, says that it was of HTTP/1.1.
                let version = record.request.map_or(b"HTTP/1.1".as_slice(), |r| version(r.version));
                out.extend_from_slice(version);
            }
            Operator::UpstreamProtocol => {
                let is_used = record.upstream_host.is_some();
                out.extend_from_slice(if is_used { b"HTTP/1.1" } else { MISSING });
            }
            Operator::Constant(text) => out.extend_from_slice(text),
            Operator::ResponseCode => write_number(out, record.status.into(), 1),
            Operator::ResponseFlags => record.flags.write_short(out),
            Operator::ResponseFlagsLong => record.flags.write_long(out),
            Operator::BytesReceived => write_number(out, record.bytes_received, 1),
            Operator::BytesSent => write_number(out, record.bytes_sent, 1),
            Operator::Attempts => write_number(out, record.attempts.into(), 1),
            Operator::Duration => write_number(out, record.duration_us / 1_000, 1),
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
            Operator::Request(_)
            | Operator::Path { .. }
            | Operator::LocalReplyBody
            | Operator::ResponseCodeDetails
            | Operator::UpstreamCluster
            | Operator::RouteName => out.extend_from_slice(MISSING),
        }
    }
}

impl Operator {
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
            Operator::ResponseCode
                | Operator::BytesReceived
                | Operator::BytesSent
                | Operator::Attempts
                | Operator::Duration
                | Operator::Address(_, AddressPart::Port)
        )
    }

    /// Whether its value is flags, for which the hyphen is a value.
    pub(super) fn is_flags(&self) -> bool {
        matches!(self, Operator::ResponseFlags | Operator::ResponseFlagsLong)
    }

    /// Its name, if it has no value as long as no upstream has answered.
    pub(super) fn answered_later(&self) -> Option<&'static str> {
        match self {
            Operator::Response(_) => Some("RESP"),
            Operator::ResponseCode => Some("RESPONSE_CODE"),
            Operator::ResponseCodeDetails => Some("RESPONSE_CODE_DETAILS"),
            Operator::Address(Peer::Upstream, _) => Some("UPSTREAM_HOST"),
            Operator::UpstreamProtocol => Some("UPSTREAM_PROTOCOL"),
            _ => None,
        }
    }
}

impl RequestField {
    fn parse(name: &str) -> Result<RequestField, String> {
        match name.to_ascii_lowercase().as_str() {
            ":method" => Ok(RequestField::Method),
            ":path" => Ok(RequestField::Path),
            ":authority" | "host" => Ok(RequestField::Authority),
            lower => HeaderName::parse("REQ", lower).map(RequestField::Header),
        }
    }
}

impl ResponseField {
    fn parse(name: &str) -> Result<ResponseField, String> {
        match name.to_ascii_lowercase().as_str() {
            ":status" => Ok(ResponseField::Status),
            lower @ "x-envoy-upstream-service-time" => {
                HeaderName::parse("RESP", lower).map(ResponseField::ServiceTime)
            }
            lower => HeaderName::parse("RESP", lower).map(ResponseField::Header),
        }
    }

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
    fn parse(operator: &str, lower: &str) -> Result<HeaderName, String> {
        if lower.starts_with(':') {
            return Err(format!("%{operator}({lower})% is not known"));
        }
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if lower.is_empty() || !lower.bytes().all(token) {
            return Err(format!("%{operator}({lower})% does not name a header"));
        }
        Ok(HeaderName { id: Name::of(lower.as_bytes()), lower: lower.as_bytes().to_vec() })
    }

    /// The first value; as in Envoy, an empty one counts as there.
    fn find<'a>(&self, headers: &'a Headers) -> Option<&'a [u8]> {
        headers.get_known(self.id, &self.lower)
    }
}

/// `X` or `X?Y`.
fn header_names<'a>(operator: &str, argument: Option<&'a str>) -> Result<Vec<&'a str>, String> {
    let Some(argument) = argument else {
        return Err(format!("%{operator}% needs the name of a header in parentheses"));
    };
    let names: Vec<&str> = argument.split('?').collect();
    match names.len() {
        1 | 2 => Ok(names),
        _ => Err(format!("%{operator}({argument})% has more than one alternative")),
    }
}

fn present(value: &[u8]) -> Option<&[u8]> {
    (!value.is_empty()).then_some(value)
}

fn version(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 => b"HTTP/1.1",
        Version::Http2 => b"HTTP/2",
    }
}
