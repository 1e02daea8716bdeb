//! Options of a cluster's connections: protocol, limits, where they come from
//! (`HttpProtocolOptions`, `upstream_bind_config`, `upstream_connection_options`,
//! `preconnect_policy`).
//!
//! What it leaves to others: making connections (`proxy`), TLS.

#![allow(deprecated, reason = "Envoy still accepts fields that it calls deprecated")]

use super::address::Address;
use super::convert::At;
use super::http1::{CommonOptions, Http1Options, UnderscoresAction};
use super::http2::Http2Options;
use super::support::{SupportedMessage, message, only, refused, used};
use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream_http;
use std::net::SocketAddr;
use std::time::Duration;

/// `upstream_bind_config`, `upstream_connection_options` and `preconnect_policy`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UpstreamConnectionOptions {
    /// `source_address`, then `extra_source_addresses`: the first of the family of the host's
    /// address is bound to, or else the first.
    pub sources: Vec<SocketAddr>,
    /// `freebind`
    pub freebind: bool,
    /// `tcp_keepalive`
    pub keepalive: Option<TcpKeepalive>,
    /// `preconnect_policy.per_upstream_preconnect_ratio` in millionths, if it is more than one:
    /// connections are made for so many times the requests that there are.
    pub preconnect_millionths: Option<u64>,
}

/// `config.core.v3.TcpKeepalive`; what is absent is the kernel's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpKeepalive {
    /// `keepalive_probes`
    pub probes: Option<u32>,
    /// `keepalive_time`, in seconds
    pub time_s: Option<u32>,
    /// `keepalive_interval`, in seconds
    pub interval_s: Option<u32>,
}

/// What is spoken with the hosts of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UpstreamProtocol {
    /// HTTP/1.1: `explicit_http_config.http_protocol_options`, and where nothing is said.
    #[default]
    Http1,
    /// HTTP/2: `explicit_http_config.http2_protocol_options`, or the deprecated
    /// `http2_protocol_options` of the cluster.
    Http2,
    /// `use_downstream_protocol_config`, or the deprecated `protocol_selection:
    /// USE_DOWNSTREAM_PROTOCOL`: HTTP/2 for requests that came by it, HTTP/1.1 for the others.
    SameAsDownstream,
}

/// What a cluster's TLS takes from the requests that its connections are made for
/// (`UpstreamHttpProtocolOptions`): a host without its port. At least one of the flags is set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RequestServerName {
    /// `auto_sni`: it is the server name that is asked for, if it is a DNS name.
    pub auto_sni: bool,
    /// `auto_san_validation`: the server's certificate is to have it.
    pub auto_san_validation: bool,
    /// `override_auto_sni_header`, in lower case: the field that has it, where it is not empty;
    /// else it is the authority.
    pub override_header: Option<String>,
}

pub(super) const HTTP_PROTOCOL_OPTIONS: &str =
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
pub(super) const DEFAULT_MAX_RESPONSE_HEADERS_COUNT: u32 = 100;

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        HTTP_PROTOCOL_OPTIONS,
        &[
            used("common_http_protocol_options"),
            used("explicit_http_config"),
            used("upstream_http_protocol_options"),
            used("use_downstream_protocol_config"),
            refused("auto_config"),
            refused("http_filters"),
        ],
    ),
    message(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig",
        &[
            used("http_protocol_options"),
            used("http2_protocol_options"),
            refused("http3_protocol_options"),
        ],
    ),
    message(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig",
        &[
            used("http_protocol_options"),
            used("http2_protocol_options"),
            refused("http3_protocol_options"),
        ],
    ),
    message(
        "envoy.config.core.v3.UpstreamHttpProtocolOptions",
        &[used("auto_sni"), used("auto_san_validation"), used("override_auto_sni_header")],
    ),
    message(
        "envoy.config.core.v3.BindConfig",
        &[
            used("source_address"),
            used("freebind"),
            used("extra_source_addresses"),
            refused("socket_options"),
            refused("additional_source_addresses"),
            refused("local_address_selector"),
            only("validate_network_namespaces", &["false"]),
        ],
    ),
    message(
        "envoy.config.core.v3.ExtraSourceAddress",
        &[used("address"), refused("socket_options")],
    ),
    message(
        "envoy.config.cluster.v3.UpstreamConnectionOptions",
        &[
            used("tcp_keepalive"),
            only("set_local_interface_name_on_upstream_connections", &["false"]),
            refused("happy_eyeballs_config"),
        ],
    ),
    message(
        "envoy.config.cluster.v3.Cluster.PreconnectPolicy",
        &[used("per_upstream_preconnect_ratio"), refused("predictive_preconnect_ratio")],
    ),
    message(
        "envoy.config.core.v3.TcpKeepalive",
        &[used("keepalive_probes"), used("keepalive_time"), used("keepalive_interval")],
    ),
];

