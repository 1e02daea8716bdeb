//! A tree to a message, by Envoy's descriptors and the rules of protobuf's JSON: every field by
//! name, in either spelling, with every fault reported and not only the first.
//!
//! Reads all sources at once, so that their merge is protobuf's: single values are replaced, lists
//! are appended to, messages are merged.
//!
//! What it leaves to others: what a field means (each noun's `from_proto`).

mod clean;
mod extension;
mod hints;
mod mistakes;
mod old_names;
mod plan;
mod rules;
mod scalar;
mod well_known;

pub(super) use clean::is_clean;
pub(super) use hints::nearest;

use super::ast::{Entry, Mark, Node, Tree, shorten};
use super::convert::key_segment;
use super::load::Options;
use super::report::Report;
use super::support::{self, Support};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};
use std::collections::HashMap;

/// Reads trees as messages.
pub(super) struct Reader<'r, 's> {
    pool: &'static DescriptorPool,
    options: &'r Options,
    report: &'r mut Report<'s>,
    /// The path of the field that is being read.
    path: String,
    rules: rules::RuleTable,
}

/// Whether fields must be implemented, or may be any that Envoy knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scope {
    /// Fields must be implemented.
    Used,
    /// Below a field that has nothing to do here.
    Kept,
}

/// A field of a message with what the sources say about it.
struct Written<'t> {
    field: FieldDescriptor,
    key: &'t str,
    key_at: Mark,
    /// One value from each source that has one.
    parts: Vec<&'t Node>,
}

impl<'r, 's> Reader<'r, 's> {
    pub fn new(
        pool: &'static DescriptorPool,
        options: &'r Options,
        report: &'r mut Report<'s>,
    ) -> Reader<'r, 's> {
        let rules = rules::RuleTable::new(pool);
        Reader { pool, options, report, path: String::new(), rules }
    }

    /// Reads the root message from all sources.
    pub fn read(mut self, parts: &[&Node], descriptor: &MessageDescriptor) -> DynamicMessage {
        let at = parts.first().map(|node| node.at);
        if parts.iter().all(|node| node.value == Tree::Null) {
            self.report.error(at, "", "the configuration is empty", None);
        }
        self.message(parts, descriptor, Scope::Used)
    }

    /// Reads a message that is no well-known type.
    fn message(
        &mut self,
        parts: &[&Node],
        descriptor: &MessageDescriptor,
        scope: Scope,
    ) -> DynamicMessage {
        let mut mappings = Vec::with_capacity(parts.len());
        for part in parts {
            match &part.value {
                Tree::Null => {}
                Tree::Mapping(entries) => mappings.push(entries.as_slice()),
                _ => self.expected(part, &format!("a mapping ({})", descriptor.full_name())),
            }
        }
        self.mappings(parts.last().map(|node| node.at), &mappings, descriptor, scope)
    }

