//! Dynamic resources in `/config_dump`: as they came, what waits, and what was refused.
//!
//! What it leaves to others: the page (`config_dump`).

use crate::access_log::iso_8601_ms;
use crate::config::received::{json_of, with_type};
use crate::config::{Dumped, ResourceKind};
use crate::control::ServerState;
use crate::control::book::{Entry, Failure};
use crate::control::dynamic::{Raw, Received};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The items of a list: each with its name.
type Items = Box<dyn Iterator<Item = Dumped> + Send>;

/// The kind of which a dump says the version.
pub(super) fn versioned(message: &str) -> Option<ResourceKind> {
    match message {
        "ClustersConfigDump" => Some(ResourceKind::Cluster),
        "ListenersConfigDump" => Some(ResourceKind::Listener),
        _ => None,
    }
}

/// The items of a list of dynamic resources; `None`: nothing brings such.
pub(super) fn items(state: &Arc<ServerState>, field: &str) -> Option<Items> {
    let (kind, content, warming) = match field {
        "dynamic_active_clusters" => (ResourceKind::Cluster, "cluster", Some(false)),
        "dynamic_warming_clusters" => (ResourceKind::Cluster, "cluster", Some(true)),
        "dynamic_listeners" => return Some(listeners(state)),
        "dynamic_route_configs" => (ResourceKind::RouteConfiguration, "route_config", None),
        "dynamic_scoped_route_configs" => {
            (ResourceKind::ScopedRouteConfiguration, "scoped_route_configs", None)
        }
        "dynamic_active_secrets" => (ResourceKind::Secret, "secret", None),
        _ => return None,
    };
    let waiting = state.book.waiting();
    let waits = move |name: &str| waiting.contains_key(&format!("cluster `{name}`"));
    let shelf = state.book.shelf(kind);
    let entries: Vec<(String, Entry)> =
        shelf.entries.iter().map(|(name, entry)| (name.clone(), entry.clone())).collect();
    Some(Box::new(entries.into_iter().filter_map(move |(name, entry)| {
        let mut item = Map::new();
        if matches!(kind, ResourceKind::Secret | ResourceKind::ScopedRouteConfiguration) {
            item.insert("name".to_owned(), json!(name));
        }
        let waits = warming.is_some() && waits(&name);
        let received = match warming {
            Some(true) => entry.received.as_ref().filter(|_| waits),
            _ => entry.active(),
        };
        if let Some(received) = received {
            item.extend(state_of(kind, content, received));
        } else if waits || warming == Some(true) {
            return None;
        }
        // What was refused stands beside what is newest.
        if let Some(failure) = entry.failure.as_ref().filter(|_| warming.unwrap_or(false) == waits)
        {
            item.insert("error_state".to_owned(), error_state(kind, failure));
        }
        Some(Dumped { name, json: Value::Object(item) })
    })))
}

/// Listeners have their states within.
fn listeners(state: &Arc<ServerState>) -> Items {
    let kind = ResourceKind::Listener;
    let (shelf, waiting) = (state.book.shelf(kind), state.book.waiting());
    let mut draining = state.book.draining();
    let mut entries: Vec<(String, Entry)> =
        shelf.entries.iter().map(|(name, entry)| (name.clone(), entry.clone())).collect();
    let gone = draining.keys().filter(|name| !shelf.entries.contains_key(*name));
    entries.extend(gone.map(|name| (name.clone(), Entry::default())));
    Box::new(entries.into_iter().map(move |(name, entry)| {
        let mut item = Map::new();
        item.insert("name".to_owned(), json!(name));
        let waits = waiting.contains_key(&format!("listener `{name}`"));
        let states = [
            ("active_state", entry.active().cloned()),
            ("warming_state", entry.received.clone().filter(|_| waits)),
            ("draining_state", draining.remove(&name)),
        ];
        for (field, received) in states {
            let Some(received) = received else { continue };
            let state = state_of(kind, "listener", &received);
            item.insert(field.to_owned(), Value::Object(state));
        }
        if let Some(failure) = &entry.failure {
            item.insert("error_state".to_owned(), error_state(kind, failure));
        }
        Dumped { name, json: Value::Object(item) }
    }))
}

fn state_of(kind: ResourceKind, content: &str, received: &Received) -> Map<String, Value> {
    let resource = resource(kind, &received.raw);
    let mut state = Map::new();
    state.insert("version_info".to_owned(), json!(received.version));
    let is_list = kind == ResourceKind::ScopedRouteConfiguration;
    let resource = if is_list { json!([resource]) } else { resource };
    state.insert(content.to_owned(), resource);
    state.insert("last_updated".to_owned(), json!(iso_8601_ms(received.at_unix_us)));
    state
}

fn error_state(kind: ResourceKind, failure: &Failure) -> Value {
    json!({
        "failed_configuration": resource(kind, &failure.received.raw),
        "last_update_attempt": iso_8601_ms(failure.received.at_unix_us),
        "details": failure.details,
        "version_info": failure.received.version,
    })
}

fn resource(kind: ResourceKind, raw: &Raw) -> Value {
    let json = match raw {
        Raw::Message(bytes) => json_of(kind.message(), bytes),
        // Over REST secrets come in the clear; they are not shown.
        Raw::Json(_) if kind == ResourceKind::Secret => None,
        Raw::Json(text) => serde_json::from_str(text).ok(),
    };
    with_type(kind.message(), json.unwrap_or_else(|| json!({})))
}

/// What waits, and for what, as `/init_dump` shows it.
pub(super) fn waiting(state: &ServerState) -> Vec<Value> {
    let waiting = state.book.waiting();
    let dumps = waiting.iter().map(|(name, targets)| {
        let targets = targets.iter().map(|target| json!(format!("target {target}")));
        json!({ "name": name, "target_names": targets.collect::<Vec<_>>() })
    });
    dumps.collect()
}
