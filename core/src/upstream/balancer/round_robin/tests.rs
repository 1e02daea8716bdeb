//! Orders and shares that a balancer must keep.
//!
//! What it leaves to others: whole requests.

use super::*;
use crate::snapshot::{Host, HostId};
use crate::stats::{HostStat, Registry};
use HealthStatus::{Degraded, Healthy, Unhealthy};
use proptest::prelude::*;

fn host(id: u32, weight: u32, health_status: HealthStatus) -> Arc<Host> {
    Arc::new(Host {
        id: HostId(id),
        address: ([127, 0, 0, 1], 1_000 + id as u16).into(),
        hostname: String::new(),
        weight,
        health_status,
        locality: Default::default(),
        stats: Registry::new(0).scope("host", HostStat::ALL),
    })
}

fn set(hosts: impl IntoIterator<Item = Arc<Host>>) -> Arc<EndpointSet> {
    Arc::new(EndpointSet { hosts: hosts.into_iter().collect() })
}

fn weighted(weights: &[u32]) -> Arc<EndpointSet> {
    set(weights.iter().enumerate().map(|(id, &weight)| host(id as u32, weight, Healthy)))
}

fn health(statuses: &[HealthStatus]) -> Arc<EndpointSet> {
    set(statuses.iter().enumerate().map(|(id, &status)| host(id as u32, 1, status)))
}

fn picks(balancer: &mut RoundRobin, count: usize) -> Vec<usize> {
    (0..count).map(|_| balancer.pick().unwrap().host).collect()
}

fn counts(balancer: &mut RoundRobin, hosts: usize, count: usize) -> Vec<u32> {
    let mut counts = vec![0; hosts];
    picks(balancer, count).into_iter().for_each(|host| counts[host] += 1);
    counts
}

#[test]
fn no_hosts_no_pick() {
    assert_eq!(RoundRobin::new(&set([]), 7).pick(), None);
}

#[test]
fn equal_weights_take_turns_from_a_start_by_seed() {
    let endpoints = weighted(&[5, 5, 5]);
    assert_eq!(picks(&mut RoundRobin::new(&endpoints, 0), 7), [0, 1, 2, 0, 1, 2, 0]);
    let starts: Vec<usize> =
        (0..6).map(|seed| picks(&mut RoundRobin::new(&endpoints, seed), 1)[0]).collect();
    for host in 0..3 {
        let shards = starts.iter().filter(|&&start| start == host).count();
        assert!((1..=3).contains(&shards), "starts of six shards: {starts:?}");
    }
}

/// Envoy 1.40 with weights 1, 2 and 3 was seen to repeat `3 1 2 3 3 2`.
#[test]
fn weights_1_2_3_come_in_envoys_order_from_every_start() {
    let cycle = [2, 0, 1, 2, 2, 1].repeat(3);
    for seed in 0..200 {
        let picks = picks(&mut RoundRobin::new(&weighted(&[1, 2, 3]), seed), 12);
        assert!(cycle.windows(12).any(|window| window == picks), "seed {seed}: {picks:?}");
    }
}

/// Envoy queues each host once at start with the deadline 1/weight, ties in order of the hosts.
#[test]
fn a_fresh_schedule_begins_as_envoys() {
    let fresh = |weights| picks(&mut RoundRobin::new(&weighted(weights), 0), 8);
    assert_eq!(fresh(&[1, 2, 3]), [2, 1, 2, 0, 1, 2, 2, 1]);
    assert_eq!(fresh(&[1, 3]), [1, 1, 0, 1, 1, 1, 0, 1]);
    assert_eq!(fresh(&[2, 1, 2]), [0, 2, 1, 0, 2, 0, 2, 1]);
}

#[test]
fn very_large_weights_do_not_overflow() {
    let mut balancer = RoundRobin::new(&weighted(&[u32::MAX, u32::MAX - 1, 1]), 3);
    let counts = counts(&mut balancer, 3, 10_000);
    assert!(counts[0].abs_diff(counts[1]) <= 1 && counts[2] <= 1, "{counts:?}");
}

#[test]
fn unhealthy_hosts_are_left_out_down_to_half() {
    let mut balancer = RoundRobin::new(&health(&[Unhealthy, Healthy, Unhealthy, Healthy]), 0);
    assert_eq!(balancer.pick(), Some(Pick { host: 1, panic: false }));
    assert_eq!(counts(&mut balancer, 4, 10), [0, 5, 0, 5]);
}

#[test]
fn below_half_all_hosts_are_used_and_each_pick_is_a_panic() {
    let mut balancer = RoundRobin::new(&health(&[Unhealthy, Healthy, Unhealthy]), 0);
    let picks: Vec<Pick> = (0..6).map(|_| balancer.pick().unwrap()).collect();
    assert!(picks.iter().all(|pick| pick.panic));
    let hosts: Vec<usize> = picks.iter().map(|pick| pick.host).collect();
    assert_eq!(hosts, [0, 1, 2, 0, 1, 2]);
    let mut none = RoundRobin::new(&health(&[Unhealthy, Unhealthy]), 0);
    assert_eq!(none.pick(), Some(Pick { host: 0, panic: true }));
}

