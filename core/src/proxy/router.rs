//! Routing: which route a request takes, and the first step on it.
//!
//! What it leaves to others: matching (`snapshot::RouteTable`), connections (`upstream`).

use super::encode::write_request;
use super::http2::Http2Stream;
use super::retry::Attempts;
use super::stream::{Phase, Stream};
use super::{redirect, rewrite};
use crate::config::{ActionOptions, CONNECT, HttpConnectionManager};
use crate::reply::LocalReply;
use crate::shard::{Shard, StreamKey, limits};
use crate::snapshot::{
    Breakers, ClusterEntry, ClusterId, CompiledRoute, CompiledTarget, Host, Permit, RouteQuery,
};
use crate::stats::{ClusterStat, HostStat, HttpStat};
use crate::upstream::balancer::Pick;
use crate::upstream::{ClusterPool, Pool, PoolId, Pools};
use std::sync::Arc;
use tidegate_http::{BodyLength, Method, Name, RequestHead, ResponseHead};
use tidegate_io::Io;

/// What a request's route asks for.
enum Step {
    Forward(Option<ClusterId>),
    Reply(LocalReply),
    Redirect { status: u16, location: Vec<u8> },
    Direct,
}

impl<I: Io> Shard<I> {
    /// Finds the request's route and takes the first step on it.
    pub(crate) fn route(&mut self, key: StreamKey) {
        let random = self.random.draw();
        let Some(stream) = self.streams.get_mut(key) else { return };
        let listener = stream.listener.clone();
        let http = &listener.http;
        let https = http.routes.requires_tls && came_by_tls(&stream.request);
        let internal = stream.internal;
        let query = RouteQuery { https, internal, ..RouteQuery::new(&stream.request, random) };
        let found = http.routes.find(&query);
        let (step, stat) = match found {
            None => (Step::Reply(LocalReply::ROUTE_NOT_FOUND), Some(HttpStat::NoRoute)),
            Some(route) => {
                stream.route = Some(route.id);
                stream.changes_responses = route.changes_responses;
                first_step(stream, route, &http.config, random)
            }
        };
        if let Some(stat) = stat {
            self.stats.inc(http.stats, stat);
        }
        self.stats.inc(http.stats, HttpStat::RqTotal);
        match step {
            Step::Forward(cluster) => self.forward(key, cluster),
            Step::Reply(reply) => self.local_reply(key, reply),
            Step::Redirect { status, location } => self.redirect(key, status, &location),
            Step::Direct => self.direct_response(key),
        }
    }

