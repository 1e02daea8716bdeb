//! What a route makes of `grpc-timeout`: `max_stream_duration` of its action, and the deprecated
//! fields that it took the place of.
//!
//! What it leaves to others: applying it (`proxy::request_timeouts`).

#![allow(deprecated, reason = "Envoy still accepts fields that it calls deprecated")]

use super::convert::At;
use super::support::{SupportedMessage, message, used};
use envoy_types::pb::envoy::config::route::v3 as pb;
use std::time::Duration;

/// How the timeout that a gRPC client asks for is limited and shortened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GrpcTimeout {
    /// `grpc_timeout_header_max` or `max_grpc_timeout`; zero: no bound.
    pub max: Duration,
    /// `grpc_timeout_header_offset` or `grpc_timeout_offset`: the timeout is shorter by this.
    pub offset: Duration,
}

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[message(
    "envoy.config.route.v3.RouteAction.MaxStreamDuration",
    &[
        used("max_stream_duration"),
        used("grpc_timeout_header_max"),
        used("grpc_timeout_header_offset"),
    ],
)];

impl GrpcTimeout {
    /// `max_stream_duration` of an action.
    pub(super) fn from_proto(at: &At<'_>, action: &pb::RouteAction) -> Option<GrpcTimeout> {
        let duration = action.max_stream_duration.as_ref()?;
        let at = at.field("max_stream_duration");
        let max = duration.grpc_timeout_header_max.as_ref();
        let max = at.field("grpc_timeout_header_max").duration(max);
        let at_offset = at.field("grpc_timeout_header_offset");
        let offset = at_offset.duration(duration.grpc_timeout_header_offset.as_ref());
        if max.is_none() && offset.is_some() {
            at_offset.warning("no effect without `grpc_timeout_header_max`");
        }
        Some(GrpcTimeout { max: max?, offset: offset.unwrap_or_default() })
    }

    /// `max_grpc_timeout` and `grpc_timeout_offset` of an action.
    pub(super) fn of_deprecated(at: &At<'_>, action: &pb::RouteAction) -> Option<GrpcTimeout> {
        let (at_max, at_offset) = (at.field("max_grpc_timeout"), at.field("grpc_timeout_offset"));
        let max = at_max.duration(action.max_grpc_timeout.as_ref());
        let offset = at_offset.duration(action.grpc_timeout_offset.as_ref());
        if max.is_none() && offset.is_some() {
            at_offset.warning("no effect without `max_grpc_timeout`");
        }
        let max = max?;
        if action.max_stream_duration.is_some() {
            at_max.warning("no effect beside `max_stream_duration`");
            return None;
        }
        Some(GrpcTimeout { max, offset: offset.unwrap_or_default() })
    }
}
