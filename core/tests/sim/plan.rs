//! What a seed asks for: the weather, the peers' habits, and every exchange, planned before it
//! happens.
//!
//! What it leaves to others: making it happen, and judging it (`ledger.rs`).

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_io::sim::{Faults, Random};

use super::script::Step;

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
    /// The request asks for a tunnel: bytes that pass up and down in it.
    pub tunnel: Option<(usize, usize)>,
    pub answer: Answer,
}

/// What the origin answers.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: usize,
    pub framing: AnswerFraming,
    pub interim: Vec<u16>,
    pub delay: Duration,
    /// The body is sent in so many pieces.
    pub pieces: usize,
    /// The answer begins with the request's head, not its end.
    pub early: bool,
    pub trailers: bool,
    pub after: After,
    pub misdeed: Option<Misdeed>,
}

/// How the answer's body is delimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnswerFraming {
    Length,
    Chunked,
    UntilClose,
}

/// What becomes of the origin's connection after an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    Keep,
    /// It says `connection: close`, and closes.
    SaysClose,
    /// It closes after this time without having said so: the keep-alive race.
    ClosesSilently(Duration),
}

/// What an origin does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misdeed {
    ResetBeforeHead,
    CloseBeforeHead,
    /// After so many bytes of the answer, head included.
    ResetAfter(usize),
    CloseAfter(usize),
    Garbage,
    NeverAnswers,
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
    pub shards: usize,
    pub origins: usize,
    pub clients: usize,
}

impl Weather {
    /// The weather of a seed: a third calm, a third with everything that loses nothing, a third
    /// stormy.
    pub fn new(random: &mut Random) -> Weather {
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
            silent_closes: random.chance(400),
            small_breakers: random.chance(200),
            short_idle: random.chance(200),
            swaps: if random.chance(500) { random.between(1, 12) as usize } else { 0 },
            early_drain: random.chance(150),
            outages: if random.chance(150) { random.between(1, 3) as usize } else { 0 },
            sockets_max: random.chance(100).then(|| random.between(4, 12)),
            tunnels: random.chance(300),
            shards: random.between(1, 2) as usize,
            origins: random.between(2, 4) as usize,
            clients: random.between(1, 5) as usize,
        }
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
        Exchange {
            id,
            method,
            route: random.index(PATHS),
            body,
            chunked: random.chance(400),
            expect: body.is_some_and(|body| body > 0) && random.chance(100),
            close: random.chance(50),
            tunnel: None,
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

    /// Whether the proxy may send it twice (RFC 9110, 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        self.method != "POST" && self.tunnel.is_none()
    }

