//! What a run is to do: validated, immutable, shared by all workers.
//!
//! What it leaves to others: where it comes from (`cli`, `vegeta`), and doing it (`engine`).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use tidegate_io::backend::Backend;

use crate::engine::tls::Tls;
use crate::phase::Phase;
use crate::target::{Origin, Target};

/// One run against one origin.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The URL as it was given, for headers of reports.
    pub url: String,
    pub origin: Origin,
    /// Where connections come from, in turn; empty: the kernel's choice.
    pub local_addresses: Vec<IpAddr>,
    /// Sent in turn; never empty.
    pub targets: Vec<Target>,
    pub threads: usize,
    pub connections: usize,
    /// TLS, for `https`.
    pub tls: Option<Tls>,
    /// HTTP/2, by prior knowledge, with so many streams at a time on each connection.
    pub http2: Option<usize>,
    /// A request is a gRPC call: it succeeds by its grpc-status.
    pub grpc: bool,
    pub load: Load,
    /// Parts of the measured time with a pace of their own, all of one kind; of rates `load` has
    /// the mean. Empty: it is all one.
    pub phases: Vec<Phase>,
    /// How long requests are sent; `None`: until `requests` of them were.
    pub duration: Option<Duration>,
    /// How many requests are sent at most.
    pub requests: Option<u64>,
    /// Time before the measurement, whose answers count nowhere.
    pub warm_up: Duration,
    /// For an answer, from the moment at which its request is taken up.
    pub timeout: Duration,
    pub expect: Expectation,
    /// Requests after which a connection is closed and made anew.
    pub requests_per_connection: Option<u32>,
    /// Length of one interval of the time line.
    pub interval: Duration,
    /// Whether each answer is kept, for logs that have one line per request.
    pub keep_samples: bool,
    /// Lateness of sends at p99.9 beyond which a run is void.
    pub lateness_max: Duration,
    /// Share of the machine's CPU time that a hypervisor may take before a run is void.
    pub steal_max: f64,
    pub backend: Backend,
    /// CPUs of the workers, one each; empty: the scheduler's choice.
    pub cpus: Vec<usize>,
}

/// When the next request is sent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Load {
    /// When an answer has come: as fast as the target, so that its stalls are not asked about.
    Closed,
    /// At its time, whatever the target does.
    Open {
        /// Requests per second, over all workers.
        rate: f64,
    },
}

impl Load {
    pub fn rate(self) -> Option<f64> {
        match self {
            Load::Closed => None,
            Load::Open { rate } => Some(rate),
        }
    }
}

impl Plan {
    /// Requests that a run sends in its measured time, where that is known beforehand.
    pub fn planned(&self) -> Option<u64> {
        match (self.load, self.duration) {
            (Load::Open { .. }, _) if !self.phases.is_empty() => {
                Some(self.phases.iter().map(Phase::requests).sum::<f64>().ceil() as u64)
            }
            (Load::Open { rate }, Some(duration)) => {
                let by_time = (rate * duration.as_secs_f64()).ceil() as u64;
                Some(self.requests.map_or(by_time, |requests| requests.min(by_time)))
            }
            (_, None) => self.requests,
            (Load::Closed, Some(_)) => None,
        }
    }
}

/// Which statuses are successes: `2xx,304`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expectation {
    ranges: Vec<(u16, u16)>,
}

impl Expectation {
    pub fn allows(&self, status: u16) -> bool {
        self.ranges.iter().any(|&(first, last)| (first..=last).contains(&status))
    }
}

impl Default for Expectation {
    fn default() -> Expectation {
        Expectation { ranges: vec![(200, 299)] }
    }
}

impl FromStr for Expectation {
    type Err = String;

    fn from_str(text: &str) -> Result<Expectation, String> {
        let wrong = |part: &str| format!("`{part}` is no status: 2xx, 304, 200-299");
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            let lower = part.to_ascii_lowercase();
            let range = if let Some(class) = lower.strip_suffix("xx") {
                let class: u16 = class.parse().map_err(|_| wrong(part))?;
                (class * 100, class * 100 + 99)
            } else if let Some((first, last)) = part.split_once('-') {
                let number = |text: &str| text.parse::<u16>().map_err(|_| wrong(part));
                (number(first)?, number(last)?)
            } else {
                let status = part.parse().map_err(|_| wrong(part))?;
                (status, status)
            };
            if range.0 > range.1 || range.0 < 100 || range.1 > 999 {
                return Err(wrong(part));
            }
            ranges.push(range);
        }
        Ok(Expectation { ranges })
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            match (first, last) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) if first % 100 == 0 && *last == first + 99 => {
                    write!(f, "{comma}{}xx", first / 100)?;
                }
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_by_class_number_and_range() {
        let expect: Expectation = "2xx,304,400-403".parse().unwrap();
        for (status, allowed) in
            [(200, true), (299, true), (300, false), (304, true), (403, true), (404, false)]
        {
            assert_eq!(expect.allows(status), allowed, "{status}");
        }
        assert_eq!(expect.to_string(), "2xx,304,400-403");
        for text in ["", "2x", "xx", "0xx", "200,", "300-200", "1000"] {
            assert!(text.parse::<Expectation>().is_err(), "{text}");
        }
    }
}
