//! Whether a certificate leads to an authority that is trusted.
//!
//! What it leaves to others: names and pins (`verifier`), the time.

use super::certificate::CertificateInfo;
use super::error::TlsError;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::time::Duration;
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Which side a certificate is of: what its extended key usage has to allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Usage {
    /// A server's.
    Server,
    /// A client's.
    Client,
}

/// How strictly chains are looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChainRules {
    pub allow_expired: bool,
    pub only_leaf_crl: bool,
    pub max_depth: u32,
}

/// Authorities and their revocation lists.
#[derive(Debug)]
pub(super) struct Trust {
    pub certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    crls: Vec<CertRevocationList<'static>>,
}

impl Trust {
    /// Of PEM, in which revocation lists may stand too.
    pub fn of(pem: &[u8], place: &str) -> Result<Trust, TlsError> {
        let mut trust = Trust { certificates: Vec::new(), anchors: Vec::new(), crls: Vec::new() };
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let (kind, der) = section.map_err(|error| not_pem(place, &error))?;
            match kind {
                SectionKind::Certificate => trust.add_authority(der, place)?,
                SectionKind::Crl => trust.add_crl(&der, place)?,
                _ => {}
            }
        }
        if trust.certificates.is_empty() {
            let hint = "PEM with one or more `-----BEGIN CERTIFICATE-----`";
            return Err(TlsError::new(place, "there is no certificate in it").hint(hint));
        }
        Ok(trust)
    }

    fn add_authority(&mut self, der: Vec<u8>, place: &str) -> Result<(), TlsError> {
        let certificate = CertificateDer::from(der);
        let number = self.certificates.len() + 1;
        let anchor = webpki::anchor_from_trusted_cert(&certificate).map_err(|error| {
            TlsError::new(place, format!("certificate {number} cannot be used: {error}"))
        })?;
        self.anchors.push(anchor.to_owned());
        self.certificates.push(certificate);
        Ok(())
    }

    fn add_crl(&mut self, der: &[u8], place: &str) -> Result<(), TlsError> {
        let list = OwnedCertRevocationList::from_der(der).map_err(|error| {
            TlsError::new(place, format!("the revocation list cannot be used: {error}"))
        })?;
        self.crls.push(list.into());
        Ok(())
    }

    /// Adds the revocation lists of `crl`.
    pub fn revoke(&mut self, pem: &[u8], place: &str) -> Result<(), TlsError> {
        let before = self.crls.len();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let (kind, der) = section.map_err(|error| not_pem(place, &error))?;
            if kind == SectionKind::Crl {
                self.add_crl(&der, place)?;
            }
        }
        if self.crls.len() == before {
            let hint = "PEM with `-----BEGIN X509 CRL-----`";
            return Err(TlsError::new(place, "there is no revocation list in it").hint(hint));
        }
        Ok(())
    }

    /// Whether a certificate leads to one of the authorities.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: Usage,
        rules: ChainRules,
        now: UnixTime,
    ) -> Result<(), Error> {
        let at = |time| self.verify_at(leaf, intermediates, usage, rules, time);
        let result = at(now);
        if !rules.allow_expired || !matches!(result, Err(ref error) if is_of_time(error)) {
            return result;
        }
        // A moment when all of the chain was valid is the begin or the end of one of its parts.
        let parts = std::iter::once(leaf).chain(intermediates).take(8);
        let moments = parts.filter_map(|der| CertificateInfo::of(der, "")).flat_map(|info| {
            [info.not_after, info.not_before].map(|s| u64::try_from(s).unwrap_or(0))
        });
        let mut times = moments.map(|s| UnixTime::since_unix_epoch(Duration::from_secs(s)));
        if times.any(|time| at(time).is_ok()) { Ok(()) } else { result }
    }

    fn verify_at(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: Usage,
        rules: ChainRules,
        time: UnixTime,
    ) -> Result<(), Error> {
        if self.crls.is_empty() && self.certificates.iter().any(|one| one == leaf) {
            return verify_pinned(leaf, usage, time);
        }
        let crls: Vec<_> = self.crls.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&crls).ok().map(|options| {
            let depth = match rules.only_leaf_crl {
                true => RevocationCheckDepth::EndEntity,
                false => RevocationCheckDepth::Chain,
            };
            let options = options.with_depth(depth);
            let options = options.with_status_policy(UnknownStatusPolicy::Deny);
            options.with_expiration_policy(ExpirationPolicy::Enforce).build()
        });
        // The anchor counts, as in Envoy: with 1 and, by its mistake, with 0 nothing is between.
        let between_max = rules.max_depth.saturating_sub(1) as usize;
        let within_depth = |path: &VerifiedPath<'_>| match path.intermediate_certificates().count()
            <= between_max
        {
            true => Ok(()),
            false => Err(Error::MaximumPathDepthExceeded),
        };
        let usage = match usage {
            Usage::Server => KeyUsage::server_auth(),
            Usage::Client => KeyUsage::client_auth(),
        };
        EndEntityCert::try_from(leaf)?
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &self.anchors,
                intermediates,
                time,
                usage,
                revocation,
                Some(&within_depth),
            )
            .map(|_| ())
    }
}

/// A certificate that is trusted itself, as BoringSSL takes it with X509_V_FLAG_PARTIAL_CHAIN; what
/// `openssl req -x509` makes is that, and an authority at once.
fn verify_pinned(leaf: &CertificateDer<'_>, usage: Usage, time: UnixTime) -> Result<(), Error> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| Error::BadDer)?;
    let moment = |seconds: i64| {
        let seconds = u64::try_from(seconds).unwrap_or(0);
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    };
    let not_before = moment(parsed.validity().not_before.timestamp());
    let not_after = moment(parsed.validity().not_after.timestamp());
    if time < not_before {
        return Err(Error::CertNotValidYet { time, not_before });
    }
    if time > not_after {
        return Err(Error::CertExpired { time, not_after });
    }
    match parsed.extended_key_usage() {
        Ok(None) => Ok(()),
        Ok(Some(allowed)) => {
            let allowed = allowed.value;
            let is_allowed = allowed.any
                || match usage {
                    Usage::Server => allowed.server_auth,
                    Usage::Client => allowed.client_auth,
                };
            if is_allowed { Ok(()) } else { Err(Error::UnsupportedCriticalExtension) }
        }
        Err(_) => Err(Error::BadDer),
    }
}

fn is_of_time(error: &Error) -> bool {
    matches!(error, Error::CertExpired { .. } | Error::CertNotValidYet { .. })
}

pub(super) fn not_pem(place: &str, error: &rustls::pki_types::pem::Error) -> TlsError {
    TlsError::new(place, format!("it is not PEM: {error}"))
        .hint("DER is made PEM by `openssl x509 -inform DER -in FILE`")
}
