//! Versions, cipher suites and curves in rustls's types.
//!
//! What it leaves to others: their names (`config`).

use crate::config::tls::{CipherSuite, Curve, TlsParameters, TlsVersion};
use rustls::crypto::aws_lc_rs::{cipher_suite as suites, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};
use std::sync::Arc;

/// Those of TLS 1.3 cannot be chosen, as in Envoy.
const TLS13: [SupportedCipherSuite; 3] = [
    suites::TLS13_AES_128_GCM_SHA256,
    suites::TLS13_AES_256_GCM_SHA384,
    suites::TLS13_CHACHA20_POLY1305_SHA256,
];

/// Envoy's default, in its order.
const DEFAULT_TLS12: [CipherSuite; 6] = [
    CipherSuite::EcdheEcdsaAes128GcmSha256,
    CipherSuite::EcdheEcdsaChacha20Poly1305,
    CipherSuite::EcdheRsaAes128GcmSha256,
    CipherSuite::EcdheRsaChacha20Poly1305,
    CipherSuite::EcdheEcdsaAes256GcmSha384,
    CipherSuite::EcdheRsaAes256GcmSha384,
];

/// Envoy's default.
const DEFAULT_CURVES: [Curve; 2] = [Curve::X25519, Curve::P256];

/// The cryptography of these parameters.
pub(super) fn provider(parameters: &TlsParameters) -> Arc<CryptoProvider> {
    let chosen = match parameters.cipher_suites.as_slice() {
        [] => &DEFAULT_TLS12[..],
        chosen => chosen,
    };
    let curves = match parameters.curves.as_slice() {
        [] => &DEFAULT_CURVES[..],
        chosen => chosen,
    };
    Arc::new(CryptoProvider {
        cipher_suites: TLS13.into_iter().chain(chosen.iter().map(suite)).collect(),
        kx_groups: curves.iter().map(group).collect(),
        ..default_provider()
    })
}

/// The versions of these parameters.
pub(super) fn versions(parameters: &TlsParameters) -> Vec<&'static SupportedProtocolVersion> {
    let range = parameters.minimum_version..=parameters.maximum_version;
    let all = [(TlsVersion::Tls12, &version::TLS12), (TlsVersion::Tls13, &version::TLS13)];
    all.into_iter().filter(|(it, _)| range.contains(it)).map(|(_, version)| version).collect()
}

fn suite(suite: &CipherSuite) -> SupportedCipherSuite {
    match suite {
        CipherSuite::EcdheEcdsaAes128GcmSha256 => suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdheEcdsaAes256GcmSha384 => suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdheEcdsaChacha20Poly1305 => {
            suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        }
        CipherSuite::EcdheRsaAes128GcmSha256 => suites::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdheRsaAes256GcmSha384 => suites::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdheRsaChacha20Poly1305 => {
            suites::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        }
    }
}

fn group(curve: &Curve) -> &'static dyn SupportedKxGroup {
    match curve {
        Curve::X25519MlKem768 => kx_group::X25519MLKEM768,
        Curve::X25519 => kx_group::X25519,
        Curve::P256 => kx_group::SECP256R1,
        Curve::P384 => kx_group::SECP384R1,
    }
}
