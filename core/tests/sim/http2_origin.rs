//! Connections of HTTP/2 at a simulated origin: the same answers, well or badly, on many streams.
//!
//! What it leaves to others: accepting, and HTTP/1 (`origin.rs`); frames (`http2_peer.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidegate_io::sim::Random;
use tidegate_io::{Instant, Socket};

use super::answer::{After, Misdeed};
use super::bytes::{Side, body};
use super::http2_output::Out;
use super::http2_peer::{Event, Peer, Role};
use super::http2_plan::{Deed, Manners, origin_deeds};
use super::http2_wire::{Fields, code};
use super::ledger::{Book, Ledger, Sighting};
use super::plan::{Exchange, Id};
use super::tls_sockets::PeerIo;

/// How long a connection lasts on which everything is done after GOAWAY.
const GOODBYE: Duration = Duration::from_secs(2);

/// A connection.
pub struct Http2Connection {
    pub peer: Peer,
    /// What the connection was made for.
    pub server_name: Option<String>,
    origin: usize,
    requests: BTreeMap<u32, Request>,
    deeds: VecDeque<(Instant, Deed)>,
    /// It ends then if nothing is on it.
    leaves_at: Option<Instant>,
    /// Its end was written into the book.
    is_dead: bool,
    /// So was its GOAWAY.
    goes_away: bool,
}

/// A request under way.
struct Request {
    id: Id,
    sighting: usize,
    bytes: usize,
    complete: bool,
    trailers: bool,
    doomed: bool,
}

impl Http2Connection {
    pub fn new(
        socket: Socket,
        origin: usize,
        book: &Book,
        now: Instant,
        random: &mut Random,
    ) -> Http2Connection {
        let ledger = book.borrow();
        let manners = match ledger.calm {
            true => Manners { max_concurrent: None, ..Manners::of_origin(random) },
            false => Manners::of_origin(random),
        };
        let deeds = match ledger.calm {
            true => Vec::new(),
            false => origin_deeds(&ledger.weather, &manners, random),
        };
        Http2Connection {
            peer: Peer::new(socket, Role::Server, manners, Random::new(random.bits())),
            server_name: None,
            origin,
            requests: BTreeMap::new(),
            deeds: deeds.into_iter().map(|(after, deed)| (now + after, deed)).collect(),
            leaves_at: None,
            is_dead: false,
            goes_away: false,
        }
    }

    /// Takes what came.
    pub fn received(&mut self, bytes: &[u8], book: &Book, now: Instant, random: &mut Random) {
        self.peer.received(bytes);
        loop {
            let event = match self.peer.next(now) {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(why) => {
                    let text = format!("origin {} got {why}", self.origin);
                    book.borrow_mut().violation(text);
                    self.peer.close_after_output();
                    return;
                }
            };
            let ledger = &mut book.borrow_mut();
            match event {
                Event::Head { stream, fields, end } => {
                    self.head(stream, &fields, ledger, now, random);
                    self.end(stream, end, ledger, random);
                }
                Event::Data { stream, bytes, end } => {
                    self.data(stream, &bytes, ledger);
                    self.end(stream, end, ledger, random);
                }
                Event::Trailers { stream, fields } => {
                    if let Some(request) = self.requests.get_mut(&stream) {
                        request.trailers = true;
                        if fields.get("x-trailer").and_then(|it| it.parse().ok())
                            != Some(request.id)
                        {
                            let text = format!("trailers of request {}: {fields:?}", request.id);
                            ledger.violation(text);
                        }
                    }
                    self.end(stream, true, ledger, random);
                }
                Event::Late { fields } => {
                    let id = fields.get("x-id").and_then(|id| id.parse().ok());
                    id.into_iter().for_each(|id| ledger.refuse(id));
                }
                Event::GoAway { code, .. } if code != code::NO_ERROR && !self.peer.is_doomed => {
                    let text = format!("the proxy goes away from an origin with code {code}");
                    ledger.violation(text);
                }
                Event::Reset { .. } | Event::GoAway { .. } | Event::Interim { .. } => {}
            }
        }
    }

    fn head(
        &mut self,
        stream: u32,
        fields: &Fields,
        ledger: &mut Ledger,
        now: Instant,
        random: &mut Random,
    ) {
        if fields.get("x-flood").is_some() {
            let head = Fields::of(&[(":status", "200")]);
            let delay = Duration::from_micros(random.below(50_000));
            return self.peer.queue(stream, [Out::Wait(delay), Out::Head(head, true)]);
        }
        let id = fields.get("x-id").and_then(|id| id.parse().ok()).unwrap_or(usize::MAX);
        let doomed = self.is_dead;
        let record = ledger.records.get(id);
        let refused = record.is_some_and(|it| it.plan.answer.refuses && it.refusals == 0);
        let refused = refused && !ledger.calm && !doomed;
        let sighting = Sighting { at: now, origin: self.origin, complete: false, doomed, refused };
        if refused {
            ledger.refuse(id);
        }
        ledger.sight(id, sighting);
        check_head(ledger, id, fields);
        ledger.check_server_name(id, self.server_name.as_deref());
        let Some(record) = ledger.records.get(id) else { return };
        let sighting = record.sightings.len() - 1;
        let request = Request { id, sighting, bytes: 0, complete: false, trailers: false, doomed };
        if refused {
            let delay = Duration::from_micros(random.below(2_000));
            self.peer.queue(stream, [Out::Wait(delay), Out::Reset(code::REFUSED_STREAM)]);
            return;
        }
        self.requests.insert(stream, request);
        if record.plan.answer.early && !doomed {
            self.answer(stream, &record.plan, random);
        }
    }

