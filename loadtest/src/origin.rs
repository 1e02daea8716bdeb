//! An origin that does what the query of each request says: `/?s=1k&t=5ms&j=2ms&status=503`.
//!
//! | key | meaning | else |
//! |---|---|---|
//! | `s` | bytes of the body | `--size` |
//! | `t` | time before the answer | `--delay` |
//! | `j` | up to so much more time, evenly spread | `--jitter` |
//! | `status` | status of the answer | `--status` |
//! | `close` | the connection ends after the answer | it stays |
//! | `stall` | no answer leaves this thread for so long, for nobody | |
//!
//! What it leaves to others: being a real server. It has no limits but the codec's.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate_http::h1::{Event, Options, RequestDecoder};
use tidegate_http::{Limits, Method, RequestHead};
use tidegate_io::socket::{ListenOptions, listen};
use tidegate_io::{Completion, Io, Outcome, Output, Socket, Token};

use crate::units;

const LISTENER: Token = Token(u64::MAX);
/// How often the thread looks whether it is to end.
const TICK: Duration = Duration::from_millis(100);
const BODY_MAX: u64 = 1 << 30;

/// What an answer is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    pub size: u64,
    pub delay: Duration,
    pub jitter: Duration,
    pub status: u16,
    pub close: bool,
    pub stall: Duration,
}

impl Default for Answer {
    fn default() -> Answer {
        Answer {
            size: 1024,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            status: 200,
            close: false,
            stall: Duration::ZERO,
        }
    }
}

impl Answer {
    /// What a path asks for; what cannot be read is answered 400 with the reason.
    fn of(path: &[u8], default: Answer) -> Result<Answer, String> {
        let mut answer = default;
        let text = std::str::from_utf8(path).unwrap_or_default();
        let Some((_, query)) = text.split_once('?') else { return Ok(answer) };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "s" | "size" => answer.size = units::bytes(value)?.min(BODY_MAX),
                "t" | "delay" => answer.delay = units::duration(value)?,
                "j" | "jitter" => answer.jitter = units::duration(value)?,
                "stall" => answer.stall = units::duration(value)?,
                "close" => answer.close = true,
                "status" => {
                    let status = value.parse().ok().filter(|s| (200..=999).contains(s));
                    answer.status = status.ok_or_else(|| format!("`{value}` is no status"))?;
                }
                _ => {}
            }
        }
        Ok(answer)
    }
}

/// One answer that is to leave.
#[derive(Clone, Copy, Debug)]
struct Pending {
    due: u64,
    answer: Answer,
    bodiless: bool,
    /// Why it is a 400.
    refused: bool,
}

struct Connection {
    socket: Socket,
    decoder: RequestDecoder,
    /// In the order of the requests; the first one leaves first.
    pending: VecDeque<Pending>,
    sending: bool,
    waiting: Option<Output>,
    closes: bool,
}

/// One thread of an origin.
pub struct Origin<I: Io> {
    io: I,
    default: Answer,
    connections: Vec<Option<Connection>>,
    generations: Vec<u32>,
    free: Vec<usize>,
    timers: BinaryHeap<Reverse<(u64, u64)>>,
    head: RequestHead,
    stalled_until: u64,
    random: u64,
}

/// A listening socket that other threads can have, too.
pub fn bind(address: &SocketAddr) -> io::Result<OwnedFd> {
    listen(address, &ListenOptions { backlog: 8192, ..ListenOptions::default() })
}

impl<I: Io> Origin<I> {
    pub fn new(io: I, default: Answer) -> Origin<I> {
        let random = io.now().instant.0 | 1;
        Origin {
            io,
            default,
            connections: Vec::new(),
            generations: Vec::new(),
            free: Vec::new(),
            timers: BinaryHeap::new(),
            head: RequestHead::default(),
            stalled_until: 0,
            random,
        }
    }

    /// Serves until `stop` is set.
    pub fn serve(&mut self, listener: OwnedFd, stop: &Arc<AtomicBool>) -> io::Result<()> {
        let listener = self.io.listen(listener, LISTENER)?;
        self.io.accept(listener);
        let mut completions = Vec::new();
        let mut now = self.io.now().instant.0;
        while !stop.load(Ordering::Relaxed) {
            let wait = match self.timers.peek() {
                Some(Reverse((due, _))) => Duration::from_nanos(due.saturating_sub(now)).min(TICK),
                None => TICK,
            };
            now = self.io.turn(Some(wait), &mut completions)?.instant.0;
            for Completion { token, outcome } in completions.drain(..) {
                self.apply(listener, token, outcome, now);
            }
            while let Some(&Reverse((due, token))) = self.timers.peek() {
                if due > now {
                    break;
                }
                self.timers.pop();
                if let Some(index) = self.index(Token(token)) {
                    self.settle(index, now);
                }
            }
        }
        Ok(())
    }

    fn index(&self, token: Token) -> Option<usize> {
        let (index, generation) = (token.0 as u32 as usize, (token.0 >> 32) as u32);
        (self.generations.get(index) == Some(&generation)).then_some(index)
    }

    fn apply(&mut self, listener: Socket, token: Token, outcome: Outcome, now: u64) {
        match outcome {
            Outcome::Accepted(socket) => return self.accepted(socket),
            Outcome::AcceptStopped(errno) => {
                let _ = writeln!(io::stderr(), "accept: {errno}");
                return self.io.accept(listener);
            }
            _ => {}
        }
        let Some(index) = self.index(token) else { return };
        match outcome {
            Outcome::Received(buffer) => self.receive(index, &buffer, now),
            Outcome::Sent(Ok(())) => {
                if let Some(connection) = &mut self.connections[index] {
                    connection.sending = false;
                }
                self.flush(index);
            }
            _ => self.close(index),
        }
    }

