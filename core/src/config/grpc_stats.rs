//! The filter `envoy.filters.http.grpc_stats`: what is counted of gRPC calls, and under which
//! names.
//!
//! What it leaves to others: counting (`proxy::grpc_stats`).

use super::convert::{At, is_type};
use super::support::{SupportedMessage, message, only, used};
use envoy_types::pb::envoy::config::core::v3::GrpcMethodList;
use envoy_types::pb::envoy::extensions::filters::http::grpc_stats::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as manager;
use std::collections::HashSet;

/// `extensions.filters.http.grpc_stats.v3.FilterConfig`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrpcStats {
    /// Which calls have their service and method in the names of their stats.
    pub methods: GrpcMethods,
    /// `enable_upstream_stats`: times are recorded, too.
    pub times: bool,
    /// `replace_dots_in_grpc_service_name`: a dot in a service's name is written as `_`.
    pub replaces_dots: bool,
}

/// `per_method_stat_specifier`
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GrpcMethods {
    /// `stats_for_all_methods`
    All,
    /// `individual_method_stats_allowlist`, as `service.method`; empty without either, as in Envoy.
    Listed(HashSet<String>),
}

pub(super) const GRPC_STATS: &str = "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig";

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        GRPC_STATS,
        &[
            only("emit_filter_state", &["false"]),
            used("individual_method_stats_allowlist"),
            used("stats_for_all_methods"),
            used("enable_upstream_stats"),
            used("replace_dots_in_grpc_service_name"),
        ],
    ),
    message("envoy.config.core.v3.GrpcMethodList", &[used("services")]),
    message("envoy.config.core.v3.GrpcMethodList.Service", &[used("name"), used("method_names")]),
];

impl GrpcStats {
    /// The filter among these, if it is there.
    pub(super) fn from_filters(at: &At<'_>, filters: &[manager::HttpFilter]) -> Option<GrpcStats> {
        let at = at.field("http_filters");
        let mut found = None;
        for (index, filter) in filters.iter().enumerate() {
            let Some(manager::http_filter::ConfigType::TypedConfig(any)) = &filter.config_type
            else {
                continue;
            };
            if !is_type(any, GRPC_STATS) {
                continue;
            }
            let at = at.index(index);
            if found.is_some() {
                at.error_hint("`grpc_stats` is there twice", "one of them counts everything");
                continue;
            }
            let at = at.field("typed_config");
            found = at.unpack::<pb::FilterConfig>(any, GRPC_STATS).map(GrpcStats::from_proto);
        }
        found
    }

    fn from_proto(config: pb::FilterConfig) -> GrpcStats {
        use pb::filter_config::PerMethodStatSpecifier as Methods;
        let replaces_dots = config.replace_dots_in_grpc_service_name;
        GrpcStats {
            methods: match config.per_method_stat_specifier {
                Some(Methods::StatsForAllMethods(all)) if all.value => GrpcMethods::All,
                Some(Methods::IndividualMethodStatsAllowlist(list)) => {
                    GrpcMethods::Listed(names(&list, replaces_dots))
                }
                Some(Methods::StatsForAllMethods(_)) | None => GrpcMethods::Listed(HashSet::new()),
            },
            times: config.enable_upstream_stats,
            replaces_dots,
        }
    }
}

fn names(list: &GrpcMethodList, replaces_dots: bool) -> HashSet<String> {
    let of = |service: &str| match replaces_dots {
        true => service.replace('.', "_"),
        false => service.to_owned(),
    };
    let methods = list.services.iter().flat_map(|service| {
        let name = of(&service.name);
        service.method_names.iter().map(move |method| format!("{name}.{method}"))
    });
    methods.collect()
}
