//! What a management server may do, drawn from a seed, and the resources that it sends.
//!
//! What it leaves to others: what follows from it (`expected`), doing it (`world`).

use crate::config::ResourceKind;
use serde_json::{Value, json};
use std::fmt;

/// Asking ends only when the steps say so: no clock of the machine decides.
fn ads() -> Value {
    json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" })
}

const HTTP: &str = "type.googleapis.com/envoy.extensions.filters";
const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";

/// The secret of the listener that speaks TLS.
pub const SECRET: &str = "s";
/// The listener that speaks TLS.
pub const TLS_LISTENER: &str = "l1";

/// What a resource says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Valid, and different from others by a number: the second of a timeout, a port, a cluster.
    Good(u8),
    /// Against a rule.
    Bad,
    /// A listener on an address that somebody else has.
    Taken,
}

/// A resource of a response.
#[derive(Clone, Debug)]
pub struct Sent {
    pub name: String,
    pub content: Content,
    /// No other resource has it.
    pub version: String,
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A response; `whole`: what it does not have is gone.
    Response { kind: ResourceKind, sent: Vec<Sent>, removed: Vec<String>, whole: bool },
    /// Nobody waits any longer for the first answer about these.
    TimedOut(ResourceKind, Vec<String>),
    /// Their time to live is over.
    Expired(ResourceKind, Vec<String>),
    /// The stream ends.
    Disconnected,
    /// So many seconds pass.
    Later(u64),
}

/// Numbers that only look as if there were no order in them (splitmix64).
#[derive(Clone, Copy, Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// Names of a kind that there can be.
pub fn names(kind: ResourceKind) -> &'static [&'static str] {
    match kind {
        ResourceKind::Cluster | ResourceKind::ClusterLoadAssignment => &["c0", "c1", "c2"],
        ResourceKind::Secret => &[SECRET],
        _ => &["l0", TLS_LISTENER],
    }
}

const KINDS: [ResourceKind; 9] = [
    ResourceKind::Cluster,
    ResourceKind::Cluster,
    ResourceKind::ClusterLoadAssignment,
    ResourceKind::ClusterLoadAssignment,
    ResourceKind::Listener,
    ResourceKind::Listener,
    ResourceKind::RouteConfiguration,
    ResourceKind::RouteConfiguration,
    ResourceKind::Secret,
];

/// The next step. `number`: which it is.
pub fn draw(random: &mut Random, number: usize) -> Step {
    let kind = KINDS[random.below(KINDS.len() as u64) as usize];
    match random.below(12) {
        0 => Step::Disconnected,
        // Nothing lasts a multiple of six seconds: real time that goes by changes nothing.
        1 => Step::Later(if random.one_in(3) { 20 } else { 6 }),
        2 if may_be_absent(kind) => Step::TimedOut(kind, some(random, kind)),
        3 if random.one_in(2) => Step::Expired(kind, some(random, kind)),
        _ => response(random, kind, number),
    }
}

/// Whether something can go on without resources of a kind.
fn may_be_absent(kind: ResourceKind) -> bool {
    !matches!(kind, ResourceKind::Cluster | ResourceKind::Listener)
}

fn some(random: &mut Random, kind: ResourceKind) -> Vec<String> {
    let taken = names(kind).iter().filter(|_| random.one_in(2));
    taken.map(|name| (*name).to_owned()).collect()
}

fn response(random: &mut Random, kind: ResourceKind, number: usize) -> Step {
    let whole = !may_be_absent(kind) && random.one_in(2);
    let mut sent = Vec::new();
    for name in names(kind) {
        let times = match random.below(12) {
            0..5 => 0,
            11 => 2,
            _ => 1,
        };
        for time in 0..times {
            let content = match random.below(10) {
                0 => Content::Bad,
                1 if kind == ResourceKind::Listener => Content::Taken,
                _ => Content::Good(random.below(3) as u8),
            };
            let version = format!("{number}.{name}.{time}");
            sent.push(Sent { name: (*name).to_owned(), content, version });
        }
    }
    let is_sent = |name: &String| sent.iter().any(|one| one.name == *name);
    let removed = match whole || !random.one_in(4) {
        true => Vec::new(),
        false => some(random, kind).into_iter().filter(|name| !is_sent(name)).collect(),
    };
    Step::Response { kind, sent, removed, whole }
}

