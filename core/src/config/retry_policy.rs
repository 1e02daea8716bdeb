//! Which requests are sent once more, when, and to which host (`config.route.v3.RetryPolicy`).
//!
//! What it leaves to others: deciding about one response or failure (`proxy::retry`).

use super::convert::{At, is_type};
use super::route_match::HeaderMatcher;
use super::support::{SupportedMessage, kept, message, only, refused, types, used};
use envoy_types::pb::envoy::config::route::v3 as pb;
use std::time::Duration;

/// `config.route.v3.RetryPolicy`
#[derive(Clone, PartialEq, Debug)]
pub struct RetryPolicy {
    /// `retry_on`
    pub retry_on: RetryOn,
    /// `num_retries`, default 1.
    pub num_retries: u32,
    /// `per_try_timeout`
    pub per_try_timeout: Option<Duration>,
    /// `per_try_idle_timeout`
    pub per_try_idle_timeout: Option<Duration>,
    /// `retriable_status_codes`
    pub retriable_status_codes: Vec<u32>,
    /// `retriable_headers`: any of them of a response.
    pub retriable_headers: Vec<HeaderMatcher>,
    /// `retriable_request_headers`: only requests that any of them holds of; empty: all requests.
    pub retriable_request_headers: Vec<HeaderMatcher>,
    /// `retry_back_off`
    pub back_off: RetryBackOff,
    /// `rate_limited_retry_back_off`
    pub rate_limited_back_off: Option<RateLimitedBackOff>,
    /// `retry_host_predicate` with `PreviousHostsPredicate`
    pub avoids_previous_hosts: bool,
    /// `host_selection_retry_max_attempts`: how often another host is chosen, default 1.
    pub host_selection_max_attempts: u32,
}

/// `retry_back_off`: the wait is random, from nothing to a bound that doubles and more with each
/// retry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryBackOff {
    /// `base_interval`, at least 1 ms, default 25 ms.
    pub base: Duration,
    /// `max_interval`, not below the base, default ten times the base.
    pub max: Duration,
}

/// `rate_limited_retry_back_off`: the response says when to come back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RateLimitedBackOff {
    /// `reset_headers`: the first one with a usable value counts.
    pub reset_headers: Vec<ResetHeader>,
    /// `max_interval`, default 300 s: a longer wait is not believed.
    pub max: Duration,
}

/// `RetryPolicy.ResetHeader`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResetHeader {
    /// `name`, in lower case.
    pub name: String,
    /// `format` is UNIX_TIMESTAMP: a point in time. Otherwise seconds from now.
    pub is_timestamp: bool,
}

/// The conditions of `retry_on`, as a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RetryOn(u16);

/// How `retry_on` names conditions.
const CONDITIONS: &[(&str, RetryOn)] = &[
    ("5xx", RetryOn::SERVER_ERROR),
    ("gateway-error", RetryOn::GATEWAY_ERROR),
    ("reset", RetryOn::RESET),
    ("reset-before-request", RetryOn::RESET_BEFORE_REQUEST),
    ("connect-failure", RetryOn::CONNECT_FAILURE),
    ("envoy-ratelimited", RetryOn::ENVOY_RATE_LIMITED),
    ("retriable-4xx", RetryOn::RETRIABLE_4XX),
    ("refused-stream", RetryOn::REFUSED_STREAM),
    ("retriable-status-codes", RetryOn::RETRIABLE_STATUS_CODES),
    ("retriable-headers", RetryOn::RETRIABLE_HEADERS),
    ("http3-post-connect-failure", RetryOn::HTTP3_POST_CONNECT_FAILURE),
];

/// How gRPC's are named: conditions on `grpc-status` in the response's header.
const GRPC_CONDITIONS: &[(&str, RetryOn)] = &[
    ("cancelled", RetryOn::GRPC_CANCELLED),
    ("deadline-exceeded", RetryOn::GRPC_DEADLINE_EXCEEDED),
    ("internal", RetryOn::GRPC_INTERNAL),
    ("resource-exhausted", RetryOn::GRPC_RESOURCE_EXHAUSTED),
    ("unavailable", RetryOn::GRPC_UNAVAILABLE),
];

#[allow(missing_docs, reason = "each is the condition of that name")]
impl RetryOn {
    pub const SERVER_ERROR: RetryOn = RetryOn(1);
    pub const GATEWAY_ERROR: RetryOn = RetryOn(1 << 1);
    pub const RESET: RetryOn = RetryOn(1 << 2);
    pub const RESET_BEFORE_REQUEST: RetryOn = RetryOn(1 << 3);
    pub const CONNECT_FAILURE: RetryOn = RetryOn(1 << 4);
    pub const ENVOY_RATE_LIMITED: RetryOn = RetryOn(1 << 5);
    pub const RETRIABLE_4XX: RetryOn = RetryOn(1 << 6);
    /// Never holds on HTTP/1.1, which cannot refuse a stream.
    pub const REFUSED_STREAM: RetryOn = RetryOn(1 << 7);
    pub const RETRIABLE_STATUS_CODES: RetryOn = RetryOn(1 << 8);
    pub const RETRIABLE_HEADERS: RetryOn = RetryOn(1 << 9);
    /// Never holds on HTTP/1.1.
    pub const HTTP3_POST_CONNECT_FAILURE: RetryOn = RetryOn(1 << 10);
    pub const GRPC_CANCELLED: RetryOn = RetryOn(1 << 11);
    pub const GRPC_DEADLINE_EXCEEDED: RetryOn = RetryOn(1 << 12);
    pub const GRPC_INTERNAL: RetryOn = RetryOn(1 << 13);
    pub const GRPC_RESOURCE_EXHAUSTED: RetryOn = RetryOn(1 << 14);
    pub const GRPC_UNAVAILABLE: RetryOn = RetryOn(1 << 15);
}

