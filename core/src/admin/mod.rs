//! The admin server: Envoy's admin endpoints, on a thread of their own.
//!
//! It reads the published snapshot and the atomics that others write, and sends commands to
//! control; it never waits for a shard or for control, and they never wait for it.
//!
//! What it leaves to others: counting (`stats`), doing what was asked for (`control`).

mod clusters;
mod endpoints;
mod info;
mod logging;
mod metrics;
mod prometheus;
mod query;
mod server;
mod stats_page;

pub use server::start;

use crate::control::{Commands, ServerState};
use crate::snapshot::Publisher;
use crate::stats::Registry;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// What the admin server tells of, and whom it tells what to do.
#[derive(Debug)]
pub struct Admin {
    /// The newest snapshot.
    pub publisher: Arc<Publisher>,
    /// Names and cells of stats.
    pub registry: Arc<Registry>,
    /// How the process is doing.
    pub state: Arc<ServerState>,
    /// Where commands go.
    pub commands: Commands,
    /// How many shards there are.
    pub concurrency: usize,
    /// The command line, as `/server_info` shows it.
    pub command_line_options: Value,
    /// The node, as `/server_info` shows it.
    pub node: Value,
    /// Counters at the last `/reset_counters`. Shards own their cells, so counters are not set back
    /// but reckoned from here.
    pub baseline: Mutex<HashMap<String, u64>>,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Reply {
    status: u16,
    content_type: &'static str,
    body: String,
}

impl Reply {
    fn text(body: impl Into<String>) -> Reply {
        Reply { status: 200, content_type: "text/plain; charset=UTF-8", body: body.into() }
    }

    fn html(body: impl Into<String>) -> Reply {
        Reply { content_type: "text/html; charset=UTF-8", ..Reply::text(body) }
    }

    /// JSON indented by one space, as Envoy prints protobuf.
    fn json(value: &Value) -> Reply {
        let mut body = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut body, formatter);
        // Writing a `Value` into memory cannot fail.
        let _ = value.serialize(&mut serializer);
        body.push(b'\n');
        let body = String::from_utf8_lossy(&body).into_owned();
        Reply { content_type: "application/json", ..Reply::text(body) }
    }

    fn status(self, status: u16) -> Reply {
        Reply { status, ..self }
    }

    fn ok() -> Reply {
        Reply::text("OK\n")
    }
}
