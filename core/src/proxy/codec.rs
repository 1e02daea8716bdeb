//! What the configuration says to the HTTP/1 codec.
//!
//! What it leaves to others: what the options mean (`tidegate-http`).

use crate::config::HttpConnectionManager;
use crate::snapshot::ClusterEntry;
use tidegate_http::Limits;
use tidegate_http::h1::Options;

/// How requests are read.
pub(super) fn request_options(config: &HttpConnectionManager) -> Options {
    Options {
        allow_backslash: config.normalization.normalize_path,
        accept_http_10: config.http1.accept_http_10,
        reject_absolute_url: config.http1.reject_absolute_url,
        enable_trailers: config.http1.enable_trailers,
        allow_chunked_length: config.http1.allow_chunked_length,
        known_methods_only: !config.http1.allow_custom_methods,
        keep_name_case: config.http1.header_key_format.keeps_names(),
    }
}

/// How large requests may be.
pub(super) fn request_limits(config: &HttpConnectionManager) -> Limits {
    Limits {
        head_bytes_max: config.max_request_headers_bytes as usize,
        fields_max: config.max_headers_count as usize,
        ..Limits::default()
    }
}

/// How responses are read.
pub(super) fn response_options(entry: &ClusterEntry) -> Options {
    let http1 = &entry.config.http1;
    Options {
        allow_chunked_length: http1.allow_chunked_length,
        keep_name_case: http1.header_key_format.keeps_names(),
        ..Options::default()
    }
}

/// How large responses may be.
pub(super) fn response_limits(entry: &ClusterEntry) -> Limits {
    Limits { fields_max: entry.config.max_response_headers_count as usize, ..Limits::default() }
}
