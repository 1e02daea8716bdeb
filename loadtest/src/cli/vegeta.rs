//! `attack`, `report`, `plot` and `encode`, with vegeta's options.
//!
//! What it leaves to others: the formats (`vegeta`), sending (`engine`).

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use super::arguments::LoadArguments;
use super::{Both, Failure, stop_signal};
use crate::engine::interval::Sample;
use crate::engine::{self, Observer};
use crate::plan::{Load, Plan};
use crate::report::html::page;
use crate::report::svg::{Axis, Mark, Plot, Series, Unit, escape};
use crate::target::{Parts, header};
use crate::units;
use crate::vegeta::report::{Kind, buckets, report};
use crate::vegeta::results::{Hit, Summing as _, read};
use crate::vegeta::targets;
use crate::verdict;
use crate::view::{Style, View};

/// Connections where nothing is said. vegeta opens them as they are needed, we before the attack.
const CONNECTIONS: u64 = 100;
/// Points of a line of a plot.
const PLOT_POINTS: u64 = 300;

#[derive(Parser, Debug)]
#[command(name = "loadtest attack", about = "Sends targets at a rate; results are JSON lines")]
pub struct AttackArguments {
    /// Requests per time, 500/1s; 0: as fast as answers come.
    #[arg(long, default_value = "50/1s", value_parser = units::rate)]
    rate: f64,
    /// How long; 0: until it is interrupted.
    #[arg(long, default_value = "0", value_parser = units::duration)]
    duration: Duration,
    /// Targets, one origin's.
    #[arg(long, default_value = "stdin")]
    targets: String,
    /// http or json.
    #[arg(long, default_value = "http", value_parser = ["http", "json"])]
    format: String,
    #[arg(long, default_value = "stdout")]
    output: String,
    /// A name that stands in each result.
    #[arg(long, default_value = "")]
    name: String,
    /// A field of all requests; may be repeated.
    #[arg(long = "header")]
    headers: Vec<String>,
    /// A file with the body of all requests.
    #[arg(long)]
    body: Option<PathBuf>,
    #[arg(long, default_value = "30s", value_parser = units::duration)]
    timeout: Duration,
    /// Addresses of this host that connections come from, in turn.
    #[arg(long, value_delimiter = ',')]
    laddr: Vec<IpAddr>,
    /// Connections; -workers is the same here.
    #[arg(long)]
    connections: Option<u64>,
    #[arg(long)]
    workers: Option<u64>,
    /// Most connections.
    #[arg(long, alias = "max-connections")]
    max_workers: Option<u64>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "true", action = clap::ArgAction::Set)]
    keepalive: bool,
    /// vegeta speaks HTTP/2 where a TLS server offers it; here it is asked for by -h2c.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "true", action = clap::ArgAction::Set)]
    http2: bool,
    /// TLS: any certificate will do.
    #[arg(long)]
    insecure: bool,
    /// TLS: authorities to trust, PEM.
    #[arg(long)]
    root_certs: Option<PathBuf>,
    /// HTTP/2 by prior knowledge, or over TLS; -streams at a time on each connection (ours).
    #[arg(long)]
    h2c: bool,
    #[arg(long)]
    streams: Option<usize>,
    /// Threads, one reactor each (ours).
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

pub fn attack(arguments: &AttackArguments) -> Result<ExitCode, Failure> {
    let plan = attack_plan(arguments)?;
    let mut recorder = Recorder {
        out: output(&arguments.output)?,
        attack: arguments.name.clone(),
        seq: 0,
        failed: None,
    };
    let mut view = View::new(Style::of_terminal(false));
    let mut observer = Both(&mut view, &mut recorder);
    let outcome = engine::run(plan, &stop_signal(), &mut observer).map_err(Failure::Failed)?;
    let flushed = recorder.out.flush().map_err(|error| error.to_string());
    if let Some(error) = recorder.failed.or(flushed.err()) {
        return Err(Failure::Failed(format!("{}: {error}", arguments.output)));
    }
    for reason in verdict::void_reasons(&outcome) {
        eprintln!("loadtest: VOID: {reason}");
    }
    Ok(ExitCode::from(u8::from(outcome.total.counts.answers() == 0)))
}

