//! Load balancers: which host of a cluster is next.
//!
//! A balancer belongs to one shard and shares nothing with other shards: each starts at another
//! place (by its seed), so that a cluster with few requests does not see all of them at its first
//! host.
//!
//! What it leaves to others: connections to the chosen host (`upstream::pool`), counting (`proxy`).

mod round_robin;
mod schedule;

pub use round_robin::{HEALTHY_PANIC_PERCENT, Pick, RoundRobin};
