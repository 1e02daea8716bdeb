//! Which fields of TLS are implemented.
//!
//! What it leaves to others: what they do (each noun's file).

use super::context::{DOWNSTREAM_TLS, UPSTREAM_TLS};
use super::secret::SECRET;
use super::validation::SPIFFE;
use crate::config::support::{
    SupportedMessage, kept, message, must, only, refused, strict, types, used,
};

const COMMON: &str = "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext";

/// What is implemented of it. All of it is strict: what is left out here is less safe than what
/// was asked for.
/// What a file of resources can hold.
const RESOURCES: &[&str] = &[
    SECRET,
    "envoy.config.cluster.v3.Cluster",
    "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "envoy.config.listener.v3.Listener",
    "envoy.config.route.v3.RouteConfiguration",
    "envoy.config.route.v3.ScopedRouteConfiguration",
    "envoy.service.runtime.v3.Runtime",
];

pub(in crate::config) const SUPPORTED: &[SupportedMessage] = &[
    strict(
        DOWNSTREAM_TLS,
        &[
            used("common_tls_context"),
            used("require_client_certificate"),
            used("require_sni"),
            used("session_ticket_keys"),
            used("session_ticket_keys_sds_secret_config"),
            used("disable_stateless_session_resumption"),
            used("disable_stateful_session_resumption"),
            used("session_timeout"),
            must("ocsp_staple_policy", &["LENIENT_STAPLING"]),
            used("full_scan_certs_on_sni_mismatch"),
            used("prefer_client_ciphers"),
        ],
    ),
    strict(
        UPSTREAM_TLS,
        &[
            used("common_tls_context"),
            used("sni"),
            used("auto_host_sni"),
            used("auto_sni_san_validation"),
            only("allow_renegotiation", &["false"]),
            used("max_session_keys"),
            kept("enforce_rsa_key_usage", "it is always enforced"),
        ],
    ),
    strict(
        COMMON,
        &[
            used("tls_params"),
            used("tls_certificates"),
            used("tls_certificate_sds_secret_configs"),
            used("validation_context"),
            used("validation_context_sds_secret_config"),
            used("combined_validation_context"),
            used("alpn_protocols"),
        ],
    ),
    strict(
        "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.\
         CombinedCertificateValidationContext",
        &[used("default_validation_context"), used("validation_context_sds_secret_config")],
    ),
    strict(
        "envoy.extensions.transport_sockets.tls.v3.TlsParameters",
        &[
            used("tls_minimum_protocol_version"),
            used("tls_maximum_protocol_version"),
            used("cipher_suites"),
            used("ecdh_curves"),
        ],
    ),
    strict(
        "envoy.extensions.transport_sockets.tls.v3.TlsCertificate",
        &[
            used("certificate_chain"),
            used("private_key"),
            used("watched_directory"),
            used("password"),
            used("pkcs12"),
            refused("ocsp_staple"),
            kept("signed_certificate_timestamp", "Envoy does not use them either"),
        ],
    ),
    strict("envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys", &[used("keys")]),
    strict(
        "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext",
        &[
            used("trusted_ca"),
            used("watched_directory"),
            used("verify_certificate_spki"),
            used("verify_certificate_hash"),
            used("match_typed_subject_alt_names"),
            used("match_subject_alt_names"),
            only("require_signed_certificate_timestamp", &["false"]),
            used("crl"),
            used("allow_expired_certificate"),
            used("trust_chain_verification"),
            used("custom_validator_config"),
            used("only_verify_leaf_cert_crl"),
            used("max_verify_depth"),
            used("suppress_client_ca_list"),
        ],
    ),
    strict(
        "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher",
        &[used("san_type"), used("matcher"), used("oid")],
    ),
    strict(SPIFFE, &[used("trust_domains")]),
    strict(
        "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig.TrustDomain",
        &[used("name"), used("trust_bundle")],
    ),
    strict(
        SECRET,
        &[
            used("name"),
            used("tls_certificate"),
            used("session_ticket_keys"),
            used("validation_context"),
            kept("generic_secret", "nothing uses a generic secret yet"),
        ],
    ),
    strict(
        "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig",
        &[used("name"), used("sds_config")],
    ),
    message("envoy.config.core.v3.WatchedDirectory", &[used("path")]),
    message(
        "envoy.service.discovery.v3.DiscoveryResponse",
        &[
            kept("version_info", "a change of the file is a version"),
            types("resources", RESOURCES),
            kept("type_url", "each resource says its own"),
            kept("nonce", "a file is not answered"),
        ],
    ),
];
