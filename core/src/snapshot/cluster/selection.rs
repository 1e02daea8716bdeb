//! Which hosts take part in picks, and what share of them: priorities, health, panic and weights of
//! localities, by Envoy's rules.
//!
//! With the overprovisioning factor 140 a priority of which 50 % is healthy can take 70 % of the
//! requests, and the next one takes the 30 % that are left; from 72 % on it takes all. Degraded
//! hosts of all priorities come after healthy hosts of all priorities. A priority of which too few
//! are available panics, unless all priorities together can take everything: then it uses all its
//! hosts, whatever their health.
//!
//! It is computed once per change of the hosts, so a pick costs none of it.
//!
//! What it leaves to others: choosing within a group (`upstream::balancer`).

use super::endpoints::{HostPage, Hosts};
use super::members::Members;
use crate::config::{self, Availability};
use crate::paged::Page;
use std::collections::HashMap;

/// How picks are shared out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SelectionRules {
    /// `overprovisioning_factor` in percent.
    pub overprovisioning_factor: u32,
    /// `weighted_priority_health`
    pub weighted_priority_health: bool,
    /// `healthy_panic_threshold` in percent.
    pub healthy_panic_percent: u32,
    /// `fail_traffic_on_panic`
    pub fails_on_panic: bool,
    /// `locality_weighted_lb_config`
    pub is_locality_weighted: bool,
}

impl SelectionRules {
    /// The rules of this cluster.
    #[must_use]
    pub fn of(cluster: &config::Cluster) -> SelectionRules {
        let assignment = &cluster.load_assignment;
        let balancing = &cluster.load_balancing;
        SelectionRules {
            overprovisioning_factor: assignment.overprovisioning_factor,
            weighted_priority_health: assignment.weighted_priority_health,
            healthy_panic_percent: balancing.healthy_panic_percent,
            fails_on_panic: balancing.fails_on_panic,
            is_locality_weighted: balancing.is_locality_weighted,
        }
    }
}

impl Default for SelectionRules {
    fn default() -> SelectionRules {
        SelectionRules {
            overprovisioning_factor: 140,
            weighted_priority_health: false,
            healthy_panic_percent: 50,
            fails_on_panic: false,
            is_locality_weighted: false,
        }
    }
}

/// Hosts of one priority and one availability, which take a share of the picks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Of 100 picks; the shares of all sources add up to 100.
    pub percent: u32,
    /// The priority.
    pub priority: u32,
    /// Which of the priority's hosts take part.
    pub kind: SourceKind,
    /// One group, or with weights of localities one for each. None when no host may be used.
    pub groups: Vec<Group>,
}

/// Which hosts of a priority take part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourceKind {
    /// The healthy ones.
    Healthy,
    /// The degraded ones.
    Degraded,
    /// All: the priority panics.
    Panic,
}

/// Hosts of which one is picked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Compared with that of the source's other groups.
    pub weight: u64,
    /// Their places in the endpoint set; at least one.
    pub hosts: Members,
    /// Not all of them have the same weight.
    pub is_weighted: bool,
}

/// One locality's weight counts this much when all of its hosts are available.
const LOCALITY_SCALE: u64 = 1 << 16;

/// What is known of one priority.
#[derive(Clone, Debug, Default)]
struct Priority {
    /// Those of its hosts.
    pages: Vec<usize>,
    hosts: usize,
    /// Hosts that are healthy, degraded, and all but the excluded ones.
    hosts_counted: [u64; 3],
    /// The same, or their weights.
    counts: [u64; 3],
    /// What it can take with healthy hosts and with degraded ones, of 100.
    availability: [u32; 2],
    panics: bool,
    /// What it gets of 100: with healthy hosts, or in panic with all, and with degraded ones.
    load: [u32; 2],
}

/// Shares picks out between the hosts.
pub(super) fn select(hosts: &Hosts, rules: &SelectionRules) -> Vec<Source> {
    if hosts.is_empty() {
        return Vec::new();
    }
    let mut priorities = priorities_of(hosts, rules);
    share(&mut priorities);
    let mut sources = Vec::new();
    for (index, priority) in priorities.iter().enumerate() {
        let kinds = match priority.panics {
            true => [(SourceKind::Panic, priority.load.iter().sum()), (SourceKind::Panic, 0)],
            false => {
                [(SourceKind::Healthy, priority.load[0]), (SourceKind::Degraded, priority.load[1])]
            }
        };
        for (kind, percent) in kinds.into_iter().filter(|(_, percent)| *percent > 0) {
            let groups = groups(hosts, &priority.pages, kind, rules);
            sources.push(Source { percent, priority: index as u32, kind, groups });
        }
    }
    sources
}

fn priorities_of(hosts: &Hosts, rules: &SelectionRules) -> Vec<Priority> {
    let pages = || hosts.pages().iter().map(|page| (page, page.any().priority as usize));
    let count = pages().map(|(_, priority)| priority + 1).max().unwrap_or_default();
    let mut priorities = vec![Priority::default(); count];
    for (index, (page, priority)) in pages().enumerate() {
        let priority = &mut priorities[priority];
        priority.pages.push(index);
        priority.hosts += page.items().len();
        for (availability, places) in [
            (Availability::Healthy, &[0, 2][..]),
            (Availability::Degraded, &[1, 2]),
            (Availability::Unavailable, &[2]),
        ] {
            let class = page.class(availability);
            let count = u64::from(class.count);
            let weight = if rules.weighted_priority_health { class.weight } else { count };
            for place in places {
                priority.hosts_counted[*place] += count;
                priority.counts[*place] += weight;
            }
        }
    }
    for priority in &mut priorities {
        let [healthy, degraded, all] = priority.counts;
        let factor = u64::from(rules.overprovisioning_factor);
        let share = |count: u64| {
            let share = factor.saturating_mul(count).checked_div(all);
            share.unwrap_or(0).min(100) as u32
        };
        priority.availability = [share(healthy), share(degraded)];
        // Panic looks at hosts, whatever they weigh.
        let [healthy, degraded, all] = priority.hosts_counted;
        let threshold = u64::from(rules.healthy_panic_percent);
        priority.panics = (healthy + degraded) * 100 < threshold * all.max(1);
    }
    priorities
}

