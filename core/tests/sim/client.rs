//! A simulated client: one connection after the other, and a strict eye on what comes back.
//!
//! What it leaves to others: what it is to ask for (`plan.rs`), whether what happened was right
//! (`ledger.rs`).

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_io::sim::{Actor, NodeId, Random};
use tidegate_io::{Completion, Instant, Outcome as Happened, Socket, Token};

use super::bytes::{Side, body};
use super::config::proxy_address;
use super::ledger::{Book, Ledger, Outcome, may_end_early};
use super::plan::{Exchange, Id, LastWord, NOT_HTTP, Visit};
use super::script::{Script, Step};
use super::tls_sockets::PeerIo;
use super::wire::{Head, Parser, Part};

/// A connection that makes no progress for this long hangs: longer than every timeout of the proxy.
const PATIENCE: Duration = Duration::from_secs(500);

/// A client.
pub struct Client {
    pub io: PeerIo,
    book: Book,
    visits: VecDeque<Visit>,
    call: Option<Call>,
    /// When the next visit begins.
    next_at: Instant,
    now: Instant,
    random: Random,
    completions: Vec<Completion>,
    calls: u64,
}

/// A connection and what is known of it.
struct Call {
    visit: Visit,
    script: Script,
    connected: bool,
    parser: Parser,
    /// Requests begun and not answered, oldest first; [`NOT_HTTP`] stands for garbage.
    pending: VecDeque<Id>,
    reading: Option<Reading>,
    /// A response said that the connection ends.
    ending: bool,
    resume_at: Option<Instant>,
    begun: Instant,
    seen: usize,
    /// The connection became a tunnel: the exchange, and bytes that have come down.
    tunnel: Option<(Id, usize)>,
    /// The proxy sent FIN into the tunnel.
    eof: bool,
}

/// The response that is coming in.
struct Reading {
    id: Id,
    from_origin: bool,
    status: u16,
    bytes: usize,
}

impl Client {
    pub fn new(io: PeerIo, book: Book, visits: Vec<Visit>, random: Random) -> Client {
        let now = io.now().instant;
        Client {
            io,
            book,
            visits: visits.into(),
            call: None,
            next_at: now,
            now,
            random,
            completions: Vec::new(),
            calls: 0,
        }
    }

    /// One more visit, for a client that was done.
    pub fn send_again(&mut self, visit: Visit) {
        self.next_at = self.io.now().instant;
        self.visits.push_back(visit);
    }

    fn deadline(&self) -> Option<Instant> {
        let Some(call) = &self.call else {
            return (!self.visits.is_empty()).then_some(self.next_at);
        };
        [call.script.deadline(), call.resume_at, Some(call.begun + PATIENCE)]
            .into_iter()
            .flatten()
            .min()
    }

    fn begin(&mut self) {
        if self.call.is_some() || self.now < self.next_at {
            return;
        }
        let Some(visit) = self.visits.front() else { return };
        if !visit.rest.is_zero() {
            self.next_at = self.now + visit.rest;
            self.visits[0].rest = Duration::ZERO;
            return;
        }
        let Some(visit) = self.visits.pop_front() else { return };
        self.calls += 1;
        match self.io.connect(&proxy_address(), Token(self.calls)) {
            Ok(socket) => self.call = Some(self.new_call(visit, socket)),
            Err(_) => self.next_at = self.now + Duration::from_millis(1),
        }
    }

