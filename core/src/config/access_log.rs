//! Access logs (`config.accesslog.v3.AccessLog` with the file, stdout, stderr and gRPC loggers).
//!
//! What it leaves to others: formatting and writing (`crate::access_log`).

#![allow(deprecated, reason = "Envoy still accepts fields that it calls deprecated")]

use super::access_log_filter::AccessLogFilter;
use super::convert::{At, is_type};
use super::grpc_access_log::{GrpcAccessLog, HTTP_GRPC, TCP_GRPC};
use super::substitution_format::{LogFormat, Use};
use super::support::{SupportedMessage, message, types, used};
use envoy_types::pb::envoy::config::accesslog::v3 as pb;
use envoy_types::pb::envoy::config::core::v3::SubstitutionFormatString;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3 as file;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3 as stream;

/// One access log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessLog {
    /// Where lines go.
    pub sink: AccessLogSink,
    /// `log_format` (or the deprecated `format`); `None` is Envoy's default format.
    pub format: Option<LogFormat>,
    /// `filter`
    pub filter: Option<AccessLogFilter>,
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
    /// `HttpGrpcAccessLogConfig` and `TcpGrpcAccessLogConfig`: entries, not lines.
    Service(GrpcAccessLog),
}

const FILE: &str = "envoy.extensions.access_loggers.file.v3.FileAccessLog";
const STDOUT: &str = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";
const STDERR: &str = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog";

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.accesslog.v3.AccessLog",
        &[
            used("name"),
            used("filter"),
            types("typed_config", &[FILE, STDOUT, STDERR, HTTP_GRPC, TCP_GRPC]),
        ],
    ),
    message(FILE, &[used("path"), used("format"), used("log_format")]),
    message(STDOUT, &[used("log_format")]),
    message(STDERR, &[used("log_format")]),
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
                let filter = log.filter.as_ref();
                let at_filter = at.field("filter");
                let filter = filter.map(|filter| AccessLogFilter::from_proto(&at_filter, filter));
                let log = AccessLog::from_proto(&at, log);
                converted.extend(at.converted(match (log, filter) {
                    (log, None) => log,
                    (Some(log), Some(Some(filter))) => {
                        Some(AccessLog { filter: Some(filter), ..log })
                    }
                    (_, Some(_)) => None,
                }));
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
            return Some(AccessLog {
                sink: AccessLogSink::Stdout,
                format: log_format(&at, format)?,
                filter: None,
            });
        }
        if is_type(any, STDERR) {
            let log: stream::StderrAccessLog = at.unpack(any, STDERR)?;
            let format = log.access_log_format.as_ref().map(|format| match format {
                stream::stderr_access_log::AccessLogFormat::LogFormat(format) => format,
            });
            return Some(AccessLog {
                sink: AccessLogSink::Stderr,
                format: log_format(&at, format)?,
                filter: None,
            });
        }
        let service = |log: Option<GrpcAccessLog>| {
            Some(AccessLog { sink: AccessLogSink::Service(log?), format: None, filter: None })
        };
        if is_type(any, HTTP_GRPC) {
            return service(GrpcAccessLog::from_http(&at, &at.unpack(any, HTTP_GRPC)?));
        }
        if is_type(any, TCP_GRPC) {
            return service(GrpcAccessLog::from_tcp(&at, &at.unpack(any, TCP_GRPC)?));
        }
        AccessLog::from_file(&at, &at.unpack(any, FILE)?)
    }

    fn from_file(at: &At<'_>, log: &file::FileAccessLog) -> Option<AccessLog> {
        use file::file_access_log::AccessLogFormat;
        let format = match &log.access_log_format {
            None => None,
            Some(AccessLogFormat::Format(format)) if format.is_empty() => None,
            Some(AccessLogFormat::Format(format)) => {
                let text = LogFormat::Text(format.clone());
                Some(text.checked(&at.field("format"), Use::AccessLog)?)
            }
            Some(AccessLogFormat::LogFormat(format)) => log_format(at, Some(format))?,
            // The reader has refused these by name.
            Some(AccessLogFormat::JsonFormat(_) | AccessLogFormat::TypedJsonFormat(_)) => None,
        };
        Some(AccessLog { sink: AccessLogSink::of_path(&log.path), format, filter: None })
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

/// `log_format`; `Some(None)` is Envoy's default, `None` was reported.
fn log_format(at: &At<'_>, format: Option<&SubstitutionFormatString>) -> Option<Option<LogFormat>> {
    let at = at.field("log_format");
    let Some(format) = format else { return Some(None) };
    if !format.content_type.is_empty() {
        at.field("content_type").warning("`content_type` has no effect in an access log");
    }
    LogFormat::from_proto(&at, format, Use::AccessLog).map(Some)
}
