//! gRPC calls to clusters that speak HTTP/1.1 without trailers: the status of a call would be lost,
//! so it is answered here, and says what to set. Envoy forwards it, and its client sees a call
//! without a status.
//!
//! A client of HTTP/1.1 is none of gRPC's, whatever it calls its content: its requests go on.
//!
//! What it leaves to others: writing the reply (`local_reply`).

use super::stream::Stream;
use crate::reply::LocalReply;
use crate::shard::{Shard, StreamKey};
use crate::snapshot::is_grpc;
use crate::stats::ClusterStat;
use tidegate_http::Method;
use tidegate_io::Io;

impl Stream {
    /// Whether it is a call whose status could not come back from its cluster.
    #[inline]
    pub(super) fn is_grpc_to_http1(&self) -> bool {
        let loses_trailers = || {
            !self.wants_http2()
                && self.cluster().is_some_and(|entry| !entry.config.http1.enable_trailers)
        };
        self.downstream_http2.is_some()
            && self.request.method == Method::Post
            && loses_trailers()
            && is_grpc(&self.request)
    }
}

impl<I: Io> Shard<I> {
    /// Answers such a call.
    #[cold]
    pub(super) fn refuse_grpc_to_http1(&mut self, key: StreamKey) {
        let Some(cluster) = self.streams.get(key).and_then(Stream::cluster).cloned() else {
            return;
        };
        self.stats.inc(cluster.stats, ClusterStat::UpstreamRqGrpcOverHttp1);
        let body = format!(
            "cluster `{}` speaks HTTP/1.1, which loses the status of a gRPC call: set \
             http2_protocol_options in its HttpProtocolOptions, or enable_trailers in its \
             http_protocol_options",
            cluster.config.name
        );
        self.local_reply_saying(key, LocalReply::GRPC_OVER_HTTP1, &body);
    }
}