impl UpstreamConnectionOptions {
    /// What the cluster here says of its connections.
    pub(super) fn from_proto(at: &At<'_>, cluster: &pb::Cluster) -> UpstreamConnectionOptions {
        let mut converted = UpstreamConnectionOptions::default();
        if let Some(bind) = &cluster.upstream_bind_config {
            let at = at.field("upstream_bind_config");
            let source = bind.source_address.as_ref();
            converted.sources.extend(source_address(&at.field("source_address"), source));
            let at_extra = at.field("extra_source_addresses");
            for (index, extra) in bind.extra_source_addresses.iter().enumerate() {
                let at = at_extra.index(index);
                let source = source_address(&at.field("address"), extra.address.as_ref());
                converted.sources.extend(source);
            }
            converted.freebind = bind.freebind.is_some_and(|flag| flag.value);
        }
        let options = cluster.upstream_connection_options.as_ref();
        let keepalive = options.and_then(|options| options.tcp_keepalive.as_ref());
        converted.keepalive = keepalive.and_then(TcpKeepalive::from_proto);
        let preconnect = cluster.preconnect_policy.as_ref();
        let ratio = preconnect.and_then(|policy| policy.per_upstream_preconnect_ratio);
        // The .proto file allows 1 to 3.
        let millionths = ratio.map(|ratio| (ratio.value.clamp(1.0, 3.0) * 1e6) as u64);
        converted.preconnect_millionths = millionths.filter(|ratio| *ratio > 1_000_000);
        converted
    }
}

fn source_address(at: &At<'_>, address: Option<&core::SocketAddress>) -> Option<SocketAddr> {
    match Address::of_socket(at, address?)? {
        Address::Socket(address) => Some(address),
        Address::Name { host, .. } => {
            let hint = "connections come from an IP address of this host";
            at.field("address").error_hint(format!("malformed IP address: {host}"), hint);
            None
        }
    }
}

impl TcpKeepalive {
    /// Any zero switches it off.
    fn from_proto(keepalive: &core::TcpKeepalive) -> Option<TcpKeepalive> {
        let seconds = |value: &Option<envoy_types::pb::google::protobuf::UInt32Value>| {
            value.as_ref().map(|value| value.value)
        };
        let converted = TcpKeepalive {
            probes: seconds(&keepalive.keepalive_probes),
            time_s: seconds(&keepalive.keepalive_time),
            interval_s: seconds(&keepalive.keepalive_interval),
        };
        let TcpKeepalive { probes, time_s, interval_s } = converted;
        let is_on = [probes, time_s, interval_s].iter().all(|value| *value != Some(0));
        is_on.then_some(converted)
    }
}

impl RequestServerName {
    fn from_proto(
        at: &At<'_>,
        options: Option<&core::UpstreamHttpProtocolOptions>,
    ) -> Option<RequestServerName> {
        let options = options?;
        let header = options.override_auto_sni_header.to_ascii_lowercase();
        let override_header = match header.as_str() {
            // The authority it is without.
            "" | "host" | ":authority" => None,
            other if other.starts_with(':') => {
                let hint = "name a field, or leave it out: the authority is taken then";
                at.field("override_auto_sni_header")
                    .error_hint(format!("`{other}` has no server name"), hint);
                None
            }
            _ => Some(header),
        };
        let core::UpstreamHttpProtocolOptions { auto_sni, auto_san_validation, .. } = *options;
        (auto_sni || auto_san_validation).then_some(RequestServerName {
            auto_sni,
            auto_san_validation,
            override_header,
        })
    }
}

