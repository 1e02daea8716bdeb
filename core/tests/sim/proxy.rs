//! A whole world from one seed: shards, origins, clients and an operator; and what must hold at its
//! end.
//!
//! What it leaves to others: how each of them behaves.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidegate::shard::Shard;
use tidegate::snapshot::Publisher;
use tidegate::stats::{ClusterStat, HttpStat, ServerStat};
use tidegate_io::sim::{Actor, Faults, Random, RunEnd, World};
use tidegate_io::{Instant, Io};

use super::answer::{After, AnswerFraming};
use super::client::Client;
use super::config::{Builder, CLUSTERS, ROUTE_TIMEOUT, Shape};
use super::flood::Flooder;
use super::http2_client::Http2Client;
use super::http2_plan::Http2Visit;
use super::ledger::{Book, Ledger, Outage, Outcome};
use super::operator::{Deed, DrainWatch, Operator, ShardActor};
use super::origin::Origin;
use super::plan::{Exchange, LastWord, Visit, Weather};

/// Everybody in a world.
struct Cast {
    world: World,
    book: Book,
    builder: Rc<RefCell<Builder>>,
    shards: Vec<ShardActor>,
    origins: Vec<Origin>,
    clients: Vec<Client>,
    http2_clients: Vec<Http2Client>,
    flooders: Vec<Flooder>,
    operator: Operator,
}

/// What a seed came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    pub hash: u64,
    pub exchanges: usize,
    pub answered: usize,
    pub wrong: Vec<String>,
}

/// Runs the world of a seed from its beginning to its end.
pub fn run(seed: u64, trace: bool) -> Verdict {
    let mut random = Random::new(seed);
    let weather = Weather::new(seed, &mut random);
    let mut cast = Cast::new(seed, &weather, &mut random);
    cast.world.print_trace(trace);
    if weather.secrecy.is_some() {
        cast.world.trace_lengths_only();
    }
    if trace {
        eprintln!("{weather:#?}");
    }
    let mut wrong = cast.play();
    let ledger = cast.book.borrow();
    wrong.extend(ledger.judge());
    if trace {
        ledger.records.iter().for_each(|record| eprintln!("{record:?}"));
    }
    Verdict {
        hash: cast.world.trace_hash(),
        exchanges: ledger.records.len(),
        answered: ledger.records.iter().filter(|it| it.outcome == Outcome::Answered).count(),
        wrong,
    }
}

impl Cast {
    fn new(seed: u64, weather: &Weather, random: &mut Random) -> Cast {
        let world = World::new(seed, weather.faults.clone());
        let book: Book = Rc::new(RefCell::new(Ledger::new(weather.clone())));
        plan_outages(&book, world.now().instant, weather, random);
        let mut builder = Builder::new(&world, weather, random);
        let shape = Shape::whole(weather, random);
        let now = world.now().instant;
        book.borrow_mut().publish(now, shape.clone());
        let publisher = Arc::new(Publisher::new(builder.build(&shape, false)));
        let server = builder.registry.scope("", ServerStat::ALL);
        let mut shards = Vec::new();
        for index in 0..weather.shards {
            let buffers = if random.chance(300) { 16 } else { 256 };
            let io = world.io_with_buffers("shard", buffers, random.between(1, 16) as u32 * 1024);
            let mut io = io;
            io.set_sockets_max(weather.sockets_max.unwrap_or(u64::MAX));
            let stats = builder.registry.shard(index);
            let shard = Shard::new(io, index, publisher.clone(), stats, server, random.bits());
            shards.push(ShardActor::new(shard.unwrap(), book.clone()));
        }
        shards.iter_mut().for_each(|actor| publisher.add_waker(actor.shard.io().waker()));
        let builder = Rc::new(RefCell::new(builder));
        let mut operator = Operator::new(
            world.io("operator"),
            book.clone(),
            builder.clone(),
            publisher,
            shape,
            Random::new(random.bits()),
        );
        plan_deeds(&mut operator, weather, random);
        let origins = (0..weather.origins)
            .map(|index| {
                let random = Random::new(random.bits());
                let io = weather.secrecy.origin(world.io("origin"));
                Origin::new(io, book.clone(), index, random)
            })
            .collect();
        let (mut clients, mut http2_clients) = (Vec::new(), Vec::new());
        for _ in 0..weather.clients {
            let (io, book) = (world.io("client"), book.clone());
            let io = |protocol| weather.secrecy.client(io, protocol);
            if random.below(10) < weather.versions.clients {
                let visits = plan_http2_visits(&book, weather, random);
                let random = Random::new(random.bits());
                http2_clients.push(Http2Client::new(io("h2"), book, visits, random));
            } else {
                let visits = plan_visits(&book, weather, random);
                let random = Random::new(random.bits());
                clients.push(Client::new(io("http/1.1"), book, visits, random));
            }
        }
        let flooders = (0..weather.floods)
            .map(|_| {
                let io = weather.secrecy.client(world.io("flooder"), "h2");
                Flooder::new(io, book.clone(), random)
            })
            .collect();
        Cast { world, book, builder, shards, origins, clients, http2_clients, flooders, operator }
    }

