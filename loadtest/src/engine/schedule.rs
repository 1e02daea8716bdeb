//! When requests of one worker are due: the requests of all phases have one row of numbers, and a
//! worker has every n-th of them.
//!
//! What it leaves to others: the clock, and what happens to a request that is due.

use crate::phase::Phase;

/// Times of one worker's requests, computed from their number: nothing adds up errors.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Each with the number of its first request, which may be between two, and when it begins.
    segments: Vec<Segment>,
    current: usize,
    /// The number, over all workers, of the next request.
    next: u64,
    step: u64,
    /// Requests of the whole run.
    end: u64,
}

#[derive(Clone, Debug)]
struct Segment {
    phase: Phase,
    first: f64,
    start: u64,
}

impl Schedule {
    /// The part of worker `worker` of `workers` in phases that follow each other from `start`, of
    /// which the first `total` requests are sent. The last phase has no end of its own.
    pub fn new(
        start: u64,
        phases: &[Phase],
        worker: usize,
        workers: usize,
        total: u64,
    ) -> Schedule {
        let (mut first, mut at) = (0.0, start);
        let segments = phases.iter().map(|phase| {
            let segment = Segment { phase: phase.clone(), first, start: at };
            first += phase.requests();
            at += u64::try_from(phase.duration.as_nanos()).unwrap_or(u64::MAX / 4);
            segment
        });
        let (next, step) = (worker as u64, workers as u64);
        let mut schedule =
            Schedule { segments: segments.collect(), current: 0, next, step, end: total };
        schedule.follow();
        schedule
    }

    /// When the next request is due; `None` when there is none left.
    pub fn due(&self) -> Option<u64> {
        let segment = self.segments.get(self.current)?;
        let number = self.next as f64 - segment.first;
        (self.next < self.end).then(|| segment.start + (segment.phase.due(number) * 1e9) as u64)
    }

    /// The next request is taken up.
    pub fn advance(&mut self) {
        self.next += self.step;
        self.follow();
    }

    /// To the segment of the next request.
    fn follow(&mut self) {
        let follows = |segment: &Segment| segment.first <= self.next as f64;
        while self.segments.get(self.current + 1).is_some_and(follows) {
            self.current += 1;
        }
    }

    /// Requests that were not taken up.
    pub fn left(&self) -> u64 {
        self.end.saturating_sub(self.next).div_ceil(self.step)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn phase(ms: u64, from: f64, to: f64) -> Phase {
        Phase::at_rate("x", Duration::from_millis(ms), from, to)
    }

    fn all(phases: &[Phase], workers: usize, total: u64) -> Vec<u64> {
        let mut all = Vec::new();
        for worker in 0..workers {
            let mut schedule = Schedule::new(1000, phases, worker, workers, total);
            let mut left = schedule.left();
            while let Some(due) = schedule.due() {
                all.push(due);
                schedule.advance();
                left -= 1;
                assert_eq!(schedule.left(), left);
            }
            assert_eq!(left, 0);
        }
        all.sort_unstable();
        all
    }

    #[test]
    fn phases_follow_each_other_and_a_pause_sends_nothing() {
        let phases = [phase(100, 50.0, 50.0), phase(1000, 0.0, 0.0), phase(100, 0.0, 100.0)];
        // Five, none, and five on a ramp: number n at sqrt(2 n / 1000) seconds.
        let due = all(&phases, 2, 10);
        assert_eq!(due[..5], [1000, 20_001_000, 40_001_000, 60_001_000, 80_001_000]);
        let ramp = due[5..].iter().enumerate().map(|(number, due)| {
            let seconds = (*due as f64 - 1.1e9 - 1000.0) / 1e9;
            seconds - (2.0 * number as f64 / 1000.0).sqrt()
        });
        assert!(ramp.clone().all(|difference| difference.abs() < 1e-6), "{due:?}");
    }

    proptest! {
        #[test]
        fn the_workers_have_each_request_once_and_in_time(
            rate in 0.1_f64..1e7, workers in 1_usize..8, total in 0_u64..500,
        ) {
            let all = all(&[phase(1, rate, rate)], workers, total);
            prop_assert_eq!(all.len() as u64, total);
            for (number, due) in all.iter().enumerate() {
                let exact = 1000.0 + number as f64 * 1e9 / rate;
                prop_assert!((*due as f64 - exact).abs() <= 1.0 + exact * 1e-12);
            }
        }

        #[test]
        fn with_ramps_each_is_in_its_phase(
            rates in prop::collection::vec((0.0_f64..3e3, 0.0_f64..3e3, 1_u64..200), 1..5),
            workers in 1_usize..5,
        ) {
            let phases: Vec<Phase> =
                rates.iter().map(|(from, to, ms)| phase(*ms, *from, *to)).collect();
            let total = phases.iter().map(Phase::requests).sum::<f64>().ceil() as u64;
            let all = all(&phases, workers, total);
            prop_assert_eq!(all.len() as u64, total);
            let (mut first, mut start) = (0.0, 1000);
            for phase in &phases {
                let end = start + phase.duration.as_nanos() as u64;
                let within = all.iter().filter(|due| (start..end).contains(*due)).count() as f64;
                // One may fall on either end.
                prop_assert!((within - phase.requests()).abs() <= 2.0, "{phase} {within}");
                (first, start) = (first + phase.requests(), end);
            }
            prop_assert!(first <= total as f64);
        }
    }
}
