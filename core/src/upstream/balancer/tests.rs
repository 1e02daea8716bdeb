//! Orders and shares that a balancer must keep.
//!
//! What it leaves to others: whole requests.

use super::*;
use crate::config::{HealthStatus, LeastRequest};
use crate::snapshot::{HostId, SelectionRules};
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
        locality_weight: 0,
        priority: 0,
        metadata: Default::default(),
        connections: None,
        stats: Registry::new(0).scope("host", HostStat::ALL),
    })
}

fn set(hosts: impl IntoIterator<Item = Arc<Host>>) -> Arc<EndpointSet> {
    Arc::new(EndpointSet::new(hosts.into_iter().collect(), SelectionRules::default()))
}

fn weighted(weights: &[u32]) -> Arc<EndpointSet> {
    set(weights.iter().enumerate().map(|(id, &weight)| host(id as u32, weight, Healthy)))
}

fn health(statuses: &[HealthStatus]) -> Arc<EndpointSet> {
    set(statuses.iter().enumerate().map(|(id, &status)| host(id as u32, 1, status)))
}

/// A round-robin balancer with what it needs.
struct Balancer {
    balancer: LoadBalancer,
    random: Random,
}

impl Balancer {
    fn new(endpoints: &Arc<EndpointSet>, seed: u64) -> Balancer {
        Balancer::with(endpoints, LbPolicy::RoundRobin, seed)
    }

    fn with(endpoints: &Arc<EndpointSet>, policy: LbPolicy, seed: u64) -> Balancer {
        let balancer = LoadBalancer::new(endpoints, policy, seed);
        Balancer { balancer, random: Random::new(seed) }
    }

    fn pick(&mut self) -> Pick {
        self.balancer.pick(&mut self.random, |_| 0)
    }

    fn refresh(&mut self, endpoints: &Arc<EndpointSet>) -> bool {
        let policy = self.balancer.policy;
        self.balancer.refresh(endpoints, policy, &mut self.random)
    }
}

fn picks(balancer: &mut Balancer, count: usize) -> Vec<usize> {
    (0..count).map(|_| balancer.pick().host.unwrap()).collect()
}

fn counts(balancer: &mut Balancer, hosts: usize, count: usize) -> Vec<u32> {
    let mut counts = vec![0; hosts];
    picks(balancer, count).into_iter().for_each(|host| counts[host] += 1);
    counts
}

#[test]
fn no_hosts_no_pick() {
    assert_eq!(Balancer::new(&set([]), 7).pick(), Pick { host: None, panic: false });
}

#[test]
fn equal_weights_take_turns_from_a_start_by_seed() {
    let endpoints = weighted(&[5, 5, 5]);
    assert_eq!(picks(&mut Balancer::new(&endpoints, 0), 7), [0, 1, 2, 0, 1, 2, 0]);
    let starts: Vec<usize> =
        (0..6).map(|seed| picks(&mut Balancer::new(&endpoints, seed), 1)[0]).collect();
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
        let picks = picks(&mut Balancer::new(&weighted(&[1, 2, 3]), seed), 12);
        assert!(cycle.windows(12).any(|window| window == picks), "seed {seed}: {picks:?}");
    }
}

/// Envoy queues each host once at start with the deadline 1/weight, ties in order of the hosts.
#[test]
fn a_fresh_schedule_begins_as_envoys() {
    let fresh = |weights| picks(&mut Balancer::new(&weighted(weights), 0), 8);
    assert_eq!(fresh(&[1, 2, 3]), [2, 1, 2, 0, 1, 2, 2, 1]);
    assert_eq!(fresh(&[1, 3]), [1, 1, 0, 1, 1, 1, 0, 1]);
    assert_eq!(fresh(&[2, 1, 2]), [0, 2, 1, 0, 2, 0, 2, 1]);
}

