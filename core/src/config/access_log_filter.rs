//! Which requests an access log, or a mapper of local replies, is for
//! (`config.accesslog.v3.AccessLogFilter`).
//!
//! What it leaves to others: evaluating (`crate::access_log::Filter`).

use super::convert::At;
use super::route_match::{HeaderMatcher, RuntimeFraction};
use super::support::{SupportedMessage, message, strict, used};
use crate::reply::ResponseFlags;
use envoy_types::pb::envoy::config::accesslog::v3 as pb;
use pb::access_log_filter::FilterSpecifier;
use pb::comparison_filter::Op;

/// `config.accesslog.v3.AccessLogFilter`
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AccessLogFilter {
    /// `status_code_filter`
    StatusCode(Comparison),
    /// `duration_filter`, in milliseconds.
    Duration(Comparison),
    /// `not_health_check_filter`: every request, as long as no filter marks health checks.
    NotHealthCheck,
    /// `runtime_filter`: a share of requests.
    Runtime {
        /// `percent_sampled`
        share: RuntimeFraction,
        /// `use_independent_randomness`
        independent: bool,
    },
    /// `and_filter`
    And(Vec<AccessLogFilter>),
    /// `or_filter`
    Or(Vec<AccessLogFilter>),
    /// `header_filter`, of the request.
    Header(HeaderMatcher),
    /// `response_flag_filter`: any of these flags; any flag at all without a list.
    ResponseFlag(Option<ResponseFlags>),
}

/// `config.accesslog.v3.ComparisonFilter`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Comparison {
    /// `op`
    pub op: ComparisonOp,
    /// `value.default_value`
    pub value: u32,
}

/// `ComparisonFilter.Op`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ComparisonOp {
    /// `EQ`
    Equal,
    /// `GE`
    GreaterOrEqual,
    /// `LE`
    LessOrEqual,
    /// `NE`
    NotEqual,
}

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    // Without its filter a mapper or a log would be for other requests.
    strict(
        "envoy.config.accesslog.v3.AccessLogFilter",
        &[
            used("status_code_filter"),
            used("duration_filter"),
            used("not_health_check_filter"),
            used("runtime_filter"),
            used("and_filter"),
            used("or_filter"),
            used("header_filter"),
            used("response_flag_filter"),
        ],
    ),
    message("envoy.config.accesslog.v3.StatusCodeFilter", &[used("comparison")]),
    message("envoy.config.accesslog.v3.DurationFilter", &[used("comparison")]),
    message("envoy.config.accesslog.v3.ComparisonFilter", &[used("op"), used("value")]),
    message("envoy.config.core.v3.RuntimeUInt32", &[used("default_value"), used("runtime_key")]),
    message("envoy.config.accesslog.v3.NotHealthCheckFilter", &[]),
    message(
        "envoy.config.accesslog.v3.RuntimeFilter",
        &[used("runtime_key"), used("percent_sampled"), used("use_independent_randomness")],
    ),
    message("envoy.config.accesslog.v3.AndFilter", &[used("filters")]),
    message("envoy.config.accesslog.v3.OrFilter", &[used("filters")]),
    message("envoy.config.accesslog.v3.HeaderFilter", &[used("header")]),
    message("envoy.config.accesslog.v3.ResponseFlagFilter", &[used("flags")]),
];

impl AccessLogFilter {
    /// Converts a filter; `None` was reported.
    pub(super) fn from_proto(at: &At<'_>, filter: &pb::AccessLogFilter) -> Option<AccessLogFilter> {
        // That there is none was reported by the reader.
        Some(match filter.filter_specifier.as_ref()? {
            FilterSpecifier::StatusCodeFilter(filter) => {
                AccessLogFilter::StatusCode(Comparison::from_proto(at, filter.comparison.as_ref()?))
            }
            FilterSpecifier::DurationFilter(filter) => {
                AccessLogFilter::Duration(Comparison::from_proto(at, filter.comparison.as_ref()?))
            }
            FilterSpecifier::NotHealthCheckFilter(_) => AccessLogFilter::NotHealthCheck,
            FilterSpecifier::RuntimeFilter(filter) => AccessLogFilter::Runtime {
                share: RuntimeFraction::of(&filter.percent_sampled.unwrap_or_default())
                    .or_runtime(at, &filter.runtime_key),
                independent: filter.use_independent_randomness,
            },
            FilterSpecifier::AndFilter(filter) => {
                let at = at.field("and_filter");
                AccessLogFilter::And(all_from_proto(&at.field("filters"), &filter.filters)?)
            }
            FilterSpecifier::OrFilter(filter) => {
                let at = at.field("or_filter");
                AccessLogFilter::Or(all_from_proto(&at.field("filters"), &filter.filters)?)
            }
            FilterSpecifier::HeaderFilter(filter) => {
                let at = at.field("header_filter");
                let matcher = filter.header.as_ref()?;
                AccessLogFilter::Header(HeaderMatcher::from_proto(&at.field("header"), matcher)?)
            }
            FilterSpecifier::ResponseFlagFilter(filter) => {
                AccessLogFilter::ResponseFlag(response_flags(&filter.flags))
            }
            // The reader has refused the others by name.
            _ => return None,
        })
    }
}

fn all_from_proto(at: &At<'_>, filters: &[pb::AccessLogFilter]) -> Option<Vec<AccessLogFilter>> {
    let convert = |(index, filter)| AccessLogFilter::from_proto(&at.index(index), filter);
    // All of them, so that each mistake is reported.
    let converted: Vec<_> = filters.iter().enumerate().map(convert).collect();
    converted.into_iter().collect()
}

/// The set of these flags. Those that nothing sets here (the .proto file knows which there are) can
/// never be found.
fn response_flags(names: &[String]) -> Option<ResponseFlags> {
    if names.is_empty() {
        return None;
    }
    let mut flags = ResponseFlags::NONE;
    for (flag, short, _) in ResponseFlags::NAMES {
        if names.iter().any(|name| name == short) {
            flags.insert(*flag);
        }
    }
    Some(flags)
}

impl Comparison {
    fn from_proto(at: &At<'_>, comparison: &pb::ComparisonFilter) -> Comparison {
        Comparison {
            op: match comparison.op() {
                Op::Eq => ComparisonOp::Equal,
                Op::Ge => ComparisonOp::GreaterOrEqual,
                Op::Le => ComparisonOp::LessOrEqual,
                Op::Ne => ComparisonOp::NotEqual,
            },
            value: comparison
                .value
                .as_ref()
                .map_or(0, |value| at.runtime().integer(&value.runtime_key, value.default_value)),
        }
    }
}
