//! Every series that the admin server shows: what is counted, and what is reckoned when somebody
//! looks. Values are read while a page is written, so that a page of a million series needs no
//! more memory than a short one.
//!
//! What it leaves to others: pages (`stats_page`, `prometheus`), what is shown at all (`settings`).

use super::query::Query;
use super::settings::StatsSettings;
use super::{Admin, Intervals};
use crate::cli::version;
use crate::control::State;
use crate::snapshot::ClusterEntry;
use crate::stats::registry::full_name;
use crate::stats::series::Tag;
use crate::stats::{
    ClusterStat, Column, Histogram, Kind, ListenerStat, Readout, Registry, Sample, ShownScope,
    StatTable, Value, columns,
};
use regex::Regex;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, PoisonError};
use tokio::time::Instant;

/// Which series are wanted.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// `filter`, a partial match.
    pub filter: Option<Regex>,
    /// `invert_filter`
    pub inverted: bool,
    /// `usedonly`
    pub used_only: bool,
    /// `text_readouts`: on the page for Prometheus, texts too.
    pub texts: bool,
}

impl Wanted {
    /// Reads the query's parameters.
    pub(super) fn of(query: &Query, filter: Option<Regex>) -> Wanted {
        Wanted {
            filter,
            inverted: query.has("invert_filter"),
            used_only: query.has("usedonly"),
            texts: query.has("text_readouts"),
        }
    }

    fn name(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.is_match(name) != self.inverted)
    }
}

/// The series that one scope has, from one source.
#[derive(Debug)]
pub(super) struct Group {
    /// `cluster.one`, `http.ingress`
    pub prefix: Arc<str>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Counted {
        scope: ShownScope,
        columns: Arc<[Column]>,
        /// So many bytes of a name are the prefix: of names that stand alone.
        strip: usize,
    },
    Breakers(Arc<ClusterEntry>),
    Server(Vec<(&'static str, u64)>),
    Readout(Arc<Readout>),
}

/// What groups must have in common for their series to make the same families.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Class {
    Counted(usize),
    Breakers,
    Server,
    Readout(usize),
}

/// One series with its whole name.
#[derive(Debug)]
pub(super) struct Series {
    pub name: String,
    pub sample: Sample,
    /// The place of its group.
    pub group: usize,
}

/// Everything that can be shown, and what of it is.
#[derive(Debug)]
pub(super) struct View {
    registry: Arc<Registry>,
    /// In order of their names.
    pub groups: Vec<Group>,
    pub(super) wanted: Wanted,
    /// What the configuration says about stats.
    pub settings: Arc<StatsSettings>,
    baseline: Arc<HashMap<String, u64>>,
    intervals: Arc<Intervals>,
    now: Instant,
}

impl View {
    /// Of everything that there is now.
    pub(super) fn new(admin: &Admin, wanted: Wanted) -> View {
        let baseline = admin.baseline.lock().unwrap_or_else(PoisonError::into_inner).clone();
        View {
            groups: groups(admin),
            registry: admin.registry.clone(),
            wanted,
            settings: admin.settings(),
            baseline,
            intervals: admin.intervals.clone(),
            now: Instant::now(),
        }
    }

    /// What a histogram has taken in of late; nothing at the first look.
    pub(super) fn interval(&self, name: &str, histogram: &Histogram) -> Histogram {
        match histogram.count {
            0 => Histogram::default(),
            _ => self.intervals.look(name, histogram, self.now).unwrap_or_default(),
        }
    }

    /// Forgets histograms that nobody looks at any more.
    pub(super) fn forget_intervals(&self) {
        self.intervals.forget(self.now);
    }

