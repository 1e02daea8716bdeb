//! Dynamic resources as they came, and what waits for what: written by control, read by admin
//! pages. Nobody waits: a page holds what there was, and control copies a list only while one does.
//!
//! What it leaves to others: what the resources mean (`dynamic`), the pages (`admin`).

use super::dynamic::Received;
use crate::config::ResourceKind;
use crate::snapshot::{ListenerSockets, Snapshot};
use crate::stats::StreamState;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Of so many names of a kind that never were accepted, what was refused is kept; the oldest goes
/// first. A server that is wrong in ever new names fills no memory.
const ONLY_REFUSED_MAX: usize = 100;

/// What came, by kind and name.
#[derive(Debug, Default)]
pub struct Book {
    shelves: Mutex<BTreeMap<ResourceKind, Arc<Shelf>>>,
    waiting: Mutex<Arc<BTreeMap<String, Vec<String>>>>,
    asked: Mutex<Arc<Vec<Asked>>>,
    /// What listeners accept, and those that have stopped.
    listeners: Mutex<(Vec<Drained>, Vec<Drained>)>,
}

/// A kind that is asked for at one place.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What.
    pub kind: ResourceKind,
    /// Where: `ads`, the cluster of a server, or a file.
    pub place: String,
    /// How many names; `None`: all that there are.
    pub names: Option<usize>,
    /// How the stream does; a file has none.
    pub state: Option<Arc<StreamState>>,
}

/// What came of one kind.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    /// Of the last response that was accepted.
    pub version: String,
    /// The last response of all.
    pub answered: Option<Answered>,
    /// By name.
    pub entries: BTreeMap<String, Entry>,
}

/// A response that was looked at.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Microseconds after 1970.
    pub at_unix_us: u64,
    /// Why something in it was refused, if it was.
    pub refused: Option<String>,
}

/// What came under a name.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// The last that was accepted.
    pub received: Option<Arc<Received>>,
    /// The last that was refused, if nothing was accepted after it.
    pub failure: Option<Arc<Failure>>,
    /// What was accepted is not complete, or cannot be opened.
    pub is_cold: bool,
    /// It cannot be opened.
    pub is_broken: bool,
    /// What serves until then, if anything does.
    pub before: Option<Arc<Received>>,
}

impl Entry {
    /// What serves.
    #[must_use]
    pub fn active(&self) -> Option<&Arc<Received>> {
        if self.is_cold { self.before.as_ref() } else { self.received.as_ref() }
    }
}

/// A listener that does not accept any longer, while it has connections.
#[derive(Clone, Debug)]
struct Drained {
    name: String,
    received: Arc<Received>,
    sockets: Weak<ListenerSockets>,
}

/// A resource that was refused.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub details: String,
    /// The resource.
    pub received: Received,
}

impl Shelf {
    /// Forgets the oldest of those that were only refused, when there are too many.
    fn bound(&mut self) {
        let refused = self.entries.iter().filter(|(_, entry)| entry.received.is_none());
        let at = |entry: &Entry| entry.failure.as_ref().map(|it| it.received.at_unix_us);
        let mut refused: Vec<_> = refused.map(|(name, entry)| (at(entry), name.clone())).collect();
        let excess = refused.len().saturating_sub(ONLY_REFUSED_MAX);
        refused.sort_unstable();
        for (_, name) in refused.into_iter().take(excess) {
            self.entries.remove(&name);
        }
    }
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

    /// What is asked for, and where.
    #[must_use]
    pub fn asked(&self) -> Arc<Vec<Asked>> {
        lock(&self.asked).clone()
    }

    /// From now on this is asked for.
    pub(super) fn set_asked(&self, asked: Vec<Asked>) {
        *lock(&self.asked) = Arc::new(asked);
    }

    /// A response was looked at; why something in it was refused, if it was.
    pub(super) fn set_answered(&self, kind: ResourceKind, refused: Option<String>) {
        let at_unix_us = tidegate_io::Now::read().unix_us;
        let mut shelves = lock(&self.shelves);
        let shelf = Arc::make_mut(shelves.entry(kind).or_default());
        shelf.answered = Some(Answered { at_unix_us, refused });
    }

    /// From now on these wait.
    pub(super) fn set_waiting(&self, waiting: Arc<BTreeMap<String, Vec<String>>>) {
        let before = std::mem::replace(&mut *lock(&self.waiting), waiting);
        let now = self.waiting();
        for name in before.keys().chain(now.keys()) {
            let Some((kind, resource)) = kind_of(name) else { continue };
            let mut shelves = lock(&self.shelves);
            let Some(shelf) = shelves.get_mut(&kind) else { continue };
            let waits = now.contains_key(name);
            let found = shelf.entries.get(resource);
            // What could not be opened stays as cold as it is.
            if !found.is_some_and(|it| it.is_cold != waits && !it.is_broken) {
                continue;
            }
            if let Some(entry) = Arc::make_mut(shelf).entries.get_mut(resource) {
                entry.is_cold = waits;
                entry.before = entry.received.clone().filter(|_| waits);
            }
        }
    }

