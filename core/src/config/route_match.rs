//! Which requests a route takes (`config.route.v3.RouteMatch`).
//!
//! What it leaves to others: matching (`snapshot::RouteTable`).

use super::convert::{At, is_type};
use super::safe_regex::check_regex;
use super::string_matcher::{StringMatcher, StringPattern, regex_pattern};
use super::support::{SupportedMessage, message, refused, strict, used};
use super::uri_template::UriTemplate;
use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use pb::route_match::PathSpecifier;

/// `config.route.v3.RouteMatch`
#[derive(Clone, PartialEq, Debug)]
pub struct RouteMatch {
    /// The path specifier.
    pub path: PathMatch,
    /// `case_sensitive`, default true. Has no effect on a regex, as in Envoy.
    pub case_sensitive: bool,
    /// Most have none, and take no room for them.
    pub(crate) conditions: Option<Box<MatchConditions>>,
}

/// The path specifier of a route; matched against the path without its query.
#[derive(Clone, PartialEq, Debug)]
pub enum PathMatch {
    /// `prefix`
    Prefix(String),
    /// `path`
    Exact(String),
    /// `safe_regex`, which must match the whole path. Known to compile.
    Regex(String),
    /// `path_separated_prefix`: followed by `/` or by nothing.
    SeparatedPrefix(String),
    /// `path_match_policy` with a path template.
    Template(Box<UriTemplate>),
    /// `connect_matcher`: CONNECT, which has no path; and nothing but CONNECT.
    Connect,
}

/// Everything of a `RouteMatch` that is not about the path. All of it must hold.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct MatchConditions {
    /// `headers`
    pub headers: Vec<HeaderMatcher>,
    /// `query_parameters`
    pub query_parameters: Vec<QueryParameterMatcher>,
    /// `runtime_fraction`: its default value, for there is no runtime.
    pub runtime_fraction: Option<RuntimeFraction>,
    /// `grpc`: the content type is gRPC's.
    pub grpc: bool,
    /// `tls_context`
    pub tls_context: Option<TlsContextMatch>,
}

/// `config.route.v3.HeaderMatcher`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeaderMatcher {
    /// `name`, in lower case; `:method`, `:path`, `:authority` and `:scheme` too.
    pub name: String,
    /// What one of the field's values must be.
    pub value: HeaderValueMatch,
    /// `invert_match`: none of the values may. A field that is missing matches nothing either way.
    pub invert: bool,
    /// `treat_missing_header_as_empty`
    pub treat_missing_as_empty: bool,
}

/// The specifier of a [`HeaderMatcher`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HeaderValueMatch {
    /// `present_match`: the field is there (true, also without any specifier) or not.
    Present(bool),
    /// `range_match`: an integer from the first to below the second.
    Range(i64, i64),
    /// `string_match`, or one of the deprecated fields for the same.
    Text(StringMatcher),
}

/// `config.route.v3.QueryParameterMatcher`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueryParameterMatcher {
    /// `name`
    pub name: String,
    /// What must hold of its first value.
    pub value: QueryValueMatch,
}

/// The specifier of a [`QueryParameterMatcher`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QueryValueMatch {
    /// `present_match`; true also without any specifier.
    Present(bool),
    /// `string_match`
    Text(StringMatcher),
}

/// A share of requests: `type.v3.FractionalPercent`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RuntimeFraction {
    /// `numerator`
    pub numerator: u32,
    /// `denominator` as a number: 100, 10,000 or 1,000,000.
    pub denominator: u32,
}

/// `TlsContextMatchOptions`. There is no TLS: no certificate was presented or validated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TlsContextMatch {
    /// `presented`
    pub presented: Option<bool>,
    /// `validated`
    pub validated: Option<bool>,
}

pub(super) const TEMPLATE_MATCH: &str =
    "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig";

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    // Without one of these a route would match more than it should.
    strict(
        "envoy.config.route.v3.RouteMatch",
        &[
            used("prefix"),
            used("path"),
            used("safe_regex"),
            used("path_separated_prefix"),
            used("path_match_policy"),
            used("connect_matcher"),
            used("case_sensitive"),
            used("headers"),
            used("query_parameters"),
            used("runtime_fraction"),
            used("grpc"),
            used("tls_context"),
            refused("dynamic_metadata"),
            refused("filter_state"),
        ],
    ),
    message("envoy.config.route.v3.RouteMatch.ConnectMatcher", &[]),
    message("envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions", &[]),
    message(
        "envoy.config.route.v3.RouteMatch.TlsContextMatchOptions",
        &[used("presented"), used("validated")],
    ),
    strict(
        "envoy.config.route.v3.HeaderMatcher",
        &[
            used("name"),
            used("exact_match"),
            used("safe_regex_match"),
            used("range_match"),
            used("present_match"),
            used("prefix_match"),
            used("suffix_match"),
            used("contains_match"),
            used("string_match"),
            used("invert_match"),
            used("treat_missing_header_as_empty"),
        ],
    ),
    strict(
        "envoy.config.route.v3.QueryParameterMatcher",
        &[used("name"), used("string_match"), used("present_match")],
    ),
    message(
        "envoy.config.core.v3.RuntimeFractionalPercent",
        &[used("default_value"), used("runtime_key")],
    ),
    message("envoy.type.v3.FractionalPercent", &[used("numerator"), used("denominator")]),
    message("envoy.type.v3.Int64Range", &[used("start"), used("end")]),
    message(TEMPLATE_MATCH, &[used("path_template")]),
];