    /// Reads one column of a group; what is not wanted is left out.
    pub(super) fn read(&self, group: &Group, column: usize, emit: &mut dyn FnMut(&str, Sample)) {
        let mut name = String::new();
        let unnamed =
            self.wanted.filter.is_none() && self.settings.shows_all() && self.baseline.is_empty();
        group.read(&self.registry, column, &mut |mut sample: Sample| {
            if self.wanted.used_only && !sample.used {
                return;
            }
            if unnamed {
                emit("", sample);
                return;
            }
            name.clear();
            name.push_str(&group.prefix);
            name.push('.');
            name.push_str(&sample.stat);
            if !self.wanted.name(&name) || !self.settings.shows(&name) {
                return;
            }
            if let Value::Counter(number) = &mut sample.value
                && let Some(before) = self.baseline.get(&name)
            {
                *number = number.wrapping_sub(*before);
            }
            emit(&name, sample);
        });
    }

    /// Groups whose names can stand between each other's, as places.
    pub(super) fn runs(&self) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (place, group) in self.groups.iter().enumerate() {
            if let Some(run) = runs.last_mut()
                && is_within(&group.prefix, &self.groups[run.start].prefix)
            {
                run.end = place + 1;
            } else {
                runs.push(place..place + 1);
            }
        }
        runs
    }

    /// The series of a run by name: those whose kind is wanted.
    pub(super) fn series(&self, run: Range<usize>, wanted: fn(Kind) -> bool) -> Vec<Series> {
        let mut series = Vec::new();
        for place in run {
            let group = &self.groups[place];
            for column in 0..group.len() {
                if !wanted(group.kind(column)) {
                    continue;
                }
                self.read(group, column, &mut |_, sample| {
                    let name = full_name(&group.prefix, &sample.stat).into_owned();
                    series.push(Series { name, sample, group: place });
                });
            }
        }
        series.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        series
    }
}

fn is_within(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Group {
    /// So many bytes of its prefix are that of the scope around it, if there is one.
    pub(super) fn outer(&self) -> usize {
        match &self.source {
            Source::Counted { scope, .. } => scope.outer,
            Source::Readout(readout) => readout.outer(&self.prefix),
            Source::Breakers(_) | Source::Server(_) => 0,
        }
    }

    /// How many columns it has.
    pub(super) fn len(&self) -> usize {
        match &self.source {
            Source::Counted { columns, .. } => columns.len(),
            Source::Breakers(_) => BREAKERS.len(),
            Source::Server(values) => values.len(),
            Source::Readout(readout) => readout.stats().len(),
        }
    }

    /// The name of a column without tags.
    pub(super) fn name(&self, column: usize) -> Cow<'static, str> {
        match &self.source {
            Source::Counted { columns, strip, .. } => match columns[column].name() {
                Cow::Borrowed(name) => Cow::Borrowed(&name[*strip..]),
                Cow::Owned(name) => Cow::Owned(name[*strip..].to_owned()),
            },
            Source::Breakers(_) => Cow::Borrowed(BREAKERS[column].0),
            Source::Server(values) => Cow::Borrowed(values[column].0),
            Source::Readout(readout) => Cow::Borrowed(readout.stats()[column].0),
        }
    }

    /// What a column's series are.
    pub(super) fn kind(&self, column: usize) -> Kind {
        match &self.source {
            Source::Counted { columns, .. } => columns[column].kind(),
            Source::Breakers(_) | Source::Server(_) => Kind::Gauge,
            Source::Readout(readout) => readout.stats()[column].1,
        }
    }

    /// What kind of tag a column's series have.
    pub(super) fn tag(&self, column: usize) -> Option<Tag> {
        match &self.source {
            Source::Counted { columns, .. } => columns[column].tag(),
            Source::Breakers(_) | Source::Server(_) | Source::Readout(_) => None,
        }
    }

    /// Groups of the same class have the same columns.
    pub(super) fn class(&self) -> Class {
        match &self.source {
            Source::Counted { columns, .. } => Class::Counted(columns.as_ptr() as usize),
            Source::Breakers(_) => Class::Breakers,
            Source::Server(_) => Class::Server,
            Source::Readout(readout) => Class::Readout(readout.stats().as_ptr() as usize),
        }
    }

    fn read(&self, registry: &Registry, column: usize, emit: &mut dyn FnMut(Sample)) {
        let gauge = |stat, value, used| Sample {
            stat: Cow::Borrowed(stat),
            tag: None,
            value: Value::Gauge(value),
            used,
        };
        match &self.source {
            Source::Counted { scope, columns, strip: 0 } => {
                columns[column].read(registry, scope, emit);
            }
            Source::Counted { scope, columns, strip } => {
                columns[column].read(registry, scope, &mut |sample| {
                    let stat = sample.stat[*strip..].to_owned().into();
                    emit(Sample { stat, ..sample });
                });
            }
            Source::Breakers(entry) => {
                let (name, limit) = BREAKERS[column];
                let open = limit.is_some_and(|limit| {
                    entry.breakers.open(&entry.config.circuit_breakers.default)[limit]
                });
                emit(gauge(name, u64::from(open), breaker_used(registry, entry, name)));
            }
            Source::Server(values) => emit(gauge(values[column].0, values[column].1, true)),
            Source::Readout(readout) => {
                let (stat, value) =
                    (Cow::Borrowed(readout.stats()[column].0), readout.value(column));
                emit(Sample { stat, tag: None, used: is_set(&value), value });
            }
        }
    }
}

