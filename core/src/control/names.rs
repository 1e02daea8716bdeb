//! Names to resolve: when to ask, and what the answers were. Pure: answers and `now` in, names to
//! ask out.
//!
//! What it leaves to others: asking (`dns`), and what addresses are for (`resources`).

use crate::config::DnsLookupFamily;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tidegate_io::Instant;

/// Something to ask a resolver for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DnsName {
    /// The host name.
    pub host: String,
    /// Which families count.
    pub family: DnsLookupFamily,
}

/// What a resolver answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The addresses; none is an answer too, and empties a cluster.
    Addresses {
        /// In any order.
        addresses: Vec<IpAddr>,
        /// The smallest TTL in the answer; `None` when it came without one, as from `/etc/hosts`.
        ttl: Option<Duration>,
    },
    /// No answer: the old addresses stay. The text says why, for the log.
    Failed(String),
}

/// How often a name is asked for again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refresh {
    /// `dns_refresh_rate`
    pub rate: Duration,
    /// `respect_dns_ttl`: the answer's TTL counts instead, unless it is 0.
    pub respect_ttl: bool,
}

/// What an answer changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Nothing that anybody needs to hear of.
    Nothing,
    /// The addresses, or this was the first answer.
    Addresses {
        /// The name had failed before.
        recovered: bool,
    },
    /// The first failure after a success, or the first answer of all, with its reason.
    Failed(String),
}

#[derive(Debug)]
struct Resolution {
    refresh: Refresh,
    /// Sorted, none twice.
    addresses: Vec<IpAddr>,
    answered: bool,
    failing: bool,
    /// When to ask next; `None` while the resolver is asked.
    due: Option<Instant>,
}

/// All names that clusters need now.
#[derive(Debug, Default)]
pub struct Names {
    names: BTreeMap<DnsName, Resolution>,
}

impl Names {
    /// Sets which names are needed. New ones are due at once, others keep what is known of them.
    pub fn set_wanted(&mut self, wanted: BTreeMap<DnsName, Refresh>, now: Instant) {
        self.names.retain(|name, _| wanted.contains_key(name));
        for (name, refresh) in wanted {
            let resolution = self.names.entry(name).or_insert_with(|| Resolution {
                refresh,
                addresses: Vec::new(),
                answered: false,
                failing: false,
                due: Some(now),
            });
            if refresh.rate < resolution.refresh.rate {
                let soon = now + refresh.rate;
                resolution.due = resolution.due.map(|due| due.min(soon));
            }
            resolution.refresh = refresh;
        }
    }

    /// Takes an answer. One for a name that nobody needs any more is dropped.
    pub fn handle_answer(&mut self, name: &DnsName, answer: Answer, now: Instant) -> Change {
        let Some(resolution) = self.names.get_mut(name) else { return Change::Nothing };
        let first = !std::mem::replace(&mut resolution.answered, true);
        match answer {
            Answer::Addresses { mut addresses, ttl } => {
                let refresh = resolution.refresh;
                let ttl = ttl.filter(|ttl| refresh.respect_ttl && !ttl.is_zero());
                resolution.due = Some(now + ttl.unwrap_or(refresh.rate));
                let recovered = std::mem::replace(&mut resolution.failing, false);
                addresses.sort_unstable();
                addresses.dedup();
                if !first && !recovered && addresses == resolution.addresses {
                    return Change::Nothing;
                }
                resolution.addresses = addresses;
                Change::Addresses { recovered }
            }
            Answer::Failed(reason) => {
                resolution.due = Some(now + resolution.refresh.rate);
                if std::mem::replace(&mut resolution.failing, true) {
                    return Change::Nothing;
                }
                Change::Failed(reason)
            }
        }
    }

    /// The names that are due, which count as asked from now on.
    pub fn poll_due(&mut self, now: Instant) -> Vec<DnsName> {
        let mut due = Vec::new();
        for (name, resolution) in &mut self.names {
            if resolution.due.is_some_and(|at| at <= now) {
                resolution.due = None;
                due.push(name.clone());
            }
        }
        due
    }

