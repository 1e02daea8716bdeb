//! Latencies from files: interval logs, percentile spectra (wrk2's output among them), vegeta's
//! results and fortio's reports.
//!
//! What it leaves to others: comparing.

use hdrhistogram::Histogram;
use serde_json::Value;

use crate::engine::interval::histogram;
use crate::report::hlog;
use crate::vegeta::results::{self, Summing as _};

/// Latencies in nanoseconds, in parts that were measured one after the other. One part: nothing is
/// known about how they changed.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub parts: Vec<Histogram<u64>>,
    /// What the file is.
    pub kind: &'static str,
}

impl Loaded {
    pub fn total(&self) -> Histogram<u64> {
        let mut total = histogram();
        for part in &self.parts {
            // All have the same bounds.
            let _ = total.add(part);
        }
        total
    }
}

/// What the bytes of a file hold, whatever wrote it.
pub fn load(bytes: &[u8]) -> Result<Loaded, String> {
    if let Ok(parts) = hlog::read(bytes) {
        return Ok(Loaded { parts, kind: "interval log" });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| unknown())?;
    if let Some(parts) = spectrum(text) {
        return Ok(Loaded { parts: vec![parts], kind: "percentile spectrum" });
    }
    if let Ok(value) = serde_json::from_str::<Value>(text)
        && let Some(part) = fortio(&value)
    {
        return Ok(Loaded { parts: vec![part], kind: "fortio report" });
    }
    let results = results::read(bytes).map_err(|_| unknown())?;
    if results.is_empty() {
        return Err(unknown());
    }
    Ok(Loaded { parts: results.by_second(), kind: "vegeta results" })
}

fn unknown() -> String {
    "neither an interval log (.hlog), a percentile spectrum (.hgrm, wrk2), vegeta's results (JSON or \
     CSV; for gob: `vegeta encode`), nor a fortio report"
        .to_owned()
}

/// From lines of value in milliseconds, percentile and total count.
fn spectrum(text: &str) -> Option<Histogram<u64>> {
    let lines = text.lines().skip_while(|line| !line.contains("1/(1-Percentile)")).skip(1);
    let mut total = histogram();
    let mut before = 0;
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() && before == 0 {
            continue;
        }
        let (Some(value), Some(count)) = (
            words.first().and_then(|word| word.parse::<f64>().ok()),
            words.get(2).and_then(|word| word.parse::<u64>().ok()),
        ) else {
            break;
        };
        let new = count.saturating_sub(before);
        total.saturating_record_n((value * 1e6).max(0.0) as u64, new);
        before = before.max(count);
    }
    (before > 0).then_some(total)
}

/// From buckets in seconds, evenly spread within each.
fn fortio(report: &Value) -> Option<Histogram<u64>> {
    const STEPS: u64 = 16;
    let mut total = histogram();
    for bucket in report.get("DurationHistogram")?.get("Data")?.as_array()? {
        let (start, end) = (bucket.get("Start")?.as_f64()?, bucket.get("End")?.as_f64()?);
        let count = bucket.get("Count")?.as_u64()?;
        for step in 0..STEPS {
            let share = (step as f64 + 0.5) / STEPS as f64;
            let part = count * (step + 1) / STEPS - count * step / STEPS;
            let value = (start + (end - start) * share) * 1e9;
            total.saturating_record_n(value.max(0.0) as u64, part);
        }
    }
    (!total.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::hgrm;

    #[test]
    fn a_spectrum_of_ours_comes_back_within_its_steps() {
        let mut original = histogram();
        for us in 1..=10_000_u64 {
            original.saturating_record(us * 1000);
        }
        let text = format!("wrk2's lines before\n  {}", hgrm::spectrum(&original));
        let loaded = load(text.as_bytes()).unwrap();
        assert_eq!((loaded.kind, loaded.total().len()), ("percentile spectrum", 10_000));
        for quantile in [0.9, 0.99, 0.999] {
            let (was, is) =
                (original.value_at_quantile(quantile), loaded.total().value_at_quantile(quantile));
            assert!((is as f64 / was as f64 - 1.0).abs() < 0.03, "{quantile}: {was} {is}");
        }
    }

    #[test]
    fn fortios_buckets() {
        let report = r#"{"DurationHistogram": {"Count": 30, "Data": [
            {"Start": 0.001, "End": 0.002, "Percent": 50, "Count": 15},
            {"Start": 0.002, "End": 0.003, "Percent": 100, "Count": 15}]}}"#;
        let loaded = load(report.as_bytes()).unwrap();
        assert_eq!((loaded.kind, loaded.total().len()), ("fortio report", 30));
        assert!(loaded.total().max() < 3_000_000 && loaded.total().min() > 1_000_000);
    }

    #[test]
    fn other_files_are_refused_with_what_would_do() {
        for bytes in [&b""[..], b"hello", b"{}", b"\xff\xfe", b"a,b,c\n"] {
            assert!(load(bytes).unwrap_err().contains(".hlog"), "{bytes:?}");
        }
    }
}
