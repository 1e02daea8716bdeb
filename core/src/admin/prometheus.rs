//! `/stats/prometheus`: the text exposition format, with names and labels as Envoy makes them.
//!
//! What it leaves to others: which series there are (`metrics`).

use super::metrics::{Class, Group, Series, View, Wanted};
use super::pieces::Pieces;
use super::query::Query;
use super::settings::StatsSettings;
use super::stats_page::{Buckets, buckets, regex};
use super::{Admin, Reply};
use crate::stats::histogram::QUANTILES;
use crate::stats::registry::full_name;
use crate::stats::series::Tag;
use crate::stats::{Histogram, Kind, Sample, Value};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;

const CONTENT_TYPE: &str = "text/plain; charset=UTF-8";

/// `/stats/prometheus`
pub(super) fn page(admin: &Admin, query: &Query) -> Reply {
    let (filter, buckets) = match (regex(query), buckets_or_default(query)) {
        (Ok(filter), Ok(buckets)) => (filter, buckets),
        (Err(reply), _) | (_, Err(reply)) => return reply,
    };
    admin.flush_if_asked();
    let view = Arc::new(View::new(admin, Wanted::of(query, filter)));
    let plan = Plan::new(&view);
    let texts = plan.families.into_iter().flat_map({
        let (view, labels) = (view.clone(), Arc::new(plan.labels));
        move |(family, sources)| {
            family_texts(view.clone(), labels.clone(), family, sources, buckets)
        }
    });
    Reply { body: Pieces::parts(texts), content_type: CONTENT_TYPE, status: 200 }
}

/// Here, and only here, buckets are cumulative when nothing is said.
fn buckets_or_default(query: &Query) -> Result<Buckets, Reply> {
    match query.has("histogram_buckets") {
        true => buckets(query),
        false => Ok(Buckets::Cumulative),
    }
}

/// A family: counters, gauges, texts, histograms, in this order, and its name.
type Family = (u8, String);

/// A column of some groups; of its series only those with this name, if one is named.
type Entry = (Arc<[u32]>, usize, Option<String>);

/// Which columns of which groups make which families.
struct Plan {
    families: BTreeMap<Family, Vec<Entry>>,
    /// By group: what its scope says.
    labels: Vec<String>,
}

impl Plan {
    fn new(view: &View) -> Plan {
        let mut labels = Vec::with_capacity(view.groups.len());
        let mut classes: HashMap<(Class, String, u32), Vec<u32>> = HashMap::new();
        let fixed: Vec<_> =
            view.settings.fixed.iter().map(|(name, value)| label(&plain(name), value)).collect();
        for (place, group) in view.groups.iter().enumerate() {
            let (scope, own) = naming(&group.prefix, group.outer(), &view.settings);
            let own = own.iter().map(|(tag, value)| label(&plain(tag), value));
            let own: Vec<_> = fixed.iter().cloned().chain(own).collect();
            let place = place as u32;
            // A tag that is taken out of names can make each scope's families others.
            let apart = if view.settings.extracts() { place } else { 0 };
            classes.entry((group.class(), scope, apart)).or_default().push(place);
            labels.push(own.join(","));
        }
        let mut plan = Plan { families: BTreeMap::new(), labels };
        for ((_, scope, _), groups) in classes {
            let groups: Arc<[u32]> = groups.into();
            for column in 0..view.groups[groups[0] as usize].len() {
                plan.add(view, &scope, &groups, column);
            }
        }
        plan
    }

    fn add(&mut self, view: &View, scope: &str, groups: &Arc<[u32]>, column: usize) {
        let first = &view.groups[groups[0] as usize];
        if first.kind(column) == Kind::Text && !view.wanted.texts {
            return;
        }
        let order = order(first.kind(column));
        if first.tag(column).is_none_or(|tag| view.settings.has_default(tag_name(tag))) {
            let family = (order, family_name(view, first, scope, &first.name(column)));
            self.families.entry(family).or_default().push((groups.clone(), column, None));
            return;
        }
        // What would be a tag is a part of the name: which names there are only values tell.
        for &place in &**groups {
            let group = &view.groups[place as usize];
            view.read(group, column, &mut |_, sample| {
                let family = (order, family_name(view, group, scope, &sample.stat));
                let entry = (Arc::from([place]), column, Some(sample.stat.into_owned()));
                self.families.entry(family).or_default().push(entry);
            });
        }
    }
}

/// Counters, gauges, texts, then histograms.
fn order(kind: Kind) -> u8 {
    match kind {
        Kind::Counter | Kind::Codes => 0,
        Kind::Gauge => 1,
        Kind::Text => 2,
        Kind::Histogram => 3,
    }
}

