//! The bootstrap (`config.bootstrap.v3.Bootstrap`): what a process starts with.
//!
//! What it leaves to others: dynamic resources.

#![allow(deprecated, reason = "Envoy still accepts fields that it calls deprecated")]

use super::access_log::AccessLogSink;
use super::address::Address;
use super::convert::At;
use super::descriptors;
use super::support::{SupportedMessage, kept, message, reported, used};
use super::tls::{Secret, static_secrets};
use super::{
    AccessLog, ApiConfigSource, Cluster, ConfigPlace, ConfigSource, Listener, Received, Runtime,
    RuntimeValues, StatsConfig, StatsSink,
};
use envoy_types::pb::envoy::config::bootstrap::v3 as pb;
use envoy_types::pb::envoy::config::core::v3 as core;
use prost::Message;
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A validated bootstrap.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Bootstrap {
    /// Who we are.
    pub node: Node,
    /// The admin server, if any.
    pub admin: Option<Admin>,
    /// `static_resources.listeners`, names unique.
    pub listeners: Vec<Arc<Listener>>,
    /// `static_resources.clusters`, names unique.
    pub clusters: Vec<Arc<Cluster>>,
    /// `static_resources.secrets`
    pub secrets: Vec<Secret>,
    /// `dynamic_resources`
    pub dynamic: DynamicResources,
    /// `stats_config`
    pub stats: StatsConfig,
    /// `stats_sinks`
    pub sinks: Vec<StatsSink>,
    /// When sinks are sent to.
    pub flush: StatsFlush,
    /// `layered_runtime`
    pub runtime: Arc<Runtime>,
    /// What was received, for `/config_dump`.
    pub received: Arc<Received>,
}

/// `config.bootstrap.v3.Bootstrap.DynamicResources`
#[derive(Clone, PartialEq, Debug, Default)]
pub struct DynamicResources {
    /// `ads_config`
    pub ads: Option<ApiConfigSource>,
    /// `cds_config`
    pub clusters: Option<ConfigSource>,
    /// `lds_config`
    pub listeners: Option<ConfigSource>,
}

/// When stats are sent to sinks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatsFlush {
    /// `stats_flush_interval`
    Every(Duration),
    /// `stats_flush_on_admin`: when the stats page is asked for.
    OnAdmin,
}

/// Envoy's default.
impl Default for StatsFlush {
    fn default() -> StatsFlush {
        StatsFlush::Every(Duration::from_secs(5))
    }
}

/// `config.core.v3.Node`, as far as it is used.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Node {
    /// `id`
    pub id: String,
    /// `cluster`
    pub cluster: String,
    /// The whole node as JSON, for `/server_info`.
    pub json: serde_json::Value,
    /// The message as it was received.
    pub encoded: Vec<u8>,
}

/// What the command line says of the node, for what the configuration does not say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeDefaults {
    /// `--service-node`
    pub id: String,
    /// `--service-cluster`
    pub cluster: String,
    /// `--service-zone`
    pub zone: String,
}

impl NodeDefaults {
    /// Fills in what `node` lacks.
    pub fn fill(&self, node: &mut Node) {
        if !node.json.is_object() {
            node.json = json!({});
        }
        let json = &mut node.json;
        for (field, key, given) in
            [(&mut node.id, "id", &self.id), (&mut node.cluster, "cluster", &self.cluster)]
        {
            if field.is_empty() && !given.is_empty() {
                field.clone_from(given);
                json[key] = json!(given);
            }
        }
        if !self.zone.is_empty() && json["locality"]["zone"].is_null() {
            json["locality"]["zone"] = json!(self.zone);
        }
    }
}

/// `config.bootstrap.v3.Admin`
#[derive(Clone, PartialEq, Debug)]
pub struct Admin {
    /// Where the admin server listens.
    pub address: SocketAddr,
    /// `access_log` and the deprecated `access_log_path`.
    pub access_log: Vec<AccessLog>,
}

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.bootstrap.v3.Bootstrap",
        &[
            kept("node", "all of it is shown by /server_info"),
            used("static_resources"),
            used("dynamic_resources"),
            used("admin"),
            kept("flags_path", "there is no flags file"),
            used("stats_flush_interval"),
            used("stats_flush_on_admin"),
            kept("deferred_stat_options", "stats are made when they are needed"),
            used("stats_config"),
            used("stats_sinks"),
            used("layered_runtime"),
            reported("watchdog", "there is no watchdog yet"),
            reported("watchdogs", "there is no watchdog yet"),
            reported("bootstrap_extensions", "no bootstrap extension is implemented"),
            kept("use_tcp_for_dns_lookups", "the resolver chooses"),
        ],
    ),
    message(
        "envoy.config.bootstrap.v3.Bootstrap.DynamicResources",
        &[used("lds_config"), used("cds_config"), used("ads_config")],
    ),
    message(
        "envoy.config.bootstrap.v3.Bootstrap.StaticResources",
        &[used("listeners"), used("clusters"), used("secrets")],
    ),
    message(
        "envoy.config.bootstrap.v3.Admin",
        &[
            used("access_log"),
            used("access_log_path"),
            kept("profile_path", "there is no CPU profiler"),
            used("address"),
            kept("ignore_global_conn_limit", "there is no global limit of connections"),
        ],
    ),
];