/// What `HttpProtocolOptions`, or the deprecated fields of the cluster, say about connections.
pub(super) struct UpstreamOptions {
    pub idle_timeout: Option<Duration>,
    pub max_connection_duration: Option<Duration>,
    pub max_requests_per_connection: Option<u32>,
    pub max_response_headers_count: u32,
    pub max_stream_duration: Option<Duration>,
    pub protocol: UpstreamProtocol,
    pub http1: Http1Options,
    pub http2: Http2Options,
    pub server_name: Option<RequestServerName>,
}

impl UpstreamOptions {
    /// Where there are `HttpProtocolOptions`, the deprecated fields do not count, as in Envoy; but
    /// for the number of requests, which they need not say.
    pub(super) fn from_proto(at: &At<'_>, cluster: &pb::Cluster) -> UpstreamOptions {
        let at_map = at.field("typed_extension_protocol_options");
        // A map has no order; errors should come in the same one each time.
        let mut extensions: Vec<_> = cluster.typed_extension_protocol_options.iter().collect();
        extensions.sort_by_key(|(name, _)| name.as_str());
        let field = cluster.upstream_http_protocol_options.as_ref();
        let at_field = at.field("upstream_http_protocol_options");
        let mut server_name = RequestServerName::from_proto(&at_field, field);
        let mut typed = None;
        for (name, any) in extensions {
            let at = at_map.key(name);
            if name != HTTP_PROTOCOL_OPTIONS {
                let hint = format!("the key must be {HTTP_PROTOCOL_OPTIONS}");
                at.error_hint(format!("no extension is called `{name}`"), hint);
            }
            if let Some(options) =
                at.unpack::<upstream_http::HttpProtocolOptions>(any, HTTP_PROTOCOL_OPTIONS)
            {
                let at_common = at.field("common_http_protocol_options");
                let options_common = options.common_http_protocol_options.as_ref();
                let common = CommonOptions::of_upstream(&at_common, options_common);
                let field = options.upstream_http_protocol_options.as_ref();
                let at_field = at.field("upstream_http_protocol_options");
                server_name = RequestServerName::from_proto(&at_field, field);
                typed = Some((common, Versions::of_typed(&at, &options)));
            }
        }
        let field_max = cluster.max_requests_per_connection.map(|max| max.value);
        let (common, versions) = match typed {
            Some(typed) => {
                warn_of_deprecated(at, cluster);
                typed
            }
            None => {
                let common = cluster.common_http_protocol_options.as_ref();
                let at_common = at.field("common_http_protocol_options");
                let common = CommonOptions::of_upstream(&at_common, common);
                (common, Versions::of_deprecated(at, cluster))
            }
        };
        if common.max_requests_per_connection.is_some() && field_max.is_some() {
            at.field("max_requests_per_connection").error_hint(
                "it is said in the options of the protocol already",
                "leave it out here",
            );
        }
        UpstreamOptions {
            idle_timeout: common.idle_timeout,
            max_connection_duration: common.max_connection_duration,
            max_requests_per_connection: common
                .max_requests_per_connection
                .or(field_max.filter(|max| *max > 0)),
            max_response_headers_count: common
                .max_headers_count
                .unwrap_or(DEFAULT_MAX_RESPONSE_HEADERS_COUNT),
            max_stream_duration: common.max_stream_duration,
            protocol: versions.protocol,
            http1: versions.http1,
            http2: versions.http2,
            server_name,
        }
    }
}

/// Of the fields that do not count beside `HttpProtocolOptions`.
fn warn_of_deprecated(at: &At<'_>, cluster: &pb::Cluster) {
    for (name, is_there) in [
        ("common_http_protocol_options", cluster.common_http_protocol_options.is_some()),
        ("http_protocol_options", cluster.http_protocol_options.is_some()),
        ("http2_protocol_options", cluster.http2_protocol_options.is_some()),
        ("protocol_selection", is_downstream_selected(cluster)),
    ] {
        if is_there {
            at.field(name).warning("it has no effect beside HttpProtocolOptions");
        }
    }
}

