//! What a seed asks for: the weather, the peers' habits, and every exchange, planned before it
//! happens.
//!
//! What it leaves to others: making it happen, and judging it (`ledger.rs`).

use std::collections::VecDeque;
use std::time::Duration;

use tidegate::config::{Http2Options, RetryBackOff, RetryOn, RetryPolicy};
use tidegate_io::sim::{Faults, Random};

use super::answer::{After, Answer};
use super::bytes::{Side, body, chunks, pieces, size, some_us};
use super::http2_plan::Versions;
use super::script::Step;
use super::tls::Secrecy;

/// The number of an exchange; both sides of the world know its plan by it.
pub type Id = usize;

/// One request and the answer that its origin is to give.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub id: Id,
    pub method: &'static str,
    pub route: usize,
    /// Bytes of the request's body, and whether it is chunked; none: no body.
    pub body: Option<usize>,
    pub chunked: bool,
    pub expect: bool,
    /// The client asks for the connection to be closed.
    pub close: bool,
    /// Trailers follow the body, on HTTP/2.
    pub trailers: bool,
    /// The request asks for a tunnel: bytes that pass up and down in it.
    pub tunnel: Option<(usize, usize)>,
    pub answer: Answer,
    /// The request says what server it wants.
    pub named: bool,
}

/// A client's habits on one connection.
#[derive(Clone, Debug)]
pub struct Visit {
    pub exchanges: Vec<Id>,
    /// Requests under way at once.
    pub depth: usize,
    pub last: LastWord,
    /// It stops reading for this long when an answer begins.
    pub slow_reader: Option<Duration>,
    /// It rests this long before it connects.
    pub rest: Duration,
    /// Between requests.
    pub think: Duration,
}

/// How a visit ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastWord {
    /// It waits for every answer and closes.
    Waits,
    /// It sends FIN behind its last request, and reads on.
    HalfCloses,
    /// It closes or aborts after so many of its script's steps.
    Leaves { after: usize, abort: bool },
    /// It sends something that is not HTTP after its last request.
    Garbage(usize),
    /// It keeps its connection until the proxy closes it.
    Stays,
}

/// What the whole world of a seed is like.
#[derive(Clone, Debug)]
pub struct Weather {
    pub faults: Faults,
    /// Connections may be cut, lost or refused.
    pub lossy: bool,
    /// Origins may do wrong.
    pub bad_origins: bool,
    /// Clients may leave, half-close or talk nonsense.
    pub bad_clients: bool,
    /// Origins may close idle connections without a word.
    pub silent_closes: bool,
    /// Limits are so small that they are met.
    pub small_breakers: bool,
    /// Connections that there may be to each host.
    pub host_limit: Option<u32>,
    /// Idle timeouts are so short that they strike between requests.
    pub short_idle: bool,
    /// The configuration changes while requests run.
    pub swaps: usize,
    /// The proxy drains while clients are busy.
    pub early_drain: bool,
    /// Origins are gone for a while, so often.
    pub outages: usize,
    /// Sockets that each shard may have until the storm is over.
    pub sockets_max: Option<u64>,
    /// Some visits end in a tunnel.
    pub tunnels: bool,
    /// Who speaks TLS.
    pub secrecy: Secrecy,
    /// Who speaks HTTP/2.
    pub versions: Versions,
    /// Origins that speak HTTP/2 go away now and then.
    pub goaways: bool,
    /// Clients that flood the proxy.
    pub floods: usize,
    /// What is sent once more, on every route.
    pub retry: Option<RetryPolicy>,
    /// Bytes of a request's body that are kept for that, if not as many as may come.
    pub kept_bytes: Option<u64>,
    pub shards: usize,
    pub origins: usize,
    pub clients: usize,
}

impl Weather {
    /// The weather of a seed: a third calm, a third with everything that loses nothing, a third
    /// stormy.
    pub fn new(seed: u64, random: &mut Random) -> Weather {
        let kind = random.below(3);
        let mut faults = match kind {
            0 => Faults::none(),
            1 => Faults::lossless(random),
            _ => Faults::lossy(random),
        };
        // Bodies are up to 64 KiB: a window of a few bytes would take hours.
        faults.window_bytes.0 = faults.window_bytes.0.max(2048);
        faults.window_bytes.1 = faults.window_bytes.1.max(faults.window_bytes.0);
        faults.latency_us.1 = faults.latency_us.1.min(2_000);
        Weather {
            faults,
            lossy: kind == 2,
            bad_origins: random.chance(400),
            bad_clients: random.chance(400),
            secrecy: Secrecy::of(seed),
            silent_closes: random.chance(400),
            small_breakers: random.chance(200),
            host_limit: random.chance(200).then(|| random.between(0, 3) as u32),
            short_idle: random.chance(200),
            swaps: if random.chance(500) { random.between(1, 12) as usize } else { 0 },
            early_drain: random.chance(150),
            outages: if random.chance(150) { random.between(1, 3) as usize } else { 0 },
            sockets_max: random.chance(100).then(|| random.between(4, 12)),
            tunnels: random.chance(300),
            versions: Versions::new(random),
            goaways: random.chance(400),
            floods: usize::from(random.chance(70)),
            shards: random.between(1, 2) as usize,
            origins: random.between(2, 4) as usize,
            clients: random.between(1, 5) as usize,
            retry: random.chance(400).then(|| retry_policy(random)),
            kept_bytes: random.chance(300).then(|| random.below(5_000)),
        }
    }

