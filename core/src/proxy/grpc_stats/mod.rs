//! The filter `grpc_stats`: counts gRPC calls by cluster and, where that is wanted, by method.
//!
//! What it leaves to others: which methods have names (`config`), where one message ends
//! (`messages`), pages (`admin`).

mod messages;

use super::stream::{Phase, Stream};
use crate::config::{GrpcMethods, GrpcStats};
use crate::shard::{Shard, StreamKey, limits};
use crate::snapshot::{ClusterEntry, is_grpc};
use crate::stats::{GrpcStat, Registry, Scope, ServerStat, ShardStats, StatId};
use messages::Messages;
use std::collections::HashMap;
use tidegate_http::{BodyLength, Headers, Name, ResponseHead};
use tidegate_io::{Instant, Io};

/// A call that is counted.
#[derive(Debug)]
pub struct GrpcCall {
    scope: Scope,
    request: Messages,
    /// Of a response whose head says that it is gRPC's.
    response: Option<Messages>,
}

/// The scopes that this shard has counted calls in, by the cluster's own.
#[derive(Debug, Default)]
pub struct GrpcScopes {
    clusters: HashMap<StatId, OfCluster>,
    /// Methods with names, of all clusters.
    named: usize,
}

#[derive(Debug, Default)]
struct OfCluster {
    /// Of calls that have no name of their own.
    unnamed: Option<Scope>,
    /// By `service.method`.
    named: HashMap<Box<str>, Scope>,
}

impl GrpcScopes {
    /// The scope of a method's calls; `None` where it is not known and there is no room for more.
    fn named(&mut self, cluster: &ClusterEntry, name: &str, registry: &Registry) -> Option<Scope> {
        let of_cluster = self.clusters.entry(cluster.stats.base).or_default();
        if let Some(scope) = of_cluster.named.get(name) {
            return Some(*scope);
        }
        if self.named >= limits::GRPC_METHODS_MAX {
            return None;
        }
        self.named += 1;
        let scope = registry.grpc_scope(&cluster.config.stat_name, name);
        of_cluster.named.insert(name.into(), scope);
        Some(scope)
    }

    fn unnamed(&mut self, cluster: &ClusterEntry, registry: &Registry) -> Scope {
        let of_cluster = self.clusters.entry(cluster.stats.base).or_default();
        let make = || registry.grpc_scope(&cluster.config.stat_name, "");
        *of_cluster.unnamed.get_or_insert_with(make)
    }
}

impl GrpcCall {
    /// Counts the status that a head or trailers have, if they do.
    pub(super) fn charge_status(&self, stats: &ShardStats, headers: &Headers) {
        let Some(status) = headers.get_name(b"grpc-status") else { return };
        if let Some(stat) = GrpcStat::of_status(status) {
            stats.inc(self.scope, stat);
        }
        let verdict = if status == b"0" { GrpcStat::Success } else { GrpcStat::Failure };
        stats.inc(self.scope, verdict);
        stats.inc(self.scope, GrpcStat::Total);
    }
}

impl<I: Io> Shard<I> {
    /// The request goes to a cluster: if it is a gRPC call, and these are counted, it is from here
    /// on.
    #[cold]
    pub(super) fn begin_grpc_call(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let listener = stream.listener.clone();
        let http = &listener.http;
        let (Some(config), Some(registry)) = (&http.config.grpc_stats, &http.grpc_stats) else {
            return;
        };
        stream.grpc_call = None;
        let Some(cluster) = stream.cluster.and_then(|id| stream.snapshot.clusters.get(id)) else {
            return;
        };
        let names = method_of(stream.request.path()).filter(|_| is_grpc(&stream.request));
        let Some((service, method)) = names else { return };
        let mut name = std::mem::take(&mut self.scratch);
        name.clear();
        let named = write_name(config, service, method, &mut name);
        let scope = match named.map(|name| self.grpc_scopes.named(cluster, name, registry)) {
            Some(Some(scope)) => scope,
            refused => {
                if refused.is_some() {
                    self.stats.inc(self.server, ServerStat::GrpcMethodsRefused);
                }
                self.grpc_scopes.unnamed(cluster, registry)
            }
        };
        self.scratch = name;
        let request = Messages::default();
        stream.grpc_call = Some(Box::new(GrpcCall { scope, request, response: None }));
    }
}

