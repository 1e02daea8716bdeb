//! What is configured about HTTP/2, under Envoy's names and with Envoy 1.40's defaults.
//!
//! What it leaves to others: reading it from a configuration.

use crate::Limits;
use core::time::Duration;

/// Envoy's `Http2ProtocolOptions`, as far as the codec is concerned, and a few of its neighbours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Dynamic tables of both sides, in bytes.
    pub hpack_table_size: u32,
    /// Streams that the peer may have open at once, as a client; as a server, that we open.
    pub max_concurrent_streams: u32,
    /// What a peer may send on one stream before we have consumed it; as a client it is less at
    /// first, and grows to this as long as everything is consumed.
    pub initial_stream_window_size: u32,
    /// The same for all streams together.
    pub initial_connection_window_size: u32,
    /// Extended CONNECT (RFC 8441) is accepted.
    pub allow_connect: bool,
    /// Frames that were written and are not sent.
    pub max_outbound_frames: u32,
    /// PING, SETTINGS and RST_STREAM of those.
    pub max_outbound_control_frames: u32,
    /// HEADERS, CONTINUATION and DATA in a row that carry nothing and end nothing.
    pub max_consecutive_inbound_frames_with_empty_payload: u32,
    /// PRIORITY frames for each stream that was opened, and one stream more.
    pub max_inbound_priority_frames_per_stream: u32,
    /// WINDOW_UPDATE frames for each DATA frame; each stream gives two more, and five are free.
    pub max_inbound_window_update_frames_per_data_frame_sent: u32,
    /// `override_stream_error_on_invalid_http_message`: what is wrong with a message ends its
    /// stream only, as RFC 9113 8.1.1 has it, and not the connection.
    pub stream_error_on_invalid_http_message: bool,
    /// Streams before premature resets are judged (`overload.premature_reset_total_stream_count`).
    pub premature_reset_total_stream_count: u32,
    /// A stream that is reset before this age counts as premature
    /// (`overload.premature_reset_min_stream_lifetime_seconds`).
    pub premature_reset_min_stream_lifetime: Duration,
    /// How long our SETTINGS may wait for their acknowledgement.
    pub settings_timeout: Duration,
    /// Any other method than those of [`crate::Method::is_known`] is malformed.
    pub known_methods_only: bool,
    /// A path may have a backslash, as [`crate::h1::Options::allow_backslash`].
    pub allow_backslash: bool,
    /// Strings that we write are Huffman-coded where that is shorter.
    pub huffman: bool,
    /// Bounds on one message.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            hpack_table_size: 4096,
            max_concurrent_streams: 1024,
            initial_stream_window_size: 16 * 1024 * 1024,
            initial_connection_window_size: 24 * 1024 * 1024,
            allow_connect: false,
            max_outbound_frames: 10_000,
            max_outbound_control_frames: 1000,
            max_consecutive_inbound_frames_with_empty_payload: 1,
            max_inbound_priority_frames_per_stream: 100,
            max_inbound_window_update_frames_per_data_frame_sent: 10,
            stream_error_on_invalid_http_message: false,
            premature_reset_total_stream_count: 500,
            premature_reset_min_stream_lifetime: Duration::from_secs(1),
            settings_timeout: Duration::from_secs(10),
            known_methods_only: false,
            allow_backslash: false,
            huffman: false,
            limits: Limits::default(),
        }
    }
}
