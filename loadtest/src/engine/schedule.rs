//! When requests of one worker are due: request `i` of the whole run at `start + i / rate`, and a
//! worker has every n-th of them.
//!
//! What it leaves to others: the clock, and what happens to a request that is due.

/// Times of one worker's requests, computed from their number: nothing adds up errors.
#[derive(Clone, Debug)]
pub struct Schedule {
    start: u64,
    interval_ns: f64,
    /// The number, over all workers, of the next request.
    next: u64,
    step: u64,
    /// Requests of the whole run.
    end: u64,
}

impl Schedule {
    /// The part of worker `worker` of `workers` in a run of `total` requests at `rate` per second.
    pub fn new(start: u64, rate: f64, worker: usize, workers: usize, total: u64) -> Schedule {
        Schedule {
            start,
            interval_ns: 1e9 / rate,
            next: worker as u64,
            step: workers as u64,
            end: total,
        }
    }

    /// When the next request is due; `None` when there is none left.
    pub fn due(&self) -> Option<u64> {
        (self.next < self.end).then(|| self.start + (self.next as f64 * self.interval_ns) as u64)
    }

    /// The next request is taken up.
    pub fn advance(&mut self) {
        self.next += self.step;
    }

    /// Requests that were not taken up.
    pub fn left(&self) -> u64 {
        self.end.saturating_sub(self.next).div_ceil(self.step)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_workers_have_each_request_once_and_in_time(
            rate in 0.1_f64..1e7, workers in 1_usize..8, total in 0_u64..500,
        ) {
            let mut all = Vec::new();
            for worker in 0..workers {
                let mut schedule = Schedule::new(1000, rate, worker, workers, total);
                let mut left = schedule.left();
                while let Some(due) = schedule.due() {
                    all.push(due);
                    schedule.advance();
                    left -= 1;
                    prop_assert_eq!(schedule.left(), left);
                }
                prop_assert_eq!(left, 0);
            }
            all.sort_unstable();
            prop_assert_eq!(all.len() as u64, total);
            for (number, due) in all.iter().enumerate() {
                let exact = 1000.0 + number as f64 * 1e9 / rate;
                prop_assert!((*due as f64 - exact).abs() <= 1.0 + exact * 1e-12);
            }
        }
    }
}
