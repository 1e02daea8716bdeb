//! vegeta's reports of results: text, json, hist, hdrplot.
//!
//! What it leaves to others: where they are written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::results::{Hit, Summing as _, rfc3339};
use crate::report::hgrm;
use crate::units::{self, go_duration};

/// Which report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    Text,
    Json,
    /// Lower ends of buckets.
    Hist(Vec<Duration>),
    Hdrplot,
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        if let Some(list) = text.strip_prefix("hist") {
            let list = list.trim_start_matches('[').trim_end_matches(']');
            return Ok(Kind::Hist(buckets(list)?));
        }
        match text {
            "text" => Ok(Kind::Text),
            "json" => Ok(Kind::Json),
            "hdrplot" => Ok(Kind::Hdrplot),
            other => Err(format!("`{other}` is no report: text, json, hist[0,1ms,10ms], hdrplot")),
        }
    }
}

/// `0,1ms,10ms`, in ascending order; 0 is there in any case.
pub fn buckets(list: &str) -> Result<Vec<Duration>, String> {
    let list = list.trim().trim_start_matches('[').trim_end_matches(']');
    let mut ends = vec![Duration::ZERO];
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        ends.push(units::duration(part)?);
    }
    ends.sort_unstable();
    ends.dedup();
    if ends.len() < 2 { Err("hist[0,1ms,10ms]: at least one end".to_owned()) } else { Ok(ends) }
}

/// What all reports count.
struct Sums {
    requests: u64,
    succeeded: u64,
    bytes_in: u64,
    bytes_out: u64,
    earliest: u64,
    latest: u64,
    end: u64,
    codes: BTreeMap<u16, u64>,
    errors: BTreeSet<String>,
}

impl Sums {
    fn of(hits: &[Hit]) -> Sums {
        let mut sums = Sums {
            requests: hits.len() as u64,
            succeeded: 0,
            bytes_in: 0,
            bytes_out: 0,
            earliest: hits.iter().map(|hit| hit.unix_ns).min().unwrap_or(0),
            latest: hits.iter().map(|hit| hit.unix_ns).max().unwrap_or(0),
            end: hits.iter().map(|hit| hit.unix_ns + hit.latency).max().unwrap_or(0),
            codes: BTreeMap::new(),
            errors: BTreeSet::new(),
        };
        for hit in hits {
            // vegeta's idea of a success.
            sums.succeeded += u64::from((200..400).contains(&hit.code));
            sums.bytes_in += hit.bytes_in;
            sums.bytes_out += hit.bytes_out;
            *sums.codes.entry(hit.code).or_default() += 1;
            if !hit.error.is_empty() {
                sums.errors.insert(hit.error.clone());
            }
        }
        sums
    }

    fn attack(&self) -> u64 {
        self.latest - self.earliest
    }

    fn wait(&self) -> u64 {
        self.end - self.latest
    }

    fn rate(&self) -> f64 {
        per_second(self.requests, self.attack())
    }

    fn throughput(&self) -> f64 {
        per_second(self.succeeded, self.attack() + self.wait())
    }

    fn success(&self) -> f64 {
        self.succeeded as f64 / self.requests.max(1) as f64
    }

    fn mean(&self, bytes: u64) -> f64 {
        bytes as f64 / self.requests.max(1) as f64
    }
}

/// Latencies in ascending order, and their sum.
struct Latencies(Vec<u64>, u128);

impl Latencies {
    fn of(hits: &[Hit]) -> Latencies {
        let mut all: Vec<u64> = hits.iter().map(|hit| hit.latency).collect();
        all.sort_unstable();
        let total = all.iter().map(|latency| u128::from(*latency)).sum();
        Latencies(all, total)
    }

    fn mean(&self) -> u64 {
        (self.1 / (self.0.len().max(1) as u128)) as u64
    }

