//! Updates, warming and sharing, through [`Resources`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tidegate::config::{self, Source};
use tidegate::control::build::Prepared;
use tidegate::control::changes::Changes;
use tidegate::control::listeners::open_all;
use tidegate::control::names::{Answer, DnsName};
use tidegate::control::resources::{Action, Resources, WARMING_MAX};
use tidegate::snapshot::{ClusterEntry, ListenerEntry, Snapshot};
use tidegate::stats::{Registry, Value};
use tidegate_io::Instant;

/// Resources, the clock, and what they asked for.
struct Control {
    resources: Resources,
    registry: Arc<Registry>,
    now: Instant,
    snapshots: Vec<Snapshot>,
    asked: Vec<DnsName>,
    log: Vec<String>,
}

impl Control {
    fn new() -> Control {
        let registry = Arc::new(Registry::new(1));
        Control {
            resources: Resources::new(registry.clone(), 1),
            registry,
            now: Instant::default(),
            snapshots: Vec::new(),
            asked: Vec::new(),
            log: Vec::new(),
        }
    }

    fn update(&mut self, yaml: &str) -> Changes {
        let source = Source { name: "test.yaml".to_owned(), text: yaml.to_owned() };
        let loaded = config::load(&[source], &config::Options::default());
        let (bootstrap, _) = loaded.unwrap_or_else(|errors| panic!("{errors}\n{yaml}"));
        let sockets = open_all(&bootstrap.listeners, &self.resources.sockets(), 1).unwrap();
        let prepared =
            Prepared { bootstrap, sockets, access_logs: Vec::new(), tls: Default::default() };
        let changes = self.resources.handle_update(&prepared, self.now);
        self.act();
        changes
    }

    fn answer(&mut self, host: &str, answer: Answer) {
        let asked = self.asked.iter().position(|name| name.host == host);
        let name = self.asked.remove(asked.unwrap_or_else(|| panic!("`{host}` was not asked for")));
        self.resources.handle_answer(&name, answer, self.now);
        self.act();
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.resources.handle_timeout(self.now);
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.resources.poll_action() {
            match action {
                Action::Resolve(name) => self.asked.push(name),
                Action::Log(_, _, text) => self.log.push(text),
                Action::Publish(snapshot) => self.snapshots.push(snapshot),
            }
        }
    }

    fn last(&self) -> &Snapshot {
        self.snapshots.last().expect("nothing was published")
    }

    fn cluster(&self, name: &str) -> Option<Arc<ClusterEntry>> {
        self.last().clusters.iter().find(|entry| entry.config.name == name).cloned()
    }

    fn listener(&self, name: &str) -> Option<Arc<ListenerEntry>> {
        self.last().listeners.iter().find(|entry| entry.config.name == name).cloned()
    }

    fn hosts(&self, name: &str) -> Vec<String> {
        let cluster = self.cluster(name).unwrap_or_else(|| panic!("no cluster `{name}`"));
        cluster.endpoints.hosts.iter().map(|host| host.address.to_string()).collect()
    }

    fn number(&self, name: &str) -> u64 {
        match self.registry.collect().into_iter().find(|(stat, _)| stat == name) {
            Some((_, Value::Counter(number) | Value::Gauge(number))) => number,
            other => panic!("{name}: {other:?}"),
        }
    }
}

fn found(addresses: &[&str]) -> Answer {
    let addresses = addresses.iter().map(|ip| ip.parse::<IpAddr>().unwrap()).collect();
    Answer::Addresses { addresses, ttl: Some(Duration::from_secs(300)) }
}

fn failed() -> Answer {
    Answer::Failed("there is no such name (NXDOMAIN)".to_owned())
}

/// A listener on a free port that sends everything to `cluster`.
fn listener(name: &str, cluster: &str) -> String {
    format!(
        r#"
  - name: {name}
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          route_config:
            name: routes
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [ {{ match: {{ prefix: "/" }}, route: {{ cluster: {cluster} }} }} ]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}"#
    )
}

