//! The real control thread, to which steps happen, and what can be seen of it.
//!
//! What it leaves to others: what must be seen (`expected`).

use super::expected::{Expected, Open, Shown, Warm};
use super::steps::{Content, Pair, Step, bootstrap, resource};
use crate::admin::Admin;
use crate::config::{Options, ResourceKind, Source, load};
use crate::control::dns::Dns;
use crate::control::xds::StreamId;
use crate::control::{ConfigSource, Control, ControlOptions, ServerState};
use crate::snapshot::{Publisher, Snapshot};
use crate::stats::Registry;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tidegate_xds::{
    Body, Client, Disconnected, Event, Interest, Limits, Node, Resource, ResourceType, Response,
    Scope, Settings, Variant,
};
use tokio::runtime::Runtime;
use tokio::time::Instant;

type Map<T> = BTreeMap<String, T>;

/// One process after another.
pub struct World {
    runtime: Runtime,
    /// Somebody else's port.
    taken: TcpListener,
    pairs: Vec<Pair>,
    /// A response of the protocol: what it holds is replaced.
    response: Response,
    running: Option<(Control, Arc<Admin>)>,
    now_s: u64,
}

impl World {
    pub fn new() -> World {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let pairs = (0..3).map(|_| {
            let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
            (made.cert.pem(), made.signing_key.serialize_pem())
        });
        World {
            runtime: runtime.unwrap(),
            taken: TcpListener::bind("127.0.0.1:0").unwrap(),
            pairs: pairs.collect(),
            response: any_response(),
            running: None,
            now_s: 0,
        }
    }

    /// A new process, to which nothing has happened.
    pub fn restart(&mut self) {
        let _context = self.runtime.enter();
        let source = Source { name: "bootstrap".into(), text: bootstrap() };
        let bootstrap = load(&[source], &Options::default()).unwrap().0;
        let publisher = Arc::new(Publisher::new(Snapshot::default()));
        let (registry, state) = (Arc::new(Registry::new(1)), Arc::new(ServerState::default()));
        let options = ControlOptions {
            source: ConfigSource::default(),
            shards: 1,
            drain_time: Duration::ZERO,
            dns_resolver: None,
            registry: registry.clone(),
            publisher: publisher.clone(),
            state: state.clone(),
        };
        let mut control = Control::new(options, bootstrap).unwrap();
        control.ask();
        let admin = Admin {
            publisher,
            registry,
            state,
            commands: control.commands(),
            concurrency: 1,
            command_line_options: Value::Null,
            baseline: Default::default(),
            intervals: Default::default(),
            settings: Default::default(),
            flush: std::sync::mpsc::sync_channel(1).0,
            flush_on_admin: false,
        };
        (self.running, self.now_s) = (Some((control, Arc::new(admin))), 0);
    }

    /// A step happens.
    pub fn take(&mut self, step: &Step) {
        let _context = self.runtime.enter();
        let event = match step {
            Step::Response { kind, sent, removed, whole } => {
                let port = self.taken.local_addr().unwrap().port();
                let resources = sent.iter().map(|one| Resource {
                    name: Some(one.name.clone()),
                    version: one.version.clone(),
                    aliases: Vec::new(),
                    ttl: None,
                    body: Body::Json(resource(*kind, one, port, &self.pairs)),
                });
                Some(Event::Response(Response {
                    kind: resource_type(*kind),
                    resources: resources.collect(),
                    removed: removed.clone(),
                    whole: *whole,
                    ..self.response.clone()
                }))
            }
            Step::TimedOut(kind, names) => {
                Some(Event::FetchTimedOut { kind: resource_type(*kind), names: names.clone() })
            }
            Step::Expired(kind, names) => {
                Some(Event::Expired { kind: resource_type(*kind), names: names.clone() })
            }
            Step::Disconnected => Some(Event::Disconnected(Disconnected {
                text: "gone".into(),
                warn: false,
                failed: true,
                retry_in: Duration::ZERO,
            })),
            Step::Later(seconds) => {
                self.now_s += seconds;
                None
            }
        };
        let (control, _) = self.running.as_mut().unwrap();
        // It is that late since the start, whatever clocks say.
        control.started = Instant::now() - Duration::from_secs(self.now_s);
        match event {
            Some(event) => control.handle_discovery(StreamId::NONE, event),
            None => control.handle_discovery_timeout(),
        }
        let (sender, _) = tokio::sync::mpsc::channel(1);
        control.carry_out(&mut Dns::new(None, sender));
    }

