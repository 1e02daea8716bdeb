//! Whoever runs the proxy: publishes configurations while requests run, heals the network, drains.
//!
//! What it leaves to others: what a configuration looks like (`config.rs`).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidegate::shard::Shard;
use tidegate::snapshot::Publisher;
use tidegate_io::sim::{Actor, NodeId, Random, SimIo};
use tidegate_io::{Instant, Io};

use super::config::{Builder, Shape};
use super::ledger::Book;

/// One shard of the proxy: the very code of production, over simulated I/O.
pub struct ShardActor {
    pub shard: Shard<SimIo>,
    node: NodeId,
    book: Book,
    version: u64,
}

impl ShardActor {
    pub fn new(mut shard: Shard<SimIo>, book: Book) -> ShardActor {
        let node = shard.io().node();
        ShardActor { shard, node, book, version: 0 }
    }
}

impl Actor for ShardActor {
    fn node(&self) -> NodeId {
        self.node
    }

    fn step(&mut self) {
        self.shard.turn(self.shard.timeout()).unwrap();
        self.shard.assert_invariants();
        let version = self.shard.state().version.load(std::sync::atomic::Ordering::Relaxed);
        if version < self.version {
            self.book.borrow_mut().violation("a shard went back to an older configuration");
        }
        self.version = version;
    }

    fn is_busy(&self) -> bool {
        false
    }
}

/// What the operator does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    Swap,
    Drain,
}

/// The operator.
pub struct Operator {
    io: SimIo,
    book: Book,
    pub builder: Rc<RefCell<Builder>>,
    publisher: Arc<Publisher>,
    shape: Shape,
    whole: Shape,
    deeds: Vec<(Instant, Deed)>,
    now: Instant,
    random: Random,
}

impl Operator {
    pub fn new(
        io: SimIo,
        book: Book,
        builder: Rc<RefCell<Builder>>,
        publisher: Arc<Publisher>,
        shape: Shape,
        random: Random,
    ) -> Operator {
        let now = io.now().instant;
        let whole = shape.clone();
        let deeds = Vec::new();
        Operator { io, book, builder, publisher, shape, whole, deeds, now, random }
    }

    /// Plans `deed` for a time from now.
    pub fn plan(&mut self, after: Duration, deed: Deed) {
        let now = self.io.now().instant;
        self.deeds.push((now + after, deed));
        self.deeds.sort_by_key(|(at, _)| *at);
    }

    /// Publishes the configuration of the beginning again.
    pub fn restore(&mut self) {
        self.shape = self.whole.clone();
        self.publish(false);
    }

    /// Tells the shards to finish.
    pub fn drain(&mut self) {
        self.book.borrow_mut().draining_since.get_or_insert(self.io.now().instant);
        self.publish(true);
    }

    fn publish(&mut self, draining: bool) {
        let snapshot = self.builder.borrow_mut().build(&self.shape, draining);
        self.book.borrow_mut().publish(self.io.now().instant, self.shape.clone());
        self.publisher.publish(snapshot);
    }

    fn act(&mut self) {
        while let Some((at, deed)) = self.deeds.first().copied() {
            if at > self.now {
                return;
            }
            self.deeds.remove(0);
            if self.book.borrow().draining_since.is_some() {
                continue;
            }
            match deed {
                Deed::Swap => {
                    let weather = self.book.borrow().weather.clone();
                    let base = if self.random.chance(500) { &self.whole } else { &self.shape };
                    self.shape = base.changed(&weather, &mut self.random);
                    self.publish(false);
                }
                Deed::Drain => self.drain(),
            }
        }
    }
}

impl Actor for Operator {
    fn node(&self) -> NodeId {
        self.io.node()
    }

    fn step(&mut self) {
        let timeout = self.deeds.first().map(|(at, _)| at.since(self.now));
        self.now = self.io.turn(timeout, &mut Vec::new()).unwrap().instant;
        self.act();
    }

    fn is_busy(&self) -> bool {
        false
    }
}

/// Keeps the world running until every shard has drained.
pub struct DrainWatch {
    io: SimIo,
    shards: Vec<Arc<tidegate::shard::ShardState>>,
}

impl DrainWatch {
    pub fn new(io: SimIo, shards: Vec<Arc<tidegate::shard::ShardState>>) -> DrainWatch {
        DrainWatch { io, shards }
    }
}

impl Actor for DrainWatch {
    fn node(&self) -> NodeId {
        self.io.node()
    }

    fn step(&mut self) {
        self.io.turn(Some(Duration::from_millis(10)), &mut Vec::new()).unwrap();
    }

    fn is_busy(&self) -> bool {
        self.shards.iter().any(|it| !it.drained.load(std::sync::atomic::Ordering::Relaxed))
    }
}