    fn new_call(&mut self, visit: Visit, socket: Socket) -> Call {
        let mut ledger = self.book.borrow_mut();
        let spoils = visit.last != LastWord::Waits && visit.last != LastWord::Stays;
        let mut spoiled = spoils;
        // Who sends more behind a request that asked for the connection's end (RFC 9112 9.6: MUST
        // NOT) may meet a closed socket, whose reset destroys the answers before it.
        let talks_on =
            visit.exchanges.iter().rev().skip(1).any(|id| ledger.records[*id].plan.close);
        let mut exchanges: Vec<Exchange> = Vec::new();
        for (index, id) in visit.exchanges.iter().enumerate() {
            let record = &mut ledger.records[*id];
            record.reused = index > 0;
            record.spoiled = spoiled || talks_on;
            // Nobody can know whether the connection goes on behind an early answer, or behind a
            // request that asked for its end.
            spoiled |= record.plan.answer.early || record.plan.close;
            exchanges.push(record.plan.clone());
        }
        let steps = visit.steps(&exchanges, &mut self.random);
        Call {
            script: Script::new(socket, steps),
            visit,
            connected: false,
            parser: Parser::responses(),
            pending: VecDeque::new(),
            reading: None,
            ending: false,
            resume_at: None,
            begun: self.now,
            seen: 0,
            tunnel: None,
            eof: false,
        }
    }

    fn advance(&mut self) {
        let Some(call) = &mut self.call else { return };
        if !call.connected {
            return;
        }
        if call.resume_at.is_some_and(|at| at <= self.now) {
            call.resume_at = None;
            self.io.recv(call.script.socket);
        }
        let mut ledger = self.book.borrow_mut();
        for id in call.script.advance(&mut self.io, self.now) {
            call.pending.push_back(id);
            if id == NOT_HTTP {
                call.parser.expect(false);
                continue;
            }
            let record = &mut ledger.records[id];
            record.sent_at = Some(self.now);
            record.outcome = Outcome::Pending;
            call.parser.expect(record.plan.method == "HEAD");
        }
        let done = call.eof && call.script.steps.is_empty() && !call.script.sending;
        if done && let Some((id, _)) = call.tunnel {
            ledger.records[id].outcome = Outcome::Answered;
            call.pending.clear();
        }
        if call.script.closed || done {
            drop(ledger);
            self.finish(Outcome::Left);
        } else if call.begun + PATIENCE <= self.now {
            ledger
                .violation(format!("a connection of a client hangs; waiting: {:?}", call.pending));
            drop(ledger);
            self.finish(Outcome::Left);
        }
    }

    /// The connection is over; whoever is not answered has this outcome.
    fn finish(&mut self, rest: Outcome) {
        let Some(mut call) = self.call.take() else { return };
        let rest = if call.tunnel.is_some() && rest == Outcome::Lost { Outcome::Cut } else { rest };
        call.script.end(&mut self.io, false);
        let mut ledger = self.book.borrow_mut();
        let mut fate =
            if call.ending && rest != Outcome::Left { Outcome::Unprocessed } else { rest };
        if call.reading.is_some() && fate == Outcome::Lost {
            fate = Outcome::Cut;
        }
        for id in call.pending.iter().filter(|id| **id != NOT_HTTP) {
            ledger.records[*id].outcome = fate;
            ledger.records[*id].decided_at.get_or_insert(self.now);
            if matches!(fate, Outcome::Lost | Outcome::Cut) {
                fate = Outcome::Unprocessed;
            }
        }
        for id in &call.visit.exchanges {
            let record = &mut ledger.records[*id];
            if record.outcome == Outcome::Unsent {
                record.decided_at = Some(self.now);
                if call.connected {
                    record.outcome = Outcome::Unprocessed;
                }
            }
        }
        self.next_at = self.now;
    }

    fn handle(&mut self, Completion { token, outcome }: Completion) {
        let Some(call) = &mut self.call else { return };
        if token != Token(self.calls) {
            return; // of the connection before, in the same batch
        }
        match outcome {
            Happened::Connected(Ok(())) => {
                call.connected = true;
                self.io.recv(call.script.socket);
            }
            Happened::Connected(Err(_)) => self.finish(Outcome::Lost),
            Happened::Sent(Ok(())) => call.script.sending = false,
            // What the proxy said before it closed may still come.
            Happened::Sent(Err(_)) => {
                call.script.steps.clear();
                call.script.sending = false;
                self.io.recv(call.script.socket);
                call.resume_at = None;
            }
            Happened::Received(buffer) => {
                call.begun = self.now;
                call.parser.push(&buffer);
                self.read();
            }
            Happened::Eof => self.eof(),
            Happened::RecvFailed(_) => self.finish(Outcome::Lost),
            other => panic!("a client heard {other:?}"),
        }
    }

