//! How many requests of one worker may be under way at a time: its part of a closed loop's phases.
//!
//! What it leaves to others: the clock, and taking requests up.

use crate::phase::{Pace, Phase};

/// A limit that follows the phases of a plan; none where it has none of that kind.
#[derive(Clone, Debug)]
pub struct Concurrency {
    /// Each with when it begins.
    phases: Vec<(u64, Phase)>,
    worker: usize,
    workers: usize,
}

impl Concurrency {
    /// The part of worker `worker` of `workers` in phases that follow each other from `start`.
    pub fn new(start: u64, phases: &[Phase], worker: usize, workers: usize) -> Concurrency {
        let mut at = start;
        let phases = phases.iter().filter(|phase| phase.pace == Pace::Concurrency).map(|phase| {
            let begin = at;
            at += u64::try_from(phase.duration.as_nanos()).unwrap_or(u64::MAX / 4);
            (begin, phase.clone())
        });
        Concurrency { phases: phases.collect(), worker, workers }
    }

    /// How many at `now`. Before the first phase it is that of its beginning, after the last one
    /// that of its end.
    pub fn limit(&self, now: u64) -> usize {
        let at = self.phases.iter().rposition(|(begin, _)| *begin <= now).unwrap_or(0);
        let Some((begin, phase)) = self.phases.get(at) else { return usize::MAX };
        let all = phase.pace_at(now.saturating_sub(*begin) as f64 / 1e9).round() as usize;
        all / self.workers + usize::from(self.worker < all % self.workers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workers_have_all_of_it_together() {
        let phases: Vec<Phase> = ["one=1s@1c", "ramp=2s@0..10c", "pause=1s@0c", "all=1s@7c"]
            .map(|text| text.parse().unwrap())
            .into();
        let at = |seconds: f64| {
            let now = 5_000 + (seconds * 1e9) as u64;
            let limits =
                (0..3).map(|worker| Concurrency::new(5_000, &phases, worker, 3).limit(now));
            limits.collect::<Vec<_>>()
        };
        assert_eq!(Concurrency::new(5_000, &phases, 0, 3).limit(0), 1, "before the start");
        for (seconds, limits) in [
            (0.0, [1, 0, 0]),
            (0.99, [1, 0, 0]),
            (1.0, [0, 0, 0]),
            (2.0, [2, 2, 1]),
            (2.99, [4, 3, 3]),
            (3.5, [0, 0, 0]),
            (4.5, [3, 2, 2]),
            (9.0, [3, 2, 2]),
        ] {
            assert_eq!(at(seconds), limits, "{seconds}");
        }
    }

    #[test]
    fn without_such_phases_there_is_no_limit() {
        let phase: Phase = "x=1s@5".parse().unwrap();
        assert_eq!(Concurrency::new(0, &[], 0, 1).limit(1), usize::MAX);
        assert_eq!(Concurrency::new(0, &[phase], 0, 1).limit(1), usize::MAX);
    }
}
