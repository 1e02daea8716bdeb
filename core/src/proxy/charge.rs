//! What a finished answer counts for: its connection manager, its listener, and the cluster that
//! gave it or was the cause of it.
//!
//! What it leaves to others: cells (`stats`), when something is counted (`response`, `stream`).

use super::stream::Stream;
use crate::shard::{Shard, StreamKey};
use crate::snapshot::HttpEntry;
use crate::stats::{ClusterStat, HttpStat, ListenerHttpStat};
use tidegate_io::Io;

impl<I: Io> Shard<I> {
    /// The stream's cluster has answered with this code, or is the cause of a reply with it.
    pub(crate) fn charge_code(&self, key: StreamKey, code: u16) {
        let Some(stream) = self.streams.get(key) else { return };
        let codes = match stream.internal {
            true => ClusterStat::InternalCodes,
            false => ClusterStat::ExternalCodes,
        };
        self.charge_codes(stream, codes, code);
    }

    /// The stream's cluster has answered with this code, and is asked once more.
    pub(crate) fn charge_retried_code(&self, key: StreamKey, code: u16) {
        let Some(stream) = self.streams.get(key) else { return };
        self.charge_codes(stream, ClusterStat::RetryCodes, code);
    }

    fn charge_codes(&self, stream: &Stream, codes: ClusterStat, code: u16) {
        if let Some(cluster) = stream.cluster()
            && !stream.http().config.router.without_dynamic_stats
        {
            self.stats.charge(cluster.stats, codes, code);
        }
    }

    /// The response of the stream's cluster is complete: how long it took, from the end of the
    /// request on.
    pub(crate) fn charge_time(&self, key: StreamKey) {
        let Some(stream) = self.streams.get(key) else { return };
        let (Some(cluster), Some(received)) = (stream.cluster(), stream.request_received) else {
            return;
        };
        if stream.tunnel || stream.http().config.router.without_dynamic_stats {
            return;
        }
        let time = match stream.internal {
            true => ClusterStat::InternalRqTime,
            false => ClusterStat::ExternalRqTime,
        };
        let elapsed = self.now.instant - received;
        self.stats.record(cluster.stats, time, elapsed.as_millis() as u64);
    }

    /// A response with this status is complete.
    pub(crate) fn count_status(&self, http: &HttpEntry, status: u16) {
        let (class, of_listener) = match status / 100 {
            1 => (HttpStat::DownstreamRq1xx, ListenerHttpStat::DownstreamRq1xx),
            2 => (HttpStat::DownstreamRq2xx, ListenerHttpStat::DownstreamRq2xx),
            3 => (HttpStat::DownstreamRq3xx, ListenerHttpStat::DownstreamRq3xx),
            4 => (HttpStat::DownstreamRq4xx, ListenerHttpStat::DownstreamRq4xx),
            5 => (HttpStat::DownstreamRq5xx, ListenerHttpStat::DownstreamRq5xx),
            _ => return,
        };
        self.stats.inc(http.stats, class);
        self.stats.inc(http.stats, HttpStat::DownstreamRqCompleted);
        self.stats.inc(http.listener_stats, of_listener);
        self.stats.inc(http.listener_stats, ListenerHttpStat::DownstreamRqCompleted);
    }
}