    fn data(&mut self, stream: u32, data: &[u8], ledger: &mut Ledger) {
        let Some(request) = self.requests.get_mut(&stream) else { return };
        let range = request.bytes..request.bytes + data.len();
        request.bytes = range.end;
        ledger.records[request.id].request_received = range.end;
        if body(request.id, Side::Request, range.clone()) != data {
            let text = format!("the body of request {} differs in {range:?}", request.id);
            ledger.violation(text);
        }
    }

    fn end(&mut self, stream: u32, end: bool, ledger: &mut Ledger, random: &mut Random) {
        let Some(request) = self.requests.get_mut(&stream).filter(|_| end) else { return };
        request.complete = true;
        let Some(record) = ledger.records.get_mut(request.id) else { return };
        record.sightings[request.sighting].complete = true;
        let (plan, http2) = (record.plan.clone(), record.http2);
        let has_trailers = plan.trailers && http2;
        if request.bytes != plan.body.unwrap_or(0) || request.trailers != has_trailers {
            let (bytes, trailers) = (request.bytes, request.trailers);
            let text = format!("request {} has {bytes} bytes, trailers: {trailers}", plan.id);
            ledger.violation(text);
        }
        if !plan.answer.early && !request.doomed {
            self.answer(stream, &plan, random);
        }
    }

    /// Puts the answer behind what the stream has to send.
    fn answer(&mut self, stream: u32, plan: &Exchange, random: &mut Random) {
        let answer = &plan.answer;
        let body = if answer.has_body(plan.method) { answer.body } else { 0 };
        let mut steps = vec![Out::Wait(answer.delay)];
        let head = |end| Out::Head(head(plan), end);
        let part = |range| Out::Data { id: plan.id, side: Side::Response, range, end: false };
        match answer.misdeed {
            Some(Misdeed::NeverAnswers) => return,
            Some(Misdeed::ResetAfter(count)) if body > 0 => {
                let range = 0..count.min(body - 1);
                steps.extend([head(false), part(range), Out::Reset(answer.code)]);
            }
            Some(Misdeed::CloseAfter(count)) if body > 0 => {
                let end = if random.chance(500) { Out::Close } else { Out::Abort };
                steps.extend([head(false), part(0..count.min(body - 1)), end]);
            }
            Some(Misdeed::ResetBeforeHead | Misdeed::ResetAfter(_)) => {
                steps.push(Out::Reset(answer.code));
            }
            Some(Misdeed::CloseBeforeHead | Misdeed::CloseAfter(_)) => {
                steps.push(if random.chance(500) { Out::Close } else { Out::Abort });
            }
            Some(Misdeed::Garbage) => {
                let garbage = GARBAGE[random.index(GARBAGE.len())].to_vec();
                steps.extend([Out::Raw(garbage), Out::Wait(Duration::from_millis(5)), Out::Close]);
            }
            None => good(plan, random, &mut steps),
        }
        self.peer.queue(stream, steps);
    }

    /// Does what is due, and sends.
    pub fn advance(&mut self, io: &mut PeerIo, book: &Book, now: Instant) {
        while self.deeds.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, deed)) = self.deeds.pop_front()
        {
            match deed {
                Deed::Settings(settings) => self.peer.settings(settings),
                Deed::GoAway { disowns } => self.go_away(disowns, &mut book.borrow_mut()),
                Deed::Leave { abort } => {
                    self.die(book, now);
                    self.peer.end(io, abort);
                }
            }
        }
        self.peer.pump(io, now);
        if self.peer.is_doomed && !self.is_dead {
            self.die(book, now);
        }
        if self.peer.goaway_sent.is_some() && !std::mem::replace(&mut self.goes_away, true) {
            book.borrow_mut().goaways.push((now, self.origin));
        }
        let is_idle = self.peer.open_streams() == 0 && self.peer.is_flushed();
        if let Some(after) = self.peer.silent_close.take() {
            self.leaves_at.get_or_insert(now + after);
        }
        if self.peer.goaway_sent.is_some() && is_idle {
            self.leaves_at.get_or_insert(now + GOODBYE);
        }
        if self.leaves_at.take_if(|at| *at <= now).is_some() && is_idle {
            self.die(book, now);
            self.peer.end(io, false);
        }
        self.requests.retain(|stream, _| self.peer.is_open(*stream));
        self.check_held(&mut book.borrow_mut());
    }

    fn die(&mut self, book: &Book, now: Instant) {
        self.is_dead = true;
        book.borrow_mut().deaths.push((now, self.origin));
    }

    /// GOAWAY, with the newest streams disowned that nothing was answered on.
    fn go_away(&mut self, disowns: usize, ledger: &mut Ledger) {
        if self.peer.goaway_sent.is_some() {
            return;
        }
        let mut last = self.peer.highest();
        for _ in 0..disowns {
            let Some(request) = self.requests.get(&last) else { break };
            if self.peer.has_answered(last) || !self.peer.is_open(last) || request.doomed {
                break;
            }
            ledger.refuse(request.id);
            ledger.records[request.id].sightings[request.sighting].refused = true;
            last = last.saturating_sub(2);
        }
        self.peer.go_away(last, code::NO_ERROR);
    }

    /// What the proxy holds of a response for its client has a bound.
    fn check_held(&self, ledger: &mut Ledger) {
        let weather = &ledger.weather;
        let held_max = weather.held_max(&weather.versions.upstream_options);
        for (stream, request) in &self.requests {
            let record = &ledger.records[request.id];
            let held = self.peer.sent(*stream).saturating_sub(record.received);
            if record.http2 && held > held_max {
                let text = format!("{held} bytes of the response {} are held", request.id);
                return ledger.violation(text);
            }
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        let deed = self.deeds.front().map(|(at, _)| *at);
        [self.peer.deadline(), deed, self.leaves_at].into_iter().flatten().min()
    }
}

