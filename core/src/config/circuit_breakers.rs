//! Circuit breakers of a cluster (`config.cluster.v3.CircuitBreakers`).
//!
//! What it leaves to others: counting (`snapshot::Breakers`), keeping to them (`proxy`).

use super::convert::At;
use super::support::{SupportedMessage, kept, message, only, used};
use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::core::v3 as core;

/// `config.cluster.v3.CircuitBreakers`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CircuitBreakers {
    /// `thresholds` with priority DEFAULT.
    pub default: Thresholds,
    /// `thresholds` with priority HIGH (shown by `/clusters`).
    pub high: Thresholds,
    /// `per_host_thresholds.max_connections` of priority DEFAULT. A shard without any connection to
    /// a host gets one all the same.
    pub max_connections_per_host: Option<u32>,
}

/// `config.cluster.v3.CircuitBreakers.Thresholds`; exact across shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thresholds {
    /// `max_connections`, default 1024.
    pub max_connections: u32,
    /// `max_pending_requests`, default 1024.
    pub max_pending_requests: u32,
    /// `max_requests`, default 1024.
    pub max_requests: u32,
    /// `max_retries`, default 3.
    pub max_retries: u32,
    /// `retry_budget`, in place of `max_retries`.
    pub retry_budget: Option<RetryBudget>,
}

/// `CircuitBreakers.Thresholds.RetryBudget`: retries as a share of the requests under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryBudget {
    /// `budget_percent` in millionths, default 20 %.
    pub millionths: u32,
    /// `min_retry_concurrency`, default 3: so many are always allowed.
    pub min_concurrency: u32,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            retry_budget: None,
        }
    }
}

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.cluster.v3.CircuitBreakers",
        &[used("thresholds"), used("per_host_thresholds")],
    ),
    message(
        "envoy.config.cluster.v3.CircuitBreakers.Thresholds",
        &[
            used("priority"),
            used("max_connections"),
            used("max_pending_requests"),
            used("max_requests"),
            used("max_retries"),
            used("retry_budget"),
            kept("max_connection_pools", "pools are few: by endpoint, shard, and 256 server names"),
            only("track_remaining", &["false"]),
        ],
    ),
    message(
        "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget",
        &[used("budget_percent"), used("min_retry_concurrency")],
    ),
];

impl CircuitBreakers {
    /// Converts them; what is wrong is reported.
    pub(super) fn from_proto(
        at_breakers: &At<'_>,
        breakers: &pb::CircuitBreakers,
    ) -> CircuitBreakers {
        let at = at_breakers.field("thresholds");
        let mut converted = CircuitBreakers::default();
        let (mut default_seen, mut high_seen) = (false, false);
        for (index, thresholds) in breakers.thresholds.iter().enumerate() {
            let (slot, seen) = match thresholds.priority() {
                core::RoutingPriority::Default => (&mut converted.default, &mut default_seen),
                core::RoutingPriority::High => (&mut converted.high, &mut high_seen),
            };
            // Envoy takes the first of a priority without a word.
            if std::mem::replace(seen, true) {
                at.index(index).warning("a second threshold of the same priority has no effect");
                continue;
            }
            *slot = Thresholds::from_proto(thresholds);
        }
        converted.max_connections_per_host = max_connections_per_host(at_breakers, breakers);
        converted
    }
}

fn max_connections_per_host(at: &At<'_>, breakers: &pb::CircuitBreakers) -> Option<u32> {
    let at = at.field("per_host_thresholds");
    let mut max = None;
    for (index, thresholds) in breakers.per_host_thresholds.iter().enumerate() {
        let others = [
            thresholds.max_pending_requests.is_some(),
            thresholds.max_requests.is_some(),
            thresholds.max_retries.is_some(),
            thresholds.max_connection_pools.is_some(),
        ];
        if others.contains(&true) {
            at.index(index).error("only `max_connections` counts for each host");
        }
        if thresholds.priority() == core::RoutingPriority::Default {
            max = max.or(thresholds.max_connections.map(|max| max.value));
        }
    }
    max
}

impl Thresholds {
    fn from_proto(thresholds: &pb::circuit_breakers::Thresholds) -> Thresholds {
        let default = Thresholds::default();
        let or = |value: Option<envoy_types::pb::google::protobuf::UInt32Value>, default: u32| {
            value.map_or(default, |value| value.value)
        };
        Thresholds {
            max_connections: or(thresholds.max_connections, default.max_connections),
            max_pending_requests: or(thresholds.max_pending_requests, default.max_pending_requests),
            max_requests: or(thresholds.max_requests, default.max_requests),
            max_retries: or(thresholds.max_retries, default.max_retries),
            retry_budget: thresholds.retry_budget.as_ref().map(|budget| RetryBudget {
                // The reader has checked that it is from 0 to 100.
                millionths: budget.budget_percent.map_or(200_000, |it| (it.value * 1e4) as u32),
                min_concurrency: or(budget.min_retry_concurrency, 3),
            }),
        }
    }
}
