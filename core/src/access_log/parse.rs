//! Names of command operators, as Envoy has them, and what each takes in its parentheses.
//!
//! What it leaves to others: what they print (`operator`), the text around them (`format`).

use super::address::{AddressPart, Peer};
use super::measured::{Moment, Wire};
use super::operator::{
    Amount, GrpcStatus, HeaderName, MISSING, MetadataOf, Operator, PathKind, Precision,
    RequestField, ResponseField,
};
use super::time::TimeFormat;
use super::tls::TlsOperator;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use tidegate_http::Name;

/// Operators of Envoy that are not here, so that the error can say so.
const UNSUPPORTED: &[&str] = &[
    "CONNECTION_ID",
    "DOWNSTREAM_CX_RTT",
    "DOWNSTREAM_DETECTED_CLOSE_TYPE",
    "DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_ISSUER_SERIAL",
    "ROUTE_RESOLUTION_COUNT",
    "ROUTE_RESOLUTION_TIME_US",
    "UNIQUE_ID",
    "UPSTREAM_CONNECTION_ID",
    "UPSTREAM_CONNECTION_IDS_ATTEMPTED",
    "UPSTREAM_CONNECTION_POOL_READY_DURATION",
    "UPSTREAM_DETECTED_CLOSE_TYPE",
    "UPSTREAM_HOSTS_ATTEMPTED",
    "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT",
    "UPSTREAM_HOST_NAMES_ATTEMPTED",
    "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT",
];

/// Operators without a value where sessions of TLS have no numbers and there are no tracing, no
/// virtual clusters, no QUIC, and no filters that leave anything behind.
const WITHOUT_VALUE: &[&str] = &[
    "CONNECTION_TERMINATION_DETAILS",
    "DOWNSTREAM_HANDSHAKE_DURATION",
    "DOWNSTREAM_LOCAL_CLOSE_REASON",
    "DOWNSTREAM_TLS_SESSION_ID",
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    "REQUESTED_SERVER_NAME",
    "ROUNDTRIP_DURATION",
    "SPAN_ID",
    "TLS_JA3_FINGERPRINT",
    "TLS_JA4_FINGERPRINT",
    "TRACE_ID",
    "UPSTREAM_LOCAL_CLOSE_REASON",
    "UPSTREAM_SERVER_NAME",
    "UPSTREAM_TLS_SESSION_ID",
    "VIRTUAL_CLUSTER_NAME",
];

impl Operator {
    /// The operator of this name. The error is one sentence.
    pub(super) fn parse(name: &str, argument: Option<&str>) -> Result<Operator, String> {
        if let Some(operator) = Operator::with_argument(name, argument)? {
            return Ok(operator);
        }
        let operator = Operator::number(name).or_else(|| Operator::plain(name));
        let of_connection =
            || Operator::address(name).or_else(|| TlsOperator::parse(name).map(Operator::Tls));
        let Some(operator) = operator.or_else(of_connection) else {
            return Err(match UNSUPPORTED.contains(&name) {
                true => format!("%{name}% is an operator of Envoy that is not supported"),
                false => format!("%{name}% is not an operator"),
            });
        };
        match argument {
            None | Some("") => Ok(operator),
            Some(_) => Err(format!("%{name}% takes no argument")),
        }
    }

