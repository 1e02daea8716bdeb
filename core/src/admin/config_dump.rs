//! `/config_dump`: what was configured, in the form of `admin.v3.ConfigDump`.
//!
//! What it leaves to others: the messages (`config::Received`).

use super::pieces::Pieces;
use super::query::Query;
use super::{Admin, Reply, dynamic_dump, endpoints_dump, info};
use crate::config::received::with_type;
use crate::config::{Dumped, Section};
use regex::Regex;
use serde_json::{Map, Value, json};

/// The messages of a whole dump, with the lists of resources that each can have.
const DUMPS: &[(&str, &[List])] = &[
    (
        "ClustersConfigDump",
        &[
            list("static_clusters", "ClustersConfigDump.StaticCluster"),
            list("dynamic_active_clusters", "ClustersConfigDump.DynamicCluster"),
            list("dynamic_warming_clusters", "ClustersConfigDump.DynamicCluster"),
        ],
    ),
    (
        "EndpointsConfigDump",
        &[
            list("static_endpoint_configs", "EndpointsConfigDump.StaticEndpointConfig"),
            list("dynamic_endpoint_configs", "EndpointsConfigDump.DynamicEndpointConfig"),
        ],
    ),
    (
        "ListenersConfigDump",
        &[
            list("static_listeners", "ListenersConfigDump.StaticListener"),
            list("dynamic_listeners", "ListenersConfigDump.DynamicListener"),
        ],
    ),
    (
        "ScopedRoutesConfigDump",
        &[
            never("inline_scoped_route_configs"),
            list(
                "dynamic_scoped_route_configs",
                "ScopedRoutesConfigDump.DynamicScopedRouteConfigs",
            ),
        ],
    ),
    (
        "RoutesConfigDump",
        &[
            list("static_route_configs", "RoutesConfigDump.StaticRouteConfig"),
            list("dynamic_route_configs", "RoutesConfigDump.DynamicRouteConfig"),
        ],
    ),
    (
        "SecretsConfigDump",
        &[
            list("static_secrets", "SecretsConfigDump.StaticSecret"),
            list("dynamic_active_secrets", "SecretsConfigDump.DynamicSecret"),
            never("dynamic_warming_secrets"),
        ],
    ),
];

const STATIC_ENDPOINTS: &str = "static_endpoint_configs";

/// A list of resources in a dump.
struct List {
    field: &'static str,
    /// The message of its items; empty for what no configuration here can bring.
    item: &'static str,
}

const fn list(field: &'static str, item: &'static str) -> List {
    List { field, item }
}

const fn never(field: &'static str) -> List {
    List { field, item: "" }
}

/// What is asked for.
struct Asked {
    name: Option<Regex>,
    mask: Vec<Vec<String>>,
    include_eds: bool,
}

/// `/config_dump`
pub(super) fn page(admin: &Admin, query: &Query) -> Reply {
    let given = |name| query.value(name).filter(|value| !value.is_empty());
    let name = match given("name_regex").map(|text| Regex::new(&format!("^(?:{text})$"))) {
        None => None,
        Some(Ok(regex)) => Some(regex),
        Some(Err(error)) => {
            let (text, error) = (given("name_regex").unwrap_or_default(), error.to_string());
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let text = format!("Error while parsing name_regex from {text}: {reason}");
            return refused(400, format!("INVALID_ARGUMENT: {text}"));
        }
    };
    let paths = given("mask").into_iter().flat_map(|mask| mask.split(','));
    let mask = paths.map(|path| path.split('.').map(str::to_owned).collect()).collect();
    let asked = Asked { name, mask, include_eds: query.has("include_eds") };
    match given("resource") {
        Some(resource) => one_list(admin, resource, &asked),
        None => everything(admin, &asked),
    }
}

fn refused(status: u16, text: String) -> Reply {
    Reply { content_type: "text/plain", ..Reply::text(text).status(status) }
}

