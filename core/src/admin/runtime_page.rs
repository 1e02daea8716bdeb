//! `/runtime` and `/runtime_modify`.
//!
//! What it leaves to others: what the values are for (`config`), making them count (`control`).

use super::query::Query;
use super::{Admin, Reply, endpoints};
use crate::control::Command;
use serde_json::{Map, Value, json};

/// `/runtime`
pub(super) fn page(admin: &Admin, _: &Query) -> Reply {
    let shown = admin.state.shown();
    let mut runtime = (*shown.runtime).clone();
    for layer in runtime.layers.iter_mut().filter(|layer| layer.is_admin) {
        layer.values = admin.state.overrides();
    }
    let entries: Map<String, Value> = runtime
        .entries()
        .into_iter()
        .map(|(key, values)| {
            let layers: Vec<_> = values.iter().map(|value| value.unwrap_or_default()).collect();
            let last = runtime.get(key).unwrap_or_default();
            (key.to_owned(), json!({ "layer_values": layers, "final_value": last }))
        })
        .collect();
    let layers: Vec<_> = runtime.layers.iter().map(|layer| &layer.name).collect();
    Reply::json(&json!({ "entries": entries, "layers": layers }))
}

/// `/runtime_modify`
pub(super) fn modify(admin: &Admin, query: &Query) -> Reply {
    if query.iter().next().is_none() {
        let usage = "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n       \
                     or send the parameters as form values\n\
                     use an empty value to remove a previously added override";
        return Reply::text(usage).status(400);
    }
    if !admin.state.shown().runtime.layers.iter().any(|layer| layer.is_admin) {
        return Reply::text("No admin layer specified").status(503);
    }
    let values = query.iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    admin.state.override_runtime(values);
    endpoints::command(admin, Command::ChangeRuntime)
}
