//! What a cluster's handshakes are made with.
//!
//! What it leaves to others: the handshakes, and pools by identity (`upstream`).

use super::certificate::CertificateInfo;
use super::digest::Digest;
use super::error::TlsError;
use super::load::Loaded;
use super::material::ClientMaterial;
use super::parameters::{provider, versions};
use super::verifier::{ServerVerifier, Verifier, algorithms};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use std::net::IpAddr;
use std::sync::Arc;

/// Server names whose sessions are kept, when any are.
const SESSIONS_MIN: usize = 256;

/// What a cluster's handshakes are made with. It does not change: a rotated certificate makes
/// another one.
#[derive(Debug)]
pub struct ClientContext {
    /// For `rustls::ClientConnection::new`, by HTTP/1.1 and by HTTP/2: they differ in what ALPN
    /// offers, unless `alpn_protocols` says it.
    configs: [Arc<ClientConfig>; 2],
    /// What was asked for, and what its files held.
    pub material: ClientMaterial,
    /// The same for contexts that trust and show the same: connections with another identity are
    /// not shared.
    pub identity: u64,
    /// The server name.
    names: ServerNames,
    /// Of the certificates of servers.
    verifier: ServerVerifier,
    /// Its certificate with its chain, for `/certs`.
    pub certificate: Vec<CertificateInfo>,
    /// The authorities that it trusts, for `/certs`.
    pub authorities: Vec<CertificateInfo>,
    /// What servers see that ask for a certificate.
    pub shown: Option<CertificateDer<'static>>,
}

/// Where the server name of a connection comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerNames {
    /// `sni`
    pub fixed: Option<ServerName<'static>>,
    /// `auto_host_sni`
    pub of_host: bool,
    /// `auto_sni`
    pub of_request: bool,
}

impl ClientContext {
    /// Builds a context.
    ///
    /// # Errors
    ///
    /// What of the material cannot be used, and what to do.
    pub fn build(
        material: ClientMaterial,
        time: Arc<dyn TimeProvider>,
    ) -> Result<Arc<ClientContext>, TlsError> {
        let config = material.config.clone();
        let provider = provider(&config.common.parameters);
        let loaded = match &material.certificate {
            Some(certificate) => Some(Loaded::of(certificate, &provider)?),
            None => None,
        };
        let verifier = match &material.validation {
            Some(validation) => Some(Arc::new(Verifier::of(validation)?)),
            None => None,
        };
        let authorities = authorities(&material, verifier.as_deref());
        let builder = ClientConfig::builder_with_details(provider.clone(), time)
            .with_protocol_versions(&versions(&config.common.parameters))
            .map_err(|error| {
                let place = format!("{}.tls_params", config.common.place);
                TlsError::new(place, error.to_string())
            })?;
        let validates = material.of_request.as_ref().is_some_and(|it| it.auto_san_validation);
        let verifier = ServerVerifier {
            verifier,
            checks_name: config.auto_sni_san_validation || validates,
            other_name: None,
            is_strict: validates,
            algorithms: algorithms(&provider),
        };
        let builder =
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier.clone()));
        let mut http1 = match &loaded {
            Some(loaded) => {
                let shown = SingleCertAndKey::from(loaded.key.clone());
                builder.with_client_cert_resolver(Arc::new(shown))
            }
            None => builder.with_no_client_auth(),
        };
        http1.resumption = match config.max_session_keys {
            0 => Resumption::disabled(),
            // Sessions are of one server name, which may be a host's address. Envoy's one session
            // is for all of them.
            keys => Resumption::in_memory_sessions(SESSIONS_MIN.max(keys as usize)),
        };
        let mut http2 = http1.clone();
        for (config, protocol) in [(&mut http1, 0), (&mut http2, 1)] {
            config.alpn_protocols = match material.config.common.alpn_protocols.as_slice() {
                [] => material.default_alpn[protocol].clone(),
                asked => asked.to_vec(),
            };
        }
        Ok(Arc::new(ClientContext {
            configs: [Arc::new(http1), Arc::new(http2)],
            identity: identity(&material),
            names: ServerNames::of(&material)?,
            verifier,
            shown: loaded.as_ref().and_then(|one| one.key.cert.first().cloned()),
            certificate: loaded.map(|one| one.chain).unwrap_or_default(),
            authorities,
            material,
        }))
    }

    /// For connections that are to speak HTTP/2, or HTTP/1.1.
    #[must_use]
    pub fn config(&self, http2: bool) -> &Arc<ClientConfig> {
        &self.configs[usize::from(http2)]
    }

    /// What a connection to a host is made with. `of_request` is what the request that it is made
    /// for has said, of which there must be one by [`RequestServerName`].
    #[must_use]
    pub fn handshake(
        &self,
        http2: bool,
        of_request: Option<&str>,
        hostname: &str,
        address: IpAddr,
    ) -> (Arc<ClientConfig>, ServerName<'static>) {
        let name = self.names.choose(of_request, hostname, address);
        let config = self.config(http2);
        // An empty name is none that a certificate has.
        let wanted = of_request.unwrap_or_default();
        if !self.verifier.is_strict || name.to_str() == wanted {
            return (config.clone(), name);
        }
        // The certificate is to have another name than is asked for. Sessions are kept by that
        // one, and whoever resumes one is not verified again: there are none.
        let mut config = ClientConfig::clone(config);
        config.resumption = Resumption::disabled();
        config.dangerous().set_certificate_verifier(Arc::new(ServerVerifier {
            checks_name: self.material.config.auto_sni_san_validation,
            other_name: Some(wanted.into()),
            ..self.verifier.clone()
        }));
        (Arc::new(config), name)
    }
}

