//! A configuration as it was received: the messages that the user gave, with no default filled in.
//!
//! It stays as bytes, and what is asked for is made from them message by message, so that a large
//! configuration is not kept twice.
//!
//! What it leaves to others: what is made of the messages (`load`), the page (`admin`).

use super::{Bootstrap, ConfigErrors, RuntimeValues, Severity, descriptors, load, report};
use base64::Engine;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use prost_reflect::{DynamicMessage, ExtensionDescriptor, ReflectMessage, SerializeOptions, Value};
use serde_json::{Map, Value as Json, json};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The bytes of a bootstrap message.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Received(Vec<u8>);

/// Lists of resources in a bootstrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    /// `static_resources.listeners`
    Listeners,
    /// `static_resources.clusters`
    Clusters,
    /// `static_resources.secrets`
    Secrets,
    /// The `route_config`s of listeners.
    Routes,
}

/// A resource.
#[derive(Clone, PartialEq, Debug)]
pub struct Dumped {
    /// Its name.
    pub name: String,
    /// It, as protobuf's JSON with names as in .proto files.
    pub json: Json,
}

/// Of `config.bootstrap.v3.Bootstrap`.
const STATIC_RESOURCES: u32 = 2;
const LISTENERS: u32 = 1;
const CLUSTERS: u32 = 2;
const SECRETS: u32 = 3;

/// What stands in the place of a secret.
const REDACTED: &str = "[redacted]";

impl Received {
    /// Takes an encoded bootstrap.
    pub(super) fn new(bytes: Vec<u8>) -> Received {
        Received(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Converts it again, with other runtime values.
    ///
    /// # Errors
    ///
    /// What is wrong with these values.
    pub fn convert(
        self: &Arc<Received>,
        values: &RuntimeValues,
    ) -> Result<Bootstrap, ConfigErrors> {
        let mut report = report::Report::new(&[]);
        let converted = load::convert(self.clone(), &[], values, &mut report);
        let found = report.finish();
        match converted {
            Some(bootstrap) if found.iter().all(|one| one.severity == Severity::Warning) => {
                Ok(bootstrap)
            }
            _ => Err(ConfigErrors(found)),
        }
    }

    /// The bootstrap without its static resources.
    #[must_use]
    pub fn bootstrap(&self) -> Map<String, Json> {
        let rest: Vec<u8> = fields(&self.0)
            .filter(|field| field.number != STATIC_RESOURCES)
            .flat_map(|field| self.0[field.whole].iter().copied())
            .collect();
        match json_of("envoy.config.bootstrap.v3.Bootstrap", &rest) {
            Some(Json::Object(map)) => map,
            _ => Map::new(),
        }
    }

    /// The resources of a section, in their order.
    pub fn resources(
        self: &Arc<Received>,
        section: Section,
    ) -> Box<dyn Iterator<Item = Dumped> + Send> {
        let (number, message) = match section {
            Section::Listeners | Section::Routes => {
                (LISTENERS, "envoy.config.listener.v3.Listener")
            }
            Section::Clusters => (CLUSTERS, "envoy.config.cluster.v3.Cluster"),
            Section::Secrets => (SECRETS, "envoy.extensions.transport_sockets.tls.v3.Secret"),
        };
        let places = self.places(number);
        let received = self.clone();
        let jsons =
            places.into_iter().filter_map(move |place| json_of(message, &received.0[place]));
        match section {
            Section::Listeners | Section::Clusters | Section::Secrets => {
                Box::new(jsons.map(dumped))
            }
            Section::Routes => Box::new(jsons.flat_map(|listener| route_configs(&listener))),
        }
    }

    /// Where the resources with this number in `static_resources` are.
    fn places(&self, number: u32) -> Vec<Range<usize>> {
        let outer = fields(&self.0).filter(|field| field.number == STATIC_RESOURCES);
        let inner = outer.flat_map(|outer| {
            let start = outer.content.start;
            let inside: Vec<_> = fields(&self.0[outer.content])
                .filter(|field| field.number == number)
                .map(|field| start + field.content.start..start + field.content.end)
                .collect();
            inside
        });
        inner.collect()
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Received").field(&self.0.len()).finish()
    }
}

fn dumped(json: Json) -> Dumped {
    Dumped { name: json["name"].as_str().unwrap_or_default().to_owned(), json }
}

/// The route configurations that a listener's connection managers have inside.
fn route_configs(listener: &Json) -> Vec<Dumped> {
    let list = |json: &Json, name: &str| json[name].as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for chain in list(listener, "filter_chains").iter().chain([&listener["default_filter_chain"]]) {
        for filter in list(chain, "filters") {
            let config = &filter["typed_config"]["route_config"];
            if config.is_object() {
                found.push(dumped(config.clone()));
            }
        }
    }
    found
}

/// A field of an encoded message.
struct Field {
    number: u32,
    /// Key, length and content.
    whole: Range<usize>,
    content: Range<usize>,
}

/// The fields of an encoded message. Ends at what is not one.
fn fields(bytes: &[u8]) -> impl Iterator<Item = Field> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let start = bytes.len() - rest.len();
        let (number, wire_type) = decode_key(&mut rest).ok()?;
        let mut content = bytes.len() - rest.len();
        if wire_type == prost::encoding::WireType::LengthDelimited {
            let mut ahead = rest;
            prost::encoding::decode_varint(&mut ahead).ok()?;
            content = bytes.len() - ahead.len();
        }
        skip_field(wire_type, number, &mut rest, DecodeContext::default()).ok()?;
        let end = bytes.len() - rest.len();
        Some(Field { number, whole: start..end, content: content..end })
    })
}