/// Whether limits of a cluster are reached: names, and places in what `Breakers::open` answers.
/// Routes have no priority here, so nothing counts against those of priority HIGH.
const BREAKERS: [(&str, Option<usize>); 10] = [
    ("circuit_breakers.default.cx_open", Some(0)),
    ("circuit_breakers.default.cx_pool_open", None),
    ("circuit_breakers.default.rq_open", Some(2)),
    ("circuit_breakers.default.rq_pending_open", Some(1)),
    ("circuit_breakers.default.rq_retry_open", Some(3)),
    ("circuit_breakers.high.cx_open", None),
    ("circuit_breakers.high.cx_pool_open", None),
    ("circuit_breakers.high.rq_open", None),
    ("circuit_breakers.high.rq_pending_open", None),
    ("circuit_breakers.high.rq_retry_open", None),
];

/// Whether Envoy would have written to this gauge: it does whenever it asks for a permit.
fn breaker_used(registry: &Registry, entry: &ClusterEntry, name: &str) -> bool {
    let stat = match name {
        "circuit_breakers.default.cx_open" => ClusterStat::UpstreamCxTotal,
        "circuit_breakers.default.rq_open" => ClusterStat::UpstreamRqTotal,
        "circuit_breakers.default.rq_pending_open" => ClusterStat::UpstreamRqPendingTotal,
        name => return name == "circuit_breakers.default.cx_pool_open",
    };
    registry.number(entry.stats, stat) > 0
}

/// Counters as they are, for `/reset_counters` to reckon from.
pub(super) fn counters(admin: &Admin) -> HashMap<String, u64> {
    let counters = admin.registry.collect().into_iter().filter_map(|(name, value)| match value {
        Value::Counter(number) => Some((name, number)),
        Value::Gauge(_) | Value::Histogram(_) | Value::Text(_) => None,
    });
    counters.collect()
}

fn groups(admin: &Admin) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut tables: Vec<(StatTable, Arc<[Column]>)> = Vec::new();
    let mut connections = 0;
    for scope in admin.registry.shown() {
        if scope.prefix.is_empty() {
            alone(&scope, &mut groups);
            continue;
        }
        let known = tables.iter().find(|(table, _)| *table == scope.stats);
        let columns = match known.map(|(_, columns)| columns.clone()) {
            Some(columns) => columns,
            None => {
                let columns: Arc<[Column]> = columns(scope.stats).into();
                tables.push((scope.stats, columns.clone()));
                columns
            }
        };
        if scope.stats == ListenerStat::ALL {
            connections += scope.number(&admin.registry, ListenerStat::DownstreamCxActive);
        }
        let prefix = scope.prefix.clone();
        groups.push(Group { prefix, source: Source::Counted { scope, columns, strip: 0 } });
    }
    groups.push(Group {
        prefix: "server".into(),
        source: Source::Server(server(admin, connections)),
    });
    groups.push(Group { prefix: "runtime".into(), source: Source::Server(runtime(admin)) });
    for (prefix, readout) in admin.registry.readouts().all() {
        groups.push(Group { prefix, source: Source::Readout(readout) });
    }
    // Two clusters can have one name in stats; the first speaks for both.
    let mut named = HashSet::new();
    for entry in admin.publisher.load().clusters.iter() {
        if named.insert(entry.config.stat_name.clone()) {
            let prefix = format!("cluster.{}", entry.config.stat_name).into();
            groups.push(Group { prefix, source: Source::Breakers(entry.clone()) });
        }
    }
    groups.sort_by_cached_key(|group| format!("{}.", group.prefix));
    groups
}