fn authorities(material: &ClientMaterial, verifier: Option<&Verifier>) -> Vec<CertificateInfo> {
    let path = material.validation.as_ref().and_then(|one| one.config.trusted_ca.as_ref());
    let path = path.map_or("<inline>", |source| source.path());
    let authorities = verifier.into_iter().flat_map(Verifier::authorities);
    authorities.filter_map(|der| CertificateInfo::of(der, path)).collect()
}

/// The same for contexts that are alike in all but where they stand.
fn identity(material: &ClientMaterial) -> u64 {
    let config = &material.config;
    let parts = (
        &config.common.parameters,
        &config.common.alpn_protocols,
        (&config.sni, config.auto_host_sni, config.auto_sni_san_validation),
        (&material.of_request, &material.default_alpn, config.max_session_keys),
    );
    let mut digest = Digest::new("client identity").with(format!("{parts:?}").as_bytes());
    if let Some(certificate) = &material.certificate {
        digest = digest.with(&certificate.chain.0).with(&certificate.key.0);
    }
    if let Some(validation) = &material.validation {
        digest = validation.digest(digest.with(b"validation"));
    }
    let digest = digest.finish();
    digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

impl ServerNames {
    fn of(material: &ClientMaterial) -> Result<ServerNames, TlsError> {
        let config = &material.config;
        let fixed = match config.sni.as_str() {
            "" => None,
            sni => Some(ServerName::try_from(sni.to_owned()).map_err(|_| {
                let place = config.common.place.replace("common_tls_context", "sni");
                TlsError::new(place, format!("`{sni}` is not a DNS name"))
                    .hint("a server name has letters, digits, `-`, `_` and `.`")
            })?),
        };
        Ok(ServerNames {
            fixed,
            of_host: config.auto_host_sni,
            of_request: material.of_request.as_ref().is_some_and(|it| it.auto_sni),
        })
    }

    /// Whether `auto_sni` sends it.
    #[must_use]
    pub fn is_sent(name: &str) -> bool {
        matches!(ServerName::try_from(name), Ok(ServerName::DnsName(_)))
    }

    /// The server name of a connection to a host; `of_request` is what is taken from the request.
    /// Where nothing says a name, it is the address, which is not sent as SNI.
    fn choose(
        &self,
        of_request: Option<&str>,
        hostname: &str,
        address: IpAddr,
    ) -> ServerName<'static> {
        let name = |text: &str| ServerName::try_from(text.to_owned()).ok();
        let of_host = || name(hostname).filter(|_| self.of_host && !hostname.is_empty());
        of_request
            .filter(|name| self.of_request && ServerNames::is_sent(name))
            .and_then(name)
            .or_else(of_host)
            .or_else(|| self.fixed.clone())
            .unwrap_or_else(|| ServerName::IpAddress(address.into()))
    }
}