/// A certificate with its key, as PEM.
pub type Pair = (String, String);

/// A resource as it travels; `taken`: a port that somebody else has.
pub fn resource(kind: ResourceKind, sent: &Sent, taken: u16, pairs: &[Pair]) -> Value {
    let (name, content) = (&sent.name, sent.content);
    match kind {
        ResourceKind::Cluster => {
            let timeout = match content {
                Content::Good(n) => format!("{}s", n + 1),
                _ => "0s".to_owned(),
            };
            let eds = json!({ "eds_config": ads() });
            json!({
                "name": name,
                "type": "EDS",
                "connect_timeout": timeout,
                "eds_cluster_config": eds,
            })
        }
        ResourceKind::ClusterLoadAssignment => {
            let port = match content {
                Content::Good(n) => 1000 + u32::from(n),
                _ => 70_000,
            };
            let address =
                json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
            let endpoint = json!({ "endpoint": { "address": address } });
            json!({ "cluster_name": name, "endpoints": [{ "lb_endpoints": [endpoint] }] })
        }
        ResourceKind::RouteConfiguration => {
            let (domains, cluster) = match content {
                Content::Good(n) => (json!(["*"]), format!("c{n}")),
                _ => (json!([]), String::new()),
            };
            let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": cluster } });
            let host = json!({ "name": "v", "domains": domains, "routes": [route] });
            json!({ "name": name, "virtual_hosts": [host] })
        }
        ResourceKind::Secret => {
            let Content::Good(number) = content else {
                return json!({ "name": name, "tls_certificate": {} });
            };
            let (certificate, key) = &pairs[usize::from(number) % pairs.len()];
            json!({ "name": name, "tls_certificate": {
                "certificate_chain": { "inline_string": certificate },
                "private_key": { "inline_string": key },
            } })
        }
        _ => listener(name, content, taken),
    }
}

fn listener(name: &str, content: Content, taken: u16) -> Value {
    let (prefix, port) = match content {
        Content::Good(n) => (format!("p{n}"), 0),
        Content::Taken => ("taken".to_owned(), taken),
        Content::Bad => (String::new(), 0),
    };
    let manager = json!({
        "@type": format!("{HTTP}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": prefix,
        "rds": { "route_config_name": name, "config_source": ads() },
        "http_filters": [{
            "name": "router",
            "typed_config": { "@type": format!("{HTTP}.http.router.v3.Router") },
        }],
    });
    let mut chain = json!({ "filters": [{ "name": "h", "typed_config": manager }] });
    if name == TLS_LISTENER {
        let secret = json!({ "name": SECRET, "sds_config": ads() });
        chain["transport_socket"] = json!({ "name": "tls", "typed_config": {
            "@type": format!("{TLS}.DownstreamTlsContext"),
            "common_tls_context": { "tls_certificate_sds_secret_configs": [secret] },
        } });
    }
    json!({
        "name": name,
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": port } },
        "filter_chains": [chain],
    })
}

/// The bootstrap.
pub fn bootstrap() -> String {
    let grpc = json!([{ "envoy_grpc": { "cluster_name": "xds" } }]);
    json!({
        "node": { "id": "a", "cluster": "b" },
        "dynamic_resources": {
            "ads_config":
                { "api_type": "GRPC", "transport_api_version": "V3", "grpc_services": grpc },
            "cds_config": ads(),
            "lds_config": ads(),
        },
        "static_resources": { "clusters": [
            { "name": "xds", "type": "STATIC", "load_assignment": { "cluster_name": "xds" } },
        ] },
    })
    .to_string()
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step::Response { kind, sent, removed, whole } = self else {
            return write!(f, "{self:?}");
        };
        write!(f, "{kind:?}{}", if *whole { " (all)" } else { "" })?;
        for one in sent {
            write!(f, " {}={:?}", one.version, one.content)?;
        }
        removed.iter().try_for_each(|name| write!(f, " -{name}"))
    }
}
