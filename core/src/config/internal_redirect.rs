//! Redirects of upstreams that the proxy follows itself
//! (`config.route.v3.InternalRedirectPolicy`).
//!
//! What it leaves to others: following them (`proxy::internal_redirect`).

use super::convert::At;
use super::support::{SupportedMessage, message, refused, used};
use envoy_types::pb::envoy::config::route::v3 as pb;

/// `config.route.v3.InternalRedirectPolicy`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InternalRedirectPolicy {
    /// `max_internal_redirects`, default 1.
    pub max: u32,
    /// `redirect_response_codes`, default 302.
    pub statuses: Vec<u16>,
    /// `allow_cross_scheme_redirect`
    pub allow_cross_scheme: bool,
    /// `response_headers_to_copy`, in lower case.
    pub headers_to_copy: Vec<String>,
}

const STATUSES: [u32; 5] = [301, 302, 303, 307, 308];

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[message(
    "envoy.config.route.v3.InternalRedirectPolicy",
    &[
        used("max_internal_redirects"),
        used("redirect_response_codes"),
        used("allow_cross_scheme_redirect"),
        used("response_headers_to_copy"),
        refused("predicates"),
    ],
)];

impl InternalRedirectPolicy {
    pub(super) fn from_proto(
        at: &At<'_>,
        policy: &pb::InternalRedirectPolicy,
    ) -> InternalRedirectPolicy {
        let at = at.field("redirect_response_codes");
        let mut statuses = Vec::new();
        for (index, status) in policy.redirect_response_codes.iter().enumerate() {
            match STATUSES.contains(status) {
                true => statuses.push(*status as u16),
                false => at.index(index).warning(format!("{status} is no redirect: no effect")),
            }
        }
        if policy.redirect_response_codes.is_empty() {
            statuses.push(302);
        }
        let names = policy.response_headers_to_copy.iter();
        InternalRedirectPolicy {
            max: policy.max_internal_redirects.map_or(1, |max| max.value),
            statuses,
            allow_cross_scheme: policy.allow_cross_scheme_redirect,
            headers_to_copy: names.map(|name| name.to_ascii_lowercase()).collect(),
        }
    }
}
