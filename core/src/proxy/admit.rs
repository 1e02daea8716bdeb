//! What happens to a request before a route is looked for: its head is brought into the form that
//! everything behind relies on, or it is answered.
//!
//! In Envoy's order: host, path, client, id.
//!
//! What it leaves to others: the rules (`normalize`, `client_address`, `request_id`), the route
//! (`router`).

use super::client_address::{self, Ends, Rejected};
use super::normalize::{self, Path};
use super::request_id;
use crate::config::{AddressSource, HttpConnectionManager, UnderscoresAction};
use crate::reply::LocalReply;
use crate::shard::{DownstreamKey, Shard, StreamKey};
use crate::snapshot::HttpChain;
use crate::stats::{Http1Stat, HttpStat};
use std::net::SocketAddr;
use std::rc::Rc;
use tidegate_http::{Headers, Method, Name, RequestHead, Scheme, Version, h2};
use tidegate_io::Io;

impl<I: Io> Shard<I> {
    /// Makes a new request ready for routing. False when it was answered instead.
    pub(crate) fn admit(&mut self, key: StreamKey) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return false };
        if let Some(scopes) = &stream.listener.http.scopes
            && let Some(http) = scopes.find(&stream.request)
        {
            // One allocation for each request whose routes are scoped.
            let (chain, http) = (stream.listener.chain.clone(), http.clone());
            stream.listener = Rc::new(HttpChain { chain, http });
        }
        let listener = stream.listener.clone();
        let (downstream, http) = (stream.downstream, &listener.http);
        let config = &*http.config;
        if let Err((reply, stat)) = self.admit_target(key, config) {
            if let Some(stat) = stat {
                self.stats.inc(http.stats, stat);
            }
            self.local_reply(key, reply);
            return false;
        }
        // Once the connection is closed nobody knows its ends any more.
        let needs_ends = config.client_address.needs_ends() || !http.access_log.is_empty();
        let [peer, local] = match needs_ends {
            true => self.ends(downstream),
            false => [None; 2],
        };
        if !config.normalization.is_none() && !self.normalize(key, config) {
            return false;
        }
        self.forward_client_certificate(key, config.forward_client_cert);
        let secure = self.downstreams.get(downstream).is_some_and(|it| it.is_secure);
        let Some(stream) = self.streams.get_mut(key) else { return false };
        let ends = Ends { peer, local, host: http.host_address, secure };
        let request = &mut stream.request;
        match client_address::identify(request, &config.client_address, &ends) {
            Ok(client) => {
                stream.remote_address = client.address;
                stream.internal = client.internal;
                if !client.internal {
                    for name in &http.routes.config.internal_only_headers {
                        request.headers.remove_name(name.as_bytes());
                    }
                }
                add_via_and_agent(&mut request.headers, http);
                client_address::pass_address_on(&mut request.headers, &client, &ends);
                request_id::identify(&mut request.headers, config, client.edge, &mut self.random);
                true
            }
            Err(Rejected(status)) => {
                self.stats.inc(http.stats, HttpStat::DownstreamRqRejectedViaIpDetection);
                let reply = LocalReply { status, ..LocalReply::IP_DETECTION_FAILED };
                self.local_reply(key, reply);
                false
            }
        }
    }

    /// The peer's address and ours.
    pub(crate) fn ends(&mut self, key: DownstreamKey) -> [Option<SocketAddr>; 2] {
        let Some(downstream) = self.downstreams.get_mut(key) else { return [None; 2] };
        let socket = downstream.socket;
        *downstream
            .ends
            .get_or_insert_with(|| [self.io.peer_address(socket), self.io.local_address(socket)])
    }

    /// Host and target are there and of a form that can be routed.
    fn admit_target(
        &mut self,
        key: StreamKey,
        config: &HttpConnectionManager,
    ) -> Result<(), (LocalReply, Option<HttpStat>)> {
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        let request = &mut stream.request;
        if request.authority().is_empty() {
            // Only HTTP/1.0 and HTTP/2 come so far.
            let is_http_10 = request.version == Version::Http10;
            let host = config.http1.default_host_for_http_10.as_ref().filter(|_| is_http_10);
            let Some(host) = host else {
                return Err((LocalReply::MISSING_HOST, None));
            };
            request.set_authority(host.as_bytes());
        }
        let names_scheme = request.version != Version::Http2;
        if names_scheme && request.scheme == Some(Scheme::Https) && checks_scheme(config) {
            request.close = true;
            return Err((LocalReply::HTTPS_ON_PLAINTEXT, None));
        }
        if request.method != Method::Connect && request.path().first() != Some(&b'/') {
            let stat = Some(HttpStat::DownstreamRqNonRelativePath);
            return Err((LocalReply::ABSOLUTE_PATH, stat));
        }
        Ok(())
    }

    /// Brings path and host into one spelling. False when the request was answered instead.
    fn normalize(&mut self, key: StreamKey, config: &HttpConnectionManager) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return false };
        let (downstream, http) = (stream.downstream, stream.listener.http.stats);
        let mut spelling = std::mem::take(&mut self.scratch);
        let request = &mut stream.request;
        let path = match request.method {
            Method::Connect => Path::Unchanged,
            _ => normalize::normalize_path(request.path(), &config.normalization, &mut spelling),
        };
        if path != Path::Unchanged && !spelling.is_empty() {
            request.set_path(&spelling);
        }
        match path {
            Path::Rejected => {
                self.stats.inc(http, HttpStat::DownstreamRqFailedPathNormalization);
                self.local_reply(key, LocalReply::PATH_NORMALIZATION_FAILED);
            }
            Path::Redirect => {
                self.stats.inc(http, HttpStat::DownstreamRqRedirectedWithNormalizedPath);
                self.redirect(key, 307, &spelling);
                if let Some(stream) = self.streams.get_mut(key) {
                    stream.details = LocalReply::PATH_NORMALIZATION_FAILED.details;
                }
            }
            Path::Unchanged | Path::Changed => {
                let port = self.ends(downstream)[1].map(|local| local.port());
                if let Some(stream) = self.streams.get_mut(key) {
                    normalize_host(&mut stream.request, config, port, &mut spelling);
                }
            }
        }
        self.scratch = spelling;
        matches!(path, Path::Unchanged | Path::Changed)
    }

    /// Deals with fields whose names have underscores. False when the request was answered, and
    /// the connection closes; on HTTP/2 the stream is reset.
    pub(super) fn admit_names(
        &mut self,
        key: DownstreamKey,
        http2: Option<h2::StreamKey>,
        headers: &mut Headers,
    ) -> bool {
        let Some(downstream) = self.downstreams.get_mut(key) else { return false };
        let action = downstream.config().underscores;
        let has_underscore = |name: &[u8]| name.contains(&b'_');
        let count = match action {
            UnderscoresAction::Allow => 0,
            _ => headers.iter().filter(|(name, _)| has_underscore(name)).count(),
        };
        if count == 0 {
            return true;
        }
        let stats = downstream.listener.http.codec_stats;
        if action == UnderscoresAction::RejectRequest {
            self.stats.inc(stats, Http1Stat::RequestsRejectedWithUnderscoresInHeaders);
            let http = downstream.listener.http.stats;
            self.stats.inc(http, HttpStat::DownstreamCxProtocolError);
            match (http2, downstream.codec.http2()) {
                (Some(name), Some(connection)) => {
                    connection.reset(name, h2::ErrorCode::PROTOCOL_ERROR);
                }
                _ => self.reply_without_stream(key, &LocalReply::UNEXPECTED_UNDERSCORE, None),
            }
            return false;
        }
        self.stats.add(stats, Http1Stat::DroppedHeadersWithUnderscores, count as u64);
        headers.retain(|name, _| !has_underscore(name));
        true
    }
}

