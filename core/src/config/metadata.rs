//! What a configuration says about its own parts (`config.core.v3.Metadata`), for access logs.
//!
//! What it leaves to others: writing it (`crate::access_log`).

use super::substitution_format::object;
use super::support::{SupportedMessage, kept, message, used};
use envoy_types::pb::envoy::config::core::v3 as core;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// `filter_metadata`, by namespace.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Metadata(Option<Arc<BTreeMap<String, Value>>>);

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[message(
    "envoy.config.core.v3.Metadata",
    &[used("filter_metadata"), kept("typed_filter_metadata", "no operator reads it")],
)];

impl Metadata {
    pub(super) fn from_proto(metadata: Option<&core::Metadata>) -> Metadata {
        let Some(metadata) = metadata.filter(|it| !it.filter_metadata.is_empty()) else {
            return Metadata(None);
        };
        let of = |(namespace, fields): (&String, _)| (namespace.clone(), object(fields));
        Metadata(Some(Arc::new(metadata.filter_metadata.iter().map(of).collect())))
    }

    /// The value at the end of a path of names, or the whole namespace; null is none.
    #[must_use]
    pub fn get(&self, namespace: &str, path: &[String]) -> Option<&Value> {
        let namespace = self.0.as_ref()?.get(namespace)?;
        let value = path.iter().try_fold(namespace, |value, name| value.as_object()?.get(name))?;
        (!value.is_null()).then_some(value)
    }
}
