//! Which stats there are, with which tags, and the bounds of histograms
//! (`config.metrics.v3.StatsConfig`).
//!
//! What it leaves to others: applying it (`admin::settings`), sinks (`stats_sink`).

use super::StringMatcher;
use super::convert::At;
use super::safe_regex::check_regex;
use super::support::{SupportedMessage, message, used};
use envoy_types::pb::envoy::config::metrics::v3 as pb;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;

/// `config.metrics.v3.StatsConfig`
#[derive(Clone, PartialEq, Debug)]
pub struct StatsConfig {
    /// `stats_tags`
    pub tags: Vec<StatsTag>,
    /// `use_all_default_tags`, and those of `stats_tags` that are only named.
    pub default_tags: DefaultTags,
    /// `stats_matcher`
    pub matcher: StatsMatcher,
    /// `histogram_bucket_settings`: the first that matches counts.
    pub buckets: Vec<(StringMatcher, Vec<f64>)>,
}

impl Default for StatsConfig {
    fn default() -> StatsConfig {
        StatsConfig {
            tags: Vec::new(),
            default_tags: DefaultTags::All,
            matcher: StatsMatcher::All,
            buckets: Vec::new(),
        }
    }
}

/// Which of Envoy's own tags stats have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DefaultTags {
    /// All.
    All,
    /// Those with these names.
    Only(Vec<String>),
}

/// `config.metrics.v3.TagSpecifier`
#[derive(Clone, PartialEq, Debug)]
pub struct StatsTag {
    /// `tag_name`
    pub name: String,
    /// Where its value comes from.
    pub source: TagSource,
}

/// Where a tag's value comes from.
#[derive(Clone, PartialEq, Debug)]
pub enum TagSource {
    /// `fixed_value`
    Fixed(String),
    /// `regex`: its first group is taken out of the name, the second (or the first) is the value.
    Regex(String),
}

/// `config.metrics.v3.StatsMatcher`
#[derive(Clone, PartialEq, Debug)]
pub enum StatsMatcher {
    /// All stats.
    All,
    /// `reject_all`
    None,
    /// `inclusion_list`
    Only(Vec<StringMatcher>),
    /// `exclusion_list`
    Except(Vec<StringMatcher>),
}

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.metrics.v3.StatsConfig",
        &[
            used("stats_tags"),
            used("use_all_default_tags"),
            used("stats_matcher"),
            used("histogram_bucket_settings"),
        ],
    ),
    message(
        "envoy.config.metrics.v3.TagSpecifier",
        &[used("tag_name"), used("regex"), used("fixed_value")],
    ),
    message(
        "envoy.config.metrics.v3.StatsMatcher",
        &[used("reject_all"), used("exclusion_list"), used("inclusion_list")],
    ),
    message("envoy.type.matcher.v3.ListStringMatcher", &[used("patterns")]),
    message("envoy.config.metrics.v3.HistogramBucketSettings", &[used("match"), used("buckets")]),
];

impl StatsConfig {
    /// Converts it; what is wrong is reported.
    pub(super) fn from_proto(at: &At<'_>, config: Option<&pb::StatsConfig>) -> StatsConfig {
        let Some(config) = config else { return StatsConfig::default() };
        let (tags, named) = tags(&at.field("stats_tags"), &config.stats_tags);
        StatsConfig {
            tags,
            default_tags: match config.use_all_default_tags.is_none_or(|all| all.value) {
                true => DefaultTags::All,
                false => DefaultTags::Only(named),
            },
            matcher: StatsMatcher::from_proto(
                &at.field("stats_matcher"),
                config.stats_matcher.as_ref(),
            ),
            buckets: buckets(
                &at.field("histogram_bucket_settings"),
                &config.histogram_bucket_settings,
            ),
        }
    }
}

