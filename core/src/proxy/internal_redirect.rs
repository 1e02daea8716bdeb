//! Redirects of an upstream that the proxy follows itself: the request takes another route, and its
//! client does not hear of the first one.
//!
//! What it leaves to others: routes (`router`), sending the body again (`attempts`), redirects of
//! our own (`redirect`).

use super::mutate::split_query;
use super::stream::Stream;
use crate::config::InternalRedirectPolicy;
use crate::shard::{Shard, StreamKey, UpstreamKey};
use crate::snapshot::{CompiledRoute, CompiledTarget, RouteQuery};
use crate::stats::{ClusterStat, HostStat, HttpStat};
use tidegate_http::{BodyLength, Headers, Method, Name, RequestHead, Scheme};
use tidegate_io::Io;

/// Where a redirect leads.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Target {
    /// `None` for a relative reference, which stays where it is.
    origin: Option<(Scheme, Vec<u8>)>,
    path: Vec<u8>,
}

impl CompiledRoute {
    /// `internal_redirect_policy`
    #[must_use]
    pub fn internal_redirects(&self) -> Option<&InternalRedirectPolicy> {
        match &self.target {
            CompiledTarget::Forward { options, .. } => options.internal_redirects.as_deref(),
            _ => None,
        }
    }
}

impl<I: Io> Shard<I> {
    /// The head of a final response has come. Whether the client does not get it, because it is a
    /// redirect that is followed here.
    pub(super) fn follow_redirect(&mut self, key: StreamKey, upstream: UpstreamKey) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return false };
        let listener = stream.listener.clone();
        let Some(route) = stream.route.map(|id| listener.http.routes.get(id)) else { return false };
        let Some(policy) = route.internal_redirects() else { return false };
        if !policy.statuses.contains(&stream.response.status) {
            return false;
        }
        let stats = stream.cluster().map(|cluster| cluster.stats);
        let followed = self.redirect_request(key, policy);
        let stat = match followed {
            Ok(()) => ClusterStat::UpstreamInternalRedirectSucceededTotal,
            Err(_) => ClusterStat::UpstreamInternalRedirectFailedTotal,
        };
        if let Some(stats) = stats {
            self.stats.inc(stats, stat);
        }
        if let Err(Some(stat)) = followed {
            self.stats.inc(listener.http.stats, stat);
        }
        if followed.is_ok() {
            self.begin_again(key, upstream);
        }
        followed.is_ok()
    }

    /// Makes the request the one that the redirect asks for, or says which stat counts why not.
    fn redirect_request(
        &mut self,
        key: StreamKey,
        policy: &InternalRedirectPolicy,
    ) -> Result<(), Option<HttpStat>> {
        let random = self.random.draw();
        let stream = self.streams.get_mut(key).ok_or(None)?;
        if !stream.request_complete || !stream.is_here() || stream.upgrade {
            return Err(None);
        }
        let location = stream.response.headers.get(Name::Location).ok_or(None)?;
        let bad = Some(HttpStat::PassthroughInternalRedirectBadLocation);
        let target = Target::parse(location).ok_or(bad)?;
        let before = stream.request.scheme.unwrap_or(Scheme::Http);
        let scheme = target.origin.as_ref().map_or(before, |(scheme, _)| *scheme);
        if scheme != before && !policy.allow_cross_scheme {
            return Err(Some(HttpStat::PassthroughInternalRedirectUnsafeScheme));
        }
        if stream.attempts.redirects >= policy.max {
            return Err(Some(HttpStat::PassthroughInternalRedirectTooManyRedirects));
        }
        let old = stream.request.clone();
        copy_fields(&policy.headers_to_copy, &stream.response.headers, &mut stream.request.headers);
        take_target(&mut stream.request, &target, scheme);
        let http = &stream.listener.http;
        let https = scheme == Scheme::Https;
        let internal = stream.internal;
        let query = RouteQuery { https, internal, ..RouteQuery::new(&stream.request, random) };
        if http.routes.find(&query).is_none() {
            stream.request = old;
            return Err(Some(HttpStat::PassthroughInternalRedirectNoRoute));
        }
        if stream.response.status == 303 {
            become_get(stream);
        }
        let scheme = if before == Scheme::Https { "https://" } else { "http://" };
        let url = [scheme.as_bytes(), old.authority(), old.path()].concat();
        stream.request.headers.set(b"x-envoy-original-url", &url);
        stream.attempts.redirects += 1;
        Ok(())
    }

    /// The request begins anew, as another one that came with this one's body.
    fn begin_again(&mut self, key: StreamKey, upstream: UpstreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        // It was answered, as far as that one goes.
        stream.status = stream.response.status;
        stream.details = "internal_redirect";
        let duration = self.now.instant - stream.started;
        let downstream = stream.downstream;
        let listener = stream.listener.clone();
        if !listener.http.access_log.is_empty() {
            let ends = self.ends(downstream);
            if let Some(stream) = self.streams.get(key) {
                self.logs.record(&listener.http.access_log, &stream.record(duration, ends));
            }
        }
        if let Some(stream) = self.streams.get_mut(key) {
            stream.status = 0;
        }
        self.drop_response(key, upstream, HostStat::RqSuccess);
        let Some(stream) = self.streams.get_mut(key) else { return };
        let kept = stream.attempts.retries.as_mut();
        let body = kept.map(|retries| std::mem::take(&mut retries.body)).unwrap_or_default();
        stream.end_attempts();
        stream.release_request();
        stream.attempts = stream.attempts.of_redirect();
        stream.flags = crate::reply::ResponseFlags::NONE;
        stream.limits.detached();
        stream.started = self.now.instant;
        stream.started_unix_us = self.now.unix_us;
        stream.upstream_address = None;
        self.stats.inc(listener.http.stats, HttpStat::DownstreamRqTotal);
        self.route(key);
        self.resend_body(key, body);
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.response_deadline = stream.timeout.map(|timeout| self.now.instant + timeout);
        self.arm_downstream(downstream);
    }
}