/// The names of the clusters that routes can refer to; `None` if they could not all be read.
pub(super) type ClusterNames<'c> = Option<HashSet<&'c str>>;

impl Bootstrap {
    /// Converts a bootstrap. What is wrong is reported, and `None` returned if nothing is left of
    /// it.
    pub(super) fn from_proto(
        at: &At<'_>,
        bootstrap: &pb::Bootstrap,
        values: &RuntimeValues,
        received: Arc<Received>,
    ) -> Option<Bootstrap> {
        let at_runtime = at.field("layered_runtime");
        let runtime = bootstrap.layered_runtime.as_ref();
        let cluster = bootstrap.node.as_ref().map_or("", |node| &node.cluster);
        let cluster = if cluster.is_empty() { &values.service_cluster } else { cluster };
        let runtime = Runtime::from_proto(&at_runtime, runtime, values, cluster);
        at.set_runtime(runtime.clone());
        let resources = bootstrap.static_resources.clone().unwrap_or_default();
        let admin = bootstrap.admin.as_ref();
        let at_resources = at.field("static_resources");
        let secrets = static_secrets(&at_resources.field("secrets"), &resources.secrets);
        at.set_secrets(secrets.clone());
        let converted = Bootstrap {
            node: bootstrap.node.as_ref().map(Node::from_proto).unwrap_or_default(),
            admin: admin.and_then(|admin| {
                let at = at.field("admin");
                if admin.address.is_none() {
                    at.warning("without an `address` there is no admin server");
                    return None;
                }
                at.converted(Admin::from_proto(&at, admin))
            }),
            listeners: listeners(&at_resources, &resources),
            clusters: clusters(&at_resources, &resources),
            secrets,
            dynamic: DynamicResources::from_proto(
                &at.field("dynamic_resources"),
                &bootstrap.dynamic_resources.clone().unwrap_or_default(),
            ),
            stats: StatsConfig::from_proto(
                &at.field("stats_config"),
                bootstrap.stats_config.as_ref(),
            ),
            sinks: StatsSink::all_from_proto(&at.field("stats_sinks"), &bootstrap.stats_sinks),
            flush: StatsFlush::from_proto(at, bootstrap),
            runtime: Arc::new(runtime),
            received,
        };
        for key in at.runtime().unread() {
            at_runtime.warning(format!("nothing reads the runtime key `{key}`"));
        }
        Some(converted)
    }
}

impl DynamicResources {
    fn from_proto(at: &At<'_>, dynamic: &pb::bootstrap::DynamicResources) -> DynamicResources {
        let source = |name: &str, source: Option<&core::ConfigSource>| {
            let at = at.field(name);
            source.and_then(|source| at.converted(ConfigSource::from_proto(&at, source)))
        };
        let at_ads = at.field("ads_config");
        let ads = dynamic.ads_config.as_ref();
        let converted = DynamicResources {
            ads: ads.and_then(|ads| at_ads.converted(ApiConfigSource::from_proto(&at_ads, ads))),
            clusters: source("cds_config", dynamic.cds_config.as_ref()),
            listeners: source("lds_config", dynamic.lds_config.as_ref()),
        };
        let sources = [("cds_config", &converted.clusters), ("lds_config", &converted.listeners)];
        for (name, source) in sources {
            let by_ads = source.as_ref().is_some_and(|it| it.place == ConfigPlace::Ads);
            if by_ads && dynamic.ads_config.is_none() {
                at.field(name).error_hint("`ads` without an `ads_config`", "add `ads_config`");
            }
        }
        converted
    }
}