/// A message as JSON, without its secrets.
#[must_use]
pub fn json_of(message: &str, bytes: &[u8]) -> Option<Json> {
    let pool = descriptors::pool().ok()?;
    let mut decoded = DynamicMessage::decode(pool.get_message_by_name(message)?, bytes).ok()?;
    if let Some(sensitive) = pool.get_extension_by_name("udpa.annotations.sensitive") {
        redact(&mut decoded, &sensitive);
    }
    let options =
        SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(true);
    decoded.serialize_with_options(serde_json::value::Serializer, &options).ok()
}

/// Overwrites what is marked as a secret, also in extensions.
fn redact(message: &mut DynamicMessage, sensitive: &ExtensionDescriptor) {
    if message.descriptor().full_name() == "google.protobuf.Any" {
        redact_any(message, sensitive);
        return;
    }
    let set: Vec<_> = message.fields().map(|(field, _)| field).collect();
    for field in set {
        let options = field.options();
        let is_secret = options.has_extension(sensitive)
            && options.get_extension(sensitive).as_bool() == Some(true);
        let value = message.get_field_mut(&field);
        if is_secret {
            overwrite(value);
        } else {
            each_message(value, &mut |inner| redact(inner, sensitive));
        }
    }
}

fn redact_any(any: &mut DynamicMessage, sensitive: &ExtensionDescriptor) {
    let Some(Value::String(url)) = any.get_field_by_number(1).map(|url| url.into_owned()) else {
        return;
    };
    let Some(Value::Bytes(bytes)) = any.get_field_by_number(2).map(|value| value.into_owned())
    else {
        return;
    };
    let name = url.rsplit('/').next().unwrap_or_default();
    let Some(descriptor) = any.descriptor().parent_pool().get_message_by_name(name) else { return };
    let Ok(mut inner) = DynamicMessage::decode(descriptor, bytes) else { return };
    redact(&mut inner, sensitive);
    any.set_field_by_number(2, Value::Bytes(prost::Message::encode_to_vec(&inner).into()));
}

