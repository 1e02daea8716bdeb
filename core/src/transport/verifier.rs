//! Whether a peer's certificate is what was asked for: chain, SPIFFE trust domain, names, pins.
//!
//! What rustls is told of a refusal says which of them it was, as stats have it, and makes the
//! alert that Envoy sends, where rustls knows it: [`WrongName`] for names,
//! `ApplicationVerificationFailure` for pins, anything else for the chain.
//!
//! What it leaves to others: chains (`chain`), matching of names (`names`).

use super::certificate::{SubjectAltName, may_sign, names_of, public_key_of};
use super::chain::{ChainRules, Trust, Usage};
use super::digest::sha256;
use super::error::TlsError;
use super::material::ValidationMaterial;
use super::names::{NameMatcher, has_server_name};
use crate::config::tls::{Sha256, TlsSource};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use std::fmt;
use std::sync::Arc;
use webpki::Error as ChainError;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A compiled validation context.
#[derive(Debug)]
pub(super) struct Verifier {
    trust: Option<Trust>,
    /// By trust domain; if there are any, `trust` does not count.
    domains: Vec<(String, Trust)>,
    rules: ChainRules,
    accept_untrusted: bool,
    names: Vec<NameMatcher>,
    hashes: Vec<Sha256>,
    spki: Vec<Sha256>,
}

impl Verifier {
    /// Compiles a context.
    pub fn of(material: &ValidationMaterial) -> Result<Verifier, TlsError> {
        let config = &material.config;
        let place = |field: &str| format!("{}.{field}", config.place);
        let within = |source: &Option<TlsSource>| {
            let source = source.clone();
            move |error: TlsError| match &source {
                Some(source) => error.within(source),
                None => error,
            }
        };
        let trust = material.trusted_ca.as_ref();
        let trust = trust.map(|pem| Trust::of(&pem.0, &place("trusted_ca"))).transpose();
        let mut trust = trust.map_err(within(&config.trusted_ca))?;
        let mut domains = Vec::new();
        let spiffe = config.spiffe.iter().flat_map(|spiffe| &spiffe.trust_domains);
        for (index, (domain, bundle)) in spiffe.zip(&material.trust_bundles).enumerate() {
            let field = "custom_validator_config.typed_config.trust_domains";
            let place = place(&format!("{field}[{index}].trust_bundle"));
            let trust = Trust::of(&bundle.0, &place);
            let trust = trust.map_err(|error| error.within(&domain.trust_bundle))?;
            domains.push((domain.name.clone(), trust));
        }
        if let Some(crl) = &material.crl {
            let all = trust.iter_mut().chain(domains.iter_mut().map(|(_, trust)| trust));
            for trust in all {
                trust.revoke(&crl.0, &place("crl")).map_err(within(&config.crl))?;
            }
        }
        if trust.is_none() && domains.is_empty() && !config.subject_alt_names.is_empty() {
            let reason = "SAN-based verification of peer certificates without trusted CA is \
                          insecure and not allowed";
            let place = place("match_typed_subject_alt_names");
            return Err(TlsError::new(place, reason).hint("set `trusted_ca`"));
        }
        Ok(Verifier {
            trust,
            domains,
            rules: ChainRules {
                allow_expired: config.allow_expired,
                only_leaf_crl: config.only_leaf_crl,
                max_depth: config.max_depth,
            },
            accept_untrusted: config.accept_untrusted,
            names: config.subject_alt_names.iter().map(NameMatcher::of).collect(),
            hashes: config.hashes.clone(),
            spki: config.spki.clone(),
        })
    }

    /// Whether there is anything that a peer can fail.
    pub fn asks(&self) -> bool {
        self.trust.is_some()
            || !self.domains.is_empty()
            || !self.hashes.is_empty()
            || !self.spki.is_empty()
            || self.accept_untrusted
    }

    /// The authorities.
    pub fn authorities(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        let all = self.trust.iter().chain(self.domains.iter().map(|(_, trust)| trust));
        all.flat_map(|trust| &trust.certificates)
    }

