//! Secrets with a name (`Secret`, `SdsSecretConfig`): of the bootstrap, in a file of their own, or
//! of a management server.
//!
//! What it leaves to others: reading a file again when it changes, asking a server (`control`).

use super::certificate::TlsCertificate;
use super::source::{TlsSource, Unreadable};
use super::validation::CertificateValidationContext;
use crate::config::config_source::{ConfigPlace, ConfigSource, PathConfigSource};
use crate::config::convert::At;
use crate::config::load::{read_file, read_message};
use crate::config::{ConfigErrors, Options};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

pub(super) const SECRET: &str = "envoy.extensions.transport_sockets.tls.v3.Secret";

/// `Secret`
#[derive(Clone, PartialEq, Debug)]
pub struct Secret {
    /// `name`
    pub name: String,
    /// What it is.
    pub kind: SecretKind,
}

/// What a [`Secret`] is.
#[derive(Clone, PartialEq, Debug)]
pub enum SecretKind {
    /// `tls_certificate`
    TlsCertificate(TlsCertificate),
    /// `validation_context`
    ValidationContext(Box<CertificateValidationContext>),
    /// `session_ticket_keys.keys`
    SessionTicketKeys(Vec<TlsSource>),
}

/// Something that is in the configuration, or in a secret that a file has.
#[derive(Clone, PartialEq, Debug)]
pub enum SecretOr<T> {
    /// In the configuration, or a secret of the bootstrap.
    Given(T),
    /// In a file of secrets, or on a server.
    Sds(SecretRef),
}

/// `SdsSecretConfig` with an `sds_config`
#[derive(Clone, PartialEq, Debug)]
pub struct SecretRef {
    /// `name`
    pub name: String,
    /// `sds_config`
    pub source: ConfigSource,
}

/// Secrets that management servers have sent, by name.
pub type SentSecrets = HashMap<String, Arc<Secret>>;

impl Secret {
    pub(in crate::config) fn from_proto(at: &At<'_>, secret: &pb::Secret) -> Option<Secret> {
        use pb::secret::Type;
        let kind = match secret.r#type.as_ref() {
            Some(Type::TlsCertificate(certificate)) => SecretKind::TlsCertificate(
                TlsCertificate::from_proto(&at.field("tls_certificate"), certificate)?,
            ),
            Some(Type::ValidationContext(context)) => {
                let at = at.field("validation_context");
                let context = CertificateValidationContext::from_proto(&at, context)?;
                SecretKind::ValidationContext(Box::new(context))
            }
            Some(Type::SessionTicketKeys(keys)) => {
                SecretKind::SessionTicketKeys(ticket_keys(&at.field("session_ticket_keys"), keys))
            }
            Some(Type::GenericSecret(_)) => {
                let reason = "nothing uses a generic secret yet";
                at.field("generic_secret").error_hint(reason, "leave it out");
                return None;
            }
            None => {
                let hint = "`tls_certificate`, `validation_context` or `session_ticket_keys`";
                at.error_hint("a secret without content", hint);
                return None;
            }
        };
        Some(Secret { name: secret.name.clone(), kind })
    }

    /// In Envoy's word.
    #[must_use]
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            SecretKind::TlsCertificate(_) => "tls_certificate",
            SecretKind::ValidationContext(_) => "validation_context",
            SecretKind::SessionTicketKeys(_) => "session_ticket_keys",
        }
    }
}

pub(super) fn ticket_keys(at: &At<'_>, keys: &pb::TlsSessionTicketKeys) -> Vec<TlsSource> {
    let at = at.field("keys");
    let keys = keys.keys.iter().enumerate();
    keys.filter_map(|(i, key)| TlsSource::from_proto(&at.index(i), Some(key))).collect()
}

