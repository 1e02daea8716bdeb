//! Bounds of what a shard holds for its peers, and the times that are ours and not the
//! configuration's.
//!
//! What it leaves to others: limits that Envoy configures.

use std::time::Duration;

/// Room for the completions of a busy turn; the vector grows if there are more.
pub const COMPLETIONS_PER_TURN_EXPECTED: usize = 256;

/// A sender that is this far ahead of its receiver is paused: bytes given to a connection and not
/// yet taken by the kernel. Smaller than Envoy's 1 MiB default limit, which is an upper bound, so
/// that what waits stays in the cache.
pub const OUTPUT_BYTES_HIGH: usize = 256 * 1024;

/// A paused sender goes on below this.
pub const OUTPUT_BYTES_LOW: usize = 64 * 1024;

/// The same for a connection of `tcp_proxy`, of which there may be many that are all ahead.
pub const RELAY_BYTES_HIGH: usize = 128 * 1024;

/// Bodies from this length on are spliced. With shorter ones it saves little: what there is moves
/// in more and smaller pieces than copies would be, which peers on the same host pay for.
pub const SPLICE_BODY_BYTES_MIN: u64 = 1 << 20;

/// A rest that is shorter is received.
pub const SPLICE_BYTES_MIN: u64 = 16 * 1024;

/// What is received of a response that may be a long one, before the rest is spliced: room for its
/// head.
pub const BULK_HEAD_BYTES: u32 = 4 * 1024;

/// A stream of HTTP/2 whose client's window is closed is ahead when so much waits; and one that was
/// ahead goes on below this.
pub const HTTP2_BLOCKED_BYTES: usize = 4 * 1024;

/// A client with a smaller window than this gets a response by pieces that fit.
pub const HTTP2_WINDOW_SMALL: usize = 32 * 1024;

/// How long a connection of HTTP/2 is idle before the memory that it does not need is given back.
pub const HTTP2_TRIM_AFTER: Duration = Duration::from_secs(1);

/// How long a handshake of TLS may take where `transport_socket_connect_timeout` says nothing.
/// Envoy waits for ever.
pub const HANDSHAKE: Duration = Duration::from_secs(15);

/// Bytes of further (pipelined) requests held while one is answered; more stay in the kernel.
pub const HELD_BYTES_MAX: usize = 64 * 1024;

/// Pieces in which they are held; many small ones cost more than their bytes.
pub const HELD_BUFFERS_MAX: usize = 64;

/// How long an origin that broke HTTP/2 has to read why its connection ends.
pub const PARTING: Duration = Duration::from_millis(1000);

/// How long to wait before accepting again when descriptors ran out: nothing spins, and it
/// recovers.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How long to wait before trying again what another shard or the kernel may soon make possible.
pub const RETRY: Duration = Duration::from_millis(5);

/// How often memory is given back that was not needed since the last time.
pub const TRIM: Duration = Duration::from_secs(1);

/// When draining, a connection that was idle this long is closed; one that sends a request in the
/// meantime is answered with `connection: close`, so that no request meets a closed connection.
pub const DRAIN_IDLE: Duration = Duration::from_millis(1000);

/// When draining, a listener accepts what its queue still holds for this long, with a backlog of
/// none.
pub const DRAIN_ACCEPT: Duration = Duration::from_millis(200);

/// Hosts that are chosen for one retry until one is found that was not tried before.
pub const HOST_SELECTIONS_MAX: u32 = 128;

/// Connections that are made ahead, at most, with one request.
pub const PRECONNECTS_PER_REQUEST: usize = 3;

/// Server names for which a shard has idle connections to one host, by protocol: for another one,
/// those close that nobody has asked for for longest. Clients choose names; how many are in use is
/// for circuit breakers to say.
pub const SERVER_NAMES_MAX: usize = 256;

/// The longest server name (RFC 1035, section 2.3.4).
pub const SERVER_NAME_BYTES_MAX: usize = 253;

/// gRPC methods, by cluster, that a shard counts by their names; the calls of others are counted
/// without. A client can invent names.
pub const GRPC_METHODS_MAX: usize = 1000;

/// The longest name that a gRPC method is counted by.
pub const GRPC_METHOD_BYTES_MAX: usize = 256;

/// Request and response heads kept for reuse, and other memory of streams.
pub const SPARE_HEADS_MAX: usize = 1024;

/// A queue of buffers that was longer is not kept.
pub const SPARE_QUEUE_LENGTH_MAX: usize = 64;

/// A head whose memory has grown beyond this is not kept.
pub const SPARE_HEAD_BYTES_MAX: usize = 8 * 1024;

/// Bytes of a body that we do not want, read and dropped before the connection is closed for good.
pub const LINGER_BYTES_MAX: u64 = 1024 * 1024;

const _: () = assert!(OUTPUT_BYTES_LOW < OUTPUT_BYTES_HIGH);