#[test]
fn very_large_weights_do_not_overflow() {
    let mut balancer = Balancer::new(&weighted(&[u32::MAX, u32::MAX - 1, 1]), 3);
    let counts = counts(&mut balancer, 3, 10_000);
    assert!(counts[0].abs_diff(counts[1]) <= 1 && counts[2] <= 1, "{counts:?}");
}

#[test]
fn unhealthy_hosts_are_left_out_down_to_half() {
    let mut balancer = Balancer::new(&health(&[Unhealthy, Healthy, Unhealthy, Healthy]), 0);
    assert_eq!(balancer.pick(), Pick { host: Some(1), panic: false });
    assert_eq!(counts(&mut balancer, 4, 10), [0, 5, 0, 5]);
}

#[test]
fn below_half_all_hosts_are_used_and_each_pick_is_a_panic() {
    let mut balancer = Balancer::new(&health(&[Unhealthy, Healthy, Unhealthy]), 0);
    let picks: Vec<Pick> = (0..6).map(|_| balancer.pick()).collect();
    assert!(picks.iter().all(|pick| pick.panic));
    let hosts: Vec<usize> = picks.iter().map(|pick| pick.host.unwrap()).collect();
    assert_eq!(hosts, [0, 1, 2, 0, 1, 2]);
    let mut none = Balancer::new(&health(&[Unhealthy, Unhealthy]), 0);
    assert_eq!(none.pick(), Pick { host: Some(0), panic: true });
}

#[test]
fn degraded_hosts_are_used_for_what_healthy_ones_cannot_take() {
    // 8 of 10 healthy: enough for everything.
    let mostly = [[Healthy; 8].as_slice(), &[Degraded; 2]].concat();
    let share = |statuses: &[HealthStatus]| {
        let mut balancer = Balancer::new(&health(statuses), 5);
        let picked = picks(&mut balancer, 10_000);
        picked.iter().filter(|&&host| statuses[host] == Degraded).count() / 100
    };
    assert_eq!(share(&mostly), 0);
    // 5 of 10: healthy ones take 70 %.
    assert!(share(&[[Healthy; 5], [Degraded; 5]].concat()).abs_diff(30) <= 2);
    // Healthy 70 and degraded 14 of 84.
    let some = [[Healthy; 5].as_slice(), &[Degraded; 1], &[Unhealthy; 4]].concat();
    assert!(share(&some).abs_diff(16) <= 2);
    assert_eq!(share(&[Degraded, Degraded, Unhealthy]), 100);
}

#[test]
fn the_same_set_is_not_rebuilt() {
    let endpoints = weighted(&[1, 1]);
    let mut balancer = Balancer::new(&endpoints, 0);
    assert!(!balancer.refresh(&endpoints));
    assert!(balancer.refresh(&weighted(&[1, 1])));
}

#[test]
fn a_change_of_hosts_goes_on_with_the_host_whose_turn_it_was() {
    let hosts: Vec<_> = (0..6).map(|id| host(id, 1, Healthy)).collect();
    let mut balancer = Balancer::new(&set(hosts[..5].iter().cloned()), 0);
    picks(&mut balancer, 3);
    // Another host in front: host 3 is still next.
    balancer.refresh(&set([5, 0, 1, 2, 3, 4].map(|id| hosts[id].clone())));
    assert_eq!(picks(&mut balancer, 2), [4, 5]);
    assert_eq!(balancer.balancer.endpoints().hosts[4].id, HostId(3));
    picks(&mut balancer, 3); // hosts 5, 0, 1: next is 2
    balancer.refresh(&set([0, 1, 3].map(|id| hosts[id].clone())));
    assert_ne!(picks(&mut balancer, 1), [0], "begins again at host 0");
}

