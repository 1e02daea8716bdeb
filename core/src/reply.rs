//! Answers that the proxy makes itself, and why: in one place, with Envoy's status, body, response
//! flag and details.
//!
//! What it leaves to others: when to give which (`proxy`), and writing it (`tidegate-http`).

use tidegate_http::{Fault, HttpError};

/// Envoy's response flags, as a set (`data.accesslog.v3.ResponseFlags`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ResponseFlags(pub u32);

macro_rules! response_flags {
    ($($constant:ident = $bit:literal, $short:literal, $long:literal;)*) => {
        impl ResponseFlags {
            $(#[doc = concat!("`", $short, "`: ", $long)]
            pub const $constant: ResponseFlags = ResponseFlags(1 << $bit);)*
            /// Every flag with its short and long name, in Envoy's order.
            pub const NAMES: &'static [(ResponseFlags, &'static str, &'static str)] =
                &[$((ResponseFlags::$constant, $short, $long),)*];
        }
    };
}

// In the order in which Envoy 1.40 was seen to write them: `URX,UF`, `URX,UC`, `URX,UT`, `UO,UC`.
response_flags! {
    UPSTREAM_RETRY_LIMIT_EXCEEDED = 9, "URX", "UpstreamRetryLimitExceeded";
    UPSTREAM_OVERFLOW = 7, "UO", "UpstreamOverflow";
    FAILED_LOCAL_HEALTH_CHECK = 0, "LH", "FailedLocalHealthCheck";
    NO_HEALTHY_UPSTREAM = 1, "UH", "NoHealthyUpstream";
    UPSTREAM_REQUEST_TIMEOUT = 2, "UT", "UpstreamRequestTimeout";
    LOCAL_RESET = 3, "LR", "LocalReset";
    UPSTREAM_REMOTE_RESET = 4, "UR", "UpstreamRemoteReset";
    UPSTREAM_CONNECTION_FAILURE = 5, "UF", "UpstreamConnectionFailure";
    UPSTREAM_CONNECTION_TERMINATION = 6, "UC", "UpstreamConnectionTermination";
    NO_ROUTE_FOUND = 8, "NR", "NoRouteFound";
    NO_CLUSTER_FOUND = 10, "NC", "NoClusterFound";
    DURATION_TIMEOUT = 11, "DT", "DurationTimeout";
    DOWNSTREAM_CONNECTION_TERMINATION = 12, "DC", "DownstreamConnectionTermination";
    DOWNSTREAM_REMOTE_RESET = 19, "DR", "DownstreamRemoteReset";
    DOWNSTREAM_PROTOCOL_ERROR = 13, "DPE", "DownstreamProtocolError";
    UPSTREAM_PROTOCOL_ERROR = 14, "UPE", "UpstreamProtocolError";
    STREAM_IDLE_TIMEOUT = 15, "SI", "StreamIdleTimeout";
    UPSTREAM_MAX_STREAM_DURATION_REACHED = 18, "UMSDR", "UpstreamMaxStreamDurationReached";
    OVERLOAD_MANAGER = 16, "OM", "OverloadManagerTerminated";
    DNS_RESOLUTION_FAILED = 17, "DF", "DnsResolutionFailed";
}

impl ResponseFlags {
    /// Adds the flags of `other`.
    pub fn insert(&mut self, other: ResponseFlags) {
        self.0 |= other.0;
    }

    /// These flags and those of `other`.
    #[must_use]
    pub const fn and(self, other: ResponseFlags) -> ResponseFlags {
        ResponseFlags(self.0 | other.0)
    }

