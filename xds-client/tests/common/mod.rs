//! A client under test, its requests as lines of text, and responses from a few words.
#![allow(dead_code, reason = "each test binary uses its own part")]

use envoy_types::pb::envoy::config::core::v3::ControlPlane;
use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use envoy_types::pb::google::protobuf::{Any, Duration as ProtoDuration};
use prost::Message as _;
use std::time::{Duration, Instant};
use tidegate_xds::{
    Accepted, Body, Client, Disconnected, Event, Interest, Limits, Nack, Node, Request,
    ResourceType, Response, Scope, Settings, Variant,
};

pub const CDS: ResourceType = ResourceType::Cluster;
pub const EDS: ResourceType = ResourceType::ClusterLoadAssignment;
pub const LDS: ResourceType = ResourceType::Listener;
pub const RDS: ResourceType = ResourceType::RouteConfiguration;
pub const VHDS: ResourceType = ResourceType::VirtualHost;
pub const SDS: ResourceType = ResourceType::Secret;

/// Envoy's default.
pub const TIMEOUT: Option<Duration> = Some(Duration::from_secs(15));

pub fn short(url: &str) -> &'static str {
    match ResourceType::from_type_url(url) {
        Some(ResourceType::Cluster) => "CDS",
        Some(ResourceType::ClusterLoadAssignment) => "EDS",
        Some(ResourceType::Listener) => "LDS",
        Some(ResourceType::RouteConfiguration) => "RDS",
        Some(ResourceType::VirtualHost) => "VHDS",
        Some(ResourceType::Secret) => "SDS",
        _ => "?",
    }
}

/// `EDS node version=e-1 nonce=s1n2 [c1 c2] error=13 text`, `EDS +c1 -c2 have=c3@1`.
pub fn line(request: &Request) -> String {
    let mut words = Vec::new();
    let mut word = |name: &str, value: &str| {
        if !value.is_empty() {
            words.push(format!("{name}{value}"));
        }
    };
    let error = match request {
        Request::StateOfTheWorld(request) => {
            word("", short(&request.type_url));
            word("", if request.node.is_some() { "node" } else { "" });
            word("version=", &request.version_info);
            word("nonce=", &request.response_nonce);
            let names = request.resource_names.join(" ");
            word("", &if names.is_empty() { names } else { format!("[{names}]") });
            &request.error_detail
        }
        Request::Delta(request) => {
            word("", short(&request.type_url));
            word("", if request.node.is_some() { "node" } else { "" });
            word("nonce=", &request.response_nonce);
            request.resource_names_subscribe.iter().for_each(|name| word("+", name));
            request.resource_names_unsubscribe.iter().for_each(|name| word("-", name));
            let mut have: Vec<_> = request.initial_resource_versions.iter().collect();
            have.sort();
            let have: Vec<_> = have.iter().map(|(name, at)| format!("{name}@{at}")).collect();
            word("have=", &have.join(","));
            &request.error_detail
        }
    };
    if let Some(error) = error {
        word("error=", &format!("{} {}", error.code, error.message));
    }
    words.join(" ")
}

pub fn body_in_any(kind: ResourceType, name: &str) -> Any {
    Any { type_url: kind.type_url(), value: name.as_bytes().to_vec() }
}

/// A resource's name; what our servers send has nothing else in it.
pub fn name_in(body: &Body) -> String {
    match body {
        Body::Any { value, .. } => String::from_utf8(value.clone()).unwrap(),
        other => panic!("{other:?}"),
    }
}

pub fn sotw(kind: ResourceType, version: &str, nonce: &str, names: &[&str]) -> Vec<u8> {
    sotw_message(kind, version, nonce, names.iter().map(|name| body_in_any(kind, name)).collect())
}

pub fn sotw_message(kind: ResourceType, version: &str, nonce: &str, all: Vec<Any>) -> Vec<u8> {
    let response = discovery::DiscoveryResponse {
        version_info: version.to_owned(),
        type_url: kind.type_url(),
        nonce: nonce.to_owned(),
        resources: all,
        control_plane: Some(ControlPlane { identifier: "mock".to_owned() }),
        ..Default::default()
    };
    response.encode_to_vec()
}

/// A resource with all that delta says of it; without a body when `body` is not set.
pub fn wrapped(
    kind: ResourceType,
    name: &str,
    version: &str,
    ttl: Option<u64>,
    body: bool,
) -> discovery::Resource {
    let seconds = ttl.map(|seconds| i64::try_from(seconds).unwrap());
    discovery::Resource {
        name: name.to_owned(),
        version: version.to_owned(),
        resource: body.then(|| body_in_any(kind, name)),
        ttl: seconds.map(|seconds| ProtoDuration { seconds, nanos: 0 }),
        ..Default::default()
    }
}

