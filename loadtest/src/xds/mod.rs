//! Driving configuration scale: a management server whose resources are made up, which counts how
//! long its client takes for them.
//!
//! `world` makes resources and changes them, `stream` decides what a client is sent, `book` writes
//! down what was sent and answered, `server` is gRPC around these three, which do no IO.
//!
//! What it leaves to others: what the client does with a configuration, and its requests.

pub mod book;
pub mod server;
mod stream;
pub mod world;
