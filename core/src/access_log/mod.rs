//! Access logs: a compiled format, lines made on the shard, written by a thread of their own.
//!
//! A shard formats into its own buffer and hands whole buffers over: no lock and no system call per request.
//!
//! What it leaves to others: when a stream is over (`proxy`).

use crate::config;
use crate::reply::ResponseFlags;
use std::net::SocketAddr;
use tidegate_http::{RequestHead, ResponseHead};

/// What is known of a stream when it is over.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When the request began, in microseconds since 1970.
    pub start_unix_us: u64,
    /// From the first byte of the request to the last of the response, in microseconds.
    pub duration_us: u64,
    /// The request's head; `None` when none was readable.
    pub request: Option<&'a RequestHead>,
    /// The response's head, local replies included.
    pub response: Option<&'a ResponseHead>,
    /// Status sent downstream, 0 for none.
    pub status: u16,
    /// Response flags.
    pub flags: ResponseFlags,
    /// Response code details.
    pub details: &'a str,
    /// Body bytes received from downstream.
    pub bytes_received: u64,
    /// Body bytes sent downstream.
    pub bytes_sent: u64,
    /// The upstream host, if one was chosen.
    pub upstream_host: Option<SocketAddr>,
    /// The upstream cluster, if one was chosen.
    pub upstream_cluster: Option<&'a str>,
    /// From the last byte of the request sent upstream to the first of the response.
    pub upstream_service_ms: Option<u64>,
    /// The client.
    pub downstream_remote_address: Option<SocketAddr>,
    /// Our end.
    pub downstream_local_address: Option<SocketAddr>,
    /// The route's name.
    pub route_name: Option<&'a str>,
}

/// One access log, shared by the shards.
#[derive(Debug)]
pub struct AccessLogger {
    /// What was asked for.
    pub config: config::AccessLog,
}
