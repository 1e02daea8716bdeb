//! The control thread's decisions: what is published when, what is shared with what was before, and
//! how names are followed. Time is stepped; nothing sleeps but the tests of real lookups.
//!
//! What it leaves to others: what shards make of a snapshot.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

#[path = "control/dns.rs"]
mod dns;
#[path = "control/updates.rs"]
mod updates;
