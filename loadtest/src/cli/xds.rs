//! `loadtest xds`: a management server, how long its client took for a configuration, and for
//! changes of it.
//!
//! What it leaves to others: resources and streams (`xds`).

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Failure, stop_signal};
use crate::units::{self, wrk_time};
use crate::watch::Usage;
use crate::xds::book::Book;
use crate::xds::server::Server;
use crate::xds::world::{HOSTS_MAX, Kind, Size, World};

#[derive(Parser, Debug)]
#[command(
    name = "loadtest xds",
    about = "Is a management server (ADS, both protocols), and says how long its client takes",
    after_help = "The client is started by you: `--bootstrap FILE` writes a configuration for it \
                  (tidegate -c FILE, envoy -c FILE). It is measured from its first request until \
                  everything is acknowledged, then changes begin. Exit status 1: not everything \
                  was acknowledged in time, or something was refused."
)]
pub struct XdsArguments {
    /// Address to listen on; port 0 takes a free one.
    #[arg(short, long, default_value = "127.0.0.1:18000")]
    listen: SocketAddr,
    #[arg(long, default_value_t = 1_000)]
    clusters: usize,
    /// Endpoints of each cluster.
    #[arg(long, default_value_t = 10)]
    endpoints: usize,
    /// Routes to each cluster.
    #[arg(long, default_value_t = 10)]
    routes: usize,
    /// Listeners, each with a route configuration of its own for its share of the clusters.
    #[arg(long, default_value_t = 1)]
    listeners: usize,
    /// Port of the first listener; the others have those after it.
    #[arg(long, default_value_t = 10_000)]
    listener_port: u16,
    /// Changes per second by kind: endpoints=100,clusters=5,routes=1,listeners=0.1.
    #[arg(long, value_parser = churn, default_value = "")]
    churn: Churn,
    /// How long changes go on.
    #[arg(short = 'z', long, default_value = "10s", value_parser = units::duration)]
    duration: Duration,
    /// How long everything may take to be acknowledged, from the first request on.
    #[arg(long, default_value = "120s", value_parser = units::duration)]
    timeout: Duration,
    /// How long the first request may take to come.
    #[arg(long, default_value = "60s", value_parser = units::duration)]
    wait: Duration,
    /// A client's configuration is written here before anything else.
    #[arg(long, value_name = "FILE")]
    bootstrap: Option<PathBuf>,
    /// The bootstrap's client speaks the protocol of the whole state, not the incremental one.
    #[arg(long)]
    sotw: bool,
    /// Port of the admin server in the bootstrap.
    #[arg(long, default_value_t = 9_901)]
    admin_port: u16,
    /// The client's process, with all its children: its CPU time and memory are reported.
    #[arg(long, value_name = "PID")]
    watch_pid: Vec<u32>,
    /// The report as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Changes per second by kind.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
struct Churn([f64; 4]);

fn churn(text: &str) -> Result<Churn, String> {
    let mut churn = Churn::default();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (kind, rate) =
            part.split_once('=').ok_or_else(|| format!("`{part}`: endpoints=100"))?;
        let kind: Kind = kind.parse()?;
        let rate: f64 = rate.parse().map_err(|_| format!("`{rate}` is no number"))?;
        if !(0.0..=1e6).contains(&rate) {
            return Err(format!("`{rate}` is no number of changes per second"));
        }
        churn.0[kind as usize] = rate;
    }
    Ok(churn)
}

/// What came of it.
struct Outcome {
    settled: bool,
    first_request: Duration,
    last_ack_at_first: Option<Duration>,
    changes: [u64; 4],
    /// While everything was loaded, and while it was changed.
    usage: Option<(Usage, Usage)>,
}

pub fn command(arguments: &XdsArguments) -> Result<ExitCode, Failure> {
    let last_port = usize::from(arguments.listener_port) + arguments.listeners;
    if last_port > 65_536 {
        return Err(Failure::Usage("there are not so many ports".to_owned()));
    }
    if arguments.clusters.saturating_mul(arguments.endpoints) > HOSTS_MAX {
        return Err(Failure::Usage(format!("there are addresses for {HOSTS_MAX} endpoints only")));
    }
    let failed = |error: std::io::Error| Failure::Failed(error.to_string());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let stop = stop_signal();
    runtime.block_on(async {
        let listener = TcpListener::bind(arguments.listen).await;
        let listener =
            listener.map_err(|e| Failure::Failed(format!("{}: {e}", arguments.listen)))?;
        let address = listener.local_addr().map_err(failed)?;
        if let Some(file) = &arguments.bootstrap {
            let written = std::fs::write(file, bootstrap(arguments, address));
            written.map_err(|e| Failure::Failed(format!("{}: {e}", file.display())))?;
        }
        let size = Size {
            clusters: arguments.clusters,
            endpoints: arguments.endpoints,
            routes: arguments.routes,
            listeners: arguments.listeners,
            first_port: arguments.listener_port,
        };
        let server = Server::new(World::new(size));
        tokio::spawn(server.clone().serve(listener));
        super::run::print(&format!("management server on {address}\n"));
        let outcome = drive(arguments, &server, &stop).await?;
        server.read(|book| report(arguments, &outcome, book))
    })
}

