//! Shares of priorities, and what no share may contain.
//!
//! What it leaves to others: picks (`upstream::balancer`).

use super::*;
use crate::config::HealthStatus::{self, Degraded, Draining, Healthy, Timeout, Unhealthy, Unknown};
use crate::snapshot::{Host, HostId};
use crate::stats::{HostStat, Registry};
use proptest::prelude::*;
use std::sync::Arc;

/// Priority, health, weight, zone.
type Row = (u32, HealthStatus, u32, u8);

fn hosts(rows: &[Row], locality_weights: &[u32]) -> Hosts {
    let stats = Registry::new(0).scope("host", HostStat::ALL);
    let host = |(id, &(priority, health_status, weight, zone)): (usize, &Row)| {
        Arc::new(Host {
            id: HostId(id as u32),
            address: ([127, 0, 0, 1], 80).into(),
            hostname: String::new(),
            weight,
            health_status,
            locality: [String::new(), zone.to_string(), String::new()].into(),
            locality_weight: locality_weights.get(usize::from(zone)).copied().unwrap_or(0),
            priority,
            metadata: Default::default(),
            connections: None,
            stats,
        })
    };
    rows.iter().enumerate().map(host).collect()
}

/// A priority with so many hosts, healthy, degraded and unavailable.
fn level(priority: u32, healthy: usize, degraded: usize, unavailable: usize) -> Vec<Row> {
    let rows = |status, count| vec![(priority, status, 1, 0); count];
    [rows(Healthy, healthy), rows(Degraded, degraded), rows(Unhealthy, unavailable)].concat()
}

fn shares(rows: &[Vec<Row>], rules: &SelectionRules) -> Vec<(u32, SourceKind, u32)> {
    let sources = select(&hosts(&rows.concat(), &[]), rules);
    sources.iter().map(|source| (source.priority, source.kind, source.percent)).collect()
}

/// The tables of Envoy's documentation on priorities, panic and degraded hosts.
#[test]
fn shares_are_envoys() {
    use SourceKind::{Degraded, Healthy, Panic};
    let rules = SelectionRules::default();
    let of = |rows: &[Vec<Row>]| shares(rows, &rules);
    let two = |a: usize, b: usize| of(&[level(0, a, 0, 100 - a), level(1, b, 0, 100 - b)]);
    assert_eq!(two(100, 100), [(0, Healthy, 100)]);
    assert_eq!(two(72, 100), [(0, Healthy, 100)]);
    assert_eq!(two(71, 100), [(0, Healthy, 99), (1, Healthy, 1)]);
    assert_eq!(two(50, 100), [(0, Healthy, 70), (1, Healthy, 30)]);
    assert_eq!(two(25, 100), [(0, Healthy, 35), (1, Healthy, 65)]);
    assert_eq!(two(0, 100), [(1, Healthy, 100)]);
    assert_eq!(two(25, 50), [(0, Healthy, 35), (1, Healthy, 65)]);
    // Below 100 together: shared in proportion, and each panics that is below its threshold.
    assert_eq!(two(25, 25), [(0, Panic, 50), (1, Panic, 50)]);
    assert_eq!(two(5, 50), [(0, Panic, 10), (1, Healthy, 90)]);
    assert_eq!(two(0, 0), [(0, Panic, 50), (1, Panic, 50)]);
    // A gap: nobody is in priority 0.
    assert_eq!(of(&[level(1, 1, 0, 0)]), [(1, Healthy, 100)]);
    assert_eq!(of(&[level(1, 0, 0, 2), level(2, 0, 0, 1)]), [(1, Panic, 67), (2, Panic, 33)]);
    // Degraded hosts of any priority come after healthy hosts of all.
    let degraded = [level(0, 0, 100, 0), level(1, 50, 50, 0)];
    assert_eq!(of(&degraded), [(0, Degraded, 30), (1, Healthy, 70)]);
    assert_eq!(of(&[level(0, 0, 1, 0)]), [(0, Degraded, 100)]);
}

#[test]
fn rules_change_the_shares() {
    use SourceKind::{Healthy, Panic};
    const UP: HealthStatus = HealthStatus::Healthy;
    let of = |rows: &[Vec<Row>], rules: SelectionRules| shares(rows, &rules);
    let rules = SelectionRules::default();
    let half = [level(0, 5, 0, 5), level(1, 10, 0, 0)];
    let exact = SelectionRules { overprovisioning_factor: 100, ..rules };
    assert_eq!(of(&half, exact), [(0, Healthy, 50), (1, Healthy, 50)]);
    let calm = SelectionRules { healthy_panic_percent: 0, ..rules };
    assert_eq!(of(&[level(0, 0, 0, 3)], calm), [(0, Healthy, 100)]);
    assert!(select(&hosts(&level(0, 0, 0, 3), &[]), &calm)[0].groups.is_empty());
    let anxious = SelectionRules { healthy_panic_percent: 80, ..rules };
    assert_eq!(of(&[level(0, 7, 0, 3)], anxious), [(0, Panic, 100)]);
    let failing = SelectionRules { fails_on_panic: true, ..rules };
    assert_eq!(of(&[level(0, 1, 0, 3)], failing), [(0, Panic, 100)]);
    assert!(select(&hosts(&level(0, 1, 0, 3), &[]), &failing)[0].groups.is_empty());
    let rows = [(0, UP, 9, 0), (0, Unhealthy, 1, 0), (1, UP, 1, 0)];
    let weighted = SelectionRules { weighted_priority_health: true, ..rules };
    assert_eq!(of(&[rows.to_vec()], weighted), [(0, Healthy, 100)]);
    assert_eq!(of(&[rows.to_vec()], rules), [(0, Healthy, 70), (1, Healthy, 30)]);
}

