//! Whether a run may be believed, and whether it, or a phase of it, met what was asked of it.
//!
//! What it leaves to others: exit codes and showing it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::engine::Outcome;
use crate::engine::interval::{Fault, Interval};
use crate::machine;
use crate::plan::{Load, Plan};
use crate::units;

/// A worker that is busier than this cannot send in time, or is what the target waits for.
const BUSY_MAX_OPEN: f64 = 0.9;
const BUSY_MAX_CLOSED: f64 = 0.99;
/// Connections per second and port.
const PORTS_MAX: f64 = 0.45;
/// Requests that may be missing of those that were planned.
const MISSING_MAX: f64 = 0.001;

/// The share of its time that the busiest worker was running.
pub fn busiest(outcome: &Outcome) -> f64 {
    let wall = outcome.wall.as_secs_f64().max(1e-9);
    outcome.worker_cpu.iter().map(|cpu| cpu.as_secs_f64() / wall).fold(0.0, f64::max)
}

/// Why the figures of a run say something else than they seem to; nothing when they do not.
pub fn void_reasons(outcome: &Outcome) -> Vec<String> {
    let mut reasons = Vec::new();
    let (plan, counts) = (&outcome.plan, &outcome.total.counts);
    let busy = busiest(outcome);
    let busy_max = if plan.load == Load::Closed { BUSY_MAX_CLOSED } else { BUSY_MAX_OPEN };
    if busy > busy_max {
        reasons.push(format!(
            "generator saturated: a worker was busy {:.0} % of its time; use more threads",
            busy * 100.0
        ));
    }
    let late = outcome.total.lateness.value_at_quantile(0.999);
    if u128::from(late) > plan.lateness_max.as_nanos() {
        let (late, max) = (late as f64, plan.lateness_max.as_nanos() as f64);
        reasons.push(format!(
            "sends were late: {} at p99.9 (more than {})",
            units::wrk_time(late),
            units::wrk_time(max)
        ));
    }
    let unsent = counts.fault(Fault::Unsent);
    if unsent > 0 {
        reasons.push(format!(
            "short: {unsent} requests that were due were never sent; more connections, or a \
             lower rate"
        ));
    }
    let done = counts.answers() + counts.faults.iter().sum::<u64>();
    if let Some(planned) = plan.planned()
        && !outcome.interrupted
        && done.abs_diff(planned) as f64 > planned as f64 * MISSING_MAX + 1.0
    {
        reasons.push(format!("short: {done} of {planned} planned requests came to an end"));
    }
    if outcome.connections_open < plan.connections {
        reasons.push(format!(
            "only {} of {} connections were open at the start",
            outcome.connections_open, plan.connections
        ));
    }
    let per_second = counts.connects as f64 / outcome.elapsed.as_secs_f64().max(1e-9);
    if let Some(ports) = machine::ports()
        && is_short_of_ports(per_second, ports * plan.local_addresses.len().max(1) as u64)
    {
        reasons.push(format!(
            "ports ran out: {per_second:.0} connections a second, as fast as a port is free again; \
             --local-address 127.0.0.2,127.0.0.3, or a wider net.ipv4.ip_local_port_range"
        ));
    }
    if outcome.steal > plan.steal_max {
        reasons.push(format!(
            "the hypervisor took {:.1} % of the machine's CPU time",
            outcome.steal * 100.0
        ));
    }
    reasons
}

/// Whether connections wait for ports: a port that was used rests for up to two seconds (TIME_WAIT
/// with `net.ipv4.tcp_tw_reuse`), and looking for one that does not takes ever longer.
fn is_short_of_ports(connections_per_second: f64, ports: u64) -> bool {
    connections_per_second > ports as f64 * PORTS_MAX
}

/// What a condition is about.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Metric {
    /// A quantile of latency, 0 to 1; 1 is the longest.
    Latency(f64),
    Mean,
    /// The share of requests that failed.
    Errors,
    /// Answers per second.
    Rate,
}

