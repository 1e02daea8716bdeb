//! A route's retry policy, compiled.
//!
//! What it leaves to others: what was configured (`config::RetryPolicy`), what it means for one
//! request (`proxy::retry`).

use super::conditions::HeaderCondition;
use crate::config::{self, BodyLimit, RetryPolicy};
use std::sync::LazyLock;
use tidegate_http::{RequestHead, ResponseHead};

/// A [`RetryPolicy`] with its conditions compiled.
#[derive(Debug, Default)]
pub struct CompiledRetryPolicy {
    /// What was asked for.
    pub config: RetryPolicy,
    retriable_headers: Vec<HeaderCondition>,
    retriable_request_headers: Vec<HeaderCondition>,
}

impl CompiledRetryPolicy {
    /// The policy of a route that has none, which a request can extend.
    #[must_use]
    pub fn none() -> &'static CompiledRetryPolicy {
        static NONE: LazyLock<CompiledRetryPolicy> = LazyLock::new(CompiledRetryPolicy::default);
        &NONE
    }

    /// Compiles a policy, which was validated.
    #[must_use]
    pub fn new(config: &RetryPolicy) -> CompiledRetryPolicy {
        let compile = |matchers: &[config::HeaderMatcher]| {
            matchers.iter().map(HeaderCondition::compile).collect()
        };
        CompiledRetryPolicy {
            retriable_headers: compile(&config.retriable_headers),
            retriable_request_headers: compile(&config.retriable_request_headers),
            config: config.clone(),
        }
    }

    /// Whether `retriable_request_headers` let it count for this request.
    #[must_use]
    pub fn covers(&self, request: &RequestHead) -> bool {
        let conditions = &self.retriable_request_headers;
        conditions.is_empty() || conditions.iter().any(|condition| condition.holds(request))
    }

    /// Whether a response has one of the `retriable_headers`.
    #[must_use]
    pub fn has_retriable_header(&self, response: &ResponseHead) -> bool {
        self.retriable_headers.iter().any(|condition| condition.holds_of_response(response))
    }
}

/// How many bytes of a request's body are kept for retries: `request_body_buffer_limit` of the
/// route or the virtual host, else the listener's limit, unless the older field makes it smaller.
pub(super) fn body_limit(route: BodyLimit, host: BodyLimit, of_listener: u32) -> u64 {
    let at_most = route.per_request.or(host.per_request).unwrap_or(u32::MAX);
    route.bytes.or(host.bytes).unwrap_or_else(|| of_listener.min(at_most).into())
}
