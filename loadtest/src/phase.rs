//! Phases of a run: how long, and how much is sent, which may rise or fall.
//!
//! What it leaves to others: the clock, and when a run with one rate is over (`plan`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::units;

/// A part of the measured time with a name, by which reports have it: `ramp=30s@1k..20k`.
#[derive(Clone, PartialEq, Debug)]
pub struct Phase {
    pub name: String,
    pub duration: Duration,
    pub pace: Pace,
    /// The pace in its beginning and at its end; between them it is a straight line.
    pub from: f64,
    pub to: f64,
}

/// What the pace of a phase is given in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// Requests per second: an open loop.
    Rate,
    /// Requests that are under way at a time: a closed loop.
    Concurrency,
}

impl Phase {
    pub fn at_rate(name: &str, duration: Duration, from: f64, to: f64) -> Phase {
        Phase { name: name.to_owned(), duration, pace: Pace::Rate, from, to }
    }

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

    /// The pace so many seconds after it began: before that it is the first, later the last one.
    pub fn pace_at(&self, seconds: f64) -> f64 {
        let share = (seconds / self.duration.as_secs_f64()).clamp(0.0, 1.0);
        self.from + (self.to - self.from) * share
    }

    /// The pace as people read it.
    pub fn pace_text(&self) -> String {
        let unit = match self.pace {
            Pace::Rate => "/s",
            Pace::Concurrency => " at a time",
        };
        match (self.pace, self.from == self.to) {
            (_, true) => format!("{}{unit}", self.from),
            (Pace::Rate, false) => format!("{}{unit} to {}{unit}", self.from, self.to),
            (Pace::Concurrency, false) => format!("{} to {}{unit}", self.from, self.to),
        }
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Phase, String> {
        let wrong = || {
            format!(
                "`{text}` is no phase: NAME=TIME@RATE, NAME=TIME@FROM..TO, or with a `c` for \
                 requests at a time: NAME=TIME@16c, NAME=TIME@1..64c"
            )
        };
        let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (time, paces) = rest.split_once('@').ok_or_else(wrong)?;
        let (pace, paces) = match paces.trim().strip_suffix('c') {
            Some(paces) => (Pace::Concurrency, paces),
            None => (Pace::Rate, paces),
        };
        let (from, to) = paces.split_once("..").unwrap_or((paces, paces));
        let duration = units::duration(time.trim())?;
        let name = name.trim();
        // A condition names a phase before a colon.
        if name.is_empty() || name.contains(':') || duration < Duration::from_millis(1) {
            return Err(wrong());
        }
        let (from, to) = (pace.parse(from)?, pace.parse(to)?);
        Ok(Phase { name: name.to_owned(), duration, pace, from, to })
    }
}

impl Pace {
    /// A pace of 0 is one, too: nothing is sent, or a ramp begins or ends so.
    fn parse(self, text: &str) -> Result<f64, String> {
        match (text.trim(), self) {
            ("0", _) => Ok(0.0),
            (text, Pace::Rate) => units::rate(text),
            (text, Pace::Concurrency) => units::count(text).map(|count| count as f64),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = units::go_duration(self.duration.as_nanos() as u64);
        write!(f, "{}={time}@{}", self.name, self.from)?;
        if self.to != self.from {
            write!(f, "..{}", self.to)?;
        }
        f.write_str(if self.pace == Pace::Concurrency { "c" } else { "" })
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
        for (text, written, said) in [
            ("one=1s@1c", "one=1s@1c", "1 at a time"),
            ("ramp = 1m @ 1 .. 1k c", "ramp=1m0s@1..1000c", "1 to 1000 at a time"),
        ] {
            let phase: Phase = text.parse().unwrap();
            assert_eq!((phase.pace, phase.to_string().as_str()), (Pace::Concurrency, written));
            assert_eq!(phase.pace_text(), said);
        }
        for text in [
            "",
            "x",
            "x=1s",
            "=1s@5",
            "x=@5",
            "x=1s@",
            "x=1s@5..",
            "x=0s@5",
            "x=1s@fast",
            "x=1s@c",
            "x=1s@-1c",
            "x=1s@1c..2c",
            "a:b=1s@5",
        ] {
            assert!(text.parse::<Phase>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pace_is_a_straight_line() {
        let phase: Phase = "x=10s@10..20c".parse().unwrap();
        let paces = [-1.0, 0.0, 5.0, 10.0, 99.0].map(|seconds| phase.pace_at(seconds));
        assert_eq!(paces, [10.0, 10.0, 15.0, 20.0, 20.0]);
    }

    proptest! {
        #[test]
        fn so_many_requests_are_due_until_each_is(
            from in 0.0_f64..1e6, to in 0.0_f64..1e6, ms in 1_u64..100_000, share in 0.0_f64..1.0,
        ) {
            let phase = Phase::at_rate("x", Duration::from_millis(ms), from, to);
            let number = phase.requests() * share;
            let due = phase.due(number);
            let seconds = phase.duration.as_secs_f64();
            prop_assert!((0.0..=seconds * (1.0 + 1e-9)).contains(&due), "{due}");
            let slope = (to - from) / seconds;
            let until = from * due + slope / 2.0 * due * due;
            prop_assert!((until - number).abs() <= 1e-6 * (1.0 + number), "{until} {number}");
        }
    }
}