    fn accepted(&mut self, socket: Socket) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.generations.push(0);
            self.connections.len() - 1
        });
        self.connections[index] = Some(Connection {
            socket,
            decoder: RequestDecoder::new(Options::default(), Limits::default()),
            pending: VecDeque::new(),
            sending: false,
            waiting: None,
            closes: false,
        });
        self.io.set_token(socket, self.token(index));
        self.io.recv(socket);
    }

    fn token(&self, index: usize) -> Token {
        Token(u64::from(self.generations[index]) << 32 | index as u64)
    }

    fn close(&mut self, index: usize) {
        if let Some(connection) = self.connections[index].take() {
            self.io.close(connection.socket);
            self.generations[index] = self.generations[index].wrapping_add(1);
            self.free.push(index);
        }
    }

    fn receive(&mut self, index: usize, input: &[u8], now: u64) {
        let mut at = 0;
        loop {
            let Some(connection) = &mut self.connections[index] else { return };
            let step = connection.decoder.decode(&input[at..], &mut self.head);
            let Ok(step) = step else { return self.close(index) };
            at += step.consumed;
            match step.event {
                Event::Head => {
                    if self.head.upgrade || self.head.method == Method::Connect {
                        connection.decoder.resume();
                    }
                    self.request(index, now);
                }
                Event::NeedMore | Event::Tunnel => break,
                _ => {}
            }
        }
        self.settle(index, now);
    }

    /// A request has come; its answer is due later, or now.
    fn request(&mut self, index: usize, now: u64) {
        let asked = Answer::of(self.head.path(), self.default);
        let refused = asked.is_err();
        let mut answer = asked.unwrap_or(Answer { status: 400, ..self.default });
        answer.close |= self.head.close;
        if !answer.stall.is_zero() {
            self.stalled_until = now + answer.stall.as_nanos() as u64;
        }
        let mut due = now + answer.delay.as_nanos() as u64;
        let jitter = answer.jitter.as_nanos() as u64;
        if jitter > 0 {
            // Marsaglia's xorshift: even enough for a jitter.
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            due += self.random % jitter;
        }
        let due = due.max(self.stalled_until);
        let token = self.token(index);
        let Some(connection) = &mut self.connections[index] else { return };
        let bodiless = self.head.method == Method::Head || matches!(answer.status, 204 | 304);
        connection.pending.push_back(Pending { due, answer, bodiless, refused });
        if due > now {
            self.timers.push(Reverse((due, token.0)));
        }
    }

    /// Writes the answers that are due.
    fn settle(&mut self, index: usize, now: u64) {
        let Some(connection) = &mut self.connections[index] else { return };
        while let Some(pending) = connection.pending.front() {
            if pending.due > now {
                break;
            }
            let output = connection.waiting.get_or_insert_with(|| self.io.output());
            write(pending, output.tail());
            connection.closes |= pending.answer.close;
            connection.pending.pop_front();
        }
        self.flush(index);
    }

    fn flush(&mut self, index: usize) {
        let Some(connection) = &mut self.connections[index] else { return };
        if connection.sending {
            return;
        }
        if let Some(output) = connection.waiting.take() {
            connection.sending = true;
            self.io.send(connection.socket, output);
        } else if connection.closes && connection.pending.is_empty() {
            self.close(index);
        }
    }
}

fn write(pending: &Pending, out: &mut Vec<u8>) {
    let answer = &pending.answer;
    let size = if pending.refused { 0 } else { answer.size };
    let reason = match answer.status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        503 => "Service Unavailable",
        _ => "",
    };
    let close = if answer.close { "connection: close\r\n" } else { "" };
    // Writing to memory does not fail.
    let _ = write!(out, "HTTP/1.1 {} {reason}\r\n{close}", answer.status);
    if answer.status != 204 {
        let _ = write!(out, "content-length: {size}\r\n");
    }
    out.extend_from_slice(b"content-type: text/plain\r\n\r\n");
    if !pending.bodiless {
        out.resize(out.len() + size as usize, b'x');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_the_answer_is_like() {
        let answer =
            Answer::of(b"/x?s=2k&t=5ms&j=1ms&status=503&close&q", Answer::default()).unwrap();
        assert_eq!((answer.size, answer.status, answer.close), (2048, 503, true));
        assert_eq!(answer.delay + answer.jitter, Duration::from_millis(6));
        assert_eq!(Answer::of(b"/x", Answer::default()), Ok(Answer::default()));
        for path in ["/?s=x", "/?t=5q", "/?status=99", "/?status=100", "/?status="] {
            assert!(Answer::of(path.as_bytes(), Answer::default()).is_err(), "{path}");
        }
    }

    #[test]
    fn answers_are_framed() {
        let mut out = Vec::new();
        let answer = Answer { size: 3, ..Answer::default() };
        let mut pending = Pending { due: 0, answer, bodiless: false, refused: false };
        write(&pending, &mut out);
        assert!(out.starts_with(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n"));
        assert!(out.ends_with(b"\r\n\r\nxxx"));
        pending.bodiless = true;
        pending.answer.status = 204;
        out.clear();
        write(&pending, &mut out);
        assert_eq!(out, b"HTTP/1.1 204 \r\ncontent-type: text/plain\r\n\r\n");
    }
}
