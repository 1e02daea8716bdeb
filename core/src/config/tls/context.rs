//! TLS of a listener's or a cluster's connections (`DownstreamTlsContext`, `UpstreamTlsContext`).
//!
//! What it leaves to others: making them ready to shake hands (`transport`).

#![allow(deprecated, reason = "Envoy still accepts fields that it calls deprecated")]

use super::certificate::TlsCertificate;
use super::parameters::TlsParameters;
use super::secret::{SecretKind, SecretOr, SecretRef, SentSecrets, ticket_keys};
use super::source::TlsSource;
use super::validation::CertificateValidationContext;
use crate::config::convert::{At, is_type};
use crate::transport::{CertificateInfo, ClientContext, ServerContext, TicketKeys, TlsError};
use envoy_types::pb::envoy::config::core::v3::{TransportSocket, transport_socket};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use envoy_types::pb::google::protobuf::{Any, BoolValue};
use rustls::time_provider::{DefaultTimeProvider as SystemTime, TimeProvider};
use std::sync::Arc;
use std::time::Duration;

pub(in crate::config) const DOWNSTREAM_TLS: &str =
    "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
pub(in crate::config) const UPSTREAM_TLS: &str =
    "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";

/// BoringSSL's.
const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_secs(7200);
/// What ALPN can carry of one name.
const ALPN_NAME_MAX: usize = 255;

/// `CommonTlsContext`
#[derive(Clone, PartialEq, Debug)]
pub struct CommonTlsContext {
    /// `tls_params`
    pub parameters: TlsParameters,
    /// `tls_certificates`, then `tls_certificate_sds_secret_configs`
    pub certificates: Vec<SecretOr<TlsCertificate>>,
    /// `validation_context`, or the default of `combined_validation_context`.
    pub validation: Option<CertificateValidationContext>,
    /// `validation_context_sds_secret_config`, alone or in `combined_validation_context`.
    pub validation_secret: Option<SecretRef>,
    /// `alpn_protocols` in the order of preference.
    pub alpn_protocols: Vec<Vec<u8>>,
    /// Where it is in the configuration, for messages.
    pub place: String,
}

/// `DownstreamTlsContext`
#[derive(Clone, PartialEq, Debug)]
pub struct DownstreamTlsContext {
    /// `common_tls_context`
    pub common: CommonTlsContext,
    /// `require_client_certificate`
    pub require_client_certificate: bool,
    /// `require_sni`: a connection without a server name is closed.
    pub require_sni: bool,
    /// `session_ticket_keys`, `disable_stateless_session_resumption`
    pub stateless: StatelessResumption,
    /// `disable_stateful_session_resumption` is false.
    pub stateful: bool,
    /// `session_timeout`: how long a session can be resumed, default 2 h.
    pub session_timeout: Duration,
    /// `full_scan_certs_on_sni_mismatch`: with a server name that no certificate has, the kind of
    /// key still decides, instead of the first certificate being taken.
    pub full_scan_certs_on_sni_mismatch: bool,
    /// `prefer_client_ciphers`
    pub prefer_client_ciphers: bool,
}

/// Resumption by session tickets.
#[derive(Clone, PartialEq, Debug)]
pub enum StatelessResumption {
    /// With keys of this process.
    OwnKeys,
    /// `session_ticket_keys`: the first encrypts, all of them decrypt.
    Keys(SecretOr<Vec<TlsSource>>),
    /// `disable_stateless_session_resumption`
    Disabled,
}

/// `UpstreamTlsContext`
#[derive(Clone, PartialEq, Debug)]
pub struct UpstreamTlsContext {
    /// `common_tls_context`
    pub common: CommonTlsContext,
    /// `sni`; empty: none.
    pub sni: String,
    /// `auto_host_sni`: the host's `hostname`, where it has one, instead of `sni`.
    pub auto_host_sni: bool,
    /// `auto_sni_san_validation`: the certificate is to have the server name that was asked for.
    pub auto_sni_san_validation: bool,
    /// `max_session_keys`, default 1: so many sessions are kept for resumption.
    pub max_session_keys: u32,
}

