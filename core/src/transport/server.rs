//! What a listener's handshakes are made with.
//!
//! What it leaves to others: the handshakes (`shard`).

use super::certificate::CertificateInfo;
use super::chain::Usage;
use super::digest::Digest;
use super::error::TlsError;
use super::load::Loaded;
use super::material::ServerMaterial;
use super::parameters::{provider, versions};
use super::resolver::CertificateResolver;
use super::sessions::TimedSessions;
use super::tickets::{TicketKeys, Tickets, given_keys};
use super::verifier::{ClientVerifier, Verifier, algorithms};
use crate::config::tls::{Sha256, StatelessResumption};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{NoServerSessionStorage, danger::ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, DistinguishedName, ServerConfig};
use std::sync::Arc;

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientCertificates {
    /// No.
    NotRequested,
    /// Yes; without one the handshake goes on.
    Requested,
    /// Yes; without one the handshake fails.
    Required,
}

/// What a listener's handshakes are made with. It does not change: a rotated certificate makes
/// another one.
#[derive(Debug)]
pub struct ServerContext {
    /// For `rustls::ServerConnection::new`.
    pub config: Arc<ServerConfig>,
    /// The same for clients that offer other protocols than ours: nothing is agreed on, where
    /// rustls would refuse them.
    without_alpn: Option<Arc<ServerConfig>>,
    /// What was asked for, and what its files held.
    pub material: ServerMaterial,
    /// Whether clients are asked for a certificate.
    pub client_certificates: ClientCertificates,
    /// Its certificates, each with its chain, for `/certs` and stats.
    pub certificates: Vec<Vec<CertificateInfo>>,
    /// The authorities that it trusts, for `/certs`.
    pub authorities: Vec<CertificateInfo>,
    /// What its clients see, where that is the same for all of them.
    pub shown: Option<CertificateDer<'static>>,
    verifier: Option<Arc<Verifier>>,
}

impl ServerContext {
    /// Builds a context.
    ///
    /// # Errors
    ///
    /// What of the material cannot be used, and what to do.
    pub fn build(
        material: ServerMaterial,
        tickets: &Arc<TicketKeys>,
        time: Arc<dyn TimeProvider>,
    ) -> Result<Arc<ServerContext>, TlsError> {
        let config = material.config.clone();
        let provider = provider(&config.common.parameters);
        let mut loaded = Vec::new();
        for certificate in &material.certificates {
            loaded.push(Loaded::of(certificate, &provider)?);
        }
        let verifier = match &material.validation {
            Some(validation) => Some(Arc::new(Verifier::of(validation)?)),
            None => None,
        };
        let client_certificates = match config.require_client_certificate {
            true => ClientCertificates::Required,
            false if verifier.as_ref().is_some_and(|one| one.asks()) => {
                ClientCertificates::Requested
            }
            false => ClientCertificates::NotRequested,
        };
        let builder = ServerConfig::builder_with_details(provider.clone(), time.clone())
            .with_protocol_versions(&versions(&config.common.parameters))
            .map_err(|error| {
                let place = format!("{}.tls_params", config.common.place);
                TlsError::new(place, error.to_string())
            })?;
        let builder = match client_certificates {
            ClientCertificates::NotRequested => builder.with_no_client_auth(),
            _ => builder.with_client_cert_verifier(client_verifier(
                &material,
                verifier.clone(),
                algorithms(&provider),
            )),
        };
        let keys = loaded.iter().map(|one| {
            let names = one.chain.first().into_iter().flat_map(CertificateInfo::server_names);
            (one.key.clone(), names.map(str::to_owned).collect())
        });
        let full_scan = config.full_scan_certs_on_sni_mismatch;
        let resolver = CertificateResolver::new(keys, full_scan, config.require_sni);
        let mut server = builder.with_cert_resolver(Arc::new(resolver));
        server.alpn_protocols.clone_from(&config.common.alpn_protocols);
        server.ignore_client_order = !config.prefer_client_ciphers;
        resumption(&mut server, &material, &loaded, tickets, &time)?;
        let path = material.validation.as_ref().and_then(|one| one.config.trusted_ca.as_ref());
        let path = path.map_or("<inline>", |source| source.path());
        let authorities = verifier.iter().flat_map(|one| one.authorities());
        let authorities = authorities.filter_map(|der| CertificateInfo::of(der, path)).collect();
        let without_alpn = (!server.alpn_protocols.is_empty()).then(|| {
            let mut without = server.clone();
            without.alpn_protocols = Vec::new();
            Arc::new(without)
        });
        Ok(Arc::new(ServerContext {
            config: Arc::new(server),
            without_alpn,
            client_certificates,
            shown: match loaded.as_slice() {
                [one] => one.key.cert.first().cloned(),
                _ => None,
            },
            certificates: loaded.into_iter().map(|one| one.chain).collect(),
            authorities,
            verifier,
            material,
        }))
    }

