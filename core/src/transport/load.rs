//! A certificate chain and its key from PEM, ready to be shown.
//!
//! What it leaves to others: choosing one (`resolver`).

use super::certificate::{CertificateInfo, public_key_of};
use super::chain::not_pem;
use super::error::TlsError;
use super::material::CertificateMaterial;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// A certificate chain with its key, and what it says.
pub(super) struct Loaded {
    pub key: Arc<CertifiedKey>,
    pub chain: Vec<CertificateInfo>,
}

impl Loaded {
    /// Of PEM.
    pub fn of(
        material: &CertificateMaterial,
        provider: &CryptoProvider,
    ) -> Result<Loaded, TlsError> {
        let place = |field: &str| format!("{}.{field}", material.config.place);
        let (of_chain, of_key) = (&material.config.certificate_chain, &material.config.private_key);
        let certificates = certificates(&material.chain.0, &place("certificate_chain"))
            .map_err(|error| error.within(of_chain))?;
        let key = private_key(&material.key.0, &place("private_key"))
            .map_err(|error| error.within(of_key))?;
        let path = of_chain.path();
        let mut chain = Vec::new();
        for (index, der) in certificates.iter().enumerate() {
            chain.push(CertificateInfo::of(der, path).ok_or_else(|| {
                let reason = format!("certificate {} is not well-formed", index + 1);
                TlsError::new(place("certificate_chain"), reason).within(of_chain)
            })?);
        }
        let key = provider.key_provider.load_private_key(key).map_err(|error| {
            let reason = format!("the private key cannot be used: {error}");
            TlsError::new(place("private_key"), reason)
                .within(of_key)
                .hint("RSA of 2048 to 8192 bits, ECDSA of P-256, P-384 or P-521, or Ed25519")
        })?;
        if let Some(public) = key.public_key() {
            let matches = |der: &CertificateDer<'_>| {
                public_key_of(der).is_some_and(|theirs| theirs == public.as_ref())
            };
            if !certificates.first().is_some_and(matches) {
                let hint = match certificates.iter().any(matches) {
                    true => {
                        "it matches a later one: the server's own certificate comes first, its \
                             issuers follow"
                    }
                    false => {
                        "`openssl x509 -in CERT -noout -pubkey` and `openssl pkey -in KEY \
                              -pubout` have to print the same"
                    }
                };
                let reason = "the private key does not match the certificate";
                let error = TlsError::new(place("private_key"), reason).within(of_key);
                return Err(error.hint(hint));
            }
        }
        Ok(Loaded { key: Arc::new(CertifiedKey::new(certificates, key)), chain })
    }
}

fn certificates(pem: &[u8], place: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|error| not_pem(place, &error))?;
    if certificates.is_empty() {
        let hint = "PEM with `-----BEGIN CERTIFICATE-----`, the server's own first, then its \
                    issuers";
        return Err(TlsError::new(place, "there is no certificate in it").hint(hint));
    }
    Ok(certificates)
}

fn private_key(pem: &[u8], place: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    let has = |text: &str| memchr::memmem::find(pem, text.as_bytes()).is_some();
    if has("BEGIN ENCRYPTED PRIVATE KEY") || has("Proc-Type: 4,ENCRYPTED") {
        let hint = "decrypt it: `openssl pkey -in KEY -out DECRYPTED`";
        return Err(TlsError::new(place, "the private key is encrypted").hint(hint));
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            TlsError::new(place, "there is no private key in it")
                .hint("PEM with `-----BEGIN PRIVATE KEY-----`")
        }
        error => not_pem(place, &error),
    })
}
