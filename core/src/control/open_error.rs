//! What a configuration needs and cannot have.
//!
//! What it leaves to others: the causes (`listeners`, `access_logs`, `tls`).

use super::access_logs::LogError;
use super::listeners::BindError;
use super::tls;
use crate::config::ResourceKind;
use std::fmt;

/// Something that a configuration needs and that could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// A listener's sockets.
    Listener(BindError),
    /// An access log.
    AccessLog(LogError),
    /// A TLS context.
    Tls(tls::Unusable),
}

impl OpenError {
    /// Which resource needs it.
    #[must_use]
    pub fn owner(&self) -> (ResourceKind, &str) {
        match self {
            OpenError::Listener(error) => (ResourceKind::Listener, &error.listener),
            OpenError::AccessLog(error) => (ResourceKind::Listener, &error.listener),
            OpenError::Tls(error) => (error.kind, &error.name),
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Listener(error) => error.fmt(f),
            OpenError::AccessLog(error) => error.fmt(f),
            OpenError::Tls(error) => error.fmt(f),
        }
    }
}