    /// Whether all flags of `other` are set.
    #[must_use]
    pub fn contains(self, other: ResponseFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Appends the short names joined by `,`, or `-` when there is none: `%RESPONSE_FLAGS%`.
    pub fn write_short(self, out: &mut Vec<u8>) {
        self.write(out, |(_, short, _)| short);
    }

    /// Appends the long names joined by `,`, or `-`: `%RESPONSE_FLAGS_LONG%`.
    pub fn write_long(self, out: &mut Vec<u8>) {
        self.write(out, |(_, _, long)| long);
    }

    /// Whether any flag of `other` is set.
    #[must_use]
    pub fn intersects(self, other: ResponseFlags) -> bool {
        self.0 & other.0 != 0
    }

    fn write(
        self,
        out: &mut Vec<u8>,
        name: fn(&(ResponseFlags, &'static str, &'static str)) -> &'static str,
    ) {
        if self.0 == 0 {
            out.push(b'-');
            return;
        }
        let mut first = true;
        let names = ResponseFlags::NAMES;
        // The first of them is `URX`.
        let from = usize::from(self.contains(ResponseFlags::IN_ORDER_OF_TCP));
        for entry in names[from..].iter().chain(&names[..from]) {
            if self.contains(entry.0) {
                if !first {
                    out.push(b',');
                }
                first = false;
                out.extend_from_slice(name(entry).as_bytes());
            }
        }
    }
}

/// An answer that the proxy makes itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalReply {
    /// Status code.
    pub status: u16,
    /// Body; empty for a route or a cluster that was not found.
    pub body: &'static str,
    /// Response flag.
    pub flags: ResponseFlags,
    /// `%RESPONSE_CODE_DETAILS%`
    pub details: &'static str,
}

/// Envoy's body for a stream that was reset before its response began.
macro_rules! reset {
    ($reason:literal) => {
        concat!(
            "upstream connect error or disconnect/reset before headers. reset reason: ",
            $reason
        )
    };
}

macro_rules! local_replies {
    ($(
        $(#[$doc:meta])*
        $name:ident: $status:literal, $body:expr, $flag:ident, $details:literal;
    )*) => {
        impl LocalReply {
            $($(#[$doc])* pub const $name: LocalReply = LocalReply {
                status: $status, body: $body, flags: ResponseFlags::$flag, details: $details,
            };)*
        }
    };
}

impl ResponseFlags {
    /// No flag of its own: `URX` is written last, because `tcp_proxy` finds it last.
    pub const IN_ORDER_OF_TCP: ResponseFlags = ResponseFlags(1 << 31);

    /// No flag.
    pub const NONE: ResponseFlags = ResponseFlags(0);

    /// A reply with one of these is the fault of a cluster, and counts for it.
    pub const OF_CLUSTER: ResponseFlags = ResponseFlags(
        ResponseFlags::NO_HEALTHY_UPSTREAM.0
            | ResponseFlags::UPSTREAM_REQUEST_TIMEOUT.0
            | ResponseFlags::UPSTREAM_CONNECTION_FAILURE.0
            | ResponseFlags::UPSTREAM_CONNECTION_TERMINATION.0
            | ResponseFlags::UPSTREAM_OVERFLOW.0
            | ResponseFlags::UPSTREAM_PROTOCOL_ERROR.0
            | ResponseFlags::UPSTREAM_REMOTE_RESET.0,
    );
}

impl LocalReply {
    /// The answer to a request that is not HTTP. The connection closes after it.
    #[must_use]
    pub fn malformed(error: &HttpError) -> LocalReply {
        // In Envoy these are found behind the codec.
        if matches!(error.fault, Fault::TargetByte | Fault::HostMissing) {
            let flags = ResponseFlags::NONE;
            return LocalReply { status: error.status, body: "", flags, details: error.details };
        }
        let body = match error.status {
            400 => "Bad Request",
            408 => "Request Timeout",
            414 => "URI Too Long",
            417 => "Expectation Failed",
            426 => "Upgrade Required",
            431 => "Request Header Fields Too Large",
            501 => "Not Implemented",
            505 => "HTTP Version Not Supported",
            _ => "",
        };
        let flags = ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR;
        LocalReply { status: error.status, body, flags, details: error.details }
    }
}

/// What a client of gRPC takes a response for that has no status of gRPC.
#[must_use]
pub fn grpc_status(status: u16) -> &'static str {
    match status {
        400 => "13",
        401 => "16",
        403 => "7",
        404 => "12",
        429 | 502 | 503 | 504 => "14",
        _ => "2",
    }
}

