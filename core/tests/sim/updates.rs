//! A world of updates: a management server whose resources make clusters come, warm, change and go
//! while requests run, the real rules of what serves when, and a shard. Every request is answered
//! by an origin that belonged to a warm cluster of its route while it ran, and none fails.
//!
//! The server does what servers do: clusters first, routes and endpoints in any order after them,
//! rubbish in between. What it leaves to others: streams, and what pages show (`control/model`).

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidegate::config::{Bootstrap, Options, Resource, ResourceContext, ResourceKind, Source, load};
use tidegate::control::build::Prepared;
use tidegate::control::dynamic::{Dynamic, Raw, Received, Whole};
use tidegate::control::identity::ListenerKey;
use tidegate::control::resources::{Action, Resources};
use tidegate::shard::Shard;
use tidegate::snapshot::{ListenerSockets, Publisher, Snapshot};
use tidegate::stats::{Registry, ServerStat};
use tidegate_io::sim::{Actor, Faults, NodeId, Random, SimIo, World};
use tidegate_io::{Completion, Instant, Io, Outcome, Socket, Token};

use super::config::{origin_address, proxy_address};

const ADS: &str = "{ ads: {}, resource_api_version: V3 }";
const HTTP: &str = "type.googleapis.com/envoy.extensions.filters";
const LISTENER: Token = Token(0);
const CLUSTERS: usize = 3;
/// Each cluster has its own; an assignment names one of them.
const ORIGINS: usize = 2;
const STORIES: usize = 8;

/// What the server sends.
#[derive(Clone, Debug)]
enum Message {
    /// All clusters that there are, with the seconds of a timeout.
    Clusters(Vec<(usize, u64)>),
    /// One of the origins of a cluster.
    Assignment(usize, usize),
    Routes(usize),
    Listener,
    /// Something that is refused, of a kind.
    Rubbish(ResourceKind),
}

/// What was published: since when, and to which origin its routes lead.
type History = Rc<RefCell<Vec<(Instant, Option<usize>)>>>;

fn resource(message: &Message) -> (ResourceKind, Vec<(String, String)>) {
    match message {
        Message::Clusters(list) => {
            let clusters = list.iter().map(|(cluster, seconds)| {
                let eds = format!("eds_cluster_config: {{ eds_config: {ADS} }}");
                let name = format!("c{cluster}");
                let text =
                    format!("{{ name: {name}, type: EDS, connect_timeout: {seconds}s, {eds} }}");
                (name, text)
            });
            (ResourceKind::Cluster, clusters.collect())
        }
        Message::Assignment(cluster, origin) => {
            let address = origin_address(cluster * ORIGINS + origin);
            let (ip, port) = (address.ip(), address.port());
            let socket = format!("{{ socket_address: {{ address: {ip}, port_value: {port} }} }}");
            let endpoint = format!("{{ endpoint: {{ address: {socket} }} }}");
            let name = format!("c{cluster}");
            let text = format!(
                "{{ cluster_name: {name}, endpoints: [{{ lb_endpoints: [{endpoint}] }}] }}"
            );
            (ResourceKind::ClusterLoadAssignment, vec![(name, text)])
        }
        Message::Routes(cluster) => {
            let route = format!("{{ match: {{ prefix: / }}, route: {{ cluster: c{cluster} }} }}");
            let host = format!("{{ name: v, domains: ['*'], routes: [{route}] }}");
            let text = format!("{{ name: l, virtual_hosts: [{host}] }}");
            (ResourceKind::RouteConfiguration, vec![("l".into(), text)])
        }
        Message::Listener => (ResourceKind::Listener, vec![("l".into(), listener())]),
        Message::Rubbish(kind) => {
            let name = if *kind == ResourceKind::RouteConfiguration { "l" } else { "c0" };
            (*kind, vec![(name.into(), format!("{{ name: {name}, of: nothing }}"))])
        }
    }
}

fn listener() -> String {
    let (ip, port) = (proxy_address().ip(), proxy_address().port());
    format!(
        "
name: l
address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }}
filter_chains:
- filters:
  - name: h
    typed_config:
      '@type': {HTTP}.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: s
      rds: {{ route_config_name: l, config_source: {ADS} }}
      http_filters:
      - name: router
        typed_config: {{ '@type': {HTTP}.http.router.v3.Router }}"
    )
}