    /// Whether a certificate is what was asked for; ACCEPT_UNTRUSTED changes nothing here.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: Usage,
        server_names: &[&str],
        now: UnixTime,
    ) -> Result<(), CertificateError> {
        let names = names_of(leaf);
        if !self.domains.is_empty() {
            let trust = self.domain_of(leaf, &names);
            let verified = trust.and_then(|trust| {
                let verified = trust.verify(leaf, intermediates, usage, self.rules, now);
                verified.map_err(certificate_error)
            });
            verified.map_err(|error| other(NotInDomain(error)))?;
        } else if let Some(trust) = &self.trust {
            let verified = trust.verify(leaf, intermediates, usage, self.rules, now);
            verified.map_err(certificate_error)?;
        }
        let is_named = server_names.iter().all(|wanted| has_server_name(&names, wanted));
        let is_matched = self.names.is_empty()
            || self.names.iter().any(|matcher| names.iter().any(|name| matcher.matches(name)));
        if !is_named || !is_matched {
            return Err(other(WrongName));
        }
        match self.is_pinned(leaf) {
            true => Ok(()),
            false => Err(CertificateError::ApplicationVerificationFailure),
        }
    }

    fn is_pinned(&self, leaf: &CertificateDer<'_>) -> bool {
        let by_key = || public_key_of(leaf).is_some_and(|key| self.spki.contains(&sha256(&key)));
        (self.hashes.is_empty() && self.spki.is_empty())
            || self.hashes.contains(&sha256(leaf))
            || by_key()
    }

    /// The authorities of the trust domain of an X.509-SVID: its only URI is
    /// `spiffe://domain/path`, and it is no authority.
    fn domain_of(
        &self,
        leaf: &CertificateDer<'_>,
        names: &[SubjectAltName],
    ) -> Result<&Trust, CertificateError> {
        let mut uris = names.iter().filter_map(|name| match name {
            SubjectAltName::Uri(uri) => Some(uri.as_str()),
            _ => None,
        });
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(CertificateError::UnknownIssuer);
        };
        let scheme = uri.get(..9).filter(|scheme| scheme.eq_ignore_ascii_case("spiffe://"));
        let domain = scheme.and_then(|_| uri[9..].split('/').next()).unwrap_or_default();
        let found = self.domains.iter().find(|(name, _)| name == domain);
        match found {
            Some((_, trust)) if !is_authority(leaf) => Ok(trust),
            _ => Err(CertificateError::UnknownIssuer),
        }
    }
}

/// Whether a certificate may sign others or revocation lists: an SVID must not.
fn is_authority(leaf: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(leaf) else { return true };
    let signs = match parsed.key_usage() {
        Ok(None) => false,
        Ok(Some(usage)) => usage.value.key_cert_sign() || usage.value.crl_sign(),
        Err(_) => true,
    };
    parsed.is_ca() || signs
}

/// None of the names of a certificate is what was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct WrongName;

impl fmt::Display for WrongName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("verify SAN list: no name of the certificate matches")
    }
}

impl std::error::Error for WrongName {}

/// A certificate is no X.509-SVID of a trust domain that is trusted.
#[derive(Clone, Debug)]
struct NotInDomain(CertificateError);

impl fmt::Display for NotInDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not of a SPIFFE trust domain that is trusted: {}", self.0)
    }
}

impl std::error::Error for NotInDomain {}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> CertificateError {
    CertificateError::Other(OtherError(Arc::new(error)))
}

fn certificate_error(error: ChainError) -> CertificateError {
    match error {
        ChainError::BadDer | ChainError::BadDerTime => CertificateError::BadEncoding,
        ChainError::CertExpired { .. } => CertificateError::Expired,
        ChainError::CertNotValidYet { .. } => CertificateError::NotValidYet,
        ChainError::CertRevoked => CertificateError::Revoked,
        // Who signed it was no authority, or not for that.
        ChainError::UnknownIssuer
        | ChainError::CaUsedAsEndEntity
        | ChainError::EndEntityUsedAsCa
        | ChainError::MaximumPathDepthExceeded
        | ChainError::PathLenConstraintViolated => CertificateError::UnknownIssuer,
        ChainError::CrlExpired { .. } => CertificateError::ExpiredRevocationList,
        ChainError::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        ChainError::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        ChainError::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        unnamed => other(unnamed),
    }
}

/// Whatever a context asks for, what signs a handshake must be meant for that.
fn check_usage(leaf: &CertificateDer<'_>) -> Result<(), Error> {
    match may_sign(leaf) {
        true => Ok(()),
        false => Err(CertificateError::InvalidPurpose.into()),
    }
}

/// Of clients.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub verifier: Option<Arc<Verifier>>,
    pub hints: Vec<DistinguishedName>,
    pub is_required: bool,
    pub algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check_usage(leaf)?;
        if let Some(verifier) = self.verifier.as_ref().filter(|one| !one.accept_untrusted) {
            verifier.verify(leaf, intermediates, Usage::Client, &[], now)?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Of servers. Without a validation context any is trusted, as in Envoy.
#[derive(Clone, Debug)]
pub(super) struct ServerVerifier {
    pub verifier: Option<Arc<Verifier>>,
    /// The certificate is to have the server name that was asked for.
    pub checks_name: bool,
    /// It is to have this name, too.
    pub other_name: Option<Box<str>>,
    /// Names count for something: who is trusted without being asked anything is not, then.
    pub is_strict: bool,
    pub algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check_usage(leaf)?;
        let Some(verifier) = self.verifier.as_ref().filter(|one| one.asks() || !self.is_strict)
        else {
            return match self.is_strict {
                true => Err(CertificateError::UnknownIssuer.into()),
                false => Ok(ServerCertVerified::assertion()),
            };
        };
        if !verifier.accept_untrusted {
            let asked = server_name.to_str();
            let asked = self.checks_name.then_some(&*asked);
            let wanted: Vec<&str> = asked.into_iter().chain(self.other_name.as_deref()).collect();
            verifier.verify(leaf, intermediates, Usage::Server, &wanted, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The signatures that peers may make.
pub(super) fn algorithms(provider: &CryptoProvider) -> WebPkiSupportedAlgorithms {
    provider.signature_verification_algorithms
}
