//! Which routes a request has, where they are scoped: by a key that is built from its header.
//!
//! What it leaves to others: the routes (`route_table`).

use super::HttpEntry;
use crate::config::{FRAGMENTS_MAX, HeaderValueExtractor};
use std::cmp::Ordering;
use std::sync::Arc;
use tidegate_http::RequestHead;

/// The scopes of a connection manager.
#[derive(Debug)]
pub struct RouteScopes {
    key_builder: Vec<HeaderValueExtractor>,
    /// In the order of their keys.
    scopes: Vec<(Vec<String>, Arc<HttpEntry>)>,
}

impl RouteScopes {
    /// Scopes with their keys.
    #[must_use]
    pub fn new(
        key_builder: Vec<HeaderValueExtractor>,
        mut scopes: Vec<(Vec<String>, Arc<HttpEntry>)>,
    ) -> RouteScopes {
        scopes.sort_by(|(a, _), (b, _)| a.cmp(b));
        RouteScopes { key_builder, scopes }
    }

    /// The scope with this key.
    #[must_use]
    pub fn with_key(&self, key: &[String]) -> Option<&Arc<HttpEntry>> {
        let place = self.scopes.binary_search_by(|(other, _)| other.as_slice().cmp(key)).ok()?;
        Some(&self.scopes[place].1)
    }

    /// The scope of a request; `None`: a fragment of its key is missing, or no scope has the key.
    #[must_use]
    pub fn find(&self, request: &RequestHead) -> Option<&Arc<HttpEntry>> {
        let mut fragments = [&b""[..]; FRAGMENTS_MAX];
        for (fragment, extractor) in fragments.iter_mut().zip(&self.key_builder) {
            *fragment = extractor.extract(value(request, extractor.name.as_bytes())?)?;
        }
        let key = &fragments[..self.key_builder.len().min(FRAGMENTS_MAX)];
        let by_key = |(other, _): &(Vec<String>, _)| -> Ordering {
            other.iter().map(String::as_bytes).cmp(key.iter().copied())
        };
        let place = self.scopes.binary_search_by(by_key).ok()?;
        Some(&self.scopes[place].1)
    }
}

fn value<'r>(request: &'r RequestHead, name: &[u8]) -> Option<&'r [u8]> {
    match name {
        b"host" | b":authority" => Some(request.authority()),
        b":path" => Some(request.path()),
        b":method" => Some(request.method_name()),
        name => request.headers.get_name(name),
    }
}
