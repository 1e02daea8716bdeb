//! Operators of TLS: what the handshake of a connection came to.
//!
//! What it leaves to others: when these facts are made (`proxy`).

use super::iso_8601_ms;
use super::measured::Measured;
use crate::transport::{CertificateFacts, ConnectionFacts, SubjectAltName};

/// What of a connection's TLS, by the rest of an operator's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TlsPart {
    Version,
    Cipher,
    Group,
    Peer(CertificatePart),
    Local(CertificatePart),
    ChainFingerprints256,
    ChainFingerprints1,
    ChainSerials,
}

/// What of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CertificatePart {
    Subject,
    Issuer,
    Uris,
    DnsNames,
    Addresses,
    Emails,
    OtherNames,
    Fingerprint256,
    Fingerprint1,
    Serial,
    Pem,
    Start,
    End,
}

/// Operators of both sides, without `DOWNSTREAM_` or `UPSTREAM_`; whether upstream has it.
const NAMES: &[(&str, TlsPart, bool)] = {
    use CertificatePart as Part;
    use TlsPart::{Local, Peer};
    &[
        ("TLS_VERSION", TlsPart::Version, true),
        ("TLS_CIPHER", TlsPart::Cipher, true),
        ("TLS_GROUP", TlsPart::Group, true),
        ("PEER_SUBJECT", Peer(Part::Subject), true),
        ("PEER_ISSUER", Peer(Part::Issuer), true),
        ("PEER_URI_SAN", Peer(Part::Uris), true),
        ("PEER_DNS_SAN", Peer(Part::DnsNames), true),
        ("PEER_IP_SAN", Peer(Part::Addresses), true),
        ("PEER_EMAIL_SAN", Peer(Part::Emails), false),
        ("PEER_OTHERNAME_SAN", Peer(Part::OtherNames), false),
        ("PEER_FINGERPRINT_256", Peer(Part::Fingerprint256), false),
        ("PEER_FINGERPRINT_1", Peer(Part::Fingerprint1), false),
        ("PEER_SERIAL", Peer(Part::Serial), false),
        ("PEER_CERT", Peer(Part::Pem), true),
        ("PEER_CERT_V_START", Peer(Part::Start), true),
        ("PEER_CERT_V_END", Peer(Part::End), true),
        ("PEER_CHAIN_FINGERPRINTS_256", TlsPart::ChainFingerprints256, false),
        ("PEER_CHAIN_FINGERPRINTS_1", TlsPart::ChainFingerprints1, false),
        ("PEER_CHAIN_SERIALS", TlsPart::ChainSerials, false),
        ("LOCAL_SUBJECT", Local(Part::Subject), false),
        ("LOCAL_URI_SAN", Local(Part::Uris), true),
        ("LOCAL_DNS_SAN", Local(Part::DnsNames), true),
        ("LOCAL_IP_SAN", Local(Part::Addresses), true),
        ("LOCAL_EMAIL_SAN", Local(Part::Emails), false),
        ("LOCAL_OTHERNAME_SAN", Local(Part::OtherNames), false),
    ]
};

/// Whose TLS, and what of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TlsOperator {
    pub upstream: bool,
    pub part: TlsPart,
}

impl TlsOperator {
    /// By its name.
    pub fn parse(name: &str) -> Option<TlsOperator> {
        let (upstream, rest) = match name.strip_prefix("DOWNSTREAM_") {
            Some(rest) => (false, rest),
            None => (true, name.strip_prefix("UPSTREAM_")?),
        };
        let found = NAMES.iter().find(|(known, _, both)| *known == rest && (*both || !upstream));
        found.map(|(_, part, _)| TlsOperator { upstream, part: *part })
    }

    /// The value; `None` where there is none.
    pub fn text(self, measured: &Measured) -> Option<String> {
        let facts = match self.upstream {
            true => measured.upstream_tls.as_deref()?,
            false => measured.downstream_tls.as_deref()?,
        };
        let text = self.part.of(facts)?;
        (!text.is_empty()).then_some(text)
    }
}

impl TlsPart {
    fn of(self, facts: &ConnectionFacts) -> Option<String> {
        let of_chain = |part: fn(&CertificateFacts) -> String| {
            let parts: Vec<_> = facts.peer.iter().map(part).collect();
            Some(parts.join(","))
        };
        match self {
            TlsPart::Version => Some(facts.version.to_owned()),
            TlsPart::Cipher => Some(facts.cipher.to_owned()),
            TlsPart::Group => facts.group.map(str::to_owned),
            TlsPart::Peer(part) => Some(part.of(facts.peer.first()?)),
            TlsPart::Local(part) => Some(part.of(facts.local.as_ref()?)),
            TlsPart::ChainFingerprints256 => of_chain(CertificateFacts::fingerprint_256),
            TlsPart::ChainFingerprints1 => of_chain(CertificateFacts::fingerprint_1),
            TlsPart::ChainSerials => of_chain(|one| one.text().serial.clone()),
        }
    }
}

impl CertificatePart {
    fn of(self, certificate: &CertificateFacts) -> String {
        let text = certificate.text();
        let names = |choose: fn(&SubjectAltName) -> Option<String>| {
            text.names.iter().filter_map(choose).collect::<Vec<_>>().join(",")
        };
        let moment = |seconds: i64| iso_8601_ms(u64::try_from(seconds).unwrap_or(0) * 1_000_000);
        match self {
            CertificatePart::Subject => text.subject.clone(),
            CertificatePart::Issuer => text.issuer.clone(),
            CertificatePart::Serial => text.serial.clone(),
            CertificatePart::Uris => certificate.uris().collect::<Vec<_>>().join(","),
            CertificatePart::DnsNames => certificate.dns_names().collect::<Vec<_>>().join(","),
            CertificatePart::Addresses => names(|name| match name {
                SubjectAltName::Ip(address) => Some(address.to_string()),
                _ => None,
            }),
            CertificatePart::Emails => names(|name| match name {
                SubjectAltName::Email(address) => Some(address.clone()),
                _ => None,
            }),
            CertificatePart::OtherNames => names(|name| match name {
                SubjectAltName::OtherName(_, text) => Some(text.clone()),
                _ => None,
            }),
            CertificatePart::Fingerprint256 => certificate.fingerprint_256(),
            CertificatePart::Fingerprint1 => certificate.fingerprint_1(),
            CertificatePart::Pem => {
                let mut text = String::new();
                certificate.write_escaped_pem(&mut text);
                text
            }
            CertificatePart::Start => moment(text.not_before),
            CertificatePart::End => moment(text.not_after),
        }
    }
}