/// Shares 100 out between the priorities. Numbers are whole, as Envoy's; what rounding leaves over
/// goes to the first priority that can take anything.
fn share(priorities: &mut [Priority]) {
    let total: u32 = priorities.iter().flat_map(|priority| priority.availability).sum();
    let total = total.min(100);
    if total == 100 {
        priorities.iter_mut().for_each(|priority| priority.panics = false);
    }
    if priorities.iter().all(|priority| priority.panics) {
        share_in_panic(priorities);
        return;
    }
    if total == 0 {
        // Nobody can take anything: the first priority is asked, and has no host.
        priorities[0].load[0] = 100;
        return;
    }
    let mut left = 100;
    for kind in [0, 1] {
        for priority in &mut *priorities {
            priority.load[kind] = left.min(priority.availability[kind] * 100 / total);
            left -= priority.load[kind];
        }
    }
    for kind in [0, 1] {
        let first = priorities.iter_mut().find(|priority| priority.availability[kind] > 0);
        if let Some(priority) = first {
            priority.load[kind] += std::mem::take(&mut left);
        }
    }
}

/// All priorities panic: each gets what its number of hosts is of all.
fn share_in_panic(priorities: &mut [Priority]) {
    let all: usize = priorities.iter().map(|priority| priority.hosts).sum();
    let mut left = 100;
    for priority in &mut *priorities {
        priority.load = [(100 * priority.hosts / all) as u32, 0];
        left -= priority.load[0];
    }
    if let Some(first) = priorities.iter_mut().find(|priority| priority.hosts > 0) {
        first.load[0] += left;
    }
}

/// The groups of a source.
fn groups(hosts: &Hosts, pages: &[usize], kind: SourceKind, rules: &SelectionRules) -> Vec<Group> {
    if kind == SourceKind::Panic && rules.fails_on_panic {
        return Vec::new();
    }
    let mut groups = Vec::new();
    if rules.is_locality_weighted && kind != SourceKind::Panic {
        for pages in localities(hosts, pages) {
            let own = || pages.iter().map(|page| &hosts.pages()[*page]);
            let eligible = own().map(|page| count(page, kind.takes())).sum();
            let counted = own().map(|page| count(page, NOT_EXCLUDED)).sum();
            let weight = own().map(|page| page.any().locality_weight).max();
            let weight = effective(weight.unwrap_or(0), eligible, counted, rules);
            if weight > 0 {
                groups.extend(group(hosts, &pages, kind, weight));
            }
        }
    }
    // No locality has a weight: they do not count.
    if groups.is_empty() {
        groups.extend(group(hosts, pages, kind, 1));
    }
    groups
}

/// Availabilities of hosts that are missed when they cannot take requests.
const NOT_EXCLUDED: &[Availability] =
    &[Availability::Healthy, Availability::Degraded, Availability::Unavailable];

impl SourceKind {
    /// Hosts of which availabilities take part.
    fn takes(self) -> &'static [Availability] {
        match self {
            SourceKind::Healthy => &[Availability::Healthy],
            SourceKind::Degraded => &[Availability::Degraded],
            SourceKind::Panic => &Availability::ALL,
        }
    }
}

/// How many hosts of a page have one of these availabilities.
fn count(page: &HostPage, of: &[Availability]) -> usize {
    of.iter().map(|availability| page.class(*availability).count as usize).sum()
}

/// The hosts of these pages that take part, if there are any.
fn group(hosts: &Hosts, pages: &[usize], kind: SourceKind, weight: u64) -> Option<Group> {
    let mut members = Members::default();
    let mut weights = None;
    for &index in pages {
        let (page, start) = (&hosts.pages()[index], hosts.start(index) as u32);
        for (least, most) in kind.takes().iter().filter_map(|it| page.class(*it).weights) {
            let (so_far, most_so_far) = weights.unwrap_or((least, most));
            weights = Some((least.min(so_far), most.max(most_so_far)));
        }
        if count(page, kind.takes()) == page.items().len() {
            members.push(start, page.items().len() as u32);
            continue;
        }
        for (place, host) in (start..).zip(page.items()) {
            members.push(place, u32::from(kind.takes().contains(&host.availability())));
        }
    }
    let (least, most) = weights?;
    Some(Group { weight, hosts: members, is_weighted: least != most })
}

/// A locality's weight, less what its unavailable hosts cannot take.
fn effective(weight: u32, eligible: usize, all: usize, rules: &SelectionRules) -> u64 {
    let full = 100 * all.max(1) as u128;
    let share = (u128::from(rules.overprovisioning_factor) * eligible as u128).min(full);
    (u128::from(weight) * u128::from(LOCALITY_SCALE) * share / full) as u64
}

/// The pages of each locality, in order of appearance.
fn localities(hosts: &Hosts, pages: &[usize]) -> Vec<Vec<usize>> {
    let mut localities: Vec<Vec<usize>> = Vec::new();
    let mut places: HashMap<&[String; 3], usize> = HashMap::new();
    for &page in pages {
        let locality = &hosts.pages()[page].any().locality;
        let place = *places.entry(locality).or_insert_with(|| {
            localities.push(Vec::new());
            localities.len() - 1
        });
        localities[place].push(page);
    }
    localities
}

#[cfg(test)]
mod tests;
