//! gRPC servers that are named by a target URI (`config.core.v3.GrpcService.GoogleGrpc`), with the
//! credentials of the channel and of calls.
//!
//! What it leaves to others: connecting (`control::google`), reading token files again
//! (`tidegate-xds`).

use super::convert::At;
use super::support::{SupportedMessage, kept, message, refused, types, used};
use super::tls::{UPSTREAM_TLS, UpstreamTlsContext};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::grpc_service::google_grpc as pb;
use envoy_types::pb::envoy::config::grpc_credential::v3::FileBasedMetadataConfig;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::google::protobuf::Any;
use pb::channel_credentials::CredentialSpecifier as ChannelCredential;
use prost::Message;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

/// `config.core.v3.GrpcService.GoogleGrpc`
#[derive(Clone, PartialEq, Debug)]
pub struct GoogleGrpc {
    /// `target_uri`
    pub uri: String,
    /// What it names.
    pub target: GoogleTarget,
    /// `:authority`: the argument `grpc.default_authority`, or the target's name.
    pub authority: String,
    /// `channel_credentials.ssl_credentials`
    pub tls: Option<Arc<UpstreamTlsContext>>,
    /// What `call_credentials` add to requests.
    pub credentials: Vec<CallCredential>,
}

/// What a target URI names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GoogleTarget {
    /// A name or an address, and a port.
    Host(String, u16),
    /// A unix socket.
    Unix(String),
}

/// A field of requests that says who calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallCredential {
    /// Its name in lower case.
    pub field: String,
    /// What stands before the secret.
    pub prefix: String,
    /// The secret.
    pub secret: CallSecret,
}

/// Where a secret is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CallSecret {
    /// Here.
    Text(String),
    /// In a file, which is read for each stream.
    File(String),
}

/// The port of a target that has none.
const DEFAULT_PORT: u16 = 443;

/// Where the roots of the system are, by distribution.
const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

const FILE_BASED: &str = "envoy.config.grpc_credential.v3.FileBasedMetadataConfig";

/// Names of `credentials_factory_name` that ask for what is always done here.
const FACTORIES: &[&str] =
    &["", "envoy.grpc_credentials.default", "envoy.grpc_credentials.file_based_metadata"];

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.core.v3.GrpcService.GoogleGrpc",
        &[
            used("target_uri"),
            used("channel_credentials"),
            used("call_credentials"),
            kept("stat_prefix", "streams to management servers have stats of their own"),
            used("credentials_factory_name"),
            kept("per_stream_buffer_limit_bytes", "a stream has one request in flight"),
            used("channel_args"),
            refused("config"),
            refused("channel_credentials_plugin"),
            refused("call_credentials_plugin"),
        ],
    ),
    message(
        "envoy.config.core.v3.GrpcService.GoogleGrpc.ChannelCredentials",
        &[used("ssl_credentials"), used("local_credentials"), refused("google_default")],
    ),
    message(
        "envoy.config.core.v3.GrpcService.GoogleGrpc.SslCredentials",
        &[used("root_certs"), used("private_key"), used("cert_chain")],
    ),
    message("envoy.config.core.v3.GrpcService.GoogleGrpc.GoogleLocalCredentials", &[]),
    message(
        "envoy.config.core.v3.GrpcService.GoogleGrpc.CallCredentials",
        &[
            used("access_token"),
            used("google_iam"),
            used("from_plugin"),
            refused("google_compute_engine"),
            refused("google_refresh_token"),
            refused("service_account_jwt_access"),
            refused("sts_service"),
        ],
    ),
    message(
        "envoy.config.core.v3.GrpcService.GoogleGrpc.CallCredentials.GoogleIAMCredentials",
        &[used("authorization_token"), used("authority_selector")],
    ),
    message(
        "envoy.config.core.v3.GrpcService.GoogleGrpc.CallCredentials\
         .MetadataCredentialsFromPlugin",
        &[kept("name", "the type says what it is"), types("typed_config", &[FILE_BASED])],
    ),
    message(FILE_BASED, &[used("secret_data"), used("header_key"), used("header_prefix")]),
    message("envoy.config.core.v3.GrpcService.GoogleGrpc.ChannelArgs", &[used("args")]),
    message(
        "envoy.config.core.v3.GrpcService.GoogleGrpc.ChannelArgs.Value",
        &[used("string_value"), used("int_value")],
    ),
];