/// Whether it is another value than that of the start.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Counter(number) | Value::Gauge(number) => *number != 0,
        Value::Histogram(histogram) => histogram.count > 0,
        Value::Text(text) => !text.is_empty(),
    }
}

/// Names without a scope, by their first parts.
fn alone(scope: &ShownScope, groups: &mut Vec<Group>) {
    let mut parts: Vec<(String, Vec<Column>)> = Vec::new();
    for column in columns(scope.stats) {
        let name = column.name();
        let part = name.split('.').next().unwrap_or_default();
        match parts.iter_mut().find(|(other, _)| other == part) {
            Some((_, columns)) => columns.push(column),
            None => parts.push((part.to_owned(), vec![column])),
        }
    }
    for (part, columns) in parts {
        let (strip, columns) = (part.len() + 1, columns.into());
        let source = Source::Counted { scope: scope.clone(), columns, strip };
        groups.push(Group { prefix: part.into(), source });
    }
}

fn runtime(admin: &Admin) -> Vec<(&'static str, u64)> {
    let runtime = &admin.state.shown().runtime;
    let overrides = admin.state.overrides();
    let layers = runtime.layers.iter().filter(|layer| !layer.is_admin);
    let keys: HashSet<&String> =
        layers.flat_map(|layer| layer.values.keys()).chain(overrides.keys()).collect();
    vec![
        ("admin_overrides_active", u64::from(!overrides.is_empty())),
        ("num_keys", keys.len() as u64),
        ("num_layers", runtime.layers.len() as u64),
    ]
}

fn server(admin: &Admin, connections: u64) -> Vec<(&'static str, u64)> {
    let state = admin.state.state();
    let memory = super::memory::read();
    vec![
        ("concurrency", admin.concurrency as u64),
        ("days_until_first_cert_expiring", super::certs::days_until_first_expires(admin)),
        ("hot_restart_epoch", 0),
        ("hot_restart_generation", 1),
        ("live", u64::from(state == State::Live)),
        ("memory_allocated", memory.allocated),
        ("memory_heap_size", memory.allocated),
        ("memory_physical_size", memory.physical),
        ("parent_connections", 0),
        ("state", state as u64),
        ("total_connections", connections),
        ("uptime", admin.state.uptime().as_secs()),
        ("version", version::gauge()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_matches_anywhere_and_can_be_inverted() {
        let filter = || Some(Regex::new("rq_(total|time)$").unwrap());
        let wanted = Wanted { filter: filter(), ..Wanted::default() };
        assert!(wanted.name("cluster.a.upstream_rq_total") && !wanted.name("server.state"));
        let inverted = Wanted { filter: filter(), inverted: true, ..Wanted::default() };
        assert!(!inverted.name("cluster.a.upstream_rq_total") && inverted.name("server.state"));
    }

    #[test]
    fn a_name_is_within_itself_and_what_it_begins() {
        assert!(is_within("cluster.a", "cluster.a") && is_within("cluster.a.b", "cluster.a"));
        assert!(!is_within("cluster.a-x", "cluster.a") && !is_within("cluster.ab", "cluster.a"));
    }
}