fn cluster(name: &str, kind: &str, hosts: &[&str], more: &str) -> String {
    let endpoint = |host: &&str| {
        format!(
            "{{ endpoint: {{ address: {{ socket_address: \
             {{ address: {host}, port_value: 80 }} }} }} }}"
        )
    };
    let endpoints: Vec<_> = hosts.iter().map(endpoint).collect();
    format!(
        "\n  - name: {name}\n    type: {kind}\n    \
         load_assignment: {{ cluster_name: {name}, endpoints: [ {{ \
         lb_endpoints: [ {} ] }} ] }}\n    {more}",
        endpoints.join(", ")
    )
}

fn bootstrap(listeners: &[String], clusters: &[String]) -> String {
    let list = |items: &[String]| if items.is_empty() { " []".to_owned() } else { items.concat() };
    format!("static_resources:\n  listeners:{}\n  clusters:{}\n", list(listeners), list(clusters))
}

#[test]
fn static_clusters_are_warm_at_once() {
    let mut control = Control::new();
    let one = cluster("one", "STATIC", &["10.0.0.1", "10.0.0.2", "10.0.0.1"], "");
    let changes = control.update(&bootstrap(&[listener("web", "one")], &[one]));
    assert_eq!(changes.to_string(), "cluster added: one; listener added: web");
    assert_eq!(control.last().version, 1);
    assert_eq!(control.hosts("one"), ["10.0.0.1:80", "10.0.0.2:80"], "no address twice");
    let web = control.listener("web").unwrap();
    assert_ne!(web.sockets.address.port(), 0);
    assert!(!control.last().draining);
    assert_eq!(control.number("cluster_manager.active_clusters"), 1);
    assert_eq!(control.number("listener_manager.total_listeners_active"), 1);
    assert_eq!(control.number("cluster.one.membership_total"), 2);
}

#[test]
fn nothing_is_published_before_names_were_asked_for_once() {
    let mut control = Control::new();
    let one = cluster("one", "STATIC", &["10.0.0.1"], "");
    let app = cluster("app", "STRICT_DNS", &["app", "127.0.0.9", "db"], "");
    control.update(&bootstrap(&[listener("web", "app")], &[one, app]));
    assert!(control.snapshots.is_empty());
    assert_eq!(control.resources.warming(), 1);
    control.answer("app", found(&["10.0.0.2", "10.0.0.1"]));
    assert!(control.snapshots.is_empty());
    control.answer("db", failed());
    assert_eq!(control.snapshots.len(), 1);
    assert_eq!(control.hosts("app"), ["10.0.0.1:80", "10.0.0.2:80", "127.0.0.9:80"]);
    assert_eq!(control.cluster("app").unwrap().endpoints.hosts[0].hostname, "app");
    let log = control.log.join("\n");
    assert!(log.contains("`db` of cluster app") && log.contains("503"), "{log}");
}

#[test]
fn a_lookup_that_never_ends_does_not_hold_the_start_for_ever() {
    let mut control = Control::new();
    let app = cluster("app", "STRICT_DNS", &["app"], "");
    control.update(&bootstrap(&[listener("web", "app")], &[app]));
    assert_eq!(control.resources.poll_timeout(), Some(Instant::default() + WARMING_MAX));
    control.pass(WARMING_MAX);
    assert_eq!(control.snapshots.len(), 1);
    assert!(control.hosts("app").is_empty());
    assert!(control.log[0].contains("cluster app"), "{:?}", control.log);
    control.answer("app", found(&["10.0.0.1"]));
    assert_eq!(control.hosts("app"), ["10.0.0.1:80"]);
}

#[test]
fn an_update_takes_over_as_a_whole_when_its_clusters_are_warm() {
    let mut control = Control::new();
    let old = cluster("a", "STATIC", &["10.0.0.1"], "");
    control.update(&bootstrap(&[listener("web", "a")], std::slice::from_ref(&old)));
    let app = cluster("app", "STRICT_DNS", &["app"], "");
    let a = cluster("a", "STATIC", &["10.0.0.9"], "");
    let changes = control.update(&bootstrap(&[listener("web", "app")], &[a, app]));
    assert_eq!(
        changes.to_string(),
        "cluster added: app; cluster modified: a; listener modified: web"
    );
    assert_eq!(control.snapshots.len(), 1, "the old configuration serves while `app` warms");
    assert_eq!(control.hosts("a"), ["10.0.0.1:80"]);
    control.answer("app", found(&["10.0.0.2"]));
    assert_eq!(control.snapshots.len(), 2);
    assert_eq!(control.hosts("a"), ["10.0.0.9:80"]);
    assert_eq!(control.hosts("app"), ["10.0.0.2:80"]);
    // Going back needs no lookup.
    control.update(&bootstrap(&[listener("web", "a")], &[old]));
    assert_eq!(control.snapshots.len(), 3);
    assert!(control.cluster("app").is_none());
}

