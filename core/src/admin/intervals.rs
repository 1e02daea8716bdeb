//! What histograms have taken in of late: between the last two looks, a period or more apart.
//!
//! Envoy merges histograms at each flush, whether somebody looks or not. Here only a look costs, so
//! the first has no interval, and one after a minute has that minute.
//!
//! What it leaves to others: how an interval is printed (`stats_page`).

use crate::stats::{Bucket, Histogram};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The shortest interval: Envoy's default between flushes.
const PERIOD: Duration = Duration::from_secs(5);

/// What nobody has looked at for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// Histograms as they were when somebody looked, by name.
#[derive(Debug, Default)]
pub struct Intervals(Mutex<HashMap<String, Seen>>);

#[derive(Debug)]
struct Seen {
    at: Instant,
    buckets: Vec<Bucket>,
    /// What came between then and the look before.
    interval: Option<Histogram>,
}

impl Intervals {
    /// Forgets what nobody looks at any more.
    pub(super) fn forget(&self, now: Instant) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, seen| now.duration_since(seen.at) < FORGOTTEN);
    }

    /// What came in the last interval; `None` at the first look.
    pub(super) fn look(
        &self,
        name: &str,
        histogram: &Histogram,
        now: Instant,
    ) -> Option<Histogram> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |interval| Seen { at: now, buckets: histogram.buckets.clone(), interval };
        match seen.get_mut(name) {
            None => {
                seen.insert(name.to_owned(), fresh(None));
                None
            }
            Some(seen) if now.duration_since(seen.at) < PERIOD => seen.interval.clone(),
            Some(seen) => {
                *seen = fresh(Some(added(&seen.buckets, &histogram.buckets)));
                seen.interval.clone()
            }
        }
    }
}

/// What is in `now` and was not in `before`.
fn added(before: &[Bucket], now: &[Bucket]) -> Histogram {
    let earlier = |bucket: &Bucket| {
        before.binary_search_by_key(&bucket.low, |b| b.low).map_or(0, |at| before[at].count)
    };
    let new = now
        .iter()
        .map(|bucket| Bucket { count: bucket.count.saturating_sub(earlier(bucket)), ..*bucket });
    let buckets: Vec<_> = new.filter(|bucket| bucket.count > 0).collect();
    // Nobody is told the sum of an interval.
    Histogram { count: buckets.iter().map(|bucket| bucket.count).sum(), sum: 0, buckets }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[(u64, u64)]) -> Histogram {
        let buckets: Vec<_> =
            values.iter().map(|&(at, count)| Bucket { low: at, high: at, count }).collect();
        Histogram { count: values.iter().map(|(_, count)| count).sum(), sum: 0, buckets }
    }

    #[test]
    fn an_interval_is_what_came_between_two_looks() {
        let intervals = Intervals::default();
        let start = Instant::now();
        let look = |seconds, values: &[(u64, u64)]| {
            intervals.look("h", &histogram(values), start + Duration::from_secs(seconds))
        };
        assert_eq!(look(0, &[(1, 5)]), None);
        assert_eq!(look(3, &[(1, 6)]), None, "less than a period");
        assert_eq!(look(6, &[(1, 6), (9, 2)]), Some(histogram(&[(1, 1), (9, 2)])));
        assert_eq!(look(8, &[(1, 7), (9, 2)]), Some(histogram(&[(1, 1), (9, 2)])));
        assert_eq!(look(11, &[(1, 7), (9, 2)]), Some(histogram(&[(1, 1)])));
        assert_eq!(look(60, &[(1, 7), (9, 2)]), Some(histogram(&[])));
        intervals.forget(start + FORGOTTEN + FORGOTTEN);
        assert_eq!(look(10_000, &[(1, 7)]), None);
    }
}
