//! What a certificate says, for those who look at it.
//!
//! What it leaves to others: verifying it (`verifier`).

use rustls::pki_types::CertificateDer;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use x509_parser::asn1_rs::{Any, FromDer as _, Tag};
use x509_parser::prelude::{GeneralName, X509Certificate};

/// What a certificate says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateInfo {
    /// Where it was read: a path, or `<inline>`.
    pub path: String,
    /// The serial number in hexadecimal digits.
    pub serial_number: String,
    /// Its subject alternative names, without those that are not well-formed.
    pub subject_alt_names: Vec<SubjectAltName>,
    /// The common name of its subject.
    pub common_name: Option<String>,
    /// In seconds after 1970.
    pub not_before: i64,
    /// In seconds after 1970.
    pub not_after: i64,
}

/// A subject alternative name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SubjectAltName {
    /// `dNSName`
    Dns(String),
    /// `uniformResourceIdentifier`
    Uri(String),
    /// `rfc822Name`
    Email(String),
    /// `iPAddress`
    Ip(IpAddr),
    /// `otherName`: object identifier and text.
    OtherName(String, String),
}

impl CertificateInfo {
    /// What a certificate says; `None` if it is none.
    #[must_use]
    pub fn of(der: &CertificateDer<'_>, path: &str) -> Option<CertificateInfo> {
        let (rest, parsed) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let digits: String = parsed.raw_serial().iter().map(|b| format!("{b:02x}")).collect();
        let serial = digits.trim_start_matches("00");
        let mut common_names = parsed.subject().iter_common_name();
        Some(CertificateInfo {
            path: path.to_owned(),
            serial_number: if serial.is_empty() { "00" } else { serial }.to_owned(),
            subject_alt_names: subject_alt_names(&parsed),
            common_name: common_names.next().and_then(|name| name.as_str().ok()).map(str::to_owned),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
        })
    }

    /// The DNS names, or else the common name.
    pub fn server_names(&self) -> impl Iterator<Item = &str> {
        let dns = self.subject_alt_names.iter().filter_map(|name| match name {
            SubjectAltName::Dns(name) => Some(name.as_str()),
            _ => None,
        });
        let has_dns = dns.clone().next().is_some();
        dns.chain(self.common_name.as_deref().filter(move |_| !has_dns))
    }
}

/// Of a certificate's DER; none where it is not well-formed.
pub(super) fn names_of(der: &CertificateDer<'_>) -> Vec<SubjectAltName> {
    match X509Certificate::from_der(der) {
        Ok((_, parsed)) => subject_alt_names(&parsed),
        Err(_) => Vec::new(),
    }
}

/// The public key of a certificate, as DER of a `SubjectPublicKeyInfo`.
pub(super) fn public_key_of(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some(parsed.public_key().raw.to_vec())
}

/// Whether it may sign handshakes: by its key usage, if it says one (RFC 8446, section 4.4.2.2).
pub(super) fn may_sign(der: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(der) else { return false };
    let usage = parsed.key_usage();
    usage.is_ok_and(|usage| usage.is_none_or(|usage| usage.value.digital_signature()))
}

fn subject_alt_names(parsed: &X509Certificate<'_>) -> Vec<SubjectAltName> {
    // An extension that is there twice is an error, and a certificate without names.
    let Ok(Some(extension)) = parsed.subject_alternative_name() else { return Vec::new() };
    extension.value.general_names.iter().filter_map(name_of).collect()
}

/// `None`: not well-formed, or of a type that nothing asks for. A NUL in a name would end it early
/// for whoever reads it as a C string (CVE-2026-47778), so nothing but printable ASCII counts.
fn name_of(name: &GeneralName<'_>) -> Option<SubjectAltName> {
    let printable = |text: &str| {
        let is_printable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_printable.then(|| text.to_owned())
    };
    match name {
        GeneralName::DNSName(text) => printable(text).map(SubjectAltName::Dns),
        GeneralName::URI(text) => printable(text).map(SubjectAltName::Uri),
        GeneralName::RFC822Name(text) => printable(text).map(SubjectAltName::Email),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|octets| Ipv4Addr::from(octets).into());
            let v6 = || <[u8; 16]>::try_from(*bytes).map(|octets| Ipv6Addr::from(octets).into());
            v4.or_else(|_| v6()).ok().map(SubjectAltName::Ip)
        }
        GeneralName::OtherName(oid, value) => {
            Some(SubjectAltName::OtherName(oid.to_id_string(), text_of(value)?))
        }
        _ => None,
    }
}

/// The text in an `otherName`, whose value stands in a context tag.
fn text_of(value: &[u8]) -> Option<String> {
    let (rest, mut any) = Any::from_der(value).ok()?;
    if any.class() == x509_parser::asn1_rs::Class::ContextSpecific {
        let (inner_rest, inner) = Any::from_der(any.data).ok()?;
        if !inner_rest.is_empty() {
            return None;
        }
        any = inner;
    }
    let is_text = [Tag::Utf8String, Tag::Ia5String, Tag::PrintableString, Tag::VisibleString]
        .contains(&any.tag());
    let text = std::str::from_utf8(any.data).ok()?;
    let is_well_formed = rest.is_empty() && !text.chars().any(char::is_control);
    (is_text && is_well_formed).then(|| text.to_owned())
}