impl CommonTlsContext {
    fn from_proto(
        at: &At<'_>,
        common: Option<&pb::CommonTlsContext>,
        default: TlsParameters,
    ) -> CommonTlsContext {
        let none = pb::CommonTlsContext::default();
        let common = common.unwrap_or(&none);
        let at_certificates = at.field("tls_certificates");
        let certificates = common.tls_certificates.iter().enumerate();
        let mut certificates: Vec<_> = certificates
            .filter_map(|(i, one)| TlsCertificate::from_proto(&at_certificates.index(i), one))
            .map(SecretOr::Given)
            .collect();
        let at_sds = at.field("tls_certificate_sds_secret_configs");
        let named = common.tls_certificate_sds_secret_configs.len();
        if named > 0 && !common.tls_certificates.is_empty() {
            at_sds.error_hint(
                "SDS and non-SDS TLS certificates may not be mixed",
                "make all of them secrets, or none",
            );
        }
        for (index, sds) in common.tls_certificate_sds_secret_configs.iter().enumerate() {
            let kind = "tls_certificate";
            certificates.extend(SecretOr::from_proto(&at_sds.index(index), sds, kind, |kind| {
                match kind {
                    SecretKind::TlsCertificate(certificate) => Some(certificate.clone()),
                    _ => None,
                }
            }));
        }
        let (validation, validation_secret) = validation(at, common);
        if let Some(validation) = validation.as_ref().filter(|_| validation_secret.is_none()) {
            let field = match &common.validation_context_type {
                Some(pb::common_tls_context::ValidationContextType::ValidationContext(_)) => {
                    "validation_context"
                }
                _ => "combined_validation_context",
            };
            validation.check(&at.field(field));
        }
        // As Envoy reads them: commas part names too, and empty ones are none.
        let alpn_protocols = common.alpn_protocols.iter().flat_map(|names| names.split(','));
        let alpn_protocols = alpn_protocols.filter(|name| !name.is_empty());
        let alpn_protocols: Vec<_> = alpn_protocols.map(|name| name.as_bytes().to_vec()).collect();
        if alpn_protocols.iter().any(|name| name.len() > ALPN_NAME_MAX) {
            let reason = format!("a protocol's name has at most {ALPN_NAME_MAX} bytes");
            at.field("alpn_protocols").error(reason);
        }
        CommonTlsContext {
            parameters: TlsParameters::from_proto(
                &at.field("tls_params"),
                common.tls_params.as_ref(),
                default,
            ),
            certificates,
            validation,
            validation_secret,
            alpn_protocols,
            place: at.path(),
        }
    }

    /// The secrets that files have, or servers.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        let certificates = self.certificates.iter().filter_map(|one| match one {
            SecretOr::Sds(secret) => Some(secret),
            SecretOr::Given(_) => None,
        });
        certificates.chain(&self.validation_secret)
    }
}

fn validation(
    at: &At<'_>,
    common: &pb::CommonTlsContext,
) -> (Option<CertificateValidationContext>, Option<SecretRef>) {
    use pb::common_tls_context::ValidationContextType as Type;
    let named = |at: &At<'_>, config: &pb::SdsSecretConfig| {
        SecretOr::from_proto(at, config, "validation_context", |kind| match kind {
            SecretKind::ValidationContext(context) => Some((**context).clone()),
            _ => None,
        })
    };
    match &common.validation_context_type {
        Some(Type::ValidationContext(context)) => {
            let at = at.field("validation_context");
            (CertificateValidationContext::from_proto(&at, context), None)
        }
        Some(Type::ValidationContextSdsSecretConfig(config)) => {
            match named(&at.field("validation_context_sds_secret_config"), config) {
                Some(SecretOr::Given(context)) => (Some(context), None),
                Some(SecretOr::Sds(secret)) => (None, Some(secret)),
                None => (None, None),
            }
        }
        Some(Type::CombinedValidationContext(combined)) => {
            let at = at.field("combined_validation_context");
            let at_default = at.field("default_validation_context");
            // Both are required by the .proto file, which the reader sees to.
            let default = combined
                .default_validation_context
                .as_ref()
                .and_then(|context| CertificateValidationContext::from_proto(&at_default, context));
            let at_secret = at.field("validation_context_sds_secret_config");
            let secret = combined.validation_context_sds_secret_config.as_ref();
            match secret.and_then(|config| named(&at_secret, config)) {
                Some(SecretOr::Given(context)) => {
                    (default.map(|default| default.with(&context)), None)
                }
                Some(SecretOr::Sds(secret)) => (default, Some(secret)),
                None => (default, None),
            }
        }
        // What is left was refused by name.
        _ => (None, None),
    }
}