    /// `Err`: what is not as it must be.
    pub fn compare(&self, expected: &mut Expected) -> Result<(), String> {
        let (control, admin) = self.running.as_ref().unwrap();
        let snapshot = control.options.publisher.load();
        same("clusters", &clusters(&snapshot), &expected.clusters())?;
        same("listeners", &listeners(&snapshot), expected.listeners())?;
        same("/init_dump", &waiting(admin), &expected.waiting)?;
        let dump = page(admin, "/config_dump");
        for kind in [
            ResourceKind::Cluster,
            ResourceKind::Listener,
            ResourceKind::RouteConfiguration,
            ResourceKind::Secret,
        ] {
            let states = expected.shown(kind).into_iter().map(|(name, shown)| {
                let noun = if kind == ResourceKind::Cluster { "cluster" } else { "listener" };
                let waits = expected.waiting.contains_key(&format!("{noun} `{name}`"));
                let waits = waits && matches!(kind, ResourceKind::Cluster | ResourceKind::Listener);
                (name, (waits, shown))
            });
            same(&format!("/config_dump {kind:?}"), &shown(&dump, kind), &states.collect())?;
        }
        Ok(())
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, must: &T) -> Result<(), String> {
    match is == must {
        true => Ok(()),
        false => Err(format!("{what}\n  is   {is:?}\n  must {must:?}")),
    }
}

fn clusters(snapshot: &Snapshot) -> Map<Warm> {
    let entries = snapshot.clusters.iter().filter(|entry| entry.config.name != "xds");
    let warm = entries.map(|entry| {
        let number = entry.config.connect_timeout.as_secs() as u8 - 1;
        let port = entry.endpoints.hosts.first().map(|host| (host.address.port() - 1000) as u8);
        (entry.config.name.clone(), (number, port))
    });
    warm.collect()
}

fn listeners(snapshot: &Snapshot) -> Map<Open> {
    let open = snapshot.listeners.iter().map(|entry| {
        let http = entry.chains[0].filter.http().unwrap();
        let content = match http.config.stat_prefix.strip_prefix('p') {
            Some(number) => Content::Good(number.parse().unwrap()),
            None => Content::Taken,
        };
        let cluster = http.config.route_config.cluster_names().next().map(str::to_owned);
        (entry.config.name.clone(), (content, cluster))
    });
    open.collect()
}

fn page(admin: &Arc<Admin>, path: &str) -> Value {
    serde_json::from_str(&admin.page(path)).unwrap()
}

fn waiting(admin: &Arc<Admin>) -> Map<Vec<String>> {
    let dump = page(admin, "/init_dump");
    let items = dump["unready_targets_dumps"].as_array().cloned().unwrap_or_default();
    let waits = items.iter().map(|item| {
        let names = item["target_names"].as_array().unwrap().iter();
        let names = names.map(|name| text(name).trim_start_matches("target ").to_owned());
        (text(&item["name"]), names.collect())
    });
    waits.collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// By name: whether it warms, and what is shown of it.
fn shown(dump: &Value, kind: ResourceKind) -> Map<(bool, Shown)> {
    let lists: &[(&str, &str)] = match kind {
        ResourceKind::Cluster => {
            &[("dynamic_active_clusters", "cluster"), ("dynamic_warming_clusters", "cluster")]
        }
        ResourceKind::Listener => &[("dynamic_listeners", "listener")],
        ResourceKind::RouteConfiguration => &[("dynamic_route_configs", "route_config")],
        _ => &[("dynamic_active_secrets", "secret")],
    };
    let parts = dump["configs"].as_array().unwrap();
    let mut found = Map::new();
    for (list, content) in lists {
        let items = parts.iter().filter_map(|part| part[list].as_array()).flatten();
        for item in items {
            let states = [&item["warming_state"], &item["active_state"], item];
            let state = states.into_iter().find(|state| !state[content].is_null());
            let error = &item["error_state"];
            let config = state.map_or(&error["failed_configuration"], |state| &state[content]);
            let names = [&item["name"], &config["name"]];
            let name = names.into_iter().find(|name| name.is_string()).map(text);
            let version = state.map(|state| text(&state["version_info"]));
            let error = (!error.is_null()).then(|| text(&error["version_info"]));
            let warms = *list == "dynamic_warming_clusters" || !item["warming_state"].is_null();
            found.insert(name.unwrap_or_default(), (warms, Shown { version, error }));
        }
    }
    found
}

fn resource_type(kind: ResourceKind) -> ResourceType {
    match kind {
        ResourceKind::Cluster => ResourceType::Cluster,
        ResourceKind::ClusterLoadAssignment => ResourceType::ClusterLoadAssignment,
        ResourceKind::RouteConfiguration => ResourceType::RouteConfiguration,
        ResourceKind::Secret => ResourceType::Secret,
        _ => ResourceType::Listener,
    }
}

/// Only the protocol gives responses their numbers.
fn any_response() -> Response {
    let mut client = Client::new(Settings {
        variant: Variant::StateOfTheWorld,
        scope: Scope::Aggregated,
        node: Node::default(),
        node_on_first_message_only: false,
        rate_limit: None,
        limits: Limits::default(),
    });
    let kind = ResourceType::Cluster;
    client.set_interest(kind, Interest::Wildcard, None);
    client.handle_connected();
    let now = Instant::now().into_std();
    while client.poll_request(now).is_some() {}
    // `type_url` and `nonce`.
    let url = kind.type_url();
    let message = [&[0x22, url.len() as u8], url.as_bytes(), &b"\x2a\x01n"[..]].concat();
    client.handle_message(&message, now).unwrap();
    let mut events = std::iter::from_fn(|| client.poll_event());
    let response = events.find_map(|event| match event {
        Event::Response(response) => Some(response),
        _ => None,
    });
    response.unwrap()
}