    /// The least one that this part of all are not above; from 0, the least, to 1, the most.
    fn at(&self, quantile: f64) -> u64 {
        let rank = (quantile * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    }
}

/// To a thousandth of the largest unit that it exceeds, as vegeta rounds.
fn rounded(nanoseconds: u64) -> String {
    let units = [3_600_000_000_000, 60_000_000_000, 1_000_000_000, 1_000_000, 1_000];
    let unit = units.into_iter().find(|unit| nanoseconds > *unit).map_or(1, |unit| unit / 1_000);
    go_duration((nanoseconds + unit / 2) / unit * unit)
}

fn per_second(count: u64, nanoseconds: u64) -> f64 {
    if nanoseconds == 0 { 0.0 } else { count as f64 / (nanoseconds as f64 / 1e9) }
}

/// The report of hits in the order of their times, with `buckets` in JSON.
pub fn report(hits: &Vec<Hit>, kind: &Kind, buckets: Option<&[Duration]>) -> String {
    match kind {
        Kind::Text => text(hits),
        Kind::Json => format!("{}\n", document(hits, buckets)),
        Kind::Hist(buckets) => hist(hits, buckets),
        Kind::Hdrplot => hgrm::spectrum(&hits.latencies()),
    }
}

fn text(hits: &[Hit]) -> String {
    let (sums, latencies) = (Sums::of(hits), Latencies::of(hits));
    let at = |quantile| rounded(latencies.at(quantile));
    let mut out = String::new();
    let mut line = |name: &str, what: &str, values: String| {
        let _ = writeln!(out, "{name:<13} {what:<33} {values}");
    };
    line(
        "Requests",
        "[total, rate, throughput]",
        format!("{}, {:.2}, {:.2}", sums.requests, sums.rate(), sums.throughput()),
    );
    let (attack, wait) = (sums.attack(), sums.wait());
    line(
        "Duration",
        "[total, attack, wait]",
        [attack + wait, attack, wait].map(rounded).join(", "),
    );
    let (min, max, mean) = (at(0.0), at(1.0), rounded(latencies.mean()));
    let middle = [0.5, 0.9, 0.95, 0.99].map(at).join(", ");
    line(
        "Latencies",
        "[min, mean, 50, 90, 95, 99, max]",
        format!("{min}, {mean}, {middle}, {max}"),
    );
    line(
        "Bytes In",
        "[total, mean]",
        format!("{}, {:.2}", sums.bytes_in, sums.mean(sums.bytes_in)),
    );
    line(
        "Bytes Out",
        "[total, mean]",
        format!("{}, {:.2}", sums.bytes_out, sums.mean(sums.bytes_out)),
    );
    line("Success", "[ratio]", format!("{:.2}%", sums.success() * 100.0));
    let codes: Vec<String> =
        sums.codes.iter().map(|(code, count)| format!("{code}:{count}")).collect();
    line("Status Codes", "[code:count]", codes.join("  "));
    out.push_str("Error Set:\n");
    for error in &sums.errors {
        let _ = writeln!(out, "{error}");
    }
    out
}

fn document(hits: &[Hit], buckets: Option<&[Duration]>) -> Value {
    let (sums, latencies) = (Sums::of(hits), Latencies::of(hits));
    let at = |quantile| latencies.at(quantile);
    let mut document = json!({
        "latencies": {
            "total": latencies.1 as u64,
            "mean": latencies.mean(),
            "50th": at(0.5),
            "90th": at(0.9),
            "95th": at(0.95),
            "99th": at(0.99),
            "max": at(1.0),
            "min": at(0.0),
        },
        "bytes_in": {"total": sums.bytes_in, "mean": sums.mean(sums.bytes_in)},
        "bytes_out": {"total": sums.bytes_out, "mean": sums.mean(sums.bytes_out)},
        "earliest": rfc3339(sums.earliest),
        "latest": rfc3339(sums.latest),
        "end": rfc3339(sums.end),
        "duration": sums.attack(),
        "wait": sums.wait(),
        "requests": sums.requests,
        "rate": sums.rate(),
        "throughput": sums.throughput(),
        "success": sums.success(),
        "status_codes": sums.codes.iter().map(|(code, count)| (code.to_string(), json!(count)))
            .collect::<Value>(),
        "errors": sums.errors,
    });
    if let Some(ends) = buckets {
        let counted = counted(hits, ends);
        document["buckets"] = ends
            .iter()
            .zip(counted)
            .map(|(end, count)| (end.as_nanos().to_string(), json!(count)))
            .collect();
    }
    document
}

fn counted(hits: &[Hit], ends: &[Duration]) -> Vec<u64> {
    let mut counts = vec![0; ends.len()];
    for hit in hits {
        let latency = Duration::from_nanos(hit.latency);
        counts[ends.partition_point(|end| *end <= latency).saturating_sub(1)] += 1;
    }
    counts
}

fn hist(hits: &[Hit], ends: &[Duration]) -> String {
    let counts = counted(hits, ends);
    let total = hits.len().max(1) as f64;
    let said = |end: &Duration| go_duration(end.as_nanos() as u64);
    let mut out = String::from("Bucket           #     %       Histogram\n");
    for (number, count) in counts.iter().enumerate() {
        let next = ends.get(number + 1).map_or("+Inf".to_owned(), said);
        let share = *count as f64 / total * 100.0;
        let _ = writeln!(
            out,
            "[{:<6} {next:>6}]  {count:<5} {share:5.2}%  {}",
            format!("{},", said(&ends[number])),
            "#".repeat((share * 0.75) as usize)
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits() -> Vec<Hit> {
        (0..100)
            .map(|number| Hit {
                unix_ns: 1_000_000_000 + number * 10_000_000,
                latency: (number + 1) * 100_000,
                code: if number < 90 { 200 } else { 503 },
                error: if number < 90 { String::new() } else { "503 unexpected status".to_owned() },
                bytes_in: 10,
                ..Hit::default()
            })
            .collect()
    }

    #[test]
    fn text_has_vegetas_lines() {
        let text = report(&hits(), &Kind::Text, None);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "Requests      [total, rate, throughput]         100, 101.01, 90.00");
        assert_eq!(lines[1], "Duration      [total, attack, wait]             1s, 990ms, 10ms");
        let latencies = "100µs, 5.05ms, 5ms, 9ms, 9.5ms, 9.9ms, 10ms";
        let name = "Latencies     [min, mean, 50, 90, 95, 99, max]  ";
        assert_eq!(lines[2], format!("{name}{latencies}"));
        assert_eq!(lines[5], "Success       [ratio]                           90.00%");
        assert_eq!(lines[6], "Status Codes  [code:count]                      200:90  503:10");
        assert_eq!(lines[8], "503 unexpected status");
    }

    #[test]
    fn json_has_vegetas_keys() {
        let kind: Kind = "json".parse().unwrap();
        let text = report(&hits(), &kind, Some(&buckets("0,1ms,5ms").unwrap()));
        let value: Value = serde_json::from_str(&text).unwrap();
        for key in ["mean", "50th", "90th", "95th", "99th", "max"] {
            assert!(value["latencies"][key].is_u64(), "{key}");
        }
        assert_eq!((&value["success"], &value["status_codes"]["503"]), (&json!(0.9), &json!(10)));
        assert_eq!((&value["duration"], &value["requests"]), (&json!(990_000_000), &json!(100)));
        let buckets = json!({"0": 9, "1000000": 40, "5000000": 51});
        assert_eq!(value["buckets"], buckets);
    }

    #[test]
    fn buckets_are_counted_and_named() {
        let kind: Kind = "hist[0,1ms,5ms]".parse().unwrap();
        let text = report(&hits(), &kind, None);
        assert!(text.contains("[0s,       1ms]  9      9.00%  ######\n"), "{text}");
        assert!(text.contains("+Inf]  51    51.00%"), "{text}");
        for text in ["hist[]", "xml", "hist[a]"] {
            assert!(text.parse::<Kind>().is_err(), "{text}");
        }
        assert!(report(&hits(), &Kind::Hdrplot, None).contains("1/(1-Percentile)"));
        assert!(report(&Vec::new(), &Kind::Text, None).contains("[ratio]"));
    }
}