    /// Reads a message from the entries of its mappings, one from each source. `@type` is skipped.
    fn mappings(
        &mut self,
        at: Option<Mark>,
        mappings: &[&[Entry]],
        descriptor: &MessageDescriptor,
        scope: Scope,
    ) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        let mut written: Vec<Written<'_>> = Vec::new();
        for entries in mappings {
            self.collect(entries, descriptor, &mut written);
        }
        let mistaken = if scope == Scope::Used { self.mistake(descriptor, &written) } else { &[] };
        for part in &written {
            let length = self.enter(part.field.name());
            let scope = match mistaken.contains(&part.field.name()) {
                true => Some(Scope::Kept),
                false => self.scope_of(part, descriptor, scope),
            };
            if let Some(scope) = scope {
                let field_at = part.parts.last().map(|node| node.at);
                match self.field(&part.field, &part.parts, scope) {
                    Some(value) => {
                        message.set_field(&part.field, value);
                        self.check_rules(&message, &part.field, field_at);
                    }
                    None => self.report.set_unreadable(self.path.clone()),
                }
            } else {
                self.report.set_unreadable(self.path.clone());
            }
            self.path.truncate(length);
        }
        if scope == Scope::Used {
            self.read_untyped_config(mappings, &mut message);
        }
        self.check_required(&message, descriptor, at);
        message
    }

    /// Sorts the entries of one mapping to the fields of its message.
    fn collect<'t>(
        &mut self,
        entries: &'t [Entry],
        descriptor: &MessageDescriptor,
        written: &mut Vec<Written<'t>>,
    ) {
        // What this mapping has written: the key and the field's number.
        let mut here: Vec<(&str, u32)> = Vec::with_capacity(entries.len());
        for entry in entries.iter().filter(|entry| entry.key != "@type") {
            let Some(field) = field_by_key(descriptor, &entry.key) else {
                self.unknown_field(entry, descriptor, entries);
                continue;
            };
            if entry.value.value == Tree::Null {
                continue;
            }
            let number = field.number();
            let earlier = here.iter().find(|(_, other)| *other == number).map(|(key, _)| *key);
            if let Some(key) = earlier {
                self.written_twice(entry, key);
                if let Some(same) = written.iter_mut().find(|w| w.field.number() == number) {
                    same.parts.pop();
                    same.parts.push(&entry.value);
                }
                continue;
            }
            self.leave_oneof(entry, &field, &here, written);
            here.push((&entry.key, number));
            match written.iter_mut().find(|w| w.field.number() == number) {
                Some(same) => same.parts.push(&entry.value),
                None => written.push(Written {
                    field,
                    key: &entry.key,
                    key_at: entry.key_at,
                    parts: vec![&entry.value],
                }),
            }
        }
    }

    /// A member of a oneof takes the place of the members that an earlier source wrote, and cannot
    /// stand beside another in the same mapping.
    fn leave_oneof(
        &mut self,
        entry: &Entry,
        field: &FieldDescriptor,
        here: &[(&str, u32)],
        written: &mut Vec<Written<'_>>,
    ) {
        let Some(oneof) = field.containing_oneof() else { return };
        let is_other = |number: u32| {
            number != field.number() && oneof.fields().any(|member| member.number() == number)
        };
        if let Some((key, _)) = here.iter().find(|(_, number)| is_other(*number)) {
            let path = self.path_of(&entry.key);
            let reason = format!("`{}` cannot be set together with `{key}`", entry.key);
            let hint = Some("one of them must go".to_owned());
            self.report.error(Some(entry.key_at), &path, reason, hint);
        }
        written.retain(|w| !is_other(w.field.number()));
    }

    fn written_twice(&mut self, entry: &Entry, earlier: &str) {
        let path = self.path_of(&entry.key);
        if earlier == entry.key {
            let reason = format!("`{}` is there twice; the last one counts", entry.key);
            self.report.warning(Some(entry.key_at), &path, reason, None);
        } else {
            let reason = format!("`{}` and `{earlier}` are the same field", entry.key);
            self.report.error(Some(entry.key_at), &path, reason, None);
        }
    }

    /// Whether a field is to be read, and how what is below it is. `None`: it is not, and that is
    /// reported.
    fn scope_of(
        &mut self,
        written: &Written<'_>,
        descriptor: &MessageDescriptor,
        scope: Scope,
    ) -> Option<Scope> {
        if scope == Scope::Kept {
            return Some(scope);
        }
        match support::support(descriptor.full_name(), written.field.name()) {
            Some(Support::Used | Support::Types(_) | Support::FirstOf(_)) => Some(Scope::Used),
            Some(Support::Kept(_)) => Some(Scope::Kept),
            Some(Support::Reported(reason)) => {
                let reason = format!("`{}` has no effect: {reason}", written.key);
                self.report.warning(Some(written.key_at), &self.path, reason, None);
                Some(Scope::Kept)
            }
            Some(Support::Only(values)) => self.only(written, values, false).then_some(Scope::Kept),
            Some(Support::Must(values)) => self.only(written, values, true).then_some(Scope::Kept),
            Some(Support::Refused) => {
                self.unsupported_field(written, descriptor, true);
                None
            }
            None => {
                let message = support::supported_message(descriptor.full_name());
                self.unsupported_field(written, descriptor, message.is_some_and(|m| m.strict));
                None
            }
        }
    }

    /// Whether the field has one of the values that are carried out.
    fn only(&mut self, written: &Written<'_>, values: &[&str], strict: bool) -> bool {
        let Some(node) = written.parts.last() else { return true };
        let Some(found) = self.canonical(&written.field, node) else {
            // Not a value at all, which reading it will say.
            return true;
        };
        if values.contains(&found.as_str()) {
            return true;
        }
        let expected: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
        let name = written.field.name();
        let reason =
            format!("`{name}: {found}` is not supported yet; supported: {}", expected.join(", "));
        self.unsupported(node.at, reason, strict);
        false
    }

    fn unsupported_field(
        &mut self,
        written: &Written<'_>,
        descriptor: &MessageDescriptor,
        strict: bool,
    ) {
        let message = descriptor.full_name();
        let reason = format!("`{}` of {message} is not supported yet", written.key);
        let hint = old_names::old_field(descriptor.name(), written.key)
            .or_else(|| hints::reason(descriptor.name(), written.key))
            .map(str::to_owned);
        self.unsupported_hint(written.key_at, reason, strict, hint);
    }

    /// Reports something that Envoy has and we do not, at the current path.
    fn unsupported(&mut self, at: Mark, reason: String, strict: bool) {
        self.unsupported_hint(at, reason, strict, None);
    }

    fn unsupported_hint(&mut self, at: Mark, reason: String, strict: bool, hint: Option<String>) {
        if self.options.allow_unsupported && !strict {
            let reason = format!("{reason}; it is ignored");
            self.report.warning(Some(at), &self.path, reason, hint);
        } else {
            let why = "ignoring it would change where requests go";
            let hint = match (hint, self.options.allow_unsupported) {
                (Some(hint), true) => Some(format!("{hint}; {why}")),
                (None, true) => Some(why.to_owned()),
                (hint, false) => hint,
            };
            self.report.error(Some(at), &self.path, reason, hint);
        }
    }

    fn field(&mut self, field: &FieldDescriptor, parts: &[&Node], scope: Scope) -> Option<Value> {
        if field.is_map() {
            return self.map(field, parts, scope);
        }
        if field.is_list() {
            return self.list(field, parts, scope);
        }
        self.value(field, &field.kind(), parts, scope)
    }

    fn list(&mut self, field: &FieldDescriptor, parts: &[&Node], scope: Scope) -> Option<Value> {
        let mut values = Vec::new();
        let mut readable = true;
        let mut index = 0;
        let mut choice = extension::first_of(field);
        for part in parts {
            // One value without a list is a list of it, as in Envoy.
            let items = match &part.value {
                Tree::Sequence(items) => items.as_slice(),
                _ => std::slice::from_ref(*part),
            };
            for item in items {
                let length = self.path.len();
                self.path.push_str(&format!("[{index}]"));
                let scope = choice.as_mut().map_or(scope, |choice| choice.scope_of(item));
                match self.value(field, &field.kind(), &[item], scope) {
                    Some(value) => values.push(value),
                    None => readable = false,
                }
                index += 1;
                self.path.truncate(length);
            }
        }
        // A list that lacks an item is not what was written: whoever counts its items would be
        // wrong.
        (readable || !values.is_empty()).then_some(Value::List(values))
    }

    fn map(&mut self, field: &FieldDescriptor, parts: &[&Node], scope: Scope) -> Option<Value> {
        let Kind::Message(entry_descriptor) = field.kind() else { return None };
        let key_kind = entry_descriptor.map_entry_key_field().kind();
        let value_field = entry_descriptor.map_entry_value_field();
        let mut values = HashMap::new();
        for part in parts {
            let Tree::Mapping(entries) = &part.value else {
                self.expected(part, "a mapping");
                return None;
            };
            for entry in entries {
                let length = self.path.len();
                self.path.push_str(&key_segment(&entry.key));
                let value = self.value_of_map(field, &value_field, &entry.value, scope);
                if let (Some(key), Some(value)) = (self.map_key(entry, &key_kind), value) {
                    values.insert(key, value);
                }
                self.path.truncate(length);
            }
        }
        Some(Value::Map(values))
    }

    /// A map of `Any` takes the types that the map's own field takes.
    fn value_of_map(
        &mut self,
        map: &FieldDescriptor,
        value_field: &FieldDescriptor,
        node: &Node,
        scope: Scope,
    ) -> Option<Value> {
        match value_field.kind() {
            Kind::Message(message) if message.full_name() == "google.protobuf.Any" => {
                self.any(map, node, scope).map(Value::Message)
            }
            kind => self.value(value_field, &kind, &[node], scope),
        }
    }

    fn map_key(&mut self, entry: &Entry, kind: &Kind) -> Option<MapKey> {
        match kind {
            Kind::String => Some(MapKey::String(entry.key.clone())),
            Kind::Bool => entry.key.parse().ok().map(MapKey::Bool),
            Kind::Uint32 | Kind::Fixed32 => entry.key.parse().ok().map(MapKey::U32),
            Kind::Uint64 | Kind::Fixed64 => entry.key.parse().ok().map(MapKey::U64),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => entry.key.parse().ok().map(MapKey::I32),
            _ => entry.key.parse().ok().map(MapKey::I64),
        }
        .or_else(|| {
            let reason = format!("`{}` is not a key of this map", shorten(&entry.key));
            self.report.error(Some(entry.key_at), &self.path, reason, None);
            None
        })
    }

    fn value(
        &mut self,
        field: &FieldDescriptor,
        kind: &Kind,
        parts: &[&Node],
        scope: Scope,
    ) -> Option<Value> {
        let last = *parts.last()?;
        match kind {
            Kind::Message(message) if message.full_name() == "google.protobuf.Any" => {
                self.any(field, last, scope).map(Value::Message)
            }
            Kind::Message(message) if message.package_name() == "google.protobuf" => {
                self.well_known(last, message).map(Value::Message)
            }
            Kind::Message(message) => Some(Value::Message(self.message(parts, message, scope))),
            _ => self.scalar(last, kind),
        }
    }

    /// Appends a field's name to the path, and returns the length to truncate the path to.
    fn enter(&mut self, name: &str) -> usize {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        length
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn expected(&mut self, node: &Node, what: &str) {
        self.expected_hint(node, what, None);
    }

    fn expected_hint(&mut self, node: &Node, what: &str, hint: Option<&str>) {
        let reason = format!("expected {what}, found {}", node.describe());
        self.report.error(Some(node.at), &self.path, reason, hint.map(str::to_owned));
    }
}

/// The field that a key names, in the spelling of the .proto file or of JSON.
fn field_by_key(descriptor: &MessageDescriptor, key: &str) -> Option<FieldDescriptor> {
    descriptor.get_field_by_name(key).or_else(|| descriptor.get_field_by_json_name(key))
}
