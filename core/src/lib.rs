//! Tidegate: an Envoy-compatible, thread-per-core L4/L7 data plane for Linux.
//!
//! The library behind the binary of the same name. See ARCHITECTURE.md for the map.
//!
//! What it leaves to others: sockets and completions (`tidegate-io`), HTTP on the wire
//! (`tidegate-http`).
#![forbid(unsafe_code)]

pub mod access_log;
pub mod admin;
pub mod cli;
pub mod config;
pub mod control;
pub mod log;
pub mod paged;
pub mod proxy;
pub mod reply;
pub mod sabotage;
pub mod shard;
pub mod snapshot;
pub mod stats;
pub mod transport;
pub mod upstream;