fn is_set(flag: Option<&BoolValue>) -> bool {
    flag.is_some_and(|flag| flag.value)
}

/// The TLS of a transport socket; `None` without one, and where it was found wrong.
pub(in crate::config) fn transport_socket<T>(
    at: &At<'_>,
    socket: Option<&TransportSocket>,
    message: &str,
    convert: impl FnOnce(&At<'_>, &Any) -> Option<T>,
) -> Option<T> {
    let at = at.field("transport_socket");
    let Some(transport_socket::ConfigType::TypedConfig(any)) = &socket?.config_type else {
        at.missing("typed_config", None);
        return None;
    };
    let at = at.field("typed_config");
    if !is_type(any, message) {
        if is_type(any, DOWNSTREAM_TLS) || is_type(any, UPSTREAM_TLS) {
            at.error_hint("this is of the other side", format!("here it is a {message}"));
        }
        return None;
    }
    at.converted(convert(&at, any))
}

/// Reports what of a context cannot be used, and certificates that are not valid now: Envoy takes
/// these.
fn check(at: &At<'_>, build: impl FnOnce() -> Result<Vec<CertificateInfo>, TlsError>) {
    if at.has_errors() {
        return;
    }
    match build() {
        Err(TlsError { path, reason, hint }) => match path.strip_prefix(&at.path()) {
            Some(below) => at.below(below, &|at| match &hint {
                Some(hint) => at.error_hint(&reason, hint),
                None => at.error(&reason),
            }),
            None => at.error_hint(format!("{path}: {reason}"), hint.unwrap_or_default()),
        },
        Ok(certificates) => {
            let now = SystemTime.current_time().map_or(0, |now| now.as_secs());
            for one in certificates {
                let of = |time: i64| u64::try_from(time).unwrap_or(0);
                let path = &one.path;
                if of(one.not_after) < now {
                    at.warning(format!("the certificate in {path} has expired: renew it"));
                } else if of(one.not_before) > now {
                    at.warning(format!("the certificate in {path} is not valid yet"));
                }
            }
        }
    }
}

impl DownstreamTlsContext {
    /// Converts the context of a listener; what is wrong is reported.
    pub(in crate::config) fn from_proto(
        at: &At<'_>,
        any: &Any,
    ) -> Option<Arc<DownstreamTlsContext>> {
        let context: pb::DownstreamTlsContext = at.unpack(any, DOWNSTREAM_TLS)?;
        let at_common = at.field("common_tls_context");
        let common = context.common_tls_context.as_ref();
        let common = CommonTlsContext::from_proto(&at_common, common, TlsParameters::of_server());
        if common.certificates.is_empty() && !at_common.has_unreadable() {
            at.error_hint(
                "no TLS certificates found for server context",
                "set `common_tls_context.tls_certificates`",
            );
        }
        let at_timeout = at.field("session_timeout");
        let timeout = at_timeout.duration(context.session_timeout.as_ref());
        let converted = DownstreamTlsContext {
            common,
            require_client_certificate: is_set(context.require_client_certificate.as_ref()),
            require_sni: is_set(context.require_sni.as_ref()),
            stateless: stateless(at, &context),
            stateful: !context.disable_stateful_session_resumption,
            session_timeout: timeout.unwrap_or(DEFAULT_SESSION_TIMEOUT),
            full_scan_certs_on_sni_mismatch: is_set(
                context.full_scan_certs_on_sni_mismatch.as_ref(),
            ),
            prefer_client_ciphers: context.prefer_client_ciphers,
        };
        let converted = Arc::new(converted);
        if converted.secrets().any(|secret| secret.file().is_none()) {
            // What the server sends is judged when it comes.
            return Some(converted);
        }
        check(at, || {
            let material = converted.read(&SentSecrets::new())?;
            let context = ServerContext::build(material, &TicketKeys::new(), Arc::new(SystemTime))?;
            Ok(context.certificates.iter().flatten().cloned().collect())
        });
        Some(converted)
    }

    /// The secrets that files have, or servers.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        let keys = match &self.stateless {
            StatelessResumption::Keys(SecretOr::Sds(secret)) => Some(secret),
            _ => None,
        };
        self.common.secrets().chain(keys)
    }
}