/// A set that changes with every pick still uses all of its hosts.
#[test]
fn constant_change_starves_no_host() {
    for weights in [&[1, 1, 1, 1][..], &[1, 2, 1, 3]] {
        let mut balancer = Balancer::new(&weighted(weights), 0);
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
    let mut balancer = Balancer::new(&weighted(&[1; 10]), 0);
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
        let mut balancer = Balancer::new(&weighted(&weights), seed);
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
        let fresh = picks(&mut Balancer::new(&weighted(&weights), 0), 4 * cycle);
        let picked = picks(&mut Balancer::new(&weighted(&weights), seed), cycle);
        prop_assert!(fresh.windows(cycle).any(|window| window == picked));
    }
}

const LEAST_REQUEST: LbPolicy = LbPolicy::LeastRequest(LeastRequest {
    choice_count: 2,
    active_request_bias: 1.0,
    is_full_scan: false,
});

/// Keeps so many requests under way at once, each of which ends in its turn, and counts the picks.
fn under_way(balancer: &mut Balancer, hosts: usize, at_once: usize, count: usize) -> Vec<u32> {
    let mut active = vec![0; hosts];
    let mut order = std::collections::VecDeque::new();
    let mut counts = vec![0; hosts];
    for _ in 0..count {
        let Balancer { balancer, random } = balancer;
        let host = balancer.pick(random, |host| active[host.id.0 as usize]).host.unwrap();
        counts[host] += 1;
        active[host] += 1;
        order.push_back(host);
        if order.len() > at_once {
            active[order.pop_front().unwrap()] -= 1;
        }
    }
    counts
}

#[test]
fn of_two_that_are_drawn_the_one_with_fewer_requests() {
    let endpoints = weighted(&[1; 4]);
    let mut balancer = Balancer::with(&endpoints, LEAST_REQUEST, 1);
    let Balancer { balancer, random } = &mut balancer;
    let busy = |host: &Host| if host.id.0 == 2 { 5 } else { 1 };
    let mut counts = [0_u32; 4];
    for _ in 0..16_000 {
        counts[balancer.pick(random, busy).host.unwrap()] += 1;
    }
    // The busy one only when it is drawn twice: one in 16.
    assert!(counts[2].abs_diff(1_000) < 150, "{counts:?}");
    assert!([0, 1, 3].iter().all(|&host| counts[host].abs_diff(5_000) < 300), "{counts:?}");
}

#[test]
fn a_full_scan_finds_the_one_with_the_fewest() {
    let policy = LbPolicy::LeastRequest(LeastRequest { is_full_scan: true, ..Default::default() });
    let mut balancer = Balancer::with(&weighted(&[1; 5]), policy, 1);
    let Balancer { balancer, random } = &mut balancer;
    for _ in 0..100 {
        let pick = balancer.pick(random, |host| 9 - host.id.0);
        assert_eq!(pick.host, Some(4));
    }
    let mut counts = [0_u32; 5];
    for _ in 0..5_000 {
        counts[balancer.pick(random, |_| 3).host.unwrap()] += 1;
    }
    assert!(counts.iter().all(|count| count.abs_diff(1_000) < 200), "{counts:?}");
}

/// A host that answers at once gets more than one that is stuck, whatever it weighs.
#[test]
fn requests_under_way_count_against_the_weight() {
    let mut balancer = Balancer::with(&weighted(&[1, 3]), LEAST_REQUEST, 1);
    let Balancer { balancer, random } = &mut balancer;
    let stuck = |host: &Host| if host.id.0 == 1 { 5 } else { 0 };
    let mut counts = [0_u32; 2];
    for _ in 0..3_000 {
        counts[balancer.pick(random, stuck).host.unwrap()] += 1;
    }
    // 1 against 3/6.
    assert!(counts[0].abs_diff(2_000) <= 2, "{counts:?}");
    let no_bias = LeastRequest { active_request_bias: 0.0, ..Default::default() };
    let mut balancer = Balancer::with(&weighted(&[1, 3]), LbPolicy::LeastRequest(no_bias), 1);
    assert!(under_way(&mut balancer, 2, 50, 4_000)[1].abs_diff(3_000) <= 2);
}

