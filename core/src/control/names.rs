//! Names to resolve: when to ask, and what the answers were. Pure: answers and `now` in, names to
//! ask out.
//!
//! What it leaves to others: asking (`dns`), and what addresses are for (`resources`).

use crate::config::{DnsLookupFamily, DnsResolution, DnsResolver, RefreshRate};
use crate::shard::Random;
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
    /// Who is asked.
    pub resolver: DnsResolver,
}

impl DnsName {
    /// A name as a cluster asks for it.
    #[must_use]
    pub fn of(host: &str, dns: &DnsResolution) -> DnsName {
        DnsName { host: host.to_owned(), family: dns.family, resolver: dns.resolver.clone() }
    }
}

/// What a resolver answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The addresses; none is an answer too, and empties a cluster.
    Addresses {
        /// In the order in which they came: the first is that of a LOGICAL_DNS cluster.
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
    /// `dns_failure_refresh_rate`; without it a failure is repeated at `rate`.
    pub failure_rate: Option<RefreshRate>,
    /// `respect_dns_ttl`: the answer's TTL counts instead, unless it is 0.
    pub respect_ttl: bool,
    /// `dns_min_refresh_rate`: a TTL below counts as this.
    pub min_ttl: Duration,
    /// `dns_jitter`: at random, less than this is added.
    pub jitter: Duration,
}

impl Refresh {
    /// As a cluster asks for it.
    #[must_use]
    pub fn of(dns: &DnsResolution) -> Refresh {
        Refresh {
            rate: dns.refresh_rate,
            failure_rate: dns.failure_refresh_rate,
            respect_ttl: dns.respect_ttl,
            min_ttl: dns.min_refresh_rate,
            jitter: dns.jitter,
        }
    }

    /// What two clusters with the same name need: no cluster waits longer than it asked for.
    #[must_use]
    pub fn both(self, other: Refresh) -> Refresh {
        Refresh {
            rate: self.rate.min(other.rate),
            failure_rate: match (self.failure_rate, other.failure_rate) {
                (Some(a), Some(b)) if a.base_interval < b.base_interval => Some(a),
                (Some(_), Some(b)) => Some(b),
                // One that wants the fixed rate gets it.
                _ => None,
            },
            respect_ttl: self.respect_ttl && other.respect_ttl,
            min_ttl: self.min_ttl.min(other.min_ttl),
            jitter: self.jitter.min(other.jitter),
        }
    }

    /// How long an answer is good for.
    fn after_answer(&self, ttl: Option<Duration>, random: &mut Random) -> Duration {
        let ttl = ttl.filter(|ttl| self.respect_ttl && !ttl.is_zero());
        let rate = ttl.map_or(self.rate, |ttl| ttl.max(self.min_ttl));
        rate + part_of(self.jitter, random)
    }

    /// How long to wait after the given number of failures in a row, the last one included: with a
    /// failure rate at random, up to twice as long as the time before.
    fn after_failure(&self, failures: u32, random: &mut Random) -> Duration {
        let Some(RefreshRate { base_interval, max_interval }) = self.failure_rate else {
            return self.rate;
        };
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        part_of(base_interval.saturating_mul(doubled).min(max_interval), random)
    }
}

/// A random part of a time, in milliseconds.
fn part_of(time: Duration, random: &mut Random) -> Duration {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random.draw().checked_rem(ms).unwrap_or(0))
}

/// What an answer changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Nothing that anybody needs to hear of.
    Nothing,
    /// Which address is the first, of the same addresses.
    Order,
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
    /// The first of the last answer that was not empty.
    first: Option<IpAddr>,
    answered: bool,
    /// Failures since the last answer.
    failures: u32,
    /// When to ask next; `None` while the resolver is asked.
    due: Option<Instant>,
}

/// All names that clusters need now.
#[derive(Debug)]
pub struct Names {
    names: BTreeMap<DnsName, Resolution>,
    random: Random,
}

impl Names {
    /// No names. Processes give different seeds, so that they do not ask at the same times.
    #[must_use]
    pub fn new(seed: u64) -> Names {
        Names { names: BTreeMap::new(), random: Random::new(seed) }
    }

