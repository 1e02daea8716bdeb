//! Contexts against each other, in memory: a matrix of good and bad certificates.
//!
//! What it leaves to others: sockets.

use super::*;
use crate::config::tls::SentSecrets;
use crate::config::{Options, Source, load};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConnection, ServerConnection};
use std::sync::Arc;
use std::time::Duration;

/// 2026-11-22
#[derive(Debug)]
struct Today;

impl TimeProvider for Today {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(1_795_300_000)))
    }
}

pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(super) fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    CertifiedIssuer::self_signed(params, key).unwrap()
}

/// PEM of a certificate and of its key.
pub(super) struct Identity {
    chain: String,
    key: String,
}

pub(super) fn params(names: &[SanType]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "leaf");
    params.subject_alt_names = names.to_vec();
    params
}

pub(super) fn identity(by: &Authority, params: &CertificateParams) -> Identity {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = params.signed_by(&key, by).unwrap();
    Identity { chain: certificate.pem(), key: key.serialize_pem() }
}

pub(super) fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

/// A JSON string.
fn text(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

pub(super) fn certificate(identity: &Identity) -> String {
    format!(
        "{{ certificate_chain: {{ inline_string: {} }}, private_key: {{ inline_string: {} }} }}",
        text(&identity.chain),
        text(&identity.key)
    )
}

fn trusting(authority: &Authority) -> String {
    format!("trusted_ca: {{ inline_string: {} }}", text(&authority.pem()))
}

/// The configuration of a listener and a cluster with these contexts.
fn yaml(server: &str, client: &str) -> String {
    let tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
    let http = "type.googleapis.com/envoy.extensions.filters";
    format!(
        "
static_resources:
  listeners:
  - name: l
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 1 }} }}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config: {{ '@type': {tls}.DownstreamTlsContext, {server} }}
      filters:
      - name: h
        typed_config:
          '@type': {http}.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: s
          route_config: {{ name: r }}
          http_filters:
          - name: router
            typed_config: {{ '@type': {http}.http.router.v3.Router }}
  clusters:
  - name: c
    transport_socket:
      name: tls
      typed_config: {{ '@type': {tls}.UpstreamTlsContext, {client} }}
"
    )
}

/// The contexts, or what was found wrong.
pub(super) fn contexts(
    server: &str,
    client: &str,
) -> Result<(Arc<ServerContext>, Arc<ClientContext>), String> {
    let source = Source { name: "x".into(), text: yaml(server, client) };
    let (bootstrap, _) =
        load(&[source], &Options::default()).map_err(|errors| errors.to_string())?;
    let material =
        bootstrap.listeners[0].filter_chains[0].tls.as_ref().unwrap().read(&SentSecrets::new());
    let server = ServerContext::build(material.unwrap(), &TicketKeys::new(), Arc::new(Today));
    let material =
        bootstrap.clusters[0].tls.as_ref().unwrap().read(None, &SentSecrets::new()).unwrap();
    let client = ClientContext::build(material, Arc::new(Today));
    Ok((server.map_err(|e| e.to_string())?, client.map_err(|e| e.to_string())?))
}