impl RetryOn {
    /// Whether there is no condition.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == RetryOn::default()
    }

    /// The conditions of both.
    #[must_use]
    pub fn with(self, other: RetryOn) -> RetryOn {
        RetryOn(self.0 | other.0)
    }

    /// Whether any condition of `other` is in here.
    #[must_use]
    pub fn has_any(self, other: RetryOn) -> bool {
        self.0 & other.0 != 0
    }

    /// The conditions of a `x-envoy-retry-on`; what is unknown is left out, as in Envoy.
    #[must_use]
    pub fn of_header(text: &str) -> RetryOn {
        tokens(text).filter_map(|name| named(CONDITIONS, name)).fold(RetryOn(0), RetryOn::with)
    }

    /// The conditions of a `x-envoy-retry-grpc-on`.
    #[must_use]
    pub fn of_grpc_header(text: &str) -> RetryOn {
        tokens(text).filter_map(|name| named(GRPC_CONDITIONS, name)).fold(RetryOn(0), RetryOn::with)
    }

    fn from_proto(at: &At<'_>, text: &str) -> RetryOn {
        let mut conditions = RetryOn(0);
        for name in tokens(text) {
            match named(CONDITIONS, name).or_else(|| named(GRPC_CONDITIONS, name)) {
                Some(condition) => conditions = conditions.with(condition),
                None => {
                    let known = CONDITIONS.iter().chain(GRPC_CONDITIONS).map(|(name, _)| *name);
                    let near = super::reader::nearest(name, known)
                        .map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                    at.warning(format!("`{name}` is no condition and has no effect{near}"));
                }
            }
        }
        conditions
    }
}

fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|token| !token.is_empty())
}

fn named(conditions: &[(&str, RetryOn)], name: &str) -> Option<RetryOn> {
    conditions.iter().find(|(known, _)| *known == name).map(|(_, condition)| *condition)
}

const DEFAULT_BASE_INTERVAL: Duration = Duration::from_millis(25);
const DEFAULT_RESET_MAX_INTERVAL: Duration = Duration::from_secs(300);
const MIN_INTERVAL: Duration = Duration::from_millis(1);

const PREVIOUS_HOSTS: &str = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.route.v3.RetryPolicy",
        &[
            used("retry_on"),
            used("num_retries"),
            used("per_try_timeout"),
            used("per_try_idle_timeout"),
            used("retry_host_predicate"),
            used("host_selection_retry_max_attempts"),
            used("retriable_status_codes"),
            used("retry_back_off"),
            used("rate_limited_retry_back_off"),
            used("retriable_headers"),
            used("retriable_request_headers"),
            refused("retry_priority"),
            refused("retry_options_predicates"),
            only("refresh_cluster_on_retry", &["false"]),
        ],
    ),
    message(
        "envoy.config.route.v3.RetryPolicy.RetryBackOff",
        &[used("base_interval"), used("max_interval")],
    ),
    message(
        "envoy.config.route.v3.RetryPolicy.RateLimitedRetryBackOff",
        &[used("reset_headers"), used("max_interval")],
    ),
    message("envoy.config.route.v3.RetryPolicy.ResetHeader", &[used("name"), used("format")]),
    message(
        "envoy.config.route.v3.RetryPolicy.RetryHostPredicate",
        &[kept("name", "the type in `@type` decides"), types("typed_config", &[PREVIOUS_HOSTS])],
    ),
    message(PREVIOUS_HOSTS, &[]),
];

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            retry_on: RetryOn::default(),
            num_retries: 1,
            per_try_timeout: None,
            per_try_idle_timeout: None,
            retriable_status_codes: Vec::new(),
            retriable_headers: Vec::new(),
            retriable_request_headers: Vec::new(),
            back_off: RetryBackOff::default(),
            rate_limited_back_off: None,
            avoids_previous_hosts: false,
            host_selection_max_attempts: 1,
        }
    }
}

impl Default for RetryBackOff {
    fn default() -> RetryBackOff {
        RetryBackOff { base: DEFAULT_BASE_INTERVAL, max: DEFAULT_BASE_INTERVAL * 10 }
    }
}