#[test]
fn a_newer_update_replaces_one_that_waits() {
    let mut control = Control::new();
    let app = cluster("app", "STRICT_DNS", &["app"], "");
    control.update(&bootstrap(&[listener("web", "app")], &[app]));
    let one = cluster("one", "STATIC", &["10.0.0.1"], "");
    control.update(&bootstrap(&[listener("web", "one")], &[one]));
    assert_eq!(control.snapshots.len(), 1);
    assert!(control.cluster("app").is_none());
    control.answer("app", found(&["10.0.0.2"]));
    assert_eq!(control.snapshots.len(), 1, "an answer that nobody wants changes nothing");
    assert_eq!(control.resources.poll_timeout(), None);
}

#[test]
fn what_an_update_does_not_touch_is_the_same_object() {
    let mut control = Control::new();
    let a = cluster("a", "STATIC", &["10.0.0.1"], "");
    let b = |host| cluster("b", "STATIC", &[host, "10.0.1.9"], "");
    let listeners = [listener("one", "a"), listener("two", "b")];
    control.update(&bootstrap(&listeners, &[a.clone(), b("10.0.1.1")]));
    let before = (control.cluster("a").unwrap(), control.cluster("b").unwrap());
    let web = control.listener("one").unwrap();
    control.update(&bootstrap(&listeners, &[b("10.0.1.2"), a]));
    let after = (control.cluster("a").unwrap(), control.cluster("b").unwrap());
    assert!(Arc::ptr_eq(&before.0, &after.0));
    assert!(Arc::ptr_eq(&web, &control.listener("one").unwrap()));
    assert!(!Arc::ptr_eq(&before.1, &after.1));
    assert_eq!(before.1.id, after.1.id);
    assert!(Arc::ptr_eq(&before.1.breakers, &after.1.breakers), "permits outlive versions");
    assert_eq!(before.1.stats, after.1.stats);
    let stays = |entry: &ClusterEntry| entry.endpoints.hosts[1].clone();
    assert!(Arc::ptr_eq(&stays(&before.1), &stays(&after.1)));
    assert_ne!(before.1.endpoints.hosts[0].id, after.1.endpoints.hosts[0].id);
}

#[test]
fn a_changed_listener_keeps_its_sockets_and_number() {
    let mut control = Control::new();
    let clusters = ["a", "b"].map(|name| cluster(name, "STATIC", &["10.0.0.1"], ""));
    control.update(&bootstrap(&[listener("web", "a")], &clusters));
    let before = control.listener("web").unwrap();
    control.update(&bootstrap(&[listener("web", "b")], &clusters));
    let after = control.listener("web").unwrap();
    assert_eq!(before.id, after.id);
    assert!(Arc::ptr_eq(&before.sockets, &after.sockets));
    let http = |entry: &ListenerEntry| entry.chains[0].filter.http().unwrap().clone();
    assert!(!Arc::ptr_eq(&http(&before), &http(&after)));
    control.update(&bootstrap(&[], &clusters));
    assert!(control.listener("web").is_none());
}

#[test]
fn a_cluster_that_comes_back_has_its_number_and_its_stats() {
    let mut control = Control::new();
    let a = cluster("a", "STATIC", &["10.0.0.1"], "");
    control.update(&bootstrap(&[], std::slice::from_ref(&a)));
    let before = control.cluster("a").unwrap();
    let shown = |control: &Control| {
        control.registry.collect().iter().any(|(name, _)| name == "cluster.a.upstream_rq_total")
    };
    assert!(shown(&control));
    control.update(&bootstrap(&[], &[]));
    assert!(!shown(&control), "stats of a cluster that is gone are off the pages");
    control.update(&bootstrap(&[], &[a]));
    assert!(shown(&control));
    let after = control.cluster("a").unwrap();
    assert_eq!((before.id, before.stats), (after.id, after.stats));
    assert_eq!(before.endpoints.hosts[0].id, after.endpoints.hosts[0].id);
}

