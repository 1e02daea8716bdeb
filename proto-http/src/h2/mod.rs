//! HTTP/2 (RFC 9113), both sides, without IO.
//!
//! What it leaves to others: sockets, time (it is passed in), the bytes of bodies, and what to do
//! with a message.
//!
//! # How to drive a connection
//!
//! Input: give [`Connection::decode_request`] (or `decode_response`) the unread input, again and
//! again until it answers [`Event::NeedMore`]. All input is consumed then. Heads are copied into
//! the head that is passed in; body bytes are named by a range of the input. They count against the
//! stream's and the connection's window until [`Connection::consumed`]: who cannot pass them on
//! does not call it, and the peer stops.
//!
//! Output: commands that write heads append to the caller's output. Data stays with the caller:
//! [`Connection::queue_data`] says how much there is; [`Connection::next_send`] writes the header
//! of the next DATA frame and says how many bytes of which stream to put behind it. Call it when
//! the socket can take more, until it answers `None` or the output is large enough: what was not
//! asked for costs nothing, and streams take turns. [`Connection::write_control`] writes what else
//! there is. All of a turn is in one output.
//!
//! ```text
//!   input --> decode_* --> Event            open, send_response --> output
//!                            |                queue_data --> next_send --> output, then the bytes
//!                  consumed <'                          write_control --> output
//! ```
//!
//! A [`StreamKey`] that is stale is ignored everywhere, so the caller need not know exactly when a
//! stream has ended. A stream that ended while received bytes are not consumed stays until they
//! are, or until [`Connection::reset`].
//!
//! # What is accepted
//!
//! As Envoy 1.40: the options have its names and defaults. Differences: GOAWAY with the reason is
//! always written before the connection ends; resets that the peer makes us send count as premature
//! ones; no more than 64 CONTINUATION frames; field values have no control characters at all.

mod abuse;
mod block;
mod closed;
mod connection;
mod control;
mod data;
mod error;
mod event;
mod fields;
mod flow;
mod frame;
pub mod hpack;
mod life;
mod options;
mod send;
mod settings;
mod state;
mod streams;
mod write;

pub use connection::Connection;
pub use error::{ConnectionError, ErrorCode, Fault};
pub use event::{Cause, Counters, Event, Step};
pub use frame::{HEADER_BYTES as FRAME_HEADER_BYTES, PREFACE};
pub use options::Options;
pub use send::{Refusal, Send};
pub use streams::{Ending, StreamKey};