/// Whether a target may not name another scheme than the connection has: at the edge only, where
/// nobody in front of us can have taken TLS off.
fn checks_scheme(config: &HttpConnectionManager) -> bool {
    matches!(config.client_address.source, AddressSource::Peer { trusted_hops: 0, .. })
}

fn normalize_host(
    request: &mut RequestHead,
    config: &HttpConnectionManager,
    local_port: Option<u16>,
    spelling: &mut Vec<u8>,
) {
    let host = request.authority();
    let (name, port) = normalize::normalize_host(host, &config.normalization, local_port);
    if name.len() + port.len() < host.len() {
        spelling.clear();
        spelling.extend_from_slice(name);
        spelling.extend_from_slice(port);
        request.set_authority(spelling);
    }
}

/// `via` and `add_user_agent`.
fn add_via_and_agent(headers: &mut Headers, http: &crate::snapshot::HttpEntry) {
    if let Some((cluster, node)) = &http.user_agent {
        headers.set(b"x-envoy-downstream-service-cluster", cluster.as_bytes());
        if headers.get(Name::UserAgent).is_none_or(<[u8]>::is_empty) {
            headers.set(b"user-agent", cluster.as_bytes());
        }
        if !node.is_empty() {
            headers.set(b"x-envoy-downstream-service-node", node.as_bytes());
        }
    }
    if !http.config.via.is_empty() {
        headers.join(Name::Via, b"via", b", ", http.config.via.as_bytes());
    }
}
