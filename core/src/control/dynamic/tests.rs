//! What came, in any order, and what it makes.

use super::*;
use crate::config::{Options, Source, load};
use proptest::prelude::*;
use std::time::Duration;
use tidegate_io::Instant;

const ADS: &str = "{ ads: {}, resource_api_version: V3 }";
const HTTP: &str = "type.googleapis.com/envoy.extensions.filters";

fn bootstrap() -> Bootstrap {
    let text = format!(
        "
node: {{ id: a, cluster: b }}
dynamic_resources:
  ads_config:
    api_type: GRPC
    transport_api_version: V3
    grpc_services: [{{ envoy_grpc: {{ cluster_name: xds }} }}]
  cds_config: {ADS}
  lds_config: {ADS}
static_resources:
  clusters:
  - name: xds
    load_assignment: {{ cluster_name: xds }}"
    );
    let source = Source { name: "x".into(), text };
    load(&[source], &Options::default()).unwrap_or_else(|errors| panic!("{errors}")).0
}

fn cluster(name: &str) -> String {
    format!("{{ name: {name}, type: EDS, eds_cluster_config: {{ eds_config: {ADS} }} }}")
}

fn listener(name: &str, port: u16) -> String {
    format!(
        "
name: {name}
address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
filter_chains:
- filters:
  - name: h
    typed_config:
      '@type': {HTTP}.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: s
      rds: {{ route_config_name: {name}, config_source: {ADS} }}
      http_filters:
      - name: router
        typed_config: {{ '@type': {HTTP}.http.router.v3.Router }}"
    )
}

fn routes(name: &str, cluster: &str) -> String {
    format!(
        "{{ name: {name}, virtual_hosts: [{{ name: v, domains: ['*'], routes: [{{ match: {{ \
         prefix: / }}, route: {{ cluster: {cluster} }} }}] }}] }}"
    )
}

fn assignment(name: &str, port: u16) -> String {
    format!(
        "{{ cluster_name: {name}, endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ \
         socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }}] }}] }}"
    )
}

struct Scene {
    bootstrap: Bootstrap,
    dynamic: Dynamic,
    now: Instant,
}

impl Scene {
    fn new() -> Scene {
        let (bootstrap, now) = (bootstrap(), Instant::default() + Duration::from_secs(1));
        Scene { bootstrap, dynamic: Dynamic::default(), now }
    }

    fn take(&mut self, kind: ResourceKind, texts: &[String], whole: bool) -> Taken {
        let read = texts.iter().map(|text| {
            let source = Source { name: "x".into(), text: text.clone() };
            let read = Resource::read(kind, &source, &ResourceContext::default());
            let name = read.as_ref().map_or("bad".to_owned(), |(it, _)| it.name().to_owned());
            let raw = Raw::Json(text.clone());
            let received = Received { name, version: "1".into(), at_unix_us: 0, raw };
            (received, read.map(|(resource, _)| resource))
        });
        let read = read.collect();
        self.dynamic.handle_response(kind, read, &[], whole, &self.bootstrap)
    }

    fn gets(&mut self, kind: ResourceKind, texts: &[String]) {
        let whole = matches!(kind, ResourceKind::Cluster | ResourceKind::Listener);
        let taken = self.take(kind, texts, whole);
        assert_eq!(taken.reasons(), None);
    }

    fn whole(&mut self) -> Whole {
        let wanted = self.dynamic.wanted(&self.bootstrap);
        self.dynamic.forget_unused(&wanted);
        let mut whole = self.dynamic.whole(&self.bootstrap, self.now);
        self.dynamic.serves(std::mem::take(&mut whole.serving));
        whole
    }

    /// Names of clusters that came and of listeners, and what waits.
    fn shown(&mut self) -> (String, String, String) {
        let whole = self.whole();
        let clusters = whole.bootstrap.clusters.iter().map(|it| it.name.clone());
        let clusters: Vec<_> = clusters.filter(|name| name != "xds").collect();
        let listeners: Vec<_> =
            whole.bootstrap.listeners.iter().map(|it| it.name.clone()).collect();
        let waiting: Vec<_> = whole
            .waiting
            .iter()
            .map(|(name, missing)| format!("{name}: {}", missing.join(", ")))
            .collect();
        (clusters.join(" "), listeners.join(" "), waiting.join("; "))
    }