#[test]
fn addresses_follow_the_names() {
    let mut control = Control::new();
    let one = cluster("one", "STATIC", &["10.0.0.1"], "");
    let app = cluster("app", "STRICT_DNS", &["app"], "dns_refresh_rate: 2s");
    control.update(&bootstrap(&[], &[one, app]));
    control.answer("app", found(&["10.0.0.1", "10.0.0.2"]));
    let (before, one) = (control.cluster("app").unwrap(), control.cluster("one").unwrap());
    control.pass(Duration::from_secs(2));
    control.answer("app", found(&["10.0.0.2", "10.0.0.1"]));
    assert_eq!(control.snapshots.len(), 1, "the same addresses are no change");
    control.pass(Duration::from_secs(2));
    control.answer("app", failed());
    assert_eq!(control.snapshots.len(), 1, "a failure keeps the addresses");
    control.pass(Duration::from_secs(2));
    control.answer("app", found(&["10.0.0.2", "10.0.0.3"]));
    assert_eq!(control.hosts("app"), ["10.0.0.2:80", "10.0.0.3:80"]);
    let after = control.cluster("app").unwrap();
    assert!(Arc::ptr_eq(&before.endpoints.hosts[1], &after.endpoints.hosts[0]));
    assert!(Arc::ptr_eq(&one, &control.cluster("one").unwrap()));
    control.pass(Duration::from_secs(2));
    control.answer("app", found(&[]));
    assert!(control.hosts("app").is_empty(), "an empty answer is an answer");
    assert_eq!(control.snapshots.len(), 3);
    assert_eq!(control.number("cluster.app.update_failure"), 1);
    assert_eq!(control.number("cluster.app.update_empty"), 1);
    assert_eq!(control.number("cluster.app.update_no_rebuild"), 1);
    assert_eq!(control.number("cluster.app.membership_change"), 3);
}

#[test]
fn a_name_that_two_clusters_use_is_asked_for_once() {
    let mut control = Control::new();
    let clusters = ["a", "b"].map(|name| cluster(name, "STRICT_DNS", &["app", "app"], ""));
    control.update(&bootstrap(&[], &clusters));
    assert_eq!(control.asked.len(), 1);
    control.answer("app", found(&["10.0.0.1"]));
    assert_eq!(control.hosts("a"), ["10.0.0.1:80"]);
    assert_eq!(control.hosts("b"), ["10.0.0.1:80"]);
    let hosts = |name| control.cluster(name).unwrap().endpoints.hosts[0].id;
    assert_ne!(hosts("a"), hosts("b"));
    assert_eq!(control.snapshots.len(), 1);
}

#[test]
fn a_changed_cluster_serves_its_old_version_until_the_new_one_is_warm() {
    let mut control = Control::new();
    control.update(&bootstrap(&[], &[cluster("app", "STRICT_DNS", &["old"], "")]));
    control.answer("old", found(&["10.0.0.1"]));
    control.update(&bootstrap(&[], &[cluster("app", "STRICT_DNS", &["new"], "")]));
    assert_eq!(control.hosts("app"), ["10.0.0.1:80"]);
    control.pass(Duration::from_secs(5));
    control.answer("old", found(&["10.0.0.2"]));
    assert_eq!(control.hosts("app"), ["10.0.0.2:80"], "the old version still follows its name");
    control.answer("new", found(&["10.0.9.1"]));
    assert_eq!(control.hosts("app"), ["10.0.9.1:80"]);
    // A change that keeps the names is warm at once.
    let more = "connect_timeout: 1s";
    control.update(&bootstrap(&[], &[cluster("app", "STRICT_DNS", &["new"], more)]));
    assert_eq!(control.cluster("app").unwrap().config.connect_timeout, Duration::from_secs(1));
    assert_eq!(control.hosts("app"), ["10.0.9.1:80"]);
}

