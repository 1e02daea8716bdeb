//! What the handshake of a connection came to, for whoever writes of it: access logs, headers.
//!
//! Made once for a connection, and only where something configured asks; a certificate is read when
//! something of it is asked for.
//!
//! What it leaves to others: the operators' names (`access_log`), XFCC (`proxy`).

use super::Session;
use super::certificate::{SubjectAltName, names_of};
use super::digest::sha256;
use super::subject::write_name;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use rustls::pki_types::CertificateDer;
use std::fmt::Write as _;
use std::sync::OnceLock;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What the handshake of a connection came to.
#[derive(Debug)]
pub struct ConnectionFacts {
    /// `TLSv1.3`
    pub version: &'static str,
    /// In OpenSSL's words.
    pub cipher: &'static str,
    /// `X25519`; `None` where keys of an earlier connection are used.
    pub group: Option<&'static str>,
    /// The peer's certificate, and those that it sent with it.
    pub peer: Vec<CertificateFacts>,
    /// What was shown to the peer, if that is known.
    pub local: Option<CertificateFacts>,
}

/// A certificate, and what it says.
#[derive(Debug)]
pub struct CertificateFacts {
    der: CertificateDer<'static>,
    text: OnceLock<CertificateText>,
}

/// What a certificate says, as texts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CertificateText {
    /// As RFC 2253 writes it.
    pub subject: String,
    /// The same of who signed it.
    pub issuer: String,
    /// In hexadecimal digits.
    pub serial: String,
    /// In seconds after 1970.
    pub not_before: i64,
    /// In seconds after 1970.
    pub not_after: i64,
    /// Its subject alternative names.
    pub names: Vec<SubjectAltName>,
}

impl ConnectionFacts {
    /// Of a session whose handshake is over.
    #[must_use]
    pub fn of(session: &Session, local: Option<CertificateDer<'static>>) -> ConnectionFacts {
        let peer = session.peer_certificates().iter().cloned().map(CertificateFacts::new);
        ConnectionFacts {
            version: session.version_name(),
            cipher: session.cipher_name(),
            group: session.group_name(),
            peer: peer.collect(),
            local: local.map(CertificateFacts::new),
        }
    }
}

impl CertificateFacts {
    /// Of its DER.
    #[must_use]
    pub fn new(der: CertificateDer<'static>) -> CertificateFacts {
        CertificateFacts { der, text: OnceLock::new() }
    }

    /// What it says.
    pub fn text(&self) -> &CertificateText {
        self.text.get_or_init(|| CertificateText::of(&self.der).unwrap_or_default())
    }

    /// SHA-256 of it, in hexadecimal digits.
    #[must_use]
    pub fn fingerprint_256(&self) -> String {
        hexadecimal(&sha256(&self.der))
    }

    /// SHA-1 of it, in hexadecimal digits.
    #[must_use]
    pub fn fingerprint_1(&self) -> String {
        hexadecimal(digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.der).as_ref())
    }

    /// It as PEM whose special characters are escaped as in URLs, behind `out`.
    pub fn write_escaped_pem(&self, out: &mut String) {
        out.push_str("-----BEGIN%20CERTIFICATE-----%0A");
        let encoded = base64::engine::general_purpose::STANDARD.encode(&self.der);
        for (place, character) in encoded.char_indices() {
            if place > 0 && place % 64 == 0 {
                out.push_str("%0A");
            }
            match character {
                '+' => out.push_str("%2B"),
                '/' => out.push_str("%2F"),
                '=' => out.push_str("%3D"),
                other => out.push(other),
            }
        }
        out.push_str("%0A-----END%20CERTIFICATE-----%0A");
    }

    /// Its URIs.
    pub fn uris(&self) -> impl Iterator<Item = &str> {
        self.text().names.iter().filter_map(|name| match name {
            SubjectAltName::Uri(uri) => Some(uri.as_str()),
            _ => None,
        })
    }

    /// Its DNS names.
    pub fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.text().names.iter().filter_map(|name| match name {
            SubjectAltName::Dns(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

impl CertificateText {
    fn of(der: &CertificateDer<'_>) -> Option<CertificateText> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let digits = hexadecimal(parsed.raw_serial());
        let serial = digits.strip_prefix("00").filter(|rest| !rest.is_empty()).unwrap_or(&digits);
        Some(CertificateText {
            subject: write_name(parsed.subject()),
            issuer: write_name(parsed.issuer()),
            serial: serial.to_owned(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            names: names_of(der),
        })
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