    /// The cluster that the listener's routes name.
    fn routed(&mut self) -> Option<String> {
        let whole = self.whole();
        let chains = whole.bootstrap.listeners.first()?.chains().next()?;
        chains.filter.cluster_names().next().map(str::to_owned)
    }
}

fn shown(clusters: &str, listeners: &str, waiting: &str) -> (String, String, String) {
    (clusters.to_owned(), listeners.to_owned(), waiting.to_owned())
}

#[test]
fn what_is_not_complete_is_not_there() {
    let mut scene = Scene::new();
    scene.gets(ResourceKind::Cluster, &[cluster("a")]);
    scene.gets(ResourceKind::Listener, &[listener("l", 1)]);
    let waits = "cluster `a`: assignment `a`; listener `l`: routes `l`";
    assert_eq!(scene.shown(), shown("", "", waits));
    scene.gets(ResourceKind::RouteConfiguration, &[routes("l", "a")]);
    let waits = "cluster `a`: assignment `a`; listener `l`: cluster `a`";
    assert_eq!(scene.shown(), shown("", "", waits));
    scene.gets(ResourceKind::ClusterLoadAssignment, &[assignment("a", 1)]);
    assert_eq!(scene.shown(), shown("a", "l", ""));
}

#[test]
fn waiting_ends_with_the_first_fetch() {
    let mut scene = Scene::new();
    scene.gets(ResourceKind::Cluster, &[cluster("a")]);
    scene.gets(ResourceKind::Listener, &[listener("l", 1)]);
    scene.shown();
    scene.dynamic.handle_timeout(ResourceKind::ClusterLoadAssignment, &["a".into()]);
    scene.dynamic.handle_timeout(ResourceKind::RouteConfiguration, &["l".into()]);
    assert_eq!(scene.shown(), shown("a", "l", ""));
}

#[test]
fn routes_wait_for_a_cluster_for_a_bounded_time() {
    let mut scene = Scene::new();
    scene.gets(ResourceKind::Cluster, &[cluster("a")]);
    scene.gets(ResourceKind::ClusterLoadAssignment, &[assignment("a", 1)]);
    scene.gets(ResourceKind::Listener, &[listener("l", 1)]);
    scene.gets(ResourceKind::RouteConfiguration, &[routes("l", "a")]);
    assert_eq!(scene.routed().as_deref(), Some("a"));
    scene.gets(ResourceKind::Cluster, &[cluster("a"), cluster("b")]);
    scene.gets(ResourceKind::RouteConfiguration, &[routes("l", "b")]);
    assert_eq!(scene.routed().as_deref(), Some("a"));
    scene.now = scene.dynamic.poll_timeout().expect("it waits");
    assert_eq!(scene.routed().as_deref(), Some("b"));
    assert_eq!(scene.dynamic.poll_timeout(), None);
}

#[test]
fn a_removed_cluster_stays_while_it_is_named_for_a_bounded_time() {
    let mut scene = Scene::new();
    scene.gets(ResourceKind::Cluster, &[cluster("a")]);
    scene.gets(ResourceKind::ClusterLoadAssignment, &[assignment("a", 1)]);
    scene.gets(ResourceKind::Listener, &[listener("l", 1)]);
    scene.gets(ResourceKind::RouteConfiguration, &[routes("l", "a")]);
    assert_eq!(scene.shown(), shown("a", "l", ""));
    scene.gets(ResourceKind::Cluster, &[]);
    assert_eq!(scene.shown(), shown("a", "l", ""));
    scene.now = scene.dynamic.poll_timeout().expect("it is about to leave");
    assert_eq!(scene.shown(), shown("", "l", ""));
    // It comes back, goes, and the routes change.
    scene.gets(ResourceKind::Cluster, &[cluster("a"), cluster("b")]);
    let both = [assignment("a", 1), assignment("b", 1)];
    scene.gets(ResourceKind::ClusterLoadAssignment, &both);
    assert_eq!(scene.shown(), shown("a b", "l", ""));
    scene.gets(ResourceKind::Cluster, &[cluster("b")]);
    assert_eq!(scene.shown(), shown("b a", "l", ""));
    scene.gets(ResourceKind::RouteConfiguration, &[routes("l", "b")]);
    assert_eq!(scene.shown(), shown("b", "l", ""));
    assert_eq!(scene.dynamic.poll_timeout(), None);
}