/// Everything below a secret is one.
fn overwrite(value: &mut Value) {
    match value {
        Value::String(text) => REDACTED.clone_into(text),
        Value::Bytes(bytes) => {
            *bytes = base64::engine::general_purpose::STANDARD.encode(REDACTED).into_bytes().into();
        }
        Value::List(items) => items.iter_mut().for_each(overwrite),
        Value::Map(entries) => entries.values_mut().for_each(overwrite),
        Value::Message(message) => {
            let set: Vec<_> = message.fields().map(|(field, _)| field).collect();
            set.iter().for_each(|field| overwrite(message.get_field_mut(field)));
        }
        _ => {}
    }
}

fn each_message(value: &mut Value, act: &mut dyn FnMut(&mut DynamicMessage)) {
    match value {
        Value::Message(message) => act(message),
        Value::List(items) => items.iter_mut().for_each(|item| each_message(item, act)),
        Value::Map(entries) => entries.values_mut().for_each(|item| each_message(item, act)),
        _ => {}
    }
}

/// The message of a `typed_config` begins with its type; so does a resource in a dump.
#[must_use]
pub fn with_type(message: &str, json: Json) -> Json {
    let mut object = Map::new();
    object.insert("@type".to_owned(), json!(format!("type.googleapis.com/{message}")));
    if let Json::Object(fields) = json {
        object.extend(fields);
    }
    Json::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Options, Source, load};

    fn received() -> Arc<Received> {
        let text = "
            node: { id: me }
            static_resources:
              clusters:
              - { name: a, connect_timeout: 0.25s, load_assignment: { cluster_name: a } }
              - name: b
              listeners:
              - address: { socket_address: { address: 127.0.0.1, port_value: 1 } }
                name: l
                filter_chains:
                - filters:
                  - name: h
                    typed_config:
                      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                      stat_prefix: s
                      route_config: { name: r }
                      http_filters:
                      - name: router
                        typed_config: { '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }";
        let source = Source { name: "x".into(), text: text.into() };
        load(&[source], &Options::default()).unwrap().0.received
    }

    #[test]
    fn resources_are_found_in_their_order() {
        let received = received();
        let names = |section| received.resources(section).map(|one| one.name).collect::<Vec<_>>();
        assert_eq!(names(Section::Clusters), ["a", "b"]);
        assert_eq!(names(Section::Listeners), ["l"]);
        assert_eq!(names(Section::Routes), ["r"]);
        assert_eq!(names(Section::Secrets), [] as [&str; 0]);
        let first = received.resources(Section::Clusters).next().unwrap().json;
        let expected = json!({
            "name": "a", "connect_timeout": "0.250s", "load_assignment": { "cluster_name": "a" },
        });
        assert_eq!(first, expected);
        assert_eq!(Json::Object(received.bootstrap()), json!({ "node": { "id": "me" } }));
    }

    #[test]
    fn secrets_are_redacted_also_in_extensions() {
        let secret = "envoy.extensions.transport_sockets.tls.v3.Secret";
        let pool = descriptors::pool().unwrap();
        let text = json!({
            "name": "s", "generic_secret": { "secret": { "inline_string": "hidden" } },
        });
        let read = |name: &str, json: Json| {
            DynamicMessage::deserialize(pool.get_message_by_name(name).unwrap(), json).unwrap()
        };
        let bytes = |message| prost::Message::encode_to_vec(&message);
        let shown = json_of(secret, &bytes(read(secret, text.clone()))).unwrap();
        assert_eq!(shown["generic_secret"]["secret"]["inline_string"], REDACTED);
        let extension = "envoy.config.core.v3.TypedExtensionConfig";
        let inside = json!({ "name": "x", "typed_config": with_type(secret, text) });
        let shown = json_of(extension, &bytes(read(extension, inside))).unwrap();
        assert_eq!(shown["typed_config"]["generic_secret"]["secret"]["inline_string"], REDACTED);
    }
}