    /// Operators that take an argument, or may.
    fn with_argument(name: &str, argument: Option<&str>) -> Result<Option<Operator>, String> {
        let given = argument.filter(|argument| !argument.is_empty());
        let needs = |what: &str| format!("%{name}% needs {what} in parentheses");
        Ok(Some(match name {
            "START_TIME" | "START_TIME_LOCAL" => {
                Operator::StartTime(time_format(name, given, name == "START_TIME_LOCAL")?)
            }
            "EMIT_TIME" | "EMIT_TIME_LOCAL" => {
                Operator::EmitTime(time_format(name, given, name == "EMIT_TIME_LOCAL")?)
            }
            "REQ" | "REQUEST_HEADER" => {
                let fields = header_names(name, argument)?;
                let fields = fields.into_iter().map(|field| RequestField::parse(name, field));
                Operator::Request(fields.collect::<Result<_, _>>()?)
            }
            "RESP" | "RESPONSE_HEADER" => {
                let fields = header_names(name, argument)?;
                let fields = fields.into_iter().map(|field| ResponseField::parse(name, field));
                Operator::Response(fields.collect::<Result<_, _>>()?)
            }
            "TRAILER" | "RESPONSE_TRAILER" => {
                let fields = header_names(name, argument)?.into_iter();
                let fields =
                    fields.map(|field| HeaderName::parse(name, &field.to_ascii_lowercase()));
                Operator::Trailer(fields.collect::<Result<_, _>>()?)
            }
            "PATH" => Operator::path(argument.unwrap_or_default())?,
            "QUERY_PARAM" => {
                let parameter = given.ok_or_else(|| needs("the name of a query parameter"))?;
                Operator::QueryParameter(parameter.as_bytes().to_vec())
            }
            "QUERY_PARAMS" => match given {
                None | Some("ORIG") => Operator::QueryParameters,
                Some(other) => return Err(format!("%QUERY_PARAMS({other})% is not supported")),
            },
            "GRPC_STATUS" => Operator::GrpcStatus(match given {
                None | Some("CAMEL_STRING") => GrpcStatus::Camel,
                Some("SNAKE_STRING") => GrpcStatus::Snake,
                Some("NUMBER") => GrpcStatus::Number,
                Some(_) => return Err(needs("CAMEL_STRING, SNAKE_STRING or NUMBER")),
            }),
            "RESPONSE_CODE_DETAILS" => Operator::ResponseCodeDetails,
            "COMMON_DURATION" => {
                let argument = given.ok_or_else(|| needs("two moments, `DS_RX_BEG:DS_TX_END`,"))?;
                Operator::common_duration(argument)?
            }
            "ENVIRONMENT" => {
                let variable = given.ok_or_else(|| needs("the name of a variable"))?;
                match std::env::var_os(variable) {
                    Some(value) => Operator::constant(value),
                    None => Operator::Constant(MISSING.to_vec()),
                }
            }
            _ => return Operator::of_metadata(name, argument),
        }))
    }