/// Shakes hands; the first error of either side.
fn handshake(
    server: &ServerContext,
    client: &ClientContext,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client.config(false).clone(), name)?;
    let mut server = ServerConnection::new(server.config.clone())?;
    let mut bytes = Vec::new();
    for _ in 0..10 {
        bytes.clear();
        client.write_tls(&mut bytes).unwrap();
        let mut unread = &bytes[..];
        while !unread.is_empty() {
            server.read_tls(&mut unread).unwrap();
            server.process_new_packets()?;
        }
        bytes.clear();
        server.write_tls(&mut bytes).unwrap();
        let mut unread = &bytes[..];
        while !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

/// Whether a client that trusts `ca`, and asks for more, takes a server.
fn takes_server(ca: &Authority, identity: &Identity, asks: &str, name: &str) -> bool {
    let server = format!("common_tls_context: {{ tls_certificates: [{}] }}", certificate(identity));
    let client = format!(
        "auto_sni_san_validation: true, common_tls_context: {{ tls_params: {{ \
         tls_maximum_protocol_version: TLSv1_3 }}, validation_context: {{ {} {asks} }} }}",
        trusting(ca)
    );
    let (server, client) = contexts(&server, &client).unwrap();
    handshake(&server, &client, name).is_ok()
}

/// Whether a server that asks this takes a client.
fn takes_client(identity: Option<&Identity>, asks: &str, required: bool) -> bool {
    let ca = authority("server's");
    let own = self::identity(&ca, &params(&[dns("s")]));
    let server = format!(
        "require_client_certificate: {required}, common_tls_context: {{ tls_certificates: [{}], \
         validation_context: {{ {asks} }} }}",
        certificate(&own)
    );
    let shown = identity.map(certificate).unwrap_or_default();
    let client = format!("common_tls_context: {{ tls_certificates: [{shown}] }}");
    let (server, client) = contexts(&server, &client).unwrap();
    handshake(&server, &client, "s").is_ok()
}

#[test]
fn servers_are_verified() {
    let (ca, other) = (authority("a"), authority("b"));
    let good = params(&[dns("*.example.com"), uri("spiffe://td/a")]);
    let takes = |params: &CertificateParams, asks: &str, name: &str| {
        takes_server(&ca, &identity(&ca, params), asks, name)
    };
    assert!(takes(&good, "", "api.example.com"));
    assert!(!takes(&good, "", "a.api.example.com"), "a wildcard is one label");
    assert!(!takes_server(&other, &identity(&ca, &good), "", "api.example.com"), "unknown CA");
    let mut expired = good.clone();
    expired.not_after = date_time_ymd(2026, 1, 1);
    assert!(!takes(&expired, "", "api.example.com"), "expired");
    assert!(takes(&expired, ", allow_expired_certificate: true", "api.example.com"));
    let mut future = good.clone();
    future.not_before = date_time_ymd(2030, 1, 1);
    assert!(!takes(&future, "", "api.example.com"), "not valid yet");
    let mut client_only = good.clone();
    client_only.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    assert!(!takes(&client_only, "", "api.example.com"), "extended key usage");
    let matchers = |kind: &str, exact: &str| {
        format!(
            ", match_typed_subject_alt_names: [{{ san_type: {kind}, matcher: {{ exact: \
             '{exact}' }} }}]"
        )
    };
    for (kind, exact, expected) in [
        ("DNS", "www.example.com", true),
        ("DNS", "www.example.org", false),
        ("URI", "spiffe://td/a", true),
        ("URI", "spiffe://td/a/", false),
        ("DNS", "spiffe://td/a", false),
    ] {
        let asks = matchers(kind, exact);
        assert_eq!(takes(&good, &asks, "api.example.com"), expected, "{kind} {exact}");
    }
}

#[test]
fn clients_are_verified() {
    let (ca, other) = (authority("a"), authority("b"));
    let good = identity(&ca, &params(&[uri("spiffe://td/a")]));
    let trust = trusting(&ca);
    assert!(takes_client(Some(&good), &trust, true));
    assert!(!takes_client(None, &trust, true), "none was shown");
    assert!(takes_client(None, &trust, false));
    let unknown = identity(&other, &params(&[]));
    assert!(!takes_client(Some(&unknown), &trust, false), "unknown CA");
    let untrusted = format!("{trust}, trust_chain_verification: ACCEPT_UNTRUSTED");
    assert!(takes_client(Some(&unknown), &untrusted, true));
    let hash = |identity: &Identity| {
        let der = pem_to_der(&identity.chain);
        let hash = super::digest::sha256(&der);
        hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    for (pinned, expected) in [(&good, true), (&unknown, false)] {
        let asks = format!("{trust}, verify_certificate_hash: [{}]", text(&hash(pinned)));
        assert_eq!(takes_client(Some(&good), &asks, true), expected);
    }
    let alone = format!("verify_certificate_hash: [{}]", text(&hash(&unknown)));
    assert!(takes_client(Some(&unknown), &alone, true), "a pin without an authority");
    let spiffe = |domain: &str| {
        let kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
        format!(
            "custom_validator_config: {{ name: envoy.tls.cert_validator.spiffe, typed_config: {{ \
             '@type': {kind}.SPIFFECertValidatorConfig, trust_domains: [{{ name: {domain}, \
             trust_bundle: {{ inline_string: {} }} }}] }} }}",
            text(&ca.pem())
        )
    };
    assert!(takes_client(Some(&good), &spiffe("td"), true));
    assert!(!takes_client(Some(&good), &spiffe("t"), true));
    let two = identity(&ca, &params(&[uri("spiffe://td/a"), uri("spiffe://td/b")]));
    assert!(!takes_client(Some(&two), &spiffe("td"), true), "an SVID has one URI");
}

fn pem_to_der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

#[test]
fn revoked_clients_are_refused() {
    let ca = authority("a");
    let mut params = params(&[]);
    let crl = |serials: &[u64]| {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2036, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&ca).unwrap().pem().unwrap()
    };
    for (serial, expected) in [(7, false), (8, true)] {
        params.serial_number = Some(SerialNumber::from(serial));
        let list = text(&crl(&[7]));
        let asks = format!("{}, crl: {{ inline_string: {list} }}", trusting(&ca));
        assert_eq!(takes_client(Some(&identity(&ca, &params)), &asks, true), expected, "{serial}");
    }
}

#[test]
fn sessions_are_resumed_only_by_the_same_rules() {
    let ca = authority("a");
    let own = identity(&ca, &params(&[dns("s")]));
    let server = |more: &str| {
        format!("{more} common_tls_context: {{ tls_certificates: [{}] }}", certificate(&own))
    };
    let client = "common_tls_context: { tls_params: { tls_maximum_protocol_version: TLSv1_3 } }";
    let keys = format!(
        "session_ticket_keys: {{ keys: [{{ inline_bytes: {} }}] }},",
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [7; 80])
    );
    let resumes = |first: &str, second: &str| {
        let (one, client) = contexts(&server(first), client).unwrap();
        handshake(&one, &client, "s").unwrap();
        let (two, _) = contexts(&server(second), "").unwrap();
        let (_, server) = handshake(&two, &client, "s").unwrap();
        server.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    };
    assert!(resumes(&keys, &keys));
    assert!(!resumes(&keys, ""), "other keys");
    let asking = format!("{keys} require_client_certificate: true,");
    let (one, client) = contexts(&server(&keys), client).unwrap();
    handshake(&one, &client, "s").unwrap();
    let (two, _) = contexts(&server(&asking), "").unwrap();
    assert!(handshake(&two, &client, "s").is_err(), "the session counts for no certificate");
}

