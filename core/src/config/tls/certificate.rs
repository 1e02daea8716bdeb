//! A certificate chain with its key (`TlsCertificate`).
//!
//! What it leaves to others: whether they belong together (`transport`).

use super::source::TlsSource;
use crate::config::convert::At;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;

/// `TlsCertificate`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsCertificate {
    /// `certificate_chain`: PEM, the leaf first.
    pub certificate_chain: TlsSource,
    /// `private_key`: PEM.
    pub private_key: TlsSource,
    /// `watched_directory.path`: a move into it means that the files have changed.
    pub watched_directory: Option<String>,
    /// Where it is in the configuration, for messages.
    pub place: String,
}

impl TlsCertificate {
    /// Converts a certificate; what is wrong is reported.
    pub(super) fn from_proto(at: &At<'_>, certificate: &pb::TlsCertificate) -> Option<Self> {
        // Which would have both of them.
        let has_bundle = certificate.pkcs12.is_some();
        if certificate.certificate_chain.is_none() && !has_bundle {
            let hint = "a file or text with the PEM blocks of the certificate and its issuers";
            at.missing("certificate_chain", Some(hint));
        }
        if certificate.private_key.is_none() && !has_bundle {
            at.missing("private_key", Some("the PEM of the key that belongs to the certificate"));
        }
        if certificate.password.is_some() {
            let hint = "decrypt the key: `openssl pkey -in KEY -out DECRYPTED`";
            at.field("password").error_hint("encrypted keys are not implemented", hint);
        }
        if has_bundle {
            let hint = "`openssl pkcs12 -in FILE -nodes -out PEM` writes what `certificate_chain` \
                        and `private_key` take";
            at.field("pkcs12").error_hint("PKCS #12 is not implemented", hint);
        }
        let source = |name: &str, source: &Option<_>| {
            TlsSource::from_proto(&at.field(name), source.as_ref())
        };
        let chain = source("certificate_chain", &certificate.certificate_chain);
        let key = source("private_key", &certificate.private_key);
        let directory = certificate.watched_directory.as_ref();
        Some(TlsCertificate {
            certificate_chain: chain?,
            private_key: key?,
            watched_directory: directory.map(|directory| directory.path.clone()),
            place: at.path(),
        })
    }

    /// All places that it is read from.
    pub fn sources(&self) -> impl Iterator<Item = &TlsSource> {
        [&self.certificate_chain, &self.private_key].into_iter()
    }
}