    /// Whether a handshake depends on what the client offers.
    pub(super) fn awaits_hello(&self) -> bool {
        self.without_alpn.is_some()
    }

    /// For a client that offers these protocols.
    pub(super) fn config_for(&self, offered: &[Vec<u8>]) -> &Arc<ServerConfig> {
        let is_ours = |name| self.config.alpn_protocols.contains(name);
        match &self.without_alpn {
            Some(without) if !offered.is_empty() && !offered.iter().any(is_ours) => without,
            _ => &self.config,
        }
    }

    /// Whether a client's certificates are what was asked for. A handshake looks at that itself; so
    /// this is for ACCEPT_UNTRUSTED, where it lets in whatever comes.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn verify(
        &self,
        certificates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), CertificateError> {
        let Some(verifier) = &self.verifier else { return Err(CertificateError::UnknownIssuer) };
        let Some((leaf, rest)) = certificates.split_first() else {
            return Err(CertificateError::UnknownIssuer);
        };
        verifier.verify(leaf, rest, Usage::Client, &[], now)
    }
}

fn client_verifier(
    material: &ServerMaterial,
    verifier: Option<Arc<Verifier>>,
    algorithms: rustls::crypto::WebPkiSupportedAlgorithms,
) -> Arc<dyn ClientCertVerifier> {
    let hides = material.validation.as_ref().is_some_and(|one| one.config.hide_authorities);
    let authorities = verifier.iter().flat_map(|one| one.authorities()).filter(|_| !hides);
    // What an authority is called is its subject.
    let anchors = authorities.filter_map(|der| webpki::anchor_from_trusted_cert(der).ok());
    let hints = anchors.map(|anchor| DistinguishedName::in_sequence(&anchor.subject)).collect();
    let is_required = material.config.require_client_certificate;
    Arc::new(ClientVerifier { verifier, hints, is_required, algorithms })
}

fn resumption(
    server: &mut ServerConfig,
    material: &ServerMaterial,
    loaded: &[Loaded],
    tickets: &Arc<TicketKeys>,
    time: &Arc<dyn TimeProvider>,
) -> Result<(), TlsError> {
    let config = &material.config;
    let lifetime_s = config.session_timeout.as_secs();
    let keys = match (&config.stateless, &material.ticket_keys) {
        (StatelessResumption::Disabled, _) => None,
        (_, Some(given)) => {
            let keys = given.iter().map(|bytes| &*bytes.0);
            Some(given_keys(keys, "session_ticket_keys.keys")?)
        }
        (_, None) => Some(tickets.clone()),
    };
    match keys.filter(|_| lifetime_s > 0) {
        Some(keys) => {
            // A client keeps a ticket for seven days at most (RFC 8446, section 4.6.1).
            let lifetime_s = u32::try_from(lifetime_s).unwrap_or(u32::MAX).min(604_800);
            let scope = scope(material, loaded);
            server.ticketer = Arc::new(Tickets::new(keys, scope, lifetime_s, time.clone()));
        }
        // Without tickets TLS 1.3 has no resumption, as in Envoy.
        None => server.send_tls13_tickets = 0,
    }
    server.session_storage = match config.stateful && lifetime_s > 0 {
        true => Arc::new(TimedSessions::new(lifetime_s, time.clone())),
        false => Arc::new(NoServerSessionStorage {}),
    };
    Ok(())
}

/// What a session is bound to: what clients are asked for, and the names that the server has.
fn scope(material: &ServerMaterial, loaded: &[Loaded]) -> Sha256 {
    let mut digest = Digest::new("session scope");
    digest = digest.with(&[u8::from(material.config.require_client_certificate)]);
    if let Some(validation) = &material.validation {
        digest = validation.digest(digest);
    }
    for one in loaded {
        let names = one.chain.first().into_iter().flat_map(CertificateInfo::server_names);
        for name in names {
            digest = digest.with(name.as_bytes());
        }
    }
    digest.finish()
}
