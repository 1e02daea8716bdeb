//! Interval logs (`.hlog`): one line per interval with its histogram, as HistogramLogAnalyzer reads
//! and writes them. Values are nanoseconds.
//!
//! What it leaves to others: files.

use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, LogEntry,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};

use crate::engine::Outcome;
use crate::engine::interval::histogram;

/// The whole run. Its intervals are tagged when `tag` is given.
pub fn write(outcome: &Outcome, tag: Option<&str>) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let start = UNIX_EPOCH + Duration::from_nanos(outcome.start_unix_ns);
    let comment = format!("[Logged with loadtest {}]", env!("CARGO_PKG_VERSION"));
    let fail = |what: String| format!("interval log: {what}");
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment(&comment)
        .add_comment("[Values are nanoseconds, from the intended send time in an open loop]")
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(1e6)
        .begin_log_with(&mut out, &mut serializer)
        .map_err(|error| fail(error.to_string()))?;
    let tag = tag.and_then(hdrhistogram::serialization::interval_log::Tag::new);
    for slice in &outcome.slices {
        let latency: Histogram<u64> = Deserializer::new()
            .deserialize(&mut &slice.encoded[..])
            .map_err(|error| fail(format!("{error:?}")))?;
        let at = outcome.plan.interval * slice.index as u32;
        writer
            .write_histogram(&latency, at, outcome.plan.interval, tag)
            .map_err(|error| fail(format!("{error:?}")))?;
    }
    drop(writer);
    Ok(out)
}

/// The histograms of a log's intervals, in order.
pub fn read(bytes: &[u8]) -> Result<Vec<Histogram<u64>>, String> {
    let mut intervals = Vec::new();
    let mut deserializer = Deserializer::new();
    for entry in IntervalLogIterator::new(bytes) {
        let entry = entry.map_err(|_| "no interval log: a line cannot be read".to_owned())?;
        let LogEntry::Interval(interval) = entry else { continue };
        let encoded = base64_of(interval.encoded_histogram())?;
        let part: Histogram<u64> = deserializer
            .deserialize(&mut &encoded[..])
            .map_err(|error| format!("a histogram cannot be decoded: {error:?}"))?;
        // Others have other bounds.
        let mut same = histogram();
        for value in part.iter_recorded() {
            same.saturating_record_n(value.value_iterated_to(), value.count_at_value());
        }
        intervals.push(same);
    }
    if intervals.is_empty() {
        Err("no interval log: no histogram in it".to_owned())
    } else {
        Ok(intervals)
    }
}

fn base64_of(text: &str) -> Result<Vec<u8>, String> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|error| format!("a histogram is no base64: {error}"))
}
