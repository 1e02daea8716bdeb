//! What happened in one interval of a run: histograms and counters, of one worker or of all.
//!
//! What it leaves to others: deciding what is recorded (`worker`), and showing it.

use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2Serializer};

/// Latencies are recorded in nanoseconds, exact to three digits, up to an hour.
const LATENCY_MAX: u64 = 3_600_000_000_000;

/// An empty histogram of nanoseconds.
pub fn histogram() -> Histogram<u64> {
    let histogram = Histogram::new_with_bounds(1, LATENCY_MAX, 3);
    // The bounds are constants that the library accepts; a smaller one would be right, too.
    histogram.unwrap_or_else(|_| unreachable!("constant bounds are good"))
}

/// Why a request got no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// No connection.
    Connect = 0,
    /// The connection ended or broke before the answer was complete.
    Broken = 1,
    /// No complete answer in time.
    Timeout = 2,
    /// What came is no HTTP.
    Protocol = 3,
    /// It was due but never sent: no connection was free until the end of the run.
    Unsent = 4,
    /// A gRPC call whose status is not 0.
    Grpc = 5,
}

pub const FAULTS: [(Fault, &str); 6] = [
    (Fault::Connect, "connect"),
    (Fault::Broken, "connection closed or reset"),
    (Fault::Timeout, "timeout"),
    (Fault::Protocol, "malformed response"),
    (Fault::Unsent, "never sent: no connection was free"),
    (Fault::Grpc, "grpc-status other than 0"),
];

/// One answer, or the lack of one.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When it was due (open loop) or sent (closed loop), on the monotonic clock.
    pub at: u64,
    pub latency: u64,
    /// Bytes of the answer's body.
    pub bytes_in: u64,
    pub status: u16,
    pub fault: Option<Fault>,
    pub target: u32,
}

/// Counters of an interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub sent: u64,
    /// Answers with an expected status.
    pub succeeded: u64,
    /// Answers with another status.
    pub unexpected: u64,
    pub faults: [u64; FAULTS.len()],
    /// Statuses and how often they came.
    pub statuses: Vec<(u16, u64)>,
    /// Everything received, heads included.
    pub wire_in: u64,
    pub body_in: u64,
    pub body_out: u64,
    pub connects: u64,
}

impl Counts {
    pub fn status(&mut self, status: u16, count: u64) {
        match self.statuses.iter_mut().find(|(s, _)| *s == status) {
            Some((_, total)) => *total += count,
            None => self.statuses.push((status, count)),
        }
    }

    pub fn add(&mut self, other: &Counts) {
        self.sent += other.sent;
        self.succeeded += other.succeeded;
        self.unexpected += other.unexpected;
        for (total, count) in self.faults.iter_mut().zip(other.faults) {
            *total += count;
        }
        for &(status, count) in &other.statuses {
            self.status(status, count);
        }
        self.wire_in += other.wire_in;
        self.body_in += other.body_in;
        self.body_out += other.body_out;
        self.connects += other.connects;
    }

    /// Answers, whatever their status.
    pub fn answers(&self) -> u64 {
        self.succeeded + self.unexpected
    }

    pub fn fault(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    /// Requests that did not get what was expected.
    pub fn failures(&self) -> u64 {
        self.unexpected + self.faults.iter().sum::<u64>()
    }

    /// The share of requests that got what was expected; of none it is 0.
    pub fn success_ratio(&self) -> f64 {
        let all = self.succeeded + self.failures();
        if all == 0 { 0.0 } else { self.succeeded as f64 / all as f64 }
    }

    pub fn answers_per_second(&self, time: Duration) -> f64 {
        self.answers() as f64 / time.as_secs_f64().max(1e-9)
    }
}

/// One interval. `latency` holds answers with an expected status, and what timed out or was never
/// sent with the time that it had waited until then; other failures are only counted, for one that
/// fails quickly is not quick.
#[derive(Clone, Debug)]
pub struct Interval {
    pub index: u64,
    /// From the intended send time (open loop), or from the send.
    pub latency: Histogram<u64>,
    /// From the send; in an open loop only.
    pub service: Histogram<u64>,
    /// How late the generator itself sent; in an open loop only.
    pub lateness: Histogram<u64>,
    pub counts: Counts,
    pub samples: Vec<Sample>,
}

impl Interval {
    pub fn new(index: u64) -> Interval {
        Interval {
            index,
            latency: histogram(),
            service: histogram(),
            lateness: histogram(),
            counts: Counts::default(),
            samples: Vec::new(),
        }
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        for histogram in [&mut self.latency, &mut self.service, &mut self.lateness] {
            if !histogram.is_empty() {
                histogram.reset();
            }
        }
        self.counts = Counts::default();
        self.samples.clear();
    }

    /// A request was sent, so many nanoseconds late where that is known.
    pub fn add_sent(&mut self, body_bytes: u64, lateness: Option<u64>) {
        self.counts.sent += 1;
        self.counts.body_out += body_bytes;
        if let Some(lateness) = lateness {
            self.lateness.saturating_record(lateness);
        }
    }

    /// Adds another one. The samples are not added: they go to logs.
    pub fn add(&mut self, other: &Interval) {
        let pairs = [
            (&mut self.latency, &other.latency),
            (&mut self.service, &other.service),
            (&mut self.lateness, &other.lateness),
        ];
        for (total, part) in pairs {
            if !part.is_empty() {
                // Both have the same bounds, so that everything fits.
                let _ = total.add(part);
            }
        }
        self.counts.add(&other.counts);
    }
}

/// An interval that is over: what reports need of it, and its latencies in a few kilobytes.
#[derive(Clone, Debug)]
pub struct Slice {
    pub index: u64,
    pub counts: Counts,
    /// Nanoseconds at p50, p90, p99, p99.9 and the longest.
    pub quantiles: [u64; 5],
    pub lateness_p99: u64,
    /// The latencies in HdrHistogram's V2 encoding.
    pub encoded: Vec<u8>,
}

impl Slice {
    pub fn of(interval: &Interval) -> Slice {
        let mut encoded = Vec::new();
        // Writing to memory does not fail.
        let _ = V2Serializer::new().serialize(&interval.latency, &mut encoded);
        let latency = &interval.latency;
        Slice {
            index: interval.index,
            counts: interval.counts.clone(),
            quantiles: [
                latency.value_at_quantile(0.5),
                latency.value_at_quantile(0.9),
                latency.value_at_quantile(0.99),
                latency.value_at_quantile(0.999),
                latency.max(),
            ],
            lateness_p99: interval.lateness.value_at_quantile(0.99),
            encoded,
        }
    }
}