    fn eof(&mut self) {
        let Some(call) = &mut self.call else { return };
        if let Some((id, bytes)) = call.tunnel {
            let mut ledger = self.book.borrow_mut();
            let planned = ledger.records[id].plan.tunnel.unwrap_or_default().1;
            if bytes != planned && !ledger.weather.lossy {
                ledger.violation(format!("tunnel {id} brought {bytes} of {planned} bytes"));
            }
            if bytes == planned {
                call.eof = true;
                return;
            }
        }
        let Some(call) = &mut self.call else { return };
        if call.parser.is_complete_by_close() {
            call.ending = true;
            self.end_response();
        }
        self.finish(Outcome::Lost);
    }

    fn read(&mut self) {
        while let Some(call) = &mut self.call {
            if call.tunnel.is_some() {
                return self.tunnel_bytes();
            }
            let part = match call.parser.next() {
                Ok(Some(part)) => part,
                Ok(None) => return,
                Err(why) => {
                    self.book.borrow_mut().violation(format!("the proxy wrote {why}"));
                    return self.finish(Outcome::Left);
                }
            };
            match part {
                Part::Head(head) => self.head(&head),
                Part::Data(data) => self.data(&data),
                Part::End(_) => self.end_response(),
            }
        }
    }

    fn tunnel_bytes(&mut self) {
        let Some(call) = &mut self.call else { return };
        let Some((id, bytes)) = &mut call.tunnel else { return };
        let rest = call.parser.take_rest();
        let range = *bytes..*bytes + rest.len();
        *bytes = range.end;
        if body(*id, Side::Response, range.clone()) != rest {
            let text = format!("tunnel {id} differs on its way down in {range:?}");
            self.book.borrow_mut().violation(text);
        }
    }

    fn head(&mut self, head: &Head) {
        let Some(call) = &mut self.call else { return };
        let mut ledger = self.book.borrow_mut();
        let Some(id) = call.pending.front().copied() else {
            return ledger.violation(format!("a response to nothing: {head:?}"));
        };
        if id == NOT_HTTP {
            if !matches!(head.status(), 400..=505) || !head.closes() {
                ledger.violation(format!("garbage was answered by {head:?}"));
            }
        } else if head.status() == 101 && ledger.records[id].plan.tunnel.is_some() {
            check_tunnel(&mut ledger, id, head);
            ledger.records[id].decided_at = Some(self.now);
            call.script.answers += 1;
            call.tunnel = Some((id, 0));
            return;
        } else if head.is_interim() {
            check_interim(&mut ledger, id, head);
            call.script.continued |= head.status() == 100;
            return;
        } else {
            check_head(&mut ledger, id, head);
            ledger.records[id].decided_at = Some(self.now);
            call.script.continued = true;
        }
        if let Some(pause) = call.visit.slow_reader {
            self.io.pause(call.script.socket);
            call.resume_at = Some(self.now + pause);
        }
        call.ending |= head.closes();
        call.reading = Some(Reading {
            id,
            from_origin: head.get("x-origin-id").is_some(),
            status: head.status(),
            bytes: 0,
        });
    }

    fn data(&mut self, data: &[u8]) {
        let Some(reading) = self.call.as_mut().and_then(|call| call.reading.as_mut()) else {
            return self.book.borrow_mut().violation("body bytes without a head");
        };
        let range = reading.bytes..reading.bytes + data.len();
        reading.bytes = range.end;
        if reading.from_origin && body(reading.id, Side::Response, range.clone()) != data {
            let text = format!("the response of {} differs in {range:?}", reading.id);
            self.book.borrow_mut().violation(text);
        }
    }

