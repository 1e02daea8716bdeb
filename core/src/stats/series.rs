//! The series that a scope has: one for each stat, several for response codes, and those that are
//! reckoned from others.
//!
//! What it leaves to others: names of scopes (`registry`), pages and sinks.

use super::codes::Codes;
use super::{
    ClusterStat, GrpcStat, Histogram, Kind, ListenerStat, Registry, ServerStat, ShownScope,
    SslStat, StatTable, Value,
};
use std::borrow::Cow;

/// What a name says beside what is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tag {
    /// A response code.
    Code(u16),
    /// The first digit of response codes.
    Class(u16),
    /// A shard.
    Worker(usize),
}

impl Tag {
    /// What it says.
    #[must_use]
    pub fn value(self) -> String {
        match self {
            Tag::Code(number) | Tag::Class(number) => number.to_string(),
            Tag::Worker(shard) => shard.to_string(),
        }
    }
}

/// One series of a scope, with its value now.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// The name within the scope.
    pub stat: Cow<'static, str>,
    /// What of the name is a tag, if it is not a stat's own name.
    pub tag: Option<Tag>,
    /// The value.
    pub value: Value,
    /// It was written to.
    pub used: bool,
}

/// Where a stat is in its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    name: &'static str,
    kind: Kind,
    index: u32,
    block: u32,
}

/// What response codes are told by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    Completed,
    Class,
    Code,
    /// Codes that are none.
    Unknown,
}

/// The series that every scope of a table has for one thing that is counted. They have one name but
/// for a tag in it.
#[derive(Clone, Debug)]
pub struct Column(Source);

