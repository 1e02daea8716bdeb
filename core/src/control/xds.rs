//! Streams to management servers: one for ADS, one for each other source and type.
//!
//! What it leaves to others: the protocol (`tidegate-xds`), what resources mean (`dynamic`), and
//! what follows from them (`control`).

use super::book::Asked;
use super::carrier::Carrier;
use super::dynamic::{Raw, Received, Taken, Want};
use super::first_of::first_of;
use super::google;
use crate::config::{
    ApiConfigSource, ApiProtocol, Availability, Bootstrap, ClusterLoadAssignment, ConfigErrors,
    ConfigPlace, ConfigSource, GrpcService, Resource, ResourceContext, ResourceKind,
};
use crate::log::{self, Component};
use crate::snapshot::{ClusterEntry, Publisher};
use crate::stats::StreamState;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidegate_xds::transport::{Connection, Connector, Handle, grpc, rest};
use tidegate_xds::{
    Accepted, Backoff, Body, Event, Interest, Limits, Nack, Node, RateLimit, ResourceType,
    Response, Scope, Settings, Variant,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What a stream is for.
#[derive(Clone, PartialEq, Debug)]
enum Place {
    /// `dynamic_resources.ads_config`
    Ads,
    /// Another source, by type.
    Single(ApiConfigSource, ResourceType),
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    place: Place,
    source: ApiConfigSource,
    handle: Handle,
    /// How it does, for pages.
    state: Arc<StreamState>,
    /// What was asked for, by type.
    interest: BTreeMap<ResourceType, Interest>,
}

impl Stream {
    /// Whether it is no stream, but asks again and again.
    fn polls(&self) -> bool {
        matches!(self.source.api, ApiProtocol::Rest { .. })
    }

    /// What pages show of it.
    fn asked(&self) -> impl Iterator<Item = Asked> {
        let server = self.source.services.first().map_or("", |it| it.destination());
        let place = match &self.place {
            Place::Ads => format!("ads, {server}"),
            Place::Single(..) => server.to_owned(),
        };
        self.interest.iter().filter_map(move |(kind, interest)| {
            let names = match interest {
                Interest::Wildcard => None,
                Interest::Names(names) => Some(names.len()),
            };
            let (place, state) = (place.clone(), Some(self.state.clone()));
            Some(Asked { kind: kind_of(*kind)?, place, names, state })
        })
    }
}

/// A stream's number, which is never given again: what a response leads to can end streams before
/// it is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct StreamId(u64);

#[cfg(test)]
impl StreamId {
    /// Of no stream: answers to it go nowhere.
    pub const NONE: StreamId = StreamId(0);
}

/// What there is to be had from one source.
type Wanted = Vec<(Place, ResourceType, Interest, Option<Duration>)>;

/// All streams.
#[derive(Debug)]
pub(super) struct Xds {
    publisher: Arc<Publisher>,
    node: Node,
    node_json: serde_json::Value,
    seed: u64,
    streams: Vec<Stream>,
    /// Where they run, once there is one.
    carrier: Option<Carrier>,
    opened: u64,
    /// Types that were wanted and that nobody can be asked for.
    unreachable: BTreeSet<ResourceType>,
}

impl Xds {
    /// None yet. Servers are found among the clusters of what is published.
    pub fn new(publisher: Arc<Publisher>, bootstrap: &Bootstrap, seed: u64) -> Xds {
        let node = Node::decode(bootstrap.node.encoded.as_slice()).unwrap_or_default();
        let node_json = bootstrap.node.json.clone();
        let (streams, unreachable) = (Vec::new(), BTreeSet::new());
        Xds { publisher, node, node_json, seed, streams, carrier: None, opened: 0, unreachable }
    }

    /// Asks for everything that is named, and for nothing else.
    pub fn want(&mut self, bootstrap: &Bootstrap, wants: &[Want]) {
        let wanted = by_place(wants);
        // Another `ads_config` is another server.
        let ads = bootstrap.dynamic.ads.as_ref();
        self.streams.retain(|it| it.place != Place::Ads || Some(&it.source) == ads);
        for (place, kind, interest, timeout) in &wanted {
            let index = match self.streams.iter().position(|stream| stream.place == *place) {
                Some(index) => index,
                None => match self.open(place, bootstrap) {
                    Some(stream) => {
                        self.streams.push(stream);
                        self.streams.len() - 1
                    }
                    None => {
                        if self.unreachable.insert(*kind) {
                            let text = "cannot be asked for: there is no `ads_config` for `ads`";
                            let url = kind.type_url();
                            log::warning(Component::Config, format_args!("{url} {text}"));
                        }
                        continue;
                    }
                },
            };
            let stream = &mut self.streams[index];
            if stream.interest.get(kind) != Some(interest) {
                stream.handle.set_interest(*kind, interest.clone(), *timeout);
                stream.interest.insert(*kind, interest.clone());
            }
        }
        for stream in &mut self.streams {
            let of_stream = |kind: ResourceType| {
                wanted.iter().any(|(place, wanted, ..)| *place == stream.place && *wanted == kind)
            };
            let over: Vec<_> =
                stream.interest.keys().copied().filter(|kind| !of_stream(*kind)).collect();
            for kind in over {
                stream.handle.set_interest(kind, Interest::Names(BTreeSet::new()), None);
                stream.interest.remove(&kind);
            }
        }
        let is_used = |stream: &Stream| stream.place == Place::Ads || !stream.interest.is_empty();
        self.streams.retain(is_used);
    }

    /// The next event of any stream, and which it was.
    pub async fn event(&mut self) -> (StreamId, Event) {
        first_of(self.streams.iter_mut().map(|it| async { (it.id, it.handle.event().await) })).await
    }

    fn stream(&self, id: StreamId) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.id == id)
    }

    /// What is asked for by a stream.
    pub fn kinds_of(&self, stream: StreamId) -> impl Iterator<Item = ResourceKind> {
        let kinds = self.stream(stream).into_iter().flat_map(|it| it.interest.keys());
        kinds.filter_map(|kind| kind_of(*kind))
    }

    /// Has pages show how all streams do.
    pub fn note_states(&self) {
        for Stream { handle, state, .. } in self.streams.iter().filter(|it| !it.polls()) {
            handle.inspect(|client| {
                state.set(
                    client.is_connected(),
                    client.pending_requests() as u64,
                    client.rate_limit_enforced(),
                    client.control_plane(),
                );
            });
        }
    }

    /// What an event says of a server that is polled: its connections come and go.
    pub fn note_event(&self, stream: StreamId, event: &Event) {
        let connected = match event {
            Event::Connected | Event::Response(_) => true,
            Event::Disconnected(_) => false,
            _ => return,
        };
        if let Some(Stream { state, handle, .. }) = self.stream(stream).filter(|it| it.polls()) {
            handle.inspect(|client| state.set(connected, 0, 0, client.control_plane()));
        }
    }

    /// The thread where streams run, once there is one.
    pub fn carrier(&self) -> Option<&Carrier> {
        self.carrier.as_ref()
    }

    /// What is asked for, and where.
    pub fn asked(&self) -> Vec<Asked> {
        self.streams.iter().flat_map(Stream::asked).collect()
    }

    /// How the stream of ADS does.
    pub fn aggregated(&self) -> Option<Arc<StreamState>> {
        self.streams.iter().find(|it| it.place == Place::Ads).map(|it| it.state.clone())
    }

    /// How the stream does that is for this kind and source alone.
    pub fn stream_of(&self, want: &Want) -> Option<Arc<StreamState>> {
        let place = place_of(&want.source, resource_type(want.kind))?;
        let own = self.streams.iter().find(|it| it.place == place && place != Place::Ads);
        own.filter(|it| !it.polls()).map(|it| it.state.clone())
    }

    /// Answers a response of a stream.
    pub fn answer(&self, stream: StreamId, response: &Response, taken: &Taken) {
        let Some(stream) = self.stream(stream) else { return };
        let names = taken.accepted.iter().map(|one| one.name.clone()).collect();
        let answer = match taken.reasons() {
            None => Ok(Accepted { names }),
            Some(message) => Err(Nack { message, applied: names }),
        };
        stream.handle.answer(response.id, answer);
    }

    fn open(&mut self, place: &Place, bootstrap: &Bootstrap) -> Option<Stream> {
        let (source, scope) = match place {
            Place::Ads => (bootstrap.dynamic.ads.as_ref()?, Scope::Aggregated),
            Place::Single(source, kind) => (source, Scope::Single(*kind)),
        };
        if self.carrier.is_none() {
            self.carrier = Carrier::start().map_err(tell_no_thread).ok();
        }
        let _carried = self.carrier.as_ref().map(Carrier::enter);
        let rate_limit = source
            .rate_limit
            .map(|limit| RateLimit { max_tokens: limit.max_tokens, fill_rate: limit.fill_rate });
        let handle = match (source.api, place) {
            (ApiProtocol::Rest { refresh_delay, request_timeout }, Place::Single(_, kind)) => {
                let service = source.services.first()?;
                rest::poll(rest::Settings {
                    kind: *kind,
                    host: service.authority.clone(),
                    connector: self.connector(service, false),
                    node: self.node_json.clone(),
                    refresh_delay,
                    request_timeout,
                    rate_limit,
                    limits: Limits::default(),
                    seed: self.seed,
                })
            }
            (ApiProtocol::Rest { .. }, Place::Ads) => return None,
            (api, _) => {
                let settings = Settings {
                    variant: match api {
                        ApiProtocol::Delta => Variant::Delta,
                        _ => Variant::StateOfTheWorld,
                    },
                    scope,
                    node: self.node.clone(),
                    node_on_first_message_only: source.node_on_first_message_only,
                    rate_limit,
                    limits: Limits::default(),
                };
                let services = source.services.iter().map(|it| self.service(it)).collect();
                let backoff = Backoff::new(Backoff::BASE, Backoff::MAX, self.seed);
                grpc::open(settings, services, backoff)
            }
        };
        self.opened += 1;
        let (id, place, source) = (StreamId(self.opened), place.clone(), source.clone());
        let (state, interest) = (Arc::default(), BTreeMap::new());
        Some(Stream { id, place, source, handle, state, interest })
    }

    fn service(&self, service: &GrpcService) -> grpc::Service {
        let metadata = service.metadata.iter().map(|(name, value)| grpc::Metadata {
            name: name.clone(),
            value: grpc::MetadataValue::Text(value.clone()),
        });
        if let Some(google) = &service.google {
            return google::service(google, metadata.collect());
        }
        let snapshot = self.publisher.load();
        let cluster = cluster_named(&snapshot.clusters, &service.cluster);
        grpc::Service {
            destination: service.cluster.clone(),
            connector: self.connector(service, true),
            authority: service.authority.clone(),
            tls: cluster.as_ref().is_some_and(|cluster| cluster.tls.is_some()),
            metadata: metadata.collect(),
            connect_timeout: cluster
                .as_ref()
                .map_or(Duration::from_secs(5), |cluster| cluster.config.connect_timeout),
            keepalive: cluster.as_ref().and_then(|cluster| {
                let keepalive = cluster.config.http2.keepalive?;
                let (interval, timeout) = (keepalive.interval?, keepalive.timeout);
                Some(grpc::Keepalive { interval, timeout })
            }),
        }
    }

    /// Connects to a host of the cluster, the next one each time.
    fn connector(&self, service: &GrpcService, http2: bool) -> Connector {
        let (publisher, name) = (self.publisher.clone(), service.cluster.clone());
        let tries = Arc::new(AtomicUsize::new(0));
        Connector::new(move || {
            let cluster = cluster_named(&publisher.load().clusters, &name);
            let turn = tries.fetch_add(1, Ordering::Relaxed);
            let name = name.clone();
            Box::pin(async move {
                let cluster = cluster.ok_or_else(|| {
                    io::Error::other(format!("there is no cluster `{name}` that is warm"))
                })?;
                connect(&cluster, turn, http2).await
            })
        })
    }
}

