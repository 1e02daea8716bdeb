//! Reads what a context names: the files, the secrets in files, and those that servers have sent.
//!
//! What it leaves to others: building a context of it (`transport`), and reading again (`control`).

use super::certificate::TlsCertificate;
use super::context::{
    CommonTlsContext, DownstreamTlsContext, StatelessResumption, UpstreamTlsContext,
};
use super::secret::{Secret, SecretKind, SecretOr, SecretRef, SentSecrets};
use super::source::{TlsSource, Unreadable};
use super::validation::CertificateValidationContext;
use crate::config::RequestServerName;
use crate::transport::{
    Bytes, CertificateMaterial, ClientMaterial, ServerMaterial, TlsError, ValidationMaterial,
};
use std::sync::Arc;

/// What ALPN offers by HTTP/1.1 and by HTTP/2 where nothing is said, as Envoy's pools do.
const DEFAULT_ALPN: [&str; 2] = ["http/1.1", "h2"];

impl DownstreamTlsContext {
    /// What it names, as it is now. `sent` has what servers have sent.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub fn read(self: &Arc<Self>, sent: &SentSecrets) -> Result<ServerMaterial, TlsError> {
        let ticket_keys = match &self.stateless {
            StatelessResumption::Keys(SecretOr::Given(keys)) => Some(keys.clone()),
            StatelessResumption::Keys(SecretOr::Sds(secret)) => {
                Some(sds(secret, sent, "session_ticket_keys", |kind| match kind {
                    SecretKind::SessionTicketKeys(keys) => Some(keys),
                    _ => None,
                })?)
            }
            StatelessResumption::OwnKeys | StatelessResumption::Disabled => None,
        };
        let place = "session_ticket_keys.keys";
        let read_keys = |keys: Vec<TlsSource>| {
            keys.iter().map(|key| read(key, place)).collect::<Result<Vec<_>, _>>()
        };
        Ok(ServerMaterial {
            config: self.clone(),
            certificates: self.common.read_certificates(sent)?,
            validation: self.common.read_validation(sent)?,
            ticket_keys: ticket_keys.map(read_keys).transpose()?,
        })
    }
}

impl UpstreamTlsContext {
    /// What it names, as it is now. `of_request` is what the cluster takes
    /// from requests.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub fn read(
        self: &Arc<Self>,
        of_request: Option<&RequestServerName>,
        sent: &SentSecrets,
    ) -> Result<ClientMaterial, TlsError> {
        Ok(ClientMaterial {
            config: self.clone(),
            certificate: self.common.read_certificates(sent)?.into_iter().next(),
            validation: self.common.read_validation(sent)?,
            of_request: of_request.cloned(),
            default_alpn: DEFAULT_ALPN.map(|name| vec![name.as_bytes().to_vec()]),
        })
    }
}

impl CommonTlsContext {
    fn read_certificates(&self, sent: &SentSecrets) -> Result<Vec<CertificateMaterial>, TlsError> {
        let certificates = self.certificates.iter().map(|certificate| match certificate {
            SecretOr::Given(certificate) => read_certificate(certificate.clone()),
            SecretOr::Sds(secret) => {
                let found = sds(secret, sent, "tls_certificate", |kind| match kind {
                    SecretKind::TlsCertificate(certificate) => Some(certificate),
                    _ => None,
                })?;
                read_certificate(found)
            }
        });
        certificates.collect()
    }

    fn read_validation(&self, sent: &SentSecrets) -> Result<Option<ValidationMaterial>, TlsError> {
        let secret = match &self.validation_secret {
            Some(secret) => Some(sds(secret, sent, "validation_context", |kind| match kind {
                SecretKind::ValidationContext(context) => Some(*context),
                _ => None,
            })?),
            None => None,
        };
        let merged = match (&self.validation, secret) {
            (Some(default), Some(secret)) => default.with(&secret),
            (Some(only), None) => only.clone(),
            (None, Some(only)) => only,
            (None, None) => return Ok(None),
        };
        read_validation(merged).map(Some)
    }
}

fn read_certificate(config: TlsCertificate) -> Result<CertificateMaterial, TlsError> {
    let place = |field: &str| format!("{}.{field}", config.place);
    let chain = read(&config.certificate_chain, &place("certificate_chain"))?;
    let key = read(&config.private_key, &place("private_key"))?;
    Ok(CertificateMaterial { chain, key, config })
}

fn read_validation(config: CertificateValidationContext) -> Result<ValidationMaterial, TlsError> {
    let place = |field: &str| format!("{}.{field}", config.place);
    let optional = |source: &Option<TlsSource>, field: &str| {
        source.as_ref().map(|source| read(source, &place(field))).transpose()
    };
    let domains = config.spiffe.iter().flat_map(|spiffe| &spiffe.trust_domains);
    let bundles = domains.enumerate().map(|(index, domain)| {
        let field =
            format!("custom_validator_config.typed_config.trust_domains[{index}].trust_bundle");
        read(&domain.trust_bundle, &place(&field))
    });
    let trust_bundles = bundles.collect::<Result<_, _>>()?;
    Ok(ValidationMaterial {
        trusted_ca: optional(&config.trusted_ca, "trusted_ca")?,
        crl: optional(&config.crl, "crl")?,
        trust_bundles,
        config,
    })
}

fn read(source: &TlsSource, place: &str) -> Result<Bytes, TlsError> {
    source.read().map(Bytes).map_err(|Unreadable { reason, hint }| {
        let path = place.to_owned();
        TlsError { path, reason, hint }
    })
}

/// What a file of secrets has for a reference, or a server has sent.
fn sds<T>(
    reference: &SecretRef,
    sent: &SentSecrets,
    kind: &str,
    take: impl FnOnce(SecretKind) -> Option<T>,
) -> Result<T, TlsError> {
    let path = format!("secret `{}`", reference.name);
    let refuse = |reason: String, hint| TlsError { path: path.clone(), reason, hint };
    let secret: Secret = reference.read(sent).map_err(|error| refuse(error.reason, error.hint))?;
    let other = secret.kind_name();
    take(secret.kind).ok_or_else(|| refuse(format!("it is a {other}, not a {kind}"), None))
}