#[derive(Clone, Debug)]
enum Source {
    Stat(Place),
    /// The same, once it was written to.
    Counted(Place),
    /// A stat of each shard apart.
    Workers(Place),
    /// Response codes with this before their names; of several sets, what all have together.
    Codes(&'static str, By, Vec<Place>),
    /// What several histograms have together, or one that is shown only with values.
    Sum(&'static str, Vec<Place>),
}

/// The columns of a table.
#[must_use]
pub fn columns(stats: StatTable) -> Vec<Column> {
    let mut places = Vec::with_capacity(stats.len());
    let mut block = 0;
    for (index, (name, kind)) in stats.iter().enumerate() {
        places.push(Place { name, kind: *kind, index: index as u32, block });
        block += kind.block_cells();
    }
    let mut columns = Vec::with_capacity(stats.len() + 16);
    let codes = |columns: &mut Vec<Column>, prefix, sets: &[Place]| {
        for by in [By::Completed, By::Class, By::Code, By::Unknown] {
            columns.push(Column(Source::Codes(prefix, by, sets.to_vec())));
        }
    };
    let times = [ClusterStat::ExternalRqTime, ClusterStat::InternalRqTime];
    for place in &places {
        let is_time = times.iter().any(|stat| places.get(*stat as usize) == Some(place));
        match place.kind {
            Kind::Codes => codes(&mut columns, place.name, &[*place]),
            _ if stats == GrpcStat::ALL => columns.push(Column(Source::Counted(*place))),
            _ if is_time && stats == ClusterStat::ALL => {
                columns.push(Column(Source::Sum(place.name, vec![*place])));
            }
            _ => columns.push(Column(Source::Stat(*place))),
        }
    }
    if stats == ClusterStat::ALL {
        let place = |stat: ClusterStat| places[stat as usize];
        let both = [place(ClusterStat::ExternalCodes), place(ClusterStat::InternalCodes)];
        codes(&mut columns, "", &both);
        let both = times.map(place).to_vec();
        columns.push(Column(Source::Sum("upstream_rq_time", both)));
    }
    if stats == ListenerStat::ALL {
        for stat in [ListenerStat::DownstreamCxTotal, ListenerStat::DownstreamCxActive] {
            columns.push(Column(Source::Workers(places[stat as usize])));
        }
    }
    if stats == ServerStat::ALL {
        columns.push(Column(Source::Workers(places[ServerStat::IoCompletions as usize])));
    }
    columns
}

impl Column {
    /// The name without its tag: of `upstream_rq_200` it is `upstream_rq`, of `upstream_rq_2xx` it
    /// is `upstream_rq_xx`.
    #[must_use]
    pub fn name(&self) -> Cow<'static, str> {
        match &self.0 {
            Source::Stat(place) => match class_in(place.name) {
                Some((stem, _)) => format!("{stem}_xx").into(),
                None => place.name.into(),
            },
            Source::Counted(place) => place.name.into(),
            Source::Workers(place) => worker_name(place.name, "worker_").into(),
            Source::Sum(name, _) => (*name).into(),
            Source::Codes(prefix, By::Completed, _) => {
                format!("{prefix}upstream_rq_completed").into()
            }
            Source::Codes(prefix, By::Class, _) => format!("{prefix}upstream_rq_xx").into(),
            Source::Codes(prefix, By::Code, _) => format!("{prefix}upstream_rq").into(),
            Source::Codes(prefix, By::Unknown, _) => format!("{prefix}upstream_rq_unknown").into(),
        }
    }

    /// What kind of tag its series have, with a value that means nothing.
    #[must_use]
    pub fn tag(&self) -> Option<Tag> {
        match &self.0 {
            Source::Stat(place) => class_in(place.name).map(|(_, class)| Tag::Class(class)),
            Source::Workers(_) => Some(Tag::Worker(0)),
            Source::Codes(_, By::Class, _) => Some(Tag::Class(0)),
            Source::Codes(_, By::Code, _) => Some(Tag::Code(0)),
            Source::Codes(_, By::Completed | By::Unknown, _)
            | Source::Sum(..)
            | Source::Counted(_) => None,
        }
    }

    /// What its series are.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match &self.0 {
            Source::Stat(place) | Source::Counted(place) | Source::Workers(place) => place.kind,
            Source::Codes(..) => Kind::Counter,
            Source::Sum(..) => Kind::Histogram,
        }
    }

    /// Reads its series of one scope.
    pub fn read(&self, registry: &Registry, of: &ShownScope, emit: &mut dyn FnMut(Sample)) {
        let scope = of.scope;
        match &self.0 {
            Source::Stat(place) => {
                let (value, used) = registry.read(place.kind, scope, place.index, place.block);
                if !used && SslStat::is_on_demand(place.name) {
                    return;
                }
                let tag = class_in(place.name).map(|(_, class)| Tag::Class(class));
                emit(Sample { stat: Cow::Borrowed(place.name), tag, value, used });
            }
            Source::Counted(place) => {
                let (value, used) = registry.read(place.kind, scope, place.index, place.block);
                if used {
                    let stat = Cow::Borrowed(place.name);
                    emit(Sample { stat, tag: None, value, used });
                }
            }
            Source::Workers(place) => {
                for shard in 0..registry.shards() {
                    let value = registry.read_shard(shard, place.kind, scope, place.index);
                    let stat = worker_name(place.name, &format!("worker_{shard}.")).into();
                    let tag = Some(Tag::Worker(shard));
                    emit(Sample { stat, tag, value, used: true });
                }
            }
            Source::Codes(prefix, by, sets) => {
                let mut codes = Codes::default();
                for set in sets {
                    codes.add(registry.codes(scope, set.index, set.block));
                }
                read_codes(prefix, *by, &codes, emit);
            }
            Source::Sum(name, parts) => {
                let mut sum = Histogram::default();
                for place in parts {
                    let value = registry.read(place.kind, scope, place.index, place.block).0;
                    if let Value::Histogram(part) = value {
                        sum.add(part);
                    }
                }
                if sum.count > 0 {
                    let (stat, value) = (Cow::Borrowed(*name), Value::Histogram(sum));
                    emit(Sample { stat, tag: None, value, used: true });
                }
            }
        }
    }
}

/// The shard's name stands before the last part of the stat's.
fn worker_name(stat: &str, worker: &str) -> String {
    let (scope, name) = stat.split_at(stat.rfind('.').map_or(0, |dot| dot + 1));
    format!("{scope}{worker}{name}")
}