fn cluster_named(
    clusters: &crate::snapshot::ClusterTable,
    name: &str,
) -> Option<Arc<ClusterEntry>> {
    clusters.iter().find(|entry| entry.config.name == name).cloned()
}

async fn connect(
    cluster: &ClusterEntry,
    turn: usize,
    http2: bool,
) -> io::Result<Box<dyn Connection>> {
    let takes = |host: &&Arc<crate::snapshot::Host>| {
        host.health_status.availability() == Availability::Healthy
    };
    let hosts: Vec<_> = cluster.endpoints.hosts.iter().filter(takes).collect();
    let Some(host) = hosts.get(turn % hosts.len().max(1)) else {
        return Err(io::Error::other("no healthy upstream"));
    };
    let socket = TcpStream::connect(host.address).await?;
    socket.set_nodelay(true)?;
    let Some(tls) = &cluster.tls else { return Ok(Box::new(socket)) };
    let (config, name) = tls.handshake(http2, None, &host.hostname, host.address.ip());
    Ok(Box::new(TlsConnector::from(config).connect(name, socket).await?))
}

/// The control thread carries them itself then.
fn tell_no_thread(error: io::Error) {
    let text = format_args!("no thread for streams to management servers: {error}");
    log::warning(Component::Config, text);
}

/// Everything that is named somewhere, by where it comes from, in the order in which a stream asks
/// for it.
fn by_place(wants: &[Want]) -> Wanted {
    let mut wanted = Wanted::new();
    for want in wants {
        let kind = resource_type(want.kind);
        let Some(place) = place_of(&want.source, kind) else { continue };
        let found = wanted.iter_mut().find(|(at, of, ..)| *at == place && *of == kind);
        match (found, &want.name) {
            (Some((_, _, Interest::Names(names), _)), Some(name)) => {
                names.insert(name.clone());
            }
            (Some((_, _, interest, _)), _) => *interest = Interest::Wildcard,
            (None, name) => {
                let interest = match name {
                    Some(name) => Interest::Names(BTreeSet::from([name.clone()])),
                    None => Interest::Wildcard,
                };
                wanted.push((place, kind, interest, want.source.initial_fetch_timeout));
            }
        }
    }
    wanted.sort_by_key(|(_, kind, ..)| *kind);
    wanted
}

