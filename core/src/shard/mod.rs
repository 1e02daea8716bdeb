//! A shard: one pinned thread, one [`Io`], its own listeners, connections, pools and timers.
//!
//! Everything in a shard runs in [`Shard::turn`]: wait for completions, apply each to the end, fire
//! timers, settle what was touched. No `async`, no locks, nothing shared but the named atomics
//! behind the snapshot.
//!
//! What it leaves to others: what the bytes mean (`proxy`), which snapshot there is (`control`).

mod adopt;
mod date;
mod inspection;
pub mod limits;
mod listeners;
mod logs;
pub mod slots;
mod spawn;
pub mod timers;

pub use date::Date;
pub use spawn::{ShardHandle, ShardOptions, spawn};

use crate::config::TlsInspector;
use crate::proxy::{Downstream, GrpcScopes, Moved, MutationScratch, Relay, Stream, Upstream};
use crate::sabotage::Sabotage;
use crate::snapshot::{Adopted, ClusterEntry, Publisher, Snapshot};
use crate::stats::{Scope, ServerStat, ShardStats};
use crate::transport::{ClientHello, Sockets};
use crate::upstream::{PoolId, Pools};
use inspection::{Inspected, InspectedKey};
use listeners::Listener;
use logs::ShardLogs;
use slots::{Key, Slots};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tidegate_http::{Headers, RequestHead, ResponseHead};
use tidegate_io::{Buffer, Completion, Instant, Io, Now, Outcome, Token};
use timers::Timers;

pub(crate) type DownstreamKey = Key<Downstream>;
pub(crate) type UpstreamKey = Key<Upstream>;
pub(crate) type StreamKey = Key<Stream>;
pub(crate) type RelayKey = Key<Relay>;
type ListenerKey = Key<Listener>;

/// What a [`Token`] names; the kind is in its high byte, which stays below 128, and the key in the
/// rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    Listener(ListenerKey),
    Downstream(DownstreamKey),
    Upstream(UpstreamKey),
    Inspected(InspectedKey),
    RelayDownstream(RelayKey),
    RelayUpstream(RelayKey),
    /// The waker, and the timer of things that concern the whole shard.
    Shard,
}

impl Owner {
    pub(crate) fn token(self) -> Token {
        let (kind, bits) = match self {
            Owner::Shard => (0, 0),
            Owner::Listener(key) => (1, key.to_bits()),
            Owner::Downstream(key) => (2, key.to_bits()),
            Owner::Upstream(key) => (3, key.to_bits()),
            Owner::Inspected(key) => (4, key.to_bits()),
            Owner::RelayDownstream(key) => (5, key.to_bits()),
            Owner::RelayUpstream(key) => (6, key.to_bits()),
        };
        Token(kind << 56 | bits)
    }

    pub(crate) fn of(token: Token) -> Owner {
        match token.0 >> 56 {
            1 => Owner::Listener(Key::from_bits(token.0)),
            2 => Owner::Downstream(Key::from_bits(token.0)),
            3 => Owner::Upstream(Key::from_bits(token.0)),
            4 => Owner::Inspected(Key::from_bits(token.0)),
            5 => Owner::RelayDownstream(Key::from_bits(token.0)),
            6 => Owner::RelayUpstream(Key::from_bits(token.0)),
            _ => Owner::Shard,
        }
    }
}

/// What control and admin may know of a shard while it runs.
#[derive(Debug, Default)]
pub struct ShardState {
    /// The shard drains and has no connection left.
    pub drained: AtomicBool,
    /// Downstream connections open now.
    pub connections: AtomicU64,
    /// The version of the snapshot that it adopted last.
    pub version: AtomicU64,
    /// Ask the shard's thread to end.
    pub stop: AtomicBool,
}

