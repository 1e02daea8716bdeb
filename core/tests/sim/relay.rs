//! A world of `tcp_proxy`: clients and origins that talk at once, half-close, read slowly and
//! reset; and what must hold of every byte and every end.
//!
//! Each side of a connection begins with its number and goes on with bytes that nobody else has, so
//! that whoever reads them knows whose they are, and whether one is missing.
//!
//! What it leaves to others: HTTP (`proxy.rs`), real kernels (the acceptance tests).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidegate::config::TcpProxy;
use tidegate::shard::Shard;
use tidegate::snapshot::Publisher;
use tidegate::stats::{ClusterStat, ServerStat};
use tidegate_io::sim::{Actor, Faults, NodeId, Random, RunEnd, SimIo, World};
use tidegate_io::{Completion, Instant, Io, Outcome as Happened, Socket, Token};

use super::bytes::{Side, body, pieces, size};
use super::config::{Builder, CLUSTERS, Shape, origin_address, proxy_address};
use super::ledger::{Book, Ledger};
use super::operator::ShardActor;
use super::plan::Weather;
use super::script::{Script, Step};
use super::tls_sockets::PeerIo;

const LISTENER: Token = Token(0);
const HEADER_BYTES: usize = 4;

/// One side of a connection: what it says, and what it has heard.
#[derive(Clone, Default, Debug)]
struct Record {
    bytes: usize,
    resets: bool,
    /// All of it was said, its FIN included.
    said_all: bool,
    heard: usize,
    header: Vec<u8>,
    end: Option<End>,
    is_origin: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Fin,
    Reset,
}

type Records = Rc<RefCell<Vec<Record>>>;

/// The number of the one whose bytes these are.
fn number(header: &[u8]) -> Option<usize> {
    Some(u32::from_le_bytes(header.try_into().ok()?) as usize)
}

fn said(number: usize, range: std::ops::Range<usize>) -> Vec<u8> {
    body(number, Side::Request, range)
}

/// Clients that connect one after the other, or an origin.
struct Talker {
    io: PeerIo,
    records: Records,
    wrong: Rc<RefCell<Vec<String>>>,
    talks: BTreeMap<u64, Talk>,
    next: u64,
    /// When clients connect.
    visits: Vec<Instant>,
    resets: bool,
    now: Instant,
    random: Random,
    completions: Vec<Completion>,
}

struct Talk {
    number: usize,
    script: Script,
    connected: bool,
    /// It reads nothing until then.
    deaf_until: Option<Instant>,
    eof: bool,
}

impl Talker {
    fn new(io: SimIo, world: &TcpWorld, random: &mut Random) -> Talker {
        Talker {
            now: io.now().instant,
            io: PeerIo::new(io, None),
            records: world.records.clone(),
            wrong: world.wrong.clone(),
            talks: BTreeMap::new(),
            next: 1,
            visits: Vec::new(),
            resets: random.chance(400),
            random: Random::new(random.bits()),
            completions: Vec::new(),
        }
    }

    /// What a new connection is to say.
    fn begin(&mut self, socket: Socket, connected: bool) {
        let mut records = self.records.borrow_mut();
        let number = records.len();
        let resets = self.resets && self.random.chance(300);
        let record = Record { bytes: size(&mut self.random), resets, ..Record::default() };
        let mut bytes = (number as u32).to_le_bytes().to_vec();
        bytes.extend(said(number, 0..record.bytes));
        records.push(Record { is_origin: connected, ..record });
        let mut steps = pieces(&bytes, &mut self.random);
        if resets {
            steps.truncate(self.random.size(steps.len()));
            steps.push(Step::Abort);
        } else {
            steps.push(Step::Shutdown);
        }
        if self.random.chance(200) {
            steps.insert(0, Step::Wait(Duration::from_micros(self.random.below(5_000))));
        }
        let pause = Duration::from_micros(self.random.below(20_000));
        let deaf_until = self.random.chance(200).then(|| self.now + pause);
        let script = Script::new(socket, steps.into());
        self.io.set_token(socket, Token(self.next));
        if connected && deaf_until.is_none() {
            self.io.recv(socket);
        }
        self.talks.insert(self.next, Talk { number, script, connected, deaf_until, eof: false });
        self.next += 1;
    }

    fn visit(&mut self) {
        while self.visits.first().is_some_and(|at| *at <= self.now) {
            self.visits.remove(0);
            if let Ok(socket) = self.io.connect(&proxy_address(), Token(self.next)) {
                self.begin(socket, false);
            }
        }
    }

