//! What forwarding changes in a request's path and host.
//!
//! What it leaves to others: fields (`header_mutation`), and the host's own name as authority
//! (`router`, once a host is chosen).

use super::mutate::split_query;
use crate::config::PathMatch;
use crate::shard::{Shard, StreamKey};
use crate::snapshot::{
    CompiledHostRewrite, CompiledPathRewrite, CompiledRoute, CompiledTarget, Rewrites,
};
use tidegate_http::{Method, Name, RequestHead};
use tidegate_io::Io;

impl<I: Io> Shard<I> {
    /// The last changes to a request that is forwarded, in Envoy's order: fields that go with the
    /// chosen cluster, those of the route and around it, the host, the path.
    pub(super) fn finalize_request(&mut self, key: StreamKey, route: &CompiledRoute) {
        let CompiledTarget::Forward { rewrites, .. } = &route.target else { return };
        let Some(stream) = self.streams.get_mut(key) else { return };
        if route.host.include_request_attempt_count {
            stream.request.headers.set(b"x-envoy-attempt-count", b"1");
        }
        self.mutate_request_of_choice(key, route);
        let Some(stream) = self.streams.get_mut(key) else { return };
        let host = rewrites.as_ref().and_then(|r| r.host_by_choice.get(stream.choice as usize));
        if let Some(Some(host)) = host {
            stream.request.set_authority(host.as_bytes());
        }
        self.mutate_request(key, route);
        let Some(stream) = self.streams.get_mut(key) else { return };
        if let Some(rewrites) = rewrites {
            rewrite_host(&mut stream.request, rewrites);
            let keep_original = !stream.http().config.router.suppress_envoy_headers;
            // CONNECT has no path.
            if stream.request.method != Method::Connect {
                rewrite_path(&mut stream.request, route, rewrites, keep_original);
            }
        }
    }
}

impl CompiledRoute {
    /// How much of `path`, which has no query, the route's pattern stands for: what a prefix
    /// rewrite replaces.
    #[must_use]
    pub fn matched_length(&self, path: &[u8]) -> usize {
        match &self.config.matches.path {
            PathMatch::Prefix(prefix) | PathMatch::SeparatedPrefix(prefix) => {
                prefix.len().min(path.len())
            }
            PathMatch::Exact(_)
            | PathMatch::Regex(_)
            | PathMatch::Template(_)
            | PathMatch::Connect => path.len(),
        }
    }
}

fn rewrite_host(request: &mut RequestHead, rewrites: &Rewrites) {
    let host = match &rewrites.host {
        CompiledHostRewrite::Keep | CompiledHostRewrite::Auto => return,
        CompiledHostRewrite::Literal(host) => host.clone().into_bytes(),
        CompiledHostRewrite::Header(name) => {
            request.headers.get_known(name.id, &name.lower).unwrap_or_default().to_vec()
        }
        CompiledHostRewrite::PathRegex(replacement) => {
            let mut host = Vec::new();
            let (path, _) = split_query(request.path());
            // Envoy takes the path for the host when the regex does not match.
            if !replacement.replace_all(path, &mut host) {
                return;
            }
            host
        }
    };
    if !host.is_empty() {
        update_authority(request, &host, rewrites.append_x_forwarded_host);
    }
}

/// A new authority: the old one is kept in fields.
pub(super) fn update_authority(request: &mut RequestHead, host: &[u8], append_forwarded: bool) {
    let old = request.authority().to_vec();
    request.headers.set(b"x-envoy-original-host", &old);
    if append_forwarded && !old.is_empty() {
        let forwarded = request.headers.get(Name::XForwardedHost).unwrap_or_default();
        let last = forwarded.rsplit(|byte| *byte == b',').next().unwrap_or_default();
        if forwarded.is_empty() {
            request.headers.set(b"x-forwarded-host", &old);
        } else if last.trim_ascii() != old {
            let forwarded = [forwarded, b",", &old].concat();
            request.headers.set(b"x-forwarded-host", &forwarded);
        }
    }
    request.set_authority(host);
}

fn rewrite_path(
    request: &mut RequestHead,
    route: &CompiledRoute,
    rewrites: &Rewrites,
    keep_original: bool,
) {
    let (path, query) = split_query(request.path());
    let mut new = Vec::with_capacity(request.path().len() + 32);
    match &rewrites.path {
        CompiledPathRewrite::Keep => return,
        CompiledPathRewrite::Prefix(prefix) => {
            new.extend_from_slice(prefix.as_bytes());
            new.extend_from_slice(&path[route.matched_length(path)..]);
        }
        CompiledPathRewrite::Regex(replacement) => {
            replacement.replace_all(path, &mut new);
        }
        CompiledPathRewrite::Template(replacement) => {
            replacement.replace_all(path, &mut new);
        }
    }
    if new.is_empty() {
        // A request without a path cannot be sent; Envoy leaves it as it is, too.
        return;
    }
    if let Some(query) = query {
        new.push(b'?');
        new.extend_from_slice(query);
    }
    if keep_original {
        let original = request.path().to_vec();
        request.headers.set(b"x-envoy-original-path", &original);
    }
    request.set_path(&new);
}
