//! What is done to a request's path and host before a route is looked for.
//!
//! What it leaves to others: doing it (`proxy::normalize`).

use super::convert::At;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use pb::http_connection_manager::{PathWithEscapedSlashesAction, StripPortMode};

/// The fields of `HttpConnectionManager` about paths and hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Normalization {
    /// `normalize_path` (RFC 3986 6.2.2), default false.
    pub normalize_path: bool,
    /// `merge_slashes`
    pub merge_slashes: bool,
    /// `path_with_escaped_slashes_action`
    pub escaped_slashes: EscapedSlashes,
    /// `strip_matching_host_port` or `strip_any_host_port`
    pub strip_port: StripPort,
    /// `strip_trailing_host_dot`
    pub strip_trailing_host_dot: bool,
}

/// `path_with_escaped_slashes_action`: what becomes of `%2F` and `%5C` in a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EscapedSlashes {
    /// `KEEP_UNCHANGED`, which is the default.
    #[default]
    KeepUnchanged,
    /// `REJECT_REQUEST`
    RejectRequest,
    /// `UNESCAPE_AND_REDIRECT`
    UnescapeAndRedirect,
    /// `UNESCAPE_AND_FORWARD`
    UnescapeAndForward,
}

/// Which port in a request's host is taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StripPort {
    /// None.
    #[default]
    None,
    /// `strip_matching_host_port`: the one that the connection came to.
    Matching,
    /// `strip_any_host_port`
    Any,
}

impl Normalization {
    pub(super) fn from_proto(at: &At<'_>, manager: &pb::HttpConnectionManager) -> Normalization {
        use PathWithEscapedSlashesAction as Action;
        let any = matches!(manager.strip_port_mode, Some(StripPortMode::StripAnyHostPort(true)));
        if any && manager.strip_matching_host_port {
            let reason = "it cannot be combined with `strip_matching_host_port`";
            at.field("strip_any_host_port").error(reason);
        }
        Normalization {
            normalize_path: manager.normalize_path.is_some_and(|flag| flag.value),
            merge_slashes: manager.merge_slashes,
            escaped_slashes: match manager.path_with_escaped_slashes_action() {
                Action::ImplementationSpecificDefault | Action::KeepUnchanged => {
                    EscapedSlashes::KeepUnchanged
                }
                Action::RejectRequest => EscapedSlashes::RejectRequest,
                Action::UnescapeAndRedirect => EscapedSlashes::UnescapeAndRedirect,
                Action::UnescapeAndForward => EscapedSlashes::UnescapeAndForward,
            },
            strip_port: match (any, manager.strip_matching_host_port) {
                (true, _) => StripPort::Any,
                (false, true) => StripPort::Matching,
                (false, false) => StripPort::None,
            },
            strip_trailing_host_dot: manager.strip_trailing_host_dot,
        }
    }

    /// Whether there is anything to do.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Normalization::default()
    }
}
