//! A resource as it came: for `/config_dump`, and to be read again when runtime values change.
//!
//! What it leaves to others: what it means (`config::Resource`).

use crate::config::{
    ClusterLoadAssignment, ConfigError, ConfigErrors, Resource, ResourceContext, ResourceKind,
    Source, resource_name,
};
use bytes::Bytes;

/// A resource, and what was said of it.
#[derive(Clone, Debug)]
pub struct Received {
    /// By which it is asked for.
    pub name: String,
    /// Of the resource, or of the response.
    pub version: String,
    /// Microseconds after 1970.
    pub at_unix_us: u64,
    /// The resource.
    pub raw: Raw,
}

/// A resource in the form in which it came.
#[derive(Clone, Debug)]
pub enum Raw {
    /// An encoded message.
    Message(Bytes),
    /// Protobuf's JSON, without `@type`.
    Json(String),
}

impl Raw {
    /// Its name, if that can be read.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        match self {
            Raw::Message(bytes) => resource_name(bytes),
            Raw::Json(text) => {
                let json: serde_json::Value = serde_json::from_str(text).ok()?;
                let names = ["name", "cluster_name", "clusterName"];
                names.iter().find_map(|name| Some(json.get(name)?.as_str()?.to_owned()))
            }
        }
    }

    /// What it means; an assignment shares what did not change with the one `before`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn read(
        &self,
        kind: ResourceKind,
        name: &str,
        before: Option<&ClusterLoadAssignment>,
        context: &ResourceContext,
    ) -> Result<(Resource, Vec<ConfigError>), ConfigErrors> {
        match self {
            Raw::Message(bytes) => Resource::decode_next(kind, name, bytes, before, context),
            Raw::Json(text) => {
                let source = Source { name: name.to_owned(), text: text.clone() };
                Resource::read(kind, &source, context)
            }
        }
    }
}