/// Waits for the client, then for everything, then makes changes.
async fn drive(
    arguments: &XdsArguments,
    server: &Server,
    stop: &AtomicBool,
) -> Result<Outcome, Failure> {
    const LOOK: Duration = Duration::from_millis(5);
    let begin = Instant::now();
    let first_request = loop {
        if let Some(first) = server.read(|book| book.first_request) {
            break first;
        }
        if stop.load(Ordering::Relaxed) || begin.elapsed() > arguments.wait {
            return Err(Failure::Failed("no client has asked for anything".to_owned()));
        }
        sleep(LOOK).await;
    };
    let usage = || Usage::read(&arguments.watch_pid);
    let begin = Instant::now();
    while !server.is_settled() && begin.elapsed() < arguments.timeout {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        sleep(LOOK).await;
    }
    let settled = server.is_settled();
    let last_ack_at_first = server.read(|book| book.last_ack);
    let loaded = usage();
    let changes = match settled {
        true => change(arguments, server, stop).await,
        false => [0; 4],
    };
    let changed = usage().since(&loaded);
    let usage = (!arguments.watch_pid.is_empty()).then_some((loaded, changed));
    Ok(Outcome { settled, first_request, last_ack_at_first, changes, usage })
}

/// Changes at their times, whether those before were answered or not; then their answers.
async fn change(arguments: &XdsArguments, server: &Server, stop: &AtomicBool) -> [u64; 4] {
    let mut made = [0; 4];
    let begin = Instant::now();
    let end = begin + arguments.duration;
    let due = |kind: Kind, made: &[u64; 4]| {
        let rate = arguments.churn.0[kind as usize];
        let after = (made[kind as usize] + 1) as f64 / rate;
        (rate > 0.0).then(|| (begin + Duration::from_secs_f64(after.min(1e9)), kind))
    };
    loop {
        let next = Kind::ALL.into_iter().filter_map(|kind| due(kind, &made)).min_by_key(|it| it.0);
        let Some((at, kind)) = next.filter(|(at, _)| *at <= end) else { break };
        sleep_until(at).await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        server.change(kind);
        made[kind as usize] += 1;
    }
    let answers = Instant::now() + Duration::from_secs(10);
    while server.read(Book::waiting) > 0 && Instant::now() < answers {
        sleep(Duration::from_millis(5)).await;
    }
    made
}