/// Tags of the user's own, and names of Envoy's.
fn tags(at: &At<'_>, specifiers: &[pb::TagSpecifier]) -> (Vec<StatsTag>, Vec<String>) {
    use pb::tag_specifier::TagValue;
    let mut named: Vec<String> = Vec::new();
    let mut tags: Vec<StatsTag> = Vec::with_capacity(specifiers.len());
    for (index, specifier) in specifiers.iter().enumerate() {
        let at = at.index(index);
        let name = specifier.tag_name.clone();
        if name.is_empty() {
            at.missing("tag_name", None);
            continue;
        }
        if tags.iter().any(|tag| tag.name == name) || named.contains(&name) {
            at.field("tag_name").error(format!("the tag `{name}` is there twice"));
            continue;
        }
        match &specifier.tag_value {
            Some(TagValue::FixedValue(value)) => {
                tags.push(StatsTag { name, source: TagSource::Fixed(value.clone()) });
            }
            Some(TagValue::Regex(regex)) if !regex.is_empty() => {
                if is_extractor(&at.field("regex"), regex) {
                    tags.push(StatsTag { name, source: TagSource::Regex(regex.clone()) });
                }
            }
            _ if name.starts_with("envoy.") => named.push(name),
            _ => at.error_hint(
                format!("the tag `{name}` has neither `regex` nor `fixed_value`"),
                "only Envoy's own tags, envoy.cluster_name for one, need none",
            ),
        }
    }
    (tags, named)
}

fn is_extractor(at: &At<'_>, regex: &str) -> bool {
    // What this regex means is not quite what a `safe_regex` does, but its size and syntax are.
    if check_regex(at, regex).is_none() {
        return false;
    }
    match regex::Regex::new(regex) {
        Ok(compiled) if compiled.captures_len() < 2 => {
            at.error_hint(
                format!("`{regex}` has no group"),
                "put what is to be taken out of the name in ( )",
            );
            false
        }
        Ok(_) => true,
        Err(error) => {
            at.error(format!("`{regex}` cannot be compiled: {error}"));
            false
        }
    }
}

impl StatsMatcher {
    fn from_proto(at: &At<'_>, matcher: Option<&pb::StatsMatcher>) -> StatsMatcher {
        use pb::stats_matcher::StatsMatcher as Kind;
        let texts = |field: &str, list: &matcher::ListStringMatcher| {
            let at = at.field(field);
            let at = at.field("patterns");
            let patterns = list.patterns.iter().enumerate();
            patterns.filter_map(|(i, one)| StringMatcher::from_proto(&at.index(i), one)).collect()
        };
        match matcher.and_then(|matcher| matcher.stats_matcher.as_ref()) {
            None | Some(Kind::RejectAll(false)) => StatsMatcher::All,
            Some(Kind::RejectAll(true)) => StatsMatcher::None,
            Some(Kind::InclusionList(list)) => StatsMatcher::Only(texts("inclusion_list", list)),
            Some(Kind::ExclusionList(list)) => StatsMatcher::Except(texts("exclusion_list", list)),
        }
    }
}

fn buckets(
    at: &At<'_>,
    settings: &[pb::HistogramBucketSettings],
) -> Vec<(StringMatcher, Vec<f64>)> {
    let mut buckets = Vec::with_capacity(settings.len());
    for (index, setting) in settings.iter().enumerate() {
        let at = at.index(index);
        let Some(matcher) = &setting.r#match else {
            at.missing("match", None);
            continue;
        };
        let at_match = at.field("match");
        let mut bounds = setting.buckets.clone();
        if bounds.iter().any(|bound| *bound <= 0.0 || !bound.is_finite()) || bounds.is_empty() {
            at.field("buckets").error("bounds must be greater than 0, and there must be some");
            continue;
        }
        bounds.sort_unstable_by(f64::total_cmp);
        bounds.dedup();
        buckets.extend(StringMatcher::from_proto(&at_match, matcher).map(|text| (text, bounds)));
    }
    buckets
}
