//! What the codec tells its caller.
//!
//! What it leaves to others: finding it out.

use super::{ErrorCode, Fault, StreamKey};
use core::ops::Range;

/// What the consumed bytes were.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Nothing more to tell: all input was consumed. Wait for more.
    NeedMore,
    /// A head is complete, in the head that was passed in: a request, which opens a stream, or a
    /// final response.
    Head {
        /// Whose head it is.
        stream: StreamKey,
        /// What the caller called it; 0 for a request.
        tag: u64,
        /// There is neither body nor trailers.
        end_stream: bool,
    },
    /// A request that is not to be answered: it was refused by RST_STREAM, and no stream was
    /// opened.
    Refused {
        /// What was wrong.
        fault: Fault,
    },
    /// An interim response is complete, in the head that was passed in.
    InterimHead {
        /// Whose head it is.
        stream: StreamKey,
        /// What the caller called it.
        tag: u64,
    },
    /// Body bytes: this range of the input that was passed in. Empty only at the end of a stream.
    /// They count against the windows until [`super::Connection::consumed`].
    Data {
        /// Whose they are.
        stream: StreamKey,
        /// What the caller called the stream.
        tag: u64,
        /// Where they are.
        range: Range<usize>,
        /// The message is complete.
        end_stream: bool,
    },
    /// Trailers, in [`super::Connection::trailers`]; the message is complete.
    Trailers {
        /// Whose they are.
        stream: StreamKey,
        /// What the caller called the stream.
        tag: u64,
    },
    /// The stream is gone; its key is stale.
    Reset {
        /// Which it was.
        stream: StreamKey,
        /// What the caller called it.
        tag: u64,
        /// The code that was received or sent.
        code: ErrorCode,
        /// Who ended it, and why.
        cause: Cause,
    },
    /// The peer goes away. Streams that it has not processed follow, each with
    /// [`Cause::Unprocessed`]; the others may come to their end.
    GoAway {
        /// The last stream that it may have processed.
        last_stream: u32,
        /// Why.
        code: ErrorCode,
    },
    /// The peer's SETTINGS were applied: how many streams may be open may have changed.
    Settings,
    /// The answer to [`super::Connection::ping`].
    Pong {
        /// What was sent with it.
        opaque: [u8; 8],
    },
}

/// Why a stream was reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// RST_STREAM from the peer. REFUSED_STREAM says that it did nothing with it.
    Peer,
    /// GOAWAY from the peer, which did nothing with it: it may be sent again.
    Unprocessed,
    /// What the peer sent on it.
    Fault(Fault),
}

/// One step of decoding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Bytes of the input that were dealt with, from its front.
    pub consumed: usize,
    /// What they were.
    pub event: Event,
}

/// What happened on a connection so far, by Envoy's names where it counts the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)] // each is a statistic of Envoy
pub struct Counters {
    pub header_overflow: u32,
    pub rx_messaging_error: u32,
    pub rx_reset: u32,
    pub tx_reset: u32,
    pub trailers: u32,
    pub stream_refused_errors: u32,
    pub goaway_sent: u32,
    /// Errors that ended the connection: 0 or 1.
    pub connection_errors: u32,
}
