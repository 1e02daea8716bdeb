//! The `location` of a redirect, absolute as Envoy's.
//!
//! What it leaves to others: the response around it (`local_reply`).

use super::mutate::{split_port, split_query};
use crate::config::{RedirectAction, RedirectPath};
use crate::snapshot::{CompiledRoute, Replacement};
use tidegate_http::RequestHead;

/// Where a redirect leads; `https` says how the request came.
pub(super) fn location(
    request: &RequestHead,
    https: bool,
    route: &CompiledRoute,
    action: &RedirectAction,
    replacement: Option<&Replacement>,
) -> Vec<u8> {
    let own_scheme = if https { "https" } else { "http" };
    let mut location = Vec::with_capacity(128);
    location.extend_from_slice(action.scheme.as_deref().unwrap_or(own_scheme).as_bytes());
    location.extend_from_slice(b"://");
    let (host, port) = split_port(request.authority());
    location.extend_from_slice(action.host.as_ref().map_or(host, |host| host.as_bytes()));
    if let Some(port) = action.port {
        location.extend_from_slice(format!(":{port}").as_bytes());
    } else if let (None, Some(port)) = (&action.host, port) {
        // The port that the old scheme implies would be wrong with a new one.
        let implied: &[u8] = if https { b"443" } else { b"80" };
        if action.scheme.is_none() || port != implied {
            location.push(b':');
            location.extend_from_slice(port);
        }
    }
    write_path(request, route, action, replacement, &mut location);
    location
}

fn write_path(
    request: &RequestHead,
    route: &CompiledRoute,
    action: &RedirectAction,
    replacement: Option<&Replacement>,
    location: &mut Vec<u8>,
) {
    let (path, query) = split_query(request.path());
    let mut has_query = false;
    match (&action.path, replacement) {
        (RedirectPath::Replace(new), _) => {
            location.extend_from_slice(new.as_bytes());
            has_query = new.contains('?');
        }
        (RedirectPath::PrefixRewrite(new), _) => {
            location.extend_from_slice(new.as_bytes());
            location.extend_from_slice(&path[route.matched_length(path)..]);
        }
        (RedirectPath::RegexRewrite(_), Some(replacement)) => {
            replacement.replace_all(path, location);
        }
        (RedirectPath::Keep | RedirectPath::RegexRewrite(_), _) => {
            location.extend_from_slice(path);
        }
    }
    if let Some(query) = query
        && !action.strip_query
        && !has_query
    {
        location.push(b'?');
        location.extend_from_slice(query);
    }
}

/// The same address with `https`: what `require_tls` asks for.
pub(super) fn with_tls(request: &RequestHead) -> Vec<u8> {
    [b"https://", request.authority(), request.path()].concat()
}