#[allow(clippy::redundant_allocation)] // as `Adopted` has it
/// One shard. Generic over its I/O, so that the simulator runs this very code.
pub struct Shard<I: Io> {
    pub(crate) io: Sockets<I>,
    /// Which shard this is: picks its listening sockets.
    index: usize,
    pub(crate) now: Now,
    pub(crate) adopted: Adopted,
    /// The snapshot that the tables follow.
    followed: Rc<Arc<Snapshot>>,
    pub(crate) stats: Arc<ShardStats>,
    pub(crate) server: Scope,
    pub(crate) state: Arc<ShardState>,
    pub(crate) timers: Timers,
    listeners: Slots<Listener>,
    inspected: Slots<Inspected>,
    /// Those of which it is known what they are.
    decided: Vec<(InspectedKey, ClientHello, TlsInspector)>,
    pub(crate) downstreams: Slots<Downstream>,
    pub(crate) upstreams: Slots<Upstream>,
    pub(crate) streams: Slots<Stream>,
    /// Connections of `tcp_proxy`.
    pub(crate) relays: Slots<Relay>,
    pub(crate) pools: Pools,
    pub(crate) logs: ShardLogs,
    pub(crate) random: Random,
    pub(crate) date: Date,
    /// Connections with something to flush, close or read on when the batch is applied.
    pub(crate) touched_downstreams: Vec<DownstreamKey>,
    pub(crate) touched_upstreams: Vec<UpstreamKey>,
    pub(crate) touched_relays: Vec<RelayKey>,
    /// Heads whose memory is reused.
    pub(crate) request_heads: Vec<RequestHead>,
    pub(crate) response_heads: Vec<ResponseHead>,
    /// Memory of bodies' queues and of trailers, to be used again.
    pub(crate) spare_queues: Vec<VecDeque<Buffer>>,
    // Boxes because they go from stream to stream as they are.
    #[allow(clippy::vec_box)]
    pub(crate) spare_trailers: Vec<Box<Headers>>,
    /// Whose bytes went into the output of a connection of HTTP/2.
    pub(crate) moved: Vec<Moved>,
    /// Where gRPC calls are counted.
    pub(crate) grpc_scopes: GrpcScopes,
    /// Where text is put together.
    pub(crate) scratch: Vec<u8>,
    pub(crate) mutation_scratch: MutationScratch,
    completions: Vec<Completion>,
    /// What the next turn begins with.
    late: Vec<Completion>,
    fired: Vec<Token>,
    /// Heads of messages that came with the last turn, or pieces of them if these were more.
    pub(crate) came: usize,
    /// Hosts whose requests wait for a connection that other shards' connections keep from being
    /// made.
    pub(crate) starved: Vec<(PoolId, Arc<ClusterEntry>)>,
    /// When memory was given back last, and whether there is reason to do it again.
    trimmed: Instant,
    trims: bool,
    /// The timer of [`Shard::retry`] is set.
    pub(crate) retrying: bool,
    /// Since when the shard drains.
    pub(crate) draining_since: Option<Instant>,
}

impl<I: Io> Shard<I> {
    /// A shard that has adopted the newest snapshot of `publisher` and accepts from the next turn
    /// on.
    pub fn new(
        io: I,
        index: usize,
        publisher: Arc<Publisher>,
        stats: Arc<ShardStats>,
        server: Scope,
        seed: u64,
    ) -> io::Result<Shard<I>> {
        let mut io = Sockets::new(io);
        io.set_waker_token(Owner::Shard.token());
        publisher.add_waker(io.waker());
        let now = io.now();
        let mut shard = Shard {
            index,
            now,
            adopted: Adopted::new(publisher),
            followed: Rc::default(),
            stats,
            server,
            state: Arc::default(),
            timers: Timers::new(now.instant),
            listeners: Slots::default(),
            inspected: Slots::default(),
            decided: Vec::new(),
            downstreams: Slots::default(),
            upstreams: Slots::default(),
            streams: Slots::default(),
            relays: Slots::default(),
            pools: Pools::new(seed),
            logs: ShardLogs::default(),
            random: Random::new(seed),
            date: Date::default(),
            touched_downstreams: Vec::new(),
            touched_upstreams: Vec::new(),
            touched_relays: Vec::new(),
            request_heads: Vec::new(),
            response_heads: Vec::new(),
            spare_queues: Vec::new(),
            spare_trailers: Vec::new(),
            moved: Vec::new(),
            grpc_scopes: GrpcScopes::default(),
            scratch: Vec::new(),
            mutation_scratch: MutationScratch::default(),
            completions: Vec::with_capacity(limits::COMPLETIONS_PER_TURN_EXPECTED),
            late: Vec::new(),
            fired: Vec::new(),
            came: 0,
            starved: Vec::new(),
            trimmed: now.instant,
            trims: false,
            retrying: false,
            draining_since: None,
            io,
        };
        shard.adopt()?;
        Ok(shard)
    }