/// The items of one list.
fn one_list(admin: &Admin, resource: &str, asked: &Asked) -> Reply {
    if resource == "bootstrap" {
        let text = "bootstrap is not a repeated field. Use ?mask=bootstrap to get only this field";
        return refused(400, text.to_owned());
    }
    let lists = || DUMPS.iter().flat_map(|(_, lists)| lists.iter());
    let Some(list) = lists().find(|list| list.field == resource) else {
        return refused(404, format!("{resource} not found in config dump"));
    };
    let Some(items) = items(admin, list, asked) else { return Reply::json(&json!({})) };
    let dynamic = ["version_info", "error_state", "warming_state", "draining_state", "name"];
    let known = ["last_updated", content_of(list.field)];
    let known = || known.iter().chain(dynamic.iter().filter(|_| list.field.starts_with("dynamic")));
    if let Some(path) = asked.mask.iter().find(|path| !known().any(|it| path[0] == *it)) {
        let path = path.join(".");
        let text = format!("FieldMask paths: \"{path}\" could not be successfully used.");
        return refused(400, text);
    }
    let (mask, message) = (asked.mask.clone(), format!("envoy.admin.v3.{}", list.item));
    let mut items = items.map(move |item| with_type(&message, masked(item, &mask))).peekable();
    match items.peek() {
        None => Reply::json(&json!({})),
        Some(_) => reply([
            Part::text("{\n \"configs\": ["),
            Part::List(2, Box::new(items)),
            Part::text("\n ]\n}\n"),
        ]),
    }
}

/// The field of a list's items that holds the resource.
fn content_of(list: &str) -> &'static str {
    match list {
        "static_clusters" => "cluster",
        "static_endpoint_configs" => "endpoint_config",
        "static_listeners" => "listener",
        "static_route_configs" => "route_config",
        "dynamic_active_clusters" | "dynamic_warming_clusters" => "cluster",
        "dynamic_endpoint_configs" => "endpoint_config",
        "dynamic_listeners" => "active_state",
        "dynamic_scoped_route_configs" => "scoped_route_configs",
        "dynamic_route_configs" => "route_config",
        _ => "secret",
    }
}

type Items = Box<dyn Iterator<Item = Value> + Send>;

/// The items of a list, as far as their names are asked for; `None` for a list that is always
/// empty.
fn items(admin: &Admin, list: &List, asked: &Asked) -> Option<Items> {
    let name = asked.name.clone();
    let wanted = move |item: &Dumped| name.as_ref().is_none_or(|name| name.is_match(&item.name));
    if let Some(items) = dynamic_dump::items(&admin.state, list.field) {
        return Some(Box::new(items.filter(wanted).map(|item| item.json)));
    }
    let shown = admin.state.shown();
    let (resources, message): (Box<dyn Iterator<Item = Dumped> + Send>, _) = match list.field {
        "static_clusters" => {
            (shown.received.resources(Section::Clusters), "config.cluster.v3.Cluster")
        }
        "static_listeners" => {
            (shown.received.resources(Section::Listeners), "config.listener.v3.Listener")
        }
        "static_route_configs" => {
            (shown.received.resources(Section::Routes), "config.route.v3.RouteConfiguration")
        }
        "static_secrets" => (
            shown.received.resources(Section::Secrets),
            "extensions.transport_sockets.tls.v3.Secret",
        ),
        STATIC_ENDPOINTS | "dynamic_endpoint_configs" => (
            Box::new(endpoints_dump::all(&admin.publisher.load(), list.field != STATIC_ENDPOINTS)),
            "config.endpoint.v3.ClusterLoadAssignment",
        ),
        _ => return None,
    };
    let (content, is_endpoint) =
        (content_of(list.field), list.field.ends_with("_endpoint_configs"));
    let updated = shown.updated.clone();
    let message = format!("envoy.{message}");
    Some(Box::new(resources.filter(wanted).map(move |item| {
        let mut object = Map::new();
        object.insert(content.to_owned(), with_type(&message, item.json));
        if !is_endpoint {
            object.insert("last_updated".to_owned(), json!(updated));
        }
        Value::Object(object)
    })))
}

