//! What is asked of a peer's certificate (`CertificateValidationContext`).
//!
//! What it leaves to others: verifying (`transport`).

#![allow(deprecated, reason = "Envoy still accepts fields that it calls deprecated")]

use super::san::{SanType, SubjectAltNameMatcher};
use super::source::TlsSource;
use crate::config::StringMatcher;
use crate::config::convert::At;
use base64::Engine;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;

pub(in crate::config) const SPIFFE: &str =
    "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";

/// Envoy's and BoringSSL's.
const DEFAULT_MAX_VERIFY_DEPTH: u32 = 100;

/// A SHA-256.
pub type Sha256 = [u8; 32];

/// `CertificateValidationContext`
#[derive(Clone, PartialEq, Debug)]
pub struct CertificateValidationContext {
    /// `trusted_ca`
    pub trusted_ca: Option<TlsSource>,
    /// `verify_certificate_spki`: of the public key.
    pub spki: Vec<Sha256>,
    /// `verify_certificate_hash`: of the certificate.
    pub hashes: Vec<Sha256>,
    /// `match_typed_subject_alt_names` and the deprecated `match_subject_alt_names`: one of them
    /// is to match one name.
    pub subject_alt_names: Vec<SubjectAltNameMatcher>,
    /// `crl`
    pub crl: Option<TlsSource>,
    /// `allow_expired_certificate`
    pub allow_expired: bool,
    /// `trust_chain_verification` is ACCEPT_UNTRUSTED: whatever comes is let in, and routes can ask
    /// whether it is valid.
    pub accept_untrusted: bool,
    /// `only_verify_leaf_cert_crl`
    pub only_leaf_crl: bool,
    /// `max_verify_depth`: so many certificates between leaf and root.
    pub max_depth: u32,
    /// `suppress_client_ca_list`
    pub hide_authorities: bool,
    /// `custom_validator_config` with `SPIFFECertValidatorConfig`
    pub spiffe: Option<SpiffeValidator>,
    /// `watched_directory.path`
    pub watched_directory: Option<String>,
    /// Where it is in the configuration, for messages.
    pub place: String,
}

/// `SPIFFECertValidatorConfig`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpiffeValidator {
    /// `trust_domains`
    pub trust_domains: Vec<SpiffeTrustDomain>,
}

/// `SPIFFECertValidatorConfig.TrustDomain`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpiffeTrustDomain {
    /// `name`, as in `spiffe://name/path`
    pub name: String,
    /// `trust_bundle`: PEM.
    pub trust_bundle: TlsSource,
}

impl CertificateValidationContext {
    /// Converts a context; what is wrong is reported.
    pub(super) fn from_proto(
        at: &At<'_>,
        context: &pb::CertificateValidationContext,
    ) -> Option<CertificateValidationContext> {
        let source = |name: &str, source: &Option<_>| {
            TlsSource::from_proto(&at.field(name), source.as_ref())
        };
        let spiffe = context.custom_validator_config.as_ref().and_then(|custom| {
            let at = at.field("custom_validator_config");
            SpiffeValidator::from_proto(&at.field("typed_config"), custom.typed_config.as_ref()?)
        });
        let at_hashes = at.field("verify_certificate_hash");
        let hashes = context.verify_certificate_hash.iter().enumerate();
        let at_spki = at.field("verify_certificate_spki");
        let spki = context.verify_certificate_spki.iter().enumerate();
        let directory = context.watched_directory.as_ref();
        let converted = CertificateValidationContext {
            trusted_ca: source("trusted_ca", &context.trusted_ca),
            hashes: hashes.filter_map(|(i, text)| hex(&at_hashes.index(i), text)).collect(),
            spki: spki.filter_map(|(i, text)| base64(&at_spki.index(i), text)).collect(),
            subject_alt_names: matchers(at, context),
            crl: source("crl", &context.crl),
            allow_expired: context.allow_expired_certificate,
            accept_untrusted: context.trust_chain_verification()
                == pb::certificate_validation_context::TrustChainVerification::AcceptUntrusted,
            only_leaf_crl: context.only_verify_leaf_cert_crl,
            max_depth: context.max_verify_depth.map_or(DEFAULT_MAX_VERIFY_DEPTH, |max| max.value),
            hide_authorities: context.suppress_client_ca_list,
            spiffe,
            watched_directory: directory.map(|directory| directory.path.clone()),
            place: at.path(),
        };
        Some(converted)
    }

    /// Reports what Envoy refuses of a whole context.
    pub(super) fn check(&self, at: &At<'_>) {
        if self.spiffe.is_none() && self.trusted_ca.is_none() {
            if !self.subject_alt_names.is_empty() {
                at.field("match_typed_subject_alt_names").error_hint(
                    "SAN-based verification of peer certificates without trusted CA is insecure \
                     and not allowed",
                    "set `trusted_ca`",
                );
            }
            if self.allow_expired {
                at.field("allow_expired_certificate").error_hint(
                    "certificate validity period is always ignored without trusted CA",
                    "leave it out, or set `trusted_ca`",
                );
            }
            if self.crl.is_some() {
                at.field("crl").error_hint(
                    "revocation lists without trusted CA are not allowed",
                    "set `trusted_ca`",
                );
            }
        }
    }

