//! Results, one per request, as vegeta encodes them: JSON lines (what `attack` writes) or CSV.
//! vegeta's own commands read both. Its default, gob, is Go's: `vegeta encode` makes JSON of it.
//!
//! What it leaves to others: adding them up.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use serde_json::Value;

use crate::engine::interval::{FAULTS, Sample, histogram};
use crate::plan::Plan;

/// One request and what came of it.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Hit {
    pub attack: String,
    pub seq: u64,
    pub code: u16,
    /// When it was due, in nanoseconds since 1970.
    pub unix_ns: u64,
    pub latency: u64,
    pub bytes_out: u64,
    pub bytes_in: u64,
    pub error: String,
    pub method: String,
    pub url: String,
}

impl Hit {
    /// One of our own answers.
    pub fn of(plan: &Plan, sample: &Sample, to_unix_ns: i64, attack: &str, seq: u64) -> Hit {
        let target = &plan.targets[sample.target as usize % plan.targets.len()];
        let error = match sample.fault {
            Some(fault) => FAULTS.iter().find(|(f, _)| *f == fault).map_or("", |(_, name)| *name),
            None if plan.expect.allows(sample.status) => "",
            None => "unexpected status",
        };
        let error = match sample.status {
            0 => error.to_owned(),
            _ if error.is_empty() => String::new(),
            status => format!("{status} {error}"),
        };
        Hit {
            attack: attack.to_owned(),
            seq,
            code: sample.status,
            unix_ns: (sample.at as i64 + to_unix_ns).max(0) as u64,
            latency: sample.latency,
            bytes_out: target.body_bytes as u64,
            bytes_in: sample.bytes_in,
            error,
            method: target.method.clone(),
            url: target.url.clone(),
        }
    }

    /// Written by hand: it is done while the attack goes on.
    pub fn json(&self) -> String {
        format!(
            "{{\"attack\":{},\"seq\":{},\"code\":{},\"timestamp\":\"{}\",\"latency\":{},\
             \"bytes_out\":{},\"bytes_in\":{},\"error\":{},\"body\":null,\"method\":{},\
             \"url\":{},\"headers\":null}}\n",
            quoted(&self.attack),
            self.seq,
            self.code,
            rfc3339(self.unix_ns),
            self.latency,
            self.bytes_out,
            self.bytes_in,
            quoted(&self.error),
            quoted(&self.method),
            quoted(&self.url)
        )
    }

    pub fn csv(&self) -> String {
        let mut line = String::new();
        let quoted = |text: &str| {
            if text.contains([',', '"', '\n']) {
                format!("\"{}\"", text.replace('"', "\"\""))
            } else {
                text.to_owned()
            }
        };
        let _ = writeln!(
            line,
            "{},{},{},{},{},{},{},{},{},{},{},",
            self.unix_ns,
            self.code,
            self.latency,
            self.bytes_out,
            self.bytes_in,
            quoted(&self.error),
            STANDARD.encode(""),
            quoted(&self.attack),
            self.seq,
            self.method,
            quoted(&self.url)
        );
        line
    }

    fn of_json(line: &str) -> Option<Hit> {
        let value: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
        let number = |key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0);
        Some(Hit {
            attack: text("attack"),
            seq: number("seq"),
            code: number("code") as u16,
            unix_ns: of_rfc3339(value.get("timestamp")?.as_str()?)?,
            latency: value.get("latency")?.as_u64()?,
            bytes_out: number("bytes_out"),
            bytes_in: number("bytes_in"),
            error: text("error"),
            method: text("method"),
            url: text("url"),
        })
    }

    fn of_csv(line: &str) -> Option<Hit> {
        let fields = csv_fields(line);
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let text = |at: usize| fields.get(at).cloned().unwrap_or_default();
        Some(Hit {
            unix_ns: number(0)?,
            code: number(1)? as u16,
            latency: number(2)?,
            bytes_out: number(3)?,
            bytes_in: number(4)?,
            error: text(5),
            attack: text(7),
            seq: number(8).unwrap_or(0),
            method: text(9),
            url: text(10),
        })
    }
}

/// A string in JSON.
fn quoted(text: &str) -> String {
    if text.bytes().all(|b| (b' '..0x7f).contains(&b) && b != b'"' && b != b'\\') {
        format!("\"{text}\"")
    } else {
        Value::from(text).to_string()
    }
}