fn attack_plan(arguments: &AttackArguments) -> Result<Plan, Failure> {
    let (text, folder) = match arguments.targets.as_str() {
        "stdin" | "-" => (String::from_utf8(input("stdin")?), PathBuf::from(".")),
        file => {
            let folder = Path::new(file).parent().unwrap_or(Path::new(".")).to_path_buf();
            (String::from_utf8(input(file)?), folder)
        }
    };
    let text = text.map_err(|_| "targets are no UTF-8".to_owned())?;
    let headers = arguments.headers.iter().map(|line| header(line)).collect::<Result<_, _>>()?;
    let body = match &arguments.body {
        Some(file) => input(&file.to_string_lossy())?,
        None => Vec::new(),
    };
    let common = Parts { method: String::new(), headers, body };
    let (origin, targets) = targets::read(&text, arguments.format == "json", &folder, &common)?;
    let connections = arguments.connections.or(arguments.workers).unwrap_or(CONNECTIONS);
    let load = LoadArguments::parse_from(["attack"]);
    let load = LoadArguments {
        connections: Some(connections.min(arguments.max_workers.unwrap_or(u64::MAX))),
        threads: Some(arguments.threads),
        timeout: Some(arguments.timeout),
        local_address: arguments.laddr.clone(),
        rate: Some(arguments.rate),
        disable_keepalive: !arguments.keepalive,
        insecure: arguments.insecure,
        cacert: arguments.root_certs.clone(),
        http2: arguments.h2c,
        streams: arguments.streams,
        ..load
    };
    let duration = (!arguments.duration.is_zero()).then_some(arguments.duration);
    let mut plan = load.plan(&targets[0].url, None, duration, None)?;
    if duration.is_none() {
        plan.duration = None;
        plan.interval = Duration::from_secs(1);
    }
    if plan.load == Load::Closed && arguments.max_workers.is_none() {
        return Err("-rate=0 needs -max-workers".to_owned().into());
    }
    plan.origin = origin;
    plan.targets = targets;
    plan.keep_samples = true;
    Ok(plan)
}

/// Writes each result as soon as its interval is over.
struct Recorder {
    out: Box<dyn Write>,
    attack: String,
    seq: u64,
    failed: Option<String>,
}

impl Observer for Recorder {
    fn samples(&mut self, plan: &Plan, samples: &[Sample], to_unix_ns: i64) {
        for sample in samples {
            let hit = Hit::of(plan, sample, to_unix_ns, &self.attack, self.seq);
            self.seq += 1;
            if let Err(error) = self.out.write_all(hit.json().as_bytes()) {
                self.failed.get_or_insert(error.to_string());
            }
        }
    }
}

#[derive(Parser, Debug)]
#[command(name = "loadtest report", about = "A report of results of attacks")]
pub struct ReportArguments {
    /// Files with results; standard input without any.
    files: Vec<String>,
    /// text, json, hist[0,1ms,10ms] or hdrplot.
    #[arg(long = "type", default_value = "text")]
    kind: Kind,
    /// Buckets of the JSON report: [0,1ms,10ms].
    #[arg(long)]
    buckets: Option<String>,
    #[arg(long, default_value = "stdout")]
    output: String,
}

pub fn report_command(arguments: &ReportArguments) -> Result<ExitCode, Failure> {
    let ends = arguments.buckets.as_deref().map(buckets).transpose()?;
    let hits = hits(&arguments.files)?;
    let kind = match (&arguments.kind, &ends) {
        (Kind::Hist(_), Some(ends)) => Kind::Hist(ends.clone()),
        (kind, _) => kind.clone(),
    };
    put(&arguments.output, report(&hits, &kind, ends.as_deref()).as_bytes())
}

#[derive(Parser, Debug)]
#[command(name = "loadtest encode", about = "Results in another form")]
pub struct EncodeArguments {
    files: Vec<String>,
    /// json or csv. vegeta's gob is Go's own: `vegeta encode` reads our JSON.
    #[arg(long, default_value = "json", value_parser = ["json", "csv"])]
    to: String,
    #[arg(long, default_value = "stdout")]
    output: String,
}

pub fn encode(arguments: &EncodeArguments) -> Result<ExitCode, Failure> {
    let hits = hits(&arguments.files)?;
    let line = if arguments.to == "csv" { Hit::csv } else { Hit::json };
    let text: String = hits.iter().map(line).collect();
    put(&arguments.output, text.as_bytes())
}

#[derive(Parser, Debug)]
#[command(name = "loadtest plot", about = "A page with latencies of attacks over time")]
pub struct PlotArguments {
    files: Vec<String>,
    #[arg(long, default_value = "Latencies of an attack")]
    title: String,
    #[arg(long, default_value = "stdout")]
    output: String,
}