#[test]
fn random_takes_every_host_alike_whatever_it_weighs() {
    let mut balancer = Balancer::with(&weighted(&[1, 9, 1, 1]), LbPolicy::Random, 3);
    let counts = counts(&mut balancer, 4, 8_000);
    assert!(counts.iter().all(|count| count.abs_diff(2_000) < 250), "{counts:?}");
}

#[test]
fn a_change_of_the_policy_takes_effect() {
    let endpoints = weighted(&[1, 9]);
    let mut balancer = Balancer::new(&endpoints, 1);
    assert!(balancer.balancer.refresh(&endpoints, LbPolicy::Random, &mut balancer.random));
    assert!(counts(&mut balancer, 2, 2_000)[0] > 800);
}

#[test]
fn weighted_localities_share_by_weight_and_hosts_within_them_alike() {
    let hosts = [(3, "a"), (3, "a"), (1, "b")];
    let host = |(id, (locality_weight, zone)): (usize, (u32, &str))| {
        let Host { id, address, health_status, stats, .. } = *host(id as u32, 1, Healthy);
        let locality = [String::new(), zone.to_owned(), String::new()];
        Arc::new(Host {
            id,
            address,
            hostname: String::new(),
            weight: 1,
            health_status,
            locality: locality.into(),
            locality_weight,
            priority: 0,
            metadata: Default::default(),
            connections: None,
            stats,
        })
    };
    let rules = SelectionRules { is_locality_weighted: true, ..Default::default() };
    let hosts = hosts.into_iter().enumerate().map(host).collect();
    let endpoints = Arc::new(EndpointSet::new(hosts, rules));
    for policy in [LbPolicy::RoundRobin, LEAST_REQUEST, LbPolicy::Random] {
        let counts = counts(&mut Balancer::with(&endpoints, policy, 5), 3, 8_000);
        assert!(counts[2].abs_diff(2_000) <= 1, "{policy:?}: {counts:?}");
        assert!(counts[0].abs_diff(3_000) < 200, "{policy:?}: {counts:?}");
    }
}

proptest! {
    /// With equal load everywhere, a least-request balancer shares by weight.
    #[test]
    fn idle_hosts_get_requests_by_their_weight(
        weights in prop::collection::vec(1_u32..20, 2..12),
        seed in any::<u64>(),
    ) {
        let mut balancer = Balancer::with(&weighted(&weights), LEAST_REQUEST, seed);
        let cycle: u32 = weights.iter().sum();
        let is_weighted = weights.iter().any(|weight| *weight != weights[0]);
        let counts = counts(&mut balancer, weights.len(), cycle as usize * 10);
        for (count, weight) in counts.into_iter().zip(weights) {
            prop_assert!(!is_weighted || count.abs_diff(weight * 10) <= 2, "{count} of {weight}");
        }
    }

    /// Nobody is starved by changes, and nobody who is out of rotation is picked.
    #[test]
    fn every_policy_picks_only_who_may_be_picked(
        statuses in prop::collection::vec(
            prop::sample::select(vec![Healthy, Unhealthy, Degraded]), 1..12
        ),
        weights in prop::collection::vec(1_u32..4, 12),
        policy in prop::sample::select(vec![
            LbPolicy::RoundRobin, LEAST_REQUEST, LbPolicy::Random
        ]),
        seed in any::<u64>(),
    ) {
        let hosts = statuses.iter().zip(&weights).enumerate();
        let endpoints = set(hosts.map(|(id, (status, weight))| host(id as u32, *weight, *status)));
        let mut balancer = Balancer::with(&endpoints, policy, seed);
        for round in 0..100 {
            let pick = balancer.pick();
            let host = &endpoints.hosts[pick.host.unwrap()];
            prop_assert!(pick.panic || host.health_status != Unhealthy);
            if round % 10 == 0 {
                balancer.refresh(&set(endpoints.hosts.iter().cloned()));
            }
        }
    }
}
