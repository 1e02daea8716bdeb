//! Counts of instructions that may not grow: finding a route, choosing a host, building a snapshot,
//! and a whole request through a shard.
//!
//! What it leaves to others: counting (`gate`), time (`route_table.rs`, `balancer.rs`).
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // a program for people

#[path = "../../proto-http/benches/common/gate.rs"]
mod gate;

use gate::{Gate, counted};
use std::fmt::Write as _;
use std::hint::black_box;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tidegate::config::{self, LbPolicy, LeastRequest, NetworkFilter, Source};
use tidegate::control::build::Prepared;
use tidegate::control::identity::ListenerKey;
use tidegate::control::resources::{Action, Resources};
use tidegate::shard::{Random, Shard};
use tidegate::snapshot::{ListenerSockets, Publisher, RouteQuery, RouteTable, Snapshot};
use tidegate::stats::{Registry, ServerStat};
use tidegate::upstream::balancer::LoadBalancer;
use tidegate_http::RequestHead;
use tidegate_io::sim::{Faults, SimIo, World};
use tidegate_io::{Completion, Instant, Io, Outcome, Socket, Token};

/// Clusters, and routes to them, of a configuration that is not small.
const MANY: usize = 50;
const ENDPOINTS: usize = 4;

const REQUEST: &[u8] = b"GET /service7/path?query HTTP/1.1\r\nHost: example.com\r\n\
    User-Agent: test/1.0\r\nAccept: */*\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n\
    \r\n";
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello";

fn main() -> ExitCode {
    gate::main(&[
        Gate { name: "route-match", prepare: route_match },
        Gate { name: "balancer-pick", prepare: balancer_pick },
        Gate { name: "snapshot-build", prepare: snapshot_build },
        Gate { name: "request-through-a-shard", prepare: request },
    ])
}

fn proxy_address() -> SocketAddr {
    ([10, 0, 0, 1], 80).into()
}

/// `clusters` clusters and a route by prefix to each.
fn configuration(clusters: usize) -> String {
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.\
                   HttpConnectionManager";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let (mut routes, mut all) = (String::new(), String::new());
    for number in 0..clusters {
        let _ = write!(
            routes,
            "{{ match: {{ prefix: /service{number}/ }}, route: {{ cluster: c{number} }} }}, "
        );
        let _ = write!(
            all,
            "{{ name: c{number}, type: STATIC, load_assignment: {{ cluster_name: c{number}, \
             endpoints: [ {{ lb_endpoints: [ "
        );
        for endpoint in 0..ENDPOINTS {
            let _ = write!(
                all,
                "{{ endpoint: {{ address: {{ socket_address: {{ address: 10.1.0.1, \
                 port_value: {} }} }} }} }}, ",
                80 + endpoint
            );
        }
        all.push_str("] } ] } }, ");
    }
    format!(
        "static_resources:
  listeners:
  - name: one
    address: {{ socket_address: {{ address: 10.0.0.1, port_value: 80 }} }}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          '@type': {manager}
          stat_prefix: gates
          route_config: {{ virtual_hosts: [ {{ name: v, domains: ['*'], routes: [ {routes} ] }} ] }}
          http_filters: [ {{ name: router, typed_config: {{ '@type': {router} }} }} ]
  clusters: [ {all} ]
"
    )
}

/// The configuration, with a listener's socket in a simulated world.
fn prepared(world: &World, clusters: usize) -> Prepared {
    let source = Source { name: "gates.yaml".to_owned(), text: configuration(clusters) };
    let loaded = config::load(&[source], &config::Options::default());
    let (bootstrap, _) = loaded.expect("a configuration");
    let socket = world.listener_fd(proxy_address()).expect("a descriptor");
    let sockets = ListenerSockets { address: proxy_address(), sockets: vec![socket] };
    let key = ListenerKey::of(&bootstrap.listeners[0]);
    let sockets = [(key, Arc::new(sockets))].into();
    Prepared { bootstrap, sockets, access_logs: Vec::new(), tls: Default::default() }
}

/// What control publishes of it.
fn build(prepared: &Prepared, registry: &Arc<Registry>) -> Snapshot {
    let mut resources = Resources::new(registry.clone(), 1);
    resources.handle_update(prepared, Instant::default());
    loop {
        match resources.poll_action() {
            Some(Action::Publish(snapshot)) => return snapshot,
            Some(_) => {}
            None => panic!("nothing was published"),
        }
    }
}