fn bootstrap() -> Bootstrap {
    let text = format!(
        "
dynamic_resources:
  ads_config:
    api_type: GRPC
    transport_api_version: V3
    grpc_services: [{{ envoy_grpc: {{ cluster_name: xds }} }}]
  cds_config: {ADS}
  lds_config: {ADS}
static_resources:
  clusters: [{{ name: xds, type: STATIC, load_assignment: {{ cluster_name: xds }} }}]"
    );
    load(&[Source { name: "x".into(), text }], &Options::default()).unwrap().0
}

/// Control, as far as it decides: the server's messages come at their times.
struct Follower {
    io: SimIo,
    now: Instant,
    messages: Vec<(Instant, Message)>,
    base: Bootstrap,
    dynamic: Dynamic,
    resources: Resources,
    sockets: Arc<ListenerSockets>,
    publisher: Arc<Publisher>,
    history: History,
}

impl Follower {
    fn take(&mut self, message: &Message) {
        let (kind, texts) = resource(message);
        let read = texts.into_iter().map(|(name, text)| {
            let source = Source { name: name.clone(), text: text.clone() };
            let read = Resource::read(kind, &source, &ResourceContext::default());
            let raw = Raw::Json(text);
            (Received { name, version: String::new(), at_unix_us: 0, raw }, read.map(|it| it.0))
        });
        let whole = matches!(message, Message::Clusters(_) | Message::Listener);
        let taken = self.dynamic.handle_response(kind, read.collect(), &[], whole, &self.base);
        let is_rubbish = matches!(message, Message::Rubbish(_));
        assert_eq!(taken.reasons().is_some(), is_rubbish, "{message:?}: {:?}", taken.refused);
        self.apply();
        self.dynamic.forget_unused(&self.dynamic.wanted(&self.base));
    }

    fn apply(&mut self) {
        let Whole { bootstrap, serving, .. } = self.dynamic.whole(&self.base, self.now);
        self.dynamic.serves(serving);
        let keys = bootstrap.listeners.iter().map(|it| ListenerKey::of(it));
        let sockets: HashMap<_, _> = keys.map(|key| (key, self.sockets.clone())).collect();
        let (access_logs, tls) = (Vec::new(), Default::default());
        let prepared = Prepared { bootstrap, sockets, access_logs, tls };
        self.resources.handle_update(&prepared, self.now);
        self.publish();
    }

