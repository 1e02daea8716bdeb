//! Adding up what the workers of a run hand over.
//!
//! What it leaves to others: what an interval holds (`interval`), and who works (`crew`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use super::interval::{Counts, Interval, Slice};
use super::{Message, Observer};
use crate::plan::Plan;

/// Adds up what workers hand over.
pub struct Collector<'a> {
    plan: Arc<Plan>,
    recycling: &'a [Sender<Box<Interval>>],
    pub total: Interval,
    pub slices: Vec<Slice>,
    pub phases: Vec<Interval>,
    /// Intervals that not all workers have handed over, from number `slices.len()`, and how many
    /// have.
    open_intervals: VecDeque<(Interval, usize)>,
    /// Empty ones: their memory is paid for.
    spare: Vec<Interval>,
    pub worker_cpu: Vec<Duration>,
    /// When the last worker was done, on the monotonic clock.
    pub end: u64,
}

impl<'a> Collector<'a> {
    pub fn new(plan: Arc<Plan>, recycling: &'a [Sender<Box<Interval>>]) -> Collector<'a> {
        Collector {
            plan,
            recycling,
            total: Interval::new(0),
            slices: Vec::new(),
            phases: Vec::new(),
            open_intervals: VecDeque::new(),
            spare: Vec::new(),
            worker_cpu: Vec::new(),
            end: 0,
        }
    }

    pub fn collect(
        &mut self,
        messages: &Receiver<Message>,
        observer: &mut dyn Observer,
        to_unix_ns: i64,
    ) -> Result<(), String> {
        let mut left = self.plan.threads;
        while left > 0 {
            match messages.recv_timeout(Duration::from_secs(3600)) {
                Ok(Message::Interval(part)) => {
                    observer.samples(&self.plan, &part.samples, to_unix_ns);
                    self.add(part, observer);
                }
                Ok(Message::Phases(parts)) => self.add_phases(parts),
                Ok(Message::Done(Ok(part))) => {
                    self.worker_cpu.push(part.cpu);
                    self.end = self.end.max(part.end);
                    left -= 1;
                }
                Ok(Message::Done(Err(error))) => return Err(error),
                Ok(Message::Ready(_)) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("a worker died".to_owned());
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, part: Box<Interval>, observer: &mut dyn Observer) {
        self.total.add(&part);
        if self.plan.threads == 1 {
            observer.interval(&self.plan, &part, &self.total);
            self.slices.push(Slice::of(&part));
            return self.give_back(0, part);
        }
        let at = part.index as usize - self.slices.len();
        while self.open_intervals.len() <= at {
            let index = self.slices.len() + self.open_intervals.len();
            let mut empty = self.spare.pop().unwrap_or_else(|| Interval::new(0));
            empty.index = index as u64;
            self.open_intervals.push_back((empty, 0));
        }
        let (interval, parts) = &mut self.open_intervals[at];
        interval.add(&part);
        *parts += 1;
        let worker = *parts % self.recycling.len();
        self.give_back(worker, part);
        while self.open_intervals.front().is_some_and(|(_, parts)| *parts == self.plan.threads) {
            if let Some((mut interval, _)) = self.open_intervals.pop_front() {
                observer.interval(&self.plan, &interval, &self.total);
                self.slices.push(Slice::of(&interval));
                interval.clear();
                self.spare.push(interval);
            }
        }
    }

    fn add_phases(&mut self, parts: Vec<Interval>) {
        if self.phases.is_empty() {
            self.phases = parts;
            return;
        }
        for (phase, part) in self.phases.iter_mut().zip(&parts) {
            phase.add(part);
        }
    }

    fn give_back(&self, worker: usize, mut part: Box<Interval>) {
        part.clear();
        // A worker that has ended needs none.
        let _ = self.recycling[worker].send(part);
    }

    /// What some workers had no part in any more.
    pub fn close(&mut self) {
        for phase in &mut self.phases {
            phase.counts.statuses.sort_unstable();
        }
        for (interval, _) in self.open_intervals.drain(..) {
            self.slices.push(Slice::of(&interval));
        }
        // The last one is there for what came after the end, if anything did.
        if self.slices.last().is_some_and(|slice| slice.counts == Counts::default()) {
            self.slices.pop();
        }
    }
}