impl RouteMatch {
    /// A match by path alone, with its case.
    #[must_use]
    pub fn new(path: PathMatch) -> RouteMatch {
        RouteMatch { path, case_sensitive: true, conditions: None }
    }

    pub(super) fn from_proto(at: &At<'_>, matches: &pb::RouteMatch) -> Option<RouteMatch> {
        let conditions = MatchConditions::from_proto(at, matches);
        let path = PathMatch::from_proto(at, matches.path_specifier.as_ref()?)?;
        let case_sensitive = matches.case_sensitive.is_none_or(|flag| flag.value);
        let conditions = Some(conditions?).filter(|it| !it.is_empty()).map(Box::new);
        Some(RouteMatch { path, case_sensitive, conditions })
    }

    /// What else must hold.
    #[must_use]
    pub fn conditions(&self) -> &MatchConditions {
        static NONE: MatchConditions = MatchConditions::NONE;
        self.conditions.as_deref().unwrap_or(&NONE)
    }

    /// The same, to be changed.
    pub fn conditions_mut(&mut self) -> &mut MatchConditions {
        self.conditions.get_or_insert_default()
    }
}

impl PathMatch {
    fn from_proto(at: &At<'_>, path: &PathSpecifier) -> Option<PathMatch> {
        Some(match path {
            PathSpecifier::Prefix(prefix) => PathMatch::Prefix(prefix.clone()),
            PathSpecifier::Path(path) => {
                check_exact_path(&at.field("path"), path);
                PathMatch::Exact(path.clone())
            }
            PathSpecifier::SafeRegex(matcher) => {
                let at = at.field("safe_regex");
                // An empty one breaks a rule of the .proto file, which the reader has reported.
                check_regex(&at.field("regex"), &matcher.regex)?;
                PathMatch::Regex(matcher.regex.clone())
            }
            PathSpecifier::PathSeparatedPrefix(prefix) => {
                PathMatch::SeparatedPrefix(prefix.clone())
            }
            PathSpecifier::ConnectMatcher(_) => PathMatch::Connect,
            PathSpecifier::PathMatchPolicy(policy) => {
                let at = at.field("path_match_policy");
                let Some(any) = &policy.typed_config else {
                    at.missing("typed_config", Some("a UriTemplateMatchConfig"));
                    return None;
                };
                let at = at.field("typed_config");
                if !is_type(any, TEMPLATE_MATCH) {
                    at.error(format!("a path is matched by a {TEMPLATE_MATCH}"));
                    return None;
                }
                let config: UriTemplateMatchConfig = at.unpack(any, TEMPLATE_MATCH)?;
                let at = at.field("path_template");
                PathMatch::Template(Box::new(UriTemplate::checked(&at, &config.path_template)?))
            }
        })
    }
}

/// An exact path with a `*` was probably meant as a prefix, and one with a `?` can never match.
fn check_exact_path(at: &At<'_>, path: &str) {
    if path.contains('*') {
        at.warning(format!("`path` is matched as it stands: `*` in `{path}` is only a star"));
    } else if path.contains('?') {
        at.warning(format!("`{path}` never matches: paths are matched without their query"));
    }
}

impl MatchConditions {
    const NONE: MatchConditions = MatchConditions {
        headers: Vec::new(),
        query_parameters: Vec::new(),
        runtime_fraction: None,
        grpc: false,
        tls_context: None,
    };

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == MatchConditions::default()
    }

    fn from_proto(at: &At<'_>, matches: &pb::RouteMatch) -> Option<MatchConditions> {
        let headers = HeaderMatcher::all_from_proto(&at.field("headers"), &matches.headers);
        let at_parameters = at.field("query_parameters");
        let mut query_parameters = Vec::with_capacity(matches.query_parameters.len());
        for (index, parameter) in matches.query_parameters.iter().enumerate() {
            let at = at_parameters.index(index);
            query_parameters.push(QueryParameterMatcher::from_proto(&at, parameter));
        }
        Some(MatchConditions {
            headers: headers?,
            query_parameters: query_parameters.into_iter().collect::<Option<_>>()?,
            runtime_fraction: matches
                .runtime_fraction
                .as_ref()
                .map(|fraction| RuntimeFraction::from_proto(at, fraction)),
            grpc: matches.grpc.is_some(),
            tls_context: matches.tls_context.as_ref().map(|context| TlsContextMatch {
                presented: context.presented.map(|flag| flag.value),
                validated: context.validated.map(|flag| flag.value),
            }),
        })
    }
}

