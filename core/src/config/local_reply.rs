//! What becomes of the proxy's own answers
//! (`extensions.filters.network.http_connection_manager.v3.LocalReplyConfig`).
//!
//! What it leaves to others: compiling (`snapshot::LocalReplies`), doing it (`proxy::local_reply`).

use super::access_log_filter::AccessLogFilter;
use super::convert::At;
use super::data_source;
use super::header_mutation::{self, HeaderMutations, HeaderValueOption};
use super::substitution_format::{LogFormat, Use};
use super::support::{SupportedMessage, message, used};
use envoy_types::pb::envoy::config::core::v3::SubstitutionFormatString;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;

/// `LocalReplyConfig`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalReplyConfig {
    /// `mappers`, of which the first that matches counts.
    pub mappers: Vec<ResponseMapper>,
    /// `body_format`; `None` is the body as it is.
    pub body_format: Option<BodyFormat>,
}

/// `ResponseMapper`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResponseMapper {
    /// `filter`
    pub filter: AccessLogFilter,
    /// `status_code`
    pub status: Option<u16>,
    /// `body`
    pub body: Option<Vec<u8>>,
    /// `body_format_override`
    pub body_format: Option<BodyFormat>,
    /// `headers_to_add`
    pub headers_to_add: HeaderMutations,
}

/// How a body is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BodyFormat {
    /// The format.
    pub format: LogFormat,
    /// `content_type`, or `application/json` or `text/plain`.
    pub content_type: String,
}

/// The longest body that replaces another one.
const MAX_BODY_BYTES: usize = 64 << 10;

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.extensions.filters.network.http_connection_manager.v3.LocalReplyConfig",
        &[used("mappers"), used("body_format")],
    ),
    message(
        "envoy.extensions.filters.network.http_connection_manager.v3.ResponseMapper",
        &[
            used("filter"),
            used("status_code"),
            used("body"),
            used("body_format_override"),
            used("headers_to_add"),
        ],
    ),
];

impl LocalReplyConfig {
    pub(super) fn from_proto(at: &At<'_>, config: &pb::LocalReplyConfig) -> LocalReplyConfig {
        let at_mappers = at.field("mappers");
        let mut mappers = Vec::with_capacity(config.mappers.len());
        for (index, mapper) in config.mappers.iter().enumerate() {
            let at = at_mappers.index(index);
            mappers.extend(at.converted(ResponseMapper::from_proto(&at, mapper)));
        }
        let at_format = at.field("body_format");
        let body_format = config.body_format.as_ref();
        LocalReplyConfig {
            mappers,
            body_format: body_format
                .and_then(|format| at_format.converted(BodyFormat::from_proto(&at_format, format))),
        }
    }
}

impl ResponseMapper {
    fn from_proto(at: &At<'_>, mapper: &pb::ResponseMapper) -> Option<ResponseMapper> {
        let filter = AccessLogFilter::from_proto(&at.field("filter"), mapper.filter.as_ref()?);
        let at_format = at.field("body_format_override");
        let body_format = mapper
            .body_format_override
            .as_ref()
            .map(|format| BodyFormat::from_proto(&at_format, format));
        let at_body = at.field("body");
        let body = mapper.body.as_ref();
        let body = body.map(|body| data_source::read(&at_body, body, MAX_BODY_BYTES));
        let add: Vec<HeaderValueOption> =
            header_mutation::added(&at.field("headers_to_add"), &mapper.headers_to_add, false);
        Some(ResponseMapper {
            filter: filter?,
            // The .proto file allows 200 to 599.
            status: mapper.status_code.and_then(|code| u16::try_from(code.value).ok()),
            body: match body {
                Some(body) => Some(body?),
                None => None,
            },
            body_format: match body_format {
                Some(format) => Some(format?),
                None => None,
            },
            headers_to_add: HeaderMutations { remove: Vec::new(), add },
        })
    }
}

impl BodyFormat {
    pub(super) fn from_proto(at: &At<'_>, format: &SubstitutionFormatString) -> Option<BodyFormat> {
        let compiled = LogFormat::from_proto(at, format, Use::LocalReply)?;
        let content_type = match (format.content_type.as_str(), &compiled) {
            ("", LogFormat::Json(_)) => "application/json",
            ("", LogFormat::Text(_)) => "text/plain",
            (content_type, _) => content_type,
        };
        Some(BodyFormat { content_type: content_type.to_owned(), format: compiled })
    }
}
