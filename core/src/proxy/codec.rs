//! What the configuration says to the codecs.
//!
//! What it leaves to others: what the options mean (`tidegate-http`).

use crate::config::{Http2Options, HttpConnectionManager};
use crate::snapshot::ClusterEntry;
use tidegate_http::Limits;
use tidegate_http::h1::Options;
use tidegate_http::h2;

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
        enable_trailers: http1.enable_trailers,
        keep_name_case: http1.header_key_format.keeps_names(),
        ..Options::default()
    }
}

/// How large responses may be.
pub(super) fn response_limits(entry: &ClusterEntry) -> Limits {
    Limits { fields_max: entry.config.max_response_headers_count as usize, ..Limits::default() }
}

/// How HTTP/2 is spoken with clients. Which fields are dropped for their names is up to who reads
/// the heads.
pub(super) fn http2_server_options(config: &HttpConnectionManager) -> h2::Options {
    h2::Options {
        premature_reset_total_stream_count: config.premature_resets.total_stream_count,
        premature_reset_min_stream_lifetime: config.premature_resets.min_stream_lifetime,
        allow_backslash: config.normalization.normalize_path,
        limits: request_limits(config),
        ..http2_options(&config.http2)
    }
}

/// How HTTP/2 is spoken with the hosts of a cluster.
pub(super) fn http2_client_options(entry: &ClusterEntry) -> h2::Options {
    h2::Options { limits: response_limits(entry), ..http2_options(&entry.config.http2) }
}

/// Methods are not bounded to known ones, which is an option of HTTP/1 only.
fn http2_options(config: &Http2Options) -> h2::Options {
    h2::Options {
        hpack_table_size: config.hpack_table_size,
        max_concurrent_streams: config.max_concurrent_streams,
        initial_stream_window_size: config.initial_stream_window_size,
        initial_connection_window_size: config.initial_connection_window_size,
        allow_connect: config.allow_connect,
        max_outbound_frames: config.max_outbound_frames,
        max_outbound_control_frames: config.max_outbound_control_frames,
        max_consecutive_inbound_frames_with_empty_payload: config
            .max_consecutive_inbound_frames_with_empty_payload,
        max_inbound_priority_frames_per_stream: config.max_inbound_priority_frames_per_stream,
        max_inbound_window_update_frames_per_data_frame_sent: config
            .max_inbound_window_update_frames_per_data_frame_sent,
        stream_error_on_invalid_http_message: config.stream_error,
        huffman: config.huffman,
        ..h2::Options::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_the_configuration_are_those_of_the_codec() {
        let manager = HttpConnectionManager::default();
        assert_eq!(http2_server_options(&manager), h2::Options::default());
        assert_eq!(http2_options(&Http2Options::default()), h2::Options::default());
    }

    #[test]
    fn what_is_configured_reaches_the_codec() {
        let mut manager = HttpConnectionManager {
            max_request_headers_bytes: 7,
            max_headers_count: 8,
            ..HttpConnectionManager::default()
        };
        manager.http2.max_concurrent_streams = 9;
        manager.http2.stream_error = true;
        manager.premature_resets.total_stream_count = 10;
        let options = http2_server_options(&manager);
        assert_eq!((options.limits.head_bytes_max, options.limits.fields_max), (7, 8));
        assert_eq!(options.max_concurrent_streams, 9);
        assert!(options.stream_error_on_invalid_http_message);
        assert_eq!(options.premature_reset_total_stream_count, 10);
    }
}