fn family_name(view: &View, group: &Group, scope: &str, stat: &str) -> String {
    if !view.settings.extracts() {
        return plain(&format!("envoy_{scope}{stat}"));
    }
    let whole = full_name(&group.prefix, stat);
    let left = without(format!("{scope}{stat}"), view, &whole);
    plain(&format!("envoy_{left}"))
}

/// A name without what the user's own tags take out of the whole one.
fn without(mut name: String, view: &View, whole: &str) -> String {
    for found in view.settings.extract(whole) {
        let removed = &whole[found.place];
        if let Some(at) = name.find(removed) {
            name.replace_range(at..at + removed.len(), "");
        }
    }
    name
}

fn tag_name(tag: Tag) -> &'static str {
    match tag {
        Tag::Code(_) => CODE,
        Tag::Class(_) => CODE_CLASS,
        Tag::Worker(_) => WORKER,
    }
}

/// The texts of a family, group by group; nothing when it has no series.
fn family_texts(
    view: Arc<View>,
    labels: Arc<Vec<String>>,
    (order, name): Family,
    mut entries: Vec<Entry>,
    buckets: Buckets,
) -> impl Iterator<Item = String> + Send {
    let mut begun = false;
    entries.sort_by_key(|(groups, _, _)| groups[0]);
    let places = entries.into_iter().flat_map(|(groups, column, only)| {
        (0..groups.len()).map(move |i| (groups[i], column, only.clone()))
    });
    places.map(move |(place, column, only)| {
        let mut text = String::new();
        let group = &view.groups[place as usize];
        view.read(group, column, &mut |_, sample| {
            if only.as_ref().is_some_and(|only| *only != sample.stat) {
                return;
            }
            if !std::mem::replace(&mut begun, true) {
                let kind = match (order, buckets) {
                    (0, _) => "counter",
                    (1 | 2, _) => "gauge",
                    (_, Buckets::Summary) => "summary",
                    (..) => "histogram",
                };
                let _ = writeln!(text, "# TYPE {name} {kind}");
            }
            write_sample(&mut text, &view, &name, group, &labels[place as usize], &sample, buckets);
        });
        text
    })
}

fn write_sample(
    text: &mut String,
    view: &View,
    name: &str,
    group: &Group,
    labels: &str,
    sample: &Sample,
    buckets: Buckets,
) {
    let joined;
    let own = match sample.tag.filter(|tag| view.settings.has_default(tag_name(*tag))) {
        None => String::new(),
        Some(tag) => label(&plain(tag_name(tag)), &tag.value()),
    };
    let labels = if view.settings.extracts() {
        let whole = full_name(&group.prefix, &sample.stat);
        let found = view.settings.extract(&whole);
        // In Envoy's order: what can be anywhere in a name, then what is at its begin.
        let of = |at_begin: bool| {
            let found = found.iter().filter(move |one| one.at_begin == at_begin);
            found.map(|one| label(&plain(one.tag), one.value))
        };
        let all = (!own.is_empty()).then_some(own).into_iter();
        let scope = (!labels.is_empty()).then(|| labels.to_owned());
        joined = all.chain(of(false)).chain(scope).chain(of(true)).collect::<Vec<_>>().join(",");
        joined.as_str()
    } else if own.is_empty() {
        labels
    } else {
        joined = if labels.is_empty() { own } else { format!("{own},{labels}") };
        joined.as_str()
    };
    match &sample.value {
        Value::Counter(number) | Value::Gauge(number) => {
            let _ = writeln!(text, "{name}{{{labels}}} {number}");
        }
        // The text is a label of a gauge that is always 0.
        Value::Text(value) => {
            let comma = if labels.is_empty() { "" } else { "," };
            let value = label("text_value", value);
            let _ = writeln!(text, "{name}{{{labels}{comma}{value}}} 0");
        }
        Value::Histogram(histogram) => {
            let whole = full_name(&group.prefix, &sample.stat);
            let bounds = view.settings.bounds(&whole);
            write_histogram(text, name, labels, histogram, buckets, bounds);
        }
    }
}