/// The head of a response.
fn head(plan: &Exchange) -> Fields {
    let answer = &plan.answer;
    let mut fields = Fields::default();
    fields.add(":status", answer.status);
    fields.add("x-origin-id", plan.id);
    let has_length = answer.framing == super::answer::AnswerFraming::Length;
    if has_length && answer.status != 204 {
        fields.add("content-length", answer.body);
    }
    fields
}

/// The answer as it was planned.
fn good(plan: &Exchange, random: &mut Random, steps: &mut Vec<Out>) {
    let answer = &plan.answer;
    for status in &answer.interim {
        let mut fields = Fields::default();
        fields.add(":status", status);
        fields.add("x-interim", plan.id);
        steps.push(Out::Head(fields, false));
    }
    if !answer.has_body(plan.method) {
        steps.push(Out::Head(head(plan), true));
    } else {
        steps.push(Out::Head(head(plan), false));
        let piece = answer.body.div_ceil(answer.pieces.max(1)).max(1);
        // The end may come with the last bytes, or behind them.
        let ends_with_data = answer.body > 0 && !answer.trailers && random.chance(500);
        for start in (0..answer.body).step_by(piece) {
            let range = start..answer.body.min(start + piece);
            let end = range.end == answer.body && ends_with_data;
            steps.push(Out::Data { id: plan.id, side: Side::Response, range, end });
            if !end {
                steps.push(Out::Wait(Duration::from_micros(random.below(3_000))));
            }
        }
        if answer.trailers {
            let mut fields = Fields::default();
            fields.add("x-trailer", plan.id);
            steps.push(Out::Trailers(fields));
        } else if !ends_with_data {
            let range = answer.body..answer.body;
            steps.push(Out::Data { id: plan.id, side: Side::Response, range, end: true });
        }
    }
    match answer.after {
        After::Keep => {}
        After::SaysClose if !plan.id.is_multiple_of(3) => {}
        After::SaysClose => steps.push(Out::GoAway),
        After::ClosesSilently(delay) => steps.push(Out::SilentClose(delay)),
    }
}

/// What breaks a connection.
const GARBAGE: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\n\r\n",
    // DATA on stream 0; a stream that a server opens; a window that overflows; a reserved setting.
    b"\0\0\x01\0\0\0\0\0\0a",
    b"\0\0\x01\x01\x04\0\0\0\x02\x88",
    b"\0\0\x04\x08\0\0\0\0\0\x7f\xff\xff\xff",
    b"\0\0\x06\x04\0\0\0\0\0\0\x04\xff\xff\xff\xff",
];

fn check_head(ledger: &mut Ledger, id: Id, head: &Fields) {
    let Some(record) = ledger.records.get(id) else { return };
    let plan = &record.plan;
    let mut wrong = Vec::new();
    // Clients that speak HTTP/2 say it themselves.
    let is_secret = ledger.weather.secrecy.downstream && !record.http2;
    let scheme = if is_secret { "https" } else { "http" };
    if head.get(":method") != Some(plan.method) || head.get(":scheme") != Some(scheme) {
        wrong.push("another method or scheme");
    }
    if head.get(":path") != Some(&format!("/r{}/{id}", plan.route)) {
        wrong.push("another path");
    }
    if head.get(":authority") != Some("sim") || head.get("x-keep") != Some("a, b") {
        wrong.push("authority or x-keep was changed");
    }
    if head.get("x-drop").is_some() || head.get("expect").is_some() {
        wrong.push("a field of the client's connection came through");
    }
    let length = head.get("content-length").and_then(|it| it.parse().ok());
    let planned = plan.body.filter(|_| !plan.chunked);
    if length != planned && (length, planned.unwrap_or(0)) != (Some(0), 0) {
        wrong.push("another content-length");
    }
    if !wrong.is_empty() {
        ledger.violation(format!("request {id} at its origin: {wrong:?}: {head:?}"));
    }
}