    fn handle(&mut self, Completion { token, outcome }: Completion) {
        if token == LISTENER {
            if let Happened::Accepted(socket) = outcome {
                self.begin(socket, true);
            }
            return;
        }
        let Some(talk) = self.talks.get_mut(&token.0) else { return };
        match outcome {
            Happened::Connected(Ok(())) => {
                talk.connected = true;
                if talk.deaf_until.is_none() {
                    self.io.recv(talk.script.socket);
                }
            }
            Happened::Sent(Ok(())) => talk.script.sending = false,
            Happened::Received(buffer) => {
                let number = talk.number;
                self.hear(number, &buffer);
            }
            Happened::Eof => {
                talk.eof = true;
                self.records.borrow_mut()[talk.number].end = Some(End::Fin);
            }
            Happened::Connected(Err(_)) | Happened::RecvFailed(_) | Happened::Sent(Err(_)) => {
                talk.script.end(&mut self.io, false);
                self.records.borrow_mut()[talk.number].end.get_or_insert(End::Reset);
                self.talks.remove(&token.0);
            }
            other => panic!("a talker heard {other:?}"),
        }
    }

    fn hear(&mut self, listener: usize, bytes: &[u8]) {
        let mut records = self.records.borrow_mut();
        let record = &mut records[listener];
        let missing = HEADER_BYTES - record.header.len();
        let (header, rest) = bytes.split_at(bytes.len().min(missing));
        record.header.extend_from_slice(header);
        let Some(speaker) = number(&record.header) else { return };
        let range = record.heard..record.heard + rest.len();
        record.heard = range.end;
        if said(speaker, range.clone()) != rest {
            let text = format!("{listener} heard something else than {speaker} said in {range:?}");
            self.wrong.borrow_mut().push(text);
        }
    }

