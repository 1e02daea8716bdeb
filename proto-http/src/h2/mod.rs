//! HTTP/2 (RFC 9113), both sides, without IO.
//!
//! What it leaves to others: sockets, time, bodies, and what to do with a message.

pub mod hpack;
