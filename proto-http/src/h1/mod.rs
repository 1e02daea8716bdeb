//! HTTP/1.1 (RFC 9112), both sides, without IO.
//!
//! What it leaves to others: holding input that was not consumed, timeouts, and what to do with a message.
//!
//! # How to drive a decoder
//!
//! Give [`RequestDecoder::decode`] the unread input. It consumes some of it from the front and says what
//! that was. Call it again with the rest until it answers [`Event::NeedMore`]; then wait for input. What it
//! consumed is never needed again: a head is copied into the head's own arena, body bytes are named by a
//! range of the input that was passed in, and a partial head is kept inside the decoder.

mod body;
mod encode;
mod head;

use core::ops::Range;

use crate::{Headers, HttpError, Limits, RequestHead, ResponseHead};

pub use encode::*;

/// Policies of the HTTP/1 codec. The default is strict.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Be as lenient as Envoy 1.40 where it is more lenient than the default: bare LF line ends, obs-fold
    /// joined by SP, equal duplicate `host`. Never anything that two parsers may frame differently.
    pub envoy_lenient: bool,
    /// Envoy's `accept_http_10`; otherwise HTTP/1.0 (and 0.9) requests are answered 426.
    pub accept_http_10: bool,
    /// Envoy's `allow_absolute_url` (default true in Envoy): accept absolute-form targets.
    pub reject_absolute_url: bool,
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
    /// Everything from here on is another protocol's; decode is not called any more.
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

/// Reads requests from one downstream connection, one after the other (pipelining included).
#[derive(Debug)]
pub struct RequestDecoder {}

impl RequestDecoder {
    /// A decoder before its first request.
    #[must_use]
    pub fn new(options: Options, limits: Limits) -> RequestDecoder {
        let _ = (options, limits);
        RequestDecoder {}
    }

    /// Takes one step; see the module's page. `head` is overwritten when a head is complete.
    ///
    /// After [`Event::Head`] the caller may look at the head and must go on with the same decoder: a body
    /// is never skipped by itself. After an error the decoder is of no further use.
    pub fn decode(&mut self, input: &[u8], head: &mut RequestHead) -> Result<Step, HttpError> {
        let _ = (input, head);
        Ok(Step { consumed: 0, event: Event::NeedMore })
    }

    /// Whether a request has begun and its head is not complete: what `request_headers_timeout` bounds.
    #[must_use]
    pub fn is_in_head(&self) -> bool {
        false
    }

    /// Whether no byte of a further request has been read: the connection is idle.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        true
    }

    /// The trailers of the request that just ended.
    #[must_use]
    pub fn trailers(&self) -> Option<&Headers> {
        None
    }
}

/// Reads responses from one upstream connection.
#[derive(Debug)]
pub struct ResponseDecoder {}

impl ResponseDecoder {
    /// A decoder before its first response.
    #[must_use]
    pub fn new(options: Options, limits: Limits) -> ResponseDecoder {
        let _ = (options, limits);
        ResponseDecoder {}
    }

    /// Announces the request whose response comes next: HEAD and CONNECT change how it is framed, and 101
    /// is only accepted when an upgrade was asked for.
    pub fn expect(&mut self, request: &RequestHead) {
        let _ = request;
    }

    /// Takes one step, as [`RequestDecoder::decode`]. Bytes without an announced request are an error.
    pub fn decode(&mut self, input: &[u8], head: &mut ResponseHead) -> Result<Step, HttpError> {
        let _ = (input, head);
        Ok(Step { consumed: 0, event: Event::NeedMore })
    }

    /// The peer finished sending. [`Event::End`] when that ends an until-close body, [`Event::NeedMore`]
    /// when no response was under way, an error when a message was cut off.
    pub fn eof(&mut self) -> Result<Event, HttpError> {
        Ok(Event::NeedMore)
    }

    /// Whether no response is expected and none has begun: the connection may be reused.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        true
    }

    /// The trailers of the response that just ended.
    #[must_use]
    pub fn trailers(&self) -> Option<&Headers> {
        None
    }
}
