//! Envoy's xDS, the client's side: state of the world and delta, aggregated and by type, over gRPC,
//! REST and files.
//!
//! What it leaves to others: what is in resources and which of them are needed (the application
//! decodes a `Cluster` and finds that it wants its endpoints), how a server is reached (the
//! application gives a `Connector`: names, balancing, unix sockets and TLS are its own), keeping
//! what was received, logs and stats.
//!
//! # How to drive it
//!
//! 1. `transport::grpc::open` starts one task for one stream, `transport::rest::poll` one for one
//!    type, on the current tokio runtime (current-thread is enough), and answers a `Handle`.
//!    Dropping it ends the stream. Streams are made anew for ever, with back-off; nothing that was
//!    received is lost by it.
//! 2. `Handle::set_interest` says what is wanted of a type: `Interest::Wildcard` for LDS and CDS,
//!    names for all else, always the full set; an empty one ends the subscription.
//!    `Handle::change_interest` says it by what changes, which is cheap among many names. Both take
//!    effect in the order of calls: want endpoints before you accept the clusters that need them,
//!    and requests go out as Envoy's do. A name that was given up and is wanted again is asked for
//!    anew.
//! 3. `Handle::event` tells what happened. An `Event::Response` is answered exactly once by
//!    `Handle::answer`, at any time, also after later responses or a reconnect
//!    (`ack_after_warming`):
//!    - `Ok(Accepted { names })` names the resources that were in it. Resources of
//!      state-of-the-world responses carry no names outside their bodies, so only the application
//!      can tell; in delta these are the names whose versions the next stream will claim.
//!    - `Err(Nack { message, applied })` refuses it. Name resource, path and reason.
//!
//!    Where `Response::whole` is set, what is missing is gone (but a `Body::Unchanged` is not
//!    missing); elsewhere only `removed` and `Event::Expired` take resources away. Ignore resources
//!    that you did not ask for; Envoy does, and accepts the response. Refuse a name that comes
//!    twice in one response where only bodies name it (`duplicate cluster c1 found`); where the
//!    protocol names resources the client does that.
//! 4. `Event::FetchTimedOut` ends the wait for a first answer (`initial_fetch_timeout`), counted
//!    from when the first request with the name went out. It does not begin while no server could
//!    be reached: then `Event::Disconnected { failed: true, .. }` comes with each try, and it is
//!    for the application to go on without.
//! 5. `Event::Connected`, `Disconnected`, `Refused` and `Warning` are for stats and the log;
//!    `Handle::inspect` shows the rest: `Client::pending_requests`, `rate_limit_enforced`,
//!    `control_plane`, `version`.
//!
//! `transport::file::File` is for `path_config_source`: it gives bytes when something was moved
//! into place, and the application decodes them as a `DiscoveryResponse`.
//!
//! # What it does by itself
//!
//! Nonces, versions, node once or always, order on reconnect (`ResourceType`), times to live and
//! their heartbeats, `initial_resource_versions`, re-subscription, back-off, rate limits, limits on
//! all that a server can make grow (`Limits`), and the refusal of responses that no application
//! should see: a name twice, a name both added and removed, a body of another type, more than the
//! limits.
//!
//! `Client` is all of that without IO, for simulators and fuzzing.
#![forbid(unsafe_code)]

mod backoff;
mod client;
mod closed;
mod limits;
mod message;
mod resource_type;
mod timers;
pub mod transport;
mod wire;

pub use backoff::{Backoff, RateLimit};
pub use client::{Client, Scope, Settings, Variant};
pub use envoy_types::pb::envoy::config::core::v3::Node;
pub use limits::Limits;
pub use message::{
    Accepted, Body, Disconnected, Event, Interest, Nack, Request, Resource, ResourceError,
    Response, ResponseId, WILDCARD,
};
pub use resource_type::ResourceType;