    fn end_response(&mut self) {
        let Some(call) = &mut self.call else { return };
        let Some(reading) = call.reading.take() else { return };
        call.pending.pop_front();
        call.script.answers += 1;
        call.seen += 1;
        if reading.id == NOT_HTTP {
            return;
        }
        let mut ledger = self.book.borrow_mut();
        let record = &mut ledger.records[reading.id];
        record.outcome = match reading.from_origin {
            true => Outcome::Answered,
            false => Outcome::Refused(reading.status),
        };
        let plan = &record.plan;
        let whole = if plan.answer.has_body(plan.method) { plan.answer.body } else { 0 };
        if reading.from_origin && reading.bytes != whole {
            if reading.bytes < whole && may_end_early(plan) {
                record.outcome = Outcome::Cut;
            } else {
                let text = format!("the response of {} has {} bytes", reading.id, reading.bytes);
                ledger.violation(text);
            }
        }
        if ledger.records[reading.id].plan.tunnel.is_some() {
            // There is no tunnel for what would follow.
            call.script.steps = [Step::Close].into();
        }
        if call.ending {
            // Nothing more is sent, and the proxy closes.
            call.script.steps.clear();
        }
    }
}

fn check_tunnel(ledger: &mut Ledger, id: Id, head: &Head) {
    let upgrade = head.get("upgrade") == Some("websocket");
    let connection = head.get("connection").is_some_and(|it| it.eq_ignore_ascii_case("upgrade"));
    if !upgrade || !connection || head.get("x-origin-id").and_then(|it| it.parse().ok()) != Some(id)
    {
        ledger.violation(format!("a 101 to {id}: {head:?}"));
    }
}

fn check_interim(ledger: &mut Ledger, id: Id, head: &Head) {
    let plan = &ledger.records[id].plan;
    let right = match head.status() {
        100 => plan.expect,
        103 => head.get("x-interim").and_then(|value| value.parse().ok()) == Some(id),
        _ => false,
    };
    if !right {
        ledger.violation(format!("an interim response to {id}: {head:?}"));
    }
}

fn check_head(ledger: &mut Ledger, id: Id, head: &Head) {
    let plan = &ledger.records[id].plan;
    let mut wrong = Vec::new();
    if let Some(origin_id) = head.get("x-origin-id") {
        if origin_id.parse() != Ok(id) {
            wrong.push("it is the response to another request");
        }
        if head.status() != plan.answer.status {
            wrong.push("its status was changed");
        }
    }
    if head.get("x-hop").is_some() {
        wrong.push("a field that its origin's connection named came through");
    }
    if plan.close && !head.closes() {
        wrong.push("the client asked to close");
    }
    if head.get("date").is_none() || head.get("server") != Some("tidegate") {
        wrong.push("date or server is missing");
    }
    if !wrong.is_empty() {
        ledger.violation(format!("the response to {id}: {wrong:?}: {head:?}"));
    }
}

impl Actor for Client {
    fn node(&self) -> NodeId {
        self.io.node()
    }

    fn step(&mut self) {
        let timeout = self.deadline().map(|deadline| deadline.since(self.now));
        let mut completions = std::mem::take(&mut self.completions);
        self.now = self.io.turn(timeout, &mut completions).unwrap().instant;
        completions.drain(..).for_each(|completion| self.handle(completion));
        self.completions = completions;
        self.advance();
        self.begin();
    }

    fn is_busy(&self) -> bool {
        let stays = |call: &Call| call.visit.last == LastWord::Stays && call.pending.is_empty();
        !self.visits.is_empty()
            || self
                .call
                .as_ref()
                .is_some_and(|call| !(stays(call) && call.seen >= call.visit.exchanges.len()))
    }
}