    /// The request as its client sends it, in pieces.
    pub fn request(&self, random: &mut Random) -> Vec<Step> {
        let mut head =
            format!("{} /r{}/{} HTTP/1.1\r\nhost: sim\r\n", self.method, self.route, self.id);
        head += &format!("x-id: {}\r\nX-Drop: 1\r\nx-keep: a, b\r\n", self.id);
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

impl Answer {
    fn new(weather: &Weather, early: bool, random: &mut Random) -> Answer {
        let misdeed = (weather.bad_origins && random.chance(150)).then(|| {
            let after = random.size(2_000);
            match random.below(6) {
                0 => Misdeed::ResetBeforeHead,
                1 => Misdeed::CloseBeforeHead,
                2 => Misdeed::ResetAfter(after),
                3 => Misdeed::CloseAfter(after),
                4 => Misdeed::Garbage,
                _ => Misdeed::NeverAnswers,
            }
        });
        let statuses = [200, 200, 200, 200, 201, 204, 304, 404, 500, 503];
        let framings = [AnswerFraming::Length, AnswerFraming::Chunked, AnswerFraming::UntilClose];
        // An early answer whose connection closes would lose to the reset of the unread request.
        let choices = if !early && random.chance(300) { 3 } else { 2 };
        let framing = framings[random.index(choices)];
        let after = match random.below(10) {
            _ if early => After::Keep,
            0 => After::SaysClose,
            1..4 if weather.silent_closes => {
                After::ClosesSilently(Duration::from_micros(random.below(3_000)))
            }
            _ => After::Keep,
        };
        let interim = match random.below(20) {
            0 => vec![103],
            1 => vec![100, 103, 103],
            _ => Vec::new(),
        };
        Answer {
            status: statuses[random.index(statuses.len())],
            body: size(random),
            framing,
            interim,
            delay: some_us(200_000, random),
            pieces: random.size(5),
            early,
            trailers: random.chance(100),
            after: if framing == AnswerFraming::UntilClose { After::SaysClose } else { after },
            misdeed,
        }
    }

    /// Whether the status has no body whatever the origin wants (RFC 9110, 6.4.1).
    pub fn has_body(&self, method: &str) -> bool {
        method != "HEAD" && !matches!(self.status, 204 | 304)
    }

    /// The steps of an origin that answers `exchange`.
    pub fn steps(&self, exchange: &Exchange, random: &mut Random) -> VecDeque<Step> {
        let mut steps = VecDeque::from([Step::Wait(self.delay)]);
        if let Some((_, down)) = exchange.tunnel {
            let head = "HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
            let head = format!("{head}x-origin-id: {}\r\n\r\n", exchange.id).into_bytes();
            let bytes = [head, body(exchange.id, Side::Response, 0..down)].concat();
            steps.extend(pieces(&bytes, random));
            steps.push_back(Step::Shutdown);
            return steps;
        }
        match self.misdeed {
            Some(Misdeed::NeverAnswers) => return steps,
            Some(Misdeed::ResetBeforeHead) => steps.push_back(Step::Abort),
            Some(Misdeed::CloseBeforeHead) => steps.push_back(Step::Close),
            Some(Misdeed::Garbage) => {
                steps.push_back(Step::Send(b"SSH-2.0-not HTTP at all\r\n\r\n".to_vec()));
                steps.push_back(Step::Wait(Duration::from_millis(5)));
                steps.push_back(Step::Close);
            }
            Some(Misdeed::ResetAfter(count) | Misdeed::CloseAfter(count)) => {
                let whole = self.bytes(exchange, random);
                steps.push_back(Step::Send(whole[..count.min(whole.len() - 1)].to_vec()));
                let reset = matches!(self.misdeed, Some(Misdeed::ResetAfter(_)));
                steps.push_back(if reset { Step::Abort } else { Step::Close });
            }
            None => self.push_good(exchange, random, &mut steps),
        }
        steps
    }

    fn push_good(&self, exchange: &Exchange, random: &mut Random, steps: &mut VecDeque<Step>) {
        for status in &self.interim {
            let interim =
                format!("HTTP/1.1 {status} Interim\r\nx-interim: {}\r\n\r\n", exchange.id);
            steps.push_back(Step::Send(interim.into_bytes()));
        }
        let whole = self.bytes(exchange, random);
        let piece = whole.len().div_ceil(self.pieces.max(1));
        for (index, piece) in whole.chunks(piece).enumerate() {
            if index > 0 {
                steps.push_back(Step::Wait(Duration::from_micros(random.below(3_000))));
            }
            steps.push_back(Step::Send(piece.to_vec()));
        }
        steps.push_back(Step::Mark(exchange.id));
        match self.after {
            After::Keep => {}
            After::SaysClose => steps.push_back(Step::Close),
            After::ClosesSilently(delay) => steps.extend([Step::Wait(delay), Step::Close]),
        }
    }

    /// The answer on the wire.
    fn bytes(&self, exchange: &Exchange, random: &mut Random) -> Vec<u8> {
        let mut head =
            format!("HTTP/1.1 {} Answer\r\nx-origin-id: {}\r\n", self.status, exchange.id);
        head += "x-hop: 1\r\n";
        head += match self.after {
            After::SaysClose => "Connection: close, X-Hop\r\n",
            _ => "Connection: X-Hop\r\n",
        };
        let has_body = self.has_body(exchange.method);
        match self.framing {
            AnswerFraming::Length if self.status != 204 => {
                head += &format!("Content-Length: {}\r\n", self.body);
            }
            AnswerFraming::Chunked if has_body => head += "Transfer-Encoding: chunked\r\n",
            _ => {}
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        if has_body {
            let body = body(exchange.id, Side::Response, 0..self.body);
            match self.framing {
                AnswerFraming::Chunked => {
                    let trailers = if self.trailers { "x-trailer: 1\r\n" } else { "" };
                    bytes.extend(chunks(&body, trailers, random));
                }
                _ => bytes.extend(body),
            }
        }
        bytes
    }
}

/// A time up to `max` microseconds, more often a short one.
fn some_us(max: usize, random: &mut Random) -> Duration {
    let bound = random.size(max) as u64;
    Duration::from_micros(random.below(bound + 1))
}

/// Sizes of bodies: mostly small, sometimes nothing, sometimes more than a proxy should keep.
fn size(random: &mut Random) -> usize {
    match random.below(100) {
        0..10 => 0,
        10..20 => 65_536 - random.index(1000),
        20 => 300_000 + random.index(600_000),
        _ => random.size(32_768),
    }
}

/// Which body of an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Request,
    Response,
}

/// A part of a body that no other exchange has: made anew wherever it is needed.
pub fn body(id: Id, side: Side, range: std::ops::Range<usize>) -> Vec<u8> {
    let seed = (id as u64) << 1 | u64::from(side == Side::Response);
    let mut bytes = Vec::with_capacity(range.len() + 16);
    for word in range.start / 8..range.end.div_ceil(8) {
        bytes.extend_from_slice(&body_word(seed, word as u64).to_le_bytes());
    }
    bytes.drain(..range.start % 8);
    bytes.truncate(range.len());
    bytes
}

fn body_word(seed: u64, at: u64) -> u64 {
    let word = (seed << 32 ^ at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (word ^ word >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// `body` in chunks of any size.
fn chunks(body: &[u8], trailers: &str, random: &mut Random) -> Vec<u8> {
    let mut framed = Vec::with_capacity(body.len() + 64);
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(random.size(rest.len()));
        framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
        rest = after;
    }
    framed.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    framed
}

/// `bytes` in up to four sends with little waits.
fn pieces(bytes: &[u8], random: &mut Random) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = bytes;
    for _ in 0..random.below(4) {
        let (piece, after) = rest.split_at(random.size(rest.len()));
        rest = after;
        steps.push(Step::Send(piece.to_vec()));
        if random.chance(300) {
            steps.push(Step::Wait(Duration::from_micros(random.below(3_000))));
        }
    }
    steps.push(Step::Send(rest.to_vec()));
    steps
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
