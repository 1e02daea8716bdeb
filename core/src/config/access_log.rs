//! Access logs (`config.accesslog.v3.AccessLog` with the file, stdout and stderr loggers).
//!
//! What it leaves to others: formatting and writing (`crate::access_log`).

/// One access log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessLog {
    /// Where lines go.
    pub sink: AccessLogSink,
    /// `log_format.text_format_source.inline_string` (or the deprecated `format`); `None` is Envoy's default format.
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