#[test]
fn an_update_without_changes_says_so_and_shares_everything() {
    let mut control = Control::new();
    let yaml = bootstrap(&[listener("web", "a")], &[cluster("a", "STATIC", &["10.0.0.1"], "")]);
    control.update(&yaml);
    let before = (control.cluster("a").unwrap(), control.listener("web").unwrap());
    assert_eq!(control.update(&yaml).to_string(), "nothing changed");
    assert!(Arc::ptr_eq(&before.0, &control.cluster("a").unwrap()));
    assert!(Arc::ptr_eq(&before.1, &control.listener("web").unwrap()));
}

#[test]
fn draining_and_stopping_listeners() {
    let mut control = Control::new();
    let yaml = bootstrap(&[listener("web", "a")], &[cluster("a", "STATIC", &["10.0.0.1"], "")]);
    control.update(&yaml);
    control.resources.stop_listeners(false);
    control.act();
    assert!(control.last().listeners.is_empty() && !control.last().draining);
    control.update(&yaml);
    assert!(control.last().listeners.is_empty(), "stopped listeners stay stopped");
    control.resources.drain();
    control.act();
    assert!(control.last().draining);
    let versions: Vec<_> = control.snapshots.iter().map(|snapshot| snapshot.version).collect();
    assert_eq!(versions, [1, 2, 3, 4]);
}

#[test]
fn a_logical_host_stays_the_same_host_when_its_address_changes() {
    let mut control = Control::new();
    let app = cluster("app", "LOGICAL_DNS", &["app"], "");
    control.update(&bootstrap(&[listener("web", "app")], &[app]));
    control.answer("app", found(&["10.0.0.2", "10.0.0.1"]));
    assert_eq!(control.hosts("app"), ["10.0.0.2:80"], "the first address only");
    let before = control.cluster("app").unwrap().endpoints.hosts[0].clone();
    assert_eq!(before.hostname, "app");
    assert_eq!(control.number("cluster.app.membership_change"), 1);
    control.pass(Duration::from_secs(5));
    control.answer("app", found(&["10.0.0.1", "10.0.0.2"]));
    assert_eq!(control.hosts("app"), ["10.0.0.1:80"]);
    let after = control.cluster("app").unwrap().endpoints.hosts[0].clone();
    assert_eq!((after.id, after.stats), (before.id, before.stats));
    assert_eq!(control.number("cluster.app.membership_change"), 1);
    for answer in [found(&[]), failed()] {
        control.pass(Duration::from_secs(5));
        control.answer("app", answer);
        assert_eq!(control.hosts("app"), ["10.0.0.1:80"], "it never loses its address");
    }
}

#[test]
fn a_cluster_that_does_not_wait_is_there_at_once() {
    let mut control = Control::new();
    let app = cluster("app", "STRICT_DNS", &["app"], "wait_for_warm_on_init: false");
    control.update(&bootstrap(&[listener("web", "app")], &[app]));
    assert_eq!(control.snapshots.len(), 1);
    assert!(control.hosts("app").is_empty());
    control.answer("app", found(&["10.0.0.2"]));
    assert_eq!(control.hosts("app"), ["10.0.0.2:80"]);
}

#[test]
fn an_update_of_the_rules_changes_who_is_picked() {
    let mut control = Control::new();
    let one = |more: &str| cluster("one", "STATIC", &["10.0.0.1", "10.0.0.2"], more);
    control.update(&bootstrap(&[listener("web", "one")], &[one("")]));
    let before = control.cluster("one").unwrap();
    let calm = "common_lb_config: { healthy_panic_threshold: { value: 0 } }";
    control.update(&bootstrap(&[listener("web", "one")], &[one(calm)]));
    let after = control.cluster("one").unwrap();
    assert_eq!(after.endpoints.rules.healthy_panic_percent, 0);
    assert!(Arc::ptr_eq(&before.endpoints.hosts[0], &after.endpoints.hosts[0]));
    let limited = "circuit_breakers: { per_host_thresholds: [{ max_connections: 1 }] }";
    control.update(&bootstrap(&[listener("web", "one")], &[one(limited)]));
    let host = control.cluster("one").unwrap().endpoints.hosts[0].clone();
    assert_eq!(host.id, before.endpoints.hosts[0].id);
    assert!(host.connections.is_some() && before.endpoints.hosts[0].connections.is_none());
}