pub fn plot(arguments: &PlotArguments) -> Result<ExitCode, Failure> {
    let mut named = Vec::new();
    if arguments.files.is_empty() {
        named.push(("stdin".to_owned(), hits(&[])?));
    }
    for file in &arguments.files {
        named.push((file.clone(), hits(std::slice::from_ref(file))?));
    }
    let mut body =
        format!("<h1>{}</h1>\n<h2>Longest latency over time</h2>\n", escape(&arguments.title));
    body.push_str(&over_time(&named).svg());
    body.push_str("<h2>Latency by percentile</h2>\n");
    let latencies: Vec<_> = named.iter().map(|(_, hits)| hits.latencies()).collect();
    let all: Vec<_> = named
        .iter()
        .zip(&latencies)
        .enumerate()
        .map(|(number, ((name, _), latency))| (name.as_str(), color(number), latency))
        .collect();
    body.push_str(&crate::report::html::spectrum(&all).svg());
    for (name, hits) in &named {
        let text = report(hits, &Kind::Text, None);
        let _ = std::fmt::Write::write_fmt(
            &mut body,
            format_args!("<h2>{}</h2>\n<pre>{}</pre>\n", escape(name), escape(&text)),
        );
    }
    put(&arguments.output, page(&arguments.title, &body).as_bytes())
}

fn color(number: usize) -> u8 {
    (number % 6) as u8 + 1
}

/// The longest latency of each of many short times, of each input from its own beginning.
fn over_time(named: &[(String, Vec<Hit>)]) -> Plot {
    let length = |hits: &[Hit]| match (hits.first(), hits.last()) {
        (Some(first), Some(last)) => last.unix_ns - first.unix_ns,
        _ => 0,
    };
    let longest = named.iter().map(|(_, hits)| length(hits)).max().unwrap_or(0).max(1);
    let step = longest.div_ceil(PLOT_POINTS).max(1);
    let mut series = Vec::new();
    for (number, (name, hits)) in named.iter().enumerate() {
        let start = hits.first().map_or(0, |hit| hit.unix_ns);
        let mut points: Vec<(f64, f64)> = Vec::new();
        for hit in hits {
            let at = (hit.unix_ns - start) / step * step;
            let (x, y) = (at as f64 / 1e9, hit.latency as f64);
            match points.last_mut() {
                Some(last) if last.0 == x => last.1 = last.1.max(y),
                _ => points.push((x, y)),
            }
        }
        series.push(Series { name: name.clone(), color: color(number), mark: Mark::Line, points });
    }
    let values = || named.iter().flat_map(|(_, hits)| hits).map(|hit| hit.latency);
    Plot {
        x: Axis::linear("time", Unit::Seconds, longest as f64 / 1e9),
        y: Axis::log(
            "latency",
            Unit::Nanoseconds,
            values().min().unwrap_or(1) as f64,
            values().max().unwrap_or(1) as f64,
        ),
        series,
        rule: None,
    }
}

/// The results of all files, or of standard input, in the order of their times.
fn hits(files: &[String]) -> Result<Vec<Hit>, Failure> {
    let mut all = Vec::new();
    let stdin = ["stdin".to_owned()];
    for file in if files.is_empty() { &stdin[..] } else { files } {
        let bytes = input(file)?;
        all.extend(read(&bytes).map_err(|error| Failure::Failed(format!("{file}: {error}")))?);
    }
    all.sort_by_key(|hit| hit.unix_ns);
    Ok(all)
}

fn input(name: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = match name {
        "stdin" | "-" => io::stdin().lock().read_to_end(&mut bytes),
        file => File::open(file).and_then(|mut file| file.read_to_end(&mut bytes)),
    };
    read.map_err(|error| Failure::Failed(format!("{name}: {error}")))?;
    Ok(bytes)
}

fn output(name: &str) -> Result<Box<dyn Write>, Failure> {
    match name {
        "stdout" | "-" => Ok(Box::new(BufWriter::new(io::stdout()))),
        file => {
            let file =
                File::create(file).map_err(|error| Failure::Failed(format!("{file}: {error}")))?;
            Ok(Box::new(BufWriter::new(file)))
        }
    }
}

fn put(name: &str, bytes: &[u8]) -> Result<ExitCode, Failure> {
    let mut out = output(name)?;
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::Failed(format!("{name}: {error}")))?;
    Ok(ExitCode::SUCCESS)
}
