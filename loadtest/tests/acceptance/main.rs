//! The command against real sockets: whether its figures are right, what its reports look like, and
//! whether comparisons come to the right verdict.
//!
//! What it leaves to others: pure parts, which have their tests beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod common;
mod comparing;
mod http2;
mod measuring;
mod reports;
mod tls;
mod vegeta;
