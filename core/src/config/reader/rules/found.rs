//! The rules for a value of an encoded message, which is not built first.
//!
//! What it leaves to others: values of messages that are built, and saying what is wrong (`rules`).

use super::{Check, FieldRules};
use prost_reflect::FieldDescriptor;

/// A value of an encoded message, or what is in its wrapper.
#[derive(Clone, Copy)]
pub(in crate::config::reader) enum Found<'b> {
    Number(f64),
    Enum(i32),
    Bool(bool),
    Text(&'b str),
    Bytes(&'b [u8]),
    /// In nanoseconds.
    Duration(i128),
    Message,
}

impl Found<'_> {
    /// Whether it is what a field has that is not sent.
    pub(in crate::config::reader) fn is_default(self) -> bool {
        match self {
            Found::Number(number) => number == 0.0,
            Found::Enum(number) => number == 0,
            Found::Bool(value) => !value,
            Found::Text(text) => text.is_empty(),
            Found::Bytes(bytes) => bytes.is_empty(),
            Found::Duration(_) | Found::Message => false,
        }
    }
}

impl FieldRules {
    /// Whether a value follows them.
    pub(in crate::config::reader) fn allows(&self, found: Found<'_>) -> bool {
        match (&self.check, found) {
            (Check::Number(range), Found::Number(number)) => range.allows(number),
            (Check::Duration(range), Found::Duration(nanoseconds)) => range.allows(nanoseconds),
            (Check::Text(text), Found::Text(found)) => text.fault(found).is_none(),
            (Check::Bytes(range), Found::Bytes(bytes)) => range.allows(bytes.len() as u64),
            (Check::Enum { within, without }, Found::Enum(number)) => {
                !without.contains(&number) && (within.is_empty() || within.contains(&number))
            }
            (Check::Anything, _) => true,
            _ => false,
        }
    }

    /// Those of the items of a list.
    pub(in crate::config::reader) fn of_items(&self) -> Option<&FieldRules> {
        match &self.check {
            Check::Items { each, .. } => each.as_deref(),
            _ => None,
        }
    }

    /// Whether a list that is not empty may have too few or too many items.
    pub(in crate::config::reader) fn limits_count(&self) -> bool {
        match &self.check {
            Check::Items { count, unique, .. } => {
                *unique || !count.allows(1) || count.at_most.is_some()
            }
            _ => false,
        }
    }

    /// Whether a list may have so many items, which may be the same.
    pub(in crate::config::reader) fn allows_count(&self, found: u64) -> bool {
        matches!(&self.check, Check::Items { count, unique: false, .. } if count.allows(found))
    }

    /// Whether it is wrong that a field is not there.
    pub(in crate::config::reader) fn is_missed(&self, field: &FieldDescriptor) -> bool {
        // In a oneof it is required only where it is chosen.
        if field.containing_oneof().is_some() {
            return false;
        }
        let default_is_wrong = !field.supports_presence()
            && !self.ignore_empty
            && self.check.fault(&field.default_value()).is_some();
        self.required || default_is_wrong
    }
}