    fn publish(&mut self) {
        while let Some(action) = self.resources.poll_action() {
            if let Action::Publish(snapshot) = action {
                self.history.borrow_mut().push((self.now, leads_to(&snapshot)));
                self.publisher.publish(snapshot);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let message = self.messages.first().map(|(at, _)| *at);
        let due = [message, self.dynamic.poll_timeout(), self.resources.poll_timeout()];
        due.into_iter().flatten().min()
    }
}

/// The origin that requests go to.
fn leads_to(snapshot: &Snapshot) -> Option<usize> {
    let http = snapshot.listeners.first()?.chains[0].filter.http()?;
    let name = http.config.route_config.cluster_names().next()?;
    let entry = snapshot.clusters.iter().find(|entry| entry.config.name == name)?;
    let address = entry.endpoints.hosts.first()?.address;
    (0..CLUSTERS * ORIGINS).find(|origin| origin_address(*origin) == address)
}

impl Actor for Follower {
    fn node(&self) -> NodeId {
        self.io.node()
    }

    fn step(&mut self) {
        let timeout = self.deadline().map(|at| at.since(self.now));
        self.now = self.io.turn(timeout, &mut Vec::new()).unwrap().instant;
        while self.messages.first().is_some_and(|(at, _)| *at <= self.now) {
            let (_, message) = self.messages.remove(0);
            self.take(&message);
        }
        if self.dynamic.poll_timeout().is_some_and(|at| at <= self.now) {
            self.apply();
        }
        self.resources.handle_timeout(self.now);
        self.publish();
    }

    fn is_busy(&self) -> bool {
        !self.messages.is_empty()
    }
}

/// A server's life: each story begins when the one before it is over, and ends well.
fn stories(random: &mut Random, start: Instant) -> Vec<(Instant, Message)> {
    let (mut at, mut routed) = (start, 0);
    let mut known = BTreeSet::from([0]);
    let all = |known: &BTreeSet<usize>, random: &mut Random| {
        let timed = known.iter().map(|cluster| (*cluster, random.between(1, 3)));
        Message::Clusters(timed.collect())
    };
    let mut messages = vec![
        (at, all(&known, random)),
        (at, Message::Assignment(0, 0)),
        (at, Message::Listener),
        (at, Message::Routes(0)),
    ];
    for _ in 0..STORIES {
        let (cluster, origin) = (random.index(CLUSTERS), random.index(ORIGINS));
        let mut told = Vec::new();
        match random.below(5) {
            // Routes go to another cluster, which is there first but not yet warm.
            0 | 1 => {
                known.insert(cluster);
                routed = cluster;
                told.push(all(&known, random));
                let both = [Message::Routes(cluster), Message::Assignment(cluster, origin)];
                told.extend(both);
                if random.chance(500) {
                    told.swap(1, 2);
                }
            }
            // The cluster of the routes is taken away before they have changed.
            2 if cluster != routed => {
                known = BTreeSet::from([cluster]);
                routed = cluster;
                told.push(all(&known, random));
                told.push(Message::Assignment(cluster, origin));
                told.push(Message::Routes(cluster));
            }
            3 => told.push(Message::Assignment(routed, origin)),
            4 => told.push(all(&known, random)),
            _ => {}
        }
        if random.chance(300) {
            let kinds = [
                ResourceKind::Cluster,
                ResourceKind::ClusterLoadAssignment,
                ResourceKind::RouteConfiguration,
            ];
            let rubbish = Message::Rubbish(kinds[random.index(kinds.len())]);
            told.insert(random.index(told.len() + 1), rubbish);
        }
        for message in told {
            at = at + Duration::from_millis(random.between(1, 3_000));
            messages.push((at, message));
        }
    }
    messages
}

/// An origin, which says its number.
struct Origin {
    io: SimIo,
    number: usize,
    sockets: HashMap<u64, Socket>,
}

impl Origin {
    fn new(mut io: SimIo, number: usize) -> Origin {
        let listener = io.listen_at(origin_address(number), LISTENER).unwrap();
        io.accept(listener);
        Origin { io, number, sockets: HashMap::new() }
    }
}

impl Actor for Origin {
    fn node(&self) -> NodeId {
        self.io.node()
    }

    fn step(&mut self) {
        let mut completions = Vec::new();
        self.io.turn(None, &mut completions).unwrap();
        for Completion { token, outcome } in completions {
            match outcome {
                Outcome::Accepted(socket) => {
                    let token = Token(self.sockets.len() as u64 + 1);
                    self.io.set_token(socket, token);
                    self.io.recv(socket);
                    self.sockets.insert(token.0, socket);
                }
                // A request is sent in one piece here: the head's end is its own.
                Outcome::Received(buffer) if buffer.ends_with(b"\r\n\r\n") => {
                    let mut output = self.io.output();
                    let text =
                        format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{}", self.number);
                    output.tail().extend_from_slice(text.as_bytes());
                    self.io.send(self.sockets[&token.0], output);
                }
                Outcome::Eof | Outcome::RecvFailed(_) => self.io.close(self.sockets[&token.0]),
                _ => {}
            }
        }
    }

    fn is_busy(&self) -> bool {
        false
    }
}

/// One request after the other on one connection.
struct Client {
    io: SimIo,
    socket: Option<Socket>,
    now: Instant,
    /// When the next request is sent.
    next: Instant,
    until: Instant,
    sent: Option<Instant>,
    heard: Vec<u8>,
    answered: usize,
    history: History,
    wrong: Vec<String>,
    random: Random,
}

impl Client {
    fn ask(&mut self) {
        let Some(socket) = self.socket else { return };
        let mut output = self.io.output();
        output.tail().extend_from_slice(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        self.io.send(socket, output);
        (self.sent, self.heard) = (Some(self.now), Vec::new());
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.heard.extend_from_slice(bytes);
        let text = String::from_utf8_lossy(&self.heard).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return };
        let Some(sent) = self.sent.filter(|_| !body.is_empty()) else { return };
        let history = self.history.borrow();
        let ended = history.iter().map(|(at, _)| *at).skip(1).chain([self.now]);
        let in_time = history.iter().zip(ended).filter(|(_, ended)| *ended >= sent);
        let origins: BTreeSet<_> = in_time.filter_map(|((_, origin), _)| *origin).collect();
        let is_right = body.parse().is_ok_and(|origin: usize| origins.contains(&origin));
        if !head.starts_with("HTTP/1.1 200") || !is_right {
            self.wrong.push(format!("at {sent:?} of {origins:?}: {head} {body}"));
        }
        self.answered += 1;
        self.sent = None;
        self.next = self.now + Duration::from_micros(self.random.below(100_000));
    }
}

impl Actor for Client {
    fn node(&self) -> NodeId {
        self.io.node()
    }

    fn step(&mut self) {
        let timeout = self.sent.is_none().then(|| self.next.since(self.now));
        let mut completions = Vec::new();
        self.now = self.io.turn(timeout, &mut completions).unwrap().instant;
        for Completion { outcome, .. } in completions {
            match outcome {
                Outcome::Received(buffer) => self.hear(&buffer),
                Outcome::Connected(Ok(())) => {
                    self.io.recv(self.socket.unwrap());
                    self.ask();
                }
                Outcome::Sent(Ok(())) => {}
                other => self.wrong.push(format!("{other:?}")),
            }
        }
        if self.sent.is_none() && self.now >= self.next && self.is_busy() {
            match self.socket {
                Some(_) => self.ask(),
                None => {
                    self.socket = self.io.connect(&proxy_address(), Token(1)).ok();
                    self.sent = Some(self.now);
                }
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.sent.is_some() || self.now < self.until
    }
}

struct ShardActor(Shard<SimIo>, NodeId);

impl Actor for ShardActor {
    fn node(&self) -> NodeId {
        self.1
    }

    fn step(&mut self) {
        self.0.turn(self.0.timeout()).unwrap();
        self.0.assert_invariants();
    }

    fn is_busy(&self) -> bool {
        false
    }
}

/// What was wrong in the world of a seed, how many requests it answered, and how many
/// configurations it saw.
pub fn run(seed: u64) -> (Vec<String>, usize, usize) {
    let mut random = Random::new(seed ^ 0x51de);
    let world = World::new(seed, Faults::none());
    let registry = Arc::new(Registry::new(1));
    let publisher = Arc::new(Publisher::new(Snapshot::default()));
    let (history, start) = (History::default(), world.now().instant);
    let (server, stats) = (registry.scope("", ServerStat::ALL), registry.shard(0));
    let io = world.io("shard");
    let node = io.node();
    let shard = Shard::new(io, 0, publisher.clone(), stats, server, random.bits()).unwrap();
    let sockets = vec![world.listener_fd(proxy_address()).unwrap()];
    let mut follower = Follower {
        io: world.io("control"),
        now: start,
        messages: stories(&mut random, start),
        base: bootstrap(),
        dynamic: Dynamic::default(),
        resources: Resources::new(registry, 1),
        sockets: Arc::new(ListenerSockets { address: proxy_address(), sockets }),
        publisher,
        history: history.clone(),
    };
    let until = follower.messages.last().map_or(start, |(at, _)| *at) + Duration::from_secs(1);
    let mut clients: Vec<_> = (0..2)
        .map(|_| Client {
            io: world.io("client"),
            socket: None,
            now: start,
            next: start + Duration::from_millis(10),
            until,
            sent: None,
            heard: Vec::new(),
            answered: 0,
            history: history.clone(),
            wrong: Vec::new(),
            random: Random::new(random.bits()),
        })
        .collect();
    let mut origins: Vec<_> =
        (0..CLUSTERS * ORIGINS).map(|number| Origin::new(world.io("origin"), number)).collect();
    let mut shard = ShardActor(shard, node);
    let mut actors: Vec<&mut dyn Actor> = vec![&mut shard, &mut follower];
    actors.extend(clients.iter_mut().map(|it| it as &mut dyn Actor));
    actors.extend(origins.iter_mut().map(|it| it as &mut dyn Actor));
    let end = world.run(&mut actors, Duration::from_secs(600), 3_000_000);
    let mut wrong: Vec<_> = clients.iter().flat_map(|client| client.wrong.clone()).collect();
    if end != tidegate_io::sim::RunEnd::Done {
        wrong.push(format!("it ended with {end:?}"));
    }
    let answered = clients.iter().map(|client| client.answered).sum();
    let published = history.borrow().len();
    (wrong, answered, published)
}
