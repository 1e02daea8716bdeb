//! The admin server: Envoy's admin endpoints, on a thread of their own; and the sinks of stats, on
//! another.
//!
//! It reads the published snapshot and the atomics that others write, and sends commands to
//! control; it never waits for a shard or for control, and they never wait for it.
//!
//! What it leaves to others: counting (`stats`), doing what was asked for (`control`).

mod certs;
mod clusters;
mod config_dump;
mod dynamic_dump;
mod endpoints;
mod endpoints_dump;
mod home;
mod info;
mod intervals;
mod logging;
mod memory;
mod metrics;
mod pieces;
mod prometheus;
mod query;
mod runtime_page;
mod server;
mod settings;
mod sinks;
mod stats_page;
mod statsd;
mod xds_status;

pub use server::start;
pub use settings::StatsSettings;
pub use sinks::start as start_sinks;

use crate::control::{Commands, ServerState};
use crate::snapshot::Publisher;
use crate::stats::Registry;
pub use intervals::Intervals;
use pieces::Pieces;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::mpsc::SyncSender;
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
    /// Counters at the last `/reset_counters`. Shards own their cells, so counters are not set back
    /// but reckoned from here.
    pub baseline: Mutex<Arc<HashMap<String, u64>>>,
    /// Histograms at the last looks at them.
    pub intervals: Arc<Intervals>,
    /// What the configuration says about stats.
    pub settings: Arc<StatsSettings>,
    /// Tells the sinks that the stats page was asked for.
    pub flush: SyncSender<()>,
    /// `stats_flush_on_admin`: they want to know.
    pub flush_on_admin: bool,
}

impl Admin {
    fn settings(&self) -> Arc<StatsSettings> {
        self.settings.clone()
    }

    /// The text of a page.
    #[cfg(test)]
    pub(crate) fn page(self: &Arc<Admin>, path: &str) -> String {
        endpoints::answer(self, &hyper::Method::GET, path, None).body.text()
    }

    /// The stats page was asked for.
    fn flush_if_asked(&self) {
        if self.flush_on_admin {
            // One that waits already is enough.
            let _ = self.flush.try_send(());
        }
    }
}

/// An answer.
#[derive(Debug)]
struct Reply {
    status: u16,
    content_type: &'static str,
    body: Pieces,
}

impl Reply {
    fn text(body: impl Into<String>) -> Reply {
        let body = Pieces::Whole(body.into());
        Reply { status: 200, content_type: "text/plain; charset=UTF-8", body }
    }

    fn html(body: impl Into<String>) -> Reply {
        Reply { content_type: "text/html; charset=UTF-8", ..Reply::text(body) }
    }

    /// JSON indented by one space, as Envoy prints protobuf.
    fn json(value: &Value) -> Reply {
        Reply { content_type: "application/json", ..Reply::text(json_text(value)) }
    }

    /// A page that is made while it is sent.
    fn parts(
        content_type: &'static str,
        texts: impl Iterator<Item = String> + Send + 'static,
    ) -> Reply {
        Reply { status: 200, content_type, body: Pieces::parts(texts) }
    }

    fn status(self, status: u16) -> Reply {
        Reply { status, ..self }
    }

    fn ok() -> Reply {
        Reply::text("OK\n")
    }
}

fn json_text(value: &Value) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    // Writing a `Value` into memory cannot fail.
    let _ = value.serialize(&mut serializer);
    text.push(b'\n');
    String::from_utf8_lossy(&text).into_owned()
}