impl RuntimeFraction {
    fn from_proto(at: &At<'_>, fraction: &RuntimeFractionalPercent) -> RuntimeFraction {
        let default = RuntimeFraction::of(&fraction.default_value.unwrap_or_default());
        default.or_runtime(at, &fraction.runtime_key)
    }

    /// What the runtime has under this key; this one if it has nothing.
    pub(super) fn or_runtime(self, at: &At<'_>, key: &str) -> RuntimeFraction {
        let default = (self.numerator, self.denominator);
        let (numerator, denominator) = at.runtime().fraction(key, default);
        RuntimeFraction { numerator, denominator }
    }

    pub(super) fn of(percent: &FractionalPercent) -> RuntimeFraction {
        let denominator = match percent.denominator() {
            DenominatorType::Hundred => 100,
            DenominatorType::TenThousand => 10_000,
            DenominatorType::Million => 1_000_000,
        };
        RuntimeFraction { numerator: percent.numerator, denominator }
    }
}

impl HeaderMatcher {
    /// Converts matchers of header fields; `None` if one of them is wrong, which is reported.
    pub(super) fn all_from_proto(
        at: &At<'_>,
        matchers: &[pb::HeaderMatcher],
    ) -> Option<Vec<HeaderMatcher>> {
        let convert = |(index, matcher)| HeaderMatcher::from_proto(&at.index(index), matcher);
        // All of them, so that each mistake is reported.
        let converted: Vec<_> = matchers.iter().enumerate().map(convert).collect();
        converted.into_iter().collect()
    }

    #[allow(deprecated, reason = "configurations still have the fields that Envoy deprecates")]
    pub(super) fn from_proto(at: &At<'_>, matcher: &pb::HeaderMatcher) -> Option<HeaderMatcher> {
        use pb::header_matcher::HeaderMatchSpecifier as Specifier;
        let text = |pattern| HeaderValueMatch::Text(StringMatcher::new(pattern));
        let value = match &matcher.header_match_specifier {
            None => HeaderValueMatch::Present(true),
            Some(Specifier::PresentMatch(present)) => HeaderValueMatch::Present(*present),
            Some(Specifier::RangeMatch(range)) => HeaderValueMatch::Range(range.start, range.end),
            // Without a value it asks only that the field is there, in Envoy.
            Some(Specifier::ExactMatch(value)) if value.is_empty() => {
                text(StringPattern::Prefix(String::new()))
            }
            Some(Specifier::ExactMatch(value)) => text(StringPattern::Exact(value.clone())),
            Some(Specifier::PrefixMatch(value)) => text(StringPattern::Prefix(value.clone())),
            Some(Specifier::SuffixMatch(value)) => text(StringPattern::Suffix(value.clone())),
            Some(Specifier::ContainsMatch(value)) => text(StringPattern::Contains(value.clone())),
            Some(Specifier::SafeRegexMatch(regex)) => {
                text(regex_pattern(&at.field("safe_regex_match"), regex)?)
            }
            Some(Specifier::StringMatch(matcher)) => {
                let at = at.field("string_match");
                HeaderValueMatch::Text(StringMatcher::from_proto(&at, matcher)?)
            }
        };
        Some(HeaderMatcher {
            name: matcher.name.to_ascii_lowercase(),
            value,
            invert: matcher.invert_match,
            treat_missing_as_empty: matcher.treat_missing_header_as_empty,
        })
    }
}

impl QueryParameterMatcher {
    fn from_proto(
        at: &At<'_>,
        matcher: &pb::QueryParameterMatcher,
    ) -> Option<QueryParameterMatcher> {
        use pb::query_parameter_matcher::QueryParameterMatchSpecifier as Specifier;
        let value = match &matcher.query_parameter_match_specifier {
            None => QueryValueMatch::Present(true),
            Some(Specifier::PresentMatch(present)) => QueryValueMatch::Present(*present),
            Some(Specifier::StringMatch(matcher)) => {
                let at = at.field("string_match");
                QueryValueMatch::Text(StringMatcher::from_proto(&at, matcher)?)
            }
        };
        Some(QueryParameterMatcher { name: matcher.name.clone(), value })
    }
}