    /// Operators that take the path of a value that is kept somewhere.
    fn of_metadata(name: &str, argument: Option<&str>) -> Result<Option<Operator>, String> {
        let argument = argument.unwrap_or_default();
        if argument.is_empty() && name.ends_with("METADATA") | name.ends_with("FILTER_STATE") {
            return Err(format!("%{name}% needs a name in parentheses"));
        }
        Ok(Some(match name {
            // No filter leaves any behind.
            "DYNAMIC_METADATA" | "FILTER_STATE" | "UPSTREAM_FILTER_STATE" => Operator::Nothing,
            "METADATA" => {
                let (kind, path) = argument.split_once(':').unwrap_or((argument, ""));
                let of = match kind {
                    "ROUTE" => MetadataOf::Route,
                    "CLUSTER" => MetadataOf::Cluster,
                    "UPSTREAM_HOST" => MetadataOf::Host,
                    "LISTENER" => MetadataOf::Listener,
                    "DYNAMIC" => return Ok(Some(Operator::Nothing)),
                    _ => return Err(format!("%METADATA({kind})%: such metadata is not supported")),
                };
                Operator::metadata_of(of, path)
            }
            "CLUSTER_METADATA" => Operator::metadata_of(MetadataOf::Cluster, argument),
            "UPSTREAM_METADATA" => Operator::metadata_of(MetadataOf::Host, argument),
            _ => return Ok(None),
        }))
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

    fn metadata_of(of: MetadataOf, path: &str) -> Operator {
        let mut parts = path.split(':').map(str::to_owned);
        let namespace = parts.next().unwrap_or_default();
        Operator::Metadata(of, namespace, parts.collect())
    }

    fn common_duration(argument: &str) -> Result<Operator, String> {
        let parts: Vec<&str> = argument.split(':').collect();
        let (from, to, precision) = match parts[..] {
            [from, to] => (from, to, "ms"),
            [from, to, precision] => (from, to, precision),
            _ => return Err(format!("%COMMON_DURATION({argument})% needs two moments")),
        };
        let precision = match precision {
            "ms" => Precision::Milliseconds,
            "us" => Precision::Microseconds,
            "ns" => Precision::Nanoseconds,
            _ => return Err(format!("%COMMON_DURATION: {precision} is neither ms, us nor ns")),
        };
        let moment =
            |name| Moment::of(name).ok_or_else(|| format!("%COMMON_DURATION does not know {name}"));
        Ok(Operator::Duration(moment(from)?, moment(to)?, precision))
    }

    fn constant(value: impl AsRef<OsStr>) -> Operator {
        Operator::Constant(value.as_ref().as_bytes().to_vec())
    }

    /// Operators without an argument whose values are numbers.
    fn number(name: &str) -> Option<Operator> {
        use Amount::{HeaderBytes, WireBytes};
        use Moment::{DsRxBeg, DsRxEnd, DsTxEnd, UsRxBeg, UsTxEnd};
        use Precision::Milliseconds;
        let (received, sent) = (true, false);
        let amount = match name {
            "RESPONSE_CODE" => Amount::ResponseCode,
            "BYTES_RECEIVED" => Amount::BytesReceived,
            "BYTES_SENT" => Amount::BytesSent,
            "BYTES_RETRANSMITTED" | "PACKETS_RETRANSMITTED" | "RESPONSE_TRAILERS_BYTES" => {
                Amount::Zero
            }
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Amount::Attempts,
            "DURATION" => Amount::Duration,
            "REQUEST_HEADERS_BYTES" => Amount::RequestHeaders,
            "RESPONSE_HEADERS_BYTES" => Amount::ResponseHeaders,
            "DOWNSTREAM_WIRE_BYTES_RECEIVED" => WireBytes(Wire::Downstream, received),
            "DOWNSTREAM_WIRE_BYTES_SENT" => WireBytes(Wire::Downstream, sent),
            "UPSTREAM_WIRE_BYTES_RECEIVED" => WireBytes(Wire::Upstream, received),
            "UPSTREAM_WIRE_BYTES_SENT" => WireBytes(Wire::Upstream, sent),
            // HTTP/1 compresses no fields.
            "DOWNSTREAM_HEADER_BYTES_RECEIVED"
            | "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED" => {
                HeaderBytes(Wire::Downstream, received)
            }
            "DOWNSTREAM_HEADER_BYTES_SENT" | "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT" => {
                HeaderBytes(Wire::Downstream, sent)
            }
            "UPSTREAM_HEADER_BYTES_RECEIVED" | "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED" => {
                HeaderBytes(Wire::Upstream, received)
            }
            "UPSTREAM_HEADER_BYTES_SENT" | "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT" => {
                HeaderBytes(Wire::Upstream, sent)
            }
            "REQUEST_DURATION" => return Some(Operator::Duration(DsRxBeg, DsRxEnd, Milliseconds)),
            "REQUEST_TX_DURATION" => {
                return Some(Operator::Duration(DsRxBeg, UsTxEnd, Milliseconds));
            }
            "RESPONSE_DURATION" => return Some(Operator::Duration(DsRxBeg, UsRxBeg, Milliseconds)),
            "RESPONSE_TX_DURATION" => {
                return Some(Operator::Duration(UsRxBeg, DsTxEnd, Milliseconds));
            }
            _ => return None,
        };
        Some(Operator::Amount(amount))
    }

    /// Operators without an argument whose values are text.
    fn plain(name: &str) -> Option<Operator> {
        Some(match name {
            "PROTOCOL" => Operator::Protocol,
            "UPSTREAM_PROTOCOL" => Operator::UpstreamProtocol,
            // A line is written when a request is over, and at no other time.
            "ACCESS_LOG_TYPE" => Operator::constant("DownstreamEnd"),
            "HOSTNAME" => {
                Operator::constant(rustix::system::uname().nodename().to_string_lossy().as_ref())
            }
            // What was sent is gone when a line is written: Envoy's is empty there, too.
            "LOCAL_REPLY_BODY"
            | "CUSTOM_FLAGS"
            | "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID"
            | "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID" => Operator::constant(""),
            "STREAM_ID" => {
                let id = b"x-request-id";
                let field = HeaderName { id: Name::of(id), lower: id.to_vec() };
                Operator::Request(vec![RequestField::Header(field)])
            }
            "GRPC_STATUS_NUMBER" => Operator::GrpcStatus(GrpcStatus::Number),
            "RESPONSE_FLAGS" => Operator::ResponseFlags,
            "RESPONSE_FLAGS_LONG" => Operator::ResponseFlagsLong,
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Operator::UpstreamCluster,
            "UPSTREAM_HOST_NAME" => Operator::UpstreamHostName { with_port: true },
            "UPSTREAM_HOST_NAME_WITHOUT_PORT" => Operator::UpstreamHostName { with_port: false },
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => Operator::UpstreamFailure,
            "ROUTE_NAME" => Operator::RouteName,
            "FILTER_CHAIN_NAME" => Operator::FilterChainName,
            name if WITHOUT_VALUE.contains(&name) => Operator::Nothing,
            _ => return None,
        })
    }

    /// Addresses: whose it is, and which part of it.
    fn address(name: &str) -> Option<Operator> {
        let (name, part) = match name {
            "UPSTREAM_HOST" => ("UPSTREAM_REMOTE", AddressPart::Whole),
            _ => {
                let part =
                    |(end, part): &(&str, AddressPart)| Some((name.strip_suffix(end)?, *part));
                [
                    ("_ADDRESS_WITHOUT_PORT", AddressPart::WithoutPort),
                    ("_ADDRESS", AddressPart::Whole),
                    ("_PORT", AddressPart::Port),
                ]
                .iter()
                .find_map(part)?
            }
        };
        let peer = match name {
            "UPSTREAM_REMOTE" => Peer::Upstream,
            "UPSTREAM_LOCAL" => Peer::UpstreamLocal,
            "DOWNSTREAM_REMOTE" => Peer::DownstreamRemote,
            "DOWNSTREAM_DIRECT_REMOTE" => Peer::DownstreamDirect,
            "DOWNSTREAM_LOCAL" | "DOWNSTREAM_DIRECT_LOCAL" => Peer::DownstreamLocal,
            _ => return None,
        };
        Some(Operator::Address(peer, part))
    }
}

fn time_format(name: &str, format: Option<&str>, local: bool) -> Result<TimeFormat, String> {
    if local && !local_time_is_utc() {
        return Err(format!("%{name}% is supported only where the local time is UTC"));
    }
    let Some(format) = format else { return Ok(TimeFormat::of_line(local)) };
    TimeFormat::parse(format).map_err(|what| format!("%{name} does not know the conversion {what}"))
}

/// Whether the process's time zone is UTC: by `TZ`, else by the system's zone, whose file ends with
/// its rule.
fn local_time_is_utc() -> bool {
    match std::env::var_os("TZ") {
        Some(zone) => matches!(zone.as_bytes(), b"" | b"UTC" | b"UTC0" | b"Etc/UTC" | b":UTC"),
        None => std::fs::read("/etc/localtime").map_or(true, |file| file.ends_with(b"\nUTC0\n")),
    }
}

impl RequestField {
    fn parse(operator: &str, name: &str) -> Result<RequestField, String> {
        match name.to_ascii_lowercase().as_str() {
            ":method" => Ok(RequestField::Method),
            ":path" => Ok(RequestField::Path),
            ":scheme" => Ok(RequestField::Scheme),
            ":authority" | "host" => Ok(RequestField::Authority),
            lower => HeaderName::parse(operator, lower).map(RequestField::Header),
        }
    }
}

impl ResponseField {
    fn parse(operator: &str, name: &str) -> Result<ResponseField, String> {
        match name.to_ascii_lowercase().as_str() {
            ":status" => Ok(ResponseField::Status),
            lower @ "x-envoy-upstream-service-time" => {
                HeaderName::parse(operator, lower).map(ResponseField::ServiceTime)
            }
            lower => HeaderName::parse(operator, lower).map(ResponseField::Header),
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
