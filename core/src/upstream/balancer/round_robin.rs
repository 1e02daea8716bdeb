//! `ROUND_ROBIN`: hosts in turn by weight, among those that health allows.
//!
//! What it leaves to others: the order within a group of hosts (`schedule`).

use super::schedule::{Schedule, Start};
use crate::config::HealthStatus;
use crate::snapshot::EndpointSet;
use std::sync::Arc;

/// `common_lb_config.healthy_panic_threshold`'s default: with a smaller share of hosts available,
/// health is ignored.
pub const HEALTHY_PANIC_PERCENT: usize = 50;

/// `ClusterLoadAssignment.policy.overprovisioning_factor`'s default: 72 % of hosts are enough for
/// all requests.
const OVERPROVISIONING_PERCENT: usize = 140;

/// The host that is next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pick {
    /// Its place in [`RoundRobin::endpoints`].
    pub host: usize,
    /// Too few hosts are available, so that all were in the choice: counts as `lb_healthy_panic`.
    pub panic: bool,
}

/// One shard's balancer of one cluster.
#[derive(Debug)]
pub struct RoundRobin {
    endpoints: Arc<EndpointSet>,
    groups: Groups,
}

/// Which hosts take part.
#[derive(Debug)]
enum Groups {
    /// All, whatever their health.
    Panic(Schedule),
    /// Healthy ones only.
    Healthy(Schedule),
    /// Healthy ones are too few: degraded ones take what is left.
    Mixed {
        healthy: Schedule,
        degraded: Schedule,
        /// Share of the healthy ones, below 100.
        healthy_percent: usize,
        /// Grows by `healthy_percent` with each pick; below 100 between picks.
        credit: usize,
    },
}

impl RoundRobin {
    /// A balancer over these hosts. Shards give different seeds, best their index; consecutive
    /// seeds start far from each other.
    #[must_use]
    pub fn new(endpoints: &Arc<EndpointSet>, seed: u64) -> RoundRobin {
        let groups = Groups::new(endpoints, Start::from_seed(seed));
        RoundRobin { endpoints: endpoints.clone(), groups }
    }

    /// The hosts that [`Pick::host`] counts in.
    #[must_use]
    pub fn endpoints(&self) -> &Arc<EndpointSet> {
        &self.endpoints
    }

    /// Takes over another set of hosts and goes on where it was, as far as that place exists there.
    /// Returns false, at once, when it is the same set.
    pub fn refresh(&mut self, endpoints: &Arc<EndpointSet>) -> bool {
        if Arc::ptr_eq(&self.endpoints, endpoints) {
            return false;
        }
        let start = Start::After(self.groups.main(), &self.endpoints);
        self.groups = Groups::new(endpoints, start);
        self.endpoints = endpoints.clone();
        true
    }

    /// The next host; `None` when the cluster has none. Constant time when all weights are equal,
    /// else logarithmic; allocates nothing.
    #[inline]
    pub fn pick(&mut self) -> Option<Pick> {
        let (schedule, panic) = match &mut self.groups {
            Groups::Healthy(schedule) => (schedule, false),
            Groups::Panic(schedule) => (schedule, true),
            Groups::Mixed { healthy, degraded, healthy_percent, credit } => {
                *credit += *healthy_percent;
                if *credit >= 100 {
                    *credit -= 100;
                    (healthy, false)
                } else {
                    (degraded, false)
                }
            }
        };
        schedule.pick().map(|host| Pick { host, panic })
    }
}

impl Groups {
    fn new(endpoints: &EndpointSet, start: Start<'_>) -> Groups {
        let schedule = |wanted: Option<HealthStatus>| {
            let taken = |status| wanted.is_none_or(|wanted| wanted == status);
            Schedule::new(endpoints, start, |host| taken(host.health_status))
        };
        let count = |status| endpoints.hosts.iter().filter(|h| h.health_status == status).count();
        let hosts = endpoints.hosts.len();
        let (healthy, degraded) = (count(HealthStatus::Healthy), count(HealthStatus::Degraded));
        if (healthy + degraded) * 100 < HEALTHY_PANIC_PERCENT * hosts {
            return Groups::Panic(schedule(None));
        }
        match healthy_percent(healthy, degraded, hosts) {
            100 => Groups::Healthy(schedule(Some(HealthStatus::Healthy))),
            healthy_percent => Groups::Mixed {
                healthy: schedule(Some(HealthStatus::Healthy)),
                degraded: schedule(Some(HealthStatus::Degraded)),
                healthy_percent,
                credit: start.scale(100),
            },
        }
    }

    /// The schedule whose position a change of hosts keeps.
    fn main(&self) -> &Schedule {
        match self {
            Groups::Panic(schedule) | Groups::Healthy(schedule) => schedule,
            Groups::Mixed { healthy, degraded, healthy_percent, .. } => {
                if *healthy_percent == 0 {
                    degraded
                } else {
                    healthy
                }
            }
        }
    }
}

/// The share of requests that healthy hosts take, as Envoy computes it for one priority: 5 healthy
/// and 1 degraded of 10 are 70 % and 14 % with the overprovisioning factor; of that 84 %, the
/// degraded take 16.
fn healthy_percent(healthy: usize, degraded: usize, hosts: usize) -> usize {
    if degraded == 0 {
        return 100;
    }
    let availability = |count: usize| (count * OVERPROVISIONING_PERCENT / hosts).min(100);
    let (healthy, degraded) = (availability(healthy), availability(degraded));
    let total = (healthy + degraded).min(100);
    if total == 0 {
        return 100;
    }
    100 - (degraded * 100 / total).min(100 - healthy * 100 / total)
}

#[cfg(test)]
mod tests;
