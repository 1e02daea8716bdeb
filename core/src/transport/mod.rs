//! TLS contexts: what a listener's or a cluster's handshakes are made with. Knows rustls; performs
//! no IO, opens no file, and asks for the time only through rustls's `TimeProvider`.
//!
//! What it leaves to others: reading files and building contexts again (`control`), bytes of
//! sessions (`shard`).

mod certificate;
mod chain;
mod client;
pub mod client_hello;
mod digest;
mod error;
mod facts;
mod failure;
mod load;
mod material;
mod names;
mod parameters;
mod resolver;
mod server;
mod session;
mod sessions;
mod sockets;
mod subject;
mod tickets;
mod verifier;

#[cfg(test)]
mod tests;

pub use certificate::{CertificateInfo, SubjectAltName};
pub use client::{ClientContext, ServerNames};
pub use client_hello::{ClientHello, HelloReader};
pub use error::TlsError;
pub use facts::{CertificateFacts, CertificateText, ConnectionFacts};
pub use failure::HandshakeFailure;
pub use material::{
    Bytes, CertificateMaterial, ClientMaterial, ServerMaterial, ValidationMaterial,
};
pub use server::{ClientCertificates, ServerContext};
pub use session::Session;
pub use sockets::Sockets;
pub(crate) use sockets::TRUNCATED;
pub use tickets::TicketKeys;
