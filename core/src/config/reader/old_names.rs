//! What Envoy's v1 and v2 called otherwise: fields, extensions by name, messages.
//!
//! What it leaves to others: whether what v3 has is supported (`hints`, `extension`).

use prost_reflect::DescriptorPool;

/// Fields that v3 does not have: the end of the message's name, the field, what to do.
const OLD_FIELDS: &[(&str, &str, &str)] = &[
    ("AccessLog", "config", CONFIG),
    ("ApiConfigSource", "cluster_name", "v3 has `grpc_services` with `envoy_grpc` instead"),
    ("Bootstrap", "clusters", "it belongs below `static_resources`"),
    ("Bootstrap", "listeners", "it belongs below `static_resources`"),
    ("Bootstrap", "rate_limit_service", "v3 has it in each rate limit filter"),
    ("Bootstrap", "route_config", "it belongs below an HttpConnectionManager"),
    ("Bootstrap", "routes", "it belongs below a virtual host"),
    ("Bootstrap", "runtime", "v3 has `layered_runtime` instead"),
    ("Bootstrap", "virtual_hosts", "it belongs below a `route_config`"),
    ("Cluster", "dns_resolver", "v3 has `typed_dns_resolver_config` instead"),
    ("Cluster", "extension_protocol_options", "v3 has `typed_extension_protocol_options` instead"),
    ("Cluster", "features", "v3 has `typed_extension_protocol_options` instead"),
    ("Cluster", "health_check", "the field is called `health_checks`"),
    (
        "Cluster",
        "hosts",
        "v3 has `load_assignment: {cluster_name: ..., endpoints: [{lb_endpoints: [{endpoint: \
         {address: ...}}]}]}` instead",
    ),
    ("Cluster", "outlier_detection_config", "the field is called `outlier_detection`"),
    (
        "Cluster",
        "tls_context",
        "v3 has `transport_socket: {name: envoy.transport_sockets.tls, typed_config: {\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext}}` \
         instead",
    ),
    ("CorsPolicy", "allow_origin", "v3 has `allow_origin_string_match: [{exact: ...}]` instead"),
    (
        "CorsPolicy",
        "allow_origin_regex",
        "v3 has `allow_origin_string_match: [{safe_regex: ...}]` instead",
    ),
    ("CorsPolicy", "enabled", "v3 has `filter_enabled` instead"),
    (
        "FilterChain",
        "tls_context",
        "v3 has `transport_socket: {name: envoy.transport_sockets.tls, typed_config: {\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext}}` \
         instead",
    ),
    ("Filter", "config", CONFIG),
    ("Filter", "deprecated_v1", "v3 has no v1 configuration: write its `typed_config`"),
    ("GrpcService", "cluster_name", "v3 has `envoy_grpc: {cluster_name: ...}` instead"),
    ("HeaderMatcher", "regex_match", "v3 has `string_match: {safe_regex: ...}` instead"),
    ("HttpConnectionManager", "idle_timeout", "v3 has `common_http_protocol_options` for it"),
    ("HttpFilter", "config", CONFIG),
    ("HttpFilter", "deprecated_v1", "v3 has no v1 configuration: write its `typed_config`"),
    ("Listener", "filters", "it belongs below `filter_chains`"),
    ("Listener", "use_proxy_proto", "v3 has a `listener_filters` entry for it"),
    ("ListenerFilter", "config", CONFIG),
    ("LocalityLbEndpoints", "endpoints", "the field is called `lb_endpoints`"),
    ("QueryParameterMatcher", "regex", "v3 has `string_match: {safe_regex: ...}` instead"),
    ("QueryParameterMatcher", "value", "v3 has `string_match: {exact: ...}` instead"),
    ("RouteAction", "auto_host_rewrite_header", "v3 calls it `host_rewrite_header`"),
    ("RouteAction", "host_rewrite", "v3 calls it `host_rewrite_literal`"),
    ("RouteAction", "request_mirror_policy", "v3 has the list `request_mirror_policies`"),
    (
        "RouteAction",
        "use_websocket",
        "v3 has `upgrade_configs: [{upgrade_type: websocket}]` instead",
    ),
    ("RouteMatch", "regex", "v3 has `safe_regex: {regex: ...}` instead"),
    ("Route", "per_filter_config", "v3 has `typed_per_filter_config` instead"),
    ("StringMatcher", "regex", "v3 has `safe_regex: {regex: ...}` instead"),
    ("TransportSocket", "config", CONFIG),
    ("VirtualHost", "per_filter_config", "v3 has `typed_per_filter_config` instead"),
    ("WeightedCluster.ClusterWeight", "per_filter_config", "v3 has `typed_per_filter_config`"),
];

const CONFIG: &str = "v3 has `typed_config` with an `@type` instead";