    /// Whether less is kept of the request's body than it has.
    pub fn kept_too_little(&self, exchange: &Exchange) -> bool {
        self.retry.is_some()
            && self.kept_bytes.is_some_and(|kept| exchange.body > Some(kept as usize))
    }

    /// Bytes of a body that may be under way from one peer of HTTP/2 to another: in the proxy what
    /// it may have received without passing it on, and what it may have queued; and what is in the
    /// sockets and the peer's own output.
    pub fn held_max(&self, receiving: &Http2Options) -> usize {
        let window = receiving.initial_stream_window_size as usize;
        window + (256 << 10) + 4 * self.faults.window_bytes.1 + (128 << 10)
    }

    /// How often a request may reach an origin: as often as the policy allows, where it wants a
    /// retry after the origin has seen the request; and a replay of what can be repeated.
    pub fn sightings_max(&self, exchange: &Exchange) -> usize {
        let on = self.retry.as_ref().map(|policy| policy.retry_on).unwrap_or_default();
        let resets = RetryOn::SERVER_ERROR.with(RetryOn::GATEWAY_ERROR).with(RetryOn::RESET);
        let governs_resets = on.has_any(resets);
        let governs_answer = match exchange.answer.status {
            500 => on.has_any(RetryOn::SERVER_ERROR),
            503 => on.has_any(RetryOn::SERVER_ERROR.with(RetryOn::GATEWAY_ERROR)),
            _ => false,
        };
        let retries = match &self.retry {
            Some(policy) if governs_resets || governs_answer => policy.num_retries as usize,
            _ => 0,
        };
        1 + retries + usize::from(exchange.is_idempotent())
    }
}

fn retry_policy(random: &mut Random) -> RetryPolicy {
    let conditions = [
        RetryOn::SERVER_ERROR,
        RetryOn::GATEWAY_ERROR,
        RetryOn::RESET,
        RetryOn::CONNECT_FAILURE,
        RetryOn::RESET_BEFORE_REQUEST,
    ];
    let chosen = conditions.into_iter().filter(|_| random.chance(400));
    let retry_on = chosen.fold(RetryOn::default(), RetryOn::with);
    let base = Duration::from_millis(random.between(1, 50));
    RetryPolicy {
        retry_on,
        num_retries: random.below(4) as u32,
        // Longer than any origin takes that answers at all.
        per_try_timeout: random.chance(300).then(|| Duration::from_secs(random.between(5, 20))),
        per_try_idle_timeout: random.chance(200).then(|| Duration::from_secs(30)),
        back_off: RetryBackOff { base, max: base * random.between(1, 20) as u32 },
        avoids_previous_hosts: random.chance(500),
        host_selection_max_attempts: random.between(1, 4) as u32,
        ..RetryPolicy::default()
    }
}

const PATHS: usize = super::config::ROUTES;

impl Exchange {
    pub fn new(id: Id, weather: &Weather, random: &mut Random) -> Exchange {
        let method = ["GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS"]
            [random.index(9)];
        let body = match method {
            "POST" | "PUT" => Some(size(random)),
            "DELETE" if random.chance(300) => Some(size(random)),
            _ => None,
        };
        let early = body.is_some() && random.chance(80);
        let chunked = random.chance(400);
        Exchange {
            id,
            method,
            route: random.index(PATHS),
            body,
            chunked,
            expect: body.is_some_and(|body| body > 0) && random.chance(100),
            close: random.chance(50),
            // Behind `content-length: 0` they get lost.
            trailers: random.chance(150) && (chunked || body != Some(0)),
            tunnel: None,
            named: weather.secrecy.names,
            answer: Answer::new(weather, early, random),
        }
    }

    /// A request for a tunnel, which is the last on its connection.
    pub fn tunnel(id: Id, weather: &Weather, random: &mut Random) -> Exchange {
        let mut exchange = Exchange::new(id, weather, random);
        exchange.method = "GET";
        (exchange.body, exchange.expect, exchange.close) = (None, false, false);
        exchange.tunnel = Some((size(random), size(random)));
        exchange.answer.early = false;
        exchange.answer.misdeed = None;
        exchange.answer.after = After::Keep;
        exchange
    }

    /// The server that the request wants.
    pub fn server_name(&self) -> Option<String> {
        self.named.then(|| format!("n{}.sim", self.id % 4))
    }

