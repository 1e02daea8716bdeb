//! Who runs when: the world's scheduler.
//!
//! What it leaves to others: what runs. A proxy shard, a client and an origin are all an [`Actor`].

use std::time::Duration;

use super::world::State;
use super::{NodeId, World};

/// The time that one step takes. Not zero, so that a program that never rests meets its time limit.
const STEP_NS: u64 = 500;

/// One simulated thread's program.
pub trait Actor {
    /// The thread's name in the world: [`super::SimIo::node`] of its I/O.
    fn node(&self) -> NodeId;

    /// Takes one turn of its I/O, as in its real loop, and handles what the turn reported.
    ///
    /// The turn gets the real timeout but returns at once. When it reports nothing and its timeout
    /// has not passed, the actor is left alone until something happens for it or the timeout
    /// passes; so code under test needs to know nothing of the world.
    fn step(&mut self);

    /// Whether the world should go on for this actor's sake. Servers say no, clients say yes until
    /// they are done.
    fn is_busy(&self) -> bool;
}

/// Why [`World::run`] returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunEnd {
    /// No actor is busy.
    Done,
    /// Some actor is busy, and nothing can ever happen: a hang.
    Stuck,
    /// The virtual time was used up.
    OutOfTime,
    /// The steps were used up.
    OutOfSteps,
}

impl World {
    /// Lets `actors` run until none is busy, at most `time` of virtual time and `steps` steps.
    ///
    /// # Panics
    ///
    /// When called from an actor.
    pub fn run(&self, actors: &mut [&mut dyn Actor], time: Duration, steps: u64) -> RunEnd {
        assert!(!self.state.borrow().driven, "a world is run by one scheduler");
        let mut state = self.state.borrow_mut();
        state.driven = true;
        // Their owner may have given them something to do: each looks once.
        for actor in actors.iter() {
            state.nodes[actor.node().0].wait = super::node::Wait::Nothing;
        }
        drop(state);
        let deadline = self.now().instant + time;
        let end = self.schedule(actors, deadline.0, steps);
        self.state.borrow_mut().driven = false;
        end
    }

    /// Lets everything happen that is planned, however late, while no program runs: for what the
    /// end of a test asserts.
    pub fn run_out(&self) {
        let mut state = self.state.borrow_mut();
        while let Some(at) = state.events.next_at() {
            state.advance_to(at);
            state.settle();
        }
    }

    fn schedule(&self, actors: &mut [&mut dyn Actor], deadline: u64, steps: u64) -> RunEnd {
        let mut ready = Vec::new();
        let mut left = steps;
        loop {
            if !actors.iter().any(|actor| actor.is_busy()) {
                return RunEnd::Done;
            }
            if left == 0 {
                return RunEnd::OutOfSteps;
            }
            let mut state = self.state.borrow_mut();
            if state.now >= deadline {
                return RunEnd::OutOfTime;
            }
            state.settle();
            let now = state.now;
            let wants = |actor: &&mut dyn Actor| state.nodes[actor.node().0].wants_turn(now);
            ready.clear();
            ready.extend((0..actors.len()).filter(|index| wants(&actors[*index])));
            if !state.choose_spuriously(actors.len(), &mut ready) {
                match state.next_change(actors) {
                    Some(at) => state.advance_to(at.min(deadline)),
                    None => return RunEnd::Stuck,
                }
                continue;
            }
            let choice = ready[state.random.index(ready.len())];
            let node = actors[choice].node().0;
            state.record("step", node, 0, 0);
            state.now += STEP_NS;
            drop(state);
            left -= 1;
            actors[choice].step();
        }
    }
}

impl State {
    /// Whether anybody runs next; now and then somebody who has no reason to.
    fn choose_spuriously(&mut self, actors: usize, ready: &mut Vec<usize>) -> bool {
        if self.random.chance(self.faults.spurious_wakeup) {
            ready.push(self.random.index(actors));
        }
        !ready.is_empty()
    }

    /// When the next thing happens: an event, or a thread's timeout.
    fn next_change(&self, actors: &[&mut dyn Actor]) -> Option<u64> {
        let timeouts = actors.iter().filter_map(|actor| match self.nodes[actor.node().0].wait {
            super::node::Wait::Until(deadline) => deadline,
            _ => None,
        });
        timeouts.chain(self.events.next_at()).min()
    }
}