/// What a filter's name meant where there was no `@type`: whose name, the end of the name, the
/// message of v3.
const TYPES_OF_NAMES: &[(&str, &str, &str)] = &[
    ("AccessLog", "file_access_log", "envoy.extensions.access_loggers.file.v3.FileAccessLog"),
    (
        "AccessLog",
        "http_grpc_access_log",
        "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
    ),
    ("Filter", "echo", "envoy.extensions.filters.network.echo.v3.Echo"),
    ("Filter", "ext_authz", "envoy.extensions.filters.network.ext_authz.v3.ExtAuthz"),
    (
        "Filter",
        "http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    ),
    ("Filter", "mongo_proxy", "envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy"),
    ("Filter", "ratelimit", "envoy.extensions.filters.network.ratelimit.v3.RateLimit"),
    ("Filter", "redis_proxy", "envoy.extensions.filters.network.redis_proxy.v3.RedisProxy"),
    ("Filter", "tcp_proxy", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"),
    ("HttpFilter", "buffer", "envoy.extensions.filters.http.buffer.v3.Buffer"),
    ("HttpFilter", "cors", "envoy.extensions.filters.http.cors.v3.Cors"),
    ("HttpFilter", "ext_authz", "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"),
    ("HttpFilter", "fault", "envoy.extensions.filters.http.fault.v3.HTTPFault"),
    ("HttpFilter", "grpc_web", "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"),
    ("HttpFilter", "gzip", "envoy.extensions.filters.http.compressor.v3.Compressor"),
    ("HttpFilter", "health_check", "envoy.extensions.filters.http.health_check.v3.HealthCheck"),
    ("HttpFilter", "ip_tagging", "envoy.extensions.filters.http.ip_tagging.v3.IPTagging"),
    ("HttpFilter", "jwt_authn", "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"),
    ("HttpFilter", "lua", "envoy.extensions.filters.http.lua.v3.Lua"),
    ("HttpFilter", "rate_limit", "envoy.extensions.filters.http.ratelimit.v3.RateLimit"),
    ("HttpFilter", "rbac", "envoy.extensions.filters.http.rbac.v3.RBAC"),
    ("HttpFilter", "router", "envoy.extensions.filters.http.router.v3.Router"),
    (
        "ListenerFilter",
        "original_dst",
        "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
    ),
    (
        "ListenerFilter",
        "proxy_protocol",
        "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
    ),
    (
        "ListenerFilter",
        "tls_inspector",
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    ),
];

/// What to write instead of a field of v2.
pub(super) fn old_field(message: &str, field: &str) -> Option<&'static str> {
    let found = OLD_FIELDS.iter().find(|(of, name, _)| *of == message && *name == field);
    found.map(|(_, _, advice)| *advice)
}

/// The message of an extension that has only a name: `envoy.http_connection_manager`,
/// `envoy.filters.network.http_connection_manager`.
pub(super) fn type_of_name(message: &str, name: &str) -> Option<&'static str> {
    let end = name.rsplit('.').next()?;
    let found = TYPES_OF_NAMES.iter().find(|(of, name, _)| *of == message && *name == end);
    found.map(|(_, _, full)| *full)
}

/// The message of v3 that has the name of this one, which is unknown: of several the one whose
/// other words are most alike.
pub(super) fn type_in_v3(pool: &DescriptorPool, unknown: &str) -> Option<String> {
    let (words, simple) = unknown.rsplit_once('.')?;
    let alike = |full: &str| {
        full.split('.').filter(|word| words.split('.').any(|other| other == *word)).count()
    };
    let of_extensions = pool.all_messages().filter(|message| {
        message.name() == simple && message.full_name().starts_with("envoy.extensions.")
    });
    let found = of_extensions.max_by_key(|message| alike(message.full_name()));
    found.map(|message| message.full_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::super::descriptors;
    use super::*;

    #[test]
    fn what_is_named_exists() {
        let pool = descriptors::pool().unwrap();
        for (_, name, full) in TYPES_OF_NAMES {
            assert!(pool.get_message_by_name(full).is_some(), "{name}: {full}");
        }
    }

    #[test]
    fn messages_of_v2_are_found_in_v3() {
        let pool = descriptors::pool().unwrap();
        let found = |name| type_in_v3(pool, name);
        let manager =
            "envoy.config.filter.network.http_connection_manager.v2.HttpConnectionManager";
        assert_eq!(
            found(manager).unwrap(),
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
        );
        assert_eq!(
            found("envoy.config.filter.http.ext_authz.v2.ExtAuthz").unwrap(),
            "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
        );
        assert_eq!(
            found("envoy.api.v2.auth.UpstreamTlsContext").unwrap(),
            "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
        );
        assert_eq!(found("envoy.Nonsense"), None);
    }
}
