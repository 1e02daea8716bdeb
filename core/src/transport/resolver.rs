//! Which certificate a client gets, as Envoy chooses: by the server name that the client asks for,
//! then by the kinds of keys that it can verify.
//!
//! What it leaves to others: loading them (`server`).

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

/// Certificates in the order of the configuration.
#[derive(Debug)]
pub(super) struct CertificateResolver {
    certificates: Vec<Certificate>,
    /// Places by lower-case name; `*.example.com` by `.example.com`.
    names: HashMap<String, Vec<usize>>,
    full_scan: bool,
    /// `require_sni`: nothing is there for who asks for no name, which ends the handshake.
    require_sni: bool,
}

#[derive(Debug)]
struct Certificate {
    key: Arc<CertifiedKey>,
    is_ecdsa: bool,
}

impl CertificateResolver {
    pub fn new(
        certificates: impl IntoIterator<Item = (Arc<CertifiedKey>, Vec<String>)>,
        full_scan: bool,
        require_sni: bool,
    ) -> CertificateResolver {
        let mut resolver = CertificateResolver {
            certificates: Vec::new(),
            names: HashMap::new(),
            full_scan,
            require_sni,
        };
        for (key, names) in certificates {
            let place = resolver.certificates.len();
            for name in names {
                let name = name.to_ascii_lowercase();
                let name = name.strip_prefix('*').map_or(name.clone(), str::to_owned);
                resolver.names.entry(name).or_default().push(place);
            }
            let is_ecdsa = key.key.algorithm() == rustls::SignatureAlgorithm::ECDSA;
            resolver.certificates.push(Certificate { key, is_ecdsa });
        }
        resolver
    }

    /// The certificate for a server name and what the client can verify.
    fn choose(
        &self,
        server_name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let all: Vec<usize> = (0..self.certificates.len()).collect();
        let first = all.first().copied();
        let place = match server_name {
            None if self.require_sni => None,
            None => self.best(&all, schemes).or(first),
            Some(name) => match self.named(name) {
                Some(places) => self.best(places, schemes).or_else(|| places.first().copied()),
                None if self.full_scan => self.best(&all, schemes).or(first),
                None => first,
            },
        };
        place.map(|place| self.certificates[place].key.clone())
    }

    fn named(&self, name: &str) -> Option<&[usize]> {
        let name = name.to_ascii_lowercase();
        let exact = self.names.get(&name);
        let wildcard = || self.names.get(&name[name.find('.')?..]);
        exact.or_else(wildcard).map(Vec::as_slice)
    }

    /// An ECDSA one if the client can verify it, or else the first that it can verify.
    fn best(&self, places: &[usize], schemes: &[SignatureScheme]) -> Option<usize> {
        let usable =
            |place: &&usize| self.certificates[**place].key.key.choose_scheme(schemes).is_some();
        let mut usables = places.iter().filter(usable);
        let is_ecdsa = |place: &&usize| self.certificates[**place].is_ecdsa;
        usables.clone().find(is_ecdsa).or_else(|| usables.next()).copied()
    }
}

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}
