//! Header mutations, compiled and put in the order in which they are done.
//!
//! What it leaves to others: doing them (`proxy::header_mutation`).

use crate::access_log::Format;
use crate::config::{self, AppendAction};
use std::sync::Arc;
use tidegate_http::Name;

/// What is done to the header of one direction, level by level.
pub type MutationList = Vec<Arc<Mutations>>;

/// The mutations of one level.
#[derive(Debug)]
pub struct Mutations {
    /// Fields that are removed, before any is added.
    pub remove: Vec<FieldName>,
    /// Fields that are added.
    pub add: Vec<Addition>,
    /// Whether a value is made for each request.
    pub has_formats: bool,
    /// Whether a value has what is [`Measured`](crate::access_log::Measured).
    pub measures: bool,
}

/// A field name, in lower case, with its number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldName {
    /// Its number.
    pub id: Name,
    /// Its text.
    pub lower: Vec<u8>,
}

/// One field that is added.
#[derive(Debug)]
pub struct Addition {
    /// Its name.
    pub name: FieldName,
    /// Its value.
    pub value: AddedValue,
    /// What to do when it is there.
    pub append_action: AppendAction,
    /// Whether an empty value is added, too.
    pub keep_empty_value: bool,
}

/// The value of an added field.
#[derive(Debug)]
pub enum AddedValue {
    /// The same for every request.
    Literal(Vec<u8>),
    /// Made for each request.
    Format(Format),
}

/// The mutations of a route: its own and those of what is around it.
#[derive(Debug)]
pub struct RouteMutations {
    /// Of requests that are forwarded.
    pub request: MutationList,
    /// Of all responses.
    pub response: MutationList,
}

/// Both directions of one level, compiled once for all routes below it.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    pub(super) request: Option<Arc<Mutations>>,
    pub(super) response: Option<Arc<Mutations>>,
}

impl Level {
    pub(super) fn new(level: &config::LevelMutations) -> Level {
        Level {
            request: level.request().and_then(Mutations::new),
            response: level.response().and_then(Mutations::new),
        }
    }
}

impl RouteMutations {
    /// Whether any of them has what is [`Measured`](crate::access_log::Measured).
    pub(super) fn measures(&self) -> bool {
        self.request.iter().chain(&self.response).any(|mutations| mutations.measures)
    }

    /// Of levels from the most specific to the least, which is the order of Envoy, unless the most
    /// specific is to win. `None` if there is nothing to do.
    pub(super) fn new(levels: [&Level; 3], most_specific_wins: bool) -> Option<Box<Self>> {
        let list = |of: fn(&Level) -> &Option<Arc<Mutations>>| {
            let mut list: MutationList = levels.iter().filter_map(|l| of(l).clone()).collect();
            if most_specific_wins {
                list.reverse();
            }
            list
        };
        let (request, response) = (list(|level| &level.request), list(|level| &level.response));
        match request.is_empty() && response.is_empty() {
            true => None,
            false => Some(Box::new(RouteMutations { request, response })),
        }
    }
}

impl Mutations {
    pub(crate) fn new(mutations: &config::HeaderMutations) -> Option<Arc<Mutations>> {
        if mutations.is_empty() {
            return None;
        }
        let remove = mutations.remove.iter().map(|name| FieldName::new(name)).collect();
        let add: Vec<Addition> = mutations.add.iter().filter_map(Addition::new).collect();
        let has_formats = add.iter().any(|one| matches!(one.value, AddedValue::Format(_)));
        let measures = add.iter().any(|one| match &one.value {
            AddedValue::Format(format) => format.measures(),
            AddedValue::Literal(_) => false,
        });
        Some(Arc::new(Mutations { remove, add, has_formats, measures }))
    }
}

impl Addition {
    fn new(option: &config::HeaderValueOption) -> Option<Addition> {
        // What validation let through compiles.
        let format = Format::parse(&option.format).ok()?;
        let value = match format.literal_text() {
            Some(literal) => AddedValue::Literal(literal.to_vec()),
            None => AddedValue::Format(format),
        };
        Some(Addition {
            name: FieldName::new(&option.name),
            value,
            append_action: option.append_action,
            keep_empty_value: option.keep_empty_value,
        })
    }
}

impl FieldName {
    pub(super) fn new(lower: &str) -> FieldName {
        FieldName { id: Name::of(lower.as_bytes()), lower: lower.as_bytes().to_vec() }
    }
}
