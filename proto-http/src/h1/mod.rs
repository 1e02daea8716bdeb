//! HTTP/1.1 (RFC 9112), both sides, without IO.
//!
//! What it leaves to others: holding input that was not consumed, timeouts, and what to do with a
//! message.
//!
//! # How to drive a decoder
//!
//! Give [`RequestDecoder::decode`] the unread input. It consumes some of it from the front and says
//! what that was. Call it again with the rest until it answers [`Event::NeedMore`]; then wait for
//! input. What it consumed is never needed again: a head is copied into the head's own arena, body
//! bytes are named by a range of the input that was passed in, and a partial head is kept inside
//! the decoder. The answers do not depend on how the input was cut, except that [`Event::Data`] may
//! come in other pieces.
//!
//! Input is left unconsumed together with [`Event::NeedMore`] in one case: after a request that
//! asks for another protocol; see [`RequestDecoder::is_waiting`].
//!
//! # What is accepted
//!
//! The default is strict: what RFC 9112 lets a recipient refuse is refused wherever two readers
//! could disagree. Departures from Envoy's defaults: bare LF, obs-fold, a repeated `host`, a CR
//! within a value, a backslash in a path (but see [`Options::allow_backslash`]), white space or
//! empty extensions in a chunk's line, and more data in a chunk than it declared are errors; any
//! token is accepted as a method (but see [`Options::known_methods_only`]); an `expect` other than
//! `100-continue` is answered 417. As by Envoy: a `content-length` next to `transfer-encoding`,
//! repeated `content-length`, and any `transfer-encoding` but `chunked` are errors.

mod body;
pub(crate) mod bytes;
mod chunked;
mod encode;
mod field_lines;
pub(crate) mod framing;
mod head;
mod hop_by_hop;
mod lines;
mod name_case;
mod request;
mod response;
pub(crate) mod target;

use core::ops::Range;

pub use encode::{
    encode_chunk_end, encode_chunk_start, encode_last_chunk, encode_request, encode_response,
};
pub use hop_by_hop::strip_hop_by_hop;
pub use name_case::NameCase;
pub use request::RequestDecoder;
pub use response::ResponseDecoder;

/// Policies of the HTTP/1 codec. The default is strict.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// A path may have a backslash: with Envoy's `normalize_path`, which makes a slash of it.
    pub allow_backslash: bool,
    /// Envoy's `accept_http_10`; otherwise HTTP/1.0 requests are answered 426. HTTP/0.9 is always.
    pub accept_http_10: bool,
    /// The opposite of Envoy's `allow_absolute_url` (default true in Envoy): refuse targets in
    /// absolute-form.
    pub reject_absolute_url: bool,
    /// Envoy's `allow_chunked_length`: a `content-length` next to `transfer-encoding: chunked` is
    /// ignored instead of an error. The connection closes after the exchange (RFC 9112 6.1).
    pub allow_chunked_length: bool,
    /// The opposite of Envoy's `allow_custom_methods` (default false in Envoy): refuse methods that
    /// are not in the registry of [`crate::Method::is_known`].
    pub known_methods_only: bool,
    /// Remember how names of fields were spelt: Envoy's `preserve_case` formatter.
    pub keep_name_case: bool,
    /// Envoy's `enable_trailers`: report trailers; otherwise they are parsed, checked and dropped.
    pub enable_trailers: bool,
}

/// What the consumed bytes were.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Nothing complete yet; all input was consumed or kept inside the decoder. Wait for more.
    NeedMore,
    /// The head is complete, in the head that was passed in. For a response: a final one or 101.
    Head,
    /// An interim response (100, 102 to 199) is complete, in the head that was passed in.
    InterimHead,
    /// Body bytes: this range of the input that was passed in. Never empty.
    Data(Range<usize>),
    /// Trailers are complete (only with `enable_trailers`); read them with `trailers()`.
    Trailers,
    /// The message is complete. The decoder is ready for the next one.
    End,
    /// Everything from here on is another protocol's, this input included; decode is not called any
    /// more.
    Tunnel,
}

/// One step of decoding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Bytes of the input that were dealt with, from its front.
    pub consumed: usize,
    /// What they were.
    pub event: Event,
}

impl Step {
    fn new(consumed: usize, event: Event) -> Step {
        Step { consumed, event }
    }
}
