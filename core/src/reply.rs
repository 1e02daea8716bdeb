//! Answers that the proxy makes itself, and why: in one place, with Envoy's status, body, response flag
//! and details.
//!
//! What it leaves to others: when to give which (`proxy`), and writing it (`tidegate-http`).

use tidegate_http::HttpError;

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

response_flags! {
    FAILED_LOCAL_HEALTH_CHECK = 0, "LH", "FailedLocalHealthCheck";
    NO_HEALTHY_UPSTREAM = 1, "UH", "NoHealthyUpstream";
    UPSTREAM_REQUEST_TIMEOUT = 2, "UT", "UpstreamRequestTimeout";
    LOCAL_RESET = 3, "LR", "LocalReset";
    UPSTREAM_REMOTE_RESET = 4, "UR", "UpstreamRemoteReset";
    UPSTREAM_CONNECTION_FAILURE = 5, "UF", "UpstreamConnectionFailure";
    UPSTREAM_CONNECTION_TERMINATION = 6, "UC", "UpstreamConnectionTermination";
    UPSTREAM_OVERFLOW = 7, "UO", "UpstreamOverflow";
    NO_ROUTE_FOUND = 8, "NR", "NoRouteFound";
    UPSTREAM_RETRY_LIMIT_EXCEEDED = 9, "URX", "UpstreamRetryLimitExceeded";
    NO_CLUSTER_FOUND = 10, "NC", "NoClusterFound";
    DURATION_TIMEOUT = 11, "DT", "DurationTimeout";
    DOWNSTREAM_CONNECTION_TERMINATION = 12, "DC", "DownstreamConnectionTermination";
    DOWNSTREAM_PROTOCOL_ERROR = 13, "DPE", "DownstreamProtocolError";
    UPSTREAM_PROTOCOL_ERROR = 14, "UPE", "UpstreamProtocolError";
    STREAM_IDLE_TIMEOUT = 15, "SI", "StreamIdleTimeout";
    OVERLOAD_MANAGER = 16, "OM", "OverloadManagerTerminated";
    DNS_RESOLUTION_FAILED = 17, "DF", "DnsResolutionFailed";
}

impl ResponseFlags {
    /// Adds the flags of `other`.
    pub fn insert(&mut self, other: ResponseFlags) {
        self.0 |= other.0;
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
        for entry in ResponseFlags::NAMES {
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

macro_rules! local_replies {
    ($($(#[$doc:meta])* $name:ident: $status:literal, $body:expr, $flag:ident, $details:literal;)*) => {
        impl LocalReply {
            $($(#[$doc])* pub const $name: LocalReply = LocalReply {
                status: $status, body: $body, flags: ResponseFlags::$flag, details: $details,
            };)*
        }
    };
}

impl ResponseFlags {
    /// No flag.
    pub const NONE: ResponseFlags = ResponseFlags(0);
}

impl LocalReply {
    /// The answer to a request that is not HTTP. The connection closes after it.
    #[must_use]
    pub fn malformed(error: &HttpError) -> LocalReply {
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

local_replies! {
    /// No virtual host or route matched.
    ROUTE_NOT_FOUND: 404, "", NO_ROUTE_FOUND, "route_not_found";
    /// The route names a cluster that does not exist.
    CLUSTER_NOT_FOUND: 503, "", NO_CLUSTER_FOUND, "cluster_not_found";
    /// The cluster has no host to send to.
    NO_HEALTHY_UPSTREAM: 503, "no healthy upstream", NO_HEALTHY_UPSTREAM, "no_healthy_upstream";
    /// A circuit breaker is open.
    OVERFLOW: 503, "upstream connect error or disconnect/reset before headers. reset reason: overflow",
        UPSTREAM_OVERFLOW, "upstream_reset_before_response_started{overflow}";
    /// The connection to the upstream could not be made.
    CONNECTION_FAILURE: 503,
        "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
        UPSTREAM_CONNECTION_FAILURE,
        "upstream_reset_before_response_started{remote_connection_failure}";
    /// Connecting to the upstream took longer than `connect_timeout`.
    CONNECTION_TIMEOUT: 503,
        "upstream connect error or disconnect/reset before headers. reset reason: connection timeout",
        UPSTREAM_CONNECTION_FAILURE,
        "upstream_reset_before_response_started{connection_timeout}";
    /// The upstream connection ended before a response.
    CONNECTION_TERMINATION: 503,
        "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
        UPSTREAM_CONNECTION_TERMINATION,
        "upstream_reset_before_response_started{connection_termination}";
    /// The upstream's response is not HTTP.
    UPSTREAM_PROTOCOL_ERROR: 502,
        "upstream connect error or disconnect/reset before headers. reset reason: protocol error",
        UPSTREAM_PROTOCOL_ERROR, "upstream_reset_before_response_started{protocol_error}";
    /// The route's timeout passed.
    RESPONSE_TIMEOUT: 504, "upstream request timeout", UPSTREAM_REQUEST_TIMEOUT, "response_timeout";
    /// `request_timeout` passed before the request was complete.
    REQUEST_TIMEOUT: 408, "request timeout", DOWNSTREAM_CONNECTION_TERMINATION, "request_overall_timeout";
    /// `request_headers_timeout` passed before the head was complete.
    REQUEST_HEADERS_TIMEOUT: 408, "request header timeout", NONE,
        "request_header_timeout";
    /// Nothing happened on the stream for `stream_idle_timeout`.
    STREAM_IDLE_TIMEOUT: 408, "stream timeout", STREAM_IDLE_TIMEOUT, "stream_idle_timeout";
    /// An upgrade that is not enabled here.
    UPGRADE_FAILED: 403, "", NONE, "upgrade_failed";
    /// The shard has no descriptor left for an upstream connection.
    OUT_OF_DESCRIPTORS: 503,
        "upstream connect error or disconnect/reset before headers. reset reason: local connection failure",
        UPSTREAM_CONNECTION_FAILURE, "upstream_reset_before_response_started{local_connection_failure}";
}
