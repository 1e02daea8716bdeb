//! Options of `loadtest URL`, and the plan that they make.
//!
//! What it leaves to others: options of every command's load (`arguments`), and running.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use super::Failure;
use super::arguments::{FileArguments, LoadArguments};
use crate::phase::{Pace, Phase};
use crate::plan::{Load, Plan};
use crate::units;
use crate::verdict::Condition;

/// What `loadtest URL` takes.
#[derive(Parser, Debug)]
#[command(name = "loadtest", version, after_help = super::COMMANDS)]
#[command(
    about = "Measures an HTTP server's latency and throughput, and says when not to believe it"
)]
pub struct RunArguments {
    /// http://host:port/path
    pub url: String,
    #[command(flatten)]
    pub load: LoadArguments,
    /// A part of the run, NAME=TIME@RATE, or NAME=TIME@FROM..TO for a rate that rises or falls in a
    /// straight line; each follows the one before. With a `c` it is a closed loop with so many
    /// requests at a time: NAME=TIME@16c, NAME=TIME@1..64c. May be repeated; instead of -R and a
    /// duration.
    #[arg(long, value_name = "PHASE")]
    pub phase: Vec<Phase>,
    /// wrk's duration: 30, 30s, 2m; or oha's body, where it is no duration or -z or -n is given.
    #[arg(short = 'd', value_name = "TIME|BODY")]
    pub d: Option<String>,
    /// How long requests are sent [10s].
    #[arg(short = 'z', long, value_name = "TIME", value_parser = units::duration)]
    pub duration: Option<Duration>,
    /// How many requests are sent.
    #[arg(short = 'n', long, value_name = "N", value_parser = units::count)]
    pub requests: Option<u64>,
    /// wrk2's distribution and percentile spectrum.
    #[arg(short = 'L', long)]
    pub latency: bool,
    /// The same from the actual send time.
    #[arg(short = 'U', long = "u_latency")]
    pub u_latency: bool,
    /// No live view.
    #[arg(long)]
    pub no_tui: bool,
    /// Nothing but the report.
    #[arg(long)]
    pub quiet: bool,
    /// Form of the report: text, json, csv (a line per request) or quiet.
    #[arg(long, value_name = "FORM", default_value = "text",
          value_parser = ["text", "json", "csv", "quiet"])]
    pub output_format: String,
    /// The report goes to a file.
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub files: FileArguments,
    /// A condition like p99.9<2ms, errors<0.01%, rate>9k; exit status 4 when it fails. Of one phase
    /// only: PHASE:p99<1ms.
    #[arg(long, value_name = "CONDITION")]
    pub threshold: Vec<Condition>,
    /// A server's process, with all its children; may be repeated.
    #[arg(long, value_name = "PID")]
    pub watch_pid: Vec<u32>,
    /// Counts the system calls of the watched processes, too. Not by default: it costs them some
    /// time at each call, and the right to use perf_event_open and tracefs.
    #[arg(long, requires = "watch_pid")]
    pub watch_system_calls: bool,
    /// oha's: taken and always so here.
    #[arg(long, short = 'w', alias = "wait-ongoing-requests-after-deadline", hide = true)]
    pub latency_correction: bool,
    /// wrk's script: not supported.
    #[arg(short = 's', long, hide = true)]
    pub script: Option<String>,
}

impl RunArguments {
    /// The run that the options ask for.
    pub fn plan(&self) -> Result<Plan, Failure> {
        if self.script.is_some() {
            return Err(
                "wrk's Lua scripts are not supported; -m, -H and -D change the request, and \
                        `loadtest attack -targets` sends several"
                    .to_owned()
                    .into(),
            );
        }
        let (duration, body) = self.meaning_of_d()?;
        let mut plan = self.load.plan(&self.url, body, duration, self.requests)?;
        if !self.phase.is_empty() {
            self.phases(duration, &mut plan)?;
        }
        self.threshold.iter().try_for_each(|condition| condition.check(&plan))?;
        plan.keep_samples = self.output_format == "csv";
        Ok(plan)
    }

    /// The run has phases: they say how long it is, and at which pace.
    fn phases(&self, duration: Option<Duration>, plan: &mut Plan) -> Result<(), String> {
        if duration.is_some() || self.requests.is_some() || self.load.rate.is_some() {
            return Err("phases say how long and at which pace: no -R, -z, -d or -n".to_owned());
        }
        for (number, phase) in self.phase.iter().enumerate() {
            if self.phase[..number].iter().any(|before| before.name == phase.name) {
                return Err(format!("two phases are called {}", phase.name));
            }
        }
        let time: Duration = self.phase.iter().map(|phase| phase.duration).sum();
        if self.phase.iter().all(|phase| phase.requests() <= 0.0) {
            return Err("in no phase anything is sent".to_owned());
        }
        plan.load = match self.phase[0].pace {
            pace if self.phase.iter().any(|phase| phase.pace != pace) => {
                return Err("phases have rates, or requests at a time: not both".to_owned());
            }
            Pace::Rate => {
                let requests: f64 = self.phase.iter().map(Phase::requests).sum();
                Load::Open { rate: requests / time.as_secs_f64() }
            }
            Pace::Concurrency => {
                self.provide_for_phases(plan)?;
                Load::Closed
            }
        };
        plan.duration = Some(time);
        plan.phases = self.phase.clone();
        let is_short = time < Duration::from_secs(10);
        let default = Duration::from_millis(if is_short { 100 } else { 1000 });
        plan.interval = self.load.interval.unwrap_or(default).max(Duration::from_millis(10));
        Ok(())
    }

