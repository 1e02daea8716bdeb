//! What can be wrong with a peer's message, and how it is to be answered.
//!
//! What it leaves to others: writing the answer, counting it, closing the connection.

/// A peer's message that cannot be used. On HTTP/1 every such error ends the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpError {
    /// What was wrong.
    pub fault: Fault,
    /// The status that answers a request with this fault (400, 408, 413, 414, 417, 426, 431, 501, 505).
    /// For a response the proxy answers 502, or 503 where Envoy does; see [`HttpError::upstream_status`].
    pub status: u16,
    /// Envoy's response code details, for example `http1.codec_error` or `http1.headers_too_large`.
    pub details: &'static str,
}

impl core::fmt::Display for HttpError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({:?})", self.details, self.fault)
    }
}

impl core::error::Error for HttpError {}

/// The kinds of fault, named for what was seen on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// The start line is not one.
    StartLine,
}
