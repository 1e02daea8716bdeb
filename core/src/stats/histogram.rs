//! Distributions: log-linear buckets over whole numbers, merged on reading.
//!
//! Values below 64 have a bucket each. Above, each power of two is cut in 32 equal buckets, so that
//! a bucket's middle is at most 1/64 (1.6 %) away from any value in it. Envoy keeps two decimal
//! digits (5 %).
//!
//! What it leaves to others: where the cells are (`shard`), and how a distribution is printed
//! (`admin`).

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets of one power of two.
const PER_OCTAVE: u64 = 1 << PER_OCTAVE_BITS;
const PER_OCTAVE_BITS: u32 = 5;

/// Values below this have a bucket each.
const EXACT: u64 = 2 * PER_OCTAVE;

/// The largest value that is told apart: 2^27 - 1, as milliseconds 37 hours.
pub const VALUE_MAX: u64 = (1 << VALUE_BITS) - 1;
const VALUE_BITS: u32 = 27;

const BUCKETS: usize = (EXACT + (VALUE_BITS - PER_OCTAVE_BITS - 1) as u64 * PER_OCTAVE) as usize;

/// Cells of one histogram: the sum, then the buckets.
pub(super) const CELLS: usize = 1 + BUCKETS;

/// The cell of the sum.
pub(super) const SUM: usize = 0;

/// Envoy's quantiles, for the text and JSON pages.
pub const QUANTILES: [f64; 10] = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0];

/// Envoy's default bucket bounds, for the Prometheus page.
pub const BUCKET_BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// The cell that counts `value`.
#[inline]
pub(super) fn cell_of(value: u64) -> usize {
    let value = value.min(VALUE_MAX);
    if value < EXACT {
        return 1 + value as usize;
    }
    // 64..=127 has bit 6 as its highest: octave 0, shift 1.
    let shift = 63 - value.leading_zeros() - PER_OCTAVE_BITS;
    let within = (value >> shift) - PER_OCTAVE;
    1 + (EXACT + u64::from(shift - 1) * PER_OCTAVE + within) as usize
}

/// The smallest and the largest value of a bucket.
fn bounds(bucket: usize) -> (u64, u64) {
    let bucket = bucket as u64;
    if bucket < EXACT {
        return (bucket, bucket);
    }
    let shift = (bucket - EXACT) / PER_OCTAVE + 1;
    let low = ((bucket - EXACT) % PER_OCTAVE + PER_OCTAVE) << shift;
    (low, low + (1 << shift) - 1)
}

/// A bucket that is not empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// The smallest value in it.
    pub low: u64,
    /// The largest value in it.
    pub high: u64,
    /// How many values fell in it.
    pub count: u64,
}

impl Bucket {
    /// What stands for its values: exact below 64, else at most 1.6 % off.
    #[must_use]
    pub fn middle(&self) -> f64 {
        (self.low + self.high) as f64 / 2.0
    }
}

/// A merged distribution.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Histogram {
    /// How many values.
    pub count: u64,
    /// Their sum, exact. Read while shards write, it can be ahead of or behind `count` by what is
    /// just being recorded.
    pub sum: u64,
    /// The buckets that are not empty, in order of their values.
    pub buckets: Vec<Bucket>,
}

