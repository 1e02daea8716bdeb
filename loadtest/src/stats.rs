//! The middle of values, and how sure it is; random numbers from a seed.
//!
//! What it leaves to others: what is compared.

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

    /// From 0 to 1.
    #[cfg(test)]
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
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

/// The Hodges-Lehmann estimate: the median of the averages of all pairs of values, each with itself
/// too; and the interval of Wilcoxon's signed ranks that fails to hold the centre of a symmetric
/// distribution with probability `error`. `None` of nothing.
///
/// Values far out count as little as in a median, and normal ones nearly as much as in a mean (the
/// interval is 2 % wider than that of a mean, that of a median 25 %).
pub fn centre_with_interval(values: &[f64], error: f64) -> Option<Estimate> {
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let averages = n * (n + 1.0) / 2.0;
    // Of the sum of signed ranks, where the centre is 0.
    let (mean, deviation) = (averages / 2.0, (averages * (2.0 * n + 1.0) / 12.0).sqrt());
    let outside = (mean - normal_quantile(1.0 - error / 2.0) * deviation).floor().max(1.0);
    let at = |rank: f64| average_of_rank(&sorted, rank as u64);
    let value = (at((averages / 2.0).ceil()) + at((averages / 2.0).floor() + 1.0)) / 2.0;
    Some(Estimate { value, low: at(outside), high: at(averages + 1.0 - outside) })
}

/// The `rank`-th smallest, from 1, of the averages of all pairs. Found by halving: there are too
/// many averages to write them down.
fn average_of_rank(sorted: &[f64], rank: u64) -> f64 {
    let (mut low, mut high) = (sorted[0], sorted[sorted.len() - 1]);
    for _ in 0..100 {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if averages_up_to(sorted, middle) >= rank { high = middle } else { low = middle }
    }
    if averages_up_to(sorted, low) >= rank { low } else { high }
}

/// How many averages of pairs, each value with itself too, are at most `bound`.
fn averages_up_to(sorted: &[f64], bound: f64) -> u64 {
    let (mut count, mut end) = (0, sorted.len());
    for (first, value) in sorted.iter().enumerate() {
        while end > 0 && value + sorted[end - 1] > 2.0 * bound {
            end -= 1;
        }
        count += end.saturating_sub(first) as u64;
    }
    count
}

/// The value below which a normal number is with this probability (Acklam's approximation, good to
/// nine digits).
fn normal_quantile(probability: f64) -> f64 {
    const A: [f64; 6] = [
        -39.696_830_286_653_8,
        220.946_098_424_521,
        -275.928_510_446_969,
        138.357_751_867_269,
        -30.664_798_066_147_2,
        2.506_628_277_459_24,
    ];
    const B: [f64; 6] = [
        -54.476_098_798_224_1,
        161.585_836_858_041,
        -155.698_979_859_887,
        66.801_311_887_719_7,
        -13.280_681_552_885_7,
        1.0,
    ];
    const C: [f64; 6] = [
        -0.007_784_894_002_430_29,
        -0.322_396_458_041_136,
        -2.400_758_277_161_84,
        -2.549_732_539_343_73,
        4.374_664_141_464_97,
        2.938_163_982_698_78,
    ];
    const D: [f64; 5] = [
        0.007_784_695_709_041_46,
        0.322_467_129_070_04,
        2.445_134_137_143,
        3.754_408_661_907_42,
        1.0,
    ];
    const TAIL: f64 = 0.02425;
    let polynomial = |factors: &[f64], x: f64| factors.iter().fold(0.0, |sum, f| sum * x + f);
    let tail = |p: f64| {
        let x = (-2.0 * p.ln()).sqrt();
        polynomial(&C, x) / polynomial(&D, x)
    };
    match probability {
        p if p < TAIL => tail(p),
        p if p > 1.0 - TAIL => -tail(1.0 - p),
        p => {
            let x = p - 0.5;
            x * polynomial(&A, x * x) / polynomial(&B, x * x)
        }
    }
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
        assert_eq!(centre_with_interval(&[], 0.05), None);
        assert_eq!(centre_with_interval(&[1.0, f64::NAN], 0.05), None);
    }

    #[test]
    fn quantiles_of_the_normal_distribution() {
        for (probability, expected) in
            [(0.5, 0.0), (0.975, 1.959_963_985), (0.999, 3.090_232_306), (0.01, -2.326_347_874)]
        {
            let quantile = normal_quantile(probability);
            assert!((quantile - expected).abs() < 1e-7, "{probability}: {quantile}");
        }
    }

    /// The differences of heights of Darwin's plants, in eighths of an inch; the expected figures
    /// are ranks 60 and 61, 25 and 96 of the written list of 120 averages.
    #[test]
    fn the_centre_and_interval_of_a_known_sample() {
        let plants = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48].map(f64::from);
        let estimate = centre_with_interval(&plants, 0.05).unwrap();
        let expected = [25.0, 0.5, 42.0];
        let found = [estimate.value, estimate.low, estimate.high];
        assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-6), "{found:?}");
    }

    #[test]
    fn an_interval_holds_the_truth_about_as_often_as_it_says() {
        let mut random = Random::new(7);
        let mut held = 0;
        for _ in 0..400 {
            // Symmetric about 6, with every tenth value far out.
            let values: Vec<f64> = (0..24)
                .map(|_| {
                    let unit = (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
                    6.0 + unit * if random.below(10) == 0 { 20.0 } else { 1.0 }
                })
                .collect();
            let estimate = centre_with_interval(&values, 0.05).unwrap();
            held += u32::from(estimate.low <= 6.0 && 6.0 <= estimate.high);
        }
        assert!((368..=394).contains(&held), "{held} of 400");
    }

    proptest! {
        #[test]
        fn ranks_of_averages_are_those_of_a_list(
            values in prop::collection::vec(-1e6_f64..1e6, 1..20),
        ) {
            let mut sorted = values;
            sorted.sort_unstable_by(f64::total_cmp);
            let mut list: Vec<f64> = (0..sorted.len())
                .flat_map(|i| (i..sorted.len()).map(move |j| (i, j)))
                .map(|(i, j)| (sorted[i] + sorted[j]) / 2.0)
                .collect();
            list.sort_unstable_by(f64::total_cmp);
            for (index, expected) in list.iter().enumerate() {
                let found = average_of_rank(&sorted, index as u64 + 1);
                prop_assert!((found - expected).abs() <= 1e-6, "{found} {expected}");
            }
        }

        #[test]
        fn the_centre_lies_in_its_interval_and_wider_ones_hold_narrower_ones(
            values in prop::collection::vec(-1e6_f64..1e6, 1..20),
        ) {
            let narrow = centre_with_interval(&values, 0.2).unwrap();
            let wide = centre_with_interval(&values, 0.01).unwrap();
            prop_assert!(wide.low <= narrow.low && narrow.high <= wide.high);
            prop_assert!(wide.low <= narrow.value && narrow.value <= wide.high);
        }
    }
}