fn place_of(source: &ConfigSource, kind: ResourceType) -> Option<Place> {
    match &source.place {
        ConfigPlace::Ads => Some(Place::Ads),
        ConfigPlace::Api(api) => Some(Place::Single((**api).clone(), kind)),
        // Files are watched, not asked.
        ConfigPlace::Path(_) => None,
    }
}

/// What a resource type is to the configuration; `None`: it is never asked for.
pub(super) fn kind_of(kind: ResourceType) -> Option<ResourceKind> {
    ResourceKind::ALL.into_iter().find(|it| resource_type(*it) == kind)
}

fn resource_type(kind: ResourceKind) -> ResourceType {
    match kind {
        ResourceKind::Cluster => ResourceType::Cluster,
        ResourceKind::ClusterLoadAssignment => ResourceType::ClusterLoadAssignment,
        ResourceKind::Listener => ResourceType::Listener,
        ResourceKind::ScopedRouteConfiguration => ResourceType::ScopedRouteConfiguration,
        ResourceKind::RouteConfiguration => ResourceType::RouteConfiguration,
        ResourceKind::VirtualHost => ResourceType::VirtualHost,
        ResourceKind::Secret => ResourceType::Secret,
        ResourceKind::Runtime => ResourceType::Runtime,
    }
}