    /// Sets which names are needed. New ones are due at once, others keep what is known of them.
    pub fn set_wanted(&mut self, wanted: BTreeMap<DnsName, Refresh>, now: Instant) {
        self.names.retain(|name, _| wanted.contains_key(name));
        for (name, refresh) in wanted {
            let resolution = self.names.entry(name).or_insert_with(|| Resolution {
                refresh,
                addresses: Vec::new(),
                first: None,
                answered: false,
                failures: 0,
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
                let wait = resolution.refresh.after_answer(ttl, &mut self.random);
                resolution.due = Some(now + wait);
                let recovered = std::mem::replace(&mut resolution.failures, 0) > 0;
                let front = addresses.first().copied().or(resolution.first);
                addresses.sort_unstable();
                addresses.dedup();
                let is_same = addresses == resolution.addresses && !first && !recovered;
                resolution.addresses = addresses;
                match std::mem::replace(&mut resolution.first, front) == front {
                    true if is_same => Change::Nothing,
                    false if is_same => Change::Order,
                    _ => Change::Addresses { recovered },
                }
            }
            Answer::Failed(reason) => {
                let failures = resolution.failures.saturating_add(1);
                let wait = resolution.refresh.after_failure(failures, &mut self.random);
                resolution.due = Some(now + wait);
                resolution.failures = failures;
                if failures > 1 {
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

    /// The first address of the last answer that had one.
    #[must_use]
    pub fn first(&self, name: &DnsName) -> Option<IpAddr> {
        self.names.get(name)?.first
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

    const RATE: Refresh = Refresh {
        rate: Duration::from_secs(5),
        failure_rate: None,
        respect_ttl: false,
        min_ttl: Duration::ZERO,
        jitter: Duration::ZERO,
    };
    const BY_TTL: Refresh = Refresh { respect_ttl: true, ..RATE };

    fn at(seconds: u64) -> Instant {
        Instant::default() + Duration::from_secs(seconds)
    }

    fn name() -> DnsName {
        DnsName {
            host: "app".to_owned(),
            family: DnsLookupFamily::All,
            resolver: DnsResolver::default(),
        }
    }

    fn names(refresh: Refresh) -> Names {
        let mut names = Names::new(1);
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
        let same = found(&["10.0.0.2", "10.0.0.1"], 60);
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
        let mut names = names(Refresh { rate: Duration::from_secs(3600), ..RATE });
        names.handle_answer(&name(), found(&["10.0.0.1"], 60), at(1));
        names.set_wanted(BTreeMap::from([(name(), RATE)]), at(2));
        assert_eq!(names.poll_timeout(), Some(at(7)));
        assert!(names.answered(&name()), "what is known of a name stays");
    }

    #[test]
    fn the_first_address_is_that_of_the_last_answer_that_had_one() {
        let mut names = names(RATE);
        let first = |names: &Names| names.first(&name()).map(|ip| ip.to_string());
        names.handle_answer(&name(), found(&["10.0.0.2", "10.0.0.1"], 60), at(1));
        assert_eq!(first(&names).as_deref(), Some("10.0.0.2"));
        let turned = names.handle_answer(&name(), found(&["10.0.0.1", "10.0.0.2"], 60), at(2));
        assert_eq!(turned, Change::Order);
        assert_eq!(first(&names).as_deref(), Some("10.0.0.1"));
        names.handle_answer(&name(), found(&[], 60), at(3));
        assert_eq!(first(&names).as_deref(), Some("10.0.0.1"));
    }

    #[test]
    fn a_short_ttl_counts_as_the_least_one() {
        let mut names = names(Refresh { min_ttl: Duration::from_secs(20), ..BY_TTL });
        names.handle_answer(&name(), found(&["10.0.0.1"], 3), at(1));
        assert_eq!(names.poll_timeout(), Some(at(21)));
        names.poll_due(at(21));
        names.handle_answer(&name(), found(&["10.0.0.1"], 30), at(21));
        assert_eq!(names.poll_timeout(), Some(at(51)));
    }

    #[test]
    fn jitter_adds_less_than_itself() {
        let mut names = names(Refresh { jitter: Duration::from_secs(2), ..RATE });
        let mut times = std::collections::HashSet::new();
        for _ in 0..50 {
            names.handle_answer(&name(), found(&["10.0.0.1"], 60), at(0));
            let due = names.poll_timeout().unwrap();
            assert!((at(5)..at(7)).contains(&due), "{due:?}");
            times.insert(due);
        }
        assert!(times.len() > 40, "{} times", times.len());
    }

    #[test]
    fn failures_back_off_up_to_the_longest_interval() {
        let seconds = Duration::from_secs;
        let rate = RefreshRate { base_interval: seconds(2), max_interval: seconds(9) };
        let mut names = names(Refresh { failure_rate: Some(rate), ..RATE });
        for bound in [2, 4, 8, 9, 9] {
            names.handle_answer(&name(), Answer::Failed("no".to_owned()), at(0));
            let due = names.poll_timeout().unwrap();
            assert!(due < at(bound), "{due:?} is not before {bound} s");
        }
        names.handle_answer(&name(), found(&["10.0.0.1"], 60), at(0));
        assert_eq!(names.poll_timeout(), Some(at(5)));
        names.handle_answer(&name(), Answer::Failed("no".to_owned()), at(0));
        assert!(names.poll_timeout().unwrap() < at(2), "an answer ends the backing off");
    }
}
