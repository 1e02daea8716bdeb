//! Timers of a shard: a hierarchical wheel, each operation in constant time.
//!
//! A deadline that moves later costs nothing: its owner leaves the timer where it is, and when it
//! fires early the owner looks at its deadlines and sets it again. So a keep-alive connection
//! touches the wheel once per timeout, not once per request.
//!
//! What it leaves to others: what a timer means (its [`Token`]), and reading clocks.

use std::time::Duration;
use tidegate_io::{Instant, Token};

/// A tick is 2^20 ns, about a millisecond; a timer fires at most one tick late and never early.
const TICK_SHIFT: u32 = 20;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Five levels of 64 slots reach 2^30 ticks, 13 days; a later deadline fires then and is set again.
const LEVELS: usize = 5;
const TICKS_MAX: u64 = (1 << (SLOT_BITS * LEVELS as u32)) - 1;
const NONE: u32 = u32::MAX;

/// Names a set timer. Stale once the timer has fired or is cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Node {
    token: Token,
    tick: u64,
    /// The list that it is in: level * SLOTS + slot.
    list: u16,
    next: u32,
    previous: u32,
    /// How many timers were here before.
    generation: u32,
}

/// The wheel.
#[derive(Debug)]
pub struct Timers {
    nodes: Vec<Node>,
    free: Vec<u32>,
    heads: [u32; LEVELS * SLOTS],
    /// By level: a bit for each slot that is not empty.
    occupied: [u64; LEVELS],
    /// Every timer with a tick at or before this one has fired.
    current: u64,
}

impl Timers {
    /// A wheel that starts at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Timers {
        Timers {
            nodes: Vec::new(),
            free: Vec::new(),
            heads: [NONE; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            current: now.0 >> TICK_SHIFT,
        }
    }

    /// Sets a timer: `token` fires at the first tick after `deadline`.
    pub fn set(&mut self, deadline: Instant, token: Token) -> TimerId {
        let tick = ((deadline.0 >> TICK_SHIFT) + 1).max(self.current + 1);
        let tick = tick.min(self.current + TICKS_MAX);
        let mut node = Node { token, tick, list: 0, next: NONE, previous: NONE, generation: 0 };
        let index = if let Some(index) = self.free.pop() {
            let place = &mut self.nodes[index as usize];
            node.generation = place.generation;
            *place = node;
            index
        } else {
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        };
        self.link(index);
        TimerId { index, generation: self.nodes[index as usize].generation }
    }

    /// Takes a timer out. A stale id changes nothing: of two timers that fire together, the owner
    /// of the first may end the owner of the second.
    pub fn cancel(&mut self, id: TimerId) {
        if self.nodes[id.index as usize].generation == id.generation {
            self.unlink(id.index);
            self.release(id.index);
        }
    }

    fn release(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        node.generation = node.generation.wrapping_add(1);
        self.free.push(index);
    }

    /// How many timers are set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Whether no timer is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long a shard may sleep: until the next timer, or until timers of a coarser level have to
    /// be sorted into finer ones. `None` when no timer is set.
    #[must_use]
    pub fn timeout(&self, now: Instant) -> Option<Duration> {
        let tick = (0..LEVELS).filter_map(|level| self.next_tick(level)).min()?;
        Some(Instant(tick << TICK_SHIFT).since(now))
    }

    /// Moves time on to `now`, and appends the tokens of all timers that are due to `fired`.
    pub fn advance(&mut self, now: Instant, fired: &mut Vec<Token>) {
        let target = now.0 >> TICK_SHIFT;
        while self.current < target {
            let next = (0..LEVELS).filter_map(|level| self.next_tick(level)).min();
            match next {
                Some(tick) if tick <= target => self.current = tick,
                _ => {
                    self.current = target;
                    return;
                }
            }
            for level in (1..LEVELS).rev() {
                if self.current.trailing_zeros() >= SLOT_BITS * level as u32 {
                    self.sort_down(level);
                }
            }
            self.fire(fired);
        }
    }

    /// The first tick after `current` at which this level has something to do.
    fn next_tick(&self, level: usize) -> Option<u64> {
        if self.occupied[level] == 0 {
            return None;
        }
        let shift = SLOT_BITS * level as u32;
        let position = self.current >> shift;
        let from = (position as u32 + 1) % SLOTS as u32;
        let distance = self.occupied[level].rotate_right(from).trailing_zeros();
        Some((position + 1 + u64::from(distance)) << shift)
    }

