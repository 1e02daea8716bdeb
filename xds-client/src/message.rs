//! What passes between the client, its server and its application, as plain data.
//!
//! What it leaves to others: how messages lie on the wire (`wire`).

use crate::ResourceType;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use prost::Message as _;
use std::time::Duration;

/// What the server is to be told next.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Of a state-of-the-world stream.
    StateOfTheWorld(DiscoveryRequest),
    /// Of a delta stream.
    Delta(DeltaDiscoveryRequest),
}

impl Request {
    /// The message's bytes, as protobuf.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::StateOfTheWorld(request) => request.encode_to_vec(),
            Self::Delta(request) => request.encode_to_vec(),
        }
    }
}

/// Names a response until it is answered. Later responses have larger ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResponseId(pub(crate) u64);

/// What a resource holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A message by gRPC.
    Any {
        /// `type.googleapis.com/…`, equal to the response's type when both are present.
        type_url: String,
        /// The message, encoded.
        value: Vec<u8>,
    },
    /// A message by REST: proto3 JSON with its `@type`.
    Json(serde_json::Value),
    /// There is no such resource, for example no such virtual host (VHDS on demand).
    Absent,
    /// It is what it was: its time to live begins anew. Only where `Response::whole` is set;
    /// elsewhere the client keeps such news for itself.
    Unchanged,
}

/// One resource of a response.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Its name, where the protocol gives one: delta, or wrapped in `envoy.service.discovery.v3.
    /// Resource`. Elsewhere only the body names it.
    pub name: Option<String>,
    /// Its own version; empty where it has none.
    pub version: String,
    /// Other names that it answers to (VHDS).
    pub aliases: Vec<String>,
    /// How long it lives unless it is sent again.
    pub ttl: Option<Duration>,
    /// What it holds.
    pub body: Body,
}

/// The server cannot give a resource (`resource_errors`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceError {
    /// The resource's name.
    pub name: String,
    /// gRPC's code.
    pub code: i32,
    /// Why.
    pub message: String,
}

/// A response that the application takes or refuses: exactly one `Client::answer` is owed for it,
/// at any time, also after later responses.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// For the answer.
    pub id: ResponseId,
    /// What all its resources are.
    pub kind: ResourceType,
    /// `version_info` or `system_version_info`.
    pub version: String,
    /// `control_plane.identifier`; empty without one.
    pub control_plane: String,
    /// What is new or changed. Names that nobody asked for are left out in delta; over
    /// state-of-the-world streams the application ignores them, as only it can read the names.
    pub resources: Vec<Resource>,
    /// Names that are gone (delta). A name that was never there does not exist.
    pub removed: Vec<String>,
    /// Whether what is missing in `resources` is gone: LDS, CDS and SRDS of state-of-the-world
    /// streams.
    pub whole: bool,
    /// What the server could not give.
    pub errors: Vec<ResourceError>,
}

/// A response was good (ACK).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The names of its resources: what came of those asked for. Their first fetch is over, their
    /// time to live begins, and in delta their versions are remembered for the next stream.
    pub names: Vec<String>,
}

/// A response was bad (NACK).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nack {
    /// What the server's operator reads: name the resource, the path in it and the reason. At most
    /// 16 KiB of it are sent.
    pub message: String,
    /// The names of resources in it that were applied nevertheless, as Envoy does with the valid
    /// ones of LDS and CDS: their first fetch is over and their time to live begins, but their
    /// versions are not remembered, so that the server sends them again on the next stream.
    pub applied: Vec<String>,
}

/// What the application is told. Some are for its log and stats alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A stream has begun (`control_plane.connected_state` 1).
    Connected,
    /// A stream has ended, or none came to be (`connected_state` 0). What was received stays valid.
    Disconnected(Disconnected),
    /// A response to answer.
    Response(Response),
    /// The client has refused a response itself (counts as `update_rejected`): nothing to answer.
    Refused {
        /// Its type.
        kind: ResourceType,
        /// What the server was told.
        message: String,
    },
    /// The time to live of resources is over: they are gone.
    Expired {
        /// Their type.
        kind: ResourceType,
        /// Their names.
        names: Vec<String>,
    },
    /// `initial_fetch_timeout` is over for names of which nothing came: go on without them. It
    /// counts from when the first request with the name went out, and over later disconnects: while
    /// no server could ever be reached it does not begin (see `Disconnected::failed`).
    FetchTimedOut {
        /// Their type.
        kind: ResourceType,
        /// Their names; `*` for a wildcard.
        names: Vec<String>,
    },
    /// Something that an operator should read: the server did what it should not.
    Warning(String),
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnected {
    /// In Envoy's words, for the log.
    pub text: String,
    /// Whether it deserves a warning; otherwise it is for the debug level, as in Envoy: a stream
    /// that a server ended in good order, or a failure that has not lasted for 30 s yet.
    pub warn: bool,
    /// Whether not one response came on it: an `update_failure` of each subscription.
    pub failed: bool,
    /// The next try is so far away.
    pub retry_in: Duration,
}

/// What the application wants of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// All that the server has: LDS, CDS, SRDS.
    Wildcard,
    /// These, and none when empty. `*` among them is the wildcard beside names. Over delta VHDS a
    /// name without a host (a route configuration's) stands for all `<name>/<host>`.
    Names(std::collections::BTreeSet<String>),
}

/// The name of the wildcard.
pub const WILDCARD: &str = "*";
