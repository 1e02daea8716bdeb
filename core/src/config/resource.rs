//! Resources that come while we run (xDS, files): each is read like a part of the bootstrap, so
//! that both are judged by the same rules and errors have the same words.
//!
//! What it leaves to others: where they come from, and what becomes of them (`control`).

use super::ast::Node;
use super::convert::{At, Conversion};
use super::endpoint::{self as endpoints, ClusterLoadAssignment};
use super::load;
use super::reader::{Reader, is_clean};
use super::report::Report;
use super::route::RouteConfiguration;
use super::tls::Secret;
use super::{
    Cluster, ConfigError, ConfigErrors, Listener, Options, Overrides, Runtime,
    ScopedRouteConfiguration, Severity, Source, VirtualHost, descriptors, protobuf, runtime,
};
use envoy_types::pb::envoy::config::{cluster, endpoint, listener, route};
use envoy_types::pb::envoy::extensions::transport_sockets::tls;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::envoy::service::runtime as service_runtime;
use prost::bytes::Bytes;
use prost::{DecodeError, Message};
use std::sync::Arc;

/// What a resource is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ResourceKind {
    /// `config.cluster.v3.Cluster`
    Cluster,
    /// `config.endpoint.v3.ClusterLoadAssignment`
    ClusterLoadAssignment,
    /// `config.listener.v3.Listener`
    Listener,
    /// `config.route.v3.RouteConfiguration`
    RouteConfiguration,
    /// `config.route.v3.ScopedRouteConfiguration`
    ScopedRouteConfiguration,
    /// `config.route.v3.VirtualHost`
    VirtualHost,
    /// `extensions.transport_sockets.tls.v3.Secret`
    Secret,
    /// `service.runtime.v3.Runtime`
    Runtime,
}

/// A resource that is valid.
#[derive(Clone, PartialEq, Debug)]
pub enum Resource {
    /// [`ResourceKind::Cluster`]
    Cluster(Arc<Cluster>),
    /// [`ResourceKind::ClusterLoadAssignment`], with its `cluster_name`.
    ClusterLoadAssignment(String, Arc<ClusterLoadAssignment>),
    /// [`ResourceKind::Listener`]
    Listener(Arc<Listener>),
    /// [`ResourceKind::RouteConfiguration`]
    RouteConfiguration(Arc<RouteConfiguration>),
    /// [`ResourceKind::ScopedRouteConfiguration`]
    ScopedRouteConfiguration(Arc<ScopedRouteConfiguration>),
    /// [`ResourceKind::VirtualHost`]
    VirtualHost(Arc<VirtualHost>),
    /// [`ResourceKind::Secret`]
    Secret(Arc<Secret>),
    /// [`ResourceKind::Runtime`], with its `name`.
    Runtime(String, Overrides),
}

/// What resources refer to that is known already.
#[derive(Clone, Debug, Default)]
pub struct ResourceContext {
    /// Runtime values.
    pub runtime: Runtime,
    /// Secrets with a name: of the bootstrap.
    pub secrets: Vec<Secret>,
    /// Whether unsupported fields are warned of only.
    pub options: Options,
}

impl ResourceKind {
    /// All kinds.
    pub const ALL: [ResourceKind; 8] = [
        ResourceKind::Cluster,
        ResourceKind::ClusterLoadAssignment,
        ResourceKind::Listener,
        ResourceKind::RouteConfiguration,
        ResourceKind::ScopedRouteConfiguration,
        ResourceKind::VirtualHost,
        ResourceKind::Secret,
        ResourceKind::Runtime,
    ];

    /// What people call it.
    #[must_use]
    pub fn short_name(self) -> &'static str {
        match self {
            ResourceKind::Cluster => "CDS",
            ResourceKind::ClusterLoadAssignment => "EDS",
            ResourceKind::Listener => "LDS",
            ResourceKind::RouteConfiguration => "RDS",
            ResourceKind::ScopedRouteConfiguration => "SRDS",
            ResourceKind::VirtualHost => "VHDS",
            ResourceKind::Secret => "SDS",
            ResourceKind::Runtime => "RTDS",
        }
    }

    /// The full name of the message.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            ResourceKind::Cluster => "envoy.config.cluster.v3.Cluster",
            ResourceKind::ClusterLoadAssignment => "envoy.config.endpoint.v3.ClusterLoadAssignment",
            ResourceKind::Listener => "envoy.config.listener.v3.Listener",
            ResourceKind::RouteConfiguration => "envoy.config.route.v3.RouteConfiguration",
            ResourceKind::ScopedRouteConfiguration => {
                "envoy.config.route.v3.ScopedRouteConfiguration"
            }
            ResourceKind::VirtualHost => "envoy.config.route.v3.VirtualHost",
            ResourceKind::Secret => "envoy.extensions.transport_sockets.tls.v3.Secret",
            ResourceKind::Runtime => "envoy.service.runtime.v3.Runtime",
        }
    }
}

