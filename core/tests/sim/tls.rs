//! TLS in worlds: who speaks it, and with which secrets.
//!
//! Crypto is random, so nothing may have a length that chance decides: keys are Ed25519, whose
//! signatures are all as long.
//!
//! What it leaves to others: sockets (`tls_sockets.rs`).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SerialNumber};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tidegate::config::{Options, RequestServerName, Source, load, tls};
use tidegate::transport::{ClientContext, ServerContext, TicketKeys};
use tidegate_io::sim::{Random, SimIo};

use super::tls_sockets::{PeerIo, Side};

/// Which sides of a world speak TLS, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Secrecy {
    pub downstream: bool,
    pub upstream: bool,
    /// Requests say what server they want.
    pub names: bool,
    is_old: bool,
}

impl Secrecy {
    /// Of a seed; decided apart from all else, so that other worlds are what they are without it.
    pub fn of(seed: u64) -> Secrecy {
        let mut random = Random::new(!seed);
        let (downstream, upstream) = match random.below(15) {
            0 => (true, false),
            1 => (false, true),
            2 => (true, true),
            _ => (false, false),
        };
        let (names, is_old) = (upstream && random.chance(500), random.chance(300));
        Secrecy { downstream, upstream, names, is_old }
    }

    pub fn is_some(self) -> bool {
        self.downstream || self.upstream
    }

    /// What the proxy's listener shakes hands with.
    pub fn server_context(self) -> Option<Arc<ServerContext>> {
        let material = secrets().server.read(&tls::SentSecrets::new()).unwrap();
        let context = || ServerContext::build(material, &TicketKeys::new(), Arc::new(Today));
        self.downstream.then(|| context().unwrap())
    }

    /// What its clusters take from requests.
    pub fn server_name(self) -> Option<RequestServerName> {
        self.names.then(|| RequestServerName {
            auto_sni: true,
            override_header: Some("x-name".into()),
            ..RequestServerName::default()
        })
    }

    /// What its clusters shake hands with.
    pub fn client_context(self) -> Option<Arc<ClientContext>> {
        let of_request = self.server_name();
        let material =
            secrets().client.read(of_request.as_ref(), &tls::SentSecrets::new()).unwrap();
        let context = || ClientContext::build(material, Arc::new(Today));
        self.upstream.then(|| context().unwrap())
    }

    /// The sockets of a client.
    pub fn client(self, io: SimIo, protocol: &str) -> PeerIo {
        let side = self.downstream.then(|| Side::Client(self.client_config(protocol)));
        PeerIo::new(io, side)
    }

    /// The sockets of an origin.
    pub fn origin(self, io: SimIo) -> PeerIo {
        let side = self.upstream.then(|| Side::Server(self.server_config()));
        PeerIo::new(io, side)
    }

    fn versions(self) -> [&'static SupportedProtocolVersion; 1] {
        [if self.is_old { &TLS12 } else { &TLS13 }]
    }

    fn client_config(self, protocol: &str) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(secrets().authority.clone()).unwrap();
        let builder = ClientConfig::builder_with_details(provider(), Arc::new(Today));
        let builder = builder.with_protocol_versions(&self.versions()).unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.into()];
        Arc::new(config)
    }

    fn server_config(self) -> Arc<ServerConfig> {
        let secrets = secrets();
        let builder = ServerConfig::builder_with_details(provider(), Arc::new(Today));
        let builder = builder.with_protocol_versions(&self.versions()).unwrap();
        let (chain, key) = (vec![secrets.certificate.clone()], secrets.key.clone_key());
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec!["h2".into(), "http/1.1".into()];
        Arc::new(config)
    }
}

fn provider() -> Arc<CryptoProvider> {
    let kx_groups = vec![aws_lc_rs::kx_group::X25519];
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}

/// 2026-11-22
#[derive(Debug)]
struct Today;

impl TimeProvider for Today {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(1_795_300_000)))
    }
}

/// An authority, a certificate of its, and what the proxy makes of a configuration with that.
struct Secrets {
    authority: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    server: Arc<tls::DownstreamTlsContext>,
    client: Arc<tls::UpstreamTlsContext>,
}

fn secrets() -> &'static Secrets {
    static SECRETS: OnceLock<Secrets> = OnceLock::new();
    SECRETS.get_or_init(|| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.serial_number = Some(SerialNumber::from(1));
        let new_key = || KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let authority = CertifiedIssuer::self_signed(params, new_key()).unwrap();
        let mut params = CertificateParams::new(["sim".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(2));
        let key = new_key();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let source = configuration(&certificate.pem(), &key.serialize_pem());
        let (bootstrap, _) = load(&[source], &Options::default()).unwrap();
        Secrets {
            authority: CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap(),
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
            server: bootstrap.listeners[0].filter_chains[0].tls.clone().unwrap(),
            client: bootstrap.clusters[0].tls.clone().unwrap(),
        }
    })
}

fn configuration(chain: &str, key: &str) -> Source {
    let types = "type.googleapis.com/envoy.extensions";
    let text = format!(
        "
static_resources:
  listeners:
  - name: l
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 1 }} }}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          '@type': {types}.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates:
            - certificate_chain: {{ inline_string: {chain:?} }}
              private_key: {{ inline_string: {key:?} }}
      filters:
      - name: h
        typed_config:
          '@type': {types}.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: s
          route_config: {{ name: r }}
          http_filters:
          - name: router
            typed_config: {{ '@type': {types}.filters.http.router.v3.Router }}
  clusters:
  - name: c
    transport_socket:
      name: tls
      typed_config:
        '@type': {types}.transport_sockets.tls.v3.UpstreamTlsContext
        sni: sim
        common_tls_context:
          tls_params: {{ tls_maximum_protocol_version: TLSv1_3 }}
"
    );
    Source { name: "sim".into(), text }
}
