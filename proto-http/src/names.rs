//! Field names that the proxy itself has to know, as small numbers.
//!
//! What it leaves to others: every other name, which is only carried.

/// A field name: one of those that the proxy looks at, or [`Name::Other`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // each is the name on the wire
pub enum Name {
    Other,
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Te,
    Trailer,
    Upgrade,
    KeepAlive,
    ProxyConnection,
    ProxyAuthenticate,
    ProxyAuthorization,
    Http2Settings,
    Expect,
    Date,
    Server,
    Via,
    Location,
    UserAgent,
    ContentType,
    Cookie,
    Authorization,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    XForwardedPort,
    XRequestId,
    XEnvoyUpstreamServiceTime,
    XEnvoyExpectedRqTimeoutMs,
    XEnvoyOriginalPath,
    XEnvoyAttemptCount,
    XEnvoyInternal,
    XEnvoyExternalAddress,
}

/// Compares with candidates of the same length as arrays, which compiles to whole-word compares
/// where comparing slices would call `memcmp`.
macro_rules! same_length {
    ($lower:expr, $length:literal: $($text:literal => $name:ident),+ $(,)?) => {{
        let Ok(lower) = <&[u8; $length]>::try_from($lower) else { return Name::Other };
        $(if lower == $text { return Name::$name; })+
        Name::Other
    }};
}

impl Name {
    /// The name's number; `lower` is in lower case.
    #[must_use]
    pub fn of(lower: &[u8]) -> Name {
        match lower.len() {
            2 => same_length!(lower, 2: b"te" => Te),
            3 => same_length!(lower, 3: b"via" => Via),
            4 => same_length!(lower, 4: b"host" => Host, b"date" => Date),
            6 => same_length!(lower, 6: b"cookie" => Cookie, b"server" => Server,
                b"expect" => Expect),
            7 => same_length!(lower, 7: b"upgrade" => Upgrade, b"trailer" => Trailer),
            8 => same_length!(lower, 8: b"location" => Location),
            10 => same_length!(lower, 10: b"connection" => Connection,
                b"user-agent" => UserAgent, b"keep-alive" => KeepAlive),
            12 => same_length!(lower, 12: b"content-type" => ContentType,
                b"x-request-id" => XRequestId),
            13 => same_length!(lower, 13: b"authorization" => Authorization),
            14 => same_length!(lower, 14: b"content-length" => ContentLength,
                b"http2-settings" => Http2Settings),
            15 => same_length!(lower, 15: b"x-forwarded-for" => XForwardedFor),
            16 => same_length!(lower, 16: b"proxy-connection" => ProxyConnection,
                b"x-forwarded-host" => XForwardedHost, b"x-forwarded-port" => XForwardedPort,
                b"x-envoy-internal" => XEnvoyInternal),
            17 => same_length!(lower, 17: b"transfer-encoding" => TransferEncoding,
                b"x-forwarded-proto" => XForwardedProto),
            18 => same_length!(lower, 18: b"proxy-authenticate" => ProxyAuthenticate),
            19 => same_length!(lower, 19: b"proxy-authorization" => ProxyAuthorization),
            21 => same_length!(lower, 21: b"x-envoy-original-path" => XEnvoyOriginalPath,
                b"x-envoy-attempt-count" => XEnvoyAttemptCount),
            24 => same_length!(lower, 24: b"x-envoy-external-address" => XEnvoyExternalAddress),
            29 => same_length!(lower, 29:
                b"x-envoy-upstream-service-time" => XEnvoyUpstreamServiceTime),
            30 => same_length!(lower, 30:
                b"x-envoy-expected-rq-timeout-ms" => XEnvoyExpectedRqTimeoutMs),
            _ => Name::Other,
        }
    }

    /// This name's bit in a set of names.
    pub(crate) const fn bit(self) -> u64 {
        1 << self as u8
    }
}

const _: () = assert!((Name::XEnvoyExternalAddress as u8) < 64, "a set of names is one u64");

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(&str, Name); 32] = [
        ("host", Name::Host),
        ("connection", Name::Connection),
        ("content-length", Name::ContentLength),
        ("transfer-encoding", Name::TransferEncoding),
        ("te", Name::Te),
        ("trailer", Name::Trailer),
        ("upgrade", Name::Upgrade),
        ("keep-alive", Name::KeepAlive),
        ("proxy-connection", Name::ProxyConnection),
        ("proxy-authenticate", Name::ProxyAuthenticate),
        ("proxy-authorization", Name::ProxyAuthorization),
        ("http2-settings", Name::Http2Settings),
        ("expect", Name::Expect),
        ("date", Name::Date),
        ("server", Name::Server),
        ("via", Name::Via),
        ("location", Name::Location),
        ("user-agent", Name::UserAgent),
        ("content-type", Name::ContentType),
        ("cookie", Name::Cookie),
        ("authorization", Name::Authorization),
        ("x-forwarded-for", Name::XForwardedFor),
        ("x-forwarded-proto", Name::XForwardedProto),
        ("x-forwarded-host", Name::XForwardedHost),
        ("x-forwarded-port", Name::XForwardedPort),
        ("x-request-id", Name::XRequestId),
        ("x-envoy-upstream-service-time", Name::XEnvoyUpstreamServiceTime),
        ("x-envoy-expected-rq-timeout-ms", Name::XEnvoyExpectedRqTimeoutMs),
        ("x-envoy-original-path", Name::XEnvoyOriginalPath),
        ("x-envoy-attempt-count", Name::XEnvoyAttemptCount),
        ("x-envoy-internal", Name::XEnvoyInternal),
        ("x-envoy-external-address", Name::XEnvoyExternalAddress),
    ];

    #[test]
    fn each_name_has_its_number_and_no_neighbour_has_it() {
        for (text, name) in ALL {
            assert_eq!(Name::of(text.as_bytes()), name, "{text}");
            let mut other = alloc::vec::Vec::from(text.as_bytes());
            other[0] ^= 1;
            assert_eq!(Name::of(&other), Name::Other, "{text} with another first byte");
            other[0] ^= 1;
            other.push(b'x');
            assert_eq!(Name::of(&other), Name::Other, "{text} and one byte more");
        }
        assert_eq!(Name::of(b""), Name::Other);
        // Every variant but Other is in the table.
        assert_eq!(ALL.len(), Name::XEnvoyExternalAddress as usize);
    }
}