fn stateless(at: &At<'_>, context: &pb::DownstreamTlsContext) -> StatelessResumption {
    use pb::downstream_tls_context::SessionTicketKeysType as Type;
    match &context.session_ticket_keys_type {
        Some(Type::SessionTicketKeys(keys)) => StatelessResumption::Keys(SecretOr::Given(
            ticket_keys(&at.field("session_ticket_keys"), keys),
        )),
        Some(Type::SessionTicketKeysSdsSecretConfig(config)) => {
            let at = at.field("session_ticket_keys_sds_secret_config");
            let named =
                SecretOr::from_proto(&at, config, "session_ticket_keys", |kind| match kind {
                    SecretKind::SessionTicketKeys(keys) => Some(keys.clone()),
                    _ => None,
                });
            named.map_or(StatelessResumption::Disabled, StatelessResumption::Keys)
        }
        Some(Type::DisableStatelessSessionResumption(true)) => StatelessResumption::Disabled,
        Some(Type::DisableStatelessSessionResumption(false)) | None => StatelessResumption::OwnKeys,
    }
}

impl UpstreamTlsContext {
    /// Converts the context of a cluster; what is wrong is reported.
    pub(in crate::config) fn from_proto(at: &At<'_>, any: &Any) -> Option<Arc<UpstreamTlsContext>> {
        let context: pb::UpstreamTlsContext = at.unpack(any, UPSTREAM_TLS)?;
        let at_common = at.field("common_tls_context");
        let common = context.common_tls_context.as_ref();
        let common = CommonTlsContext::from_proto(&at_common, common, TlsParameters::of_client());
        if common.certificates.len() > 1 {
            at_common.field("tls_certificates").error_hint(
                "multiple TLS certificates are not supported in client contexts",
                "a client shows one",
            );
        }
        if common.validation.is_none() && common.validation_secret.is_none() {
            at_common.warning(
                "without a validation context any server is trusted, as in Envoy: set \
                 `validation_context.trusted_ca`",
            );
        }
        if context.auto_sni_san_validation
            && common.validation_secret.is_none()
            && common.validation.as_ref().is_none_or(|one| one.trusted_ca.is_none())
        {
            at.field("auto_sni_san_validation").error_hint(
                "'auto_sni_san_validation' was configured without a validation context",
                "set `common_tls_context.validation_context.trusted_ca`",
            );
        }
        let converted = UpstreamTlsContext {
            common,
            sni: context.sni.clone(),
            auto_host_sni: context.auto_host_sni,
            auto_sni_san_validation: context.auto_sni_san_validation,
            max_session_keys: context.max_session_keys.map_or(1, |max| max.value),
        };
        let converted = Arc::new(converted);
        if converted.common.secrets().any(|secret| secret.file().is_none()) {
            return Some(converted);
        }
        check(at, || {
            let material = converted.read(None, &SentSecrets::new())?;
            let context = ClientContext::build(material, Arc::new(SystemTime))?;
            Ok(context.certificate.clone())
        });
        Some(converted)
    }
}
