//! `proxy-status` in answers (RFC 9209): `proxy_status_config` of a connection manager.
//!
//! What it leaves to others: which error it is (`proxy::proxy_status`).

use super::support::{SupportedMessage, kept, message, used};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use pb::http_connection_manager::{ProxyStatusConfig, proxy_status_config};

/// `HttpConnectionManager.ProxyStatusConfig`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProxyStatus {
    /// `remove_details` is false.
    pub details: bool,
    /// `remove_response_flags` is false.
    pub flags: bool,
    /// `set_recommended_response_code`
    pub recommended_status: bool,
    /// By which name the proxy goes.
    pub name: ProxyName,
}

/// `proxy_name`
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProxyName {
    /// `server_name` of the connection manager.
    Server,
    /// `use_node_id`
    NodeId,
    /// `literal_proxy_name`
    Literal(String),
}

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[message(
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\
     .ProxyStatusConfig",
    &[
        used("remove_details"),
        kept("remove_connection_termination_details", "no connection has any"),
        used("remove_response_flags"),
        used("set_recommended_response_code"),
        used("use_node_id"),
        used("literal_proxy_name"),
    ],
)];

impl ProxyStatus {
    pub(super) fn from_proto(config: &ProxyStatusConfig) -> ProxyStatus {
        use proxy_status_config::ProxyName as Name;
        ProxyStatus {
            details: !config.remove_details,
            flags: !config.remove_response_flags,
            recommended_status: config.set_recommended_response_code,
            name: match &config.proxy_name {
                Some(Name::LiteralProxyName(name)) => ProxyName::Literal(name.clone()),
                Some(Name::UseNodeId(true)) => ProxyName::NodeId,
                Some(Name::UseNodeId(false)) | None => ProxyName::Server,
            },
        }
    }
}
