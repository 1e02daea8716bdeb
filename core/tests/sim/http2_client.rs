//! A simulated client that speaks HTTP/2: many streams at once, and a strict eye on each.
//!
//! What it leaves to others: frames and windows (`http2_peer.rs`), what it is to ask for
//! (`plan.rs`, `http2_plan.rs`), whether what happened was right (`ledger.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidegate_io::sim::{Actor, NodeId, Random};
use tidegate_io::{Completion, Instant, Outcome as Happened, Token};

use super::bytes::{Side, body, some_us};
use super::config::proxy_address;
use super::http2_peer::{Event, Peer, Role};
use super::http2_plan::{Deed, Http2Visit, request, rest_of_request};
use super::http2_wire::{Fields, code};
use super::ledger::{Book, Ledger, Outcome, may_end_early};
use super::plan::Id;
use super::tls_sockets::PeerIo;

/// A connection that makes no progress for this long hangs: longer than every timeout of the proxy.
const PATIENCE: Duration = Duration::from_secs(500);

/// A client.
pub struct Http2Client {
    pub io: PeerIo,
    book: Book,
    visits: VecDeque<Http2Visit>,
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
    visit: Http2Visit,
    peer: Peer,
    connected: bool,
    unsent: VecDeque<Id>,
    /// Those that wait for an answer.
    asked: BTreeMap<u32, Asked>,
    /// What is done on the connection, and when.
    deeds: VecDeque<(Instant, Deed)>,
    next_request: Instant,
    resume_at: Option<Instant>,
    /// When something came or went last.
    begun: Instant,
    /// It asks for nothing more.
    ending: bool,
}

/// A request under way.
struct Asked {
    id: Id,
    status: Option<u16>,
    from_origin: bool,
    bytes: usize,
    trailers: bool,
    /// It is given up then.
    reset_at: Option<Instant>,
}

