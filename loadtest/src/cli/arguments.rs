//! Options of a run, and what they mean where wrk2's and oha's letters collide.
//!
//! wrk2 and oha use `-d`, `-t` and `-T` for different things. The value says which is meant:
//!
//! | option | value | meaning |
//! |---|---|---|
//! | `-d` | a number or a duration, and neither `-z` nor `-n` is given | wrk's duration |
//! | `-d` | anything else | oha's body |
//! | `-t` | a number | wrk's threads |
//! | `-t` | a duration with its unit | oha's timeout |
//! | `-T` | a number or a duration | wrk's timeout |
//! | `-T` | has a `/` | oha's content type |
//!
//! `--duration`, `--body`, `--threads`, `--timeout` and `--content-type` are never ambiguous.
//!
//! What it leaves to others: options of one command only.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use clap::Parser;
use tidegate_io::backend::Backend;

use super::Failure;
use crate::engine::tls::{Tls, Trust};
use crate::plan::{Expectation, Load, Plan};
use crate::target::{Parts, Target, Url, header};
use crate::units;

const DEFAULT_DURATION: Duration = Duration::from_secs(10);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Options of load that every command has.
#[derive(Parser, Clone, Debug, Default)]
pub struct LoadArguments {
    /// Connections, over all threads.
    #[arg(short = 'c', long, value_name = "N", value_parser = units::count)]
    pub connections: Option<u64>,
    /// Threads; the default is 1. With a unit of time it is oha's timeout.
    #[arg(short = 't', value_name = "N|TIME")]
    pub t: Option<String>,
    /// Threads, one reactor each.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// wrk's timeout of a request, or oha's content type: it has a `/`.
    #[arg(short = 'T', value_name = "TIME|TYPE")]
    pub upper_t: Option<String>,
    /// Addresses of this host that connections come from in turn: 127.0.0.2,127.0.0.3. Each has
    /// ports of its own, of which there are about 28,000.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub local_address: Vec<IpAddr>,
    /// Time that an answer may take [30s].
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub timeout: Option<Duration>,
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// Requests per second: 2000, 20k, 500/1s. An open loop: latency is from the intended send
    /// time. Without it: a closed loop.
    #[arg(short = 'R', long, visible_alias = "qps", short_alias = 'q', value_name = "RATE",
          value_parser = units::rate)]
    pub rate: Option<f64>,
    /// Time before the measurement.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = units::duration)]
    pub warm_up: Duration,
    #[arg(short = 'm', long, value_name = "METHOD")]
    pub method: Option<String>,
    /// A header field, `Name: value`; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    pub headers: Vec<String>,
    /// The accept field.
    #[arg(short = 'A', long, value_name = "TYPE")]
    pub accept: Option<String>,
    /// Basic authentication, user:password.
    #[arg(short = 'a', long, value_name = "USER:PASSWORD")]
    pub basic_auth: Option<String>,
    /// The body of each request.
    #[arg(long, value_name = "TEXT")]
    pub body: Option<String>,
    /// The body of each request, from a file.
    #[arg(short = 'D', long, value_name = "FILE")]
    pub body_file: Option<PathBuf>,
    /// HTTP/2: over TLS, or by prior knowledge (h2c).
    #[arg(long, alias = "h2c")]
    pub http2: bool,
    /// Streams at a time on each connection of HTTP/2 [1].
    #[arg(short = 'p', long = "streams", value_name = "N")]
    pub streams: Option<usize>,
    /// TLS: any certificate will do.
    #[arg(long)]
    pub insecure: bool,
    /// TLS: authorities to trust instead of the system's, PEM.
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// TLS: the client's certificate, with those that vouch for it, PEM.
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// TLS: the key of the client's certificate, PEM; without it the file of --cert has it, too.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Unary gRPC calls: POST over HTTP/2, the body is one message, success is grpc-status 0.
    #[arg(long)]
    pub grpc: bool,
    /// Statuses that are successes: 2xx,304.
    #[arg(long, value_name = "LIST", default_value = "2xx")]
    pub expect: Expectation,
    /// A new connection for each request.
    #[arg(long)]
    pub disable_keepalive: bool,
    /// Requests after which a connection is made anew.
    #[arg(long, value_name = "N")]
    pub requests_per_connection: Option<u32>,
    /// Length of an interval of the time line [1s, 100ms for runs below 10s].
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub interval: Option<Duration>,
    /// Lateness of sends at p99.9 that makes a run void.
    #[arg(long, value_name = "TIME", default_value = "1ms", value_parser = units::duration)]
    pub lateness_max: Duration,
    /// Percent of the machine's CPU time that a hypervisor may take before a run is void.
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    pub steal_max: f64,
    /// auto, io_uring or epoll.
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub io_backend: Backend,
    /// CPUs to pin the threads to: 2,3.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub cpus: Vec<usize>,
}