#[test]
fn certificates_are_chosen_by_server_name() {
    let ca = authority("a");
    let named = |name: &str| identity(&ca, &params(&[dns(name)]));
    let (first, exact, wild) = (named("first"), named("a.example.com"), named("*.example.com"));
    let list: Vec<_> = [&first, &wild, &exact].into_iter().map(certificate).collect();
    let server = format!("common_tls_context: {{ tls_certificates: [{}] }}", list.join(", "));
    let (server, client) = contexts(&server, "").unwrap();
    for (name, expected) in [
        ("a.example.com", &exact),
        ("A.Example.com", &exact),
        ("b.example.com", &wild),
        ("x.b.example.com", &first),
        ("elsewhere", &first),
        ("127.0.0.1", &first),
    ] {
        let (client, _) = handshake(&server, &client, name).unwrap();
        let shown = client.peer_certificates().unwrap()[0].to_vec();
        assert_eq!(shown, pem_to_der(&expected.chain), "{name}");
    }
}

#[test]
fn errors_say_where_and_what_to_do() {
    let ca = authority("a");
    let (one, other) = (identity(&ca, &params(&[])), identity(&ca, &params(&[])));
    let swapped = Identity { chain: one.chain.clone(), key: other.key.clone() };
    let late = Identity { chain: format!("{}{}", ca.pem(), one.chain), key: one.key.clone() };
    let none = Identity { chain: "nothing".into(), key: one.key.clone() };
    let encrypted = Identity {
        chain: one.chain.clone(),
        key: "-----BEGIN ENCRYPTED PRIVATE KEY-----\n".into(),
    };
    for (identity, field, words) in [
        (&swapped, "private_key", "does not match"),
        (&late, "private_key", "comes first"),
        (&none, "certificate_chain", "no certificate in it"),
        (&encrypted, "private_key", "openssl pkey"),
    ] {
        let list = certificate(identity);
        let server = format!("common_tls_context: {{ tls_certificates: [{list}] }}");
        let error = contexts(&server, "").unwrap_err();
        let path = format!(
            "static_resources.listeners[0].filter_chains[0].transport_socket.typed_config.\
             common_tls_context.tls_certificates[0].{field}"
        );
        assert!(error.contains(&path) && error.contains(words), "{error}");
        assert!(error.starts_with("x:"), "{error}");
    }
}