#[test]
fn hosts_that_drain_are_not_missed() {
    let rules = SelectionRules::default();
    let rows = [(0, Draining, 1, 0), (0, Draining, 1, 0), (0, Healthy, 1, 0)];
    assert_eq!(shares(&[rows.to_vec()], &rules), [(0, SourceKind::Healthy, 100)]);
    let sources = select(&hosts(&rows, &[]), &rules);
    assert!(sources[0].groups[0].hosts.iter().eq([2]));
    let rows = [(0, Draining, 1, 0)];
    assert_eq!(shares(&[rows.to_vec()], &rules), [(0, SourceKind::Panic, 100)]);
}

#[test]
fn localities_count_by_weight_and_by_what_is_left_of_them() {
    let rules = SelectionRules { is_locality_weighted: true, ..SelectionRules::default() };
    let rows = |statuses: [HealthStatus; 4]| {
        let zones = [0, 0, 1, 2];
        let rows: Vec<Row> = zones.iter().zip(statuses).map(|(z, s)| (0, s, 1, *z)).collect();
        hosts(&rows, &[2, 1])
    };
    let weights = |statuses| -> Vec<(u64, Vec<u32>)> {
        let sources = select(&rows(statuses), &rules);
        let groups = sources[0].groups.iter();
        groups.map(|group| (group.weight, group.hosts.iter().collect())).collect()
    };
    let scale = LOCALITY_SCALE;
    // Zone 2 has no weight, so it gets nothing.
    assert_eq!(weights([Healthy; 4]), [(2 * scale, vec![0, 1]), (scale, vec![2])]);
    let half = [Healthy, Unhealthy, Healthy, Healthy];
    assert_eq!(weights(half), [(2 * scale * 70 / 100, vec![0]), (scale, vec![2])]);
    let gone = [Unhealthy, Unhealthy, Healthy, Healthy];
    assert_eq!(weights(gone), [(scale, vec![2])]);
    let sources = select(&hosts(&[(0, Healthy, 1, 0), (0, Healthy, 1, 1)], &[]), &rules);
    assert_eq!(sources[0].groups.len(), 1, "without any weight all hosts are one group");
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let status =
        prop::sample::select(vec![Unknown, Healthy, Unhealthy, Draining, Timeout, Degraded]);
    prop::collection::vec((0_u32..4, status, 1_u32..9, 0_u8..3), 1..24)
}

proptest! {
    #[test]
    fn shares_add_up_and_hold_only_who_may_be_picked(
        rows in rows(),
        locality_weights in prop::collection::vec(0_u32..5, 3),
        overprovisioning_factor in 1_u32..300,
        weighted_priority_health in any::<bool>(),
        healthy_panic_percent in 0_u32..=100,
        fails_on_panic in any::<bool>(),
        is_locality_weighted in any::<bool>(),
    ) {
        let rules = SelectionRules {
            overprovisioning_factor,
            weighted_priority_health,
            healthy_panic_percent,
            fails_on_panic,
            is_locality_weighted,
        };
        let hosts = hosts(&rows, &locality_weights);
        let sources = select(&hosts, &rules);
        prop_assert_eq!(sources.iter().map(|source| source.percent).sum::<u32>(), 100);
        for source in &sources {
            let mut seen = std::collections::HashSet::new();
            for group in &source.groups {
                prop_assert!(!group.hosts.is_empty() && group.weight > 0);
                for index in group.hosts.iter() {
                    let host = &hosts[index as usize];
                    prop_assert!(seen.insert(index), "a host is in two groups");
                    prop_assert_eq!(host.priority, source.priority);
                    let expected = match source.kind {
                        SourceKind::Healthy => Some(Availability::Healthy),
                        SourceKind::Degraded => Some(Availability::Degraded),
                        SourceKind::Panic => None,
                    };
                    prop_assert!(expected.is_none_or(|it| it == host.availability()));
                }
            }
        }
        if healthy_panic_percent == 0 {
            prop_assert!(sources.iter().all(|source| source.kind != SourceKind::Panic));
        }
    }
}
