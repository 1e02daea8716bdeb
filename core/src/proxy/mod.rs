//! One request's way through a shard: from a downstream connection to an upstream one and back.
//!
//! Every function here is a method of [`Shard`](crate::shard::Shard), in the file of the noun that
//! it is about. One completion is one chain of calls down and one return; nothing waits.
//!
//! What it leaves to others: bytes on the wire (`tidegate-http`), sockets (`tidegate-io`), which
//! host (`upstream`).

mod admit;
mod attach;
mod attempts;
mod charge;
mod client_address;
mod client_certificate;
mod closing;
mod codec;
mod connect;
mod deadline;
mod downstream;
mod encode;
mod flow;
mod grpc_stats;
mod grpc_to_http1;
mod handshake;
mod header_mutation;
mod http1_downstream;
mod http1_upstream;
mod http2;
mod http2_downstream;
mod http2_share;
mod http2_upstream;
mod internal_redirect;
mod keepalive;
mod local_reply;
mod map_reply;
mod measure;
mod mutate;
mod normalize;
mod proxy_status;
mod redirect;
mod refused_head;
mod relay;
mod request_id;
mod request_timeouts;
mod response;
mod retry;
mod rewrite;
mod router;
mod server_name;
mod settle;
mod splice;
mod stream;
mod timeouts;
mod tunnel;
mod upstream;

pub(crate) use deadline::{Alarm, earliest};
pub use downstream::Downstream;
pub use grpc_stats::GrpcScopes;
pub use header_mutation::MutationScratch;
pub use http2::Moved;
pub use relay::Relay;
pub use stream::Stream;
pub use upstream::Upstream;
