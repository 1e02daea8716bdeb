//! Versions, cipher suites and curves (`TlsParameters`), by BoringSSL's names as in Envoy.
//!
//! What it leaves to others: which of them a library implements (`transport`).

use crate::config::convert::At;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use pb::tls_parameters::TlsProtocol;

/// A version of TLS that is safe to speak.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TlsVersion {
    /// `TLSv1_2`
    Tls12,
    /// `TLSv1_3`
    Tls13,
}

/// A cipher suite of TLS 1.2; those of TLS 1.3 cannot be chosen, as in Envoy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "they are BoringSSL's names in another spelling")]
pub enum CipherSuite {
    EcdheEcdsaAes128GcmSha256,
    EcdheEcdsaAes256GcmSha384,
    EcdheEcdsaChacha20Poly1305,
    EcdheRsaAes128GcmSha256,
    EcdheRsaAes256GcmSha384,
    EcdheRsaChacha20Poly1305,
}

const CIPHER_SUITES: &[(&str, CipherSuite)] = &[
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::EcdheEcdsaAes128GcmSha256),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::EcdheEcdsaAes256GcmSha384),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::EcdheEcdsaChacha20Poly1305),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::EcdheRsaAes128GcmSha256),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::EcdheRsaAes256GcmSha384),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::EcdheRsaChacha20Poly1305),
];

/// A group for key exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "they are BoringSSL's names in another spelling")]
pub enum Curve {
    X25519MlKem768,
    X25519,
    P256,
    P384,
}

const CURVES: &[(&str, Curve)] = &[
    ("X25519MLKEM768", Curve::X25519MlKem768),
    ("X25519", Curve::X25519),
    ("P-256", Curve::P256),
    ("P-384", Curve::P384),
    // OpenSSL's names for the same.
    ("x25519", Curve::X25519),
    ("prime256v1", Curve::P256),
    ("secp384r1", Curve::P384),
];

/// `TlsParameters`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsParameters {
    /// `tls_minimum_protocol_version`, default TLS 1.2.
    pub minimum_version: TlsVersion,
    /// `tls_maximum_protocol_version`, default TLS 1.2 for clients and 1.3 for servers.
    pub maximum_version: TlsVersion,
    /// `cipher_suites` in the order of preference; empty: the default.
    pub cipher_suites: Vec<CipherSuite>,
    /// `ecdh_curves` in the order of preference; empty: the default.
    pub curves: Vec<Curve>,
}

impl TlsParameters {
    /// What an absent message means for a server.
    #[must_use]
    pub fn of_server() -> TlsParameters {
        TlsParameters {
            minimum_version: TlsVersion::Tls12,
            maximum_version: TlsVersion::Tls13,
            cipher_suites: Vec::new(),
            curves: Vec::new(),
        }
    }

    /// What an absent message means for a client.
    #[must_use]
    pub fn of_client() -> TlsParameters {
        TlsParameters { maximum_version: TlsVersion::Tls12, ..TlsParameters::of_server() }
    }

    /// Converts a message; `default` is of which side it is.
    pub(super) fn from_proto(
        at: &At<'_>,
        parameters: Option<&pb::TlsParameters>,
        default: TlsParameters,
    ) -> TlsParameters {
        let Some(parameters) = parameters else { return default };
        let at_max = at.field("tls_maximum_protocol_version");
        let minimum = version(
            &at.field("tls_minimum_protocol_version"),
            parameters.tls_minimum_protocol_version(),
        );
        let maximum = version(&at_max, parameters.tls_maximum_protocol_version());
        let minimum_version = minimum.unwrap_or(default.minimum_version);
        let maximum_version = maximum.unwrap_or(default.maximum_version);
        if minimum_version > maximum_version {
            at_max.error_hint(
                "the maximum version is below the minimum version",
                "a client's maximum is TLS 1.2 unless it is set",
            );
        }
        let at_suites = at.field("cipher_suites");
        let mut cipher_suites = Vec::new();
        for (index, names) in parameters.cipher_suites.iter().enumerate() {
            for name in group(names) {
                let known = find(&at_suites.index(index), "cipher suite", name, CIPHER_SUITES);
                cipher_suites.extend(known);
            }
        }
        let at_curves = at.field("ecdh_curves");
        let mut curves = Vec::new();
        for (index, names) in parameters.ecdh_curves.iter().enumerate() {
            for name in names.split(':') {
                curves.extend(find(&at_curves.index(index), "curve", name, CURVES));
            }
        }
        TlsParameters { minimum_version, maximum_version, cipher_suites, curves }
    }
}

/// `[A|B]` are equally preferred: the client's order decides between them.
fn group(names: &str) -> impl Iterator<Item = &str> {
    let inside = names.strip_prefix('[').and_then(|names| names.strip_suffix(']'));
    let separator = if inside.is_some() { '|' } else { ':' };
    inside.unwrap_or(names).split(separator)
}

fn find<T: Copy>(at: &At<'_>, what: &str, name: &str, known: &[(&str, T)]) -> Option<T> {
    let found = known.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    if found.is_none() {
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        let hint = format!("there are {}", names.join(", "));
        at.error_hint(format!("`{name}` is not a {what} that is implemented"), hint);
    }
    found
}

/// `None`: the default.
fn version(at: &At<'_>, version: TlsProtocol) -> Option<TlsVersion> {
    match version {
        TlsProtocol::TlsAuto => None,
        TlsProtocol::TlSv12 => Some(TlsVersion::Tls12),
        TlsProtocol::TlSv13 => Some(TlsVersion::Tls13),
        TlsProtocol::TlSv10 | TlsProtocol::TlSv11 => {
            let hint = "TLS 1.0 and 1.1 are not secure (RFC 8996); TLSv1_2 is the lowest";
            at.error_hint("this version is not implemented", hint);
            None
        }
    }
}
