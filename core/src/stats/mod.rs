//! Stats: per-shard arrays of numbers, merged when somebody looks.
//!
//! A shard writes only its own cells (a relaxed load and store, no lock, no allocation); the admin
//! thread reads every shard's. Names exist only on the control and admin side, in the [`Registry`].
//!
//! What it leaves to others: what to count (`shard`, `proxy`), and the pages (`admin`).

pub mod codes;
pub mod histogram;
pub mod names;
pub mod readouts;
pub mod registry;
pub mod series;
pub mod shard;

pub use histogram::{Bucket, Histogram};
pub use names::{
    ClusterStat, GrpcStat, HostStat, Http1Stat, Http2Stat, HttpStat, ListenerHttpStat,
    ListenerStat, ServerStat, SslStat, TcpStat, TlsInspectorStat,
};
pub use readouts::{Readout, Readouts, StreamState, Updates};
pub use registry::{Kind, Registry, Scope, ShownScope, StatTable, Value};
pub use series::{Column, Sample, columns};
pub use shard::{ShardStats, Stat};

/// The number of one stat: the same cell in every shard's array.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct StatId(pub u32);
