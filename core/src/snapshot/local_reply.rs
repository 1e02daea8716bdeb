//! What becomes of the proxy's own answers, compiled.
//!
//! What it leaves to others: giving them (`proxy::local_reply`).

use super::Mutations;
use crate::access_log::{Filter, Format, Record};
use crate::config::{BodyFormat, LocalReplyConfig, ResponseMapper};
use std::sync::Arc;

/// A compiled `local_reply_config`.
#[derive(Debug)]
pub struct LocalReplies {
    mappers: Vec<Mapper>,
    body: Option<Body>,
}

/// A compiled `ResponseMapper`.
#[derive(Debug)]
pub struct Mapper {
    filter: Filter,
    /// The status that is given instead.
    pub status: Option<u16>,
    /// The body that is given instead.
    pub body: Option<Vec<u8>>,
    /// Fields that are added.
    pub headers_to_add: Option<Arc<Mutations>>,
    format: Option<Body>,
}

/// How a body is written.
#[derive(Debug)]
pub struct Body {
    /// Its format.
    pub format: Format,
    /// Its media type.
    pub content_type: String,
}

impl LocalReplies {
    /// Compiles a configuration, which was validated.
    #[must_use]
    pub fn new(config: &LocalReplyConfig) -> LocalReplies {
        LocalReplies {
            mappers: config.mappers.iter().map(Mapper::new).collect(),
            body: config.body_format.as_ref().and_then(Body::new),
        }
    }

    /// Whether any of it has what is [`Measured`](crate::access_log::Measured).
    #[must_use]
    pub fn measures(&self) -> bool {
        let body = |body: &Option<Body>| body.as_ref().is_some_and(|body| body.format.measures());
        let mapper = |mapper: &Mapper| {
            body(&mapper.format) || mapper.headers_to_add.as_ref().is_some_and(|it| it.measures)
        };
        body(&self.body) || self.mappers.iter().any(mapper)
    }

    /// The mapper for an answer.
    #[must_use]
    pub fn mapper(&self, record: &Record<'_>) -> Option<&Mapper> {
        self.mappers.iter().find(|mapper| mapper.filter.passes(record))
    }

    /// How the body is written of an answer with this mapper; `None` is as it is.
    #[must_use]
    pub fn body<'s>(&'s self, mapper: Option<&'s Mapper>) -> Option<&'s Body> {
        mapper.and_then(|mapper| mapper.format.as_ref()).or(self.body.as_ref())
    }
}

impl Mapper {
    fn new(mapper: &ResponseMapper) -> Mapper {
        Mapper {
            filter: Filter::new(&mapper.filter),
            status: mapper.status,
            body: mapper.body.clone(),
            headers_to_add: Mutations::new(&mapper.headers_to_add),
            format: mapper.body_format.as_ref().and_then(Body::new),
        }
    }
}

impl Body {
    /// Compiles a format, which was validated.
    #[must_use]
    pub fn new(body: &BodyFormat) -> Option<Body> {
        // What validation let through compiles.
        let format = body.format.compile(true).ok()?;
        Some(Body { format, content_type: body.content_type.clone() })
    }
}