    /// What was accepted before cannot be opened now that it is complete.
    pub(super) fn set_failed(&self, kind: ResourceKind, name: &str, details: &str) {
        let mut shelves = lock(&self.shelves);
        let Some(shelf) = shelves.get_mut(&kind) else { return };
        let Some(entry) = Arc::make_mut(shelf).entries.get_mut(name) else { return };
        let Some(received) = &entry.received else { return };
        let (details, received) = (details.to_owned(), Received::clone(received));
        if !entry.is_cold {
            entry.before.clone_from(&entry.received);
        }
        (entry.is_cold, entry.is_broken) = (true, true);
        entry.failure = Some(Arc::new(Failure { details, received }));
    }

    /// A snapshot is published: listeners that are not in it with the same sockets have stopped.
    pub(super) fn published(&self, snapshot: &Snapshot) {
        let shelf = self.shelf(ResourceKind::Listener);
        let accepting = snapshot.listeners.iter().filter_map(|entry| {
            let name = entry.config.name.clone();
            let received = shelf.entries.get(&name)?.active()?.clone();
            Some(Drained { name, received, sockets: Arc::downgrade(&entry.sockets) })
        });
        let accepting: Vec<_> = accepting.collect();
        let mut listeners = lock(&self.listeners);
        let (before, drained) = &mut *listeners;
        let open: HashSet<_> = accepting.iter().map(|one| one.sockets.as_ptr()).collect();
        let before = std::mem::replace(before, accepting);
        drained.extend(before.into_iter().filter(|one| !open.contains(&one.sockets.as_ptr())));
        drained.retain(|one| one.sockets.strong_count() > 0);
    }

    /// Listeners that do not accept any longer and have connections; of a name the newest.
    #[must_use]
    pub fn draining(&self) -> BTreeMap<String, Arc<Received>> {
        let listeners = lock(&self.listeners);
        let open = listeners.1.iter().filter(|one| one.sockets.strong_count() > 0);
        open.map(|one| (one.name.clone(), one.received.clone())).collect()
    }

    /// A response was looked at: what was accepted and refused of it.
    pub(super) fn write(
        &self,
        kind: ResourceKind,
        version: Option<&str>,
        accepted: Vec<Received>,
        refused: Vec<Failure>,
    ) {
        let waiting = self.waiting();
        let waits = |kind, name: &str| match kind {
            ResourceKind::Cluster => waiting.contains_key(&format!("cluster `{name}`")),
            ResourceKind::Listener => waiting.contains_key(&format!("listener `{name}`")),
            _ => false,
        };
        let mut shelves = lock(&self.shelves);
        let shelf = Arc::make_mut(shelves.entry(kind).or_default());
        if let Some(version) = version {
            version.clone_into(&mut shelf.version);
        }
        for received in accepted {
            let name = received.name.clone();
            let is_cold = waits(kind, &name);
            let old = shelf.entries.remove(&name).unwrap_or_default();
            let before = if old.is_cold { old.before } else { old.received };
            let before = before.filter(|_| is_cold);
            let received = Some(Arc::new(received));
            let entry = Entry { received, is_cold, before, ..Entry::default() };
            shelf.entries.insert(name, entry);
        }
        let mut any_refused = false;
        for failure in refused {
            let entry = shelf.entries.entry(failure.received.name.clone()).or_default();
            entry.failure = Some(Arc::new(failure));
            any_refused = true;
        }
        if any_refused {
            shelf.bound();
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

/// Of `cluster `one`` the kind and the name.
fn kind_of(waiting: &str) -> Option<(ResourceKind, &str)> {
    let (noun, name) = waiting.split_once(" `")?;
    let kind = match noun {
        "cluster" => ResourceKind::Cluster,
        "listener" => ResourceKind::Listener,
        _ => return None,
    };
    Some((kind, name.strip_suffix('`')?))
}

/// Nothing is half done in it when a thread panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::dynamic::Raw;

    fn received(number: usize) -> Received {
        let raw = Raw::Json("{}".to_owned());
        let at_unix_us = 1_000 - number as u64;
        Received { name: format!("n{number}"), version: String::new(), at_unix_us, raw }
    }

    #[test]
    fn what_was_only_refused_is_kept_of_the_newest() {
        let (book, kind) = (Book::default(), ResourceKind::Cluster);
        book.write(kind, Some("1"), vec![received(999)], Vec::new());
        let numbers = 0..ONLY_REFUSED_MAX + 3;
        let failures =
            numbers.map(|number| Failure { details: String::new(), received: received(number) });
        book.write(kind, None, Vec::new(), failures.rev().collect());
        let shelf = book.shelf(kind);
        assert_eq!(shelf.entries.len(), ONLY_REFUSED_MAX + 1);
        assert!(shelf.entries.contains_key("n0") && shelf.entries.contains_key("n999"));
        assert!(!shelf.entries.contains_key(&format!("n{}", ONLY_REFUSED_MAX)));
    }
}