impl GoogleGrpc {
    /// Converts a target; `None` when what is wrong was reported.
    pub(super) fn from_proto(at: &At<'_>, google: &core::grpc_service::GoogleGrpc) -> Option<Self> {
        let uri = google.target_uri.clone();
        let target = match target_of(&uri) {
            Ok(target) => target,
            Err(reason) => {
                at.field("target_uri").error_hint(reason, "`control.example.com:18000` for one");
                return None;
            }
        };
        if !FACTORIES.contains(&google.credentials_factory_name.as_str()) {
            let reason = format!("`{}` is not implemented", google.credentials_factory_name);
            at.field("credentials_factory_name").error(reason);
        }
        let mut args = Arguments::from_proto(at, google);
        let host = match &target {
            GoogleTarget::Host(host, _) => host.clone(),
            GoogleTarget::Unix(_) => "localhost".to_owned(),
        };
        let name = args.target_name.take().unwrap_or_else(|| host.clone());
        let credentials = google.channel_credentials.as_ref();
        let tls = match credentials.and_then(|it| it.credential_specifier.as_ref()) {
            Some(ChannelCredential::SslCredentials(ssl)) => {
                let at = at.field("channel_credentials");
                Some(channel_tls(&at.field("ssl_credentials"), ssl, &name)?)
            }
            _ => None,
        };
        let is_local = matches!(target, GoogleTarget::Unix(_))
            || host == "localhost"
            || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let credentials = call_credentials(at, &google.call_credentials);
        if tls.is_none() && !is_local && !credentials.is_empty() {
            at.field("call_credentials").error_hint(
                "they would be sent over a connection that is not encrypted",
                "add `channel_credentials: {ssl_credentials: {}}`",
            );
        }
        let authority = args.authority.unwrap_or_else(|| match &target {
            GoogleTarget::Host(host, port) => format!("{host}:{port}"),
            GoogleTarget::Unix(_) => host,
        });
        Some(GoogleGrpc { uri, target, authority, tls, credentials })
    }
}

/// Of `channel_args` what counts here.
#[derive(Debug, Default)]
struct Arguments {
    authority: Option<String>,
    target_name: Option<String>,
}

impl Arguments {
    fn from_proto(at: &At<'_>, google: &core::grpc_service::GoogleGrpc) -> Arguments {
        use pb::channel_args::value::ValueSpecifier;
        let (mut arguments, at) = (Arguments::default(), at.field("channel_args"));
        let at = at.field("args");
        for (name, value) in google.channel_args.iter().flat_map(|it| &it.args) {
            let text = match &value.value_specifier {
                Some(ValueSpecifier::StringValue(text)) => Some(text.clone()),
                _ => None,
            };
            match name.as_str() {
                "grpc.default_authority" => arguments.authority = text,
                "grpc.ssl_target_name_override" => arguments.target_name = text,
                name => at.key(name).error(format!("the argument `{name}` is not implemented")),
            }
        }
        arguments
    }
}

/// What a target URI names, by gRPC's rules for names.
fn target_of(uri: &str) -> Result<GoogleTarget, String> {
    if let Some(path) = uri.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return Ok(GoogleTarget::Unix(path.to_owned()));
    }
    let rest = match uri.split_once(':') {
        Some(("dns", rest)) => match rest.strip_prefix("//") {
            // The authority of `dns://1.1.1.1/name` is a resolver.
            Some(rest) => match rest.split_once('/') {
                Some(("", name)) => name,
                _ => return Err(format!("`{uri}` names a resolver, which is not implemented")),
            },
            None => rest,
        },
        Some(("ipv4" | "ipv6", rest)) => rest,
        Some((scheme, rest)) if rest.starts_with("//") => {
            return Err(format!("the scheme `{scheme}` of a target is not implemented"));
        }
        _ => uri,
    };
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match rest.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let port = port.map_or(Ok(DEFAULT_PORT), str::parse);
    match port {
        Ok(port) if port > 0 && !host.is_empty() && !host.contains([',', '/']) => {
            Ok(GoogleTarget::Host(host.to_owned(), port))
        }
        _ => Err(format!("`{uri}` is not of the form `host:port`")),
    }
}