/// Files that a run leaves.
#[derive(Parser, Clone, Debug, Default)]
pub struct FileArguments {
    /// The report as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// HdrHistogram's percentile spectrum.
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// HdrHistogram's interval log.
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// A line per interval.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// One page with plots, without anything from elsewhere.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// What wrk's and oha's letters came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Letters {
    threads: Option<usize>,
    timeout: Option<Duration>,
    content_type: Option<String>,
}

impl LoadArguments {
    fn letters(&self) -> Result<Letters, String> {
        let mut letters = Letters::default();
        if let Some(t) = &self.t {
            if units::is_duration_with_unit(t) {
                letters.timeout = Some(units::duration(t)?);
            } else {
                let threads = t.parse().map_err(|_| {
                    format!("-t {t}: a number of threads (wrk), or a timeout with its unit (oha)")
                })?;
                letters.threads = Some(threads);
            }
        }
        if let Some(upper_t) = &self.upper_t {
            if upper_t.contains('/') {
                letters.content_type = Some(upper_t.clone());
            } else {
                let timeout = units::duration(upper_t).map_err(|_| {
                    format!("-T {upper_t}: a timeout (wrk), or a content type with a / (oha)")
                })?;
                letters.timeout = Some(timeout);
            }
        }
        letters.threads = self.threads.or(letters.threads);
        letters.timeout = self.timeout.or(letters.timeout);
        letters.content_type = self.content_type.clone().or(letters.content_type);
        Ok(letters)
    }

    /// Method, fields and body of each request.
    fn parts(&self, body: Option<&str>) -> Result<Parts, String> {
        let mut headers =
            self.headers.iter().map(|line| header(line)).collect::<Result<Vec<_>, _>>()?;
        if let Some(content_type) = self.letters()?.content_type {
            headers.push(header(&format!("content-type: {content_type}"))?);
        }
        if let Some(accept) = &self.accept {
            headers.push(header(&format!("accept: {accept}"))?);
        }
        if let Some(user) = &self.basic_auth {
            let encoded = base64::engine::general_purpose::STANDARD.encode(user);
            headers.push(("authorization".to_owned(), format!("Basic {encoded}")));
        }
        let body = match (body.or(self.body.as_deref()), &self.body_file) {
            (Some(_), Some(_)) => return Err("a body is given twice".to_owned()),
            (Some(text), None) => text.as_bytes().to_vec(),
            (None, Some(file)) => {
                std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?
            }
            (None, None) => Vec::new(),
        };
        let body = if self.grpc { self.grpc_message(&mut headers, &body)? } else { body };
        let method = match &self.method {
            None if self.grpc => "POST".to_owned(),
            Some(method) => method.to_ascii_uppercase(),
            None => String::new(),
        };
        Ok(Parts { method, headers, body })
    }

    /// The body of a gRPC call: a message with its prefix, not compressed.
    fn grpc_message(
        &self,
        headers: &mut Vec<(String, String)>,
        message: &[u8],
    ) -> Result<Vec<u8>, String> {
        let length = u32::try_from(message.len()).map_err(|_| "the message is too long")?;
        headers.push(("te".to_owned(), "trailers".to_owned()));
        if !headers.iter().any(|(name, _)| name == "content-type") {
            headers.push(("content-type".to_owned(), "application/grpc".to_owned()));
        }
        Ok([&[0], &length.to_be_bytes()[..], message].concat())
    }

