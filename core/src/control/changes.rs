//! What an update changes, by name: for the log line that says so, and for counters.
//!
//! What it leaves to others: making the change.

use crate::config;
use foldhash::HashMap;
use std::fmt;
use std::sync::Arc;

/// Names are listed up to this many in a log line; more are counted.
const NAMES_MAX: usize = 8;

/// Names of what is new, different and gone, of one kind of thing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Difference {
    /// New.
    pub added: Vec<String>,
    /// Different.
    pub modified: Vec<String>,
    /// Gone.
    pub removed: Vec<String>,
}

impl Difference {
    fn between<'a, T: PartialEq + 'a>(
        old: impl Iterator<Item = (&'a str, &'a Arc<T>)>,
        new: impl Iterator<Item = (&'a str, &'a Arc<T>)>,
    ) -> Difference {
        let mut old: HashMap<_, _> = old.collect();
        let mut difference = Difference::default();
        for (name, value) in new {
            match old.remove(name) {
                None => difference.added.push(name.to_owned()),
                Some(before) if !same(before, value) => difference.modified.push(name.to_owned()),
                Some(_) => {}
            }
        }
        difference.removed = old.into_keys().map(str::to_owned).collect();
        difference.removed.sort_unstable();
        difference
    }

    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }
}

/// Mostly it is the same allocation.
pub(super) fn same<T: PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

/// What an update changes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Of clusters.
    pub clusters: Difference,
    /// Of listeners, their routes included.
    pub listeners: Difference,
}

impl Changes {
    /// Compares old and new clusters, and old and new listeners.
    pub fn between<'a>(
        clusters: (impl Iterator<Item = &'a Arc<config::Cluster>>, &'a [Arc<config::Cluster>]),
        listeners: (impl Iterator<Item = &'a Arc<config::Listener>>, &'a [Arc<config::Listener>]),
    ) -> Changes {
        let cluster = |config: &'a Arc<config::Cluster>| (config.name.as_str(), config);
        let listener = |config: &'a Arc<config::Listener>| (config.name.as_str(), config);
        Changes {
            clusters: Difference::between(clusters.0.map(cluster), clusters.1.iter().map(cluster)),
            listeners: Difference::between(
                listeners.0.map(listener),
                listeners.1.iter().map(listener),
            ),
        }
    }
}

impl Changes {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty() && self.listeners.is_empty()
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing changed");
        }
        let mut first = true;
        for (kind, difference) in [("cluster", &self.clusters), ("listener", &self.listeners)] {
            for (what, names) in [
                ("added", &difference.added),
                ("modified", &difference.modified),
                ("removed", &difference.removed),
            ] {
                if names.is_empty() {
                    continue;
                }
                if !std::mem::take(&mut first) {
                    f.write_str("; ")?;
                }
                let plural = if names.len() == 1 { "" } else { "s" };
                write!(f, "{kind}{plural} {what}: {}", listed(names))?;
            }
        }
        Ok(())
    }
}

fn listed(names: &[String]) -> String {
    if names.len() <= NAMES_MAX {
        return names.join(", ");
    }
    format!("{} and {} more", names[..NAMES_MAX].join(", "), names.len() - NAMES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(old: &[(&'static str, i32)], new: &[(&'static str, i32)]) -> Difference {
        let shared = |of: &[(&'static str, i32)]| -> Vec<_> {
            of.iter().map(|(name, value)| (*name, Arc::new(*value))).collect()
        };
        let (old, new) = (shared(old), shared(new));
        Difference::between(
            old.iter().map(|(name, value)| (*name, value)),
            new.iter().map(|(name, value)| (*name, value)),
        )
    }

    #[test]
    fn names_what_is_new_different_and_gone() {
        let difference =
            difference(&[("a", 1), ("b", 1), ("c", 1)], &[("b", 2), ("c", 1), ("d", 1)]);
        assert_eq!(difference.added, ["d"]);
        assert_eq!(difference.modified, ["b"]);
        assert_eq!(difference.removed, ["a"]);
    }

    #[test]
    fn says_so_in_a_sentence() {
        let clusters = difference(&[("a", 1)], &[("b", 1), ("c", 1)]);
        let changes = Changes { clusters, listeners: Difference::default() };
        assert_eq!(changes.to_string(), "clusters added: b, c; cluster removed: a");
        assert_eq!(Changes::default().to_string(), "nothing changed");
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<_> = (0..10).map(|n| n.to_string()).collect();
        assert_eq!(listed(&names), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
    }
}
