//! Medians, and how sure they are: bootstrap intervals from a seed, so that the same runs give the
//! same figures.
//!
//! What it leaves to others: what is compared.

/// Resamplings of one interval.
const RESAMPLINGS: usize = 4000;

/// A generator of numbers that are random enough to resample with (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }
}

/// A value and the interval that holds the true one with some probability.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Estimate {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Estimate {
    pub fn map(self, f: impl Fn(f64) -> f64) -> Estimate {
        Estimate { value: f(self.value), low: f(self.low), high: f(self.high) }
    }
}

/// The value in the middle; of an even number, halfway between the two.
pub fn median(values: &[f64]) -> f64 {
    median_of(&mut values.to_vec())
}

/// The same; the values are put into order.
fn median_of(sorted: &mut [f64]) -> f64 {
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The median with its bootstrap interval at `level`, for example 0.95. `None` of nothing.
pub fn median_with_interval(values: &[f64], level: f64) -> Option<Estimate> {
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut random = Random::new(values.len() as u64);
    let mut sample = vec![0.0; values.len()];
    let medians = (0..RESAMPLINGS).map(|_| {
        sample.fill_with(|| values[random.below(values.len())]);
        median_of(&mut sample)
    });
    let mut medians: Vec<f64> = medians.collect();
    let (low, high) = middle(&mut medians, level);
    Some(Estimate { value: median(values), low, high })
}

/// Between which two values the middle `level` of all lies.
pub fn middle(values: &mut [f64], level: f64) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    ((at((1.0 - level) / 2.0)), at((1.0 + level) / 2.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn medians() {
        assert!(median(&[]).is_nan());
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median_with_interval(&[], 0.95), None);
        assert_eq!(median_with_interval(&[1.0, f64::NAN], 0.95), None);
    }

    #[test]
    fn an_interval_holds_the_truth_about_as_often_as_it_says() {
        let mut random = Random::new(7);
        let mut held = 0;
        for _ in 0..200 {
            // A sum of evenly spread values, whose median is 6.
            let values: Vec<f64> = (0..12)
                .map(|_| (0..12).map(|_| (random.next() >> 11) as f64 / (1_u64 << 53) as f64).sum())
                .collect();
            let estimate = median_with_interval(&values, 0.95).unwrap();
            held += u32::from(estimate.low <= 6.0 && 6.0 <= estimate.high);
        }
        assert!((180..=199).contains(&held), "{held} of 200");
    }

    proptest! {
        #[test]
        fn the_median_lies_in_its_interval_and_wider_ones_hold_narrower_ones(
            values in prop::collection::vec(-1e6_f64..1e6, 1..20),
        ) {
            let narrow = median_with_interval(&values, 0.8).unwrap();
            let wide = median_with_interval(&values, 0.99).unwrap();
            prop_assert!(wide.low <= narrow.low && narrow.high <= wide.high);
            prop_assert!(wide.low <= narrow.value && narrow.value <= wide.high);
        }
    }
}
