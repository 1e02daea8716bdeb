//! Access logs (`config.accesslog.v3.AccessLog` with the file, stdout and stderr loggers).
//!
//! What it leaves to others: formatting and writing (`crate::access_log`).

#![allow(deprecated, reason = "Envoy still accepts fields that it calls deprecated")]

use super::convert::{At, is_type};
use super::data_source;
use super::support::{SupportedMessage, message, types, used};
use envoy_types::pb::envoy::config::accesslog::v3 as pb;
use envoy_types::pb::envoy::config::core::v3::SubstitutionFormatString;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3 as file;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3 as stream;

/// One access log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessLog {
    /// Where lines go.
    pub sink: AccessLogSink,
    /// `log_format.text_format_source.inline_string` (or the deprecated `format`); `None` is
    /// Envoy's default format.
    pub format: Option<String>,
}

/// Where access-log lines go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AccessLogSink {
    /// `FileAccessLog.path`, appended to. (`/dev/stdout` and `/dev/stderr` are the two below.)
    File(std::path::PathBuf),
    /// `StdoutAccessLog`.
    Stdout,
    /// `StderrAccessLog`.
    Stderr,
}

const FILE: &str = "envoy.extensions.access_loggers.file.v3.FileAccessLog";
const STDOUT: &str = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";
const STDERR: &str = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog";

/// The longest format, in bytes: it is compiled once, and each line is about as long.
const MAX_FORMAT_BYTES: usize = 16 << 10;

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.accesslog.v3.AccessLog",
        &[used("name"), types("typed_config", &[FILE, STDOUT, STDERR])],
    ),
    message(FILE, &[used("path"), used("format"), used("log_format")]),
    message(STDOUT, &[used("log_format")]),
    message(STDERR, &[used("log_format")]),
    message(
        "envoy.config.core.v3.SubstitutionFormatString",
        &[used("text_format"), used("text_format_source")],
    ),
];

impl AccessLog {
    /// Converts all access logs of a message; those that are wrong are reported and left out.
    pub(super) fn all_from_proto(at: &At<'_>, logs: &[pb::AccessLog]) -> Vec<AccessLog> {
        let mut converted = Vec::with_capacity(logs.len());
        for (index, log) in logs.iter().enumerate() {
            let at = at.index(index);
            // A logger that is not supported was reported, and may be left out where that is
            // allowed.
            if !at.field("typed_config").is_unreadable() {
                converted.extend(at.converted(AccessLog::from_proto(&at, log)));
            }
        }
        converted
    }

    fn from_proto(at: &At<'_>, log: &pb::AccessLog) -> Option<AccessLog> {
        let Some(pb::access_log::ConfigType::TypedConfig(any)) = &log.config_type else {
            at.missing("typed_config", Some("for example a FileAccessLog"));
            return None;
        };
        let at = at.field("typed_config");
        if is_type(any, STDOUT) {
            let log: stream::StdoutAccessLog = at.unpack(any, STDOUT)?;
            let format = log.access_log_format.as_ref().map(|format| match format {
                stream::stdout_access_log::AccessLogFormat::LogFormat(format) => format,
            });
            return Some(AccessLog { sink: AccessLogSink::Stdout, format: text(&at, format)? });
        }
        if is_type(any, STDERR) {
            let log: stream::StderrAccessLog = at.unpack(any, STDERR)?;
            let format = log.access_log_format.as_ref().map(|format| match format {
                stream::stderr_access_log::AccessLogFormat::LogFormat(format) => format,
            });
            return Some(AccessLog { sink: AccessLogSink::Stderr, format: text(&at, format)? });
        }
        AccessLog::from_file(&at, &at.unpack(any, FILE)?)
    }

    fn from_file(at: &At<'_>, log: &file::FileAccessLog) -> Option<AccessLog> {
        use file::file_access_log::AccessLogFormat;
        let format = match &log.access_log_format {
            None => None,
            Some(AccessLogFormat::Format(format)) if format.is_empty() => None,
            Some(AccessLogFormat::Format(format)) => Some(checked(&at.field("format"), format)?),
            Some(AccessLogFormat::LogFormat(format)) => text(at, Some(format))?,
            // The reader has refused these by name.
            Some(AccessLogFormat::JsonFormat(_) | AccessLogFormat::TypedJsonFormat(_)) => None,
        };
        Some(AccessLog { sink: AccessLogSink::of_path(&log.path), format })
    }
}

impl AccessLogSink {
    /// The sink that a path stands for.
    pub(super) fn of_path(path: &str) -> AccessLogSink {
        match path {
            "/dev/stdout" => AccessLogSink::Stdout,
            "/dev/stderr" => AccessLogSink::Stderr,
            path => AccessLogSink::File(path.into()),
        }
    }
}

/// The text of `log_format`; `Some(None)` is Envoy's default, `None` was reported.
fn text(at: &At<'_>, format: Option<&SubstitutionFormatString>) -> Option<Option<String>> {
    let at = at.field("log_format");
    let Some(format) = format else { return Some(None) };
    match &format.format {
        Some(Format::TextFormat(text)) => checked(&at.field("text_format"), text).map(Some),
        Some(Format::TextFormatSource(source)) => {
            let at = at.field("text_format_source");
            let bytes = data_source::read(&at, source, MAX_FORMAT_BYTES)?;
            match String::from_utf8(bytes) {
                Ok(text) => checked(&at, &text).map(Some),
                Err(_) => {
                    at.error("the format is not UTF-8 text");
                    None
                }
            }
        }
        // The reader has refused JSON by name, or has reported that there is no format.
        Some(Format::JsonFormat(_)) | None => None,
    }
}

/// A format that can be compiled.
fn checked(at: &At<'_>, format: &str) -> Option<String> {
    match crate::access_log::Format::parse(format) {
        Ok(_) => Some(format.to_owned()),
        Err(error) => {
            at.error(format!("not a format of access logs: {error}"));
            None
        }
    }
}
