//! Two targets in turn: blocks of short runs on connections that stay.
//!
//! What it leaves to others: what the figures say (`compare`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::compare::{ARMS, Block, Blocks, Measured};
use crate::engine::Unobserved;
use crate::engine::crew::Crew;
use crate::plan::Plan;
use crate::stats::Random;
use crate::system_calls::SystemCalls;
use crate::verdict;
use crate::watch::{Usage, family};

/// Each run begins with so much of its time, and at least so long, that does not count: caches hold
/// what the other target's run has left.
const WARM_UP_SHARE: u32 = 10;
const WARM_UP_MIN: Duration = Duration::from_millis(3);

/// A target as it was named.
pub struct Side {
    pub name: String,
    pub url: String,
    pub pids: Vec<u32>,
    /// Whether their system calls are counted, which costs them time.
    pub counts_system_calls: bool,
    pub plan: Plan,
}

/// A target with connections to it.
struct Arm {
    side: usize,
    pids: Vec<u32>,
    family: Vec<u32>,
    system_calls: Option<SystemCalls>,
    warm_up: Arc<Plan>,
    plan: Arc<Plan>,
    crew: Crew,
}

impl Arm {
    fn new(number: usize, side: &Side, stop: &Arc<AtomicBool>) -> Result<Arm, String> {
        // What a hypervisor takes is counted in ticks, which are too long for one run.
        let plan = Plan { steal_max: 1.0, ..side.plan.clone() };
        let time = plan.duration.unwrap_or(WARM_UP_MIN);
        let warm_up =
            Plan { duration: Some((time / WARM_UP_SHARE).max(WARM_UP_MIN)), ..plan.clone() };
        let (plan, warm_up) = (Arc::new(plan), Arc::new(warm_up));
        let crew = Crew::start(&plan, stop)?;
        if crew.open == 0 {
            return Err(format!("{}: no connection to it", side.url));
        }
        let system_calls = match side.counts_system_calls && !side.pids.is_empty() {
            true => Some(SystemCalls::begin(&family(&side.pids))?),
            false => None,
        };
        let (pids, family) = (side.pids.clone(), Vec::new());
        Ok(Arm { side: number, pids, family, system_calls, warm_up, plan, crew })
    }
}

/// What runs the blocks.
pub struct Interleaved {
    arms: [Arm; ARMS],
    names: [String; 2],
    stop: Arc<AtomicBool>,
    random: Random,
    pub measured: Blocks,
    /// Blocks with a void run, which do not count.
    pub dropped: usize,
    /// Why.
    pub reasons: Vec<String>,
}

impl Interleaved {
    /// Connects to both targets, and once more to the first.
    ///
    /// # Errors
    ///
    /// When a worker has no backend, a target takes no connection, or system calls cannot be
    /// counted.
    pub fn new(sides: &[Side; 2], stop: &Arc<AtomicBool>) -> Result<Interleaved, String> {
        let arm = |number: usize| Arm::new(number, &sides[number], stop);
        Ok(Interleaved {
            arms: [arm(0)?, arm(0)?, arm(1)?],
            names: [0, 1].map(|side| sides[side].name.clone()),
            stop: Arc::clone(stop),
            random: Random::new(1),
            measured: Blocks::new(),
            dropped: 0,
            reasons: Vec::new(),
        })
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// One more block, unless one of its runs is void.
    ///
    /// # Errors
    ///
    /// When a worker cannot go on.
    pub fn block(&mut self) -> Result<(), String> {
        for arm in &mut self.arms {
            arm.family = family(&arm.pids);
        }
        let mut order = [0, 1, 2];
        for last in (1..ARMS).rev() {
            order.swap(last, self.random.below(last + 1));
        }
        let mut runs: [[Option<Measured>; 2]; ARMS] = Default::default();
        let there_and_back = order.iter().map(|arm| (*arm, 0));
        for (arm, turn) in there_and_back.chain(order.iter().rev().map(|arm| (*arm, 1))) {
            runs[arm][turn] = self.run(arm)?;
        }
        match complete(runs) {
            Some(block) => self.measured.blocks.push(block),
            None => self.dropped += 1,
        }
        Ok(())
    }

    /// One run; `None` when it is void.
    fn run(&mut self, arm: usize) -> Result<Option<Measured>, String> {
        let Arm { side, pids, family, system_calls, warm_up, plan, crew } = &mut self.arms[arm];
        crew.run(warm_up, &mut Unobserved)?;
        let before = Usage::at_rest(family);
        let calls_before = count(system_calls)?;
        let outcome = crew.run(plan, &mut Unobserved)?;
        let usage = Usage::at_rest(family).since(&before);
        let calls = count(system_calls)?.zip(calls_before).map(|(now, before)| now - before);
        let reasons = verdict::void_reasons(&outcome);
        for reason in &reasons {
            let reason = format!("{}: {reason}", self.names[*side]);
            // One example of each is enough: those that follow differ in their figures.
            let kind = reason.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default();
            if !self.reasons.iter().any(|known| known.starts_with(kind)) {
                self.reasons.push(reason);
            }
        }
        if !reasons.is_empty() || outcome.interrupted || outcome.total.counts.answers() == 0 {
            return Ok(None);
        }
        // All histograms have the same bounds.
        let _ = self.measured.latencies[*side].add(&outcome.total.latency);
        self.measured.failures[*side] += outcome.total.counts.failures();
        Ok(Some(Measured::of(&outcome, (!pids.is_empty()).then_some(usage), calls)))
    }
}

fn count(system_calls: &mut Option<SystemCalls>) -> Result<Option<u64>, String> {
    system_calls.as_mut().map(SystemCalls::count).transpose()
}

fn complete(runs: [[Option<Measured>; 2]; ARMS]) -> Option<Block> {
    let [[Some(a), Some(b)], [Some(c), Some(d)], [Some(e), Some(f)]] = runs else { return None };
    Some([[a, b], [c, d], [e, f]])
}