#[test]
fn the_valid_ones_of_a_bad_response_count() {
    let mut scene = Scene::new();
    let bad = "{ name: bad, lb_policy: MAGLEV }".to_owned();
    let twice = cluster("twice");
    let all = [cluster("a"), bad, twice.clone(), twice];
    let taken = scene.take(ResourceKind::Cluster, &all, true);
    let names: Vec<_> = taken.accepted.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["a"]);
    let reasons = taken.reasons().expect("it was refused");
    assert!(reasons.contains("lb_policy") && reasons.contains("`twice`: it is there"), "{reasons}");
}

#[test]
fn what_the_bootstrap_has_stays() {
    let mut scene = Scene::new();
    let taken = scene.take(ResourceKind::Cluster, &[cluster("xds")], true);
    assert_eq!(taken.reasons(), None);
    let whole = scene.whole();
    assert_eq!(whole.bootstrap.clusters.len(), 1);
    assert!(!whole.bootstrap.clusters[0].added_via_api);
}

#[test]
fn what_is_the_same_is_the_same_allocation() {
    let mut scene = Scene::new();
    scene.gets(ResourceKind::Cluster, &[cluster("a"), cluster("b")]);
    let both = [assignment("a", 1), assignment("b", 1)];
    scene.gets(ResourceKind::ClusterLoadAssignment, &both);
    scene.gets(ResourceKind::Listener, &[listener("l", 1)]);
    scene.gets(ResourceKind::RouteConfiguration, &[routes("l", "a")]);
    let before = scene.whole().bootstrap;
    scene.gets(ResourceKind::ClusterLoadAssignment, &[assignment("b", 2)]);
    let after = scene.whole().bootstrap;
    assert!(Arc::ptr_eq(&before.clusters[1], &after.clusters[1]));
    assert!(!Arc::ptr_eq(&before.clusters[2], &after.clusters[2]));
    assert!(Arc::ptr_eq(&before.listeners[0], &after.listeners[0]));
}

#[test]
fn what_is_taken_back_is_as_if_it_had_not_come() {
    let mut scene = Scene::new();
    scene.gets(ResourceKind::Cluster, &[cluster("a"), cluster("b")]);
    let both = [assignment("a", 1), assignment("b", 1)];
    scene.gets(ResourceKind::ClusterLoadAssignment, &both);
    scene.gets(ResourceKind::Listener, &[listener("l", 1)]);
    scene.gets(ResourceKind::RouteConfiguration, &[routes("l", "a")]);
    let before = scene.whole().bootstrap;
    for (kind, texts) in [
        (ResourceKind::Cluster, vec![cluster("c")]),
        (ResourceKind::ClusterLoadAssignment, vec![assignment("a", 9)]),
        (ResourceKind::Listener, vec![listener("l", 7), listener("m", 8)]),
        (ResourceKind::RouteConfiguration, vec![routes("l", "b")]),
    ] {
        scene.gets(kind, &texts);
        scene.dynamic.take_back();
        assert_eq!(scene.whole().bootstrap, before, "{kind:?}");
        assert!(scene.dynamic.is_assigned(&scene.bootstrap, "a"), "{kind:?}");
    }
    scene.gets(ResourceKind::Cluster, &[cluster("c")]);
    assert_ne!(scene.whole().bootstrap, before);
}

#[test]
fn a_newer_assignment_changes_only_its_clusters() {
    let mut scene = Scene::new();
    scene.gets(ResourceKind::Cluster, &[cluster("a"), cluster("b")]);
    scene.gets(ResourceKind::ClusterLoadAssignment, &[assignment("a", 1)]);
    assert_eq!(scene.shown(), shown("a", "", "cluster `b`: assignment `b`"));
    assert!(
        scene.dynamic.is_assigned(&scene.bootstrap, "a")
            && !scene.dynamic.is_assigned(&scene.bootstrap, "b")
    );
    scene.gets(ResourceKind::ClusterLoadAssignment, &[assignment("a", 2)]);
    let changed = scene.dynamic.assigned(&scene.bootstrap, "a");
    assert_eq!(changed.len(), 1);
    assert_eq!(scene.dynamic.assigned(&scene.bootstrap, "a").len(), 0);
    let whole = scene.whole().bootstrap;
    assert!(Arc::ptr_eq(&whole.clusters[1], &changed[0]));
}

