//! The timer of a connection: one, set to the earliest of its deadlines or earlier.
//!
//! What it leaves to others: what deadlines there are.

use crate::shard::timers::{TimerId, Timers};
use tidegate_io::{Instant, Token};

/// A connection's timer. A deadline that moves later does not touch it.
#[derive(Debug, Default)]
pub struct Alarm {
    set: Option<(Instant, TimerId)>,
}

impl Alarm {
    /// Makes sure that `token` fires at `deadline` or before.
    pub fn arm(&mut self, deadline: Option<Instant>, token: Token, timers: &mut Timers) {
        let Some(deadline) = deadline else { return };
        match self.set {
            Some((at, _)) if at <= deadline => return,
            Some((_, id)) => timers.cancel(id),
            None => {}
        }
        self.set = Some((deadline, timers.set(deadline, token)));
    }

    /// The timer fired.
    pub fn fired(&mut self) {
        self.set = None;
    }

    /// The connection is gone.
    pub fn cancel(&mut self, timers: &mut Timers) {
        if let Some((_, id)) = self.set.take() {
            timers.cancel(id);
        }
    }
}

/// The earlier of two deadlines, of which either may be none.
#[must_use]
pub fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