#[test]
fn degraded_hosts_are_used_for_what_healthy_ones_cannot_take() {
    // 8 of 10 healthy: enough for everything.
    let mostly = [[Healthy; 8].as_slice(), &[Degraded; 2]].concat();
    let share = |statuses: &[HealthStatus]| {
        let mut balancer = RoundRobin::new(&health(statuses), 5);
        let picked = picks(&mut balancer, 1_000);
        picked.iter().filter(|&&host| statuses[host] == Degraded).count()
    };
    assert_eq!(share(&mostly), 0);
    // 5 of 10: healthy ones take 70 %.
    assert_eq!(share(&[[Healthy; 5], [Degraded; 5]].concat()), 300);
    // Healthy 70 and degraded 14 of 84.
    let some = [[Healthy; 5].as_slice(), &[Degraded; 1], &[Unhealthy; 4]].concat();
    assert_eq!(share(&some), 160);
    assert_eq!(share(&[Degraded, Degraded, Unhealthy]), 1_000);
}

#[test]
fn the_same_set_is_not_rebuilt() {
    let endpoints = weighted(&[1, 1]);
    let mut balancer = RoundRobin::new(&endpoints, 0);
    assert!(!balancer.refresh(&endpoints));
    assert!(balancer.refresh(&weighted(&[1, 1])));
}

#[test]
fn a_change_of_hosts_goes_on_with_the_host_whose_turn_it_was() {
    let hosts: Vec<_> = (0..6).map(|id| host(id, 1, Healthy)).collect();
    let mut balancer = RoundRobin::new(&set(hosts[..5].iter().cloned()), 0);
    picks(&mut balancer, 3);
    // Another host in front: host 3 is still next.
    balancer.refresh(&set([5, 0, 1, 2, 3, 4].map(|id| hosts[id].clone())));
    assert_eq!(picks(&mut balancer, 2), [4, 5]);
    assert_eq!(balancer.endpoints().hosts[4].id, HostId(3));
    picks(&mut balancer, 3); // hosts 5, 0, 1: next is 2
    balancer.refresh(&set([0, 1, 3].map(|id| hosts[id].clone())));
    assert_ne!(picks(&mut balancer, 1), [0], "begins again at host 0");
}

/// A set that changes with every pick still uses all of its hosts.
#[test]
fn constant_change_starves_no_host() {
    for weights in [&[1, 1, 1, 1][..], &[1, 2, 1, 3]] {
        let mut balancer = RoundRobin::new(&weighted(weights), 0);
        let mut counts = vec![0; weights.len()];
        for _ in 0..weights.iter().sum::<u32>() * 10 {
            counts[picks(&mut balancer, 1)[0]] += 1;
            balancer.refresh(&weighted(weights));
        }
        assert!(counts.iter().all(|&count| count >= 5), "{weights:?}: {counts:?}");
    }
}

#[test]
fn from_turns_to_weights_and_back_keeps_the_place() {
    let mut balancer = RoundRobin::new(&weighted(&[1; 10]), 0);
    picks(&mut balancer, 9);
    balancer.refresh(&weighted(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 2]));
    // Nine tenths of the cycle are over: the heavy host's second deadline comes with the others'.
    assert_eq!(picks(&mut balancer, 11).last(), Some(&9));
    balancer.refresh(&weighted(&[1; 10]));
    assert_eq!(counts(&mut balancer, 10, 10), [1; 10]);
}

proptest! {
    #[test]
    fn every_cycle_gives_each_host_exactly_its_weight(
        weights in prop::collection::vec(1_u32..20, 1..12),
        seed in any::<u64>(),
        skipped in 0_usize..50,
    ) {
        let mut balancer = RoundRobin::new(&weighted(&weights), seed);
        picks(&mut balancer, skipped);
        let cycle = weights.iter().sum::<u32>() as usize;
        let expected: Vec<u32> = match weights.iter().all(|w| *w == weights[0]) {
            true => vec![weights[0]; weights.len()],
            false => weights.clone(),
        };
        prop_assert_eq!(counts(&mut balancer, weights.len(), cycle), expected);
    }

    /// A staggered start is the tail of the order that a fresh schedule has.
    #[test]
    fn every_start_is_somewhere_in_the_one_order(
        weights in prop::collection::vec(1_u32..6, 2..6),
        seed in any::<u64>(),
    ) {
        let cycle = weights.iter().sum::<u32>() as usize;
        let fresh = picks(&mut RoundRobin::new(&weighted(&weights), 0), 4 * cycle);
        let picked = picks(&mut RoundRobin::new(&weighted(&weights), seed), cycle);
        prop_assert!(fresh.windows(cycle).any(|window| window == picked));
    }
}