/// One condition: `p99.9<2ms`, `errors<0.01%`, `rate>=9900`, `mean<1ms`, `max<50ms`, and of one
/// phase only: `hold:p99.9<2ms`.
#[derive(Clone, PartialEq, Debug)]
pub struct Condition {
    text: String,
    phase: Option<String>,
    metric: Metric,
    /// Whether the value must stay below the bound.
    below: bool,
    /// Whether the bound itself will do.
    or_equal: bool,
    bound: f64,
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Condition, String> {
        let wrong = || {
            format!(
                "`{text}` is no condition: p99.9<2ms, max<50ms, mean<1ms, errors<0.01%, rate>9k, \
                 or of one phase PHASE:p99<1ms"
            )
        };
        let (phase, of_it) = match text.split_once(':') {
            Some((phase, rest)) => (Some(phase.trim().to_owned()), rest),
            None => (None, text),
        };
        let at = of_it.find(['<', '>']).ok_or_else(wrong)?;
        let (name, rest) = of_it.split_at(at);
        let below = rest.starts_with('<');
        let (or_equal, value) = match rest[1..].strip_prefix('=') {
            Some(value) => (true, value.trim()),
            None => (false, rest[1..].trim()),
        };
        let metric = match name.trim() {
            "mean" | "avg" => Metric::Mean,
            "max" => Metric::Latency(1.0),
            "errors" | "error_rate" => Metric::Errors,
            "rate" | "rps" => Metric::Rate,
            name => {
                let percent: f64 =
                    name.strip_prefix('p').and_then(|p| p.parse().ok()).ok_or_else(wrong)?;
                if !(0.0..=100.0).contains(&percent) {
                    return Err(wrong());
                }
                Metric::Latency(percent / 100.0)
            }
        };
        let bound = match metric {
            Metric::Latency(_) | Metric::Mean => {
                units::duration(value).map_err(|_| wrong())?.as_nanos() as f64
            }
            Metric::Errors => match value.strip_suffix('%') {
                Some(percent) => percent.trim().parse::<f64>().map_err(|_| wrong())? / 100.0,
                None => value.parse().map_err(|_| wrong())?,
            },
            Metric::Rate => units::rate(value)?,
        };
        Ok(Condition { text: text.to_owned(), phase, metric, below, or_equal, bound })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A condition against a run.
#[derive(Clone, Debug)]
pub struct Judged {
    pub condition: String,
    /// The value as a person reads it.
    pub value: String,
    pub holds: bool,
}

impl Condition {
    /// # Errors
    ///
    /// When the plan has no such phase.
    pub fn check(&self, plan: &Plan) -> Result<(), String> {
        match &self.phase {
            Some(name) if !plan.phases.iter().any(|phase| phase.name == *name) => {
                Err(format!("{}: there is no phase {name}", self.text))
            }
            _ => Ok(()),
        }
    }

    pub fn judge(&self, outcome: &Outcome) -> Judged {
        let (part, time) = self.part(outcome);
        let (latency, counts) = (&part.latency, &part.counts);
        let (value, shown) = match self.metric {
            Metric::Latency(quantile) => {
                let value = latency.value_at_quantile(quantile) as f64;
                (value, units::wrk_time(value))
            }
            Metric::Mean => (latency.mean(), units::wrk_time(latency.mean())),
            Metric::Errors => {
                let errors = 1.0 - counts.success_ratio();
                (errors, format!("{:.4}%", errors * 100.0))
            }
            Metric::Rate => {
                let rate = counts.answers_per_second(time);
                (rate, format!("{rate:.1}"))
            }
        };
        // Without a single answer no latency is good.
        let is_latency = matches!(self.metric, Metric::Latency(_) | Metric::Mean);
        let judged = !(is_latency && latency.is_empty()) && self.holds(value);
        Judged { condition: self.text.clone(), value: shown, holds: judged }
    }

    /// What it is about, and how long that took.
    fn part<'a>(&self, outcome: &'a Outcome) -> (&'a Interval, Duration) {
        let is_its = |name: &str| self.phase.as_deref() == Some(name);
        let mut phases = outcome.plan.phases.iter().zip(&outcome.phases);
        match phases.find(|(phase, _)| is_its(&phase.name)) {
            Some((phase, interval)) => (interval, phase.duration),
            None => (&outcome.total, outcome.elapsed),
        }
    }

    fn holds(&self, value: f64) -> bool {
        match (self.below, self.or_equal) {
            (true, false) => value < self.bound,
            (true, true) => value <= self.bound,
            (false, false) => value > self.bound,
            (false, true) => value >= self.bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_run_out_before_all_are_used_each_second() {
        // As measured: the most that 28,232 ports gave.
        assert!(is_short_of_ports(14_250.0, 28_232));
        assert!(!is_short_of_ports(14_250.0, 2 * 28_232));
    }

    #[test]
    fn conditions_of_every_kind() {
        let cases = [
            ("p99.9<2ms", 1_999_999.0, true),
            ("p99.9<2ms", 2_000_000.0, false),
            ("p50 <= 2ms", 2_000_000.0, true),
            ("max<1s", 5e8, true),
            ("mean<1ms", 2e6, false),
            ("errors<0.01%", 0.00005, true),
            ("errors<=0", 0.0, true),
            ("rate>9k", 9001.0, true),
            ("rps>=9k", 9000.0, true),
            ("warm up : p99<2ms", 1e6, true),
        ];
        for (text, value, holds) in cases {
            let condition: Condition = text.parse().unwrap();
            assert_eq!(condition.holds(value), holds, "{text}");
            assert_eq!(condition.to_string(), text);
        }
        for text in ["", "p99", "p101<1s", "q<1", "p99<fast", "errors<x%", "p<1ms", "=<"] {
            assert!(text.parse::<Condition>().is_err(), "{text}");
        }
    }
}