/// `static_resources.secrets`
pub(in crate::config) fn static_secrets(at: &At<'_>, secrets: &[pb::Secret]) -> Vec<Secret> {
    let mut converted: Vec<Secret> = Vec::new();
    for (index, secret) in secrets.iter().enumerate() {
        let at = at.index(index);
        // Nothing that is implemented names such a secret.
        if matches!(secret.r#type, Some(pb::secret::Type::GenericSecret(_))) {
            continue;
        }
        let Some(secret) = at.converted(Secret::from_proto(&at, secret)) else { continue };
        let (name, kind) = (&secret.name, secret.kind_name());
        if converted.iter().any(|one| one.name == *name && one.kind_name() == kind) {
            let reason = format!("duplicate static {kind} secret `{name}`");
            at.field("name").error_hint(reason, "rename one of them, or leave it out");
        }
        converted.push(secret);
    }
    converted
}

impl<T> SecretOr<T> {
    /// What a reference names; `take` has what is wanted of a secret of the right kind.
    pub(super) fn from_proto(
        at: &At<'_>,
        config: &pb::SdsSecretConfig,
        kind: &str,
        take: impl Fn(&SecretKind) -> Option<T>,
    ) -> Option<SecretOr<T>> {
        if let Some(source) = &config.sds_config {
            return SecretRef::from_proto(&at.field("sds_config"), &config.name, source)
                .map(SecretOr::Sds);
        }
        let named = at.secrets().iter().filter(|secret| secret.name == config.name);
        if let Some(found) = named.clone().find_map(|secret| take(&secret.kind)) {
            return Some(SecretOr::Given(found));
        }
        let (reason, hint) = match named.clone().next() {
            Some(other) => (
                format!("the secret `{}` is a {}, not a {kind}", config.name, other.kind_name()),
                "each kind of secret has its own names",
            ),
            None => (
                format!("unknown static secret `{}`", config.name),
                "name a secret of `static_resources.secrets`, or set `sds_config`",
            ),
        };
        at.field("name").error_hint(reason, hint);
        None
    }
}

impl SecretRef {
    fn from_proto(at: &At<'_>, name: &str, source: &core::ConfigSource) -> Option<SecretRef> {
        let source = at.converted(ConfigSource::from_proto(at, source))?;
        Some(SecretRef { name: name.to_owned(), source })
    }

    /// The file that has it; `None`: a server sends it.
    #[must_use]
    pub fn file(&self) -> Option<&PathConfigSource> {
        match &self.source.place {
            ConfigPlace::Path(file) => Some(file),
            ConfigPlace::Ads | ConfigPlace::Api(_) => None,
        }
    }

    /// The secret that the file has now, or that a server has sent last.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn read(&self, sent: &SentSecrets) -> Result<Secret, Unreadable> {
        let refuse = |reason: String| Unreadable { reason, hint: None };
        let Some(PathConfigSource { path, .. }) = self.file() else {
            let found = sent.get(&self.name).map(|secret| Secret::clone(secret));
            return found.ok_or_else(|| refuse("no server has sent it yet".to_owned()));
        };
        let secrets = read_secrets(Path::new(path))
            .map_err(|errors| refuse(errors.to_string().replace('\n', "; ")))?;
        let found = secrets.into_iter().find(|secret| secret.name == self.name);
        found.ok_or_else(|| refuse(format!("`{path}` has no secret `{}`", self.name)))
    }
}

/// The secrets in a file: a `DiscoveryResponse` as YAML or JSON.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn read_secrets(path: &Path) -> Result<Vec<Secret>, ConfigErrors> {
    let source = read_file(path)?;
    let message = "envoy.service.discovery.v3.DiscoveryResponse";
    read_message(&[source], message, &Options::default(), |at, response: &DiscoveryResponse| {
        let at = at.field("resources");
        let resources = response.resources.iter().enumerate();
        let secrets = resources.filter_map(|(index, any)| {
            let at = at.index(index);
            let secret = at.unpack(any, SECRET)?;
            at.converted(Secret::from_proto(&at, &secret))
        });
        secrets.collect()
    })
}