impl StatsFlush {
    fn from_proto(at: &At<'_>, bootstrap: &pb::Bootstrap) -> StatsFlush {
        use pb::bootstrap::StatsFlush::StatsFlushOnAdmin;
        if matches!(bootstrap.stats_flush, Some(StatsFlushOnAdmin(true))) {
            return StatsFlush::OnAdmin;
        }
        let interval = bootstrap.stats_flush_interval.as_ref();
        match at.field("stats_flush_interval").duration(interval) {
            Some(interval) => StatsFlush::Every(interval),
            None => StatsFlush::default(),
        }
    }
}

fn clusters(at: &At<'_>, resources: &pb::bootstrap::StaticResources) -> Vec<Arc<Cluster>> {
    let at = at.field("clusters");
    let mut names = HashSet::new();
    let mut clusters = Vec::with_capacity(resources.clusters.len());
    for (index, cluster) in resources.clusters.iter().enumerate() {
        let at = at.index(index);
        if !cluster.name.is_empty() && !names.insert(cluster.name.as_str()) {
            let reason = format!("duplicate cluster `{}`", cluster.name);
            at.field("name").error_hint(reason, "rename one of them, or leave it out");
        }
        clusters.extend(at.converted(Cluster::from_proto(&at, cluster)).map(Arc::new));
    }
    clusters
}

fn listeners(at: &At<'_>, resources: &pb::bootstrap::StaticResources) -> Vec<Arc<Listener>> {
    // With a cluster whose name could not be read, nothing can be said about the others' names.
    let named = resources.clusters.iter().map(|cluster| cluster.name.as_str());
    let unreadable = at.is_unreadable()
        || at.field("clusters").is_unreadable()
        || resources.clusters.iter().any(|cluster| cluster.name.is_empty());
    let known: ClusterNames<'_> = (!unreadable).then(|| named.collect());
    let at = at.field("listeners");
    let mut names: HashSet<String> = HashSet::new();
    let mut addresses: HashMap<SocketAddr, String> = HashMap::new();
    let mut listeners = Vec::with_capacity(resources.listeners.len());
    for (index, listener) in resources.listeners.iter().enumerate() {
        let at = at.index(index);
        if !listener.name.is_empty() && !names.insert(listener.name.clone()) {
            at.field("name").error(format!("duplicate listener `{}`", listener.name));
        }
        let listener = at.converted(Listener::from_proto(&at, listener, &known));
        let Some(mut listener) = listener else { continue };
        if listener.name.is_empty() {
            listener.name = made_up_name(&listener.address, &names);
            names.insert(listener.name.clone());
        }
        let earlier = addresses.insert(listener.address, listener.name.clone());
        if let Some(earlier) = earlier.filter(|_| listener.address.port() != 0) {
            let reason = format!("the listener `{earlier}` is at {} already", listener.address);
            at.field("address").error_hint(reason, "an address belongs to one listener");
        }
        listeners.push(Arc::new(listener));
    }
    listeners
}

/// Envoy makes up a UUID. An address says more, and is the same after a restart.
fn made_up_name(address: &SocketAddr, names: &HashSet<String>) -> String {
    let mut name = address.to_string();
    let mut number = 1;
    while names.contains(&name) {
        number += 1;
        name = format!("{address}#{number}");
    }
    name
}

impl Node {
    fn from_proto(node: &core::Node) -> Node {
        Node {
            id: node.id.clone(),
            cluster: node.cluster.clone(),
            json: node_json(node),
            encoded: node.encode_to_vec(),
        }
    }
}

/// The node as Envoy prints it: names as in the .proto file, without defaults.
fn node_json(node: &core::Node) -> serde_json::Value {
    let options =
        SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(true);
    descriptors::pool()
        .ok()
        .and_then(|pool| pool.get_message_by_name("envoy.config.core.v3.Node"))
        .and_then(|descriptor| {
            DynamicMessage::decode(descriptor, node.encode_to_vec().as_slice()).ok()
        })
        .and_then(|message| {
            message.serialize_with_options(serde_json::value::Serializer, &options).ok()
        })
        .unwrap_or_default()
}

impl Admin {
    fn from_proto(at: &At<'_>, admin: &pb::Admin) -> Option<Admin> {
        let mut access_log = AccessLog::all_from_proto(&at.field("access_log"), &admin.access_log);
        if !admin.access_log_path.is_empty() {
            let sink = AccessLogSink::of_path(&admin.access_log_path);
            access_log.push(AccessLog { sink, format: None, filter: None });
        }
        let address = Address::listen_from_proto(&at.field("address"), admin.address.as_ref())?;
        Some(Admin { address, access_log })
    }
}