    /// When the next name is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.names.values().filter_map(|resolution| resolution.due).min()
    }

    /// The addresses of a name: empty before its first answer.
    #[must_use]
    pub fn addresses(&self, name: &DnsName) -> &[IpAddr] {
        self.names.get(name).map_or(&[], |resolution| &resolution.addresses)
    }

    /// Whether a first answer for the name, good or bad, has come.
    #[must_use]
    pub fn answered(&self, name: &DnsName) -> bool {
        self.names.get(name).is_some_and(|resolution| resolution.answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Refresh = Refresh { rate: Duration::from_secs(5), respect_ttl: false };
    const BY_TTL: Refresh = Refresh { rate: Duration::from_secs(5), respect_ttl: true };

    fn at(seconds: u64) -> Instant {
        Instant::default() + Duration::from_secs(seconds)
    }

    fn name() -> DnsName {
        DnsName { host: "app".to_owned(), family: DnsLookupFamily::All }
    }

    fn names(refresh: Refresh) -> Names {
        let mut names = Names::default();
        names.set_wanted(BTreeMap::from([(name(), refresh)]), at(0));
        assert_eq!(names.poll_due(at(0)), [name()]);
        assert_eq!(names.poll_due(at(0)), [], "a name is asked for once at a time");
        names
    }

    fn found(addresses: &[&str], ttl_s: u64) -> Answer {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Answer::Addresses { addresses, ttl: Some(Duration::from_secs(ttl_s)) }
    }

    #[test]
    fn an_answer_is_sorted_without_doubles_and_asked_for_again_after_the_rate() {
        let mut names = names(RATE);
        let answer = found(&["10.0.0.2", "10.0.0.1", "10.0.0.2"], 60);
        assert_eq!(
            names.handle_answer(&name(), answer, at(1)),
            Change::Addresses { recovered: false }
        );
        let expected: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        assert_eq!(names.addresses(&name()), expected);
        assert_eq!(names.poll_timeout(), Some(at(6)));
        assert_eq!(names.poll_due(at(5)), []);
        assert_eq!(names.poll_due(at(6)), [name()]);
        let same = found(&["10.0.0.1", "10.0.0.2"], 60);
        assert_eq!(names.handle_answer(&name(), same, at(7)), Change::Nothing);
    }

    #[test]
    fn the_ttl_counts_when_it_is_respected_but_a_ttl_of_zero_does_not() {
        let mut names = names(BY_TTL);
        names.handle_answer(&name(), found(&["10.0.0.1"], 60), at(1));
        assert_eq!(names.poll_timeout(), Some(at(61)));
        assert_eq!(names.poll_due(at(61)), [name()]);
        names.handle_answer(&name(), found(&["10.0.0.1"], 0), at(61));
        assert_eq!(names.poll_timeout(), Some(at(66)));
    }

    #[test]
    fn a_failure_keeps_the_addresses_and_is_told_once() {
        let mut names = names(RATE);
        names.handle_answer(&name(), found(&["10.0.0.1"], 60), at(1));
        names.poll_due(at(6));
        let failed = || Answer::Failed("timeout".to_owned());
        assert_eq!(
            names.handle_answer(&name(), failed(), at(6)),
            Change::Failed("timeout".to_owned())
        );
        assert_eq!(names.handle_answer(&name(), failed(), at(11)), Change::Nothing);
        assert_eq!(names.addresses(&name()).len(), 1);
        let again = found(&["10.0.0.1"], 60);
        assert_eq!(
            names.handle_answer(&name(), again, at(12)),
            Change::Addresses { recovered: true }
        );
    }

    #[test]
    fn an_empty_answer_clears_the_addresses() {
        let mut names = names(RATE);
        names.handle_answer(&name(), found(&["10.0.0.1"], 60), at(1));
        assert_eq!(
            names.handle_answer(&name(), found(&[], 60), at(2)),
            Change::Addresses { recovered: false }
        );
        assert!(names.addresses(&name()).is_empty());
    }

    #[test]
    fn an_answer_for_a_name_that_is_gone_is_dropped() {
        let mut names = names(RATE);
        names.set_wanted(BTreeMap::new(), at(1));
        assert_eq!(names.handle_answer(&name(), found(&["10.0.0.1"], 60), at(1)), Change::Nothing);
        assert_eq!(names.poll_timeout(), None);
        assert!(!names.answered(&name()));
    }

    #[test]
    fn a_shorter_rate_takes_effect_at_once() {
        let mut names = names(Refresh { rate: Duration::from_secs(3600), respect_ttl: false });
        names.handle_answer(&name(), found(&["10.0.0.1"], 60), at(1));
        names.set_wanted(BTreeMap::from([(name(), RATE)]), at(2));
        assert_eq!(names.poll_timeout(), Some(at(7)));
        assert!(names.answered(&name()), "what is known of a name stays");
    }
}
