//! Listener filters: what looks at a connection before its filter chain is chosen
//! (`envoy.filters.listener.tls_inspector`, and no other).
//!
//! What it leaves to others: reading hellos (`transport::client_hello`) and waiting for them
//! (`shard`).

use super::convert::At;
use super::support::{SupportedMessage, kept, only, refused, strict, types, used};
use envoy_types::pb::envoy::config::listener::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3 as pb_inspector;

/// `extensions.filters.listener.tls_inspector.v3.TlsInspector`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlsInspector {
    /// `close_connection_on_client_hello_parsing_errors`: what does not begin with a hello is
    /// closed.
    pub close_connection_on_client_hello_parsing_errors: bool,
    /// `max_client_hello_size`, default 16 KiB.
    pub max_client_hello_size: u32,
}

const TLS_INSPECTOR: &str = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";

/// Envoy's default for `max_client_hello_size`, which is its upper bound too.
const MAX_CLIENT_HELLO_SIZE: u32 = 16 * 1024;

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    strict(
        "envoy.config.listener.v3.ListenerFilter",
        &[
            kept("name", "the type decides"),
            types("typed_config", &[TLS_INSPECTOR]),
            refused("filter_disabled"),
        ],
    ),
    strict(
        TLS_INSPECTOR,
        &[
            only("enable_ja3_fingerprinting", &["false"]),
            only("enable_ja4_fingerprinting", &["false"]),
            kept("initial_read_buffer_size", "what has come is read at once"),
            used("close_connection_on_client_hello_parsing_errors"),
            used("max_client_hello_size"),
        ],
    ),
];

impl Default for TlsInspector {
    fn default() -> TlsInspector {
        TlsInspector {
            close_connection_on_client_hello_parsing_errors: false,
            max_client_hello_size: MAX_CLIENT_HELLO_SIZE,
        }
    }
}

impl TlsInspector {
    /// The inspector among a listener's filters. It has to be asked for: Envoy 1.40 does not add it
    /// by itself any more.
    pub(super) fn of_listener(at: &At<'_>, filters: &[pb::ListenerFilter]) -> Option<TlsInspector> {
        let at_filters = at.field("listener_filters");
        let mut found = None;
        for (index, filter) in filters.iter().enumerate() {
            let at = at_filters.index(index);
            let Some(pb::listener_filter::ConfigType::TypedConfig(any)) = &filter.config_type
            else {
                let hint = format!("add \"@type\": type.googleapis.com/{TLS_INSPECTOR}");
                at.missing("typed_config", Some(&hint));
                continue;
            };
            let at = at.field("typed_config");
            let Some(inspector) = at.unpack(any, TLS_INSPECTOR) else { continue };
            if found.replace(TlsInspector::from_proto(&inspector)).is_some() {
                at.error("one TlsInspector has read all that a second could");
            }
        }
        found
    }

    fn from_proto(inspector: &pb_inspector::TlsInspector) -> TlsInspector {
        let size = inspector.max_client_hello_size.map(|size| size.value);
        TlsInspector {
            close_connection_on_client_hello_parsing_errors: inspector
                .close_connection_on_client_hello_parsing_errors,
            max_client_hello_size: size.unwrap_or(MAX_CLIENT_HELLO_SIZE).min(MAX_CLIENT_HELLO_SIZE),
        }
    }
}