/// All dumps, or what a mask leaves of them.
fn everything(admin: &Admin, asked: &Asked) -> Reply {
    let mut parts = Vec::new();
    let covers = |field: &str| asked.mask.is_empty() || asked.mask.iter().any(|p| p[0] == field);
    if covers("bootstrap") {
        bootstrap(admin, asked, &mut parts);
    }
    for (message, lists) in DUMPS {
        let wanted = *message != "EndpointsConfigDump" || asked.include_eds;
        if !wanted || !lists.iter().any(|list| covers(list.field)) {
            continue;
        }
        let mut begin = format!("  {{\n   \"@type\": \"{}\"", type_url(message));
        let kind = dynamic_dump::versioned(message).filter(|_| asked.mask.is_empty());
        let version = kind.map(|kind| admin.state.book.shelf(kind).version.clone());
        if let Some(version) = version.filter(|version| !version.is_empty()) {
            begin.push_str(&format!(",\n   \"version_info\": {}", json!(version)));
        }
        for list in lists.iter().filter(|list| covers(list.field)) {
            let Some(items) = items(admin, list, asked) else { continue };
            let mut items = items.peekable();
            if items.peek().is_none() {
                continue;
            }
            begin.push_str(&format!(",\n   \"{}\": [", list.field));
            parts.push(Part::Text(std::mem::take(&mut begin)));
            parts.push(Part::List(4, Box::new(items)));
            begin.push_str("\n   ]");
        }
        begin.push_str("\n  }");
        parts.push(Part::Text(begin));
        parts.push(Part::End);
    }
    if parts.is_empty() {
        let mask: Vec<_> = asked.mask.iter().map(|path| path.join(".")).collect();
        let text = "could not be successfully applied to any configs.";
        return refused(400, format!("FieldMask {} {text}", mask.join(",")));
    }
    parts.insert(0, Part::text("{\n \"configs\": [\n"));
    // The last dump has no comma after it.
    if matches!(parts.last(), Some(Part::End)) {
        parts.pop();
    }
    parts.push(Part::text("\n ]\n}\n"));
    reply(parts)
}

fn type_url(message: &str) -> String {
    format!("type.googleapis.com/envoy.admin.v3.{message}")
}

/// The bootstrap, whose resources can be many.
fn bootstrap(admin: &Admin, asked: &Asked, parts: &mut Vec<Part>) {
    let shown = admin.state.shown();
    let mut map = shown.received.bootstrap();
    map.insert("node".to_owned(), info::node(&admin.state.shown().node));
    let begin = format!("  {{\n   \"@type\": \"{}\",\n", type_url("BootstrapConfigDump"));
    let updated = format!("\n   \"last_updated\": \"{}\"\n  }}", shown.updated);
    if !asked.mask.is_empty() {
        let lists = ["listeners", "clusters", "secrets"];
        let sections = [Section::Listeners, Section::Clusters, Section::Secrets];
        let mut resources = Map::new();
        for (field, section) in lists.iter().zip(sections) {
            let all: Vec<_> = shown.received.resources(section).map(|one| one.json).collect();
            if !all.is_empty() {
                resources.insert((*field).to_owned(), Value::Array(all));
            }
        }
        map.insert("static_resources".to_owned(), Value::Object(resources));
        let whole = json!({ "bootstrap": map, "last_updated": shown.updated });
        let left = with_type("envoy.admin.v3.BootstrapConfigDump", masked(whole, &asked.mask));
        parts.push(Part::Text(pretty(&left, 2)));
        parts.push(Part::End);
        return;
    }
    let node = map.shift_remove("node").unwrap_or_default();
    let mut text = format!("{begin}   \"bootstrap\": {{\n    \"node\": {}", pretty_value(&node, 4));
    let mut any = false;
    for (field, section) in [
        ("listeners", Section::Listeners),
        ("clusters", Section::Clusters),
        ("secrets", Section::Secrets),
    ] {
        let mut resources = shown.received.resources(section).map(|one| one.json).peekable();
        if resources.peek().is_none() {
            continue;
        }
        text.push_str(if any { ",\n" } else { ",\n    \"static_resources\": {\n" });
        any = true;
        text.push_str(&format!("     \"{field}\": ["));
        parts.push(Part::Text(std::mem::take(&mut text)));
        parts.push(Part::List(6, Box::new(resources)));
        text.push_str("\n     ]");
    }
    if any {
        text.push_str("\n    }");
    }
    for (field, value) in &map {
        text.push_str(&format!(",\n    \"{field}\": {}", pretty_value(value, 4)));
    }
    text.push_str(&format!("\n   }},{updated}"));
    parts.push(Part::Text(text));
    parts.push(Part::End);
}