/// Only what was counted has a series, as in Envoy.
fn read_codes(prefix: &str, by: By, codes: &Codes, emit: &mut dyn FnMut(Sample)) {
    let mut counter = |name: &str, tag, count| {
        if count > 0 {
            let (stat, value) = (format!("{prefix}{name}").into(), Value::Counter(count));
            emit(Sample { stat, tag, value, used: true });
        }
    };
    match by {
        By::Completed => counter("upstream_rq_completed", None, codes.total()),
        By::Class => {
            for class in 1..=5 {
                let name = format!("upstream_rq_{class}xx");
                counter(&name, Some(Tag::Class(class)), codes.class(class));
            }
        }
        By::Code => {
            for &(code, count) in codes.counts.iter().filter(|(code, _)| *code != 0) {
                counter(&format!("upstream_rq_{code}"), Some(Tag::Code(code)), count);
            }
        }
        By::Unknown => counter("upstream_rq_unknown", None, codes.class(0)),
    }
}

/// `upstream_rq_2xx` as `upstream_rq` and 2.
fn class_in(stat: &str) -> Option<(&str, u16)> {
    let (stem, class) = stat.strip_suffix("xx")?.rsplit_once('_')?;
    if !stem.ends_with("_rq") {
        return None;
    }
    Some((stem, class.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(registry: &Registry, name: &str) -> Option<Value> {
        registry.collect().into_iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    #[test]
    fn codes_make_series_only_where_they_were_counted() {
        let registry = Registry::new(2);
        let scope = registry.scope("cluster.a", ClusterStat::ALL);
        let named = |registry: &Registry, part: &str| {
            let all = registry.collect().into_iter();
            let found = all.filter(|(name, _)| name.contains(part));
            found.map(|(name, value)| format!("{name} {value:?}")).collect::<Vec<_>>()
        };
        assert_eq!(shown(&registry, "cluster.a.upstream_rq_completed"), None);
        registry.shard(0).charge(scope, ClusterStat::ExternalCodes, 200);
        registry.shard(1).charge(scope, ClusterStat::ExternalCodes, 200);
        registry.shard(1).charge(scope, ClusterStat::InternalCodes, 204);
        assert_eq!(
            named(&registry, "upstream_rq_2"),
            [
                "cluster.a.external.upstream_rq_200 Counter(2)",
                "cluster.a.external.upstream_rq_2xx Counter(2)",
                "cluster.a.internal.upstream_rq_204 Counter(1)",
                "cluster.a.internal.upstream_rq_2xx Counter(1)",
                "cluster.a.upstream_rq_200 Counter(2)",
                "cluster.a.upstream_rq_204 Counter(1)",
                "cluster.a.upstream_rq_2xx Counter(3)",
            ]
        );
        assert_eq!(shown(&registry, "cluster.a.upstream_rq_completed"), Some(Value::Counter(3)));
    }

    #[test]
    fn times_of_both_origins_are_one_histogram_too() {
        let registry = Registry::new(1);
        let scope = registry.scope("cluster.a", ClusterStat::ALL);
        registry.shard(0).record(scope, ClusterStat::ExternalRqTime, 3);
        registry.shard(0).record(scope, ClusterStat::InternalRqTime, 5);
        let Some(Value::Histogram(both)) = shown(&registry, "cluster.a.upstream_rq_time") else {
            panic!("not there");
        };
        assert_eq!((both.count, both.sum), (2, 8));
    }

    #[test]
    fn names_without_their_tags() {
        let names = |stats| columns(stats).iter().map(|c| c.name()).collect::<Vec<_>>();
        let cluster = names(ClusterStat::ALL);
        for name in ["external.upstream_rq_xx", "upstream_rq", "retry.upstream_rq_completed"] {
            assert!(cluster.iter().any(|other| other == name), "{name}");
        }
        assert!(names(crate::stats::HttpStat::ALL).iter().any(|name| name == "downstream_rq_xx"));
        assert_eq!(class_in("upstream_rq_2xx"), Some(("upstream_rq", 2)));
        assert_eq!(class_in("rq_xx"), None);
    }
}