    pub fn tls(&self, url: &Url) -> Result<Option<Tls>, String> {
        if !url.is_https {
            return Ok(None);
        }
        let is_http2 = self.http2()?.is_some();
        let trust = match self.insecure {
            true => Trust::Anybody,
            false => Trust::Authorities(self.cacert.as_deref()),
        };
        let key = self.key.as_deref().or(self.cert.as_deref());
        let identity = self.cert.as_deref().zip(key);
        Tls::new(&url.host, trust, identity, is_http2).map(Some)
    }

    /// Streams of each connection, where it is HTTP/2.
    fn http2(&self) -> Result<Option<usize>, String> {
        if !self.http2 && !self.grpc {
            return match self.streams {
                None | Some(1) => Ok(None),
                Some(_) => Err("-p is for --http2".to_owned()),
            };
        }
        if self.disable_keepalive || self.requests_per_connection.is_some() {
            return Err("connections of HTTP/2 are kept".to_owned());
        }
        match self.streams.unwrap_or(1) {
            streams @ 1..=10_000 => Ok(Some(streams)),
            streams => Err(format!("-p {streams}: 1 to 10000 streams")),
        }
    }

    fn check_local_addresses(&self, target: IpAddr) -> Result<(), String> {
        let is_other = |local: &&IpAddr| local.is_ipv4() != target.is_ipv4();
        match self.local_address.iter().find(is_other) {
            Some(local) => Err(format!("--local-address {local}: the target is {target}")),
            None => Ok(()),
        }
    }

    /// A plan for `url` with `body`, or the body that the options name. Without a duration and a
    /// number of requests it lasts 10 seconds.
    pub fn plan(
        &self,
        url: &str,
        body: Option<&str>,
        duration: Option<Duration>,
        requests: Option<u64>,
    ) -> Result<Plan, Failure> {
        let parsed = Url::parse(url)?;
        let target = Target::new(&parsed, url, &self.parts(body)?)?;
        let origin = parsed.resolve()?;
        let letters = self.letters()?;
        let threads = letters.threads.unwrap_or(1);
        let connections = self.connections.unwrap_or(50);
        if threads == 0 || connections == 0 || requests == Some(0) {
            return Err("threads, connections and requests are at least 1".to_owned().into());
        }
        if connections < threads as u64 {
            return Err(format!("{threads} threads need at least as many connections").into());
        }
        if connections > 1 << 20 {
            return Err("at most 1048576 connections".to_owned().into());
        }
        if !self.cpus.is_empty() && self.cpus.len() < threads {
            return Err("--cpus names a CPU for each thread".to_owned().into());
        }
        self.check_local_addresses(origin.address.ip())?;
        let duration = match (duration, requests) {
            (None, None) => Some(DEFAULT_DURATION),
            (duration, _) => duration,
        };
        if duration.is_some_and(|d| d < Duration::from_millis(1)) {
            return Err("a run lasts at least a millisecond".to_owned().into());
        }
        let is_short = duration.is_some_and(|d| d < Duration::from_secs(10));
        let default = Duration::from_millis(if is_short { 100 } else { 1000 });
        let load = match self.rate {
            Some(rate) if rate > 0.0 => Load::Open { rate },
            _ => Load::Closed,
        };
        Ok(Plan {
            url: url.to_owned(),
            origin,
            local_addresses: self.local_address.clone(),
            targets: vec![target],
            threads,
            connections: connections as usize,
            tls: self.tls(&parsed)?,
            http2: self.http2()?,
            grpc: self.grpc,
            load,
            phases: Vec::new(),
            duration,
            requests,
            warm_up: self.warm_up,
            timeout: letters.timeout.unwrap_or(DEFAULT_TIMEOUT),
            expect: self.expect.clone(),
            requests_per_connection: match self.disable_keepalive {
                true => Some(1),
                false => self.requests_per_connection,
            },
            interval: self.interval.unwrap_or(default).max(Duration::from_millis(10)),
            keep_samples: false,
            lateness_max: self.lateness_max,
            steal_max: self.steal_max / 100.0,
            backend: self.io_backend,
            cpus: self.cpus.clone(),
        })
    }
}