/// A part of a page.
enum Part {
    Text(String),
    /// Values in a list, each indented by so many spaces.
    List(usize, Items),
    /// The end of an item that another one follows.
    End,
}

impl Part {
    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }
}

fn reply(parts: impl IntoIterator<Item = Part>) -> Reply {
    let parts: Vec<Part> = parts.into_iter().collect();
    let texts = parts.into_iter().flat_map(|part| -> Box<dyn Iterator<Item = String> + Send> {
        match part {
            Part::Text(text) => Box::new(std::iter::once(text)),
            Part::End => Box::new(std::iter::once(",\n".to_owned())),
            Part::List(indent, items) => Box::new(items.enumerate().map(move |(index, item)| {
                let comma = if index == 0 { "\n" } else { ",\n" };
                format!("{comma}{}", pretty(&item, indent))
            })),
        }
    });
    Reply { status: 200, content_type: "application/json", body: Pieces::parts(texts) }
}

/// A value that stands on lines of its own, indented by so many spaces.
fn pretty(value: &Value, indent: usize) -> String {
    format!("{}{}", " ".repeat(indent), pretty_value(value, indent))
}

/// A value that stands behind something, on a line that is indented by so many spaces.
fn pretty_value(value: &Value, indent: usize) -> String {
    let text = super::json_text(value);
    text.trim_end().replace('\n', &format!("\n{}", " ".repeat(indent)))
}

/// What a mask leaves of a value: the fields on its paths, and the types of what they are in.
fn masked(value: Value, mask: &[Vec<String>]) -> Value {
    if mask.is_empty() {
        return value;
    }
    let paths: Vec<&[String]> = mask.iter().map(Vec::as_slice).collect();
    keep(value, &paths)
}

fn keep(value: Value, paths: &[&[String]]) -> Value {
    let Value::Object(fields) = value else { return value };
    let mut kept = Map::new();
    for (name, field) in fields {
        let below: Vec<&[String]> =
            paths.iter().filter(|path| path[0] == name).map(|path| &path[1..]).collect();
        if name == "@type" || below.iter().any(|path| path.is_empty()) {
            kept.insert(name, field);
        } else if !below.is_empty() && field.is_object() {
            kept.insert(name, keep(field, &below));
        }
    }
    Value::Object(kept)
}

/// `/init_dump`: what is not there yet, and what it waits for.
pub(super) fn init_dump(admin: &Admin, _: &Query) -> Reply {
    let warming = admin.state.warming();
    let target = |name: &String| json!({ "name": format!("init manager Server"), "target_names": [format!("target cluster {name}")] });
    let dumps = warming.iter().map(target).chain(dynamic_dump::waiting(&admin.state));
    let dumps: Vec<_> = dumps.collect();
    if dumps.is_empty() {
        return Reply::json(&json!({}));
    }
    Reply::json(&json!({ "unready_targets_dumps": dumps }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_keeps_paths_and_types() {
        let value =
            json!({ "@type": "t", "a": { "@type": "u", "b": 1, "c": 2 }, "d": 3, "e": [1] });
        let mask = |text: &str| -> Vec<Vec<String>> {
            text.split(',').map(|path| path.split('.').map(str::to_owned).collect()).collect()
        };
        let left = |text: &str| masked(value.clone(), &mask(text));
        assert_eq!(left("a.b"), json!({ "@type": "t", "a": { "@type": "u", "b": 1 } }));
        assert_eq!(left("a.b,d"), json!({ "@type": "t", "a": { "@type": "u", "b": 1 }, "d": 3 }));
        assert_eq!(left("e"), json!({ "@type": "t", "e": [1] }));
        assert_eq!(masked(value.clone(), &[]), value);
    }

    #[test]
    fn values_are_indented_by_where_they_stand() {
        assert_eq!(pretty(&json!({ "a": [1] }), 2), "  {\n   \"a\": [\n    1\n   ]\n  }");
    }
}
