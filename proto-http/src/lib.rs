//! HTTP codecs for Tidegate: bytes in, events and spans out; heads in, bytes out.
//!
//! What it leaves to others: it performs no IO, reads no clock, spawns nothing, allocates nothing
//! per message in steady state, and knows no configuration beyond the [`Limits`] and
//! [`h1::Options`] given to it. It does not route, rewrite or retry. CI builds it for a target
//! without an operating system.
//!
//! `no_std`: only `core` and `alloc`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod error;
pub mod h1;
pub mod h2;
pub mod headers;
pub mod limits;
pub mod message;
pub mod names;

pub use error::{Fault, HttpError};
pub use headers::{Field, Headers, Span};
pub use limits::Limits;
pub use message::{BodyLength, Method, RequestHead, ResponseHead, Scheme, Version};
pub use names::Name;