fn write_histogram(
    text: &mut String,
    name: &str,
    labels: &str,
    histogram: &Histogram,
    buckets: Buckets,
    bounds: &[f64],
) {
    let comma = if labels.is_empty() { "" } else { "," };
    let count = histogram.count;
    if buckets == Buckets::Summary {
        for quantile in QUANTILES {
            let value = histogram.quantile(quantile);
            let value = value.map_or_else(|| "nan".to_owned(), |value| value.to_string());
            let _ = writeln!(text, "{name}{{{labels}{comma}quantile=\"{quantile}\"}} {value}");
        }
    } else {
        for &bound in bounds {
            let at_most = histogram.count_at_most(bound);
            let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {at_most}");
        }
        let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
    }
    let _ = writeln!(text, "{name}_sum{{{labels}}} {}", histogram.sum);
    let _ = writeln!(text, "{name}_count{{{labels}}} {count}");
}

/// What a scope puts before the names of its series, and its labels: Envoy's default tags. What a
/// tag holds is taken out of the name. The scope is known apart from the name, so a dot in a
/// cluster's name, or in that of a gRPC service, does no harm here as it does in Envoy. `outer` is
/// how long the prefix of the scope around it is.
fn naming<'p>(
    prefix: &'p str,
    outer: usize,
    settings: &StatsSettings,
) -> (String, Vec<(&'static str, &'p str)>) {
    let (around, within) = prefix.split_at(if outer > 0 { outer } else { prefix.len() });
    let parts = around.split_once('.').and_then(|(kind, value)| {
        Some(match (kind, value.split_once(".http.")) {
            ("listener", Some((address, manager))) => {
                vec![("listener", LISTENER, address), ("http", MANAGER, manager)]
            }
            ("cluster", _) => vec![("cluster", CLUSTER, value)],
            ("http", _) => http_parts(value),
            ("listener", None) => vec![("listener", LISTENER, value)],
            ("sds", _) => vec![("sds", XDS_RESOURCE, value)],
            _ => return None,
        })
    });
    let Some(parts) = parts else { return (format!("{prefix}."), Vec::new()) };
    let (mut scope, mut tags) = (String::new(), Vec::new());
    for (kind, tag, value) in parts.into_iter().chain(parts_within(within)) {
        scope.push_str(kind);
        scope.push_str(if kind.is_empty() { "" } else { "." });
        if tag.is_empty() {
            continue;
        }
        if settings.has_default(tag) {
            tags.insert(0, (tag, value));
        } else {
            scope.push_str(value);
            scope.push('.');
        }
    }
    (scope, tags)
}

/// What follows `http.`: a manager, and perhaps a subscription of it.
fn http_parts(value: &str) -> Vec<(&str, &'static str, &str)> {
    for (infix, kind, tag) in
        [(".rds.", "rds", ROUTES), (".scoped_rds.", "scoped_rds", SCOPED_ROUTES)]
    {
        if let Some((manager, name)) = value.split_once(infix) {
            return vec![("http", MANAGER, manager), (kind, tag, name)];
        }
    }
    vec![("http", MANAGER, value)]
}

/// What a scope adds to the one that it is within: that of a gRPC method to that of its cluster
/// `.grpc.service.method`, or `.grpc`; that of a stream to its subscription's `.control_plane`.
fn parts_within(within: &str) -> Vec<(&str, &'static str, &str)> {
    match within.strip_prefix(".grpc.").and_then(|names| names.rsplit_once('.')) {
        Some((service, method)) => {
            vec![("grpc", GRPC_SERVICE, service), ("", GRPC_METHOD, method)]
        }
        None if within.is_empty() => Vec::new(),
        None => vec![(within.trim_start_matches('.'), "", "")],
    }
}

/// Envoy's names of tags.
const CLUSTER: &str = "envoy.cluster_name";
const MANAGER: &str = "envoy.http_conn_manager_prefix";
const LISTENER: &str = "envoy.listener_address";
const GRPC_SERVICE: &str = "envoy.grpc_bridge_service";
const GRPC_METHOD: &str = "envoy.grpc_bridge_method";
const ROUTES: &str = "envoy.rds_route_config";
const SCOPED_ROUTES: &str = "envoy.scoped_rds_config";
const XDS_RESOURCE: &str = "envoy.xds_resource_name";
const CODE: &str = "envoy.response_code";
const CODE_CLASS: &str = "envoy.response_code_class";
const WORKER: &str = "envoy.worker_id";

