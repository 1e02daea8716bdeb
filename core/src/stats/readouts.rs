//! What is set as a whole and not counted: versions, times and durations of subscriptions, and how
//! streams to management servers do. Only the control thread writes, and pages copy; a distribution
//! has the buckets that it needs, as one of a thousand cells for each of many assignments would be
//! mostly empty.
//!
//! What it leaves to others: counters of the same scopes (`registry`), pages (`admin`).

use super::{Histogram, Kind, Value};
use foldhash::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use twox_hash::XxHash64;

/// What follows the prefix of a subscription, or stands alone for ADS.
pub const CONTROL_PLANE: &str = "control_plane";

/// What is known of a subscription.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Updates {
    /// `version_text`, of which `version` is the hash.
    pub version: Arc<str>,
    /// `update_time`, in milliseconds after 1970.
    pub update_time_ms: u64,
    /// `config_reload_time_ms`, where Envoy has it.
    pub reload_time_ms: Option<u64>,
    /// `update_duration`, in milliseconds.
    pub durations: Histogram,
}

/// How a stream to a management server does: one for all subscriptions that it has.
#[derive(Debug, Default)]
pub struct StreamState {
    connected: AtomicBool,
    pending: AtomicU64,
    enforced: AtomicU64,
    identifier: Mutex<Arc<str>>,
}

impl StreamState {
    /// How it does now.
    pub fn set(&self, connected: bool, pending: u64, enforced: u64, identifier: &str) {
        self.connected.store(connected, Relaxed);
        self.pending.store(pending, Relaxed);
        self.enforced.store(enforced, Relaxed);
        let mut shown = lock(&self.identifier);
        if **shown != *identifier {
            *shown = identifier.into();
        }
    }

    /// `connected_state`
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Relaxed)
    }

    /// `identifier`
    #[must_use]
    pub fn identifier(&self) -> Arc<str> {
        lock(&self.identifier).clone()
    }
}

/// What a prefix has.
#[derive(Clone, Debug)]
pub enum Readout {
    /// Of a subscription.
    Updates(Updates),
    /// Of a stream.
    ControlPlane(Arc<StreamState>),
}

const UPDATES: &[(&str, Kind)] = &[
    ("update_time", Kind::Gauge),
    ("version", Kind::Gauge),
    ("version_text", Kind::Text),
    ("update_duration", Kind::Histogram),
];

const UPDATES_AND_RELOADS: &[(&str, Kind)] =
    &[UPDATES[0], UPDATES[1], UPDATES[2], UPDATES[3], ("config_reload_time_ms", Kind::Gauge)];

const STREAM: &[(&str, Kind)] = &[
    ("connected_state", Kind::Gauge),
    ("pending_requests", Kind::Gauge),
    ("rate_limit_enforced", Kind::Counter),
    ("identifier", Kind::Text),
];

impl Readout {
    /// The names of its stats, and what they are. Equal tables are the same one.
    #[must_use]
    pub fn stats(&self) -> &'static [(&'static str, Kind)] {
        match self {
            Readout::Updates(Updates { reload_time_ms: None, .. }) => UPDATES,
            Readout::Updates(_) => UPDATES_AND_RELOADS,
            Readout::ControlPlane(_) => STREAM,
        }
    }

    /// The value of the stat at this place in the table.
    #[must_use]
    pub fn value(&self, place: usize) -> Value {
        match (self, place) {
            (Readout::Updates(it), 0) => Value::Gauge(it.update_time_ms),
            (Readout::Updates(it), 1) => Value::Gauge(hash(&it.version)),
            (Readout::Updates(it), 2) => Value::Text(it.version.clone()),
            (Readout::Updates(it), 3) => Value::Histogram(it.durations.clone()),
            (Readout::Updates(it), _) => Value::Gauge(it.reload_time_ms.unwrap_or_default()),
            (Readout::ControlPlane(it), 0) => Value::Gauge(it.is_connected().into()),
            (Readout::ControlPlane(it), 1) => Value::Gauge(it.pending.load(Relaxed)),
            (Readout::ControlPlane(it), 2) => Value::Counter(it.enforced.load(Relaxed)),
            (Readout::ControlPlane(it), _) => Value::Text(it.identifier()),
        }
    }

    /// So many bytes of its prefix are that of the scope around it; 0: of none.
    #[must_use]
    pub fn outer(&self, prefix: &str) -> usize {
        match self {
            Readout::Updates(_) => 0,
            Readout::ControlPlane(_) => prefix.len().saturating_sub(CONTROL_PLANE.len() + 1),
        }
    }
}

/// Envoy's number for a version; 0 for none.
#[must_use]
pub fn hash(version: &str) -> u64 {
    if version.is_empty() { 0 } else { XxHash64::oneshot(0, version.as_bytes()) }
}

/// All of them, by prefix.
#[derive(Debug, Default)]
pub struct Readouts(Mutex<HashMap<Arc<str>, Arc<Readout>>>);

impl Readouts {
    /// All that there are now, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<(Arc<str>, Arc<Readout>)> {
        self.lock().iter().map(|(prefix, it)| (prefix.clone(), it.clone())).collect()
    }

    /// Changes what is known of a subscription, which is shown from then on.
    pub fn update(&self, prefix: &str, change: impl FnOnce(&mut Updates)) {
        let mut readouts = self.lock();
        if !readouts.contains_key(prefix) {
            readouts.insert(prefix.into(), Arc::new(Readout::Updates(Updates::default())));
        }
        let Some(readout) = readouts.get_mut(prefix) else { return };
        if let Readout::Updates(updates) = Arc::make_mut(readout) {
            change(updates);
        }
    }

    /// Says how the stream of this prefix does: of the subscription's, or empty for ADS.
    pub fn set_control_plane(&self, of: &str, state: &Arc<StreamState>) {
        let dot = if of.is_empty() { "" } else { "." };
        let prefix = format!("{of}{dot}{CONTROL_PLANE}");
        let readout = Readout::ControlPlane(state.clone());
        self.lock().insert(prefix.into(), Arc::new(readout));
    }

    /// Forgets what there is of a subscription.
    pub fn remove(&self, prefix: &str) {
        let mut readouts = self.lock();
        readouts.remove(prefix);
        readouts.remove(format!("{prefix}.{CONTROL_PLANE}").as_str());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Readout>>> {
        lock(&self.0)
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
    fn a_version_has_envoys_number() {
        assert_eq!(hash(""), 0);
        assert_eq!(hash("eds-1"), 5_931_305_576_739_652_579);
        assert_eq!(hash("lds-1"), 12_930_335_383_785_123_030);
    }

    #[test]
    fn what_is_removed_takes_its_stream_with_it() {
        let readouts = Readouts::default();
        readouts.update("sds.a", |it| it.update_time_ms = 7);
        let stream = Arc::default();
        readouts.set_control_plane("sds.a", &stream);
        readouts.set_control_plane("", &stream);
        readouts.remove("sds.a");
        let left: Vec<_> = readouts.all().into_iter().map(|(prefix, _)| prefix).collect();
        assert_eq!(left, ["control_plane".into()]);
        let readout = Readout::ControlPlane(stream);
        assert_eq!((readout.outer("control_plane"), readout.outer("a.control_plane")), (0, 1));
    }
}