/// The name in an encoded message of any kind: it is the first field of all.
#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

/// The name of an encoded message of any kind; `None` if it cannot be read.
#[must_use]
pub fn name_of(bytes: &[u8]) -> Option<String> {
    Named::decode(bytes).ok().map(|named| named.name).filter(|name| !name.is_empty())
}

impl Resource {
    /// Its name, by which it is asked for.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Resource::Cluster(cluster) => &cluster.name,
            Resource::ClusterLoadAssignment(name, _) | Resource::Runtime(name, _) => name,
            Resource::Listener(listener) => &listener.name,
            Resource::RouteConfiguration(routes) => &routes.name,
            Resource::ScopedRouteConfiguration(scope) => &scope.name,
            Resource::VirtualHost(host) => &host.name,
            Resource::Secret(secret) => &secret.name,
        }
    }

    /// Reads an encoded message. `name` is what errors call it.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn decode(
        kind: ResourceKind,
        name: &str,
        bytes: &[u8],
        context: &ResourceContext,
    ) -> Result<(Resource, Vec<ConfigError>), ConfigErrors> {
        Resource::decode_next(kind, name, &Bytes::copy_from_slice(bytes), None, context)
    }

    /// The same where there was an assignment of this name: what did not change is shared with it.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn decode_next(
        kind: ResourceKind,
        name: &str,
        bytes: &Bytes,
        before: Option<&ClusterLoadAssignment>,
        context: &ResourceContext,
    ) -> Result<(Resource, Vec<ConfigError>), ConfigErrors> {
        match clean(kind, bytes, before, context) {
            Some(resource) => Ok((resource, Vec::new())),
            None => Resource::decode_by_names(kind, name, bytes, context),
        }
    }

    /// The same in the way that says what is wrong; it takes longer.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn decode_by_names(
        kind: ResourceKind,
        name: &str,
        bytes: &[u8],
        context: &ResourceContext,
    ) -> Result<(Resource, Vec<ConfigError>), ConfigErrors> {
        match protobuf::to_json(kind.message(), bytes.to_vec().into()) {
            Ok(text) => {
                let source = Source { name: format!("{name} (as JSON)"), text };
                Resource::read(kind, &source, context)
            }
            Err(reason) => Err(unreadable(name, &reason)),
        }
    }

    /// Reads YAML or JSON.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn read(
        kind: ResourceKind,
        source: &Source,
        context: &ResourceContext,
    ) -> Result<(Resource, Vec<ConfigError>), ConfigErrors> {
        let sources = std::slice::from_ref(source);
        let mut report = Report::new(sources);
        let roots = load::parse(sources, &mut report);
        let resource = roots.and_then(|roots| convert(kind, &roots, context, &mut report));
        let found = report.finish();
        match resource {
            Some(resource) if found.iter().all(|one| one.severity == Severity::Warning) => {
                Ok((resource, found))
            }
            _ => Err(ConfigErrors(found)),
        }
    }
}

/// The version and the resources, encoded, of a `DiscoveryResponse` as YAML or JSON.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn read_response(source: &Source) -> Result<(String, Vec<Vec<u8>>), ConfigErrors> {
    let sources = std::slice::from_ref(source);
    let mean = |_: &At<'_>, response: &DiscoveryResponse| {
        let resources = response.resources.iter().map(|any| any.value.clone());
        (response.version_info.clone(), resources.collect())
    };
    load::read_message(sources, DISCOVERY_RESPONSE, &Options::default(), mean)
}

/// The same of an encoded one. `name` is what errors call it.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn decode_response(name: &str, bytes: Vec<u8>) -> Result<(String, Vec<Vec<u8>>), ConfigErrors> {
    match protobuf::to_json(DISCOVERY_RESPONSE, bytes.into()) {
        Ok(text) => read_response(&Source { name: format!("{name} (as JSON)"), text }),
        Err(reason) => Err(unreadable(name, &reason)),
    }
}

const DISCOVERY_RESPONSE: &str = "envoy.service.discovery.v3.DiscoveryResponse";

