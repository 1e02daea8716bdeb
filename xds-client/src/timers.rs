//! When names are due: the time to live of resources, and how long a first answer may take.
//!
//! What it leaves to others: the clock; what follows.

use crate::ResourceType;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// The first answer to a subscription.
    Fetch,
    /// The end of a resource's life.
    Ttl,
}

/// A timer for each of many names.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_name: BTreeMap<(Due, ResourceType), BTreeMap<String, Instant>>,
    by_time: BTreeSet<(Instant, Due, ResourceType, String)>,
}

impl Timers {
    /// Sets the timer of a name, or sets it anew.
    pub(crate) fn set(&mut self, due: Due, kind: ResourceType, name: &str, at: Instant) {
        self.cancel(due, kind, name);
        self.by_name.entry((due, kind)).or_default().insert(name.to_owned(), at);
        self.by_time.insert((at, due, kind, name.to_owned()));
    }

    /// Ends the timer of a name, when it has one.
    pub(crate) fn cancel(&mut self, due: Due, kind: ResourceType, name: &str) {
        let Some(names) = self.by_name.get_mut(&(due, kind)) else { return };
        if let Some((name, at)) = names.remove_entry(name) {
            self.by_time.remove(&(at, due, kind, name));
        }
    }

    /// Ends the timers of names that are not kept.
    pub(crate) fn retain(&mut self, due: Due, kind: ResourceType, keep: impl Fn(&str) -> bool) {
        let Some(names) = self.by_name.get_mut(&(due, kind)) else { return };
        names.retain(|name, at| {
            let kept = keep(name);
            if !kept {
                self.by_time.remove(&(*at, due, kind, name.clone()));
            }
            kept
        });
    }

    pub(crate) fn has(&self, due: Due, kind: ResourceType, name: &str) -> bool {
        self.by_name.get(&(due, kind)).is_some_and(|names| names.contains_key(name))
    }

    /// The earliest of all.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|entry| entry.0)
    }

    /// What is due now, grouped; it is due no more.
    pub(crate) fn take(&mut self, now: Instant) -> BTreeMap<(Due, ResourceType), Vec<String>> {
        let mut taken: BTreeMap<_, Vec<String>> = BTreeMap::new();
        while self.next().is_some_and(|at| at <= now) {
            let Some((_, due, kind, name)) = self.by_time.pop_first() else { break };
            if let Some(names) = self.by_name.get_mut(&(due, kind)) {
                names.remove(&name);
            }
            taken.entry((due, kind)).or_default().push(name);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "any instant does for a test")]
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_timer_set_anew_is_due_once() {
        let (mut timers, now) = (Timers::default(), Instant::now());
        let kind = ResourceType::Secret;
        timers.set(Due::Ttl, kind, "a", now);
        timers.set(Due::Ttl, kind, "a", now + Duration::from_secs(2));
        timers.set(Due::Ttl, kind, "b", now + Duration::from_secs(1));
        timers.set(Due::Fetch, kind, "b", now);
        timers.cancel(Due::Fetch, kind, "b");
        assert!(timers.take(now).is_empty() && timers.has(Due::Ttl, kind, "a"));
        let taken = timers.take(now + Duration::from_secs(3));
        assert_eq!(taken[&(Due::Ttl, kind)], ["b", "a"]);
        assert_eq!((timers.next(), timers.has(Due::Ttl, kind, "a")), (None, false));
    }
}