    /// What control and admin may know.
    #[must_use]
    pub fn state(&self) -> Arc<ShardState> {
        self.state.clone()
    }

    /// The I/O backend, for the simulator and for tests.
    pub fn io(&mut self) -> &mut I {
        self.io.inner()
    }

    /// How long the next turn may wait for completions.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        if !self.late.is_empty() {
            return Some(Duration::ZERO);
        }
        let now = self.now.instant;
        let flush = self.logs.next_flush().map(|at| at.since(now));
        let trim = self.trims.then(|| (self.trimmed + limits::TRIM).since(now));
        [self.timers.timeout(now), flush, trim].into_iter().flatten().min()
    }

    /// One turn: wait at most `timeout`, apply what happened, fire timers, settle.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut completions = std::mem::take(&mut self.completions);
        self.io.expect(std::mem::take(&mut self.came), self.streams.len());
        completions.append(&mut self.late);
        let waited = self.io.turn(timeout, &mut completions);
        if let Ok(now) = waited {
            self.now = now;
            self.date.update(now);
            if !Sabotage::IgnoreSnapshot.strikes() && self.adopted.refresh() {
                self.adopt_or_retry();
            }
        }
        let received = |seen: &&Completion| matches!(seen.outcome, Outcome::Received(_));
        let received = completions.iter().filter(received).count();
        let is_quiet = completions.is_empty();
        self.trims |= !is_quiet;
        for completion in completions.drain(..) {
            self.apply(completion);
        }
        self.end_inspections();
        self.came = self.came.max(received);
        self.completions = completions;
        waited?;
        self.fire_timers();
        self.settle();
        self.trim(is_quiet);
        Ok(())
    }

    /// Gives back memory that was not needed for a while; what the allocator has kept only when
    /// nothing happens, as that takes longer.
    fn trim(&mut self, is_quiet: bool) {
        if self.now.instant.since(self.trimmed) >= limits::TRIM {
            self.trimmed = self.now.instant;
            let (had, has_more) = (self.trims, self.io.trim());
            if had && !has_more && is_quiet {
                tidegate_io::memory::give_back();
            }
            self.trims = has_more || !is_quiet;
        }
    }

    fn apply(&mut self, completion: Completion) {
        match (Owner::of(completion.token), completion.outcome) {
            (Owner::Listener(key), Outcome::Accepted(socket)) => self.accepted(key, socket),
            (Owner::Listener(key), Outcome::AcceptStopped(errno)) => {
                self.accept_stopped(key, errno)
            }
            (Owner::Downstream(key), outcome) => self.downstream_completion(key, outcome),
            (Owner::Upstream(key), outcome) => self.upstream_completion(key, outcome),
            (Owner::Inspected(key), outcome) => self.inspected_completion(key, outcome),
            (Owner::RelayDownstream(key), outcome) => self.relay_downstream(key, outcome),
            (Owner::RelayUpstream(key), outcome) => self.relay_upstream(key, outcome),
            (Owner::Shard, _) => self.woken(),
            (Owner::Listener(_), outcome) => {
                debug_assert!(false, "a listener completed with {outcome:?}");
            }
        }
    }

    fn fire_timers(&mut self) {
        let mut fired = std::mem::take(&mut self.fired);
        self.timers.advance(self.now.instant, &mut fired);
        for token in fired.drain(..) {
            match Owner::of(token) {
                Owner::Listener(key) => self.listener_timer(key),
                Owner::Downstream(key) => self.downstream_timer(key),
                Owner::Upstream(key) => self.upstream_timer(key),
                Owner::Inspected(key) => self.inspected_timer(key),
                Owner::RelayDownstream(key) | Owner::RelayUpstream(key) => self.relay_timer(key),
                Owner::Shard => self.retry(),
            }
        }
        self.fired = fired;
    }

    /// Brings everything that was touched to rest: one send per socket, closes, what was held back.
    fn settle(&mut self) {
        while !(self.touched_downstreams.is_empty() && self.touched_upstreams.is_empty()) {
            while let Some(key) = self.touched_upstreams.pop() {
                self.settle_upstream(key);
            }
            while let Some(key) = self.touched_downstreams.pop() {
                self.settle_downstream(key);
            }
        }
        while let Some(key) = self.touched_relays.pop() {
            self.settle_relay(key);
        }
        self.logs.flush(self.now.instant);
        self.report();
    }

    /// Tells control, admin and `/stats` where we are; plain stores.
    fn report(&mut self) {
        let state = &self.state;
        let connections = self.downstreams.len() + self.inspected.len() + self.relays.len();
        state.connections.store(connections as u64, Ordering::Relaxed);
        let drained =
            self.draining_since.is_some() && connections == 0 && self.listeners.is_empty();
        if drained != state.drained.load(Ordering::Relaxed) {
            self.logs.hand_over();
            state.drained.store(drained, Ordering::Release);
        }
        let (io, stats, server) = (self.io.stats(), &self.stats, self.server);
        stats.set(server, ServerStat::IoTurns, io.turns);
        stats.set(server, ServerStat::IoEnters, io.enters);
        stats.set(server, ServerStat::IoSubmissions, io.submissions);
        stats.set(server, ServerStat::IoCompletions, io.completions);
        stats.set(server, ServerStat::IoNoBuffers, io.no_buffers);
        stats.set(server, ServerStat::IoOverflows, io.overflows);
        stats.set(server, ServerStat::IoRearms, io.rearms);
        stats.set(server, ServerStat::IoSplicedBytes, io.spliced_bytes);
        stats.set(server, ServerStat::IoBuffersInUse, io.buffers_in_use);
        stats.set(server, ServerStat::IoSockets, io.sockets);
    }

    /// Checks what must hold between turns; the simulator calls it after each.
    pub fn assert_invariants(&self) {
        assert!(self.touched_downstreams.is_empty() && self.touched_upstreams.is_empty());
        assert!(self.touched_relays.is_empty());
        if self.downstreams.is_empty() {
            assert!(self.streams.is_empty());
        }
        self.pools.assert_invariants(&self.upstreams);
    }

    /// How many of each this shard has now: downstream connections, streams, upstream connections
    /// (without those of relays), timers.
    #[must_use]
    pub fn census(&self) -> [usize; 4] {
        [
            self.downstreams.len() + self.inspected.len() + self.relays.len(),
            self.streams.len(),
            self.upstreams.len(),
            self.timers.len(),
        ]
    }

    /// Closes every relay and every idle upstream connection, and hands over what is left of the
    /// logs: the end of a shard's life.
    pub fn end(&mut self) {
        self.close_relays();
        // Those too that are in no pool, because their origin allows no stream.
        let is_idle = |key: &UpstreamKey| self.upstreams.get(*key).is_some_and(Upstream::is_idle);
        let idle: Vec<_> = self.upstreams.keys().into_iter().filter(is_idle).collect();
        for key in idle {
            self.close_upstream(key);
        }
        self.settle();
        self.logs.hand_over();
    }
}

/// xorshift64*: which host comes first, request ids. Not for secrets.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A generator with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, which is not 0 and fits into 32 bits.
    #[inline]
    pub fn below(&mut self, end: usize) -> usize {
        (((self.draw() >> 32) * end as u64) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_survive_the_way_through_a_token() {
        let mut slots = Slots::<Downstream>::default();
        let _ = &mut slots;
        for owner in [
            Owner::Shard,
            Owner::Downstream(Key::from_bits(7 << 32 | 9)),
            Owner::Upstream(Key::from_bits(1 << 32)),
            Owner::Listener(Key::from_bits(3)),
        ] {
            assert_eq!(Owner::of(owner.token()), owner);
        }
    }
}