/// What a message means of which nothing is to be said.
fn clean(
    kind: ResourceKind,
    bytes: &Bytes,
    before: Option<&ClusterLoadAssignment>,
    context: &ResourceContext,
) -> Option<Resource> {
    let pool = descriptors::pool().ok()?;
    let is_assignment = kind == ResourceKind::ClusterLoadAssignment;
    if !is_assignment && !is_clean(pool, kind.message(), bytes) {
        return None;
    }
    let mut report = Report::new(&[]);
    let conversion = Conversion::new(&[], &report);
    let resource = conversion.run(&mut report, |at| {
        at.set_runtime(context.runtime.clone());
        at.set_secrets(context.secrets.clone());
        if is_assignment {
            let (name, assignment) = endpoints::decode(at, bytes, before)?;
            return Some(Resource::ClusterLoadAssignment(name, Arc::new(assignment)));
        }
        from_bytes(at, kind, bytes)
    });
    resource.filter(|_| report.finish().is_empty())
}

fn unreadable(name: &str, reason: &str) -> ConfigErrors {
    ConfigErrors(vec![ConfigError {
        position: None,
        path: String::new(),
        reason: format!("{name}: {reason}"),
        hint: None,
        severity: Severity::Error,
    }])
}

fn convert(
    kind: ResourceKind,
    roots: &[Node],
    context: &ResourceContext,
    report: &mut Report<'_>,
) -> Option<Resource> {
    let pool = descriptors::pool().ok()?;
    let descriptor = pool.get_message_by_name(kind.message())?;
    let parts: Vec<&Node> = roots.iter().collect();
    let message = Reader::new(pool, &context.options, report).read(&parts, &descriptor);
    let bytes = message.encode_to_vec();
    let conversion = Conversion::new(roots, report);
    conversion.run(report, |at| {
        at.set_runtime(context.runtime.clone());
        at.set_secrets(context.secrets.clone());
        from_bytes(at, kind, &bytes)
    })
}

fn from_bytes(at: &At<'_>, kind: ResourceKind, bytes: &[u8]) -> Option<Resource> {
    match kind {
        ResourceKind::Cluster => {
            let message = decoded::<cluster::v3::Cluster>(at, bytes)?;
            let cluster = at.converted(Cluster::from_proto(at, &message))?;
            Some(Resource::Cluster(Arc::new(cluster)))
        }
        ResourceKind::ClusterLoadAssignment => {
            let message = decoded::<endpoint::v3::ClusterLoadAssignment>(at, bytes)?;
            let assignment = ClusterLoadAssignment::from_proto(at, &message, None);
            Some(Resource::ClusterLoadAssignment(message.cluster_name, Arc::new(assignment)))
        }
        ResourceKind::Listener => {
            let message = decoded::<listener::v3::Listener>(at, bytes)?;
            let listener = at.converted(Listener::from_proto(at, &message, &None))?;
            Some(Resource::Listener(Arc::new(listener)))
        }
        ResourceKind::RouteConfiguration => {
            let routes = readable(at, RouteConfiguration::decode(at, bytes))?;
            let routes = at.converted(routes)?;
            Some(Resource::RouteConfiguration(Arc::new(routes)))
        }
        ResourceKind::Secret => {
            let message = decoded::<tls::v3::Secret>(at, bytes)?;
            let secret = at.converted(Secret::from_proto(at, &message))?;
            Some(Resource::Secret(Arc::new(secret)))
        }
        ResourceKind::ScopedRouteConfiguration => {
            let message = decoded::<route::v3::ScopedRouteConfiguration>(at, bytes)?;
            let scope = at.converted(ScopedRouteConfiguration::from_proto(at, &message))?;
            Some(Resource::ScopedRouteConfiguration(Arc::new(scope)))
        }
        ResourceKind::VirtualHost => {
            let message = decoded::<route::v3::VirtualHost>(at, bytes)?;
            let host = VirtualHost::alone_from_proto(at, &message);
            Some(Resource::VirtualHost(Arc::new(host)))
        }
        ResourceKind::Runtime => {
            let message = decoded::<service_runtime::v3::Runtime>(at, bytes)?;
            let values = runtime::values_of(at, &message);
            Some(Resource::Runtime(message.name, values))
        }
    }
}

fn decoded<M: Message + Default>(at: &At<'_>, bytes: &[u8]) -> Option<M> {
    readable(at, M::decode(bytes))
}

fn readable<T>(at: &At<'_>, decoded: Result<T, DecodeError>) -> Option<T> {
    match decoded {
        Ok(message) => Some(message),
        Err(error) => {
            at.error(format!("cannot be decoded: {error}"));
            None
        }
    }
}

#[cfg(test)]
mod tests;
