//! What became of requests: into the interval of now, and the phase that they were due in.
//!
//! What it leaves to others: deciding what became of them.

use tidegate_io::Io;

use super::{Worker, nanoseconds};
use crate::engine::Message;
use crate::engine::interval::{Fault, Interval, Sample};
use crate::engine::slot::Request;
use crate::plan::Plan;

/// A request that has come to an end.
struct Answer {
    /// Where its latency begins.
    at: u64,
    now: u64,
    sent: u64,
    /// Status and length, or why there is none.
    result: Result<(u16, u64), Fault>,
}

impl Answer {
    fn add_to(&self, interval: &mut Interval, plan: &Plan, is_open: bool) {
        let counts = &mut interval.counts;
        let is_timed = match self.result {
            Ok((status, body_in)) => {
                counts.status(status, 1);
                counts.body_in += body_in;
                let succeeded = plan.expect.allows(status);
                counts.succeeded += u64::from(succeeded);
                counts.unexpected += u64::from(!succeeded);
                succeeded
            }
            Err(fault) => {
                counts.faults[fault as usize] += 1;
                matches!(fault, Fault::Timeout | Fault::Unsent)
            }
        };
        if is_timed {
            interval.latency.saturating_record(self.now.saturating_sub(self.at));
            if is_open {
                interval.service.saturating_record(self.now.saturating_sub(self.sent));
            }
        }
    }
}

/// The phase that holds a moment; what is after the last one belongs to it.
pub(super) fn phase_of(phases: &mut [(u64, Interval)], at: u64) -> Option<&mut Interval> {
    let last = phases.len().checked_sub(1)?;
    let index = phases.iter().position(|(end, _)| at < *end).unwrap_or(last);
    phases.get_mut(index).map(|(_, interval)| interval)
}

impl<I: Io> Worker<I> {
    /// The phases of the run that begins.
    pub(super) fn begin_phases(&mut self) {
        let mut end = self.measured_from;
        let phases = self.plan.phases.iter().map(|phase| {
            end += nanoseconds(phase.duration);
            (end, Interval::new(0))
        });
        self.phases = phases.collect();
    }

    /// Where the latency of a request begins.
    pub(super) fn origin_of(&self, request: &Request) -> u64 {
        if self.schedule.is_some() { request.intended } else { request.sent }
    }

    pub(super) fn record(&mut self, request: Request, now: u64, result: Result<(u16, u64), Fault>) {
        let at = self.origin_of(&request);
        if at < self.measured_from {
            return;
        }
        let answer = Answer { at, now, sent: request.sent, result };
        let is_open = self.schedule.is_some();
        answer.add_to(&mut self.interval, &self.plan, is_open);
        if let Some(phase) = phase_of(&mut self.phases, at) {
            answer.add_to(phase, &self.plan, is_open);
        }
        if self.plan.keep_samples {
            let (status, bytes_in) = result.unwrap_or((0, 0));
            let (latency, fault) = (now.saturating_sub(at), result.err());
            let target = request.target;
            let sample = Sample { at, latency, bytes_in, status, fault, target };
            self.interval.samples.push(sample);
        }
    }

    /// The interval is over: whoever adds up gets it, and gives an empty one back later.
    pub(super) fn hand_over(&mut self) {
        let index = self.interval.index + 1;
        let next = self.recycled.try_recv().unwrap_or_else(|_| Box::new(Interval::new(index)));
        let mut full = std::mem::replace(&mut self.interval, next);
        self.interval.index = index;
        self.interval_end += nanoseconds(self.plan.interval);
        full.counts.statuses.sort_unstable();
        // Nobody listens any more only when the whole program ends.
        let _ = self.messages.send(Message::Interval(full));
    }

    /// The run is over: so are its phases.
    pub(super) fn hand_over_phases(&mut self) {
        let phases: Vec<Interval> = self.phases.drain(..).map(|(_, interval)| interval).collect();
        if !phases.is_empty() {
            let _ = self.messages.send(Message::Phases(phases));
        }
    }
}