/// Resources of a response with what they mean.
pub(super) type Read = Vec<(Received, Result<Resource, ConfigErrors>)>;

/// Reads the resources of a response. Assignments share what did not change with those `before`,
/// by name.
pub(super) fn read(
    kind: ResourceKind,
    response: &mut Response,
    before: impl Fn(&str) -> Option<Arc<ClusterLoadAssignment>>,
    context: &ResourceContext,
) -> Read {
    let at_unix_us = tidegate_io::Now::read().unix_us;
    let resources = std::mem::take(&mut response.resources);
    let read = resources.into_iter().filter_map(|resource| {
        let raw = match resource.body {
            Body::Any { value, .. } => Raw::Message(value.into()),
            Body::Json(mut json) => {
                if let Some(fields) = json.as_object_mut() {
                    fields.remove("@type");
                }
                Raw::Json(serde_json::to_string_pretty(&json).unwrap_or_default())
            }
            Body::Absent | Body::Unchanged => return None,
        };
        let name = resource.name.or_else(|| raw.name()).unwrap_or_default();
        let version = match resource.version.as_str() {
            "" => response.version.clone(),
            version => version.to_owned(),
        };
        Some(read_one(kind, Received { name, version, at_unix_us, raw }, &before, context))
    });
    read.collect()
}

/// Reads one resource; warnings are logged.
pub(super) fn read_one(
    kind: ResourceKind,
    received: Received,
    before: impl Fn(&str) -> Option<Arc<ClusterLoadAssignment>>,
    context: &ResourceContext,
) -> (Received, Result<Resource, ConfigErrors>) {
    let name = &received.name;
    let before = match kind {
        ResourceKind::ClusterLoadAssignment => before(name),
        _ => None,
    };
    let read =
        received.raw.read(kind, name, before.as_deref(), context).map(|(resource, warnings)| {
            for warning in warnings {
                log::warning(Component::Config, format_args!("{name}: {warning}"));
            }
            resource
        });
    (received, read)
}

/// Says what a stream has to say; whether it is a failure of an update.
pub(super) fn tell(event: &Event) {
    match event {
        Event::Disconnected(end) => {
            let say = if end.warn { log::warning } else { log::debug };
            say(Component::Config, format_args!("{}", end.text));
        }
        Event::Refused { kind, message } => {
            let text = format_args!("{}: refused: {message}", kind.type_url());
            log::warning(Component::Config, text);
        }
        Event::Warning(text) => log::warning(Component::Config, format_args!("{text}")),
        _ => {}
    }
}
