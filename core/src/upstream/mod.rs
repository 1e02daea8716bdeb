//! The side towards origins: choosing a host, and keeping connections to it.
//!
//! What it leaves to others: requests and responses (`proxy`), which hosts there are (`snapshot`).

pub mod balancer;