/// 303: what it leads to is asked for with GET (RFC 9110 15.4.4).
fn become_get(stream: &mut Stream) {
    if matches!(stream.request.method, Method::Get | Method::Head) {
        return;
    }
    let request = &mut stream.request;
    request.method = Method::Get;
    request.method_name = request.headers.store(b"GET");
    (request.body, request.content_length) = (BodyLength::None, None);
    stream.request_body = BodyLength::None;
}

/// `response_headers_to_copy`: what the redirect has goes into the request, what it has not leaves
/// it.
fn copy_fields(names: &[String], from: &Headers, to: &mut Headers) {
    for name in names {
        to.remove_name(name.as_bytes());
        for (_, value) in from.iter().filter(|(known, _)| *known == name.as_bytes()) {
            to.append(name.as_bytes(), value);
        }
    }
}

fn take_target(request: &mut RequestHead, target: &Target, scheme: Scheme) {
    if let Some((_, authority)) = &target.origin {
        request.set_authority(authority);
        request.scheme = Some(scheme);
    }
    request.set_path(&target.path);
}

impl Target {
    /// The target of a `location`, without its fragment, which is the client's.
    fn parse(location: &[u8]) -> Option<Target> {
        let end = memchr::memchr(b'#', location).unwrap_or(location.len());
        let location = &location[..end];
        let clean = |part: &[u8]| part.iter().all(|byte| byte.is_ascii_graphic());
        if !clean(location) {
            return None;
        }
        let strip = |prefix: &[u8]| {
            let (start, rest) = location.split_at_checked(prefix.len())?;
            start.eq_ignore_ascii_case(prefix).then_some(rest)
        };
        let (scheme, rest) = match (strip(b"http://"), strip(b"https://")) {
            (Some(rest), _) => (Scheme::Http, rest),
            (_, Some(rest)) => (Scheme::Https, rest),
            _ => return None,
        };
        let authority = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
        let (authority, path) = rest.split_at(authority.unwrap_or(rest.len()));
        if authority.is_empty() || authority.contains(&b'@') {
            return None;
        }
        let (name, query) = split_query(path);
        let mut path = if name.is_empty() { b"/".to_vec() } else { name.to_vec() };
        if let Some(query) = query {
            path.push(b'?');
            path.extend_from_slice(query);
        }
        Some(Target { origin: Some((scheme, authority.to_vec())), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let target = |location: &str| {
            let target = Target::parse(location.as_bytes())?;
            let (scheme, authority) = target.origin?;
            let authority = String::from_utf8(authority).ok()?;
            Some((scheme, authority, String::from_utf8(target.path).ok()?))
        };
        for (location, scheme, authority, path) in [
            ("http://a", Scheme::Http, "a", "/"),
            ("HTTPS://a:8/b?c#d", Scheme::Https, "a:8", "/b?c"),
            ("http://a?b", Scheme::Http, "a", "/?b"),
            ("http://[::1]:8/", Scheme::Http, "[::1]:8", "/"),
        ] {
            assert_eq!(target(location), Some((scheme, authority.into(), path.into())));
        }
        for location in ["", "/a", "a", "ftp://a/", "http:///a", "http://u@a/", "http://a/ b"] {
            assert_eq!(target(location), None, "{location}");
        }
    }
}
