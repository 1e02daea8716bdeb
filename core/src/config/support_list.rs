//! Every field of Envoy's and how it is implemented, for whoever wants to know before trying.
//!
//! What it leaves to others: the tables (`support`), printing (`cli::explain_support`).

use super::descriptors;
use super::support::{Support, supported_message, supported_messages};
use prost_reflect::MessageDescriptor;
use std::collections::HashSet;

/// A message of Envoy's API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedMessage {
    /// Its full name.
    pub name: String,
    /// Its fields in the order of the .proto file.
    pub fields: Vec<ListedField>,
    /// Some of it is implemented.
    pub is_known: bool,
}

/// A field of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedField {
    /// Its name.
    pub name: String,
    /// How it is implemented; `None`: it is refused by name.
    pub support: Option<Support>,
}

/// The messages of which something is implemented, in the order of the tables; or, with `part`,
/// every message and every field of Envoy's API whose name has this in it.
#[must_use]
pub fn listed(part: Option<&str>) -> Vec<ListedMessage> {
    let Ok(pool) = descriptors::pool() else { return Vec::new() };
    let known: Vec<MessageDescriptor> =
        supported_messages().filter_map(|table| pool.get_message_by_name(table.message)).collect();
    let Some(part) = part else { return known.iter().map(|one| of(one, |_| true)).collect() };
    let names: HashSet<String> = known.iter().map(|one| one.full_name().to_owned()).collect();
    let others = pool.all_messages().filter(|one| {
        one.full_name().starts_with("envoy.")
            && !one.is_map_entry()
            && !names.contains(one.full_name())
    });
    let matches = |text: &str| text.to_ascii_lowercase().contains(&part.to_ascii_lowercase());
    let (mut found, mut exact) = (Vec::new(), Vec::new());
    for message in known.iter().cloned().chain(others) {
        let (full, name) = (message.full_name(), message.name());
        let listed = match name.eq_ignore_ascii_case(part) || full.eq_ignore_ascii_case(part) {
            true => of(&message, |_| true),
            false => of(&message, |field| {
                matches(field) || matches(&format!("{name}.{field}")) && part.contains('.')
            }),
        };
        let of_whole_name = listed.fields.iter().filter(|field| field.name == part);
        let fields: Vec<_> = of_whole_name.cloned().collect();
        if !fields.is_empty() {
            exact.push(ListedMessage { fields, ..listed.clone() });
        }
        found.push(listed);
    }
    found.retain(|listed| !listed.fields.is_empty());
    // A whole name is what was meant, if there is one.
    if exact.is_empty() { found } else { exact }
}

fn of(message: &MessageDescriptor, wanted: impl Fn(&str) -> bool) -> ListedMessage {
    let table = supported_message(message.full_name());
    let support = |name: &str| {
        let field = table?.fields.iter().find(|field| field.name == name)?;
        Some(field.support)
    };
    let mut fields: Vec<_> = message.fields().collect();
    fields.sort_unstable_by_key(prost_reflect::FieldDescriptor::number);
    let fields = fields.iter().map(|field| field.name()).filter(|name| wanted(name));
    ListedMessage {
        name: message.full_name().to_owned(),
        fields: fields
            .map(|name| ListedField { name: name.to_owned(), support: support(name) })
            .collect(),
        is_known: table.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_every_table_is_there() {
        let all = listed(None);
        for table in supported_messages() {
            let message = all.iter().find(|one| one.name == table.message).unwrap();
            for field in table.fields {
                let found = message.fields.iter().find(|one| one.name == field.name);
                assert_eq!(found.unwrap().support, Some(field.support), "{}", field.name);
            }
        }
    }

    #[test]
    fn names_are_found_in_messages_without_a_table_too() {
        let found = listed(Some("health_checks"));
        assert!(found.iter().any(|one| one.name.ends_with(".Cluster") && one.is_known));
        let message = listed(Some("RedisProxy"));
        assert!(message.iter().any(|one| one.name.ends_with(".RedisProxy") && !one.is_known));
        assert_eq!(listed(Some("no_such_thing_at_all")), []);
        let exact = listed(Some("lb_policy"));
        assert!(exact.iter().all(|one| one.fields.iter().any(|field| field.name == "lb_policy")));
        assert!(!listed(Some("cluster.lb_policy")).is_empty());
    }
}