    /// The request goes to this cluster: its head is made ready, and a host chosen.
    fn forward(&mut self, key: StreamKey, cluster: Option<ClusterId>) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.cluster = cluster;
        if stream.cluster().is_none() {
            self.stats.inc(stream.listener.http.stats, HttpStat::NoCluster);
            let mut reply = LocalReply::CLUSTER_NOT_FOUND;
            if let Some(CompiledTarget::Forward { options, .. }) = stream.route().map(|r| &r.target)
            {
                reply.status = options.cluster_not_found_status;
            }
            self.local_reply(key, reply);
            return;
        }
        if stream.http().grpc_stats.is_some() {
            self.begin_grpc_call(key);
        }
        if self.streams.get(key).is_some_and(Stream::is_grpc_to_http1) {
            return self.refuse_grpc_to_http1(key);
        }
        self.prepare_request(key);
        self.name_server(key);
        self.answer_expectation(key);
        self.dispatch(key);
    }

    /// `expect: 100-continue` is answered here, as Envoy does by default (RFC 9110 10.1.1).
    fn answer_expectation(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get(key) else { return };
        let downstream_key = stream.downstream;
        if stream.request.expect_continue
            && !stream.http().config.proxy_100_continue
            && let Some(downstream) = self.downstreams.get_mut(downstream_key)
        {
            let output = downstream.output.get_or_insert_with(|| self.io.output());
            match (stream.http2_name(), downstream.codec.http2()) {
                (Some(name), Some(connection)) => {
                    let head = ResponseHead { status: 100, ..ResponseHead::default() };
                    connection.send_response(name, &head, BodyLength::None, false, output.tail());
                }
                _ => output.tail().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"),
            }
            self.touch_downstream(downstream_key);
        }
    }

    /// Chooses a host and takes a connection to it, or waits for one.
    pub(crate) fn dispatch(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        // Of an attempt before, perhaps to a cluster of another protocol.
        let http2 = stream.upstream_http2.take();
        self.reclaim_http2(http2);
        let Some(stream) = self.streams.get_mut(key) else { return };
        let attempts = &mut stream.attempts;
        let Some((cluster, pick)) =
            stream.cluster.and_then(|id| pick_host(&mut self.pools, id, attempts))
        else {
            self.dispatch_to_former(key);
            return;
        };
        let stats = cluster.entry.stats;
        if pick.panic {
            self.stats.inc(stats, ClusterStat::LbHealthyPanic);
        }
        let Some(host) = pick.host.map(|index| &cluster.entry.endpoints.hosts[index]) else {
            self.stats.inc(stats, ClusterStat::UpstreamCxNoneHealthy);
            self.local_reply(key, LocalReply::NO_HEALTHY_UPSTREAM);
            return;
        };
        if let Some(measured) = &mut stream.measured {
            measured.host = Some(host.clone());
        }
        if stream.auto_host_rewrite {
            rewrite_to_host(stream, &host.hostname);
        }
        let mut id = PoolId::unnamed(host.id, stream.wants_http2());
        let index = pick.host.unwrap_or_default();
        let preconnects = cluster.entry.config.connections.preconnect_millionths.is_some();
        // Whether an upgrade can be asked for is in the origin's SETTINGS.
        let (is_upgrade, is_fresh) = (stream.upgrade && id.http2, stream.fresh_connection);
        let (is_named, cluster) = (stream.server_name.is_some(), stream.cluster);
        if is_named && let Some(cluster) = cluster.and_then(|id| self.pools.cluster(id)) {
            let entry = cluster.entry.clone();
            let Some(named) = self.pool_of(key, &entry, &entry.endpoints.hosts[index]) else {
                return;
            };
            id = named;
        }
        let waits = is_fresh || is_upgrade && self.is_unknown(id);
        if !waits && let Some(upstream) = self.pools.get(id).and_then(Pool::take) {
            if !self.attach(key, upstream) {
                self.release_upstream(upstream);
            }
        } else if let Some(cluster) = cluster.and_then(|id| self.pools.cluster(id)) {
            let entry = cluster.entry.clone();
            let host = entry.endpoints.hosts[index].clone();
            self.wait(key, &entry, &host, id);
        }
        if preconnects && let Some(cluster) = cluster.and_then(|id| self.pools.cluster(id)) {
            let entry = cluster.entry.clone();
            let host = entry.endpoints.hosts[index].clone();
            self.preconnect(&entry, &host, id);
        }
    }

    /// The cluster is gone since the stream began, which still sees it: its host is asked once
    /// more.
    fn dispatch_to_former(&mut self, key: StreamKey) {
        let cluster = self.streams.get(key).and_then(|stream| stream.cluster().cloned());
        let host = cluster.as_ref().and_then(|entry| entry.endpoints.hosts.first().cloned());
        let (Some(entry), Some(host)) = (cluster, host) else {
            self.local_reply(key, LocalReply::NO_HEALTHY_UPSTREAM);
            return;
        };
        let Some(id) = self.pool_of(key, &entry, &host) else { return };
        if let Some(pool) = self.pools.of(&host, id) {
            pool.gone = true;
        }
        self.wait(key, &entry, &host, id);
    }

    /// No connection is free: the request waits for one, which is made if need be.
    fn wait(&mut self, key: StreamKey, entry: &Arc<ClusterEntry>, host: &Arc<Host>, id: PoolId) {
        let limit = entry.config.circuit_breakers.default.max_pending_requests;
        if Breakers::acquire(&entry.breakers.pending, limit) == Permit::Refused {
            self.stats.inc(entry.stats, ClusterStat::UpstreamRqPendingOverflow);
            // To Envoy no host is chosen then.
            if let Some(stream) = self.streams.get_mut(key) {
                stream.upstream_address = None;
            }
            self.pools.forget(id);
            self.local_reply(key, LocalReply::OVERFLOW);
            return;
        }
        self.stats.inc(entry.stats, ClusterStat::UpstreamRqPendingTotal);
        self.stats.inc(entry.stats, ClusterStat::UpstreamRqPendingActive);
        self.stats.inc(host.stats, HostStat::RqPendingActive);
        let Some(stream) = self.streams.get_mut(key) else { return };
        if id.http2 {
            let queue = self.spare_queues.pop().unwrap_or_default();
            stream.upstream_http2 = Some(Http2Stream::new(None, queue));
        } else {
            let mut backlog = self.io.output();
            if !stream.terminates_connect {
                write_request(stream, &entry.config, backlog.tail());
            }
            stream.backlog = Some(backlog);
        }
        stream.upstream_address = Some(host.address);
        stream.phase = Phase::Waiting(id);
        if let Some(pool) = self.pools.of(host, id) {
            pool.waiting.push_back(key);
        }
        self.connect(entry, host, id);
    }
}