/// A series' name without its tags, and the tags: for a sink that keeps them apart.
pub(super) fn tagged(view: &View, series: &Series) -> (String, Vec<(String, String)>) {
    let group = &view.groups[series.group];
    let (settings, stat) = (&view.settings, &series.sample.stat);
    let (scope, own) = naming(&group.prefix, group.outer(), settings);
    let mut tags: Vec<(String, String)> = Vec::new();
    let mut name = format!("{scope}{stat}");
    if let Some(tag) = series.sample.tag.filter(|tag| settings.has_default(tag_name(*tag))) {
        let value = tag.value();
        let removed = match tag {
            Tag::Code(_) => format!("_{value}"),
            Tag::Class(_) => value.clone(),
            Tag::Worker(_) => format!("{value}."),
        };
        if let Some(at) = name.rfind(&removed) {
            name.replace_range(at..at + removed.len(), "");
        }
        tags.push((tag_name(tag).to_owned(), value));
    }
    tags.extend(own.into_iter().map(|(tag, value)| (tag.to_owned(), value.to_owned())));
    for found in settings.extract(&series.name) {
        tags.push((found.tag.to_owned(), found.value.to_owned()));
    }
    let name = without(name, view, &series.name);
    tags.extend(settings.fixed.iter().cloned());
    (name, tags)
}

/// A name as Prometheus takes it.
fn plain(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    name.chars().map(plain).collect()
}

fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DefaultTags, StatsConfig};
    use crate::stats::histogram::BUCKET_BOUNDS;

    #[track_caller]
    fn check(prefix: &str, scope: &str, labels: &str) {
        let (name, own) = naming(prefix, 0, &StatsSettings::default());
        let own: Vec<_> = own.iter().map(|(tag, value)| label(&plain(tag), value)).collect();
        assert_eq!((name.as_str(), own.join(",").as_str()), (scope, labels));
    }

    #[test]
    fn scopes_and_labels_are_envoys() {
        check("cluster.one", "cluster.", "envoy_cluster_name=\"one\"");
        check("cluster.a.b", "cluster.", "envoy_cluster_name=\"a.b\"");
        check("http.ingress", "http.", "envoy_http_conn_manager_prefix=\"ingress\"");
        check("listener.127.0.0.1_80", "listener.", "envoy_listener_address=\"127.0.0.1_80\"");
        check(
            "listener.127.0.0.1_80.http.in",
            "listener.http.",
            "envoy_http_conn_manager_prefix=\"in\",envoy_listener_address=\"127.0.0.1_80\"",
        );
        check(
            "http.in.rds.a.b",
            "http.rds.",
            "envoy_rds_route_config=\"a.b\",envoy_http_conn_manager_prefix=\"in\"",
        );
        check(
            "http.in.scoped_rds.a",
            "http.scoped_rds.",
            "envoy_scoped_rds_config=\"a\",envoy_http_conn_manager_prefix=\"in\"",
        );
        check("sds.a.b", "sds.", "envoy_xds_resource_name=\"a.b\"");
        check("server", "server.", "");
        let none = StatsConfig { default_tags: DefaultTags::Only(vec![]), ..Default::default() };
        let grpc = |prefix| naming(prefix, "cluster.a.b".len(), &StatsSettings::default());
        let tags = [(GRPC_METHOD, "One"), (GRPC_SERVICE, "a.S"), (CLUSTER, "a.b")];
        assert_eq!(grpc("cluster.a.b.grpc.a.S.One"), ("cluster.grpc.".to_owned(), tags.to_vec()));
        let tags = [(CLUSTER, "a.b")];
        assert_eq!(grpc("cluster.a.b.grpc"), ("cluster.grpc.".to_owned(), tags.to_vec()));
        assert_eq!(naming("cluster.one", 0, &StatsSettings::new(&none)).0, "cluster.one.");
        assert_eq!(plain("envoy_cluster.circuit_breakers.cx"), "envoy_cluster_circuit_breakers_cx");
    }

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(label("a", "b\"c\\d\n"), "a=\"b\\\"c\\\\d\\n\"");
    }

    #[test]
    fn a_histogram_ends_with_infinity_sum_and_count() {
        let mut text = String::new();
        let histogram = Histogram::default();
        let (name, labels) = ("envoy_cluster_rq_time", "envoy_cluster_name=\"a\"");
        let bounds = &BUCKET_BOUNDS[..];
        write_histogram(&mut text, name, labels, &histogram, Buckets::Cumulative, bounds);
        assert!(
            text.contains("envoy_cluster_rq_time_bucket{envoy_cluster_name=\"a\",le=\"0.5\"} 0\n")
        );
        assert!(text.ends_with(
            "envoy_cluster_rq_time_bucket{envoy_cluster_name=\"a\",le=\"+Inf\"} 0\n\
             envoy_cluster_rq_time_sum{envoy_cluster_name=\"a\"} 0\n\
             envoy_cluster_rq_time_count{envoy_cluster_name=\"a\"} 0\n"
        ));
        write_histogram(&mut text, name, labels, &histogram, Buckets::Summary, bounds);
        assert!(text.contains("quantile=\"0.5\"} nan\n"));
    }
}