fn report(arguments: &XdsArguments, outcome: &Outcome, book: &Book) -> Result<ExitCode, Failure> {
    super::run::print(&text(arguments, outcome, book));
    if let Some(file) = &arguments.json {
        let written = std::fs::write(file, format!("{:#}\n", document(arguments, outcome, book)));
        written.map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
    }
    let refused: u64 = book.nacks.iter().sum();
    let is_good = outcome.settled && refused == 0 && book.waiting() == 0;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// From the first request to the last ACK of what there was at first.
fn loading(outcome: &Outcome) -> Option<Duration> {
    let last = outcome.last_ack_at_first.filter(|_| outcome.settled)?;
    Some(last.saturating_sub(outcome.first_request))
}

fn text(arguments: &XdsArguments, outcome: &Outcome, book: &Book) -> String {
    let time = |nanoseconds: u64| wrk_time(nanoseconds as f64);
    let line = |histogram: &Histogram<u64>| {
        if histogram.is_empty() {
            return "- (there was none)".to_owned();
        }
        let at = |quantile| time(histogram.value_at_quantile(quantile));
        format!("p50 {}, p90 {}, p99 {}, max {}", at(0.5), at(0.9), at(0.99), time(histogram.max()))
    };
    let XdsArguments { clusters, endpoints, routes, listeners, .. } = arguments;
    let mut out = format!(
        "{clusters} clusters of {endpoints} endpoints, {routes} routes to each, {listeners} \
         listeners\n"
    );
    let _ = match loading(outcome) {
        Some(took) => {
            let took = time(took.as_nanos() as u64);
            writeln!(out, "Loaded:       {took} from the first request to the last ACK")
        }
        None => writeln!(out, "NOT LOADED:   {} answers are missing", book.waiting()),
    };
    let _ = writeln!(out, "Asked for:    ACK after {}", line(&book.of_asked));
    for kind in Kind::ALL {
        let number = kind as usize;
        let _ = writeln!(
            out,
            "{kind:<13} {} resources in {} responses, {} ACKs, {} NACKs",
            book.resources[number], book.responses[number], book.acks[number], book.nacks[number]
        );
        if outcome.changes[number] > 0 {
            let (changes, histogram) = (outcome.changes[number], &book.of_changes[number]);
            let _ = writeln!(out, "  {changes} changes, ACK after {}", line(histogram));
        }
    }
    if let Some((loaded, changed)) = &outcome.usage {
        let changes: u64 = outcome.changes.iter().sum();
        let _ = writeln!(
            out,
            "Client:       {} of CPU until loaded, {} per change, {} of memory",
            time(loaded.cpu_ns),
            time(changed.cpu_ns / changes.max(1)),
            units::wrk_bytes(changed.resident_bytes as f64)
        );
    }
    for text in &book.nack_texts {
        let _ = writeln!(out, "NACK of {text}");
    }
    out
}

fn document(arguments: &XdsArguments, outcome: &Outcome, book: &Book) -> Value {
    let latency = |histogram: &Histogram<u64>| {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        json!({
            "count": histogram.len(), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99),
            "p99.9": at(0.999), "max": histogram.max() as f64 / 1e3,
        })
    };
    let kinds = Kind::ALL.into_iter().map(|kind| {
        let number = kind as usize;
        let value = json!({
            "resources": book.resources[number],
            "responses": book.responses[number],
            "acks": book.acks[number],
            "nacks": book.nacks[number],
            "changes": outcome.changes[number],
            "changeAckMicroseconds": latency(&book.of_changes[number]),
        });
        (kind.to_string(), value)
    });
    let usage = outcome.usage.map(|(loaded, changed)| {
        json!({
            "cpuSecondsLoading": loaded.cpu_ns as f64 / 1e9,
            "cpuSecondsChanging": changed.cpu_ns as f64 / 1e9,
            "residentBytes": changed.resident_bytes,
        })
    });
    json!({
        "clusters": arguments.clusters,
        "endpointsPerCluster": arguments.endpoints,
        "routesPerCluster": arguments.routes,
        "listeners": arguments.listeners,
        "loaded": outcome.settled,
        "loadSeconds": loading(outcome).map(|took| took.as_secs_f64()),
        "askedAckMicroseconds": latency(&book.of_asked),
        "kinds": kinds.collect::<serde_json::Map<_, _>>(),
        "unanswered": book.waiting(),
        "nacks": book.nack_texts,
        "client": usage,
    })
}

/// A bootstrap for Tidegate or Envoy.
fn bootstrap(arguments: &XdsArguments, address: SocketAddr) -> String {
    let (host, port) = (address.ip(), address.port());
    let api_type = if arguments.sotw { "GRPC" } else { "DELTA_GRPC" };
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    format!(
        "node: {{ id: loadtest, cluster: loadtest }}
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }} }}
dynamic_resources:
  ads_config:
    api_type: {api_type}
    transport_api_version: V3
    grpc_services: [ {{ envoy_grpc: {{ cluster_name: xds }} }} ]
  cds_config: {{ ads: {{}}, resource_api_version: V3, initial_fetch_timeout: 120s }}
  lds_config: {{ ads: {{}}, resource_api_version: V3, initial_fetch_timeout: 120s }}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    typed_extension_protocol_options:
      {options}:
        \"@type\": type.googleapis.com/{options}
        explicit_http_config: {{ http2_protocol_options: {{}} }}
    load_assignment:
      cluster_name: xds
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: {host}, port_value: {port} }} }} }}
",
        admin = arguments.admin_port
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn churn_is_by_kind() {
        assert_eq!(churn("").unwrap(), Churn::default());
        assert_eq!(churn("endpoints=100,routes=0.5").unwrap(), Churn([0.0, 100.0, 0.0, 0.5]));
        for bad in ["endpoints", "hosts=1", "routes=x", "routes=-1", "routes=NaN"] {
            assert!(churn(bad).is_err(), "{bad}");
        }
    }
}
