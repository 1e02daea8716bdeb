//! Phases of a run: how long, and at which rate, which may rise or fall.
//!
//! What it leaves to others: the clock, and when a run with one rate is over (`plan`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::units;

/// A part of the measured time with a name, by which reports have it. `ramp=30s@1k..20k`.
#[derive(Clone, PartialEq, Debug)]
pub struct Phase {
    pub name: String,
    pub duration: Duration,
    /// Requests per second in its beginning and at its end; between them it is a straight line.
    pub from: f64,
    pub to: f64,
}

impl Phase {
    /// How many requests are due in it; the last one may be a part of one.
    pub fn requests(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.duration.as_secs_f64()
    }

    /// When request number `number` of it, from 0, is due: seconds after it began.
    ///
    /// The number of requests until `t` is `from * t + slope / 2 * t * t`.
    pub fn due(&self, number: f64) -> f64 {
        let slope = (self.to - self.from) / self.duration.as_secs_f64();
        let root = (self.from * self.from + 2.0 * slope * number).max(0.0).sqrt();
        // In this form of the solution nothing large is subtracted from its like.
        if number == 0.0 { 0.0 } else { 2.0 * number / (self.from + root) }
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Phase, String> {
        let wrong = || format!("`{text}` is no phase: NAME=TIME@RATE, or NAME=TIME@FROM..TO");
        let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (time, rates) = rest.split_once('@').ok_or_else(wrong)?;
        let (from, to) = match rates.split_once("..") {
            Some((from, to)) => (rate(from)?, rate(to)?),
            None => (rate(rates)?, rate(rates)?),
        };
        let duration = units::duration(time.trim())?;
        let name = name.trim();
        if name.is_empty() || duration < Duration::from_millis(1) {
            return Err(wrong());
        }
        Ok(Phase { name: name.to_owned(), duration, from, to })
    }
}

/// A rate, which may be 0 here: nothing is sent, or a ramp begins or ends so.
fn rate(text: &str) -> Result<f64, String> {
    if text.trim() == "0" { Ok(0.0) } else { units::rate(text.trim()) }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = units::go_duration(self.duration.as_nanos() as u64);
        write!(f, "{}={time}@{}", self.name, self.from)?;
        if self.to != self.from { write!(f, "..{}", self.to) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn phases_are_read_and_written() {
        for (text, written, requests) in [
            ("hold=30s@2k", "hold=30s@2000", 60_000.0),
            ("ramp = 10s @ 0 .. 1k", "ramp=10s@0..1000", 5_000.0),
            ("down=500ms@100..50", "down=500ms@100..50", 37.5),
            ("pause=1s@0", "pause=1s@0", 0.0),
        ] {
            let phase: Phase = text.parse().unwrap();
            assert_eq!((phase.to_string().as_str(), phase.requests()), (written, requests));
        }
        for text in ["", "x", "x=1s", "=1s@5", "x=@5", "x=1s@", "x=1s@5..", "x=0s@5", "x=1s@fast"] {
            assert!(text.parse::<Phase>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn so_many_requests_are_due_until_each_is(
            from in 0.0_f64..1e6, to in 0.0_f64..1e6, ms in 1_u64..100_000, share in 0.0_f64..1.0,
        ) {
            let duration = Duration::from_millis(ms);
            let phase = Phase { name: "x".to_owned(), duration, from, to };
            let number = phase.requests() * share;
            let due = phase.due(number);
            prop_assert!((0.0..=duration.as_secs_f64() * (1.0 + 1e-9)).contains(&due), "{due}");
            let slope = (to - from) / duration.as_secs_f64();
            let until = from * due + slope / 2.0 * due * due;
            prop_assert!((until - number).abs() <= 1e-6 * (1.0 + number), "{until} {number}");
        }
    }
}
