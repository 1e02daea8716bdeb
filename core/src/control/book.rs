//! Dynamic resources as they came, and what waits for what: written by control, read by admin
//! pages. Nobody waits: a page holds what there was, and control copies a list only while one does.
//!
//! What it leaves to others: what the resources mean (`dynamic`), the pages (`admin`).

use super::dynamic::Received;
use crate::config::ResourceKind;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What came, by kind and name.
#[derive(Debug, Default)]
pub struct Book {
    shelves: Mutex<BTreeMap<ResourceKind, Arc<Shelf>>>,
    waiting: Mutex<Arc<BTreeMap<String, Vec<String>>>>,
}

/// What came of one kind.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    /// Of the last response that was accepted.
    pub version: String,
    /// By name.
    pub entries: BTreeMap<String, Entry>,
}

/// What came under a name.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// The last that was accepted.
    pub received: Option<Arc<Received>>,
    /// The last that was refused, if nothing was accepted after it.
    pub failure: Option<Arc<Failure>>,
}

/// A resource that was refused.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub details: String,
    /// The resource.
    pub received: Received,
}

impl Book {
    /// What there is of a kind now.
    #[must_use]
    pub fn shelf(&self, kind: ResourceKind) -> Arc<Shelf> {
        lock(&self.shelves).get(&kind).cloned().unwrap_or_default()
    }

    /// What waits, and for what.
    #[must_use]
    pub fn waiting(&self) -> Arc<BTreeMap<String, Vec<String>>> {
        lock(&self.waiting).clone()
    }

    /// From now on these wait.
    pub(super) fn set_waiting(&self, waiting: BTreeMap<String, Vec<String>>) {
        *lock(&self.waiting) = Arc::new(waiting);
    }

    /// A response was looked at: what was accepted and refused of it.
    pub(super) fn write(
        &self,
        kind: ResourceKind,
        version: Option<&str>,
        accepted: Vec<Received>,
        refused: Vec<Failure>,
    ) {
        let mut shelves = lock(&self.shelves);
        let shelf = Arc::make_mut(shelves.entry(kind).or_default());
        if let Some(version) = version {
            version.clone_into(&mut shelf.version);
        }
        for received in accepted {
            let name = received.name.clone();
            let received = Some(Arc::new(received));
            shelf.entries.insert(name, Entry { received, failure: None });
        }
        for failure in refused {
            let entry = shelf.entries.entry(failure.received.name.clone()).or_default();
            entry.failure = Some(Arc::new(failure));
        }
    }

    /// Forgets those of a kind that are not wanted, or not there, any longer.
    pub(super) fn retain(&self, kind: ResourceKind, is_kept: impl Fn(&str) -> bool) {
        let mut shelves = lock(&self.shelves);
        let Some(shelf) = shelves.get_mut(&kind) else { return };
        let is_gone = |(name, entry): (&String, &Entry)| {
            !is_kept(name) && (entry.received.is_some() || entry.failure.is_none())
        };
        if shelf.entries.iter().any(is_gone) {
            Arc::make_mut(shelf).entries.retain(|name, entry| !is_gone((name, entry)));
        }
    }
}

/// Nothing is half done in it when a thread panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