impl RetryPolicy {
    pub(super) fn from_proto(at: &At<'_>, policy: &pb::RetryPolicy) -> Option<RetryPolicy> {
        let at_headers = at.field("retriable_headers");
        let retriable_headers =
            HeaderMatcher::all_from_proto(&at_headers, &policy.retriable_headers);
        let at_requests = at.field("retriable_request_headers");
        let retriable_request_headers =
            HeaderMatcher::all_from_proto(&at_requests, &policy.retriable_request_headers);
        let timeout = |name, duration: &Option<_>| at.field(name).timeout(duration.as_ref(), None);
        let retry_on = RetryOn::from_proto(&at.field("retry_on"), &policy.retry_on);
        let codes = &policy.retriable_status_codes;
        if !codes.is_empty() && !retry_on.has_any(RetryOn::RETRIABLE_STATUS_CODES) {
            at.field("retriable_status_codes")
                .warning("no effect unless `retry_on` has `retriable-status-codes`");
        }
        Some(RetryPolicy {
            retry_on,
            num_retries: policy.num_retries.map_or(1, |count| count.value),
            per_try_timeout: timeout("per_try_timeout", &policy.per_try_timeout),
            per_try_idle_timeout: timeout("per_try_idle_timeout", &policy.per_try_idle_timeout),
            retriable_status_codes: codes.clone(),
            retriable_headers: retriable_headers?,
            retriable_request_headers: retriable_request_headers?,
            back_off: policy
                .retry_back_off
                .as_ref()
                .map_or_else(RetryBackOff::default, |back_off| {
                    RetryBackOff::from_proto(&at.field("retry_back_off"), back_off)
                }),
            rate_limited_back_off: policy.rate_limited_retry_back_off.as_ref().map(|back_off| {
                let at = at.field("rate_limited_retry_back_off");
                RateLimitedBackOff::from_proto(&at, back_off)
            }),
            avoids_previous_hosts: avoids_previous_hosts(at, &policy.retry_host_predicate),
            host_selection_max_attempts: host_selection_max_attempts(at, policy),
        })
    }
}

impl RetryBackOff {
    fn from_proto(at: &At<'_>, back_off: &pb::retry_policy::RetryBackOff) -> RetryBackOff {
        let interval = |name, duration: &Option<_>| {
            at.field(name).duration(duration.as_ref()).map(|interval| interval.max(MIN_INTERVAL))
        };
        let base = interval("base_interval", &back_off.base_interval);
        let base = base.unwrap_or(DEFAULT_BASE_INTERVAL);
        let max =
            interval("max_interval", &back_off.max_interval).unwrap_or(base.saturating_mul(10));
        if max < base {
            at.field("max_interval").error("`max_interval` must not be below `base_interval`");
        }
        RetryBackOff { base, max }
    }
}

impl RateLimitedBackOff {
    fn from_proto(
        at: &At<'_>,
        back_off: &pb::retry_policy::RateLimitedRetryBackOff,
    ) -> RateLimitedBackOff {
        use pb::retry_policy::ResetHeaderFormat as Format;
        let max = at.field("max_interval").duration(back_off.max_interval.as_ref());
        let header = |header: &pb::retry_policy::ResetHeader| ResetHeader {
            name: header.name.to_ascii_lowercase(),
            is_timestamp: header.format() == Format::UnixTimestamp,
        };
        RateLimitedBackOff {
            reset_headers: back_off.reset_headers.iter().map(header).collect(),
            max: max.unwrap_or(DEFAULT_RESET_MAX_INTERVAL),
        }
    }
}

fn host_selection_max_attempts(at: &At<'_>, policy: &pb::RetryPolicy) -> u32 {
    match u32::try_from(policy.host_selection_retry_max_attempts) {
        // As in Envoy: zero is what is not set.
        Ok(attempts) => attempts.max(1),
        Err(_) => {
            at.field("host_selection_retry_max_attempts").error("it must be from 0 to 4294967295");
            1
        }
    }
}

fn avoids_previous_hosts(at: &At<'_>, predicates: &[pb::retry_policy::RetryHostPredicate]) -> bool {
    use pb::retry_policy::retry_host_predicate::ConfigType;
    let at = at.field("retry_host_predicate");
    let mut avoids = false;
    for (index, predicate) in predicates.iter().enumerate() {
        let at = at.index(index);
        match &predicate.config_type {
            Some(ConfigType::TypedConfig(any)) => avoids |= is_type(any, PREVIOUS_HOSTS),
            None => {
                let hint = format!("add \"@type\": type.googleapis.com/{PREVIOUS_HOSTS}");
                at.missing("typed_config", Some(&hint));
            }
        }
    }
    avoids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_has_a_bit_of_its_own() {
        let all = CONDITIONS.iter().chain(GRPC_CONDITIONS);
        let set = all.clone().fold(RetryOn(0), |set, (_, condition)| set.with(*condition));
        assert_eq!(set.0.count_ones() as usize, all.count());
    }

    #[test]
    fn headers_name_conditions() {
        let both = RetryOn::SERVER_ERROR.with(RetryOn::CONNECT_FAILURE);
        assert_eq!(RetryOn::of_header("5xx, connect-failure,bogus,unavailable"), both);
        assert_eq!(RetryOn::of_grpc_header("unavailable,5xx"), RetryOn::GRPC_UNAVAILABLE);
        assert!(RetryOn::of_header("").is_empty());
    }
}