#[derive(Clone, Debug)]
enum Step {
    Clusters(u8),
    Assignment(u8),
    Listeners(u8),
    Routes(u8, u8),
    Timeout(u8),
    Later(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..8u8).prop_map(Step::Clusters),
        (0..3u8).prop_map(Step::Assignment),
        (0..4u8).prop_map(Step::Listeners),
        (0..2u8, 0..3u8).prop_map(|(listener, cluster)| Step::Routes(listener, cluster)),
        (0..5u8).prop_map(Step::Timeout),
        (0..20u8).prop_map(Step::Later),
    ];
    proptest::collection::vec(step, 1..40)
}

fn picked(bits: u8, of: impl Fn(u8) -> String) -> Vec<String> {
    (0..3).filter(|bit| bits & (1 << bit) != 0).map(of).collect()
}

proptest! {
    /// In any order: nothing new serves that names a cluster which is on its way, unless that has
    /// lasted too long, and nothing that has served stops serving though the server still has it.
    #[test]
    fn nothing_serves_half(steps in steps()) {
        let mut scene = Scene::new();
        let mut served: BTreeMap<String, Arc<Listener>> = BTreeMap::new();
        let mut waits_since: BTreeMap<String, Instant> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Clusters(bits) => {
                    scene.gets(ResourceKind::Cluster, &picked(bits, |n| cluster(&format!("c{n}"))));
                }
                Step::Assignment(n) => {
                    let text = assignment(&format!("c{n}"), 1);
                    scene.gets(ResourceKind::ClusterLoadAssignment, &[text]);
                }
                Step::Listeners(bits) => {
                    let of = |n| listener(&format!("l{n}"), 1 + u16::from(n));
                    scene.gets(ResourceKind::Listener, &picked(bits, of));
                }
                Step::Routes(l, c) => {
                    let text = routes(&format!("l{l}"), &format!("c{c}"));
                    scene.gets(ResourceKind::RouteConfiguration, &[text]);
                }
                Step::Timeout(n) => {
                    let kind = ResourceKind::ClusterLoadAssignment;
                    scene.dynamic.handle_timeout(kind, &[format!("c{n}")]);
                }
                Step::Later(seconds) => {
                    scene.now = scene.now + Duration::from_secs(u64::from(seconds));
                }
            }
            let whole = scene.whole();
            let names: BTreeSet<&str> =
                whole.bootstrap.clusters.iter().map(|it| it.name.as_str()).collect();
            prop_assert_eq!(names.len(), whole.bootstrap.clusters.len());
            for listener in &whole.bootstrap.listeners {
                let before = served.get(&listener.name);
                // What came back to what serves is nothing new.
                if before == Some(listener) {
                    continue;
                }
                let since = waits_since.get(&listener.name);
                let is_late = since.is_some_and(|at| scene.now >= *at + Duration::from_secs(15));
                for name in listener.chains().flat_map(|chain| chain.filter.cluster_names()) {
                    let is_on_its_way = whole.waiting.contains_key(&format!("cluster `{name}`"));
                    prop_assert!(!is_on_its_way || names.contains(name) || is_late);
                }
            }
            for name in served.keys() {
                let is_there = whole.bootstrap.listeners.iter().any(|it| it.name == *name);
                let is_wanted = scene.dynamic.listeners.contains_key(name);
                prop_assert!(is_there || !is_wanted, "{} is gone", name);
            }
            let listeners = whole.bootstrap.listeners.iter();
            served = listeners.map(|it| (it.name.clone(), it.clone())).collect();
            let waits = |name: &str| whole.waiting.contains_key(&format!("listener `{name}`"));
            waits_since.retain(|name, _| waits(name));
            for name in ["l0", "l1"].into_iter().filter(|name| waits(name)) {
                waits_since.entry(name.to_owned()).or_insert(scene.now);
            }
        }
    }
}
