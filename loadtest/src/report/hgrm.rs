//! HdrHistogram's percentile spectrum: the body of a `.hgrm` file, and of wrk2's output.
//!
//! What it leaves to others: plotting it.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

/// Steps for each halving of the distance to 100 %, as in wrk2.
const TICKS_PER_HALF: u32 = 5;

/// The spectrum of nanoseconds, with values in milliseconds.
pub fn spectrum(histogram: &Histogram<u64>) -> String {
    let mut text = String::from("       Value   Percentile   TotalCount 1/(1-Percentile)\n\n");
    for point in points(histogram) {
        let _ = write!(
            text,
            "{:12.3} {:12.6} {:12}",
            point.value as f64 / 1e6,
            point.quantile,
            point.count
        );
        if point.quantile < 1.0 {
            let _ = write!(text, " {:12.2}", 1.0 / (1.0 - point.quantile));
        } else {
            text.push_str("          inf");
        }
        text.push('\n');
    }
    let _ = write!(
        text,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n#[Max     = {:12.3}, Total count    = \
         {:12}]\n#[Buckets = {:12}, SubBuckets     = {:12}]\n",
        histogram.mean() / 1e6,
        histogram.stdev() / 1e6,
        histogram.max() as f64 / 1e6,
        histogram.len(),
        32,
        2048,
    );
    text
}

/// A point of the spectrum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub value: u64,
    /// Share of values up to this one.
    pub quantile: f64,
    pub count: u64,
}

/// The points that a spectrum shows: denser towards 100 %.
pub fn points(histogram: &Histogram<u64>) -> Vec<Point> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let shown = histogram.iter_quantiles(TICKS_PER_HALF).map(|step| Point {
        value: step.value_iterated_to(),
        quantile: step.quantile_iterated_to(),
        count: (step.quantile() * histogram.len() as f64).round() as u64,
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::interval::histogram;

    #[test]
    fn the_spectrum_ends_at_the_longest_and_counts_all() {
        let (mut histogram, empty) = (histogram(), histogram());
        for ms in 1..=10_000_u64 {
            histogram.saturating_record(ms * 1_000_000);
        }
        let points = points(&histogram);
        let (first, last) = (points[0], points[points.len() - 1]);
        assert_eq!((first.quantile, last.quantile, last.count), (0.0, 1.0, 10_000));
        assert!(histogram.equivalent(last.value, histogram.max()));
        assert!(points.windows(2).all(|pair| pair[0].value <= pair[1].value));
        let text = spectrum(&histogram);
        assert!(text.contains("\n       Value") || text.starts_with("       Value"));
        assert!(text.contains("    1.000000        10000          inf\n"), "{text}");
        assert!(text.contains("#[Mean    =     5000."), "{text}");
        assert!(spectrum(&empty).contains("Total count    =            0"));
    }
}