impl Stream {
    /// The upstream's response is complete.
    #[inline]
    pub(super) fn charge_grpc_end(&self, stats: &ShardStats, now: Instant) {
        let Some(call) = &self.grpc_call else { return };
        if let Some(trailers) = &self.response_trailers {
            call.charge_status(stats, trailers);
        }
        let is_ended = self.response_trailers.is_some() || self.response_body == BodyLength::None;
        let wants_times = self.http().config.grpc_stats.as_ref().is_some_and(|it| it.times);
        if let Some(received) = self.request_received.filter(|_| is_ended && wants_times) {
            let elapsed = now - received;
            stats.record(call.scope, GrpcStat::UpstreamRqTime, elapsed.as_millis() as u64);
        }
    }

    /// Bytes of the request pass.
    #[inline]
    pub(super) fn count_grpc_request(&mut self, stats: &ShardStats, data: &[u8]) {
        if let Some(call) = &mut self.grpc_call
            && self.phase != Phase::Answered
        {
            let begun = call.request.pass(data);
            if begun > 0 {
                stats.add(call.scope, GrpcStat::RequestMessageCount, begun);
            }
        }
    }

    /// Bytes of the response pass.
    #[inline]
    pub(super) fn count_grpc_response(&mut self, stats: &ShardStats, data: &[u8]) {
        let Some(call) = &mut self.grpc_call else { return };
        if call.response.is_none() && is_grpc_response(&self.response) {
            call.response = Some(Messages::default());
        }
        let begun = call.response.as_mut().map_or(0, |messages| messages.pass(data));
        if begun > 0 {
            stats.add(call.scope, GrpcStat::ResponseMessageCount, begun);
        }
    }
}

fn is_grpc_response(response: &ResponseHead) -> bool {
    let content_type = response.headers.get(Name::ContentType).unwrap_or_default();
    let rest = content_type.strip_prefix(b"application/grpc");
    response.status == 200 && rest.is_some_and(|rest| matches!(rest, [] | [b'+', ..]))
}

/// Service and method of a path that has the two and nothing else.
fn method_of(path: &[u8]) -> Option<(&str, &str)> {
    let path = path.split(|byte| *byte == b'?').next()?;
    let mut parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
    let names = (parts.next()?, parts.next()?);
    let is_over = parts.next().is_none();
    let text = |part| std::str::from_utf8(part).ok();
    Some((text(names.0)?, text(names.1)?)).filter(|_| is_over)
}

/// The name of a method's stats, if it is to have one of its own.
fn write_name<'n>(
    config: &GrpcStats,
    service: &str,
    method: &str,
    name: &'n mut Vec<u8>,
) -> Option<&'n str> {
    let length = service.len() + 1 + method.len();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let mut bytes = service.bytes().chain(method.bytes());
    // What can stand in a name of gRPC's; other paths are no methods.
    if length > limits::GRPC_METHOD_BYTES_MAX || !bytes.all(is_plain) {
        return None;
    }
    name.extend_from_slice(service.as_bytes());
    if config.replaces_dots {
        name.iter_mut().filter(|byte| **byte == b'.').for_each(|byte| *byte = b'_');
    }
    name.push(b'.');
    name.extend_from_slice(method.as_bytes());
    let name = std::str::from_utf8(name).ok()?;
    match &config.methods {
        GrpcMethods::All => Some(name),
        GrpcMethods::Listed(names) => names.contains(name).then_some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_path_has_a_service_and_a_method_or_is_none() {
        for (path, expected) in [
            (&b"/a.S/One"[..], Some(("a.S", "One"))),
            (b"/a.S/One?x=/", Some(("a.S", "One"))),
            (b"//a.S//One/", Some(("a.S", "One"))),
            (b"/a.S", None),
            (b"/a.S/", None),
            (b"/a.S/One/Two", None),
            (b"*", None),
            (b"/\xff/One", None),
        ] {
            assert_eq!(method_of(path), expected, "{}", String::from_utf8_lossy(path));
        }
    }

    #[test]
    fn names_are_those_that_are_wanted() {
        let name = |methods, replaces_dots, service: &str, method: &str| {
            let config = GrpcStats { methods, times: false, replaces_dots };
            write_name(&config, service, method, &mut Vec::new()).map(str::to_owned)
        };
        let one = || GrpcMethods::Listed(HashSet::from(["a_S.One".to_owned()]));
        assert_eq!(name(GrpcMethods::All, false, "a.S", "One").as_deref(), Some("a.S.One"));
        assert_eq!(name(one(), true, "a.S", "One").as_deref(), Some("a_S.One"));
        assert_eq!(name(one(), false, "a.S", "One"), None);
        assert_eq!(name(GrpcMethods::All, false, "a\"S", "One"), None);
        let long = "m".repeat(limits::GRPC_METHOD_BYTES_MAX);
        assert_eq!(name(GrpcMethods::All, false, "a", &long), None);
    }
}