    /// The story; what went wrong in it.
    fn play(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |what: &str, end: RunEnd| {
            if end != RunEnd::Done {
                wrong.push(format!("{what} ended with {end:?}"));
            }
        };
        check("the storm", self.run(Duration::from_secs(3_000), None));
        self.world.set_faults(Faults::none());
        self.shards.iter_mut().for_each(|it| it.shard.io().set_sockets_max(u64::MAX));
        if self.book.borrow().draining_since.is_none() {
            self.heal();
            // A client that left behind a FIN may have left a request whose origin never answers.
            check("the calm after it", self.run(ROUTE_TIMEOUT * 2, None));
            self.operator.drain();
        }
        let states = self.shards.iter().map(|actor| actor.shard.state()).collect();
        let mut watch = DrainWatch::new(self.world.io("watch"), states);
        check("draining", self.run(Duration::from_secs(60), Some(&mut watch)));
        drop(watch);
        self.origins.clear();
        self.clients.clear();
        self.http2_clients.clear();
        self.flooders.clear();
        self.world.run_out();
        wrong.extend(self.leftovers());
        wrong
    }

    fn run(&mut self, time: Duration, watch: Option<&mut DrainWatch>) -> RunEnd {
        let mut actors: Vec<&mut dyn Actor> = Vec::new();
        actors.extend(self.shards.iter_mut().map(|it| it as &mut dyn Actor));
        actors.extend(self.origins.iter_mut().map(|it| it as &mut dyn Actor));
        actors.extend(self.clients.iter_mut().map(|it| it as &mut dyn Actor));
        actors.extend(self.http2_clients.iter_mut().map(|it| it as &mut dyn Actor));
        actors.extend(self.flooders.iter_mut().map(|it| it as &mut dyn Actor));
        actors.push(&mut self.operator);
        if let Some(watch) = watch {
            actors.push(watch);
        }
        self.world.run(&mut actors, time, 3_000_000)
    }

    /// The faults are over, and the configuration is whole: every client asks once more, and stays.
    fn heal(&mut self) {
        self.operator.restore();
        let mut random = Random::new(self.world.trace_hash());
        let mut ledger = self.book.borrow_mut();
        let calm = Weather {
            bad_origins: false,
            bad_clients: false,
            goaways: false,
            ..ledger.weather.clone()
        };
        ledger.calm = true;
        for client in &mut self.clients {
            let id = ledger.records.len();
            let mut exchange = Exchange::new(id, &calm, &mut random);
            exchange.close = false;
            exchange.answer.after = After::Keep;
            exchange.answer.framing = AnswerFraming::Chunked;
            ledger.add(exchange);
            let mut visit = Visit::new(vec![id], &calm, &mut random);
            visit.last = LastWord::Stays;
            // Connects that got no answer have timed out by then.
            visit.rest = Duration::from_secs(10);
            client.send_again(visit);
        }
        for client in &mut self.http2_clients {
            let id = ledger.records.len();
            ledger.add(Exchange::new(id, &calm, &mut random));
            let mut visit = Http2Visit::new(vec![id], &calm, &mut random);
            visit.stays = true;
            visit.deeds.clear();
            visit.rest = Duration::from_secs(10);
            client.send_again(visit);
        }
    }

