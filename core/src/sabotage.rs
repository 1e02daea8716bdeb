//! Mistakes on purpose: each breaks one promise, so that a test can show that the simulator
//! notices.
//!
//! Nothing of this is in a release: without debug assertions every question is answered with a
//! constant `false`. Only `core/tests/sim` makes mistakes.
//!
//! What it leaves to others: noticing.

/// A mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sabotage {
    /// A response loses one byte of its body.
    SkipBodyByte,
    /// A request that may not be sent twice is sent again.
    ReplayAnything,
    /// A closed upstream connection keeps its permit of the circuit breaker.
    KeepPermit,
    /// A client's socket is forgotten, not closed.
    ForgetSocket,
    /// Pipelined input is read in the wrong order.
    ReverseHeld,
    /// A client whose request waits for its upstream is never read from again.
    NeverResume,
    /// A shard stays with the snapshot that it has.
    IgnoreSnapshot,
    /// A policy's retries are not counted.
    RetryWithoutLimit,
    /// The first byte of a body that was kept is not sent again.
    ForgetKeptByte,
    /// A retry keeps its permit of the circuit breaker.
    KeepRetryPermit,
    /// A client of HTTP/2 is not told that what it sent has gone on: its windows stay shut.
    ForgetConsumed,
    /// A body on HTTP/2 that is cut to a window's size begins its rest with a byte that was sent.
    RepeatCutByte,
    /// Messages on HTTP/2 end without their trailers.
    DropTrailers,
    /// A request that its origin did nothing with is not sent again.
    KeepRefused,
    /// The response to a client of HTTP/2 that takes nothing is received all the same.
    HoldEverything,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Sabotage; 15] = [
        Sabotage::SkipBodyByte,
        Sabotage::ReplayAnything,
        Sabotage::KeepPermit,
        Sabotage::ForgetSocket,
        Sabotage::ReverseHeld,
        Sabotage::NeverResume,
        Sabotage::IgnoreSnapshot,
        Sabotage::RetryWithoutLimit,
        Sabotage::ForgetKeptByte,
        Sabotage::KeepRetryPermit,
        Sabotage::ForgetConsumed,
        Sabotage::RepeatCutByte,
        Sabotage::DropTrailers,
        Sabotage::KeepRefused,
        Sabotage::HoldEverything,
    ];

    /// Whether this mistake is to be made, on this thread.
    #[cfg(debug_assertions)]
    #[must_use]
    pub fn strikes(self) -> bool {
        MADE.get() == Some(self)
    }

    /// Never.
    #[cfg(not(debug_assertions))]
    #[inline(always)]
    pub(crate) const fn strikes(self) -> bool {
        false
    }
}

#[cfg(debug_assertions)]
thread_local! {
    static MADE: std::cell::Cell<Option<Sabotage>> = const { std::cell::Cell::new(None) };
}

/// From now on this thread makes that mistake, or none.
#[cfg(debug_assertions)]
pub fn make(mistake: Option<Sabotage>) {
    MADE.set(mistake);
}