/// The context of a channel: a server has to show a certificate for its name, from the roots that
/// are named, or from the system's.
fn channel_tls(
    at: &At<'_>,
    ssl: &pb::SslCredentials,
    name: &str,
) -> Option<Arc<UpstreamTlsContext>> {
    let system = || {
        let path = SYSTEM_ROOTS.iter().find(|path| Path::new(path).exists())?;
        let specifier = Some(Specifier::Filename((*path).to_owned()));
        Some(core::DataSource { specifier, watched_directory: None })
    };
    let Some(roots) = ssl.root_certs.clone().or_else(system) else {
        at.missing("root_certs", Some("this machine has no certificates of authorities"));
        return None;
    };
    let ip = name.parse::<IpAddr>().is_ok();
    let exact = |name: &str| matcher::StringMatcher {
        match_pattern: Some(matcher::string_matcher::MatchPattern::Exact(name.to_owned())),
        ..Default::default()
    };
    let names = ip.then(|| tls::SubjectAltNameMatcher {
        san_type: tls::subject_alt_name_matcher::SanType::IpAddress.into(),
        matcher: Some(exact(name)),
        ..Default::default()
    });
    let validation = tls::CertificateValidationContext {
        trusted_ca: Some(roots),
        match_typed_subject_alt_names: names.into_iter().collect(),
        ..Default::default()
    };
    let certificate = ssl.cert_chain.is_some().then(|| tls::TlsCertificate {
        certificate_chain: ssl.cert_chain.clone(),
        private_key: ssl.private_key.clone(),
        ..Default::default()
    });
    let common = tls::CommonTlsContext {
        tls_certificates: certificate.into_iter().collect(),
        validation_context_type: Some(
            tls::common_tls_context::ValidationContextType::ValidationContext(validation),
        ),
        ..Default::default()
    };
    let context = tls::UpstreamTlsContext {
        common_tls_context: Some(common),
        sni: if ip { String::new() } else { name.to_owned() },
        auto_sni_san_validation: !ip,
        ..Default::default()
    };
    let type_url = format!("type.googleapis.com/{UPSTREAM_TLS}");
    UpstreamTlsContext::from_proto(at, &Any { type_url, value: context.encode_to_vec() })
}

fn call_credentials(at: &At<'_>, all: &[pb::CallCredentials]) -> Vec<CallCredential> {
    use pb::call_credentials::CredentialSpecifier;
    use pb::call_credentials::metadata_credentials_from_plugin::ConfigType;
    let at = at.field("call_credentials");
    let mut credentials = Vec::new();
    for (index, one) in all.iter().enumerate() {
        let at = at.index(index);
        let text = |field: &str, prefix: &str, text: &str| CallCredential {
            field: field.to_owned(),
            prefix: prefix.to_owned(),
            secret: CallSecret::Text(text.to_owned()),
        };
        match &one.credential_specifier {
            Some(CredentialSpecifier::AccessToken(token)) => {
                credentials.push(text("authorization", "Bearer ", token));
            }
            Some(CredentialSpecifier::GoogleIam(iam)) => {
                let token = &iam.authorization_token;
                credentials.push(text("x-goog-iam-authorization-token", "", token));
                let selector = &iam.authority_selector;
                credentials.push(text("x-goog-iam-authority-selector", "", selector));
            }
            Some(CredentialSpecifier::FromPlugin(plugin)) => {
                let at = at.field("from_plugin");
                match &plugin.config_type {
                    Some(ConfigType::TypedConfig(any)) => {
                        credentials.extend(from_file(&at.field("typed_config"), any));
                    }
                    _ => at.missing("typed_config", Some(FILE_BASED)),
                }
            }
            // The reader has refused the others by name.
            _ => {}
        }
    }
    credentials
}

fn from_file(at: &At<'_>, any: &Any) -> Option<CallCredential> {
    let config: FileBasedMetadataConfig = at.unpack(any, FILE_BASED)?;
    let secret = match config.secret_data.and_then(|data| data.specifier) {
        Some(Specifier::Filename(path)) => CallSecret::File(path),
        Some(Specifier::InlineString(text)) => CallSecret::Text(text),
        Some(_) => {
            at.field("secret_data").error("only `filename` and `inline_string` are implemented");
            return None;
        }
        None => {
            at.missing("secret_data", Some("`{filename: /var/run/token}` for one"));
            return None;
        }
    };
    let field = match config.header_key.as_str() {
        "" => "authorization".to_owned(),
        name => name.to_ascii_lowercase(),
    };
    Some(CallCredential { field, prefix: config.header_prefix, secret })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_grpcs() {
        let host = |host: &str, port| Ok(GoogleTarget::Host(host.to_owned(), port));
        assert_eq!(target_of("a.example:18000"), host("a.example", 18000));
        assert_eq!(target_of("a.example"), host("a.example", 443));
        assert_eq!(target_of("dns:///a.example:1"), host("a.example", 1));
        assert_eq!(target_of("dns:a.example"), host("a.example", 443));
        assert_eq!(target_of("ipv4:127.0.0.1:9"), host("127.0.0.1", 9));
        assert_eq!(target_of("[::1]:9"), host("::1", 9));
        assert_eq!(target_of("ipv6:[::1]"), host("::1", 443));
        assert_eq!(target_of("unix:///run/x"), Ok(GoogleTarget::Unix("/run/x".to_owned())));
        assert_eq!(target_of("unix:x"), Ok(GoogleTarget::Unix("x".to_owned())));
        for bad in ["", ":1", "a:b", "a:0", "dns://1.1.1.1/a", "xds:///a", "a:1,b:2", "a/b"] {
            assert!(target_of(bad).is_err(), "{bad}");
        }
    }
}