local_replies! {
    /// A request for an `https` URI on a connection without TLS.
    HTTPS_ON_PLAINTEXT: 403, "Forbidden", DOWNSTREAM_PROTOCOL_ERROR,
        "http1.https_url_on_plaintext_connection";
    /// No `host`, on HTTP/1.0.
    MISSING_HOST: 400, "", NONE, "missing_host_header";
    /// A target that is not a path.
    ABSOLUTE_PATH: 404, "", NONE, "absolute_path_rejected";
    /// A path that may not be asked for, or not in this spelling.
    PATH_NORMALIZATION_FAILED: 400, "", NONE, "path_normalization_failed";
    /// No client's address where one has to be. The status is configured.
    IP_DETECTION_FAILED: 403, "", NONE, "rejecting_because_detection_failed";
    /// A field's name has an underscore.
    UNEXPECTED_UNDERSCORE: 400, "Bad Request", DOWNSTREAM_PROTOCOL_ERROR,
        "http1.unexpected_underscore";
    /// No virtual host or route matched.
    ROUTE_NOT_FOUND: 404, "", NO_ROUTE_FOUND, "route_not_found";
    /// The route names a cluster that does not exist.
    CLUSTER_NOT_FOUND: 503, "", NO_CLUSTER_FOUND, "cluster_not_found";
    /// The cluster has no host to send to.
    NO_HEALTHY_UPSTREAM: 503, "no healthy upstream", NO_HEALTHY_UPSTREAM, "no_healthy_upstream";
    /// A circuit breaker is open.
    OVERFLOW: 503, reset!("overflow"),
        UPSTREAM_OVERFLOW, "upstream_reset_before_response_started{overflow}";
    /// The connection to the upstream could not be made.
    CONNECTION_FAILURE: 503,
        reset!("remote connection failure"),
        UPSTREAM_CONNECTION_FAILURE,
        "upstream_reset_before_response_started{remote_connection_failure}";
    /// The upstream refused the connection.
    CONNECTION_REFUSED: 503,
        reset!("remote connection failure"),
        UPSTREAM_CONNECTION_FAILURE,
        "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:\
         _Connection_refused}";
    /// Connecting to the upstream took longer than `connect_timeout`.
    CONNECTION_TIMEOUT: 503,
        reset!("connection timeout"),
        UPSTREAM_CONNECTION_FAILURE,
        "upstream_reset_before_response_started{connection_timeout}";
    /// The upstream connection ended before a response.
    CONNECTION_TERMINATION: 503,
        reset!("connection termination"),
        UPSTREAM_CONNECTION_TERMINATION,
        "upstream_reset_before_response_started{connection_termination}";
    /// The upstream has reset the stream.
    REMOTE_RESET: 503,
        reset!("remote reset"),
        UPSTREAM_REMOTE_RESET, "upstream_reset_before_response_started{remote_reset}";
    /// The upstream could not make the connection that CONNECT asks for.
    REMOTE_CONNECT_ERROR: 503,
        reset!("remote error with CONNECT request"),
        UPSTREAM_REMOTE_RESET,
        "upstream_reset_before_response_started{remote_error_with_CONNECT_request}";
    /// The upstream has not looked at the stream.
    REMOTE_REFUSED: 503,
        reset!("remote refused stream reset"),
        UPSTREAM_REMOTE_RESET,
        "upstream_reset_before_response_started{remote_refused_stream_reset}";
    /// The upstream's response is not HTTP.
    UPSTREAM_PROTOCOL_ERROR: 502,
        reset!("protocol error"),
        UPSTREAM_PROTOCOL_ERROR, "upstream_reset_before_response_started{protocol_error}";
    /// The route's timeout passed.
    RESPONSE_TIMEOUT: 504, "upstream request timeout", UPSTREAM_REQUEST_TIMEOUT, "response_timeout";
    /// The timeout of one try passed.
    PER_TRY_TIMEOUT: 504, "upstream request timeout", UPSTREAM_REQUEST_TIMEOUT,
        "upstream_per_try_timeout";
    /// A try had nothing to say for too long.
    PER_TRY_IDLE_TIMEOUT: 504, "upstream request timeout", UPSTREAM_REQUEST_TIMEOUT,
        "upstream_per_try_idle_timeout";
    /// The request's body became too long to keep it until the next attempt.
    RETRY_BUFFER_EXCEEDED: 507, "exceeded request buffer limit while retrying upstream", NONE,
        "request_payload_exceeded_retry_buffer_limit";
    /// `max_stream_duration` passed. 408 when the request is not complete.
    MAX_DURATION_TIMEOUT: 504, "downstream duration timeout", NONE, "max_duration_timeout";
    /// `max_stream_duration` of the upstream's side passed. 408 when the request is not complete.
    UPSTREAM_MAX_STREAM_DURATION: 504, "upstream max stream duration reached",
        UPSTREAM_MAX_STREAM_DURATION_REACHED, "upstream_max_stream_duration_reached";
    /// `request_timeout` passed before the request was complete.
    REQUEST_TIMEOUT: 408, "request timeout", NONE,
        "request_overall_timeout";
    /// `request_headers_timeout` passed before the head was complete.
    REQUEST_HEADERS_TIMEOUT: 408, "request header timeout", NONE,
        "request_header_timeout";
    /// Nothing happened on the stream for `stream_idle_timeout`; 408 while its request comes in.
    STREAM_IDLE_TIMEOUT: 504, "stream timeout", STREAM_IDLE_TIMEOUT, "stream_idle_timeout";
    /// An upgrade that is not enabled here.
    UPGRADE_FAILED: 403, "", NONE, "upgrade_failed";
    /// A gRPC call to a cluster whose responses cannot have trailers. Its client is told that it is
    /// unimplemented: UNAVAILABLE would be tried again, and a configuration does not mend itself.
    GRPC_OVER_HTTP1: 501, "", NONE, "grpc_over_http1_upstream";
    /// The shard has no descriptor left for an upstream connection.
    OUT_OF_DESCRIPTORS: 503,
        reset!("local connection failure"),
        UPSTREAM_CONNECTION_FAILURE,
        "upstream_reset_before_response_started{local_connection_failure}";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(flags: ResponseFlags) -> String {
        let mut out = Vec::new();
        flags.write_short(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_flag_has_a_bit_and_names_of_its_own() {
        for (index, (flag, name, long)) in ResponseFlags::NAMES.iter().enumerate() {
            assert_eq!(flag.0.count_ones(), 1, "{name}");
            assert_eq!(short(*flag), *name);
            for (other, other_name, other_long) in &ResponseFlags::NAMES[..index] {
                assert!(flag != other && name != other_name && long != other_long, "{name}");
            }
        }
    }

    #[test]
    fn flags_are_joined_in_envoys_order() {
        let mut flags = ResponseFlags::NONE;
        assert_eq!(short(flags), "-");
        flags.insert(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
        flags.insert(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
        assert_eq!(short(flags), "URX,UF");
        let mut long = Vec::new();
        flags.write_long(&mut long);
        assert_eq!(long, b"UpstreamRetryLimitExceeded,UpstreamConnectionFailure");
        assert!(!flags.contains(ResponseFlags::NO_ROUTE_FOUND));
    }

    #[test]
    fn replies_are_envoys() {
        let reply = LocalReply::ROUTE_NOT_FOUND;
        assert_eq!((reply.status, reply.body, reply.details), (404, "", "route_not_found"));
        assert_eq!(short(LocalReply::CLUSTER_NOT_FOUND.flags), "NC");
        assert_eq!(short(LocalReply::OVERFLOW.flags), "UO");
        assert_eq!(short(LocalReply::RESPONSE_TIMEOUT.flags), "UT");
        assert_eq!(short(LocalReply::UPGRADE_FAILED.flags), "-");
    }
}