    /// As many connections as the phases have requests at a time, unless they were named.
    fn provide_for_phases(&self, plan: &mut Plan) -> Result<(), String> {
        let most = self.phase.iter().map(|phase| phase.from.max(phase.to)).fold(0.0, f64::max);
        let (most, streams) = (most as usize, plan.http2.unwrap_or(1));
        let most = most.div_ceil(streams);
        if self.load.connections.is_none() {
            plan.connections = most.max(plan.threads);
        }
        match most > plan.connections {
            true => Err(format!("the phases need {most} connections (-c {})", plan.connections)),
            false => Ok(()),
        }
    }

    /// wrk's duration, or oha's body.
    fn meaning_of_d(&self) -> Result<(Option<Duration>, Option<&str>), String> {
        let Some(d) = self.d.as_deref() else { return Ok((self.duration, None)) };
        let is_bounded = self.duration.is_some() || self.requests.is_some();
        match units::duration(d) {
            Ok(duration) if !is_bounded => Ok((Some(duration), None)),
            Ok(_) if units::is_duration_with_unit(d) => {
                Err(format!("-d {d}: a body (oha) or a duration (wrk)? Say --body or --duration"))
            }
            _ => Ok((self.duration, Some(d))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Plan, String> {
        let words = line.split_whitespace();
        let run = RunArguments::try_parse_from(super::super::fingers(
            std::iter::once("loadtest").chain(words).map(Into::into).collect(),
        ))
        .map_err(|error| error.to_string())?;
        run.plan().map_err(|failure| failure.to_string())
    }

    #[test]
    fn wrk2s_line() {
        let plan =
            parse("-t2 -c100 -d30s -R2000 --latency http://127.0.0.1:80/index.html").unwrap();
        assert_eq!((plan.threads, plan.connections), (2, 100));
        assert_eq!(plan.duration, Some(Duration::from_secs(30)));
        assert_eq!(plan.load, Load::Open { rate: 2000.0 });
        assert_eq!(plan.planned(), Some(60_000));
        let plan = parse("-t 2 -c 1k -d 1m -T 3s http://127.0.0.1/").unwrap();
        assert_eq!((plan.connections, plan.timeout), (1000, Duration::from_secs(3)));
        assert_eq!(plan.load, Load::Closed);
    }

    #[test]
    fn ohas_line() {
        let plan = parse(
            "-n 200 -c 8 -q 1k -m post -d hello -T text/plain -t 5s --no-tui http://127.0.0.1/",
        )
        .unwrap();
        assert_eq!((plan.requests, plan.duration), (Some(200), None));
        assert_eq!((plan.timeout, plan.threads), (Duration::from_secs(5), 1));
        let wire = String::from_utf8(plan.targets[0].wire.clone()).unwrap();
        assert!(wire.starts_with("POST / ") && wire.ends_with("\r\n\r\nhello"), "{wire}");
        assert!(wire.contains("content-type: text/plain\r\n"), "{wire}");
        let plan = parse("-z 3s -d 17 http://127.0.0.1/").unwrap();
        assert!(plan.targets[0].wire.ends_with(b"\r\n\r\n17"));
    }

    #[test]
    fn vegetas_rate_and_synonyms() {
        for rate in ["-rate 500/1s", "-rate=500", "--rate=0.5k", "-q 500", "-R500", "--qps 500"] {
            let plan = parse(&format!("{rate} -d 1s http://127.0.0.1/")).unwrap();
            assert_eq!(plan.load, Load::Open { rate: 500.0 }, "{rate}");
        }
    }

    #[test]
    fn phases_have_as_many_connections_as_they_need() {
        let plan = parse("--phase a=1s@1..7c --phase b=1s@3c http://127.0.0.1/").unwrap();
        assert_eq!((plan.connections, plan.load, plan.planned()), (7, Load::Closed, None));
        assert_eq!(plan.duration, Some(Duration::from_secs(2)));
        let plan = parse("--http2 -p 3 --phase a=1s@7c http://127.0.0.1/").unwrap();
        assert_eq!(plan.connections, 3);
        let plan = parse("-c 9 --phase a=1s@7c http://127.0.0.1/").unwrap();
        assert_eq!(plan.connections, 9);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_to_say() {
        let cases = [
            ("-z 3s -d 30s http://127.0.0.1/", "--body or --duration"),
            ("-t x http://127.0.0.1/", "threads (wrk)"),
            ("-T x http://127.0.0.1/", "content type"),
            ("-c 1 -t 2 http://127.0.0.1/", "at least as many"),
            ("-c 0 http://127.0.0.1/", "at least 1"),
            ("-s x.lua http://127.0.0.1/", "attack -targets"),
            ("--http2 --disable-keepalive http://127.0.0.1/", "HTTP/2"),
            ("-p 4 http://127.0.0.1/", "--http2"),
            ("--body a -D b http://127.0.0.1/", "twice"),
            ("--cacert nowhere.pem https://127.0.0.1/", "nowhere.pem"),
            ("ftp://127.0.0.1/", "http or https"),
            ("-c 6 --phase a=1s@7c http://127.0.0.1/", "need 7 connections (-c 6)"),
            ("--phase a=1s@7c --phase b=1s@7 http://127.0.0.1/", "not both"),
            ("--phase a=1s@0c http://127.0.0.1/", "anything is sent"),
            ("--phase a=1s@7 --threshold b:p99<1ms http://127.0.0.1/", "no phase b"),
        ];
        for (line, expected) in cases {
            let error = parse(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
