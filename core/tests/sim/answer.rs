//! What an origin answers, well or badly, and how that looks on the wire.
//!
//! What it leaves to others: when it is asked (`origin.rs`).

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_io::sim::Random;

use super::bytes::{Side, body, chunks, pieces, size, some_us};
use super::plan::{Exchange, Weather};
use super::script::Step;

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
    /// On HTTP/2 the first attempt is refused, as one that nothing was done with.
    pub refuses: bool,
    /// What a stream of HTTP/2 is reset with.
    pub code: u32,
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

impl Answer {
    pub fn new(weather: &Weather, early: bool, random: &mut Random) -> Answer {
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
        let body = size(random);
        Answer {
            status: statuses[random.index(statuses.len())],
            body,
            framing,
            interim,
            delay: some_us(200_000, random),
            pieces: random.size(5),
            early,
            // Behind `content-length: 0` they get lost.
            trailers: random.chance(100) && (body > 0 || framing != AnswerFraming::Length),
            after: if framing == AnswerFraming::UntilClose { After::SaysClose } else { after },
            misdeed,
            refuses: weather.goaways && random.chance(100),
            code: [0, 1, 2, 8, 11, 13][random.index(6)],
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
