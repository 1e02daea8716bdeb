//! Tables: one line per request in oha's columns, and one line per interval in ours.
//!
//! What it leaves to others: where they are written.

use std::fmt::Write as _;

use crate::engine::Outcome;
use crate::engine::interval::Sample;

/// oha's columns.
pub const REQUESTS: &str =
    "request-start,DNS,DNS+dialup,Response-delay,request-duration,bytes,status\n";

/// One line per answer, in seconds since `start`. What happened before the request was sent is not
/// known per request: those columns are 0, and the delay is the duration.
pub fn requests(samples: &[Sample], start: u64) -> String {
    let mut text = String::new();
    for sample in samples {
        let at = sample.at.saturating_sub(start) as f64 / 1e9;
        let latency = sample.latency as f64 / 1e9;
        let _ = writeln!(
            text,
            "{at:.9},0,0,{latency:.9},{latency:.9},{},{}",
            sample.bytes_in, sample.status
        );
    }
    text
}

/// The time line: one line per interval, latencies in microseconds.
pub fn time_line(outcome: &Outcome) -> String {
    let mut text = String::from(
        "second,sent,answers,succeeded,failed,p50_us,p90_us,p99_us,p99.9_us,max_us,\
         lateness_p99_us\n",
    );
    for slice in &outcome.slices {
        let counts = &slice.counts;
        let second = slice.index as f64 * outcome.plan.interval.as_secs_f64();
        let _ = write!(
            text,
            "{second:.3},{},{},{},{}",
            counts.sent,
            counts.answers(),
            counts.succeeded,
            counts.failures()
        );
        for ns in slice.quantiles.iter().chain([&slice.lateness_p99]) {
            let _ = write!(text, ",{:.1}", *ns as f64 / 1e3);
        }
        text.push('\n');
    }
    text
}
