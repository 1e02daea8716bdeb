//! How the process is doing, for whoever asks: shared by control and admin, never by shards.
//!
//! What it leaves to others: what follows from it.

use super::book::Book;
use crate::config::{Bootstrap, Overrides, Received, Runtime, RuntimeValues};
use crate::shard::ShardState;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// The configuration that was taken last, for pages that show it.
#[derive(Debug, Default)]
pub struct Shown {
    /// As it was received.
    pub received: Arc<Received>,
    /// Its node as JSON, with what the command line says of it.
    pub node: serde_json::Value,
    /// Its runtime layers.
    pub runtime: Arc<Runtime>,
    /// When, as `2026-11-20T14:54:26.689Z`.
    pub updated: String,
}

/// How the process is doing.
#[derive(Debug)]
pub struct ServerState {
    started: Instant,
    state: AtomicU8,
    /// `/healthcheck/fail` was asked for.
    health_failed: AtomicBool,
    shown: ArcSwap<Shown>,
    /// What `/runtime_modify` has set, and RTDS.
    runtime: Mutex<RuntimeValues>,
    /// Clusters that an update waits for.
    warming: Mutex<Vec<String>>,
    /// Dynamic resources as they came.
    pub book: Book,
    shards: Mutex<Vec<Arc<ShardState>>>,
}

impl Default for ServerState {
    fn default() -> ServerState {
        ServerState {
            started: Instant::now(),
            state: AtomicU8::new(State::PreInitializing as u8),
            health_failed: AtomicBool::new(false),
            shown: ArcSwap::default(),
            runtime: Mutex::default(),
            warming: Mutex::default(),
            book: Book::default(),
            shards: Mutex::default(),
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

    /// A configuration was taken, `unix_us` microseconds after 1970.
    pub fn taken(&self, bootstrap: &Bootstrap, unix_us: u64) {
        self.shown.store(Arc::new(Shown {
            received: bootstrap.received.clone(),
            node: bootstrap.node.json.clone(),
            runtime: bootstrap.runtime.clone(),
            updated: crate::access_log::iso_8601_ms(unix_us),
        }));
    }

    /// The configuration that was taken last.
    #[must_use]
    pub fn shown(&self) -> Arc<Shown> {
        self.shown.load_full()
    }

    /// Sets runtime values; an empty one takes an earlier one back.
    pub fn override_runtime(&self, values: impl Iterator<Item = (String, String)>) {
        let overrides = &mut lock(&self.runtime).admin;
        for (key, value) in values {
            match value.is_empty() {
                true => overrides.remove(&key),
                false => overrides.insert(key, value),
            };
        }
    }

    /// What [`ServerState::override_runtime`] has set.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        lock(&self.runtime).admin.clone()
    }

    /// Sets the values of layers by RTDS, by the names of their resources.
    pub fn set_rtds(&self, values: BTreeMap<String, Overrides>) {
        lock(&self.runtime).rtds = values;
    }

    /// `--service-cluster`
    pub fn set_service_cluster(&self, name: &str) {
        name.clone_into(&mut lock(&self.runtime).service_cluster);
    }

    /// All values that the bootstrap does not have.
    #[must_use]
    pub fn runtime_values(&self) -> RuntimeValues {
        lock(&self.runtime).clone()
    }

    /// An update waits for these clusters.
    pub fn set_warming(&self, names: Vec<String>) {
        *lock(&self.warming) = names;
    }

    /// These shards run.
    pub fn set_shards(&self, shards: Vec<Arc<ShardState>>) {
        *lock(&self.shards) = shards;
    }

    /// The version of the snapshot that each shard has.
    #[must_use]
    pub fn shard_versions(&self) -> Vec<u64> {
        lock(&self.shards).iter().map(|shard| shard.version.load(Ordering::Relaxed)).collect()
    }

    /// The clusters that an update waits for.
    #[must_use]
    pub fn warming(&self) -> Vec<String> {
        lock(&self.warming).clone()
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

/// Nothing is half done in it when a thread panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
