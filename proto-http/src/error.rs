//! What can be wrong with a peer's message, and how it is to be answered.
//!
//! What it leaves to others: writing the answer, counting it, closing the connection.

/// A peer's message that cannot be used. On HTTP/1 every such error ends the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpError {
    /// What was wrong.
    pub fault: Fault,
    /// The status that answers a request with this fault (400, 413, 417, 426, 431, 501, 505).
    /// For a response the proxy answers [`HttpError::upstream_status`].
    pub status: u16,
    /// Envoy's response code details, for example `http1.codec_error` or `http1.headers_too_large`.
    pub details: &'static str,
}

impl HttpError {
    /// The status that a client gets when an upstream's response had this fault: 503 when the
    /// connection ended before the response did, as Envoy answers a termination, else 502.
    #[must_use]
    pub fn upstream_status(&self) -> u16 {
        match self.fault {
            Fault::CutOff => 503,
            _ => 502,
        }
    }
}

impl core::fmt::Display for HttpError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({:?})", self.details, self.fault)
    }
}

impl core::error::Error for HttpError {}

impl From<Fault> for HttpError {
    #[cold]
    fn from(fault: Fault) -> HttpError {
        let (status, details) = fault.answer();
        HttpError { fault, status, details }
    }
}

/// The kinds of fault, named for what was seen on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// The start line is not one.
    StartLine,
    /// More empty lines before a request than anyone sends by mistake.
    EmptyLines,
    /// The method is empty or not a token.
    Method,
    /// The request target has none of the forms that its method allows.
    Target,
    /// The request target has a byte that is never sent raw: control, space, obs-text, `#`, or a
    /// backslash in the path.
    TargetByte,
    /// An absolute-form target where policy allows none, or with a scheme that is not `http(s)`.
    Scheme,
    /// A version that is not HTTP/1.0 or HTTP/1.1.
    Version,
    /// HTTP/1.0 or HTTP/0.9, which is not accepted here (Envoy's `accept_http_10`).
    LowVersion,
    /// A status code that is not three digits from 100.
    StatusCode,
    /// A line that ends in anything but CRLF.
    LineEnd,
    /// A field name that is empty, not a token, or followed by white space; or a line without
    /// colon.
    FieldName,
    /// A field value with a control character.
    FieldValue,
    /// A line that begins with white space: obs-fold, or white space before the first field.
    LineFolding,
    /// The head is larger than `head_bytes_max`.
    HeadTooLarge,
    /// More than `fields_max` fields.
    TooManyFields,
    /// HTTP/1.1 without `host`.
    HostMissing,
    /// More than one `host` field.
    HostDuplicate,
    /// `host` or the target's authority is empty or not host and port.
    HostInvalid,
    /// `content-length` is not a decimal number below 2^63.
    ContentLength,
    /// More than one `content-length` value.
    ContentLengthDuplicate,
    /// `transfer-encoding` with a coding other than chunked.
    TransferCodingUnknown,
    /// `transfer-encoding` that is not the one word `chunked`.
    TransferEncoding,
    /// `transfer-encoding` in HTTP/1.0, or in a 1xx or 204 response.
    TransferEncodingNotAllowed,
    /// Both `transfer-encoding` and `content-length`.
    TransferEncodingWithContentLength,
    /// CONNECT or TRACE with a body.
    BodyNotAllowed,
    /// `expect` with anything but `100-continue`.
    Expectation,
    /// A chunk size that is not 1 to 16 hexadecimal digits, or its line's end.
    ChunkSize,
    /// A chunk extension that is malformed.
    ChunkExtension,
    /// More chunk extension bytes than `chunk_extension_bytes_max`.
    ChunkExtensionsTooLarge,
    /// A chunk's data is not followed by CRLF.
    ChunkEnd,
    /// Trailers larger than `head_bytes_max`.
    TrailersTooLarge,
    /// More than `fields_max` trailer fields.
    TooManyTrailers,
    /// Bytes from an upstream that was not asked anything.
    Unannounced,
    /// More interim responses than `interim_responses_max`.
    TooManyInterimResponses,
    /// 101 without an upgrade asked for, or to a protocol that was not offered.
    SwitchingProtocols,
    /// The connection ended within a message.
    CutOff,
}

impl Fault {
    /// Status and details, as Envoy 1.40 gives them where it has the same fault.
    fn answer(self) -> (u16, &'static str) {
        use Fault::*;
        match self {
            HostInvalid => (400, "http.invalid_authority"),
            TargetByte => (400, "path_normalization_failed"),
            Scheme => (400, "http1.invalid_scheme"),
            Version => (505, "http1.codec_error"),
            LowVersion => (426, "low_version"),
            FieldValue => (400, "http1.invalid_characters"),
            HeadTooLarge => (431, "http1.headers_too_large"),
            TooManyFields => (431, "http1.too_many_headers"),
            HostMissing => (400, "missing_host_header"),
            TransferCodingUnknown => (501, "http1.invalid_transfer_encoding"),
            TransferEncoding => (400, "http1.invalid_transfer_encoding"),
            TransferEncodingNotAllowed => (400, "http1.transfer_encoding_not_allowed"),
            TransferEncodingWithContentLength => {
                (400, "http1.content_length_and_chunked_not_allowed")
            }
            BodyNotAllowed => (400, "http1.body_disallowed"),
            Expectation => (417, "http1.expectation_failed"),
            ChunkExtensionsTooLarge => (413, "http1.chunk_extensions_too_large"),
            TrailersTooLarge => (431, "http1.trailers_too_large"),
            TooManyTrailers => (431, "http1.too_many_trailers"),
            StartLine
            | Target
            | EmptyLines
            | Method
            | StatusCode
            | LineEnd
            | FieldName
            | LineFolding
            | HostDuplicate
            | ContentLength
            | ContentLengthDuplicate
            | ChunkSize
            | ChunkExtension
            | ChunkEnd
            | Unannounced
            | TooManyInterimResponses
            | SwitchingProtocols
            | CutOff => (400, "http1.codec_error"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_fault_carries_envoys_answer() {
        let error = HttpError::from(Fault::TransferCodingUnknown);
        assert_eq!((error.status, error.upstream_status()), (501, 502));
        assert_eq!(error.to_string(), "http1.invalid_transfer_encoding (TransferCodingUnknown)");
        assert_eq!(HttpError::from(Fault::CutOff).upstream_status(), 503);
    }
}