impl Histogram {
    /// Sums histograms: those of several shards, or of several origins.
    pub(super) fn merge<'a>(shards: impl Iterator<Item = &'a [AtomicU64; CELLS]>) -> Histogram {
        let mut total = Histogram::default();
        let mut counts = [0_u64; BUCKETS];
        for cells in shards {
            total.sum = total.sum.wrapping_add(cells[SUM].load(Ordering::Relaxed));
            for (count, cell) in counts.iter_mut().zip(&cells[1..]) {
                *count = count.wrapping_add(cell.load(Ordering::Relaxed));
            }
        }
        for (bucket, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (low, high) = bounds(bucket);
            total.count += count;
            total.buckets.push(Bucket { low, high, count });
        }
        total
    }

    /// Records a value in the bucket that a shard's cells would have for it.
    pub fn record(&mut self, value: u64) {
        let (low, high) = bounds(cell_of(value) - 1);
        self.add(Histogram { count: 1, sum: value, buckets: vec![Bucket { low, high, count: 1 }] });
    }

    /// Adds the values of `other`.
    pub(super) fn add(&mut self, other: Histogram) {
        if self.count == 0 {
            *self = other;
            return;
        }
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
        for bucket in other.buckets {
            match self.buckets.binary_search_by_key(&bucket.low, |own| own.low) {
                Ok(at) => self.buckets[at].count += bucket.count,
                Err(at) => self.buckets.insert(at, bucket),
            }
        }
    }

    /// The value that a share `quantile` (0 to 1) of all values does not pass: the middle of its
    /// bucket. `None` when there are no values.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let rank = ((quantile * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        self.buckets.iter().find_map(|bucket| {
            seen += bucket.count;
            (seen >= rank).then(|| bucket.middle())
        })
    }

    /// How many values are at most `bound`, judged by the middle of their buckets.
    #[must_use]
    pub fn count_at_most(&self, bound: f64) -> u64 {
        self.buckets.iter().take_while(|b| b.middle() <= bound).map(|b| b.count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_hold_their_bounds() {
        let mut next = 0;
        for bucket in 0..BUCKETS {
            let (low, high) = bounds(bucket);
            assert_eq!(low, next, "bucket {bucket}");
            assert_eq!(cell_of(low), 1 + bucket);
            assert_eq!(cell_of(high), 1 + bucket);
            next = high + 1;
        }
        assert_eq!(next, VALUE_MAX + 1);
        assert_eq!(cell_of(u64::MAX), CELLS - 1);
    }

    #[test]
    fn a_middle_is_at_most_one_part_in_64_from_every_value() {
        for bucket in 0..BUCKETS {
            let (low, high) = bounds(bucket);
            let middle = Bucket { low, high, count: 1 }.middle();
            let worst = (middle - low as f64).max(high as f64 - middle);
            assert!(worst * 64.0 <= low as f64, "bucket {bucket}: {worst} of {low}");
        }
    }

    fn of(values: &[u64]) -> Histogram {
        let cells = [const { AtomicU64::new(0) }; CELLS];
        for &value in values {
            cells[cell_of(value)].fetch_add(1, Ordering::Relaxed);
            cells[SUM].fetch_add(value, Ordering::Relaxed);
        }
        Histogram::merge(std::iter::once(&cells))
    }

    #[test]
    fn quantiles_of_small_values_are_exact() {
        let histogram = of(&[0, 0, 0, 0, 0, 41, 42, 48]);
        assert_eq!((histogram.count, histogram.sum), (8, 131));
        let at = |q| histogram.quantile(q);
        assert_eq!([at(0.0), at(0.5), at(0.75)], [Some(0.0), Some(0.0), Some(41.0)]);
        assert_eq!([at(0.76), at(0.99), at(1.0)], [Some(42.0), Some(48.0), Some(48.0)]);
        assert_eq!(histogram.count_at_most(0.5), 5);
        assert_eq!(histogram.count_at_most(42.0), 7);
        assert_eq!(histogram.count_at_most(50.0), 8);
    }

    #[test]
    fn an_empty_histogram_has_no_quantiles() {
        assert_eq!(of(&[]).quantile(0.5), None);
        assert_eq!(of(&[]).count_at_most(1e9), 0);
    }

    #[test]
    fn large_values_keep_their_sum() {
        let histogram = of(&[VALUE_MAX, VALUE_MAX + 5_000_000]);
        assert_eq!(histogram.sum, 2 * VALUE_MAX + 5_000_000);
        assert_eq!(histogram.buckets.len(), 1);
    }
}
