//! What a shard knows of upstream hosts: balancers and connection pools.
//!
//! What it leaves to others: what is said on a connection (`proxy::upstream`), which hosts there
//! are (`snapshot`).

pub mod balancer;
mod named;
mod pool;

pub use pool::{ClusterPool, Pool, PoolId, Pools};
