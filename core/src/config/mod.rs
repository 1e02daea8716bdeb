//! What was asked for: validated, immutable, plain data in Envoy's words, one file per Envoy noun.
//!
//! The only place that sees protobuf. A value of a type in here is valid: what cannot be carried
//! out was refused with a [`ConfigError`] while it was made.
//!
//! What it leaves to others: compiling it for shards (`snapshot`), keeping it up to date
//! (`control`).

pub mod access_log;
pub mod access_log_filter;
pub mod address;
pub mod bootstrap;
pub mod circuit_breakers;
pub mod client_address;
pub mod client_certificate;
pub mod cluster;
pub mod config_source;
pub mod disk_layer;
pub mod dns;
pub mod endpoint;
pub mod error;
pub mod filter_chain_match;
pub mod google_grpc;
pub mod grpc_access_log;
pub mod grpc_stats;
pub mod grpc_timeout;
pub mod header_mutation;
pub mod http1;
pub mod http2;
pub mod http_connection_manager;
pub mod http_filters;
pub mod internal_redirect;
pub mod listener;
pub mod load_balancing;
pub mod local_reply;
pub mod matcher;
pub mod metadata;
pub mod normalization;
pub mod proxy_status;
pub mod received;
pub mod redirect;
pub mod regex_rewrite;
pub mod resource;
pub mod retry_policy;
pub mod route;
pub mod route_action;
pub mod route_match;
pub mod runtime;
pub mod scoped_routes;
pub mod stats_config;
pub mod stats_sink;
pub mod string_matcher;
pub mod substitution_format;
pub mod tcp_proxy;
pub mod tls;
pub mod tls_inspector;
pub mod upstream_options;
pub mod uri_template;

mod alike;
mod ast;
mod convert;
mod data_source;
mod descriptors;
mod json;
mod load;
mod places;
mod protobuf;
mod reader;
mod render;
mod report;
mod safe_regex;
mod support;
mod support_list;
mod typed_extension;
mod yaml;

pub use access_log::{AccessLog, AccessLogSink};
pub use access_log_filter::{AccessLogFilter, Comparison, ComparisonOp};
pub use address::{Address, Port};
pub use bootstrap::{Admin, Bootstrap, Node, NodeDefaults, StatsFlush};
pub use circuit_breakers::{CircuitBreakers, RetryBudget, Thresholds};
pub use client_address::{AddressSource, CidrRange, ClientAddress, IpDetection, XffTrust};
pub use client_certificate::{ClientCertDetails, ForwardClientCert};
pub use cluster::{Cluster, ClusterOptions, Discovery, EdsClusterConfig};
pub use config_source::{
    ApiConfigSource, ApiProtocol, ConfigPlace, ConfigSource, GrpcService, PathConfigSource,
    RateLimitSettings,
};
pub use disk_layer::DiskLayer;
pub use dns::{DnsLookupFamily, DnsResolution, DnsResolver, RefreshRate};
pub use endpoint::{
    Availability, ClusterLoadAssignment, Endpoint, EndpointPage, Endpoints, HealthStatus,
};
pub use error::{ConfigError, ConfigErrors, Position, Severity};
pub use filter_chain_match::{FilterChainMatch, SourceType};
pub use google_grpc::{CallCredential, CallSecret, GoogleGrpc, GoogleTarget};
pub use grpc_access_log::GrpcAccessLog;
pub use grpc_stats::{GrpcMethods, GrpcStats};
pub use grpc_timeout::GrpcTimeout;
pub use header_mutation::{AppendAction, HeaderMutations, HeaderValueOption, LevelMutations};
pub use http_connection_manager::{CodecType, HttpConnectionManager, Rds, ServerHeader};
pub use http_filters::Router;
pub use http1::{HeaderKeyFormat, Http1Options, UnderscoresAction};
pub use http2::{Http2Keepalive, Http2Options, PrematureResets};
pub use internal_redirect::InternalRedirectPolicy;
pub use listener::{FilterChain, Listener, NetworkFilter};
pub use load::{MAX_SOURCE_BYTES, Options, Source, load, read_bytes, read_file};
pub use load_balancing::{LbPolicy, LeastRequest, LoadBalancing};
pub use local_reply::{BodyFormat, LocalReplyConfig, ResponseMapper};
pub use matcher::{MatchInput, Matcher, MatcherCases, OnMatch, Predicate};
pub use metadata::Metadata;
pub use normalization::{EscapedSlashes, Normalization, StripPort};
pub use places::RoutePlaces;
pub use proxy_status::{ProxyName, ProxyStatus};
pub use received::{Dumped, Received, Section};
pub use redirect::{DirectResponse, RedirectAction, RedirectPath};
pub use regex_rewrite::{RegexRewrite, SubstitutionPart};
pub use render::{render, render_one};
pub use resource::{
    Resource, ResourceContext, ResourceKind, decode_response, name_of as resource_name,
    read_response,
};
pub use retry_policy::{RateLimitedBackOff, ResetHeader, RetryBackOff, RetryOn, RetryPolicy};
pub use route::{BodyLimit, Route, RouteConfiguration, RouteTarget, TlsRequirement, VirtualHost};
pub use route_action::{
    ActionOptions, CONNECT, HostRewrite, PathRewrite, RouteAction, WeightedCluster,
};
pub use route_match::{
    HeaderMatcher, HeaderValueMatch, MatchConditions, PathMatch, QueryParameterMatcher,
    QueryValueMatch, RouteMatch, RuntimeFraction, TlsContextMatch,
};
pub use runtime::{Overrides, Rtds, Runtime, RuntimeLayer, RuntimeValues};
pub use scoped_routes::{
    FRAGMENTS_MAX, HeaderValueExtractor, Scope, ScopeRoutes, ScopeSource, ScopedRouteConfiguration,
    ScopedRoutes,
};
pub use stats_config::{DefaultTags, StatsConfig, StatsMatcher, StatsTag, TagSource};
pub use stats_sink::{SinkTarget, StatsSink};
pub use string_matcher::{StringMatcher, StringPattern};
pub use substitution_format::LogFormat;
pub use support::{Support, SupportedField, SupportedMessage, supported_messages};
pub use support_list::{ListedField, ListedMessage, listed};
pub use tcp_proxy::TcpProxy;
pub use tls_inspector::TlsInspector;
pub use upstream_options::{
    RequestServerName, TcpKeepalive, UpstreamConnectionOptions, UpstreamProtocol,
};
pub use uri_template::{RewritePart, UriTemplate, UriTemplateRewrite};