    /// What was not given back.
    fn leftovers(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        for actor in &mut self.shards {
            actor.shard.end();
            // Timers without a purpose any more (to accept again, for one) have fired by then.
            actor.shard.turn(Some(Duration::from_secs(2))).unwrap();
            actor.shard.turn(Some(Duration::ZERO)).unwrap();
        }
        self.world.run_out();
        for actor in &mut self.shards {
            let census = actor.shard.census();
            if census != [0; 4] {
                wrong.push(format!("downstreams, streams, upstreams, timers are left: {census:?}"));
            }
            let io = actor.shard.io().stats();
            if (io.sockets, io.buffers_in_use) != (0, 0) {
                wrong.push(format!("sockets or buffers are left: {io:?}"));
            }
        }
        let builder = self.builder.borrow();
        wrong.extend(builder.unreleased());
        let registry = &builder.registry;
        let http = builder.http_scope();
        for stat in [
            HttpStat::DownstreamCxActive,
            HttpStat::DownstreamRqActive,
            HttpStat::DownstreamCxHttp1Active,
            HttpStat::DownstreamCxHttp2Active,
            HttpStat::DownstreamCxUpgradesActive,
        ] {
            if registry.number(http, stat) != 0 {
                wrong.push(format!("{stat:?} is {}", registry.number(http, stat)));
            }
        }
        for cluster in 0..CLUSTERS {
            let scope = builder.cluster_scope(cluster);
            for stat in [
                ClusterStat::UpstreamCxActive,
                ClusterStat::UpstreamRqActive,
                ClusterStat::UpstreamRqPendingActive,
            ] {
                if registry.number(scope, stat) != 0 {
                    wrong.push(format!("{stat:?} is {}", registry.number(scope, stat)));
                }
            }
        }
        wrong
    }
}

fn plan_deeds(operator: &mut Operator, weather: &Weather, random: &mut Random) {
    for _ in 0..weather.swaps {
        let after = Duration::from_micros(random.below(2_000_000));
        operator.plan(after, Deed::Swap);
    }
    if weather.early_drain {
        let after = Duration::from_micros(random.below(1_000_000));
        operator.plan(after, Deed::Drain);
    }
}

fn plan_outages(book: &Book, now: Instant, weather: &Weather, random: &mut Random) {
    for _ in 0..weather.outages {
        let from = now + Duration::from_micros(random.below(1_500_000));
        let to = from + Duration::from_micros(random.below(1_000_000));
        let outage = Outage { origin: random.index(weather.origins), from, to };
        book.borrow_mut().outages.push(outage);
    }
}

fn plan_visits(book: &Book, weather: &Weather, random: &mut Random) -> Vec<Visit> {
    let mut ledger = book.borrow_mut();
    let visits = random.between(1, 6);
    (0..visits)
        .map(|_| {
            let count = random.size(8);
            let is_possible = weather.tunnels && !weather.versions.is_upstream_http2(false);
            let tunnel = is_possible && random.chance(200);
            let first = ledger.records.len();
            for id in first..first + count {
                ledger.add(match tunnel && id + 1 == first + count {
                    true => Exchange::tunnel(id, weather, random),
                    false => Exchange::new(id, weather, random),
                });
            }
            let mut visit = Visit::new((first..first + count).collect(), weather, random);
            if tunnel && !matches!(visit.last, LastWord::Leaves { .. }) {
                visit.last = LastWord::Waits;
            }
            visit
        })
        .collect()
}

fn plan_http2_visits(book: &Book, weather: &Weather, random: &mut Random) -> Vec<Http2Visit> {
    let mut ledger = book.borrow_mut();
    let visits = random.between(1, 4);
    (0..visits)
        .map(|_| {
            let count = random.size(24);
            let first = ledger.records.len();
            for id in first..first + count {
                ledger.add(Exchange::new(id, weather, random));
            }
            Http2Visit::new((first..first + count).collect(), weather, random)
        })
        .collect()
}