fn csv_fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let last = fields.len() - 1;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                fields[last].push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields[last].push(c),
        }
    }
    fields
}

/// The results of a file, in the order of their times.
pub fn read(bytes: &[u8]) -> Result<Vec<Hit>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        "no results in JSON or CSV; of vegeta's gob make JSON: vegeta encode < FILE".to_owned()
    })?;
    let mut hits = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let hit = if line.starts_with('{') { Hit::of_json(line) } else { Hit::of_csv(line) };
        hits.push(hit.ok_or_else(|| format!("line {}: no result of an attack", number + 1))?);
    }
    hits.sort_by_key(|hit| hit.unix_ns);
    Ok(hits)
}

/// Latencies of many results.
pub trait Summing {
    /// All, as vegeta counts them: failures, too.
    fn latencies(&self) -> Histogram<u64>;
    /// By second of the attack.
    fn by_second(&self) -> Vec<Histogram<u64>>;
}

impl Summing for Vec<Hit> {
    fn latencies(&self) -> Histogram<u64> {
        let mut all = histogram();
        for hit in self {
            all.saturating_record(hit.latency);
        }
        all
    }

    fn by_second(&self) -> Vec<Histogram<u64>> {
        let start = self.first().map_or(0, |hit| hit.unix_ns);
        let mut parts: Vec<Histogram<u64>> = Vec::new();
        for hit in self {
            // A day's attack, at most: a wrong time must not take all memory.
            let second = (hit.unix_ns.saturating_sub(start) / 1_000_000_000).min(86_400) as usize;
            while parts.len() <= second {
                parts.push(histogram());
            }
            parts[second].saturating_record(hit.latency);
        }
        parts
    }
}

/// Days since 1970 as year, month and day (Howard Hinnant's algorithm).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The way back.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// `2026-11-22T12:00:00.000000001Z`.
pub fn rfc3339(unix_ns: u64) -> String {
    let (seconds, ns) = (unix_ns / 1_000_000_000, unix_ns % 1_000_000_000);
    let (year, month, day) = civil((seconds / 86_400) as i64);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
}

fn of_rfc3339(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let rest = text.get(19..)?;
    let zone_at = rest.find(['Z', '+', '-'])?;
    let fraction = rest[..zone_at].trim_start_matches('.');
    let ns: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let offset = match rest[zone_at..].strip_prefix('Z') {
        Some(_) => 0,
        None => {
            let (hours, minutes) = rest[zone_at + 1..].split_once(':')?;
            let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
            if rest[zone_at..].starts_with('-') { -seconds } else { seconds }
        }
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    u64::try_from(seconds.checked_mul(1_000_000_000)?.checked_add(ns)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hit() -> Hit {
        Hit {
            attack: "a, \"b\"".to_owned(),
            seq: 7,
            code: 200,
            unix_ns: 1_795_348_698_117_000_001,
            latency: 1_234_567,
            bytes_out: 3,
            bytes_in: 1024,
            error: String::new(),
            method: "GET".to_owned(),
            url: "http://a/?b=c,d".to_owned(),
        }
    }

    #[test]
    fn results_come_back_from_both_forms() {
        for text in [hit().json(), hit().csv()] {
            assert_eq!(read(text.as_bytes()).unwrap(), [hit()], "{text}");
        }
        assert!(read(b"x").is_err() && read(b"\xff").unwrap_err().contains("vegeta encode"));
    }

    #[test]
    fn a_line_of_vegetas_own() {
        let line = r#"{"attack":"","seq":0,"code":200,"timestamp":"2015-09-19T14:45:50.645818631+02:00","latency":102133,"bytes_out":0,"bytes_in":87,"error":"","body":"aGk=","method":"GET","url":"http://127.0.0.1:8080","headers":{"X":["y"]}}"#;
        let hits = read(line.as_bytes()).unwrap();
        assert_eq!((hits[0].latency, hits[0].bytes_in), (102_133, 87));
        assert_eq!(rfc3339(hits[0].unix_ns), "2015-09-19T12:45:50.645818631Z");
    }

    proptest! {
        #[test]
        fn times_come_back(unix_ns in 0_u64..4_000_000_000_000_000_000) {
            prop_assert_eq!(of_rfc3339(&rfc3339(unix_ns)), Some(unix_ns));
        }

        #[test]
        fn no_line_makes_the_reader_panic(line in "\\PC{0,80}") {
            let _ = (read(line.as_bytes()), of_rfc3339(&line));
        }
    }
}