    /// Whether the proxy may send it twice (RFC 9110, 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        self.method != "POST" && self.tunnel.is_none()
    }

    /// The request as its client sends it, in pieces.
    pub fn request(&self, random: &mut Random) -> Vec<Step> {
        let mut head =
            format!("{} /r{}/{} HTTP/1.1\r\nhost: sim\r\n", self.method, self.route, self.id);
        head += &format!("x-id: {}\r\nX-Drop: 1\r\nx-keep: a, b\r\n", self.id);
        if let Some(name) = self.server_name() {
            head += &format!("x-name: {name}\r\n");
        }
        head += match (self.close, self.tunnel) {
            (_, Some(_)) => "Connection: Upgrade, x-drop\r\nUpgrade: websocket\r\n",
            (true, None) => "Connection: close, x-drop\r\n",
            (false, None) => "connection: x-drop\r\n",
        };
        if self.expect {
            head += "Expect: 100-continue\r\n";
        }
        match self.body {
            Some(_) if self.chunked => head += "Transfer-Encoding: chunked\r\n",
            Some(length) => head += &format!("Content-Length: {length}\r\n"),
            None => {}
        }
        head += "\r\n";
        let body = body(self.id, Side::Request, 0..self.body.unwrap_or(0));
        let framed = match self.body {
            Some(_) if self.chunked => chunks(&body, "", random),
            _ => body,
        };
        let mut steps = Vec::new();
        if self.expect {
            steps.push(Step::Send(head.into_bytes()));
            steps.push(Step::AwaitContinue);
            steps.extend(pieces(&framed, random));
        } else {
            let whole = [head.into_bytes(), framed].concat();
            steps.extend(pieces(&whole, random));
        }
        steps
    }
}

impl Visit {
    pub fn new(exchanges: Vec<Id>, weather: &Weather, random: &mut Random) -> Visit {
        let last = match random.below(8) {
            0 if weather.bad_clients => LastWord::HalfCloses,
            1 | 2 if weather.bad_clients => {
                LastWord::Leaves { after: random.size(20), abort: random.chance(500) }
            }
            3 if weather.bad_clients => LastWord::Garbage(random.index(GARBAGE.len())),
            _ => LastWord::Waits,
        };
        Visit {
            exchanges,
            depth: random.size(4),
            last,
            slow_reader: random.chance(150).then(|| Duration::from_micros(random.below(100_000))),
            rest: some_us(300_000, random),
            think: match random.chance(500) {
                true => some_us(800_000, random),
                false => Duration::ZERO,
            },
        }
    }

    /// Everything that the client does on the connection.
    pub fn steps(&self, exchanges: &[Exchange], random: &mut Random) -> VecDeque<Step> {
        let mut steps = VecDeque::new();
        for (index, exchange) in exchanges.iter().enumerate() {
            if index >= self.depth {
                steps.push_back(Step::AwaitAnswers(index + 1 - self.depth));
            }
            if index > 0 && !self.think.is_zero() {
                steps.push_back(Step::Wait(self.think));
            }
            steps.push_back(Step::Mark(exchange.id));
            if exchange.expect {
                // What is before it must be answered, or its 100 could not be told from theirs.
                steps.insert(steps.len() - 1, Step::AwaitAnswers(index));
            }
            steps.extend(exchange.request(random));
            if let Some((up, _)) = exchange.tunnel {
                steps.push_back(Step::AwaitAnswers(index + 1));
                steps.extend(pieces(&body(exchange.id, Side::Request, 0..up), random));
                steps.push_back(Step::Shutdown);
                return steps;
            }
        }
        match self.last {
            LastWord::Waits => {
                steps.extend([Step::AwaitAnswers(exchanges.len()), Step::Close]);
            }
            LastWord::HalfCloses => steps.push_back(Step::Shutdown),
            LastWord::Stays => {}
            LastWord::Leaves { after, abort } => {
                steps.truncate(after);
                steps.push_back(if abort { Step::Abort } else { Step::Close });
            }
            LastWord::Garbage(which) => {
                steps.push_back(Step::AwaitAnswers(exchanges.len()));
                steps.push_back(Step::Mark(NOT_HTTP));
                steps.push_back(Step::Send(GARBAGE[which].to_vec()));
            }
        }
        steps
    }
}

/// The mark of garbage in a script.
pub const NOT_HTTP: Id = usize::MAX;

/// Requests that must be refused and must not reach an origin.
const GARBAGE: &[&[u8]] = &[
    b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    b"GET /r0/1 HTTP/1.1\r\nhost: sim\r\nhost: sim\r\n\r\n",
    b"GET /r0/1 HTTP/1.1\r\nhost: sim\r\nx-id : 1\r\n\r\n",
    b"POST /r0/1 HTTP/1.1\r\nhost: sim\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /r0/1 HTTP/1.1\r\nhost: sim\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
    b"POST /r0/1 HTTP/1.1\r\nhost: sim\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"GET /r0/1 HTTP/3.7\r\nhost: sim\r\n\r\n",
    b"GET /r0/1 HTTP/1.1\r\nhost: sim\r\nx-nul: \0\r\n\r\n",
];
