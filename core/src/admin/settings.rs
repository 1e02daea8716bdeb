//! `stats_config` compiled: which stats are shown, with which tags, and the bounds of histograms.
//!
//! What it leaves to others: what was configured (`config::StatsConfig`), the default tags
//! (`prometheus`).

use crate::config::{DefaultTags, StatsConfig, StatsMatcher, StringMatcher, TagSource};
use crate::snapshot::TextMatch;
use crate::stats::histogram::BUCKET_BOUNDS;
use regex::Regex;
use std::ops::Range;

/// What the configuration says about stats.
#[derive(Debug)]
pub struct StatsSettings {
    matcher: Option<Matcher>,
    default_tags: DefaultTags,
    /// Tags with one value for all stats.
    pub(super) fixed: Vec<(String, String)>,
    extractors: Vec<(String, Regex)>,
    buckets: Vec<(TextMatch, Vec<f64>)>,
}

#[derive(Debug)]
struct Matcher {
    patterns: Vec<TextMatch>,
    /// What a stat is that no pattern matches.
    others: bool,
}

/// A tag that was found in a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Extracted<'s, 'n> {
    pub tag: &'s str,
    pub value: &'n str,
    /// What is taken out of the name.
    pub place: Range<usize>,
    /// It is looked for at the begin of names only.
    pub at_begin: bool,
}

impl Default for StatsSettings {
    fn default() -> StatsSettings {
        StatsSettings::new(&StatsConfig::default())
    }
}

impl StatsSettings {
    /// Compiles a configuration.
    #[must_use]
    pub fn new(config: &StatsConfig) -> StatsSettings {
        let texts = |matchers: &[StringMatcher]| matchers.iter().map(TextMatch::of).collect();
        let matcher = match &config.matcher {
            StatsMatcher::All => None,
            StatsMatcher::None => Some(Matcher { patterns: Vec::new(), others: false }),
            StatsMatcher::Only(patterns) => {
                Some(Matcher { patterns: texts(patterns), others: false })
            }
            StatsMatcher::Except(patterns) => {
                Some(Matcher { patterns: texts(patterns), others: true })
            }
        };
        let mut settings = StatsSettings {
            matcher,
            default_tags: config.default_tags.clone(),
            fixed: Vec::new(),
            extractors: Vec::new(),
            buckets: Vec::new(),
        };
        for tag in &config.tags {
            match &tag.source {
                TagSource::Fixed(value) => settings.fixed.push((tag.name.clone(), value.clone())),
                // Validation has compiled it.
                TagSource::Regex(regex) => settings
                    .extractors
                    .extend(Regex::new(regex).ok().map(|regex| (tag.name.clone(), regex))),
            }
        }
        let buckets = config.buckets.iter();
        settings.buckets =
            buckets.map(|(matcher, bounds)| (TextMatch::of(matcher), bounds.clone())).collect();
        settings
    }

    /// Whether nothing is left out.
    pub(super) fn shows_all(&self) -> bool {
        self.matcher.is_none()
    }

    /// Whether the stat of this name is there.
    pub(super) fn shows(&self, name: &str) -> bool {
        let Some(matcher) = &self.matcher else { return true };
        let matches = matcher.patterns.iter().any(|text| text.matches(name.as_bytes()));
        matches != matcher.others
    }

    /// Whether Envoy's tag of this name is taken out of names.
    pub(super) fn has_default(&self, tag: &str) -> bool {
        match &self.default_tags {
            DefaultTags::All => true,
            DefaultTags::Only(names) => names.iter().any(|name| name == tag),
        }
    }

    /// Whether tags depend on more than the scope.
    pub(super) fn extracts(&self) -> bool {
        !self.extractors.is_empty()
    }

    /// The user's own tags in this name.
    pub(super) fn extract<'s, 'n>(&'s self, name: &'n str) -> Vec<Extracted<'s, 'n>> {
        let find = |(tag, regex): &'s (String, Regex)| {
            let captures = regex.captures(name)?;
            let removed = captures.get(1)?;
            let value = captures.get(2).unwrap_or(removed).as_str();
            let at_begin = regex.as_str().starts_with('^');
            Some(Extracted { tag, value, place: removed.range(), at_begin })
        };
        self.extractors.iter().filter_map(find).collect()
    }

    /// The bounds of the buckets of this histogram.
    pub(super) fn bounds(&self, name: &str) -> &[f64] {
        let own = self.buckets.iter().find(|(text, _)| text.matches(name.as_bytes()));
        own.map_or(&BUCKET_BOUNDS[..], |(_, bounds)| bounds)
    }
}
