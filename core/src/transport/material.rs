//! What contexts are built of: what was asked for, with what its files hold now.
//!
//! What it leaves to others: reading them (`control`, and `config` when it looks whether they can
//! be used).

use super::digest::Digest;
use crate::config::RequestServerName;
use crate::config::tls::{
    CertificateValidationContext, DownstreamTlsContext, TlsCertificate, UpstreamTlsContext,
};
use std::sync::Arc;

/// A certificate.
#[derive(Clone, PartialEq, Debug)]
pub struct CertificateMaterial {
    /// What was asked for.
    pub config: TlsCertificate,
    /// `certificate_chain`
    pub chain: Bytes,
    /// `private_key`
    pub key: Bytes,
}

/// A validation context, merged with what a secret says.
#[derive(Clone, PartialEq, Debug)]
pub struct ValidationMaterial {
    /// What was asked for.
    pub config: CertificateValidationContext,
    /// `trusted_ca`
    pub trusted_ca: Option<Bytes>,
    /// `crl`
    pub crl: Option<Bytes>,
    /// `trust_bundle` of each trust domain.
    pub trust_bundles: Vec<Bytes>,
}

/// All of a listener's context.
#[derive(Clone, PartialEq, Debug)]
pub struct ServerMaterial {
    /// What was asked for.
    pub config: Arc<DownstreamTlsContext>,
    /// `tls_certificates`
    pub certificates: Vec<CertificateMaterial>,
    /// `validation_context`
    pub validation: Option<ValidationMaterial>,
    /// `session_ticket_keys`, if they were given.
    pub ticket_keys: Option<Vec<Bytes>>,
}

/// All of a cluster's context.
#[derive(Clone, PartialEq, Debug)]
pub struct ClientMaterial {
    /// What was asked for.
    pub config: Arc<UpstreamTlsContext>,
    /// `tls_certificates`
    pub certificate: Option<CertificateMaterial>,
    /// `validation_context`
    pub validation: Option<ValidationMaterial>,
    /// What the cluster takes from requests.
    pub of_request: Option<RequestServerName>,
    /// What is offered by ALPN where `alpn_protocols` says nothing.
    pub default_alpn: [Vec<Vec<u8>>; 2],
}

/// What a source held. It can be a key, so it is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Arc<[u8]>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl ValidationMaterial {
    /// With everything that decides who is trusted.
    pub(super) fn digest(&self, digest: Digest) -> Digest {
        // Where it stands does not count; that the sources are the same is not enough.
        let config = CertificateValidationContext {
            place: String::new(),
            watched_directory: None,
            ..self.config.clone()
        };
        let digest = digest.with(format!("{config:?}").as_bytes());
        let parts = self.trusted_ca.iter().chain(&self.crl).chain(&self.trust_bundles);
        parts.fold(digest, |digest, part| digest.with(&part.0))
    }
}