    fn advance(&mut self) {
        let mut over = Vec::new();
        for (key, talk) in &mut self.talks {
            if !talk.connected {
                continue;
            }
            if talk.deaf_until.is_some_and(|at| at <= self.now) {
                talk.deaf_until = None;
                self.io.recv(talk.script.socket);
            }
            talk.script.advance(&mut self.io, self.now);
            let mut records = self.records.borrow_mut();
            let record = &mut records[talk.number];
            let done = talk.script.steps.is_empty() && !talk.script.sending;
            record.said_all = done && !record.resets;
            if talk.script.closed || done && talk.eof {
                over.push(*key);
            }
        }
        for key in over {
            if let Some(mut talk) = self.talks.remove(&key) {
                talk.script.end(&mut self.io, false);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let talks = self.talks.values().filter(|talk| talk.connected);
        talks
            .flat_map(|talk| [talk.script.deadline(), talk.deaf_until])
            .chain([self.visits.first().copied()])
            .flatten()
            .min()
    }
}

impl Actor for Talker {
    fn node(&self) -> NodeId {
        self.io.node()
    }

    fn step(&mut self) {
        let timeout = self.deadline().map(|at| at.since(self.now));
        let mut completions = std::mem::take(&mut self.completions);
        self.now = self.io.turn(timeout, &mut completions).unwrap().instant;
        for completion in completions.drain(..) {
            self.handle(completion);
        }
        self.completions = completions;
        self.visit();
        self.advance();
    }

    fn is_busy(&self) -> bool {
        !self.visits.is_empty() || !self.talks.is_empty()
    }
}

struct TcpWorld {
    world: World,
    records: Records,
    wrong: Rc<RefCell<Vec<String>>>,
    builder: Builder,
    shard: ShardActor,
    lossy: bool,
    limited: bool,
}

impl TcpWorld {
    fn new(seed: u64, random: &mut Random) -> TcpWorld {
        let kind = random.below(3);
        let mut weather = Weather::new(seed, random);
        weather.faults = match kind {
            0 => Faults::none(),
            1 => Faults::lossless(random),
            _ => Faults::lossy(random),
        };
        weather.faults.window_bytes.0 = weather.faults.window_bytes.0.max(2048);
        weather.faults.window_bytes.1 =
            weather.faults.window_bytes.1.max(weather.faults.window_bytes.0);
        weather.faults.latency_us.1 = weather.faults.latency_us.1.min(2_000);
        (weather.lossy, weather.shards) = (kind == 2, 1);
        (weather.versions.upstream, weather.host_limit) = (Default::default(), None);
        weather.secrecy = Default::default();
        let world = World::new(seed, weather.faults.clone());
        let book: Book = Rc::new(RefCell::new(Ledger::new(weather.clone())));
        let mut builder = Builder::new(&world, &weather, random);
        let proxy = TcpProxy {
            stat_prefix: "sim".into(),
            clusters: (0..CLUSTERS).map(|it| (format!("c{it}"), 1 + it as u32)).collect(),
            // What a lossy network has made hang ends some time.
            idle_timeout: weather.lossy.then_some(Duration::from_secs(30)),
            max_connect_attempts: 1 + random.below(3) as u32,
            max_connection_duration: None,
            access_log: Vec::new(),
        };
        let shape = Shape::whole(&weather, random);
        let publisher = Arc::new(Publisher::new(builder.build_tcp(&shape, proxy)));
        let server = builder.registry.scope("", ServerStat::ALL);
        let buffers = if random.chance(300) { 16 } else { 256 };
        let io = world.io_with_buffers("shard", buffers, random.between(1, 16) as u32 * 1024);
        let stats = builder.registry.shard(0);
        let shard = Shard::new(io, 0, publisher.clone(), stats, server, random.bits()).unwrap();
        let mut shard = ShardActor::new(shard, book);
        publisher.add_waker(shard.shard.io().waker());
        TcpWorld {
            world,
            records: Records::default(),
            wrong: Rc::default(),
            builder,
            shard,
            lossy: weather.lossy,
            limited: weather.small_breakers,
        }
    }

    fn play(&mut self, random: &mut Random) {
        let mut talkers = Vec::new();
        for origin in 0..4 {
            let mut io = self.world.io("origin");
            let listener = io.listen_at(origin_address(origin), LISTENER).unwrap();
            io.accept(listener);
            talkers.push(Talker::new(io, self, random));
        }
        for _ in 0..random.between(1, 4) {
            let mut client = Talker::new(self.world.io("client"), self, random);
            let start = client.now;
            let visits = random.between(1, 8);
            client.visits =
                (0..visits).map(|_| start + Duration::from_micros(random.below(30_000))).collect();
            client.visits.sort();
            talkers.push(client);
        }
        let mut actors: Vec<&mut dyn Actor> = vec![&mut self.shard];
        actors.extend(talkers.iter_mut().map(|talker| talker as &mut dyn Actor));
        let end = self.world.run(&mut actors, Duration::from_secs(600), 3_000_000);
        drop(actors);
        if end != RunEnd::Done && !self.lossy {
            let left: Vec<_> = talkers.iter().flat_map(|it| it.talks.values()).collect();
            let left: Vec<_> = left.iter().map(|talk| (talk.number, talk.eof)).collect();
            self.wrong.borrow_mut().push(format!("it ended with {end:?}: {left:?}"));
        }
    }

    fn judge(&self) {
        let records = self.records.borrow();
        let mut wrong = self.wrong.borrow_mut();
        let calm = !self.lossy && !self.limited && records.iter().all(|it| !it.resets);
        for (number, record) in records.iter().enumerate() {
            let speaker = self::number(&record.header).and_then(|it| records.get(it));
            let whole = speaker.filter(|it| it.said_all && it.bytes == record.heard);
            let is_fin = record.end == Some(End::Fin);
            let has_nothing = record.header.is_empty() && !record.is_origin;
            if is_fin && !self.lossy && whole.is_none() && !(self.limited && has_nothing) {
                wrong.push(format!("{number} got an end without the whole: {record:?}"));
            }
            if calm && (!is_fin || whole.is_none()) {
                wrong.push(format!("{number} got not everything: {record:?}, {speaker:?}"));
            }
        }
    }

    fn leftovers(&mut self) {
        self.world.set_faults(Faults::none());
        for _ in 0..2 {
            // What has waited to be accepted until now ends with the second.
            self.shard.shard.end();
            self.shard.shard.turn(Some(Duration::from_secs(2))).unwrap();
            self.world.run_out();
            self.shard.shard.turn(Some(Duration::ZERO)).unwrap();
        }
        let mut wrong = self.wrong.borrow_mut();
        let census = self.shard.shard.census();
        if census[..3] != [0; 3] {
            wrong.push(format!("connections are left: {census:?}"));
        }
        let io = self.shard.shard.io().stats();
        if io.buffers_in_use != 0 {
            wrong.push(format!("buffers are left: {io:?}"));
        }
        wrong.extend(self.builder.unreleased());
        for cluster in 0..CLUSTERS {
            let scope = self.builder.cluster_scope(cluster);
            for stat in [
                ClusterStat::UpstreamCxActive,
                ClusterStat::UpstreamRqActive,
                ClusterStat::UpstreamRqPendingActive,
            ] {
                let count = self.builder.registry.number(scope, stat);
                if count != 0 {
                    wrong.push(format!("{stat:?} is {count}"));
                }
            }
        }
    }
}

/// What was wrong in the world of a seed, and how many bytes were heard in it.
pub fn run(seed: u64, trace: bool) -> (Vec<String>, usize) {
    let mut random = Random::new(seed ^ 0x7c9);
    let mut world = TcpWorld::new(seed, &mut random);
    world.world.print_trace(trace);
    world.play(&mut random);
    world.judge();
    world.leftovers();
    let heard = world.records.borrow().iter().map(|record| record.heard).sum();
    let wrong = world.wrong.borrow().clone();
    (wrong, heard)
}