    /// This as the default of what a secret says: single values of the secret count, lists are
    /// joined, as protobuf merges messages.
    #[must_use]
    pub fn with(&self, secret: &CertificateValidationContext) -> CertificateValidationContext {
        let mut merged = self.clone();
        let over = |default: &mut Option<TlsSource>, given: &Option<TlsSource>| {
            if given.is_some() {
                default.clone_from(given);
            }
        };
        over(&mut merged.trusted_ca, &secret.trusted_ca);
        over(&mut merged.crl, &secret.crl);
        merged.spki.extend(&secret.spki);
        merged.hashes.extend(&secret.hashes);
        merged.subject_alt_names.extend(secret.subject_alt_names.iter().cloned());
        merged.allow_expired |= secret.allow_expired;
        merged.accept_untrusted |= secret.accept_untrusted;
        merged.only_leaf_crl |= secret.only_leaf_crl;
        merged.hide_authorities |= secret.hide_authorities;
        if secret.max_depth != DEFAULT_MAX_VERIFY_DEPTH {
            merged.max_depth = secret.max_depth;
        }
        if secret.spiffe.is_some() {
            merged.spiffe.clone_from(&secret.spiffe);
        }
        if secret.watched_directory.is_some() {
            merged.watched_directory.clone_from(&secret.watched_directory);
        }
        merged
    }

    /// All places that it is read from.
    pub fn sources(&self) -> impl Iterator<Item = &TlsSource> {
        let domains = self.spiffe.iter().flat_map(|spiffe| &spiffe.trust_domains);
        let bundles = domains.map(|domain| &domain.trust_bundle);
        self.trusted_ca.iter().chain(&self.crl).chain(bundles)
    }
}

fn matchers(at: &At<'_>, context: &pb::CertificateValidationContext) -> Vec<SubjectAltNameMatcher> {
    let at_typed = at.field("match_typed_subject_alt_names");
    let typed = context.match_typed_subject_alt_names.iter().enumerate();
    let typed: Vec<_> = typed
        .filter_map(|(i, matcher)| SubjectAltNameMatcher::from_proto(&at_typed.index(i), matcher))
        .collect();
    if !typed.is_empty() {
        return typed;
    }
    // One without a type is tried on each of these types.
    let at_old = at.field("match_subject_alt_names");
    let mut old = Vec::new();
    for (index, matcher) in context.match_subject_alt_names.iter().enumerate() {
        let Some(matcher) = StringMatcher::from_proto(&at_old.index(index), matcher) else {
            continue;
        };
        for san_type in [SanType::Dns, SanType::Uri, SanType::Email, SanType::IpAddress] {
            old.push(SubjectAltNameMatcher { san_type, matcher: matcher.clone() });
        }
    }
    old
}

/// 64 digits, or 32 pairs with colons.
fn hex(at: &At<'_>, text: &str) -> Option<Sha256> {
    let digits = match text.len() {
        95 if text.split(':').all(|pair| pair.len() == 2) => text.replace(':', ""),
        _ => text.to_owned(),
    };
    let is_hex = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex {
        at.error_hint(
            format!("invalid hex-encoded SHA-256 `{text}`"),
            "`openssl x509 -in CERT -outform DER | sha256sum` prints one",
        );
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16).unwrap_or(0);
        *byte = u8::try_from(digit(pair[0]) << 4 | digit(pair[1])).unwrap_or(0);
    }
    Some(hash)
}

fn base64(at: &At<'_>, text: &str) -> Option<Sha256> {
    let decoded = base64::engine::general_purpose::STANDARD.decode(text).ok();
    let hash = decoded.and_then(|bytes| Sha256::try_from(bytes).ok());
    if hash.is_none() {
        at.error_hint(
            format!("invalid base64-encoded SHA-256 `{text}`"),
            "`openssl x509 -in CERT -noout -pubkey | openssl pkey -pubin -outform DER | openssl \
             dgst -sha256 -binary | base64` prints one",
        );
    }
    hash
}

impl SpiffeValidator {
    fn from_proto(
        at: &At<'_>,
        any: &envoy_types::pb::google::protobuf::Any,
    ) -> Option<SpiffeValidator> {
        let config: pb::SpiffeCertValidatorConfig = at.unpack(any, SPIFFE)?;
        let at_domains = at.field("trust_domains");
        let mut trust_domains: Vec<SpiffeTrustDomain> = Vec::new();
        for (index, domain) in config.trust_domains.iter().enumerate() {
            let at = at_domains.index(index);
            if domain.trust_bundle.is_none() {
                at.missing("trust_bundle", Some("PEM with the authorities of the trust domain"));
            }
            if trust_domains.iter().any(|earlier| earlier.name == domain.name) {
                let reason = format!("multiple trust bundles for the domain `{}`", domain.name);
                at.field("name").error(reason);
            }
            let bundle =
                TlsSource::from_proto(&at.field("trust_bundle"), domain.trust_bundle.as_ref());
            let name = domain.name.clone();
            trust_domains
                .extend(bundle.map(|trust_bundle| SpiffeTrustDomain { name, trust_bundle }));
        }
        Some(SpiffeValidator { trust_domains })
    }
}