/// The next host. A retry may have to avoid those of the attempts before, as far as few choices
/// let it.
fn pick_host<'p>(
    pools: &'p mut Pools,
    id: ClusterId,
    attempts: &mut Attempts,
) -> Option<(&'p ClusterPool, Pick)> {
    let mut pick = pools.pick(id)?.1;
    if let Some(retries) = attempts.retries.as_mut().filter(|it| it.host_selections_max > 0) {
        let host = |pools: &Pools, pick: Pick| {
            Some(pools.cluster(id)?.entry.endpoints.hosts[pick.host?].id)
        };
        for _ in 0..retries.host_selections_max.min(limits::HOST_SELECTIONS_MAX) {
            if host(pools, pick).is_none_or(|host| !retries.previous_hosts.contains(&host)) {
                break;
            }
            pick = pools.pick(id)?.1;
        }
        retries.previous_hosts.extend(host(pools, pick));
    }
    Some((pools.cluster(id)?, pick))
}

/// What a route asks for, and what is counted for it.
fn first_step(
    stream: &mut Stream,
    route: &CompiledRoute,
    config: &HttpConnectionManager,
    random: u64,
) -> (Step, Option<HttpStat>) {
    let refused = |reply| (Step::Reply(reply), Some(HttpStat::DownstreamRqWsOnNonWsRoute));
    match &route.target {
        CompiledTarget::Forward { options, .. } => {
            stream.timeout = options.timeout;
            if let Some(idle) = options.idle_timeout {
                stream.idle_timeout = idle;
            }
            match admit_upgrade(&mut stream.request, options, &config.upgrades) {
                Ok(upgrade) => stream.upgrade = upgrade,
                Err(reply) => {
                    // As in Envoy its cluster is known.
                    stream.cluster = choose_cluster(stream, route, options, random);
                    return refused(reply);
                }
            }
            if stream.request.method == Method::Connect {
                begin_connect(stream, options);
            }
            stream.auto_host_rewrite = route.rewrites_host_to_upstream;
            (Step::Forward(choose_cluster(stream, route, options, random)), None)
        }
        // Only what is forwarded can enable CONNECT, as in Envoy.
        _ if stream.request.method == Method::Connect => refused(LocalReply::UPGRADE_FAILED),
        // To Envoy a redirect is a direct response, and `rq_redirect` is never counted.
        CompiledTarget::Redirect(action, replacement) => {
            let https = came_by_tls(&stream.request);
            let replacement = replacement.as_deref();
            let location = redirect::location(&stream.request, https, route, action, replacement);
            (Step::Redirect { status: action.status, location }, Some(HttpStat::RqDirectResponse))
        }
        CompiledTarget::RequireTls => {
            let location = redirect::with_tls(&stream.request);
            (Step::Redirect { status: 301, location }, Some(HttpStat::RqDirectResponse))
        }
        CompiledTarget::DirectResponse(..) => (Step::Direct, Some(HttpStat::RqDirectResponse)),
    }
}