pub fn in_any(resource: &discovery::Resource) -> Any {
    let type_url = "type.googleapis.com/envoy.service.discovery.v3.Resource".to_owned();
    Any { type_url, value: resource.encode_to_vec() }
}

pub fn delta(
    kind: ResourceType,
    nonce: &str,
    resources: &[discovery::Resource],
    removed: &[&str],
) -> Vec<u8> {
    let response = discovery::DeltaDiscoveryResponse {
        system_version_info: format!("system-{nonce}"),
        type_url: kind.type_url(),
        nonce: nonce.to_owned(),
        resources: resources.to_vec(),
        removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    };
    response.encode_to_vec()
}

/// Delta with resources as `name@version`.
pub fn delta_of(kind: ResourceType, nonce: &str, resources: &[&str], removed: &[&str]) -> Vec<u8> {
    let resources: Vec<_> = resources
        .iter()
        .map(|text| {
            let (name, version) = text.split_once('@').unwrap();
            wrapped(kind, name, version, None, true)
        })
        .collect();
    delta(kind, nonce, &resources, removed)
}

pub fn settings(variant: Variant) -> Settings {
    Settings {
        variant,
        scope: Scope::Aggregated,
        node: Node { id: "lab-node".to_owned(), ..Default::default() },
        node_on_first_message_only: true,
        rate_limit: None,
        limits: Limits::default(),
    }
}

pub fn names(names: &[&str]) -> Interest {
    Interest::Names(names.iter().map(|name| (*name).to_owned()).collect())
}

pub fn accepted(names: &[&str]) -> Result<Accepted, Nack> {
    Ok(Accepted { names: names.iter().map(|name| (*name).to_owned()).collect() })
}

pub fn refused(message: &str) -> Result<Accepted, Nack> {
    Err(Nack { message: message.to_owned(), applied: Vec::new() })
}

/// A client with its clock.
pub struct Scene {
    pub client: Client,
    pub now: Instant,
}

impl Scene {
    #[allow(clippy::disallowed_methods, reason = "any instant does for a test")]
    pub fn new(settings: Settings) -> Self {
        Self { client: Client::new(settings), now: Instant::now() }
    }

    /// Connected, with all events and requests of that taken.
    pub fn connected(settings: Settings, interest: &[(ResourceType, Interest)]) -> Self {
        let mut scene = Self::new(settings);
        for (kind, interest) in interest {
            scene.client.set_interest(*kind, interest.clone(), TIMEOUT);
        }
        scene.client.handle_connected();
        assert_eq!(scene.event(), Event::Connected);
        scene.requests();
        scene
    }

    pub fn requests(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(request) = self.client.poll_request(self.now) {
            lines.push(line(&request));
            assert!(lines.len() < 1000, "it never ends: {lines:#?}");
        }
        lines
    }

    /// All requests that wait are these.
    #[track_caller]
    pub fn sends(&mut self, expected: &[&str]) {
        assert_eq!(self.requests(), expected);
    }

    #[track_caller]
    pub fn event(&mut self) -> Event {
        self.client.poll_event().expect("an event")
    }

    #[track_caller]
    pub fn quiet(&mut self) {
        assert_eq!(self.client.poll_event(), None);
    }

    /// A message that gives one response to the application.
    #[track_caller]
    pub fn receives(&mut self, bytes: &[u8]) -> Response {
        self.client.handle_message(bytes, self.now).unwrap();
        match self.event() {
            Event::Response(response) => response,
            other => panic!("{other:?}"),
        }
    }

    /// A message that the client deals with alone.
    #[track_caller]
    pub fn receives_unseen(&mut self, bytes: &[u8]) {
        self.client.handle_message(bytes, self.now).unwrap();
        self.quiet();
    }

    /// A message that the client refuses; answers its words.
    #[track_caller]
    pub fn receives_bad(&mut self, bytes: &[u8]) -> String {
        self.client.handle_message(bytes, self.now).unwrap();
        match self.event() {
            Event::Refused { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn takes(&mut self, bytes: &[u8], names: &[&str]) {
        let response = self.receives(bytes);
        assert!(self.client.answer(response.id, accepted(names)));
    }

    pub fn disconnects(&mut self) {
        let (text, retry_in) = ("gone".to_owned(), Duration::ZERO);
        let ended = Disconnected { text, warn: false, failed: false, retry_in };
        self.client.handle_disconnected(ended.clone());
        assert_eq!(self.event(), Event::Disconnected(ended));
    }

    pub fn connects(&mut self) {
        self.client.handle_connected();
        assert_eq!(self.event(), Event::Connected);
    }

    /// Time passes, up to the next timer and beyond.
    pub fn passes(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.client.handle_timeout(self.now);
    }
}
