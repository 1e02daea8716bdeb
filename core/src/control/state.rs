//! How the process is doing, for whoever asks: shared by control and admin, plain atomics.
//!
//! What it leaves to others: what follows from it.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// `admin.v3.ServerInfo.State`; the numbers are those of the gauge `server.state`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// Serving.
    Live = 0,
    /// Going down, or told to fail health checks.
    Draining = 1,
    /// Waiting for the first clusters.
    PreInitializing = 2,
}

impl State {
    /// Envoy's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Live => "LIVE",
            State::Draining => "DRAINING",
            State::PreInitializing => "PRE_INITIALIZING",
        }
    }
}

/// How the process is doing.
#[derive(Debug)]
pub struct ServerState {
    started: Instant,
    state: AtomicU8,
    /// `/healthcheck/fail` was asked for.
    health_failed: AtomicBool,
}

impl Default for ServerState {
    fn default() -> ServerState {
        ServerState {
            started: Instant::now(),
            state: AtomicU8::new(State::PreInitializing as u8),
            health_failed: AtomicBool::new(false),
        }
    }
}

impl ServerState {
    /// Starts a new phase of life.
    pub fn enter(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// `/healthcheck/fail` and `/healthcheck/ok`.
    pub fn set_health_failed(&self, failed: bool) {
        self.health_failed.store(failed, Ordering::Relaxed);
    }

    /// What to tell others: draining when health checks are to fail, as Envoy does.
    #[must_use]
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            0 if self.health_failed.load(Ordering::Relaxed) => State::Draining,
            0 => State::Live,
            1 => State::Draining,
            _ => State::PreInitializing,
        }
    }

    /// Whether no snapshot was published yet.
    #[must_use]
    pub fn is_initializing(&self) -> bool {
        self.state.load(Ordering::Relaxed) == State::PreInitializing as u8
    }

    /// Time since the start.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_health_checks_looks_like_draining_and_can_be_undone() {
        let server = ServerState::default();
        assert_eq!(server.state(), State::PreInitializing);
        server.enter(State::Live);
        server.set_health_failed(true);
        assert_eq!(server.state(), State::Draining);
        server.set_health_failed(false);
        assert_eq!(server.state(), State::Live);
    }
}
