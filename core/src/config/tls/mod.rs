//! TLS as it is asked for (`extensions.transport_sockets.tls.v3`), one file per Envoy noun.
//!
//! What it leaves to others: reading files again when they change (`control`), keys, certificates
//! and handshakes (`transport`).

mod certificate;
mod context;
mod parameters;
mod read;
mod san;
mod secret;
mod source;
mod support;
mod validation;

pub use certificate::TlsCertificate;
pub use context::{
    CommonTlsContext, DownstreamTlsContext, StatelessResumption, UpstreamTlsContext,
};
pub use parameters::{CipherSuite, Curve, TlsParameters, TlsVersion};
pub use san::{SanType, SubjectAltNameMatcher};
pub use secret::{Secret, SecretKind, SecretOr, SecretRef, SentSecrets, read_secrets};
pub use source::{TlsSource, Unreadable};
pub use validation::{CertificateValidationContext, Sha256, SpiffeTrustDomain, SpiffeValidator};

pub(super) use context::{DOWNSTREAM_TLS, UPSTREAM_TLS, transport_socket};
pub(super) use secret::static_secrets;
pub(super) use support::SUPPORTED;
pub(super) use validation::SPIFFE;