    /// Sorts the timers of this level's current slot into finer levels.
    fn sort_down(&mut self, level: usize) {
        let slot = (self.current >> (SLOT_BITS * level as u32)) as usize % SLOTS;
        let mut index = self.take(level * SLOTS + slot);
        while index != NONE {
            let next = self.nodes[index as usize].next;
            self.link(index);
            index = next;
        }
    }

    fn fire(&mut self, fired: &mut Vec<Token>) {
        let mut index = self.take(self.current as usize % SLOTS);
        while index != NONE {
            let Node { token, tick, next, .. } = self.nodes[index as usize];
            debug_assert_eq!(tick, self.current);
            fired.push(token);
            self.release(index);
            index = next;
        }
    }

    fn take(&mut self, list: usize) -> u32 {
        self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        std::mem::replace(&mut self.heads[list], NONE)
    }

    fn link(&mut self, index: u32) {
        let tick = self.nodes[index as usize].tick;
        // The level is the highest group of bits in which the deadline differs from now; a deadline
        // of now itself (while sorting down) goes to the slot that is about to fire.
        let differing = (tick ^ self.current) | 1;
        let level = ((63 - differing.leading_zeros()) / SLOT_BITS) as usize;
        let level = level.min(LEVELS - 1);
        let slot = (tick >> (SLOT_BITS * level as u32)) as usize % SLOTS;
        let list = level * SLOTS + slot;
        let head = self.heads[list];
        if head != NONE {
            self.nodes[head as usize].previous = index;
        }
        let node = &mut self.nodes[index as usize];
        node.list = list as u16;
        node.next = head;
        node.previous = NONE;
        self.heads[list] = index;
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, index: u32) {
        let Node { list, next, previous, .. } = self.nodes[index as usize];
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        if previous != NONE {
            self.nodes[previous as usize].next = next;
            return;
        }
        let list = list as usize;
        debug_assert_eq!(self.heads[list], index, "a timer was cancelled that is not set");
        self.heads[list] = next;
        if next == NONE {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ticks: u64) -> Instant {
        Instant(ticks << TICK_SHIFT)
    }

    /// Against a sorted list, over random deadlines, cancellations and steps.
    #[test]
    fn agrees_with_a_list() {
        let mut random = 1u64;
        let mut next = move |below: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) % below
        };
        for start in [0, 1, 63, 64, 4095, 262_143, 123_456_789] {
            let mut timers = Timers::new(at(start));
            let mut list: Vec<(u64, u64, TimerId)> = Vec::new();
            let (mut now, mut name, mut fired) = (start, 0, Vec::new());
            let mut stale: Vec<TimerId> = Vec::new();
            for _ in 0..20_000 {
                match next(4) {
                    0 | 1 => {
                        let span = 1 << next(26);
                        let tick = now + next(span);
                        name += 1;
                        list.push((tick, name, timers.set(at(tick), Token(name))));
                    }
                    2 if !list.is_empty() => {
                        let (_, _, id) = list.swap_remove(next(list.len() as u64) as usize);
                        timers.cancel(id);
                        timers.cancel(id);
                        stale.iter().for_each(|id| timers.cancel(*id));
                    }
                    _ => {
                        let span = 1 << next(20);
                        now += next(span);
                        if let Some(wait) = timers.timeout(at(now)) {
                            let first = list.iter().map(|entry| entry.0 + 1).min().unwrap();
                            assert!(at(now) + wait <= at(first.max(now)), "sleeps past a deadline");
                        }
                        fired.clear();
                        timers.advance(at(now), &mut fired);
                        let mut due: Vec<u64> =
                            list.iter().filter(|e| e.0 < now).map(|e| e.1).collect();
                        stale.clear();
                        stale.extend(list.iter().filter(|e| e.0 < now).map(|e| e.2));
                        list.retain(|e| e.0 >= now);
                        let mut names: Vec<u64> = fired.iter().map(|token| token.0).collect();
                        due.sort_unstable();
                        names.sort_unstable();
                        assert_eq!(names, due, "at {now}");
                        assert_eq!(timers.len(), list.len());
                    }
                }
            }
        }
    }
}
