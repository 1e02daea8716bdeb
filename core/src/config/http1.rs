//! Options of the HTTP codecs, downstream and upstream (`config.core.v3.HttpProtocolOptions` and
//! `Http1ProtocolOptions`).
//!
//! What it leaves to others: carrying them out (`tidegate-http`, `proxy`).

use super::convert::{At, is_type};
use super::support::{SupportedMessage, kept, message, only, used};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::http::header_formatters::preserve_case::v3 as preserve;
use std::time::Duration;

/// `config.core.v3.Http1ProtocolOptions`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Http1Options {
    /// `accept_http_10`
    pub accept_http_10: bool,
    /// `default_host_for_http_10`
    pub default_host_for_http_10: Option<String>,
    /// `allow_absolute_url` set to false.
    pub reject_absolute_url: bool,
    /// `enable_trailers`
    pub enable_trailers: bool,
    /// `allow_chunked_length`
    pub allow_chunked_length: bool,
    /// `allow_custom_methods`
    pub allow_custom_methods: bool,
    /// `override_stream_error_on_invalid_http_message`
    pub stream_error: Option<bool>,
    /// `send_fully_qualified_url`
    pub send_fully_qualified_url: bool,
    /// `header_key_format`
    pub header_key_format: HeaderKeyFormat,
}

/// `config.core.v3.Http1ProtocolOptions.HeaderKeyFormat`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HeaderKeyFormat {
    /// Names are sent in lower case.
    #[default]
    LowerCase,
    /// `proper_case_words`: `Content-Type`.
    ProperCaseWords,
    /// `stateful_formatter` with a `PreserveCaseFormatterConfig`: names are passed on as they were
    /// received here.
    PreserveCase {
        /// `formatter_type_on_envoy_headers` is PROPER_CASE: what the proxy adds has proper case.
        proper_case_others: bool,
    },
}

/// `headers_with_underscores_action`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UnderscoresAction {
    /// `ALLOW`
    #[default]
    Allow,
    /// `REJECT_REQUEST`
    RejectRequest,
    /// `DROP_HEADER`
    DropHeader,
}

/// `config.core.v3.HttpProtocolOptions`, downstream and upstream.
pub(super) struct CommonOptions {
    pub idle_timeout: Option<Duration>,
    pub max_connection_duration: Option<Duration>,
    pub max_headers_count: Option<u32>,
    pub max_requests_per_connection: Option<u32>,
    pub max_stream_duration: Option<Duration>,
    pub underscores: UnderscoresAction,
}

pub(super) const PRESERVE_CASE: &str =
    "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig";
pub(super) const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.core.v3.HttpProtocolOptions",
        &[
            used("idle_timeout"),
            used("max_connection_duration"),
            used("max_headers_count"),
            used("max_requests_per_connection"),
            used("max_stream_duration"),
            used("headers_with_underscores_action"),
        ],
    ),
    message(
        "envoy.config.core.v3.Http1ProtocolOptions",
        &[
            used("accept_http_10"),
            used("default_host_for_http_10"),
            used("allow_absolute_url"),
            used("enable_trailers"),
            used("header_key_format"),
            kept("use_balsa_parser", "there is one parser"),
            used("allow_chunked_length"),
            used("allow_custom_methods"),
            used("send_fully_qualified_url"),
            used("override_stream_error_on_invalid_http_message"),
        ],
    ),
    message(
        "envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat",
        &[used("proper_case_words"), used("stateful_formatter")],
    ),
    message("envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat.ProperCaseWords", &[]),
    message(
        PRESERVE_CASE,
        &[only("forward_reason_phrase", &["true"]), used("formatter_type_on_envoy_headers")],
    ),
];

impl CommonOptions {
    pub(super) fn from_proto(at: &At<'_>, options: &core::HttpProtocolOptions) -> CommonOptions {
        use core::http_protocol_options::HeadersWithUnderscoresAction as Action;
        let default = Some(DEFAULT_IDLE_TIMEOUT);
        let timeout =
            |name, value: &Option<_>, default| at.field(name).timeout(value.as_ref(), default);
        CommonOptions {
            idle_timeout: timeout("idle_timeout", &options.idle_timeout, default),
            max_connection_duration: timeout(
                "max_connection_duration",
                &options.max_connection_duration,
                None,
            ),
            max_headers_count: options.max_headers_count.map(|count| count.value),
            max_requests_per_connection: options
                .max_requests_per_connection
                .map(|requests| requests.value)
                .filter(|requests| *requests > 0),
            max_stream_duration: timeout("max_stream_duration", &options.max_stream_duration, None),
            underscores: match options.headers_with_underscores_action() {
                Action::Allow => UnderscoresAction::Allow,
                Action::RejectRequest => UnderscoresAction::RejectRequest,
                Action::DropHeader => UnderscoresAction::DropHeader,
            },
        }
    }
}

impl Http1Options {
    /// Converts the options; absent ones are the defaults.
    pub(super) fn from_proto(
        at: &At<'_>,
        options: Option<&core::Http1ProtocolOptions>,
    ) -> Http1Options {
        let Some(options) = options else { return Http1Options::default() };
        let default_host = Some(options.default_host_for_http_10.clone());
        let stream_error = options.override_stream_error_on_invalid_http_message;
        Http1Options {
            accept_http_10: options.accept_http_10,
            default_host_for_http_10: default_host.filter(|host| !host.is_empty()),
            reject_absolute_url: options.allow_absolute_url.is_some_and(|flag| !flag.value),
            enable_trailers: options.enable_trailers,
            allow_chunked_length: options.allow_chunked_length,
            allow_custom_methods: options.allow_custom_methods,
            stream_error: stream_error.map(|flag| flag.value),
            send_fully_qualified_url: options.send_fully_qualified_url,
            header_key_format: options
                .header_key_format
                .as_ref()
                .and_then(|format| {
                    let at = at.field("header_key_format");
                    at.converted(HeaderKeyFormat::from_proto(&at, format))
                })
                .unwrap_or_default(),
        }
    }
}

impl HeaderKeyFormat {
    /// Whether names have to be remembered as they are received.
    #[must_use]
    pub fn keeps_names(self) -> bool {
        matches!(self, HeaderKeyFormat::PreserveCase { .. })
    }

    fn from_proto(
        at: &At<'_>,
        format: &core::http1_protocol_options::HeaderKeyFormat,
    ) -> Option<HeaderKeyFormat> {
        use core::http1_protocol_options::header_key_format::HeaderFormat;
        use preserve::preserve_case_formatter_config::FormatterTypeOnEnvoyHeaders as Others;
        let formatter = match format.header_format.as_ref()? {
            HeaderFormat::ProperCaseWords(_) => return Some(HeaderKeyFormat::ProperCaseWords),
            HeaderFormat::StatefulFormatter(formatter) => formatter,
        };
        let at = at.field("stateful_formatter");
        let Some(any) = &formatter.typed_config else {
            at.missing("typed_config", Some(PRESERVE_CASE));
            return None;
        };
        let at = at.field("typed_config");
        if !is_type(any, PRESERVE_CASE) {
            at.error(format!("names of fields are formatted by a `{PRESERVE_CASE}`"));
            return None;
        }
        let config: preserve::PreserveCaseFormatterConfig = at.unpack(any, PRESERVE_CASE)?;
        let proper_case_others = config.formatter_type_on_envoy_headers() == Others::ProperCase;
        Some(HeaderKeyFormat::PreserveCase { proper_case_others })
    }
}