/// Whether the request asks for an upgrade that is enabled; one that is not is answered as Envoy
/// does. An upgrade to h2c is ignored: the request stays HTTP/1.1.
fn admit_upgrade(
    request: &mut RequestHead,
    options: &ActionOptions,
    enabled: &[String],
) -> Result<bool, LocalReply> {
    let wanted = match request.method {
        Method::Connect => CONNECT.as_bytes(),
        _ if !request.upgrade => return Ok(false),
        _ => match request.headers.get(Name::Upgrade) {
            Some(wanted) if !wanted.eq_ignore_ascii_case(CONNECT.as_bytes()) => wanted,
            Some(_) => return Err(LocalReply::UPGRADE_FAILED),
            None => return Ok(false),
        },
    };
    if wanted.eq_ignore_ascii_case(b"h2c") {
        request.upgrade = false;
        request.headers.remove(Name::Http2Settings);
        return Ok(false);
    }
    let is = |name: &str| wanted.eq_ignore_ascii_case(name.as_bytes());
    let allowed = match options.upgrades.iter().find(|(name, _)| is(name)) {
        Some((_, allowed)) => *allowed,
        None => enabled.iter().any(|name| is(name)),
    };
    if allowed { Ok(request.upgrade) } else { Err(LocalReply::UPGRADE_FAILED) }
}

/// Whether a request came by TLS: at a proxy before. What is not to be believed is not there any
/// more.
fn came_by_tls(request: &RequestHead) -> bool {
    request.headers.get(Name::XForwardedProto) == Some(b"https")
}

/// CONNECT was accepted: its request is its head, and only the answer makes it a tunnel. What the
/// client sends before is held; no timeout of the route applies, for nothing is to be answered.
fn begin_connect(stream: &mut Stream, options: &ActionOptions) {
    stream.request_complete = true;
    stream.request_deadline = None;
    stream.terminates_connect = options.terminates_connect;
    // A connection that has carried HTTP must not carry anything else.
    stream.fresh_connection |= options.terminates_connect;
}

/// The cluster of a request by weight, or by the field that names it.
fn choose_cluster(
    stream: &mut Stream,
    route: &CompiledRoute,
    options: &ActionOptions,
    random: u64,
) -> Option<ClusterId> {
    let headers = &stream.request.headers;
    let given = options.random_value_header.as_ref().and_then(|name| {
        let value = std::str::from_utf8(headers.get_name(name.as_bytes())?).ok()?;
        value.trim().parse().ok()
    });
    let choice = route.target.choose_cluster(given.unwrap_or(random))?;
    stream.choice = choice.index as u32;
    if choice.id.is_some() {
        return choice.id;
    }
    let header = route.config.target.cluster_header(choice.index)?;
    stream.snapshot.clusters.named(headers.get_name(header.as_bytes())?)
}

/// `auto_host_rewrite`: the authority is the name of the host that was chosen.
fn rewrite_to_host(stream: &mut Stream, hostname: &str) {
    if hostname.is_empty() {
        return;
    }
    let is_again = stream.upstream_address.is_some();
    let append = match stream.route().map(|route| &route.target) {
        Some(CompiledTarget::Forward { options, .. }) => options.append_x_forwarded_host,
        _ => false,
    };
    match is_again {
        // Another host, after the first went away: the client's authority is in its field already.
        true => stream.request.set_authority(hostname.as_bytes()),
        false => rewrite::update_authority(&mut stream.request, hostname.as_bytes(), append),
    }
}
