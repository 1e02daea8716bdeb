//! Everything that a peer can make grow, with its bound.
//!
//! What it leaves to others: choosing other values (configuration) and counting violations.

/// Bounds on one message. The defaults are Envoy's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Start line and fields together, in bytes (`max_request_headers_kb`, 60 KiB).
    pub head_bytes_max: usize,
    /// Fields of one head or trailer section (`max_headers_count`, 100).
    pub fields_max: usize,
    /// Chunk extensions of one message, in bytes (RFC 9112 7.1.1: limit the total).
    pub chunk_extension_bytes_max: usize,
    /// Interim (1xx) responses before one final response.
    pub interim_responses_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_bytes_max: 60 * 1024,
            fields_max: 100,
            chunk_extension_bytes_max: 16 * 1024,
            interim_responses_max: 16,
        }
    }
}
