//! `/ready`, `/server_info` and `/listeners`.
//!
//! What it leaves to others: the state itself.

use super::query::Query;
use super::{Admin, Reply};
use crate::cli::version;
use crate::control::State;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// `/ready`
pub(super) fn ready(admin: &Admin, _: &Query) -> Reply {
    let state = admin.state.state();
    let status = if state == State::Live { 200 } else { 503 };
    Reply::text(format!("{}\n", state.name())).status(status)
}

/// `/server_info`
pub(super) fn server_info(admin: &Admin, _: &Query) -> Reply {
    let uptime = format!("{}s", admin.state.uptime().as_secs());
    Reply::json(&json!({
        "version": version::full(),
        "state": admin.state.state().name(),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "hot_restart_version": version::HOT_RESTART,
        "command_line_options": admin.command_line_options,
        "node": node(&admin.state.shown().node),
    }))
}

/// The configured node, and what we are.
pub(super) fn node(configured: &Value) -> Value {
    let mut node = if configured.is_object() { configured.clone() } else { json!({}) };
    let mut parts = version::NUMBER.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut part = || parts.next().unwrap_or(0);
    node["user_agent_name"] = json!("tidegate");
    node["user_agent_build_version"] = json!({
        "version": { "major_number": part(), "minor_number": part(), "patch": part() },
        "metadata": { "revision.sha": version::REVISION, "revision.status": "Clean" },
    });
    node
}

/// `/listeners`
pub(super) fn listeners(admin: &Admin, query: &Query) -> Reply {
    let snapshot = admin.publisher.load();
    let listeners =
        snapshot.listeners.iter().map(|entry| (&entry.config.name, entry.sockets.address));
    if query.value("format") == Some("json") {
        let statuses: Vec<_> = listeners
            .map(|(name, at)| json!({ "name": name, "local_address": socket_address(at) }))
            .collect();
        return Reply::json(&json!({ "listener_statuses": statuses }));
    }
    Reply::text(listeners.map(|(name, at)| format!("{name}::{at}\n")).collect::<String>())
}

/// An address as `config.core.v3.Address` in JSON.
pub(super) fn socket_address(address: SocketAddr) -> Value {
    let (ip, port) = (address.ip().to_string(), address.port());
    json!({ "socket_address": { "address": ip, "port_value": port } })
}