impl Http2Client {
    pub fn new(io: PeerIo, book: Book, visits: Vec<Http2Visit>, random: Random) -> Http2Client {
        let now = io.now().instant;
        Http2Client {
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
    pub fn send_again(&mut self, visit: Http2Visit) {
        self.next_at = self.io.now().instant;
        self.visits.push_back(visit);
    }

    fn deadline(&self) -> Option<Instant> {
        let Some(call) = &self.call else {
            return (!self.visits.is_empty()).then_some(self.next_at);
        };
        if !call.connected {
            return None;
        }
        let resets = call.asked.values().filter_map(|asked| asked.reset_at);
        let deed = call.deeds.front().map(|(at, _)| *at);
        let request = call.can_ask().then_some(call.next_request);
        [call.peer.deadline(), deed, request, call.resume_at, Some(call.begun + PATIENCE)]
            .into_iter()
            .flatten()
            .chain(resets)
            .min()
    }

    fn begin(&mut self) {
        if self.call.is_some() || self.now < self.next_at {
            return;
        }
        let Some(visit) = self.visits.front_mut() else { return };
        if !visit.rest.is_zero() {
            self.next_at = self.now + std::mem::take(&mut visit.rest);
            return;
        }
        let Some(visit) = self.visits.pop_front() else { return };
        self.calls += 1;
        let Ok(socket) = self.io.connect(&proxy_address(), Token(self.calls)) else {
            self.visits.push_front(visit);
            self.next_at = self.now + Duration::from_millis(1);
            return;
        };
        let mut ledger = self.book.borrow_mut();
        let spoils = visit.deeds.iter().any(|(_, deed)| matches!(deed, Deed::Leave { .. }));
        for id in &visit.exchanges {
            ledger.records[*id].spoiled = spoils;
            ledger.records[*id].http2 = true;
        }
        let random = Random::new(self.random.bits());
        self.call = Some(Call {
            peer: Peer::new(socket, Role::Client, visit.manners.clone(), random),
            connected: false,
            unsent: visit.exchanges.iter().copied().collect(),
            asked: BTreeMap::new(),
            deeds: visit.deeds.iter().map(|(after, it)| (self.now + *after, it.clone())).collect(),
            next_request: self.now,
            resume_at: None,
            begun: self.now,
            ending: false,
            visit,
        });
    }

    fn advance(&mut self) {
        let Some(call) = self.call.as_mut().filter(|call| call.connected) else { return };
        if call.resume_at.take_if(|at| *at <= self.now).is_some() {
            self.io.recv(call.peer.socket);
        }
        while call.deeds.front().is_some_and(|(at, _)| *at <= self.now)
            && let Some((_, deed)) = call.deeds.pop_front()
        {
            match deed {
                Deed::Settings(settings) => call.peer.settings(settings),
                Deed::GoAway { .. } => {
                    call.peer.go_away(0, code::NO_ERROR);
                    call.ending = true;
                }
                Deed::Leave { abort } => {
                    call.peer.end(&mut self.io, abort);
                    return self.finish(Outcome::Left);
                }
            }
        }
        self.ask();
        self.give_up();
        let Some(call) = &mut self.call else { return };
        let is_over = call.asked.is_empty() && (call.ending || call.unsent.is_empty());
        if is_over && !call.visit.stays && call.peer.is_flushed() {
            if self.random.chance(300) {
                call.peer.go_away(0, code::NO_ERROR);
            }
            call.peer.close_after_output();
        }
        call.peer.pump(&mut self.io, self.now);
        call.check_held(&mut self.book.borrow_mut());
        if call.peer.closed {
            self.finish(Outcome::Left);
        } else if call.begun + PATIENCE <= self.now && !(is_over && call.visit.stays) {
            let waiting: Vec<Id> = call.asked.values().map(|asked| asked.id).collect();
            let text = format!("a connection of a client hangs; waiting: {waiting:?}");
            self.book.borrow_mut().violation(text);
            self.finish(Outcome::Left);
        }
    }

    /// Opens streams, as many as it wants and may.
    fn ask(&mut self) {
        let Some(call) = &mut self.call else { return };
        while call.can_ask() && call.next_request <= self.now {
            let Some(id) = call.unsent.pop_front() else { return };
            call.begun = self.now;
            if !call.visit.think.is_zero() {
                call.next_request = self.now + call.visit.think;
            }
            let mut ledger = self.book.borrow_mut();
            let record = &mut ledger.records[id];
            record.sent_at = Some(self.now);
            record.outcome = Outcome::Pending;
            let plan = &record.plan;
            let end = plan.body.is_none() && !plan.trailers;
            let stream = call.peer.open(&request(plan), end, self.now);
            call.peer.queue(stream, rest_of_request(plan, &mut self.random));
            let (rate, after_max) = call.visit.resets;
            let resets = self.random.chance(rate);
            let reset_at = resets.then(|| self.now + some_us(after_max, &mut self.random));
            let asked =
                Asked { id, status: None, from_origin: false, bytes: 0, trailers: false, reset_at };
            call.asked.insert(stream, asked);
        }
    }

    /// Resets what it does not want any more.
    fn give_up(&mut self) {
        let Some(call) = &mut self.call else { return };
        let now = self.now;
        let is_due = |asked: &Asked| asked.reset_at.is_some_and(|at| at <= now);
        let due: Vec<u32> =
            call.asked.iter().filter(|(_, asked)| is_due(asked)).map(|(id, _)| *id).collect();
        for stream in due {
            let Some(asked) = call.asked.remove(&stream) else { continue };
            call.peer.reset(stream, code::CANCEL);
            let mut ledger = self.book.borrow_mut();
            ledger.records[asked.id].outcome = Outcome::Left;
            ledger.records[asked.id].decided_at.get_or_insert(now);
        }
    }

    /// The connection is over; whoever is not answered has this outcome.
    fn finish(&mut self, rest: Outcome) {
        let Some(mut call) = self.call.take() else { return };
        call.peer.end(&mut self.io, false);
        let mut ledger = self.book.borrow_mut();
        for (stream, asked) in call.asked {
            let is_denied = call.peer.goaway_received.is_some_and(|last| stream > last);
            let record = &mut ledger.records[asked.id];
            record.decided_at.get_or_insert(self.now);
            record.outcome = match rest {
                Outcome::Lost if is_denied => Outcome::Unprocessed,
                Outcome::Lost if asked.status.is_some() => Outcome::Cut,
                rest => rest,
            };
        }
        for id in call.unsent {
            let record = &mut ledger.records[id];
            record.decided_at = Some(self.now);
            if call.connected {
                record.outcome = Outcome::Unprocessed;
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
                self.io.recv(call.peer.socket);
            }
            Happened::Connected(Err(_)) => self.finish(Outcome::Lost),
            Happened::Sent(Ok(())) => call.peer.sending = false,
            // What the proxy said before it closed may still come.
            Happened::Sent(Err(_)) => {
                self.io.recv(call.peer.socket);
                call.resume_at = None;
            }
            Happened::Received(buffer) => {
                call.begun = self.now;
                call.peer.received(&buffer);
                self.read();
            }
            Happened::Eof | Happened::RecvFailed(_) => self.finish(Outcome::Lost),
            other => panic!("a client heard {other:?}"),
        }
    }

    fn read(&mut self) {
        while let Some(call) = &mut self.call {
            let event = match call.peer.next(self.now) {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(why) => {
                    self.book.borrow_mut().violation(format!("the proxy wrote {why}"));
                    return self.finish(Outcome::Left);
                }
            };
            match event {
                Event::Interim { stream, fields } => self.interim(stream, &fields),
                Event::Head { stream, fields, end } => {
                    self.head(stream, &fields);
                    self.end(stream, end);
                }
                Event::Data { stream, bytes, end } => {
                    self.data(stream, &bytes);
                    self.end(stream, end);
                }
                Event::Trailers { stream, fields } => {
                    self.trailers(stream, &fields);
                    self.end(stream, true);
                }
                Event::Reset { stream, code } => self.was_reset(stream, code),
                Event::GoAway { last, code } => self.goes_away(last, code),
                Event::Late { .. } => {}
            }
        }
    }

    fn interim(&mut self, stream: u32, fields: &Fields) {
        let Some(asked) = self.call.as_mut().and_then(|call| call.asked.get(&stream)) else {
            return;
        };
        let id = fields.get("x-interim").and_then(|value| value.parse().ok());
        let is_continue =
            fields.status() == 100 && self.book.borrow().records[asked.id].plan.expect;
        if !is_continue && (fields.status() != 103 || id != Some(asked.id)) {
            let text = format!("an interim response to {}: {fields:?}", asked.id);
            self.book.borrow_mut().violation(text);
        }
    }

    fn head(&mut self, stream: u32, fields: &Fields) {
        let Some(call) = &mut self.call else { return };
        let Some(asked) = call.asked.get_mut(&stream) else { return };
        asked.status = Some(fields.status());
        asked.from_origin = fields.get("x-origin-id").is_some();
        let mut ledger = self.book.borrow_mut();
        check_head(&mut ledger, asked.id, fields);
        ledger.records[asked.id].decided_at = Some(self.now);
        if let Some(pause) = call.visit.slow_reader {
            self.io.pause(call.peer.socket);
            call.resume_at = Some(self.now + pause);
        }
    }

    fn data(&mut self, stream: u32, data: &[u8]) {
        let Some(call) = &mut self.call else { return };
        let Some(asked) = call.asked.get_mut(&stream) else { return };
        let range = asked.bytes..asked.bytes + data.len();
        asked.bytes = range.end;
        let mut ledger = self.book.borrow_mut();
        ledger.records[asked.id].received = range.end;
        if asked.from_origin && body(asked.id, Side::Response, range.clone()) != data {
            ledger.violation(format!("the response of {} differs in {range:?}", asked.id));
        }
    }

    fn trailers(&mut self, stream: u32, fields: &Fields) {
        let Some(call) = &mut self.call else { return };
        let Some(asked) = call.asked.get_mut(&stream) else { return };
        asked.trailers = true;
        let id = fields.get("x-trailer").and_then(|value| value.parse().ok());
        if id != Some(asked.id) {
            let text = format!("trailers of the response to {}: {fields:?}", asked.id);
            self.book.borrow_mut().violation(text);
        }
    }

    /// The response is complete, if it is.
    fn end(&mut self, stream: u32, end: bool) {
        let Some(call) = self.call.as_mut().filter(|_| end) else { return };
        let Some(asked) = call.asked.remove(&stream) else { return };
        let Asked { id, bytes, trailers, .. } = asked;
        let mut ledger = self.book.borrow_mut();
        let goes_on = ledger.weather.versions.is_upstream_http2(true);
        let record = &mut ledger.records[id];
        if !asked.from_origin {
            record.outcome = Outcome::Refused(asked.status.unwrap_or(0));
            return;
        }
        record.outcome = Outcome::Answered;
        let answer = &record.plan.answer;
        let has_body = answer.has_body(record.plan.method);
        let whole = if has_body { answer.body } else { 0 };
        let has_trailers = has_body && answer.trailers && goes_on;
        if bytes < whole && may_end_early(&record.plan) && !goes_on {
            record.outcome = Outcome::Cut;
        } else if bytes != whole || has_trailers != trailers {
            let text = format!("the response of {id} has {bytes} bytes, trailers: {trailers}");
            ledger.violation(text);
        }
    }

    fn was_reset(&mut self, stream: u32, code: u32) {
        let Some(call) = &mut self.call else { return };
        let Some(asked) = call.asked.remove(&stream) else { return };
        let mut ledger = self.book.borrow_mut();
        let record = &mut ledger.records[asked.id];
        record.decided_at.get_or_insert(self.now);
        record.reset_code = Some(code);
        record.is_denied = asked.status.is_none() && code == code::REFUSED_STREAM;
        record.outcome = match asked.status {
            _ if record.is_denied => Outcome::Unprocessed,
            Some(_) => Outcome::Cut,
            None => Outcome::Lost,
        };
        // Who knows the limit keeps to it, and is refused nothing.
        if record.is_denied && call.peer.their_max_concurrent.is_none() {
            ledger.violation(format!("request {} was refused before SETTINGS", asked.id));
        }
    }

    fn goes_away(&mut self, last: u32, code: u32) {
        let Some(call) = &mut self.call else { return };
        call.ending = true;
        let mut ledger = self.book.borrow_mut();
        if code != code::NO_ERROR {
            ledger.violation(format!("the proxy goes away with code {code}"));
        }
        for (stream, asked) in call.asked.split_off(&(last + 1)) {
            let record = &mut ledger.records[asked.id];
            record.decided_at.get_or_insert(self.now);
            record.is_denied = true;
            record.outcome = Outcome::Unprocessed;
            call.peer.unqueue(stream);
            if asked.status.is_some() {
                ledger.violation(format!("{} is answered and was not processed", asked.id));
            }
        }
    }
}

impl Call {
    /// What the proxy holds of a request for its origin has a bound. (A policy of retries keeps
    /// more, and of a request that is answered the rest is dropped.)
    fn check_held(&self, ledger: &mut Ledger) {
        let weather = &ledger.weather;
        if weather.retry.is_some() || !weather.versions.is_upstream_http2(true) {
            return;
        }
        let held_max = weather.held_max(&weather.versions.options);
        for (stream, asked) in &self.asked {
            let record = &ledger.records[asked.id];
            let held = self.peer.sent(*stream).saturating_sub(record.request_received);
            if asked.status.is_none() && held > held_max {
                let text = format!("{held} bytes of the request {} are held", asked.id);
                return ledger.violation(text);
            }
        }
    }

    fn can_ask(&self) -> bool {
        let open = self.peer.open_streams();
        let allowed = self.peer.their_max_concurrent.unwrap_or(u32::MAX) as usize;
        self.connected
            && !self.ending
            && !self.unsent.is_empty()
            && self.asked.len() < self.visit.depth
            && open < allowed
    }
}

fn check_head(ledger: &mut Ledger, id: Id, head: &Fields) {
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
    if head.get("date").is_none() || head.get("server") != Some("tidegate") {
        wrong.push("date or server is missing");
    }
    if !wrong.is_empty() {
        ledger.violation(format!("the response to {id}: {wrong:?}: {head:?}"));
    }
}

impl Actor for Http2Client {
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
        let rests = |call: &Call| {
            call.visit.stays && call.connected && call.asked.is_empty() && call.unsent.is_empty()
        };
        !self.visits.is_empty() || self.call.as_ref().is_some_and(|call| !rests(call))
    }
}