fn calm() -> World {
    let world = World::new(1, Faults::none());
    // What was received is not hashed.
    world.trace_lengths_only();
    world
}

fn snapshot_build() -> Box<dyn FnMut()> {
    let (prepared, registry) = (prepared(&calm(), MANY), Arc::new(Registry::new(1)));
    Box::new(move || drop(black_box(counted(|| build(black_box(&prepared), &registry)))))
}

fn route_match() -> Box<dyn FnMut()> {
    let prepared = prepared(&calm(), MANY);
    let chain = &prepared.bootstrap.listeners[0].filter_chains[0];
    let NetworkFilter::HttpConnectionManager(manager) = &chain.filter else { panic!("no manager") };
    let table = RouteTable::compile(manager.route_config.clone(), |_| None);
    let mut head = RequestHead::default();
    head.set_authority(b"example.com");
    head.set_path(b"/service42/users/7?x=y");
    Box::new(move || {
        let found = counted(|| table.find(&RouteQuery::new(black_box(&head), 0)).is_some());
        assert!(found);
    })
}

fn balancer_pick() -> Box<dyn FnMut()> {
    let snapshot = build(&prepared(&calm(), 1), &Arc::new(Registry::new(1)));
    let cluster = snapshot.clusters.iter().next().expect("a cluster");
    let policy = LbPolicy::LeastRequest(LeastRequest::default());
    let mut balancer = LoadBalancer::new(&cluster.endpoints, policy, 1);
    let mut random = Random::new(2);
    Box::new(move || {
        black_box(counted(|| black_box(&mut balancer).pick(&mut random, |host| host.id.0 & 3)));
    })
}

/// A peer of the shard, whose own instructions do not count.
struct Peer {
    io: SimIo,
    /// Connections; the token of each is its place.
    sockets: Vec<Socket>,
    completions: Vec<Completion>,
}

impl Peer {
    fn take(&mut self, socket: Socket) {
        self.io.set_token(socket, Token(self.sockets.len() as u64));
        self.io.recv(socket);
        self.sockets.push(socket);
    }

    /// The connection on which something came by now, and how much.
    fn look(&mut self) -> Option<(usize, usize)> {
        let turned = self.io.turn(Some(Duration::ZERO), &mut self.completions);
        turned.expect("a turn");
        let mut heard = None;
        for Completion { token, outcome } in std::mem::take(&mut self.completions) {
            match outcome {
                Outcome::Accepted(socket) => self.take(socket),
                Outcome::Received(buffer) => heard = Some((token.0 as usize, buffer.len())),
                _ => {}
            }
        }
        heard
    }

    fn say(&mut self, connection: usize, bytes: &[u8]) {
        let mut output = self.io.output();
        output.tail().extend_from_slice(bytes);
        self.io.send(self.sockets[connection], output);
    }
}

/// From the request's bytes to the client's response, over connections that are open.
fn request() -> Box<dyn FnMut()> {
    let world = calm();
    let registry = Arc::new(Registry::new(1));
    let publisher = Arc::new(Publisher::new(build(&prepared(&world, MANY), &registry)));
    let server = registry.scope("", ServerStat::ALL);
    let shard = Shard::new(world.io("shard"), 0, publisher, registry.shard(0), server, 1);
    let mut shard = shard.expect("a shard");
    let peer = |name| Peer { io: world.io(name), sockets: Vec::new(), completions: Vec::new() };
    let (mut client, mut origin) = (peer("client"), peer("origin"));
    for endpoint in 0..ENDPOINTS {
        let address = ([10, 1, 0, 1], 80 + endpoint as u16).into();
        let listener = origin.io.listen_at(address, Token(u64::MAX)).expect("a listener");
        origin.io.accept(listener);
    }
    let socket = client.io.connect(&proxy_address(), Token(0)).expect("a connection");
    client.take(socket);
    Box::new(move || {
        client.say(0, REQUEST);
        let answer = loop {
            counted(|| shard.turn(Some(Duration::from_micros(100)))).expect("a turn");
            if let Some((connection, _)) = origin.look() {
                origin.say(connection, RESPONSE);
            }
            if let Some((_, bytes)) = client.look() {
                break bytes;
            }
        };
        assert!(answer > RESPONSE.len());
    })
}
