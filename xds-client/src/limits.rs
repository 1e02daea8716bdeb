//! The most of everything that a server can make grow in this client.
//!
//! What it leaves to others: what happens then (`client` refuses with a text, transports close).

/// Limits of a client. The defaults hold a fleet ten times as large as any that we know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a message from the server. A longer one ends the stream.
    pub message_bytes_max: usize,
    /// Resources and removed names of one response together. A response with more is refused.
    pub resources_max: usize,
    /// Bytes of a name, an alias or a version: a response with a longer one is refused. Bytes of a
    /// nonce: a longer one ends the stream.
    pub name_bytes_max: usize,
    /// Names whose versions or lives are remembered, by type, and those in responses that wait for
    /// their answers, together. A response that would bring more is refused.
    pub names_max: usize,
    /// Responses that wait for the application's answer; 100 seconds of warming at 100 updates per
    /// second. One more is refused.
    pub unanswered_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 256 << 20,
            resources_max: 500_000,
            name_bytes_max: 8 << 10,
            names_max: 1_000_000,
            unanswered_max: 10_000,
        }
    }
}

/// Bytes of a NACK's text that are sent: servers take messages of 4 MiB, logs take less.
pub(crate) const NACK_BYTES_MAX: usize = 16 << 10;

/// Bytes of `control_plane.identifier` that are kept.
pub(crate) const IDENTIFIER_BYTES_MAX: usize = 4 << 10;

/// Fields of a message by resource that it may have. A resource has six beside its body; two bytes
/// of a message can become a hundred in memory, which is why they are counted before they are
/// decoded.
pub(crate) const FIELDS_BY_RESOURCE: usize = 16;

/// The longest time to live that is told from none: a hundred years.
pub(crate) const TTL_SECONDS_MAX: u64 = 100 * 365 * 86_400;

/// At most so many bytes of a text, whole characters.
pub(crate) fn shortened(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
