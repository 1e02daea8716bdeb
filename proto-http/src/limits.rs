//! Everything that a peer can make grow, with its bound.
//!
//! What it leaves to others: choosing other values (configuration) and counting violations.

/// The most that `head_bytes_max` may be, whatever is configured: Envoy's own ceiling for
/// `max_request_headers_kb`, 8192 KiB. It keeps every span far from 2^32.
pub const HEAD_BYTES_CEILING: usize = 8192 * 1024;

/// Bytes of empty lines accepted before a request line (RFC 9112 2.2 asks for at least one line).
pub const LEADING_BYTES_MAX: usize = 16;

/// A decoder's own buffer that has grown beyond this is given back when its message is complete, so
/// that an idle connection does not keep the memory of one large head.
pub const BUFFER_KEEP_BYTES: usize = 4096;

const _: () = assert!(HEAD_BYTES_CEILING < u32::MAX as usize / 64);

/// Bounds on one message. The defaults are Envoy's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Start line and fields together, in bytes (`max_request_headers_kb`, 60 KiB); the same for a
    /// trailer section. Values above [`HEAD_BYTES_CEILING`] count as that.
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