fn is_downstream_selected(cluster: &pb::Cluster) -> bool {
    cluster.protocol_selection() == pb::cluster::ClusterProtocolSelection::UseDownstreamProtocol
}

/// Which versions of HTTP are spoken, and how.
#[derive(Default)]
struct Versions {
    protocol: UpstreamProtocol,
    http1: Http1Options,
    http2: Http2Options,
}

impl Versions {
    /// What is not here was refused by name.
    fn of_typed(at: &At<'_>, options: &upstream_http::HttpProtocolOptions) -> Versions {
        use upstream_http::http_protocol_options::UpstreamProtocolOptions as Choice;
        use upstream_http::http_protocol_options::explicit_http_config::ProtocolConfig;
        let (at, protocol, http1, http2) = match &options.upstream_protocol_options {
            Some(Choice::ExplicitHttpConfig(config)) => {
                let at = at.field("explicit_http_config");
                let none = Versions::default();
                return match &config.protocol_config {
                    Some(ProtocolConfig::HttpProtocolOptions(http1)) => {
                        let at = at.field("http_protocol_options");
                        Versions { http1: upstream_http1(&at, Some(http1)), ..none }
                    }
                    Some(ProtocolConfig::Http2ProtocolOptions(http2)) => {
                        let at = at.field("http2_protocol_options");
                        let http2 = Http2Options::of_upstream(&at, Some(http2));
                        Versions { protocol: UpstreamProtocol::Http2, http2, ..none }
                    }
                    Some(ProtocolConfig::Http3ProtocolOptions(_)) | None => none,
                };
            }
            Some(Choice::UseDownstreamProtocolConfig(config)) => (
                at.field("use_downstream_protocol_config"),
                UpstreamProtocol::SameAsDownstream,
                config.http_protocol_options.as_ref(),
                config.http2_protocol_options.as_ref(),
            ),
            Some(Choice::AutoConfig(_)) | None => return Versions::default(),
        };
        Versions::with(&at, protocol, http1, http2)
    }

    fn of_deprecated(at: &At<'_>, cluster: &pb::Cluster) -> Versions {
        let http1 = cluster.http_protocol_options.as_ref();
        let http2 = cluster.http2_protocol_options.as_ref();
        let protocol = match (is_downstream_selected(cluster), http2) {
            (true, _) => UpstreamProtocol::SameAsDownstream,
            (false, Some(_)) => UpstreamProtocol::Http2,
            (false, None) => UpstreamProtocol::Http1,
        };
        if protocol == UpstreamProtocol::Http2 && http1.is_some() {
            at.field("http2_protocol_options").error_hint(
                "`http_protocol_options` and `http2_protocol_options` exclude each other",
                "unless `protocol_selection` is USE_DOWNSTREAM_PROTOCOL",
            );
        }
        Versions::with(at, protocol, http1, http2)
    }

    fn with(
        at: &At<'_>,
        protocol: UpstreamProtocol,
        http1: Option<&core::Http1ProtocolOptions>,
        http2: Option<&core::Http2ProtocolOptions>,
    ) -> Versions {
        Versions {
            protocol,
            http1: upstream_http1(&at.field("http_protocol_options"), http1),
            http2: Http2Options::of_upstream(&at.field("http2_protocol_options"), http2),
        }
    }
}

impl CommonOptions {
    fn of_upstream(at: &At<'_>, options: Option<&core::HttpProtocolOptions>) -> CommonOptions {
        let options = options.cloned().unwrap_or_default();
        let common = CommonOptions::from_proto(at, &options);
        if common.underscores != UnderscoresAction::Allow {
            at.field("headers_with_underscores_action").warning("it has no effect upstream");
        }
        common
    }
}

/// What of the HTTP/1 options concerns requests that are sent upstream.
fn upstream_http1(at: &At<'_>, options: Option<&core::Http1ProtocolOptions>) -> Http1Options {
    if options.is_some_and(|http1| http1.accept_http_10) {
        at.field("accept_http_10").warning("`accept_http_10` has no effect upstream");
    }
    Http1Options::from_proto(at, options)
}
