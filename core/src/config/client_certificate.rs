//! `x-forwarded-client-cert`: what is done with that of a request, and what is put into it.
//!
//! What it leaves to others: writing it (`proxy`).

use super::support::{SupportedMessage, message, used};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use pb::http_connection_manager::ForwardClientCertDetails as Mode;

pub(super) const SUPPORTED: &[SupportedMessage] = &[message(
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.\
     SetCurrentClientCertDetails",
    &[used("subject"), used("cert"), used("chain"), used("dns"), used("uri")],
)];

/// `forward_client_cert_details`, with `set_current_client_cert_details`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ForwardClientCert {
    /// `SANITIZE`: it is removed.
    #[default]
    Sanitize,
    /// `FORWARD_ONLY`: it is passed on if the client has shown a certificate.
    ForwardOnly,
    /// `APPEND_FORWARD`: in that case ours is added to it.
    AppendForward(ClientCertDetails),
    /// `SANITIZE_SET`: in that case ours replaces it.
    SanitizeSet(ClientCertDetails),
    /// `ALWAYS_FORWARD_ONLY`: it is passed on.
    AlwaysForwardOnly,
}

/// What is said beside who we are and the certificate's hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClientCertDetails {
    /// `subject`
    pub subject: bool,
    /// `cert`
    pub cert: bool,
    /// `chain`
    pub chain: bool,
    /// `dns`
    pub dns: bool,
    /// `uri`
    pub uri: bool,
}

impl ForwardClientCert {
    pub(super) fn from_proto(manager: &pb::HttpConnectionManager) -> ForwardClientCert {
        let details = manager.set_current_client_cert_details.unwrap_or_default();
        let details = ClientCertDetails {
            subject: details.subject.is_some_and(|flag| flag.value),
            cert: details.cert,
            chain: details.chain,
            dns: details.dns,
            uri: details.uri,
        };
        match manager.forward_client_cert_details() {
            Mode::Sanitize => ForwardClientCert::Sanitize,
            Mode::ForwardOnly => ForwardClientCert::ForwardOnly,
            Mode::AppendForward => ForwardClientCert::AppendForward(details),
            Mode::SanitizeSet => ForwardClientCert::SanitizeSet(details),
            Mode::AlwaysForwardOnly => ForwardClientCert::AlwaysForwardOnly,
        }
    }
}
